package passing

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"foyer/service"
	"foyer/transport/engineio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var secret = []byte("the key of the tests")

// cluster is some nodes, and a balancer before them that takes the next one for each request.
type cluster struct {
	testing.TB
	nodes  []*node
	turn   atomic.Int64
	client *http.Client

	mu      sync.Mutex
	members map[service.NodeID]Member
}

// node is an Engine.IO server with an edge, a peer listener and a Passing between the two.
type node struct {
	cluster *cluster
	name    service.NodeID
	passing *Passing
	engine  *engineio.Server
	edge    *httptest.Server
	peers   *httptest.Server
	asked   atomic.Int64 // requests at the peer listener

	mu     sync.Mutex
	closed []engineio.Reason // guarded by mu
	all    []*engineio.Session
}

// echo sends back what it gets.
type echo struct {
	node    *node
	session *engineio.Session
}

func (e echo) Message(data []byte, binary bool) {
	m := engineio.NewMessage(data, nil)
	if binary {
		m = engineio.NewBinary(data)
	}
	if e.session.Send(m, engineio.Owed) == engineio.QueuedFlush {
		e.session.Flush()
	}
}

func (e echo) Closed(r engineio.Reason, _ string) {
	e.node.mu.Lock()
	defer e.node.mu.Unlock()
	e.node.closed = append(e.node.closed, r)
}

type options struct {
	engine  func(*engineio.Config)
	passing func(*Config)
	secure  *authority
}

// startCluster starts nodes over real connections. When the test is over nothing of them may be left.
func startCluster(t testing.TB, o options, names ...service.NodeID) *cluster {
	t.Helper()
	c := &cluster{TB: t, members: map[service.NodeID]Member{}}
	c.client = &http.Client{Transport: &http.Transport{DisableCompression: true, DialContext: c.next}}
	for _, name := range names {
		c.nodes = append(c.nodes, c.start(name, o))
	}
	t.Cleanup(func() {
		c.client.CloseIdleConnections()
		for _, n := range c.nodes {
			n.passing.Close()
		}
		for _, n := range c.nodes {
			n.stop()
		}
	})
	return c
}

func (c *cluster) start(name service.NodeID, o options) *node {
	c.Helper()
	n := &node{cluster: c, name: name}
	cfg := Config{Self: name, Key: secret, Where: c.where}
	if o.secure != nil {
		cfg.TLS = o.secure.issue(c, string(name))
	}
	if o.passing != nil {
		o.passing(&cfg)
	}
	var err error
	if n.passing, err = New(cfg); err != nil {
		c.Fatal(err)
	}
	engine := engineio.Config{NewSID: n.passing.NewSID, Unknown: n.passing.Pass, QueueBytes: 4 << 20}
	if o.engine != nil {
		o.engine(&engine)
	}
	n.engine, err = engineio.New(engine, func(s *engineio.Session) engineio.Receiver {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.all = append(n.all, s)
		s.Admit() // all bounds are those of a session that has joined
		return echo{n, s}
	})
	if err != nil {
		c.Fatal(err)
	}
	n.edge = httptest.NewServer(n.engine)
	handler := n.passing.Handler(n.engine)
	n.peers = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.asked.Add(1)
		handler.ServeHTTP(w, r)
	}))
	if cfg.TLS != nil {
		n.peers.Listener = tlsListener(n.peers.Listener, cfg.TLS)
	}
	n.peers.Config.ErrorLog = quietLog
	n.peers.Start()
	c.put(name, n.peers.Listener.Addr().String())
	return n
}

func (n *node) stop() {
	n.engine.Close()
	n.passing.Close()
	n.edge.Close()
	n.peers.Close()
	if left := n.passing.Len(); left != 0 {
		n.cluster.Errorf("%s: %d are still passed", n.name, left)
	}
	if left := n.engine.Len(); left != 0 {
		n.cluster.Errorf("%s: %d sessions are left", n.name, left)
	}
}

func (c *cluster) where(name service.NodeID) (Member, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.members[name]
	return m, ok
}

func (c *cluster) put(name service.NodeID, address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[name] = Member{Address: address}
}

// leave has all know that a member is about to end.
func (c *cluster) leave(name service.NodeID) {
	c.turns(name, func(m *Member) { m.Leaving = true })
}

