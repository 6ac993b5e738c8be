package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"foyer/service"
	"foyer/transport/grpcapi"
)

// TestMain is asked by the scripts of completion too, as the binary is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == CompleteCommand {
		Complete(kong.Must(&Commands{}, kong.Name("foyer")).Model, Machine(), os.Args[2:])
		return
	}
	goleak.VerifyTestMain(m)
}

// hall is a node with its API, in memory and within a bubble, so that times are what a test makes them.
type hall struct {
	t      *testing.T
	node   *service.Node
	server *grpcapi.Server
	sys    *System
	links  []*link

	mu  sync.Mutex
	lis *bufconn.Listener // nil: nobody listens
	all sync.WaitGroup
}

// inHall runs a test in a hall.
func inHall(t *testing.T, test func(h *hall)) {
	t.Helper()
	t.Setenv("FOYER_API", "")
	synctest.Test(t, func(t *testing.T) {
		h := &hall{t: t, sys: &System{Contexts: filepath.Join(t.TempDir(), "foyer", "contexts.yaml")}}
		n, err := service.New(service.Config{NodeID: "AAAA", Namespaces: []service.NamespaceConfig{{Pattern: "/chat"}}})
		if err != nil {
			t.Fatal(err)
		}
		h.node = n
		h.sys.Dial = h.dial
		h.open(grpcapi.Config{})
		test(h)
		h.shut()
		for _, l := range h.links {
			close(l.sent)
		}
		n.Close()
		h.all.Wait()
	})
}

func (h *hall) dial(ctx context.Context, _ string) (net.Conn, error) {
	h.mu.Lock()
	lis := h.lis
	h.mu.Unlock()
	if lis == nil {
		return nil, fmt.Errorf("nobody listens")
	}
	return lis.DialContext(ctx)
}

// open has the API served.
func (h *hall) open(cfg grpcapi.Config) {
	h.t.Helper()
	server, err := grpcapi.New(cfg, h.node)
	if err != nil {
		h.t.Fatal(err)
	}
	h.server = server
	h.serve(server.Serve)
}

func (h *hall) serve(serve func(net.Listener) error) {
	lis := bufconn.Listen(1 << 20)
	h.mu.Lock()
	h.lis = lis
	h.mu.Unlock()
	h.all.Go(func() { _ = serve(far{lis}) })
}

// far has connections that come from elsewhere: the API takes those in memory for calls of its own process.
type far struct{ net.Listener }

type farConn struct{ net.Conn }

func (f far) Accept() (net.Conn, error) {
	conn, err := f.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return farConn{conn}, nil
}

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 1} }

// shut ends the API as a crash does.
func (h *hall) shut() {
	h.mu.Lock()
	h.lis = nil
	h.mu.Unlock()
	h.server.Stop()
}

// fake has a server of canned answers in place of the node's.
func fake(t *testing.T, register func(*grpc.Server), test func(h *hall)) {
	t.Helper()
	inHall(t, func(h *hall) {
		h.shut()
		s := grpc.NewServer()
		register(s)
		h.serve(s.Serve)
		test(h)
		s.Stop()
	})
}

// parse reads a command line, as the binary does.
func parse(sys *System, args ...string) (*kong.Context, error) {
	return parseInto(&Commands{}, sys, args...)
}

func parseInto(all *Commands, sys *System, args ...string) (*kong.Context, error) {
	parser := kong.Must(all, kong.Name("foyer"), kong.DefaultEnvars("FOYER"), kong.Bind(sys), kong.Exit(func(int) {}))
	return parser.Parse(args)
}

// say runs a command line and returns what it prints and its exit code.
func (h *hall) say(args ...string) (out, told string, code int) {
	h.t.Helper()
	return h.sayUntil(h.t.Context(), args...)
}

func (h *hall) sayUntil(ctx context.Context, args ...string) (out, told string, code int) {
	var o, e bytes.Buffer
	h.sys.Out, h.sys.Err = &o, &e
	k, err := parse(h.sys, args...)
	if err != nil {
		return "", err.Error() + "\n", Usage
	}
	k.BindTo(ctx, (*context.Context)(nil))
	if err = k.Run(); err != nil {
		e.WriteString("foyer: " + err.Error() + "\n")
	}
	return h.named(o.String()), h.named(e.String()), CodeOf(err)
}

// named has the names of links in place of the ids of their sockets, of the same length.
func (h *hall) named(text string) string {
	for _, l := range h.links {
		text = strings.ReplaceAll(text, l.id(), (l.name + strings.Repeat(".", 20))[:20])
	}
	return text
}

