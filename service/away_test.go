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

// road is the way between a handler and its double at another node: what one is given reaches the other at once.
type road struct {
	away  *Handler
	visit *Visit

	mu   sync.Mutex
	back []func() // what the handler's node has said, in its order
	wake chan struct{}
}

func (r *road) say(f func()) {
	r.mu.Lock()
	r.back = append(r.back, f)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *road) Taken(number uint64) {
	r.say(func() { r.away.Taken(number) })
}

func (r *road) Answered(number uint64, payload []byte, attachments [][]byte) {
	payload = slices.Clone(payload)
	r.say(func() { r.away.Reply(number, payload, attachments) })
}

func (r *road) Decided(number uint64, d Decision) { r.say(func() { r.away.Decide(number, d) }) }

// abroad attaches a handler to a node that its double at another one stands for, which is returned too.
func abroad(t testing.TB, owner, other *Node, reg Registration) (h *Handler, r *road) {
	t.Helper()
	h = attach(t, other, reg)
	away, err := owner.AttachElsewhere(h.Registration(), other.id)
	if err != nil {
		t.Fatal(err)
	}
	r = &road{away: away, wake: make(chan struct{}, 1)}
	r.visit = h.Visit(owner.id, r)
	ctx, cancel := context.WithCancel(t.Context())
	var ends sync.WaitGroup
	ends.Go(func() {
		buf := make([]Notice, 0, 7)
		for {
			var err error
			if buf, err = away.Next(ctx, buf); err != nil {
				return
			}
			for _, n := range buf {
				var of SocketID
				if n.From != nil {
					of = n.From.ID()
				}
				number, copied := n.Number(), Notice{
					Namespace: n.Namespace, WantsReply: n.WantsReply,
					Kind: n.Kind, Failover: n.Failover, Reason: n.Reason, Generation: n.Generation, Packet: n.Packet, Time: n.Time,
					Sockets: n.Sockets, Detail: n.Detail, CallID: n.CallID,
				}
				r.visit.Offer(number, of, copied)
				r.visit.Offer(number, of, copied) // the second time has no effect
			}
		}
	})
	ends.Go(func() {
		for {
			select {
			case <-r.wake:
			case <-ctx.Done():
				return
			}
			r.mu.Lock()
			back := r.back
			r.back = nil
			r.mu.Unlock()
			for _, f := range back {
				f()
			}
		}
	})
	t.Cleanup(func() { cancel(); ends.Wait() })
	return h, r
}

// pair is a node that owns sockets, and another one.
func pair(t testing.TB, cfg Config) (owner, other *Node) {
	t.Helper()
	o, h := cfg, cfg
	o.NodeID, h.NodeID = "ownr", "othr"
	return newNode(t, o), newNode(t, h)
}

// soon lets all that is under way be done.
func soon(t testing.TB, h *Handler) []string {
	t.Helper()
	synctest.Wait()
	return told(t, h)
}

// TestHandlerElsewhereServesSockets: connects, events in their order, acks, ends; the slots are those of its
// registration, and what is beyond them waits at the owner, which pauses the link.
func TestHandlerElsewhereServesSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, other := pair(t, Config{MaxQueuedEvents: 4})
		h, r := abroad(t, owner, other, Registration{MaxInFlight: 2})
		s, c := connect(t, owner, "/")
		ask := event("ask", 1)
		ask.AckID = 7
		s.receive(ask)
		s.emits("2", "3", "4", "5")
		synctest.Wait()
		wantEqual(t, "at the other node at most", [2]int{h.out.len(), h.waiting}, [2]int{3, 0})
		list := next(t, h)
		wantEqual(t, "told", []any{len(list), list[1].From.ID(), list[1].From.NodeID(), list[1].Generation > 0, list[1].Packet.AckID != NoAck},
			[]any{3, s.id, owner.id, true, true})
		synctest.Wait()
		wantEqual(t, "taken", [2]int{r.away.out.len(), len(r.away.inFlight)}, [2]int{0, 2})
		wantEqual(t, "waits at the owner", r.away.waiting, 3)
		s.emits("6")
		wantEqual(t, "paused", c.paused(), 1)
		c.take()
		h.Reply(list[1].CallID, []byte(`["yes"]`), nil)
		h.Handled(list[2].CallID)
		wantEqual(t, "next two", soon(t, h), []string{`event ["3"]`, `event ["4"]`})
		wantEqual(t, "acknowledged", c.take(), []string{`ack 7 ["yes"]`})
		wantEqual(t, "reads on", c.paused(), 0)
		h.Handled(1000)
		synctest.Wait()
		s.leave(ReasonTransportClose, "", nil)
		wantEqual(t, "the rest", soon(t, h), []string{`event ["5"]`, `event ["6"]`, "disconnected transport close"})
		h.Handled(1000)
		synctest.Wait()
		wantEqual(t, "nothing is kept", []int{len(r.visit.guests), len(h.inFlight), len(r.away.inFlight), r.away.out.len(), r.away.waiting, len(r.away.news), len(h.news)}, make([]int, 7))
		wantEqual(t, "handlers of a node", [2]int{owner.Info().Handlers, other.Info().Handlers}, [2]int{0, 1})
	})
}

