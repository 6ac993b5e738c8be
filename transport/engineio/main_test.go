package engineio

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a Receiver that keeps what it gets.
type recorder struct {
	session *Session
	onMsg   func(s *Session, data []byte, binary bool)

	mu       sync.Mutex
	messages []string // binaries with a leading "b:"
	closed   []Reason
	detail   string
	done     chan struct{} // closed with the session
	late     bool          // a Message after Closed
}

func (r *recorder) Message(data []byte, binary bool) {
	r.mu.Lock()
	m := string(data)
	if binary {
		m = "b:" + m
	}
	r.late = r.late || len(r.closed) > 0
	r.messages = append(r.messages, m)
	r.mu.Unlock()
	if r.onMsg != nil {
		r.onMsg(r.session, data, binary)
	}
}

func (r *recorder) Closed(reason Reason, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed, r.detail = append(r.closed, reason), detail
	if len(r.closed) == 1 {
		close(r.done)
	}
}

func (r *recorder) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.messages...)
}

func (r *recorder) wantClosed(t testing.TB, want Reason) {
	t.Helper()
	select {
	case <-r.done:
	case <-time.After(20 * time.Second):
		t.Fatalf("session not closed, want %q", want)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.closed) != 1 || r.closed[0] != want {
		t.Errorf("closed %q, want once %q", r.closed, want)
	}
	if r.late {
		t.Error("Message after Closed")
	}
}

// harness is a server with clients.
type harness struct {
	testing.TB
	srv    *Server
	url    string // http://host
	client *http.Client
	dialer *websocket.Dialer

	mu    sync.Mutex
	all   []*recorder
	onMsg func(s *Session, data []byte, binary bool)
	setup func(s *Session)
}

func echo(s *Session, data []byte, binary bool) {
	m := NewMessage(data, nil)
	if binary {
		m = NewBinary(data)
	}
	if s.Send(m, 0) == QueuedFlush {
		s.Flush()
	}
}

func (h *harness) accept(s *Session) Receiver {
	r := &recorder{session: s, onMsg: h.onMsg, done: make(chan struct{})}
	if h.setup != nil {
		h.setup(s)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, r)
	return r
}

// last returns the receiver of the newest session.
func (h *harness) last() *recorder {
	h.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == 0 {
		h.Fatal("no session")
	}
	return h.all[len(h.all)-1]
}

func newHarness(t testing.TB, cfg Config) *harness {
	t.Helper()
	h := &harness{TB: t}
	srv, err := New(cfg, h.accept)
	if err != nil {
		t.Fatal(err)
	}
	h.srv = srv
	return h
}

// serveTCP serves over real sockets.
func serveTCP(t testing.TB, cfg Config) *harness {
	t.Helper()
	if cfg.PingInterval == 0 {
		cfg.PingInterval = time.Hour // a busy machine may take longer than the default for all clients of a test
	}
	h := newHarness(t, cfg)
	ts := httptest.NewServer(h.srv)
	h.url = ts.URL
	h.client = &http.Client{Transport: &http.Transport{DisableCompression: true}}
	h.dialer = &websocket.Dialer{}
	t.Cleanup(func() {
		h.srv.Close()
		h.client.CloseIdleConnections()
		ts.Close()
		if n := h.srv.Len(); n != 0 {
			t.Errorf("%d sessions after Close", n)
		}
		if n := len(h.srv.snapshot()); n != 0 {
			t.Errorf("%d sessions registered after Close", n)
		}
	})
	return h
}

// pipeListener is an in-memory net.Listener, for bubbles.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.conns <- a:
		return b, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// servePipe serves over net.Pipe. Its end must be called within the bubble.
func servePipe(t testing.TB, cfg Config) (h *harness, end func()) {
	t.Helper()
	h = newHarness(t, cfg)
	l := &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
	hs := &http.Server{Handler: h.srv}
	served := make(chan struct{})
	go func() { defer close(served); _ = hs.Serve(l) }()
	h.url = "http://pipe"
	tr := &http.Transport{DialContext: l.dial, DisableCompression: true}
	h.client = &http.Client{Transport: tr}
	h.dialer = &websocket.Dialer{NetDialContext: l.dial}
	return h, func() {
		h.srv.Close()
		tr.CloseIdleConnections()
		_ = hs.Close()
		<-served
	}
}

