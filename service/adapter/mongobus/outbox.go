package mongobus

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/lives"
)

const (
	// outBytes is what may wait for a server that is slow; more is ErrFull.
	outBytes = 8 << 20
	// batchBytes go into one command, so that a sender hears of room in time.
	batchBytes = 1 << 20
	// packBytes of frames share a document. Each node that one of them is for gets all of them.
	packBytes = 32 << 10
	// maxNumbers is how many nodes a bus knows by name; then it counts anew, which nobody takes for a loss.
	maxNumbers = 1024
)

// outbox is what waits to be inserted. A sender appends, and one goroutine inserts all that there is at once. So no
// sender waits for the network. Under load a document carries many frames, and a command many documents.
type outbox struct {
	filled chan struct{} // has a value after something was appended

	mu      sync.Mutex
	open    bool                     // guarded by mu; there is a life
	tag     int64                    // guarded by mu; of that life
	numbers map[service.NodeID]int64 // guarded by mu; of the last frame for each node
	list    []pack                   // guarded by mu
	bytes   int                      // guarded by mu; in list, and what is being inserted
	empty   chan struct{}            // guarded by mu; nil: nobody waits until nothing is left
}

func newOutbox() *outbox { return &outbox{filled: make(chan struct{}, 1)} }

// put appends a frame for a node.
func (o *outbox) put(to service.NodeID, frame []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !o.open:
		return adapter.ErrDown
	case o.bytes+len(frame) > outBytes:
		return adapter.ErrFull
	}
	o.appendLocked(to, frame)
	return nil
}

// probe appends a frame without bytes, which is for this node. It goes out in any case.
func (o *outbox) probe(self service.NodeID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open {
		o.appendLocked(self, nil)
	}
}

func (o *outbox) appendLocked(to service.NodeID, frame []byte) {
	if len(o.numbers) >= maxNumbers && o.numbers[to] == 0 {
		clear(o.numbers)
	}
	o.numbers[to]++
	size := len(frame) + headBytes
	if n := len(o.list); n == 0 || len(o.list[n-1].frames)+size > packBytes {
		o.list = append(o.list, pack{})
	}
	p := &o.list[len(o.list)-1]
	p.add(to, o.numbers[to], frame)
	o.bytes += size
	lives.Poke(o.filled)
}

// begin opens the box for a new life, and returns its tag.
func (o *outbox) begin() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.tag, o.numbers = true, rand.Int64(), map[service.NodeID]int64{}
	o.list, o.bytes = nil, 0
	return o.tag
}

// end closes the box, and returns how many frames are lost with what waits.
func (o *outbox) end() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	lost := framesOf(o.list)
	o.open, o.list = false, nil
	o.settleLocked(o.bytes)
	return lost
}

// emptied returns a channel that is closed when nothing waits any more.
func (o *outbox) emptied() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	empty := o.empty
	if empty == nil {
		empty = make(chan struct{})
		o.empty = empty
		o.settleLocked(0)
	}
	return empty
}

// settleLocked notes that so much has been inserted, or never will be.
func (o *outbox) settleLocked(bytes int) {
	if o.bytes -= bytes; o.bytes == 0 && o.empty != nil {
		close(o.empty)
		o.empty = nil
	}
}

// write inserts what waits until ctx ends, and returns how many frames of what it has taken are lost. It is called by
// one goroutine at a time.
func (o *outbox) write(ctx context.Context, insert func(list []pack) error) (lost int, err error) {
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-o.filled:
		}
		for {
			list, bytes := o.take()
			if len(list) == 0 {
				break
			}
			if err := insert(list); err != nil {
				return framesOf(list), errors.Join(err, ctx.Err())
			}
			o.mu.Lock()
			o.settleLocked(bytes)
			o.mu.Unlock()
		}
	}
}

// take takes what goes into one command.
func (o *outbox) take() (list []pack, bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for n < len(o.list) && (n == 0 || bytes+len(o.list[n].frames) <= batchBytes) {
		bytes += len(o.list[n].frames)
		n++
	}
	list = o.list[:n:n]
	if o.list = o.list[n:]; len(o.list) == 0 {
		o.list = nil
	}
	return list, bytes
}

func framesOf(list []pack) (n int) {
	for i := range list {
		n += list[i].count
	}
	return n
}
