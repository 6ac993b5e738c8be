package service

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// registryModel is a namespace in plain maps.
type registryModel struct {
	rng     *rand.Rand
	rooms   map[*Socket]map[string]bool // each socket's, its own id among them
	sockets []*Socket
}

// names are some rooms and socket ids, few or many, some of them twice, some of nobody.
func (m *registryModel) names() []string {
	list := make([]string, 1+m.rng.IntN([]int{3, 80}[m.rng.IntN(2)]))
	for i := range list {
		switch k := m.rng.IntN(10); {
		case k < 2:
			list[i] = string(m.sockets[m.rng.IntN(len(m.sockets))].ID())
		default:
			list[i] = fmt.Sprint("r", m.rng.IntN(70))
		}
	}
	return list
}

func (m *registryModel) target() Target {
	t := Target{Namespace: "/", All: m.rng.IntN(4) == 0}
	if !t.All {
		t.Rooms = m.names()
	}
	if m.rng.IntN(2) == 0 {
		t.ExceptRooms = m.names()
	}
	return t
}

// matched are the sockets of a target in the order of their connects.
func (m *registryModel) matched(t Target) []*Socket {
	in := func(s *Socket, names []string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return m.rooms[s][name] })
	}
	var list []*Socket
	for _, s := range m.sockets {
		if (t.All || in(s, t.Rooms)) && !in(s, t.ExceptRooms) {
			list = append(list, s)
		}
	}
	return list
}

// TestRegistryAgainstModel joins, leaves, connects and closes at random, with targets of few and of many rooms, sockets
// in few and in many, at once and in turns, and compares with plain maps.
func TestRegistryAgainstModel(t *testing.T) {
	n := newNode(t, Config{})
	m := &registryModel{rng: newRand(1), rooms: map[*Socket]map[string]bool{}}
	add := func() {
		s, _ := connect(t, n, "/")
		m.sockets = append(m.sockets, s)
		m.rooms[s] = map[string]bool{string(s.ID()): true}
	}
	for range 60 {
		add()
	}
	ns := n.namespace("/")
	for round := range 1500 {
		target := m.target()
		matched := m.matched(target)
		switch k := m.rng.IntN(10); {
		case k < 2:
			add()
		case k < 4 && len(m.sockets) > 10:
			i := m.rng.IntN(len(m.sockets))
			m.sockets[i].leave(ReasonTransportClose, "", nil)
			delete(m.rooms, m.sockets[i])
			m.sockets = slices.Delete(m.sockets, i, i+1)
		case k < 5:
			names := m.names()
			got, _, err := n.Join(t.Context(), target, names)
			if got != len(matched) || err != nil {
				t.Fatalf("%d join: matched %d, %v, want %d", round, got, err, len(matched))
			}
			for _, s := range matched {
				for _, name := range names {
					m.rooms[s][name] = true
				}
			}
		case k < 6:
			names := m.names()
			if got, _, _ := n.Leave(t.Context(), target, names); got != len(matched) {
				t.Fatalf("%d leave: matched %d, want %d", round, got, len(matched))
			}
			for _, s := range matched {
				for _, name := range names {
					if name != string(s.ID()) {
						delete(m.rooms[s], name)
					}
				}
			}
		default:
			m.compare(t, n, target, matched)
		}
	}
	m.compareRooms(t, ns)
}

// compare compares a target with the registry, by a match and by pages.
func (m *registryModel) compare(t *testing.T, n *Node, target Target, want []*Socket) {
	t.Helper()
	var visited []*Socket
	ns := n.namespace("/")
	ns.mu.RLock()
	ns.matchLocked(&target, func(s *Socket) { visited = append(visited, s) })
	ns.mu.RUnlock()
	slices.SortFunc(visited, func(a, b *Socket) int { return int(a.seq) - int(b.seq) })
	if !slices.Equal(visited, want) {
		t.Fatalf("%+v: visited %d, want %d", target, len(visited), len(want))
	}
	var listed []SocketID
	for place := (Place{}); ; {
		page, err := n.Sockets(t.Context(), target, PageRequest{Place: place, Limit: 7})
		if err != nil || place == (Place{}) && page.Total != len(want) || len(page.Sockets) > 7 {
			t.Fatalf("%+v: a page of %d, total %d, want %d in all, %v", target, len(page.Sockets), page.Total, len(want), err)
		}
		for i := range page.Sockets {
			listed = append(listed, page.Sockets[i].ID)
		}
		if place = page.Next; place == (Place{}) {
			break
		}
	}
	if !slices.EqualFunc(listed, want, func(id SocketID, s *Socket) bool { return id == s.ID() }) {
		t.Fatalf("%+v: listed %d, want %d", target, len(listed), len(want))
	}
}

