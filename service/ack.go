package service

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// AckFailure says why a recipient has no acknowledgement.
type AckFailure uint8

// The failures, with the numbers of the API.
const (
	AckOK AckFailure = iota
	AckTimeout
	AckDisconnected
	AckQueueFull
	AckDroppedVolatile
	AckNodeUnreachable
)

// AckOutcome is what became of one recipient.
type AckOutcome struct {
	Socket      SocketID
	Node        NodeID
	Latency     time.Duration
	Failure     AckFailure // AckOK: Payload and Attachments are the answer
	Payload     []byte     // JSON array
	Attachments [][]byte
}

// AckResult has one outcome for each recipient that matched.
type AckResult struct {
	Outcomes []AckOutcome
	Matched  int
	Coverage Coverage
}

// collect is the wait for the acknowledgements of one emit. All its sockets share one ack id, so that the packet is encoded
// once for all of them.
type collect struct {
	limit int
	id    int64
	start time.Time

	// Guarded by acks.mu.
	waiting  map[*Socket]struct{}
	outcomes []AckOutcome
	done     chan struct{} // closed when nobody is waited for
}

// acks are the acknowledgements that a namespace waits for.
type acks struct {
	mu       sync.Mutex
	last     int64 // the newest id; they count up, as in Socket.IO, for all sockets of the namespace
	collects map[int64]*collect
}

// EmitWithAck delivers an event and waits for the acknowledgement of every recipient, or timeout, or ctx: in all three
// cases the outcomes say who answered. More recipients than limit: an Error with reason TOO_MANY_RECIPIENTS, and nothing
// was sent.
func (n *Node) EmitWithAck(ctx context.Context, e Emit, timeout time.Duration, limit int) (AckResult, error) {
	ns := n.namespace(e.Target.Namespace)
	if ns == nil {
		return AckResult{}, nil
	}
	c := &collect{limit: limit, done: make(chan struct{})}
	e.collect = c
	t := turn{emits: [1]Emit{e}}
	ns.lane.pass(ns, &t)
	if err := t.receipts[0].Err; err != nil {
		return AckResult{}, err
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return AckResult{Outcomes: ns.acks.finish(c, n.id), Matched: t.receipts[0].Matched}, nil
}

// deliverCollecting is deliver for an emit that wants acknowledgements: its recipients are counted, then registered, then
// sent to, so that no answer comes before its place.
func (ns *Namespace) deliverCollecting(e *Emit, receipt *Receipt, touched *touched) {
	c := e.collect
	var recipients []*Socket
	ns.matchLocked(&e.Target, func(s *Socket) { recipients = append(recipients, s) })
	receipt.Matched = len(recipients)
	if len(recipients) > c.limit {
		receipt.Err = &Error{
			Code: Precondition, Reason: "TOO_MANY_RECIPIENTS", Field: "target",
			Message: fmt.Sprintf("%d recipients match, at most %d can be waited for in one answer", len(recipients), c.limit),
		}
		return
	}
	ns.acks.begin(c, recipients)
	packet := *e.Packet
	packet.AckID = c.id
	once := encodeOnce{packet: &packet}
	for _, s := range recipients {
		out, err := s.send(&once, e.Flags, touched)
		if err != nil {
			receipt.Err = err
			ns.acks.finish(c, ns.node.id)
			return
		}
		switch out {
		case DroppedVolatile:
			ns.acks.fail(c, s, AckDroppedVolatile)
			ns.node.drops.add(dropVolatile, 1)
		case Slow:
			ns.acks.fail(c, s, AckQueueFull)
			ns.node.drops.add(dropSlow, 1)
		case Closed:
			ns.acks.fail(c, s, AckDisconnected)
		}
	}
}

func (a *acks) begin(c *collect, recipients []*Socket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.start = time.Now()
	if len(recipients) == 0 {
		close(c.done)
		return
	}
	a.last++
	c.id = a.last
	c.waiting = make(map[*Socket]struct{}, len(recipients))
	c.outcomes = make([]AckOutcome, 0, len(recipients))
	for _, s := range recipients {
		c.waiting[s] = struct{}{}
		s.acks = append(s.acks, c.id)
	}
	if a.collects == nil {
		a.collects = map[int64]*collect{}
	}
	a.collects[c.id] = c
}

// resolve takes a socket's acknowledgement and says whether anybody waited for it.
func (a *acks) resolve(s *Socket, p *Packet) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.collects[p.AckID]
	if c == nil {
		return false
	}
	return a.settleLocked(c, s, AckOutcome{Payload: p.Payload, Attachments: p.Attachments})
}

func (a *acks) fail(c *collect, s *Socket, why AckFailure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settleLocked(c, s, AckOutcome{Failure: why})
}

// leave fails all that a socket has not acknowledged: it never will.
func (a *acks) leave(s *Socket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range slices.Clone(s.acks) {
		a.settleLocked(a.collects[id], s, AckOutcome{Failure: AckDisconnected})
	}
}

func (a *acks) settleLocked(c *collect, s *Socket, o AckOutcome) bool {
	if _, ok := c.waiting[s]; !ok {
		return false
	}
	delete(c.waiting, s)
	s.forgetAck(c.id)
	o.Socket, o.Node, o.Latency = s.id, s.ns.node.id, time.Since(c.start)
	c.outcomes = append(c.outcomes, o)
	if len(c.waiting) == 0 {
		delete(a.collects, c.id)
		close(c.done)
	}
	return true
}

// finish ends the wait; whoever has not answered has timed out.
func (a *acks) finish(c *collect, node NodeID) []AckOutcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range c.waiting {
		s.forgetAck(c.id)
		c.outcomes = append(c.outcomes, AckOutcome{Socket: s.id, Node: node, Latency: time.Since(c.start), Failure: AckTimeout})
	}
	c.waiting = nil
	delete(a.collects, c.id)
	return c.outcomes
}

func (s *Socket) forgetAck(id int64) {
	if i := slices.Index(s.acks, id); i >= 0 {
		s.acks = slices.Delete(s.acks, i, i+1)
	}
	if len(s.acks) == 0 {
		s.acks = nil
	}
}
