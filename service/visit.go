package service

import "slices"

// Way leads from a handler back to the node whose sockets it serves: what that node has told it is named by the numbers
// that it had there. Its methods do not block and call nothing of this package; they may be called by any goroutine.
type Way interface {
	// Taken says that a notice is out of the hands of this node: the backend has got it, or it has come to nothing. All
	// that is taken is told before the handler is said to leave. Called with locks of handlers held.
	Taken(number uint64)
	// Answered says that the backend has answered an event that was taken, of a client or of a server; payload is nil when
	// there is nothing to be acknowledged. It is read before Answered returns, and not kept. It may be called with locks
	// of handlers held.
	Answered(number uint64, payload []byte, attachments [][]byte)
	// Decided says what the backend has decided of a connect that was taken.
	Decided(number uint64, d Decision)
}

// Visit is how the sockets of another node come to a handler of this one. What waits for the handler here is bounded by
// their owner, which gives no more events than the handler has slots. Its methods are for one goroutine.
type Visit struct {
	h      *Handler
	node   NodeID
	way    Way
	heard  uint64 // the last number
	guests map[SocketID]*guest
	names  map[string]string // the namespaces that they were in
	asked  map[uint64]uint64 // the call ids of what it asks by their numbers; guarded by Handler.mu
}

// guest is a socket of another node. Its owner knows by Taken and Answered all that it needs: the rest has no effect.
type guest struct {
	visit      *Visit
	id         SocketID
	namespace  string
	generation uint64 // when it came
}

func (g *guest) ID() SocketID                 { return g.id }
func (g *guest) Namespace() string            { return g.namespace }
func (g *guest) NodeID() NodeID               { return g.visit.node }
func (g *guest) Ack(*Packet)                  {}
func (g *guest) Hold(int, *Handler, Pressure) {}
func (g *guest) HeldBy(*Handler)              {}
func (g *guest) Release(int)                  {}
func (g *guest) Settled(*Handler)             {}
func (g *guest) Left(h *Handler)              { h.Surrender(g) } // its owner has it, and finds another handler

// question is a connect that another node asks a handler of this one to decide.
type question struct {
	visit *Visit
	there uint64
	seq   uint64 // in out
}

// Visit lets the sockets of another node come to the handler. The caller ends it with Close.
func (h *Handler) Visit(node NodeID, way Way) *Visit {
	return &Visit{h: h, node: node, way: way, guests: map[SocketID]*guest{}, names: map[string]string{}, asked: map[uint64]uint64{}}
}

// Heard is the last number that was offered.
func (v *Visit) Heard() uint64 { return v.heard }

// Offer tells the handler what a handler elsewhere was given at the owner of the sockets, under its number there: a
// number that is not above all before it has no effect, so that it may be told twice. An event's notice has no From: it
// is of a socket that was told before. A handler that takes nothing any more does not answer: another message says that
// it has left. A notice of no kind has come to nothing on its way.
func (v *Visit) Offer(number uint64, of SocketID, n Notice) {
	if number <= v.heard {
		return
	}
	v.heard = number
	n.visit, n.there = v, number
	switch n.Kind {
	case NoticeConnected:
		n.From = v.welcome(n.Sockets[0])
		v.h.Offer(n)
	case NoticeAssigned:
		for _, info := range n.Sockets {
			n.fresh = append(n.fresh, v.welcome(info))
		}
		v.h.offerAssigned(&n)
	case NoticeEvent:
		if g := v.guests[of]; g != nil {
			n.From = g
			v.h.Offer(n)
		} else {
			v.h.node.drops.add(dropAfterEnd, 1)
			n.refuse()
		}
	case NoticeDisconnected:
		if g := v.guests[of]; g != nil {
			delete(v.guests, of)
			v.h.guests.Add(-1)
			n.From = g
			v.h.Offer(n)
		} else {
			n.leave()
		}
	case NoticeConnect:
		v.h.offerQuestion(&n)
	case NoticeServerSide:
		n.FromNode = v.node
		if n.WantsReply {
			v.h.askServer(n, &serverCall{visit: v, there: number})
		} else {
			v.h.tell(n)
		}
	case NoticeWithdrawn:
		v.h.withdrawQuestion(v, n.CallID)
		n.leave()
	default: // of it, the number alone is known
		n.refuse()
	}
}

// OfferPart tells the handler of sockets that come over to it, of which an Offer tells the rest.
func (v *Visit) OfferPart(n Notice) {
	for _, info := range n.Sockets {
		n.fresh = append(n.fresh, v.welcome(info))
	}
	v.h.offerAssigned(&n)
}

func (v *Visit) welcome(info *SocketInfo) *guest {
	g := v.guests[info.ID]
	if g == nil {
		namespace, known := v.names[info.Namespace] // one text for all of its sockets
		if !known {
			if namespace = info.Namespace; len(v.names) >= maxNames {
				clear(v.names)
			}
			v.names[namespace] = namespace
		}
		g = &guest{visit: v, id: info.ID, namespace: namespace, generation: info.Generation}
		v.guests[g.id] = g
		v.h.guests.Add(1)
	}
	return g
}