// TestManyEventsElsewhereKeepNothing: answers in any order, and places given back.
func TestManyEventsElsewhereKeepNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, other := pair(t, Config{})
		h, r := abroad(t, owner, other, Registration{MaxInFlight: 100})
		s, _ := connect(t, owner, "/")
		seen, sent := 0, 0
		rng := newRand(1)
		var open []uint64
		for seen < 5000 {
			for range rng.IntN(50) {
				s.emits(fmt.Sprint(sent))
				sent++
			}
			synctest.Wait()
			for _, n := range nowTold(t, h) {
				if n.Kind == NoticeEvent {
					if n.Packet.Event != fmt.Sprint(seen) {
						t.Fatalf("event %s comes at place %d", n.Packet.Event, seen)
					}
					seen++
					open = append(open, n.CallID)
				}
			}
			for len(open) > rng.IntN(60) {
				i := rng.IntN(len(open))
				h.Reply(open[i], nil, nil)
				open = slices.Delete(open, i, i+1)
			}
		}
		for _, call := range open {
			h.Reply(call, nil, nil)
		}
		for seen < sent {
			synctest.Wait()
			for _, n := range nowTold(t, h) {
				seen++
				h.Reply(n.CallID, nil, nil)
			}
		}
		synctest.Wait()
		wantEqual(t, "kept", []int{r.away.out.len(), r.away.given, r.away.gaps, len(r.away.inFlight), r.away.waiting, len(r.back)}, make([]int, 6))
		if c := cap(r.away.out.items); c > fifoKeeps {
			t.Errorf("room for %d notices", c)
		}
	})
}

// nowTold is what a handler is told now.
func nowTold(t testing.TB, h *Handler) (list []Notice) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for {
		notices, err := h.Next(ctx, nil)
		if err != nil {
			return list
		}
		list = append(list, notices...)
	}
}

// TestLostHandlerElsewhereLosesWhatItTook: and what it was given and had not taken goes to the next one, in order, with
// what waited; so when its node is lost, and when its stream ends.
func TestLostHandlerElsewhereLosesWhatItTook(t *testing.T) {
	for _, way := range []string{"lost", "gone"} {
		synctest.Test(t, func(t *testing.T) {
			owner, other := pair(t, Config{})
			h, r := abroad(t, owner, other, Registration{ID: "far", MaxInFlight: 4})
			s, c := connect(t, owner, "/")
			ask := event("ask")
			ask.AckID = 7
			s.receive(ask)
			s.emits("2")
			synctest.Wait()
			list := nowTold(t, h)
			wantEqual(t, "taken", len(list), 3)
			s.emits("3", "4", "5", "6")
			synctest.Wait()
			heir := attach(t, owner, Registration{ID: "near"})
			before := owner.drops[dropHandlerLost].Load()
			if way == "lost" {
				r.away.Detach()
				r.visit.Close(ReasonNodeLost)
				wantEqual(t, "what it hears of a node that is lost", soon(t, h), []string{"disconnected node lost"})
				wantEqual(t, "nothing of it waits", []int{h.waiting, len(h.backlogs), len(h.inFlight)}, []int{0, 0, 2})
			} else {
				h.Detach()
				r.away.Drain() // as its node says that it leaves, and then that it is gone
				r.away.Detach()
				wantEqual(t, "counted where its stream was", other.drops[dropHandlerLost].Load(), int64(0))
			}
			wantEqual(t, "the heir", soon(t, heir), []string{"assigned 1", `event ["3"]`, `event ["4"]`, `event ["5"]`, `event ["6"]`})
			wantEqual(t, "lost", owner.drops[dropHandlerLost].Load()-before, int64(2))
			h.Reply(list[1].CallID, []byte(`["late"]`), nil)
			synctest.Wait()
			wantEqual(t, "no ack", len(c.take()), 0)
		})
	}
}

