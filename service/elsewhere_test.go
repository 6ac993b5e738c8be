package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// village is a few nodes, between which a test carries what they tell.
type village struct {
	nodes []*neighbour
	cfg   Config
}

// neighbour is one of them, and the others as it sees them.
type neighbour struct {
	fakeRemote
	*village
	n       *Node
	follows map[string]bool
	ways    map[*neighbour]*way // from the others; none: lost
	eager   bool                // it hears all before it answers who there is
	refused bool                // it may find no memory for what it hears
}

// way is the way on which one node tells another one.
type way struct {
	feed  *Feed
	from  uint64 // the number that was heard; 0: not all was told yet
	ready bool   // there may be something to be told
}

func (v *village) add(name NodeID) *neighbour {
	x := &neighbour{village: v, follows: map[string]bool{}, ways: map[*neighbour]*way{}}
	v.start(x, name)
	v.nodes = append(v.nodes, x)
	return x
}

func (v *village) start(x *neighbour, name NodeID) {
	cfg := v.cfg
	cfg.NodeID, cfg.Remote = string(name), x
	n, err := New(cfg)
	if err != nil {
		panic(err)
	}
	x.n = n
	for _, y := range v.nodes {
		if y != x {
			x.ways[y], y.ways[x] = &way{}, &way{}
		}
	}
}

func (v *village) close() {
	for _, x := range v.nodes {
		for _, w := range x.ways {
			w.end()
		}
		x.n.Close()
	}
}

func (x *neighbour) Follow(namespace string, on bool) {
	x.follows[namespace] = on
}

func (x *neighbour) Tellers() (list []Incarnation, c Coverage) {
	if x.eager {
		x.hearAll()
	}
	for _, y := range x.nodes {
		if w := x.ways[y]; w == nil && y != x {
			c.Unreachable = append(c.Unreachable, string(y.n.ID()))
		} else if y != x && x.eager {
			list = append(list, y.n.self)
		}
	}
	return list, c
}

func (x *neighbour) Past(_ context.Context, of Incarnation, namespace string, from, before uint64) (list []PresenceEvent, ok bool) {
	for _, y := range x.nodes {
		if y.n.self == of {
			f := y.n.Feed(namespace, from, func() {})
			defer f.Close()
			for {
				t, ok := f.Next(1000)
				if !ok || t.Begin {
					return list, false
				}
				if list = append(list, t.Changes...); t.Next >= before {
					return list, true
				}
			}
		}
	}
	return nil, false
}

// hear carries one piece from one node to another; false: there is none.
func (x *neighbour) hear(y *neighbour, most int) bool {
	w := x.ways[y]
	if w == nil || !x.follows["/"] {
		if w != nil {
			w.end()
			w.from = 0
		}
		return false
	}
	if w.feed == nil {
		w.feed, w.ready = y.n.Feed("/", w.from, func() { w.ready = true }), true
	}
	if !w.ready {
		return false
	}
	t, ok := w.feed.Next(most)
	if !ok {
		w.ready = false
		return true
	}
	if !x.n.Heard(y.n.self, "/", &t) && !x.refused {
		var o *owner
		if ns := x.n.namespace("/"); ns != nil && ns.log != nil && ns.log.others != nil {
			o = ns.log.others.owners[y.n.id]
		}
		panic(fmt.Sprintf("%s, which knows %+v, does not take what %v tells: %+v", x.n.id, o, y.n.self, t))
	}
	if t.Begin {
		w.from = 0
	}
	if t.Whole {
		w.from = t.Next
	}
	return true
}

func (x *neighbour) hearAll() {
	for _, y := range x.nodes {
		for x.hear(y, 1<<20) {
		}
	}
}

// end ends what is told on a way. It may go on behind what was heard.
func (w *way) end() {
	if w.feed != nil {
		w.feed.Close()
		w.feed = nil
	}
}

// kept is how many bytes a node keeps of the sockets of others, and how many it counts.
func (x *neighbour) kept() (bytes, counted int) {
	for _, ns := range x.n.all() {
		l := ns.log
		if l == nil {
			continue
		}
		for i := l.first; i < l.next; i++ {
			if e := l.at(i); e.all != nil {
				bytes += e.all.held
			}
		}
		if l.others != nil {
			for i := range l.others.copies.entries {
				if r := l.others.copies.entries[i].socket; r != nil {
					bytes += r.info.bytes() + replicaBytes
				}
			}
		}
	}
	return bytes, int(x.n.copied.Load())
}

