package service

import (
	"container/list"
	"fmt"
	"time"
)

// Connect asks to let a link into a namespace.
type Connect struct {
	Conn      Conn
	Namespace string // verbatim from the CONNECT packet
	Auth      []byte // the CONNECT packet's JSON object; nil when there was none
	// Bind gives the link its socket, just before the CONNECT answer is queued by Conn.Send: the socket may receive from
	// now on. It says false when the link has closed meanwhile. Called with locks held: memory only, and it must call
	// nothing of this package.
	Bind func(s *Socket) bool
	// Refuse tells the link that it is not let in. Called without locks, from any goroutine.
	Refuse func(r Refusal)
}

// Refusal is why a link is not let into a namespace.
type Refusal struct {
	Message string // of the CONNECT_ERROR
	Data    []byte // of the CONNECT_ERROR: JSON, or nil
	// CloseLink: close the link instead, without a packet, so that the client comes back by itself.
	CloseLink bool
	// UnlessShared: with CloseLink, send the CONNECT_ERROR after all when other namespaces live on the link.
	UnlessShared bool

	// What the log is told: a name of Info.Dropped, what is wrong, and the setting that changes it, if there is one. Without a
	// Reason there is nothing to tell.
	Reason, Detail, Setting string
}

// because adds what the log is told.
func (r Refusal) because(why drop, setting, format string, args ...any) Refusal {
	r.Reason, r.Setting, r.Detail = dropNames[why], setting, fmt.Sprintf(format, args...)
	return r
}

// unavailable is the refusal while no handler is there to decide: it never fails open, and the stock client retries.
func unavailable(retryAfter time.Duration) Refusal {
	return Refusal{
		Message: "handler unavailable", CloseLink: true, UnlessShared: true,
		Data: fmt.Appendf(nil, `{"code":"HANDLER_UNAVAILABLE","retry_after_ms":%d}`, retryAfter.Milliseconds()),
	}
}

var invalidNamespace = Refusal{Message: "Invalid namespace"}.because(dropNamespace, "--namespaces",
	"no handler has registered this namespace, and --namespaces does not name it")

// pending is a connect without a decision. It waits for a handler (in handlers.waiting), or one was asked.
type pending struct {
	c      Connect
	socket *Socket     // nil while nobody knows the namespace
	timer  *time.Timer // its time to wait, or the handler's to decide

	// Guarded by handlers.mu.
	done  bool
	place *list.Element // in handlers.waiting
	asked *Handler
	call  uint64
	seq   uint64 // of the question, where asked is told it
	seat  seat   // in handlers.asking
	guess seat   // in handlers.guessing
}

// Connect asks to let a link into a namespace; exactly one of c.Bind and c.Refuse is called, now or later, unless cancel is
// called before. It does not block.
func (n *Node) Connect(c Connect) (cancel func()) {
	hs := n.handlers
	p := &pending{c: c}
	var after followUps
	hs.mu.Lock()
	hs.connectLocked(p, &after)
	hs.mu.Unlock()
	after.run()
	return func() { hs.cancel(p) }
}

func (hs *handlers) connectLocked(p *pending, after *followUps) {
	n := hs.node
	refuse := func(why drop, r Refusal) {
		p.done = true
		n.drops.add(why, 1)
		after.add(func() { p.c.Refuse(r) })
	}
	if hs.closed || hs.draining {
		refuse(dropConnectWait, Refusal{CloseLink: true})
		return
	}
	if _, known := hs.ruleLocked(p.c.Namespace); !known && hs.hopeLocked() <= 0 {
		refuse(dropNamespace, invalidNamespace)
		return
	}
	hs.pendings++
	hs.seekLocked(p, after)
}

// seekLocked takes a pending connect the next step: in, to a handler, or to wait for one.
func (hs *handlers) seekLocked(p *pending, after *followUps) {
	name := p.c.Namespace
	mode, known := hs.ruleLocked(name)
	p.asked = nil
	if known && p.socket == nil && !hs.placeLocked(p) {
		hs.node.drops.add(dropConnectLimit, 1)
		hs.refuseLocked(p, unavailable(hs.node.cfg.HandlerWait).because(dropConnectLimit, "", "the node has its %d namespaces, or this address its half", hs.node.cfg.MaxNamespaces), after)
		return
	}
	if known && mode == ConnectOpen {
		hs.acceptLocked(p, Decision{}, nil, after)
		return
	}
	if !hs.seatLocked(p, known, after) {
		hs.node.drops.add(dropConnectLimit, 1)
		hs.refuseLocked(p, hs.crowded(), after)
		return
	}
	if h := hs.deciderLocked(name); known && h != nil {
		hs.askLocked(p, h)
		return
	}
	if p.place == nil {
		p.place = hs.waiting.PushBack(p)
		hs.noticeWaitLocked()
		wait := hs.node.cfg.HandlerWait
		if p.socket == nil {
			hs.unknown++
			wait = min(wait, max(hs.hopeLocked(), time.Millisecond))
		}
		hs.setTimerLocked(p, wait, func(after *followUps) { hs.waitedInVainLocked(p, after) })
	}
}