// TestHandlerElsewhereDrains: what it has taken it may still answer, and the next events of those sockets wait for
// that.
func TestHandlerElsewhereDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, other := pair(t, Config{})
		h, r := abroad(t, owner, other, Registration{ID: "far", MaxInFlight: 2})
		s, c := connect(t, owner, "/")
		heir, _ := abroad(t, owner, other, Registration{ID: "next"})
		ask := event("ask")
		ask.AckID = 7
		s.receive(ask)
		synctest.Wait()
		list := nowTold(t, h)
		s.emits("2", "3")
		synctest.Wait()
		h.Drain()
		r.away.Drain()
		s.emits("4")
		wantEqual(t, "the heir at first", soon(t, heir), []string{"assigned 1"})
		c.take()
		h.Reply(list[1].CallID, []byte(`[1]`), nil)
		wantEqual(t, "the heir then", soon(t, heir), []string{`event ["2"]`, `event ["3"]`, `event ["4"]`})
		wantEqual(t, "ack", c.take(), []string{`ack 7 [1]`})
		wantEqual(t, "nothing more", soon(t, h), []string(nil))
	})
}

// TestNearHandlersComeFirst: a new socket goes to one elsewhere only when none here makes progress, and to the one with
// the fewest of this node's sockets.
func TestNearHandlersComeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, other := pair(t, Config{})
		_, far1 := abroad(t, owner, other, Registration{ID: "far 1"})
		_, far2 := abroad(t, owner, other, Registration{ID: "far 2"})
		counts := func() []int64 { return []int64{far1.away.sockets.Load(), far2.away.sockets.Load()} }
		for range 4 {
			connect(t, owner, "/")
		}
		wantEqual(t, "by number", counts(), []int64{2, 2})
		near := attach(t, owner, Registration{ID: "near"})
		for range 10 {
			connect(t, owner, "/")
		}
		wantEqual(t, "near ones first", append(counts(), near.sockets.Load()), []int64{2, 2, 10})
		near.Drain()
		wantEqual(t, "failover", counts(), []int64{7, 7})
		far1.away.Avoid(true)
		for range 3 {
			connect(t, owner, "/")
		}
		wantEqual(t, "one whose node goes is avoided", counts(), []int64{7, 10})
	})
}

// TestHandlerElsewhereDecidesConnects: it accepts with rooms, rejects, is withdrawn when the client or the time is
// gone, and when it is lost another one is asked.
func TestHandlerElsewhereDecidesConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, other := pair(t, Config{DecideWithin: 2 * time.Second})
		h, r := abroad(t, owner, other, Registration{DecideConnects: true})
		conns := make([]*fakeConn, 5)
		cancels := make([]func(), 5)
		for i := range conns {
			conns[i] = newConn()
			cancels[i] = owner.Connect(conns[i].request("/"))
		}
		synctest.Wait()
		cancels[4]() // before it was taken: the backend hears nothing of it
		synctest.Wait()
		list := nowTold(t, h)
		wantEqual(t, "asked", []any{len(list), list[0].Kind, string(list[0].Sockets[0].Auth)}, []any{4, NoticeConnect, `{"token":"t"}`})
		h.Decide(list[0].CallID, Decision{Rooms: []string{"vip"}, UserID: "u"})
		h.Decide(list[1].CallID, Decision{Reject: &Refusal{Message: "no"}})
		synctest.Wait()
		wantEqual(t, "in", []any{len(conns[0].sockets), len(conns[1].refusals())}, []any{1, 1})
		info, err := owner.Socket(t.Context(), "/", conns[0].sockets[0].id)
		wantEqual(t, "as decided", []any{info.Rooms, info.UserID, err}, []any{[]string{"vip"}, "u", nil})
		wantEqual(t, "told", soon(t, h), []string{"connected"})
		cancels[2]() // after it was taken
		pass(3 * time.Second)
		wantEqual(t, "time is over", len(conns[3].refusals()), 1)
		h.Decide(list[2].CallID, Decision{})
		h.Decide(list[3].CallID, Decision{})
		synctest.Wait()
		wantEqual(t, "late", other.drops[dropDecisionUnknown].Load(), int64(2))
		wantEqual(t, "nothing is open", []int{h.openConnects, len(h.questions), len(r.visit.asked), r.away.openConnects, len(r.away.connects), r.away.out.len()}, make([]int, 6))

		c := newConn()
		owner.Connect(c.request("/"))
		synctest.Wait()
		heir := attach(t, owner, Registration{DecideConnects: true, ID: "heir"})
		r.away.Detach()
		r.visit.Close(ReasonNodeLost)
		wantEqual(t, "the lost one is told of nothing more", soon(t, h), []string{"disconnected node lost"})
		list = nowTold(t, heir)
		h.Detach()
		heir.Decide(list[len(list)-1].CallID, Decision{})
		wantEqual(t, "another one is asked", len(c.sockets), 1)
	})
}

