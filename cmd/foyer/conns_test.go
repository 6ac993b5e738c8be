package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// start runs a node with other settings than the usual ones. It ends with the test.
func startNode(t *testing.T, change func(*foyer), args ...string) *foyer {
	t.Helper()
	s, err := parse(t, append([]string{"--edge", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "error"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	f := newFoyer(s, false, zap.NewNop())
	if change != nil {
		change(f)
	}
	if err := f.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.serve()
	t.Cleanup(func() {
		if !f.draining.Load() {
			f.close()
		}
	})
	return f
}

// dialFrom connects from an address of this machine and writes.
func dialFrom(t *testing.T, from string, to net.Listener, text string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", to.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_, _ = io.WriteString(c, text)
	return c
}

// answered says whether a request gets an answer.
func answered(c net.Conn, request string) bool {
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		return false
	}
	b := make([]byte, 12)
	_, err := io.ReadFull(c, b)
	return err == nil && strings.HasPrefix(string(b), "HTTP/1.1 ")
}

// ends waits until the other side has closed a connection.
func ends(t *testing.T, what string, c net.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: the connection is still open", what)
	}
}

const (
	getPage = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
	upgrade = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

func callHealth(t *testing.T, f *foyer) error {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+f.apiListener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	return err
}

// TestFullEdgeLeavesRoom: whatever is held open at the edge, clients from elsewhere, the API and the admin address are
// served. What waits without a request makes room, and what has one stays.
func TestFullEdgeLeavesRoom(t *testing.T) {
	f := startNode(t, nil, "--max-connections", "40")
	const poll = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n"
	polling := dialFrom(t, "127.0.0.2", f.edgeListener, poll)
	b := make([]byte, 4096)
	n, err := polling.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	_, sid, _ := strings.Cut(string(b[:n]), `"sid":"`)
	sid, _, _ = strings.Cut(sid, `"`)
	_, _ = io.WriteString(polling, strings.Replace(poll, "polling", "polling&sid="+sid, 1)) // waits as long as it likes
	for i := range 300 {
		dialFrom(t, "127.0.0.2", f.edgeListener, []string{"", "GET / HT", getPage}[i%3])
	}
	for range 20 {
		if !answered(dialFrom(t, "127.0.0.3", f.edgeListener, ""), getPage) {
			t.Fatal("a client from elsewhere is not served")
		}
	}
	if err := callHealth(t, f); err != nil {
		t.Errorf("the API: %v", err)
	}
	if !answered(dialFrom(t, "127.0.0.2", f.adminListener, ""), "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") {
		t.Error("the admin address is not served")
	}
	counts := map[string]int64{}
	f.edgeConns.counts(counts)
	f.edgeConns.mu.Lock()
	open := f.edgeConns.open
	f.edgeConns.mu.Unlock()
	if open > 40 || counts["edge_connection_displaced"] < 200 {
		t.Errorf("%d are open, counts %v", open, counts)
	}
	_ = polling.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := polling.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the poll under way was ended: %v", err)
	}
}

// TestConnectionsAreCountedOnce: whichever way connections end, all room is there again.
func TestConnectionsAreCountedOnce(t *testing.T) {
	f := startNode(t, func(f *foyer) { f.waits.header = 20 * time.Millisecond }, "--max-connections", "30")
	for range 5 {
		for _, text := range []string{"", "G", getPage, upgrade, strings.Replace(upgrade, "EIO=4", "EIO=9", 1), upgrade + "\xff\xff\xff"} {
			c := dialFrom(t, "127.0.0.4", f.edgeListener, text)
			if text == "" || text == "G" {
				ends(t, text, c)
			} else {
				_, _ = c.Read(make([]byte, 16))
			}
			_ = c.Close()
		}
	}
	eventually(t, "all room is there again", func() bool {
		f.edgeConns.mu.Lock()
		defer f.edgeConns.mu.Unlock()
		return f.edgeConns.open == 0 && f.edgeConns.queue.Len() == 0 && len(f.edgeConns.hosts) == 0
	})
}

// TestShareOfConnections: one address has three quarters, a trusted proxy is let in for many.
func TestShareOfConnections(t *testing.T) {
	for name, tt := range map[string]struct {
		args   []string
		excuse string // since the start
		want   int    // of 30 that have a request under way
	}{
		"a client":                {nil, "", 15},
		"a larger share":          {[]string{"--max-connections-per-address", "18"}, "", 18},
		"a trusted proxy":         {[]string{"--trusted-proxy", "127.0.0.0/8"}, "", 20},
		"a proxy that is trusted": {nil, "127.0.0.0/8", 20},
		"another one":             {[]string{"--trusted-proxy", "127.0.0.0/8"}, "10.0.0.0/8", 15},
	} {
		t.Run(name, func(t *testing.T) {
			f := startNode(t, nil, append(tt.args, "--max-connections", "20")...)
			if tt.excuse != "" {
				f.edgeConns.excuse([]netip.Prefix{netip.MustParsePrefix(tt.excuse)})
			}
			open := 0
			for range 30 {
				c := dialFrom(t, "127.0.0.5", f.edgeListener, "")
				if answered(c, upgrade) {
					open++
				}
			}
			if open != tt.want || f.edgeConns.refused.Load() != int64(30-tt.want) {
				t.Errorf("%d are let in, %d refused; want %d", open, f.edgeConns.refused.Load(), tt.want)
			}
		})
	}
}

// TestShareOfNetworks: a network of 64 bits has one share, and a proxy of it that is named by its address has none.
func TestShareOfNetworks(t *testing.T) {
	const most, share = 20, 5
	for name, tt := range map[string]struct {
		from, trusted string
		want          int
	}{
		"a network":                       {"2001:db8::%x", "", share},
		"a proxy by its address":          {"2001:db8::7", "2001:db8::7/128", most},
		"its neighbour":                   {"2001:db8::8", "2001:db8::7/128", share},
		"a proxy by its network":          {"2001:db8::%x", "2001:db8::/64", most},
		"a proxy on this machine":         {"::1", "::1/128", most},
		"IPv4":                            {"10.0.0.1", "", share},
		"a proxy by IPv4":                 {"10.0.0.1", "10.0.0.1/32", most},
		"another address of IPv4 as well": {"10.0.0.2", "10.0.0.1/32", share},
	} {
		var trusted []netip.Prefix
		if tt.trusted != "" {
			trusted = append(trusted, netip.MustParsePrefix(tt.trusted))
		}
		cs := newConns("edge", most, share, trusted, zap.NewNop())
		open := 0
		for i := range most + 5 {
			from := tt.from
			if strings.Contains(from, "%") {
				from = fmt.Sprintf(from, i+1)
			}
			if _, c := cs.admitLocked(nil, netip.MustParseAddr(from)); c != nil {
				c.busy.Store(true)
				open++
			}
		}
		if open != tt.want {
			t.Errorf("%s: %d are let in, want %d", name, open, tt.want)
		}
	}
}

// failing is a listener that has no descriptors for a while.
type failing struct {
	net.Listener
	left int
}

func (l *failing) Accept() (net.Conn, error) {
	if l.left--; l.left >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// TestFailedAcceptsAreTold: they are counted, told once, and end nothing.
func TestFailedAcceptsAreTold(t *testing.T) {
	raw, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	cs := newConns("edge", 10, 0, nil, seldom(zap.New(core)))
	srv := &http.Server{
		Handler: http.NotFoundHandler(), ConnState: cs.changed, ReadHeaderTimeout: time.Minute,
		ErrorLog: zap.NewStdLog(zap.NewNop()),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(cs.listen(&failing{raw, 4})) }()
	if !answered(dialFrom(t, "127.0.0.1", raw, ""), getPage) {
		t.Error("the server does not go on")
	}
	_ = srv.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	if n := cs.failed.Load(); n != 4 {
		t.Errorf("%d are counted", n)
	}
	if told := logs.All(); len(told) != 1 || told[0].Level != zapcore.ErrorLevel || told[0].ContextMap()["reason"] != "edge_accept_failed" {
		t.Errorf("log: %v", told)
	}
}

func TestSharedFiles(t *testing.T) {
	for limit, want := range map[uint64]files{
		0:       {api: 4096},
		1 << 62: {api: 4096},
		16:      {edge: 1, api: 4, admin: 4},
		1024:    {edge: 712, api: 256, admin: 8},
		20000:   {edge: 15404, api: 4096, admin: 156},
		1 << 20: {edge: 1<<20 - 4096 - 512 - 512, api: 4096, admin: 512},
	} {
		got := sharedFiles(limit, 4096)
		if got != want {
			t.Errorf("%d: %+v, want %+v", limit, got, want)
		}
		if limit >= 64 && limit < 1<<30 && got.edge+got.api+got.admin >= int(limit) {
			t.Errorf("%d: %+v is all of it", limit, got)
		}
	}
	if hostKey(netip.MustParseAddr("2001:db8::1")) != hostKey(netip.MustParseAddr("2001:db8::2")) {
		t.Error("IPv6 is not counted by its first 64 bits")
	}
}

// drips writes a byte now and then until the other side has had enough.
func drips(c net.Conn, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.WriteString(c, "x"); err != nil {
			return
		}
	}
}

// TestNoWaitWithoutEnd: a client that owes bytes and does not send them, or sends one at a time, is gone after a while,
// on every listener and path, and keeps nobody else out meanwhile.
func TestNoWaitWithoutEnd(t *testing.T) {
	const wait = 300 * time.Millisecond
	cert, key := selfSigned(t)
	for _, secure := range []bool{false, true} {
		args := []string{"--max-connections", "1000"}
		if secure {
			args = append(args, "--edge-cert", cert, "--edge-key", key)
		}
		f := startNode(t, func(f *foyer) {
			f.waits.header, f.waits.body, f.waits.idle = wait, wait, wait
		}, args...)
		body := func(method, path string) string {
			return method + " " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
		}
		texts := map[string]string{
			"silent": "", "half a header": "GET / HTTP/1.1\r\nHo", "half a greeting": "\x16\x03\x01\x02\x00\x01",
		}
		if !secure {
			for name, text := range map[string]string{
				"a body for a file": body("GET", "/socket.io/socket.io.js"), "for nothing": body("POST", "/nothing"), "for the page": body("POST", "/"),
				"for a session that is not there": body("POST", "/socket.io/?EIO=4&transport=polling&sid=x"),
				"for a handshake":                 body("GET", "/socket.io/?EIO=4&transport=polling"),
				"in chunks":                       "POST /nothing HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
				"that was promised":               strings.Replace(body("POST", "/nothing"), "\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1),
				"nothing after a page":            getPage,
			} {
				texts[name] = text
			}
		}
		adminTexts := map[string]string{"silent": "", "half a header": "GET / HTTP/1.1\r\nHo", "a body": body("GET", "/healthz"), "a body for nothing": body("POST", "/x")}
		type owing struct {
			name string
			conn net.Conn
		}
		var all []owing
		for i := range 40 {
			for name, text := range texts {
				c := dialFrom(t, "127.0.0.6", f.edgeListener, text)
				if all = append(all, owing{"edge, " + name, c}); i == 0 {
					go drips(c, 20*time.Millisecond)
				}
			}
			for name, text := range adminTexts {
				c := dialFrom(t, "127.0.0.6", f.adminListener, text)
				if all = append(all, owing{"admin, " + name, c}); i == 0 {
					go drips(c, 20*time.Millisecond)
				}
			}
		}
		// A client without an answer for longer than the deadline was late itself, as on a busy machine. Another one tries.
		letsIn := func(to net.Listener, request string) bool {
			for range 20 {
				began := time.Now()
				if answered(dialFrom(t, "127.0.0.7", to, ""), request) {
					return true
				}
				if time.Since(began) < wait {
					return false
				}
			}
			return false
		}
		if !secure && !letsIn(f.edgeListener, getPage) {
			t.Error("others are kept out")
		}
		if !letsIn(f.adminListener, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") {
			t.Error("health is kept out")
		}
		for _, o := range all {
			ends(t, o.name, o.conn)
		}
	}
}

// TestAnswersThatNobodyTakes: a client that asks and does not read is gone after a while, too.
func TestAnswersThatNobodyTakes(t *testing.T) {
	f := startNode(t, func(f *foyer) { f.waits.write, f.waits.idle = 200*time.Millisecond, 200*time.Millisecond })
	for _, l := range []net.Listener{f.edgeListener, f.adminListener} {
		c := dialFrom(t, "127.0.0.9", l, "")
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		go func() {
			for {
				if _, err := io.WriteString(c, strings.Repeat(getPage, 100)); err != nil {
					return
				}
			}
		}()
	}
	eventually(t, "both are gone", func() bool {
		for _, cs := range []*conns{f.edgeConns, f.adminConns} {
			cs.mu.Lock()
			open := cs.open
			cs.mu.Unlock()
			if open > 0 {
				return false
			}
		}
		return true
	})
}

// TestWhoNeverJoinsIsGone: a session that has joined nothing ends with its connect timeout, whatever it is in the
// middle of.
func TestWhoNeverJoinsIsGone(t *testing.T) {
	f := startNode(t, nil, "--connect-timeout", "200ms", "--connect", "handler", "--handler-wait", "10m")
	const request = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n"
	frame := func(text string) string { // of a client, masked with zeros
		return string(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...))
	}
	polling := func() string {
		c := dialFrom(t, "127.0.0.1", f.edgeListener, request)
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		_, sid, _ := strings.Cut(string(b[:n]), `"sid":"`)
		sid, _, _ = strings.Cut(sid, `"`)
		return "polling&sid=" + sid
	}
	for name, text := range map[string]string{
		"a websocket":                   upgrade,
		"a websocket that is undecided": upgrade + frame("40"),
		"a poll":                        strings.Replace(request, "polling", polling(), 1),
		"a probe":                       strings.Replace(upgrade, "websocket HTTP", strings.Replace(polling(), "polling", "websocket", 1)+" HTTP", 1) + frame("2probe"),
	} {
		c := dialFrom(t, "127.0.0.1", f.edgeListener, text)
		if name == "a poll" { // its connection may be used again, its answer is the end of the session
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
			b := make([]byte, 4096)
			if n, err := c.Read(b); err != nil || !strings.HasSuffix(string(b[:n]), "1") {
				t.Errorf("a poll: %q, %v", b[:n], err)
			}
			continue
		}
		ends(t, name, c)
	}
}

// TestLongPollIsNoWaitForBytes: the deadlines are for bytes that are owed. A client that waits for us may wait, and use
// the connection again. The poll waits longer than the deadlines. They may be too short for a busy machine, so the
// second try has long ones.
func TestLongPollIsNoWaitForBytes(t *testing.T) {
	if err := pollLong(t, time.Second, "2500ms"); err != nil {
		t.Log(err)
		if err := pollLong(t, 10*time.Second, "12s"); err != nil {
			t.Error(err)
		}
	}
}

func pollLong(t *testing.T, wait time.Duration, pingInterval string) error {
	t.Helper()
	f := startNode(t, func(f *foyer) { f.waits.body, f.waits.header = wait, wait }, "--ping-interval", pingInterval)
	client := &http.Client{Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	url := "http://" + f.edgeListener.Addr().String() + "/socket.io/?EIO=4&transport=polling"
	ask := func(method, query, body string) (string, error) {
		return request(t.Context(), client, method, url+query, body)
	}
	open, err := ask(http.MethodGet, "", "")
	if err != nil {
		return err
	}
	_, sid, _ := strings.Cut(open, `"sid":"`)
	sid, _, _ = strings.Cut(sid, `"`)
	for range 2 {
		poll, err := ask(http.MethodGet, "&sid="+sid, "")
		if err != nil {
			return err
		}
		pong, err := ask(http.MethodPost, "&sid="+sid, "3")
		if err != nil {
			return err
		}
		if poll != "2" || pong != "ok" {
			return fmt.Errorf("a poll is answered %q, want a ping, and a pong %q", poll, pong)
		}
	}
	return nil
}

// TestDrainWaitsForNobodyWhoOwes: connections that ask for nothing, links that have joined nothing, and greetings that
// do not come hold no step of a drain up. The steps' own bounds are far away here, so that whoever waits for one is
// seen.
func TestDrainWaitsForNobodyWhoOwes(t *testing.T) {
	cert, key := selfSigned(t)
	for name, args := range map[string][]string{
		"plain": nil,
		"TLS":   {"--edge-cert", cert, "--edge-key", key, "--api-cert", cert, "--api-key", key},
	} {
		t.Run(name, func(t *testing.T) {
			f := startNode(t, func(f *foyer) { f.waits.lastPoll, f.waits.end = time.Hour, time.Hour }, append(args, "--drain-window", "20ms")...)
			for range 20 {
				for _, l := range []net.Listener{f.edgeListener, f.apiListener, f.adminListener} {
					dialFrom(t, "127.0.0.8", l, "")
					dialFrom(t, "127.0.0.8", l, "PRI * HT")
					dialFrom(t, "127.0.0.8", l, "\x16\x03\x01\x02\x00\x01")
					dialFrom(t, "127.0.0.8", l, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
				}
			}
			if name == "plain" {
				for range 20 {
					if !answered(dialFrom(t, "127.0.0.8", f.edgeListener, ""), "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n") {
						t.Fatal("no handshake")
					}
				}
			}
			done := make(chan struct{})
			go func() { defer close(done); f.drain() }()
			select {
			case <-done:
			case <-time.After(60 * time.Second):
				t.Fatal("the drain waits for somebody")
			}
		})
	}
}

// selfSigned makes a certificate for a moment.
func selfSigned(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

// TestIdleConnIsSmall: every websocket has one.
func TestIdleConnIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(conn{}); size > 32 {
		t.Errorf("%d bytes, at most 32 were meant", size)
	}
}
