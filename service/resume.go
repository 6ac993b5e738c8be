package service

import (
	"context"
	"slices"
	"sync"
	"time"
)

// gatherWithin is how long a watch waits, before it begins, for what other nodes have to tell; and how long for what is
// asked of them.
const gatherWithin = 2 * time.Second

// resumed is how a watcher goes on behind a token. What the log has at that time it walks through anew, from its first
// change that the token does not know; and what came before the log has it of other nodes was asked of them.
type resumed struct {
	cut   uint64          // place from which on everything is news
	marks map[*owner]mark // how far the token knew those nodes that are still there; nil is this one
	past  []change        // to be told first
	kept  int             // bytes of the budget for it; guarded by log.mu
}

// mark is how far a token knows of a node.
type mark struct {
	number uint64 // of the first change that it does not
	place  uint64 // in the log, at which the node had told all; this node: 0
}

// gather waits until all other nodes that can be asked have told what they have.
func (w *Watcher) gather(ctx context.Context) {
	if w.node.watches == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, gatherWithin)
	defer cancel()
	for {
		l := w.log
		l.mu.Lock()
		if l.arrived == nil {
			l.arrived = make(chan struct{})
		}
		arrived := l.arrived
		l.mu.Unlock()
		if _, missing := w.coverage(); missing == 0 {
			return
		}
		select {
		case <-arrived:
		case <-w.done:
			return
		case <-w.node.drainCh:
			return
		case <-ctx.Done():
			return
		}
	}
}

// coverage is what the watch does not speak for now, and how many of those could be heard and have not told all yet.
func (w *Watcher) coverage() (c Coverage, missing int) {
	if w.node.watches == nil {
		return c, 0
	}
	tellers, c := w.node.watches.Tellers(w.ns.name)
	c.Unreachable = slices.Clone(c.Unreachable)
	w.ns.mu.RLock()
	defer w.ns.mu.RUnlock()
	for _, t := range tellers {
		if x := w.log.others; x == nil || x.owners[t.Node] == nil || x.owners[t.Node].Incarnation != t || x.coming[t.Node] != nil {
			missing++
			c.Unreachable = append(c.Unreachable, string(t.Node))
		}
	}
	slices.Sort(c.Unreachable)
	c.Unreachable = slices.Compact(c.Unreachable)
	return c, missing
}

// resume goes on behind a position. It says why that cannot be: then nothing of it is used.
func (w *Watcher) resume(ctx context.Context, from position) ResetReason {
	asked := map[*owner][]PresenceEvent{}
	for range 3 { // what is missing from the log may grow while it is asked for
		w.ns.mu.RLock()
		reset, asks := w.resumeLocked(from, asked)
		w.ns.mu.RUnlock()
		if reset != ResetNone || len(asks) == 0 {
			return reset
		}
		if !w.ask(ctx, asks, asked) {
			return ResetTokenExpired
		}
	}
	return ResetTokenExpired
}

// pastAsk is what is to be asked of an owner: its changes from a number on and before another one.
type pastAsk struct {
	owner        *owner
	from, before uint64
}

// resumeLocked resumes if nothing is left to be asked for. Namespace.mu is held: the log does not grow.
func (w *Watcher) resumeLocked(from position, asked map[*owner][]PresenceEvent) (_ ResetReason, asks []pastAsk) {
	l, self := w.log, w.node.self
	l.mu.Lock()
	first, next, own, ownFirst := l.first, l.next, l.own, l.ownFirst
	l.mu.Unlock()
	if len(from) == 0 {
		return ResetTokenExpired, nil
	}
	r := resumed{cut: next, marks: map[*owner]mark{}}
	start := next
	var heard position
	for _, h := range from {
		var o *owner
		if l.others != nil {
			o = l.others.owners[h.Node]
		}
		if term, lost := h.lost(); lost {
			switch {
			case h.Incarnation == self && w.ns.term.Load() <= term, o != nil && o.Run < h.Run, o != nil && o.Run == h.Run && o.term() <= term:
				return ResetNodeLost, nil
			case o == nil && h.Node != self.Node:
				heard = append(heard, h)
			}
			continue
		}
		switch {
		case h.Incarnation == self:
			if h.next < ownFirst || h.next > own {
				return ResetTokenExpired, nil
			}
			r.marks[nil] = mark{number: h.next}
			if h.next < own {
				start = min(start, max(first, h.next)) // a change stands at its number, or behind it
			}
			continue
		case h.Node == self.Node, w.node.watches == nil:
			return ResetTokenExpired, nil
		case o == nil || o.Incarnation != h.Incarnation:
			return ResetNodeLost, nil
		case h.next < o.first:
			past, have := asked[o]
			if have && (len(past) == 0 || past[0].Number <= h.next) && w.pastReaches(past, h.next, o.first) {
				for i := range past {
					if past[i].Number < o.first {
						r.past = append(r.past, change{PresenceEvent: past[i], owner: o})
					}
				}
			} else {
				asks = append(asks, pastAsk{o, h.next, o.first})
			}
		}
		if h.next < o.next {
			start = min(start, max(first, o.place+1))
		}
		r.marks[o] = mark{h.next, o.place}
		heard = append(heard, h)
	}
	if len(asks) > 0 {
		return ResetNone, asks
	}
	for i := range r.past {
		r.kept += entryBytes + r.past[i].Socket.bytes()
	}
	if !w.node.cfg.Budget.Take(UsePresence, r.kept) {
		return ResetTokenExpired, nil
	}
	news := false
	if _, here := r.marks[nil]; !here {
		news = true
	}
	if l.others != nil {
		for _, o := range l.others.owners {
			_, has := r.marks[o]
			news = news || !has
		}
	}
	l.mu.Lock()
	w.pos, w.walking, w.resumed = start, false, r
	w.own, w.heard = own, heard
	if m, here := r.marks[nil]; here {
		w.own = m.number
	}
	l.mu.Unlock()
	if news {
		w.startWalkLocked(r.marks)
	}
	return ResetNone, nil
}

