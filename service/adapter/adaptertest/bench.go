package adaptertest

import (
	"slices"
	"testing"
	"time"

	"foyer/service/adapter"
)

// Bench measures a bus between two nodes, AAAA and BBBB, with frames of 200 bytes: one frame after the other, there and
// back, and many at once, one way.
func Bench(b *testing.B, open func(b *testing.B) (one, other adapter.Bus)) {
	frame := make([]byte, 200)
	b.Run("Hop", func(b *testing.B) {
		one, other := open(b)
		back := make(chan struct{}, 1)
		begin(b, other, func(frame []byte) { _ = other.Send("AAAA", frame) })
		begin(b, one, func([]byte) { signal(back) })
		send := func() error { return one.Send("BBBB", frame) }
		meetAt(b, back, send)
		var hops []time.Duration
		for b.Loop() {
			began := time.Now()
			mustSend(b, send)
			<-back
			hops = append(hops, time.Since(began)/2)
		}
		slices.Sort(hops)
		b.ReportMetric(float64(hops[len(hops)/2]), "p50-ns/hop")
		b.ReportMetric(float64(hops[len(hops)*99/100]), "p99-ns/hop")
	})
	b.Run("Many", func(b *testing.B) {
		one, other := open(b)
		met, came := make(chan struct{}, 1), make(chan struct{}, burst)
		begin(b, other, func(frame []byte) {
			if frame[0] == 0 {
				signal(met)
			} else {
				came <- struct{}{}
			}
		})
		meetAt(b, met, func() error { return one.Send("BBBB", frame) })
		counted := append([]byte{1}, frame[1:]...)
		sent := 0
		b.ReportAllocs()
		for b.Loop() {
			if sent++; sent > burst {
				<-came
			}
			mustSend(b, func() error { return one.Send("BBBB", counted) })
		}
		for range min(sent, burst) {
			<-came
		}
	})
}

func begin(b *testing.B, bus adapter.Bus, each func(frame []byte)) {
	b.Helper()
	if err := bus.Receive(each); err != nil {
		b.Fatal(err)
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// meetAt sends until something comes, and waits until what was sent more than once has come too.
func meetAt(b *testing.B, came chan struct{}, send func() error) {
	b.Helper()
	for deadline := time.Now().Add(patience); ; {
		_ = send() // it may be down yet
		select {
		case <-came:
			for quiet := false; !quiet; {
				select {
				case <-came:
				case <-time.After(5 * again):
					quiet = true
				}
			}
			return
		case <-time.After(again):
			if time.Now().After(deadline) {
				b.Fatal("the nodes do not hear each other")
			}
		}
	}
}
