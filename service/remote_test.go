package service

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeRemote writes down what it is told, and wants what its fields say.
type fakeRemote struct {
	wants func(Batch) Ticket // nil: nothing

	mu    sync.Mutex
	texts []string // of the packets, in their order
	acks  int      // batches that wanted some
	edges []string
	on    map[string]bool
	wrong []string // edges that came twice, or a room's outside of its namespace's

	ready []func() // what was expected, when it waits
	waits bool     // others do not answer at once
}

func (f *fakeRemote) Expect(namespace string, rooms []string, ready func()) {
	f.mu.Lock()
	f.edges = append(f.edges, fmt.Sprint("expect ", namespace, " ", rooms))
	waits := f.waits
	if waits {
		f.ready = append(f.ready, ready)
	}
	f.mu.Unlock()
	if !waits {
		ready()
	}
}

func (f *fakeRemote) Follow(string, bool) {}

func (f *fakeRemote) Tellers(string) ([]Incarnation, Coverage) { return nil, Coverage{} }

func (f *fakeRemote) Past(context.Context, Incarnation, string, uint64, uint64) ([]PresenceEvent, bool) {
	return nil, false
}

func (f *fakeRemote) Publish(b Batch) Ticket {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range b.Packets {
		f.texts = append(f.texts, "event "+string(p.Payload))
	}
	if b.Acks != nil {
		f.acks++
	}
	if f.wants == nil {
		return nil
	}
	return f.wants(b)
}

func (f *fakeRemote) Flush()         {}
func (f *fakeRemote) Finished(*Acks) {}

func (f *fakeRemote) Edge(namespace, room string, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := namespace + "#" + room
	if f.on == nil {
		f.on = map[string]bool{}
	}
	if f.on[key] == on || room != "" && !f.on[namespace+"#"] {
		f.wrong = append(f.wrong, fmt.Sprint(key, on))
	}
	if f.on[key] = on; !on {
		delete(f.on, key)
	}
	f.edges = append(f.edges, fmt.Sprint(key, " ", on))
}

func (f *fakeRemote) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.texts
	f.texts = nil
	return t
}

// fakeTicket answers once it is released.
type fakeTicket struct {
	unreached Coverage
	answer    Receipt
	released  chan struct{}
}

func (t *fakeTicket) Unreached(int) Coverage { return t.unreached }
func (t *fakeTicket) Wait(ctx context.Context, _ int) Receipt {
	select {
	case <-t.released:
		return t.answer
	case <-ctx.Done():
		return Receipt{Coverage: Coverage{Unreachable: []string{"late"}}}
	}
}

// TestRemoteHearsWhatIsDeliveredInItsOrder: emits to all and to a few that come from many callers at once, some of them
// beside a large fan-out, have one order for a link and for the other nodes.
func TestRemoteHearsWhatIsDeliveredInItsOrder(t *testing.T) {
	remote := &fakeRemote{}
	n := newNode(t, Config{Remote: remote})
	s, c := connect(t, n, "/", "few")
	for range 2 * flushChunk {
		connect(t, n, "/")
	}
	var callers sync.WaitGroup
	for caller := range 8 {
		callers.Go(func() {
			for i := range 50 {
				e := Emit{Packet: event("e", caller, i), Target: Target{Namespace: "/"}}
				switch caller % 4 {
				case 0:
					e.Target.All = true
				case 1:
					e.Target.Rooms = []string{string(s.ID())}
				default:
					e.Target.Rooms = []string{"few"}
				}
				n.EmitBatch(t.Context(), []Emit{e, e})
			}
		})
	}
	callers.Wait()
	wantEqual(t, "what the others were handed and what a link got", remote.took(), c.take())
}

