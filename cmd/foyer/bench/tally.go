package bench

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// tally counts operations and their latencies. Safe for concurrent use; it is split so that a thousand clients do not
// wait for each other.
type tally struct {
	shards [16]tallyShard
	before atomic.Int64 // operations that were counted before the last reset
}

type tallyShard struct {
	mu    sync.Mutex
	count int64
	hist  *hdrhistogram.Histogram // of microseconds
	_     [64]byte                // its neighbour is on another cache line
}

// longest is what a latency is cut to.
const longest = 5 * time.Minute

func newTally() *tally {
	t := &tally{}
	for i := range t.shards {
		t.shards[i].hist = hdrhistogram.New(1, longest.Microseconds(), 3)
	}
	return t
}

// add counts one operation. who is any number that spreads the callers.
func (t *tally) add(who int, latency time.Duration) {
	s := &t.shards[who%len(t.shards)]
	s.mu.Lock()
	s.count++
	_ = s.hist.RecordValue(min(max(latency, 0), longest).Microseconds()) // in range, so it does not fail
	s.mu.Unlock()
}

// total is how many operations were counted.
func (t *tally) total() (n int64) {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += s.count
		s.mu.Unlock()
	}
	return n
}

// ever is how many were counted since the beginning, whatever was reset.
func (t *tally) ever() int64 { return t.before.Load() + t.total() }

// reset begins anew.
func (t *tally) reset() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		t.before.Add(s.count)
		s.count = 0
		s.hist.Reset()
		s.mu.Unlock()
	}
}

// latencies are those of all operations.
func (t *tally) latencies() *hdrhistogram.Histogram {
	sum := hdrhistogram.New(1, longest.Microseconds(), 3)
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		sum.Merge(s.hist)
		s.mu.Unlock()
	}
	return sum
}
