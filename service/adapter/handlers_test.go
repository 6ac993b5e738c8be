package adapter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/membus"
)

// backend is a handler that writes down what it is told, and answers as reply says.
type backend struct {
	*service.Handler
	t      testing.TB
	answer func(n *service.Notice) bool // false: it does not; nil: it always does
	stop   context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	lines []string
	open  []service.Notice // events without an answer
	err   error
}

func (c *cluster) attach(at service.NodeID, r service.Registration, answer func(n *service.Notice) bool) *backend {
	c.Helper()
	b, coverage, err := c.tryAttach(at, r, answer)
	if err != nil || len(coverage.Unreachable) > 0 {
		c.Fatal(err, coverage)
	}
	return b
}

func (c *cluster) tryAttach(at service.NodeID, r service.Registration, answer func(n *service.Notice) bool) (*backend, service.Coverage, error) {
	if len(r.Namespaces) == 0 {
		r.Namespaces = []string{"/"}
	}
	h, coverage, err := c.nodes[at].Attach(c.Context(), r)
	if err != nil {
		return nil, coverage, err
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &backend{Handler: h, t: c, answer: answer, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(b.done)
		for {
			list, err := h.Next(ctx, nil)
			if err != nil {
				b.mu.Lock()
				b.err = err
				b.mu.Unlock()
				if ctx.Err() == nil {
					h.Detach()
				}
				return
			}
			for i := range list {
				b.hear(&list[i])
			}
		}
	}()
	c.Cleanup(b.leave)
	return b, coverage, nil
}

func (b *backend) hear(n *service.Notice) {
	line := ""
	switch n.Kind {
	case service.NoticeEvent:
		line = string(n.Packet.Payload)
	case service.NoticeConnect:
		line = "connect " + string(n.Sockets[0].Auth)
	case service.NoticeConnected:
		line = "connected"
	case service.NoticeAssigned:
		line = fmt.Sprint("assigned ", len(n.Sockets))
	case service.NoticeDisconnected:
		line = "disconnected " + n.Reason.String()
	case service.NoticeDraining:
		line = "draining"
	case service.NoticeServerSide:
		line = "server " + string(n.FromNode) + " " + string(n.Packet.Payload)
	}
	b.mu.Lock()
	b.lines = append(b.lines, line)
	answer := b.answer == nil || b.answer(n)
	if n.Kind == service.NoticeEvent && !answer {
		b.open = append(b.open, *n)
	}
	b.mu.Unlock()
	switch {
	case !answer:
	case n.Kind == service.NoticeEvent || n.WantsReply:
		b.Reply(n.CallID, []byte(`["ok"]`), nil)
	case n.Kind == service.NoticeConnect:
		b.Decide(n.CallID, service.Decision{Rooms: []string{"vip"}, UserID: b.ID(), Data: []byte(`{"by":1}`)})
	}
}

// leave ends the backend's stream.
func (b *backend) leave() {
	b.stop()
	<-b.done
	b.Detach()
}

func (b *backend) take() []string {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	lines := b.lines
	b.lines = nil
	return lines
}

// ended is what ended the backend's stream; nil: nothing has.
func (b *backend) ended() error {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func never(*service.Notice) bool { return false }

func (c *cluster) send(at service.NodeID, s *service.Socket, ack int64, text string) {
	p := event(text)
	p.Event, _, _ = strings.Cut(strings.TrimPrefix(text, `["`), `"`)
	p.AckID = ack
	c.nodes[at].Receive(s, p)
}

// overfill fills the windows of a node, which is cut off from another, until news of rooms ends an epoch.
func (c *cluster) overfill(at service.NodeID, own *service.Socket) {
	c.Helper()
	epochs := c.nodes[at].Epochs()
	for range 200 {
		c.nodes[at].EmitBatch(c.Context(), []service.Emit{{
			Target: service.Target{Namespace: "/", All: true}, Packet: event(`["x","` + strings.Repeat("x", 100) + `"]`), Accepted: true,
		}})
	}
	for i := range 9 {
		c.join(at, own, fmt.Sprint("r", i))
		synctest.Wait()
	}
	want(c, "epochs that began", c.nodes[at].Epochs()-epochs, 1)
}

func (c *cluster) join(at service.NodeID, s *service.Socket, room string) {
	_, _, err := c.nodes[at].Node.Join(c.Context(), service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}, []string{room})
	if err != nil {
		c.Fatal(err)
	}
}

// cut lets nothing through between two nodes, until heal.
func (c *cluster) cut(a, b service.NodeID) {
	c.faults.Cut(a, b)
	c.faults.Cut(b, a)
}

func (c *cluster) heal() {
	for _, a := range abc {
		for _, b := range abc {
			c.faults.Heal(a, b)
		}
	}
}

func (c *cluster) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestHandlerServesAllNodes: a backend at one node has the connects, events and disconnects of sockets of every node,
// acknowledges them and sees them as their owner does.
func TestHandlerServesAllNodes(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		b := c.attach("BBBB", service.Registration{DecideConnects: true, View: service.ViewFull}, nil)
		c.pass(time.Second)
		for _, at := range abc {
			s, l := c.connect(at, "/")
			c.send(at, s, 7, `["ask",1]`)
			c.send(at, s, service.NoAck, `["tell",2]`)
			synctest.Wait()
			want(t, "ack", l.take(), []string{`7["ok"]`})
			info, err := c.nodes["CCCC"].Socket(t.Context(), "/", s.ID())
			want(t, "as decided", fmt.Sprint(info.Rooms, info.UserID, string(info.Data), err), fmt.Sprint([]string{"vip"}, b.ID(), `{"by":1}`, nil))
			c.nodes[at].End(s, service.ReasonTransportClose, "")
			want(t, "told at "+string(at), b.take(), []string{"connect ", "connected", `["ask",1]`, `["tell",2]`, "disconnected transport close"})
		}
	})
}

