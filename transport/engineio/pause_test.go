package engineio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// isHeld says whether the session is parked with its reading off.
func isHeld(r *recorder) bool { return r.session.ws.state.Load() == held }

// numbered are n messages as a client sends them.
func numbered(n int) (packets, messages []string) {
	for i := range n {
		messages = append(messages, fmt.Sprint("m", i))
		packets = append(packets, "4m"+fmt.Sprint(i))
	}
	return packets, messages
}

func (h *harness) wantMessages(r *recorder, want []string) {
	h.Helper()
	eventually(h, "all messages", func() bool { return len(r.got()) >= len(want) })
	if diff := cmp.Diff(r.got(), want); diff != "" {
		h.Error(diff)
	}
}

// Each way to read a session: parked, by a goroutine of its own, over TLS, by POSTs.
func eachReading(t *testing.T, run func(t *testing.T, h *harness, open func() (send func(packets ...string), r *recorder))) {
	for _, tt := range []struct {
		name    string
		serve   func(t *testing.T) *harness
		polling bool
	}{
		{"parked", func(t *testing.T) *harness { return serveTCP(t, Config{}) }, false},
		{"goroutine", func(t *testing.T) *harness {
			h := serveTCP(t, Config{})
			h.srv.newPoller = func() (poller, error) { return nil, errors.ErrUnsupported }
			return h
		}, false},
		{"deflate", func(t *testing.T) *harness {
			h := serveTCP(t, Config{Compression: true})
			h.dialer.EnableCompression = true
			return h
		}, false},
		{"TLS", serveTLS, false},
		{"polling", func(t *testing.T) *harness { return serveTCP(t, Config{}) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := tt.serve(t)
			run(t, h, func() (func(...string), *recorder) {
				if tt.polling {
					q, r := h.openPolling()
					r.session.Admit()
					return func(packets ...string) {
						go func() { _, _ = h.try("POST", q, strings.NewReader(strings.Join(packets, "\x1e"))) }()
					}, r
				}
				p, r := h.openWebSocket()
				r.session.Admit()
				go func() { // answers the close
					for {
						if _, _, err := p.conn.ReadMessage(); err != nil {
							_ = p.conn.Close()
							return
						}
					}
				}()
				return func(packets ...string) {
					go func() {
						for _, m := range packets {
							if p.conn.WriteMessage(websocket.TextMessage, []byte(m)) != nil {
								return
							}
						}
					}()
				}, r
			})
		})
	}
}

// serveTLS serves over TLS, where nothing can be parked.
func serveTLS(t *testing.T) *harness {
	t.Helper()
	h := newHarness(t, Config{})
	ts := httptest.NewTLSServer(h.srv)
	h.url = ts.URL
	h.client = ts.Client()
	h.dialer = &websocket.Dialer{TLSClientConfig: h.client.Transport.(*http.Transport).TLSClientConfig.Clone()}
	h.dialer.TLSClientConfig.NextProtos = nil
	t.Cleanup(func() {
		h.srv.Close()
		h.client.CloseIdleConnections()
		ts.Close()
	})
	return h
}

// A session that is paused after each of its messages is read one message at a time: nothing comes meanwhile, all of it
// comes in the end, once and in order.
func TestPauseStopsAfterTheMessageInHand(t *testing.T) {
	eachReading(t, func(t *testing.T, h *harness, open func() (func(...string), *recorder)) {
		h.onMsg = func(s *Session, _ []byte, _ bool) { s.Pause() }
		send, r := open()
		packets, messages := numbered(500)
		send(packets...)
		for i := range messages {
			eventually(t, "next message", func() bool { return len(r.got()) > i })
			if got := len(r.got()); got != i+1 {
				t.Fatalf("%d messages after %d resumes", got, i)
			}
			r.session.Resume()
		}
		h.wantMessages(r, messages)
	})
}

