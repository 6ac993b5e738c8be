package service

import (
	"context"
	"sync"
)

// Emit is one event for a target.
type Emit struct {
	Target Target
	Packet *Packet // KindEvent; its Namespace is the target's
	Flags  Flags
	// The receipt waits for no other node: its counts are this one's. A node that could not be handed the emit is in the
	// coverage.
	Accepted bool
	// Trace is of what has caused the emit, if that is part of a trace.
	Trace *Trace

	collect *Acks // for an emit that wants acknowledgements
}

// Receipt counts the recipients of an emit: Matched is the sum of the three that follow it. A socket whose link is
// closing is no recipient any more.
type Receipt struct {
	Matched, Enqueued, DroppedVolatile, DroppedSlow int
	Coverage                                        Coverage
	Closing                                         int   // sockets that were left out since their links are closing
	Err                                             error // nothing was sent
}

// receiptOf counts outcomes; those of full links are open, and only said to have matched.
func receiptOf(counts *[outcomes]int) Receipt {
	r := Receipt{Enqueued: counts[Queued] + counts[QueuedFlush], DroppedVolatile: counts[DroppedVolatile], Closing: counts[Closed]}
	r.Matched = r.Enqueued + r.DroppedVolatile + counts[Full]
	return r
}

// add counts the outcome of a link that was full.
func (r *Receipt) add(o Outcome) {
	var counts [outcomes]int
	counts[o]++
	more := receiptOf(&counts)
	r.Matched += more.Matched
	r.Enqueued += more.Enqueued
	r.DroppedVolatile += more.DroppedVolatile
	r.Closing += more.Closing
}

// Emit delivers an event. When it returns, the event is in the queue of every recipient that its receipt says, and
// whatever is sent afterwards arrives afterwards. An event for one socket whose link is full waits for room until ctx
// ends; with several recipients those with room get it at once, and the others not at all.
func (n *Node) Emit(ctx context.Context, e Emit) (Receipt, error) {
	receipts := make([]Receipt, 1)
	step := n.traceEmit(&e, stepEmit)
	n.pass(ctx, &turn{emits: []Emit{e}, receipts: receipts, patience: forEver}).await(ctx)
	step.delivered(&receipts[0])
	return receipts[0], receipts[0].Err
}

// pass takes a turn through the lane of its namespace and returns what other nodes were handed of it, and before.
func (n *Node) pass(ctx context.Context, t *turn) *handed {
	ns, made := n.laneOf(&t.emits[0].Target)
	if made {
		defer n.release(ns)
	}
	if ns != nil {
		ns.pass(ctx, t)
	}
	return t.handed
}

// EmitBatch delivers events in their order and returns a receipt for each, as Emit would one by one; those of one
// namespace that follow each other pass together, with one write for each link. Since others wait behind it, an event
// waits no longer than Config.HoldStream for a link, from when that became full.
func (n *Node) EmitBatch(ctx context.Context, emits []Emit) []Receipt {
	receipts := make([]Receipt, len(emits))
	n.passAll(ctx, emits, receipts, turn{patience: n.HoldStream()})
	return receipts
}

// passAll takes emits through their lanes by turns as one is. It keeps neither slice.
func (n *Node) passAll(ctx context.Context, emits []Emit, receipts []Receipt, like turn) {
	name := stepEmit
	if like.relayed {
		name = stepDeliver
	}
	steps := n.traceAll(emits, name)
	var handed *handed
	for rest := receipts; len(emits) > 0; {
		run := 1
		for run < len(emits) && emits[run].Target.Namespace == emits[0].Target.Namespace {
			run++
		}
		t := like
		t.emits, t.receipts, t.handed = emits[:run], rest[:run], handed
		handed = n.pass(ctx, &t)
		emits, rest = emits[run:], rest[run:]
	}
	handed.await(ctx)
	for i, s := range steps {
		s.delivered(&receipts[i])
	}
}

// delivery is one emit of a batch and the receipt that its caller gets.
type delivery struct {
	emit    *Emit
	receipt *Receipt
	turn    *turn
	at      int32 // its place in the turn
	handed  bool  // to other nodes, which hear it too
}

