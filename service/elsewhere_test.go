package service

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// twoNodes are two that hear of each other at once, and know each other.
func twoNodes(t *testing.T, cfg Config) (here, there *neighbour) {
	v := &village{cfg: cfg}
	t.Cleanup(v.close)
	here, there = v.add("here"), v.add("away")
	here.eager, there.eager = true, true
	return here, there
}

var everybody = Scope{Namespace: "/", All: true}

// TestWatchCoversOtherNodes: the snapshot has the sockets of others too, and what they do follows, with all that is
// known of them; what the snapshot keeps is what BASIC shows.
func TestWatchCoversOtherNodes(t *testing.T) {
	here, there := twoNodes(t, Config{})
	connect(t, here.n, "/", "r")
	s, _ := connect(t, there.n, "/", "r", "x")
	if _, err := there.n.Update(t.Context(), "/", s.ID(), Update{Data: []byte(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	w := watch(t, here.n, everybody, "")
	got := steps(t, w, 2)
	wantEqual(t, "snapshot", []any{len(got[0].Snapshot), got[1].Synced, got[1].Coverage}, []any{2, true, Coverage{}})
	copied := got[0].Snapshot[1]
	wantEqual(t, "copy", []any{copied.ID, copied.NodeID, copied.Rooms, copied.Data, copied.Handshake}, []any{s.ID(), NodeID("away"), []string{"r", "x"}, []byte(nil), nil})

	join(t, there.n, s, "y")
	connect(t, there.n, "/")
	s.leave(ReasonPingTimeout, "why", nil)
	here.hearAll()
	step := steps(t, w, 1)[0]
	wantEqual(t, "changes", changes(step), []string{"JOINED [y] of [r x y]", "CONNECTED [] of []", "DISCONNECTED [r x y] of [r x y]"})
	wantEqual(t, "in full", []any{string(step.Events[0].Socket.Data), step.Events[0].Socket.Handshake != nil}, []any{`{"a":1}`, true})
	wantEqual(t, "reason", []any{step.Events[2].Reason, step.Events[2].Detail}, []any{ReasonPingTimeout, "why"})
	if len(there.follows) > 0 {
		t.Error("a node that is followed, and has no watcher, follows others")
	}
}

// TestWatchWaitsForOthersAndNamesThem: no longer than two seconds, and a node that has not told by then is in the
// coverage, as is one that cannot be heard. What comes later comes as connects.
func TestWatchWaitsForOthersAndNamesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := twoNodes(t, Config{})
		connect(t, there.n, "/")
		connect(t, there.n, "/")
		slow := &slowNeighbour{neighbour: here}
		here.n.watches = slow
		began := time.Now()
		w := watch(t, here.n, everybody, "")
		step := steps(t, w, 1)[0]
		wantEqual(t, "waited", time.Since(began), gatherWithin)
		wantEqual(t, "synced", []any{step.Synced, step.Coverage.Unreachable}, []any{true, []string{"away", "dead"}})
		here.hearAll()
		wantEqual(t, "later", changes(steps(t, w, 1)[0]), []string{"CONNECTED [] of []", "CONNECTED [] of []"})

		go func() {
			time.Sleep(time.Second)
			here.n.Lost(there.n.self, ReasonNodeLost)
		}()
		began = time.Now()
		slow.gone = true // by then
		watch(t, here.n, Scope{Namespace: "/other", All: true}, "")
		wantEqual(t, "ends with who was waited for", time.Since(began), time.Second)
	})
}

// slowNeighbour waits for all, though nobody tells it anything.
type slowNeighbour struct {
	*neighbour
	gone bool // after the first time
}

func (x *slowNeighbour) Tellers(string) (list []Incarnation, c Coverage) {
	for y := range x.ways {
		if x.ways[y] != nil {
			list = append(list, y.n.self)
		}
	}
	if x.gone {
		clear(x.ways)
	}
	return list, Coverage{Unreachable: []string{"dead"}}
}