// TestNearHandlerFirst: a node's own handlers have its sockets; those of others when there is none.
func TestNearHandlerFirst(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		a := c.attach("AAAA", service.Registration{ID: "a"}, nil)
		b := c.attach("BBBB", service.Registration{ID: "b"}, nil)
		c.pass(time.Second)
		for range 4 {
			c.connect("AAAA", "/")
			c.connect("BBBB", "/")
			c.connect("CCCC", "/")
		}
		want(t, "told", fmt.Sprint(len(a.take()), len(b.take())), "6 6")
		a.leave()
		lines := b.take()
		slices.Sort(lines)
		want(t, "failover", lines, []string{"assigned 2", "assigned 4"})
	})
}

// TestLocalHandlerIsItsNodesOwn: nobody else hears of it.
func TestLocalHandlerIsItsNodesOwn(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		a := c.attach("AAAA", service.Registration{Local: true, Group: "local"}, nil)
		b := c.attach("BBBB", service.Registration{Namespaces: []string{"/b"}}, nil)
		c.pass(time.Second)
		c.connect("AAAA", "/")
		c.connect("BBBB", "/")
		c.connect("CCCC", "/")
		c.connect("AAAA", "/b")
		want(t, "told", fmt.Sprint(a.take(), b.take()), "[connected] [connected]")
	})
}

// TestHandlersNodeDies: what its backend had not taken goes to the next handler in order; what it had is lost, and
// counted where the sockets are.
func TestHandlersNodeDies(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		b := c.attach("BBBB", service.Registration{ID: "b", MaxInFlight: 3}, never)
		c.pass(time.Second)
		s, l := c.connect("AAAA", "/")
		heir := c.attach("CCCC", service.Registration{ID: "c", MaxInFlight: 100}, nil)
		for i := range 3 {
			c.send("AAAA", s, int64(i), fmt.Sprintf(`["e",%d]`, i))
		}
		want(t, "taken", b.take(), []string{"connected", `["e",0]`, `["e",1]`, `["e",2]`})
		c.pass(10 * time.Millisecond) // the owner hears so
		for i := 3; i < 20; i++ {
			c.send("AAAA", s, int64(i), fmt.Sprintf(`["e",%d]`, i))
		}
		c.cut("BBBB", "AAAA")
		c.cut("BBBB", "CCCC")
		c.pass(7 * time.Second)
		want(t, "what b hears of those whose nodes are lost", b.take(), []string{"disconnected node lost"})
		wantHeir := []string{"assigned 1"}
		for i := 3; i < 20; i++ {
			wantHeir = append(wantHeir, fmt.Sprintf(`["e",%d]`, i))
		}
		want(t, "the heir", heir.take(), wantHeir)
		want(t, "lost", c.nodes["AAAA"].Info().Dropped["handler_lost"], 3)
		want(t, "acks", len(l.take()), 17)

		c.heal()
		c.pass(7 * time.Second)
		c.nodes["AAAA"].End(s, service.ReasonTransportClose, "")
		want(t, "the end is the heir's", fmt.Sprint(heir.take(), b.take()), "[disconnected transport close] []")
		heir.leave()
		c.pass(time.Second)
		_, _ = c.connect("AAAA", "/")
		want(t, "b serves again", b.take(), []string{"connected"})
	})
}

