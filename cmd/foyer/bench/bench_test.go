package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// want is what a run is to find: in words of its error, or by its counts.
type want struct {
	err              string // part of it
	lost, duplicated int64
	deliveries       int64 // in the measured time; -1: any number
}

func (w want) check(t *testing.T, r *Result, err error) {
	t.Helper()
	if w.err != "" {
		if err == nil || !strings.Contains(err.Error(), w.err) {
			t.Errorf("error: %v, want one with %q", err, w.err)
		}
		if r != nil {
			t.Errorf("a failed run has the result %+v", r)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.Lost != w.lost || r.Duplicated != w.duplicated {
		t.Errorf("lost, duplicated: %d, %d, want %d, %d", r.Lost, r.Duplicated, w.lost, w.duplicated)
	}
	if w.deliveries >= 0 && r.Deliveries != w.deliveries {
		t.Errorf("deliveries: %d, want %d", r.Deliveries, w.deliveries)
	}
	if bad := w.lost+w.duplicated > 0; errors.Is(r.Err(), ErrLost) != bad || (r.Err() != nil) != bad {
		t.Errorf("Err: %v", r.Err())
	}
}

// only is true for one delivery of one client: the fourth, of the second that has come (the first asks for the emits).
func only(s *session, nth int) bool { return s.n == 3 && nth == 4 }

func TestBroadcast(t *testing.T) {
	all := want{deliveries: 30} // ten emits to three clients
	for _, c := range []struct {
		name string
		fake func(f *fake)
		set  func(o *Options)
		want want
		raw  bool // only with websockets
	}{
		{name: "a good server", want: all},
		{name: "rooms", set: func(o *Options) { o.Rooms = 3 }, want: want{deliveries: 10}},
		{name: "rooms of different sizes", set: func(o *Options) { o.Rooms = 2 }, want: want{deliveries: 5*2 + 5}},
		{name: "the warm-up does not count", set: func(o *Options) { o.Warmup, o.Duration = 550*time.Millisecond, time.Second }, want: all},
		{name: "long messages", set: func(o *Options) { o.Bytes = 70_000 }, want: all},
		{
			name: "in fragments, with a ping between them", raw: true, want: all,
			fake: func(f *fake) {
				f.deliver = func(s *session, _ int, packet string) {
					s.write(func(ws *websocket.Conn) {
						w, _ := ws.NextWriter(websocket.TextMessage)
						io.WriteString(w, packet[:90]) // more than its buffer holds
						ws.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(time.Second))
						io.WriteString(w, packet[90:])
						w.Close()
					})
				}
			},
		},
		{
			name: "something else, and heartbeats, between them", want: all,
			fake: func(f *fake) {
				f.deliver = func(s *session, _ int, packet string) {
					s.send(`42["other","` + strings.Repeat("x", 20_000) + `"]`)
					s.send("2")
					s.send("6")
					s.send(packet)
				}
			},
		},
		{
			name: "one is lost", want: want{lost: 1, deliveries: 29},
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					if !only(s, nth) {
						s.send(packet)
					}
				}
			},
		},
		{
			name: "one is lost, one emit at a time", want: want{lost: 1, deliveries: -1},
			set: func(o *Options) { o.Window, o.Duration = 1, time.Minute },
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					if !only(s, nth) {
						s.send(packet)
					}
				}
			},
		},
		{
			name: "the last of one client are lost", want: want{lost: 7, deliveries: 23},
			set: func(o *Options) { o.Window = 100 },
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					if s.n != 3 || nth < 4 {
						s.send(packet)
					}
				}
			},
		},
		{
			name: "one client hears nothing", want: want{lost: 4, deliveries: 8}, // then the window is full, for as long as patience lasts
			set: func(o *Options) { o.Duration = time.Hour },
			fake: func(f *fake) {
				f.deliver = func(s *session, _ int, packet string) {
					if s.n != 3 {
						s.send(packet)
					}
				}
			},
		},
		{
			name: "one comes twice", want: want{duplicated: 1, deliveries: 30},
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					s.send(packet)
					if only(s, nth) {
						s.send(packet)
					}
				}
			},
		},
		{
			name: "all come twice, one at a time", want: want{duplicated: 30, deliveries: 30},
			set: func(o *Options) { o.Window = 1 },
			fake: func(f *fake) {
				f.deliver = func(s *session, _ int, packet string) {
					s.send(packet)
					s.send(packet)
				}
			},
		},
		{
			name: "two change places", want: want{lost: 1, duplicated: 1, deliveries: 29},
			fake: func(f *fake) {
				f.deliver = func() func(s *session, nth int, packet string) {
					held := ""
					return func(s *session, nth int, packet string) {
						if only(s, nth) {
							held = packet
							return
						}
						s.send(packet)
						if only(s, nth-1) {
							s.send(held)
						}
					}
				}()
			},
		},
		{
			name: "one comes that was never emitted", want: want{err: `client 2 hears "1000099]", which was never emitted`},
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					if only(s, nth) {
						packet = `42["bench",1000099]`
					}
					s.send(packet)
				}
			},
		},
		{
			name: "the application emits nothing", want: want{err: "does the server's application serve bench:emit?"},
			fake: func(f *fake) { f.deliver = func(*session, int, string) {} },
		},
		{
			name: "the same for a long time", want: want{err: "does the server's application serve bench:emit?"},
			set:  func(o *Options) { o.Duration = time.Hour },
			fake: func(f *fake) { f.deliver = func(*session, int, string) {} },
		},
		{
			name: "the application acknowledges nothing", want: want{err: "bench:join is not acknowledged"},
			fake: func(f *fake) { f.ask = func(*session, string, string, string) bool { return false } },
		},
		{
			name: "a client is closed in the middle", raw: true, want: want{err: "client 2 of 3: the server has closed the connection: code 1011 oh"},
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					s.send(packet)
					if only(s, nth) {
						s.write(func(ws *websocket.Conn) {
							ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseInternalServerErr, "oh"), time.Now().Add(time.Second))
						})
					}
				}
			},
		},
		{
			name: "a client is closed by a packet", want: want{err: "client 2 of 3: the server has closed the connection"},
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					s.send(packet)
					if only(s, nth) {
						s.send("1")
					}
				}
			},
		},
		{
			name: "a client is cut in the middle of a frame", raw: true, want: want{err: "client 2 of 3: the server has closed the connection"},
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					if only(s, nth) {
						s.raw([]byte{0x81, 100, '4', '2'}, true)
						return
					}
					s.send(packet)
				}
			},
		},
		{
			name: "a client is cut after the measured time", raw: true, want: want{err: "client 2 of 3: the server has closed the connection"},
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					switch {
					case nth < 10:
						s.send(packet)
					case s.n == 3:
						time.AfterFunc(time.Second, func() { s.raw(nil, true) })
					}
				}
			},
		},
		{
			name: "a frame of a terabyte", raw: true, want: want{err: "client 2 of 3: a frame is too long"},
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					if only(s, nth) {
						s.raw(binary.BigEndian.AppendUint64([]byte{0x81, 127}, 1<<40), false)
						return
					}
					s.send(packet)
				}
			},
		},
		{
			name: "a masked frame", raw: true, want: want{err: "client 2 of 3: the server sends masked frames"},
			fake: func(f *fake) {
				f.deliver = func(s *session, nth int, packet string) {
					if only(s, nth) {
						s.raw([]byte{0x81, 0x80, 0, 0, 0, 0}, false)
						return
					}
					s.send(packet)
				}
			},
		},
		{
			name: "the server reads no more", want: want{err: "the server has not read for 15s"},
			set: func(o *Options) { o.Duration = time.Hour },
			fake: func(f *fake) {
				f.ask = func() func(s *session, event, id, args string) bool {
					emits := 0
					return func(s *session, event, _, _ string) bool {
						if event == "bench:emit" {
							if emits++; emits == 5 {
								<-s.f.end
							}
						}
						return true
					}
				}()
			},
		},
		{
			name: "nothing is due", want: want{err: "over before the first emit was due"},
			set: func(o *Options) { o.Rate = 0.5 },
		},
		{
			name: "one is due now and then", want: want{deliveries: 3 * 5},
			set: func(o *Options) { o.Rate, o.Duration = 0.05, 101*time.Second },
		},
	} {
		for _, transport := range []string{transportWebSocket, transportPolling} {
			if c.raw && transport == transportPolling {
				continue
			}
			t.Run(c.name+"/"+transport, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &fake{}
					if c.fake != nil {
						c.fake(f)
					}
					o := f.serve(t, "broadcast")
					o.Transport = transport
					if c.set != nil {
						c.set(&o)
					}
					r, err := Run(t.Context(), o)
					c.want.check(t, r, err)
				})
			})
		}
	}
}

