package service

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (s *Socket) emits(names ...string) {
	for _, name := range names {
		s.receive(event(name))
	}
}

// next is what a handler is told next; it must be there already.
func next(t testing.TB, h *Handler) []Notice {
	t.Helper()
	synctest.Wait()
	h.mu.Lock()
	n := h.out.len()
	h.mu.Unlock()
	if n == 0 {
		t.Fatal("the handler is told nothing")
	}
	list, err := h.Next(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestEachEventHasOneOwner(t *testing.T) {
	n := newNode(t, Config{})
	rest := attach(t, n, Registration{Group: "rest"})
	named := attach(t, n, Registration{Group: "named", Events: []string{"a", "b"}})
	watcher := attach(t, n, Registration{Group: "watcher", Observer: true})
	s, _ := connect(t, n, "/")
	s.emits("a", "b", "c")
	wantEqual(t, "catch-all", told(t, rest), []string{"connected", `event ["c"]`})
	wantEqual(t, "named", told(t, named), []string{"connected", `event ["a"]`, `event ["b"]`})
	wantEqual(t, "observer", told(t, watcher), []string{"connected", `event ["a"]`, `event ["b"]`, `event ["c"]`})
	s.leave(ReasonPingTimeout, "", nil)
	for _, h := range []*Handler{rest, named, watcher} {
		wantEqual(t, "every group hears of the end", told(t, h), []string{"disconnected ping timeout"})
	}
}

func TestSecondClaimIsRefused(t *testing.T) {
	n := newNode(t, Config{})
	attach(t, n, Registration{Group: "a", Namespaces: []string{"/x*"}, Events: []string{"e"}, DecideConnects: true})
	for _, tc := range []struct {
		name string
		r    Registration
		ok   bool
	}{
		{"the same event", Registration{Group: "b", Namespaces: []string{"/xy"}, Events: []string{"f", "e"}}, false},
		{"connects", Registration{Group: "b", Namespaces: []string{"x*"}, Events: []string{"f"}, DecideConnects: true}, false},
		{"a wider prefix", Registration{Group: "b", Namespaces: []string{"/*"}, Events: []string{"e"}}, false},
		{"another event", Registration{Group: "b", Namespaces: []string{"/x"}, Events: []string{"g"}}, true},
		{"another namespace", Registration{Group: "c", Namespaces: []string{"/y"}, Events: []string{"e"}}, true},
		{"catch-all beside names", Registration{Group: "d", Namespaces: []string{"/x"}}, true},
		{"a second catch-all", Registration{Group: "e", Namespaces: []string{"/x"}}, false},
		{"the same group", Registration{Group: "a", Namespaces: []string{"/x*"}, Events: []string{"e"}, DecideConnects: true}, true},
		{"an observer", Registration{Group: "o", Namespaces: []string{"/x"}, Observer: true}, true},
		{"an observer's group, not observing", Registration{Group: "o", Namespaces: []string{"/z"}, Events: []string{"q"}}, false},
	} {
		whole := t // what one row attaches, the next ones meet
		t.Run(tc.name, func(t *testing.T) {
			h, _, err := n.Attach(t.Context(), tc.r)
			if (err == nil) != tc.ok {
				t.Fatalf("error %v", err)
			}
			if err != nil && !errors.Is(err, &Error{Reason: "ALREADY_CLAIMED"}) {
				t.Errorf("error %v", err)
			}
			if h != nil {
				whole.Cleanup(h.Detach)
			}
		})
	}
}

func TestSlotsAndReplies(t *testing.T) {
	n := newNode(t, Config{})
	h := attach(t, n, Registration{MaxInFlight: 2})
	s, c := connect(t, n, "/")
	told(t, h)
	for i := range 5 {
		p := event("e", i)
		if i == 0 {
			p.AckID = 7
		}
		s.receive(p)
	}
	s.leave(ReasonTransportClose, "", nil)
	first, _ := h.Next(t.Context(), nil)
	wantEqual(t, "two slots", len(first), 2)
	wantEqual(t, "ascending", []uint64{first[0].CallID, first[1].CallID}, []uint64{1, 2})
	h.Handled(first[1].CallID) // not the first: it wants an ack
	wantEqual(t, "one freed", told(t, h), []string{`event ["e",2]`})
	h.Reply(first[0].CallID, []byte(`["ok"]`), nil)
	wantEqual(t, "not acked, as the client may be back as another socket", len(c.take()), 0)
	wantEqual(t, "another freed", told(t, h), []string{`event ["e",3]`})
	h.Handled(100)
	wantEqual(t, "the end comes after all events", told(t, h), []string{`event ["e",4]`, "disconnected transport close"})
	h.Reply(99, nil, nil)
	h.Reply(first[0].CallID, []byte(`["twice"]`), nil)
	wantEqual(t, "ignored", n.Info().Dropped["reply_unknown"], int64(2))
	wantEqual(t, "nothing more is sent", len(c.take()), 0)
}

// TestRepliesOneByOneRetainNothing: a handler that never says Handled, and leaves one event open for ever.
func TestRepliesOneByOneRetainNothing(t *testing.T) {
	n := newNode(t, Config{})
	h := attach(t, n, Registration{})
	s, _ := connect(t, n, "/")
	s.emits("open for ever")
	told(t, h)
	for range 10_000 {
		s.emits("e")
		notices, err := h.Next(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		h.Reply(notices[0].CallID, nil, nil)
	}
	if len(h.inFlight) != 1 || cap(h.withoutAck) > 1000 || cap(h.out.items) > 100 {
		t.Errorf("retained: %d in flight, %d ids, %d notices", len(h.inFlight), cap(h.withoutAck), cap(h.out.items))
	}
}

func TestConnectIsDecidedByTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "/", Connect: ConnectHandler}}})
		h := attach(t, n, Registration{DecideConnects: true})
		in, out, retry := newConn(), newConn(), newConn()
		for _, c := range []*fakeConn{in, out, retry} {
			n.Connect(c.request("/"))
		}
		asked := next(t, h)
		wantEqual(t, "asked", len(asked), 3)
		wantEqual(t, "auth", string(asked[0].Sockets[0].Auth), `{"token":"t"}`)
		if _, err := n.Socket(t.Context(), "/", asked[0].Sockets[0].ID); err == nil {
			t.Error("addressable before it is accepted")
		}
		h.Decide(asked[0].CallID, Decision{Rooms: []string{"vip"}, UserID: "ann", Data: []byte(`{"a":1}`)})
		h.Decide(asked[1].CallID, Decision{Reject: &Refusal{Message: "no", Data: []byte(`{"c":1}`)}})
		h.Decide(asked[2].CallID, Decision{Reject: &Refusal{CloseLink: true}})
		h.Decide(asked[2].CallID, Decision{})
		wantEqual(t, "sent", in.take(), []string{"connect /"})
		wantEqual(t, "refused", out.refusals(), []Refusal{{Message: "no", Data: []byte(`{"c":1}`)}})
		wantEqual(t, "closed", retry.refusals(), []Refusal{{CloseLink: true}})
		info, _ := n.Socket(t.Context(), "/", in.sockets[0].ID())
		wantEqual(t, "accepted with", []any{info.Rooms, info.UserID, string(info.Data), info.Auth}, []any{[]string{"vip"}, "ann", `{"a":1}`, []byte(nil)})
		wantEqual(t, "told", told(t, h), []string{"connected"})
		wantEqual(t, "too late", n.Info().Dropped["decision_unknown"], int64(1))

		c := newConn()
		n.Connect(c.request("/"))
		pass(6 * time.Second)
		wantEqual(t, "undecided", []bool{len(c.refusals()) == 1, c.refusals()[0].CloseLink, c.refusals()[0].UnlessShared}, []bool{true, true, true})
		if len(h.connects) != 0 || n.connects.pendings != 0 {
			t.Error("a connect is retained")
		}
	})
}

func TestConnectWaitsForAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "/", Connect: ConnectHandler}}})
		early, late, gone := newConn(), newConn(), newConn()
		n.Connect(early.request("/"))
		pass(9 * time.Second)
		n.Connect(late.request("/"))
		cancel := n.Connect(gone.request("/"))
		cancel()
		cancel()
		pass(2 * time.Second)
		wantEqual(t, "never open", len(early.sockets), 0)
		wantEqual(t, "closed without a packet", early.refusals(), []Refusal{unavailable(10 * time.Second)})
		h := attach(t, n, Registration{DecideConnects: true})
		asked := next(t, h)
		wantEqual(t, "asked for the one that waits", len(asked), 1)
		h.Detach()
		wantEqual(t, "waits again", n.connects.waiting.Len(), 1)
		h2 := attach(t, n, Registration{DecideConnects: true})
		h2.Decide(next(t, h2)[0].CallID, Decision{})
		wantEqual(t, "let in", late.take(), []string{"connect /"})
		wantEqual(t, "cancelled", len(gone.refusals())+len(gone.sockets), 0)
	})
}

// TestUnknownNamespaceIsHeldWhileItsHandlerMayCome: after the node's start, and after a handler has left; never else.
func TestUnknownNamespaceIsHeldWhileItsHandlerMayCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "tenant-*"}}})
		ask := func(name string) *fakeConn {
			c := newConn()
			n.Connect(c.request(name))
			return c
		}
		connect(t, n, "/tenant-7")
		first := ask("/nope")
		pass(9 * time.Second)
		wantEqual(t, "held", len(first.refusals()), 0)
		late := ask("/late")
		pass(2 * time.Second)
		for name, c := range map[string]*fakeConn{"refused": first, "held no longer than the start counts": late, "at once": ask("/nope")} {
			wantEqual(t, name, c.refusals(), []Refusal{{Message: "Invalid namespace", NoNamespace: true}})
		}
		h := attach(t, n, Registration{Namespaces: []string{"/nope"}})
		wantEqual(t, "known by a handler", ask("/nope").take(), []string{"connect /nope"})
		pass(time.Hour)
		wantEqual(t, "handlers are there", ask("/other").refusals(), []Refusal{{Message: "Invalid namespace", NoNamespace: true}})
		h.Detach()
		held := ask("/other")
		pass(9 * time.Second)
		wantEqual(t, "one has left", len(held.refusals()), 0)
		attach(t, n, Registration{Namespaces: []string{"/other"}})
		wantEqual(t, "and is back with more", held.take(), []string{"connect /other"})
		pass(2 * time.Second)
		wantEqual(t, "it is over", ask("/third").refusals(), []Refusal{{Message: "Invalid namespace", NoNamespace: true}})
	})
}