// pastReaches says whether what was asked for goes without a gap from one number to before another.
func (w *Watcher) pastReaches(past []PresenceEvent, from, before uint64) bool {
	return len(past) > 0 && past[0].Number <= from && past[len(past)-1].Number+1 >= before
}

// ask asks owners for what the log does not have of them, all at once.
func (w *Watcher) ask(ctx context.Context, asks []pastAsk, asked map[*owner][]PresenceEvent) bool {
	ctx, cancel := context.WithTimeout(ctx, gatherWithin)
	defer cancel()
	var group sync.WaitGroup
	var mu sync.Mutex
	all := true
	for _, a := range asks {
		group.Go(func() {
			past, ok := w.node.watches.Past(ctx, a.owner.Incarnation, w.scope.Namespace, a.from, a.before)
			ok = ok && w.pastReaches(past, a.from, a.before)
			mu.Lock()
			defer mu.Unlock()
			asked[a.owner] = past
			all = all && ok
		})
	}
	group.Wait()
	return all
}

// missed is what a resumed watcher is told before the log: what was asked for, and those that the token did not know.
func (w *Watcher) missed(ctx context.Context) (events []PresenceEvent, err error) {
	bytes := 0
	for len(w.past) > 0 && len(events) < watchBatch && bytes < watchBatchBytes {
		c := &w.past[0]
		w.past = w.past[1:]
		if c.Number >= w.marks[c.owner].number {
			w.advance(c)
			if e, ok := w.see(c); ok {
				events = append(events, e)
				bytes += c.Socket.bytes()
			}
		}
	}
	if len(w.past) == 0 && w.kept > 0 {
		w.log.mu.Lock()
		w.letPastGoLocked()
		w.log.mu.Unlock()
	}
	if len(events) > 0 || w.walk == nil || !w.walk.news || w.walk.done {
		return events, nil
	}
	list, err := w.page(ctx)
	now := time.Now()
	for i := range list {
		c := change{owner: &owner{}, seq: 0}
		c.Kind, c.Socket, c.Rooms, c.Time = PresenceConnected, &list[i], list[i].Rooms, now
		if e, ok := w.scoped(&c.PresenceEvent); ok {
			events = append(events, e)
		}
	}
	return events, err
}

// letPastGoLocked gives back what was kept of the past, with the log's mutex held.
func (w *Watcher) letPastGoLocked() {
	w.node.cfg.Budget.Give(UsePresence, w.kept)
	w.kept = 0
}

// skips says whether a change that stands at the watcher's place is known to whom it goes on for.
func (w *Watcher) skips(c *change) bool {
	m, known := w.marks[c.owner]
	if w.wake != nil {
		return c.owner != nil || c.Number < m.number
	}
	if w.pos < w.cut {
		return !known || w.pos <= m.place || c.Number < m.number
	}
	return known && c.all == nil && c.Number < m.number
}

// voids says whether a change makes void what the watcher was told: its owner's news went on behind a gap, or it is
// lost before this node has heard of it what the watcher was told elsewhere, or there as it was before the watcher was
// told elsewhere that it is lost.
func (w *Watcher) voids(c *change) ResetReason {
	switch m := w.marks[c.owner]; {
	case c.all == nil:
	case c.all.gap:
		return ResetGap
	case c.Kind == PresenceConnected && slices.ContainsFunc(w.heard, func(h heard) bool {
		term, lost := h.lost()
		return lost && h.Node == c.owner.Node && (c.owner.Run < h.Run || c.owner.Run == h.Run && c.all.term <= term)
	}):
		return ResetNodeLost
	case c.Kind == PresenceDisconnected && c.Number < m.number:
		return ResetNodeLost
	}
	return ResetNone
}