// TestHandlersStreamEnds: the same when the backend's stream ends, or drains.
func TestHandlersStreamEnds(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		b := c.attach("BBBB", service.Registration{ID: "b", MaxInFlight: 2}, never)
		c.pass(time.Second)
		s, l := c.connect("AAAA", "/")
		for i := range 5 {
			c.send("AAAA", s, int64(i), fmt.Sprintf(`["e",%d]`, i))
		}
		want(t, "taken", b.take(), []string{"connected", `["e",0]`, `["e",1]`})
		d := c.attach("CCCC", service.Registration{ID: "d", MaxInFlight: 2}, never)
		b.leave()
		want(t, "the next one", d.take(), []string{"assigned 1", `["e",2]`, `["e",3]`})
		want(t, "lost", fmt.Sprint(c.nodes["AAAA"].Info().Dropped["handler_lost"], c.nodes["BBBB"].Info().Dropped["handler_lost"]), "2 0")
		e := c.attach("BBBB", service.Registration{ID: "e"}, nil)
		d.Drain()
		want(t, "waits for the last answers", e.take(), []string{"assigned 1"})
		for _, n := range d.open {
			d.Reply(n.CallID, []byte(`["late"]`), nil)
		}
		want(t, "then", e.take(), []string{`["e",4]`})
		want(t, "acks", l.take(), []string{`2["late"]`, `3["late"]`, `4["ok"]`})
		want(t, "drained", d.ended() != nil, true)
	})
}

// TestSameIDReplacesOnAnotherNode: the old one is told, finishes what is in flight, and its sockets are the new one's.
func TestSameIDReplacesOnAnotherNode(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		old := c.attach("BBBB", service.Registration{ID: "same", MaxInFlight: 1}, never)
		c.pass(time.Second)
		s, l := c.connect("AAAA", "/")
		c.send("AAAA", s, 1, `["one"]`)
		c.send("AAAA", s, 2, `["two"]`)
		want(t, "the old one", old.take(), []string{"connected", `["one"]`})
		neu := c.attach("CCCC", service.Registration{ID: "same", Events: []string{"one", "two"}}, nil) // alone it may differ
		want(t, "is told", old.take(), []string{"draining"})
		want(t, "the new one", neu.take(), []string{"assigned 1"})
		old.Reply(old.open[0].CallID, []byte(`["last"]`), nil)
		synctest.Wait()
		want(t, "acks", l.take(), []string{`1["last"]`, `2["ok"]`})
		want(t, "the old one ends", old.ended() != nil, true)
		c.connect("BBBB", "/")
		want(t, "new sockets", neu.take(), []string{`["two"]`, "connected"})
	})
}

// TestSecondClaimIsRefusedElsewhere: the handler that comes second is told at once which one holds the claim.
func TestSecondClaimIsRefusedElsewhere(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		c.attach("AAAA", service.Registration{Group: "first"}, nil)
		c.pass(time.Second)
		start := time.Now()
		for _, at := range abc {
			for _, r := range []service.Registration{{Group: "second"}, {Group: "first", ID: "other", Events: []string{"x"}}} {
				_, _, err := c.tryAttach(at, r, nil)
				if !errors.Is(err, &service.Error{Reason: "ALREADY_CLAIMED"}) {
					t.Errorf("at %s %+v: %v", at, r, err)
				}
			}
		}
		want(t, "waited", time.Since(start), 0)
	})
}

