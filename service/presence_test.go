package service

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func watch(t testing.TB, n *Node, s Scope, token string) *Watcher {
	t.Helper()
	w, err := n.Watch(s, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// steps are the next n steps of a watch.
func steps(t testing.TB, w *Watcher, n int) []WatchStep {
	t.Helper()
	var list []WatchStep
	for range n {
		s, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func changes(s WatchStep) []string {
	names := []string{"", "CONNECTED", "JOINED", "LEFT", "UPDATED", "DISCONNECTED"}
	var list []string
	for _, e := range s.Events {
		list = append(list, fmt.Sprint(names[e.Kind], " ", e.Rooms, " of ", e.Socket.Rooms))
	}
	return list
}

func TestWatchAll(t *testing.T) {
	n := newNode(t, Config{})
	s, _ := connect(t, n, "/", "r")
	w := watch(t, n, Scope{Namespace: "/", All: true}, "")
	got := steps(t, w, 2)
	wantEqual(t, "snapshot", []any{len(got[0].Snapshot), got[0].Snapshot[0].Rooms, got[1].Synced}, []any{1, []string{"r"}, true})
	join(t, n, s, "a", "b")
	join(t, n, s, "a")
	n.Leave(t.Context(), Target{Namespace: "/", All: true}, []string{"r"})
	s.Close(ReasonPingTimeout, "why")
	step := steps(t, w, 1)[0]
	wantEqual(t, "changes", changes(step), []string{
		"JOINED [a b] of [a b r]", "LEFT [r] of [a b]", "DISCONNECTED [a b] of [a b]",
	})
	last := step.Events[2]
	wantEqual(t, "reason", []any{last.Reason, last.Detail}, []any{ReasonPingTimeout, "why"})
	for i := range step.Events[1:] {
		if step.Events[i+1].Socket.Generation <= step.Events[i].Socket.Generation {
			t.Error("generation does not order the news of a socket")
		}
	}
}

func TestWatchRooms(t *testing.T) {
	n := newNode(t, Config{})
	in, _ := connect(t, n, "/", "r", "other")
	out, _ := connect(t, n, "/", "other")
	w := watch(t, n, Scope{Namespace: "/", Rooms: []string{"r", "r2"}}, "")
	got := steps(t, w, 2)
	wantEqual(t, "snapshot", []any{len(got[0].Snapshot), got[0].Snapshot[0].Rooms}, []any{1, []string{"r"}})
	join(t, n, out, "r", "r2", "r3")
	n.Leave(t.Context(), Target{Namespace: "/", All: true}, []string{"other"})
	n.Leave(t.Context(), Target{Namespace: "/", Rooms: []string{string(in.ID())}}, []string{"r"})
	in.Close(ReasonTransportClose, "")
	out.Close(ReasonTransportClose, "")
	wantEqual(t, "changes", changes(steps(t, w, 1)[0]), []string{
		"JOINED [r r2] of [r r2]", "LEFT [r] of []", "DISCONNECTED [r r2] of [r r2]",
	})
}

// TestAcceptanceRoomsAreJoined: in a scope of rooms, a socket that comes in with rooms has JOINED them.
func TestAcceptanceRoomsAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{DecideConnects: true})
		rooms := watch(t, n, Scope{Namespace: "/", Rooms: []string{"vip"}}, "")
		all := watch(t, n, Scope{Namespace: "/", All: true}, "")
		steps(t, rooms, 1)
		steps(t, all, 1)
		c := newConn()
		n.Connect(c.request("/"))
		h.Decide(next(t, h)[0].CallID, Decision{Rooms: []string{"vip", "x"}})
		wantEqual(t, "rooms", changes(steps(t, rooms, 1)[0]), []string{"JOINED [vip] of [vip]"})
		wantEqual(t, "all", changes(steps(t, all, 1)[0]), []string{"CONNECTED [vip x] of [vip x]"})
	})
}

