package service

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestEndedHandlerLetsNobodyIn: a decision of a handler that has ended, and is not detached yet, counts for nothing: a
// socket that it let in would have no handler, though another one is there.
func TestEndedHandlerLetsNobodyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "/", Connect: ConnectHandler}}})
		h1 := attach(t, n, Registration{DecideConnects: true})
		c := newConn()
		n.Connect(c.request("/"))
		call := next(t, h1)[0].CallID
		h2 := attach(t, n, Registration{DecideConnects: true})
		h1.end(ErrTooSlow)
		h1.Decide(call, Decision{})
		wantEqual(t, "let in", len(c.sockets), 0)
		h2.Decide(next(t, h2)[0].CallID, Decision{})
		wantEqual(t, "let in by another", len(c.sockets), 1)
		c.sockets[0].emits("e")
		wantEqual(t, "which has it", told(t, h2), []string{"connected", `event ["e"]`})
	})
}

// TestSocketMovesWhenItsLastEventIsAnswered: however its handler goes, whether the next one is there or is to come, and
// however it comes to an end with the one before.
func TestSocketMovesWhenItsLastEventIsAnswered(t *testing.T) {
	for _, way := range []string{"drained", "replaced", "drained with nobody else"} {
		for _, end := range []string{"replied", "handled", "detached", "late"} {
			t.Run(way+", "+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n := newNode(t, Config{HandlerWait: time.Minute})
					h1 := attach(t, n, Registration{ID: "one", MaxInFlight: 2})
					all := clients(t, n, 2)
					s, other := all[0].s, all[1].s
					told(t, h1)
					s.emits("1", "2")
					flying := next(t, h1)
					s.emits("3")
					other.emits("a")
					var h2 *Handler
					switch way {
					case "drained":
						h2 = attach(t, n, Registration{})
						h1.Drain()
					case "replaced":
						h2 = attach(t, n, Registration{ID: "one"})
					default:
						h1.Drain()
						s.emits("4")
						h2 = attach(t, n, Registration{})
					}
					if way != "drained with nobody else" {
						s.emits("4")
					}
					s.leave(ReasonTransportClose, "", nil)
					got := told(t, h2)
					wantEqual(t, "meanwhile", []string{got[0], got[len(got)-1]}, []string{"assigned 2", `event ["a"]`})
					wantEqual(t, "nothing of the one in flight", len(got), 2)
					switch end {
					case "replied":
						h1.Reply(flying[0].CallID, nil, nil)
						wantEqual(t, "one of two", told(t, h2), []string(nil))
						h1.Reply(flying[1].CallID, nil, nil)
					case "handled":
						h1.Handled(flying[1].CallID)
					case "detached":
						h1.Detach()
					default:
						pass(handlerDrainTime - time.Second)
						wantEqual(t, "not yet", told(t, h2), []string(nil))
						pass(2 * time.Second)
					}
					wantEqual(t, "then", told(t, h2), []string{`event ["3"]`, `event ["4"]`, "disconnected transport close"})
					wantEqual(t, "nothing is kept", []int{len(h2.backlogs)}, []int{0})
				})
			})
		}
	}
}

// TestGroupRegistersAlike: a handler that differs is refused, and told in what. When it is alone in its group, a
// handler may come back with another registration.
func TestGroupRegistersAlike(t *testing.T) {
	base := Registration{ID: "one", Group: "g", Namespaces: []string{"/a", "/b*"}, Events: []string{"x", "y"}, DecideConnects: true}
	for field, change := range map[string]func(*Registration){
		"namespaces":      func(r *Registration) { r.Namespaces = []string{"/a"} },
		"events":          func(r *Registration) { r.Events = []string{"x", "z"} },
		"decide_connects": func(r *Registration) { r.DecideConnects = false },
		"observer":        func(r *Registration) { r.Observer = true },
		"":                func(r *Registration) { r.MaxInFlight, r.ServerSideEvents, r.Local = 7, true, true },
	} {
		t.Run("differs in "+field, func(t *testing.T) {
			n := newNode(t, Config{})
			attach(t, n, base)
			second := base
			second.ID, second.Namespaces, second.Events = "two", []string{"/b*", "/a", "/a"}, []string{"y", "x"}
			attach(t, n, second) // in another order is the same
			for _, id := range []string{"three", "two"} {
				r := base
				r.ID = id
				change(&r)
				h, _, err := n.Attach(t.Context(), r)
				var e *Error
				switch {
				case field == "" && err == nil:
					h.Detach()
				case field == "", !errors.As(err, &e):
					t.Errorf("error %v", err)
				default:
					wantEqual(t, "refused", []any{e.Code, e.Field}, []any{Precondition, "register." + field})
				}
			}
		})
		t.Run("alone differs in "+field, func(t *testing.T) {
			n := newNode(t, Config{})
			old := attach(t, n, base)
			r := base
			change(&r)
			if field == "observer" {
				if _, _, err := n.Attach(t.Context(), r); err == nil {
					t.Error("an observer replaces an owner")
				}
				return
			}
			attach(t, n, r)
			wantEqual(t, "the one before drains", told(t, old), []string{"draining"})
		})
	}
}

