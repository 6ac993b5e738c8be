package service

import (
	"slices"
	"time"
)

// Drain ends new work for the handler: its sockets go over to others, each one's events once the last of them has its reply
// here; when the last event has its reply, Next returns io.EOF.
func (h *Handler) Drain() {
	hs := h.node.handlers
	hs.handOver(h)
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h.deadline == nil && !h.detached && !hs.closed {
		h.deadline = time.AfterFunc(handlerDrainTime, func() { hs.waitNoMore(h) })
	}
	h.finish()
}

// finish ends the handler when nothing is in flight.
func (h *Handler) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finishing = true
	h.signal()
}

// Detach takes the handler away for good: its sockets go over to others of its group, what is in flight with it is lost and
// counted.
func (h *Handler) Detach() {
	hs := h.node.handlers
	hs.handOver(h)
	var after followUps
	hs.mu.Lock()
	hs.detachLocked(h, &after)
	hs.mu.Unlock()
	after.run()
}

// detachLocked removes what is left of a handler whose sockets are with others.
func (hs *handlers) detachLocked(h *Handler, after *followUps) {
	if h.detached {
		return
	}
	h.detached = true
	delete(hs.attached, h)
	if h.deadline != nil {
		h.deadline.Stop()
	}
	for id, p := range h.connects {
		delete(h.connects, id)
		hs.withdrawLocked(p)
		hs.seekLocked(p, after)
	}
	h.mu.Lock()
	h.endLocked(ErrReplaced)
	lost := len(h.inFlight)
	for _, n := range h.out.take() {
		if n.Kind == NoticeServerSide {
			lost++
		}
	}
	h.inFlight, h.withoutAck, h.news, h.outBytes, h.gaps = nil, nil, nil, 0, 0
	h.inbound.close(h.node.cfg.Budget, UseInbound)
	h.notices.close(h.node.cfg.Budget, UseNotices)
	for id, call := range h.serverCalls {
		delete(h.serverCalls, id)
		call.settle(nil)
	}
	h.mu.Unlock()
	if !h.reg.Observer {
		hs.node.drops.add(dropHandlerLost, lost)
	}
	hs.letGoLocked(h)
}

// retire lets a handler whose sockets are with others finish what is in flight, for a while.
func (hs *handlers) retire(h *Handler, n Notice) {
	h.tell(n)
	h.finish()
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h.deadline != nil {
		h.deadline.Stop()
	}
	if h.detached || hs.closed {
		return
	}
	h.deadline = time.AfterFunc(time.Until(n.Until), func() {
		h.end(ErrReplaced)
		hs.waitNoMore(h)
	})
}

// waitNoMore lets go on what waits for answers of a handler that leaves.
func (hs *handlers) waitNoMore(h *Handler) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.letGoLocked(h)
}

func (hs *handlers) letGoLocked(h *Handler) {
	g := h.group
	if i := slices.Index(g.leaving, h); i >= 0 {
		g.leaving = slices.Delete(g.leaving, i, i+1)
	}
	h.mu.Lock()
	owing := h.owing
	h.owing = nil
	h.mu.Unlock()
	for s := range owing { // at most what it might have in flight
		hs.releaseLocked(g, s)
	}
}

// handOver takes a handler out of its group and gives its sockets, and the events that its backend has not seen, to others,
// in order. It goes in chunks; an event of a socket whose turn has not come takes the socket over with it.
func (hs *handlers) handOver(h *Handler) {
	hs.mu.Lock()
	hs.beginMoveLocked(h)
	hs.mu.Unlock()
	g := h.group
	hs.walk(h.claims, func(s *Socket) bool { return hs.handlerOfLocked(s, g) == h }, func(list []adoptee) bool {
		hs.moveLocked(h, list)
		return true
	})
	hs.mu.Lock()
	defer hs.mu.Unlock()
	gone := make([]adoptee, 0, len(h.unseen)) // what is left is of those that have left
	for s := range h.unseen {
		gone = append(gone, adoptee{socket: s, info: s.gone})
	}
	for i := 0; i < len(gone); i += chunkSockets {
		if i > 0 {
			hs.mu.Unlock()
			hs.mu.Lock()
		}
		hs.moveLocked(h, slices.DeleteFunc(slices.Clone(gone[i:min(i+chunkSockets, len(gone))]), func(a adoptee) bool {
			return h.unseen[a.socket] == nil
		}))
	}
}

// beginMoveLocked closes a handler for all that is new.
func (hs *handlers) beginMoveLocked(h *Handler) {
	if h.leaving {
		return
	}
	g := h.group
	h.leaving = true
	if i := slices.Index(g.handlers, h); i >= 0 {
		g.handlers = slices.Delete(g.handlers, i, i+1)
	}
	hs.leftAt = time.Now()
	if h.reg.DecideConnects {
		hs.decider = hs.leftAt
	}
	hs.version.Add(1)
	if len(g.handlers) == 0 && g.forget == nil && !hs.closed {
		g.forget = time.AfterFunc(hs.node.cfg.HandlerWait, func() { hs.forget(g) })
	}
	h.unseen, h.untold = h.takeUnseen()
	g.leaving = append(g.leaving, h)
}

