package lives

import (
	"context"
	"sync/atomic"
)

const (
	// inFrames and inBytes may wait for the receiver; more are lost.
	inFrames = 8192
	inBytes  = 64 << 20
)

// Inbox is where what comes waits for the receiver.
type Inbox struct {
	frames    chan []byte
	waiting   atomic.Int64 // bytes
	receiving atomic.Bool
	closed    atomic.Bool // the bus is
	lost      atomic.Uint64
}

// Wants says whether a frame of this size is to be read, and counts one that is lost.
func (in *Inbox) Wants(size int) bool {
	switch {
	case size == 0 || !in.receiving.Load():
		return false
	case size > MaxFrame, len(in.frames) == cap(in.frames), in.waiting.Load()+int64(size) > inBytes:
		in.lost.Add(1)
		return false
	}
	return true
}

// Put hands a frame to the receiver, whose it is from then on. Wants has found room for it, and between the two calls
// nobody else puts: the life's one goroutine that hears does.
func (in *Inbox) Put(frame []byte) {
	in.waiting.Add(int64(len(frame)))
	in.frames <- frame
}

// Lose counts frames that are lost.
func (in *Inbox) Lose(frames int) { in.lost.Add(uint64(frames)) }

// Lost is how many frames are lost.
func (in *Inbox) Lost() uint64 { return in.lost.Load() }

func (in *Inbox) deliver(ctx context.Context, each func(frame []byte)) {
	for {
		select {
		case <-ctx.Done():
			return
		case frame := <-in.frames:
			in.waiting.Add(-int64(len(frame)))
			if !in.closed.Load() {
				each(frame)
			}
		}
	}
}
