package main

import (
	"testing"
	"time"
)

// TestTimeToStop: what deploy/ gives a node to stop, beyond the notice and the window of its drain, is what it may
// take. The package e2e/deploy has this number too.
func TestTimeToStop(t *testing.T) {
	if got, want := usualWaits.lastPoll+usualWaits.end, 7*time.Second; got != want {
		t.Errorf("a drain ends %v after its notice and its window; e2e/deploy has %v", got, want)
	}
}
