package engineio

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

var noDeadline = time.Now().Add(24 * time.Hour)

func TestUpgrade(t *testing.T) {
	h := serveTCP(t, Config{})
	h.onMsg = echo
	q, r := h.openPolling()
	get := h.pending(q, r)
	p := h.probe(q)
	p.write("2probe")
	p.want("3probe")
	h.wantBody(get, "6")
	get = h.pending(q, r)
	h.wantBody(get, "6") // after noopInterval, not with the next ping
	r.session.Send(NewMessage([]byte("queued"), nil), 0)
	p.write("5")
	p.want("4queued")
	p.write("4hello")
	p.want("4hello")
	if got := r.session.Transport(); got != "websocket" {
		t.Errorf("%q", got)
	}
	for _, m := range []string{"GET", "POST"} {
		if res := h.do(m, q, strings.NewReader("4a")); res.status != 400 || res.body != `{"code":3,"message":"Bad request"}` {
			t.Errorf("%s after the upgrade: %v", m, res)
		}
	}
	h.probe(q).wantClose(1005)
	p.write("4still")
	p.want("4still")
}

func TestUpgradeRules(t *testing.T) {
	alive := func(h *harness, q string, r *recorder) {
		h.Helper()
		n := len(r.got())
		if res := h.do("POST", q, strings.NewReader("4x")); res.body != "ok" || len(r.got()) != n+1 {
			h.Errorf("polling does not go on: %v", res)
		}
	}
	for _, tt := range []struct {
		name string
		run  func(h *harness, q string, r *recorder)
	}{
		{"second probe is closed, the first goes on", func(h *harness, q string, r *recorder) {
			p := h.probe(q)
			p.write("2probe")
			p.want("3probe")
			h.probe(q).wantClose(1005)
			p.write("2probe")
			p.want("3probe")
			p.write("5")
			p.write("4a")
			eventually(h, "message", func() bool { return len(r.got()) == 1 })
		}},
		{"without 2probe", func(h *harness, q string, r *recorder) {
			p := h.probe(q)
			p.write("5")
			eventually(h, "upgrade", func() bool { return r.session.Transport() == "websocket" })
		}},
		{"anything else", func(h *harness, q string, r *recorder) {
			for _, bad := range []string{"4a", "2", "3probe", "", "2probe" + strings.Repeat("x", 1000)} {
				p := h.probe(q)
				p.write(bad)
				code := 1005
				if len(bad) > probeLimit {
					code = 1009
				}
				p.wantClose(code)
				alive(h, q, r)
			}
		}},
		{"binary", func(h *harness, q string, r *recorder) {
			p := h.probe(q)
			_ = p.conn.WriteMessage(websocket.BinaryMessage, []byte("5"))
			p.wantClose(1005)
			alive(h, q, r)
		}},
		{"peer closes the probe", func(h *harness, q string, r *recorder) {
			h.probe(q).conn.Close()
			eventually(h, "probe forgotten", func() bool { r.session.mu.Lock(); defer r.session.mu.Unlock(); return r.session.probe == nil })
			alive(h, q, r)
		}},
		{"session closes during the probe", func(h *harness, q string, r *recorder) {
			p := h.probe(q)
			p.write("2probe")
			p.want("3probe")
			h.do("POST", q, strings.NewReader("1"))
			p.wantClose(1005)
			r.wantClosed(h, ReasonTransportClose)
		}},
		{"data still goes to polling", func(h *harness, q string, r *recorder) {
			p := h.probe(q)
			p.write("2probe")
			p.want("3probe")
			eventually(h, "a GET with data", func() bool {
				r.session.Send(NewMessage([]byte("d"), nil), 0)
				return strings.HasPrefix(h.do("GET", q, nil).body, "4d")
			})
		}},
		{"GET pending when 5 arrives", func(h *harness, q string, r *recorder) {
			get := h.pending(q, r)
			h.probe(q).write("5")
			h.wantBody(get, "6")
		}},
		{"pings of the probe are answered", func(h *harness, q string, r *recorder) {
			p := h.probe(q)
			pongs := 0
			p.conn.SetPongHandler(func(string) error { pongs++; return nil })
			_ = p.conn.WriteControl(websocket.PingMessage, nil, noDeadline)
			p.write("2probe")
			p.want("3probe")
			if pongs != 1 {
				h.Errorf("%d pongs", pongs)
			}
			p.write("5")
			eventually(h, "upgrade", func() bool { return r.session.Transport() == "websocket" })
			if r.session.Send(NewMessage([]byte("x"), nil), 0) == QueuedFlush {
				r.session.Flush()
			}
			p.want("4x")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serveTCP(t, Config{})
			q, r := h.openPolling()
			tt.run(h, q, r)
		})
	}
}

