package adaptertest

import (
	"errors"
	"testing"
	"time"

	"foyer/service"
	"foyer/service/adapter"
)

// Frozen sends to another node while the server of the buses is frozen, until all of them have found out. It returns
// when all are down. Send does not wait for the server: it refuses what finds no room while its bus is still up, which
// one that waits never comes to do. The first of the buses sends.
func Frozen(t *testing.T, to service.NodeID, buses ...adapter.Bus) {
	t.Helper()
	began, full := time.Now(), 0
	large := make([]byte, adapter.MinFrame)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for up := true; up; {
		if full > 0 { // before, no time is lost: the buses may be down soon
			<-tick.C
		}
		for range 8 {
			if errors.Is(buses[0].Send(to, large), adapter.ErrFull) {
				full++
			}
		}
		up = false
		for _, b := range buses {
			up = up || b.Up()
		}
		if time.Since(began) > patience {
			t.Fatal("a frozen server is not found out")
		}
	}
	t.Logf("down after %v; %d frames were refused for want of room, %d lost", time.Since(began), full, buses[0].Lost())
	if full == 0 {
		t.Error("no frame was refused for want of room")
	}
}
