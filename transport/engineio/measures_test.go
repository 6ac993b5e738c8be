package engineio

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMeasure: packets and bytes are counted by the transport that carried them, and stay counted when a session goes.
func TestMeasure(t *testing.T) {
	var took []time.Duration
	var mu sync.Mutex
	h := serveTCP(t, Config{Upgraded: func(d time.Duration) {
		mu.Lock()
		took = append(took, d)
		mu.Unlock()
	}})
	h.onMsg = echo
	q, r := h.openPolling()
	r.session.Admit()
	h.do("POST", q, strings.NewReader("4hello\x1ebAAEC")) // 6 bytes and 3
	h.do("GET", q, nil)
	want := Measures{Sessions: [Transports]int{Polling: 1}, Opened: 1}
	want.In[Polling], want.Out[Polling] = Traffic{2, 9}, Traffic{2, 9}
	check := func(when string) {
		t.Helper()
		began := time.Now()
		eventually(t, when, func() bool { // a writer may not have returned
			got := h.srv.Measure()
			if diff := cmp.Diff(want, got); diff != "" && time.Since(began) > 15*time.Second {
				t.Fatalf("%s: %s", when, diff)
			}
			return got == want
		})
	}
	check("polling")

	p := h.probe(q)
	p.write("2probe")
	p.want("3probe")
	p.write("5")
	p.write("4" + strings.Repeat("x", 100_000))
	p.read()
	want.Sessions, want.Upgrades = [Transports]int{WebSocket: 1}, 1
	want.In[WebSocket], want.Out[WebSocket] = Traffic{1, 100_001}, Traffic{1, 100_001}
	check("after the upgrade, and a message that is too large for a tally")
	two := JoinMessages([]*Message{NewMessage([]byte("a"), nil), NewMessage([]byte("b"), [][]byte{{1, 2, 3}})})
	if r.session.Send(two, 0) == QueuedFlush {
		r.session.Flush()
	}
	want.Out[WebSocket] = Traffic{4, 100_008}
	check("joined messages")
	p.write("3") // a pong
	want.In[WebSocket] = Traffic{2, 100_002}
	check("a heartbeat")
	_ = p.conn.Close()
	want.Sessions = [Transports]int{}
	check("it has gone")
	mu.Lock()
	defer mu.Unlock()
	if len(took) != 1 || took[0] < 0 || took[0] > time.Minute {
		t.Errorf("upgrades took %v", took)
	}
}

// TestMeasureQueues: what waits in queues is told, and the worst of them.
func TestMeasureQueues(t *testing.T) {
	h := serveTCP(t, Config{})
	for _, bytes := range []int{10, 1000, 100} {
		_, r := h.openPolling()
		r.session.Admit()
		r.session.Send(NewMessage(make([]byte, bytes-1), nil), 0)
	}
	if m := h.srv.Measure(); m.QueuedBytes != 1110+3*itemOverhead || m.WorstQueue != 1000+itemOverhead {
		t.Errorf("%d bytes wait, %d of them in the fullest queue", m.QueuedBytes, m.WorstQueue)
	}
}

// TestMeasureOnlyGrows: while sessions come, talk and go, no count falls, and none is lost in the end.
func TestMeasureOnlyGrows(t *testing.T) {
	h := serveTCP(t, Config{})
	h.onMsg = echo
	const clients, rounds, messages = 4, 5, 10
	var busy sync.WaitGroup
	for range clients {
		busy.Go(func() {
			for range rounds {
				p, _ := h.openWebSocket()
				for range messages {
					p.write("4hello")
					p.want("4hello")
				}
				_ = p.conn.Close()
			}
		})
	}
	done := make(chan struct{})
	go func() { busy.Wait(); close(done) }()
	const all = clients * rounds * messages
	var last Measures
	eventually(t, "all is counted", func() bool {
		m := h.srv.Measure()
		if m.In[WebSocket].Packets < last.In[WebSocket].Packets || m.Out[WebSocket].Bytes < last.Out[WebSocket].Bytes {
			t.Fatalf("%+v after %+v", m, last)
		}
		last = m
		select {
		case <-done:
			return m.Out[WebSocket].Packets >= all
		default:
			return false
		}
	})
	if want := (Traffic{all, all * 6}); last.In[WebSocket] != want || last.Out[WebSocket] != want {
		t.Errorf("%+v, want %v each way", last, want)
	}
}
