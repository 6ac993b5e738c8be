package pgbus

import (
	"sync"

	"foyer/service/adapter"
	"foyer/service/adapter/lives"
	"foyer/service/adapter/pgdial"
)

const (
	// outBytes of text are what may wait for a server that does not answer; more is ErrFull.
	outBytes = 12 << 20
	// batchBytes of text go by one statement, so that a sender hears of room in time.
	batchBytes = 512 << 10
)

// batch are parts of frames that go by one statement.
type batch struct {
	pgdial.Batch
	frames int
}

// outbox is what waits to be published. A sender appends, and one goroutine publishes one batch after the other.
type outbox struct {
	tag    tag
	filled chan struct{} // has a value after something was appended
	most   int           // outBytes, but for tests

	mu      sync.Mutex
	open    bool     // guarded by mu; there is a connection
	batches []*batch // guarded by mu; the last one is not full
	spare   *batch   // guarded by mu; nil: none
	bytes   int      // guarded by mu; of texts, with what is being published
	number  uint32   // guarded by mu; of the frame that comes next
}

func newOutbox() *outbox {
	return &outbox{tag: newTag(), filled: make(chan struct{}, 1), most: outBytes}
}

// publish appends a frame for a channel, which the name of a node belongs to if there is one. Without bytes it is a
// probe.
func (o *outbox) publish(channel, node string, frame []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	size := textSize(len(frame))
	switch {
	case !o.open:
		return adapter.ErrDown
	case len(frame) > 0 && o.bytes+size > o.most: // a probe goes out in any case
		return adapter.ErrFull
	}
	o.bytes += size
	if len(frame) == 0 {
		x := o.lastLocked()
		x.Done(append(x.Add(channel, node, tagText), o.tag[:]...))
	}
	for at := 0; at < len(frame); at += partBytes {
		x := o.lastLocked()
		x.Done(appendPart(x.Add(channel, node, partSize(frame, at)), &o.tag, o.number, frame, at))
		if at+partBytes >= len(frame) {
			x.frames++
		}
	}
	o.number++
	lives.Poke(o.filled)
	return nil
}

// lastLocked is a batch that takes one more notification.
func (o *outbox) lastLocked() *batch {
	if n := len(o.batches); n > 0 && o.batches[n-1].Bytes() < batchBytes {
		return o.batches[n-1]
	}
	x := o.spare
	if o.spare = nil; x == nil {
		x = new(batch)
	}
	x.Reset()
	x.frames = 0
	o.batches = append(o.batches, x)
	return x
}

// begin opens the box for a new connection.
func (o *outbox) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.batches, o.bytes = true, nil, 0
}

// end closes the box, and returns how many frames are lost with what waits.
func (o *outbox) end() (lost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, x := range o.batches {
		lost += x.frames
	}
	o.open, o.batches = false, nil
	return lost
}

// take returns the first batch that waits; nil: none does.
func (o *outbox) take() *batch {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.batches) == 0 {
		return nil
	}
	x := o.batches[0]
	o.batches = o.batches[1:]
	return x
}

// written gives a batch back that take returned.
func (o *outbox) written(x *batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= x.Bytes()
	o.spare = x
}
