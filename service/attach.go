package service

import (
	"context"
	"slices"
	"time"
)

// Attach makes a handler of a valid registration. A claim that another group holds: an Error with reason
// ALREADY_CLAIMED that names it; so is a registration that differs from those of its own group. A live handler with the
// same id is replaced: it finishes what it has, and its sockets come over to the new one. The caller ends it with
// Detach. With other nodes it blocks until all that can be reached have agreed to the claim, for some seconds at most,
// or ctx ends; the coverage names those that have not answered. One of them may have the earlier claim all the same:
// then the handler ends with ALREADY_CLAIMED later.
func (n *Node) Attach(ctx context.Context, r Registration) (*Handler, Coverage, error) {
	r.Namespaces = slices.Clone(r.Namespaces)
	for i, p := range r.Namespaces {
		r.Namespaces[i] = Canonical(p)
	}
	if r.Group == "" {
		r.Group = "default"
	}
	if r.ID == "" {
		r.ID = "handler-" + randomText(12)
	}
	if r.MaxInFlight <= 0 {
		r.MaxInFlight = defaultInFlight
	}
	h := n.newHandler(r)
	if n.abroad != nil && !r.Local {
		return n.handlers.attachAgreed(ctx, h)
	}
	if err := n.handlers.attach(h); err != nil {
		return nil, Coverage{}, err
	}
	return h, Coverage{}, nil
}

func (n *Node) newHandler(r Registration) *Handler {
	now := time.Now()
	return &Handler{
		node: n, number: n.handlers.numbers.Add(1), reg: r, claims: makeClaims(&r), wake: make(chan struct{}, 1), done: make(chan struct{}),
		connects: map[uint64]*pending{}, claimedAt: now, pace: pace{takenAt: now, answeredAt: now}, open: true,
	}
}

func (hs *handlers) attach(h *Handler) error {
	replaced, err := hs.register(h)
	if err != nil {
		return err
	}
	if replaced != nil {
		hs.handOver(replaced)
		hs.retire(replaced, Notice{Kind: NoticeDraining, Replaced: true, Until: time.Now().Add(handlerDrainTime)})
	}
	hs.adopt(h)
	hs.node.connects.serve()
	return nil
}

// revive gives a handler that had too much before it, and has taken it, what it was spared.
func (hs *handlers) revive(h *Handler) {
	hs.adopt(h)
	hs.node.connects.serve()
}

// Drain ends new work for the handler: its sockets go over to others, each one's events once the last of them has its
// reply here; when the last event has its reply, Next returns io.EOF.
func (h *Handler) Drain() {
	hs := h.node.handlers
	hs.handOver(h)
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if h.deadline == nil && !h.detached && !hs.closed.Load() {
		h.deadline = time.AfterFunc(handlerDrainTime, func() { hs.letGo(h) })
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

// Detach takes the handler away for good: its sockets go over to others of its group, what is in flight with it is lost
// and counted.
func (h *Handler) Detach() {
	hs := h.node.handlers
	hs.handOver(h)
	hs.node.connects.detach(h)
	hs.mu.Lock()
	again := h.detached
	h.detached = true
	delete(hs.attached, h)
	if !again && h.at == "" {
		h.mu.Lock()
		hs.reply.merge(&h.reply)
		h.mu.Unlock()
	}
	if h.deadline != nil {
		h.deadline.Stop()
	}
	hs.mu.Unlock()
	if again {
		return
	}
	if lost := h.abandon(); !h.reg.Observer {
		hs.node.drops.add(dropHandlerLost, lost)
	}
	hs.letGo(h)
	if hs.node.abroad != nil && h.at == "" {
		hs.node.abroad.Gone(h)
	}
}

// abandon ends a handler that is detached and says how much of what it was told is lost.
func (h *Handler) abandon() (lost int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.endLocked(ErrReplaced)
	for _, f := range h.inFlight {
		f.step.Fail("the handler has left")
		f.step.End()
		if f.visit == nil { // else its owner counts it
			lost++
		}
	}
	for _, n := range h.out.take() {
		if n.Kind == NoticeServerSide && n.visit == nil {
			lost++
		}
	}
	for _, q := range h.questions {
		clear(q.visit.asked)
	}
	h.questions = nil
	h.inFlight, h.withoutAck, h.news, h.outBytes, h.gaps, h.given = nil, nil, nil, 0, 0, 0
	h.inbound.close(h.node.cfg.Budget, UseInbound)
	h.notices.close(h.node.cfg.Budget, UseNotices)
	for id, call := range h.serverCalls {
		delete(h.serverCalls, id)
		call.settle(nil)
	}
	return lost
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
	if h.detached || hs.closed.Load() {
		return
	}
	h.deadline = time.AfterFunc(time.Until(n.Until), func() {
		h.end(ErrReplaced)
		hs.letGo(h)
	})
}

// letGo lets go on what waits for answers of a handler that leaves.
func (hs *handlers) letGo(h *Handler) {
	g := h.group
	hs.mu.Lock()
	m := g.members.Load()
	g.members.Store(&members{handlers: m.handlers, leaving: without(m.leaving, h)})
	hs.mu.Unlock()
	h.mu.Lock()
	owing := h.owing
	h.owing = nil
	h.mu.Unlock()
	for o := range owing { // at most what it might have in flight
		o.Settled(h)
	}
}
