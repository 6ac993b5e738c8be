package engineio

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// limitsOf are those of a Config with its defaults, changed.
func limitsOf(h *harness, change func(l *Limits)) Limits {
	l := *h.srv.tuned.limits.Load()
	change(&l)
	return l
}

// TestSessionsMayBeMoreOrFewer: newcomers follow a new bound at once, and nobody is closed for it.
func TestSessionsMayBeMoreOrFewer(t *testing.T) {
	h := serveTCP(t, Config{MaxSessions: 10, MaxSessionsPerAddress: 1})
	open := func(want int) {
		t.Helper()
		if got := h.do("GET", "EIO=4&transport=polling", nil).status; got != want {
			t.Errorf("a handshake is answered %d, want %d", got, want)
		}
		if want == 200 {
			h.last().session.Admit()
		}
	}
	open(200)
	open(503)
	for _, c := range []struct {
		limits Limits
		want   int
	}{
		{Limits{MaxSessions: 10, MaxSessionsPerAddress: 2}, 200},
		{Limits{MaxSessions: 2, MaxSessionsPerAddress: -1}, 503},
		{Limits{MaxSessions: -1, MaxSessionsPerAddress: -1}, 200},
		{Limits{MaxSessions: 1, MaxSessionsPerAddress: -1}, 503},
	} {
		if err := h.srv.SetLimits(c.limits); err != nil {
			t.Fatal(err)
		}
		open(c.want)
	}
	if n := h.srv.Len(); n != 3 {
		t.Errorf("%d sessions are open, want 3", n)
	}
}

// TestOriginsMayChange: and what is refused afterwards is told with the new setting.
func TestOriginsMayChange(t *testing.T) {
	h := serveTCP(t, Config{})
	const page = "https://example.com"
	ask := func(want int) {
		t.Helper()
		res := h.do("GET", "EIO=4&transport=polling", nil, "Origin", page)
		if allowed := res.header.Get("Access-Control-Allow-Origin"); res.status != want || (allowed == page) != (want == 200) {
			t.Errorf("answered %d, allowing %q; want %d", res.status, allowed, want)
		}
	}
	ask(403)
	if err := h.srv.SetLimits(Limits{Origins: []string{page}}); err != nil {
		t.Fatal(err)
	}
	ask(200)
	if err := h.srv.SetLimits(Limits{Origins: []string{"https://other.example"}}); err != nil {
		t.Fatal(err)
	}
	ask(403)
	if got := h.srv.originSetting(); got != "--cors-origin=https://other.example" {
		t.Errorf("the log names %q", got)
	}
}

// TestWrongLimitsChangeNothing: they are all taken or none.
func TestWrongLimitsChangeNothing(t *testing.T) {
	h := serveTCP(t, Config{MaxSessions: 5})
	before := *h.srv.tuned.limits.Load()
	for _, l := range []Limits{{MaxSessions: 7, QueueBytes: -1}, {MaxSessions: 7, Origins: []string{"nonsense"}}} {
		if err := h.srv.SetLimits(l); err == nil {
			t.Errorf("%+v is taken", l)
		}
	}
	if after := *h.srv.tuned.limits.Load(); after.MaxSessions != before.MaxSessions || h.srv.shares.cfg.MaxSessions != 5 {
		t.Errorf("limits are %+v", after)
	}
}

// TestRatesMayChange: a link that is open sends by a new rate, and so do those of its address together; a rate that was
// off holds, and one that is off does not.
func TestRatesMayChange(t *testing.T) {
	const n = 2000
	for name, c := range map[string]struct {
		before, after Limits
		want          time.Duration
	}{
		"link, less":    {Limits{MessageRate: -1}, Limits{MessageRate: 100, MessageBurst: 1000}, 10 * time.Second},
		"link, more":    {Limits{MessageRate: 10, MessageBurst: 1000}, Limits{MessageRate: 1000, MessageBurst: 1000}, time.Second},
		"link, off":     {Limits{MessageRate: 10, MessageBurst: 1000}, Limits{MessageRate: -1}, 0},
		"address, less": {Limits{MessageRate: -1, AddressMessageRate: 1e6}, Limits{MessageRate: -1, AddressMessageRate: 100, AddressMessageBurst: 1000}, 10 * time.Second},
		"address, on":   {Limits{MessageRate: -1, AddressMessageRate: -1}, Limits{MessageRate: -1, AddressMessageRate: 100, AddressMessageBurst: 1000}, 10 * time.Second},
		"address, off":  {Limits{MessageRate: -1, AddressMessageRate: 10, AddressMessageBurst: 1000}, Limits{MessageRate: -1, AddressMessageRate: -1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c.before.config()
			cfg.PingInterval = time.Hour
			inBubble(t, cfg, func(h *harness) {
				h.openWebSocket() // two have a bucket together
				p, r := h.openWebSocket()
				if err := h.srv.SetLimits(c.after); err != nil {
					t.Fatal(err)
				}
				packets, _ := numbered(n)
				start := time.Now()
				for _, m := range packets {
					p.write(m)
				}
				synctest.Wait()
				for len(r.got()) < n && time.Since(start) < time.Minute {
					time.Sleep(10 * time.Millisecond)
				}
				if got := time.Since(start); got < c.want-c.want/5 || got > c.want+c.want/5 {
					t.Errorf("took %v, want %v", got, c.want)
				}
			})
		})
	}
}

