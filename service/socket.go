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

	generation atomic.Uint64 // changed with Namespace.mu held

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

// Receive takes an EVENT or ACK packet that a client sent on its socket. Calls of one link come one after the other. It never
// blocks.
func (n *Node) Receive(s *Socket, p *Packet) { s.receive(p) }

// End ends a socket because its client left the namespace or its link is gone: it leaves its rooms, and handlers and watchers
// are told. Only the first call counts. When it returns nothing more is sent for this socket. Not to be called with a lock of
// the link held.
func (n *Node) End(s *Socket, r Reason, detail string) {
	if r == ReasonHandlerSlow && detail == "" {
		detail = "its handler took nothing from it for " + n.cfg.HandlerPatience.String() + " (--handler-patience)"
	}
	s.leave(r, detail, nil)
}

func (s *Socket) receive(p *Packet) {
	switch p.Kind {
	case KindEvent:
		s.ns.node.handlers.route(s, p)
	case KindAck:
		if !s.ns.acks.resolve(s, p) {
			s.ns.node.drops.add(dropAckUnknown, 1)
		}
	}
}

// leave is Node.End. With a farewell the link forgets the socket and sends that as its last packet, unless the client has
// left meanwhile: then it may be back as another socket, and false says that nothing was done. Both happen in one step
// with the end, since a client that has read the farewell may ask again at once, and must not be answered with the old
// one's packets.
func (s *Socket) leave(r Reason, detail string, farewell *encodeOnce) bool {
	if !s.depart(r, detail, farewell) {
		return false
	}
	s.ns.acks.leave(s)
	s.ns.node.release(s.ns)
	return true
}

func (s *Socket) depart(r Reason, detail string, farewell *encodeOnce) bool {
	ns := s.ns
	ns.assigning.Lock()
	defer ns.assigning.Unlock()
	ns.mu.Lock()
	if !s.present || farewell != nil && !s.conn.Forget(s) {
		ns.mu.Unlock()
		return false
	}
	rooms := ns.removeLocked(s, r, detail)
	info := s.infoLocked()
	info.Rooms = rooms
	s.mu.Lock()
	if farewell != nil {
		if f := farewell.frame(s.conn.Codec()); f != nil {
			s.conn.Send(f, Owed)
		}
	}
	s.gone = info
	s.mu.Unlock()
	ns.mu.Unlock()
	ns.node.handlers.disconnectedLocked(s, r, detail)
	return true
}

// end disconnects the socket on a backend's order.
func (s *Socket) end(mode DisconnectMode, once *encodeOnce) {
	switch mode {
	case DisconnectNamespace:
		if s.leave(ReasonServerDisconnect, "", once) {
			s.conn.Flush()
		}
	case DisconnectConnection:
		s.conn.Dismiss()
	case DisconnectTransport:
		s.conn.Close(ReasonForcedClose)
	}
}

// send puts packets into the queue of the socket's link and notes in touched whether the caller owes it a flush, or it
// is full.
func (s *Socket) send(once *encodeOnce, flags Flags, touched *touched) Outcome {
	f := once.frame(s.conn.Codec())
	if f == nil {
		return Closed
	}
	out := s.conn.Send(f, flags)
	switch out {
	case QueuedFlush:
		touched.add(s.conn)
	case Full:
		touched.full = append(touched.full, s)
	}
	return out
}

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

// factsLocked is infoLocked with the rooms in no order: whoever asks for many sockets sorts without the lock.
func (s *Socket) factsLocked() *SocketInfo {
	return &SocketInfo{
		ID: s.id, Generation: s.generation.Load(), Namespace: s.ns.name, NodeID: s.ns.node.id, SessionID: s.conn.SessionID(),
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

// Socket returns what is known of one socket, or ErrSocketNotFound. One node knows it: an answer covers all, or is an error.
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

// DisconnectMode says how a socket is ended by a backend.
type DisconnectMode uint8

// The modes.
const (
	DisconnectNamespace  DisconnectMode = iota // it leaves the namespace; the link stays
	DisconnectConnection                       // every namespace of the link, then the link; the client stays away
	DisconnectTransport                        // the link, as by a lost network; the client comes back
)

// Disconnect ends every socket of a target and returns how many matched.
func (n *Node) Disconnect(_ context.Context, t Target, mode DisconnectMode) (int, Coverage, error) {
	ns := n.namespace(t.Namespace)
	if ns == nil {
		return 0, Coverage{}, nil
	}
	ns.mu.RLock()
	matched := ns.matchedLocked(&t)
	ns.mu.RUnlock()
	once := encodeOnce{packets: []*Packet{{Kind: KindDisconnect, Namespace: ns.name, AckID: NoAck}}}
	for _, s := range matched {
		s.end(mode, &once)
	}
	return len(matched), Coverage{}, nil
}