// TestAClaimThatIsToldTwiceIsPromisedOnce: the way by which a claim was told begins anew before its ack comes, so that
// it is told again. When its handler has come and gone, another group may have what it claimed.
func TestAClaimThatIsToldTwiceIsPromisedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 7)
		for _, name := range abc[:2] {
			c.start(name, service.Config{}, adapter.Config{Window: 16 << 10, MaxFrame: 4 << 10, Lease: 30 * time.Second})
		}
		c.settle()
		own, _ := c.connect("AAAA", "/")
		c.connect("BBBB", "/")
		c.pass(time.Second)
		c.faults.Cut("BBBB", "AAAA") // acks and verdicts are lost
		var b *backend
		attached := make(chan error)
		go func() {
			var err error
			b, _, err = c.tryAttach("AAAA", service.Registration{Group: "first"}, nil)
			attached <- err
		}()
		synctest.Wait()
		c.overfill("AAAA", own)
		c.heal()
		if err := <-attached; err != nil {
			t.Fatal(err)
		}
		c.pass(time.Second)
		b.leave()
		c.pass(time.Second)
		if _, coverage, err := c.tryAttach("BBBB", service.Registration{Group: "second"}, nil); err != nil {
			t.Errorf("%v, %v", coverage, err)
		}
	})
}

// TestRivalClaims: a thousand times two backends of different groups claim the same at two nodes at one time: one of
// them has it, and the other one is refused.
func TestRivalClaims(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		wins := map[service.NodeID]int{}
		late := 0
		for i := range 1000 {
			var wait sync.WaitGroup
			at := []service.NodeID{abc[i%3], abc[(i+1)%3]}
			got := make([]*backend, 2)
			errs := make([]error, 2)
			for k := range 2 {
				wait.Go(func() {
					if i%5 > 0 {
						time.Sleep(time.Duration((i*k)%5) * 10 * time.Microsecond)
					}
					got[k], _, errs[k] = c.tryAttach(at[k], service.Registration{Group: fmt.Sprint("g", k), ID: fmt.Sprint(i, "-", k)}, nil)
				})
			}
			wait.Wait()
			synctest.Wait()
			holders := 0
			for k, b := range got {
				switch {
				case b == nil && errors.Is(errs[k], &service.Error{Reason: "ALREADY_CLAIMED"}):
				case b == nil:
					t.Fatalf("round %d: %v", i, errs[k])
				case b.ended() == nil:
					holders++
					wins[at[k]]++
				default:
					late++
					if !errors.Is(b.ended(), &service.Error{Reason: "ALREADY_CLAIMED"}) {
						t.Fatalf("round %d: ended with %v", i, b.ended())
					}
				}
			}
			if holders != 1 {
				t.Fatalf("round %d: %d holders, %v", i, holders, errs)
			}
			for _, b := range got {
				if b != nil {
					b.leave()
				}
			}
			synctest.Wait()
		}
		t.Log("won", wins, "ended after they were registered:", late)
		if len(wins) < 3 {
			t.Error("the same ones win always: the test shows little")
		}
	})
}