// TestHandshakesMayChange: those of an address that has a bucket already.
func TestHandshakesMayChange(t *testing.T) {
	inBubble(t, Config{HandshakeRate: 1, HandshakeBurst: 2}, func(h *harness) {
		p := h.srv.shares.enter(netip.MustParseAddr("192.0.2.1"))
		h.srv.shares.enter(netip.MustParseAddr("192.0.2.1"))
		for range 2 {
			p.turn(0)
		}
		if _, ok := p.turn(0); ok {
			t.Error("a third one may come at once")
		}
		if err := h.srv.SetLimits(Limits{HandshakeRate: 1000, HandshakeBurst: 1000}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for range 1000 {
			if _, ok := p.turn(0); !ok {
				t.Fatal("the new rate does not hold")
			}
		}
		if got := h.srv.handshakeSetting(); got != "--handshake-rate=1000 --handshake-burst=1000" {
			t.Errorf("the log names %q", got)
		}
	})
}

// TestQueuesMayBeLarger: the bound of a link that is open, whose queue keeps what is in it when the bound becomes
// lower.
func TestQueuesMayBeLarger(t *testing.T) {
	inBubble(t, Config{QueueBytes: 1000}, func(h *harness) {
		try := &fakeTry{left: 1 << 20}
		h.srv.newTryWriter = func(c net.Conn, _ *rawWriter) tryWriter { try.conn = c; return try }
		_, r := h.openWebSocket()
		synctest.Wait()
		try.left = 0
		r.session.Admit()
		send := func(want Outcome) {
			t.Helper()
			if got := r.session.Send(NewMessage([]byte(strings.Repeat("x", 700)), nil), 0); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		}
		send(QueuedFlush)
		r.session.Flush()
		send(Full)
		for _, c := range []struct {
			bytes int
			want  Outcome
		}{{2000, Queued}, {500, Full}, {3000, Queued}} {
			if err := h.srv.SetLimits(limitsOf(h, func(l *Limits) { l.QueueBytes = c.bytes })); err != nil {
				t.Fatal(err)
			}
			send(c.want)
		}
	})
}

// TestSlowAfterMayChange: a client that was refused something before has the time that held then, and others the new
// one.
func TestSlowAfterMayChange(t *testing.T) {
	const before, after = 10 * time.Second, 3 * time.Second
	for name, c := range map[string]struct {
		change func(l *kernelLink) // sends more than fits
		want   time.Duration
	}{
		"refused afterwards": {func(l *kernelLink) { l.retime(after); l.fill(1000) }, after},
		"refused before":     {func(l *kernelLink) { l.fill(1000); l.retime(after) }, before},
	} {
		t.Run(name, func(t *testing.T) {
			inKernel(t, Config{QueueBytes: 32 << 10, SlowAfter: before}, 4<<10, func(l *kernelLink) {
				start := time.Now()
				c.change(l)
				<-l.r.done
				l.r.wantClosed(t, ReasonSlow)
				if d := time.Since(start); d != c.want {
					t.Errorf("closed after %v, want %v", d, c.want)
				}
			})
		})
	}
}

func (l *kernelLink) retime(slowAfter time.Duration) {
	limits := l.r.session.srv.Limits()
	limits.SlowAfter = slowAfter
	if err := l.r.session.srv.SetLimits(limits); err != nil {
		l.Error(err)
	}
}

// TestProxiesMayChange: a proxy is believed from when it is trusted until it is not; sessions keep the address that
// they came with.
func TestProxiesMayChange(t *testing.T) {
	h := serveTCP(t, Config{})
	open := func(trusted string, want string) *Session {
		t.Helper()
		l := Limits{}
		if trusted != "" {
			l.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(trusted)}
		}
		if err := h.srv.SetLimits(l); err != nil {
			t.Fatal(err)
		}
		h.do("GET", "EIO=4&transport=polling", nil, "X-Forwarded-For", "198.51.100.7")
		s := h.last().session
		if got := s.Handshake().Address(); got != want {
			t.Errorf("with %q trusted, the address is %s, want %s", trusted, got, want)
		}
		return s
	}
	open("", "127.0.0.1")
	told := open("127.0.0.0/8", "198.51.100.7")
	open("10.0.0.0/8", "127.0.0.1")
	if got := told.Handshake().Address(); got != "198.51.100.7" {
		t.Errorf("it has become %s", got)
	}
}

// TestLimitsChangeWhileInUse is for the race detector, and holds that a bucket that becomes smaller pauses nobody for
// ever.
func TestLimitsChangeWhileInUse(t *testing.T) {
	h := serveTCP(t, Config{})
	sh := h.srv.shares
	var users sync.WaitGroup
	for i := range 4 {
		users.Go(func() {
			for n := range 2000 {
				p := sh.enter(netip.AddrFrom4([4]byte{10, 0, byte(n), byte(i % 2)}))
				if wait := p.take(1 << 20); wait > time.Hour {
					t.Errorf("a pause of %v", wait)
				}
				p.turn(0)
				if out, seat := sh.sit(p); seat == seated && out == nil {
					sh.rise(p, nil)
				} else {
					sh.leave(p)
				}
			}
		})
	}
	for n := range 100 {
		if err := h.srv.SetLimits(Limits{MaxSessions: 10 + n, HandshakeBurst: 1 + n%7, AddressMessageRate: 1e9, AddressMessageBurst: 1 + n%11*100, MessageRate: 1 + n, QueueBytes: 1 + n, SlowAfter: time.Duration(1+n) * time.Second}); err != nil {
			t.Error(err)
		}
	}
	users.Wait()
}
