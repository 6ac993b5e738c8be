package service

import (
	"testing"
	"unsafe"
)

// TestIdleSocketIsSmall: what a socket that does nothing holds of its own. A crowd is many times this.
func TestIdleSocketIsSmall(t *testing.T) {
	for name, c := range map[string]struct{ size, budget uintptr }{
		"Socket":      {unsafe.Sizeof(Socket{}), 288},
		"assignment":  {unsafe.Sizeof(assignment{}), 16},
		"rosterEntry": {unsafe.Sizeof(rosterEntry[*Socket]{}), 16},
		"member":      {unsafe.Sizeof(member{}), 16},
		"roomPlace":   {unsafe.Sizeof(roomPlace{}), 16},
		// An entry of a log is counted as entryBytes: two places in the ring and a copy of what is known of its socket.
		"entry": {2*unsafe.Sizeof(change{}) + unsafe.Sizeof(SocketInfo{}), entryBytes},
	} {
		if c.size > c.budget {
			t.Errorf("%s has %d bytes, at most %d were meant", name, c.size, c.budget)
		}
	}
}