// TestRivalsMeetAfterAPartition: the earlier claim holds, whoever of the two judges, and the other stream ends.
func TestRivalsMeetAfterAPartition(t *testing.T) {
	for _, first := range []service.NodeID{"AAAA", "BBBB"} {
		bubble(t, abc, func(t *testing.T, c *cluster) {
			second := abc[1-slices.Index(abc, first)]
			c.cut("AAAA", "BBBB")
			c.cut("AAAA", "CCCC")
			c.pass(10 * time.Second)
			one, coverage, err := c.tryAttach(first, service.Registration{Group: "one", DecideConnects: true}, nil)
			if err != nil || len(coverage.Unreachable) == 0 {
				t.Fatal(err, coverage)
			}
			c.pass(time.Second)
			two, _, err := c.tryAttach(second, service.Registration{Group: "two", DecideConnects: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			c.connect(first, "/")
			c.connect(second, "/")
			want(t, "each has its own", fmt.Sprint(len(one.take()), len(two.take())), "2 2")
			c.heal()
			c.pass(10 * time.Second)
			want(t, "the earlier one holds", one.ended(), nil)
			if !errors.Is(two.ended(), &service.Error{Reason: "ALREADY_CLAIMED"}) {
				t.Errorf("the later one: %v", two.ended())
			}
			want(t, "has the other's sockets", one.take(), []string{"assigned 1"})
			c.connect(second, "/")
			want(t, "and new ones", one.take(), []string{"connect ", "connected"})
		})
	}
}

// TestModeOutlivesAnyNode: a namespace to which a handler has decided lets nobody in without one, at nodes that start
// when the handler and its node are gone.
func TestModeOutlivesAnyNode(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		b := c.attach("BBBB", service.Registration{Namespaces: []string{"/a", "/t-*"}, DecideConnects: true}, nil)
		c.pass(time.Second)
		b.leave()
		c.stop("BBBB")
		c.start("DDDD", service.Config{HandlerWait: time.Second}, adapter.Config{})
		c.pass(3 * time.Second)
		for _, at := range []service.NodeID{"AAAA", "DDDD"} {
			for _, namespace := range []string{"/a", "/t-1"} {
				l, refused := &link{}, make(chan service.Refusal, 1)
				c.nodes[at].Connect(service.Connect{
					Conn: l, Namespace: namespace, Refuse: func(r service.Refusal) { refused <- r },
					Bind: func(*service.Socket) bool { t.Errorf("%s lets a client into %s", at, namespace); return false },
				})
				want(t, "refused at "+string(at), strings.Contains(string((<-refused).Data), "HANDLER_UNAVAILABLE"), true)
			}
		}
	})
}

// TestObserverChangesNothingElsewhere: an observer at one node hears of the sockets of all, and no node, also one that
// starts later, lets anybody into a namespace that it alone has registered for.
func TestObserverChangesNothingElsewhere(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		b := c.attach("BBBB", service.Registration{Namespaces: []string{"/*"}, Group: "o", Observer: true}, nil)
		c.pass(15 * time.Second) // nobody hopes any more for handlers that were there before the nodes
		s, _ := c.connect("AAAA", "/")
		c.send("AAAA", s, service.NoAck, `["seen"]`)
		synctest.Wait()
		want(t, "told", b.take(), []string{"connected", `["seen"]`})
		c.start("DDDD", service.Config{HandlerWait: time.Second}, adapter.Config{})
		c.pass(3 * time.Second)
		refused := func(what string) {
			t.Helper()
			for _, at := range []service.NodeID{"AAAA", "BBBB", "DDDD"} {
				answer := make(chan string, 1)
				c.nodes[at].Connect(service.Connect{
					Conn: &link{}, Namespace: "/chat", Refuse: func(r service.Refusal) { answer <- r.Message },
					Bind: func(*service.Socket) bool { answer <- "let in"; return true },
				})
				start := time.Now()
				want(t, what+" at "+string(at), <-answer, service.InvalidNamespace.Message)
				want(t, "at once at "+string(at), time.Since(start), time.Duration(0))
			}
		}
		refused("while it is there")
		b.leave()
		c.pass(time.Second)
		refused("when it has left")
		c.attach("BBBB", service.Registration{Namespaces: []string{"/chat"}, Group: "own"}, nil)
		c.pass(time.Second)
		c.connect("AAAA", "/chat")
	})
}

