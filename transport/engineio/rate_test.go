package engineio

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/time/rate"
)

// A link over its rate is read more slowly and closed for nothing; all that it sends arrives in order.
func TestLinkOverItsRateIsSlowed(t *testing.T) {
	for _, polling := range []bool{false, true} {
		inBubble(t, Config{MessageRate: 100, MessageBurst: 500, PingInterval: time.Hour}, func(h *harness) {
			const n = 2500
			packets, messages := numbered(n)
			start := time.Now()
			var r *recorder
			if polling {
				var q string
				q, r = h.openPolling()
				r.session.Admit()
				if res := h.do("POST", q, strings.NewReader(strings.Join(packets, "\x1e"))); res.body != "ok" {
					t.Errorf("%v", res)
				}
			} else {
				var p *peer
				p, r = h.openWebSocket()
				for _, m := range packets {
					p.write(m)
				}
			}
			synctest.Wait()
			for len(r.got()) < n && time.Since(start) < time.Minute {
				time.Sleep(10 * time.Millisecond)
			}
			if got, want := time.Since(start), 20*time.Second; got < want-time.Second || got > want+time.Second {
				t.Errorf("polling %v: took %v, want %v", polling, got, want)
			}
			if diff := cmp.Diff(r.got(), messages); diff != "" {
				t.Error(diff)
			}
			if h.srv.Stats()["link_slowed"] == 0 {
				t.Error("not counted")
			}
			if r.session.isClosed() {
				t.Error("closed")
			}
		})
	}
}

// The defaults let a burst of 3,000 in one tick pass without a pause.
func TestBurstIsNotSlowed(t *testing.T) {
	h := serveTCP(t, Config{})
	p, r := h.openWebSocket()
	packets, messages := numbered(3000)
	for _, m := range packets {
		p.write(m)
	}
	h.wantMessages(r, messages)
	if n := h.srv.Stats()["link_slowed"]; n != 0 {
		t.Errorf("slowed %d times", n)
	}
}

// The link's bucket allows what golang.org/x/time/rate does, up to what is bought ahead.
func TestBucketIsThatOfRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 6))
		cfg := Config{MessageRate: 1000, MessageBurst: 1000}.withDefaults()
		s := &Session{srv: &Server{cfg: cfg, epoch: time.Now()}, peer: &Peer{}, state: stateClosing}
		s.srv.tune(cfg)
		want := rate.NewLimiter(1000, 1000)
		slack := time.Duration(s.srv.tuned.prices.Load().atOnce) * time.Millisecond
		for range 10_000 {
			n := 1 + rng.IntN(20)
			s.Charge(n)
			delay := want.ReserveN(time.Now(), n).Delay()
			if got := max(s.fullAt-s.srv.now()-s.srv.tuned.prices.Load().burst, 0); got > delay+slack || got+slack < delay {
				t.Fatalf("waits for %v, want %v", got, delay)
			}
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
	})
}

