package adminui

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlowPage: an operator whose page takes nothing is closed, with a reason and a counter, and nobody else waits for
// that.
func TestSlowPage(t *testing.T) { synctest.Test(t, testSlowPage) }

func testSlowPage(t *testing.T) {
	h := lone(t)
	slow, other := h.enter(), h.enter()
	other.take(t)
	slow.hang()
	clients := h.crowd("/", "c", 100)
	time.Sleep(2 * tellEvery)
	began, stats := time.Now(), 0
	for n := 0; !slow.isClosed(); n++ {
		if time.Since(began) > time.Minute {
			t.Fatal("the page that takes nothing is still there")
		}
		for _, c := range clients {
			c.emit("typed", fmt.Sprintf("%4000d", n))
		}
		time.Sleep(time.Second)
		heard := 0
		for _, e := range other.take(t) {
			switch e.name {
			case "event_received":
				heard++
			case "server_stats":
				stats++
			}
		}
		if heard < 90 {
			t.Fatalf("the other page heard %d events in second %d", heard, n)
		}
	}
	if took := time.Since(began); stats < int(took/tellEvery)-1 {
		t.Errorf("the other page heard %d times of the node in %v", stats, took)
	}
	if h.count(ReasonSlow) != 1 {
		t.Errorf("%d pages were counted as slow", h.count(ReasonSlow))
	}
	synctest.Wait()
	if left := h.hall.Info().Sockets; left != 1 {
		t.Errorf("%d pages are left", left)
	}
	other.take(t)
	clients[0].emit("typed", "last")
	synctest.Wait()
	if list := other.take(t); len(list) != 1 || list[0].name != "event_received" {
		t.Errorf("the other page heard %s", names(list))
	}
}

// TestOutbox: lines come in their order and in batches; what may wait is bounded by its number and its bytes, and a
// line that is larger goes alone.
func TestOutbox(t *testing.T) {
	o := &outbox{some: make(chan struct{}, 1)}
	for i := range maxLines {
		if !o.put(line{"e", fmt.Sprint(i)}) {
			t.Fatalf("no room for line %d", i)
		}
	}
	n := 0
	for batch := o.take(); len(batch) > 0; batch = o.take() {
		if len(batch) > batchLines {
			t.Fatalf("a batch of %d lines", len(batch))
		}
		for _, l := range batch {
			if l.args != fmt.Sprint(n) {
				t.Fatalf("line %d is %v", n, l)
			}
			n++
		}
	}
	if n != maxLines || o.bytes != 0 {
		t.Errorf("%d lines came, and %d bytes are left", n, o.bytes)
	}
	large := line{"e", string(make([]byte, maxLineBytes))}
	if !o.put(large) || len(o.take()) != 1 {
		t.Error("a large line does not go alone")
	}
	for _, fill := range []func(){
		func() {
			for range maxLines {
				o.put(line{})
			}
		},
		func() { o.put(large) },
	} {
		o = &outbox{some: make(chan struct{}, 1)}
		fill()
		if o.put(line{"e", ""}) {
			t.Error("there is room for one more")
		}
		if !o.put(line{}) || len(o.take()) != 0 || o.bytes != 0 {
			t.Error("something is kept of what was too much, or it is said twice")
		}
	}
}

// TestCommandsOfOperators: what one operator has done waits for what she had done before, and not for others; what is
// given before a page leaves is done.
func TestCommandsOfOperators(t *testing.T) { synctest.Test(t, testCommandsOfOperators) }

func testCommandsOfOperators(t *testing.T) {
	h := lone(t)
	ann, bob := h.enter(), h.login("bob", "secret", "10.0.0.2")
	c := h.crowd("/", "c", 1)[0]
	synctest.Wait()
	bob.emit("join", "/", "bobs", c.id()) // who may only look
	ann.emit("join", "/", "anns", c.id())
	ann.emit("join", "/", "last", c.id())
	h.hall.End(ann.socket, 1, "")
	synctest.Wait()
	page, err := h.node.Socket(t.Context(), "/", c.socket.ID())
	if err != nil || fmt.Sprint(page.Rooms) != "[anns last]" {
		t.Errorf("the socket is in %v, %v", page.Rooms, err)
	}
}
