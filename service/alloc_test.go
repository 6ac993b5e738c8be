//go:build !race

// The race detector empties pools at random, so that it sees allocations which are not there.

package service

import "testing"

// TestDeliverAllocatesNothingPerRecipient: a broadcast costs the same objects whether one hears it or ten thousand.
func TestDeliverAllocatesNothingPerRecipient(t *testing.T) {
	var counts []float64
	for _, size := range []int{1, 100, 10_000} {
		n := newNode(t, Config{})
		crowd(t, n, size, func(i int) []string { return []string{"r", "half"}[:1+i%2] })
		for _, target := range []Target{{All: true}, {Rooms: []string{"r"}}, {Rooms: []string{"half", "r"}, ExceptRooms: []string{"x"}}} {
			target.Namespace = "/"
			e := Emit{Target: target, Packet: event("e")}
			allocs := testing.AllocsPerRun(20, func() { _, _ = n.Emit(t.Context(), e) })
			if allocs > 12 {
				t.Errorf("%d recipients of %+v: %v objects", size, target, allocs)
			}
			counts = append(counts, allocs)
		}
	}
	t.Log("objects per broadcast:", counts)
}