// deliver is the hot path: match, encode once per codec, queue at each recipient's link. Emits to one target that
// follow each other go as one: one match, one frame of their joined bytes, one place in each queue. Memory only, unless
// a queue is full; the caller flushes what was touched. The caller that leads the lane lets others pass beside it when
// it reaches many links.
func (ns *Namespace) deliver(batch []*turn, touched *touched, leads bool) {
	for _, t := range batch {
		for i := range t.emits {
			touched.deliveries = append(touched.deliveries, delivery{emit: &t.emits[i], receipt: &t.receipts[i], turn: t, at: int32(i)})
		}
	}
	for rest := touched.deliveries; len(rest) > 0; {
		if rest[0].turn.held() {
			rest = rest[1:] // in its order: after the emit that waits
			continue
		}
		run := rest[:alike(rest)]
		rest = rest[len(run):]
		ns.lane.step.Lock()
		began := ns.clock()
		if run[0].emit.collect != nil {
			ns.deliverCollecting(run, touched)
		} else {
			ns.deliverRun(run, touched)
		}
		ns.did(run, began)
		ns.lane.step.Unlock()
		if leads && len(touched.conns) > flushChunk {
			ns.lane.widen()
		}
	}
	if touched.handed {
		touched.handed = false
		ns.node.cfg.Remote.Flush()
	}
}

// deliverRun delivers emits that are alike. The lock is held for the match alone, so that members come and go between
// runs.
func (ns *Namespace) deliverRun(run []delivery, touched *touched) {
	e := run[0].emit
	once, counts := encodeOnce{packets: touched.packetsOf(run)}, [outcomes]int{}
	ns.handOut(run, once.packets, touched)
	ns.mu.RLock()
	ns.matchLocked(&e.Target, func(s *Socket) { counts[s.send(&once, e.Flags, touched)]++ })
	ns.mu.RUnlock()
	receipt := receiptOf(&counts)
	for i, d := range run {
		*d.receipt = receipt
		d.receipt.Err = once.err(i)
	}
	if len(touched.full) > 0 {
		ns.offerAgain(run, &once, touched)
	}
	for _, d := range run {
		if r := d.receipt; r.Enqueued < r.Matched || r.Closing > 0 {
			ns.node.drops.add(dropVolatile, r.DroppedVolatile)
			ns.node.drops.add(dropSlow, r.DroppedSlow)
			ns.node.drops.add(dropClosing, r.Closing)
		}
	}
}

// offerAgain is for the links that had no room. Their bytes are offered to their transports. Then they are asked once
// more, and then for each emit of the run by itself. A link that still has no room keeps the caller of an emit that is
// for it alone waiting, and goes without an emit that others hear too.
func (ns *Namespace) offerAgain(run []delivery, once *encodeOnce, touched *touched) {
	full := touched.full
	touched.full = nil
	ns.offer(full)
	ns.mu.RLock()
	for _, s := range full {
		out := Closed
		if s.present {
			out = s.send(once, run[0].again(), touched)
		}
		for i := range run {
			if out == Full && len(run) > 1 {
				ns.offerAlone(s, &run[i], touched)
			} else {
				run[i].settle(s, out, once.frame(s.conn.Codec()))
			}
		}
	}
	ns.mu.RUnlock()
	touched.full = emptied(full)
}

// offer has the transports of links take what they can.
func (ns *Namespace) offer(full []*Socket) {
	conns := make([]Conn, len(full))
	for i, s := range full {
		conns[i] = s.conn
	}
	ns.node.flushers.flush(conns)
}

// offerAlone asks a link for one emit of a joined run.
func (ns *Namespace) offerAlone(s *Socket, d *delivery, touched *touched) {
	if d.receipt.Err != nil {
		return
	}
	once := encodeOnce{packets: []*Packet{d.emit.Packet}}
	out := Full
	if !d.turn.held() {
		out = s.send(&once, d.again(), touched)
	}
	d.settle(s, out, once.frame(s.conn.Codec()))
}

// again are the flags for a link that was full: for the only recipient of an event of another node the bound is wider,
// as its emitter cannot be kept waiting.
func (d *delivery) again() Flags {
	if d.turn.relayed && d.receipt.Matched == 1 {
		return d.emit.Flags | Relayed
	}
	return d.emit.Flags
}

// settle counts the outcome of a link that was full at first.
func (d *delivery) settle(s *Socket, out Outcome, f Frame) {
	alone := d.receipt.Matched == 1
	d.receipt.Matched--
	switch {
	case out != Full:
		d.receipt.add(out)
	case alone && !d.handed && d.turn.hold(s.conn, f, d.at):
		*d.receipt = Receipt{} // it is not delivered yet
	default:
		d.receipt.Matched++
		d.receipt.DroppedSlow++
	}
}

