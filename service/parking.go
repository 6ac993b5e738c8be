package service

import (
	"slices"
	"time"
)

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
	inbound account
	notices account
	ends    int
	timer   *time.Timer
}

// parkLocked keeps an event until a handler comes for it, or its time is up. As at a handler, nothing is refused: what is
// too much pauses the link that it came from.
func (hs *handlers) parkLocked(n *Notice) {
	s, size, cfg := n.From, n.size(), &hs.node.cfg
	if hs.closed {
		n.unhold()
		hs.node.drops.add(dropHandlerAbsent, 1)
		return
	}
	held := n.held
	n.held = true
	s.parked = append(s.parked, parked{*n, time.Now().Add(cfg.HandlerWait)})
	hs.parking.events++
	hs.parking.bytes += size
	hs.parking.inbound.add(cfg.Budget, UseInbound, size+eventOverhead)
	hs.rememberLocked(s)
	if held {
		s.heldBy(nil)
		return
	}
	var shared pressure
	if hs.parking.events >= cfg.MaxHandlerQueue || hs.parking.bytes >= cfg.MaxHandlerQueueBytes || hs.parking.inbound.spent {
		shared = evenPart(cfg, &hs.parking.inbound, len(hs.parking.sockets))
	}
	s.hold(size, nil, shared)
}

// parkEndLocked keeps the news of a socket's end, behind all its events, for groups that know the socket and are not there.
func (hs *handlers) parkEndLocked(n *Notice) {
	s := n.From
	switch {
	case s.farewell != nil: // one end is enough
	case hs.closed, hs.parking.ends >= hs.node.cfg.MaxHandlerQueue, hs.parking.notices.spent && hs.parking.notices.held > accountStep:
		hs.node.drops.add(dropEnd, 1)
	default:
		s.farewell = &parked{*n, time.Now().Add(hs.node.cfg.HandlerWait)}
		hs.parking.ends++
		hs.parking.notices.add(hs.node.cfg.Budget, UseNotices, n.weigh())
		hs.rememberLocked(s)
	}
}

func (hs *handlers) rememberLocked(s *Socket) {
	if len(hs.parking.sockets) == 0 {
		hs.parking.timer.Reset(hs.node.cfg.HandlerWait)
	}
	hs.parking.sockets[s] = struct{}{}
}

// unparkLocked takes one of a socket's events out. Who drops it counts it so; who hands it on does not give its place in
// the socket's share back.
func (hs *handlers) unparkLocked(s *Socket, i int) *Notice {
	n := s.parked[i].notice
	s.parked = slices.Delete(s.parked, i, i+1)
	hs.parking.events--
	hs.parking.bytes -= n.size()
	hs.parking.inbound.add(hs.node.cfg.Budget, UseInbound, -n.size()-eventOverhead)
	hs.forgetParkedLocked(s)
	return &n
}

func (hs *handlers) dropParkedLocked(s *Socket) {
	hs.unparkLocked(s, 0).unhold()
	hs.node.drops.add(dropHandlerAbsent, 1)
}

func (hs *handlers) unparkEndLocked(s *Socket) {
	hs.parking.notices.add(hs.node.cfg.Budget, UseNotices, -s.farewell.notice.weigh())
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
			hs.dropParkedLocked(s)
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

// serveParkedLocked gives a handler what is parked of a socket that is its own, or has left, and is its group's to take.
func (hs *handlers) serveParkedLocked(s *Socket, h *Handler) {
	for i := 0; i < len(s.parked); {
		if hs.routesLocked(s.ns).owner(s.parked[i].notice.Packet.Event) != h.group {
			i++
			continue
		}
		h.inherit(hs.unparkLocked(s, i))
	}
}

// serveGoneLocked gives a handler what is left of a socket that has left: its events are any handler's of the owner group,
// which is shown the socket first; and every group that knows it hears of its end.
func (hs *handlers) serveGoneLocked(s *Socket, h *Handler) {
	owned := func(p parked) bool { return hs.routesLocked(s.ns).owner(p.notice.Packet.Event) == h.group }
	shown := slices.ContainsFunc(s.parked, owned)
	if shown {
		h.assigned([]adoptee{{s, s.gone, !hs.knowsLocked(s, h.group)}}, false)
		hs.followLocked(s, h)
		hs.serveParkedLocked(s, h)
	}
	if s.farewell == nil {
		return
	}
	if hs.knowsLocked(s, h.group) || shown {
		s.unassignLocked(h.group)
		if !h.tellAfterEvents(&s.farewell.notice) {
			hs.node.drops.add(dropEnd, 1)
		}
	}
	if len(s.assigned) == 0 && len(s.parked) == 0 { // nobody else may still come for it
		hs.unparkEndLocked(s)
	}
}

// knowsLocked says whether a group was told of a socket.
func (hs *handlers) knowsLocked(s *Socket, g *group) bool {
	return slices.ContainsFunc(s.assigned, func(a assignment) bool { return a.group == g })
}
