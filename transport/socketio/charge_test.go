package socketio

import "testing"

// CONNECT and DISCONNECT, which others hear of, cost ten times of what an event costs, whatever becomes of them.
func TestTurnsCostMore(t *testing.T) {
	_, l, s := joinedLink(t, Config{})
	for _, tc := range []struct {
		packet string
		cost   int
	}{{`2["x"]`, 0}, {`0/admin,`, turnCost}, {`2["x"]`, 0}, {`1`, turnCost}, {`0`, turnCost}} {
		before := s.charged
		l.Message([]byte(tc.packet), false)
		if got := s.charged - before; got != tc.cost {
			t.Errorf("%s is charged %d, want %d", tc.packet, got, tc.cost)
		}
	}
}
