package service

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLeftOverIsTakenOverOnce: a handler that is replaced, or drains, and is detached at the same moment is handed over
// twice at once. The heir hears of a socket that has left in between from one of the two.
func TestLeftOverIsTakenOverOnce(t *testing.T) {
	n := newNode(t, Config{})
	h1 := attach(t, n, Registration{})
	s, _ := connect(t, n, "/")
	told(t, h1)
	h2 := attach(t, n, Registration{})
	s.emits("1")
	s.leave(ReasonTransportClose, "", nil)
	n.handlers.depart(h1)
	list := h1.leftOver() // and the other one is faster
	h1.Detach()
	for _, o := range list {
		o.Left(h1)
	}
	wantEqual(t, "told", told(t, h2), []string{"assigned 1", `event ["1"]`, "disconnected transport close"})
}

// TestEndOfASocketThatWasHeardOf: a socket that has come and sent an event is heard of to its end, though its handler
// had ended before it took the news of either.
func TestEndOfASocketThatWasHeardOf(t *testing.T) {
	n := newNode(t, Config{})
	h1 := attach(t, n, Registration{})
	s, _ := connect(t, n, "/")
	silent, _ := connect(t, n, "/")
	h2 := attach(t, n, Registration{})
	h1.end(ErrTooSlow)
	s.emits("1")
	s.leave(ReasonTransportClose, "", nil)
	silent.leave(ReasonTransportClose, "", nil)
	h1.Detach()
	wantEqual(t, "told", told(t, h2), []string{"assigned 1", `event ["1"]`, "disconnected transport close"})
}

// TestEndWaitsAtAHandlerThatHasEnded: its stream lives on for a moment, and its last answers come. They let nothing go
// on that is to go over to another.
func TestEndWaitsAtAHandlerThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h1 := attach(t, n, Registration{MaxInFlight: 1})
		s, _ := connect(t, n, "/")
		told(t, h1)
		s.emits("1", "2")
		call := next(t, h1)[0].CallID
		s.leave(ReasonTransportClose, "", nil)
		h1.end(ErrTooSlow)
		h1.Reply(call, nil, nil)
		h2 := attach(t, n, Registration{})
		h1.Detach()
		wantEqual(t, "told", told(t, h2), []string{"assigned 1", `event ["2"]`, "disconnected transport close"})
	})
}

// TestLeftOverIsBounded: what comes of many sockets for a handler that has ended, and is not detached yet, is bounded
// and counted as it is at one that is open.
func TestLeftOverIsBounded(t *testing.T) {
	n := newNode(t, Config{MaxHandlerQueue: 8})
	h1 := attach(t, n, Registration{})
	all := clients(t, n, 4)
	told(t, h1)
	h1.end(ErrTooSlow)
	sent := 0
	for range 50 {
		for _, cl := range all {
			if cl.c.paused() == 0 {
				cl.s.receive(event("e", strings.Repeat("x", 20<<10)))
				sent++
			}
		}
	}
	if sent > 2*8+len(all) {
		t.Errorf("%d events are left over", sent)
	}
	if held := n.Budget().UsedBy(UseInbound); held < int64(sent-4)*20<<10 {
		t.Errorf("%d bytes are held for %d events", held, sent)
	}
	h2 := attach(t, n, Registration{})
	h1.Detach()
	wantEqual(t, "told", len(told(t, h2)), 1+sent)
	wantEqual(t, "held", n.Budget().UsedBy(UseInbound), int64(0))
	for _, cl := range all {
		wantEqual(t, "paused", cl.c.paused(), 0)
	}
}

// TestPatienceWithAHandlerThatHasGone: a link that was paused for it last is not paused for ever, when what it still
// waits for is another handler that takes nothing.
func TestPatienceWithAHandlerThatHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{MaxQueuedEvents: 4})
		attach(t, n, Registration{Group: "stuck", Events: []string{"y"}, MaxInFlight: 1})
		h1 := attach(t, n, Registration{Group: "well", MaxInFlight: 1})
		s, c := connect(t, n, "/")
		s.emits("y", "y", "y", "y", "x", "x")
		wantEqual(t, "paused", c.paused(), 1)
		attach(t, n, Registration{Group: "well"})
		h1.Detach()
		wantEqual(t, "still paused", c.paused(), 1)
		pass(2*30*time.Second + time.Second)
		wantEqual(t, "closed", c.end(), ReasonHandlerSlow)
	})
}

// TestEachHandlerOfAnIDIsReplacedOnce: however many come at the same time.
func TestEachHandlerOfAnIDIsReplacedOnce(t *testing.T) {
	n := newNode(t, Config{})
	first := attach(t, n, Registration{ID: "one"})
	second := &Handler{
		node: n, reg: first.reg, claims: first.claims, wake: make(chan struct{}, 1), done: make(chan struct{}), open: true,
	}
	replaced, err := n.handlers.register(second)
	if replaced != first || err != nil {
		t.Fatalf("replaced %p, %v", replaced, err)
	}
	third := attach(t, n, Registration{ID: "one"}) // before the first one's sockets are with the second
	if list := third.group.members.Load().handlers; len(list) != 1 || list[0] != third {
		t.Errorf("%d handlers of one id", len(list))
	}
	wantEqual(t, "told", [][]string{told(t, first), told(t, second)}, [][]string{nil, {"draining"}})
	second.Detach()
}

// TestQuestionToAHandlerThatHasJustEnded: it is not told, and taking the question back takes back nothing else.
func TestQuestionToAHandlerThatHasJustEnded(t *testing.T) {
	n := newNode(t, Config{})
	h := attach(t, n, Registration{})
	connect(t, n, "/")
	h.end(ErrTooSlow)
	_, seq := h.ask(Notice{Kind: NoticeConnect, Time: time.Now()})
	h.settle(seq)
	wantEqual(t, "told", told(t, h), []string{"connected"})
}

// TestDecisionInTheLastMoment: it counts, though the time for it has run out while it was taken.
func TestDecisionInTheLastMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := &fakeRemote{waits: true}
		n := newNode(t, Config{Remote: remote, Namespaces: []NamespaceConfig{{"/", ConnectHandler}}})
		h := attach(t, n, Registration{DecideConnects: true})
		c := newConn()
		n.Connect(c.request("/"))
		call := next(t, h)[0].CallID
		cs := &n.connects
		cs.change(func(after *followUps) {
			time.Sleep(n.cfg.DecideWithin)
			cs.acceptLocked(h.connects[call], &Decision{}, h, after)
		})
		synctest.Wait()
		remote.ready[0]()
		wantEqual(t, "in, refused", []int{len(c.sockets), len(c.refusals())}, []int{1, 0})
	})
}

// TestNothingIsParkedAtANodeThatCloses: nor what comes at the same moment.
func TestNothingIsParkedAtANodeThatCloses(t *testing.T) {
	for range 300 {
		n, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		s, c := connect(t, n, "/")
		closed := make(chan struct{})
		go func() {
			n.Close()
			close(closed)
		}()
		for range 50 {
			s.emits("e")
		}
		<-closed
		wantEqual(t, "parked, paused", []int{n.handlers.parking.events, c.paused()}, []int{0, 0})
	}
}
