package service

import "context"

// End ends a socket because its client left the namespace or its link is gone: it leaves its rooms, and handlers and
// watchers are told. Only the first call counts. When it returns nothing more is sent for this socket. Not to be called
// with a lock of the link held.
func (n *Node) End(s *Socket, r Reason, detail string) {
	if r == ReasonHandlerSlow && detail == "" {
		detail = "its handler took nothing from it for " + n.cfg.HandlerPatience.String() + " (--handler-patience)"
	}
	s.leave(r, detail, nil)
}

// leave is Node.End. With a farewell the link forgets the socket and sends that as its last packet, unless the client
// has left meanwhile: then it may be back as another socket, and false says that nothing was done. Both happen in one
// step with the end, since a client that has read the farewell may ask again at once, and must not be answered with the
// old one's packets.
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
	ns.node.departures.add(info, r, detail)
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