// compareRooms compares all rooms, and what sockets and rooms know of each other.
func (m *registryModel) compareRooms(t *testing.T, ns *Namespace) {
	t.Helper()
	for s, want := range m.rooms {
		rooms := s.infoLocked().Rooms
		delete(want, string(s.ID()))
		if !slices.Equal(rooms, slices.Sorted(maps.Keys(want))) {
			t.Errorf("%s is in %v, want %v", s.ID(), rooms, want)
		}
		if s.index != nil && len(s.index) != len(s.rooms) || s.index == nil && len(s.rooms) > manyRooms {
			t.Errorf("a socket in %d rooms has an index of %d", len(s.rooms), len(s.index))
		}
		for at, p := range s.rooms {
			if s.placeIn(p.room) != at {
				t.Fatalf("room %s is at %d, its socket says %d", p.room.name, at, s.placeIn(p.room))
			}
		}
	}
	for name, r := range ns.rooms {
		for i, member := range r.members {
			if p := member.socket.rooms[member.at]; p.room != r || p.at != i {
				t.Fatalf("room %s and socket %d do not know each other's place", name, i)
			}
		}
	}
	wantEqual(t, "sockets", len(ns.sockets), len(m.rooms))
}

// countingLock counts how often it is taken.
type countingLock struct{ taken, held int }

func (l *countingLock) Lock() {
	l.taken++
	l.held++
}
func (l *countingLock) Unlock() { l.held-- }

// TestWorkGoesInTurns: however much there is to do for a list of sockets, the lock is given back after a thousand
// changes, or after the one socket that goes beyond.
func TestWorkGoesInTurns(t *testing.T) {
	for _, each := range []int{0, 1, 10, 1000} {
		list := make([]*Socket, 5000)
		l, turn, before := &countingLock{}, 0, 0
		inTurns(l, list, func(*Socket) int {
			if l.taken != turn {
				turn, before = l.taken, 0
			}
			if before += 1 + each; l.held != 1 || before >= turnWork+1+each {
				t.Fatalf("%d changes of %d each with the lock held %d times", before, each, l.held)
			}
			return each
		})
		if most := len(list)*(1+each)/turnWork + 1; l.held != 0 || l.taken > most {
			t.Errorf("%d each: the lock was taken %d times, want at most %d", each, l.taken, most)
		}
	}
}

// TestOthersHaveTheirTurnInALargeJoin: what is more than a turn is seen half done, and in the end is done in full.
func TestOthersHaveTheirTurnInALargeJoin(t *testing.T) {
	n := newNode(t, Config{})
	crowd(t, n, 2000, nil)
	rooms := make([]string, 100)
	for i := range rooms {
		rooms[i] = fmt.Sprint("room", i)
	}
	all := Target{Namespace: "/", All: true}
	for range 100 { // on a busy machine a whole join may pass while this goroutine waits for its processor
		var wg sync.WaitGroup
		wg.Go(func() {
			if matched, _, err := n.Join(t.Context(), all, rooms); matched != 2000 || err != nil {
				t.Errorf("joined %d, %v", matched, err)
			}
		})
		between := false
		for size := 0; size < 2000 && !t.Failed(); {
			size, _, _ = n.Room(t.Context(), "/", "room99")
			between = between || size > 0 && size < 2000
		}
		wg.Wait()
		if between || t.Failed() {
			return
		}
		_, _, _ = n.Leave(t.Context(), all, rooms)
	}
	t.Error("nobody got in between")
}

// TestLargeJoinIsAllOrNothing: one socket that has no room for it is enough for nobody to join, in turns as at once.
func TestLargeJoinIsAllOrNothing(t *testing.T) {
	for _, size := range []int{3, 300} {
		n := newNode(t, Config{MaxRoomsPerSocket: 50})
		crowd(t, n, size, nil)
		full, _ := connect(t, n, "/")
		join(t, n, full, "own")
		rooms := make([]string, 50)
		for i := range rooms {
			rooms[i] = fmt.Sprint("room", i)
		}
		all := Target{Namespace: "/", All: true}
		if _, _, err := n.Join(t.Context(), all, rooms); !errors.Is(err, &Error{Reason: "LIMIT_REACHED"}) {
			t.Errorf("got %v, want LIMIT_REACHED", err)
		}
		page, _ := n.Rooms(t.Context(), RoomsRequest{Namespace: "/", Limit: 1000})
		wantEqual(t, "rooms", page.Rooms, []RoomInfo{{"own", 1}})
		rooms[0] = "own"
		if matched, _, err := n.Join(t.Context(), all, slices.Concat(rooms, rooms)); matched != size+1 || err != nil {
			t.Errorf("what fits: %d joined, %v", matched, err)
		}
	}
}