// TestNothingIsLostWhenAnEpochEnds: the way to the handler's node is full and news ends the epoch, again and again,
// while events go one way and answers the other: each event is handled once, in its order, and acknowledged.
func TestNothingIsLostWhenAnEpochEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 7)
		for _, name := range abc[:2] {
			c.start(name, service.Config{Namespaces: []service.NamespaceConfig{{Pattern: "/n*"}}}, adapter.Config{Window: 16 << 10, MaxFrame: 4 << 10, Lease: 30 * time.Second})
		}
		c.settle()
		b := c.attach("BBBB", service.Registration{MaxInFlight: 50}, nil)
		c.pass(time.Second)
		var sockets []*service.Socket
		var links []*link
		for range 5 {
			s, l := c.connect("AAAA", "/")
			sockets, links = append(sockets, s), append(links, l)
		}
		own, _ := c.connect("BBBB", "/")
		mine := []*service.Socket{sockets[0], own}
		b.take()
		epochs := c.nodes["AAAA"].Epochs() + c.nodes["BBBB"].Epochs()
		filler := `["x","` + strings.Repeat("x", 50) + `"]`
		const rounds = 40
		for i := range rounds {
			c.cut("AAAA", "BBBB")
			for k, s := range sockets {
				c.send("AAAA", s, int64(i), fmt.Sprintf(`["e",%d,%d]`, k, i))
			}
			for range 150 { // until the windows are full
				c.emit("AAAA", service.Target{All: true}, filler)
				c.emit("BBBB", service.Target{All: true}, filler)
			}
			for n, at := range abc[:2] { // news finds no room
				for k := range 5 {
					c.join(at, mine[n], fmt.Sprint("r", i, "-", k))
				}
			}
			c.pass(500 * time.Millisecond)
			c.heal()
			c.pass(time.Duration(i%4) * 100 * time.Millisecond)
		}
		c.pass(10 * time.Second)
		if ended := c.nodes["AAAA"].Epochs() + c.nodes["BBBB"].Epochs() - epochs; ended < rounds/4 {
			t.Errorf("only %d epochs have ended: the test shows little", ended)
		}
		next := make([]int, len(sockets))
		for _, line := range b.take() {
			var k, i int
			if _, err := fmt.Sscanf(line, `["e",%d,%d]`, &k, &i); err != nil {
				t.Fatalf("told %q", line)
			}
			if i != next[k] {
				t.Fatalf("event %d of socket %d comes instead of %d", i, k, next[k])
			}
			next[k]++
		}
		for k, l := range links {
			acks := 0
			for _, line := range l.take() {
				if strings.HasSuffix(line, `["ok"]`) {
					acks++
				}
			}
			want(t, "events and acks", fmt.Sprint(next[k], acks), fmt.Sprint(rounds, rounds))
		}
	})
}

// TestServerSideEmitOverNodes: the handlers of all nodes that asked for it hear it and reply, but not the caller's own;
// one that is gone is not waited for, and a node that is lost is named.
func TestServerSideEmitOverNodes(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		from := c.attach("AAAA", service.Registration{ID: "a", ServerSideEvents: true}, nil)
		b := c.attach("BBBB", service.Registration{ID: "b", ServerSideEvents: true}, nil)
		d := c.attach("CCCC", service.Registration{ID: "d", ServerSideEvents: true}, never)
		c.attach("CCCC", service.Registration{ID: "not asked"}, nil)
		c.pass(time.Second)
		e := service.ServerSideEmit{Namespace: "/", Packet: event(`["server",1]`), From: from.Handler}
		r, err := c.nodes["AAAA"].ServerSideEmit(t.Context(), e)
		want(t, "without replies", fmt.Sprint(r, err), "{2 [] {[] 0 0}} <nil>")
		want(t, "heard", fmt.Sprint(from.take(), b.take(), d.take()), `[] [server AAAA ["server",1]] [server AAAA ["server",1]]`)

		e.WantsReplies, e.Timeout = true, time.Second
		start := time.Now()
		r, err = c.nodes["AAAA"].ServerSideEmit(t.Context(), e)
		want(t, "matched", fmt.Sprint(r.Matched, len(r.Replies), err, time.Since(start)), "2 1 <nil> 1s")
		want(t, "reply", fmt.Sprintf("%s %s %s", r.Replies[0].Node, r.Replies[0].Handler, r.Replies[0].Payload), `BBBB b ["ok"]`)
		synctest.Wait()
		d.Drain()
		synctest.Wait()
		want(t, "who was not waited for owes nothing", d.ended() != nil, true)

		gone := c.attach("CCCC", service.Registration{ID: "gone", ServerSideEvents: true}, never)
		c.pass(time.Second)
		go func() {
			time.Sleep(time.Second)
			gone.leave()
		}()
		start, e.Timeout = time.Now(), time.Minute
		r, err = c.nodes["AAAA"].ServerSideEmit(t.Context(), e)
		want(t, "one has left", fmt.Sprint(r.Matched, len(r.Replies), err, time.Since(start)), "2 1 <nil> 1s")

		c.cut("AAAA", "BBBB")
		c.pass(10 * time.Second)
		r, err = c.nodes["AAAA"].ServerSideEmit(t.Context(), e)
		want(t, "lost", fmt.Sprint(r, err), "{0 [] {[BBBB] 0 0}} <nil>")
	})
}