// seatLocked gives a connect that has to wait a place among those that do; false: its address has its half of them. Who need
// not wait is let in however many wait, and those who ask for what nobody knows can fill a small share only. For a newcomer
// when all places are taken, the oldest of the address with most has to go.
func (hs *handlers) seatLocked(p *pending, known bool, after *followUps) bool {
	most := hs.node.cfg.MaxPendingConnects
	at, s := &hs.asking, &p.seat
	if !known {
		most = max(1, most/10)
		at, s = &hs.guessing, &p.guess
	} else {
		hs.guessing.remove(&p.guess)
	}
	if s.asker != nil {
		return true
	}
	address := neighbourhood(p.c.Conn.Handshake().Address())
	if at.of(address) >= max(1, most/2) {
		return false
	}
	if total := at.total; total >= most {
		hs.node.drops.add(dropConnectLimit, 1)
		hs.refuseLocked(at.oldestOfMost(), hs.crowded(), after)
	}
	*s = at.add(p, address)
	return true
}

// placeLocked makes the socket of a pending connect whose namespace is known; false: there are too many namespaces. Those
// with a name of their own, whose number is bounded elsewhere, always have their place.
func (hs *handlers) placeLocked(p *pending) bool {
	_, named := hs.names.exact[p.c.Namespace]
	maker := ""
	if !named {
		maker = neighbourhood(p.c.Conn.Handshake().Address())
	}
	ns := hs.node.acquire(p.c.Namespace, named, maker)
	if ns == nil {
		return false
	}
	if p.place != nil { // it waited for the name to become known
		hs.unknown--
	}
	p.socket = &Socket{id: newSocketID(hs.node.id), ns: ns, conn: p.c.Conn}
	return true
}

func (hs *handlers) deciderLocked(namespace string) (decider *Handler) {
	now := time.Now()
	hs.coveringLocked(namespace, func(g *group) bool {
		if g.claims.Load().decides {
			decider = g.pickLocked(now)
		}
		return decider == nil
	})
	return decider
}

// askLocked asks a handler for its decision.
func (hs *handlers) askLocked(p *pending, h *Handler) {
	hs.stopWaitingLocked(p)
	p.socket.ns.mu.RLock()
	info := p.socket.infoLocked()
	p.socket.ns.mu.RUnlock()
	info.Auth = p.c.Auth
	info.ConnectedAt = time.Now()
	p.asked = h
	p.call, p.seq = h.ask(Notice{Kind: NoticeConnect, Sockets: []*SocketInfo{info}, Time: info.ConnectedAt})
	h.connects[p.call] = p
	hs.setTimerLocked(p, hs.node.cfg.DecideWithin, func(after *followUps) {
		hs.node.drops.add(dropDecisionTimeout, 1)
		hs.refuseLocked(p, unavailable(hs.node.cfg.HandlerWait).because(dropDecisionTimeout, "",
			"handler %q of group %q has not decided within %v", h.reg.ID, h.reg.Group, hs.node.cfg.DecideWithin), after)
	})
}

// setTimerLocked gives a pending connect a new deadline.
func (hs *handlers) setTimerLocked(p *pending, d time.Duration, expire func(*followUps)) {
	if p.timer != nil {
		p.timer.Stop()
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		var after followUps
		hs.mu.Lock()
		if !p.done && p.timer == t {
			expire(&after)
		}
		hs.mu.Unlock()
		after.run()
	})
	p.timer = t
}

func (hs *handlers) waitedInVainLocked(p *pending, after *followUps) {
	if p.socket != nil {
		hs.node.drops.add(dropConnectWait, 1)
		hs.refuseLocked(p, unavailable(hs.node.cfg.HandlerWait).because(dropConnectWait, "--handler-wait="+hs.node.cfg.HandlerWait.String(),
			"no handler has come that decides who connects"), after)
		return
	}
	hs.node.drops.add(dropNamespace, 1)
	hs.refuseLocked(p, invalidNamespace, after)
}

