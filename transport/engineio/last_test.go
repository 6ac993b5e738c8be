package engineio

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// wantLast is what the GET gets that its client had sent before it closed the session.
func (h *harness) wantLast(q, want string) {
	h.Helper()
	if res := h.do("GET", q, nil); res.status != 200 || res.body != want {
		h.Errorf("the last GET: %d %q", res.status, res.body)
	}
}

// A client's own close and a GET cross: whichever is served first, the GET gets one `6`, and the next one nothing.
func TestGetThatCrossesTheClose(t *testing.T) {
	for _, dialect := range []struct{ handshake, close, noop string }{
		{"EIO=4&transport=polling", "1", "6"}, {"EIO=3&transport=polling&b64=1", "1:1", "1:6"},
	} {
		for name, run := range map[string]func(h *harness, q string, r *recorder){
			"GET first": func(h *harness, q string, r *recorder) {
				get := h.pending(q, r)
				h.do("POST", q, strings.NewReader(dialect.close))
				h.wantBody(get, dialect.noop)
			},
			"POST first": func(h *harness, q string, r *recorder) {
				h.do("POST", q, strings.NewReader(dialect.close))
				r.wantClosed(h, ReasonTransportClose)
				eventually(h, "forgotten", func() bool { return len(h.srv.snapshot()) == 0 })
				h.wantLast(q, dialect.noop)
			},
			"GET while it closes": func(h *harness, q string, r *recorder) {
				r.session.recvMu.Lock()
				var end sync.WaitGroup
				end.Go(func() { r.session.end(endClient, "6") })
				eventually(h, "closed", r.session.isClosed)
				h.wantLast(q, dialect.noop)
				r.session.recvMu.Unlock()
				end.Wait()
			},
			"close before the answer's first byte": func(h *harness, q string, r *recorder) {
				get := h.pending(q, r)
				r.session.Send(NewMessage([]byte("late"), nil), 0)
				s := r.session
				s.mu.Lock()
				p := s.poll
				s.poll, s.token = nil, true // the verdict is on its way
				s.mu.Unlock()
				s.end(endClient, "6")
				p.ready <- pollWrite
				h.wantBody(get, dialect.noop)
			},
		} {
			t.Run(dialect.handshake+" "+name, func(t *testing.T) {
				h := serveTCP(t, withEIO3)
				h.do("GET", dialect.handshake, nil)
				r := h.last()
				q := dialect.handshake + "&sid=" + r.session.sid()
				run(h, q, r)
				h.do("POST", q, strings.NewReader("4a"))
				for range 2 {
					if res := h.do("GET", q, nil); res.status != 400 {
						t.Errorf("the GET after the last: %v", res)
					}
				}
				eventually(t, "forgotten", func() bool { return h.srv.find(r.session.sid()) == nil })
			})
		}
	}
}

// What is remembered of closed sessions is bounded in time and number.
func TestDepartedAreForgotten(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		d := &h.srv.departed
		remembered := func() int {
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			return len(d.m)
		}
		q, r := h.openPolling()
		h.do("POST", q, strings.NewReader("1"))
		if n := remembered(); n != 1 {
			t.Errorf("%d remembered", n)
		}
		time.Sleep(departedTime)
		if n := remembered(); n != 0 {
			t.Errorf("%d remembered", n)
		}
		h.wantGone(q)
		for i := range departedLimit + 10 {
			d.add(&Session{srv: h.srv, ids: fmt.Sprintf("%d%*s", i, handleLen, "")})
		}
		if n := remembered(); n != departedLimit {
			t.Errorf("%d remembered", n)
		}
		r.wantClosed(t, ReasonTransportClose)
	})
}

// A GET after a cancelled one is refused, and the session ends, in whatever order the two are served and the cancelling
// is seen.
func TestGetAfterACancelledOne(t *testing.T) {
	for name, run := range map[string]func(h *harness, q string, cancelled func() (leave func())){
		"cancelling seen first": func(h *harness, q string, cancelled func() (leave func())) {
			leave := cancelled()
			leave()
			synctest.Wait()
			h.wantGone(q)
		},
		"cancelling seen while the second is there": func(h *harness, q string, cancelled func() (leave func())) {
			leave := cancelled()
			second := make(chan response, 1)
			go func() { second <- h.do("GET", q, nil) }()
			synctest.Wait()
			leave()
			if res := <-second; res.status != 400 {
				h.Errorf("%v", res)
			}
		},
		"the second served first": func(h *harness, q string, cancelled func() (leave func())) {
			second := make(chan response, 1)
			go func() { second <- h.do("GET", q, nil) }()
			synctest.Wait()
			leave := cancelled() // comes late
			leave()
			if res := <-second; res.status != 400 || res.body != `{"code":1,"message":"Session ID unknown"}` {
				h.Errorf("%v", res)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Config{}, func(h *harness) {
				q, r := h.openPolling()
				run(h, q, func() (leave func()) {
					ctx, leave := context.WithCancel(context.Background())
					go func() {
						req, _ := http.NewRequestWithContext(ctx, http.MethodGet, h.url+"/socket.io/?"+q, nil)
						if res, err := h.client.Do(req); err == nil {
							_ = res.Body.Close()
						}
					}()
					synctest.Wait()
					return leave
				})
				r.wantClosed(t, ReasonTransportError)
				h.wantGone(q)
			})
		})
	}
}

// Two GETs that both want an answer: the second is refused, the first gets its last packet.
func TestOverlappingGets(t *testing.T) {
	inBubble(t, Config{}, func(h *harness) {
		q, r := h.openPolling()
		get := h.pending(q, r)
		if res := h.do("GET", q, nil); res.status != 400 || res.body != "" {
			t.Errorf("%v", res)
		}
		h.wantBody(get, "1")
		r.wantClosed(t, ReasonTransportError)
	})
}
