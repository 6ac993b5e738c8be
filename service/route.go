package service

import "time"

// Receive takes an EVENT or ACK packet that a client sent on its socket. Calls of one link come one after the other. It
// never blocks.
func (n *Node) Receive(s *Socket, p *Packet) { s.receive(p) }

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

// route takes a client's event to the handler that owns it, and copies to observers.
func (hs *handlers) route(s *Socket, p *Packet) {
	n := Notice{Kind: NoticeEvent, From: s, Generation: s.generation(), Packet: p, Time: time.Now()}
	v := hs.viewOf(s.ns)
	owner := v.owner(p.Event)
	taken := false
	s.mu.Lock() // while an event is queued, its socket's end is not: Disconnected stays the last word
	for _, a := range s.assigned {
		switch {
		case a.handler == nil:
		case a.group == owner:
			taken = a.handler.event(&n)
		case a.group.observer && a.handler.claims.takes(p.Event):
			if !a.handler.event(&Notice{Kind: NoticeEvent, From: s, Generation: n.Generation, Packet: p, Time: n.Time}) {
				hs.node.drops.add(dropObserver, 1)
			}
		}
	}
	s.mu.Unlock()
	switch {
	case taken:
	case owner == nil && n.Time.After(hs.startUntil) && (len(v.named) > 0 || !s.mayWait(n.size())):
		// Others of the namespace are there, and none wants it: no lock that others need is taken for it. Where nobody is
		// there at all, or observers alone, and nobody is known to be on the way, a few wait all the same, but no link is
		// paused for them.
		hs.node.drops.add(dropHandlerAbsent, 1)
	default:
		s.ns.assigning.Lock()
		hs.rerouteLocked(s, &n)
		s.ns.assigning.Unlock()
	}
}

// rerouteLocked takes an event to its handler as things stand now, or parks it.
func (hs *handlers) rerouteLocked(s *Socket, n *Notice) {
	if s.gone != nil {
		hs.node.drops.add(dropAfterEnd, 1) // the server ended it while this was on its way
		return
	}
	if h := s.handlerOf(hs.viewOf(s.ns).owner(n.Packet.Event)); h == nil || !h.event(n) {
		hs.parking.park(s, n)
	}
}