// TestSocketThatCameAndWentElsewhere: what cancels out before the backend has taken it is given back to the owner.
func TestSocketThatCameAndWentElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, other := pair(t, Config{})
		h, r := abroad(t, owner, other, Registration{})
		for range 100 {
			s, _ := connect(t, owner, "/")
			synctest.Wait()
			s.leave(ReasonTransportClose, "", nil)
			synctest.Wait()
		}
		wantEqual(t, "told", told(t, h), []string(nil))
		wantEqual(t, "kept", []int{r.away.out.len(), r.away.notices.held, len(r.visit.guests), h.notices.held}, make([]int, 4))
	})
}

// TestObserverElsewhereHoldsNobodyUp: copies that find no place are dropped, and their slots at the owner are free
// again.
func TestObserverElsewhereHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, other := pair(t, Config{MaxQueuedEvents: 2})
		h, r := abroad(t, owner, other, Registration{Observer: true, MaxInFlight: 2})
		s, c := connect(t, owner, "/")
		near, _ := connect(t, other, "/")
		pass(time.Minute)    // nobody waits for an owner of these events
		near.emits("a", "b") // they have its slots
		for i := range 10 {
			s.emits(fmt.Sprint(i))
			synctest.Wait()
		}
		wantEqual(t, "paused", c.paused(), 0)
		for range 20 {
			for _, n := range nowTold(t, h) {
				h.Reply(n.CallID, nil, nil)
			}
			synctest.Wait()
		}
		wantEqual(t, "kept", []int{r.away.out.len(), len(r.away.inFlight), r.away.waiting, len(h.inFlight), h.waiting}, make([]int, 5))
	})
}

// TestStalledHandlerElsewhereIsGivenUpByItsNode: at the word of the owner, and when it stalls by that node's own count.
func TestStalledHandlerElsewhereIsGivenUpByItsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := &handlersRemote{}
		owner := newNode(t, Config{NodeID: "ownr", MaxQueuedEvents: 2, Remote: remote})
		other := newNode(t, Config{NodeID: "othr"})
		h, r := abroad(t, owner, other, Registration{ID: "far", MaxInFlight: 1})
		s, c := connect(t, owner, "/")
		s.emits("1", "2", "3")
		synctest.Wait()
		attach(t, owner, Registration{ID: "near"})
		remote.took()
		pass(31 * time.Second)
		wantEqual(t, "asked for", remote.took(), []string{"stalls far"})
		wantEqual(t, "not closed", c.end(), ReasonNone)
		other.Shed(h)
		<-h.Done()
		r.away.Detach()
		synctest.Wait()
		wantEqual(t, "reads on", c.paused(), 0)

		well := attach(t, other, Registration{ID: "well"})
		other.Shed(well)
		wantEqual(t, "one that does not stall stays", well.hasEnded(), false)
	})
}

