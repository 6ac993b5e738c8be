package service

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// explain asks about a target.
func explain(t testing.TB, n *Node, r ExplainRequest) Explanation {
	t.Helper()
	if r.Target.Namespace == "" {
		r.Target.Namespace = "/"
	}
	x, err := n.Explain(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// explainOne asks about a target and one socket.
func explainOne(t testing.TB, n *Node, target Target, id SocketID) Explained {
	t.Helper()
	x := explain(t, n, ExplainRequest{Target: target, Socket: id, Bytes: 100})
	if len(x.Asked) != 1 || x.Asked[0].Socket.ID != id {
		t.Fatalf("asked for %s, got %+v", id, x.Asked)
	}
	return x.Asked[0]
}

// TestExplainAgainstEmit: at any time, with random rooms, targets and links that are full, busy or closing, the sockets
// that are said to be reached are those that then get the emit, and the counts are those of its receipt.
func TestExplainAgainstEmit(t *testing.T) {
	n := newNode(t, Config{})
	m := &registryModel{rng: newRand(7), rooms: map[*Socket]map[string]bool{}}
	conns := map[*Socket]*fakeConn{}
	for range 40 {
		s, c := connect(t, n, "/")
		m.sockets, conns[s] = append(m.sockets, s), c
		m.rooms[s] = map[string]bool{string(s.ID()): true}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits for room
	verdicts := [Verdicts]int{}
	for round := range 60 {
		if _, _, err := n.Join(t.Context(), m.target(), m.names()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := n.Leave(t.Context(), m.target(), m.names()); err != nil {
			t.Fatal(err)
		}
		for _, c := range conns {
			c.mu.Lock()
			c.out, c.space, c.closed = QueuedFlush, 0, ReasonNone
			switch m.rng.IntN(10) {
			case 0:
				c.out = DroppedVolatile
			case 1:
				c.out, c.space = Full, m.rng.IntN(20)
			case 2:
				c.closed = ReasonTransportClose
			}
			c.frames = nil
			c.mu.Unlock()
		}
		e := Emit{Target: m.target(), Packet: event("e"), Flags: Flags(m.rng.IntN(2)) * Volatile}
		size := len("event ") + len(e.Packet.Payload)
		r := ExplainRequest{Target: e.Target, Flags: e.Flags, Bytes: size, Most: 1000}
		x := explain(t, n, r)
		said := map[SocketID]EmitVerdict{}
		for _, s := range m.sockets {
			r.Socket, r.Most = s.ID(), 0
			one := explain(t, n, r)
			if !slices.Equal(one.Nodes, x.Nodes) {
				t.Fatalf("counts: %+v and %+v", one.Nodes, x.Nodes)
			}
			said[s.ID()] = one.Asked[0].Verdict
			verdicts[one.Asked[0].Verdict]++
		}
		for _, one := range x.Sample {
			wantEqual(t, "verdict in the sample", one.Verdict, said[one.Socket.ID])
		}
		receipt, _ := n.Emit(over, e)
		reach := &x.Nodes[0]
		wantEqual(t, "receipt", []int{reach.Matched, reach.Reached, reach.Verdicts[VerdictDroppedVolatile], reach.Verdicts[VerdictQueueFull], reach.Verdicts[VerdictClosing]},
			[]int{receipt.Matched, receipt.Enqueued, receipt.DroppedVolatile, receipt.DroppedSlow, receipt.Closing})
		for s, c := range conns {
			if c.out == DroppedVolatile && e.Flags&Volatile == 0 {
				continue // such a link writes nothing down
			}
			if got := len(c.take()) > 0; got != (said[s.ID()] == VerdictReached) {
				t.Errorf("round %d, %+v: socket in %v has got it: %t, said is %d", round, e.Target, s.roomNames(), got, said[s.ID()])
			}
		}
		total := 0
		for _, count := range reach.Verdicts {
			total += count
		}
		if wantEqual(t, "sockets", total, len(m.sockets)); len(x.Sample) != total-reach.Reached+reach.NearlyFull {
			t.Errorf("the sample has %d of %d", len(x.Sample), total-reach.Reached)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	for _, v := range []EmitVerdict{VerdictReached, VerdictNotInRooms, VerdictExcepted, VerdictQueueFull, VerdictDroppedVolatile, VerdictClosing} {
		if verdicts[v] < 20 {
			t.Errorf("verdict %d came %d times", v, verdicts[v])
		}
	}
}

// TestExplainOneSocket: each reason with what it names.
func TestExplainOneSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "/shop", Connect: ConnectOpen}}})
		ann, annConn := connect(t, n, "/", "a", "b", "muted")
		bob, bobConn := connect(t, n, "/", "a")
		shop, _ := connect(t, n, "/shop", "a")
		name := "ann"
		if _, err := n.Update(t.Context(), "/", ann.ID(), Update{UserID: &name}); err != nil {
			t.Fatal(err)
		}
		left, _ := connect(t, n, "/shop", "a", "z")
		left.leave(ReasonPingTimeout, "no pong", nil)
		room := Target{Rooms: []string{"a", "b", "c"}}

		e := explainOne(t, n, room, ann.ID())
		wantEqual(t, "reached", []any{e.Verdict, e.Rooms, e.ExceptRooms, e.Link.Limit, e.Socket.UserID}, []any{VerdictReached, []string{"a", "b"}, []string(nil), 1000, "ann"})
		e = explainOne(t, n, Target{All: true, ExceptRooms: []string{"x", "muted", string(ann.ID())}}, ann.ID())
		wantEqual(t, "excepted", []any{e.Verdict, e.Rooms, len(e.ExceptRooms), slices.Contains(e.ExceptRooms, "muted")}, []any{VerdictExcepted, []string(nil), 2, true})
		e = explainOne(t, n, Target{Rooms: []string{"b"}}, bob.ID())
		wantEqual(t, "not in rooms", []any{e.Verdict, e.Socket.Rooms, e.Link.Writable}, []any{VerdictNotInRooms, []string{"a"}, true})
		e = explainOne(t, n, room, shop.ID())
		wantEqual(t, "other namespace", []any{e.Verdict, e.Socket.Namespace, e.Rooms}, []any{VerdictOtherNamespace, "/shop", []string(nil)})

		time.Sleep(time.Second)
		bobConn.full(50)
		e = explainOne(t, n, room, bob.ID())
		wantEqual(t, "full", []any{e.Verdict, e.Link.Waiting, e.Link.NearlyFull(), time.Since(e.Link.FullSince)}, []any{VerdictQueueFull, 950, true, time.Duration(0)})
		x := explain(t, n, ExplainRequest{Target: room, Bytes: 10, Most: 5})
		wantEqual(t, "nearly full", []any{x.Nodes[0].Reached, x.Nodes[0].NearlyFull, len(x.Sample), x.Sample[0].Socket.ID, x.Sample[0].Verdict},
			[]any{2, 1, 1, bob.ID(), VerdictReached})
		annConn.out = DroppedVolatile
		x = explain(t, n, ExplainRequest{Target: room, Socket: ann.ID(), Flags: Volatile})
		wantEqual(t, "volatile", x.Asked[0].Verdict, VerdictDroppedVolatile)
		wantEqual(t, "not volatile", explainOne(t, n, room, ann.ID()).Verdict, VerdictReached)
		x = explain(t, n, ExplainRequest{Target: Target{All: true, Local: true}, Socket: ann.ID(), Abroad: true})
		wantEqual(t, "local elsewhere", []any{x.Asked[0].Verdict, x.Nodes[0].Matched, x.Nodes[0].Verdicts[VerdictNotLocal]}, []any{VerdictNotLocal, 0, 2})

		time.Sleep(time.Hour)
		ann.leave(ReasonSlow, "", nil)
		e = explainOne(t, n, room, ann.ID())
		wantEqual(t, "gone", []any{e.Verdict, e.Gone.Reason, time.Since(e.Gone.Time), e.Socket.Rooms, e.Socket.UserID, e.Rooms, e.Link == nil, e.Socket.Handshake == nil},
			[]any{VerdictDisconnected, ReasonSlow, time.Duration(0), []string{"a", "b", "muted"}, "ann", []string{"a", "b"}, true, true})
		shop.leave(ReasonTransportClose, "", nil) // the last of its namespace
		if n.namespace("/shop") != nil {
			t.Error("the namespace is still there")
		}
		e = explainOne(t, n, room, left.ID())
		wantEqual(t, "gone with its namespace", []any{e.Verdict, e.Gone.Reason, e.Gone.Detail, e.Socket.Namespace, e.Socket.Rooms, e.Rooms},
			[]any{VerdictDisconnected, ReasonPingTimeout, "no pong", "/shop", []string{"a", "z"}, []string(nil)})
		e = explainOne(t, n, Target{Namespace: "/nowhere", All: true}, "nobody")
		wantEqual(t, "unknown", []any{e.Verdict, e.Socket.Namespace}, []any{VerdictUnknown, ""})
	})
}

