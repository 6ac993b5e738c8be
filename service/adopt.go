package service

import "time"

// chunkSockets is how many sockets are looked at before locks that others wait for are given back.
const chunkSockets = 1000

// assignedChunk is how many sockets one Assigned carries.
const assignedChunk = 1000

// adoptee is a socket that comes over to a handler.
type adoptee struct {
	socket *Socket
	info   *SocketInfo
	fresh  bool // its group has not been told of it before
}

// assigned tells a handler of sockets that come over to it.
func (h *Handler) assigned(sockets []adoptee, failover bool) {
	for len(sockets) > 0 {
		chunk := sockets[:min(assignedChunk, len(sockets))]
		sockets = sockets[len(chunk):]
		n := Notice{Kind: NoticeAssigned, Failover: failover, Sockets: make([]*SocketInfo, 0, len(chunk))}
		for _, a := range chunk {
			n.Sockets = append(n.Sockets, a.info)
			if a.fresh {
				n.fresh = append(n.fresh, a.socket)
			}
		}
		h.tell(n)
	}
}

// walk looks at all sockets of the namespaces that a handler's group has registered for, chunk by chunk: do gets those that
// want says true of, with handlers.mu held, which is given back in between, and says whether to go on. Sockets that come
// meanwhile may be among them.
func (hs *handlers) walk(c *claims, want func(*Socket) bool, do func([]adoptee) bool) {
	for _, ns := range hs.node.all() {
		if !c.namespaces.covers(ns.name) {
			continue
		}
		for seq, more := uint64(0), true; more; {
			hs.mu.Lock()
			var list []adoptee
			list, seq, more = ns.chunk(seq, want)
			on := len(list) == 0 || do(list)
			hs.mu.Unlock()
			if hs.between != nil {
				hs.between()
			}
			if !on {
				return
			}
		}
	}
}

// chunk looks at the next sockets from seq on.
func (ns *Namespace) chunk(seq uint64, want func(*Socket) bool) (list []adoptee, next uint64, more bool) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	entries := ns.order.entries[ns.order.from(seq):]
	if more = len(entries) > chunkSockets; more {
		next = entries[chunkSockets].seq
		entries = entries[:chunkSockets]
	}
	for _, e := range entries {
		if e.socket != nil && want(e.socket) {
			list = append(list, adoptee{socket: e.socket, info: e.socket.infoLocked()})
		}
	}
	return list, next, more
}

// adopt gives a handler that has come the sockets that nobody has in its group, and what is parked of them and of those that
// have left. A socket that it has not come to yet has its events parked until then.
func (hs *handlers) adopt(h *Handler) {
	g := h.group
	free := func(s *Socket) bool { return hs.handlerOfLocked(s, g) == nil }
	hs.walk(h.claims, free, func(list []adoptee) bool {
		if h.leaving || h.fitness(time.Now()) == unfit {
			return false
		}
		for i := range list {
			list[i].fresh = !hs.knowsLocked(list[i].socket, g)
		}
		h.assigned(list, false)
		for _, a := range list {
			hs.followLocked(a.socket, h)
			hs.serveParkedLocked(a.socket, h)
			a.socket.assignLocked(g, h)
			h.sockets++
		}
		return true
	})
	hs.mu.Lock()
	defer hs.mu.Unlock()
	var gone []*Socket
	for s := range hs.parking.sockets {
		if s.gone != nil {
			gone = append(gone, s)
		}
	}
	for i, s := range gone {
		if i%chunkSockets == chunkSockets-1 {
			hs.mu.Unlock()
			hs.mu.Lock()
		}
		if h.leaving {
			return
		}
		if _, ok := hs.parking.sockets[s]; ok {
			hs.serveGoneLocked(s, h)
		}
	}
}

// revive gives a handler that had too much before it, and has taken it, what it was spared.
func (hs *handlers) revive(h *Handler) {
	hs.mu.Lock()
	leaving := h.leaving
	hs.mu.Unlock()
	if leaving {
		return
	}
	hs.adopt(h)
	hs.serveWaiting()
}

// followLocked lets the events of a socket wait at its new handler while an older one has not answered what it has seen.
func (hs *handlers) followLocked(s *Socket, h *Handler) {
	g := h.group
	delete(g.blocked, s)
	for _, old := range g.leaving {
		if old != h && old.owes(s) {
			if g.blocked == nil {
				g.blocked = map[*Socket]*Handler{}
			}
			g.blocked[s] = h
			h.block(s)
			return
		}
	}
}

// release lets the events of sockets go on whose last answer has come, or for which it was waited long enough.
func (hs *handlers) release(g *group, sockets ...*Socket) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for _, s := range sockets {
		hs.releaseLocked(g, s)
	}
}

func (hs *handlers) releaseLocked(g *group, s *Socket) {
	h := g.blocked[s]
	if h == nil {
		return
	}
	for _, old := range g.leaving {
		if old != h && old.owes(s) {
			return
		}
	}
	delete(g.blocked, s)
	h.unblock(s)
}