func answer(code int, body string) func(w http.ResponseWriter, _ *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(code)
		io.WriteString(w, body)
		return false
	}
}

func TestConnectFails(t *testing.T) {
	never := func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return false
	}
	gone := func(_ http.ResponseWriter, r *http.Request) bool {
		r.Context().Value(connKey{}).(net.Conn).Close()
		return false
	}
	third := func(then func(http.ResponseWriter, *http.Request) bool) func(f *fake) {
		return func(f *fake) {
			f.handshake = func(w http.ResponseWriter, r *http.Request) bool { return f.counted(&f.last) < 2 || then(w, r) }
		}
	}
	for _, c := range []struct {
		name, transport string
		fake            func(f *fake)
		want            string
	}{
		{"503", "websocket", third(answer(503, "")), "client 3 of 3: websocket: the server answers 503 Service Unavailable"},
		{"503", "polling", third(answer(503, "")), "client 3 of 3: connect: GET is answered 503 Service Unavailable"},
		{"no answer", "websocket", third(never), "client 3 of 3: no answer within 15s"},
		{"no answer", "polling", third(never), "client 3 of 3: connect: no answer within 15s"},
		{"closed", "websocket", third(gone), "client 3 of 3: websocket: the server has closed the connection"},
		{"closed", "polling", third(gone), "client 3 of 3: connect: the server has closed the connection"},
		{"a page", "polling", third(answer(200, "<html>")), `client 3 of 3: connect: "<html>" is no open packet`},
		{"refused", "websocket", func(f *fake) { f.connect = `44{"message":"go away"}` }, `CONNECT is answered "44{\"message\":\"go away\"}"`},
		{"refused", "polling", func(f *fake) { f.connect = `44{"message":"go away"}` }, `CONNECT is answered "44{\"message\":\"go away\"}"`},
		{"CONNECT is not answered", "websocket", func(f *fake) { f.connect = "6" }, `CONNECT is answered "6"`},
		{"no id", "websocket", func(f *fake) { f.connect = "40" }, `"40" tells no id`},
	} {
		t.Run(c.name+"/"+c.transport, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				c.fake(f)
				o := f.serve(t, "connect")
				o.Transport = c.transport
				r, err := Run(t.Context(), o)
				want{err: c.want}.check(t, r, err)
			})
		})
	}
}

