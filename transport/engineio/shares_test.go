package engineio

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// from makes the harness' clients come from another address of this machine.
func (h *harness) from(address string) *harness {
	h.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	tr := &http.Transport{DialContext: dialer.DialContext, DisableCompression: true}
	h.Cleanup(tr.CloseIdleConnections)
	return &harness{TB: h.TB, srv: h.srv, url: h.url, client: &http.Client{Transport: tr}}
}

// flood sends handshakes without waiting for their answers, over several connections, until its end is called. The
// first answers have come when it returns.
func (h *harness) flood(address string, connections int) (end func()) {
	h.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var flooders, begun sync.WaitGroup
	request := []byte(strings.Repeat("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n", 20))
	for range connections {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		c, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			h.Fatal(err)
		}
		context.AfterFunc(ctx, func() { _ = c.Close() })
		begun.Add(1)
		flooders.Go(func() {
			_, err := bufio.NewReader(c).ReadString('\n')
			begun.Done()
			if err == nil {
				_, _ = io.Copy(io.Discard, c)
			}
		})
		flooders.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.Write(request); err != nil {
					return
				}
			}
		})
	}
	begun.Wait()
	return func() { cancel(); flooders.Wait() }
}

// TestFloodKeepsNobodyOut: a few connections that make sessions as fast as they can take all places of the server in no
// time. A client that comes from elsewhere is let in at every moment, and stays until it has joined.
func TestFloodKeepsNobodyOut(t *testing.T) {
	for name, cfg := range map[string]Config{
		"share of an address": {MaxSessions: 60, HandshakeRate: -1},
		"without shares":      {MaxSessions: 60, MaxSessionsPerAddress: -1, HandshakeRate: -1},
	} {
		t.Run(name, func(t *testing.T) {
			h := serveTCP(t, cfg)
			h.onMsg = func(s *Session, _ []byte, _ bool) { s.Admit() }
			end := h.flood("127.0.0.2", 8)
			defer end()
			eventually(t, "the flood fills what it may have", func() bool { return h.srv.Stats()["displaced"] > 100 })
			quiet := h.from("127.0.0.3")
			for i := range 25 {
				res := quiet.do("GET", "EIO=4&transport=polling", nil)
				if res.status != 200 {
					t.Fatalf("client %d is kept out: %v", i, res)
				}
				q := "EIO=4&transport=polling&sid=" + parseOpen(t, res.body).SID
				if res := quiet.do("POST", q, strings.NewReader("4join")); res.body != "ok" {
					t.Fatalf("client %d did not come to join: %v", i, res)
				}
			}
			if n := h.srv.Len(); n > 60+2*h.srv.shares.leeway {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

// TestShareOfAddress: what has joined keeps its place. An address at its share is refused; others come in until all is
// taken.
func TestShareOfAddress(t *testing.T) {
	h := serveTCP(t, Config{MaxSessions: 5, MaxSessionsPerAddress: 2})
	h.setup = func(s *Session) { s.Admit() }
	statuses := func(h *harness, n int) (got []int) {
		for range n {
			res := h.do("GET", "EIO=4&transport=polling", nil)
			if got = append(got, res.status); res.status == 503 && res.header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
			}
		}
		return got
	}
	for address, want := range map[string][]int{"127.0.0.2": {200, 200, 503}, "127.0.0.3": {200, 200, 503}} {
		if got := statuses(h.from(address), 3); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
	if got := statuses(h.from("127.0.0.4"), 2); !slices.Equal(got, []int{200, 503}) {
		t.Errorf("the last place: %v", got)
	}
	if s := h.srv.Stats(); s["handshake_share"] != 2 || s["handshake_full"] != 1 || s["displaced"] != 0 {
		t.Errorf("counts: %v", s)
	}
}

// TestOldestGoesFirst: at its share an address makes room for itself, over either transport, by what it began first.
func TestOldestGoesFirst(t *testing.T) {
	h := serveTCP(t, Config{MaxSessions: 10, MaxSessionsPerAddress: 3})
	_, joined := h.openPolling()
	joined.session.Admit()
	p, first := h.openWebSocket()
	q, second := h.openPolling()
	h.openPolling()
	first.wantClosed(t, ReasonDisplaced)
	if _, _, err := p.conn.ReadMessage(); err == nil {
		t.Error("its connection goes on")
	}
	if res := h.do("POST", q, strings.NewReader("4a")); res.body != "ok" {
		t.Errorf("the second: %v", res)
	}
	h.openWebSocket()
	second.wantClosed(t, ReasonDisplaced)
	if res := h.do("POST", q, strings.NewReader("4a")); res.status != 400 {
		t.Errorf("the second, after its end: %v", res)
	}
	eventually(t, "their places are one's own", func() bool { return h.srv.Len() == 3 })
}

func TestHandshakeRate(t *testing.T) { synctest.Test(t, testHandshakeRate) }

// testHandshakeRate: over its rate an address waits, and only who would wait for long is refused.
func testHandshakeRate(t *testing.T) {
	h, end := servePipe(t, Config{HandshakeRate: 10, HandshakeBurst: 5})
	defer end()
	var mu sync.Mutex
	took := map[int][]time.Duration{}
	var clients sync.WaitGroup
	begin := time.Now()
	for range 40 {
		clients.Go(func() {
			res, err := h.try("GET", "EIO=4&transport=polling", nil)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				took[res.status] = append(took[res.status], time.Since(begin))
			}
		})
	}
	clients.Wait()
	// The first makes the entry, 5 more are the burst, then 10 in a second.
	served, refused := took[200], took[503]
	if len(served) != 16 || len(refused) != 24 {
		t.Fatalf("%d are served, %d refused", len(served), len(refused))
	}
	slices.Sort(served)
	if at := served[5]; at != 0 {
		t.Errorf("the burst waits for %v", at)
	}
	if at := served[15]; at != time.Second {
		t.Errorf("the last one waits for %v", at)
	}
	if at := slices.Max(refused); at != 0 {
		t.Errorf("a refusal takes %v", at)
	}
	if s := h.srv.Stats(); s["handshake_slowed"] != 10 || s["handshake_rate"] != 24 {
		t.Errorf("counts: %v", s)
	}
	time.Sleep(time.Second)
	if res := h.do("GET", "EIO=4&transport=polling", nil); res.status != 200 {
		t.Errorf("a second later: %v", res)
	}
}

func TestPeersAreForgotten(t *testing.T) { synctest.Test(t, testPeersAreForgotten) }

// testPeersAreForgotten: what is remembered of addresses is bounded by the clients that are there, and by those that
// were there just now.
func testPeersAreForgotten(t *testing.T) {
	sh := newShares(Config{HandshakeRate: 10, HandshakeBurst: 50}.withDefaults())
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	stays := sh.enter(address(0))
	for i := range 3 * maxIdlePeers {
		sh.leave(sh.enter(address(1 + i)))
	}
	if n := len(sh.peers); n > maxIdlePeers+2 {
		t.Errorf("%d addresses are remembered", n)
	}
	time.Sleep(4 * time.Second)
	busy := sh.enter(address(3 * maxIdlePeers))
	if busy.handshakes.Load() == nil {
		t.Error("an address came back too early to have a full bucket, and is unknown")
	}
	time.Sleep(6 * time.Second)
	for range maxIdlePeers {
		sh.leave(sh.enter(address(1)))
	}
	if n := len(sh.peers); n != 3 {
		t.Errorf("%d addresses are remembered, want the two that are there and the last", n)
	}
	if sh.enter(address(0)) != stays {
		t.Error("who is there was forgotten")
	}
}

func TestMessagesOfAddress(t *testing.T) { synctest.Test(t, testMessagesOfAddress) }

// testMessagesOfAddress: all links of an address have one bucket of messages. A link that is alone needs none.
func testMessagesOfAddress(t *testing.T) {
	sh := newShares(Config{AddressMessageRate: 100, AddressMessageBurst: 300}.withDefaults())
	p := sh.enter(netip.MustParseAddr("10.0.0.1"))
	if wait := p.take(1000); wait != 0 {
		t.Errorf("the only link waits for %v", wait)
	}
	sh.enter(netip.MustParseAddr("10.0.0.1"))
	var waits []time.Duration
	for range 5 {
		waits = append(waits, p.take(100))
	}
	if want := []time.Duration{0, 0, 0, time.Second, 2 * time.Second}; !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
}

func TestKeyOfAddress(t *testing.T) {
	sh := newShares(Config{}.withDefaults())
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"10.0.0.1", "10.0.0.2", false},
		{"10.0.0.1", "::ffff:10.0.0.1", true},
		{"2001:db8::1", "2001:db8::ffff:ffff:ffff:1", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"fe80::1%eth0", "fe80::2%eth1", true},
	} {
		if same := sh.enter(netip.MustParseAddr(tt.a)) == sh.enter(netip.MustParseAddr(tt.b)); same != tt.same {
			t.Errorf("%s and %s: counted together %v, want %v", tt.a, tt.b, same, tt.same)
		}
	}
}

// TestSharesModel compares the shares with a plain list of sessions: bounds hold, and it is always the right one that
// goes.
func TestSharesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{MaxSessions: 6, MaxSessionsPerAddress: rapid.SampledFrom([]int{-1, 2, 4}).Draw(t, "share")}.withDefaults()
		sh := newShares(cfg)
		type entry struct {
			ss     *Session
			joined bool
		}
		var seats []*entry // of the model, the oldest first
		var gone []*Session
		epoch := time.Now()
		remove := func(ss *Session) {
			seats = slices.DeleteFunc(seats, func(e *entry) bool { return e.ss == ss })
		}
		count := func(p *Peer, ok func(*entry) bool) (n int) {
			for _, e := range seats {
				if e.ss.peer == p && ok(e) {
					n++
				}
			}
			return n
		}
		all := func(*entry) bool { return true }
		unjoined := func(e *entry) bool { return !e.joined }
		oldest := func(p *Peer) *Session {
			for _, e := range seats {
				if e.ss.peer == p && !e.joined {
					return e.ss
				}
			}
			return nil
		}
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 5).Draw(t, "op"); {
			case op == 0 && len(seats) > 0:
				e := rapid.SampledFrom(seats).Draw(t, "who joins")
				e.joined = true
				sh.joined(e.ss)
			case op == 1 && len(seats) > 0:
				e := rapid.SampledFrom(seats).Draw(t, "who goes")
				remove(e.ss)
				sh.rise(e.ss.peer, e.ss)
			case op == 2 && len(gone) > 0:
				sh.rise(gone[0].peer, gone[0])
				gone = gone[1:]
			default:
				p := sh.enter(netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(1, 4).Draw(t, "address"))}))
				var want *Session
				full := false
				switch {
				case cfg.MaxSessionsPerAddress > 0 && count(p, all) >= cfg.MaxSessionsPerAddress:
					want, full = oldest(p), true
				case len(seats) >= cfg.MaxSessions:
					full = true
					for _, e := range seats {
						if q := e.ss.peer; !e.joined && (want == nil || count(q, unjoined) > count(want.peer, unjoined)) {
							want = oldest(q)
						}
					}
				}
				out, seat := sh.sit(p)
				if seat == overLeaving && len(gone) >= sh.leeway {
					sh.leave(p)
					continue
				}
				if out != want || (seat == seated) != (!full || want != nil) {
					t.Fatalf("step %d: %p goes, %d; want %p, full %v", step, out, seat, want, full)
				}
				if seat != seated {
					sh.leave(p)
					continue
				}
				if out != nil {
					remove(out)
					gone = append(gone, out)
				}
				ss := &Session{peer: p, handshake: &Handshake{time: epoch.Add(time.Duration(step))}}
				sh.arrive(ss)
				seats = append(seats, &entry{ss: ss})
			}
			if sh.taken != len(seats) || sh.leaving != len(gone) {
				t.Fatalf("step %d: %d seats, %d leave; want %d, %d", step, sh.taken, sh.leaving, len(seats), len(gone))
			}
		}
	})
}