// TestExplainUser: all sockets of a user, those that are gone behind the others.
func TestExplainUser(t *testing.T) {
	n := newNode(t, Config{})
	name := "ann"
	var hers []*Socket
	for i := range 2500 {
		s, _ := connect(t, n, "/", "room")
		if i%1000 == 999 || i == 0 {
			if _, err := n.Update(t.Context(), "/", s.ID(), Update{UserID: &name}); err != nil {
				t.Fatal(err)
			}
			hers = append(hers, s)
		}
	}
	hers[1].leave(ReasonTransportClose, "", nil)
	x := explain(t, n, ExplainRequest{Target: Target{Rooms: []string{"room"}}, User: name})
	got := map[SocketID]EmitVerdict{}
	for _, e := range x.Asked {
		got[e.Socket.ID] = e.Verdict
	}
	wantEqual(t, "hers", got, map[SocketID]EmitVerdict{hers[0].ID(): VerdictReached, hers[2].ID(): VerdictReached, hers[1].ID(): VerdictDisconnected})
	wantEqual(t, "the one that is gone is last", x.Asked[2].Socket.ID, hers[1].ID())
}

// TestExplanationIsBounded: of many sockets, in many rooms with long names, by few users.
func TestExplanationIsBounded(t *testing.T) {
	n := newNode(t, Config{})
	name := "ann"
	rooms := make([]string, 300)
	for i := range rooms {
		rooms[i] = fmt.Sprintf("%03d%s", i, strings.Repeat("r", 250))
	}
	for i := range 3000 {
		var in []string
		if i < 200 {
			in = rooms
		}
		s, _ := connect(t, n, "/", in...)
		if i < 200 {
			if _, err := n.Update(t.Context(), "/", s.ID(), Update{UserID: &name}); err != nil {
				t.Fatal(err)
			}
		}
	}
	x := explain(t, n, ExplainRequest{Target: Target{Rooms: rooms, ExceptRooms: rooms}, User: name, Most: 500})
	for what, list := range map[string][]Explained{"asked": x.Asked, "sample": x.Sample} {
		bytes := 0
		for i := range list {
			bytes += list[i].Bytes()
		}
		if len(list) == 0 || bytes > MaxExplainedBytes {
			t.Errorf("%s: %d sockets of %d bytes", what, len(list), bytes)
		}
	}
	wantEqual(t, "counted", []int{x.Nodes[0].Verdicts[VerdictExcepted], x.Nodes[0].Verdicts[VerdictNotInRooms]}, []int{200, 2800})
	x = explain(t, n, ExplainRequest{Target: Target{Rooms: []string{"nobody"}}, Most: 20})
	wantEqual(t, "sample", []int{len(x.Sample), x.Nodes[0].Verdicts[VerdictNotInRooms]}, []int{20, 3000})
}

