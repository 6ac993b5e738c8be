package adapter_test

import (
	"testing"
	"time"

	"foyer/service"
	"foyer/service/adapter/membus"
)

// TestOnceAnEmitReachesAllDo: while a join is on its way, the first emit that reaches the socket in its room is
// followed by none that does not, wherever the two are made and however slow the way to one of the nodes is.
func TestOnceAnEmitReachesAllDo(t *testing.T) {
	for _, caller := range abc {
		t.Run("called at "+string(caller), func(t *testing.T) {
			bubble(t, abc, func(t *testing.T, c *cluster) {
				s, _ := c.connect("BBBB", "/")
				me := service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}
				for _, to := range []service.NodeID{"AAAA", "CCCC"} {
					c.faults.SetWay("BBBB", to, membus.Weather{Delay: 50 * time.Millisecond})
				}
				for round := range 20 {
					room := string(rune('a' + round))
					done := make(chan struct{})
					go func() {
						defer close(done)
						if n, coverage, err := c.nodes[caller].Join(t.Context(), me, []string{room}); n != 1 || err != nil || len(coverage.Unreachable) > 0 {
							t.Errorf("join: %d, %v, %v", n, coverage, err)
						}
					}()
					reached := 0
					for i, over := 0, false; !over; i++ {
						select {
						case <-done:
							over = true
						default:
						}
						at := []service.NodeID{"BBBB", "AAAA", "CCCC"}[i%3]
						n := c.emit(at, service.Target{Rooms: []string{room}}, `["x"]`).Enqueued
						if n < reached {
							t.Fatalf("round %d: emit %d, at %s, does not reach the socket, and one before it did", round, i, at)
						}
						reached = n
						time.Sleep(time.Millisecond)
					}
					if reached != 1 {
						t.Fatalf("round %d: the last emit does not reach the socket", round)
					}
				}
			})
		})
	}
}
