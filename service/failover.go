package service

import (
	"slices"
	"time"
)

// Drain ends new work for the handler: its sockets go over to others; when the last event has its reply, Next returns io.EOF.
func (h *Handler) Drain() {
	h.node.handlers.leave(func(hs *handlers, after *followUps) {
		hs.handOverLocked(h, after)
		h.mu.Lock()
		h.finishing = true
		h.signal()
		h.mu.Unlock()
	})
}

// Detach takes the handler away for good: its sockets go over to others of its group, what is in flight with it is lost and
// counted.
func (h *Handler) Detach() {
	h.node.handlers.leave(func(hs *handlers, after *followUps) {
		hs.handOverLocked(h, after)
		hs.detachLocked(h, after)
	})
}

func (hs *handlers) leave(how func(*handlers, *followUps)) {
	var after followUps
	hs.mu.Lock()
	how(hs, &after)
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
		hs.seekLocked(p, after)
	}
	h.mu.Lock()
	h.endLocked(ErrReplaced)
	lost := len(h.inFlight)
	h.inFlight, h.withoutAck, h.out, h.pending = nil, nil, fifo[Notice]{}, fifo[Notice]{}
	for id, call := range h.serverCalls {
		delete(h.serverCalls, id)
		call.settle(nil)
	}
	h.mu.Unlock()
	if !h.reg.Observer {
		hs.node.drops.add(dropHandlerLost, lost)
	}
}

// retireLocked lets a handler whose sockets are with others finish what is in flight, for a while.
func (hs *handlers) retireLocked(h *Handler, n Notice) {
	h.tell(n)
	h.mu.Lock()
	h.finishing = true
	h.signal()
	h.mu.Unlock()
	h.deadline = time.AfterFunc(time.Until(n.Until), func() { h.end(ErrReplaced) })
}

// handOverLocked takes a handler out of its group and gives its sockets, and the events that its backend has not seen, to
// others, in order.
func (hs *handlers) handOverLocked(h *Handler, after *followUps) {
	g := h.group
	if i := slices.Index(g.handlers, h); i >= 0 {
		g.handlers = slices.Delete(g.handlers, i, i+1)
	} else if h.sockets == 0 {
		return
	}
	h.leaving = true
	hs.version.Add(1)
	if len(g.handlers) == 0 && g.forget == nil && !hs.closed {
		g.forget = time.AfterFunc(hs.node.cfg.HandlerWait, func() { hs.forget(g) })
	}
	unseen, untold := h.takeUnseen()

	// Who comes after whom is settled first, and told, and only then seen by events: those that come now find h closed and
	// wait for this mutex.
	heirs := map[*Socket]*Handler{}
	told := map[*Handler][]adoptee{}
	inherit := func(s *Socket, info *SocketInfo) {
		heir := g.pickLocked(s.ns.name, false)
		heirs[s] = heir
		if heir != nil {
			told[heir] = append(told[heir], adoptee{s, info, untold[s]})
			if s.gone == nil {
				heir.sockets++
			}
		}
	}
	for _, ns := range hs.node.all() {
		ns.mu.RLock()
		for _, e := range ns.order.entries {
			if e.socket != nil && hs.handlerOfLocked(e.socket, g) == h {
				inherit(e.socket, e.socket.infoLocked())
			}
		}
		ns.mu.RUnlock()
	}
	for i := range unseen {
		if s := unseen[i].From; s.gone != nil {
			if _, ok := heirs[s]; !ok {
				inherit(s, s.gone)
			}
		}
	}
	for heir, sockets := range told {
		heir.assigned(sockets, true)
	}
	for _, n := range unseen {
		hs.inheritLocked(h, heirs[n.From], n, untold[n.From], after)
	}
	for heir := range told { // what was parked while h had ended and was still here
		hs.serveParkedLocked(heir, func(s *Socket) bool { return heirs[s] == heir })
	}
	for s, heir := range heirs {
		switch {
		case s.gone != nil:
		case heir == nil && untold[s]:
			s.unassignLocked(g) // nobody in the group has ever heard of it
		default:
			s.assignLocked(g, heir)
		}
	}
	h.sockets = 0
}

// inheritLocked gives one notice that h's backend has not seen to the heir of its socket.
func (hs *handlers) inheritLocked(h, heir *Handler, n Notice, untold bool, after *followUps) {
	switch {
	case n.Kind == NoticeDisconnected && heir != nil:
		heir.tellAfterEvents(n)
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
		if heir.inherit(n) == full {
			hs.node.drops.add(dropHandlerSlow, 1)
			after.add(func() { n.From.conn.Close(ReasonHandlerSlow) })
		}
	}
}

// takeUnseen closes the handler for events and returns those that Next has not taken, and the disconnects among them; and
// the sockets of which its backend was never told.
func (h *Handler) takeUnseen() (unseen []Notice, untold map[*Socket]bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = false
	untold = map[*Socket]bool{}
	var keep []Notice
	for _, n := range h.out.take() {
		switch n.Kind {
		case NoticeEvent:
			delete(h.inFlight, n.CallID)
			h.queuedBytes -= n.size()
			unseen = append(unseen, n)
		case NoticeDisconnected:
			unseen = append(unseen, n)
		case NoticeConnected, NoticeAssigned: // news of sockets that are not its own any more
			for _, s := range n.fresh {
				untold[s] = true
			}
		default:
			keep = append(keep, n)
		}
	}
	for _, n := range keep {
		h.out.push(n)
	}
	for _, n := range h.pending.take() {
		if n.Kind == NoticeEvent && !h.reg.Observer {
			n.From.unreserve(n.size())
		}
		unseen = append(unseen, n)
	}
	h.queuedBytes = 0
	return unseen, untold
}

// forget lets go of a group that nobody came back to.
func (hs *handlers) forget(g *group) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if len(g.handlers) > 0 || hs.groups[g.name] != g {
		return
	}
	hs.dropGroupLocked(g)
}

// dropGroupLocked lets go of a group that nobody is in.
func (hs *handlers) dropGroupLocked(g *group) {
	if g.forget != nil {
		g.forget.Stop()
	}
	delete(hs.groups, g.name)
	for s := range hs.parking.sockets {
		if s.gone != nil {
			s.unassignLocked(g)
			if s.farewell != nil && len(s.assigned) == 0 && len(s.parked) == 0 {
				hs.unparkEndLocked(s)
			}
		}
	}
	for _, ns := range hs.node.all() {
		ns.mu.RLock()
		for _, e := range ns.order.entries {
			if e.socket != nil {
				e.socket.unassignLocked(g)
			}
		}
		ns.mu.RUnlock()
	}
}

func (s *Socket) unassignLocked(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.assigned = slices.DeleteFunc(s.assigned, func(a assignment) bool { return a.group == g })
}
