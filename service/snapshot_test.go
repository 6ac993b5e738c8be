package service

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestCrowdOfWatchersHoldsPagesOnly: fifty that begin together and take no more than the first page of a large
// namespace hold that page each, and not the namespace. Those that let go of it hold nothing.
func TestCrowdOfWatchersHoldsPagesOnly(t *testing.T) {
	const sockets, watchers = 100_000, 50
	n := newNode(t, Config{})
	crowd(t, n, sockets, func(i int) []string { return []string{fmt.Sprint("room", i%100), "all"} })
	for _, scope := range []Scope{{Namespace: "/", All: true}, {Namespace: "/", Rooms: []string{"all"}}} {
		before := heapBytes()
		var list []*Watcher
		pages := make([]WatchStep, watchers)
		for i := range pages {
			w, err := n.Watch(t.Context(), scope, "")
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, w)
			pages[i] = steps(t, w, 1)[0]
		}
		grown := heapBytes() - before
		// A page is 1,000 copies of less than 600 bytes.
		if most := int64(watchers * 600 << 10); grown > most {
			t.Errorf("%+v: %d bytes more are held, want at most %d", scope, grown, most)
		}
		if held := n.Budget().UsedBy(UsePresence); held < grown*8/10 || held > watchers*(pageBytes+pageBytes/8) {
			t.Errorf("%+v: the budget says %d bytes, %d are held", scope, held, grown)
		}
		for i := range pages {
			wantEqual(t, "page", len(pages[i].Snapshot), pageSockets)
		}
		told := len(pages[0].Snapshot)
		for step := steps(t, list[0], 1)[0]; !step.Synced; step = steps(t, list[0], 1)[0] {
			told += len(step.Snapshot)
		}
		wantEqual(t, "told in all", told, sockets)
		for _, w := range list {
			w.Close()
		}
		wantEqual(t, "given back", n.Budget().UsedBy(UsePresence), int64(0))
	}
}

// TestSnapshotPagesAreBoundInBytes: sockets with much to tell come in small pages.
func TestSnapshotPagesAreBoundInBytes(t *testing.T) {
	n := newNode(t, Config{})
	for range 40 {
		s, _ := connect(t, n, "/")
		if _, err := n.Update(t.Context(), "/", s.ID(), Update{Data: []byte(`{"a":"` + strings.Repeat("x", 60_000) + `"}`)}); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, n, Scope{Namespace: "/", All: true}, "")
	told := 0
	for step := steps(t, w, 1)[0]; !step.Synced; step = steps(t, w, 1)[0] {
		if len(step.Snapshot) > 1+pageBytes/60_000 {
			t.Errorf("a page of %d sockets", len(step.Snapshot))
		}
		told += len(step.Snapshot)
	}
	wantEqual(t, "told in all", told, 40)
}

