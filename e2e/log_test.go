//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
)

// These tests read what an operator reads who has the log alone, at its usual level.

// logLine is a line of the log with the fields that all refusals have.
type logLine struct {
	Level, Logger, Msg string

	Reason, Address, Session, Namespace, Detail, Setting string

	LeftOut int `json:"left_out"`

	text string
}

func parseLog(lines []string) []logLine {
	all := make([]logLine, 0, len(lines))
	for _, text := range lines {
		l := logLine{text: text}
		if json.Unmarshal([]byte(text), &l) == nil {
			all = append(all, l)
		}
	}
	return all
}

// awaitLine waits for a line that has a reason, and returns it.
func (f *foyer) awaitLine(t testing.TB, msg, reason string) logLine {
	t.Helper()
	text, _, err := f.log.await(0, patience, func(text string) bool {
		l := parseLog([]string{text})
		return len(l) == 1 && l[0].Msg == msg && l[0].Reason == reason
	})
	if err != nil {
		t.Fatalf("no line %q with reason %s: %v\n%s", msg, reason, err, f.tail(40))
	}
	return parseLog([]string{text})[0]
}

// TestRefusalsAreTold: each client or backend that is turned away has one line at info or above, from which the cause
// can be named.
func TestRefusalsAreTold(t *testing.T) {
	tokens := tokenFile(t, "secret")
	f := startFoyer(t, "--log-level=info", "--api-token-file="+tokens, "--namespaces=/guarded,/empty", "--connect=open,/guarded=handler,/empty=handler",
		"--handler-wait=3s", "--slow-after=1s", "--queue-bytes=64KiB", "--max-sessions-per-address=8", "--message-rate=100", "--message-burst=200")
	bearer := func(token string) *backend {
		conn, err := dial(f.api, nil, withToken(token)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return newBackend(conn)
	}
	b := attachTo(t, bearer("secret"), &foyerv1.Register{Namespaces: []string{"/", "/guarded"}}, nil)
	attachTo(t, bearer("secret"), &foyerv1.Register{Group: "guards", Namespaces: []string{"/guarded"}, DecideConnects: true, Events: []string{"none"}}, func(b *backend) {
		b.decide = func(c *foyerv1.Connect) *foyerv1.ConnectReply {
			return &foyerv1.ConnectReply{CallId: c.GetCallId(), Decision: &foyerv1.ConnectReply_Reject{Reject: &foyerv1.Reject{Message: "not on the list"}}}
		}
	})
	p := startPuppets(t)
	once := opts{"transports": []string{"websocket"}, "reconnection": false}
	request := func(from, method, query string) {
		t.Helper()
		client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialerFrom(from)}}
		req, err := http.NewRequestWithContext(t.Context(), method, f.url()+"/socket.io/?"+query, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	raw := func(from, header string) (*rawSocket, error) {
		conn, err := dialFrom(from, f.edge)
		if err != nil {
			t.Fatal(err)
		}
		return rawGreet(conn, f.edge, header)
	}
	const local = "127.0.0.1"
	for _, tc := range []struct {
		name        string
		msg, reason string
		address     string
		says        []string // in detail and setting
		cause       func(t *testing.T)
	}{
		{"a page of another origin", "handshake refused", "engineio_origin_refused", "127.0.0.11", []string{"https://evil.example", "--cors-origin="}, func(t *testing.T) {
			if _, err := raw("127.0.0.11", "Origin: https://evil.example\r\n"); err == nil {
				t.Error("it came in")
			}
		}},
		{"a client of version 2", "handshake refused", "engineio_handshake_bad_version", "127.0.0.12", []string{`EIO is "3"`, "--allow-eio3=false"}, func(*testing.T) {
			request("127.0.0.12", http.MethodGet, "EIO=3&transport=polling")
		}},
		{"a wrong method", "handshake refused", "engineio_handshake_bad_method", "127.0.0.13", []string{`"PUT"`}, func(*testing.T) {
			request("127.0.0.13", http.MethodPut, "EIO=4&transport=polling")
		}},
		{"a session that is not here", "request refused", "engineio_handshake_session_unknown", "127.0.0.14", []string{"sticky"}, func(*testing.T) {
			request("127.0.0.14", http.MethodGet, "EIO=4&transport=polling&sid=of-another-node")
		}},
		{"no such namespace", "connect refused", "invalid_namespace", local, []string{"--namespaces"}, func(t *testing.T) {
			c := p.open(t, f.url(), "/nowhere", once)
			c.expect("connect_error")
		}},
		{"a backend says no", "connect refused", "connect_rejected", local, []string{"guards", "not on the list"}, func(t *testing.T) {
			c := p.open(t, f.url(), "/guarded", once)
			if got := c.expect("connect_error"); got.Message != "not on the list" {
				t.Errorf("the client hears %q", got.Message)
			}
		}},
		{"nobody is there to decide", "connects wait", "connect_wait", local, []string{"no handler is there", "--handler-wait=3s"}, func(t *testing.T) {
			p.open(t, f.url(), "/empty", once)
		}},
		{"nobody came to decide", "connect refused", "connect_wait", local, []string{"no handler has come", "--handler-wait=3s"}, func(*testing.T) {}},
		{"a message that is too large", "session closed", "engineio_oversize", local, []string{" bytes is over --max-payload (1000000)", "--max-payload=1000000"}, func(t *testing.T) {
			c, id := p.connect(t, f.url(), "/", once)
			b.knows(t, id)
			c.emit("big", strings.Repeat("x", 1_200_000))
			c.expect("disconnect")
			gone := b.await(t, "the end of "+id, func(m *foyerv1.AttachResponse) bool { return m.GetDisconnected().GetSocket().GetId() == id }).GetDisconnected()
			if d := gone.GetDetail(); !strings.HasPrefix(d, "message of 12000") || !strings.HasSuffix(d, " bytes is over --max-payload (1000000)") {
				t.Errorf("the backend hears %q", d)
			}
		}},
		{"a packet that is none", "session closed", "socketio_packet_type", "127.0.0.15", []string{"no type"}, func(t *testing.T) {
			s := mustJoin(t, "127.0.0.15", f.edge)
			b.knows(t, s.id)
			_ = s.send("47")
			_, _ = s.next()
			gone := b.await(t, "its end", func(m *foyerv1.AttachResponse) bool { return m.GetDisconnected().GetSocket().GetId() == s.id }).GetDisconnected()
			if d := gone.GetDetail(); d != "a packet has no type that there is" {
				t.Errorf("the backend hears %q", d)
			}
		}},
		{"a client that does not read", "session closed", "engineio_slow", "127.0.0.16", []string{"has taken nothing for 1s", "--slow-after=1s"}, func(t *testing.T) {
			s := mustJoin(t, "127.0.0.16", f.edge)
			text := strings.Repeat("x", 50_000)
			ended := during(func(ctx context.Context) {
				for ctx.Err() == nil {
					_, _ = b.emits.Emit(ctx, &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: []string{s.id}}, Payload: say("big", text)})
				}
			})
			defer ended()
			f.awaitLine(t, "session closed", "engineio_slow")
		}},
		{"a client that sends too much", "link slowed", "engineio_link_slowed", "127.0.0.17", []string{"--message-rate=100"}, func(t *testing.T) {
			s := mustJoin(t, "127.0.0.17", f.edge)
			for range 400 {
				_ = s.send("3")
			}
		}},
		{"too many links of one address", "handshake refused", "engineio_handshake_share", "127.0.0.18", []string{"--max-sessions-per-address=8"}, func(t *testing.T) {
			for range 8 {
				mustJoin(t, "127.0.0.18", f.edge)
			}
			if _, err := rawOpen("127.0.0.18", f.edge); err == nil {
				t.Error("the ninth came in")
			}
		}},
		{"a token that is not known", "call refused", "api_call_unauthenticated", local, []string{"--api-token-file"}, func(t *testing.T) {
			_, err := bearer("wrong").node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
			if status.Code(err) != codes.Unauthenticated {
				t.Errorf("got %v", err)
			}
		}},
		{"TLS where there is none", "TLS handshake failed", "api_tls_failed", "127.0.0.19", []string{"does not", "--api-cert"}, func(t *testing.T) {
			conn, err := dialFrom("127.0.0.19", f.api)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(t.Context())
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.cause(t)
			l := f.awaitLine(t, tc.msg, tc.reason)
			said := l.Detail + " " + l.Setting
			for _, part := range tc.says {
				if !strings.Contains(said, part) {
					t.Errorf("%q is not in %s", part, l.text)
				}
			}
			if l.Address != tc.address {
				t.Errorf("want address %s in %s", tc.address, l.text)
			}
			n := 0
			for _, other := range parseLog(f.log.all()) {
				if other.Msg == tc.msg && other.Reason == tc.reason {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%d lines, want one", n)
			}
		})
	}
	counts := f.dropped(t, bearer("secret"))
	for _, l := range parseLog(f.log.all()) {
		if l.Reason != "" && counts[l.Reason] == 0 {
			t.Errorf("GetInfo does not count %s", l.text)
		}
	}
}

