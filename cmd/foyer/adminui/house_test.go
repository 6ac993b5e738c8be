package adminui

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"foyer/service"
	"foyer/transport/grpcapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// These tests run the panel over a real node and a real hall, each behind its real API, in a bubble. Only links are
// fakes: they write down what they are sent.

// plainCodec keeps packets as they are.
type plainCodec struct{}

type plainFrame []*service.Packet

func (f plainFrame) Len() (n int) {
	for _, p := range f {
		n += p.Size()
	}
	return n
}

func (plainCodec) Encode(p *service.Packet) (service.Frame, error) {
	copied := *p
	copied.Payload = []byte(string(p.Payload))
	return plainFrame{&copied}, nil
}

func (plainCodec) Join(frames []service.Frame) service.Frame {
	var all plainFrame
	for _, f := range frames {
		all = append(all, f.(plainFrame)...)
	}
	return all
}

// link is a client's link with one socket.
type link struct {
	name, address string
	node          *service.Node
	decided       chan struct{} // closed when it is in or refused

	mu      sync.Mutex
	socket  *service.Socket
	refused string
	closed  bool
	stuck   bool          // it takes nothing
	room    chan struct{} // never closed
	got     []*service.Packet
}

var _ service.Conn = (*link)(nil)

func (l *link) Codec() service.Codec { return plainCodec{} }

func (l *link) Send(f service.Frame, _ service.Flags) service.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return service.Closed
	case l.stuck:
		return service.Full
	}
	l.got = append(l.got, f.(plainFrame)...)
	return service.Queued
}

func (l *link) Room(int) (<-chan struct{}, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.room, time.Time{}
}

func (l *link) Probe(int, service.Flags) (service.Outcome, service.LinkState) {
	return service.Queued, service.LinkState{}
}
func (l *link) Flush()  {}
func (l *link) Pause()  {}
func (l *link) Resume() {}

// Close ends the socket from another goroutine, as links do.
func (l *link) Close(r service.Reason) {
	l.mu.Lock()
	s, was := l.socket, l.closed
	l.closed = true
	l.mu.Unlock()
	if s != nil && !was {
		time.AfterFunc(0, func() { l.node.End(s, r, "") })
	}
}
func (l *link) Dismiss()                     { l.Close(service.ReasonServerDisconnect) }
func (l *link) Forget(*service.Socket) bool  { return true }
func (l *link) SessionID() string            { return fmt.Sprintf("%-12s", l.name) }
func (l *link) Transport() string            { return "websocket" }
func (l *link) Handshake() service.Handshake { return shake{l.address} }

type shake struct{ address string }

func (s shake) Address() string          { return s.address }
func (shake) Time() time.Time            { return time.Unix(1_700_000_000, 0) }
func (shake) URL() string                { return "/socket.io/" }
func (shake) Query() map[string]string   { return map[string]string{"EIO": "4"} }
func (shake) Headers() map[string]string { return map[string]string{"user-agent": "test"} }
func (shake) Bytes() int                 { return 100 }

// dial opens a link from an address that connects to a namespace.
func dial(n *service.Node, name, namespace, address, auth string) *link {
	l := &link{name: name, address: address, node: n, decided: make(chan struct{}), room: make(chan struct{})}
	n.Connect(service.Connect{
		Conn: l, Namespace: namespace, Auth: []byte(auth),
		Bind: func(s *service.Socket) bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.socket = s
			close(l.decided)
			return !l.closed
		},
		Refuse: func(r service.Refusal) {
			l.refused = r.Message
			close(l.decided)
		},
	})
	return l
}

func (l *link) id() string { return string(l.socket.ID()) }

// hang has the link take nothing from now on.
func (l *link) hang() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stuck = true
}

func (l *link) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// told is an event that a page has been told.
type told struct {
	name string
	args []json.RawMessage
}

// text is an argument that is a string.
func (e told) text(i int) (s string) {
	if i < len(e.args) {
		_ = json.Unmarshal(e.args[i], &s)
	}
	return s
}

