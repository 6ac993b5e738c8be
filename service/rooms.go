package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// room is a set of sockets with a name; it exists while it has members. Socket and room know each other's place, so
// that leaving costs the same in a room of two and of a million.
type room struct {
	name    string
	members []member // read with Namespace.mu shared
}

type member struct {
	socket *Socket
	at     int // place of this room in socket.rooms
}

// roomPlace is a socket's own record of a room it is in.
type roomPlace struct {
	room *room
	at   int // place of the socket in room.members
}

// joinLocked puts a socket into rooms and returns those that it was not in before, sorted. Its own id is not a room to
// join, and rooms beyond the limit are left out.
func (ns *Namespace) joinLocked(s *Socket, names []string) []string {
	var joined []string
	for _, name := range names {
		r := ns.rooms[name]
		if name == string(s.id) || s.placeIn(r) >= 0 || len(s.rooms) >= ns.node.cfg.MaxRoomsPerSocket {
			continue
		}
		if r == nil {
			r = &room{name: strings.Clone(name)}
			ns.rooms[r.name] = r
			ns.edgeLocked(r.name, true)
		}
		r.members = append(r.members, member{s, len(s.rooms)})
		s.addPlace(roomPlace{r, len(r.members) - 1})
		joined = append(joined, r.name)
	}
	slices.Sort(joined)
	return joined
}

// leaveLocked takes a socket out of rooms and returns those that it was in, sorted.
func (ns *Namespace) leaveLocked(s *Socket, names []string) []string {
	var left []string
	for _, name := range names {
		r := ns.rooms[name]
		if at := s.placeIn(r); at >= 0 {
			left = append(left, r.name)
			ns.leaveRoomLocked(s, at)
		}
	}
	slices.Sort(left)
	return left
}

// leaveRoomLocked takes a socket out of the room at a place of its list. The last of each list takes the place left
// free.
func (ns *Namespace) leaveRoomLocked(s *Socket, at int) {
	p := s.rooms[at]
	r, last := p.room, len(p.room.members)-1
	if p.at != last {
		moved := r.members[last]
		r.members[p.at] = moved
		moved.socket.rooms[moved.at].at = p.at
	}
	r.members[last] = member{}
	r.members = r.members[:last]
	switch {
	case last == 0:
		delete(ns.rooms, r.name)
		ns.edgeLocked(r.name, false)
	case cap(r.members) > 64 && cap(r.members) > 4*last:
		r.members = slices.Clone(r.members)
	}

	end := len(s.rooms) - 1
	if at != end {
		moved := s.rooms[end]
		s.rooms[at] = moved
		moved.room.members[moved.at].at = at
	}
	s.rooms[end] = roomPlace{}
	s.rooms = s.rooms[:end]
	switch {
	case s.index == nil:
	case end < manyRooms/2:
		s.index = nil
	default:
		delete(s.index, r)
		if at != end {
			s.index[s.rooms[at].room] = at
		}
	}
}

// manyRooms are so many that a socket keeps an index of them: its list is not searched any more.
const manyRooms = 32

// addPlace adds a room to the socket's list.
func (s *Socket) addPlace(p roomPlace) {
	s.rooms = append(s.rooms, p)
	switch at := len(s.rooms) - 1; {
	case s.index != nil:
		s.index[p.room] = at
	case at >= manyRooms:
		s.index = make(map[*room]int, 2*manyRooms)
		for i := range s.rooms {
			s.index[s.rooms[i].room] = i
		}
	}
}

// placeIn is the place of a room in the socket's list; -1 when it is not in it.
func (s *Socket) placeIn(r *room) int {
	if r == nil {
		return -1
	}
	if s.index != nil {
		if at, in := s.index[r]; in {
			return at
		}
		return -1
	}
	for i := range s.rooms {
		if s.rooms[i].room == r {
			return i
		}
	}
	return -1
}

// Join puts every socket of a target into rooms and returns how many matched. When it returns, an emit to the rooms
// reaches them. Joining twice is joining once. If one of them would be in more rooms than it may: an Error with reason
// LIMIT_REACHED, and nobody has joined. A join of more than a thousand rooms, all sockets together, goes in turns,
// between which others go on: emits find some that have joined already, and a socket that has left meanwhile, or that
// others have put into too many rooms since it was looked at, joins none and is not counted.
func (n *Node) Join(_ context.Context, t Target, rooms []string) (int, Coverage, error) {
	ns := n.namespace(t.Namespace)
	if ns == nil {
		return 0, Coverage{}, nil
	}
	rooms = distinct(rooms)
	matched, err := ns.changeRooms(&t, len(rooms), func(s *Socket) error {
		most := n.cfg.MaxRoomsPerSocket
		if len(s.rooms)+len(rooms) <= most || ns.roomsAfterLocked(s, rooms) <= most {
			return nil
		}
		return &Error{
			Code: Exhausted, Reason: "LIMIT_REACHED", Field: "rooms",
			Message: fmt.Sprintf("socket %s would be in more than %d (Limits.max_rooms_per_socket)", s.id, most),
		}
	}, func(s *Socket) {
		if joined := ns.joinLocked(s, rooms); len(joined) > 0 {
			s.changes.Add(1)
			ns.recordLocked(PresenceJoined, s, joined, ReasonNone, "")
		}
	})
	return matched, Coverage{}, err
}

