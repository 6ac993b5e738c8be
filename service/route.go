package service

import (
	"slices"
	"time"
)

// routes says which group owns the events of one namespace, as of a version of the handlers. Immutable.
type routes struct {
	version  uint64
	groups   []*group // that own some: those with handlers, and before they are forgotten those without
	catchAll *group
}

// owner is the group that named an event, else the one that takes all others; nil: nobody.
func (r *routes) owner(event string) *group {
	for _, g := range r.groups {
		if _, ok := g.claims.Load().events[event]; ok {
			return g
		}
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
	r := hs.routesOf(s.ns)
	owner := r.owner(p.Event)
	v := closed
	s.mu.Lock() // while an event is queued, its socket's end is not: Disconnected stays the last word
	for _, a := range s.assigned {
		switch {
		case a.handler == nil:
		case a.group == owner:
			v = a.handler.event(&n)
		case a.group.observer && a.handler.claims.takes(p.Event):
			if a.handler.event(&Notice{Kind: NoticeEvent, From: s, Generation: n.Generation, Packet: p, Time: n.Time}) == closed {
				hs.node.drops.add(dropObserver, 1)
			}
		}
	}
	s.mu.Unlock()
	switch {
	case v != closed:
	case owner == nil && n.Time.After(hs.startUntil) && (len(r.groups) > 0 || !s.mayWait(n.size())):
		// Others of the namespace are there, and none wants it: no lock that all share is taken for it. Where nobody is there at
		// all, and not known to be on the way, a few wait all the same, but no link is paused for them.
		hs.node.drops.add(dropHandlerAbsent, 1)
	default:
		hs.mu.Lock()
		hs.rerouteLocked(&n)
		hs.mu.Unlock()
	}
}

// rerouteLocked takes an event to its handler as things stand now, or parks it.
func (hs *handlers) rerouteLocked(n *Notice) {
	s := n.From
	if s.gone != nil {
		n.unhold()
		hs.node.drops.add(dropAfterEnd, 1) // the server ended it while this was on its way
		return
	}
	g := hs.routesLocked(s.ns).owner(n.Packet.Event)
	if h := hs.handlerOfLocked(s, g); h != nil {
		if h.leaving { // its turn has not come yet: it goes over now, so that its events stay in order
			s.ns.mu.RLock()
			info := s.infoLocked()
			s.ns.mu.RUnlock()
			hs.moveLocked(h, []adoptee{{socket: s, info: info}})
			h = hs.handlerOfLocked(s, g)
		}
		if h != nil && h.event(n) == taken {
			return
		}
	}
	hs.parkLocked(n)
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
	if r := ns.routes.Load(); r != nil && r.version == hs.version.Load() {
		return r
	}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.routesLocked(ns)
}

// routesLocked is routesOf for who holds the mutex already. Among groups that claim the same, those that have handlers win:
// what a group without any has claimed is free for others.
func (hs *handlers) routesLocked(ns *Namespace) *routes {
	r := ns.routes.Load()
	if r != nil && r.version == hs.version.Load() {
		return r
	}
	r = &routes{version: hs.version.Load()}
	for _, live := range []bool{true, false} {
		hs.coveringLocked(ns.name, func(g *group) bool {
			switch {
			case g.observer || (len(g.handlers) > 0) != live:
			case len(g.claims.Load().events) > 0:
				r.groups = append(r.groups, g)
			case r.catchAll == nil:
				r.catchAll = g
			}
			return true
		})
	}
	ns.routes.Store(r)
	return r
}
