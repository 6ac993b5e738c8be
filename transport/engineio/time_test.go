package engineio

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inBubble runs a test with a server over net.Pipe, in fake time.
func inBubble(t *testing.T, cfg Config, run func(h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h, end := servePipe(t, cfg)
		run(h)
		end()
	})
}

// elapsed returns the bubble's time since start, in ms.
func elapsed(start time.Time) int64 { return time.Since(start).Milliseconds() }

func TestHeartbeat(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		start := time.Now()
		p, r := h.openWebSocket()
		p.want("2")
		if got := elapsed(start); got != 25_000 {
			t.Errorf("first ping after %d ms", got)
		}
		time.Sleep(19 * time.Second)
		p.write("3")
		p.want("2") // the interval counts from the pong
		if got := elapsed(start); got != 69_000 {
			t.Errorf("second ping after %d ms", got)
		}
		p.wantClose(1005)
		if got := elapsed(start); got != 89_000 {
			t.Errorf("ping timeout after %d ms", got)
		}
		r.wantClosed(t, ReasonPingTimeout)
	})
}

func TestHeartbeatUnsolicitedPong(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		start := time.Now()
		p, _ := h.openWebSocket()
		time.Sleep(20 * time.Second)
		p.write("3")
		p.want("2")
		if got := elapsed(start); got != 45_000 {
			t.Errorf("ping after %d ms", got)
		}
	})
}

// The first packet while a pong is awaited moves the deadline, later ones do not.
func TestHeartbeatExtendedOnce(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		start := time.Now()
		p, r := h.openWebSocket()
		p.want("2")
		time.Sleep(10 * time.Second)
		p.write("4a")
		time.Sleep(5 * time.Second)
		p.write("4b")
		p.wantClose(1005)
		if got := elapsed(start); got != 55_000 {
			t.Errorf("ping timeout after %d ms", got)
		}
		r.wantClosed(t, ReasonPingTimeout)
	})
}

func TestHeartbeatOfAClientThatStoppedPolling(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		start := time.Now()
		q, r := h.openPolling()
		<-r.done
		if got := elapsed(start); got != 45_000 {
			t.Errorf("closed after %d ms", got)
		}
		r.wantClosed(t, ReasonPingTimeout)
		h.wantGone(q)
	})
}

func TestPollingHeartbeat(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		q, r := h.openPolling()
		for range 3 {
			if got := h.do("GET", q, nil).body; got != "2" {
				t.Errorf("%q", got)
			}
			h.do("POST", q, strings.NewReader("3"))
		}
		r.session.Close(ReasonForcedClose)
		start := time.Now()
		<-r.done // no GET comes
		if got := elapsed(start); got != 30_000 {
			t.Errorf("closed after %d ms", got)
		}
	})
}

// The pong may be lost with the old transport: the upgrade waits for it anew, and the session still times out.
func TestUpgradeRearmsThePong(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		start := time.Now()
		q, r := h.openPolling()
		if got := h.do("GET", q, nil).body; got != "2" {
			t.Errorf("%q", got)
		}
		time.Sleep(15 * time.Second)
		p := h.probe(q)
		p.write("2probe")
		p.want("3probe")
		p.write("5")
		p.wantClose(1005)
		if got := elapsed(start); got != 60_000 {
			t.Errorf("ping timeout after %d ms", got)
		}
		r.wantClosed(t, ReasonPingTimeout)
	})
}

func TestUpgradeTimeout(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		start := time.Now()
		q, r := h.openPolling()
		p := h.probe(q)
		p.write("2probe")
		p.want("3probe")
		p.wantClose(1005)
		if got := elapsed(start); got != 10_000 {
			t.Errorf("probe closed after %d ms", got)
		}
		if h.srv.Stats()["upgrade_timeout"] != 1 {
			t.Error("not counted")
		}
		p = h.probe(q) // a new attempt is allowed
		p.write("5")
		synctest.Wait()
		if got := r.session.Transport(); got != "websocket" {
			t.Errorf("%q", got)
		}
	})
}

// GETs during a probe end at once, then every 100 ms, and never otherwise.
func TestNoopRhythm(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		q, r := h.openPolling()
		p := h.probe(q)
		p.write("2probe")
		p.want("3probe")
		start := time.Now()
		for i, want := range []int64{0, 100, 200, 300} {
			if got := h.do("GET", q, nil).body; got != "6" {
				t.Errorf("%q", got)
			}
			if got := elapsed(start); got != want {
				t.Errorf("GET %d ended after %d ms, want %d", i, got, want)
			}
		}
		time.Sleep(time.Second)
		start = time.Now()
		if got := h.do("GET", q, nil).body; got != "6" || elapsed(start) != 0 {
			t.Errorf("%q after %d ms", got, elapsed(start))
		}
		r.session.Send(NewMessage([]byte("x"), nil), 0)
		if got := h.do("GET", q, nil).body; got != "4x" {
			t.Errorf("%q", got)
		}
	})
}