// TestServerSideEventsElsewhere: they are told and answered; one that nobody waits for any more is withdrawn, and what
// is too much is lost, and ends nobody.
func TestServerSideEventsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, other := pair(t, Config{MaxHandlerQueue: 10})
		h, r := abroad(t, owner, other, Registration{ID: "far", ServerSideEvents: true})
		e := ServerSideEmit{Namespace: "/", Packet: event("s"), WantsReplies: true, Timeout: time.Second}
		result := make(chan ServerSideResult, 1)
		emit := func() { go func() { r, _ := owner.ServerSideEmit(t.Context(), e); result <- r }() }
		emit()
		list := next(t, h)
		wantEqual(t, "told", []any{list[0].Kind, list[0].FromNode, list[0].WantsReply}, []any{NoticeServerSide, owner.id, true})
		h.Reply(list[0].CallID, []byte(`[1]`), nil)
		wantEqual(t, "reply", <-result, ServerSideResult{Matched: 1, Replies: []ServerSideReply{{Node: "othr", Handler: "far", Payload: []byte(`[1]`)}}})
		emit()
		wantEqual(t, "no reply", len((<-result).Replies), 0)
		wantEqual(t, "withdrawn", soon(t, h), []string(nil))
		emit()
		list = next(t, h)
		wantEqual(t, "no reply", len((<-result).Replies), 0)
		synctest.Wait()
		wantEqual(t, "kept", []int{len(h.serverCalls), len(r.visit.asked), len(r.away.serverCalls), r.away.out.len(), r.away.own}, make([]int, 5))
		h.Reply(list[0].CallID, []byte(`[1]`), nil)
		wantEqual(t, "late", other.drops[dropReplyUnknown].Load(), int64(1))
		e.WantsReplies = false
		for range 25 {
			_, _ = owner.ServerSideEmit(t.Context(), e)
		}
		wantEqual(t, "lost", owner.drops[dropHandlerLost].Load() > 0, true)
		wantEqual(t, "not ended", r.away.hasEnded(), false)
	})
}

// TestEndWhileNoHandlerElsewhereIsThere: what becomes of sockets while their only backend restarts at another node
// reaches the one that comes there: those that are left, and the ends of the others.
func TestEndWhileNoHandlerElsewhereIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, other := pair(t, Config{})
		h, r := abroad(t, owner, other, Registration{})
		leaves, _ := connect(t, owner, "/")
		asks, _ := connect(t, owner, "/")
		connect(t, owner, "/")
		wantEqual(t, "the first one", soon(t, h), []string{"connected", "connected", "connected"})
		synctest.Wait() // the owner hears so
		h.Detach()
		r.away.Drain()
		r.away.Detach()
		leaves.leave(ReasonTransportClose, "", nil)
		asks.emits("1")
		asks.leave(ReasonPingTimeout, "", nil)
		h, r = abroad(t, owner, other, Registration{})
		got := soon(t, h)
		slices.Sort(got) // those that have left come in any order
		wantEqual(t, "the next one", got, []string{"assigned 1", "assigned 1", "assigned 1", "disconnected ping timeout", "disconnected transport close", `event ["1"]`})
		h.Handled(1000)
		synctest.Wait()
		wantEqual(t, "kept", []int{len(r.visit.guests), int(h.guests.Load()), r.away.out.len(), r.away.notices.held, len(owner.handlers.parking.sockets)}, []int{1, 1, 0, 0, 0})
	})
}

// TestLostNodeWithEndsThatWait: a backend hears of the end of each socket that it was told of, when their node is lost
// or says goodbye before the news of an end was taken; what else it had not taken is counted.
func TestLostNodeWithEndsThatWait(t *testing.T) {
	for _, reason := range []Reason{ReasonNodeLost, ReasonShutdown} {
		for _, c := range []struct {
			name  string
			slots int
			lost  int64 // events that were at the other node
		}{{"in out", 10, 2}, {"in backlogs", 1, 1}} {
			t.Run(c.name+", "+reason.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					owner, other := pair(t, Config{})
					h, r := abroad(t, owner, other, Registration{MaxInFlight: c.slots})
					near, _ := connect(t, other, "/")
					ends, _ := connect(t, owner, "/")
					connect(t, owner, "/")
					wantEqual(t, "told", soon(t, h), []string{"connected", "connected", "connected"})
					near.emits("near") // it has a slot
					ends.emits("far")
					ends.leave(ReasonTransportClose, "", nil)
					untold, _ := connect(t, owner, "/")
					untold.emits("of one that nobody has heard of")
					untold.leave(ReasonTransportClose, "", nil)
					synctest.Wait()
					r.visit.Close(reason)
					wantEqual(t, "told then", soon(t, h), []string{`event ["near"]`, "disconnected transport close", "disconnected " + reason.String()})
					wantEqual(t, "lost", other.drops[dropHandlerLost].Load(), c.lost)
					wantEqual(t, "kept", []int{h.waiting, h.waitSize, len(h.backlogs), len(h.inFlight) - 1, h.notices.held, int(h.guests.Load())}, make([]int, 6))
				})
			})
		}
	}
}
