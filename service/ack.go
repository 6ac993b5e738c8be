package service

import (
	"context"
	"fmt"
	"io"
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

// Acks are the acknowledgements of one emit as they come. All its sockets share one ack id, so that the packet is
// encoded once for all of them. Next and Finish are for one goroutine.
type Acks struct {
	// Set before start.
	ns    *Namespace
	limit int
	id    int64
	start time.Time
	came  chan struct{} // 1: there is something to take, or it is over
	step  *Trace        // nil: it is not traced

	// Set before the Acks are given out.
	Matched int // how many recipients there are

	// Guarded by acks.mu.
	waiting   map[*Socket]struct{}
	elsewhere map[NodeID]*elsewhere // recipients at other nodes
	others    int                   // those of them that still have some to tell of
	coverage  Coverage
	lost      int          // servers without names that were lost with recipients
	outcomes  []AckOutcome // not taken yet
	bytes     int          // of the answers among them
	over      bool         // nobody is waited for
	err       error
}

// maxUntakenAckBytes is how much may wait for a caller that does not take the answers it asked for, if the node's
// budget has it.
const maxUntakenAckBytes = 16 << 20

// acks are the acknowledgements that a namespace waits for.
type acks struct {
	mu       sync.Mutex
	last     int64 // the newest id; they count up, as in Socket.IO, for all sockets of the namespace
	collects map[int64]*Acks
	answers  *answers // nil: there were none
}

// CollectAcks delivers an event and gives its acknowledgements as they come. More recipients than limit (0: any
// number): an Error with reason TOO_MANY_RECIPIENTS, and nothing was sent. A single recipient that is full is waited
// for, as by Emit. The caller ends the wait with Finish.
func (n *Node) CollectAcks(ctx context.Context, e Emit, limit int) (*Acks, error) {
	return n.collect(ctx, e, limit, turn{patience: forEver})
}

// collect delivers by a turn as one is.
func (n *Node) collect(ctx context.Context, e Emit, limit int, like turn) (*Acks, error) {
	c := &Acks{limit: limit, came: make(chan struct{}, 1)}
	var made bool
	if c.ns, made = n.laneOf(&e.Target); c.ns == nil {
		c.over = true
		c.ns = newNamespace(n, e.Target.Namespace)
		return c, nil
	}
	if made {
		defer n.release(c.ns)
	}
	e.collect = c
	receipts := make([]Receipt, 1)
	name := stepEmit
	if like.relayed {
		name = stepDeliver
	}
	step := n.traceEmit(&e, name)
	c.step = n.traceAcks(e.Trace)
	t := &like
	t.emits, t.receipts = []Emit{e}, receipts
	c.ns.pass(ctx, t)
	if err := receipts[0].Err; err != nil {
		step.delivered(&receipts[0])
		c.Finish()
		return nil, err
	}
	t.handed.await(ctx)
	step.delivered(&receipts[0])
	c.counted(&receipts[0])
	return c, nil
}

// TooManyRecipients is the error of an emit that waits for more than it may.
func TooManyRecipients(matched, limit int) error {
	return &Error{
		Code: Precondition, Reason: "TOO_MANY_RECIPIENTS", Field: "target",
		Message: fmt.Sprintf("%d sockets match, at most %d can be waited for in one answer: CollectAcks takes any number", matched, limit),
	}
}

// Coverage says which nodes the recipients and outcomes do not speak for: those that are known so far.
func (c *Acks) Coverage() Coverage {
	c.ns.acks.mu.Lock()
	defer c.ns.acks.mu.Unlock()
	return c.coverage
}

// Next returns the outcomes that have come since the last call; it blocks until there is one, ctx ends, or the wait
// does: io.EOF when everybody's is known, ErrTooSlow when more had come than may wait to be taken.
func (c *Acks) Next(ctx context.Context) ([]AckOutcome, error) {
	for {
		c.ns.acks.mu.Lock()
		taken, over, err := c.outcomes, c.over, c.err
		c.takeLocked()
		c.ns.acks.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case len(taken) > 0:
			return taken, nil
		case over:
			return nil, io.EOF
		}
		select {
		case <-c.came:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// takeLocked lets the outcomes go that have come.
func (c *Acks) takeLocked() {
	if c.bytes > 0 {
		c.ns.node.Budget().Give(UseAcks, c.bytes)
	}
	c.outcomes, c.bytes = nil, 0
}

// Finish ends the wait and returns what was not taken yet: a recipient that has not answered has timed out. Calling it
// again does nothing.
func (c *Acks) Finish() []AckOutcome {
	rest, asked := c.finish()
	if asked {
		c.ns.node.cfg.Remote.Finished(c)
	}
	return rest
}

// finish says also whether other nodes were asked that may still tell of answers.
func (c *Acks) finish() (rest []AckOutcome, asked bool) {
	a := &c.ns.acks
	a.mu.Lock()
	defer a.mu.Unlock()
	defer c.step.End()
	for node, e := range c.elsewhere {
		asked = true
		c.restLocked(node, e, AckTimeout)
	}
	c.elsewhere, c.others = nil, 0
	for s := range c.waiting {
		s.forgetAck(c.id)
		a.answered(AckTimeout, 0)
		c.outcomes = append(c.outcomes, AckOutcome{Socket: s.id, Node: c.ns.node.id, Latency: time.Since(c.start), Failure: AckTimeout})
	}
	a.endLocked(c)
	rest = c.outcomes
	c.takeLocked()
	return rest, asked
}

// deliverCollecting is deliverRun for an emit that wants acknowledgements: its recipients are counted, then registered,
// then sent to, so that no answer comes before its place.
func (ns *Namespace) deliverCollecting(run []delivery, touched *touched) {
	d := &run[0]
	e, receipt, c := d.emit, d.receipt, d.emit.collect
	packet := *e.Packet
	once := encodeOnce{packets: []*Packet{&packet}}
	ns.mu.RLock()
	recipients := ns.matchedLocked(&e.Target)
	receipt.Matched = len(recipients)
	if c.limit > 0 && len(recipients) > c.limit {
		ns.mu.RUnlock()
		receipt.Err = TooManyRecipients(len(recipients), c.limit)
		return
	}
	ns.acks.begin(c, recipients)
	packet.AckID = c.id
	ns.handOut(run, touched.packetsOf(run), touched)
	for _, s := range recipients {
		out := s.send(&once, e.Flags, touched)
		if receipt.Err = once.err(0); receipt.Err != nil {
			break
		}
		receipt.Enqueued += enqueued(out)
		ns.askedFor(c, s, out)
	}
	ns.mu.RUnlock()
	if receipt.Err != nil {
		touched.full = touched.full[:0]
		ns.acks.withdraw(c) // nobody was asked
		c.Finish()
		return
	}
	if len(touched.full) == 0 {
		return
	}
	full := touched.full
	touched.full = nil
	ns.offer(full)
	ns.mu.RLock()
	for _, s := range full {
		out := Closed
		if s.present {
			out = s.send(&once, d.again(), touched)
		}
		receipt.Enqueued += enqueued(out)
		switch {
		case out != Full:
			ns.askedFor(c, s, out)
		case receipt.Matched == 1 && !d.handed && d.turn.hold(s.conn, once.frame(s.conn.Codec()), d.at):
			if !ns.acks.withdraw(c) {
				d.turn.room = nil // its socket has just gone: that is its outcome
			}
		default:
			ns.acks.fail(c, s, AckQueueFull)
			ns.node.drops.add(dropSlow, 1)
		}
	}
	ns.mu.RUnlock()
	touched.full = emptied(full)
}

// enqueued is 1 for an event that is in a queue now.
func enqueued(out Outcome) int {
	if out == Queued || out == QueuedFlush {
		return 1
	}
	return 0
}

// askedFor settles a recipient that will not answer since it was not asked; a full one may still be.
func (ns *Namespace) askedFor(c *Acks, s *Socket, out Outcome) {
	switch out {
	case DroppedVolatile:
		ns.acks.fail(c, s, AckDroppedVolatile)
		ns.node.drops.add(dropVolatile, 1)
	case Closed:
		ns.acks.fail(c, s, AckDisconnected)
		ns.node.drops.add(dropClosing, 1)
	}
}

func (a *acks) begin(c *Acks, recipients []*Socket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.start = time.Now()
	if len(recipients) == 0 {
		c.over = true
		return
	}
	a.last++
	c.id = a.last
	c.waiting = make(map[*Socket]struct{}, len(recipients))
	for _, s := range recipients {
		c.waiting[s] = struct{}{}
		if s.acks == nil {
			s.acks = s.oneAck[:0]
		}
		s.acks = append(s.acks, c.id)
	}
	if a.collects == nil {
		a.collects = map[int64]*Acks{}
	}
	a.collects[c.id] = c
}

// withdraw takes back what begin did, since nobody was asked yet; false: the wait is over already.
func (a *acks) withdraw(c *Acks) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.over {
		return false
	}
	for s := range c.waiting {
		s.forgetAck(c.id)
	}
	c.waiting = nil
	delete(a.collects, c.id)
	return true
}

// resolve takes a socket's acknowledgement and says whether anybody waited for it.
func (a *acks) resolve(s *Socket, p *Packet) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.collects[p.AckID]
	if c == nil {
		return false
	}
	return a.settleLocked(c, s, AckOutcome{Payload: p.Payload, Attachments: p.Attachments}, p.Size())
}

func (a *acks) fail(c *Acks, s *Socket, why AckFailure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settleLocked(c, s, AckOutcome{Failure: why}, 0)
}

// leave fails all that a socket has not acknowledged: it never will.
func (a *acks) leave(s *Socket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range slices.Clone(s.acks) {
		a.settleLocked(a.collects[id], s, AckOutcome{Failure: AckDisconnected}, 0)
	}
}

func (a *acks) settleLocked(c *Acks, s *Socket, o AckOutcome, size int) bool {
	if _, ok := c.waiting[s]; !ok {
		return false
	}
	delete(c.waiting, s)
	s.forgetAck(c.id)
	o.Socket, o.Node, o.Latency = s.id, s.ns.node.id, time.Since(c.start)
	a.answered(o.Failure, o.Latency)
	c.outcomes = append(c.outcomes, o)
	if c.bytes+size > maxUntakenAckBytes || size > 0 && !s.ns.node.Budget().Take(UseAcks, size) {
		c.failLocked()
	} else {
		c.bytes += size
	}
	if len(c.waiting) == 0 {
		a.endLocked(c)
	}
	c.signal()
	return true
}

// failLocked ends the wait of a caller that does not take what it asked for.
func (c *Acks) failLocked() {
	c.takeLocked()
	c.err = ErrTooSlow
	for s := range c.waiting {
		s.forgetAck(c.id)
		c.ns.acks.answered(AckTimeout, 0)
	}
	clear(c.waiting)
}

// endLocked ends the wait for sockets of this node.
func (a *acks) endLocked(c *Acks) {
	c.over = c.others == 0 || c.err != nil
	c.waiting = nil
	delete(a.collects, c.id)
}

func (s *Socket) forgetAck(id int64) {
	if i := slices.Index(s.acks, id); i >= 0 {
		s.acks = slices.Delete(s.acks, i, i+1)
	}
	if len(s.acks) == 0 {
		s.acks = nil
	}
}

// Ack is Origin.Ack. The client is owed it, whatever else waits for it; it may be back as another socket, whose ids
// begin anew, and that one is not to get it.
func (s *Socket) Ack(p *Packet) {
	f, err := s.conn.Codec().Encode(p)
	if err != nil {
		return
	}
	out := Closed
	s.mu.Lock()
	if s.gone == nil {
		out = s.conn.Send(f, Owed)
	}
	s.mu.Unlock()
	switch out {
	case QueuedFlush:
		s.conn.Flush()
	case Closed:
		s.ns.node.drops.add(dropClosing, 1)
	}
}