// roomsAfterLocked is how many rooms a socket would be in after it joins some, no two of them the same.
func (ns *Namespace) roomsAfterLocked(s *Socket, rooms []string) int {
	n := len(s.rooms)
	for _, name := range rooms {
		if name != string(s.id) && s.placeIn(ns.rooms[name]) < 0 {
			n++
		}
	}
	return n
}

// Leave takes every socket of a target out of rooms and returns how many matched. It goes in turns as Join does.
func (n *Node) Leave(_ context.Context, t Target, rooms []string) (int, Coverage, error) {
	ns := n.namespace(t.Namespace)
	if ns == nil {
		return 0, Coverage{}, nil
	}
	rooms = distinct(rooms)
	matched, err := ns.changeRooms(&t, len(rooms), func(*Socket) error { return nil }, func(s *Socket) {
		if left := ns.leaveLocked(s, rooms); len(left) > 0 {
			s.changes.Add(1)
			ns.recordLocked(PresenceLeft, s, left, ReasonNone, "")
		}
	})
	return matched, Coverage{}, err
}

// distinct is a list without repetitions.
func distinct(rooms []string) []string {
	if len(rooms) < 2 {
		return rooms
	}
	rooms = slices.Clone(rooms)
	slices.Sort(rooms)
	return slices.Compact(rooms)
}

// turnWork is how many changes of rooms, or looks at them, are made while the namespace is locked once. In between,
// emits and connects have their turn.
const turnWork = 1000

// changeRooms changes the rooms of every socket of a target, perSocket rooms each, and returns how many matched.
// Nothing is changed unless fits lets all of them. What is more than a turn is looked at first and changed afterwards,
// each in turns.
func (ns *Namespace) changeRooms(t *Target, perSocket int, fits func(*Socket) error, change func(*Socket)) (matched int, err error) {
	ns.mu.Lock()
	if ns.reachLocked(t)*perSocket <= turnWork {
		defer ns.mu.Unlock()
		list := ns.matchedLocked(t)
		for _, s := range list {
			if err := fits(s); err != nil {
				return 0, err
			}
		}
		for _, s := range list {
			change(s)
		}
		return len(list), nil
	}
	ns.mu.Unlock()

	ns.mu.RLock()
	list := ns.matchedLocked(t)
	ns.mu.RUnlock()
	inTurns(ns.mu.RLocker(), list, func(s *Socket) int {
		if err == nil {
			err = fits(s)
		}
		return perSocket
	})
	if err != nil {
		return 0, err
	}
	inTurns(&ns.mu, list, func(s *Socket) int {
		if s.present && fits(s) == nil {
			change(s)
			matched++
		}
		return perSocket + len(s.rooms)
	})
	return matched, nil
}

// inTurns does something to each socket with a lock held, which it gives back when the work that was done is a turn's.
func inTurns(l sync.Locker, list []*Socket, do func(*Socket) (work int)) {
	for len(list) > 0 {
		l.Lock()
		for work := 0; len(list) > 0 && work < turnWork; list = list[1:] {
			work += 1 + do(list[0])
		}
		l.Unlock()
	}
}

// matchedLocked lists the sockets of a target, for changes that move the very lists which a match walks.
func (ns *Namespace) matchedLocked(t *Target) []*Socket {
	var matched []*Socket
	ns.matchLocked(t, func(s *Socket) { matched = append(matched, s) })
	return matched
}

// Room tells how many sockets are in a room. A socket's id is the room of that one socket.
func (n *Node) Room(_ context.Context, namespace, room string) (size int, c Coverage, err error) {
	return n.Count(Target{Namespace: namespace, Rooms: []string{room}}), Coverage{}, nil
}

// Count tells how many sockets of this node a target has.
func (n *Node) Count(t Target) (size int) {
	ns := n.namespace(t.Namespace)
	if ns == nil {
		return 0
	}
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	if t.All && len(t.ExceptRooms) == 0 {
		return len(ns.sockets)
	}
	ns.matchLocked(&t, func(*Socket) { size++ })
	return size
}