// Joined packets stay well below what a queue holds: joining must not make a link slow that has just been fast enough.
const (
	maxJoinedBytes = 16 << 10
	maxJoined      = 64
)

// alike is how many emits from the first on can go as one. A volatile one goes alone: whether it is dropped is its own
// affair. So does one that wants acknowledgements.
func alike(list []delivery) int {
	first := list[0].emit
	if first.collect != nil || first.Flags&Volatile != 0 || first.Trace != nil {
		return 1
	}
	bytes := first.Packet.Size()
	n := 1
	for ; n < len(list) && n < maxJoined; n++ {
		e := list[n].emit
		bytes += e.Packet.Size()
		if e.collect != nil || e.Trace != nil || list[n].turn.held() || e.Flags != first.Flags || bytes > maxJoinedBytes || !e.Target.equal(&first.Target) {
			break
		}
	}
	return n
}

// encodeOnce holds the frames of some packets, joined: the first socket of a codec pays, the rest share.
type encodeOnce struct {
	packets []*Packet
	first   encoded
	more    []encoded // a node has three codecs at most; these are the others
	errs    []error   // of each packet; nil: none
}

type encoded struct {
	codec Codec
	frame Frame // nil: no packet can be encoded
}

// frame is what a link of a codec is sent; nil: nothing can be.
func (o *encodeOnce) frame(c Codec) Frame {
	if o.first.codec == c {
		return o.first.frame
	}
	for i := range o.more {
		if o.more[i].codec == c {
			return o.more[i].frame
		}
	}
	e := encoded{c, o.encode(c)}
	if o.first.codec == nil {
		o.first = e
	} else {
		o.more = append(o.more, e)
	}
	return e.frame
}

func (o *encodeOnce) encode(c Codec) Frame {
	var frames []Frame
	for i, p := range o.packets {
		f, err := c.Encode(p)
		switch {
		case err != nil:
			if o.errs == nil {
				o.errs = make([]error, len(o.packets))
			}
			o.errs[i] = &Error{Code: Invalid, Reason: "INVALID_PAYLOAD", Field: "payload", Message: "cannot be encoded", Cause: err}
		case len(o.packets) == 1:
			return f
		default:
			frames = append(frames, f)
		}
	}
	if len(frames) == 0 {
		return nil
	}
	return c.Join(frames)
}

// err is why a packet could not be encoded, by one codec at least.
func (o *encodeOnce) err(i int) error {
	if o.errs == nil {
		return nil
	}
	return o.errs[i]
}

// send puts packets into the queue of the socket's link and notes in touched whether the caller owes it a flush, or it
// is full.
func (s *Socket) send(once *encodeOnce, flags Flags, touched *touched) Outcome {
	f := once.frame(s.conn.Codec())
	if f == nil {
		return Closed
	}
	out := s.conn.Send(f, flags)
	switch out {
	case QueuedFlush:
		touched.add(s.conn)
	case Full:
		touched.full = append(touched.full, s)
	}
	return out
}

// touched are the links that a batch put something into and that nobody else flushes, and what else a batch needs room
// for.
type touched struct {
	conns      []Conn
	full       []*Socket // whose links had no room for the run in hand
	deliveries []delivery
	packets    []*Packet
	handed     bool // other nodes were handed something of it that is not sent yet
}

var touchedPool = sync.Pool{New: func() any { return new(touched) }}

func borrowTouched() *touched { return touchedPool.Get().(*touched) }

func (t *touched) add(c Conn) { t.conns = append(t.conns, c) }

// packetsOf are the packets of a run, until the next call.
func (t *touched) packetsOf(run []delivery) []*Packet {
	t.packets = t.packets[:0]
	for _, d := range run {
		t.packets = append(t.packets, d.emit.Packet)
	}
	return t.packets
}

// flush flushes each link once and gives t back.
func (t *touched) flush(f *flushers) {
	f.flush(t.conns)
	t.full = emptied(t.full)
	t.conns, t.deliveries, t.packets = emptied(t.conns), emptied(t.deliveries), emptied(t.packets[:cap(t.packets)])
	touchedPool.Put(t)
}

// emptied is a list without its items, to be filled again; none when it has become very long.
func emptied[T any](list []T) []T {
	if cap(list) > 1<<16 {
		return nil
	}
	clear(list)
	return list[:0]
}
