package service

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Socket is one client in one namespace.
type Socket struct {
	// Set before start.
	id          SocketID
	ns          *Namespace
	conn        Conn
	connectedAt time.Time

	// Guarded by Namespace.mu.
	seq     uint64 // its place in the order of connects
	rooms   []roomPlace
	index   map[*room]int // place in rooms; nil while they are few
	userID  string
	data    []byte // JSON object, or nil
	present bool   // in the registry
	place   uint32 // in the roster

	changes atomic.Uint64 // how many there were; changed with Namespace.mu held

	acks   []int64  // ids of emits it still has to acknowledge; guarded by ns.acks.mu
	oneAck [1]int64 // room for the one that is usual

	share share // what waits for its handlers

	mu       sync.Mutex
	assigned []assignment // one for each group that knows it; guarded by mu, changed with Namespace.assigning held too
	gone     *SocketInfo  // what it was when it left; guarded by mu, changed with Namespace.assigning held too

	// Guarded by Namespace.assigning.
	parked   []parked // events that wait for a handler to come, oldest first
	farewell *parked  // the news of its end, when that waits too: behind all events
}

// ID is its id.
func (s *Socket) ID() SocketID { return s.id }

// Namespace is the name of its namespace.
func (s *Socket) Namespace() string { return s.ns.name }

// NodeID is the node that it is connected to.
func (s *Socket) NodeID() NodeID { return s.ns.node.id }

// generation orders what is said of the socket: the term, then the number of its changes.
func (s *Socket) generation() uint64 { return s.ns.term.Load()<<termShift + s.changes.Load() }

// termShift is how many bits of a generation count changes, so that all of it stays below 2^53 for 8191 terms: numbers
// up to there are exact in every language.
const termShift = 40

// slot is where the socket keeps its place in a roster.
func (s *Socket) slot() *uint32 { return &s.place }

// SocketInfo is what is known of a socket at one moment. Its slices and maps are not to be changed.
type SocketInfo struct {
	ID          SocketID
	Generation  uint64
	Namespace   string
	NodeID      NodeID
	SessionID   string
	Transport   string
	ConnectedAt time.Time
	Rooms       []string // sorted, without its own id
	UserID      string
	Data        []byte // JSON object, or nil
	Handshake   Handshake
	Auth        []byte // JSON object, or nil; in NoticeConnect only
}

// infoLocked copies what is known of the socket, with Namespace.mu held shared or whole.
func (s *Socket) infoLocked() *SocketInfo {
	info := s.factsLocked()
	slices.Sort(info.Rooms)
	return info
}

// factsLocked is infoLocked with the rooms in no order: a caller that asks for many sockets sorts without the lock.
func (s *Socket) factsLocked() *SocketInfo {
	return &SocketInfo{
		ID: s.id, Generation: s.generation(), Namespace: s.ns.name, NodeID: s.ns.node.id, SessionID: s.conn.SessionID(),
		Transport: s.conn.Transport(), ConnectedAt: s.connectedAt, Rooms: s.roomNames(), UserID: s.userID, Data: s.data,
		Handshake: s.conn.Handshake(),
	}
}

// roomNames are the socket's rooms in no order, with Namespace.mu held.
func (s *Socket) roomNames() []string {
	if len(s.rooms) == 0 {
		return nil
	}
	names := make([]string, len(s.rooms))
	for i := range s.rooms {
		names[i] = s.rooms[i].room.name
	}
	return names
}

// Socket returns what is known of one socket, or ErrSocketNotFound. One node knows it: an answer covers all, or is an
// error.
func (n *Node) Socket(_ context.Context, namespace string, id SocketID) (SocketInfo, error) {
	ns := n.namespace(namespace)
	if ns == nil {
		return SocketInfo{}, ErrSocketNotFound
	}
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	s := ns.sockets[id]
	if s == nil {
		return SocketInfo{}, ErrSocketNotFound
	}
	return *s.infoLocked(), nil
}
