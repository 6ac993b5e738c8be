package service

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

// ServerSideEmit is an event from one server to the others, in the name of a namespace.
type ServerSideEmit struct {
	Namespace string
	Packet    *Packet  // KindEvent
	From      *Handler // the caller's own stream, which does not hear it; nil: none
	Local     bool     // only handlers that are attached to this node hear it
	Relayed   bool     // it comes from another server: Local handlers do not hear it
	// WantsReplies waits for one reply of every other server, for Timeout at the most; with First, for one reply of any.
	WantsReplies, First bool
	Timeout             time.Duration
	Silent              []NodeID // nodes that are not heard: their handlers are told, and nobody waits for them
	Trace               *Trace   // what has caused it; nil: nothing that is recorded
	// Told is called once everybody has been told, before replies are waited for; nil: nobody wants to know.
	Told func()
}

// ServerSideReply is the reply of one handler.
type ServerSideReply struct {
	Node        NodeID
	Handler     string
	Payload     []byte // JSON array
	Attachments [][]byte
}

// ServerSideResult says whom a server-side event reached. A handler that has not replied in time is missing from
// Replies.
type ServerSideResult struct {
	Matched  int
	Replies  []ServerSideReply
	Coverage Coverage
}

// maxReplyBytes is how much of replies one ServerSideEmit takes. A reply that comes after that is missing.
const maxReplyBytes = 3 << 20

// serverCall waits for the replies to one server-side event.
type serverCall struct {
	done chan struct{} // closed when everybody has replied or left

	// Of a call that another node waits for: what it came with, and its number in out. Set before start.
	visit *Visit
	there uint64
	seq   uint64

	first bool // the first reply is enough

	mu      sync.Mutex
	missing int // replies; 0: done is closed
	bytes   int
	replies []ServerSideReply
}

