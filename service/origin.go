package service

// Origin is the socket that an event comes from, as handlers see it: one of this node, which is a *Socket, or a reference to
// one elsewhere. It is comparable, and the same value for the whole life of the socket. Its methods are safe for concurrent
// use and never block.
type Origin interface {
	ID() SocketID
	Namespace() string
	NodeID() NodeID

	// Ack sends the client the acknowledgement of one of its events, if the socket is still there. The packet's payload is
	// read before Ack returns, and not kept. Called without locks.
	Ack(p *Packet)
	// Hold counts an event of so many bytes that waits at a handler, which may pause the reading of the socket's link; shared
	// says what the socket must hold to be paused for a bound that it shares with others. Release counts it off, and HeldBy
	// says that it waits at another handler from now on; nil: at none that is there. Called with locks of handlers held.
	Hold(bytes int, at *Handler, shared Pressure)
	HeldBy(at *Handler)
	Release(bytes int)
	// Settled says that a handler which leaves has answered the last event of the socket that its backend has seen: what
	// waited for that may go on. Called without locks.
	Settled(h *Handler)
	// Left says that something of the socket is left over at a handler that has gone: Handler.Surrender gives it out, for the
	// handler that comes after it. Called without locks.
	Left(h *Handler)
}

// ID is its id.
func (s *Socket) ID() SocketID { return s.id }

// Namespace is the name of its namespace.
func (s *Socket) Namespace() string { return s.ns.name }

// NodeID is the node that it is connected to.
func (s *Socket) NodeID() NodeID { return s.ns.node.id }

// Ack is Origin.Ack. The client is owed it, whatever else waits for it; it may be back as another socket, whose ids begin
// anew, and that one is not to get it.
func (s *Socket) Ack(p *Packet) {
	f, err := s.conn.Codec().Encode(p)
	if err != nil {
		return
	}
	out := Closed
	s.mu.Lock()
	if s.gone == nil {
		out = s.conn.Send(f, Owed)
	}
	s.mu.Unlock()
	switch out {
	case QueuedFlush:
		s.conn.Flush()
	case Closed:
		s.ns.node.drops.add(dropClosing, 1)
	}
}

// Settled is Origin.Settled.
func (s *Socket) Settled(h *Handler) {
	s.ns.assigning.Lock()
	defer s.ns.assigning.Unlock()
	h.group.releaseLocked(s)
}

// Left is Origin.Left: the socket has left, too, or its handler would have been another's turn.
func (s *Socket) Left(h *Handler) {
	s.ns.assigning.Lock()
	defer s.ns.assigning.Unlock()
	h.node.handlers.moveLocked(h, []adoptee{{socket: s, info: s.gone}})
}

// Offer tells the handler of a socket elsewhere, whose origin is n.From: that it has connected, an event of it, or that it is
// gone. False: the handler takes nothing any more, or nothing from other nodes, and who has the socket finds another one.
func (h *Handler) Offer(n Notice) bool {
	if h.reg.Local && n.From.NodeID() != h.node.id {
		return false
	}
	switch n.Kind {
	case NoticeConnected:
		return h.greet(n.From, n.Sockets[0])
	case NoticeEvent:
		return h.event(&n) == taken
	case NoticeDisconnected:
		return h.part(&n)
	}
	return false
}
