package adapter

import (
	"slices"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// calls are what this node has asked others and waits for: counts of emits, and answers to questions. Guarded by
// Cluster.mu.
type calls struct {
	last uint64
	open map[uint64]*call
}

// call is one of them.
type call struct {
	number  uint64
	handed  Handed
	missing []service.NodeID // nodes that were given it and have not answered
	failed  []service.NodeID // nodes that were given it and will not answer any more
	counts  []*counts
	answers []answered
	waiters int           // who still wait for it
	done    chan struct{} // closed when nobody is missing
}

type answered struct {
	from service.NodeID
	*clusterv1.Answer
}

// next is the number of another call.
func (c *calls) next() uint64 {
	c.last++
	return c.last
}

// begin makes a call that was handed out.
func (c *calls) begin(number uint64, handed Handed, waiters int) *call {
	k := &call{number: number, handed: handed, missing: slices.Clone(handed.Given), waiters: waiters, done: make(chan struct{})}
	if len(k.missing) == 0 || waiters == 0 {
		close(k.done)
		return k
	}
	if c.open == nil {
		c.open = map[uint64]*call{}
	}
	c.open[number] = k
	return k
}

// hear takes what a node says to a call: counts, or an answer. What comes late, twice or unasked has no effect. A node
// that does not know what it is asked is as one that does not answer: the call does not speak for it.
func (c *calls) hear(from service.NodeID, number uint64, counts *counts, answer *clusterv1.Answer) {
	k := c.open[number]
	if k == nil || !slices.Contains(k.missing, from) {
		return
	}
	switch {
	case counts != nil:
		k.counts = append(k.counts, counts)
	case service.Code(answer.GetError().GetCode()) == service.Unimplemented:
		k.failed = append(k.failed, from)
	default:
		k.answers = append(k.answers, answered{from, answer})
	}
	c.settle(k, from)
}

// settle takes a node out of those that a call waits for.
func (c *calls) settle(k *call, node service.NodeID) {
	k.missing = slices.DeleteFunc(k.missing, func(n service.NodeID) bool { return n == node })
	if len(k.missing) == 0 {
		delete(c.open, k.number)
		close(k.done)
	}
}

// lose ends the waiting for a node that is not to be waited for.
func (c *calls) lose(node service.NodeID) {
	for _, k := range c.open {
		if slices.Contains(k.missing, node) {
			k.failed = append(k.failed, node)
			c.settle(k, node)
		}
	}
}

// leave says that one waiter less waits for a call.
func (c *calls) leave(k *call) {
	if k.waiters--; k.waiters <= 0 {
		delete(c.open, k.number)
	}
}

// coverage is who a call's answers do not speak for.
func (k *call) coverage() service.Coverage {
	return coverageOf(k.handed.Missed, k.handed.Silent, k.failed, k.missing)
}

// coverageOf names nodes.
func coverageOf(lists ...[]service.NodeID) service.Coverage {
	var names []string
	for _, list := range lists {
		for _, n := range list {
			names = append(names, string(n))
		}
	}
	slices.Sort(names)
	return service.Coverage{Unreachable: slices.Compact(names)}
}

// The waits for other nodes.
const (
	callWait    = 2 * time.Second        // for an answer
	joinWait    = time.Second            // until the others have heard of a room
	connectWait = 250 * time.Millisecond // the same, for a client that connects
	callMargin  = 100 * time.Millisecond // what is left of a deadline for the answer
)