// takeUnseen closes the handler for events and returns those that Next has not taken, and the disconnects among them; and
// the sockets of which its backend was never told.
func (h *Handler) takeUnseen() (unseen map[*Socket][]Notice, untold map[*Socket]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = false
	unseen, untold = map[*Socket][]Notice{}, map[*Socket]bool{}
	var keep []Notice
	for _, n := range h.out.take() {
		switch n.Kind {
		case noticeGone:
			continue
		case NoticeEvent:
			delete(h.inFlight, n.CallID)
			h.leaveOutLocked(n.size())
			unseen[n.From] = append(unseen[n.From], n)
			continue
		case NoticeDisconnected:
			unseen[n.From] = append(unseen[n.From], n)
		case NoticeConnected, NoticeAssigned: // news of sockets that are not its own any more
			for _, s := range n.fresh {
				untold[s] = true
			}
		default:
			keep = append(keep, n)
			continue
		}
		h.uncountLocked(&n)
	}
	for i := range keep {
		h.out.push(keep[i])
	}
	h.gaps = 0
	for s, b := range h.backlogs {
		for _, n := range b.notices.take() {
			if n.Kind == NoticeEvent {
				h.inbound.add(h.node.cfg.Budget, UseInbound, -n.size()-eventOverhead)
			}
			unseen[s] = append(unseen[s], n)
		}
	}
	h.backlogs, h.ring, h.waiting, h.waitSize = nil, fifo[*backlog]{}, 0, 0
	h.owing = map[*Socket]int{}
	for _, f := range h.inFlight {
		h.owing[f.socket]++
	}
	return unseen, untold
}

// moveLocked gives sockets of a handler that leaves to others. Who comes after whom is told first, and only then seen by
// events: those that come now find the old handler closed and wait for handlers.mu.
func (hs *handlers) moveLocked(h *Handler, list []adoptee) {
	g, now := h.group, time.Now()
	heirs := make([]*Handler, len(list))
	told := map[*Handler][]adoptee{}
	for i := range list {
		a := &list[i]
		a.fresh = h.untold[a.socket]
		if a.socket.gone == nil {
			h.sockets--
		}
		if !g.claims.Load().namespaces.covers(a.socket.ns.name) {
			continue
		}
		if heirs[i] = g.pickLocked(now); heirs[i] != nil {
			told[heirs[i]] = append(told[heirs[i]], *a)
			if a.socket.gone == nil {
				heirs[i].sockets++
			}
		}
	}
	for heir, sockets := range told {
		heir.assigned(sockets, true)
	}
	for i, a := range list {
		hs.passOnLocked(h, heirs[i], a)
	}
}

// settleMovesLocked takes a socket over to its heirs before its turn, with its namespace's mutex held too.
func (hs *handlers) settleMovesLocked(s *Socket) {
	for {
		i := slices.IndexFunc(s.assigned, func(a assignment) bool { return a.handler != nil && a.handler.leaving })
		if i < 0 {
			return
		}
		hs.moveLocked(s.assigned[i].handler, []adoptee{{socket: s, info: s.infoLocked()}})
	}
}

// passOnLocked gives what a handler's backend has not seen of a socket to its heir; nil: there is none.
func (hs *handlers) passOnLocked(h, heir *Handler, a adoptee) {
	s, g := a.socket, h.group
	unseen := h.unseen[s]
	delete(h.unseen, s)
	delete(h.untold, s)
	delete(g.blocked, s)
	if heir != nil {
		hs.followLocked(s, heir)
	}
	for i := range unseen {
		hs.inheritLocked(h, heir, &unseen[i], a.fresh)
	}
	if heir != nil { // what was parked while h had ended and was still here
		hs.serveParkedLocked(s, heir)
	}
	switch {
	case s.gone != nil:
	case heir == nil && a.fresh:
		s.unassignLocked(g) // nobody in the group has ever heard of it
	default:
		s.assignLocked(g, heir)
	}
}

// inheritLocked gives one notice that h's backend has not seen to the heir of its socket.
func (hs *handlers) inheritLocked(h, heir *Handler, n *Notice, untold bool) {
	switch {
	case n.Kind == NoticeDisconnected && heir != nil && heir.tellAfterEvents(n):
	case n.Kind == NoticeDisconnected:
		if !untold {
			n.From.assignLocked(h.group, nil)
		}
		if !untold || len(n.From.parked) > 0 {
			hs.parkEndLocked(n)
		}
	case heir == nil && h.reg.Observer:
		hs.node.drops.add(dropObserver, 1)
	case heir == nil:
		hs.parkLocked(n)
	default:
		heir.inherit(n)
	}
}

// forget lets go of a group that nobody came back to.
func (hs *handlers) forget(g *group) {
	hs.mu.Lock()
	if len(g.handlers) > 0 || hs.groups[g.name] != g {
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
	hs.walk(g.claims.Load(), func(s *Socket) bool { return hs.knowsLocked(s, g) }, func(list []adoptee) bool {
		for _, a := range list {
			a.socket.unassignLocked(g)
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
		s.unassignLocked(g)
		if s.farewell != nil && len(s.assigned) == 0 && len(s.parked) == 0 {
			hs.unparkEndLocked(s)
		}
	}
}
