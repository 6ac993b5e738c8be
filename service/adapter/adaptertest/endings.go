package adaptertest

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"foyer/service/adapter"
)

// awaitUp waits until a bus says that it is up, or down.
func awaitUp(t *testing.T, bus adapter.Bus, up bool) {
	t.Helper()
	deadline := time.After(patience)
	for bus.Up() != up {
		select {
		case <-bus.Changed():
		case <-deadline:
			t.Fatalf("the bus does not say that up is %v", up)
		}
	}
}

func testUp(t *testing.T, c Cluster) {
	nodes := open(t, c, "AAAA", "BBBB")
	a, b := nodes[0], nodes[1]
	awaitUp(t, a.bus, true)
	if c.Break == nil {
		t.Skip("this bus cannot be taken away")
	}
	for round := range 3 {
		mend := c.Break(a.bus)
		awaitUp(t, a.bus, false)
		for _, err := range []error{a.bus.Send("BBBB", []byte("into the void")), a.bus.SendAll([]byte("into the void"))} {
			if !errors.Is(err, adapter.ErrDown) {
				t.Errorf("round %d: a bus that is down answers %v, want ErrDown", round, err)
			}
		}
		mend()
		awaitUp(t, a.bus, true)
		a.forget()
		b.forget()
		meet(t, a, b)
	}
	wantCounts(t, c, []byte("into the void"), map[*node]bool{b: false})
}

// A node that goes and comes again under its name hears and is heard.
func testRestart(t *testing.T, c Cluster) {
	nodes := open(t, c, "AAAA", "BBBB")
	a, b := nodes[0], nodes[1]
	for range 3 {
		if err := b.bus.Close(); err != nil {
			t.Fatal(err)
		}
		_ = a.bus.Send("BBBB", []byte("to one that is gone")) // nobody is told
		b = openOne(t, c, "BBBB", nil)
		a.forget()
		meet(t, a, b)
	}
}

func testClose(t *testing.T, c Cluster) {
	other := openOne(t, c, "BBBB", nil)
	var over atomic.Bool
	bus := c.Open("AAAA")
	if err := bus.Receive(func([]byte) {
		if over.Load() {
			t.Error("a frame comes after Close")
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := bus.Receive(func([]byte) {}); err == nil {
		t.Error("a second receiver is taken")
	}
	a := &node{tb: t, name: "AAAA", bus: bus}
	flood(t, a, other)
	flood(t, other, a)
	drain(bus.Changed())
	if err := bus.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	over.Store(true)
	flood(t, other, a)

	wantClosed(t, bus)
	select {
	case <-bus.Changed():
	default:
		t.Error("Changed has no value after Close")
	}
	if err := bus.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

// A closed bus leaves nothing, whatever it did before.
func testNothingLeft(t *testing.T, c Cluster) {
	lone := c.Lone
	if lone == nil {
		lone = c.Open
	}
	before := held()
	idle := lone("AAAA")
	if err := idle.Close(); err != nil {
		t.Errorf("Close of a bus that does nothing: %v", err)
	}
	for range 3 {
		bus := lone("AAAA")
		if err := bus.Receive(func([]byte) {}); err != nil {
			t.Fatal(err)
		}
		a := &node{tb: t, name: "AAAA", bus: bus}
		flood(t, a, a)
		if err := bus.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	before.wantBack(t)
}

// flood sends a burst at once, whether they are taken or not.
func flood(t *testing.T, from, to *node) {
	t.Helper()
	for i := range burst {
		if err := from.bus.Send(to.name, numbered(0, i)); err != nil && !errors.Is(err, adapter.ErrFull) && !errors.Is(err, adapter.ErrDown) {
			t.Errorf("Send: %v", err)
		}
	}
}

func wantClosed(t *testing.T, bus adapter.Bus) {
	t.Helper()
	if bus.Up() {
		t.Error("a closed bus is up")
	}
	for what, err := range map[string]error{
		"Send": bus.Send("BBBB", []byte("late")), "SendAll": bus.SendAll([]byte("late")), "Receive": bus.Receive(func([]byte) {}),
	} {
		if !errors.Is(err, adapter.ErrClosed) {
			t.Errorf("%s of a closed bus: got %v, want ErrClosed", what, err)
		}
	}
}

func testCloseAmidSenders(t *testing.T, c Cluster) {
	other := openOne(t, c, "BBBB", nil)
	for range 3 {
		bus := c.Open("AAAA")
		if err := bus.Receive(func([]byte) {}); err != nil {
			t.Fatal(err)
		}
		var sending sync.WaitGroup
		begun := make(chan struct{}, 4)
		for range 4 {
			sending.Go(func() {
				for i := 0; ; i++ {
					if i == 10 {
						begun <- struct{}{}
					}
					if err := bus.Send(other.name, numbered(0, i)); errors.Is(err, adapter.ErrClosed) {
						return
					}
					_ = other.bus.Send("AAAA", numbered(0, i))
				}
			})
		}
		for range 4 {
			<-begun
		}
		var closing sync.WaitGroup
		for range 2 {
			closing.Go(func() {
				if err := bus.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
		closing.Wait()
		sending.Wait()
		wantClosed(t, bus)
	}
}

func drain(ch <-chan struct{}) {
	select {
	case <-ch:
	default:
	}
}

// holdings are what a process holds that a bus can leave behind.
type holdings struct{ goroutines, descriptors int }

func held() holdings {
	list, _ := os.ReadDir("/proc/self/fd") // elsewhere than on Linux they are not counted
	return holdings{runtime.NumGoroutine(), len(list)}
}

// wantBack waits until no more is held than before: what others do for a closed bus ends a little later.
func (h holdings) wantBack(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(again) {
		now := held()
		if now.goroutines <= h.goroutines && now.descriptors <= h.descriptors {
			return
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("held before %+v, after %+v:\n%s", h, now, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
