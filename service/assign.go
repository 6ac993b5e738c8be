package service

import (
	"slices"
	"time"
)

// Who has which socket. Each socket has one handler in each group that has registered for its namespace: the group
// knows it from then on, also while nobody is in it. Code that changes this takes Namespace.assigning first.
//
// A handler says yes to a socket before it gets it, which it does only while it is open. The code that closes a handler
// walks over all sockets after that, with the same locks. So no socket stays with a handler that goes.

// assignment is a socket's handler in one group; no handler: the group knows the socket, but nobody is there.
type assignment struct {
	group   *group
	handler *Handler
}

// chunkSockets is how many sockets are looked at before locks that others wait for are given back. Fewer are, where
// they are in many rooms: see pageWork.
const chunkSockets = 1000

// adoptee is a socket that comes over to a handler.
type adoptee struct {
	socket *Socket
	info   *SocketInfo // nil until it is described
	fresh  bool        // its group has not been told of it before
}

// assignment is where a group stands in the socket's assignments; -1: the group was not told of it.
func (s *Socket) assignment(g *group) int {
	return slices.IndexFunc(s.assigned, func(a assignment) bool { return a.group == g })
}

// knownTo says whether a group was told of the socket.
func (s *Socket) knownTo(g *group) bool { return s.assignment(g) >= 0 }

// handlerOf is the handler of the socket in a group; nil when there is none.
func (s *Socket) handlerOf(g *group) *Handler {
	if i := s.assignment(g); i >= 0 {
		return s.assigned[i].handler
	}
	return nil
}

// assignLocked makes h the socket's handler in g, with s.mu held too; nil: nobody is.
func (s *Socket) assignLocked(g *group, h *Handler) {
	if i := s.assignment(g); i >= 0 {
		s.assigned[i].handler = h
	} else {
		s.assigned = append(s.assigned, assignment{g, h})
	}
}

// unassignLocked lets a group forget the socket, with s.mu held too.
func (s *Socket) unassignLocked(g *group) {
	s.assigned = slices.DeleteFunc(s.assigned, func(a assignment) bool { return a.group == g })
}

// connectedLocked gives a new socket a handler in every group of its namespace and tells them. s.mu is held by the
// caller from before the client can know of it, so that no event overtakes this. first is who let it in, and keeps it.
func (s *Socket) connectedLocked(v *view, first *Handler) {
	if len(v.groups) == 0 {
		return
	}
	now, info := time.Now(), s.infoLocked()
	for _, g := range v.groups {
		h := first
		if h == nil || h.group != g {
			h = g.pick(now)
		}
		for h != nil && !h.greet(s, info) { // it goes just now
			h = g.pick(now)
		}
		if h != nil { // a handler that is not there now is told by Assigned when it comes
			h.sockets.Add(1)
			s.assigned = append(s.assigned, assignment{g, h})
		}
	}
}

// disconnectedLocked tells every group that knows a socket that it is gone. A group without a handler at this moment
// may hear of it later.
func (hs *handlers) disconnectedLocked(s *Socket, r Reason, detail string) {
	n := Notice{Kind: NoticeDisconnected, From: s, Sockets: []*SocketInfo{s.gone}, Reason: r, Detail: detail}
	s.mu.Lock()
	defer s.mu.Unlock()
	var absent []assignment
	for _, a := range s.assigned {
		if a.handler != nil {
			a.handler.sockets.Add(-1)
			if told := n; a.handler.part(&told) { // each one may be cut down by itself
				continue
			}
		}
		absent = append(absent, assignment{a.group, nil})
	}
	s.assigned = absent
	if len(s.assigned) > 0 || len(s.parked) > 0 {
		hs.parking.parkEnd(s, &n)
	}
}

// walk looks at all sockets of the namespaces that a group has registered for, chunk by chunk: do gets those that want
// says true of, with Namespace.assigning held, which is given back in between, and says whether to go on. Sockets that
// come meanwhile may be among them.
func (hs *handlers) walk(c *claims, want func(*Socket) bool, do func([]adoptee) bool) {
	for _, ns := range hs.node.all() {
		if !c.namespaces.covers(ns.name) {
			continue
		}
		for seq, more := uint64(0), true; more; {
			ns.assigning.Lock()
			var list []adoptee
			list, seq, more = ns.chunk(seq, want)
			on := len(list) == 0 || do(list)
			ns.assigning.Unlock()
			if hs.between != nil {
				hs.between()
			}
			if !on {
				return
			}
		}
	}
}

// chunk looks at the next sockets from seq on. They are not described yet.
func (ns *Namespace) chunk(seq uint64, want func(*Socket) bool) (list []adoptee, next uint64, more bool) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	work := 0
	for i, e := range ns.order.entries[ns.order.from(seq):] {
		if i == chunkSockets || work >= pageWork {
			return list, e.seq, true
		}
		if e.socket != nil && want(e.socket) {
			list = append(list, adoptee{socket: e.socket})
			work += 1 + len(e.socket.rooms)
		}
	}
	return list, 0, false
}

// describe notes what is known of sockets of one namespace. Their rooms are sorted without its lock.
func describe(list []adoptee) {
	ns := list[0].socket.ns
	ns.mu.RLock()
	for i := range list {
		list[i].info = list[i].socket.factsLocked()
	}
	ns.mu.RUnlock()
	for i := range list {
		slices.Sort(list[i].info.Rooms)
	}
}