// A run that is interrupted ends at once, whatever it waits for, and says why.
func TestInterrupt(t *testing.T) {
	interrupted := errors.New("interrupted")
	for _, transport := range []string{transportWebSocket, transportPolling} {
		for name, stop := range map[string]func(f *fake){
			"in a handshake": func(f *fake) {
				f.handshake = func(_ http.ResponseWriter, r *http.Request) bool {
					<-r.Context().Done()
					return false
				}
			},
			"before the client is connected": func(f *fake) { f.connect = "2" },
			"while it joins":                 func(f *fake) { f.ask = func(*session, string, string, string) bool { return false } },
			"while its events are not taken": func(f *fake) {
				f.ask = func(_ *session, _, _, _ string) bool {
					<-f.end
					return false
				}
			},
			"while it is measured": func(*fake) {},
		} {
			t.Run(name+"/"+transport, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &fake{}
					stop(f)
					o := f.serve(t, "broadcast")
					o.Transport, o.Duration = transport, time.Hour
					ctx, cancel := context.WithCancelCause(t.Context())
					began := time.Now()
					time.AfterFunc(5*time.Second, func() { cancel(interrupted) })
					r, err := Run(ctx, o)
					want{err: "interrupted"}.check(t, r, err)
					if took := time.Since(began); took != 5*time.Second { // by the bubble's clock, so to the nanosecond
						t.Errorf("it went on for %v", took-5*time.Second)
					}
				})
			})
		}
	}
}

