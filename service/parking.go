package service

import (
	"slices"
	"sync"
	"time"
)

// parked is an event, or the news of a disconnect, that waits for a handler to come.
type parked struct {
	notice Notice
	until  time.Time
}

// parking is what waits while nobody is there to take it: with each socket its own few events, in order, and behind
// them the news of its end. Namespace.assigning guards what is with the socket.
type parking struct {
	hs *handlers

	mu      sync.Mutex           // a leaf
	sockets map[*Socket]struct{} // those with something parked
	events  int
	bytes   int // of the events
	inbound account
	notices account
	ends    int
	timer   *time.Timer
}

func (p *parking) init(hs *handlers) {
	p.hs, p.sockets = hs, map[*Socket]struct{}{}
	p.timer = time.AfterFunc(time.Hour, p.expire)
	p.timer.Stop()
}

// park keeps an event until a handler comes for it, or its time is up. As at a handler, nothing is refused: what is too
// much pauses the link that it came from. Namespace.assigning is held.
func (p *parking) park(s *Socket, n *Notice) {
	shared, ok := p.count(s, n.size())
	if !ok {
		n.unhold()
		p.hs.node.drops.add(dropHandlerAbsent, 1)
		return
	}
	held := n.held
	n.held = true
	s.parked = append(s.parked, parked{*n, time.Now().Add(p.hs.node.cfg.HandlerWait)})
	if held {
		s.HeldBy(nil)
	} else {
		s.Hold(n.size(), nil, shared)
	}
}

// count makes a place for an event; false: the node closes. That is looked at under the lock, since close finds under
// it what is parked.
func (p *parking) count(s *Socket, size int) (shared Pressure, ok bool) {
	cfg := &p.hs.node.cfg
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hs.closed.Load() {
		return Pressure{}, false
	}
	p.events++
	p.bytes += size
	p.inbound.add(cfg.Budget, UseInbound, size+eventOverhead)
	p.rememberLocked(s)
	if p.events >= cfg.MaxHandlerQueue || p.bytes >= cfg.MaxHandlerQueueBytes || p.inbound.spent {
		return evenPart(cfg, &p.inbound, len(p.sockets)), true
	}
	return Pressure{}, true
}

// parkEnd keeps the news of a socket's end, behind all its events, for groups that know the socket and are not there.
// Namespace.assigning is held.
func (p *parking) parkEnd(s *Socket, n *Notice) {
	if s.farewell != nil { // one end is enough
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hs.closed.Load() || p.ends >= p.hs.node.cfg.MaxHandlerQueue || p.notices.spent && p.notices.held > accountStep {
		p.hs.node.drops.add(dropEnd, 1)
		return
	}
	s.farewell = &parked{*n, time.Now().Add(p.hs.node.cfg.HandlerWait)}
	p.ends++
	p.notices.add(p.hs.node.cfg.Budget, UseNotices, n.weigh())
	p.rememberLocked(s)
}

func (p *parking) rememberLocked(s *Socket) {
	if len(p.sockets) == 0 {
		p.timer.Reset(p.hs.node.cfg.HandlerWait)
	}
	p.sockets[s] = struct{}{}
}

// unpark takes one of a socket's events out. A caller that drops the event counts it as dropped. A caller that hands it
// on does not give its place in the socket's share back. Namespace.assigning is held.
func (p *parking) unpark(s *Socket, i int) *Notice {
	n := s.parked[i].notice
	s.parked = slices.Delete(s.parked, i, i+1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events--
	p.bytes -= n.size()
	p.inbound.add(p.hs.node.cfg.Budget, UseInbound, -n.size()-eventOverhead)
	p.forgetLocked(s)
	return &n
}

func (p *parking) drop(s *Socket) {
	p.unpark(s, 0).unhold()
	p.hs.node.drops.add(dropHandlerAbsent, 1)
}

// unparkEnd takes the news of a socket's end out. Namespace.assigning is held.
func (p *parking) unparkEnd(s *Socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notices.add(p.hs.node.cfg.Budget, UseNotices, -s.farewell.notice.weigh())
	s.farewell = nil
	p.ends--
	p.forgetLocked(s)
}

func (p *parking) forgetLocked(s *Socket) {
	if len(s.parked) == 0 {
		s.parked = nil
		if s.farewell == nil {
			delete(p.sockets, s)
		}
	}
}

// all are the sockets of which something is parked.
func (p *parking) all() []*Socket {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*Socket, 0, len(p.sockets))
	for s := range p.sockets {
		list = append(list, s)
	}
	return list
}

// expire drops what has waited its time. It comes round at a twentieth of that time at the most often, so that a
// crowd's many moments do not cost a walk each.
func (p *parking) expire() {
	now := time.Now()
	wait := p.hs.node.cfg.HandlerWait
	next := now.Add(wait)
	for _, s := range p.all() {
		s.ns.assigning.Lock()
		for len(s.parked) > 0 && !s.parked[0].until.After(now) {
			p.drop(s)
		}
		switch {
		case len(s.parked) > 0:
			if s.parked[0].until.Before(next) {
				next = s.parked[0].until
			}
		case s.farewell != nil && !s.farewell.until.After(now):
			p.unparkEnd(s)
		case s.farewell != nil && s.farewell.until.Before(next):
			next = s.farewell.until
		}
		s.ns.assigning.Unlock()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sockets) > 0 && !p.hs.closed.Load() {
		p.timer.Reset(max(next.Sub(now), wait/20))
	}
}

// close drops all that is parked.
func (p *parking) close() {
	p.timer.Stop()
	for _, s := range p.all() {
		s.ns.assigning.Lock()
		for len(s.parked) > 0 {
			p.drop(s)
		}
		if s.farewell != nil {
			p.unparkEnd(s)
		}
		s.ns.assigning.Unlock()
	}
}