// fakeTry takes so many bytes in all, then refuses.
type fakeTry struct {
	conn net.Conn
	left int
}

func (f *fakeTry) tryWrite(p []byte) (int, error) {
	n := min(len(p), f.left)
	f.left -= n
	if n == 0 {
		return 0, nil
	}
	return f.conn.Write(p[:n])
}

func (*fakeTry) unsent() int { return -1 }

func (*fakeTry) close() {}

// What is refused goes to one writer goroutine, in order, at any byte; when the peer reads again all arrives.
func TestWriteHandOver(t *testing.T) {
	for _, taken := range []int{0, 1, 2, 3, 100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			h, end := servePipe(t, Config{})
			h.srv.newTryWriter = func(c net.Conn, _ *rawWriter) tryWriter { return &fakeTry{c, taken} }
			p := h.dial("EIO=4&transport=websocket")
			received := make(chan string, 100) // the fake blocks until its bytes are read
			go func() {
				defer close(received)
				for {
					_, b, err := p.conn.ReadMessage()
					if err != nil {
						return
					}
					received <- string(b)
				}
			}()
			<-received // open
			r := h.last()
			synctest.Wait()
			var want []string
			for i := range 20 {
				m := strings.Repeat("x", i*10)
				want = append(want, "4"+m)
				if r.session.Send(NewMessage([]byte(m), nil), 0) == QueuedFlush && i%3 == 0 {
					r.session.Flush()
				}
			}
			r.session.Flush()
			for _, w := range want {
				if got := <-received; got != w {
					t.Fatalf("%d bytes taken: got %q, want %q", taken, got, w)
				}
			}
			synctest.Wait()
			if r.session.token || r.session.pending != 0 {
				t.Errorf("token %v, pending %d", r.session.token, r.session.pending)
			}
			end()
			for range received {
			}
		})
	}
}

// A peer that reads nothing of a full queue is closed when its time is over; meanwhile volatile messages are dropped.
func TestSlow(t *testing.T) {
	inBubble(t, Config{QueueBytes: 3 * (itemOverhead + 2)}, func(h *harness) {
		try := &fakeTry{left: 1 << 20}
		h.srv.newTryWriter = func(c net.Conn, _ *rawWriter) tryWriter { try.conn = c; return try }
		_, r := h.openWebSocket()
		synctest.Wait() // the open packet's flush has returned
		try.left = 0
		start := time.Now()
		if got := r.session.Send(NewMessage([]byte("a"), nil), 0); got != QueuedFlush {
			t.Errorf("%v", got)
		}
		r.session.Flush()
		if got := r.session.Send(NewMessage([]byte("b"), nil), Volatile); got != DroppedVolatile {
			t.Errorf("%v", got)
		}
		if got := r.session.Send(NewMessage([]byte("c"), nil), 0); got != Queued {
			t.Errorf("%v", got)
		}
		r.session.Admit()
		for _, want := range []Outcome{Queued, Full, Full} {
			if got := r.session.Send(NewMessage([]byte("d"), nil), 0); got != want {
				t.Errorf("%v, want %v", got, want)
			}
			time.Sleep(3 * time.Second)
		}
		<-r.done
		if got := elapsed(start); got != 10_000 {
			t.Errorf("closed after %d ms", got)
		}
		r.wantClosed(t, ReasonSlow)
	})
}

func TestDrain(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		const n = 50
		closed := make(chan int64, n)
		start := time.Now()
		for range n {
			p, _ := h.openWebSocket()
			go func() { p.wantClose(1005); closed <- elapsed(start) }()
		}
		h.srv.Drain(context.Background(), 10*time.Second)
		if got := h.srv.Len(); got != 0 {
			t.Errorf("%d left", got)
		}
		early := 0
		for range n {
			if <-closed < 5_000 {
				early++
			}
		}
		if early < n/4 || early > 3*n/4 {
			t.Errorf("%d of %d closed in the first half", early, n)
		}
		q := "EIO=4&transport=polling"
		if res := h.do("GET", q, nil); res.status != 503 {
			t.Errorf("%v", res)
		}
	})
}

// Clients that have made a session and never asked again hold no drain up.
func TestDrainWaitsForNobodyWhoJoinedNothing(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		for range 20 {
			h.openPolling()
		}
		start := time.Now()
		h.srv.Drain(context.Background(), 2*time.Second)
		if got := elapsed(start); got > 2_000+noopInterval.Milliseconds() || h.srv.Len() != 0 {
			t.Errorf("after %d ms, %d left", got, h.srv.Len())
		}
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		_, r := h.openPolling() // never polls: its close waits for a GET
		r.session.Admit()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		h.srv.Drain(ctx, 0)
		if got := elapsed(start); got != 1000 || h.srv.Len() != 1 {
			t.Errorf("after %d ms, %d left", got, h.srv.Len())
		}
	})
}
