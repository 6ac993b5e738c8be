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
		hs.node.drops.add(dropAfterEnd, 1) // the server ended it while this was on its way
		return taken
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

// parking is what waits while nobody is there to take it: with each socket its own few events, in order, and behind them
// the news of its end.
type parking struct {
	sockets map[*Socket]struct{} // those with something parked
	events  int
	bytes   int // of the events
	ends    int
	timer   *time.Timer
}

// parkLocked keeps an event until a handler comes for it, or its time is up. Beyond a socket's share its oldest goes: no
// handler is there, so it is not the client's fault, and what is newest is worth most.
func (hs *handlers) parkLocked(n Notice) {
	s := n.From
	if hs.closed {
		hs.node.drops.add(dropHandlerAbsent, 1)
		return
	}
	for !s.reserve(n.size()) {
		if len(s.parked) == 0 { // too large by itself
			hs.node.drops.add(dropHandlerAbsent, 1)
			return
		}
		hs.unparkLocked(s, 0, true)
	}
	if hs.parking.events >= hs.node.cfg.MaxHandlerQueue || hs.parking.bytes+n.size() > hs.node.cfg.MaxHandlerQueueBytes {
		s.unreserve(n.size())
		hs.node.drops.add(dropHandlerAbsent, 1)
		return
	}
	s.parked = append(s.parked, parked{n, time.Now().Add(hs.node.cfg.HandlerWait)})
	hs.parking.events++
	hs.parking.bytes += n.size()
	hs.rememberLocked(s)
}

// parkEndLocked keeps the news of a socket's end, behind all its events, for groups that know the socket and are not there.
func (hs *handlers) parkEndLocked(n Notice) {
	s := n.From
	switch {
	case s.farewell != nil: // one end is enough
	case hs.closed, hs.parking.ends >= hs.node.cfg.MaxHandlerQueue:
		hs.node.drops.add(dropHandlerAbsent, 1)
	default:
		s.farewell = &parked{n, time.Now().Add(hs.node.cfg.HandlerWait)}
		hs.parking.ends++
		hs.rememberLocked(s)
	}
}

func (hs *handlers) rememberLocked(s *Socket) {
	if len(hs.parking.sockets) == 0 {
		hs.parking.timer.Reset(hs.node.cfg.HandlerWait)
	}
	hs.parking.sockets[s] = struct{}{}
}

// unparkLocked takes one of a socket's events out.
func (hs *handlers) unparkLocked(s *Socket, i int, dropped bool) {
	n := s.parked[i].notice
	s.parked = slices.Delete(s.parked, i, i+1)
	hs.parking.events--
	hs.parking.bytes -= n.size()
	s.unreserve(n.size())
	if dropped {
		hs.node.drops.add(dropHandlerAbsent, 1)
	}
	hs.forgetParkedLocked(s)
}

func (hs *handlers) unparkEndLocked(s *Socket) {
	s.farewell = nil
	hs.parking.ends--
	hs.forgetParkedLocked(s)
}

func (hs *handlers) forgetParkedLocked(s *Socket) {
	if len(s.parked) == 0 {
		s.parked = nil
		if s.farewell == nil {
			delete(hs.parking.sockets, s)
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
		switch {
		case len(s.parked) > 0:
			if s.parked[0].until.Before(next) {
				next = s.parked[0].until
			}
		case s.farewell != nil && !s.farewell.until.After(now):
			hs.unparkEndLocked(s)
		case s.farewell != nil && s.farewell.until.Before(next):
			next = s.farewell.until
		}
	}
	if len(hs.parking.sockets) > 0 {
		hs.parking.timer.Reset(max(next.Sub(now), hs.node.cfg.HandlerWait/20))
	}
}

// serveParkedLocked gives a handler what waited for it, of the sockets that are its own. Of a socket that has left, every
// handler of the owner group may take what is left, and is shown it first.
func (hs *handlers) serveParkedLocked(h *Handler, own func(*Socket) bool) {
	for s := range hs.parking.sockets {
		shown := false
		for i := 0; i < len(s.parked); {
			n := s.parked[i].notice
			if hs.ownerLocked(s.ns.name, n.Packet.Event) != h.group || s.gone == nil && !own(s) {
				i++
				continue
			}
			if s.gone != nil && !shown {
				shown = true
				h.assigned([]adoptee{{s, s.gone, !hs.knowsLocked(s, h.group)}}, false)
			}
			hs.unparkLocked(s, i, false)
			if h.inherit(n) == full {
				hs.node.drops.add(dropHandlerSlow, 1)
			}
		}
		if s.farewell == nil {
			continue
		}
		if hs.knowsLocked(s, h.group) || shown {
			s.unassignLocked(h.group)
			h.tellAfterEvents(s.farewell.notice)
		}
		if len(s.assigned) == 0 && len(s.parked) == 0 { // nobody else may still come for it
			hs.unparkEndLocked(s)
		}
	}
}

// knowsLocked says whether a group was told of a socket.
func (hs *handlers) knowsLocked(s *Socket, g *group) bool {
	return slices.ContainsFunc(s.assigned, func(a assignment) bool { return a.group == g })
}