// TestRemoteIsHandedAllButLocalEmits: also those of a namespace that has no socket here, and those that want
// acknowledgements.
func TestRemoteIsHandedAllButLocalEmits(t *testing.T) {
	remote := &fakeRemote{wants: func(Batch) Ticket {
		answer := Receipt{Matched: 3, Enqueued: 1, DroppedVolatile: 1, DroppedSlow: 1, Coverage: Coverage{UnreachableUnnamed: 2}}
		released := make(chan struct{})
		close(released)
		return &fakeTicket{unreached: Coverage{Unreachable: []string{"full"}}, answer: answer, released: released}
	}}
	n := newNode(t, Config{Remote: remote})
	connect(t, n, "/")
	there := Receipt{Matched: 3, Enqueued: 1, DroppedVolatile: 1, DroppedSlow: 1, Coverage: Coverage{UnreachableUnnamed: 2}}
	both := there
	both.Matched, both.Enqueued = 4, 2
	of := func(namespace string, name string) Emit {
		return Emit{Target: Target{Namespace: namespace, All: true}, Packet: event(name)}
	}
	local, accepted := of("/", "local"), of("/", "accepted")
	local.Target.Local, accepted.Accepted = true, true
	got := n.EmitBatch(t.Context(), []Emit{of("/", "a"), local, of("/nobody", "b"), accepted, of("/", "c")})
	wantEqual(t, "receipts", got, []Receipt{
		both, {Matched: 1, Enqueued: 1}, there, {Matched: 1, Enqueued: 1, Coverage: Coverage{Unreachable: []string{"full"}}}, both,
	})
	wantEqual(t, "handed out", remote.took(), []string{`event ["a"]`, `event ["b"]`, `event ["accepted"]`, `event ["c"]`})
	if r, err := n.Emit(t.Context(), of("/nobody", "d")); err != nil || r.Matched != 3 {
		t.Errorf("to a namespace without sockets here: %+v, %v", r, err)
	}
	wantEqual(t, "namespaces that stay", n.Info().Namespaces, 1)

	for namespace, matched := range map[string]int{"/": 4, "/nobody": 3} {
		acks, err := n.CollectAcks(t.Context(), of(namespace, "ask"), 1)
		if err != nil {
			t.Fatal(err)
		}
		acks.Finish()
		wantEqual(t, "those asked", acks.Matched, matched)
		wantEqual(t, "coverage of those asked", acks.Coverage(), there.Coverage)
	}
	wantEqual(t, "wanted acks", remote.acks, 2)
	remote.took()
	connect(t, n, "/")
	if _, err := n.CollectAcks(t.Context(), of("/", "too many"), 1); err == nil {
		t.Error("two recipients here, one may be asked: want an error")
	}
	wantEqual(t, "of what is refused here", remote.took(), []string(nil))
}

// TestRemoteIsWaitedForOutsideOfTheLane: a caller that waits for other nodes is not in the way of other emits, and the
// end of the call ends the wait.
func TestRemoteIsWaitedForOutsideOfTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ticket := &fakeTicket{released: make(chan struct{}), answer: Receipt{Matched: 5, Enqueued: 5}}
		remote := &fakeRemote{wants: func(b Batch) Ticket {
			if b.Packets[0].Event == "slow" {
				return ticket
			}
			return nil
		}}
		n := newNode(t, Config{Remote: remote})
		_, c := connect(t, n, "/")
		slow := Emit{Target: Target{Namespace: "/", All: true}, Packet: event("slow")}
		done := make(chan []Receipt, 2)
		go func() { done <- n.EmitBatch(t.Context(), []Emit{slow}) }()
		synctest.Wait()
		emit(t, n, Target{All: true})
		wantEqual(t, "frames", c.take(), []string{`event ["slow"]`, `event ["e"]`})
		close(ticket.released)
		wantEqual(t, "receipts", <-done, []Receipt{{Matched: 6, Enqueued: 6}})

		ticket.released = nil
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := n.Emit(ctx, slow)
		wantEqual(t, "at the end of the call", r, Receipt{Matched: 1, Enqueued: 1, Coverage: Coverage{Unreachable: []string{"late"}}})
		wantEqual(t, "error", err, nil)
	})
}

