package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func watch(t testing.TB, n *Node, s Scope, token string) *Watcher {
	t.Helper()
	w, err := n.Watch(t.Context(), s, token)
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
	s.leave(ReasonPingTimeout, "why", nil)
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
	in.leave(ReasonTransportClose, "", nil)
	out.leave(ReasonTransportClose, "", nil)
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
	wantEqual(t, "the past is gone", []any{reset[0].Reset, len(reset[1].Snapshot), reset[2].Synced}, []any{ResetTokenExpired, 1, true})

	other := newNode(t, Config{})
	first := steps(t, watch(t, other, scope, token), 2)
	wantEqual(t, "another run of the node", []any{first[0].Reset, first[1].Synced}, []any{ResetTokenExpired, true})
	for _, bad := range []string{"x", token[:10], token + "AAAA", "!"} {
		if _, err := n.Watch(t.Context(), scope, bad); !errors.Is(err, ErrToken) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	if _, err := n.Watch(t.Context(), Scope{Namespace: "/", All: true}, token); !errors.Is(err, ErrToken) {
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

// TestWatchEqualsRegistry: whatever happens, also between the pages of a snapshot, the snapshot and the changes of each
// watcher together are the registry. Ordered, none twice, none lost between snapshot and changes.
func TestWatchEqualsRegistry(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.SampledFrom([]int{8, 64, 16_384}).Draw(rt, "log")
		n, err := New(Config{PresenceLog: size})
		if err != nil {
			rt.Fatal(err)
		}
		n.pageSockets = rapid.IntRange(1, 3).Draw(rt, "page")
		defer n.Close()
		var sockets []*Socket
		var conns []*fakeConn
		var watchers []*modelWatcher
		defer func() {
			for _, w := range watchers {
				w.Close()
			}
		}()
		one := func(rt *rapid.T) int {
			if len(sockets) == 0 {
				rt.Skip("nobody is there")
			}
			return rapid.IntRange(0, len(sockets)-1).Draw(rt, "socket")
		}
		room := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		rooms := rapid.SliceOfN(room, 1, 3)
		target := func(i int) Target {
			return Target{Namespace: "/", Rooms: []string{string(sockets[i].ID())}}
		}
		gone := func(i int) {
			sockets, conns = slices.Delete(sockets, i, i+1), slices.Delete(conns, i, i+1)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"connect": func(*rapid.T) {
				c := newConn()
				n.Connect(c.request("/"))
				sockets, conns = append(sockets, c.sockets[0]), append(conns, c)
			},
			"leave the namespace": func(rt *rapid.T) {
				i := one(rt)
				sockets[i].leave(ReasonClientDisconnect, "", nil)
				gone(i)
			},
			"lose the link": func(rt *rapid.T) {
				i := one(rt)
				conns[i].Close(ReasonTransportError)
				gone(i)
			},
			"be disconnected": func(rt *rapid.T) {
				i := one(rt)
				_, _, _ = n.Disconnect(t.Context(), target(i), DisconnectNamespace)
				gone(i)
			},
			"join":  func(rt *rapid.T) { _, _, _ = n.Join(t.Context(), target(one(rt)), rooms.Draw(rt, "rooms")) },
			"leave": func(rt *rapid.T) { _, _, _ = n.Leave(t.Context(), target(one(rt)), rooms.Draw(rt, "rooms")) },
			"all of a room join": func(rt *rapid.T) {
				_, _, _ = n.Join(t.Context(), Target{Namespace: "/", Rooms: []string{room.Draw(rt, "of")}}, rooms.Draw(rt, "rooms"))
			},
			"update": func(rt *rapid.T) {
				name := room.Draw(rt, "name")
				_, _ = n.Update(t.Context(), "/", sockets[one(rt)].ID(), Update{UserID: &name})
			},
			"watch": func(rt *rapid.T) {
				scope := Scope{Namespace: "/", All: true}
				if rapid.Bool().Draw(rt, "of rooms") {
					scope = Scope{Namespace: "/", Rooms: rooms.Draw(rt, "rooms")}
				}
				w, err := n.Watch(t.Context(), scope, "")
				if err != nil {
					rt.Fatal(err)
				}
				watchers = append(watchers, &modelWatcher{Watcher: w, mayLose: size < 16_384})
			},
			"resume": func(rt *rapid.T) {
				if len(watchers) == 0 || watchers[0].token == "" {
					rt.Skip("nobody watches")
				}
				watchers[0].resume(rt)
			},
			"step": func(rt *rapid.T) {
				if len(watchers) == 0 {
					rt.Skip("nobody watches")
				}
				watchers[rapid.IntRange(0, len(watchers)-1).Draw(rt, "watcher")].step(rt)
			},
			"compare": func(rt *rapid.T) {
				for _, w := range watchers {
					w.catchUp(rt)
					want := map[SocketID][]string{}
					page, _ := n.Sockets(t.Context(), Target{Namespace: "/", All: true}, PageRequest{Limit: 1 << 20})
					for i := range page.Sockets {
						if s := &page.Sockets[i]; w.scope.All || len(w.roomsInScope(s, s.Rooms, PresenceUpdated)) > 0 {
							w.narrow(s)
							want[s.ID] = s.Rooms
						}
					}
					if !maps.EqualFunc(w.view, want, slices.Equal[[]string]) {
						rt.Fatalf("a watcher of %+v sees %v, the registry has %v", w.scope, w.view, want)
					}
				}
			},
		})
	})
}

