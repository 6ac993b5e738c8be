package socketio

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"foyer/service"
	"foyer/transport/engineio"
)

// TestPacketBytes: a message and a packet of several have limits of their own, and the log says which was met.
func TestPacketBytes(t *testing.T) {
	const kilo = 1000
	for _, tc := range []struct {
		name        string
		cfg         Config
		payload     int
		attachments []int
		closed      bool
	}{
		{"two of 700 KB", Config{}, 30, []int{700 * kilo, 700 * kilo}, false},
		{"all that there may be", Config{}, 30, []int{1000 * kilo, 1000 * kilo, 1000 * kilo, 100 * kilo}, false},
		{"more than a backend takes at once", Config{}, 30, []int{1000 * kilo, 1000 * kilo, 1000 * kilo, 200 * kilo}, true},
		{"a payload of its own", Config{}, 1001 * kilo, nil, true},
		{"set", Config{MaxPacketBytes: 5000 * kilo}, 30, []int{1000 * kilo, 1000 * kilo, 1000 * kilo, 1000 * kilo, 900 * kilo}, false},
		{"set, and over it", Config{MaxPacketBytes: 5000 * kilo}, 30, []int{1000 * kilo, 1000 * kilo, 1000 * kilo, 1000 * kilo, 1000 * kilo}, true},
		{"small messages", Config{MaxPayload: 10 * kilo}, 30, []int{9 * kilo, 9 * kilo, 9 * kilo}, false},
		{"large messages", Config{MaxPayload: 8000 * kilo}, 30, []int{7900 * kilo}, false},
		{"one message may always be as large as messages are", Config{MaxPacketBytes: 10}, 30, []int{900 * kilo}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			core, lines := observer.New(zap.InfoLevel)
			tc.cfg.Logger = zap.New(core)
			h, l, s := joinedLink(t, tc.cfg)
			name := `["` + strings.Repeat("x", tc.payload) + `"]`
			if n := len(tc.attachments); n > 0 {
				name = fmt.Sprintf("5%d-%s", n, name)
			} else {
				name = "2" + name
			}
			l.Message([]byte(name), false)
			for _, n := range tc.attachments {
				l.Message(make([]byte, n), true)
			}
			if s.isClosed() != tc.closed || !tc.closed && len(h.received) != 1 {
				t.Errorf("closed %v, %d received, counters %v", s.isClosed(), len(h.received), l.server.Counters())
			}
			told := lines.FilterMessage("session closed").All()
			setting := fmt.Sprint("--max-packet=", l.server.cfg.MaxPacketBytes)
			if tc.attachments == nil {
				setting = fmt.Sprint("--max-payload=", l.server.cfg.MaxPayload)
			}
			if tc.closed != (len(told) == 1) || tc.closed && told[0].ContextMap()["setting"] != setting {
				t.Errorf("the log says %v", told)
			}
			l.Closed(engineio.ReasonTransportClose, "")
			wantNothingHeld(t, h, l)
		})
	}
}

// A crowd of hostile clients does not fill the log.
func TestFaultsAreToldNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zapcore.InfoLevel)
		h := &fakeHall{note: func(string, ...any) {}, pending: map[string]service.Connect{}}
		srv := newServer(Config{Logger: zap.New(core), ConnectTimeout: -1}, h)
		for range 3 {
			for range 100 {
				srv.accept(&fakeSession{t: t, note: h.note}).fail(faultTooLarge, "", "")
			}
			time.Sleep(tellEvery)
		}
		if n := lines.Len(); n != 3 {
			t.Errorf("%d lines of 300 links in three times %v, want 3", n, tellEvery)
		}
	})
}

const twoHoles = `["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`

// TestTimersOfClosingLinks: a link that is closing for one reason is not told to close for another, while its client
// has time for the rest of what is queued.
func TestTimersOfClosingLinks(t *testing.T) {
	attachment := func(h *fakeHall, l *Link) {
		h.accept = func(string) bool { return true }
		l.Message([]byte(`0`), false)
		l.Message([]byte(`52-`+twoHoles), false)
	}
	for _, tc := range []struct {
		name  string
		begin func(h *fakeHall, l *Link)
		end   func(l *Link)
	}{
		{"the service closes it, an attachment is awaited", attachment, func(l *Link) { l.Close(service.ReasonHandlerSlow) }},
		{"the node drains, an attachment is awaited", attachment, func(l *Link) { l.session.Close(engineio.ReasonShutdown) }},
		{"the node drains, nothing is joined", func(*fakeHall, *Link) {}, func(l *Link) { l.session.Close(engineio.ReasonShutdown) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, lines := observer.New(zapcore.InfoLevel)
				h, l, _ := newLink(t, Config{Logger: zap.New(core)}, nil)
				tc.begin(h, l)
				tc.end(l)
				time.Sleep(time.Hour)
				synctest.Wait()
				counts := l.server.Counters()
				if counts[faultAttachmentTimeout.String()]+counts[faultConnectTimeout.String()] != 0 || lines.Len() != 0 {
					t.Errorf("counters %v, lines %v", counts, lines.All())
				}
				l.Closed(engineio.ReasonShutdown, "")
				wantNothingHeld(t, h, l)
			})
		})
	}
}