// dropped is what GetInfo counts.
func (f *foyer) dropped(t testing.TB, b *backend) map[string]int64 {
	t.Helper()
	return b.info(t).GetDropped()
}

// TestFailedHandshakesAreTold: of TLS, at both edges. A client that only looks whether the port is open is no news.
func TestFailedHandshakesAreTold(t *testing.T) {
	cert, key, pool := selfSigned(t)
	f := startFoyer(t, "--log-level=info", "--edge-cert="+cert, "--edge-key="+key, "--api-cert="+cert, "--api-key="+key)
	for _, edge := range []struct{ what, addr string }{{"edge", f.edge}, {"api", f.api}} {
		t.Run(edge.what, func(t *testing.T) {
			looks, err := dialFrom("127.0.0.21", edge.addr)
			if err != nil {
				t.Fatal(err)
			}
			looks.Close()
			conn, err := dialFrom("127.0.0.22", edge.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := tls.Client(conn, &tls.Config{ServerName: "localhost"}).HandshakeContext(t.Context()); err == nil {
				t.Fatal("a client that does not trust the certificate went on")
			}
			l := f.awaitLine(t, "TLS handshake failed", edge.what+"_tls_failed")
			if l.Address != "127.0.0.22" || !strings.Contains(l.Detail, "certificate") || l.Setting != "--"+edge.what+"-cert" {
				t.Errorf("the line is %s", l.text)
			}
		})
	}
	conn, err := dial(f.api, credentials.NewClientTLSFromCert(pool, "localhost"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n := f.dropped(t, newBackend(conn))["edge_tls_failed"]; n != 1 {
		t.Errorf("%d are counted at the edge, want 1", n)
	}
}

// TestLogIsNotFilled: what one hostile client repeats is a few lines, which say how many were left out.
func TestLogIsNotFilled(t *testing.T) {
	f := startFoyer(t, "--log-level=info", "--handshake-rate=-1")
	const repeats, clients = 10_000, 8
	began := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			client := &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialerFrom(mallory)}}
			defer client.CloseIdleConnections()
			for range repeats / clients {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, f.url()+"/socket.io/?EIO=4&transport=polling", http.NoBody)
				if err != nil {
					t.Error(err)
					return
				}
				res, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	wg.Wait()
	counted := f.dropped(t, api(t, f.api))["engineio_handshake_bad_method"]
	f.stop(t) // which says what has not been said
	most := 2 + int(time.Since(began)/(10*time.Second))
	lines, told := 0, 0
	for _, l := range parseLog(f.log.all()) {
		if l.Reason == "engineio_handshake_bad_method" {
			lines++
			told += 1 + l.LeftOut
		}
	}
	if counted != repeats || told != repeats || lines > most {
		t.Errorf("%d lines tell of %d refusals, and %d are counted; want %d in %d lines at most", lines, told, counted, repeats, most)
	}
}

// TestNormalRunIsQuiet: clients and backends that come and go as they do every day leave nothing in the log but the
// lives of backends, and nobody is warned.
func TestNormalRunIsQuiet(t *testing.T) {
	formats, nodes := []string{"json", "console"}, []string{}
	if nodesOfOne() > 1 {
		formats = formats[:1]
		nodes = []string{"node not reached yet", "bus up", "joined", "member hearsay", "member joining", "member up", "member leaving", "member gone"}
	}
	for _, format := range formats {
		t.Run(format, func(t *testing.T) {
			f := startFoyer(t, "--log-level=info", "--log-format="+format)
			first := attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}, HandlerId: "first"}, nil)
			second := attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}, HandlerId: "second"}, nil)
			p := startPuppets(t)
			for _, transport := range transports {
				c, _ := p.connect(t, f.url(), "/", quick.with(transport.opts))
				c.settle()
				c.op("disconnect")
				stays, _ := p.connect(t, f.url(), "/", quick.with(transport.opts))
				stays.settle()
			}
			tabs := startPuppets(t) // tabs that are closed
			for _, transport := range transports {
				c, _ := tabs.connect(t, f.url(), "/", quick.with(transport.opts))
				c.settle()
			}
			tabs.crash()
			second.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Drain{Drain: &foyerv1.Drain{}}})
			if _, _, err := second.told.await(0, patience, func(*foyerv1.AttachResponse) bool { return false }); !errors.Is(err, io.EOF) {
				t.Errorf("the second backend's stream: %v", err)
			}
			_ = first
			f.stop(t)
			usual := map[string]bool{"listening": true, "fewer descriptors than sessions": true, "handler attached": true, "handler detached": true, "draining": true, "drained": true}
			for _, line := range nodes {
				usual[line] = true
			}
			if format == "console" {
				for _, line := range f.log.all() {
					words := strings.Split(line, "\t")
					if len(words) < 3 || words[1] != "INFO" {
						t.Errorf("a line of a normal run: %s", line)
					}
				}
				return
			}
			seen := map[string]bool{}
			lines := parseLog(f.log.all())
			for _, l := range lines {
				seen[l.Msg] = true
				if !usual[l.Msg] || l.Level != "info" || strings.Contains(l.text, "stack") {
					t.Errorf("a line of a normal run: %s", l.text)
				}
			}
			for _, want := range []string{"handler attached", "handler detached", "drained"} {
				if !seen[want] {
					t.Errorf("no line %q", want)
				}
			}
			if len(lines) != len(f.log.all()) {
				t.Errorf("not all lines are JSON:\n%s", f.tail(20))
			}
			if out := f.out.all(); len(out) > 0 {
				t.Errorf("the greeting is for terminals; to a program it says %q", out)
			}
		})
	}
}