// TestDecidedNamespaceNeverFailsOpen: once a handler decides, its absence keeps everybody out.
func TestDecidedNamespaceNeverFailsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		connect(t, n, "/")
		h := attach(t, n, Registration{DecideConnects: true})
		h.Detach()
		c := newConn()
		n.Connect(c.request("/"))
		pass(time.Minute)
		wantEqual(t, "let in", len(c.sockets), 0)
		wantEqual(t, "refused", len(c.refusals()), 1)
	})
}

func TestEventsWaitForAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{MaxQueuedEvents: 2})
		s, c := connect(t, n, "/")
		s.emits("old")
		pass(9 * time.Second)
		wantEqual(t, "read", c.paused(), 0)
		s.emits("1")
		wantEqual(t, "paused", c.paused(), 1)
		s.emits("in hand")
		pass(2 * time.Second)
		wantEqual(t, "still", c.paused(), 1)
		h := attach(t, n, Registration{})
		wantEqual(t, "what waited not too long", told(t, h), []string{"assigned 1", `event ["1"]`, `event ["in hand"]`})
		wantEqual(t, "read again", c.paused(), 0)
		s.emits("4")
		wantEqual(t, "then as ever", told(t, h), []string{`event ["4"]`})
		wantEqual(t, "link", c.end(), ReasonNone)
		wantEqual(t, "counted", n.Info().Dropped["handler_absent"], int64(1))
		h.Detach()
		s.emits("5", "6", "7")
		pass(time.Minute)
		wantEqual(t, "after its time it is read on", []any{c.paused(), c.end()}, []any{0, ReasonNone})
		wantEqual(t, "nothing is parked", []int{n.handlers.parking.events, n.handlers.parking.bytes, len(n.handlers.parking.sockets), int(s.share.events), int(s.share.bytes)}, []int{0, 0, 0, 0, 0})
	})
}

func TestHandlerRestartHearsOfWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{Group: "g"})
		known, _ := connect(t, n, "/")
		stays, _ := connect(t, n, "/")
		told(t, h)
		h.Detach()
		known.emits("last words")
		known.leave(ReasonTransportClose, "", nil)
		fresh, _ := connect(t, n, "/")
		pass(5 * time.Second)
		h2 := attach(t, n, Registration{Group: "g"})
		got := told(t, h2)
		wantEqual(t, "told", got, []string{"assigned 2", "assigned 1", `event ["last words"]`, "disconnected transport close"})
		stays.leave(ReasonTransportClose, "", nil)
		fresh.leave(ReasonTransportClose, "", nil)
		wantEqual(t, "then", len(told(t, h2)), 2)
		pass(time.Minute)
		wantEqual(t, "parked", n.handlers.parking.ends, 0)
	})
}

func TestFailoverKeepsOrderAndCountsWhatWasInFlight(t *testing.T) {
	n := newNode(t, Config{})
	h1 := attach(t, n, Registration{MaxInFlight: 2})
	s, _ := connect(t, n, "/")
	told(t, h1)
	h2 := attach(t, n, Registration{MaxInFlight: 100})
	s.emits("1", "2", "3", "4")
	if got, _ := h1.Next(t.Context(), make([]Notice, 0, 1)); len(got) != 1 {
		t.Fatal("the first event is in flight")
	}
	h1.Detach()
	s.emits("5")
	wantEqual(t, "heir", told(t, h2), []string{"assigned 1", `event ["2"]`, `event ["3"]`, `event ["4"]`, `event ["5"]`})
	wantEqual(t, "lost", n.Info().Dropped["handler_lost"], int64(1))
	wantEqual(t, "share given back", s.share.events, int32(0))
}

func TestNewcomerGetsNewSocketsOnly(t *testing.T) {
	n := newNode(t, Config{})
	h1 := attach(t, n, Registration{})
	connect(t, n, "/")
	connect(t, n, "/")
	h2 := attach(t, n, Registration{})
	connect(t, n, "/")
	wantEqual(t, "first", told(t, h1), []string{"connected", "connected"})
	wantEqual(t, "newcomer", told(t, h2), []string{"connected"})
}

func TestDrainAndReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h1 := attach(t, n, Registration{ID: "one"})
		s, c := connect(t, n, "/")
		p := event("slow")
		p.AckID = 1
		s.receive(p)
		got := next(t, h1)
		call := got[len(got)-1].CallID
		h2 := attach(t, n, Registration{ID: "one"})
		notices := next(t, h1)
		wantEqual(t, "old", []any{notices[0].Kind, notices[0].Replaced}, []any{NoticeDraining, true})
		s.emits("next")
		wantEqual(t, "new", told(t, h2), []string{"assigned 1"})
		h1.Reply(call, []byte(`[1]`), nil)
		wantEqual(t, "once the one before is answered", told(t, h2), []string{`event ["next"]`})
		if _, err := h1.Next(t.Context(), nil); !errors.Is(err, io.EOF) {
			t.Errorf("old handler ends with %v", err)
		}
		wantEqual(t, "acked", c.take(), []string{"ack 1 [1]"})

		s.emits("held")
		next(t, h2)
		h3 := attach(t, n, Registration{ID: "one"})
		next(t, h2) // draining
		pass(time.Minute)
		if _, err := h2.Next(t.Context(), nil); !errors.Is(err, ErrReplaced) {
			t.Errorf("a replaced handler that does not finish ends with %v", err)
		}
		h3.Drain()
		if len(n.handlers.groups["default"].members.Load().handlers) != 0 {
			t.Error("a draining handler stays in its group")
		}
	})
}

func TestNodeDrainTellsHandlersAndWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{})
		w := watch(t, n, Scope{Namespace: "/", All: true}, "")
		steps(t, w, 1)
		n.BeginDrain(time.Now().Add(time.Minute))
		got := next(t, h)
		wantEqual(t, "handler", []any{got[0].Kind, got[0].Replaced}, []any{NoticeDraining, false})
		step, err := w.Next(t.Context())
		if !errors.Is(err, ErrDraining) || !step.Bookmark || step.Token == "" {
			t.Errorf("watcher: %+v, %v", step, err)
		}
		c := newConn()
		n.Connect(c.request("/"))
		wantEqual(t, "no more connects", c.refusals(), []Refusal{{CloseLink: true}})
		if _, _, err := n.Attach(t.Context(), Registration{}); !errors.Is(err, ErrDraining) {
			t.Errorf("no more handlers: %v", err)
		}
	})
}

// TestRollingHandlersLoseNothing restarts handlers at random under events: in each socket's order, none twice, and
// those missing are the ones in flight with a handler that was killed.
func TestRollingHandlersLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		rng := newRand(2)
		got := map[*Socket][]string{}
		live := []*Handler{attach(t, n, Registration{MaxInFlight: 4})}
		read := func(h *Handler) {
			for _, n := range noticesOf(t, h) {
				if n.Kind == NoticeEvent {
					got[n.From.(*Socket)] = append(got[n.From.(*Socket)], string(n.Packet.Payload))
					h.Handled(n.CallID)
				}
			}
		}
		var sockets []*Socket
		sent := map[*Socket]int{}
		for range 20 {
			s, _ := connect(t, n, "/")
			sockets = append(sockets, s)
		}
		for range 3000 {
			s := sockets[rng.IntN(len(sockets))]
			switch k := rng.IntN(20); {
			case k == 0 && len(live) < 4:
				live = append(live, attach(t, n, Registration{MaxInFlight: 4}))
			case k == 1 && len(live) > 0:
				i := rng.IntN(len(live))
				live[i].Detach()
				live = slices.Delete(live, i, i+1)
			case k < 10 && len(live) > 0:
				read(live[rng.IntN(len(live))])
			case s.share.events < 60:
				s.receive(event("e", sent[s]))
				sent[s]++
			}
		}
		live = append(live, attach(t, n, Registration{}))
		for range 3000 {
			for _, h := range live {
				read(h)
			}
		}
		for _, s := range sockets {
			want := make([]string, sent[s])
			for i := range want {
				want[i] = fmt.Sprintf(`["e",%d]`, i)
			}
			wantEqual(t, "events of a socket", got[s], want)
		}
		if d := n.Info().Dropped; d["handler_lost"] != 0 || d["handler_absent"] != 0 {
			t.Errorf("dropped: %v", d)
		}
	})
}

func noticesOf(t testing.TB, h *Handler) []Notice {
	t.Helper()
	h.mu.Lock()
	n := h.out.len()
	h.mu.Unlock()
	if n == 0 {
		return nil
	}
	list, err := h.Next(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPatterns(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"/a", "/a", true},
		{"/a", "/b", false},
		{"/a*", "/ab", true},
		{"/ab", "/a*", true},
		{"/a*", "/ab*", true},
		{"/ab*", "/a*", true},
		{"/a*", "/b*", false},
		{"/*", "/", true},
		{"/a", "/a*", true},
	} {
		a, b := makePatterns([]string{tc.a}), makePatterns([]string{tc.b})
		if _, got := a.meet(&b); got != tc.want {
			t.Errorf("%q meets %q: %v", tc.a, tc.b, got)
		}
	}
	for _, bad := range []string{"/a*b", "/a,b", "**", strings.Repeat("x", 256)} {
		if CheckPattern(bad) == nil {
			t.Errorf("pattern %q is taken", bad)
		}
	}
}