// TestLostNodesSocketsLeaveOnce: with the reason, at the last generation that was known; and when it is back its
// sockets are there again, under higher ones.
func TestLostNodesSocketsLeaveOnce(t *testing.T) {
	here, there := twoNodes(t, Config{})
	s, _ := connect(t, there.n, "/", "r")
	w := watch(t, here.n, everybody, "")
	steps(t, w, 2)
	join(t, there.n, s, "late")
	here.lose(there, ReasonNodeLost)
	here.n.Lost(there.n.self, ReasonShutdown)
	step := steps(t, w, 1)[0]
	wantEqual(t, "lost", changes(step), []string{"DISCONNECTED [r] of [r]"})
	wantEqual(t, "reason", []any{step.Events[0].Reason, step.Events[0].Socket.Generation}, []any{ReasonNodeLost, uint64(2)})
	here.ways[there] = &way{}
	here.hearAll()
	step = steps(t, w, 1)[0]
	wantEqual(t, "back", changes(step), []string{"CONNECTED [late r] of [late r]"})
	wantEqual(t, "generation", step.Events[0].Socket.Generation, uint64(1<<40+3))
	here.lose(there, ReasonShutdown)
	wantEqual(t, "gone", steps(t, w, 1)[0].Events[0].Reason, ReasonShutdown)
}

// TestWatchResumesAtAnotherNode: with what it missed and nothing twice, from the log there, and from the owners where
// that log has begun too late.
func TestWatchResumesAtAnotherNode(t *testing.T) {
	here, there := twoNodes(t, Config{})
	mine, _ := connect(t, here.n, "/")
	theirs, _ := connect(t, there.n, "/")
	w := watch(t, here.n, everybody, "")
	token := steps(t, w, 2)[1].Token
	join(t, here.n, mine, "a")
	join(t, there.n, theirs, "b")
	there.hearAll()
	again := watch(t, there.n, everybody, token) // nobody has watched there
	got := steps(t, again, 3)
	wantEqual(t, "asked for", []any{got[0].Synced, changes(got[1]), changes(got[2])}, []any{true, []string{"JOINED [a] of [a]"}, []string{"JOINED [b] of [b]"}})
	wantEqual(t, "nothing twice", steps(t, watch(t, there.n, everybody, got[2].Token), 1)[0].Synced, true)
	join(t, here.n, mine, "c")
	there.hearAll()
	wantEqual(t, "goes on", changes(steps(t, again, 1)[0]), []string{"JOINED [c] of [a c]"})

	got = steps(t, watch(t, there.n, everybody, token), 3)
	wantEqual(t, "of the log and of who is asked", []any{got[0].Synced, changes(got[1]), changes(got[2])}, []any{true, []string{"JOINED [a] of [a]"}, []string{"JOINED [b] of [b]", "JOINED [c] of [a c]"}})
	there.lose(here, ReasonNodeLost)
	wantEqual(t, "a node is lost", steps(t, watch(t, there.n, everybody, token), 1)[0].Reset, ResetNodeLost)
}

// TestNodeIsLostBeforeItWasHeard: a watcher that has heard more of a node elsewhere cannot be told who of it is gone.
func TestNodeIsLostBeforeItWasHeard(t *testing.T) {
	here, there := twoNodes(t, Config{})
	third := here.add("last")
	steps(t, watch(t, here.n, everybody, ""), 1)
	steps(t, watch(t, there.n, everybody, ""), 1)
	connect(t, third.n, "/")
	here.hearAll()
	there.hearAll()
	connect(t, third.n, "/")
	here.hearAll()
	w := watch(t, here.n, everybody, "")
	token := steps(t, w, 2)[1].Token
	there.eager = false
	again := watch(t, there.n, everybody, token)
	wantEqual(t, "goes on", steps(t, again, 1)[0].Synced, true)
	there.lose(third, ReasonNodeLost)
	got := steps(t, again, 2)
	wantEqual(t, "steps", []any{got[0].Reset, got[1].Synced}, []any{ResetNodeLost, true})
}

// TestNewsBehindAGapIsAReset: when an owner does not have any more what follows on what was heard.
func TestNewsBehindAGapIsAReset(t *testing.T) {
	here, there := twoNodes(t, Config{PresenceLog: 8})
	s, _ := connect(t, there.n, "/")
	w := watch(t, here.n, everybody, "")
	steps(t, w, 2)
	here.ways[there].end()
	for i := range 20 {
		join(t, there.n, s, fmt.Sprint(i))
	}
	here.hearAll()
	got := steps(t, w, 3)
	wantEqual(t, "steps", []any{got[0].Reset, len(got[1].Snapshot), len(got[1].Snapshot[0].Rooms), got[2].Synced}, []any{ResetGap, 1, 20, true})
	wantEqual(t, "resumes", steps(t, watch(t, here.n, everybody, got[2].Token), 1)[0].Synced, true)
}