// What a delivery takes counts from when its emit was due, also when that had to wait for the window.
func TestLatency(t *testing.T) {
	near := func(t *testing.T, what string, got, want float64) {
		t.Helper()
		if got < want || got > want*1.01 { // three digits are kept
			t.Errorf("%s: %v ms, want %v", what, got, want)
		}
	}
	t.Run("a server in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{deliver: func(s *session, _ int, packet string) {
				if s.n == 2 {
					time.Sleep(7 * time.Millisecond)
				}
				s.send(packet)
			}}
			r, err := Run(t.Context(), f.serve(t, "broadcast"))
			want{deliveries: 30}.check(t, r, err)
			near(t, "p50", r.P50, 7)
			near(t, "p99", r.P99, 7)
			near(t, "max", r.Max, 7)
		})
	})
	t.Run("a server that is too slow", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{deliver: func(s *session, _ int, packet string) {
				if s.n == 2 {
					time.Sleep(200 * time.Millisecond) // twice the time between two emits
				}
				s.send(packet)
			}}
			o := f.serve(t, "broadcast")
			o.Window = 1
			r, err := Run(t.Context(), o)
			want{deliveries: 12}.check(t, r, err)
			near(t, "p50", r.P50, 300) // the second was due at 0.2 s, sent at 0.3 s and there at 0.5 s
			near(t, "max", r.Max, 500)
		})
	})
	t.Run("two servers of a cluster", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var hosts []string // of sessions, in their order; the first one is the asker's
			f := &fake{other: "other:80", handshake: func(_ http.ResponseWriter, r *http.Request) bool {
				hosts = append(hosts, r.Host)
				return true
			}}
			f.deliver = func(s *session, _ int, packet string) {
				if hosts[s.n-1] == f.other {
					time.Sleep(7 * time.Millisecond)
				}
				s.send(packet)
			}
			o := f.serve(t, "broadcast")
			o.Clients, o.Others = 2, []string{"http://" + f.other}
			r, err := Run(t.Context(), o)
			want{deliveries: 20}.check(t, r, err)
			near(t, "p50", r.P50, 0)
			near(t, "p99", r.P99, 7)
			near(t, "p50 at the other", r.FarP50, 7)
			near(t, "p99 at the other", r.FarP99, 7)
		})
	})
}

// Some servers end each connection after its answer, and Node closes one that has rested for five seconds.
func TestPollingConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s := f.start(t)
		h := s.Config.Handler
		s.Config.IdleTimeout = 5 * time.Second
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f.counted(&f.last)%2 == 0 {
				w.Header().Set("Connection", "close")
			}
			h.ServeHTTP(w, r)
		})
		s.Start()
		f.deliver = func(s *session, _ int, packet string) {
			s.send(packet)
			s.send("2")
		}
		o := f.options("broadcast")
		o.Transport, o.Rate, o.Duration = transportPolling, 0.1, 35*time.Second
		r, err := Run(t.Context(), o)
		want{deliveries: 3 * 3}.check(t, r, err)
		synctest.Wait()
		if n := f.counted(&f.pongs); n != 9 {
			t.Errorf("%d heartbeats were answered, want 9", n)
		}
	})
}

func TestPingsAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{deliver: func(s *session, _ int, packet string) {
			s.write(func(ws *websocket.Conn) { ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Second)) })
			s.send("2")
			s.send(packet)
		}}
		o := f.serve(t, "broadcast")
		r, err := Run(t.Context(), o)
		want{deliveries: 30}.check(t, r, err)
		synctest.Wait()
		if n := f.counted(&f.pongs); n != 60 {
			t.Errorf("%d pings and heartbeats were answered, want 60", n)
		}
	})
}

func TestEcho(t *testing.T) {
	// Each answer takes a while, since otherwise no time would ever pass.
	after := func(f *fake, answer func(s *session, nth int, packet string)) {
		count := map[int]int{}
		f.ask = func(s *session, _, id, args string) bool {
			f.mu.Lock()
			count[s.n]++
			nth := count[s.n]
			f.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			answer(s, nth, "43"+id+"["+strings.TrimPrefix(args, echoPrefix))
			return false
		}
	}
	for _, c := range []struct {
		name   string
		answer func(s *session, nth int, packet string)
		set    func(o *Options)
		want   want
	}{
		{"a good server", func(s *session, _ int, p string) { s.send(p) }, nil, want{deliveries: 30}},
		{"one is lost", func(s *session, nth int, p string) {
			if !only(s, nth) {
				s.send(p)
			}
		}, nil, want{lost: 1, deliveries: 23}},
		{"all are lost after a while", func(s *session, nth int, p string) {
			if nth < 4 {
				s.send(p)
			}
		}, func(o *Options) { o.Duration = time.Hour }, want{lost: 3, deliveries: 9}},
		{"one comes twice", func(s *session, nth int, p string) {
			s.send(p)
			if only(s, nth) {
				s.send(p)
			}
		}, nil, want{duplicated: 1, deliveries: 30}},
		{"one is for another question", func(s *session, nth int, p string) {
			if only(s, nth) {
				s.send("431[]")
			}
			s.send(p)
		}, nil, want{duplicated: 1, deliveries: 30}},
		{"one is empty", func(s *session, nth int, p string) {
			if only(s, nth) {
				p = p[:strings.IndexByte(p, '[')] + "[]"
			}
			s.send(p)
		}, nil, want{err: `an echo is answered "31000004[]"`}},
		{"nothing is answered", func(*session, int, string) {}, nil, want{err: "does the server's application serve bench:echo?"}},
		{"nothing is answered for long", func(*session, int, string) {}, func(o *Options) { o.Duration = time.Hour }, want{err: "does the server's application serve bench:echo?"}},
		{"the server goes", func(s *session, nth int, p string) {
			if only(s, nth) {
				s.send("1")
			}
			s.send(p)
		}, nil, want{err: "of 3: the server has closed the connection"}},
	} {
		for _, transport := range []string{transportWebSocket, transportPolling} {
			t.Run(c.name+"/"+transport, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &fake{}
					after(f, c.answer)
					o := f.serve(t, "echo")
					o.Transport, o.Rate = transport, 0
					if c.set != nil {
						c.set(&o)
					}
					r, err := Run(t.Context(), o)
					wanted := c.want
					if transport == transportPolling {
						wanted.deliveries = -1 // the next question waits for the POST of the last
					}
					wanted.check(t, r, err)
				})
			})
		}
	}
}