// TestExplainWorksInTurns: a caller that waits to change a large namespace is let in before much more of it is looked
// at.
func TestExplainWorksInTurns(t *testing.T) {
	n := newNode(t, Config{})
	crowd(t, n, 5*turnWork, nil)
	ns := n.namespace("/")
	var turns atomic.Int64
	seen, asked := uint64(0), uint64(0)
	ns.eachInTurns(func(s *Socket) (int, bool) {
		if s.seq <= seen {
			t.Fatalf("%d comes behind %d", s.seq, seen)
		}
		switch seen = s.seq; {
		case asked == 0:
			asked = seen
			before := turns.Load()
			go func() {
				ns.mu.Lock()
				turns.Store(before + 1)
				ns.mu.Unlock()
			}()
			for ns.mu.TryRLock() { // until it waits
				ns.mu.RUnlock()
				runtime.Gosched()
			}
		case seen == asked+turnWork:
			if turns.Load() == 0 {
				t.Errorf("nobody was let in until socket %d", seen)
			}
			turns.Store(0)
			asked = 0
		}
		return 0, true
	})
	wantEqual(t, "walked", seen, uint64(5*turnWork))
}

// TestDeparturesAreBounded: in bytes that the budget counts, and a namespace where many come and go leaves those of
// others alone.
func TestDeparturesAreBounded(t *testing.T) {
	const most = 50_000
	n := newNode(t, Config{DepartureBytes: most, Namespaces: []NamespaceConfig{{Pattern: "/n*", Connect: ConnectOpen}}})
	quiet, _ := connect(t, n, "/n1", "room")
	quiet.leave(ReasonTransportClose, "", nil)
	var last *Socket
	for i := range 1000 {
		last, _ = connect(t, n, "/n2", strings.Repeat("r", i%200+1))
		last.leave(ReasonTransportClose, "", nil)
		if held := n.Budget().UsedBy(UseDepartures); held > most || held != int64(n.departures.held) {
			t.Fatalf("%d bytes are held, counted are %d", held, n.departures.held)
		}
	}
	if kept := n.departures.by["/n2"].list.len(); kept < most/(2*departureBytes) {
		t.Errorf("%d are remembered", kept)
	}
	wantEqual(t, "both are known", []EmitVerdict{
		explainOne(t, n, Target{All: true}, quiet.ID()).Verdict, explainOne(t, n, Target{All: true}, last.ID()).Verdict,
	}, []EmitVerdict{VerdictDisconnected, VerdictDisconnected})
	for i := range 500 { // a namespace that has little takes the place of the one that has most
		s, _ := connect(t, n, fmt.Sprint("/n", i+10))
		s.leave(ReasonTransportClose, "", nil)
	}
	bytes, largest := 0, 0
	for _, of := range n.departures.by {
		bytes += of.held
		largest = max(largest, of.held)
	}
	wantEqual(t, "who pays first", []int{n.departures.order[0].held, len(n.departures.order)}, []int{largest, len(n.departures.by)})
	if bytes != n.departures.held || bytes > most || len(n.departures.by) < 50 {
		t.Errorf("%d bytes in %d namespaces, counted are %d", bytes, len(n.departures.by), n.departures.held)
	}
	wantEqual(t, "kept", n.Info().Kept["queued_bytes"], int64(0))
}

