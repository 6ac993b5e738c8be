package service

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// answer lets a backend take and answer what it is told, so many events a second, until the test is over. It returns
// how many events of each socket it has had, and complains of those out of order.
func answer(t *testing.T, h *Handler, perSecond int) map[*Socket]int {
	t.Helper()
	had := map[*Socket]int{}
	go func() {
		for {
			notices, err := h.Next(t.Context(), nil)
			if err != nil {
				return
			}
			for _, n := range notices {
				if n.Kind != NoticeEvent {
					continue
				}
				if want := fmt.Sprintf(`["e",%d]`, had[n.From.(*Socket)]); string(n.Packet.Payload) != want {
					t.Errorf("event %s where %s was due", n.Packet.Payload, want)
				}
				had[n.From.(*Socket)]++
				if perSecond > 0 {
					select {
					case <-time.After(time.Second / time.Duration(perSecond)):
					case <-t.Context().Done():
						return
					}
				}
				h.Reply(n.CallID, nil, nil)
			}
		}
	}()
	return had
}

// client emits numbered events whenever its link is read.
type client struct {
	s    *Socket
	c    *fakeConn
	sent int
}

func (cl *client) emit(most int) {
	for range most {
		if cl.c.paused() > 0 {
			return
		}
		cl.s.receive(event("e", cl.sent))
		cl.sent++
	}
}

func clients(t *testing.T, n *Node, many int) []*client {
	t.Helper()
	list := make([]*client, many)
	for i := range list {
		s, c := connect(t, n, "/")
		list[i] = &client{s: s, c: c}
	}
	return list
}

// TestBurstPausesAndArrivesWhole: whatever a client sends at once, and however fast its handler is, it is paused and
// not closed, and all of it arrives once and in order.
func TestBurstPausesAndArrivesWhole(t *testing.T) {
	for _, perSecond := range []int{0, 100, 3} {
		for _, slots := range []int{1, 256} {
			t.Run(fmt.Sprintf("%d a second, %d slots", perSecond, slots), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := newNode(t, Config{})
					h := attach(t, n, Registration{MaxInFlight: slots})
					cl := clients(t, n, 1)[0]
					cl.emit(3000) // more than a share: it stops by itself
					if perSecond == 0 && slots == 256 {
						wantEqual(t, "paused after", cl.sent, 256+64)
					}
					had := answer(t, h, perSecond)
					for cl.sent < 500 {
						pass(10 * time.Millisecond)
						cl.emit(500 - cl.sent)
					}
					pass(10 * time.Minute)
					wantEqual(t, "arrived", had[cl.s], 500)
					wantEqual(t, "then", []any{cl.c.end(), cl.c.paused(), int(cl.s.share.events), int(cl.s.share.bytes)}, []any{ReasonNone, 0, 0, 0})
				})
			})
		}
	}
}

// TestFloodsAndQuietClients: 24 clients flood a backend of 50 events a second beside 50 quiet ones with two small
// events a second each. Nobody is closed, and each one is served in turn.
func TestFloodsAndQuietClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{})
		all := clients(t, n, 74)
		had := answer(t, h, 50)
		for range 240 { // two minutes
			for i, cl := range all {
				if i < 24 {
					cl.emit(1000)
				} else {
					cl.emit(2)
				}
			}
			pass(time.Second / 2)
		}
		least, most := 1<<30, 0
		for _, cl := range all {
			if cl.c.end() != ReasonNone {
				t.Fatalf("closed: %v", cl.c.end())
			}
			least, most = min(least, had[cl.s]), max(most, had[cl.s])
		}
		// What flooded before the quiet ones began has a head start of its slots.
		if least < 60 || most > 2*least+defaultInFlight {
			t.Errorf("served between %d and %d each", least, most)
		}
	})
}