// TestSnapshotIsRefusedWhenTheBudgetIsSpent: with a reason, counted, and with nothing held afterwards; once there is
// room again, the next watch is served.
func TestSnapshotIsRefusedWhenTheBudgetIsSpent(t *testing.T) {
	n := newNode(t, Config{Budget: NewBudget(1 << 20)})
	connect(t, n, "/")
	n.Budget().Force(UseOutbound, 1<<20)
	scope := Scope{Namespace: "/", All: true}
	refused, err := n.Watch(t.Context(), scope, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := refused.Next(t.Context()); !errors.Is(err, ErrBudget) {
		t.Errorf("got %v, want ErrBudget", err)
	}
	refused.Close()
	wantEqual(t, "nothing is held", n.Budget().UsedBy(UsePresence), int64(0))
	wantEqual(t, "counted", n.Info().Dropped["budget_presence"], int64(1))
	n.Budget().Give(UseOutbound, 1<<20)
	wantEqual(t, "served again", len(steps(t, watch(t, n, scope, ""), 1)[0].Snapshot), 1)
}

// TestOvertakenSnapshotBeginsAnew: one whose pages are taken is told so and begins anew, a few times; one whose pages
// nobody takes is ended, though its caller does not ask.
func TestOvertakenSnapshotBeginsAnew(t *testing.T) {
	n := newNode(t, Config{PresenceLog: 8})
	n.pageSockets = 1
	s, _ := connect(t, n, "/")
	connect(t, n, "/")
	w := watch(t, n, Scope{Namespace: "/", All: true}, "")
	overtake := func(changes int) {
		for i := range changes {
			join(t, n, s, fmt.Sprint("r", i))
			n.Leave(t.Context(), Target{Namespace: "/", All: true}, []string{fmt.Sprint("r", i)})
		}
	}
	for range maxRestarts {
		wantEqual(t, "a page", len(steps(t, w, 1)[0].Snapshot), 1)
		overtake(8)
		reset := steps(t, w, 1)[0]
		wantEqual(t, "overtaken", reset.Reset, ResetGap)
	}
	rest := steps(t, w, 3)
	wantEqual(t, "all of it", []any{len(rest[0].Snapshot), len(rest[1].Snapshot), rest[2].Synced}, []any{1, 1, true})

	again := watch(t, n, Scope{Namespace: "/", All: true}, "")
	for range maxRestarts {
		steps(t, again, 1)
		overtake(8)
		steps(t, again, 1)
	}
	steps(t, again, 1)
	overtake(8)
	if _, err := again.Next(t.Context()); !errors.Is(err, ErrTooSlow) {
		t.Errorf("overtaken once more: %v", err)
	}

	stuck := watch(t, n, Scope{Namespace: "/", All: true}, "")
	steps(t, stuck, 1)
	overtake(8 * (maxRestarts + 2))
	<-stuck.Done()
}

// TestTokenAmongWhatTheSnapshotTold: changes that the pages had in them are not told again by a token of the time
// between, which is worth a new snapshot.
func TestTokenAmongWhatTheSnapshotTold(t *testing.T) {
	n := newNode(t, Config{})
	n.pageSockets = 1
	early, _ := connect(t, n, "/")
	late, _ := connect(t, n, "/")
	scope := Scope{Namespace: "/", All: true}
	w := watch(t, n, scope, "")
	steps(t, w, 1) // early
	join(t, n, early, "news")
	join(t, n, late, "told")
	got := steps(t, w, 3)
	wantEqual(t, "late", got[0].Snapshot[0].Rooms, []string{"told"})
	wantEqual(t, "then", []any{got[1].Synced, changes(got[2])}, []any{true, []string{"JOINED [news] of [news]"}})
	wantEqual(t, "between", steps(t, watch(t, n, scope, got[1].Token), 1)[0].Reset, ResetTokenExpired)
	wantEqual(t, "behind", steps(t, watch(t, n, scope, got[2].Token), 1)[0].Synced, true)
}

// TestLogIsBoundInBytes: what a socket's large data makes the log keep alive is bounded, counted against the node's
// budget, and given back.
func TestLogIsBoundInBytes(t *testing.T) {
	const most = 4 << 20
	n := newNode(t, Config{PresenceLogBytes: most, DepartureBytes: -1})
	s, _ := connect(t, n, "/")
	w := watch(t, n, Scope{Namespace: "/", All: true}, "")
	steps(t, w, 2)
	before := heapBytes()
	for i := range 1000 {
		if _, err := n.Update(t.Context(), "/", s.ID(), Update{Data: fmt.Appendf(nil, `{"n":%d,"a":"%s"}`, i, strings.Repeat("x", 60_000))}); err != nil {
			t.Fatal(err)
		}
	}
	if grown := heapBytes() - before; grown > most+most/4 {
		t.Errorf("%d bytes more are held, want about %d", grown, most)
	}
	held := n.Budget().UsedBy(UsePresence)
	if held > most || held < most/2 {
		t.Errorf("the budget says %d, want just below %d", held, most)
	}
	<-w.Done() // it was overtaken, and told so though it does not read
	w.Close()
	s.leave(ReasonTransportClose, "", nil)
	wantEqual(t, "given back with the namespace", n.Budget().Used(), int64(0))
}

// TestLogKeepsItsNumberOfSmallChanges: data that does not change is not counted with each change of its socket.
func TestLogKeepsItsNumberOfSmallChanges(t *testing.T) {
	n := newNode(t, Config{PresenceLog: 1024, PresenceLogBytes: 1 << 20})
	s, _ := connect(t, n, "/")
	if _, err := n.Update(t.Context(), "/", s.ID(), Update{Data: []byte(`{"a":"` + strings.Repeat("x", 60_000) + `"}`)}); err != nil {
		t.Fatal(err)
	}
	w := watch(t, n, Scope{Namespace: "/", All: true}, "")
	token := steps(t, w, 2)[1].Token
	for range 512 {
		join(t, n, s, "r")
		n.Leave(t.Context(), Target{Namespace: "/", All: true}, []string{"r"})
	}
	wantEqual(t, "resumed", steps(t, watch(t, n, w.scope, token), 1)[0].Synced, true)
}

// TestSpentBudgetShortensLogs: a log does not grow where the node has no memory for it, and never loses its newest
// change.
func TestSpentBudgetShortensLogs(t *testing.T) {
	n := newNode(t, Config{Budget: NewBudget(64 << 10)})
	s, _ := connect(t, n, "/")
	w := watch(t, n, Scope{Namespace: "/", All: true}, "")
	steps(t, w, 2)
	for i := range 2000 {
		join(t, n, s, "r")
		wantEqual(t, "the newest", changes(steps(t, w, 1)[0]), []string{"JOINED [r] of [r]"})
		if i == 1000 {
			n.Budget().Force(UseOutbound, 64<<10)
		}
		n.Leave(t.Context(), Target{Namespace: "/", All: true}, []string{"r"})
		steps(t, w, 1)
	}
	if held := n.Budget().UsedBy(UsePresence); held > 66<<10 {
		t.Errorf("%d bytes are held", held)
	}
}

// TestDataIsCounted: what applications note about sockets is the budget's too. What would add to it is refused when it
// is spent, what takes away is not.
func TestDataIsCounted(t *testing.T) {
	n := newNode(t, Config{Budget: NewBudget(1000)})
	s, _ := connect(t, n, "/")
	note := func(bytes int) error {
		_, err := n.Update(t.Context(), "/", s.ID(), Update{Data: slices.Clip([]byte(`{"a":"` + strings.Repeat("x", bytes-8) + `"}`))})
		return err
	}
	if err := note(900); err != nil {
		t.Fatal(err)
	}
	if err := note(1001); !errors.Is(err, ErrBudget) {
		t.Errorf("beyond the budget: %v", err)
	}
	n.Budget().Force(UseOutbound, 1000)
	if err := note(800); err != nil {
		t.Errorf("less than before: %v", err)
	}
	wantEqual(t, "counted", n.Budget().UsedBy(UseData), int64(800))
	wantEqual(t, "told", n.Info().Dropped["budget_data"], int64(1))
	s.leave(ReasonTransportClose, "", nil)
	wantEqual(t, "given back", n.Budget().UsedBy(UseData), int64(0))
}

// TestLogGoesAfterItsLastWatcher: it is kept for those that come back in time, then freed; tokens of before are worth a
// new snapshot, and the numbers of a later log are none of them again.
func TestLogGoesAfterItsLastWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		s, _ := connect(t, n, "/")
		scope := Scope{Namespace: "/", All: true}
		begin := func(token string) (*Watcher, WatchStep) {
			w, err := n.Watch(t.Context(), scope, token)
			if err != nil {
				t.Fatal(err)
			}
			return w, steps(t, w, 1)[0]
		}
		kept := func() bool {
			synctest.Wait()
			ns := n.namespace("/")
			ns.mu.RLock()
			defer ns.mu.RUnlock()
			return ns.log != nil
		}
		w, _ := begin("")
		token := steps(t, w, 1)[0].Token
		w.Close()
		join(t, n, s, "while nobody watches")
		time.Sleep(2*time.Minute - time.Second)
		w, step := begin(token)
		wantEqual(t, "in time", step.Synced, true)
		wantEqual(t, "missed nothing", len(steps(t, w, 1)[0].Events), 1)
		time.Sleep(time.Hour)
		w.Close()
		time.Sleep(time.Minute)
		if !kept() {
			t.Error("the log has not waited for as long as after the last watcher, but since an earlier one")
		}
		time.Sleep(time.Minute)
		if kept() {
			t.Error("the log stays though nobody has watched for two minutes")
		}
		wantEqual(t, "freed", n.Budget().UsedBy(UsePresence), int64(0))
		join(t, n, s, "not recorded")
		for range 2 {
			w, step = begin(token)
			wantEqual(t, "too late", step.Reset, ResetTokenExpired)
			w.Close()
		}
		wantEqual(t, "the namespace's users", n.namespace("/").users, 1)
		s.leave(ReasonTransportClose, "", nil)
		wantEqual(t, "namespaces", n.Info().Namespaces, 0)
	})
}