// TestListeningSaysWhoMayComeIn: what an operator looks up first when nobody comes in.
func TestListeningSaysWhoMayComeIn(t *testing.T) {
	cert, key, _ := selfSigned(t)
	f := startFoyer(t, "--log-level=info", "--edge-cert="+cert, "--edge-key="+key, "--namespaces=/chat,/live-*", "--connect=open,/chat=handler",
		"--cors-origin=https://example.com", "--api-token-file="+tokenFile(t, "secret"))
	for _, line := range f.log.all() {
		var l struct {
			Msg                 string
			Namespaces, Origins []string
			EdgeTLS             bool `json:"edge_tls"`
			APITLS              bool `json:"api_tls"`
			APIToken            bool `json:"api_token"`
		}
		if json.Unmarshal([]byte(line), &l) != nil || l.Msg != "listening" {
			continue
		}
		got := fmt.Sprint(l.Namespaces, l.Origins, l.EdgeTLS, l.APITLS, l.APIToken)
		if want := "[/=open /chat=handler /live-*=open] [the server's own https://example.com] true false true"; got != want {
			t.Errorf("it says %s, want %s", got, want)
		}
		return
	}
	t.Error("no line")
}

func tokenFile(t testing.TB, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// withToken has all calls of a connection show a token.
func withToken(token string) []grpc.DialOption {
	show := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return []grpc.DialOption{
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, in, out any, c *grpc.ClientConn, next grpc.UnaryInvoker, o ...grpc.CallOption) error {
			return next(show(ctx), method, in, out, c, o...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn, method string, next grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			return next(show(ctx), d, c, method, o...)
		}),
	}
}

func dialerFrom(from string) func(context.Context, string, string) (net.Conn, error) {
	return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}).DialContext
}