// TestDeparturesGiveWay: when the budget is spent, and when nothing is to be remembered.
func TestDeparturesGiveWay(t *testing.T) {
	budget := NewBudget(3 * departureBytes)
	n := newNode(t, Config{Budget: budget})
	var all []*Socket
	for range 5 {
		s, _ := connect(t, n, "/")
		s.leave(ReasonTransportClose, "", nil)
		all = append(all, s)
	}
	var got []EmitVerdict
	for _, s := range all {
		got = append(got, explainOne(t, n, Target{All: true}, s.ID()).Verdict)
	}
	wantEqual(t, "the newest", got, []EmitVerdict{VerdictUnknown, VerdictUnknown, VerdictUnknown, VerdictDisconnected, VerdictDisconnected})
	none := newNode(t, Config{DepartureBytes: -1})
	s, _ := connect(t, none, "/")
	s.leave(ReasonTransportClose, "", nil)
	wantEqual(t, "nothing", []any{explainOne(t, none, Target{All: true}, s.ID()).Verdict, none.Budget().Used()}, []any{VerdictUnknown, int64(0)})
}

// BenchmarkDepartures: sockets go one after the other in turn in so many namespaces, of which more is remembered
// already than may be.
func BenchmarkDepartures(b *testing.B) {
	for _, namespaces := range []int{1, 100, 5000} {
		b.Run(fmt.Sprint(namespaces), func(b *testing.B) {
			n := newNode(b, Config{})
			infos := make([]*SocketInfo, namespaces)
			for i := range infos {
				infos[i] = &SocketInfo{ID: "an id of twenty bytes", Namespace: fmt.Sprint("/", i)}
			}
			for i := range 20_000 {
				n.departures.add(infos[i%namespaces], ReasonTransportClose, "")
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				n.departures.add(infos[i%namespaces], ReasonTransportClose, "")
				i++
			}
		})
	}
}
