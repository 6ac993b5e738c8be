//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	foyerv1 "foyer/gen/foyer/v1"
)

// backend is a handler: it answers browsers' events and takes note of all that it is told.
type backend struct {
	emits    foyerv1.EmitServiceClient
	rooms    foyerv1.RoomServiceClient
	sockets  foyerv1.SocketServiceClient
	presence foyerv1.PresenceServiceClient
	node     foyerv1.NodeServiceClient
	nodes    []foyerv1.NodeServiceClient // node, or those of all that are looked at as one

	forgetEvents bool // it takes no note of events; set before it is attached

	conn   *grpc.ClientConn
	attach *grpc.ClientConn // for its stream
	stream foyerv1.HandlerService_AttachClient
	stop   context.CancelFunc
	decide func(*foyerv1.Connect) *foyerv1.ConnectReply // nil: all are accepted
	on     map[string]func(*event)                      // by event; others are echoed: the acknowledgement has the arguments

	onConnected  func(*foyerv1.Connected)
	onServerSide func(*event) // events of other servers; nil: they are only noted

	sending sync.Mutex                     // guards the sending side of stream
	told    *feed[*foyerv1.AttachResponse] // but for events that are answered here
}

// event is what a browser said.
type event struct {
	*foyerv1.Event
	b *backend
}

// reply acknowledges with these values.
func (e *event) reply(args ...any) {
	e.replyArgs(&foyerv1.Args{Args: &foyerv1.Args_Json{Json: toJSON(args)}})
}

func (e *event) replyArgs(args *foyerv1.Args) {
	e.b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{
		EventReply: &foyerv1.EventReply{CallId: e.GetCallId(), Args: args},
	}})
}

// echo acknowledges with the event's own arguments, byte for byte.
func (e *event) echo() {
	p := e.GetPayload()
	e.replyArgs(&foyerv1.Args{Args: &foyerv1.Args_Json{Json: p.GetJson()}, Attachments: p.GetAttachments()})
}

// command sends something in the order of the stream.
func (b *backend) command(c *foyerv1.Command) {
	b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Command{Command: c}})
}

// emit sends an event to a room (or one socket) in the order of the stream.
func (b *backend) emit(namespace, room, event string, args ...any) {
	b.command(&foyerv1.Command{Command: &foyerv1.Command_Emit{Emit: &foyerv1.EmitRequest{
		Target: &foyerv1.Target{Namespace: namespace, Rooms: []string{room}}, Payload: say(event, args...),
	}}})
}

func (b *backend) send(m *foyerv1.AttachRequest) {
	b.sending.Lock()
	defer b.sending.Unlock()
	_ = b.stream.Send(m) // when it cannot, the receiver hears why
}

func dial(addr string, creds credentials.TransportCredentials, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	return grpc.NewClient("passthrough:///"+addr, append(more, grpc.WithTransportCredentials(creds))...)
}

// api is a caller that handles nothing.
func api(t testing.TB, addr string) *backend {
	t.Helper()
	conn, err := dial(addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	b := newBackend(conn)
	if other, ok := streamsAt.Load(addr); ok {
		if b.attach, err = dial(other.(string), nil); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.attach.Close() })
	}
	if one, ok := nodesAt.Load(addr); ok {
		b.nodes = nil
		for _, f := range one.(*foyer).nodes {
			conn, err := dial(f.api, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			b.nodes = append(b.nodes, foyerv1.NewNodeServiceClient(conn))
		}
	}
	return b
}

func newBackend(conn *grpc.ClientConn) *backend {
	b := &backend{
		conn: conn, attach: conn, on: map[string]func(*event){}, told: newFeed[*foyerv1.AttachResponse](),
		emits: foyerv1.NewEmitServiceClient(conn), rooms: foyerv1.NewRoomServiceClient(conn),
		sockets: foyerv1.NewSocketServiceClient(conn), presence: foyerv1.NewPresenceServiceClient(conn),
		node: foyerv1.NewNodeServiceClient(conn),
	}
	b.nodes = []foyerv1.NodeServiceClient{b.node}
	return b
}

// attach registers a backend and waits until it is attached. prepare sets what it does before the first event can come.
func attach(t testing.TB, addr string, register *foyerv1.Register, prepare func(*backend)) *backend {
	t.Helper()
	return attachTo(t, api(t, addr), register, prepare)
}

