package redisbus

import (
	"io"
	"sync"

	"foyer/service/adapter"
	"foyer/service/adapter/lives"
)

const (
	// outBytes is what may wait for a server that does not read; more is ErrFull.
	outBytes = 8 << 20
	// writeBytes is written at once, so that a sender hears of room in time.
	writeBytes = 256 << 10
	// keepBytes of room are kept when nothing waits: a burst's buffer is not.
	keepBytes = 1 << 20
)

// outbox is what waits to be published, as commands that are ready to be written. A sender appends, and one goroutine
// writes all that there is at once. So no sender waits for the network, and a write carries many frames under load.
type outbox struct {
	filled chan struct{} // has a value after something was appended

	mu      sync.Mutex
	open    bool   // guarded by mu; there is a connection
	kept    []byte // guarded by mu
	frames  int    // guarded by mu; in kept
	pending int    // guarded by mu; bytes that the writer has taken and not written yet
	asked   uint64 // guarded by mu; commands of this connection
}

// anyName stands in a head for the name of a node, all of which are as long.
const anyName = "NAME"

// head is what is written before a message: the command and its channel.
func head(channel string) []byte {
	b := appendCommand(nil, "PUBLISH", channel)
	b[1] = '3' // the message is the third
	return b
}

// publish appends a message for a channel, that of a node if there is one: the tag of this bus and a frame.
func (o *outbox) publish(head []byte, node string, tag *tag, frame []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !o.open:
		return adapter.ErrDown
	case len(frame) > 0 && o.pending+len(o.kept)+len(frame) > outBytes: // a probe goes out in any case
		return adapter.ErrFull
	}
	o.kept = append(o.kept, head...)
	if node != "" {
		copy(o.kept[len(o.kept)-len(anyName+"\r\n"):], node)
	}
	o.kept = appendLength(o.kept, '$', len(tag)+len(frame))
	o.kept = append(append(append(o.kept, tag[:]...), frame...), "\r\n"...)
	if len(frame) > 0 {
		o.frames++
	}
	o.asked++
	lives.Poke(o.filled)
	return nil
}

// begin opens the box for a new connection.
func (o *outbox) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.kept, o.frames, o.pending, o.asked = true, nil, 0, 0, 0
}

// end closes the box, and returns how many frames are lost with what waits.
func (o *outbox) end() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	lost := o.frames
	o.open, o.kept, o.frames = false, nil, 0
	return lost
}

// commands says how many this connection was given.
func (o *outbox) commands() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

// write writes what waits until over is closed. It is called by one goroutine at a time.
func (o *outbox) write(w io.Writer, over <-chan struct{}) error {
	var batch []byte
	for {
		select {
		case <-over:
			return nil
		case <-o.filled:
		}
		if cap(batch) > keepBytes {
			batch = nil
		}
		batch = o.take(batch[:0])
		for rest := batch; len(rest) > 0; {
			n, err := w.Write(rest[:min(len(rest), writeBytes)])
			if err != nil {
				return err
			}
			rest = rest[n:]
			o.written(n)
		}
	}
}

// take exchanges what waits for an empty buffer.
func (o *outbox) take(empty []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch := o.kept
	o.kept, o.frames, o.pending = empty, 0, len(batch)
	return batch
}

func (o *outbox) written(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending -= n
}