// TestAttachmentTimeout: the rest of a packet that was begun has to come, whatever else the client does. What it is
// given the time for is each next attachment, and a link that is paused has all of it.
func TestAttachmentTimeout(t *testing.T) {
	const timeout = 30 * time.Second // the default
	wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
	for _, tc := range []struct {
		name string
		run  func(h *fakeHall, l *Link)
		left time.Duration // until it is closed; 0: it is not
	}{
		{"none comes", func(*fakeHall, *Link) {}, timeout},
		{"one of two comes", func(_ *fakeHall, l *Link) {
			wait(timeout - time.Millisecond)
			l.Message(make([]byte, 960<<10), true)
		}, timeout},
		{"both come", func(_ *fakeHall, l *Link) {
			wait(timeout - 2*time.Millisecond)
			l.Message([]byte("a"), true)
			wait(timeout - 2*time.Millisecond)
			l.Message([]byte("b"), true)
		}, 0},
		{"a second packet has its own time", func(_ *fakeHall, l *Link) {
			l.Message([]byte("a"), true)
			l.Message([]byte("b"), true)
			wait(timeout - time.Millisecond)
			l.Message([]byte(`52-`+twoHoles), false)
		}, timeout},
		{"paused meanwhile", func(_ *fakeHall, l *Link) {
			l.Pause()
			l.Pause()
			wait(10 * timeout)
			l.Resume()
			wait(10 * timeout)
			l.Resume()
		}, timeout},
		{"paused at the end of its time", func(_ *fakeHall, l *Link) {
			wait(timeout*3/4 - time.Millisecond)
			l.session.Pause() // of the session's own: it is over a rate, or is owed more than it takes
			wait(timeout / 4)
			l.session.Resume()
		}, timeout*3/4 + time.Millisecond},
		{"paused, then both come", func(_ *fakeHall, l *Link) {
			l.Message([]byte("a"), true)
			l.Pause()
			wait(10 * timeout)
			l.Resume()
			l.Message([]byte("b"), true)
		}, 0},
		{"the server has ended the namespace", func(h *fakeHall, l *Link) {
			l.Forget(h.sockets["/"])
			h.closes[h.sockets["/"]]++
		}, timeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, lines := observer.New(zapcore.InfoLevel)
				h, l, s := joinedLink(t, Config{Logger: zap.New(core)})
				l.Message([]byte(`52-`+twoHoles), false)
				tc.run(h, l)
				if tc.left == 0 {
					wait(time.Hour)
				} else {
					wait(tc.left - 2*time.Millisecond)
				}
				if s.isClosed() {
					t.Fatal("closed early")
				}
				if tc.left > 0 {
					wait(4 * time.Millisecond)
					if !s.isClosed() || l.server.counters[faultAttachmentTimeout].Load() != 1 || lines.Len() != 1 {
						t.Errorf("closed %v, counters %v, %d lines", s.isClosed(), l.server.Counters(), lines.Len())
					}
				}
				l.Closed(engineio.ReasonForcedClose, "")
				wantNothingHeld(t, h, l)
			})
		})
	}
	t.Run("off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, l, s := joinedLink(t, Config{AttachmentTimeout: -1})
			l.Message([]byte(`52-`+twoHoles), false)
			wait(100 * time.Hour)
			if s.isClosed() {
				t.Error("closed")
			}
			l.Closed(engineio.ReasonTransportClose, "")
		})
	})
	t.Run("a crossing CONNECT before anything was joined", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, l, s := newLink(t, Config{}, nil)
			l.Message([]byte("0"), false)
			l.Message([]byte("0"), false)
			l.Message([]byte(`52-`+twoHoles), false)
			h.bind("/")
			wait(timeout + time.Millisecond)
			if !s.isClosed() {
				t.Error("the link waits for ever")
			}
			l.Closed(engineio.ReasonForcedClose, "")
		})
	})
}

// TestJoiningTakesFromTheBudget: what waits for the rest of its attachments counts for the node, and is given back
// however the wait ends.
func TestJoiningTakesFromTheBudget(t *testing.T) {
	const part = 500 << 10
	held := int64(part + len(twoHoles) - freeJoiningBytes)
	for _, tc := range []struct {
		name string
		end  func(l *Link)
	}{
		{"complete", func(l *Link) { l.Message(make([]byte, part), true) }},
		{"text meanwhile", func(l *Link) { l.Message([]byte(`2["x"]`), false) }},
		{"the session's end", func(l *Link) { l.Closed(engineio.ReasonTransportClose, "") }},
		{"a message after the end", func(l *Link) { l.Close(service.ReasonShutdown); l.Message(make([]byte, part), true) }},
		{"no more is left", func(l *Link) {
			l.server.cfg.Budget.Force(service.UseOutbound, 1<<20)
			l.Message(make([]byte, part), true)
			l.server.cfg.Budget.Give(service.UseOutbound, 1<<20)
			if l.server.counters[faultMemory].Load() != 1 {
				t.Error("not closed for want of memory")
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			budget := service.NewBudget(1 << 20)
			_, l, _ := joinedLink(t, Config{Budget: budget})
			l.Message([]byte(`52-`+twoHoles), false)
			if budget.Used() != 0 {
				t.Error("a few bytes are counted")
			}
			l.Message(make([]byte, part), true)
			if budget.UsedBy(service.UseInbound) != held {
				t.Errorf("%d bytes taken, want %d", budget.Used(), held)
			}
			tc.end(l)
			if budget.Used() != 0 {
				t.Errorf("%d bytes were not given back", budget.Used())
			}
			l.Closed(engineio.ReasonTransportClose, "")
			if budget.Used() != 0 {
				t.Errorf("%d bytes after the end", budget.Used())
			}
		})
	}
}

func BenchmarkLinkBinaryEvent(b *testing.B) {
	_, l, _ := joinedLink(b, Config{})
	l.server.hall = &quietHall{}
	text, data := []byte(`52-`+twoHoles), make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		l.Message(text, false)
		l.Message(data, true)
		l.Message(data, true)
	}
	l.Closed(engineio.ReasonTransportClose, "")
}
