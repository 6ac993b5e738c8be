package adaptertest

import (
	"testing"
	"time"

	"foyer/service"
	"foyer/service/adapter"
)

const firstFrames = 100 * time.Millisecond // how long one of them is waited for

// Hop measures the way of a frame of 100 bytes from one node to another and back, one in flight: two hops an operation.
// Both buses are those of a network that is whole. They are given to nobody else, and the caller closes them.
func Hop(b *testing.B, here, there adapter.Bus, hereName, thereName service.NodeID) {
	b.Helper()
	back := make(chan struct{}, 1)
	if err := there.Receive(func(frame []byte) { _ = there.Send(hereName, frame) }); err != nil {
		b.Fatal(err)
	}
	if err := here.Receive(func([]byte) {
		select {
		case back <- struct{}{}:
		default: // it is late, and was sent again
		}
	}); err != nil {
		b.Fatal(err)
	}
	frame := make([]byte, 100)
	for heard := false; !heard; { // the first frames can be lost
		_ = here.Send(thereName, frame)
		select {
		case <-back:
			heard = true
		case <-time.After(firstFrames):
		case <-b.Context().Done():
			b.Fatal("no frame comes back")
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := here.Send(thereName, frame); err != nil {
			b.Fatal(err)
		}
		<-back
	}
}