// Close ends the visit: what the backend has not taken is forgotten, and what it still answers goes nowhere. With a
// reason, which says that the sockets are gone, it is told of the end of each that it knows: as it was, when that waits
// to be taken, and else by its name alone. Events that wait are lost then, as nobody gives them to another handler.
func (v *Visit) Close(reason Reason) {
	left := v.h.forgetVisit(v)
	if reason != ReasonNone {
		for _, g := range v.guests {
			info := &SocketInfo{ID: g.id, Generation: g.generation, Namespace: g.namespace, NodeID: v.node}
			left.ends = append(left.ends, Notice{Kind: NoticeDisconnected, From: g, Sockets: []*SocketInfo{info}, Reason: reason})
		}
		for i := range left.ends {
			if n := &left.ends[i]; !left.untold[n.From] {
				v.h.part(n)
			}
		}
		if !v.h.reg.Observer {
			v.h.node.drops.add(dropHandlerLost, left.events)
		}
	}
	v.h.guests.Add(-int64(len(v.guests)))
	clear(v.guests)
}

func (h *Handler) offerAssigned(n *Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open {
		h.tellLocked(n)
	}
}

func (h *Handler) offerQuestion(n *Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended != nil {
		return
	}
	h.pace.look(n.Time, h)
	n.CallID = h.nextCallLocked()
	h.openConnects++
	h.tellLocked(n)
	if h.questions == nil {
		h.questions = map[uint64]question{}
	}
	h.questions[n.CallID] = question{visit: n.visit, there: n.there, seq: h.lastSeq}
	n.visit.asked[n.there] = n.CallID
}

// withdrawQuestion takes a question of another node back.
func (h *Handler) withdrawQuestion(v *Visit, there uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closeAskedLocked(v, there)
}

func (h *Handler) closeAskedLocked(v *Visit, there uint64) {
	call, ok := v.asked[there]
	if !ok {
		return
	}
	if q, ok := h.questions[call]; ok {
		h.closeQuestionLocked(call, q)
	} else if c := h.serverCallLocked(call); c != nil {
		h.takeBackLocked(c.seq)
	}
}

func (h *Handler) closeQuestionLocked(call uint64, q question) {
	delete(h.questions, call)
	delete(q.visit.asked, q.there)
	h.openConnects--
	h.pace.answers++
	h.takeBackLocked(q.seq)
	h.signal()
}

// decideElsewhere answers a question of another node; false: there is none of this call id.
func (h *Handler) decideElsewhere(call uint64, d *Decision) bool {
	h.mu.Lock()
	q, ok := h.questions[call]
	if ok {
		h.closeQuestionLocked(call, q)
	}
	ended := h.ended != nil
	h.mu.Unlock()
	if ok && !ended { // else its owner asks another one
		q.visit.way.Decided(q.there, *d)
	}
	return ok
}

// forgotten is what a visit had brought and Next had not taken.
type forgotten struct {
	untold map[Origin]bool // sockets that the backend was never told of
	ends   []Notice        // of sockets, and of no visit any more
	events int
}

// note keeps of a notice what is to be known of it once the visit is forgotten.
func (f *forgotten) note(n Notice) {
	switch n.Kind {
	case NoticeEvent:
		f.events++
	case NoticeDisconnected:
		n.visit, n.there = nil, 0
		f.ends = append(f.ends, n)
	}
	for _, o := range n.fresh {
		f.untold[o] = true
	}
}

// forgetVisit takes out what a visit has brought and Next has not taken, and returns it.
func (h *Handler) forgetVisit(v *Visit) forgotten {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := forgotten{untold: map[Origin]bool{}}
	for there := range v.asked {
		h.closeAskedLocked(v, there)
	}
	var seqs []uint64
	for _, n := range h.out.items[h.out.head:] {
		if n.visit == v && n.Kind != noticeGone {
			seqs = append(seqs, n.seq)
		}
	}
	for _, seq := range seqs {
		i, _ := h.placeLocked(seq)
		n := &h.out.items[h.out.head+i]
		left.note(*n)
		if n.Kind == NoticeEvent {
			delete(h.inFlight, n.CallID)
			h.leaveOutLocked(n.size())
		} else {
			h.uncountLocked(n)
		}
		h.leaveGapLocked(i)
	}
	for o, b := range h.backlogs {
		if g, ok := o.(*guest); !ok || g.visit != v {
			continue
		}
		for _, n := range b.notices.take() {
			left.note(n)
			if n.Kind == NoticeEvent {
				h.waiting--
				h.waitSize -= n.size()
				h.inbound.add(h.node.cfg.Budget, UseInbound, -n.size()-eventOverhead)
			}
		}
		delete(h.backlogs, o)
	}
	ring := h.ring.take()
	for _, b := range slices.DeleteFunc(ring, func(b *backlog) bool { return b.notices.len() == 0 }) {
		h.ring.push(b)
	}
	h.refillLocked()
	h.signal()
	return left
}