func TestForwardedAddress(t *testing.T) {
	trusted := proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tt := range []struct {
		name, peer string
		header     []string
		want       string
	}{
		{"no proxy", "192.0.2.1:5", nil, "192.0.2.1"},
		{"nobody believes a stranger", "192.0.2.1:5", []string{"198.51.100.7"}, "192.0.2.1"},
		{"a proxy", "10.0.0.1:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"a proxy over IPv6", "[fd00::1]:5", []string{"2001:db8::7"}, "2001:db8::7"},
		{"a mapped proxy", "[::ffff:10.0.0.1]:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"what a client invents stands first", "10.0.0.1:5", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7"},
		{"two proxies", "10.0.0.1:5", []string{"203.0.113.9, 198.51.100.7,10.2.2.2"}, "198.51.100.7"},
		{"two lines", "10.0.0.1:5", []string{"203.0.113.9", "198.51.100.7", "10.2.2.2"}, "198.51.100.7"},
		{"a port", "10.0.0.1:5", []string{"198.51.100.7:8080"}, "198.51.100.7"},
		{"IPv6 with a port", "10.0.0.1:5", []string{"[2001:db8::7]:80"}, "2001:db8::7"},
		{"no header", "10.0.0.1:5", nil, "10.0.0.1"},
		{"only proxies", "10.0.0.1:5", []string{"10.1.1.1"}, "10.0.0.1"},
		{"malformed", "10.0.0.1:5", []string{"198.51.100.7, unknown"}, "10.0.0.1"},
		{"malformed before", "10.0.0.1:5", []string{"unknown, 198.51.100.7"}, "198.51.100.7"},
		{"empty entry", "10.0.0.1:5", []string{"198.51.100.7,"}, "10.0.0.1"},
		{"no address at all", "pipe", []string{"198.51.100.7"}, "pipe"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{"X-Forwarded-For": tt.header}}
			text, addr := trusted.client(r)
			if text != tt.want || text != "pipe" && addr.Unmap().String() != tt.want {
				t.Errorf("%s, %v; want %s", text, addr, tt.want)
			}
		})
	}
}

