package engineio

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inKernel runs a test with a session whose peer takes bytes when the test says so.
func inKernel(t *testing.T, cfg Config, limit int, run func(l *kernelLink)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l, end := openKernel(t, cfg, limit)
		defer end()
		l.r.session.Admit()
		run(l)
	})
}

// fill sends messages of so many bytes until one does not fit, and returns how many did.
func (l *kernelLink) fill(bytes int) int {
	m := NewMessage([]byte(strings.Repeat("x", bytes-1)), nil)
	synctest.Wait()
	for n := 0; ; n++ {
		switch out := l.r.session.Send(m, 0); out {
		case QueuedFlush:
			l.r.session.Flush()
			synctest.Wait()
		case Queued:
		case Full:
			return n
		default:
			l.Fatal(out)
		}
	}
}

// TestPingBehindMessages: a ping that waits behind what the client is still taking, in the queue or in the kernel, has
// its time from when the client last took something; one that takes nothing any more goes as ever.
func TestPingBehindMessages(t *testing.T) {
	for name, limit := range map[string]int{"in the queue": 32 << 10, "in the kernel": 2 << 20} {
		inKernel(t, Config{QueueBytes: 1 << 20}, limit, func(l *kernelLink) {
			for range 10 {
				l.r.session.Send(NewMessage([]byte(strings.Repeat("x", 90<<10)), nil), 0)
			}
			l.r.session.Flush()
			pings, seen := 0, 0
			for range 300 { // 1.2 MB take 300 s
				l.parse(l.kernel.take(4 << 10))
				for ; seen < len(l.got); seen++ {
					if l.got[seen] == "2" {
						pings++
						l.say("3")
					}
				}
				time.Sleep(time.Second)
			}
			if pings == 0 || len(l.got) != 10+pings {
				t.Fatalf("%s: %d messages arrived, %d pings", name, len(l.got), pings)
			}
			if l.r.session.isClosed() {
				t.Fatalf("%s: closed: %v", name, l.r.closed)
			}
			start := time.Now()
			<-l.r.done
			l.r.wantClosed(t, ReasonPingTimeout)
			if d := time.Since(start); d > 45*time.Second {
				t.Errorf("%s: closed after %v", name, d)
			}
		})
	}
}

