package service

import (
	"container/list"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Connect asks to let a link into a namespace.
type Connect struct {
	Conn      Conn
	Namespace string // verbatim from the CONNECT packet
	Auth      []byte // the CONNECT packet's JSON object; nil when there was none
	// Bind gives the link its socket, just before the CONNECT answer is queued by Conn.Send: the socket may receive from
	// now on. It says false when the link has closed, or has changed its mind, meanwhile. Called with locks held: memory
	// only, and it must call nothing of this package.
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
	// NoNamespace: the namespace is not there, which clients of Socket.IO v2 are told in another form than other refusals.
	NoNamespace bool

	// The words of the log's line: a name of Info.Dropped, the fault, and the setting that changes it, if there is one.
	// Without a Reason there is nothing to tell.
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

// InvalidNamespace is the refusal of a namespace that is not there, in the reference's words.
var InvalidNamespace = Refusal{Message: "Invalid namespace", NoNamespace: true}.because(dropNamespace, "--namespaces",
	"no handler has registered this namespace, and --namespaces does not name it")

// connects are those without a decision.
type connects struct {
	node *Node

	mu       sync.Mutex
	closed   bool
	pendings int         // all of them
	waiting  list.List   // of *pending: those that wait for a handler to come
	asking   seats       // all of them by address
	guessing seats       // those that wait for their namespace to become known, by address
	absence  *time.Timer // tells that connects wait for a handler to come, while some do
}

// pending is a connect without a decision. It waits for a handler (in connects.waiting), or one was asked.
type pending struct {
	c      Connect
	socket *Socket     // nil while nobody knows the namespace
	timer  *time.Timer // its time to wait, or the handler's to decide

	// Guarded by connects.mu.
	done  bool
	place *list.Element // in connects.waiting
	asked *Handler
	call  uint64
	step  *Trace // from the first question on; nil: it is not traced
	seq   uint64 // of the question, where asked is told it
	seat  seat   // in connects.asking
	guess seat   // in connects.guessing
}

// Connect asks to let a link into a namespace; exactly one of c.Bind and c.Refuse is called, now or later, unless
// cancel is called before: then Bind may still be, and says false. It does not block.
func (n *Node) Connect(c Connect) (cancel func()) {
	p := &pending{c: c}
	n.connects.begin(p)
	return func() { n.connects.cancel(p) }
}

func (cs *connects) begin(p *pending) {
	cs.change(func(after *followUps) {
		_, known := cs.node.handlers.rule(p.c.Namespace)
		switch {
		case cs.closed || cs.node.draining.Load():
			cs.turnAway(p, dropConnectWait, Refusal{CloseLink: true}, after)
		case !known && cs.node.handlers.hope(p.c.Namespace) <= 0:
			cs.turnAway(p, dropNamespace, InvalidNamespace, after)
		default:
			cs.pendings++
			cs.seekLocked(p, after)
		}
	})
}

// turnAway refuses a connect that has not begun to wait.
func (cs *connects) turnAway(p *pending, why drop, r Refusal, after *followUps) {
	p.done = true
	cs.node.drops.add(why, 1)
	after.add(func() { p.c.Refuse(r) })
}

// change does something with the lock held, and then what is to be done without it.
func (cs *connects) change(do func(after *followUps)) {
	var after followUps
	cs.mu.Lock()
	do(&after)
	cs.mu.Unlock()
	after.run()
}

// seekLocked takes a pending connect the next step: in, to a handler, or to wait for one.
func (cs *connects) seekLocked(p *pending, after *followUps) {
	hs, name := cs.node.handlers, p.c.Namespace
	mode, known := hs.rule(name)
	p.asked = nil
	if known && p.socket == nil && !cs.placeLocked(p) {
		cs.node.drops.add(dropConnectLimit, 1)
		cs.refuseLocked(p, unavailable(cs.node.cfg.HandlerWait).because(dropConnectLimit, "",
			"the node has its %d namespaces, or this address its half", cs.node.cfg.MaxNamespaces), after)
		return
	}
	if known && mode == ConnectOpen {
		cs.acceptLocked(p, &anyone, nil, after)
		return
	}
	if !cs.seatLocked(p, known, after) {
		cs.node.drops.add(dropConnectLimit, 1)
		cs.refuseLocked(p, cs.crowded(), after)
		return
	}
	if known {
		if h := hs.viewOf(p.socket.ns).decider(); h != nil {
			cs.askLocked(p, h)
			return
		}
	}
	if known {
		cs.noticeWaitLocked()
	}
	if p.place == nil {
		p.place = cs.waiting.PushBack(p)
		wait := cs.node.cfg.HandlerWait
		if p.socket == nil {
			wait = min(wait, max(hs.hope(name), time.Millisecond))
		}
		cs.setTimerLocked(p, wait, func(after *followUps) { cs.waitedInVainLocked(p, after) })
	}
}

// seatLocked gives a connect that has to wait a place among those that do; false: its address has its half of them. Who
// need not wait is let in however many wait, and those who ask for what nobody knows can fill a small share only. For a
// newcomer when all places are taken, the oldest of the address with most has to go.
func (cs *connects) seatLocked(p *pending, known bool, after *followUps) bool {
	most := cs.node.cfg.MaxPendingConnects
	at, s := &cs.asking, &p.seat
	if !known {
		most = max(1, most/10)
		at, s = &cs.guessing, &p.guess
	} else {
		cs.guessing.remove(&p.guess)
	}
	if s.asker != nil {
		return true
	}
	address := neighbourhood(p.c.Conn.Handshake().Address())
	if at.of(address) >= max(1, most/2) {
		return false
	}
	if total := at.total; total >= most {
		cs.node.drops.add(dropConnectLimit, 1)
		cs.refuseLocked(at.oldestOfMost(), cs.crowded(), after)
	}
	*s = at.add(p, address)
	return true
}

// placeLocked makes the socket of a pending connect whose namespace is known; false: there are too many namespaces.
// Those with a name of their own, whose number is bounded elsewhere, always have their place.
func (cs *connects) placeLocked(p *pending) bool {
	named := cs.node.handlers.named(p.c.Namespace)
	maker := ""
	if !named {
		maker = neighbourhood(p.c.Conn.Handshake().Address())
	}
	ns := cs.node.acquire(p.c.Namespace, named, maker)
	if ns == nil {
		return false
	}
	p.socket = &Socket{id: newSocketID(cs.node.id), ns: ns, conn: p.c.Conn}
	return true
}

// decider is who decides the connects of a namespace; nil: nobody is there.
func (v *view) decider() *Handler {
	now := time.Now()
	for _, g := range v.groups {
		if g.claims.Load().decides {
			if h := g.pick(now); h != nil {
				return h
			}
		}
	}
	return nil
}

// askLocked asks a handler for its decision.
func (cs *connects) askLocked(p *pending, h *Handler) {
	cs.stopWaitingLocked(p)
	p.socket.ns.mu.RLock()
	info := p.socket.infoLocked()
	p.socket.ns.mu.RUnlock()
	info.Auth = p.c.Auth
	info.ConnectedAt = time.Now()
	if p.call == 0 {
		p.step = cs.node.traceConnect(p.socket, h)
	}
	p.asked = h
	p.call, p.seq = h.ask(Notice{Kind: NoticeConnect, Sockets: []*SocketInfo{info}, Time: info.ConnectedAt, Trace: p.step})
	h.connects[p.call] = p
	cs.setTimerLocked(p, cs.node.cfg.DecideWithin, func(after *followUps) {
		cs.node.drops.add(dropDecisionTimeout, 1)
		cs.refuseLocked(p, unavailable(cs.node.cfg.HandlerWait).because(dropDecisionTimeout, "",
			"handler %q of group %q has not decided within %v", h.reg.ID, h.reg.Group, cs.node.cfg.DecideWithin), after)
	})
}

// setTimerLocked gives a pending connect a new deadline.
func (cs *connects) setTimerLocked(p *pending, d time.Duration, expire func(*followUps)) {
	if p.timer != nil {
		p.timer.Stop()
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		cs.change(func(after *followUps) {
			if !p.done && p.timer == t {
				expire(after)
			}
		})
	})
	p.timer = t
}

func (cs *connects) waitedInVainLocked(p *pending, after *followUps) {
	if p.socket != nil {
		cs.node.drops.add(dropConnectWait, 1)
		cs.refuseLocked(p, unavailable(cs.node.cfg.HandlerWait).because(dropConnectWait,
			"--handler-wait="+cs.node.cfg.HandlerWait.String(), "no handler has come that decides who connects"), after)
		return
	}
	cs.node.drops.add(dropNamespace, 1)
	cs.refuseLocked(p, InvalidNamespace, after)
}

// serve takes up the connects that a handler may decide that has just come, oldest first.
func (cs *connects) serve() {
	cs.mu.Lock()
	list := make([]*pending, 0, cs.waiting.Len())
	for e := cs.waiting.Front(); e != nil; e = e.Next() {
		list = append(list, e.Value.(*pending))
	}
	cs.mu.Unlock()
	for chunk := range slices.Chunk(list, chunkSockets) {
		cs.change(func(after *followUps) {
			for _, p := range chunk {
				if !p.done && p.place != nil {
					cs.seekLocked(p, after)
				}
			}
		})
	}
}

// detach gives the questions of a handler that is not there any more to others.
func (cs *connects) detach(h *Handler) {
	cs.change(func(after *followUps) {
		for _, p := range h.connects {
			cs.withdrawLocked(p)
			cs.seekLocked(p, after)
		}
	})
}

// close refuses all.
func (cs *connects) close() {
	cs.change(func(after *followUps) {
		cs.closed = true
		if cs.absence != nil {
			cs.absence.Stop()
		}
		for cs.waiting.Len() > 0 {
			cs.refuseLocked(cs.waiting.Front().Value.(*pending), unavailable(0), after)
		}
		for _, h := range cs.node.handlers.all() {
			for _, p := range h.connects {
				cs.refuseLocked(p, unavailable(0), after)
			}
		}
	})
}

// Decision answers a NoticeConnect: it accepts, unless Reject is set.
type Decision struct {
	Rooms  []string
	UserID string
	Data   []byte // JSON object, or nil
	Reject *Refusal
}

// anyone is the decision about a connect to an open namespace. Not to be changed.
var anyone Decision

// Decide answers a NoticeConnect. What comes late or is unknown is ignored and counted.
func (h *Handler) Decide(callID uint64, d Decision) {
	cs := &h.node.connects
	cs.change(func(after *followUps) {
		p := h.connects[callID]
		if p == nil && h.decideElsewhere(callID, &d) {
			return
		}
		if p != nil && h.at != "" {
			p.seq = 0 // its node knows that it has answered
		}
		switch {
		case p == nil:
			cs.node.drops.add(dropDecisionUnknown, 1)
		case d.Reject != nil:
			cs.node.drops.add(dropRejected, 1)
			cs.refuseLocked(p, d.Reject.because(dropRejected, "", "handler %q of group %q: %s", h.reg.ID, h.reg.Group, d.Reject.Message), after)
		case h.hasEnded(): // its group would not hear of the socket: another one decides
			cs.withdrawLocked(p)
			cs.seekLocked(p, after)
		default:
			cs.acceptLocked(p, &d, h, after)
		}
	})
}

// acceptLocked lets a link in that was decided on. With other nodes they are told of its rooms first: until then it is
// still pending, and may be cancelled.
func (cs *connects) acceptLocked(p *pending, d *Decision, by *Handler, after *followUps) {
	remote := cs.node.cfg.Remote
	if remote == nil {
		cs.finishLocked(p)
		after.add(func() { cs.node.admit(p, d, by) })
		return
	}
	cs.answeredLocked(p)
	after.add(func() { remote.Expect(p.socket.ns.name, d.Rooms, func() { cs.welcome(p, d, by) }) })
}

// welcome lets a link in once the other nodes were told of it, unless it has gone meanwhile.
func (cs *connects) welcome(p *pending, d *Decision, by *Handler) {
	cs.change(func(after *followUps) {
		switch {
		case p.done:
		case cs.closed:
			cs.refuseLocked(p, unavailable(0), after)
		default:
			cs.finishLocked(p)
			after.add(func() { cs.node.admit(p, d, by) })
		}
	})
}

// admit lets a link in: it is in its rooms and its handlers are told before the client hears of it, and all of this
// before the first emit or event can meet it.
func (n *Node) admit(p *pending, d *Decision, by *Handler) {
	s := p.socket
	s.userID, s.data, s.connectedAt = d.UserID, d.Data, time.Now()
	frame, err := s.conn.Codec().Encode(&Packet{
		Kind: KindConnect, Namespace: s.ns.name, AckID: NoAck, Payload: []byte(`{"sid":"` + string(s.id) + `"}`),
	})
	switch {
	case err != nil:
		p.release(n)
		p.c.Refuse(Refusal{CloseLink: true})
	case !s.enter(p.c.Bind, frame, d.Rooms, by):
		p.release(n)
	default:
		s.conn.Flush()
	}
}

// enter makes a socket of its namespace. False: its link does not want it any more.
func (s *Socket) enter(bind func(*Socket) bool, frame Frame, rooms []string, by *Handler) bool {
	ns := s.ns
	ns.assigning.Lock()
	defer ns.assigning.Unlock()
	v := ns.node.handlers.viewOf(ns)
	ns.mu.Lock()
	defer ns.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !bind(s) {
		return false
	}
	s.conn.Send(frame, Owed)
	ns.insertLocked(s, rooms)
	s.connectedLocked(v, by)
	return true
}

func (cs *connects) refuseLocked(p *pending, r Refusal, after *followUps) {
	p.step.refused(r.Reason)
	cs.finishLocked(p)
	after.add(func() {
		p.release(cs.node)
		p.c.Refuse(r)
	})
}

// finishLocked ends a pending connect, however it came out.
func (cs *connects) finishLocked(p *pending) {
	p.done = true
	cs.pendings--
	cs.answeredLocked(p)
	p.step.End()
}

// answeredLocked ends what a pending connect waits for.
func (cs *connects) answeredLocked(p *pending) {
	cs.stopWaitingLocked(p)
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil // it may have run out just now, and wait for the lock
	}
	cs.asking.remove(&p.seat)
	cs.guessing.remove(&p.guess)
	cs.withdrawLocked(p)
}

// withdrawLocked takes the question back that a handler was asked.
func (cs *connects) withdrawLocked(p *pending) {
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

func (cs *connects) stopWaitingLocked(p *pending) {
	if p.place != nil {
		cs.waiting.Remove(p.place)
		p.place = nil
	}
}

// cancel ends a pending connect whose link is gone or has changed its mind.
func (cs *connects) cancel(p *pending) {
	cs.change(func(after *followUps) {
		if !p.done {
			cs.finishLocked(p)
			after.add(func() { p.release(cs.node) })
		}
	})
}
