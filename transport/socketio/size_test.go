package socketio

import (
	"testing"
	"unsafe"
)

// TestIdleLinkIsSmall: what every session has of this package. A crowd is many times this.
func TestIdleLinkIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Link{}); size > 160 {
		t.Errorf("Link has %d bytes, at most 160 were meant", size)
	}
}
