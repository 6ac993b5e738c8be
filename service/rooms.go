package service

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// room is a set of sockets with a name; it exists while it has members. Socket and room know each other's place, so that
// leaving costs the same in a room of two and of a million.
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

// joinLocked puts a socket into rooms and returns those that it was not in before, sorted. Its own id is not a room to join,
// and rooms beyond the limit are left out.
func (ns *Namespace) joinLocked(s *Socket, names []string) []string {
	var joined []string
	for _, name := range names {
		if name == string(s.id) || s.placeIn(ns.rooms[name]) >= 0 || len(s.rooms) >= ns.node.cfg.MaxRoomsPerSocket {
			continue
		}
		r := ns.rooms[name]
		if r == nil {
			r = &room{name: strings.Clone(name)}
			ns.rooms[r.name] = r
		}
		r.members = append(r.members, member{s, len(s.rooms)})
		s.rooms = append(s.rooms, roomPlace{r, len(r.members) - 1})
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

// leaveRoomLocked takes a socket out of the room at a place of its list. The last of each list takes the place left free.
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
}

// placeIn is the place of a room in the socket's list; -1 when it is not in it.
func (s *Socket) placeIn(r *room) int {
	if r == nil {
		return -1
	}
	for i := range s.rooms {
		if s.rooms[i].room == r {
			return i
		}
	}
	return -1
}

// matchLocked calls visit once for every socket of a target, with mu held shared or whole. It keeps no list of the sockets
// it has seen: a socket of several rooms is the business of the first of them.
func (ns *Namespace) matchLocked(t *Target, visit func(*Socket)) {
	except := ns.resolveLocked(t.ExceptRooms)
	if t.All {
		for i := range ns.order.entries {
			if s := ns.order.entries[i].socket; s != nil && !except.has(s, len(except.rooms)) {
				visit(s)
			}
		}
		return
	}
	set := ns.resolveLocked(t.Rooms)
	for _, s := range set.sockets {
		if !except.has(s, len(except.rooms)) {
			visit(s)
		}
	}
	for i, r := range set.rooms {
		for j := range r.members {
			s := r.members[j].socket
			// Those of set.sockets and of earlier rooms have had their visit.
			if (len(set.rooms) == 1 && len(set.sockets) == 0 || !set.has(s, i)) && !except.has(s, len(except.rooms)) {
				visit(s)
			}
		}
	}
}

// roomSet are the rooms of a target that exist, and the sockets that its names mean by their id.
type roomSet struct {
	rooms   []*room
	sockets []*Socket
}

func (ns *Namespace) resolveLocked(names []string) roomSet {
	var set roomSet
	for i, name := range names {
		if len(name) == socketIDLen {
			if s := ns.sockets[SocketID(name)]; s != nil && !slices.Contains(set.sockets, s) {
				set.sockets = append(set.sockets, s)
			}
		}
		if r := ns.rooms[name]; r != nil && !slices.Contains(names[:i], name) {
			set.rooms = append(set.rooms, r)
		}
	}
	return set
}

// has says whether a socket is one of the set's own or in one of its first n rooms.
func (set *roomSet) has(s *Socket, n int) bool {
	if slices.Contains(set.sockets, s) {
		return true
	}
	for i := range n {
		if s.placeIn(set.rooms[i]) >= 0 {
			return true
		}
	}
	return false
}

// Join puts every socket of a target into rooms and returns how many matched. When it returns, an emit to the rooms reaches
// them. Joining twice is joining once. If one of them would be in more rooms than it may: an Error with reason
// LIMIT_REACHED, and nobody has joined.
func (n *Node) Join(_ context.Context, t Target, rooms []string) (int, Coverage, error) {
	ns := n.namespace(t.Namespace)
	if ns == nil {
		return 0, Coverage{}, nil
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	matched := ns.matchedLocked(&t)
	most := n.cfg.MaxRoomsPerSocket
	for _, s := range matched {
		if len(s.rooms)+len(rooms) > most && ns.roomsAfterLocked(s, rooms) > most {
			return 0, Coverage{}, &Error{
				Code: Exhausted, Reason: "LIMIT_REACHED", Field: "rooms",
				Message: fmt.Sprintf("socket %s would be in more than %d rooms", s.id, most),
			}
		}
	}
	for _, s := range matched {
		if joined := ns.joinLocked(s, rooms); len(joined) > 0 {
			s.generation.Add(1)
			ns.recordLocked(PresenceJoined, s, joined, ReasonNone, "")
		}
	}
	return len(matched), Coverage{}, nil
}

// roomsAfterLocked is how many rooms a socket would be in after a join.
func (ns *Namespace) roomsAfterLocked(s *Socket, rooms []string) int {
	n := len(s.rooms)
	for i, name := range rooms {
		if name != string(s.id) && s.placeIn(ns.rooms[name]) < 0 && !slices.Contains(rooms[:i], name) {
			n++
		}
	}
	return n
}

// Leave takes every socket of a target out of rooms and returns how many matched.
func (n *Node) Leave(_ context.Context, t Target, rooms []string) (int, Coverage, error) {
	ns := n.namespace(t.Namespace)
	if ns == nil {
		return 0, Coverage{}, nil
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	matched := ns.matchedLocked(&t)
	for _, s := range matched {
		if left := ns.leaveLocked(s, rooms); len(left) > 0 {
			s.generation.Add(1)
			ns.recordLocked(PresenceLeft, s, left, ReasonNone, "")
		}
	}
	return len(matched), Coverage{}, nil
}

// matchedLocked lists the sockets of a target, for changes that move the very lists which a match walks.
func (ns *Namespace) matchedLocked(t *Target) []*Socket {
	var matched []*Socket
	ns.matchLocked(t, func(s *Socket) { matched = append(matched, s) })
	return matched
}

// Room tells how many sockets are in a room. A socket's id is the room of that one socket.
func (n *Node) Room(_ context.Context, namespace, room string) (size int, c Coverage, err error) {
	ns := n.namespace(namespace)
	if ns == nil {
		return 0, Coverage{}, nil
	}
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	ns.matchLocked(&Target{Rooms: []string{room}}, func(*Socket) { size++ })
	return size, Coverage{}, nil
}

// RoomInfo is a room with its size.
type RoomInfo struct {
	Name string
	Size int
}

// Rooms lists at most limit rooms of a namespace by name: those that begin with prefix and come behind after. more says
// whether others follow. Rooms of single socket ids are not listed.
func (n *Node) Rooms(_ context.Context, namespace, prefix, after string, limit int) (list []RoomInfo, more bool, c Coverage, err error) {
	ns := n.namespace(namespace)
	if ns == nil {
		return nil, false, Coverage{}, nil
	}
	byName := func(a, b RoomInfo) int { return strings.Compare(a.Name, b.Name) }
	ns.mu.RLock()
	for name, r := range ns.rooms {
		if name <= after || !strings.HasPrefix(name, prefix) {
			continue
		}
		list = append(list, RoomInfo{name, len(r.members)})
		// The list is cut now and then rather than kept sorted: each room costs a constant, and the page its own size.
		if len(list) >= 4*(limit+1) {
			slices.SortFunc(list, byName)
			list = list[:limit+1]
		}
	}
	ns.mu.RUnlock()
	slices.SortFunc(list, byName)
	if len(list) > limit {
		return list[:limit], true, Coverage{}, nil
	}
	return list, false, Coverage{}, nil
}