// TestHandlerThatTakesNothingLosesItsClients: when no other handler is there, after its patience and no earlier.
func TestHandlerThatTakesNothingLosesItsClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{HandlerPatience: 20 * time.Second})
		h := attach(t, n, Registration{MaxInFlight: 1})
		both := clients(t, n, 2)
		flood, quiet := both[0], both[1]
		quiet.emit(1)
		flood.emit(1000)
		pass(19 * time.Second)
		wantEqual(t, "not yet", flood.c.end(), ReasonNone)
		got := next(t, h)
		h.Reply(got[len(got)-1].CallID, nil, nil) // one goes on: the clock starts anew
		pass(19 * time.Second)
		wantEqual(t, "it was taken from", flood.c.end(), ReasonNone)
		pass(2 * time.Second)
		wantEqual(t, "closed", []Reason{flood.c.end(), quiet.c.end()}, []Reason{ReasonHandlerSlow, ReasonNone})
		wantEqual(t, "counted", n.Info().Dropped["handler_slow"], int64(1))
		h.Detach()
		pass(11 * time.Second) // what waited is parked for a while
		wantEqual(t, "read again", []int{flood.c.paused(), quiet.c.paused()}, []int{0, 0})
	})
}

// TestStalledHandlerIsGivenUpBeforeItsClients: where another one of its group makes progress.
func TestStalledHandlerIsGivenUpBeforeItsClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		stopped := attach(t, n, Registration{MaxInFlight: 4})
		flood := clients(t, n, 1)[0]
		flood.emit(2)
		next(t, stopped) // and answers nothing
		well := attach(t, n, Registration{})
		flood.emit(1000)
		pass(29 * time.Second)
		wantEqual(t, "not yet", stopped.hasEnded(), false)
		pass(2 * time.Second)
		if _, err := stopped.Next(t.Context(), nil); !errors.Is(err, ErrTooSlow) {
			t.Errorf("ended with %v", err)
		}
		var got []string
		for {
			list := told(t, well)
			if got = append(got, list...); len(list) == 0 {
				break
			}
			well.Handled(1 << 62)
		}
		wantEqual(t, "what it had not seen moves, in order", []string{got[0], got[1], got[len(got)-1]},
			[]string{"assigned 1", `event ["e",2]`, fmt.Sprintf(`event ["e",%d]`, flood.sent-1)})
		wantEqual(t, "whole", []any{len(got), flood.c.end(), flood.c.paused()}, []any{1 + flood.sent - 2, ReasonNone, 0})
	})
}

// TestNewSocketsGoWhereProgressIsMade: a handler that is stopped has the fewest sockets, and gets none.
func TestNewSocketsGoWhereProgressIsMade(t *testing.T) {
	for name, stall := range map[string]func(t *testing.T, n *Node, h *Handler){
		"unanswered": func(t *testing.T, _ *Node, h *Handler) { next(t, h) },
		"untaken":    func(*testing.T, *Node, *Handler) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, Config{})
				stopped := attach(t, n, Registration{})
				cl := clients(t, n, 1)[0]
				cl.emit(1)
				stall(t, n, stopped)
				well := attach(t, n, Registration{})
				answer(t, well, 0)
				pass(6 * time.Second)
				clients(t, n, 100)
				wantEqual(t, "sockets of the stopped one", stopped.sockets.Load(), int64(1))
				well.Detach()
				clients(t, n, 5)
				wantEqual(t, "when all stall", stopped.sockets.Load(), int64(1+100+5))
			})
		})
	}
}

// TestSharedBoundsPauseWhoHoldsMost: at a handler's total, and at the node's, links are paused that hold their part of
// it; nobody is refused or closed, and what waits stays below twice the bound.
func TestSharedBoundsPauseWhoHoldsMost(t *testing.T) {
	for name, cfg := range map[string]Config{
		"events": {MaxHandlerQueue: 200},
		"bytes":  {MaxHandlerQueueBytes: 2000},
		"budget": {Budget: NewBudget(accountStep)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg.MaxQueuedEvents = 1 << 20 // a share of its own stops nobody here
				n := newNode(t, cfg)
				h := attach(t, n, Registration{MaxInFlight: 1})
				all := clients(t, n, 40)
				for i := range 1000 {
					all[i%4].emit(1) // four that flood
				}
				for range 100 {
					for _, cl := range all[4:] {
						cl.emit(1)
					}
				}
				if events, bytes := h.waiting, h.waitSize; name != "bytes" && events > 2*200+40 || name == "bytes" && bytes > 2*2000+40*10 {
					t.Errorf("%d events, %d bytes wait", events, bytes) // 64 KiB are 168 such events
				}
				had := answer(t, h, 0)
				pass(time.Minute)
				for i, cl := range all {
					if cl.c.end() != ReasonNone || cl.c.paused() != 0 || had[cl.s] != cl.sent || cl.sent == 0 {
						t.Errorf("client %d: closed %q, paused %d, %d of %d", i, cl.c.end(), cl.c.paused(), had[cl.s], cl.sent)
					}
				}
				wantEqual(t, "budget", n.cfg.Budget.Used(), int64(0))
			})
		})
	}
}

