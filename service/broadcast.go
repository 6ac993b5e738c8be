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

// deliver is the hot path: match, encode once per codec, queue at each recipient's link. Memory only; the caller flushes
// what was touched.
func (ns *Namespace) deliver(batch []*turn, touched *touched) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	for _, t := range batch {
		for i := range t.emits {
			e, receipt := &t.emits[i], &t.receipts[i]
			if e.collect != nil {
				ns.deliverCollecting(e, receipt, touched)
				continue
			}
			once := encodeOnce{packet: e.Packet}
			ns.matchLocked(&e.Target, func(s *Socket) {
				out, err := s.send(&once, e.Flags, touched)
				if err != nil {
					receipt.Err = err
				}
				receipt.add(out)
			})
			ns.node.drops.add(dropVolatile, receipt.DroppedVolatile)
			ns.node.drops.add(dropSlow, receipt.DroppedSlow)
		}
	}
}

// encodeOnce holds the frames of one packet: the first socket of a codec pays, the rest share.
type encodeOnce struct {
	packet *Packet
	first  encoded
	more   []encoded // a node has two codecs at most; this is the second
}

type encoded struct {
	codec Codec
	frame Frame
	err   error
}

func (o *encodeOnce) frame(c Codec) (Frame, error) {
	if o.first.codec == c {
		return o.first.frame, o.first.err
	}
	for i := range o.more {
		if o.more[i].codec == c {
			return o.more[i].frame, o.more[i].err
		}
	}
	e := encoded{codec: c}
	e.frame, e.err = c.Encode(o.packet)
	if e.err != nil {
		e.err = &Error{Code: Invalid, Reason: "INVALID_PAYLOAD", Message: "the payload can not be encoded", Cause: e.err}
	}
	if o.first.codec == nil {
		o.first = e
	} else {
		o.more = append(o.more, e)
	}
	return e.frame, e.err
}

// touched are the links that a batch put something into and that nobody else flushes.
type touched struct{ conns []Conn }

var touchedPool = sync.Pool{New: func() any { return new(touched) }}

func borrowTouched() *touched { return touchedPool.Get().(*touched) }

func (t *touched) add(c Conn) { t.conns = append(t.conns, c) }

// flush flushes each link once and gives t back.
func (t *touched) flush(f *flushers) {
	f.flush(t.conns)
	clear(t.conns)
	if cap(t.conns) > 1<<16 {
		t.conns = nil
	}
	t.conns = t.conns[:0]
	touchedPool.Put(t)
}