// ServerSideEmit sends an event to every attached handler that asked for such events of the namespace, on every node
// and except the caller's own stream. With WantsReplies it blocks until all have replied or left, the timeout, or ctx.
func (n *Node) ServerSideEmit(ctx context.Context, e ServerSideEmit) (ServerSideResult, error) {
	step := n.traceServers(&e)
	defer step.End()
	missed := n.handlers.awaitPromised(ctx, &e)
	call := &serverCall{done: make(chan struct{}), first: e.First}
	to := n.handlers.servers(&e)
	told := func(h *Handler) bool { return !e.WantsReplies || slices.Contains(e.Silent, h.at) }
	asked := slices.DeleteFunc(slices.Clone(to), told)
	call.missing = len(asked)
	for _, h := range to {
		notice := Notice{Kind: NoticeServerSide, Namespace: e.Namespace, Packet: e.Packet, FromNode: n.id, Trace: step}
		if told(h) {
			h.tellServer(notice)
		} else {
			h.askServer(notice, call)
		}
	}
	if e.Told != nil {
		e.Told()
	}
	r := ServerSideResult{Matched: len(to), Coverage: missed}
	step.Set(attribute.Int("foyer.matched", r.Matched))
	if len(asked) == 0 {
		return r, nil
	}
	timer := time.NewTimer(e.Timeout)
	defer timer.Stop()
	select {
	case <-call.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	for _, h := range asked {
		h.forgetServer(call)
	}
	call.mu.Lock()
	defer call.mu.Unlock()
	r.Replies = slices.Clone(call.replies)
	step.Set(attribute.Int("foyer.replies", len(r.Replies)))
	return r, nil
}

// promisedWait is how long a server-side event waits for handlers of other nodes that are about to be there.
const promisedWait = time.Second

// awaitPromised waits for handlers of other nodes that this one has agreed to, and that want a server-side event: their
// backends may have heard already that they are attached, and this node hears so a moment later. A node whose handler
// has not come in time is in the coverage.
func (hs *handlers) awaitPromised(ctx context.Context, e *ServerSideEmit) (missed Coverage) {
	if e.Local {
		return Coverage{}
	}
	var promises []promise
	hs.mu.RLock()
	for r, p := range hs.promised {
		if r.ServerSideEvents && p.claims.namespaces.covers(e.Namespace) {
			promises = append(promises, p)
		}
	}
	hs.mu.RUnlock()
	if len(promises) == 0 {
		return Coverage{}
	}
	late := time.NewTimer(promisedWait)
	defer late.Stop()
	for _, p := range promises {
		select {
		case <-p.over:
			continue
		default:
		}
		if slices.Contains(e.Silent, p.of) {
			missed.Unreachable = append(missed.Unreachable, string(p.of))
			continue
		}
		select {
		case <-p.over:
		case <-late.C:
			late.Reset(0) // for the others too
			missed.Unreachable = append(missed.Unreachable, string(p.of))
		case <-ctx.Done():
			missed.Unreachable = append(missed.Unreachable, string(p.of))
		}
	}
	slices.Sort(missed.Unreachable)
	missed.Unreachable = slices.Compact(missed.Unreachable)
	return missed
}

// servers are the handlers that hear a server-side event.
func (hs *handlers) servers(e *ServerSideEmit) (to []*Handler) {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	hs.coveringLocked(e.Namespace, func(g *group) {
		for _, h := range g.members.Load().handlers {
			if h != e.From && h.reg.ServerSideEvents && (!e.Local || h.at == "") && (!e.Relayed || !h.reg.Local) {
				to = append(to, h)
			}
		}
	})
	return to
}

// tellServer tells a handler of a server-side event.
func (h *Handler) tellServer(n Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.crowdedLocked(&n) {
		h.tellLocked(&n)
	}
}

// crowdedLocked says whether a handler elsewhere has too many server-side events before it: they are lost, where one of
// this node is ended.
func (h *Handler) crowdedLocked(n *Notice) bool {
	cfg := &h.node.cfg
	crowded := h.at != "" && (h.own >= cfg.MaxHandlerQueue || h.ownBytes+n.weigh() > cfg.MaxNoticeBytes || h.notices.spent && h.ownBytes > accountStep)
	if crowded {
		h.node.drops.add(dropHandlerLost, 1)
	}
	return crowded
}

// askServer tells a handler of a server-side event that wants its reply.
func (h *Handler) askServer(n Notice, call *serverCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended != nil || h.crowdedLocked(&n) {
		call.settle(nil)
		return
	}
	n.CallID, n.WantsReply = h.nextCallLocked(), true
	if h.serverCalls == nil {
		h.serverCalls = map[uint64]*serverCall{}
	}
	h.serverCalls[n.CallID] = call
	h.tellLocked(&n)
	if n.visit != nil {
		call.seq = h.lastSeq
		n.visit.asked[n.there] = n.CallID
	}
}

// serverCallLocked takes out the server-side event that has a call id; nil: there is none.
func (h *Handler) serverCallLocked(callID uint64) *serverCall {
	call := h.serverCalls[callID]
	delete(h.serverCalls, callID)
	if call != nil && call.visit != nil {
		delete(call.visit.asked, call.there)
	}
	h.signal() // Next may have to say that a drain is over
	return call
}

func (h *Handler) forgetServer(call *serverCall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, c := range h.serverCalls {
		if c != call {
			continue
		}
		delete(h.serverCalls, id)
		if h.at != "" {
			h.withdrawLocked(id)
		}
	}
	h.signal()
}

// settle counts one server off, with its reply or without.
func (c *serverCall) settle(r *ServerSideReply) {
	if c.visit != nil {
		if r == nil {
			r = &ServerSideReply{}
		}
		c.visit.way.Answered(c.there, r.Payload, r.Attachments)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.missing == 0 { // nobody waits any more
		return
	}
	c.missing--
	if r != nil {
		size := len(r.Payload)
		for _, a := range r.Attachments {
			size += len(a)
		}
		if c.bytes+size <= maxReplyBytes {
			c.bytes += size
			c.replies = append(c.replies, *r)
		}
		if c.first {
			c.missing = 0
		}
	}
	if c.missing == 0 {
		close(c.done)
	}
}