// lose makes a node lose another one.
func (x *neighbour) lose(y *neighbour, why Reason) {
	if w := x.ways[y]; w != nil {
		w.end()
		delete(x.ways, y)
		x.n.Lost(y.n.self, why)
		y.n.Rise(y.n.term.Load() + 1)
	}
}

// TestWatchesOfManyNodesEqualTheirRegistries: whatever happens at three nodes, and however late they hear of each other,
// also over lost nodes, new runs of them, ways that begin anew and logs that are too short: each watcher is told each
// socket's story in order, none of it twice, also where it goes on at another node; and in the end what all nodes have.
func TestWatchesOfManyNodesEqualTheirRegistries(t *testing.T) {
	for range 3 {
		rapid.Check(t, func(rt *rapid.T) { manyNodes(t, rt) })
	}
}

func manyNodes(t *testing.T, rt *rapid.T) {
	v := &village{cfg: Config{PresenceLog: rapid.SampledFrom([]int{8, 64, 16_384}).Draw(rt, "log")}}
	defer v.close()
	for _, name := range []NodeID{"aaaa", "bbbb", "cccc"} {
		v.add(name).n.pageSockets = rapid.IntRange(1, 3).Draw(rt, "page")
	}
	node := func(rt *rapid.T) *neighbour { return v.nodes[rapid.IntRange(0, 2).Draw(rt, "node")] }
	two := func(rt *rapid.T) (x, y *neighbour) {
		i := rapid.IntRange(0, 5).Draw(rt, "two")
		return v.nodes[i%3], v.nodes[(i%3+1+i/3)%3]
	}
	sockets := map[*neighbour][]*Socket{}
	var watchers []*modelWatcher
	defer func() {
		for _, w := range watchers {
			w.Close()
		}
	}()
	room := rapid.SampledFrom([]string{"a", "b", "c"})
	rooms := rapid.SliceOfN(room, 1, 3)
	one := func(rt *rapid.T) (*neighbour, int, Target) {
		x := node(rt)
		if len(sockets[x]) == 0 {
			rt.Skip("nobody is there")
		}
		i := rapid.IntRange(0, len(sockets[x])-1).Draw(rt, "socket")
		return x, i, Target{Namespace: "/", Rooms: []string{string(sockets[x][i].ID())}}
	}
	acts := map[string]func(*rapid.T){
		"connect": func(rt *rapid.T) {
			x, c := node(rt), newConn()
			x.n.Connect(c.request("/"))
			sockets[x] = append(sockets[x], c.sockets[0])
		},
		"go": func(rt *rapid.T) {
			x, i, _ := one(rt)
			sockets[x][i].leave(ReasonClientDisconnect, "", nil)
			sockets[x] = slices.Delete(sockets[x], i, i+1)
		},
		"join": func(rt *rapid.T) {
			x, _, to := one(rt)
			_, _, _ = x.n.Join(t.Context(), to, rooms.Draw(rt, "rooms"))
		},
		"leave": func(rt *rapid.T) {
			x, _, to := one(rt)
			_, _, _ = x.n.Leave(t.Context(), to, rooms.Draw(rt, "rooms"))
		},
		"hear": func(rt *rapid.T) {
			x, y := two(rt)
			x.hear(y, rapid.SampledFrom([]int{1, 1000, 1 << 20}).Draw(rt, "bytes"))
		},
		"begin a way anew": func(rt *rapid.T) {
			x, y := two(rt)
			if w := x.ways[y]; w != nil {
				w.end()
			}
		},
		"lose": func(rt *rapid.T) {
			x, y := two(rt)
			x.lose(y, rapid.SampledFrom([]Reason{ReasonNodeLost, ReasonShutdown}).Draw(rt, "why"))
		},
		"find": func(rt *rapid.T) {
			x, y := two(rt)
			if x.ways[y] == nil {
				x.ways[y] = &way{}
			}
		},
		"restart": func(rt *rapid.T) {
			if rapid.IntRange(0, 3).Draw(rt, "seldom") > 0 {
				rt.Skip()
			}
			x := node(rt)
			for _, y := range v.nodes {
				y.lose(x, ReasonNodeLost)
				x.lose(y, ReasonNodeLost)
			}
			watchers = slices.DeleteFunc(watchers, func(w *modelWatcher) bool {
				if w.node == x.n {
					if w.token != "" {
						w.resumeAt(rt, v.nodes[(slices.Index(v.nodes, x)+1)%3].n)
						return false
					}
					w.Close()
				}
				return w.node == x.n
			})
			for _, s := range sockets[x] {
				s.leave(ReasonTransportClose, "", nil)
			}
			sockets[x] = nil
			x.n.Close()
			clear(x.follows)
			v.start(x, x.n.id)
		},
		"watch": func(rt *rapid.T) {
			scope := Scope{Namespace: "/", All: true}
			if rapid.Bool().Draw(rt, "of rooms") {
				scope = Scope{Namespace: "/", Rooms: rooms.Draw(rt, "rooms")}
			}
			x := node(rt)
			x.eager = rapid.Bool().Draw(rt, "waits for all")
			w, err := x.n.Watch(t.Context(), scope, "")
			if err != nil {
				rt.Fatal(err)
			}
			watchers = append(watchers, &modelWatcher{Watcher: w, mayLose: true})
		},
		"resume": func(rt *rapid.T) {
			if len(watchers) == 0 {
				rt.Skip("nobody watches")
			}
			w := watchers[rapid.IntRange(0, len(watchers)-1).Draw(rt, "watcher")]
			if w.token == "" {
				rt.Skip("it knows nothing")
			}
			x := node(rt)
			x.eager = rapid.Bool().Draw(rt, "waits for all")
			w.resumeAt(rt, x.n)
		},
		"step": func(rt *rapid.T) {
			if len(watchers) == 0 {
				rt.Skip("nobody watches")
			}
			watchers[rapid.IntRange(0, len(watchers)-1).Draw(rt, "watcher")].step(rt)
		},
		"compare": func(rt *rapid.T) {
			for _, x := range v.nodes {
				x.hearAll()
				if kept, counted := x.kept(); kept != counted {
					rt.Fatalf("%s keeps %d bytes of others' sockets, and counts %d", x.n.id, kept, counted)
				}
			}
			for _, w := range watchers {
				w.catchUp(rt)
				want := map[SocketID][]string{}
				for _, x := range v.nodes {
					i := slices.IndexFunc(v.nodes, func(y *neighbour) bool { return y.n == w.node })
					if v.nodes[i] != x && v.nodes[i].ways[x] == nil {
						continue
					}
					page, _ := x.n.Sockets(t.Context(), Target{Namespace: "/", All: true}, PageRequest{Limit: 1 << 20})
					for i := range page.Sockets {
						if s := &page.Sockets[i]; w.scope.All || len(w.roomsInScope(s, s.Rooms, PresenceUpdated)) > 0 {
							w.narrow(s)
							want[s.ID] = s.Rooms
						}
					}
				}
				if !maps.EqualFunc(w.view, want, slices.Equal[[]string]) {
					rt.Fatalf("a watcher of %+v at %s sees %v, the registries have %v", w.scope, w.node.id, w.view, want)
				}
			}
		},
	}
	for range 4 { // few and long stories find more than many short ones
		rt.Repeat(acts)
	}
}

