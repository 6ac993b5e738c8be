package service

import (
	"slices"
	"sync"
)

// matchLocked calls visit once for every socket of a target, with mu held shared or whole. Between a few rooms it keeps
// no list of the sockets it has seen: a socket of several is the business of the first of them.
func (ns *Namespace) matchLocked(t *Target, visit func(*Socket)) {
	if len(t.Rooms) > fewRooms || len(t.ExceptRooms) > fewRooms {
		ns.matchManyLocked(t, visit)
		return
	}
	except := ns.resolveLocked(t.ExceptRooms)
	free := len(except.rooms)+len(except.sockets) == 0 // as usual: nobody is asked
	if t.All {
		for i := range ns.order.entries {
			if s := ns.order.entries[i].socket; s != nil && (free || !except.has(s, len(except.rooms))) {
				visit(s)
			}
		}
		return
	}
	set := ns.resolveLocked(t.Rooms)
	for _, s := range set.sockets {
		if free || !except.has(s, len(except.rooms)) {
			visit(s)
		}
	}
	for i, r := range set.rooms {
		for j := range r.members {
			s := r.members[j].socket
			// Those of set.sockets and of earlier rooms have had their visit.
			if (len(set.rooms) == 1 && len(set.sockets) == 0 || !set.has(s, i)) && (free || !except.has(s, len(except.rooms))) {
				visit(s)
			}
		}
	}
}

// fewRooms are so few that to ask each socket about each of them is cheaper than to mark who was seen.
const fewRooms = 4

// roomSet are the rooms of a target that exist, and the sockets that its names mean by their id.
type roomSet struct {
	rooms   []*room
	sockets []*Socket
}

// resolveLocked is for a few names.
func (ns *Namespace) resolveLocked(names []string) roomSet {
	var set roomSet
	for i, name := range names {
		if s := ns.byIDLocked(name); s != nil && !slices.Contains(set.sockets, s) {
			set.sockets = append(set.sockets, s)
		}
		if r := ns.rooms[name]; r != nil && !slices.Contains(names[:i], name) {
			set.rooms = append(set.rooms, r)
		}
	}
	return set
}

// byIDLocked is the socket that a name means by its id; nil: none.
func (ns *Namespace) byIDLocked(name string) *Socket {
	if len(name) != socketIDLen {
		return nil
	}
	return ns.sockets[SocketID(name)]
}

// has says whether a socket is one of the set's own or in one of its first n rooms.
func (set *roomSet) has(s *Socket, n int) bool {
	return slices.Contains(set.sockets, s) || s.inAny(set.rooms[:n])
}

// inAny says whether a socket is in one of the rooms.
func (s *Socket) inAny(rooms []*room) bool {
	for _, r := range rooms {
		if s.placeIn(r) >= 0 {
			return true
		}
	}
	return false
}

// matchManyLocked is matchLocked for many names: it costs what their rooms and the members of these cost, however many
// rooms a socket is in. A socket that was seen, or is excepted, is marked.
func (ns *Namespace) matchManyLocked(t *Target, visit func(*Socket)) {
	m := borrowMarks(len(ns.order.entries))
	defer m.giveBack()
	except := ns.exceptLocked(t, m)
	once := func(s *Socket) {
		if m.mark(s) && !s.inAny(except) {
			visit(s)
		}
	}
	if t.All {
		for i := range ns.order.entries {
			if s := ns.order.entries[i].socket; s != nil {
				once(s)
			}
		}
		return
	}
	for _, name := range t.Rooms {
		if s := ns.byIDLocked(name); s != nil {
			once(s)
		}
		if r := ns.rooms[name]; r != nil && m.first(r) {
			for i := range r.members {
				once(r.members[i].socket)
			}
		}
	}
}

// exceptLocked marks those that a target leaves out. Where that would cost more than to ask those that it means, it
// leaves the members of rooms to be asked about, and returns the rooms.
func (ns *Namespace) exceptLocked(t *Target, m *marks) []*room {
	var rooms []*room
	members := 0
	for _, name := range t.ExceptRooms {
		if s := ns.byIDLocked(name); s != nil {
			m.mark(s)
		}
		if r := ns.rooms[name]; r != nil && m.first(r) {
			rooms = append(rooms, r)
			members += len(r.members)
		}
	}
	clear(m.rooms)
	if members > ns.reachLocked(t)*len(rooms) {
		return rooms
	}
	for _, r := range rooms {
		for i := range r.members {
			m.mark(r.members[i].socket)
		}
	}
	return nil
}

// reachLocked is how many sockets a target means at the most, exceptions aside, with mu held shared or whole.
func (ns *Namespace) reachLocked(t *Target) int {
	if t.All {
		return len(ns.sockets)
	}
	n := 0
	for _, name := range t.Rooms {
		if len(name) == socketIDLen {
			n++
		}
		if r := ns.rooms[name]; r != nil {
			n += len(r.members)
		}
	}
	return n
}

// marks are the sockets and rooms that a match has seen: sockets by their place in the roster.
type marks struct {
	sockets []uint64 // a bit each
	rooms   map[*room]struct{}
}

var marksPool = sync.Pool{New: func() any { return &marks{rooms: map[*room]struct{}{}} }}

// borrowMarks returns marks for a roster of a length.
func borrowMarks(length int) *marks {
	m := marksPool.Get().(*marks)
	words := (length + 63) / 64
	m.sockets = slices.Grow(m.sockets[:0], words)[:words]
	clear(m.sockets)
	return m
}

func (m *marks) giveBack() {
	clear(m.rooms)
	marksPool.Put(m)
}

// mark marks a socket and says whether it was not marked before.
func (m *marks) mark(s *Socket) bool {
	word, bit := &m.sockets[s.place/64], uint64(1)<<(s.place%64)
	fresh := *word&bit == 0
	*word |= bit
	return fresh
}

// first says whether a room is seen for the first time.
func (m *marks) first(r *room) bool {
	before := len(m.rooms)
	m.rooms[r] = struct{}{}
	return len(m.rooms) > before
}
