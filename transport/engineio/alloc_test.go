//go:build !race

// The race detector empties pools at random, so that it sees allocations which are not there.

package engineio

import (
	"strings"
	"testing"
)

// counting is a Receiver that only says that something came.
type counting chan struct{}

func (c counting) Message([]byte, bool) { c <- struct{}{} }
func (counting) Closed(Reason, string)  {}

// TestReadingAllocatesThePayload: a message costs its payload, and 8 bytes of gorilla's.
func TestReadingAllocatesThePayload(t *testing.T) {
	h := serveParking(t, Config{})
	got := make(counting, 1)
	h.srv.accept = func(*Session) Receiver { return got }
	c := h.rawWebSocket()
	defer c.Close()
	frame := clientFrame("4" + strings.Repeat("x", 100))
	if n := testing.AllocsPerRun(500, func() {
		_, _ = c.Write(frame)
		<-got
	}); n > 2 {
		t.Errorf("%v allocations per message", n)
	}
}
