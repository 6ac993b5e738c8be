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

	collect *Acks // for an emit that wants acknowledgements
}

// Receipt counts the recipients of an emit: Matched is the sum of the three that follow it.
type Receipt struct {
	Matched, Enqueued, DroppedVolatile, DroppedSlow int
	Coverage                                        Coverage
	Err                                             error // nothing was sent
}

func (r *Receipt) add(o Outcome) {
	r.Matched++
	switch o {
	case Queued, QueuedFlush:
		r.Enqueued++
	case DroppedVolatile:
		r.DroppedVolatile++
	case Slow, Closed:
		r.DroppedSlow++
	}
}

// Emit delivers an event. When it returns, the event is in the queue of every recipient that its receipt says, and whatever
// is sent afterwards arrives afterwards.
func (n *Node) Emit(_ context.Context, e Emit) (Receipt, error) {
	ns := n.namespace(e.Target.Namespace)
	if ns == nil {
		return Receipt{}, nil
	}
	r := ns.lane.pass(ns, []Emit{e})[0]
	return r, r.Err
}

// EmitBatch delivers events in their order and returns a receipt for each, as Emit would one by one; those of one namespace
// that follow each other pass together, with one write for each link.
func (n *Node) EmitBatch(emits []Emit) []Receipt {
	receipts := make([]Receipt, 0, len(emits))
	for len(emits) > 0 {
		name := emits[0].Target.Namespace
		run := 1
		for run < len(emits) && emits[run].Target.Namespace == name {
			run++
		}
		if ns := n.namespace(name); ns != nil {
			receipts = append(receipts, ns.lane.pass(ns, emits[:run])...)
		} else {
			receipts = append(receipts, make([]Receipt, run)...)
		}
		emits = emits[run:]
	}
	return receipts
}

// lane is the one way by which emits of a namespace pass: their order is one. Callers that find it busy wait together, and
// whoever goes next delivers for all of them: under load many emits are one write per link. It holds at most one turn per
// caller, and callers are bounded by the streams of the API.
type lane struct {
	mu      sync.Mutex
	waiting []*turn
	busy    bool
}

// turn is what one caller wants delivered.
type turn struct {
	emits    []Emit
	receipts []Receipt
	done     bool
	wake     chan struct{} // made by a caller that has to wait; a send says done, or that it goes next
}

// pass delivers emits, and with them those that came in the meantime. It returns once the frames are queued everywhere; who
// led also flushes.
func (l *lane) pass(ns *Namespace, emits []Emit) []Receipt {
	t := &turn{emits: emits, receipts: make([]Receipt, len(emits))}
	l.mu.Lock()
	if l.busy {
		t.wake = make(chan struct{}, 1)
		l.waiting = append(l.waiting, t)
		l.mu.Unlock()
		<-t.wake
		if t.done {
			return t.receipts
		}
		l.mu.Lock()
	} else {
		l.waiting = append(l.waiting, t)
	}
	l.busy = true
	batch := l.waiting
	l.waiting = nil
	l.mu.Unlock()

	touched := borrowTouched()
	ns.deliver(batch, touched)
	for _, other := range batch {
		if other != t {
			other.done = true
			other.wake <- struct{}{}
		}
	}
	touched.flush(ns.node.flushers)

	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.busy = false
	} else {
		l.waiting[0].wake <- struct{}{} // it goes next, for itself and all behind it
	}
	return t.receipts
}

// delivery is one emit of a batch and the receipt that its caller gets.
type delivery struct {
	emit    *Emit
	receipt *Receipt
}

// deliver is the hot path: match, encode once per codec, queue at each recipient's link. Emits to one target that follow
// each other go as one: one match, one frame of their joined bytes, one place in each queue. Memory only; the caller
// flushes what was touched.
func (ns *Namespace) deliver(batch []*turn, touched *touched) {
	for _, t := range batch {
		for i := range t.emits {
			touched.deliveries = append(touched.deliveries, delivery{&t.emits[i], &t.receipts[i]})
		}
	}
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	for rest := touched.deliveries; len(rest) > 0; {
		run := rest[:alike(rest)]
		rest = rest[len(run):]
		e := run[0].emit
		if e.collect != nil {
			ns.deliverCollecting(e, run[0].receipt, touched)
			continue
		}
		once, receipt := encodeOnce{packets: touched.packetsOf(run)}, Receipt{}
		ns.matchLocked(&e.Target, func(s *Socket) { receipt.add(s.send(&once, e.Flags, touched)) })
		for i, d := range run {
			*d.receipt = receipt
			d.receipt.Err = once.err(i)
		}
		ns.node.drops.add(dropVolatile, len(run)*receipt.DroppedVolatile)
		ns.node.drops.add(dropSlow, len(run)*receipt.DroppedSlow)
	}
}

// What is joined stays well below what a queue holds: joining must not make a link slow that has just been fast enough.
const (
	maxJoinedBytes = 16 << 10
	maxJoined      = 64
)

// alike is how many emits from the first on can go as one. A volatile one goes alone: whether it is dropped is its own
// affair. So does one that wants acknowledgements.
func alike(list []delivery) int {
	first := list[0].emit
	if first.collect != nil || first.Flags&Volatile != 0 {
		return 1
	}
	bytes := first.Packet.Size()
	n := 1
	for ; n < len(list) && n < maxJoined; n++ {
		e := list[n].emit
		bytes += e.Packet.Size()
		if e.collect != nil || e.Flags != first.Flags || bytes > maxJoinedBytes || !e.Target.equal(&first.Target) {
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
			o.errs[i] = &Error{Code: Invalid, Reason: "INVALID_PAYLOAD", Message: "the payload can not be encoded", Cause: err}
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

// touched are the links that a batch put something into and that nobody else flushes, and what else a batch needs room for.
type touched struct {
	conns      []Conn
	deliveries []delivery
	packets    []*Packet
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
