package adapter_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"foyer/service"
)

func (c *cluster) explain(at service.NodeID, r service.ExplainRequest) service.Explanation {
	c.Helper()
	if r.Target.Namespace == "" {
		r.Target.Namespace = "/"
	}
	x, err := c.nodes[at].Explain(c.Context(), r)
	if err != nil {
		c.Fatal(err)
	}
	return x
}

// TestExplainEverywhere: each verdict on sockets of other nodes, by whichever node is asked.
func TestExplainEverywhere(t *testing.T) { synctest.Test(t, testExplainEverywhere) }

func testExplainEverywhere(t *testing.T) {
	c := newCluster(t, "AAAA", "BBBB", "CCCC")
	c.settle()
	ann, _ := c.connect("BBBB", "/", "a", "muted")
	bob, full := c.connect("CCCC", "/", "a")
	cat, _ := c.connect("AAAA", "/", "b")
	name := "ann"
	if _, err := c.nodes["AAAA"].Update(t.Context(), "/", ann.ID(), service.Update{UserID: &name}); err != nil {
		t.Fatal(err)
	}
	one := func(at service.NodeID, target service.Target, id service.SocketID) service.Explained {
		t.Helper()
		x := c.explain(at, service.ExplainRequest{Target: target, Socket: id, Bytes: 10, Most: 20})
		if len(x.Asked) != 1 || x.Asked[0].Socket.ID != id {
			t.Fatalf("asked for %s, got %+v", id, x.Asked)
		}
		return x.Asked[0]
	}
	room := service.Target{Rooms: []string{"a"}}
	for _, at := range []service.NodeID{"AAAA", "BBBB", "CCCC"} {
		e := one(at, room, ann.ID())
		want(t, "reached", []any{e.Verdict, e.Rooms, e.Socket.NodeID, e.Socket.UserID, e.Link.Limit}, []any{service.VerdictReached, []string{"a"}, "BBBB", "ann", 1000})
		e = one(at, service.Target{Rooms: []string{"a", "b"}, ExceptRooms: []string{"muted"}}, ann.ID())
		want(t, "excepted", []any{e.Verdict, e.ExceptRooms}, []any{service.VerdictExcepted, []string{"muted"}})
		e = one(at, service.Target{Rooms: []string{"b"}}, bob.ID())
		want(t, "not in rooms", []any{e.Verdict, e.Socket.Rooms}, []any{service.VerdictNotInRooms, []string{"a"}})
		e = one(at, service.Target{Namespace: "/shop", All: true}, bob.ID())
		want(t, "other namespace", []any{e.Verdict, e.Socket.Namespace}, []any{service.VerdictOtherNamespace, "/"})
		x := c.explain(at, service.ExplainRequest{Target: service.Target{Rooms: []string{"a", "b"}, ExceptRooms: []string{"muted"}}, Most: 20})
		var nodes []string
		for _, n := range x.Nodes {
			nodes = append(nodes, fmt.Sprint(n.Node, n.Matched, n.Reached, n.Verdicts[service.VerdictExcepted]))
		}
		want(t, "nodes", nodes, []string{"AAAA1 1 0", "BBBB0 0 1", "CCCC1 1 0"})
		want(t, "sample", []any{len(x.Sample), x.Sample[0].Socket.ID, len(x.Coverage.Unreachable)}, []any{1, ann.ID(), 0})
		x = c.explain(at, service.ExplainRequest{Target: room, User: "ann"})
		want(t, "by user", []any{len(x.Asked), x.Asked[0].Socket.ID, x.Asked[0].Verdict}, []any{1, ann.ID(), service.VerdictReached})
	}
	e := one("AAAA", service.Target{All: true, Local: true}, ann.ID())
	want(t, "local", []any{e.Verdict, one("BBBB", service.Target{All: true, Local: true}, ann.ID()).Verdict}, []any{service.VerdictNotLocal, service.VerdictReached})
	x := c.explain("AAAA", service.ExplainRequest{Target: service.Target{All: true, Local: true}, Most: 20})
	want(t, "local counts", []any{x.Nodes[0].Matched, x.Nodes[1].Matched, x.Nodes[1].Verdicts[service.VerdictNotLocal], len(x.Sample)}, []any{1, 0, 1, 2})
	full.setFull(true)
	e = one("AAAA", room, bob.ID())
	want(t, "full", []any{e.Verdict, e.Link.Waiting, e.Link.FullSince.IsZero()}, []any{service.VerdictQueueFull, 1000, false})
	full.setFull(false)

	began := time.Now()
	time.Sleep(time.Second)
	c.nodes["CCCC"].End(bob, service.ReasonPingTimeout, "no pong")
	time.Sleep(time.Second)
	e = one("AAAA", room, bob.ID())
	want(t, "gone", []any{e.Verdict, e.Gone.Reason, e.Gone.Detail, e.Gone.Time.Sub(began).Round(time.Second), e.Socket.Rooms}, []any{service.VerdictDisconnected, service.ReasonPingTimeout, "no pong", time.Second, []string{"a"}})
	e = one("AAAA", room, "CCCCxxxxxxxxxxxxxxxx")
	want(t, "unknown to its node", []any{e.Verdict, e.Socket.NodeID}, []any{service.VerdictUnknown, ""})
	want(t, "of no node", one("AAAA", room, "ZZZZxxxxxxxxxxxxxxxx").Verdict, service.VerdictUnknown)
	want(t, "no id", one("AAAA", room, "x").Verdict, service.VerdictUnknown)

	c.faults.Part("AAAA", "BBBB")
	c.faults.Part("AAAA", "CCCC")
	time.Sleep(3 * time.Second)
	x = c.explain("AAAA", service.ExplainRequest{Target: room, Socket: ann.ID(), Most: 20})
	want(t, "silent", []any{x.Asked[0].Verdict, x.Asked[0].Socket.NodeID, x.Coverage.Unreachable, len(x.Nodes)}, []any{service.VerdictUnreachable, "BBBB", []string{"BBBB", "CCCC"}, 1})
	time.Sleep(10 * time.Second)
	e = one("AAAA", room, ann.ID())
	want(t, "lost", []any{e.Verdict, e.Gone.Reason, time.Since(e.Gone.Time) < 10*time.Second}, []any{service.VerdictDisconnected, service.ReasonNodeLost, true})
	want(t, "its own", one("AAAA", service.Target{All: true}, cat.ID()).Verdict, service.VerdictReached)
}

