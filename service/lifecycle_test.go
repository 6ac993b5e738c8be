package service

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestTokenOfAnEarlierLifeOfTheNamespaceIsReset: a freed namespace has lost its past, and says so.
func TestTokenOfAnEarlierLifeOfTheNamespaceIsReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		s, _ := connect(t, n, "/")
		w := watch(t, n, Scope{Namespace: "/", All: true}, "")
		st := steps(t, w, 2)
		token := st[1].Token
		w.Close()
		s.leave(ReasonTransportClose, "", nil) // namespace freed: its DISCONNECTED is never logged anywhere
		w2, err := n.Watch(t.Context(), Scope{Namespace: "/", All: true}, token)
		if err != nil {
			t.Fatal(err)
		}
		defer w2.Close()
		first, err := w2.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if first.Reset != ResetTokenExpired {
			t.Errorf("silent gap: resumed %+v without a reset though its past is gone", first)
		}
	})
}

// TestParkedEndStaysForTheOwner: a handler that attaches first does not take it away from the owner of the events
// before it.
func TestParkedEndStaysForTheOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		s, _ := connect(t, n, "/")
		s.emits("a")
		s.leave(ReasonTransportClose, "", nil)
		attach(t, n, Registration{Group: "obs", Observer: true})
		h := attach(t, n, Registration{Group: "owner"})
		wantEqual(t, "told", told(t, h), []string{"assigned 1", `event ["a"]`, "disconnected transport close"})
	})
}

// TestEndIsToldOnceAndLast: also when two groups were away at different times.
func TestEndIsToldOnceAndLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		own := attach(t, n, Registration{Group: "own"})
		obs := attach(t, n, Registration{Group: "obs", Observer: true})
		s, _ := connect(t, n, "/")
		told(t, own)
		obs.Detach()
		s.emits("e1")
		s.leave(ReasonTransportClose, "", nil) // own has both unseen; obs is away: parked for it
		own.Detach()
		h := attach(t, n, Registration{Group: "own"})
		wantEqual(t, "told", told(t, h), []string{"assigned 1", `event ["e1"]`, "disconnected transport close"})
	})
}

// TestEndIsNotToldToGroupsOfOtherNamespaces: a group that is away knows only what it was told.
func TestEndIsNotToldToGroupsOfOtherNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{Group: "g", Namespaces: []string{"/chat"}})
		h.Detach()
		s, _ := connect(t, n, "/")
		s.leave(ReasonTransportClose, "", nil)
		h2 := attach(t, n, Registration{Group: "g", Namespaces: []string{"/chat"}})
		wantEqual(t, "told", told(t, h2), []string(nil))
	})
}

// TestEndIsNotToldToWhoNeverKnew: a socket that came and went while a group was away is no news to it.
func TestEndIsNotToldToWhoNeverKnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{Group: "g"})
		h.Detach()
		s, _ := connect(t, n, "/")
		s.leave(ReasonTransportClose, "", nil)
		h2 := attach(t, n, Registration{Group: "g"})
		wantEqual(t, "told", told(t, h2), []string(nil))
	})
}

// TestHeirGetsWhatCameWhileATooSlowHandlerWasEnding: its stream may take a moment to be detached.
func TestHeirGetsWhatCameWhileATooSlowHandlerWasEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{MaxHandlerQueue: 8})
		h1 := attach(t, n, Registration{Group: "g"})
		s1, _ := connect(t, n, "/")
		gone, _ := connect(t, n, "/")
		told(t, h1)
		h2 := attach(t, n, Registration{Group: "g"})
		for h1.Post("x") {
		}
		// ended; its stream takes up to a second (outlet's linger) until Detach
		s1.emits("e1")
		gone.leave(ReasonTransportClose, "", nil)
		time.Sleep(time.Second)
		h1.Detach()
		s1.emits("e2")
		wantEqual(t, "told", told(t, h2), []string{
			"assigned 1", `event ["e1"]`, "assigned 1", "disconnected transport close", `event ["e2"]`,
		})
	})
}

// TestCloseEndsHandlersThatDrain: and what they were to decide.
func TestCloseEndsHandlersThatDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{Namespaces: []NamespaceConfig{{"/", ConnectHandler}}})
		h := attach(t, n, Registration{DecideConnects: true})
		c := newConn()
		n.Connect(c.request("/"))
		told(t, h)
		h.Drain()
		n.BeginDrain(time.Now())
		n.connects.close()
		n.handlers.close()
		select {
		case <-h.Done():
		default:
			t.Error("a draining handler was not ended by Close")
		}
		if n.connects.pendings != 0 {
			t.Errorf("%d connects still pending after Close; refused %v", n.connects.pendings, c.refusals())
		}
	})
}

// TestHandlersOfKnownNamesAttachWhenNamesAreFull: only new names count.
func TestHandlersOfKnownNamesAttachWhenNamesAreFull(t *testing.T) {
	n := newNode(t, Config{})
	own := attach(t, n, Registration{Group: "own", Namespaces: []string{"/app"}})
	for i := range maxNames {
		h, _, err := n.Attach(t.Context(), Registration{Group: "x", Namespaces: []string{fmt.Sprintf("/t%d", i)}})
		if err != nil {
			break
		}
		h.Detach()
	}
	own.Detach()
	if _, _, err := n.Attach(t.Context(), Registration{Group: "own", Namespaces: []string{"/app"}}); err != nil {
		t.Errorf("a handler whose name is known long since is refused: %v", err)
	}
}

