package service

// Origin is the socket that an event comes from, as handlers see it: one of this node, which is a *Socket, or a
// reference to one elsewhere. It is comparable, and the same value for the whole life of the socket. Its methods are
// safe for concurrent use and never block.
type Origin interface {
	ID() SocketID
	Namespace() string
	NodeID() NodeID

	// Ack sends the client the acknowledgement of one of its events, if the socket is still there. The packet's payload is
	// read before Ack returns, and not kept. Called without locks.
	Ack(p *Packet)
	// Hold counts an event of so many bytes that waits at a handler, which may pause the reading of the socket's link;
	// shared says what the socket must hold to be paused for a bound that it shares with others. Release counts it off,
	// and HeldBy says that it waits at another handler from now on; nil: at none that is there. Called with locks of
	// handlers held.
	Hold(bytes int, at *Handler, shared Pressure)
	HeldBy(at *Handler)
	Release(bytes int)
	// Settled says that a handler which leaves has answered the last event of the socket that its backend has seen: what
	// waited for that may go on. Called without locks.
	Settled(h *Handler)
	// Left says that something of the socket is left over at a handler that has gone, and takes it out by
	// Handler.Surrender before it returns, for the handler that comes after it. Called without locks, and again as long as
	// something is left.
	Left(h *Handler)
}
