package service

import (
	"slices"
	"time"
)

// elsewhere are the recipients of one event at another node, of which an Acks waits for the outcomes. Guarded by
// acks.mu.
type elsewhere struct {
	known   bool // it has said how many they are
	missing int  // of them, without an outcome
	named   map[SocketID]struct{}
	more    int  // those without an outcome that it has not named
	over    bool // nothing more is taken from it
}

// maxNamed is how many recipients a node names: of more, one whose node is lost is counted and has no outcome.
const maxNamed = 1000

// Asked says that another node was handed the event. It is called from within Remote.Publish, before anything is told
// of what that node does with it. "" stands for servers that have no names, and whose recipients have none.
func (c *Acks) Asked(node NodeID) {
	c.ns.acks.mu.Lock()
	defer c.ns.acks.mu.Unlock()
	if c.elsewhere[node] != nil {
		return
	}
	if c.elsewhere == nil {
		c.elsewhere = map[NodeID]*elsewhere{}
	}
	c.elsewhere[node] = &elsewhere{}
	c.others++
	c.over = false
}

// Named takes what a node says once of its recipients: how many they are, and the first of their ids. Outcomes come
// after that.
func (c *Acks) Named(node NodeID, named []SocketID, total int) {
	c.ns.acks.mu.Lock()
	defer c.ns.acks.mu.Unlock()
	e := c.elsewhere[node]
	if e == nil || e.over || e.known || total < 0 {
		return
	}
	e.known, e.missing = true, total
	named = named[:min(len(named), maxNamed, total)]
	e.named = make(map[SocketID]struct{}, len(named))
	for _, id := range named {
		e.named[id] = struct{}{}
	}
	e.more = total - len(e.named)
	if total == 0 {
		c.endElsewhereLocked(e)
		c.signal()
	}
}

// Outcomes takes what became of some recipients of a node. It keeps the list's payloads.
func (c *Acks) Outcomes(node NodeID, list []AckOutcome) {
	c.ns.acks.mu.Lock()
	defer c.ns.acks.mu.Unlock()
	e := c.elsewhere[node]
	if e == nil || e.over || c.err != nil {
		return
	}
	for i := range list {
		o := &list[i]
		if _, named := e.named[o.Socket]; named {
			delete(e.named, o.Socket)
		} else if e.more--; e.more < 0 {
			e.more = 0
			continue // it is of nobody, or comes again
		}
		e.missing--
		if o.Node = node; !c.takeOutcomeLocked(o) {
			break
		}
	}
	if e.missing == 0 || c.err != nil {
		c.endElsewhereLocked(e)
	}
	c.signal()
}

// takeOutcomeLocked keeps an outcome until it is asked for; false: too much waits.
func (c *Acks) takeOutcomeLocked(o *AckOutcome) bool {
	size := len(o.Payload)
	for _, a := range o.Attachments {
		size += len(a)
	}
	if c.bytes+size > maxUntakenAckBytes || size > 0 && !c.ns.node.Budget().Take(UseAcks, size) {
		c.failLocked()
		return false
	}
	c.bytes += size
	c.outcomes = append(c.outcomes, *o)
	return true
}

// Unreachable says that nothing more comes from a node: those that it has named have no answer for that reason, and it
// is in the coverage.
func (c *Acks) Unreachable(node NodeID) {
	c.ns.acks.mu.Lock()
	defer c.ns.acks.mu.Unlock()
	e := c.elsewhere[node]
	if e == nil || e.over {
		return
	}
	c.restLocked(node, e, AckNodeUnreachable)
	c.endElsewhereLocked(e)
	c.uncoveredLocked(string(node))
	c.signal()
}

// uncoveredLocked adds a node to the coverage, whose list may be shared.
func (c *Acks) uncoveredLocked(node string) {
	if !slices.Contains(c.coverage.Unreachable, node) {
		c.coverage.Unreachable = slices.Sorted(slices.Values(append(slices.Clone(c.coverage.Unreachable), node)))
	}
}

// Lost says that so many recipients of servers without names will not answer, or those that are left if they are fewer,
// since so many of these servers are gone.
func (c *Acks) Lost(recipients, servers int) {
	c.ns.acks.mu.Lock()
	defer c.ns.acks.mu.Unlock()
	e := c.elsewhere[""]
	if e == nil || e.over || !e.known {
		return
	}
	n := min(recipients, e.missing, e.more)
	e.missing -= n
	e.more -= n
	c.lost += servers
	c.coverage.UnreachableUnnamed += servers
	if e.missing == 0 {
		c.endElsewhereLocked(e)
	}
	c.signal()
}

// restLocked gives the recipients that a node has named, and that have no outcome, one.
func (c *Acks) restLocked(node NodeID, e *elsewhere, why AckFailure) {
	for id := range e.named {
		c.outcomes = append(c.outcomes, AckOutcome{Socket: id, Node: node, Latency: time.Since(c.start), Failure: why})
	}
	e.named = nil
}

func (c *Acks) endElsewhereLocked(e *elsewhere) {
	if e.over {
		return
	}
	e.over, e.named = true, nil
	c.others--
	c.over = c.others == 0 && len(c.waiting) == 0
}

// counted sets how many recipients there are, and which nodes could not be counted: nothing is taken of those any more.
// Others may have been lost since they were counted, and stay in the coverage.
func (c *Acks) counted(r *Receipt) {
	c.ns.acks.mu.Lock()
	defer c.ns.acks.mu.Unlock()
	lost := c.coverage.Unreachable
	c.Matched, c.coverage = r.Matched, r.Coverage
	c.coverage.UnreachableUnnamed += c.lost
	for _, name := range lost {
		c.uncoveredLocked(name)
	}
	for _, name := range r.Coverage.Unreachable {
		if e := c.elsewhere[NodeID(name)]; e != nil {
			c.endElsewhereLocked(e)
		}
	}
}

// Sockets are the ids of some recipients here, before any outcome was taken.
func (c *Acks) Sockets(most int) []SocketID {
	c.ns.acks.mu.Lock()
	defer c.ns.acks.mu.Unlock()
	ids := make([]SocketID, 0, min(most, len(c.outcomes)+len(c.waiting)))
	for i := range c.outcomes[:min(most, len(c.outcomes))] {
		ids = append(ids, c.outcomes[i].Socket)
	}
	for s := range c.waiting {
		if len(ids) == most {
			break
		}
		ids = append(ids, s.id)
	}
	return ids
}

// signal wakes the caller that waits in Next.
func (c *Acks) signal() {
	select {
	case c.came <- struct{}{}:
	default:
	}
}
