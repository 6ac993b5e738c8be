package adapter

import (
	"context"
	"slices"
	"time"

	"foyer/service"
)

// A Cluster is the service.Remote of its node.

// Publish implements service.Remote.
func (c *Cluster) Publish(b service.Batch) service.Ticket {
	e := Emit{Target: *b.Target, Flags: b.Flags, Packets: b.Packets, Collect: b.Acks != nil}
	trace := b.Trace.Traceparent()
	var item []byte
	c.mu.Lock()
	handed := c.peers.Publish(c.now(), b.Target, b.Flags&service.Volatile != 0, func(wire uint64) []byte {
		switch {
		case item == nil && b.Waits > 0:
			e.Call = c.calls.next()
		case item != nil && trace == "": // it is the same in all versions
			return item
		}
		if e.Trace = trace; wire < wireSkips {
			e.Trace = ""
		}
		item = AppendEmit(nil, &e)
		return item
	})
	if len(handed.Given)+len(handed.Silent)+len(handed.Missed) == 0 {
		c.mu.Unlock()
		return nil
	}
	if b.Waits == 0 && b.Acks == nil {
		c.mu.Unlock()
		return missed(handed.Missed)
	}
	t := &ticket{c, c.calls.begin(e.Call, handed, b.Waits)}
	if b.Acks != nil {
		c.collect.begin(b.Acks, e.Call, handed.Given)
	}
	c.mu.Unlock()
	return t
}

// Flush implements service.Remote.
func (c *Cluster) Flush() {
	c.mu.Lock()
	c.leave()
}

// missed is the ticket of an emit of which nobody wants to know what other nodes do with it: the nodes that could not
// be handed it.
type missed []service.NodeID

// Unreached implements service.Ticket.
func (m missed) Unreached(int) service.Coverage { return coverageOf(m) }

// Wait implements service.Ticket.
func (m missed) Wait(_ context.Context, place int) service.Receipt {
	return service.Receipt{Coverage: m.Unreached(place)}
}

// ticket is an emit on its way to others.
type ticket struct {
	*Cluster
	call *call
}

// Unreached implements service.Ticket.
func (t *ticket) Unreached(int) service.Coverage { return coverageOf(t.call.handed.Missed) }

// Wait implements service.Ticket.
func (t *ticket) Wait(ctx context.Context, place int) (sum service.Receipt) {
	t.wait(ctx, t.call, callWait)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls.leave(t.call)
	for _, c := range t.call.counts {
		r := c.place(place)
		there, total := numbers(&r), numbers(&sum)
		for i := range total {
			*total[i] += *there[i]
		}
	}
	sum.Coverage = t.call.coverage()
	return sum
}

// wait returns when a call has all answers, or nobody may wait longer.
func (c *Cluster) wait(ctx context.Context, k *call, most time.Duration) {
	select {
	case <-k.done: // most often there is none
		return
	default:
	}
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline)-callMargin)
	}
	late := time.NewTimer(max(0, most))
	defer late.Stop()
	select {
	case <-k.done:
	case <-late.C:
	case <-ctx.Done():
	case <-c.context.Done():
	}
}

// Edge implements service.Remote.
func (c *Cluster) Edge(namespace, room string, on bool) {
	c.mu.Lock()
	c.peers.Edge(c.now(), namespace, room, on)
	if due := c.peers.own.due(); due < c.planned {
		c.planned = due
		poke(c.wake)
	}
	c.mu.Unlock()
}

// Expect implements service.Remote.
func (c *Cluster) Expect(namespace string, rooms []string, ready func()) {
	told := c.announce(namespace, append([]string{""}, rooms...))
	c.mu.Lock()
	defer c.leave()
	c.mark(c.now(), connectWait, "", func([]service.NodeID) {
		c.later(func() {
			ready()
			told()
		})
	})
}

// announce tells the others that this node has sockets in rooms, as it is about to, until the end is called: from then
// on Edge alone counts.
func (c *Cluster) announce(namespace string, rooms []string) (end func()) {
	edges := func(on bool) {
		c.mu.Lock()
		defer c.leave()
		now := c.now()
		for _, room := range rooms {
			c.peers.Edge(now, namespace, room, on)
		}
	}
	edges(true)
	return func() { edges(false) }
}

// foresee has what is emitted to rooms here go to all nodes, of which some are about to have sockets in them, until the
// end is called.
func (c *Cluster) foresee(namespace string, rooms []string) (end func()) {
	foresee := func(n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.peers.Foresee(namespace, rooms, n)
	}
	foresee(1)
	return func() { foresee(-1) }
}

// marked waits until the others have heard all news up to a moment.
type marked struct {
	marks []Mark
	until time.Duration
	then  func(unheard []service.NodeID) // called with the mutex held
}

// mark calls then when the others, but for one, have heard all that there is to know now, or are silent, or have had so
// much time: with those that have not heard it.
func (c *Cluster) mark(now, most time.Duration, except service.NodeID, then func(unheard []service.NodeID)) {
	marks := c.peers.Unheard(c.peers.Marks(now))
	marks = slices.DeleteFunc(marks, func(k Mark) bool { return k.to.Node == except })
	if !c.peers.Awaited(marks) {
		then(nodesOf(marks))
		return
	}
	m := &marked{marks, now + most, then}
	c.marks, c.marksDue = append(c.marks, m), min(c.marksDue, m.until)
}

// resolve calls those whose time has come.
func (c *Cluster) resolve(now time.Duration) {
	if len(c.marks) == 0 {
		return
	}
	kept := c.marks[:0]
	c.marksDue = never
	for _, m := range c.marks {
		if m.marks = c.peers.Unheard(m.marks); now < m.until && c.peers.Awaited(m.marks) {
			kept = append(kept, m)
			c.marksDue = min(c.marksDue, m.until)
			continue
		}
		m.then(nodesOf(m.marks))
	}
	clear(c.marks[len(kept):])
	c.marks = kept
}

func nodesOf(marks []Mark) (nodes []service.NodeID) {
	for _, k := range marks {
		nodes = append(nodes, k.to.Node)
	}
	return nodes
}

// telling is the wait until the others, but for one, have heard of what has changed here: joinWait at the most.
type telling struct {
	*Cluster
	except service.NodeID
	done   chan []service.NodeID // gets those who have not
}

func (c *Cluster) telling(except service.NodeID) *telling {
	t := &telling{c, except, make(chan []service.NodeID, 1)}
	c.mu.Lock()
	c.mark(c.now(), joinWait, except, func(unheard []service.NodeID) { t.done <- unheard })
	c.leave()
	return t
}

// unheard are those who have not heard, when all have or the wait is over.
func (t *telling) unheard(ctx context.Context) (unheard []service.NodeID) {
	select {
	case unheard = <-t.done:
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, k := range t.peers.Unheard(t.peers.Marks(t.now())) {
			if k.to.Node != t.except {
				unheard = append(unheard, k.to.Node)
			}
		}
	case <-t.context.Done():
	}
	return unheard
}