// Each kind of thing that a client can ask for costs tokens, and waits for them once they are spent.
func TestEverythingIsCharged(t *testing.T) {
	ping := []byte{finBit | 0x9, 0x80, 0, 0, 0, 0}
	pong := []byte{finBit | opPong, 0x80, 0, 0, 0, 0}
	for name, tt := range map[string]struct {
		cost int
		do   func(h *harness, q string, p *peer, s *Session)
	}{
		"message":          {1, func(_ *harness, _ string, p *peer, _ *Session) { p.write("4a") }},
		"pong":             {1, func(_ *harness, _ string, p *peer, _ *Session) { p.write("3") }},
		"noop":             {1, func(_ *harness, _ string, p *peer, _ *Session) { p.write("6") }},
		"WebSocket ping":   {1, func(_ *harness, _ string, p *peer, _ *Session) { p.raw(ping) }},
		"WebSocket pong":   {1, func(_ *harness, _ string, p *peer, _ *Session) { p.raw(pong) }},
		"Charge":           {7, func(_ *harness, _ string, _ *peer, s *Session) { s.Charge(7) }},
		"POST":             {3, func(h *harness, q string, _ *peer, _ *Session) { h.do("POST", q, strings.NewReader("4a\x1e4b")) }},
		"GET":              {1, func(h *harness, q string, _ *peer, s *Session) { s.Send(pingMessage, 0); h.do("GET", q, nil) }},
		"probe":            {probeCost, func(h *harness, q string, _ *peer, _ *Session) { h.probe(q) }},
		"probe that fails": {probeCost, func(h *harness, q string, _ *peer, _ *Session) { h.probe(q).write("x") }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Config{MessageRate: 1, MessageBurst: 50}, func(h *harness) {
				var q string
				var p *peer
				switch name {
				case "POST", "GET", "probe", "probe that fails":
					q, _ = h.openPolling()
				default:
					p, _ = h.openWebSocket()
				}
				s := h.last().session
				spent := func() int {
					synctest.Wait()
					s.mu.Lock()
					defer s.mu.Unlock()
					return int((max(s.fullAt, s.srv.now()) - s.srv.now()) / time.Second) // bought one by one
				}
				tt.do(h, q, p, s)
				if got := spent(); got != tt.cost {
					t.Errorf("costs %d, want %d", got, tt.cost)
				}
			})
		})
	}
}

// GETs wait for the rate of their link too, but for no other pause; a second one meanwhile is still one too many.
func TestGetsWaitForTheRate(t *testing.T) {
	inBubble(t, Config{MessageRate: 1, MessageBurst: 5, PingInterval: time.Hour}, func(h *harness) {
		q, r := h.openPolling()
		s := r.session
		s.Charge(6 + 4)
		s.Send(NewMessage([]byte("a"), nil), 0)
		start := time.Now()
		if got := h.do("GET", q, nil).body; got != "4a" {
			t.Errorf("%q", got)
		}
		if got := elapsed(start); got != 6000 {
			t.Errorf("answered after %d ms", got)
		}
		time.Sleep(time.Minute)
		s.Pause()
		s.Send(NewMessage([]byte("b"), nil), 0)
		start = time.Now()
		if got := h.do("GET", q, nil).body; got != "4b" || elapsed(start) != 0 {
			t.Errorf("%q after %d ms", got, elapsed(start))
		}
		s.Resume()
		s.Charge(10)
		get := make(chan response, 1)
		go func() { get <- h.do("GET", q, nil) }()
		synctest.Wait()
		if res := h.do("GET", q, nil); res.status != 400 {
			t.Errorf("second GET: %v", res)
		}
		if res := <-get; res.status != 400 { // the session is gone
			t.Errorf("first GET: %v", res)
		}
		r.wantClosed(t, ReasonTransportError)
	})
}

// A client whose GET the server holds back for the rate is not slow, whether something did not fit before the GET came
// or meanwhile. It is once it does not ask.
func TestGetsThatWaitForTheRateAreNotSlow(t *testing.T) {
	for _, tc := range []struct {
		name string
		idle time.Duration // nothing is there to take
		run  func(fill func(), get func() response)
	}{
		{"full before", 0, func(fill func(), get func() response) {
			fill()
			time.Sleep(9 * time.Second)
			get()
		}},
		{"full meanwhile", time.Minute, func(fill func(), get func() response) {
			time.AfterFunc(time.Second, fill)
			get()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, Config{MessageRate: 1, MessageBurst: 5, PingInterval: time.Hour, QueueBytes: 1000}, func(h *harness) {
				q, r := h.openPolling()
				s := r.session
				s.Admit()
				time.Sleep(tc.idle)
				s.Charge(6 + 40)
				m := NewMessage(make([]byte, 500), nil)
				tc.run(func() {
					if a, b := s.Send(m, 0), s.Send(m, 0); a != Queued || b != Full {
						t.Errorf("%v, %v", a, b)
					}
				}, func() response {
					start := time.Now()
					res := h.do("GET", q, nil)
					if res.status != 200 || len(res.body) != 501 || time.Since(start) < 30*time.Second {
						t.Errorf("%d, %d bytes after %v", res.status, len(res.body), time.Since(start))
					}
					return res
				})
				synctest.Wait() // for the end of what served the GET
				if s.isClosed() {
					t.Error("closed")
					return
				}
				s.Send(m, 0)
				s.Send(m, 0)
				time.Sleep(11 * time.Second)
				r.wantClosed(t, ReasonSlow)
			})
		})
	}
}