// want runs a command line and holds it against all that it should print.
func (h *hall) want(code int, out, told string, args ...string) {
	h.t.Helper()
	gotOut, gotTold, gotCode := h.say(args...)
	if gotCode != code {
		h.t.Errorf("%q: exit code %d, want %d", args, gotCode, code)
	}
	if d := cmp.Diff(out, gotOut); d != "" {
		h.t.Errorf("%q: on standard output (-want +got):\n%s", args, d)
	}
	if d := cmp.Diff(told, gotTold); d != "" {
		h.t.Errorf("%q: on standard error (-want +got):\n%s", args, d)
	}
}

// link is a client's link that takes everything, and answers what it is asked.
type link struct {
	name   string
	node   *service.Node
	socket *service.Socket
	sent   chan *service.Packet
	answer string // to each event that wants an acknowledgement; "": none

	mu  sync.Mutex
	got []string
}

// connect brings a client in, which answers so and is in these rooms.
func (h *hall) connect(name, namespace, answer string, rooms ...string) *link {
	h.t.Helper()
	l := &link{name: name, node: h.node, answer: answer, sent: make(chan *service.Packet, 1000)}
	h.links = append(h.links, l)
	h.all.Go(l.run)
	h.node.Connect(service.Connect{
		Conn: l, Namespace: namespace, Refuse: func(r service.Refusal) { h.t.Error(r) },
		Bind: func(s *service.Socket) bool { l.socket = s; return true },
	})
	if len(rooms) > 0 {
		if _, _, err := h.node.Join(h.t.Context(), service.Target{Namespace: namespace, Rooms: []string{l.id()}}, rooms); err != nil {
			h.t.Fatal(err)
		}
	}
	return l
}

func (l *link) id() string { return string(l.socket.ID()) }

func (l *link) run() {
	for p := range l.sent {
		if p.Kind == service.KindEvent {
			l.mu.Lock()
			l.got = append(l.got, string(p.Payload))
			l.mu.Unlock()
			if p.AckID != service.NoAck && l.answer != "" {
				l.node.Receive(l.socket, &service.Packet{Kind: service.KindAck, Namespace: p.Namespace, AckID: p.AckID, Payload: []byte(l.answer)})
			}
		}
	}
}

// heard are the events that came to the client.
func (l *link) heard() string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.got, " ")
}

type packets struct{}

type packetFrame []*service.Packet

func (f packetFrame) Len() int { return len(f) }

func (packets) Encode(p *service.Packet) (service.Frame, error) {
	one := *p
	return packetFrame{&one}, nil
}

func (packets) Join(frames []service.Frame) service.Frame {
	var all packetFrame
	for _, f := range frames {
		all = append(all, f.(packetFrame)...)
	}
	return all
}

func (l *link) Probe(int, service.Flags) (service.Outcome, service.LinkState) {
	return service.Queued, service.LinkState{Limit: 1000, Writable: true}
}
func (l *link) Codec() service.Codec { return packets{} }
func (l *link) Send(f service.Frame, _ service.Flags) service.Outcome {
	for _, p := range f.(packetFrame) {
		l.sent <- p
	}
	return service.Queued
}
func (l *link) Flush()                                {}
func (l *link) Room(int) (<-chan struct{}, time.Time) { return nil, time.Time{} }
func (l *link) Pause()                                {}
func (l *link) Resume()                               {}
func (l *link) Close(r service.Reason)                { l.node.End(l.socket, r, "") }
func (l *link) Dismiss()                              {}
func (l *link) Forget(*service.Socket) bool           { return true }
func (l *link) SessionID() string                     { return "session-" + l.name }
func (l *link) Transport() string                     { return "websocket" }
func (l *link) Handshake() service.Handshake          { return handshake{} }

type handshake struct{}

func (handshake) Address() string            { return "192.0.2.1" }
func (handshake) Time() time.Time            { return time.Time{} }
func (handshake) URL() string                { return "/socket.io/?EIO=4" }
func (handshake) Query() map[string]string   { return map[string]string{"EIO": "4"} }
func (handshake) Headers() map[string]string { return map[string]string{"user-agent": "a\x1bb"} }
func (handshake) Bytes() int                 { return 100 }

// emits has the client send an event.
func (l *link) emits(event, args string) {
	name, _ := json.Marshal(event)
	payload := fmt.Sprintf("[%s%s]", name, args)
	l.node.Receive(l.socket, &service.Packet{Kind: service.KindEvent, Namespace: l.socket.Namespace(), AckID: service.NoAck, Payload: []byte(payload), Event: event})
}
