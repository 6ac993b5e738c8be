package service

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestObserverAdmitsNobody: a namespace that somebody only looks at is as unknown as before, while he looks, when he
// has left, and when a node has promised to wait for him.
func TestObserverAdmitsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := &handlersRemote{}
		n := newNode(t, Config{NodeID: "here", Remote: remote})
		time.Sleep(time.Minute) // nobody is hoped for any more
		ask := func(what, name string) {
			t.Helper()
			c := newConn()
			n.Connect(c.request(name))
			wantEqual(t, what, [2]int{len(c.refusals()), len(c.sockets)}, [2]int{1, 0})
		}
		looks := Registration{ID: "o", Group: "o", Namespaces: []string{"/*", "/chat"}, Observer: true}
		h := attach(t, n, looks)
		ask("while it is there", "/chat")
		ask("by its prefix", "/any")
		wantEqual(t, "other nodes", remote.took(), []string{"claim o", "registered o"})
		far, err := n.AttachElsewhere(Registration{ID: "far", Group: "far", Namespaces: []string{"/*"}, Observer: true, MaxInFlight: 1}, "far0")
		if err != nil {
			t.Fatal(err)
		}
		ask("one elsewhere", "/any")
		h.Detach()
		far.Drain()
		far.Detach()
		ask("nobody waits for the next one", "/chat")
		coming := Registration{ID: "coming", Group: "coming", Namespaces: []string{"/chat"}, Observer: true}
		if v, err := n.Consider(&coming, "far0", 0, false); v != Agreed {
			t.Fatal(v, err)
		}
		ask("nor for one that is about to come", "/chat")
		n.Unpromise(&coming)

		attach(t, n, looks)
		attach(t, n, Registration{ID: "own", Group: "own", Namespaces: []string{"/chat"}})
		s, _ := connect(t, n, "/chat")
		wantEqual(t, "known by one that takes events", s.Namespace(), "/chat")
	})
}

// TestObserverTakesNoPlaceOfNames: the names that a node may know are for those that make them known.
func TestObserverTakesNoPlaceOfNames(t *testing.T) {
	n := newNode(t, Config{})
	for i := range maxNames {
		n.Learn(fmt.Sprint("/", i), false)
	}
	if _, _, err := n.Attach(t.Context(), Registration{Group: "late", Namespaces: []string{"/late"}}); err == nil {
		t.Error("there is a place left")
	}
	attach(t, n, Registration{Group: "o", Namespaces: []string{"/late", "/*"}, Observer: true})
}

// TestObserverHoldsUpNoDrain: an observer that answers nothing is waited for briefly, and one that does, until it has
// all.
func TestObserverHoldsUpNoDrain(t *testing.T) {
	for name, tc := range map[string]struct {
		owner, observer time.Duration // until each takes and answers what it is told, all of which waits for it by then
		want            time.Duration
		busy            int
	}{
		"nobody answers":          {time.Hour, time.Hour, 10 * time.Second, 2},
		"the owner alone":         {5 * time.Second, time.Hour, 5 * time.Second, 1},
		"the owner at once":       {time.Millisecond, time.Hour, observersWait, 1},
		"both, the observer last": {time.Millisecond, observersWait / 2, observersWait / 2, 0},
		"both, the owner last":    {5 * time.Second, 3 * time.Second, 5 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, Config{})
				for _, h := range []struct {
					*Handler
					after time.Duration
				}{{attach(t, n, Registration{}), tc.owner}, {attach(t, n, Registration{Group: "o", Observer: true}), tc.observer}} {
					late := time.AfterFunc(h.after, func() {
						if _, err := h.Next(t.Context(), nil); err == nil { // what it is told, and the event
							h.Handled(1)
						}
					})
					defer late.Stop()
				}
				s, _ := connect(t, n, "/")
				s.emits("a")
				n.BeginDrain(time.Now().Add(time.Minute))
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				began := time.Now()
				busy := n.Idle(ctx)
				wantEqual(t, "busy", busy, tc.busy)
				wantEqual(t, "after", time.Since(began).Round(50*time.Millisecond), tc.want)
			})
		})
	}
}

// TestEventsWaitBesideAnObserver: where nobody takes events they wait for a handler, also when somebody looks at them.
func TestEventsWaitBesideAnObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		s, _ := connect(t, n, "/")
		pass(time.Minute) // no handler is known to be on its way
		o := attach(t, n, Registration{Group: "o", Observer: true})
		s.emits("early")
		wantEqual(t, "the copy", told(t, o), []string{"assigned 1", `event ["early"]`})
		h := attach(t, n, Registration{Group: "own"})
		wantEqual(t, "the event", told(t, h), []string{"assigned 1", `event ["early"]`})
		wantEqual(t, "dropped", n.Info().Dropped["handler_absent"], int64(0))
	})
}