// miss has all know that a member's heartbeats do not come.
func (c *cluster) miss(name service.NodeID) {
	c.turns(name, func(m *Member) { m.Silent = true })
}

func (c *cluster) turns(name service.NodeID, turn func(*Member)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.members[name]
	turn(&m)
	c.members[name] = m
}

func (c *cluster) lose(name service.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.members, name)
}

// next is the balancer: whatever address is dialled, it is the next node's.
func (c *cluster) next(ctx context.Context, network, _ string) (net.Conn, error) {
	n := c.nodes[int(c.turn.Add(1))%len(c.nodes)]
	return (&net.Dialer{}).DialContext(ctx, network, n.edge.Listener.Addr().String())
}

type response struct {
	status int
	header http.Header
	body   string
}

// ask sends a request to one node.
func (n *node) ask(method, query, body string, header ...string) response {
	n.cluster.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	res, err := n.try(n.cluster.Context(), method, query, in, header...)
	if err != nil {
		n.cluster.Fatal(err)
	}
	return res
}

func (n *node) try(ctx context.Context, method, query string, body io.Reader, header ...string) (response, error) {
	return request1(ctx, http.DefaultClient, n.edge.URL, method, query, body, header...)
}

// request1 makes one request, on a connection of its own.
func request1(ctx context.Context, client *http.Client, url, method, query string, body io.Reader, header ...string) (response, error) {
	r, err := http.NewRequestWithContext(ctx, method, url+"/socket.io/?"+query, body)
	if err != nil {
		return response{}, err
	}
	r.Close = true
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(r)
	if err != nil {
		return response{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header, string(b)}, err
}

const polling = "EIO=4&transport=polling"

// open begins a polling session at a node and returns the query of its requests.
func (n *node) open() string {
	n.cluster.Helper()
	return polling + "&sid=" + sidIn(n.cluster, n.ask("GET", polling, "").body)
}

func sidIn(t testing.TB, packet string) string {
	t.Helper()
	var o struct{ SID string }
	if !strings.HasPrefix(packet, "0{") || json.Unmarshal([]byte(packet[1:]), &o) != nil || o.SID == "" {
		t.Fatalf("open packet %q", packet)
	}
	return o.SID
}

// dial opens a websocket at a node.
func (n *node) dial(query string) *peer {
	n.cluster.Helper()
	query = strings.Replace(query, "polling", "websocket", 1)
	c, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(n.edge.URL, "http")+"/socket.io/?"+query, nil)
	if err != nil {
		n.cluster.Fatalf("%v %v", err, res)
	}
	n.cluster.Cleanup(func() { _ = c.Close() })
	return &peer{n.cluster, c}
}

// upgrade moves a session to a websocket by way of this node.
func (n *node) upgrade(query string) *peer {
	n.cluster.Helper()
	p := n.dial(query)
	p.write("2probe")
	p.want("3probe")
	p.write("5")
	return p
}

func (n *node) count(k counter) uint64 { return n.passing.counts[k].Load() }

// drops are the counts of what should not have happened.
func (p *Passing) drops() map[string]int64 {
	m := p.Dropped()
	for k := countRequests; k < countersLen; k++ {
		delete(m, k.reason())
	}
	return m
}

func (n *node) wantClosed(want engineio.Reason) {
	n.cluster.Helper()
	eventually(n.cluster, "the session ends", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.closed) > 0
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if got := n.closed[0]; got != want {
		n.cluster.Errorf("closed with %q, want %q", got, want)
	}
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
	_ = p.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, b, err := p.conn.ReadMessage()
	if err != nil {
		p.Fatalf("read: %v", err)
	}
	return string(b)
}

func (p *peer) want(text string) {
	p.Helper()
	if got := p.read(); got != text {
		p.Fatalf("got %d bytes %.60q, want %d bytes %.60q", len(got), got, len(text), text)
	}
}

// wantEnd reads until the connection ends.
func (p *peer) wantEnd() {
	p.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for {
		if _, _, err := p.conn.ReadMessage(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				p.Error("the connection does not end")
			}
			return
		}
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

// descriptors are how many files the process has open.
func descriptors(t testing.TB) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