// TestOnlyWhatIsForOneLinkWaitsForIt: an emit that other nodes hear as well does not wait for a full link here, and
// they hear it once. One that nobody else wants waits, and they are asked anew.
func TestOnlyWhatIsForOneLinkWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, wanted := range []bool{true, false} {
			remote := &fakeRemote{}
			if wanted {
				released := make(chan struct{})
				close(released)
				remote.wants = func(Batch) Ticket { return &fakeTicket{released: released} }
			}
			n := newNode(t, Config{Remote: remote})
			s, c := connect(t, n, "/")
			c.full(0)
			go func() {
				time.Sleep(time.Second)
				c.give(1000)
			}()
			start := time.Now()
			got := n.EmitBatch(t.Context(), []Emit{to(s, 0), to(s, 1)})
			acks, err := n.CollectAcks(t.Context(), to(s, 2), 0)
			if err != nil {
				t.Fatal(err)
			}
			acks.Finish()
			want, waited, heard := Receipt{Matched: 1, Enqueued: 1}, time.Second, []string{`event ["e",0]`, `event ["e",1]`}
			if wanted {
				want, waited = Receipt{Matched: 1, DroppedSlow: 1}, 0
			} else {
				heard = append(heard, heard...)
			}
			wantEqual(t, "receipts", got, []Receipt{want, want})
			wantEqual(t, "waited", time.Since(start), waited)
			wantEqual(t, "handed out", remote.took(), append(heard, `event ["e",2]`))
			time.Sleep(time.Second)
		}
	})
}

// TestEdgesFollowMembership: joins, leaves, connects and ends at random, from many at once. The edges of each room and
// namespace take turns, a room's lie within its namespace's, and what is on in the end is what has sockets.
func TestEdgesFollowMembership(t *testing.T) {
	remote := &fakeRemote{}
	n := newNode(t, Config{Remote: remote})
	namespaces := []string{"/", "/b"}

	var lives sync.WaitGroup
	for seed := range uint64(8) {
		lives.Go(func() {
			rng := newRand(seed)
			var mine []*Socket
			for range 300 {
				rooms := []string{fmt.Sprint("r", rng.IntN(5)), fmt.Sprint("r", rng.IntN(5))}
				switch k := rng.IntN(10); {
				case k < 3 || len(mine) == 0:
					c := newConn()
					n.Connect(c.request(namespaces[rng.IntN(2)]))
					mine = append(mine, c.sockets...)
				case k < 6:
					s := mine[rng.IntN(len(mine))]
					own := Target{Namespace: s.Namespace(), Rooms: []string{string(s.ID())}}
					_, _, _ = n.Join(t.Context(), own, append(rooms, string(s.ID())))
				case k < 7:
					_, _, _ = n.Leave(t.Context(), Target{Namespace: namespaces[rng.IntN(2)], All: true}, rooms)
				default:
					i := rng.IntN(len(mine))
					mine[i].leave(ReasonTransportClose, "", nil)
					mine = slices.Delete(mine, i, i+1)
				}
			}
			if seed%2 == 0 {
				for _, s := range mine {
					s.leave(ReasonTransportClose, "", nil)
				}
			}
		})
	}
	lives.Wait()
	want := map[string]bool{}
	for _, ns := range n.all() {
		if len(ns.sockets) > 0 {
			want[ns.name+"#"] = true
		}
		for room := range ns.rooms {
			want[ns.name+"#"+room] = true
		}
	}
	wantEqual(t, "edges out of place", remote.wrong, []string(nil))
	wantEqual(t, "on in the end", remote.on, want)
	if len(remote.edges) < 100 {
		t.Errorf("only %d edges: the test shows nothing", len(remote.edges))
	}
}