// TestFrozenWithRoom: a client that takes nothing is not slow while there is room for what it is sent.
func TestFrozenWithRoom(t *testing.T) {
	inKernel(t, Config{}, 4<<10, func(l *kernelLink) {
		start := time.Now()
		l.r.session.Send(NewMessage([]byte(strings.Repeat("x", 100<<10)), nil), 0)
		l.r.session.Flush()
		<-l.r.done
		l.r.wantClosed(t, ReasonPingTimeout)
		if d := time.Since(start); d != 45*time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

// TestTakerIsNeverSlow: a client that takes a little at a time is kept, however much is sent and refused.
func TestTakerIsNeverSlow(t *testing.T) {
	for name, take := range map[string]func(l *kernelLink) []byte{
		"steadily": func(l *kernelLink) []byte { time.Sleep(time.Second); return l.kernel.take(3000) },
		"seldom":   func(l *kernelLink) []byte { time.Sleep(9 * time.Second); return l.kernel.take(27000) },
		// What it takes is less than what makes the kernel call for more, so that only the kernel knows of it.
		"a byte at a time": func(l *kernelLink) []byte { time.Sleep(9 * time.Second); return l.kernel.take(1) },
	} {
		inKernel(t, Config{QueueBytes: 256 << 10, PingInterval: 1000 * time.Hour}, 64<<10, func(l *kernelLink) {
			sent := l.fill(10 << 10)
			for range 500 {
				l.parse(take(l))
				sent += l.fill(10 << 10)
				if l.r.session.isClosed() {
					t.Fatalf("%s: closed: %v", name, l.r.closed)
				}
			}
			start := time.Now()
			<-l.r.done
			l.r.wantClosed(t, ReasonSlow)
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("%s: closed %v after it had stopped", name, d)
			}
			synctest.Wait()
			if got := l.srv.Stats()["unsent"]; got < uint64(sent-len(l.got)-8) || got > uint64(sent-len(l.got)) {
				t.Errorf("%s: %d messages counted that did not arrive, of %d sent and %d taken", name, got, sent, len(l.got))
			}
		})
	}
}

// TestRelayedMessages: they find room in eight queues, others do not while there are more than one. All arrive in
// order, and a client that takes nothing is closed as for one queue.
func TestRelayedMessages(t *testing.T) {
	inKernel(t, Config{QueueBytes: 64 << 10}, 4<<10, func(l *kernelLink) {
		s := l.r.session
		n := l.fill(1 << 10)
		for ; ; n++ {
			out := s.Send(NewMessage([]byte(fmt.Sprint(n, strings.Repeat("y", 1<<10))), nil), Relayed)
			if out == Full {
				break
			}
			if pending := s.pendingNow(); out != Queued || pending > relayedQueues*(64<<10)+2<<10 {
				t.Fatalf("%v with %d pending", out, pending)
			}
		}
		if s.pendingNow() < (relayedQueues-1)*(64<<10) {
			t.Errorf("full with %d pending", s.pendingNow())
		}
		if out := s.Send(NewMessage([]byte("x"), nil), 0); out != Full {
			t.Errorf("another one: %v", out)
		}
		for s.pendingNow() > 0 {
			l.parse(l.kernel.take(4 << 10))
			synctest.Wait()
		}
		l.parse(l.kernel.take(4 << 10))
		if len(l.got) != n {
			t.Errorf("%d messages arrived, want %d", len(l.got), n)
		}
	})
	inKernel(t, Config{QueueBytes: 64 << 10}, 4<<10, func(l *kernelLink) {
		l.fill(1 << 10)
		l.r.session.Send(NewMessage(make([]byte, 1<<10), nil), Relayed)
		<-l.r.done
		l.r.wantClosed(t, ReasonSlow)
	})
}

// TestOwedMessages: they go over the bound, and then the client is not read until it has taken half of what waits.
func TestOwedMessages(t *testing.T) {
	inKernel(t, Config{QueueBytes: 64 << 10}, 4<<10, func(l *kernelLink) {
		s := l.r.session
		n := l.fill(1 << 10)
		for i := range 50 {
			if out := s.Send(NewMessage([]byte(fmt.Sprint(i, strings.Repeat("y", 1<<10))), nil), Owed); out != Queued {
				t.Fatalf("owed message %d: %v", i, out)
			}
		}
		l.say("4unread")
		synctest.Wait()
		if got := l.r.got(); len(got) != 0 {
			t.Errorf("read meanwhile: %q", got)
		}
		for s.pendingNow() > 32<<10 {
			if len(l.r.got()) != 0 {
				t.Errorf("read with %d pending", s.pendingNow())
			}
			l.parse(l.kernel.take(1 << 10))
			synctest.Wait()
		}
		if got := l.r.got(); len(got) != 1 {
			t.Errorf("read: %q", got)
		}
		for s.pendingNow() > 0 {
			l.parse(l.kernel.take(4 << 10))
			synctest.Wait()
		}
		l.parse(l.kernel.take(4 << 10))
		if len(l.got) != n+50 {
			t.Errorf("%d messages arrived, want %d", len(l.got), n+50)
		}
	})
	inKernel(t, Config{QueueBytes: 64 << 10}, 4<<10, func(l *kernelLink) {
		l.fill(1 << 10)
		start := time.Now()
		l.r.session.Send(NewMessage(make([]byte, 1<<10), nil), Owed)
		<-l.r.done
		l.r.wantClosed(t, ReasonSlow)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("one that takes nothing of it is closed after %v", d)
		}
	})
}

// TestRoom: a caller that waits is told when there is room, and when there will be none.
func TestRoom(t *testing.T) {
	inKernel(t, Config{QueueBytes: 64 << 10}, 4<<10, func(l *kernelLink) {
		s := l.r.session
		ready := func(room <-chan struct{}) bool {
			synctest.Wait()
			select {
			case <-room:
				return true
			default:
				return false
			}
		}
		room, since := s.Room(100)
		if !ready(room) || !since.IsZero() {
			t.Error("an empty queue has no room")
		}
		l.fill(1 << 10)
		time.Sleep(time.Second)
		small, since := s.Room(100)
		large, _ := s.Room(60 << 10)
		if ready(small) || ready(large) || time.Since(since) != time.Second {
			t.Error("a full queue has room")
		}
		for s.pendingNow() > 64<<10-64<<10/8 {
			if ready(small) {
				t.Errorf("room with %d pending", s.pendingNow())
			}
			l.kernel.take(1 << 10)
			synctest.Wait()
		}
		if !ready(small) {
			t.Errorf("no room with %d pending", s.pendingNow())
		}
		if large, _ = s.Room(60 << 10); ready(large) {
			t.Error("room for much")
		}
		s.Close(ReasonForcedClose)
		if !ready(large) {
			t.Error("a session that closes keeps who waits")
		}
		if out := s.Send(NewMessage(nil, nil), 0); out != Closed {
			t.Error(out)
		}
	})
}

// TestBurstToAPoller: a poller gets what its queue holds, answer by answer, for longer than a ping may take; a poller
// that asks for nothing more of a full queue is closed.
func TestBurstToAPoller(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		q, r := h.openPolling()
		s := r.session
		s.Admit()
		const n = 20_000
		for i := range n {
			if out := s.Send(NewMessage([]byte(fmt.Sprintf("%010d", i)), nil), 0); out != Queued {
				t.Fatalf("message %d: %v", i, out)
			}
		}
		next := 0
		for next < n {
			time.Sleep(100 * time.Millisecond)
			for text := range strings.SplitSeq(h.do("GET", q, nil).body, string(rune(separator))) {
				switch want := fmt.Sprintf("4%010d", next); text {
				case "2": // behind all others
				case want:
					next++
				default:
					t.Fatalf("got %q, want %q", text, want)
				}
			}
		}
		synctest.Wait()
		if d := s.pendingNow(); d > 40 {
			t.Errorf("%d pending", d)
		}
		h.do("POST", q, strings.NewReader("3"))
		start := time.Now()
		for s.Send(NewMessage(make([]byte, 100<<10), nil), 0) == Queued {
		}
		<-r.done
		r.wantClosed(t, ReasonSlow)
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

// TestBudgetRefusal: what the node has no memory for is refused as by a full queue, and room is told when some has
// gone.
func TestBudgetRefusal(t *testing.T) {
	budget := &testBudget{limit: budgetStep}
	inKernel(t, Config{Budget: budget}, 4<<10, func(l *kernelLink) {
		s := l.r.session
		if n := l.fill(8 << 10); n < 9 || n > 10 { // 80 KiB, less what the kernel has
			t.Errorf("%d messages fit", n)
		}
		room, _ := s.Room(8 << 10)
		select {
		case <-room:
			t.Error("told at once")
		default:
		}
		l.kernel.take(9 << 10)
		synctest.Wait()
		l.kernel.take(9 << 10)
		<-room
		l.r.session.Close(ReasonSlow)
		<-l.r.done
	})
	if budget.used() != 0 {
		t.Errorf("%d still taken", budget.used())
	}
}