// TestCrowdForUnknownNamesKeepsNobodyOut: an open namespace needs no place among those who wait.
func TestCrowdForUnknownNamesKeepsNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{MaxPendingConnects: 10, MaxNamespaces: 1000})
		for i := range 10 {
			n.Connect(newConn().request(fmt.Sprintf("/nobody%d", i)))
		}
		c := newConn()
		n.Connect(c.request("/"))
		if len(c.sockets) == 0 {
			t.Errorf("an open namespace refuses: %+v", c.refusals())
		}
	})
}

// TestUnknownNamesTakeNoNamespaces: so that known ones always find room.
func TestUnknownNamesTakeNoNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{MaxNamespaces: 10, Namespaces: []NamespaceConfig{{Pattern: "/chat"}}})
		for i := range 10 {
			n.Connect(newConn().request(fmt.Sprintf("/nobody%d", i)))
		}
		c := newConn()
		n.Connect(c.request("/chat"))
		if len(c.sockets) == 0 {
			t.Errorf("a configured namespace: %+v", c.refusals())
		}
	})
}

// TestParkedEndsAreBounded: clients that come and go while a group is away leave nothing behind.
func TestParkedEndsAreBounded(t *testing.T) {
	n := newNode(t, Config{MaxHandlerQueue: 100})
	h := attach(t, n, Registration{})
	h.Detach()
	var a, b runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&a)
	const many = 5_000
	start := time.Now()
	for range many {
		c := newConn()
		n.Connect(c.request("/"))
		c.sockets[0].leave(ReasonClientDisconnect, "", nil)
	}
	runtime.GC()
	runtime.ReadMemStats(&b)
	if n.handlers.parking.ends > 100 {
		t.Errorf("%d parked (limit 100) in %v, %d MB", n.handlers.parking.ends, time.Since(start), (b.HeapAlloc-a.HeapAlloc)>>20)
	}
	s, _ := connect(t, n, "/")
	s.emits("e")
	wantEqual(t, "and an event of somebody else is dropped", n.Info().Dropped["handler_absent"], int64(0))
}

// TestObserversComeAndGoUnderEvents: for the race detector.
func TestObserversComeAndGoUnderEvents(t *testing.T) {
	n := newNode(t, Config{})
	attach(t, n, Registration{Group: "g", ID: "stays"})
	s, _ := connect(t, n, "/")
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 2000 {
			s.emits("e")
		}
	})
	wg.Go(func() {
		for range 200 {
			h, _, err := n.Attach(t.Context(), Registration{Group: "g", Namespaces: []string{"/"}})
			if err == nil {
				h.Detach()
			}
		}
	})
	wg.Wait()
}

// TestWhatStandsBehindAPostIsNotTakenWithIt: it may be the end of the stream, and the rest goes over to another.
func TestWhatStandsBehindAPostIsNotTakenWithIt(t *testing.T) {
	n := newNode(t, Config{})
	h1 := attach(t, n, Registration{Group: "g"})
	s, _ := connect(t, n, "/")
	h2 := attach(t, n, Registration{Group: "g"})
	told(t, h1)
	h1.Post("the client has closed its side")
	s.emits("e1", "e2")
	buf, _ := h1.Next(t.Context(), nil) // grpcapi stops at the posted end
	if buf[0].Kind != NoticePosted {
		t.Fatal("?")
	}
	h1.Detach()
	wantEqual(t, "heir", told(t, h2), []string{"assigned 1", `event ["e1"]`, `event ["e2"]`})
}

// TestDrainWaitsForServerSideReplies: a handler that drains may still give the replies that it owes.
func TestDrainWaitsForServerSideReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{ServerSideEvents: true})
		var r ServerSideResult
		e := ServerSideEmit{Namespace: "/", Packet: event("q"), WantsReplies: true, Timeout: 5 * time.Second}
		go func() { r, _ = n.ServerSideEmit(t.Context(), e) }()
		call := next(t, h)[0].CallID
		h.Drain()
		go func() {
			time.Sleep(time.Second)
			h.Reply(call, []byte(`[1]`), nil)
		}()
		start := time.Now()
		_, err := h.Next(t.Context(), nil)
		synctest.Wait()
		if !errors.Is(err, io.EOF) || time.Since(start) != time.Second || len(r.Replies) != 1 {
			t.Errorf("ended with %v after %v, %d replies", err, time.Since(start), len(r.Replies))
		}
	})
}

// TestFailoverClosesNoLink: events that were within bounds stay so when they change hands.
func TestFailoverClosesNoLink(t *testing.T) {
	n := newNode(t, Config{})
	h1 := attach(t, n, Registration{Group: "g", MaxInFlight: 256})
	s, c := connect(t, n, "/")
	told(t, h1)
	h2 := attach(t, n, Registration{Group: "g", MaxInFlight: 16})
	for i := range 200 {
		s.receive(event("e", i))
	}
	h1.Detach()
	if c.end() != ReasonNone {
		t.Errorf("link closed by a failover: %v; told %d", c.end(), len(told(t, h2)))
	}
}