// TestReplacedRegistrationCounts: what the one before had registered for is nobody's.
func TestReplacedRegistrationCounts(t *testing.T) {
	n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "/a"}, {Pattern: "/b"}}})
	old := attach(t, n, Registration{ID: "one", Namespaces: []string{"/a"}})
	a, _ := connect(t, n, "/a")
	b, _ := connect(t, n, "/b")
	told(t, old)
	h := attach(t, n, Registration{ID: "one", Namespaces: []string{"/b"}})
	a.emits("a")
	b.emits("b")
	wantEqual(t, "told", told(t, h), []string{"assigned 1", `event ["b"]`})
	other := attach(t, n, Registration{Group: "other", Namespaces: []string{"/a"}})
	wantEqual(t, "free for others", told(t, other), []string{"assigned 1", `event ["a"]`})
}

// TestClaimsAreComparedBySets: what two groups register costs what they name, and not the product of it, which would
// take hours here.
func TestClaimsAreComparedBySets(t *testing.T) {
	n := newNode(t, Config{})
	names := func(prefix string, many int) []string {
		list := make([]string, many)
		for i := range list {
			list[i] = fmt.Sprint(prefix, i)
		}
		return list
	}
	var patterns []string
	for _, p := range names("/a", 900) {
		patterns = append(patterns, p+"/*")
	}
	patterns = append(patterns, names("/n", 2000)...)
	for i := range 5 {
		attach(t, n, Registration{Group: fmt.Sprint(i), Namespaces: patterns, Events: names(fmt.Sprint("e", i, "-"), 20_000)})
	}
	_, _, err := n.Attach(t.Context(), Registration{Group: "late", Namespaces: []string{"/a7*"}, Events: []string{"e3-19999"}})
	if !errors.Is(err, &Error{Reason: "ALREADY_CLAIMED"}) {
		t.Errorf("error %v", err)
	}
}

// TestNamesAreFoundWithoutAWalk: a connect looks at the groups of its namespace, however many others there are.
func TestNamesAreFoundWithoutAWalk(t *testing.T) {
	n := newNode(t, Config{})
	for i := range 200 {
		var names []string
		for j := range 45 {
			names = append(names, fmt.Sprintf("/g%d-%d", i, j))
		}
		attach(t, n, Registration{Group: fmt.Sprint(i), Namespaces: append(names, fmt.Sprintf("/p%d-*", i)), DecideConnects: true})
	}
	attach(t, n, Registration{})
	for name, want := range map[string]int{"/": 1, "/g7-3": 1, "/p9-x": 1, "/p9-": 1, "/p9": 0, "/none": 0} {
		visits := 0
		n.handlers.coveringLocked(name, func(*group) { visits++ })
		wantEqual(t, name, visits, want)
	}
	if len(n.handlers.byName.lengths) > 6 {
		t.Errorf("lengths of prefixes: %v", n.handlers.byName.lengths)
	}
}