// serveWaiting takes up the connects that a handler may decide that has just come, oldest first.
func (hs *handlers) serveWaiting() {
	hs.mu.Lock()
	list := make([]*pending, 0, hs.waiting.Len())
	for e := hs.waiting.Front(); e != nil; e = e.Next() {
		list = append(list, e.Value.(*pending))
	}
	hs.mu.Unlock()
	for len(list) > 0 {
		chunk := list[:min(chunkSockets, len(list))]
		list = list[len(chunk):]
		var after followUps
		hs.mu.Lock()
		for _, p := range chunk {
			if !p.done && p.place != nil {
				hs.seekLocked(p, &after)
			}
		}
		hs.mu.Unlock()
		after.run()
	}
}

// Decision answers a NoticeConnect: it accepts, unless Reject is set.
type Decision struct {
	Rooms  []string
	UserID string
	Data   []byte // JSON object, or nil
	Reject *Refusal
}

// Decide answers a NoticeConnect. What comes late or is unknown is ignored and counted.
func (h *Handler) Decide(callID uint64, d Decision) {
	hs := h.node.handlers
	var after followUps
	hs.mu.Lock()
	p := h.connects[callID]
	switch {
	case p == nil:
		hs.node.drops.add(dropDecisionUnknown, 1)
	case d.Reject != nil:
		hs.node.drops.add(dropRejected, 1)
		hs.refuseLocked(p, d.Reject.because(dropRejected, "", "handler %q of group %q: %s", h.reg.ID, h.reg.Group, d.Reject.Message), &after)
	case h.hasEnded(): // its group would not hear of the socket: another one decides
		hs.withdrawLocked(p)
		hs.seekLocked(p, &after)
	default:
		hs.acceptLocked(p, d, h, &after)
	}
	hs.mu.Unlock()
	after.run()
}

// acceptLocked lets a link in: it is in its rooms and its handlers are told before the client hears of it, and all of this
// before the first emit or event can meet it.
func (hs *handlers) acceptLocked(p *pending, d Decision, by *Handler, after *followUps) {
	s := p.socket
	ns := s.ns
	hs.finishLocked(p)
	s.userID, s.data, s.connectedAt = d.UserID, d.Data, time.Now()
	frame, err := s.conn.Codec().Encode(&Packet{
		Kind: KindConnect, Namespace: ns.name, AckID: NoAck, Payload: []byte(`{"sid":"` + string(s.id) + `"}`),
	})
	if err != nil {
		after.add(func() { p.c.Refuse(Refusal{CloseLink: true}) })
		hs.node.release(ns)
		return
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	tell := hs.connectedLocked(s, by)
	if !p.c.Bind(s) {
		s.assigned = nil
		after.add(func() { hs.node.release(ns) })
		return
	}
	s.conn.Send(frame, Owed)
	ns.insertLocked(s, d.Rooms)
	if len(s.assigned) > 0 {
		tell(s.infoLocked())
	}
	after.add(s.conn.Flush)
}

func (hs *handlers) refuseLocked(p *pending, r Refusal, after *followUps) {
	hs.finishLocked(p)
	after.add(func() {
		p.release(hs.node)
		p.c.Refuse(r)
	})
}

// finishLocked ends a pending connect, however it came out.
func (hs *handlers) finishLocked(p *pending) {
	p.done = true
	hs.pendings--
	if p.socket == nil && p.place != nil {
		hs.unknown--
	}
	hs.stopWaitingLocked(p)
	if p.timer != nil {
		p.timer.Stop()
	}
	hs.asking.remove(&p.seat)
	hs.guessing.remove(&p.guess)
	hs.withdrawLocked(p)
}

// withdrawLocked takes the question back that a handler was asked.
func (hs *handlers) withdrawLocked(p *pending) {
	if h := p.asked; h != nil {
		p.asked = nil
		delete(h.connects, p.call)
		h.settle(p.seq)
	}
}

// release gives the namespace back that a connect held for its socket.
func (p *pending) release(n *Node) {
	if p.socket != nil {
		n.release(p.socket.ns)
	}
}

func (hs *handlers) stopWaitingLocked(p *pending) {
	if p.place != nil {
		hs.waiting.Remove(p.place)
		p.place = nil
	}
}

// cancel ends a pending connect whose link is gone or has changed its mind.
func (hs *handlers) cancel(p *pending) {
	hs.mu.Lock()
	if p.done {
		hs.mu.Unlock()
		return
	}
	hs.finishLocked(p)
	hs.mu.Unlock()
	p.release(hs.node)
}