// TestOthersHearOfRoomsBeforeTheClientIsIn: and a connect that comes to nothing meanwhile leaves nothing.
func TestOthersHearOfRoomsBeforeTheClientIsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := &fakeRemote{waits: true}
		n := newNode(t, Config{Remote: remote, Namespaces: []NamespaceConfig{{"/", ConnectHandler}}})
		h := attach(t, n, Registration{DecideConnects: true})
		in, gone, left := newConn(), newConn(), newConn()
		n.Connect(in.request("/"))
		cancel := n.Connect(gone.request("/"))
		n.Connect(left.request("/"))
		for _, notice := range next(t, h) {
			h.Decide(notice.CallID, Decision{Rooms: []string{"vip"}})
		}
		wantEqual(t, "not in yet", []int{len(in.sockets), len(remote.ready), n.connects.pendings, len(h.connects), n.connects.asking.total}, []int{0, 3, 3, 0, 0})
		pass(time.Minute) // neither a handler's time nor that for one counts any more
		cancel()
		left.Close(ReasonTransportClose)
		for _, ready := range remote.ready {
			ready()
		}
		wantEqual(t, "in", in.take(), []string{"connect /"})
		wantEqual(t, "the others", []int{len(gone.sockets), len(left.sockets), n.connects.pendings, n.Info().Sockets}, []int{0, 0, 0, 1})
		wantEqual(t, "edges", remote.edges, []string{"expect / [vip]", "expect / [vip]", "expect / [vip]", "/# true", "/#vip true"})
		wantEqual(t, "told", told(t, h), []string{"connected"})
		late := newConn()
		n.Connect(late.request("/"))
		h.Decide(next(t, h)[0].CallID, Decision{})
		n.connects.close()
		remote.ready[3]()
		wantEqual(t, "a node that closes lets nobody in", []int{len(late.sockets), len(late.refusals())}, []int{0, 1})
	})
}

// TestDeliverHereWaitsForNoLink: what comes from another node for one full link finds its wider bound, and what is for
// several, or too much, is dropped at once.
func TestDeliverHereWaitsForNoLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{Remote: &fakeRemote{}})
		s, c := connect(t, n, "/", "r")
		c.full(0)
		c.wider = 3 * 14
		var batch []Emit
		for i := range 4 {
			batch = append(batch, Emit{Target: Target{Namespace: "/", Rooms: []string{"r"}, Local: true}, Packet: event("e", i)})
		}
		start := time.Now()
		for i, r := range n.DeliverHere(batch, nil) {
			want := Receipt{Matched: 1, Enqueued: 1}
			if i == 3 {
				want = Receipt{Matched: 1, DroppedSlow: 1}
			}
			wantEqual(t, fmt.Sprint("receipt ", i), r, want)
		}
		wantEqual(t, "frames", c.take(), numbered(3))
		c.wider = 100
		acks, err := n.CollectHere(batch[0])
		if err != nil || acks.Matched != 1 {
			t.Fatal(acks, err)
		}
		wantEqual(t, "asked", len(c.take()), 1)
		n.End(s, ReasonTransportClose, "")
		if list, err := acks.Next(t.Context()); err != nil || len(list) != 1 || list[0].Failure != AckDisconnected {
			t.Error(list, err)
		}
		_, c = connect(t, n, "/", "r")
		connect(t, n, "/", "r")
		c.full(0)
		c.wider = 100
		wantEqual(t, "one of two", n.DeliverHere(batch[:1], nil)[0], Receipt{Matched: 2, Enqueued: 1, DroppedSlow: 1})
		wantEqual(t, "waited", time.Since(start), time.Duration(0))
	})
}

// TestNodeIsLostBeforeAllAreCounted: one that has answered, and is lost while another one is awaited, is in the
// coverage beside those that were not counted.
func TestNodeIsLostBeforeAllAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ticket := &fakeTicket{released: make(chan struct{}), answer: Receipt{Matched: 1, Coverage: Coverage{Unreachable: []string{"slow"}}}}
		var asked *Acks
		remote := &fakeRemote{wants: func(b Batch) Ticket {
			asked = b.Acks
			asked.Asked("lost")
			asked.Asked("slow")
			return ticket
		}}
		n := newNode(t, Config{Remote: remote})
		connect(t, n, "/")
		got := make(chan *Acks)
		go func() {
			acks, _ := n.CollectAcks(t.Context(), Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e")}, 0)
			got <- acks
		}()
		synctest.Wait()
		asked.Named("lost", []SocketID{"gone"}, 1)
		asked.Unreachable("lost")
		close(ticket.released)
		acks := <-got
		wantEqual(t, "coverage", acks.Coverage().Unreachable, []string{"lost", "slow"})
		wantEqual(t, "of the ticket", ticket.answer.Coverage.Unreachable, []string{"slow"})
		wantEqual(t, "outcomes", len(acks.Finish()), 2)
	})
}
