package service

import (
	"slices"
	"time"
)

// routes says which group owns the events of one namespace.
type routes struct {
	version  uint64
	byEvent  map[string]*group
	catchAll *group
}

func (r *routes) owner(event string) *group {
	if g := r.byEvent[event]; g != nil {
		return g
	}
	return r.catchAll
}

// assignment is a socket's handler in one group; no handler: the group knows the socket, but nobody is there.
type assignment struct {
	group   *group
	handler *Handler
}

// route takes a client's event to the handler that owns it, and copies to observers.
func (hs *handlers) route(s *Socket, p *Packet) {
	n := Notice{Kind: NoticeEvent, From: s, Generation: s.generation.Load(), Packet: p, Time: time.Now()}
	owner := hs.routesOf(s.ns).owner(p.Event)
	v := closed
	s.mu.Lock() // while an event is queued, its socket's end is not: Disconnected stays the last word
	for _, a := range s.assigned {
		switch {
		case a.handler == nil:
		case a.group == owner:
			v = a.handler.event(n)
		case a.group.observer && a.handler.takes(p.Event):
			if a.handler.event(n) == full {
				hs.node.drops.add(dropObserver, 1)
			}
		}
	}
	s.mu.Unlock()
	if v == closed {
		hs.mu.Lock()
		v = hs.rerouteLocked(n)
		hs.mu.Unlock()
	}
	if v == full {
		hs.node.drops.add(dropHandlerSlow, 1)
		s.conn.Close(ReasonHandlerSlow)
	}
}

// rerouteLocked takes an event to its handler as things stand now, or parks it.
func (hs *handlers) rerouteLocked(n Notice) verdict {
	if n.From.gone != nil {
		return taken // the server ended it while this was on its way
	}
	if h := hs.handlerOfLocked(n.From, hs.ownerLocked(n.From.ns.name, n.Packet.Event)); h != nil {
		if v := h.event(n); v != closed {
			return v
		}
	}
	hs.parkLocked(n)
	return taken
}

// handlerOfLocked is the handler of a socket in a group; nil when there is none.
func (hs *handlers) handlerOfLocked(s *Socket, g *group) *Handler {
	i := slices.IndexFunc(s.assigned, func(a assignment) bool { return a.group == g })
	if g == nil || i < 0 {
		return nil
	}
	return s.assigned[i].handler
}

// routesOf are the routes of a namespace, remade when handlers have come or gone since.
func (hs *handlers) routesOf(ns *Namespace) *routes {
	r := ns.routes.Load()
	if r != nil && r.version == hs.version.Load() {
		return r
	}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	r = &routes{version: hs.version.Load(), byEvent: map[string]*group{}}
	for _, g := range hs.groups {
		for _, h := range g.handlers {
			if g.observer || !h.covers(ns.name) {
				continue
			}
			if len(h.reg.Events) == 0 {
				r.catchAll = g
			}
			for _, e := range h.reg.Events {
				r.byEvent[e] = g
			}
		}
	}
	ns.routes.Store(r)
	return r
}

// ownerLocked is routesOf for who holds the mutex already.
func (hs *handlers) ownerLocked(namespace, event string) *group {
	var catchAll *group
	for _, g := range hs.groups {
		if g.observer {
			continue
		}
		for _, h := range g.handlers {
			switch {
			case !h.covers(namespace):
			case len(h.reg.Events) == 0:
				catchAll = g
			case slices.Contains(h.reg.Events, event):
				return g
			}
		}
	}
	return catchAll
}

// parked is an event, or the news of a disconnect, that waits for a handler to come.
type parked struct {
	notice Notice
	until  time.Time
}

// parking is what waits while nobody is there to take it: with each socket its own few, in order.
type parking struct {
	sockets map[*Socket]struct{} // those with something parked
	count   int
	bytes   int
	timer   *time.Timer
}