// TestRoomsAreListedOnceWhileOthersChange: the walk gives the lock back, and still lists each room that is there
// throughout.
func TestRoomsAreListedOnceWhileOthersChange(t *testing.T) {
	n := newNode(t, Config{MaxRoomsPerSocket: 10_000})
	s, _ := connect(t, n, "/")
	var rooms []string
	for i := range 5000 {
		rooms = append(rooms, fmt.Sprintf("room%04d", i))
	}
	join(t, n, s, rooms...)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		target := Target{Namespace: "/", Rooms: []string{string(s.ID())}}
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_, _, _ = n.Join(t.Context(), target, []string{fmt.Sprint("other", i)})
				_, _, _ = n.Leave(t.Context(), target, []string{fmt.Sprint("other", i)})
			}
		}
	})
	for range 20 {
		var got []string
		for request := (RoomsRequest{Namespace: "/", Prefix: "room", Limit: 1000}); ; {
			page, err := n.Rooms(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page.Rooms {
				got = append(got, r.Name)
			}
			if request.After = page.Next; page.Next == "" {
				break
			}
		}
		if !slices.Equal(got, rooms) {
			t.Fatalf("%d rooms are listed, want %d, each once", len(got), len(rooms))
		}
	}
	close(stop)
	wg.Wait()
}

// TestMergesDoNotLoseEachOther: merges into one socket's data that come together are all in it, also beside
// replacements.
func TestMergesDoNotLoseEachOther(t *testing.T) {
	n := newNode(t, Config{})
	s, _ := connect(t, n, "/")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				if _, err := n.Update(t.Context(), "/", s.ID(), Update{Merge: fmt.Appendf(nil, `{"k%d_%d":1}`, g, i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	info, _ := n.Socket(t.Context(), "/", s.ID())
	wantEqual(t, "keys", strings.Count(string(info.Data), ":"), 400)

	stop := make(chan struct{})
	for g := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					_, _ = n.Update(t.Context(), "/", s.ID(), Update{Data: fmt.Appendf(nil, `{"replaced":%d}`, g*1_000_000+i)})
				}
			}
		})
	}
	for i := range 200 {
		info, err := n.Update(t.Context(), "/", s.ID(), Update{Merge: fmt.Appendf(nil, `{"mine":%d}`, i)})
		if err != nil || !strings.Contains(string(info.Data), fmt.Sprintf(`"mine":%d`, i)) || !strings.Contains(string(info.Data), "replaced") && i > 0 {
			t.Fatalf("%s, %v", info.Data, err)
		}
		if i == 0 { // from here on there is data that was replaced
			_, _ = n.Update(t.Context(), "/", s.ID(), Update{Data: []byte(`{"replaced":0}`)})
		}
	}
	close(stop)
	wg.Wait()
}

// BenchmarkMatchMany: a target of a thousand rooms costs what their members cost. "all" is the same sockets by one
// word.
func BenchmarkMatchMany(b *testing.B) {
	n := newNode(b, Config{})
	crowd(b, n, 50_000, func(i int) []string {
		return []string{fmt.Sprint("room", i%1000), fmt.Sprint("room", i/7%1000), fmt.Sprint("room", i/3%1000)}
	})
	var rooms []string
	for i := range 1000 {
		rooms = append(rooms, fmt.Sprint("room", i))
	}
	for name, target := range map[string]Target{
		"all":    {Namespace: "/", All: true},
		"rooms":  {Namespace: "/", Rooms: rooms},
		"except": {Namespace: "/", All: true, ExceptRooms: rooms},
	} {
		b.Run(name, func(b *testing.B) {
			e := Emit{Target: target, Packet: event("e", "x")}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := n.Emit(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkJoinMany: a thousand rooms joined by two thousand sockets, and left again.
func BenchmarkJoinMany(b *testing.B) {
	n := newNode(b, Config{})
	crowd(b, n, 2000, nil)
	var rooms []string
	for i := range 1000 {
		rooms = append(rooms, fmt.Sprint("room", i))
	}
	all := Target{Namespace: "/", All: true}
	for b.Loop() {
		if _, _, err := n.Join(b.Context(), all, rooms); err != nil {
			b.Fatal(err)
		}
		_, _, _ = n.Leave(b.Context(), all, rooms)
	}
}