// TestExplainAgreesEverywhere: the sockets that are said to be reached are those that get the emit, whichever node it
// enters at.
func TestExplainAgreesEverywhere(t *testing.T) { synctest.Test(t, testExplainAgreesEverywhere) }

func testExplainAgreesEverywhere(t *testing.T) {
	names := []service.NodeID{"AAAA", "BBBB", "CCCC"}
	c := newCluster(t, names...)
	c.settle()
	rng := rand.New(rand.NewPCG(5, 5))
	links := map[service.SocketID]*link{}
	for i := range 12 {
		var rooms []string
		for r := range 5 {
			if rng.IntN(2) == 0 {
				rooms = append(rooms, fmt.Sprint("r", r))
			}
		}
		s, l := c.connect(names[i%3], "/", rooms...)
		links[s.ID()] = l
	}
	for range 40 {
		target := service.Target{Namespace: "/", Rooms: []string{fmt.Sprint("r", rng.IntN(6))}, Local: rng.IntN(4) == 0}
		if rng.IntN(2) == 0 {
			target.ExceptRooms = []string{fmt.Sprint("r", rng.IntN(6))}
		}
		for _, l := range links {
			l.setFull(rng.IntN(4) == 0)
			l.take()
		}
		at := names[rng.IntN(3)]
		x := c.explain(at, service.ExplainRequest{Target: target, Most: 100, Bytes: 10})
		missed := map[service.SocketID]service.EmitVerdict{}
		for _, e := range x.Sample {
			missed[e.Socket.ID] = e.Verdict
		}
		matched, reached := 0, 0
		for _, n := range x.Nodes {
			matched, reached = matched+n.Matched, reached+n.Reached
		}
		receipt := c.nodes[at].EmitBatch(t.Context(), []service.Emit{{Target: target, Packet: event(`["x"]`)}})[0]
		synctest.Wait()
		if receipt.Matched != matched || receipt.Enqueued != reached {
			t.Errorf("%+v: receipt %+v, explained %d and %d", target, receipt, matched, reached)
		}
		for id, l := range links {
			if _, not := missed[id]; (len(l.take()) > 0) == not {
				t.Errorf("%+v at %s: %s is said to be %d", target, at, id, missed[id])
			}
		}
	}
}

