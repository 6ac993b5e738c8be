package service

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Namespace is a set of sockets with their rooms. Its one mutex guards membership: the sockets, the rooms and the
// presence log change together, so that the order of the log is the order of the registry. Code that only reads takes
// it shared.
type Namespace struct {
	// Set before start.
	node  *Node
	name  string
	maker string // the address that brought it about; "": a known name

	term atomic.Uint64 // of the node, in generations; changed with mu held, and hardly ever

	users int          // guarded by Node.mu
	size  atomic.Int64 // sockets; changed with mu held
	lane  lane
	acks  acks
	view  atomic.Pointer[view] // of the handlers; remade when their version has moved on

	assigning sync.Mutex // before mu; see assign.go

	mu      sync.RWMutex
	sockets map[SocketID]*Socket
	order   roster[*Socket]  // the same sockets by seq
	rooms   map[string]*room // those with members
	seq     uint64           // of the newest socket, or copy of one elsewhere
	log     *presenceLog     // nil while nobody watches
	logEnd  uint64           // past the last change that a log before it has numbered
}

func newNamespace(n *Node, name string) *Namespace {
	ns := &Namespace{node: n, name: name, sockets: map[SocketID]*Socket{}, rooms: map[string]*room{}}
	ns.term.Store(n.term.Load())
	return ns
}

// insertLocked adds a socket that was not there, in its first rooms.
func (ns *Namespace) insertLocked(s *Socket, rooms []string) {
	ns.seq++
	s.seq = ns.seq
	s.present = true
	ns.sockets[s.id] = s
	ns.order.add(s.seq, s)
	if ns.size.Add(1) == 1 {
		ns.edgeLocked("", true)
	}
	ns.socketLocked(s, true)
	if n := s.noteBytes(); n > 0 {
		ns.node.cfg.Budget.Force(UseData, n) // it came with a decision that was taken
	}
	joined := ns.joinLocked(s, rooms)
	s.changes.Add(1)
	ns.recordLocked(PresenceConnected, s, joined, ReasonNone, "")
}

// removeLocked takes a socket out of everything and returns the rooms it was in, sorted.
func (ns *Namespace) removeLocked(s *Socket, r Reason, detail string) []string {
	rooms := s.roomNames()
	slices.Sort(rooms)
	s.index = nil
	for len(s.rooms) > 0 {
		ns.leaveRoomLocked(s, len(s.rooms)-1)
	}
	s.rooms = nil
	if n := s.noteBytes(); n > 0 {
		ns.node.cfg.Budget.Give(UseData, n)
	}
	s.present = false
	delete(ns.sockets, s.id)
	ns.order.remove(s)
	ns.socketLocked(s, false)
	if ns.size.Add(-1) == 0 {
		ns.edgeLocked("", false)
	}
	s.changes.Add(1)
	ns.recordLocked(PresenceDisconnected, s, rooms, r, detail)
	return rooms
}

// noteBytes is what an application's notes about the socket take, with Namespace.mu held.
func (s *Socket) noteBytes() int { return cap(s.data) + len(s.userID) }

// recordLocked appends a change to the presence log, if anybody watches.
func (ns *Namespace) recordLocked(kind PresenceKind, s *Socket, rooms []string, r Reason, detail string) {
	ns.recordReleaseLocked(kind, s, rooms, r, detail, 0)
}

// recordReleaseLocked is recordLocked for a change by which the socket let go of bytes that the log's entries still
// know.
func (ns *Namespace) recordReleaseLocked(kind PresenceKind, s *Socket, rooms []string, r Reason, detail string, released int) {
	if ns.log == nil {
		return
	}
	info := s.infoLocked()
	if kind == PresenceDisconnected {
		info.Rooms = rooms
	}
	c := change{seq: s.seq, PresenceEvent: PresenceEvent{
		Kind: kind, Socket: info, Rooms: rooms, Reason: r, Detail: detail, Time: time.Now(),
	}}
	c.cost = c.costWith(released)
	ns.log.append(&c)
}