// TestCopiesAreDroppedAndCounted: of an observer that takes nothing, and of one that has ended. It pauses nobody.
func TestCopiesAreDroppedAndCounted(t *testing.T) {
	n := newNode(t, Config{MaxHandlerQueue: 10})
	h := attach(t, n, Registration{Group: "o", Observer: true, MaxInFlight: 1})
	own := attach(t, n, Registration{Group: "own", MaxInFlight: 1000})
	cl := clients(t, n, 1)[0]
	cl.emit(100)
	wantEqual(t, "paused", cl.c.paused(), 0)
	wantEqual(t, "dropped", n.Info().Dropped["observer_slow"], int64(89))
	h.end(ErrTooSlow)
	cl.emit(100)
	wantEqual(t, "of one that has ended", n.Info().Dropped["observer_slow"], int64(189))
	wantEqual(t, "the owner's", len(told(t, own)), 201)
}

// TestWaitingEventsOfASocketThatLeft keep their link paused until they are taken: to come back is no way round.
func TestWaitingEventsOfASocketThatLeft(t *testing.T) {
	n := newNode(t, Config{MaxQueuedEvents: 4})
	h := attach(t, n, Registration{MaxInFlight: 1})
	cl := clients(t, n, 1)[0]
	cl.emit(100)
	cl.s.leave(ReasonClientDisconnect, "", nil)
	wantEqual(t, "paused", cl.c.paused(), 1)
	var got []string
	for range 10 {
		got = append(got, told(t, h)...)
		h.Handled(1000)
	}
	wantEqual(t, "told", got[len(got)-1], "disconnected client namespace disconnect")
	wantEqual(t, "events", len(got), 2+cl.sent)
	wantEqual(t, "read", cl.c.paused(), 0)
}

// TestBrowserEndsNoBackend: one that comes and goes without end while a handler is stopped leaves it attached and
// small.
func TestBrowserEndsNoBackend(t *testing.T) {
	for name, way := range map[string]ConnectMode{"open": ConnectOpen, "asked": ConnectHandler} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "/", Connect: way}}})
			h := attach(t, n, Registration{DecideConnects: way == ConnectHandler})
			o := attach(t, n, Registration{Group: "o", Observer: true})
			c := newConn()
			for range 50_000 {
				c.sockets = c.sockets[:0]
				cancel := n.Connect(c.request("/"))
				cancel()
				if len(c.sockets) > 0 {
					c.sockets[0].leave(ReasonClientDisconnect, "", nil)
				}
				c.take()
			}
			for _, h := range []*Handler{h, o} {
				wantEqual(t, "ended", h.hasEnded(), false)
				if h.out.len() > 64 || cap(h.out.items) > 1024 || len(h.news) > 0 || h.notices.held != 0 {
					t.Errorf("kept: %d notices, room for %d, %d news, %d bytes", h.out.len(), cap(h.out.items), len(h.news), h.notices.held)
				}
				wantEqual(t, "told", told(t, h), []string(nil))
			}
		})
	}
}

// TestNoticesAreBoundedInBytes: a handler that takes nothing gets no more sockets, is never ended for them, and is
// given what it was spared once it takes.
func TestNoticesAreBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{MaxNoticeBytes: 20_000, DepartureBytes: -1})
		h := attach(t, n, Registration{})
		all := clients(t, n, 100)
		if got := h.sockets.Load(); got < 10 || got > 50 || h.notices.held > 21_000 {
			t.Fatalf("%d sockets, %d bytes", got, h.notices.held)
		}
		for _, cl := range all[:60] {
			cl.s.leave(ReasonTransportClose, "", nil)
		}
		wantEqual(t, "nobody ends it", h.hasEnded(), false)
		known := map[SocketID]bool{}
		for {
			notices := noticesOf(t, h)
			if notices == nil {
				break
			}
			for _, n := range notices {
				for _, s := range n.Sockets {
					if n.Kind == NoticeDisconnected {
						delete(known, s.ID)
					} else {
						known[s.ID] = true
					}
				}
			}
		}
		var want []SocketID
		for _, cl := range all[60:] {
			want = append(want, cl.s.ID())
		}
		for _, id := range want {
			if !known[id] {
				t.Errorf("%s was not told", id)
			}
		}
		wantEqual(t, "all of them", len(known), len(want))
		wantEqual(t, "nothing is kept", []int{h.notices.held, int(n.cfg.Budget.Used())}, []int{0, 0})
	})
}

