package adapter_test

import (
	"testing"
	"testing/synctest"
	"time"

	"foyer/service/adapter"
)

// TestMember: of one member it is known how it is and when it was last heard of.
func TestMember(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		a := c.nodes["AAAA"]
		heard := func(state adapter.State, least, most time.Duration) {
			t.Helper()
			m, at, ok := a.Member("BBBB")
			if ago := time.Since(at); !ok || m.Node != "BBBB" || m.State != state || ago < least || ago > most {
				t.Errorf("%+v %v, heard %v ago; want %v, %v to %v", m, ok, ago, state, least, most)
			}
		}
		heard(adapter.Up, 0, time.Second)
		c.faults.Part("AAAA", "BBBB")
		time.Sleep(3 * time.Second)
		heard(adapter.Silent, 2*time.Second, 4*time.Second)
		time.Sleep(3 * time.Second)
		heard(adapter.Lost, 5*time.Second, 7*time.Second)
		if m, _, ok := a.Member("DDDD"); ok {
			t.Errorf("one that there is not: %+v", m)
		}
		c.faults.Clear()
		c.settle()
		c.stop("BBBB")
		synctest.Wait() // its goodbye is heard
		if m, _, ok := a.Member("BBBB"); ok {
			t.Errorf("one that has gone: %+v", m)
		}
	})
}