// A probe waits for the rate; one more meanwhile is refused without a handshake.
func TestProbesWaitForTheRate(t *testing.T) {
	inBubble(t, Config{MessageRate: 1, MessageBurst: 20}, func(h *harness) {
		q, r := h.openPolling()
		r.session.Charge(20)
		start := time.Now()
		probe := make(chan *peer, 1)
		go func() { probe <- h.probe(q) }()
		synctest.Wait()
		if _, res, err := h.dialer.Dial("ws"+strings.TrimPrefix(h.url, "http")+"/socket.io/?"+strings.Replace(q, "polling", "websocket", 1), nil); err == nil || res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("second probe: %v", err)
		}
		p := <-probe
		if got := elapsed(start); got != 20_000 {
			t.Errorf("probe after %d ms", got)
		}
		p.write("2probe")
		p.want("3probe")
		p.write("5")
		synctest.Wait()
		if got := r.session.Transport(); got != "websocket" {
			t.Error(got)
		}
	})
}

// Links of one address share its bucket, and another address is not slowed by them.
func TestAddressOverItsRateIsSlowed(t *testing.T) {
	inBubble(t, Config{AddressMessageRate: 100, AddressMessageBurst: 500, PingInterval: time.Hour}, func(h *harness) {
		var rs []*recorder
		start := time.Now()
		packets, _ := numbered(500)
		var all sync.WaitGroup
		for range 5 {
			p, r := h.openWebSocket()
			rs = append(rs, r)
			all.Go(func() {
				for _, m := range packets {
					p.write(m)
				}
			})
		}
		all.Wait()
		if got, want := time.Since(start), 15*time.Second; got < want || got > want+10*time.Second {
			t.Errorf("2500 messages of 5 links took %v", got)
		}
		for _, r := range rs {
			if r.session.isClosed() {
				t.Error("closed")
			}
		}
	})
}

// Many links that come at once buy no more than they use.
func TestNewLinksBuyLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{}.withDefaults()
		srv := &Server{cfg: cfg, epoch: time.Now().Add(-time.Hour)}
		srv.tune(cfg)
		for _, used := range []int{1, 5, 30} {
			s := &Session{srv: srv, peer: &Peer{}, state: stateClosing}
			for range used {
				s.Charge(1)
			}
			if got := int(s.credit); got > used {
				t.Errorf("%d bought ahead by who used %d", got, used)
			}
		}
	})
}

// A slowed link is told in the log, once.
func TestSlowedLinkIsTold(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	inBubble(t, Config{MessageRate: 10, MessageBurst: 5, Logger: zap.New(core)}, func(h *harness) {
		p, _ := h.openWebSocket()
		for i := range 100 {
			p.write(fmt.Sprint("4", i))
		}
		time.Sleep(time.Second)
	})
	told := logs.FilterMessage("link slowed").All()
	if len(told) != 1 || told[0].ContextMap()["setting"] != "--message-rate=10" {
		t.Errorf("lines: %v", told)
	}
}

// deaf is a Receiver that does nothing.
type deaf struct{}

func (deaf) Message([]byte, bool)  {}
func (deaf) Closed(Reason, string) {}

// BenchmarkReceive is a message's way from its frame to the Receiver, its charge included.
func BenchmarkReceive(b *testing.B) {
	h := serveTCP(b, Config{MessageRate: -1})
	_, r := h.openWebSocket()
	s := r.session
	s.recvMu.Lock()
	s.recv = deaf{}
	s.recvMu.Unlock()
	data := []byte("4hello")
	b.ReportAllocs()
	for b.Loop() {
		s.receiveFrame(websocket.TextMessage, data)
	}
	s.recvMu.Lock()
	s.recv = r
	s.recvMu.Unlock()
}
