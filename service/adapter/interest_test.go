package adapter

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"foyer/service"
)

// held is how many bytes the heap has.
func held() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// deaf is an Upper that takes all and keeps nothing.
type deaf struct{}

func (deaf) Room(Member, int) bool  { return true }
func (deaf) Began(Member)           {}
func (deaf) Heard(Member, *item)    {}
func (deaf) Ended(Member, End, int) {}
func (deaf) Risen(uint64)           {}
func (deaf) Changed(Member)         {}
func (deaf) Ready()                 {}
func (deaf) Refused(string)         {}

// tellMany has one of two nodes tell the other one of so many rooms, and returns the bytes of a room here and there.
func tellMany(tb testing.TB, rooms int) (here, there int64) {
	tb.Helper()
	begin := func(name service.NodeID) *Peers {
		p, err := New(Config{Self: service.Incarnation{Node: name, Run: 1}}, deaf{})
		if err != nil {
			tb.Fatal(err)
		}
		p.Start(0)
		return p
	}
	before := held()
	a := begin("AAAA")
	for i := range rooms {
		a.Edge(0, "/", fmt.Sprint("room", i), true)
		if i%tellRooms == 0 {
			a.Flush(0)
		}
	}
	a.Flush(0)
	a.Take()
	alone := held()
	b := begin("BBBB")
	for now := time.Duration(0); now < 5*time.Second; now += time.Millisecond {
		for _, o := range a.Take() {
			b.Receive(now, o.Frame)
		}
		for _, o := range b.Take() {
			a.Receive(now, o.Frame)
		}
		for _, p := range []*Peers{a, b} {
			if p.Due() <= now {
				p.Tick(now)
			}
		}
	}
	if m := b.member("AAAA"); m == nil || m.State != Up || len(m.rooms) != rooms {
		tb.Fatalf("of %d rooms not all are known: %+v", rooms, b.Members())
	}
	both := held()
	runtime.KeepAlive([]*Peers{a, b})
	return (alone - before) / int64(rooms), (both - alone) / int64(rooms)
}

// TestRoomBytes: a room costs little at its node and at each other one, beside what the room itself does.
func TestRoomBytes(t *testing.T) {
	for _, rooms := range []int{100_000, 250_000} { // a map has just grown, or is about to
		if here, there := tellMany(t, rooms); here > 120 || there > 120 {
			t.Errorf("%d rooms: %d bytes each here and %d there, at most 120", rooms, here, there)
		}
	}
}

// BenchmarkMillionRooms is the telling of 1,000,000 rooms, and what they cost.
func BenchmarkMillionRooms(b *testing.B) {
	for b.Loop() {
		here, there := tellMany(b, 1_000_000)
		b.ReportMetric(float64(here), "B/room-here")
		b.ReportMetric(float64(there), "B/room-there")
	}
}
