package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func TestGetInfo(t *testing.T) {
	s, client := start(t, Config{
		Features: []string{"websocket"}, Sessions: func() int { return 9 }, MaxNamespacesPerLink: 100, QueueBytes: 1 << 20,
	}, newFakeNode())
	s.invalidReplies.Add(2)
	resp, err := client.node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := &foyerv1.GetInfoResponse{
		NodeId: "node", Version: "v0", Features: []string{"websocket"}, Sessions: proto.Int32(9), Sockets: proto.Int32(3),
		Namespaces: proto.Int32(1), Handlers: proto.Int32(0), Dropped: map[string]int64{"slow": 4, "reply_invalid": 2},
		Kept: map[string]int64{"rooms": 7},
		Limits: &foyerv1.Limits{
			MaxPayloadBytes: 1000, MaxAttachments: 10, MaxJsonDepth: 1000, MaxAckRecipients: 1000, MaxAckTimeout: durationpb.New(time.Minute),
			MaxPageSize: 1000, MaxRooms: 1000, MaxRoomsPerSocket: 3, MaxNameBytes: 255, MaxNamespacesPerLink: 100, QueueBytes: 1 << 20,
			MaxQueuedEvents: 64, MaxInFlight: 65536, DecideWithin: durationpb.New(5 * time.Second), HandlerWait: durationpb.New(10 * time.Second),
			MaxRequestBytes: 4*1000 + 1<<20,
		},
	}
	if diff := cmp.Diff(resp, want, protocmp.Transform()); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestAuthentication(t *testing.T) {
	_, client := start(t, Config{Tokens: []string{"first", "second"}}, newFakeNode())
	reflect := func(ctx context.Context) error {
		stream, err := reflectionpb.NewServerReflectionClient(client.conn).ServerReflectionInfo(ctx)
		if err != nil {
			return err
		}
		// The refusal may come before the question: then it is what Recv says.
		_ = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
		if _, err = stream.Recv(); err == nil {
			err = stream.CloseSend()
		}
		return err
	}
	calls := map[string]func(context.Context) error{
		"unary": func(ctx context.Context) error {
			_, err := client.node.GetInfo(ctx, &foyerv1.GetInfoRequest{})
			return err
		},
		"stream": func(ctx context.Context) error {
			stream, err := client.watch.Watch(ctx, &foyerv1.WatchRequest{All: true})
			if err != nil {
				return err
			}
			if _, err = stream.Recv(); statusReason(err) == word(foyerv1.ErrorReason_ERROR_REASON_DRAINING) {
				return nil // the fake's answer: it was asked
			}
			return err
		},
		"reflection": reflect,
	}
	for _, c := range []struct {
		name    string
		headers []string
		ok      bool
	}{
		{"none", nil, false},
		{"first", []string{"Bearer first"}, true},
		{"second", []string{"bearer second"}, true},
		{"wrong", []string{"Bearer third"}, false},
		{"empty", []string{"Bearer "}, false},
		{"no scheme", []string{"first"}, false},
		{"other scheme", []string{"Basic first"}, false},
		{"two", []string{"Bearer first", "Bearer second"}, false},
		{"prefix", []string{"Bearer firs"}, false},
	} {
		for kind, call := range calls {
			t.Run(c.name+" "+kind, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				ctx = metadata.NewOutgoingContext(ctx, metadata.MD{"authorization": c.headers})
				err := call(ctx)
				if c.ok {
					if err != nil {
						t.Errorf("got %v, want none", err)
					}
					return
				}
				wantError(t, err, codes.Unauthenticated, foyerv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "")
			})
		}
	}
	if _, err := healthpb.NewHealthClient(client.conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("health needs no token, got %v", err)
	}
}

func statusReason(err error) string {
	var reason string
	for _, d := range toStatus(err).Details() {
		if i, ok := d.(interface{ GetReason() string }); ok {
			reason = i.GetReason()
		}
	}
	return reason
}

// TestCallers: a caller is its token, or without tokens its address.
func TestCallers(t *testing.T) {
	n := newFakeNode()
	_, client := start(t, Config{Tokens: []string{"first", "second"}}, n)
	r := &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello(), RequestId: "1"}
	for i, token := range []string{"first", "second", "first", "second"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
		resp, err := client.emit.Emit(ctx, r)
		if err != nil || resp.GetDeduplicated() != (i >= 2) {
			t.Errorf("%d, %s: got %v, %v", i, token, resp, err)
		}
	}
}

// TestCallersBehindOneConnection: each call by a connection in memory has the address that it tells. That address is
// the caller where nobody has a token, and the log names it. A call by another connection has the address of that
// connection, whatever it tells.
func TestCallersBehindOneConnection(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	s, client := start(t, Config{Logger: zap.New(core)}, newFakeNode())
	as := func(address string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), ClientAddress, address)
	}
	emit := func(c *api, address string, repeat bool) {
		t.Helper()
		r, err := c.emit.Emit(as(address), &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello(), RequestId: "1"})
		if err != nil || r.GetDeduplicated() != repeat {
			t.Errorf("of %q: got %v, %v", address, r, err)
		}
	}
	emit(client, "10.0.0.1", false)
	emit(client, "10.0.0.2", false)
	emit(client, "10.0.0.1", true)
	refusedFor := func(c *api, told, want string) {
		t.Helper()
		before := logs.Len()
		if w, err := c.watch.Watch(as(told), &foyerv1.WatchRequest{}); err == nil {
			_, _ = w.Recv()
		}
		if lines := awaitLines(logs, before+1); len(lines) <= before || lines[before].ContextMap()["address"] != want {
			t.Errorf("the log has %v, want %s", lines, want)
		}
	}
	refusedFor(client, "10.0.0.3", "10.0.0.3")

	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	t.Cleanup(func() { s.Stop(); <-served })
	conn, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	outside := apiOf(conn)
	emit(outside, "10.0.0.1", false)
	refusedFor(outside, "10.0.0.4", "127.0.0.1")
}