func TestWatchResumesWithoutGapOrDouble(t *testing.T) {
	n := newNode(t, Config{PresenceLog: 8})
	s, _ := connect(t, n, "/")
	scope := Scope{Namespace: "/", Rooms: []string{"b", "a"}}
	keep := watch(t, n, scope, "")
	token := steps(t, keep, 1)[0].Token
	join(t, n, s, "a")
	w := watch(t, n, Scope{Namespace: "/", Rooms: []string{"a", "b"}}, token)
	got := steps(t, w, 2)
	wantEqual(t, "resumed", []any{got[0].Synced, changes(got[1])}, []any{true, []string{"JOINED [a] of [a]"}})
	again := watch(t, n, scope, got[1].Token)
	wantEqual(t, "no double", steps(t, again, 1)[0].Synced, true)
	join(t, n, s, "b")
	wantEqual(t, "goes on", changes(steps(t, again, 1)[0]), []string{"JOINED [b] of [a b]"})

	for i := range 9 {
		join(t, n, s, fmt.Sprint("other", i))
	}
	reset := steps(t, watch(t, n, scope, token), 3)
	wantEqual(t, "the past is gone", []any{reset[0].Reset, len(reset[1].Snapshot), reset[2].Synced}, []any{true, 1, true})

	other := newNode(t, Config{})
	first := steps(t, watch(t, other, scope, token), 2)
	wantEqual(t, "another run of the node", []any{first[0].Reset, first[1].Synced}, []any{true, true})
	for _, bad := range []string{"x", token[:10], token + "AAAA", "!"} {
		if _, err := n.Watch(scope, bad); !errors.Is(err, ErrToken) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	if _, err := n.Watch(Scope{Namespace: "/", All: true}, token); !errors.Is(err, ErrToken) {
		t.Errorf("token of another scope: %v", err)
	}
}

func TestSlowWatcherIsEndedAloneAndBookmarksComeWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{PresenceLog: 8})
		s, _ := connect(t, n, "/")
		slow := watch(t, n, Scope{Namespace: "/", All: true}, "")
		quick := watch(t, n, Scope{Namespace: "/", All: true}, "")
		steps(t, slow, 2)
		steps(t, quick, 2)
		for i := range 40 {
			join(t, n, s, fmt.Sprint(i))
			steps(t, quick, 1)
		}
		<-slow.Done()
		if _, err := slow.Next(t.Context()); !errors.Is(err, ErrTooSlow) {
			t.Errorf("slow watcher: %v", err)
		}
		start := time.Now()
		step := steps(t, quick, 1)[0]
		wantEqual(t, "bookmark", []any{step.Bookmark, time.Since(start)}, []any{true, 10 * time.Second})
		wantEqual(t, "counted", n.Info().Dropped["watcher_slow"], int64(1))
	})
}

// TestWatchEqualsRegistry: after random changes, snapshot and changes together are the registry.
func TestWatchEqualsRegistry(t *testing.T) {
	n := newNode(t, Config{})
	rng := newRand(3)
	connect(t, n, "/")
	var sockets []*Socket
	type view map[SocketID][]string
	var watchers []*Watcher
	var views []view
	apply := func(v view, s WatchStep) {
		for _, i := range s.Snapshot {
			v[i.ID] = i.Rooms
		}
		for _, e := range s.Events {
			if e.Kind == PresenceDisconnected {
				delete(v, e.Socket.ID)
			} else {
				v[e.Socket.ID] = e.Socket.Rooms
			}
		}
	}
	for i := range 2000 {
		if i%400 == 0 {
			watchers = append(watchers, watch(t, n, Scope{Namespace: "/", All: true}, ""))
			views = append(views, view{})
		}
		switch k := rng.IntN(10); {
		case k < 2 || len(sockets) == 0:
			s, _ := connect(t, n, "/")
			sockets = append(sockets, s)
		case k == 2:
			j := rng.IntN(len(sockets))
			sockets[j].Close(ReasonTransportClose, "")
			sockets = slices.Delete(sockets, j, j+1)
		default:
			target := Target{Namespace: "/", Rooms: []string{string(sockets[rng.IntN(len(sockets))].ID())}}
			room := []string{fmt.Sprint(rng.IntN(5)), fmt.Sprint(rng.IntN(5))}
			if k < 7 {
				n.Join(t.Context(), target, room)
			} else {
				n.Leave(t.Context(), target, room)
			}
		}
	}
	want := view{}
	page, _ := n.Sockets(t.Context(), Target{Namespace: "/", All: true}, 0, 1<<20, func(*SocketInfo) bool { return true })
	for _, s := range page.Sockets {
		want[s.ID] = s.Rooms
	}
	for i, w := range watchers {
		for w.position() < w.log.next || !w.synced {
			apply(views[i], steps(t, w, 1)[0])
		}
		if !maps.EqualFunc(views[i], want, slices.Equal[[]string]) {
			t.Errorf("watcher %d sees %d sockets, the registry has %d", i, len(views[i]), len(want))
		}
	}
}