func TestChurn(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  func(f *fake, event string) bool
		want want
	}{
		{"a good server", func(*fake, string) bool {
			time.Sleep(50 * time.Millisecond)
			return true
		}, want{deliveries: 20}},
		{"no leave", func(_ *fake, event string) bool { return event != "bench:leave" }, want{err: "bench:leave is not acknowledged"}},
		{"no answer at all", func(f *fake, _ string) bool {
			<-f.end
			return false
		}, want{err: "bench:join is not acknowledged"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				f.ask = func(_ *session, event, _, _ string) bool { return c.ask(f, event) }
				o := f.serve(t, "churn")
				o.Rate, o.Window, o.Rooms, o.Duration = 0, 2, 5, 1050*time.Millisecond
				r, err := Run(t.Context(), o)
				c.want.check(t, r, err)
			})
		})
	}
}

func TestIdleAndConnect(t *testing.T) {
	slow := func(f *fake) {
		f.handshake = func(http.ResponseWriter, *http.Request) bool {
			time.Sleep(100 * time.Millisecond)
			return true
		}
	}
	for _, transport := range []string{transportWebSocket, transportPolling} {
		for _, scenario := range []string{"connect", "idle"} {
			t.Run(scenario+"/"+transport, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := &fake{}
					slow(f)
					o := f.serve(t, scenario)
					o.Transport, o.Duration = transport, time.Minute
					r, err := Run(t.Context(), o)
					want{deliveries: 3}.check(t, r, err)
					if r.ConnectsPerSecond != 10 || math.Abs(r.P50-100) > 1 {
						t.Errorf("%v connects a second, p50 %v ms, want 10, 100", r.ConnectsPerSecond, r.P50)
					}
					if r.RSSPerSession != nil {
						t.Errorf("the memory of a server that nobody has named: %v", *r.RSSPerSession)
					}
				})
			})
		}
	}
	t.Run("one is gone while others come", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			f.handshake = func(http.ResponseWriter, *http.Request) bool {
				f.mu.Lock()
				first := f.sessions["s1"]
				f.mu.Unlock()
				if first != nil {
					first.send("1")
					time.Sleep(time.Second)
				}
				return true
			}
			o := f.serve(t, "connect")
			r, err := Run(t.Context(), o)
			want{err: "client 1 of 3: the server has closed the connection"}.check(t, r, err)
		})
	})
}

