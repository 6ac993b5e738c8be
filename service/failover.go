package service

import (
	"slices"
	"time"
)

// handOver takes a handler out of its group and gives its sockets, and what its backend has not seen of them, to
// others, in order. It goes in chunks; what comes of a socket whose turn has not come is left over with the rest.
func (hs *handlers) handOver(h *Handler) {
	hs.depart(h)
	g := h.group
	hs.walk(h.claims, func(s *Socket) bool { return s.handlerOf(g) == h }, func(list []adoptee) bool {
		describe(list)
		hs.moveLocked(h, list)
		return true
	})
	for gone := h.leftOver(); len(gone) > 0; gone = h.leftOver() { // they have left meanwhile
		for _, o := range gone {
			o.Left(h)
		}
	}
	hs.mu.Lock()
	g.moving--
	hs.mu.Unlock()
}

// depart closes a handler for all that is new.
func (hs *handlers) depart(h *Handler) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h.group.moving++
	hs.departLocked(h)
}

func (hs *handlers) departLocked(h *Handler) {
	g := h.group
	if h.leaving {
		return
	}
	h.leaving = true
	m := g.members.Load()
	m = &members{handlers: without(m.handlers, h), leaving: append(slices.Clip(m.leaving), h)}
	g.members.Store(m) // before it says no to a caller, which then looks for another one
	h.shut()
	if hs.node.abroad != nil && h.at == "" {
		hs.node.abroad.Leaves(h)
	}
	if !h.reg.Observer { // nobody waits for one that comes in its place
		hs.leftAt = time.Now()
		if h.reg.DecideConnects {
			hs.decider = hs.leftAt
		}
	}
	hs.version.Add(1)
	if len(m.handlers) == 0 && g.forget == nil && !hs.closed.Load() {
		g.forget = time.AfterFunc(hs.node.cfg.HandlerWait, func() { hs.forget(g) })
	}
}

func without(list []*Handler, h *Handler) []*Handler {
	return slices.DeleteFunc(slices.Clone(list), func(o *Handler) bool { return o == h })
}

// moveLocked gives sockets of one namespace, whose handler leaves, to others of its group, with Namespace.assigning
// held. A handler that comes after another one is told so first, and only then has the socket.
func (hs *handlers) moveLocked(h *Handler, list []adoptee) {
	g := h.group
	covered := g.claims.Load().namespaces.covers(list[0].socket.ns.name)
	for i := range list {
		list[i].fresh = h.untold(list[i].socket)
		if list[i].socket.gone == nil {
			h.sockets.Add(-1)
		}
	}
	for len(list) > 0 {
		now := time.Now()
		heirs := map[*Handler][]adoptee{}
		for _, a := range list {
			var heir *Handler
			if covered {
				heir = g.pick(now)
			}
			if heir == nil {
				hs.orphan(a, h)
				continue
			}
			heirs[heir] = append(heirs[heir], a)
			heir.sockets.Add(1) // so that each gets its part
		}
		list = list[:0]
		for heir, sockets := range heirs {
			heir.sockets.Add(int64(-len(sockets)))
			if !heir.assigned(sockets, true) { // it goes just now, too
				list = append(list, sockets...)
				continue
			}
			for _, a := range sockets {
				hs.takeOver(a.socket, heir, h)
			}
		}
	}
}

// orphan leaves a socket without a handler when its handler leaves. What is left over of the socket waits for the next
// handler.
func (hs *handlers) orphan(a adoptee, h *Handler) {
	s, g := a.socket, h.group
	s.mu.Lock()
	defer s.mu.Unlock()
	left := h.Surrender(s)
	for i := range left {
		hs.leaveToNobodyLocked(s, g, &left[i], !a.fresh)
	}
	switch {
	case s.gone != nil:
	case a.fresh: // nobody in the group has ever heard of it
		s.unassignLocked(g)
	default:
		s.assignLocked(g, nil)
	}
}

// forget lets go of a group that nobody came back to.
func (hs *handlers) forget(g *group) {
	hs.mu.Lock()
	switch {
	case len(g.members.Load().handlers) > 0, hs.groups[g.name] != g:
		hs.mu.Unlock()
		return
	case g.moving > 0: // another group of this name would get the sockets without what is left over of them
		g.forget.Reset(hs.node.cfg.HandlerWait)
		hs.mu.Unlock()
		return
	}
	hs.dropLocked(g)
	hs.mu.Unlock()
	hs.sweep(g)
}

// dropLocked lets go of a group that nobody is in. Its sockets forget it by sweep.
func (hs *handlers) dropLocked(g *group) {
	if g.forget != nil {
		g.forget.Stop()
	}
	hs.unlistLocked(g)
	delete(hs.groups, g.name)
	hs.version.Add(1)
}

// sweep lets sockets forget a group that was let go of.
func (hs *handlers) sweep(g *group) {
	hs.walk(g.claims.Load(), func(s *Socket) bool { return s.knownTo(g) }, func(list []adoptee) bool {
		for _, a := range list {
			a.socket.forget(g)
		}
		return true
	})
	walkGone(hs.parking.all(), func(s *Socket) {
		s.forget(g)
		if s.farewell != nil && len(s.assigned) == 0 && len(s.parked) == 0 {
			hs.parking.unparkEnd(s)
		}
	})
}

func (s *Socket) forget(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unassignLocked(g)
}

// Left is Origin.Left: the socket has left, too, or its handler would have been another's turn.
func (s *Socket) Left(h *Handler) {
	s.ns.assigning.Lock()
	defer s.ns.assigning.Unlock()
	if h.leaves(s) { // else another call of handOver was faster, and its heir has heard all
		h.node.handlers.moveLocked(h, []adoptee{{socket: s, info: s.gone}})
	}
}