type response struct {
	status int
	header http.Header
	body   string
}

func (h *harness) do(method, query string, body io.Reader, header ...string) response {
	h.Helper()
	r, err := h.try(method, query, body, header...)
	if err != nil {
		h.Fatal(err)
	}
	return r
}

func (h *harness) try(method, query string, body io.Reader, header ...string) (response, error) {
	req, err := http.NewRequest(method, h.url+"/socket.io/?"+query, body)
	if err != nil {
		return response{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := h.client.Do(req)
	if err != nil {
		return response{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header, string(b)}, err
}

type openBody struct {
	SID                       string
	Upgrades                  []string
	PingInterval, PingTimeout int
	MaxPayload                int
}

func parseOpen(t testing.TB, b string) openBody {
	t.Helper()
	var o openBody
	if !strings.HasPrefix(b, "0{") {
		t.Fatalf("open packet %q", b)
	}
	if err := json.Unmarshal([]byte(b[1:]), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// openPolling makes a polling session and returns the query of its requests.
func (h *harness) openPolling() (query string, r *recorder) {
	h.Helper()
	res := h.do("GET", "EIO=4&transport=polling", nil)
	if res.status != 200 {
		h.Fatalf("handshake: %v", res)
	}
	return "EIO=4&transport=polling&sid=" + parseOpen(h, res.body).SID, h.last()
}

func (h *harness) dial(query string) *peer {
	h.Helper()
	c, _, err := h.dialer.Dial("ws"+strings.TrimPrefix(h.url, "http")+"/socket.io/?"+query, nil)
	if err != nil {
		h.Fatal(err)
	}
	p := &peer{TB: h.TB, conn: c}
	h.Cleanup(func() { _ = c.Close() })
	return p
}

// openWebSocket makes a websocket session and takes its open packet.
func (h *harness) openWebSocket() (*peer, *recorder) {
	h.Helper()
	p := h.dial("EIO=4&transport=websocket")
	parseOpen(h, p.read())
	return p, h.last()
}

func (h *harness) probe(query string) *peer {
	h.Helper()
	return h.dial(strings.Replace(query, "polling", "websocket", 1))
}

// peer is the client's end of a websocket.
type peer struct {
	testing.TB
	conn *websocket.Conn
}

func (p *peer) write(text string) {
	p.Helper()
	if err := p.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		p.Error(err)
	}
}

func (p *peer) read() string {
	p.Helper()
	typ, b, err := p.conn.ReadMessage()
	if err != nil {
		p.Fatalf("read: %v", err)
	}
	if typ == websocket.BinaryMessage {
		return "b:" + string(b)
	}
	return string(b)
}

func (p *peer) want(packets ...string) {
	p.Helper()
	for _, w := range packets {
		if g := p.read(); g != w {
			p.Fatalf("got %q, want %q", g, w)
		}
	}
}

// wantClose reads until the end and wants this close code.
func (p *peer) wantClose(code int) {
	p.Helper()
	for {
		_, _, err := p.conn.ReadMessage()
		if err == nil {
			continue
		}
		var ce *websocket.CloseError
		if !errors.As(err, &ce) || ce.Code != code {
			p.Errorf("got %v, want close %d", err, code)
		}
		_ = p.conn.Close()
		return
	}
}

// eventually polls a condition that real IO brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

// rawRequest writes bytes over TCP and returns all that comes back until the close.
func (h *harness) rawRequest(req string) string {
	h.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		h.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, req); err != nil {
		h.Fatal(err)
	}
	b, err := io.ReadAll(bufio.NewReader(c))
	if err != nil && len(b) == 0 {
		h.Fatal(err)
	}
	return string(b)
}

func upgradeRequest(query string, extra ...string) string {
	return fmt.Sprintf("GET /socket.io/?%s HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", query, strings.Join(extra, ""))
}

// pipedConn is the server's end for fuzzing: it reads fixed bytes and swallows what is written.
type pipedConn struct {
	net.Conn
	r io.Reader
}

func (c pipedConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c pipedConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c pipedConn) Close() error                     { return nil }
func (c pipedConn) SetDeadline(time.Time) error      { return nil }
func (c pipedConn) SetReadDeadline(time.Time) error  { return nil }
func (c pipedConn) SetWriteDeadline(time.Time) error { return nil }