// TestFullHandlerIsAskedNothing: connects wait for it as while no handler is there.
func TestFullHandlerIsAskedNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{MaxNoticeBytes: 10_000, Namespaces: []NamespaceConfig{{Pattern: "/", Connect: ConnectHandler}}})
		h := attach(t, n, Registration{DecideConnects: true})
		var conns []*fakeConn
		for range 100 {
			c := newConn()
			conns = append(conns, c)
			n.Connect(c.request("/"))
		}
		asked := len(h.connects)
		if asked == 0 || asked > 50 || n.connects.waiting.Len() != 100-asked {
			t.Fatalf("%d asked, %d wait", asked, n.connects.waiting.Len())
		}
		for range 100 {
			for _, n := range noticesOf(t, h) {
				if n.Kind == NoticeConnect {
					h.Decide(n.CallID, Decision{})
				}
			}
		}
		in := slices.DeleteFunc(conns, func(c *fakeConn) bool { return len(c.sockets) == 0 })
		wantEqual(t, "let in", len(in), 100)
	})
}

// TestServerSideEventsAreBoundedInBytes: what a handler's own callers cause may end it.
func TestServerSideEventsAreBoundedInBytes(t *testing.T) {
	n := newNode(t, Config{})
	h := attach(t, n, Registration{ServerSideEvents: true})
	big := event("e", string(make([]byte, 100_000)))
	sent := 0
	for !h.hasEnded() {
		if _, err := n.ServerSideEmit(t.Context(), ServerSideEmit{Namespace: "/", Packet: big}); err != nil {
			t.Fatal(err)
		}
		sent += big.Size()
	}
	if sent > n.cfg.MaxNoticeBytes+2*big.Size() {
		t.Errorf("%d bytes were kept", sent)
	}
	h.Detach()
	wantEqual(t, "counted", n.Info().Dropped["handler_too_slow"], int64(1))
	wantEqual(t, "given back", n.cfg.Budget.Used(), int64(0))
}

// TestFewEventsWaitForAHandlerThatNobodyExpects: long after the node's start, with no handler of the namespace ever
// seen, events wait within their socket's share and pause nobody; what is more is dropped and counted.
func TestFewEventsWaitForAHandlerThatNobodyExpects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{MaxQueuedEvents: 4})
		s, c := connect(t, n, "/")
		pass(time.Minute)
		for range 10 {
			s.emits("early")
		}
		wantEqual(t, "paused", c.paused(), 0)
		wantEqual(t, "counted", n.Info().Dropped["handler_absent"], int64(7))
		h := attach(t, n, Registration{})
		waited := 0
		for _, notice := range noticesOf(t, h) {
			if notice.Kind == NoticeEvent {
				waited++
			}
		}
		wantEqual(t, "waited", waited, 3)
	})
}

// TestPatienceEndsWithItsSocket: a socket that has left is not waited for any more, though its events wait at a handler
// that is stuck: its link is read on and not closed, and nothing is counted.
func TestPatienceEndsWithItsSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{MaxQueuedEvents: 4})
		h := attach(t, n, Registration{MaxInFlight: 1})
		s, c := connect(t, n, "/")
		s.emits("1", "2", "3", "4", "5")
		wantEqual(t, "paused", c.paused(), 1)
		s.leave(ReasonServerDisconnect, "", nil)
		pass(2 * time.Minute)
		wantEqual(t, "paused", c.paused(), 0)
		wantEqual(t, "closed", c.end(), ReasonNone)
		wantEqual(t, "counted", n.Info().Dropped["handler_slow"], int64(0))
		got := told(t, h)
		for range 5 {
			h.Handled(1000)
			got = append(got, told(t, h)...)
		}
		wantEqual(t, "told all the same", got[len(got)-1], "disconnected server namespace disconnect")
		wantEqual(t, "read on once", c.paused(), 0)
	})
}