// walkGone does something to each of some sockets, of which those matter that have left, with Namespace.assigning held.
func walkGone(sockets []*Socket, do func(*Socket)) {
	for _, s := range sockets {
		s.ns.assigning.Lock()
		if s.gone != nil {
			do(s)
		}
		s.ns.assigning.Unlock()
	}
}

// adopt gives a handler that has come the sockets that nobody has in its group, and what is parked of them and of those
// that have left. A socket that it has not come to yet has its events parked until then.
func (hs *handlers) adopt(h *Handler) {
	g := h.group
	free := func(s *Socket) bool { return s.handlerOf(g) == nil }
	hs.walk(h.claims, free, func(list []adoptee) bool {
		if h.fitness(time.Now()) == unfit {
			return false
		}
		describe(list)
		for i := range list {
			list[i].fresh = !list[i].socket.knownTo(g)
		}
		if !h.assigned(list, false) {
			return false
		}
		for _, a := range list {
			hs.takeOver(a.socket, h, nil)
		}
		return true
	})
	walkGone(hs.parking.all(), func(s *Socket) {
		if h.claims.namespaces.covers(s.ns.name) {
			hs.serveGoneLocked(s, h)
		}
	})
}

// takeOver makes h, which was told of it, the handler of a socket in its group: with what the one before has left over
// of it, and what is parked. No event comes in between.
func (hs *handlers) takeOver(s *Socket, h, before *Handler) {
	v := hs.viewOf(s.ns)
	s.mu.Lock()
	defer s.mu.Unlock()
	h.follow(s)
	if before != nil {
		left := before.Surrender(s)
		for i := range left {
			if n := &left[i]; n.Kind == NoticeEvent && !h.inherit(n) || n.Kind == NoticeDisconnected && !h.part(n) {
				hs.leaveToNobodyLocked(s, h.group, n, true)
			}
		}
	}
	hs.serveParkedLocked(s, h, v)
	if s.gone == nil {
		h.sockets.Add(1)
		s.assignLocked(h.group, h)
	}
}

// leaveToNobodyLocked keeps what is left over of a socket while nobody is in its group, with s.mu held too. known: the
// group was told of the socket.
func (hs *handlers) leaveToNobodyLocked(s *Socket, g *group, n *Notice, known bool) {
	switch {
	case n.Kind == NoticeEvent && g.observer:
		hs.node.drops.add(dropObserver, 1)
	case n.Kind == NoticeEvent:
		hs.parking.park(s, n)
	case known:
		s.assignLocked(g, nil)
		hs.parking.parkEnd(s, n)
	case len(s.parked) > 0:
		hs.parking.parkEnd(s, n)
	}
}

// follow lets the events of a socket wait at its new handler while an older one has not answered what it has seen.
func (h *Handler) follow(o Origin) {
	for _, old := range h.group.members.Load().leaving {
		if old != h && old.owes(o) {
			h.block(o)
			return
		}
	}
}

// releaseLocked lets the events of a socket go on if no handler that leaves owes it an answer any more, with
// Namespace.assigning held.
func (g *group) releaseLocked(o Origin) {
	m := g.members.Load()
	for _, old := range m.leaving {
		if old.owes(o) {
			return
		}
	}
	for _, h := range m.handlers {
		h.unblock(o)
	}
}

// serveParkedLocked gives a handler what is parked of a socket that is its own, or has left, and is its group's to
// take. s.mu and Namespace.assigning are held.
func (hs *handlers) serveParkedLocked(s *Socket, h *Handler, v *view) {
	for i := 0; i < len(s.parked); {
		if v.owner(s.parked[i].notice.Packet.Event) != h.group {
			i++
			continue
		}
		if n := hs.parking.unpark(s, i); !h.inherit(n) {
			n.unhold()
			hs.node.drops.add(dropHandlerAbsent, 1)
		}
	}
}

// serveGoneLocked gives a handler what is left of a socket that has left: its events are any handler's of the owner
// group, which is shown the socket first; and every group that knows it hears of its end. A handler elsewhere is shown
// the socket in either case, since its node takes the end only of sockets that it was told of. Namespace.assigning is
// held.
func (hs *handlers) serveGoneLocked(s *Socket, h *Handler) {
	known := s.knownTo(h.group)
	shown := h.at != "" && known && s.farewell != nil || slices.ContainsFunc(s.parked, func(p parked) bool {
		return hs.viewOf(s.ns).owner(p.notice.Packet.Event) == h.group
	})
	if shown {
		if !h.assigned([]adoptee{{s, s.gone, !known}}, false) {
			return
		}
		hs.takeOver(s, h, nil)
	}
	if s.farewell == nil {
		return
	}
	if known || shown {
		s.forget(h.group)
		if n := s.farewell.notice; !h.part(&n) {
			hs.node.drops.add(dropEnd, 1)
		}
	}
	if len(s.assigned) == 0 && len(s.parked) == 0 { // nobody else may still come for it
		hs.parking.unparkEnd(s)
	}
}

// Settled is Origin.Settled.
func (s *Socket) Settled(h *Handler) {
	s.ns.assigning.Lock()
	defer s.ns.assigning.Unlock()
	h.group.releaseLocked(s)
}