// take returns what the page has been told since the last call.
func (l *link) take(tb testing.TB) (list []told) {
	tb.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.got {
		if p.Kind != service.KindEvent {
			continue
		}
		e := told{name: p.Event}
		if err := json.Unmarshal(p.Payload, &e.args); err != nil {
			tb.Fatalf("%.200s: %v", p.Payload, err)
		}
		e.args = e.args[1:]
		list = append(list, e)
	}
	l.got = nil
	return list
}

// emit has the client send an event.
func (l *link) emit(event string, args ...any) {
	raw, _ := json.Marshal(append([]any{event}, args...))
	l.node.Receive(l.socket, &service.Packet{Kind: service.KindEvent, Namespace: l.socket.Namespace(), AckID: service.NoAck, Event: event, Payload: raw})
}

// house is a node, the hall of its operators, and the panel.
type house struct {
	testing.TB
	node, hall *service.Node
	counts     map[string]*atomic.Int64 // by reason
}

// openHouse runs the panel for a node, which may stand for a cluster, in a bubble.
func openHouse(t testing.TB, node *service.Node, api grpcapi.Node, change func(*Config)) *house {
	t.Helper()
	hall, err := service.New(service.Config{
		NodeID: "hall", Namespaces: []service.NamespaceConfig{{Pattern: "/", Connect: service.ConnectHandler}, {Pattern: Namespace, Connect: service.ConnectHandler}},
		MaxPayloadBytes: 8 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{TB: t, node: node, hall: hall, counts: map[string]*atomic.Int64{ReasonLogin: {}, ReasonSlow: {}}}
	users := new(Users)
	hash := hashOf(t, "secret")
	if _, err := users.Take([]byte("ann:" + hash + "\nbob:" + hash + ":readonly\n")); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Hall: serveMemory(t, hall), API: serveMemory(t, api), Users: users, Namespaces: node.Namespaces, Links: func() Links { return Links{} }, Hostname: "host", PID: 7, Log: zap.NewNop(), Told: zap.NewNop(),
		Count: func(reason string) { h.counts[reason].Add(1) },
	}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = Run(ctx, cfg) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		hall.Close()
	})
	synctest.Wait()
	return h
}

// serveMemory is a connection to the API of a node.
func serveMemory(t testing.TB, node grpcapi.Node) *grpc.ClientConn {
	t.Helper()
	s, err := grpcapi.New(grpcapi.Config{}, node)
	if err != nil {
		t.Fatal(err)
	}
	m := grpcapi.NewMemory()
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.ServeMemory(m) })
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return m.Dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		serving.Wait()
	})
	return conn
}

// lone is a house with a node that has no other nodes.
func lone(t testing.TB) *house { t.Helper(); return loneWith(t, nil) }

func loneWith(t testing.TB, change func(*Config)) *house {
	t.Helper()
	node, err := service.New(service.Config{NodeID: "node", Namespaces: []service.NamespaceConfig{{Pattern: "/"}, {Pattern: "/chat"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	return openHouse(t, node, node, change)
}

// login opens a page and waits until it is in or refused.
func (h *house) login(name, password, address string) *link {
	h.Helper()
	l := dial(h.hall, name, Namespace, address, fmt.Sprintf(`{"username":%q,"password":%q}`, name, password))
	<-l.decided
	return l
}

// enter opens a page of ann.
func (h *house) enter() *link {
	h.Helper()
	l := h.login("ann", "secret", "10.0.0.1")
	if l.refused != "" {
		h.Fatalf("ann is refused: %s", l.refused)
	}
	return l
}

func (h *house) count(reason string) int { return int(h.counts[reason].Load()) }

// crowd opens so many links to a namespace.
func (h *house) crowd(namespace, name string, n int) []*link {
	h.Helper()
	all := make([]*link, n)
	for i := range all {
		all[i] = dial(h.node, fmt.Sprintf("%s%d", name, i), namespace, "10.1.0.1", "")
		<-all[i].decided
		if all[i].socket == nil {
			h.Fatalf("a socket is refused: %s", all[i].refused)
		}
	}
	return all
}

// names are the events in their order.
func names(list []told) string {
	all := make([]string, len(list))
	for i, e := range list {
		all[i] = e.name
	}
	return strings.Join(all, " ")
}
