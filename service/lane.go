package service

import (
	"context"
	"sync"
	"time"
)

// lane is the one way by which emits of a namespace pass: their order is one. Callers that find it busy wait together,
// and the one that goes next delivers for all of them: under load many emits are one write per link. It holds at most
// one turn per caller, and callers are bounded by the streams of the API.
//
// A write to thousands takes long, and to gather emits for it is worth a wait. That does not hold for an emit to a few:
// it goes between two runs of the caller that leads, or beside the writing, whose order is fixed already.
type lane struct {
	step sync.Mutex // held while a run is queued, so that all links have the runs in one order
	work *work      // guarded by step; nil: nothing was done

	mu      sync.Mutex
	waiting []*turn
	busy    bool
	wide    bool // the caller that leads delivers, or writes, to many
}

// turn is what one caller wants delivered.
type turn struct {
	emits    []Emit
	receipts []Receipt
	patience time.Duration // how long an emit may wait for a link, from when that became full; 0: not at all
	narrow   bool          // few hear it
	relayed  bool          // it comes from another node

	done, beside bool          // set before wake: it is delivered, or goes beside the caller that leads
	next         int32         // the place in emits of the one that waits for room
	wake         chan struct{} // made by a caller that has to wait; a send says done, beside, or that it goes next

	// Of the emit that waits for room, set by the caller that delivers. Those behind it wait, too.
	room  <-chan struct{}
	until time.Time // when its patience ends

	handed *handed // what of it other nodes were handed
}

const (
	// forEver is the patience of a caller whom nobody waits behind: as long as it likes, but in the end it has to be told.
	forEver time.Duration = 1<<63 - 1
	// maxHold bounds it for one without a deadline, as a client may take a little at a time.
	maxHold = time.Minute
	// holdMargin is what is left of a deadline for the answer.
	holdMargin = 100 * time.Millisecond
)

func (t *turn) held() bool { return t.room != nil }

// hold makes the turn wait for a link from its emit at a place on; false: it has no more patience with that link.
func (t *turn) hold(c Conn, f Frame, at int32) bool {
	if t.held() {
		return true // behind another
	}
	if t.patience == 0 {
		return false
	}
	room, since := c.Room(f.Len())
	if t.patience != forEver {
		if since.IsZero() {
			since = time.Now()
		}
		if t.until = since.Add(t.patience); !time.Now().Before(t.until) {
			return false
		}
	}
	t.room, t.next = room, at
	return true
}

// await returns when there may be room, or no time left.
func (t *turn) await(ctx context.Context) {
	if t.until.IsZero() {
		t.until = time.Now().Add(maxHold)
		if deadline, ok := ctx.Deadline(); ok {
			t.until = deadline.Add(-holdMargin)
		}
	}
	late := time.NewTimer(time.Until(t.until))
	defer late.Stop()
	select {
	case <-t.room:
	case <-late.C:
		if t.patience == forEver {
			t.patience = 0
		} // otherwise it is over with this link, and may be there for another
	case <-ctx.Done():
		t.patience = 0
	}
	t.emits, t.receipts = t.emits[t.next:], t.receipts[t.next:]
	t.room, t.done, t.beside = nil, false, false
}

// pass delivers emits in their order. One that waits for its link is not in the lane meanwhile, and passes anew.
func (ns *Namespace) pass(ctx context.Context, t *turn) {
	for ns.lane.pass(ns, t); t.held(); ns.lane.pass(ns, t) {
		t.await(ctx)
	}
}

// pass delivers a turn, and with it those that came in the meantime. It returns once the frames are queued everywhere.
// The caller that led also flushes.
func (l *lane) pass(ns *Namespace, t *turn) {
	l.mu.Lock()
	if l.busy {
		l.mu.Unlock()
		t.narrow = ns.narrow(t.emits)
		l.mu.Lock()
	}
	switch {
	case l.busy && l.wide && t.narrow:
		l.mu.Unlock()
		ns.passBeside(t)
		return
	case l.busy:
		t.wake = make(chan struct{}, 1)
		l.waiting = append(l.waiting, t)
		l.mu.Unlock()
		<-t.wake
		if t.beside {
			ns.passBeside(t)
		}
		if t.done {
			return
		}
		l.mu.Lock()
	default:
		l.waiting = append(l.waiting, t)
	}
	l.busy, l.wide = true, false
	batch := l.waiting
	l.waiting = nil
	l.mu.Unlock()

	touched := borrowTouched()
	ns.deliver(batch, touched, true)
	for _, other := range batch {
		if other != t {
			other.done = true
			other.wake <- struct{}{}
		}
	}
	touched.flush(ns.node.flushers)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.wide = false
	if len(l.waiting) == 0 {
		l.busy = false
	} else {
		l.waiting[0].wake <- struct{}{} // it goes next, for itself and all behind it
	}
}

// widen lets turns that reach few go beside the caller that leads.
func (l *lane) widen() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wide {
		return
	}
	l.wide = true
	rest := l.waiting[:0]
	for _, t := range l.waiting {
		if t.narrow {
			t.beside = true
			t.wake <- struct{}{}
		} else {
			rest = append(rest, t)
		}
	}
	clear(l.waiting[len(rest):])
	l.waiting = rest
}

// passBeside delivers a turn while another leads.
func (ns *Namespace) passBeside(t *turn) {
	touched := borrowTouched()
	ns.deliver([]*turn{t}, touched, false)
	touched.flush(ns.node.flushers)
	t.done = true
}

// narrow says whether emits reach so few that they need not wait for a large fan-out.
func (ns *Namespace) narrow(emits []Emit) bool {
	if len(emits) > flushChunk {
		return false
	}
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	reached := 0
	for i := range emits {
		t := &emits[i].Target
		if t.All || len(t.Rooms)+len(t.ExceptRooms) > 8 {
			return false
		}
		for _, name := range t.Rooms {
			reached++
			if r := ns.rooms[name]; r != nil {
				reached += len(r.members)
			}
		}
		if reached > flushChunk {
			return false
		}
	}
	return true
}