// parkLocked keeps an event until a handler comes for it, or its time is up. Beyond a socket's share its oldest goes: no
// handler is there, so it is not the client's fault, and what is newest is worth most.
func (hs *handlers) parkLocked(n Notice) {
	s := n.From
	if hs.closed {
		return
	}
	if n.Kind == NoticeEvent {
		for !s.reserve(n.size()) {
			if i := slices.IndexFunc(s.parked, func(p parked) bool { return p.notice.Kind == NoticeEvent }); i >= 0 {
				hs.unparkLocked(s, i, true)
				continue
			}
			hs.node.drops.add(dropHandlerAbsent, 1) // too large by itself
			return
		}
		if hs.parking.count >= hs.node.cfg.MaxHandlerQueue || hs.parking.bytes+n.size() > hs.node.cfg.MaxHandlerQueueBytes {
			s.unreserve(n.size())
			hs.node.drops.add(dropHandlerAbsent, 1)
			return
		}
	}
	s.parked = append(s.parked, parked{n, time.Now().Add(hs.node.cfg.HandlerWait)})
	hs.parking.count++
	hs.parking.bytes += n.size()
	if len(hs.parking.sockets) == 0 {
		hs.parking.timer.Reset(hs.node.cfg.HandlerWait)
	}
	hs.parking.sockets[s] = struct{}{}
}

// unparkLocked takes one of a socket's out.
func (hs *handlers) unparkLocked(s *Socket, i int, dropped bool) {
	n := s.parked[i].notice
	if s.parked = slices.Delete(s.parked, i, i+1); len(s.parked) == 0 {
		s.parked = nil
		delete(hs.parking.sockets, s)
	}
	hs.parking.count--
	hs.parking.bytes -= n.size()
	if n.Kind == NoticeEvent {
		s.unreserve(n.size())
		if dropped {
			hs.node.drops.add(dropHandlerAbsent, 1)
		}
	}
}

// expireParked drops what has waited its time. It comes round at a twentieth of that time at the most often, so that a
// crowd's many moments do not cost a walk each.
func (hs *handlers) expireParked() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	now := time.Now()
	next := now.Add(hs.node.cfg.HandlerWait)
	for s := range hs.parking.sockets {
		for len(s.parked) > 0 && !s.parked[0].until.After(now) {
			hs.unparkLocked(s, 0, true)
		}
		if len(s.parked) > 0 && s.parked[0].until.Before(next) {
			next = s.parked[0].until
		}
	}
	if len(hs.parking.sockets) > 0 {
		hs.parking.timer.Reset(max(next.Sub(now), hs.node.cfg.HandlerWait/20))
	}
}

// serveParkedLocked gives a handler that has just come what waited for it.
func (hs *handlers) serveParkedLocked(h *Handler) {
	for s := range hs.parking.sockets {
		shown := false // a socket that has left was shown to this handler
		for i := 0; i < len(s.parked); {
			n := s.parked[i].notice
			if n.Kind == NoticeDisconnected {
				if hs.knowsLocked(s, h.group) || shown {
					s.unassignLocked(h.group)
					h.tellAfterEvents(n)
				}
				if len(s.assigned) > 0 {
					i++ // other groups may still come
					continue
				}
				hs.unparkLocked(s, i, false)
				continue
			}
			if hs.ownerLocked(s.ns.name, n.Packet.Event) != h.group || s.gone == nil && hs.handlerOfLocked(s, h.group) != h {
				i++
				continue
			}
			if s.gone != nil && !shown {
				shown = true
				h.assigned([]*SocketInfo{s.gone}, false)
			}
			hs.unparkLocked(s, i, false)
			if h.inherit(n) == full {
				hs.node.drops.add(dropHandlerSlow, 1)
			}
		}
	}
}

// knowsLocked says whether a group was told of a socket.
func (hs *handlers) knowsLocked(s *Socket, g *group) bool {
	return slices.ContainsFunc(s.assigned, func(a assignment) bool { return a.group == g })
}