// TestServerSideEmitWaitsForNoSilentNode: it is named, nobody waits for the replies of its handlers, attached or about
// to be, and they hear the event when it is back.
func TestServerSideEmitWaitsForNoSilentNode(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		b := c.attach("BBBB", service.Registration{ID: "b", ServerSideEvents: true}, nil)
		c.attach("CCCC", service.Registration{ID: "c", ServerSideEvents: true}, nil)
		c.pass(time.Second)
		c.faults.Cut("CCCC", "BBBB") // whose word on the next one does not come
		go func() {
			_, _, _ = c.tryAttach("BBBB", service.Registration{ID: "late", Group: "late", Observer: true, ServerSideEvents: true}, nil)
		}()
		synctest.Wait()
		c.faults.Cut("BBBB", "AAAA")
		c.faults.Cut("AAAA", "BBBB")
		c.pass(3 * time.Second)
		e := service.ServerSideEmit{Namespace: "/", Packet: event(`["server",1]`), WantsReplies: true, Timeout: time.Minute}
		start := time.Now()
		r, err := c.nodes["AAAA"].ServerSideEmit(t.Context(), e)
		want(t, "while it is silent", fmt.Sprint(r.Matched, len(r.Replies), r.Coverage, err, time.Since(start)), "2 1 {[BBBB] 0 0} <nil> 0s")
		c.heal()
		c.pass(3 * time.Second)
		want(t, "when it is back", b.take(), []string{`server AAAA ["server",1]`})
	})
}

// TestServerSideEmitNamesSilentNode: one that has told of no handler may have got one since.
func TestServerSideEmitNamesSilentNode(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		c.attach("CCCC", service.Registration{ID: "c", ServerSideEvents: true}, nil)
		c.pass(time.Second)
		for _, wanted := range []string{"{1 [] {[] 0 0}} <nil>", "{1 [] {[BBBB] 0 0}} <nil>"} {
			r, err := c.nodes["AAAA"].ServerSideEmit(t.Context(), service.ServerSideEmit{Namespace: "/", Packet: event(`["server",1]`)})
			want(t, "the answer", fmt.Sprint(r, err), wanted)
			c.cut("AAAA", "BBBB")
			c.pass(3 * time.Second)
		}
	})
}

// TestServerSideEmitAfterAttaching: once a handler is attached at one node, a server-side event of another reaches it,
// whose news of it is still on the way. One that is about to be attached for longer is waited for, and its node is
// named.
func TestServerSideEmitAfterAttaching(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		c.pass(time.Second)
		c.faults.SetWay("CCCC", "BBBB", membus.Weather{Delay: 50 * time.Millisecond})
		e := service.ServerSideEmit{Namespace: "/", Packet: event(`["server",1]`)}
		const rounds = 20 // a frame takes any part of that time
		var all []*backend
		for i := range rounds {
			all = append(all, c.attach("CCCC", service.Registration{ID: fmt.Sprint(i), Group: fmt.Sprint(i), Observer: true, ServerSideEvents: true}, nil))
			r, err := c.nodes["BBBB"].ServerSideEmit(t.Context(), e)
			want(t, "all that are attached", fmt.Sprint(r, err), fmt.Sprintf("{%d [] {[] 0 0}} <nil>", i+1))
		}
		want(t, "heard by the last one", fmt.Sprint(all[rounds-1].take()), `[server BBBB ["server",1]]`)

		c.cut("AAAA", "CCCC") // whose word on the next one does not come
		attached := make(chan struct{})
		go func() {
			defer close(attached)
			_, _, _ = c.tryAttach("CCCC", service.Registration{ID: "late", Group: "late", Observer: true, ServerSideEvents: true}, nil)
		}()
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		r, err := c.nodes["BBBB"].ServerSideEmit(t.Context(), e)
		want(t, "without the late one", fmt.Sprint(r, err, time.Since(start)), fmt.Sprintf("{%d [] {[CCCC] 0 0}} <nil> 1s", rounds))
		<-attached
	})
}