// TestEventsOfNobodyTakeNoSharedLock: they are counted, and hold up no event that somebody wants.
func TestEventsOfNobodyTakeNoSharedLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{Events: []string{"wanted"}})
		s, c := connect(t, n, "/")
		told(t, h)
		pass(11 * time.Second)
		s.emits("wanted") // routes are made
		n.handlers.mu.Lock()
		s.ns.assigning.Lock()
		for range 1000 {
			s.emits("unwanted")
		}
		s.emits("wanted")
		s.ns.assigning.Unlock()
		n.handlers.mu.Unlock()
		wantEqual(t, "told", told(t, h), []string{`event ["wanted"]`, `event ["wanted"]`})
		wantEqual(t, "counted", n.Info().Dropped["handler_absent"], int64(1000))
		wantEqual(t, "paused", c.paused(), 0)
	})
}

// TestChunksKeepOrder: while handlers come and go beside thousands of sockets, locks are given back after each
// thousand, and whatever happens in between is in order: events, ends, connects, and others that come and go.
func TestChunksKeepOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{HandlerWait: time.Hour})
		rng := rand.New(rand.NewPCG(1, 2))
		view := &groupView{known: map[SocketID]bool{}, last: map[SocketID]int{}, gone: map[SocketID]bool{}}
		all := clients(t, n, 2500)
		sent, chunks, deep := 0, 0, false
		read := func(h *Handler, answered bool) {
			for _, notice := range noticesOf(t, h) {
				view.note([]Notice{notice})
				if notice.Kind == NoticeEvent && answered {
					h.Reply(notice.CallID, nil, nil)
				}
			}
		}
		var live []*Handler
		n.handlers.between = func() {
			chunks++
			if deep {
				return
			}
			deep = true
			defer func() { deep = false }()
			for range 50 {
				i := rng.IntN(len(all))
				cl := all[i]
				switch rng.IntN(10) {
				case 0:
					cl.s.leave(ReasonTransportClose, "", nil)
					all[i] = clients(t, n, 1)[0]
				default:
					cl.sent++
					cl.s.receive(event("e", cl.sent))
					sent++
				}
			}
			if len(live) > 0 && rng.IntN(2) == 0 {
				read(live[rng.IntN(len(live))], rng.IntN(2) == 0)
			}
		}
		for range 20 {
			h, _, err := n.Attach(t.Context(), Registration{Namespaces: []string{"/"}, MaxInFlight: 8})
			if err != nil {
				t.Fatal(err)
			}
			live = append(live, h)
			read(h, false)
			if len(live) > 2 {
				old := live[0]
				live = live[1:]
				old.Detach()
			}
		}
		if chunks < 60 {
			t.Errorf("locks were given back %d times", chunks)
		}
		n.handlers.between = nil
		for len(live) > 1 {
			live[0].Detach()
			live = live[1:]
		}
		live[0].Handled(1 << 62)
		for range 10_000 {
			if read(live[0], true); live[0].out.len() == 0 && live[0].ring.len() == 0 {
				break
			}
		}
		lost := int(n.Info().Dropped["handler_lost"])
		if len(view.wrong) > 0 || view.events != sent {
			t.Errorf("%d events of %d (%d lost in flight, %v), wrong: %q", view.events, sent, lost, n.Info().Dropped, view.wrong[:min(5, len(view.wrong))])
		}
		for _, cl := range all {
			if cl.c.paused() != 0 {
				t.Error("a link stays paused")
			}
		}
		live[0].Detach()
	})
}

// TestPendingConnectsKeepAShare: one address takes half of the places, and for a newcomer of another the oldest of the
// one that has most goes.
func TestPendingConnectsKeepAShare(t *testing.T) {
	for name, namespace := range map[string]string{"for a decision": "/", "for a name": "/nobody"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				most := 10
				cfg := Config{MaxPendingConnects: most, Namespaces: []NamespaceConfig{{Pattern: "/", Connect: ConnectHandler}}}
				if namespace != "/" {
					cfg.MaxPendingConnects = 10 * most
				}
				n := newNode(t, cfg)
				from := func(address string) *fakeConn {
					c := newConn()
					c.address = address
					n.Connect(c.request(namespace))
					return c
				}
				var crowd []*fakeConn
				for i := range 20 {
					crowd = append(crowd, from(fmt.Sprintf("2001:db8::%x", i))) // one network of 64 bits
				}
				wantEqual(t, "a half", n.connects.pendings, most/2)
				wantEqual(t, "the newest are refused", len(crowd[most/2].refusals()), 1)
				for range 4 {
					from("10.0.0.2")
				}
				for i := range 4 {
					c := from(fmt.Sprint("10.0.1.", i))
					wantEqual(t, "one from elsewhere waits", len(c.refusals()), 0)
				}
				wantEqual(t, "full", n.connects.pendings, most)
				wantEqual(t, "the oldest of who has most is gone", []int{len(crowd[0].refusals()), len(crowd[4].refusals())}, []int{1, 0})
				h := attach(t, n, Registration{Namespaces: []string{namespace}, DecideConnects: true})
				for _, notice := range next(t, h) {
					h.Decide(notice.CallID, Decision{})
				}
				hs := &n.connects
				wantEqual(t, "nothing is kept", []int{hs.pendings, hs.asking.total, hs.guessing.total, len(hs.asking.by), len(hs.guessing.by)}, []int{0, 0, 0, 0, 0})
			})
		})
	}
}