// twoNodes are two that hear of each other at once, and know each other.
func twoNodes(t *testing.T, cfg Config) (here, there *neighbour) {
	v := &village{cfg: cfg}
	t.Cleanup(v.close)
	here, there = v.add("here"), v.add("away")
	here.eager, there.eager = true, true
	return here, there
}

var everybody = Scope{Namespace: "/", All: true}

// TestWatchCoversOtherNodes: the snapshot has the sockets of others too, and what they do follows, with all that is known
// of them; what the snapshot keeps is what BASIC shows.
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

// TestWatchWaitsForOthersAndNamesThem: no longer than two seconds, and who has not told by then is in the coverage, as is
// who can not be heard. What comes later comes as connects.
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

func (x *slowNeighbour) Tellers() (list []Incarnation, c Coverage) {
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

// TestLostNodesSocketsLeaveOnce: with the reason, at the last generation that was known; and when it is back its sockets are
// there again, under higher ones.
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

// TestWatchResumesAtAnotherNode: with what it missed and nothing twice, from the log there, and from the owners where that
// log has begun too late.
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

// TestNodeIsLostBeforeItWasHeard: a watcher that has heard more of a node elsewhere can not be told who of it is gone.
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

// TestCopiesAreBound: beyond their bytes, or the node's budget, the watches of the namespace end and say why, nothing is
// kept, and a later one is served when there is room. What the log keeps of lost nodes goes first.
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