// TestConnectAfterAttaching: once a handler is attached at one node that decides connects, a client that comes to
// another one is let in by it and by nobody else, although the news of it is still on the way. When it comes to
// nothing, all is as before.
func TestConnectAfterAttaching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 1)
		for _, name := range abc {
			c.start(name, service.Config{Namespaces: []service.NamespaceConfig{{Pattern: "/open-*"}}}, adapter.Config{})
		}
		c.pass(15 * time.Second) // nobody hopes any more for handlers that were there before the node
		c.faults.SetWay("CCCC", "BBBB", membus.Weather{Delay: 50 * time.Millisecond})
		for i := range 20 { // a frame takes any part of that time
			for _, namespace := range []string{fmt.Sprint("/open-", i), fmt.Sprint("/new-", i)} {
				b := c.attach("CCCC", service.Registration{Namespaces: []string{namespace}, Group: namespace, DecideConnects: true}, nil)
				c.connect("BBBB", namespace)
				c.pass(time.Second)
				want(t, "of "+namespace, b.take(), []string{"connect ", "connected"})
			}
			namespace := fmt.Sprint("/told-", i)
			b := c.attach("CCCC", service.Registration{Namespaces: []string{namespace}, Group: namespace}, nil)
			c.connect("BBBB", namespace)
			c.pass(time.Second)
			want(t, "of "+namespace, b.take(), []string{"connected"})
		}

		c.cut("AAAA", "CCCC") // whose word on the next ones does not come
		for namespace, refused := range map[string]string{"/open-last": "", "/new-last": service.InvalidNamespace.Message} {
			ctx, leave := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer leave()
			go func() {
				_, _, err := c.nodes["CCCC"].Attach(ctx, service.Registration{Namespaces: []string{namespace}, Group: namespace, DecideConnects: true})
				want(t, "the backend has left", err != nil, true)
			}()
			time.Sleep(100 * time.Millisecond)
			start, answer := time.Now(), make(chan string, 1)
			l := &link{in: answer}
			c.nodes["BBBB"].Connect(service.Connect{
				Conn: l, Namespace: namespace, Bind: func(*service.Socket) bool { return true },
				Refuse: func(r service.Refusal) { answer <- r.Message },
			})
			want(t, namespace, <-answer, refused)
			if took := time.Since(start); took < 400*time.Millisecond || took > time.Second {
				t.Errorf("%s is answered after %v", namespace, took)
			}
		}
	})
}

// TestOnlyOneSideLosesTheOther: a backend whose node has lost the owner of sockets is told that they are gone, and has
// them again when that is back, though the owner never lost it and has nothing to tell. The other way round another
// backend has them.
func TestOnlyOneSideLosesTheOther(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		b := c.attach("BBBB", service.Registration{ID: "b"}, nil)
		c.pass(time.Second)
		s, l := c.connect("AAAA", "/")
		b.take()
		c.faults.Cut("AAAA", "BBBB")
		c.pass(7 * time.Second)
		want(t, "lost", b.take(), []string{"disconnected node lost"})
		c.heal()
		c.pass(7 * time.Second)
		want(t, "back", b.take(), []string{"assigned 1"})
		c.send("AAAA", s, 1, `["e",1]`)
		want(t, "told", b.take(), []string{`["e",1]`})
		want(t, "ack", l.take(), []string{`1["ok"]`})

		c.faults.Cut("BBBB", "AAAA")
		c.pass(7 * time.Second)
		want(t, "the owner tells nothing", len(b.take()), 0)
		near, _, err := c.tryAttach("AAAA", service.Registration{ID: "a"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.send("AAAA", s, 2, `["e",2]`)
		want(t, "another has it", near.take(), []string{"assigned 1", `["e",2]`})
		c.heal()
		c.pass(7 * time.Second)
		near.leave()
		c.send("AAAA", s, 3, `["e",3]`)
		want(t, "and then b again", b.take(), []string{"assigned 1", `["e",3]`})
		want(t, "acks", l.take(), []string{`2["ok"]`, `3["ok"]`})
	})
}