// As many Resumes as Pauses are needed, whichever caller makes them.
func TestPausesNest(t *testing.T) {
	eachReading(t, func(t *testing.T, h *harness, open func() (func(...string), *recorder)) {
		h.onMsg = func(s *Session, data []byte, _ bool) {
			if string(data) == "m0" {
				s.Pause()
				s.Pause()
			}
		}
		send, r := open()
		packets, messages := numbered(3)
		send(packets...)
		eventually(t, "first message", func() bool { return len(r.got()) == 1 })
		r.session.Pause()
		r.session.Resume()
		r.session.Resume()
		if !r.session.paused.Load() || len(r.got()) != 1 {
			t.Errorf("not paused: got %q", r.got())
		}
		r.session.Resume()
		h.wantMessages(r, messages)
	})
}

// Pauses and resumes race with the reading and with each other: at the end all has come, once and in order.
func TestPausesRace(t *testing.T) {
	eachReading(t, func(t *testing.T, h *harness, open func() (func(...string), *recorder)) {
		var wg sync.WaitGroup
		h.onMsg = func(s *Session, data []byte, _ bool) {
			if len(data)%3 == 0 {
				s.Pause()
				wg.Go(s.Resume)
			}
		}
		for range 4 {
			send, r := open()
			packets, messages := numbered(1500)
			var racers sync.WaitGroup
			for range 3 {
				racers.Go(func() {
					for range 2000 {
						r.session.Pause()
						runtime.Gosched()
						r.session.Resume()
					}
				})
			}
			send(packets...)
			racers.Wait()
			h.wantMessages(r, messages)
			wg.Wait()
			if r.session.pauses != 0 || r.session.paused.Load() {
				t.Errorf("%d pauses left", r.session.pauses)
			}
		}
	})
}