// FuzzForwarded: whatever a client writes, a proxy that adds the right address behind it is believed in that alone.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", ",", "1.2.3.4", "[::1]:", "10.0.0.1, , 10.0.0.1", "fe80::1%x,"} {
		f.Add(s)
	}
	trusted := proxies{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, invented string) {
		for _, header := range [][]string{{invented + ", 198.51.100.7"}, {invented, "198.51.100.7"}} {
			r := &http.Request{RemoteAddr: "10.0.0.1:5", Header: http.Header{"X-Forwarded-For": header}}
			if text, _ := trusted.client(r); text != "198.51.100.7" {
				t.Errorf("%q: %s", header, text)
			}
		}
		r := &http.Request{RemoteAddr: "10.0.0.1:5", Header: http.Header{"X-Forwarded-For": {invented}}}
		if text, addr := trusted.client(r); !addr.IsValid() || strings.ContainsAny(text, ", ") {
			t.Errorf("%q: %q", invented, text)
		}
	})
}

// TestTrustedProxy: the client's address is what backends are told and what is counted, not the proxy's.
func TestTrustedProxy(t *testing.T) {
	h := serveTCP(t, Config{MaxSessionsPerAddress: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	h.setup = func(s *Session) { s.Admit() }
	for i := range 3 {
		client := fmt.Sprintf("198.51.100.%d", i)
		for _, want := range []int{200, 503} {
			if res := h.do("GET", "EIO=4&transport=polling", nil, "X-Forwarded-For", client); res.status != want {
				t.Errorf("%s: %d, want %d", client, res.status, want)
			}
		}
		if got := h.last().session.Handshake().Address(); got != client {
			t.Errorf("address %s, want %s", got, client)
		}
	}
}