// TestNamespacesOfAPatternKeepAShare: one address brings half of them about.
func TestNamespacesOfAPatternKeepAShare(t *testing.T) {
	n := newNode(t, Config{MaxNamespaces: 10, Namespaces: []NamespaceConfig{{Pattern: "/t*"}}})
	in := 0
	var last *fakeConn
	for i := range 20 {
		c := newConn()
		n.Connect(c.request(fmt.Sprint("/t", i)))
		if len(c.sockets) > 0 {
			in, last = in+1, c
		}
	}
	wantEqual(t, "one address", in, 5)
	other := newConn()
	other.address = "10.9.9.9"
	n.Connect(other.request("/t-other"))
	wantEqual(t, "another", len(other.sockets), 1)
	last.sockets[0].leave(ReasonTransportClose, "", nil)
	again := newConn()
	n.Connect(again.request("/t-again"))
	wantEqual(t, "one that is freed is given back", len(again.sockets), 1)
}

// TestGroupIsKeptUntilItsSocketsAreHandedOver: a handler that comes while a slow hand-over goes on, past the time for
// which an empty group is kept, gets all events of each socket in order, whichever it comes to first.
func TestGroupIsKeptUntilItsSocketsAreHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{HandlerWait: time.Second})
		all := clients(t, n, 2)
		s, gone := all[0].s, all[1].s
		h1 := attach(t, n, Registration{})
		told(t, h1)
		gone.emits("1")
		var h2 *Handler
		n.handlers.between = func() {
			n.handlers.between = nil
			pass(3 * time.Second)
			h2 = attach(t, n, Registration{})
			s.emits("2")
		}
		// The walk is done with the live ones; what the other one left over is still to come.
		gone.leave(ReasonTransportClose, "", nil)
		h1.Detach()
		s.emits("3")
		wantEqual(t, "told", told(t, h2), []string{
			"assigned 1", `event ["2"]`, "assigned 1", `event ["1"]`, "disconnected transport close", `event ["3"]`,
		})
	})
}

// TestChunksEndByTheRoomsOfTheirSockets: what is copied of sockets that come over, while others wait for locks, is
// bounded also where each is in many rooms; and all of it comes, once, with its rooms in order.
func TestChunksEndByTheRoomsOfTheirSockets(t *testing.T) {
	const each, sockets = 100, 400
	n := newNode(t, Config{})
	crowd(t, n, sockets, func(int) []string {
		rooms := make([]string, each)
		for i := range rooms {
			rooms[i] = fmt.Sprintf("room %02d", i)
		}
		return rooms
	})
	wantAll := func(h *Handler) {
		t.Helper()
		seen := map[SocketID]bool{}
		for _, notice := range nowTold(t, h) {
			rooms := 0
			for _, s := range notice.Sockets {
				rooms += len(s.Rooms)
				if seen[s.ID] || len(s.Rooms) != each || !slices.IsSorted(s.Rooms) {
					t.Fatalf("%s comes with %q, known %v", s.ID, s.Rooms, seen[s.ID])
				}
				seen[s.ID] = true
			}
			if notice.Kind == NoticeAssigned && rooms > pageWork+each {
				t.Errorf("%d rooms come at once", rooms)
			}
		}
		wantEqual(t, "sockets", len(seen), sockets)
	}
	first := attach(t, n, Registration{})
	wantAll(first)
	heir := attach(t, n, Registration{})
	first.Drain()
	wantAll(heir)
}