func TestUpgrade(t *testing.T) {
	for _, c := range []struct{ name, probe, want string }{
		{"a good server", "", ""},
		{"another answer", "6", `upgrade of client 1: the probe is answered "6"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{probe: c.probe}
				o := f.serve(t, "upgrade")
				o.Transport = transportPolling
				r, err := Run(t.Context(), o)
				want{err: c.want, deliveries: 3}.check(t, r, err)
			})
		})
	}
}

func TestHTTPS(t *testing.T) {
	for _, transport := range []string{transportWebSocket, transportPolling} {
		for _, insecure := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				f.start(t).StartTLS()
				o := f.options("broadcast")
				f.listeners["server:443"] = f.listeners[fakeAddr]
				o.URL, o.Transport, o.Insecure = "https://server", transport, insecure
				r, err := Run(t.Context(), o)
				if insecure {
					want{deliveries: 30}.check(t, r, err)
				} else {
					want{err: "--url: the certificate of server:443 is refused, since it is not"}.check(t, r, err)
				}
			})
		}
	}
}

func TestValidate(t *testing.T) {
	good := func() Options {
		return Options{URL: "http://x", Transport: "websocket", Clients: 2, Parallel: 1, Rooms: 1, Window: 1, Bytes: 100, Duration: 1}
	}
	for _, c := range []struct {
		scenario string
		set      func(o *Options)
		want     string // in the error; "": none
	}{
		{"broadcast", func(*Options) {}, ""},
		{"broadcast", func(o *Options) { o.Rooms = 2 }, ""},
		{"broadcast", func(o *Options) { o.Rate = 0.1 }, ""},
		{"churn", func(o *Options) { o.Rooms = 1000 }, ""},
		{"idle", func(o *Options) { o.Rooms, o.Window, o.Bytes = 0, 0, 0 }, ""},
		{"connect", func(o *Options) { o.Duration = 0 }, ""},
		{"dance", func(*Options) {}, `there is no scenario "dance"`},
		{"broadcast", func(o *Options) { o.Rooms = 3 }, "--rooms: 3 rooms for 2 clients: some would be empty"},
		{"broadcast", func(o *Options) { o.Rooms = 0 }, "--rooms: 0 is not above zero"},
		{"churn", func(o *Options) { o.Rooms = -1 }, "--rooms: -1 is not above zero"},
		{"broadcast", func(o *Options) { o.Window = 0 }, "--window: 0 is not between 1 and 65536"},
		{"broadcast", func(o *Options) { o.Window = 1 << 20 }, "--window: 1048576 is not between 1 and 65536"},
		{"broadcast", func(o *Options) { o.Rate = -1 }, "--rate: -1 is no number of emits a second"},
		{"broadcast", func(o *Options) { o.Bytes = 20 }, "--bytes: 20 is not between 40 and"},
		{"echo", func(o *Options) { o.Bytes = 20 }, "--bytes: 20 is not between 40 and"},
		{"idle", func(o *Options) { o.Collect = "nowhere" }, `--collect: "nowhere" is no URL`},
		{"idle", func(o *Options) { o.Duration = 0 }, "--seconds: 0 is not above zero"},
		{"echo", func(o *Options) { o.Warmup = -1 }, "--warmup: -1ns is below zero"},
		{"idle", func(o *Options) { o.Clients = 0 }, "--clients: 0 is not above zero"},
		{"idle", func(o *Options) { o.Parallel = 0 }, "--parallel: 0 is not above zero"},
		{"idle", func(o *Options) { o.Patience = -1 }, "--patience: -1ns is below zero"},
		{"idle", func(o *Options) { o.ServerPID = []int{-1} }, "--server-pid: -1 is no process"},
		{"idle", func(o *Options) { o.Transport = "pigeon" }, `--transport: "pigeon" is neither websocket nor polling`},
		{"idle", func(o *Options) { o.URL = "127.0.0.1:3000" }, `--url: "127.0.0.1:3000" is no URL`},
		{"idle", func(o *Options) { o.URL = "ws://x" }, `--url: "ws://x" is no URL`},
		{"idle", func(o *Options) { o.URL = "http://" }, `--url: "http://" is no URL`},
		{"broadcast", func(o *Options) { o.Others = []string{"http://x", "y"} }, `--others: "y" is no URL`},
		{"broadcast", func(o *Options) { o.API = "here" }, `--api: "here" is no address`},
		{"idle", func(o *Options) { o.Clients, o.Parallel = 0, 0 }, "--clients: 0 is not above zero\n--parallel: 0 is not above zero"},
	} {
		o := good()
		o.Scenario = c.scenario
		c.set(&o)
		err := o.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.scenario, err, c.want)
		}
		if _, run := Run(t.Context(), o); c.want != "" && run == nil {
			t.Errorf("%s: it runs with %s", c.scenario, c.want)
		}
	}
}

func TestServerURL(t *testing.T) {
	for url, path := range map[string]string{
		"http://x": "/socket.io/", "http://x/": "/socket.io/", "https://x:1/ws": "/ws/", "http://x/a b/": "/a%20b/",
	} {
		u, err := serverURL(url)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&server{url: u}).path(); got != path {
			t.Errorf("%s: path %q, want %q", url, got, path)
		}
	}
}

// The sizes that are asked for are those that go over the wire.
func TestBytes(t *testing.T) {
	for _, scenario := range []string{"broadcast", "echo"} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			f.ask = func(_ *session, event, id, args string) bool {
				if event == "bench:echo" {
					time.Sleep(time.Millisecond)
					if n := len("42" + id + args); n != 100 {
						t.Errorf("a question has %d bytes, want 100", n)
					}
				}
				return true
			}
			f.deliver = func(s *session, _ int, packet string) {
				if len(packet) != 100 {
					t.Errorf("a message has %d bytes, want 100: %s", len(packet), packet)
				}
				s.send(packet)
			}
			o := f.serve(t, scenario)
			r, err := Run(t.Context(), o)
			want{deliveries: -1}.check(t, r, err)
		})
	}
}

func TestResult(t *testing.T) {
	memory := 4096.0
	r := &Result{
		Scenario: "broadcast", URL: "http://x", Transport: "websocket", Clients: 3, Rooms: 2, Window: 4, Bytes: 100, Seconds: 2, Deliveries: 1000,
		PerSecond: 500, Lost: 1, Duplicated: 2, ServerCPUMicros: 12.5, ServerCPU: 0.0125, ServerRSS: 1 << 20, P50: 1, P99: 2, Max: 3,
		RSSPerSession: &memory, ConnectsPerSecond: 77,
	}
	var table, text strings.Builder
	if err := errors.Join(r.WriteTable(&table), r.WriteJSON(&text)); err != nil {
		t.Fatal(err)
	}
	const want = `scenario            broadcast, 3 clients by websocket, 2 rooms, 4 in flight, 100 bytes
operations          1000 in 2.0 s, 500 a second
lost, duplicated    1, 2
server's CPU        0.01 s, 12.50 µs an operation
server's memory     1.0 MiB
a session's memory  4.00 KiB
connects            77 a second
latency             p50 1.000 ms, p99 2.000 ms, max 3.000 ms
`
	if table.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s", &table, want)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(text.String()), &got); err != nil {
		t.Fatal(err)
	}
	for key, v := range map[string]float64{
		"deliveries": 1000, "per_second": 500, "lost": 1, "duplicated": 2, "server_cpu_us_per_op": 12.5, "p50_ms": 1, "p99_ms": 2,
		"max_ms": 3, "rss_bytes_per_session": 4096, "connects_per_second": 77,
	} {
		if got[key] != v {
			t.Errorf("%s: %v, want %v", key, got[key], v)
		}
	}
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "1 messages were lost and 2 came twice") {
		t.Errorf("Err: %v", err)
	}
}

// One process is at hand whose use is known a little.
func TestProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip(err)
	}
	u, err := processes{os.Getpid()}.usage()
	if err != nil || u.rss < 1<<20 || u.cpu < 0 {
		t.Errorf("usage: %+v, %v", u, err)
	}
	if _, err := (process{1 << 30}).usage(); err == nil || !strings.Contains(err.Error(), "there is no process 1073741824") {
		t.Errorf("no process: %v", err)
	}
	o := new(fake).options("idle")
	o.ServerPID = []int{1 << 30}
	r, err := Run(t.Context(), o)
	want{err: "there is no process"}.check(t, r, err)
}

// The server is asked to collect its garbage before each reading, twice.
func TestCollect(t *testing.T) {
	for status, want := range map[int]string{http.StatusOK: "", http.StatusNotFound: "answers 404"} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			f := &fake{handshake: func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.RequestURI() != "/debug/pprof/heap?gc=1" {
					return true
				}
				asked++
				w.WriteHeader(status)
				return false
			}}
			o := f.serve(t, "idle")
			o.Collect = "http://" + fakeAddr + "/debug/pprof/heap?gc=1"
			_, err := Run(t.Context(), o)
			switch {
			case want == "" && (err != nil || asked != 4):
				t.Errorf("asked %d times, %v", asked, err)
			case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := new(fake).serve(t, "broadcast")
		var told strings.Builder
		o.Progress, o.Warmup, o.Duration = &told, time.Second, 2050*time.Millisecond
		r, err := Run(t.Context(), o)
		want{deliveries: -1}.check(t, r, err)
		for _, line := range []string{"connecting 3 clients", "joining 1 room", "warming up, 0 s left: ", "measuring, 1 s left: "} {
			if !strings.Contains(told.String(), line) {
				t.Errorf("%q is not told:\n%s", line, &told)
			}
		}
	})
}