// modelWatcher is a watcher with what it makes of what it is told.
type modelWatcher struct {
	*Watcher
	mayLose    bool                  // the log is so small that it may be overtaken
	view       map[SocketID][]string // rooms in scope
	generation map[SocketID]uint64
	complete   bool // the snapshot
	token      string
}

// resume begins anew where the last token was.
func (w *modelWatcher) resume(rt *rapid.T) { w.resumeAt(rt, w.node) }

func (w *modelWatcher) resumeAt(rt *rapid.T, n *Node) {
	again, err := n.Watch(context.Background(), w.scope, w.token)
	if err != nil {
		rt.Fatal(err)
	}
	w.Close()
	w.Watcher, w.complete = again, false
}

// catchUp takes all that there is.
func (w *modelWatcher) catchUp(rt *rapid.T) {
	for more := true; more; {
		more = w.step(rt)
	}
}

// step takes a step if there is one: with its context done, Next says so instead of waiting for more.
func (w *modelWatcher) step(rt *rapid.T) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	step, err := w.Next(ctx)
	switch {
	case errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, ErrTooSlow) && w.mayLose:
		w.resume(rt)
		return true
	case err != nil:
		rt.Fatal(err)
	case step.Reset == ResetGap && !w.mayLose:
		rt.Fatal("a snapshot was overtaken by a log that is larger than all that happened")
	}
	if step.Reset != ResetNone || w.view == nil {
		w.view, w.generation, w.complete, w.token = map[SocketID][]string{}, map[SocketID]uint64{}, false, ""
	}
	for _, s := range step.Snapshot {
		if _, known := w.view[s.ID]; known || w.complete {
			rt.Fatalf("%s is told once more by the snapshot", s.ID)
		}
		w.view[s.ID], w.generation[s.ID] = s.Rooms, s.Generation
	}
	for _, e := range step.Events {
		id := e.Socket.ID
		_, known := w.view[id]
		starts := e.Kind == PresenceConnected || !w.scope.All && e.Kind == PresenceJoined && !known
		// Who is lost with its node is so at the last generation that is known.
		lost := (e.Reason == ReasonNodeLost || e.Reason == ReasonShutdown) && e.Socket.Generation >= w.generation[id]
		if known == starts || !w.complete || e.Socket.Generation <= w.generation[id] && !lost {
			rt.Fatalf("change %d of %s: known %v, snapshot complete %v, generation %d after %d", e.Kind, id, known, w.complete, e.Socket.Generation, w.generation[id])
		}
		w.generation[id] = e.Socket.Generation
		if e.Kind == PresenceDisconnected || !w.scope.All && len(e.Socket.Rooms) == 0 {
			delete(w.view, id)
		} else {
			w.view[id] = e.Socket.Rooms
		}
	}
	w.complete = w.complete || step.Synced
	if step.Token != "" {
		w.token = step.Token
	}
	return true
}

// heapBytes is what is in use after a collection.
func heapBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestThousandWatchersOfABusyNamespace: they share one log, so what they hold does not grow with what happens.
func TestThousandWatchersOfABusyNamespace(t *testing.T) {
	n := newNode(t, Config{PresenceLog: 1024})
	s, _ := connect(t, n, "/")
	var watchers []*Watcher
	for range 1000 {
		watchers = append(watchers, watch(t, n, Scope{Namespace: "/", All: true}, ""))
	}
	before := heapBytes()
	for range 10_000 {
		join(t, n, s, "r")
		n.Leave(t.Context(), Target{Namespace: "/", Rooms: []string{string(s.ID())}}, []string{"r"})
	}
	if grown := heapBytes() - before; grown > 8<<20 {
		t.Errorf("%d bytes more are held", grown)
	}
	for _, w := range watchers {
		<-w.Done() // overtaken, and told so, though none of them reads
	}
}

// TestWatchResumesBesideASpentBudget: a token from which nothing is missing needs no memory.
func TestWatchResumesBesideASpentBudget(t *testing.T) {
	n := newNode(t, Config{Budget: NewBudget(1 << 20)})
	s, _ := connect(t, n, "/")
	w := watch(t, n, everybody, "")
	token := steps(t, w, 2)[1].Token
	join(t, n, s, "r")
	n.Budget().Force(UseOutbound, 2<<20)
	got := steps(t, watch(t, n, everybody, token), 2)
	wantEqual(t, "steps", []any{got[0].Reset, got[0].Synced, changes(got[1])}, []any{ResetNone, true, []string{"JOINED [r] of [r]"}})
	wantEqual(t, "refused", n.Budget().Refused(UsePresence), int64(0))
}