// published are the services of the API.
var published = []grpc.ServiceDesc{
	foyerv1.EmitService_ServiceDesc, foyerv1.RoomService_ServiceDesc, foyerv1.SocketService_ServiceDesc,
	foyerv1.PresenceService_ServiceDesc, foyerv1.HandlerService_ServiceDesc, foyerv1.NodeService_ServiceDesc,
}

func TestHealth(t *testing.T) {
	s, client := start(t, Config{}, newFakeNode())
	health := healthpb.NewHealthClient(client.conn)
	names := []string{""}
	for _, d := range published {
		names = append(names, d.ServiceName)
	}
	check := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, name := range names {
			resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
			if err != nil || resp.GetStatus() != want {
				t.Errorf("%q: got %v, %v, want %v", name, resp.GetStatus(), err, want)
			}
		}
	}
	check(healthpb.HealthCheckResponse_SERVING)
	s.NotServing()
	check(healthpb.HealthCheckResponse_NOT_SERVING)
	if _, err := client.node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{}); err != nil {
		t.Errorf("calls are still served, got %v", err)
	}
}

func TestReflection(t *testing.T) {
	_, client := start(t, Config{}, newFakeNode())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := reflectionpb.NewServerReflectionClient(client.conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	for _, d := range published {
		if !slices.Contains(names, d.ServiceName) {
			t.Errorf("%s is not among %q", d.ServiceName, names)
		}
	}
}

// TestShutdown: a health watch, which nothing else would end, does not hold it up.
func TestShutdown(t *testing.T) {
	s, client := start(t, Config{}, newFakeNode())
	watch, err := healthpb.NewHealthClient(client.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("got %v, want none", err)
	}
}

func TestShutdownDeadline(t *testing.T) {
	n := newFakeNode()
	entered := make(chan struct{})
	n.onEmit = func(ctx context.Context, _ service.Emit) (service.Receipt, error) {
		close(entered)
		<-ctx.Done()
		return service.Receipt{}, ctx.Err()
	}
	s, client := start(t, Config{}, n)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = client.emit.Emit(t.Context(), &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello()})
	}()
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	<-done
}

func TestExposure(t *testing.T) {
	for _, c := range []struct {
		addr   net.Addr
		tokens []string
		ok     bool
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil, true},
		{&net.TCPAddr{IP: net.IPv6loopback}, nil, true},
		{&net.UnixAddr{Name: "/run/foyer"}, nil, true},
		{&net.TCPAddr{IP: net.IPv4zero}, nil, false},
		{&net.TCPAddr{}, nil, false},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, nil, false},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)}, []string{"t"}, true},
	} {
		s, err := newServer(Config{Tokens: c.tokens}, newFakeNode())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.checkExposure(c.addr); (err == nil) != c.ok {
			t.Errorf("%v with %d tokens: got %v, want ok %t", c.addr, len(c.tokens), err, c.ok)
		}
		s.Stop()
	}
	if _, err := newServer(Config{Tokens: []string{""}}, newFakeNode()); err == nil {
		t.Error("an empty token is taken")
	}
}

// raw sends bytes as they are.
type raw struct{}

func (raw) Name() string                       { return "proto" }
func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }

var _ encoding.Codec = raw{}

// TestUndecodable: bytes that are no message are the caller's mistake, said in our words.
func TestUndecodable(t *testing.T) {
	_, client := start(t, Config{}, newFakeNode())
	for _, c := range []struct {
		name, field, message string
		bytes                []byte
	}{
		{"not UTF-8", "payload.event", "payload.event: is not UTF-8", []byte{0x12, 0x03, 0x0a, 0x01, 0xff}},
		{"of a list", "target.rooms[1]", "target.rooms[1]: is not UTF-8", []byte{0x0a, 0x06, 0x12, 0x01, 'a', 0x12, 0x01, 0xff}},
		{"cut off", "payload", "payload: is cut off, or no protobuf", []byte{0x12, 0x7f}},
		{"cut off inside", "payload", "payload: the bytes are cut off, or are no foyer.v1.Payload", []byte{0x12, 0x01, 0x80}},
		{"no protobuf", "", "the bytes are cut off, or are no foyer.v1.EmitRequest", []byte("{}")},
		{"a mark of a client's own", "", "the message is no foyer.v1.EmitRequest", protowire.AppendString(undecodableMark[:len(undecodableMark):len(undecodableMark)], "x")},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out []byte
			err := client.conn.Invoke(t.Context(), foyerv1.EmitService_Emit_FullMethodName, &c.bytes, &out, grpc.ForceCodec(raw{}))
			wantError(t, err, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, c.field)
			if got := status.Convert(err).Message(); got != c.message {
				t.Errorf("got %q, want %q", got, c.message)
			}
		})
	}
	t.Run("stream", func(t *testing.T) {
		stream, err := client.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
			foyerv1.HandlerService_Attach_FullMethodName, grpc.ForceCodec(raw{}))
		if err != nil {
			t.Fatal(err)
		}
		in := []byte{0x0a, 0x7f}
		_ = stream.SendMsg(&in) // the refusal may come while it is being sent
		var out []byte
		err = stream.RecvMsg(&out)
		wantError(t, err, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "register")
	})
}

func ExampleConfig_Validate() {
	c := Config{Tokens: []string{"", "ok", ""}}
	fmt.Println(c.Validate())
	// Output:
	// token 0 is empty
	// token 2 is empty
}