// Each way to end a paused session leaves nothing of it, and tells its Receiver once; what was not read is not
// delivered.
func TestPausedSessionEnds(t *testing.T) {
	for name, end := range map[string]func(h *harness, s *Session){
		"Close":       func(_ *harness, s *Session) { s.Close(ReasonForcedClose) },
		"slow":        func(_ *harness, s *Session) { s.Close(ReasonSlow) },
		"killed":      func(_ *harness, s *Session) { s.kill() },
		"server":      func(h *harness, _ *Session) { h.srv.Close() },
		"write fails": func(_ *harness, s *Session) { s.mu.Lock(); s.failLocked(endLost); s.mu.Unlock() },
	} {
		t.Run(name, func(t *testing.T) {
			eachReading(t, func(t *testing.T, h *harness, open func() (func(...string), *recorder)) {
				h.onMsg = func(s *Session, _ []byte, _ bool) { s.Pause() }
				send, r := open()
				packets, messages := numbered(100)
				send(packets...)
				eventually(t, "first message", func() bool { return len(r.got()) == 1 })
				go end(h, r.session)
				if name == "Close" && r.session.ws == nil { // wants a GET to travel with
					q := "EIO=4&transport=polling&sid=" + r.session.sid()
					_, _ = h.try("GET", q, nil)
				}
				<-r.done
				eventually(t, "gone", func() bool { return h.srv.Len() == 0 })
				r.session.Resume()
				r.session.Pause()
				if diff := cmp.Diff(r.got(), messages[:1]); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// Paused sessions whose clients have more to say hold no goroutine, little memory, and wake nobody while it comes in.
func TestPausedSessionsAreParked(t *testing.T) {
	const n, budget = 300, 8 << 10 // bytes each: those of an idle one, and a reader with a full buffer; measured: 5 KiB
	h := serveParking(t, Config{})
	h.onMsg = func(s *Session, _ []byte, _ bool) { s.Pause() }
	first := h.rawWebSocket() // starts the workers
	defer first.Close()
	retained := func() int64 {
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	before, goroutines := retained(), runtime.NumGoroutine()
	frame := clientFrame("4" + strings.Repeat("x", 93))
	conns := make([]net.Conn, 0, n)
	for range n {
		c := h.rawWebSocket()
		conns = append(conns, c)
		for range 60 { // more than a reader's buffer
			_, _ = c.Write(frame)
		}
	}
	h.mu.Lock()
	all := h.all[1:]
	h.mu.Unlock()
	for _, r := range all {
		eventually(t, "held", func() bool { return isHeld(r) && len(r.got()) == 1 })
	}
	if each := (retained() - before) / n; each > budget {
		t.Errorf("a paused session keeps %d bytes, at most %d were meant", each, budget)
	} else {
		t.Logf("%d bytes per paused session", each)
	}
	for i, c := range conns {
		_, _ = c.Write(frame)
		if !isHeld(all[i]) {
			t.Error("woken by what came in")
		}
	}
	if more := runtime.NumGoroutine() - goroutines; more > n/10 {
		t.Errorf("%d goroutines for %d paused sessions", more, n)
	}
	h.onMsg = nil
	for _, r := range all {
		r.onMsg = nil // nobody reads it while the session is held
		r.session.Resume()
	}
	for _, r := range all {
		eventually(t, "the rest", func() bool { return len(r.got()) == 61 })
		eventually(t, "parked", func() bool { return isParked(r) })
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

// sayLater returns what sends packets in their order, when the other end of a pipe reads them.
func (p *peer) sayLater() (say chan<- string, end func()) {
	c := make(chan string, 100)
	go func() {
		for packet := range c {
			if p.conn.WriteMessage(websocket.TextMessage, []byte(packet)) != nil {
				return
			}
		}
	}()
	return c, func() { close(c) }
}

// The pings of a paused session go on by the clock, no pong is missed, and after the pause there is all the time for
// one.
func TestPausedHeartbeat(t *testing.T) {
	for _, awaited := range []bool{false, true} {
		inBubble(t, Config{}, func(h *harness) {
			start := time.Now()
			p, r := h.openWebSocket()
			say, end := p.sayLater()
			defer end()
			if awaited {
				p.want("2")
				start = time.Now()
				time.Sleep(19 * time.Second)
			}
			r.session.Pause()
			for range 20 {
				p.want("2")
				if time.Since(start) > 45*time.Second { // the client's patience
					t.Errorf("no ping for %v", time.Since(start))
				}
				start = time.Now()
				say <- "3"
			}
			r.session.Resume()
			synctest.Wait()
			start = time.Now()
			p.want("2")
			if got := elapsed(start); got != 25_000 {
				t.Errorf("ping after %d ms: the pongs count from the end of the pause", got)
			}
			r.session.Pause()
			p.want("2")
			r.session.Resume()
			start = time.Now()
			p.wantClose(1005)
			if got := elapsed(start); got != 20_000 {
				t.Errorf("ping timeout %d ms after the pause", got)
			}
			r.wantClosed(t, ReasonPingTimeout)
		})
	}
}

// A paused client of version 3 hears something within PingTimeout of its ping, which lies unread.
func TestPausedHeartbeatOfVersion3(t *testing.T) {
	inBubble(t, Config{AllowEIO3: true}, func(h *harness) {
		p := h.dial("EIO=3&transport=websocket")
		parseOpen(t, p.read())
		r := h.last()
		say, end := p.sayLater()
		defer end()
		time.Sleep(24 * time.Second)
		r.session.Pause()
		for range 5 {
			time.Sleep(time.Second)
			pinged := time.Now()
			say <- "2"
			p.want("3")
			if got := time.Since(pinged); got > 20*time.Second {
				t.Errorf("answer after %v", got)
			}
		}
		time.Sleep(5 * time.Second)
		r.session.Resume()
		synctest.Wait()
		r.session.mu.Lock()
		if want := r.session.srv.now() + 45*time.Second; r.session.pongAt != want || r.session.pingAt != 0 {
			t.Errorf("next ping is awaited until %v, want %v", r.session.pongAt, want)
		}
		r.session.mu.Unlock()
		r.session.Close(ReasonForcedClose)
		p.wantClose(1005)
	})
}

// A client that has itself paused again and again has no more time for a pong, or for an upgrade, than any other: the
// pauses do not count, and nothing begins anew after them.
func TestPausesDoNotRenewDeadlines(t *testing.T) {
	const each, between = 500 * time.Millisecond, 4500 * time.Millisecond // pauses, and what is read
	for _, tc := range []struct {
		name   string
		cfg    Config
		open   func(h *harness) *recorder
		ends   func(h *harness, r *recorder) bool
		unread time.Duration // without the pauses
	}{
		{"pong", Config{}, func(h *harness) *recorder { _, r := h.openReading("EIO=4&transport=websocket"); return r }, closed, 45 * time.Second},
		{"pong, with messages", Config{}, func(h *harness) *recorder {
			p, r := h.openReading("EIO=4&transport=websocket")
			go func() {
				for p.conn.WriteMessage(websocket.TextMessage, []byte("4x")) == nil {
					time.Sleep(500 * time.Millisecond)
				}
			}()
			return r
		}, closed, 45 * time.Second},
		{"ping of version 3", Config{AllowEIO3: true}, func(h *harness) *recorder {
			_, r := h.openReading("EIO=3&transport=websocket")
			return r
		}, closed, 45 * time.Second},
		{"upgrade", Config{PingInterval: time.Hour}, func(h *harness) *recorder {
			q, r := h.openPolling()
			h.probe(q)
			return r
		}, func(h *harness, _ *recorder) bool { return h.srv.Stats()["upgrade_timeout"] == 1 }, 10 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, tc.cfg, func(h *harness) {
				r := tc.open(h)
				r.session.Admit()
				start := time.Now()
				time.Sleep(time.Second) // no pause begins or ends when something is due
				var paused time.Duration
				for !tc.ends(h, r) && time.Since(start) < 5*time.Minute {
					r.session.Pause()
					time.Sleep(each)
					r.session.Resume()
					paused += each
					for end := time.Now().Add(between); time.Now().Before(end) && !tc.ends(h, r); {
						time.Sleep(100 * time.Millisecond)
					}
				}
				// Pings go on during a pause, so what is awaited may be so for a pause less.
				if got := time.Since(start) - paused; got < tc.unread-10*each || got > tc.unread+each {
					t.Errorf("ends after %v without the pauses, want about %v", got, tc.unread)
				}
				r.session.Close(ReasonForcedClose)
				time.Sleep(2 * time.Second) // the clients hear of it
			})
		})
	}
}

func closed(_ *harness, r *recorder) bool { return r.session.isClosed() }

// openReading makes a websocket session whose client reads and says nothing.
func (h *harness) openReading(query string) (*peer, *recorder) {
	h.Helper()
	p := h.dial(query)
	parseOpen(h, p.read())
	go func() {
		for {
			if _, _, err := p.conn.ReadMessage(); err != nil {
				_ = p.conn.Close()
				return
			}
		}
	}()
	return p, h.last()
}

// A POST is answered when all of it was taken, whatever GETs and closes there are meanwhile.
func TestPausedPost(t *testing.T) {
	post := func(h *harness, ctx context.Context, q string, body string) <-chan response {
		c := make(chan response, 1)
		go func() {
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, h.url+"/socket.io/?"+q, strings.NewReader(body))
			res, err := h.client.Do(req)
			if err != nil {
				c <- response{body: err.Error()}
				return
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			c <- response{res.StatusCode, res.Header, string(b)}
		}()
		return c
	}
	for _, tt := range []struct {
		name string
		do   func(h *harness, q string, r *recorder, leave func())
		want string // of the POST
		got  []string
		end  Reason
	}{
		{"resumed, with GETs meanwhile", func(h *harness, q string, r *recorder, _ func()) {
			r.session.Send(NewMessage([]byte("to the client"), nil), 0)
			if got := h.do("GET", q, nil).body; got != "4to the client" {
				h.Errorf("GET: %q", got)
			}
			time.Sleep(time.Minute)
			if got := h.do("GET", q, nil).body; got != "2\x1e2" {
				h.Errorf("GET: %q", got)
			}
			r.session.Resume()
		}, "ok", []string{"m0", "m1", "m2"}, ""},
		{"closed", func(h *harness, q string, r *recorder, _ func()) {
			r.session.Close(ReasonForcedClose)
			if got := h.do("GET", q, nil).body; got != "6\x1e1" && got != "1" {
				h.Errorf("GET: %q", got)
			}
		}, "ok", []string{"m0"}, ReasonForcedClose},
		{"second POST", func(h *harness, q string, _ *recorder, _ func()) {
			if res := h.do("POST", q, strings.NewReader("4b")); res.status != 400 {
				h.Errorf("%v", res)
			}
		}, "ok", []string{"m0"}, ReasonTransportError},
		{"client gone", func(_ *harness, _ string, _ *recorder, leave func()) { leave() }, "", []string{"m0"}, ReasonTransportError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, Config{}, func(h *harness) {
				h.onMsg = func(s *Session, data []byte, _ bool) {
					if string(data) == "m0" {
						s.Pause()
					}
				}
				q, r := h.openPolling()
				ctx, leave := context.WithCancel(context.Background())
				defer leave()
				answer := post(h, ctx, q, "4m0\x1e4m1\x1e4m2")
				synctest.Wait()
				if len(answer) != 0 || len(r.got()) != 1 {
					t.Fatalf("the POST does not wait: got %q", r.got())
				}
				tt.do(h, q, r, leave)
				if res := <-answer; tt.want != "" && (res.status != 200 || res.body != tt.want) {
					t.Errorf("POST: %v", res)
				}
				synctest.Wait()
				if diff := cmp.Diff(r.got(), tt.got); diff != "" {
					t.Error(diff)
				}
				if tt.end != "" {
					r.wantClosed(t, tt.end)
				} else if r.session.isClosed() {
					t.Error("closed")
				}
			})
		})
	}
}

// An upgrade while a POST waits: its deadline waits too, as the client sends `5` only after the POST. A client that
// sends it before has its websocket read after the POST.
func TestUpgradeWhilePaused(t *testing.T) {
	for _, early := range []bool{false, true} {
		inBubble(t, Config{}, func(h *harness) {
			h.onMsg = func(s *Session, data []byte, _ bool) {
				if strings.HasPrefix(string(data), "m") {
					s.Pause()
				}
			}
			q, r := h.openPolling()
			p := h.probe(q)
			p.write("2probe")
			p.want("3probe")
			posted := make(chan response, 1)
			go func() { posted <- h.do("POST", q, strings.NewReader("4m0\x1e4m1\x1e4m2")) }()
			synctest.Wait()
			upgrade := func() {
				p.write("5")
				p.write("4last")
			}
			if early {
				go upgrade()
				go func() { _, _, _ = p.conn.ReadMessage() }() // a ping
			}
			for range 3 {
				time.Sleep(15 * time.Second)
				r.session.Resume()
				synctest.Wait()
			}
			if res := <-posted; res.body != "ok" {
				t.Errorf("POST: %v", res)
			}
			if !early {
				upgrade()
			}
			synctest.Wait()
			if diff := cmp.Diff(r.got(), []string{"m0", "m1", "m2", "last"}); diff != "" {
				t.Errorf("early %v: %s", early, diff)
			}
			if r.session.Transport() != "websocket" || r.session.paused.Load() {
				t.Errorf("early %v: %s, paused %v", early, r.session.Transport(), r.session.paused.Load())
			}
		})
	}
}

// The same over TCP, where the upgraded session is parked while it waits, with what came after its `5` in the reader.
func TestUpgradeWhilePausedIsParked(t *testing.T) {
	h := serveParking(t, Config{})
	h.onMsg = nil
	q, r := h.openPolling()
	p := h.probe(q)
	p.write("2probe")
	p.want("3probe")
	r.session.Pause()
	packets, messages := numbered(10)
	upgrade := clientFrame("5")
	for _, m := range packets {
		upgrade = append(upgrade, clientFrame(m)...)
	}
	p.raw(upgrade)
	eventually(t, "held", func() bool { return r.session.Transport() == "websocket" && isHeld(r) })
	if len(r.got()) != 0 {
		t.Errorf("got %q", r.got())
	}
	r.session.Resume()
	h.wantMessages(r, messages)
	eventually(t, "parked", func() bool { return isParked(r) })
}

// Sessions are paused and resumed while they come and go, and descriptors change hands.
func TestPausesUnderChurn(t *testing.T) {
	h := serveParking(t, Config{})
	h.onMsg = func(s *Session, data []byte, binary bool) {
		echo(s, data, binary)
		s.Pause()
		go s.Resume()
	}
	var churn sync.WaitGroup
	for i := range 6 {
		churn.Go(func() {
			rng := rand.New(rand.NewPCG(4, uint64(i)))
			for range 40 {
				c := h.rawWebSocket()
				n := rng.IntN(8)
				for range n {
					_, _ = c.Write(clientFrame("4" + strings.Repeat("x", rng.IntN(2000))))
				}
				if n > 4 {
					var b [64]byte
					_, _ = c.Read(b[:])
				}
				_ = c.Close()
			}
		})
	}
	churn.Wait()
	eventually(t, "all gone", func() bool { return h.srv.Len() == 0 })
	lot := h.srv.parkingLot
	eventually(t, "as many workers as before", func() bool { return lot.free.Load() == lot.want })
}

// A large body that waits is taken from the node's budget and given back. A session that finds the budget spent is
// closed, and no other one.
func TestPausedBodyIsCounted(t *testing.T) {
	inBubble(t, Config{Inbound: &bodyBudget{left: 100_000}}, func(h *harness) {
		budget := h.srv.cfg.Inbound.(*bodyBudget)
		h.onMsg = func(s *Session, _ []byte, _ bool) { s.Pause() }
		body := "4a\x1e4" + strings.Repeat("x", 60_000)
		var rs []*recorder
		answers := make(chan response, 2)
		for range 2 {
			q, r := h.openPolling()
			r.session.Admit()
			rs = append(rs, r)
			go func() { answers <- h.do("POST", q, strings.NewReader(body)) }()
			synctest.Wait()
		}
		rs[1].wantClosed(t, ReasonTransportError)
		if n := h.srv.Stats()["post_budget"]; n != 1 {
			t.Errorf("%d counted", n)
		}
		if left := budget.left; left != 100_000-len(body) {
			t.Errorf("%d left", left)
		}
		rs[0].session.Resume()
		rs[0].session.Resume()
		synctest.Wait()
		rs[0].session.Resume()
		synctest.Wait()
		if rs[0].session.isClosed() || len(rs[0].got()) != 2 || budget.left != 100_000 {
			t.Errorf("closed %v, %d messages, %d left", rs[0].session.isClosed(), len(rs[0].got()), budget.left)
		}
		_, _ = <-answers, <-answers
	})
}

type bodyBudget struct {
	mu    sync.Mutex
	left  int
	takes int
}

// used is how much is taken of a budget of so many bytes.
func (b *bodyBudget) used(of int) int { b.mu.Lock(); defer b.mu.Unlock(); return of - b.left }

func (b *bodyBudget) Take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.takes++
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}
func (b *bodyBudget) Fits(n int) bool { b.mu.Lock(); defer b.mu.Unlock(); return n <= b.left }
func (b *bodyBudget) Force(n int)     { b.Give(-n) }
func (b *bodyBudget) Give(n int)      { b.mu.Lock(); b.left += n; b.mu.Unlock() }