// TestCopiesAreBound: beyond their bytes, or the node's budget, the watches of the namespace end and say why, nothing
// is kept, and a later one is served when there is room. What the log keeps of lost nodes goes first.
func TestCopiesAreBound(t *testing.T) {
	here, there := twoNodes(t, Config{})
	here.n.cfg.PresenceBytes = 10_000
	var sockets []*Socket
	for range 15 {
		s, _ := connect(t, there.n, "/")
		sockets = append(sockets, s)
	}
	steps(t, watch(t, here.n, everybody, ""), 2)
	here.lose(there, ReasonNodeLost)
	here.ways[there] = &way{}
	here.hearAll()
	w := watch(t, here.n, everybody, "")
	wantEqual(t, "those of a lost node make room", len(steps(t, w, 1)[0].Snapshot), 15)
	for range 15 {
		connect(t, there.n, "/", strings.Repeat("r", 150))
	}
	here.refused = true
	here.hearAll()
	<-w.Done()
	for range 2 {
		if _, err := w.Next(t.Context()); !errors.Is(err, ErrPresenceBytes) {
			t.Errorf("got %v", err)
		}
	}
	wantEqual(t, "follows", here.follows["/"], false)
	wantEqual(t, "kept", here.n.copied.Load(), int64(0))
	for _, s := range sockets {
		s.leave(ReasonTransportClose, "", nil)
	}
	wantEqual(t, "served", len(steps(t, watch(t, here.n, everybody, ""), 1)[0].Snapshot), 15)
}

// TestNothingStaysOfOthers: some time after the last watcher has left, the others are followed no more, and nothing is
// known of them; the log stays as long as others follow it.
func TestNothingStaysOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := twoNodes(t, Config{})
		connect(t, there.n, "/")
		w, err := here.n.Watch(t.Context(), everybody, "")
		if err != nil {
			t.Fatal(err)
		}
		token := steps(t, w, 2)[1].Token
		w.Close()
		time.Sleep(2*time.Minute - time.Second)
		wantEqual(t, "in time", steps(t, watch(t, here.n, everybody, token), 1)[0].Synced, true)
		wantEqual(t, "namespaces", []int{here.n.Info().Namespaces, there.n.Info().Namespaces}, []int{1, 1})
	})
	synctest.Test(t, func(t *testing.T) {
		here, there := twoNodes(t, Config{})
		s, _ := connect(t, there.n, "/")
		w, err := here.n.Watch(t.Context(), everybody, "")
		if err != nil {
			t.Fatal(err)
		}
		steps(t, w, 2)
		keep := watch(t, there.n, everybody, "")
		steps(t, keep, 2)
		there.hearAll() // so the log here is followed
		w.Close()
		pass(2*time.Minute + time.Second)
		wantEqual(t, "follows", []bool{here.follows["/"], there.follows["/"]}, []bool{false, true})
		wantEqual(t, "kept", here.n.copied.Load(), int64(0))
		connect(t, here.n, "/")
		there.hearAll()
		wantEqual(t, "still followed", len(steps(t, keep, 1)[0].Events), 1)
		s.leave(ReasonTransportClose, "", nil)
	})
}

// TestFeedWakesOnceAndNeverForOthers: it is told that there is more when it had nothing, and what others do is nothing.
func TestFeedWakesOnceAndNeverForOthers(t *testing.T) {
	here, there := twoNodes(t, Config{PresenceLog: 8})
	s, _ := connect(t, here.n, "/")
	theirs, _ := connect(t, there.n, "/")
	woken := 0
	f := here.n.Feed("/", 0, func() { woken++ })
	defer f.Close()
	next := func() (t Told, ok bool) { return f.Next(1000) }
	first, _ := next()
	whole, _ := next()
	wantEqual(t, "all", []any{first.Begin, len(first.Sockets), whole.Whole, whole.From == whole.Next}, []any{true, 1, true, true})
	if _, ok := next(); ok || woken > 0 {
		t.Error("there is nothing more")
	}
	watch(t, here.n, everybody, "")
	for i := range 20 { // more than the log keeps
		join(t, there.n, theirs, fmt.Sprint(i))
		here.hearAll()
	}
	wantEqual(t, "woken for others", woken, 0)
	join(t, here.n, s, "a")
	join(t, here.n, s, "b")
	wantEqual(t, "woken", woken, 1)
	told, ok := next()
	wantEqual(t, "told", []any{ok, len(told.Changes), told.From, told.Next}, []any{true, 2, whole.Next, whole.Next + 2})
	late := here.n.Feed("/", told.From+1, func() {})
	defer late.Close()
	told, ok = late.Next(1000)
	wantEqual(t, "from a number on", []any{ok, told.Begin, len(told.Changes), told.From}, []any{true, false, 1, whole.Next + 1})
}
