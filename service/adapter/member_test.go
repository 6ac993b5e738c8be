package adapter_test

import (
	"testing"
	"testing/synctest"
	"time"

	"foyer/service/adapter"
)

// TestMember: of one member it is known how it is.
func TestMember(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		a := c.nodes["AAAA"]
		want := func(state adapter.State) {
			t.Helper()
			if m, ok := a.Member("BBBB"); !ok || m.Node != "BBBB" || m.State != state {
				t.Errorf("%+v %v, want %v", m, ok, state)
			}
		}
		want(adapter.Up)
		c.faults.Part("AAAA", "BBBB")
		time.Sleep(3 * time.Second)
		want(adapter.Silent)
		time.Sleep(3 * time.Second)
		want(adapter.Lost)
		if m, ok := a.Member("DDDD"); ok {
			t.Errorf("one that there is not: %+v", m)
		}
		c.faults.Clear()
		c.settle()
		c.stop("BBBB")
		synctest.Wait() // its goodbye is heard
		if m, ok := a.Member("BBBB"); ok {
			t.Errorf("one that has gone: %+v", m)
		}
	})
}