// TestHandlersEverywhere: all handlers by pages of any size, with those that serve sockets of other nodes; nodes that
// do not answer are named.
func TestHandlersEverywhere(t *testing.T) { synctest.Test(t, testHandlersEverywhere) }

func testHandlersEverywhere(t *testing.T) {
	names := []service.NodeID{"AAAA", "BBBB", "CCCC"}
	c := newCluster(t, names...)
	c.settle()
	for i := range 7 {
		c.attach(names[i%3], service.Registration{
			Namespaces: []string{fmt.Sprint("/", i)}, Group: fmt.Sprint("g", i), ID: fmt.Sprint("h", i), Address: fmt.Sprint("10.0.0.", i),
			Events: []string{"e"}, MaxInFlight: 9, View: service.ViewBasic, Local: i == 3,
		}, func(*service.Notice) bool { return false })
	}
	time.Sleep(time.Minute)
	s, _ := c.connect("AAAA", "/4") // its handler is at BBBB
	c.nodes["AAAA"].Receive(s, event(`["e"]`))
	synctest.Wait()
	time.Sleep(time.Second)
	list := func(at service.NodeID, limit int, local bool) (ids []string, coverage service.Coverage, all []service.HandlerInfo) {
		t.Helper()
		r := service.HandlersRequest{Limit: limit, Bytes: 1 << 20, Local: local}
		for {
			page, err := c.nodes[at].Handlers(t.Context(), r)
			if err != nil || len(page.Handlers) > limit {
				t.Fatalf("%d handlers, %v", len(page.Handlers), err)
			}
			coverage.Unreachable = append(coverage.Unreachable, page.Coverage.Unreachable...)
			for _, h := range page.Handlers {
				ids = append(ids, fmt.Sprint(h.Node, " ", h.Registration.ID))
			}
			if all = append(all, page.Handlers...); page.Next == (service.Place{}) {
				return ids, coverage, all
			}
			r.Place = page.Next
		}
	}
	everybody := []string{"AAAA h0", "AAAA h3", "AAAA h6", "BBBB h1", "BBBB h4", "CCCC h2", "CCCC h5"}
	for _, at := range names {
		for _, limit := range []int{1, 2, 3, 100} {
			ids, coverage, all := list(at, limit, false)
			want(t, "listed", ids, everybody)
			want(t, "coverage", len(coverage.Unreachable), 0)
			if t.Failed() {
				t.Fatal(at, limit)
			}
			h := all[4]
			want(t, "of another node", []any{h.Registration.Group, h.Registration.Address, h.Registration.Events, h.Registration.MaxInFlight, h.Registration.View, time.Since(h.Since).Round(time.Second), h.Sockets, h.InFlight, h.Oldest.Round(time.Second)},
				[]any{"g4", "10.0.0.4", []string{"e"}, 9, service.ViewBasic, 61 * time.Second, 1, 1, time.Second})
			want(t, "local", all[1].Registration.Local, true)
		}
	}
	ids, _, _ := list("BBBB", 100, true)
	want(t, "of one node", ids, []string{"BBBB h1", "BBBB h4"})
	want(t, "measured there", c.nodes["BBBB"].Measure().Handlers.Sockets, 1)
	if _, err := c.nodes["AAAA"].Handlers(t.Context(), service.HandlersRequest{Limit: 1, Place: service.Place{Incarnation: service.Incarnation{Node: "ZZZZ", Run: 1}, Seq: 1}}); err != service.ErrToken { //nolint:errorlint // it is given as it is
		t.Errorf("a place of nobody: %v", err)
	}
	c.faults.Part("AAAA", "CCCC")
	time.Sleep(3 * time.Second)
	ids, coverage, _ := list("AAAA", 2, false)
	want(t, "without one", []any{ids, slices.Compact(coverage.Unreachable)}, []any{everybody[:5], []string{"CCCC"}})
}