// Messages flow both ways all through the upgrade, as a stock client does it: probe, stop polling, wait for the pending
// GET and POST, then the upgrade packet. All arrive, once, in order, and the last one too.
func TestUpgradeKeepsOrder(t *testing.T) {
	h := serveTCP(t, Config{PingInterval: time.Hour, PingTimeout: time.Hour}) // nothing may be released by a ping
	h.client.Transport.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	const rounds, workers = 120, 8
	var wg sync.WaitGroup
	turns := make(chan struct{}, workers)
	for i := range rounds {
		wg.Add(1)
		turns <- struct{}{}
		go func() {
			defer func() { <-turns; wg.Done() }()
			upgradeOnce(h, rand.New(rand.NewPCG(1, uint64(i))))
		}()
	}
	wg.Wait()
	if got := h.srv.Stats()["upgraded"]; got != rounds {
		t.Errorf("%d upgrades, want %d", got, rounds)
	}
}

// upgradeOnce uses Errorf only: it runs beside the test's goroutine.
func upgradeOnce(h *harness, rnd *rand.Rand) {
	const down, up = 60, 40
	res, err := h.try("GET", "EIO=4&transport=polling", nil)
	if err != nil {
		h.Error(err)
		return
	}
	o := parseOpen(h, res.body)
	q := "EIO=4&transport=polling&sid=" + o.SID
	s := h.srv.find(o.SID)
	r := s.recv.(*recorder)

	sent := make(chan struct{})
	pace := rnd.IntN(200)
	go func() { // the server's side: bursts, sometimes a pause
		defer close(sent)
		for i := range down {
			if s.Send(NewMessage([]byte(fmt.Sprint(i)), nil), 0) == QueuedFlush {
				s.Flush()
			}
			if i%7 == 0 {
				for range pace {
					_ = s.Transport()
				}
			}
		}
	}()

	var got []string // what the client received, in order
	take := func(body string) {
		for m := range strings.SplitSeq(body, "\x1e") {
			if m != "6" {
				got = append(got, m)
			}
		}
	}
	stop, polled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(polled)
		for {
			res, err := h.try("GET", q, nil)
			if err != nil || res.status != 200 {
				h.Errorf("poll: %v %v", res, err)
				return
			}
			take(res.body)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	posts := rnd.IntN(up)
	posted := make(chan struct{})
	go func() {
		defer close(posted)
		for i := range posts {
			if res, err := h.try("POST", q, strings.NewReader(fmt.Sprint("4", i))); err != nil || res.body != "ok" {
				h.Errorf("post: %v %v", res, err)
			}
		}
	}()

	c, _, err := h.dialer.Dial("ws"+strings.TrimPrefix(h.url, "http")+"/socket.io/?EIO=4&transport=websocket&sid="+o.SID, nil)
	if err != nil {
		h.Error(err)
		return
	}
	defer c.Close()
	p := &peer{h.TB, c}
	p.write("2probe")
	if _, b, err := c.ReadMessage(); err != nil || string(b) != "3probe" {
		h.Errorf("probe: %q %v", b, err)
		return
	}
	close(stop)
	<-polled
	<-posted
	p.write("5")
	for i := posts; i < up; i++ {
		p.write(fmt.Sprint("4", i))
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for len(got) < down {
		_, b, err := c.ReadMessage()
		if err != nil {
			h.Errorf("after %d messages: %v", len(got), err)
			return
		}
		got = append(got, string(b))
	}
	<-sent
	for i, m := range got {
		if m != fmt.Sprint("4", i) {
			h.Errorf("down %d: %q", i, m)
			return
		}
	}
	for deadline := time.Now().Add(20 * time.Second); len(r.got()) < up && time.Now().Before(deadline); {
		_ = s.Transport()
	}
	for i, m := range r.got() {
		if m != fmt.Sprint(i) {
			h.Errorf("up %d: %q", i, m)
			return
		}
	}
	if n := len(r.got()); n != up {
		h.Errorf("%d messages up, want %d", n, up)
	}
}

func TestThousandHalfOpenUpgrades(t *testing.T) {
	h := serveTCP(t, Config{UpgradeTimeout: time.Hour})
	const n = 1000
	peers := make([]*peer, n)
	queries := make([]string, n)
	for i := range n {
		queries[i], _ = h.openPolling()
		peers[i] = h.probe(queries[i])
		if i%2 == 0 {
			peers[i].write("2probe")
		}
	}
	for i := range n / 10 { // more of them bring nothing
		h.probe(queries[i]).wantClose(1005)
	}
	h.srv.Close() // waits for every goroutine; goleak looks again at the end
	for _, p := range peers[:10] {
		_ = p.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		for {
			if _, _, err := p.conn.ReadMessage(); err != nil {
				break
			}
		}
	}
}

// TestCloseMeetsUpgrade: a client that has heard `3probe` stops polling for good, so whatever ends its session then
// must reach it over the websocket, or it would wait for its own ping timeout.
func TestCloseMeetsUpgrade(t *testing.T) {
	for _, tt := range []struct {
		name   string
		queued bool
		reason Reason
	}{
		{"closed", false, ReasonForcedClose},
		{"closed with messages queued", true, ReasonForcedClose},
		{"ended by its client's mistake", false, ReasonParseError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := serveTCP(t, Config{})
			q, r := h.openPolling()
			p := h.probe(q)
			p.write("2probe")
			p.want("3probe")
			if tt.queued {
				r.session.Send(NewMessage([]byte("last words"), nil), 0)
			}
			if tt.reason == ReasonParseError {
				h.do("POST", q, strings.NewReader("no packet"))
			} else {
				r.session.Close(tt.reason)
			}
			p.write("5")
			if tt.queued {
				p.want("4last words")
			}
			p.wantClose(websocket.CloseNoStatusReceived)
			r.wantClosed(h, tt.reason)
		})
	}
}

// Upgraded hears how long an upgrade took, and nothing of one that ends while its session closes.
func TestUpgradesAreTimed(t *testing.T) {
	for _, closing := range []bool{false, true} {
		var took []time.Duration
		inBubble(t, Config{Upgraded: func(d time.Duration) { took = append(took, d) }}, func(h *harness) {
			q, r := h.openPolling()
			time.Sleep(5 * time.Second)
			p := h.probe(q)
			p.write("2probe")
			p.want("3probe")
			time.Sleep(3 * time.Second)
			if closing {
				r.session.Close(ReasonForcedClose)
			}
			p.write("5")
			synctest.Wait()
			if got := r.session.Transport(); got != "websocket" {
				t.Errorf("%q", got)
			}
		})
		want := []time.Duration{3 * time.Second}
		if closing {
			want = nil
		}
		if diff := cmp.Diff(took, want); diff != "" {
			t.Errorf("closing %v: %s", closing, diff)
		}
	}
}