// attachTo is attach for a backend that has its connection.
func attachTo(t testing.TB, b *backend, register *foyerv1.Register, prepare func(*backend)) *backend {
	t.Helper()
	if prepare != nil {
		prepare(b)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	ended := make(chan struct{})
	t.Cleanup(func() { cancel(); <-ended })
	attached := make(chan error, 1)
	go func() {
		defer close(ended)
		err := b.run(ctx, register, func() { attached <- nil })
		b.told.end()
		select {
		case attached <- err:
		default:
			if ctx.Err() == nil && !errors.Is(err, errDetached) {
				t.Logf("the backend's stream ended: %v", err)
			}
		}
	}()
	if err := <-attached; err != nil {
		t.Fatalf("attach: %v", err)
	}
	return b
}

var errDetached = errors.New("detached")

// run attaches once and serves until the stream ends.
func (b *backend) run(ctx context.Context, register *foyerv1.Register, attached func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := foyerv1.NewHandlerServiceClient(b.attach).Attach(ctx)
	if err != nil {
		return err
	}
	b.stream = stream
	b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: register}})
	for {
		m, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("%w: %w", errDetached, err)
		}
		switch what := m.GetMessage().(type) {
		case *foyerv1.AttachResponse_Registered:
			attached()
		case *foyerv1.AttachResponse_Connect:
			reply := accept()
			if b.decide != nil {
				reply = b.decide(what.Connect)
			}
			if reply != nil { // nil: it is left waiting
				reply.CallId = what.Connect.GetCallId()
				b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: reply}})
			}
		case *foyerv1.AttachResponse_Event:
			if !b.forgetEvents {
				b.told.add(m)
			}
			e := &event{what.Event, b}
			if answer := b.on[e.GetPayload().GetEvent()]; answer != nil {
				answer(e)
			} else {
				e.echo()
			}
			continue
		case *foyerv1.AttachResponse_Connected:
			if b.onConnected != nil {
				b.onConnected(what.Connected)
			}
		case *foyerv1.AttachResponse_ServerSideEvent:
			if b.onServerSide != nil {
				b.onServerSide(&event{&foyerv1.Event{CallId: what.ServerSideEvent.GetCallId(), Payload: what.ServerSideEvent.GetPayload()}, b})
			}
		}
		b.told.add(m)
	}
}

func accept(rooms ...string) *foyerv1.ConnectReply {
	return &foyerv1.ConnectReply{Decision: &foyerv1.ConnectReply_Accept{Accept: &foyerv1.Accept{Rooms: rooms}}}
}

// await returns the first thing this backend was told that is wanted.
func (b *backend) await(t testing.TB, what string, wanted func(*foyerv1.AttachResponse) bool) *foyerv1.AttachResponse {
	t.Helper()
	m, _, err := b.told.await(0, patience, wanted)
	if err != nil {
		t.Fatalf("the backend is not told: %s: %v", what, err)
	}
	return m
}

// knows waits until the backend was told of sockets. One that goes before that was never there for it.
func (b *backend) knows(t testing.TB, ids ...string) {
	t.Helper()
	for _, id := range ids {
		b.await(t, "socket "+id, func(m *foyerv1.AttachResponse) bool {
			return m.GetConnected().GetSocket().GetId() == id ||
				slices.ContainsFunc(m.GetAssigned().GetSockets(), func(s *foyerv1.Socket) bool { return s.GetId() == id })
		})
	}
}

// disconnected waits until the backend hears that a socket is gone, which it knows.
func (b *backend) disconnected(t testing.TB, id string) *foyerv1.Disconnected {
	t.Helper()
	return b.await(t, "disconnected "+id, func(m *foyerv1.AttachResponse) bool {
		return m.GetDisconnected().GetSocket().GetId() == id
	}).GetDisconnected()
}

// event waits for an event of this name.
func (b *backend) event(t testing.TB, name string) *foyerv1.Event {
	t.Helper()
	return b.await(t, "event "+name, func(m *foyerv1.AttachResponse) bool {
		return m.GetEvent().GetPayload().GetEvent() == name
	}).GetEvent()
}

// say is a payload of these arguments.
func say(event string, args ...any) *foyerv1.Payload {
	return &foyerv1.Payload{Event: event, Args: &foyerv1.Payload_Json{Json: toJSON(args)}}
}

// toJSON is for tests' own values; nil is an empty array.
func toJSON(args []any) string {
	if args == nil {
		return "[]"
	}
	out, err := json.Marshal(args)
	if err != nil {
		panic(err)
	}
	return string(out)
}

// ---- a backend that can be killed

// backendEnv has the address of the API when the test binary is run again as a backend of the crowd.
const backendEnv = "FOYER_E2E_BACKEND"

// crowdRegister is how the backend of a crowd registers: it decides connects, and takes much at once.
func crowdRegister() *foyerv1.Register {
	return &foyerv1.Register{
		Namespaces: []string{"/"}, Group: "crowd", DecideConnects: true, MaxInFlight: 8192,
		SocketView: foyerv1.SocketView_SOCKET_VIEW_REF,
	}
}

// crowdBackend answers "n" in both ways, by an event of its own, then by the acknowledgement, and says in both when
// that was.
func crowdBackend(b *backend) {
	b.on["n"] = func(e *event) {
		args := fmt.Sprintf("%s,%d]", strings.TrimSuffix(e.GetPayload().GetJson(), "]"), time.Now().UnixMilli())
		b.command(&foyerv1.Command{Command: &foyerv1.Command_Emit{Emit: &foyerv1.EmitRequest{
			Target:  &foyerv1.Target{Rooms: []string{e.GetSocket().GetId()}},
			Payload: &foyerv1.Payload{Event: "n", Args: &foyerv1.Payload_Json{Json: args}},
		}}})
		e.replyArgs(&foyerv1.Args{Args: &foyerv1.Args_Json{Json: args}})
	}
}

func runBackendProcess(addr string) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	conn, err := dial(addr, nil)
	if err != nil {
		fail(err)
	}
	b := newBackend(conn)
	crowdBackend(b)
	forget := time.AfterFunc(5*time.Minute, func() { fail(errors.New("nobody ended this")) })
	defer forget.Stop()
	fail(b.run(context.Background(), crowdRegister(), func() { fmt.Println("attached") }))
}
