package service

import (
	"fmt"
	"sync/atomic"

	"go.uber.org/zap"
)

// Use is what a part of the node's memory is kept for.
type Use uint8

// The uses of the node's memory.
const (
	UseOutbound   Use = iota // what waits to be sent to links
	UseInbound               // events that wait for handlers, and what is still arriving of clients and backends
	UsePresence              // the logs of namespaces, and snapshots on their way to watchers
	UseNotices               // what handlers have not taken yet, beside events
	UseAcks                  // acknowledgements that their callers have not taken yet
	UseData                  // what applications note about sockets
	UseDepartures            // what is remembered of sockets that are gone
	useCount
)

var useNames = [useCount]string{"outbound", "inbound", "presence", "notices", "acks", "data", "departures"}

// String returns the use's word.
func (u Use) String() string { return useNames[u] }

// Budget is how many bytes the node may keep for its peers, all queues, logs and snapshots together. Each of them has a
// bound of its own; the budget bounds their sum, so that many peers at their bounds do not fill the memory. What it
// refuses is not kept: its holder slows or refuses the peer that asks for more. Safe for concurrent use, and free of
// locks.
type Budget struct {
	limit   atomic.Int64 // seldom changed
	used    atomic.Int64
	by      [useCount]atomic.Int64
	refused [useCount]atomic.Int64
}

// NewBudget makes a budget of so many bytes; 0 or less: without a limit, it only counts.
func NewBudget(bytes int64) *Budget {
	b := &Budget{}
	b.SetLimit(bytes)
	return b
}

// SetLimit has another limit hold from now on; 0 or less: none. What is taken stays so, also where it is more than
// that: nothing more is given until enough came back.
func (b *Budget) SetLimit(bytes int64) { b.limit.Store(bytes) }

// Take asks for bytes; false: the budget is spent, nothing was taken, and the refusal is counted. Nothing is never
// refused.
func (b *Budget) Take(u Use, bytes int) bool {
	if limit := b.limit.Load(); b.used.Add(int64(bytes)) > limit && limit > 0 && bytes > 0 {
		b.used.Add(-int64(bytes))
		b.refused[u].Add(1)
		return false
	}
	b.by[u].Add(int64(bytes))
	return true
}

// Fits says whether Take would give so many bytes now.
func (b *Budget) Fits(bytes int) bool {
	limit := b.limit.Load()
	return limit <= 0 || bytes <= 0 || b.used.Load()+int64(bytes) <= limit
}

// Force takes bytes that are in memory already and cannot be refused.
func (b *Budget) Force(u Use, bytes int) {
	b.used.Add(int64(bytes))
	b.by[u].Add(int64(bytes))
}

// Give gives back what was taken.
func (b *Budget) Give(u Use, bytes int) {
	b.used.Add(-int64(bytes))
	b.by[u].Add(-int64(bytes))
}

// Limit is how many bytes may be taken; 0 or less: any number.
func (b *Budget) Limit() int64 { return b.limit.Load() }

// Used is how many bytes are taken.
func (b *Budget) Used() int64 { return b.used.Load() }

// UsedBy is how many bytes are taken for a use.
func (b *Budget) UsedBy(u Use) int64 { return b.by[u].Load() }

// Refused is how often bytes for a use were refused.
func (b *Budget) Refused(u Use) int64 { return b.refused[u].Load() }

// refusals adds to counts how often each use was refused, as budget_ and the use's word.
func (b *Budget) refusals(counts map[string]int64) {
	for u := range useCount {
		if v := b.refused[u].Load(); v > 0 {
			counts["budget_"+u.String()] = v
		}
	}
}

// budgetSpent tells the log that bytes for a use were refused.
func (n *Node) budgetSpent(u Use) {
	b := n.cfg.Budget
	n.told.Warn("memory budget is spent", zap.String("reason", "budget_"+u.String()),
		zap.String("detail", fmt.Sprintf("%d of %d bytes are held", b.Used(), b.Limit())), zap.String("setting", "--memory-budget"))
}
