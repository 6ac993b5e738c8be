package service

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

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

func (x *neighbour) Tellers(string) (list []Incarnation, c Coverage) {
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

// TestWatchesOfManyNodesEqualTheirRegistries: whatever happens at three nodes, and however late they hear of each
// other, also over lost nodes, new runs of them, ways that begin anew and logs that are too short: each watcher is told
// each socket's story in order, none of it twice, also where it goes on at another node; and in the end what all nodes
// have.
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
