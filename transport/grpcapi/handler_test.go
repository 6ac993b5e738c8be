package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// backend is a client's end of a handler stream.
type backend struct {
	testing.TB
	grpc.BidiStreamingClient[foyerv1.AttachRequest, foyerv1.AttachResponse]
	n *fakeNode
	h *fakeHandler
	s *Server
}

// attach starts a server and opens a stream to it.
func attach(t testing.TB) *backend {
	t.Helper()
	b := &backend{TB: t, n: newFakeNode(), h: newFakeHandler()}
	b.n.onAttach = func(service.Registration) (handler, error) { return b.h, nil }
	var client *api
	b.s, client = start(t, Config{}, b.n)
	stream, err := client.handler.Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.BidiStreamingClient = stream
	return b
}

// registered is attach, and the stream is registered.
func registered(t testing.TB, view foyerv1.SocketView) *backend {
	t.Helper()
	b := attach(t)
	b.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"chat"}, SocketView: view}}})
	if got := b.hear().GetRegistered(); got.GetHandlerId() != "h1" || got.GetNodeId() != "node" || got.GetMaxInFlight() != 7 || got.GetLimits().GetMaxPayloadBytes() != 1000 {
		t.Errorf("got %v", got)
	}
	if diff := cmp.Diff(b.n.noted(), []string{"attach [/chat]"}); diff != "" {
		t.Error(diff)
	}
	return b
}

func (b *backend) say(m *foyerv1.AttachRequest) {
	b.Helper()
	if err := b.Send(m); err != nil {
		b.Fatal(err)
	}
}

func (b *backend) hear() *foyerv1.AttachResponse {
	b.Helper()
	m, err := b.Recv()
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// wantSaid checks what reached the service.
func (b *backend) wantSaid(want ...string) {
	b.Helper()
	for _, w := range want {
		if got := <-b.h.said; got != w {
			b.Errorf("got %q, want %q", got, w)
		}
	}
}

func command(id uint64, c *foyerv1.Command) *foyerv1.AttachRequest {
	c.Id = id
	return &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Command{Command: c}}
}

func joinCommand(id uint64, rooms ...string) *foyerv1.AttachRequest {
	return command(id, &foyerv1.Command{Command: &foyerv1.Command_Join{Join: &foyerv1.JoinRoomsRequest{Target: toRoom("r"), Rooms: rooms}}})
}

func reply(id uint64, json string, attachments ...[]byte) *foyerv1.AttachRequest {
	return &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{
		CallId: id, Args: &foyerv1.Args{Args: &foyerv1.Args_Json{Json: json}, Attachments: attachments},
	}}}
}

func TestAttachNotices(t *testing.T) {
	b := registered(t, foyerv1.SocketView_SOCKET_VIEW_BASIC)
	info := someSocket()
	basic, full := socketOf(foyerv1.SocketView_SOCKET_VIEW_BASIC), socketOf(foyerv1.SocketView_SOCKET_VIEW_FULL)
	full.Handshake.Auth = &structpb.Struct{Fields: map[string]*structpb.Value{"token": structpb.NewStringValue("secret")}}
	for _, c := range []struct {
		name   string
		notice service.Notice
		want   *foyerv1.AttachResponse
	}{
		{
			"connect carries everything and auth",
			service.Notice{Kind: service.NoticeConnect, CallID: 1, Sockets: []*service.SocketInfo{&info}},
			&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Connect{Connect: &foyerv1.Connect{CallId: 1, Socket: full, DecideWithin: durationpb.New(5 * time.Second)}}},
		},
		{
			"connected",
			service.Notice{Kind: service.NoticeConnected, Sockets: []*service.SocketInfo{&info}},
			&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Connected{Connected: &foyerv1.Connected{Socket: basic}}},
		},
		{
			"assigned",
			service.Notice{Kind: service.NoticeAssigned, Sockets: []*service.SocketInfo{&info, &info}},
			&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Assigned{Assigned: &foyerv1.Assigned{Sockets: []*foyerv1.Socket{basic, basic}, Cause: foyerv1.Assigned_CAUSE_ATTACHED}}},
		},
		{
			"failover",
			service.Notice{Kind: service.NoticeAssigned, Failover: true, Sockets: []*service.SocketInfo{&info}},
			&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Assigned{Assigned: &foyerv1.Assigned{Sockets: []*foyerv1.Socket{basic}, Cause: foyerv1.Assigned_CAUSE_FAILOVER}}},
		},
		{
			"disconnected",
			service.Notice{Kind: service.NoticeDisconnected, Sockets: []*service.SocketInfo{&info}, Reason: service.ReasonSlow},
			&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Disconnected{Disconnected: &foyerv1.Disconnected{Socket: basic, Reason: foyerv1.DisconnectReason_DISCONNECT_REASON_SLOW, Detail: "slow"}}},
		},
		{
			"node drains",
			service.Notice{Kind: service.NoticeDraining, Until: someTime},
			&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Draining{Draining: &foyerv1.Draining{Reason: foyerv1.DrainReason_DRAIN_REASON_NODE_DRAIN, Until: timestamppb.New(someTime)}}},
		},
		{
			"replaced",
			service.Notice{Kind: service.NoticeDraining, Replaced: true, Until: someTime},
			&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Draining{Draining: &foyerv1.Draining{Reason: foyerv1.DrainReason_DRAIN_REASON_REPLACED, Until: timestamppb.New(someTime)}}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.h.queue <- c.notice
			if diff := cmp.Diff(b.hear(), c.want, protocmp.Transform()); diff != "" {
				t.Errorf("(-got +want):\n%s", diff)
			}
		})
	}
	t.Run("auth that cannot be told is no auth", func(*testing.T) {
		bad := info
		bad.Auth = []byte(strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40))
		b.h.queue <- service.Notice{Kind: service.NoticeConnect, CallID: 2, Sockets: []*service.SocketInfo{&bad}}
		b.wantSaid("reject 2: invalid auth  false")
	})
}

func TestDisconnectedHasItsRoomsInEveryView(t *testing.T) {
	b := registered(t, foyerv1.SocketView_SOCKET_VIEW_REF)
	info := someSocket()
	b.h.queue <- service.Notice{Kind: service.NoticeDisconnected, Sockets: []*service.SocketInfo{&info}}
	want := socketOf(foyerv1.SocketView_SOCKET_VIEW_REF)
	want.Rooms = []string{"a", "b"}
	if diff := cmp.Diff(b.hear().GetDisconnected().GetSocket(), want, protocmp.Transform()); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestAssignedChunks(t *testing.T) {
	b := registered(t, 0)
	info := service.SocketInfo{Rooms: []string{strings.Repeat("r", 400_000)}}
	b.h.queue <- service.Notice{Kind: service.NoticeAssigned, Sockets: []*service.SocketInfo{&info, &info, &info}}
	if one, two := len(b.hear().GetAssigned().GetSockets()), len(b.hear().GetAssigned().GetSockets()); one != 2 || two != 1 {
		t.Errorf("got %d and %d sockets, want 2 and 1", one, two)
	}
}

func TestAttachMessages(t *testing.T) {
	b := registered(t, 0)
	data, err := structpb.NewStruct(map[string]any{"b": 1, "a": "x"})
	if err != nil {
		t.Fatal(err)
	}
	accept := func(a *foyerv1.Accept) *foyerv1.AttachRequest {
		return &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: &foyerv1.ConnectReply{CallId: 3, Decision: &foyerv1.ConnectReply_Accept{Accept: a}}}}
	}
	reject := func(r *foyerv1.Reject) *foyerv1.AttachRequest {
		return &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: &foyerv1.ConnectReply{CallId: 4, Decision: &foyerv1.ConnectReply_Reject{Reject: r}}}}
	}
	const faulty3, faulty4 = "reject 3: internal error  false", "reject 4: internal error  false"
	deep := structpb.NewNumberValue(1)
	for range maxStructDepth {
		deep = structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"a": deep}})
	}
	for _, c := range []struct {
		name string
		say  *foyerv1.AttachRequest
		want string
	}{
		{"reply", reply(1, `["ok",{"_placeholder":true,"num":0}]`, []byte("x")), `reply 1: ["ok",{"_placeholder":true,"num":0}] ["x"]`},
		{"reply without arguments", &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{CallId: 2}}}, `reply 2: [] []`},
		{"reply that is no array", reply(3, `{}`), "no ack 3"},
		{"reply with a placeholder of nothing", reply(3, `[{"_placeholder":true,"num":0}]`), "no ack 3"},
		{"reply with an attachment that nothing names", reply(3, `["a"]`, []byte("a")), "no ack 3"},
		{"reply that is too large", reply(4, `["`+strings.Repeat("x", 1000)+`"]`), "no ack 4"},
		{"handled", &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Handled{Handled: &foyerv1.Handled{UpTo: 9}}}, "handled 9"},
		{"accept", accept(&foyerv1.Accept{Rooms: []string{"a", "b"}, UserId: "u", Data: data}), `accept 3: [a b] u {"a":"x","b":1}`},
		{"accept plainly", accept(nil), `accept 3: []  `},
		{"accept into an empty room", accept(&foyerv1.Accept{Rooms: []string{""}}), faulty3},
		{"accept into too many rooms", accept(&foyerv1.Accept{Rooms: []string{"1", "2", "3", "4"}}), faulty3},
		{"accept with a long user", accept(&foyerv1.Accept{UserId: strings.Repeat("u", maxUserID+1)}), faulty3},
		{"accept with large data", accept(&foyerv1.Accept{Data: &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewStringValue(strings.Repeat("x", service.MaxDataBytes))}}}), faulty3},
		{"accept with deep data", accept(&foyerv1.Accept{Data: &structpb.Struct{Fields: map[string]*structpb.Value{"a": deep}}}), faulty3},
		{"accept with broken data", accept(&foyerv1.Accept{Data: &structpb.Struct{Fields: map[string]*structpb.Value{"a": {}}}}), faulty3},
		{"reject", reject(&foyerv1.Reject{Message: "no", Data: structpb.NewStringValue("x")}), `reject 4: no "x" false`},
		{"reject and retry", reject(&foyerv1.Reject{Message: "later", Retry: true}), `reject 4: later  true`},
		{"reject at length", reject(&foyerv1.Reject{Message: strings.Repeat("x", maxMessage+1)}), faulty4},
		{"reject with broken data", reject(&foyerv1.Reject{Data: &structpb.Value{}}), faulty4},
		{"no decision", &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: &foyerv1.ConnectReply{CallId: 4}}}, faulty4},
	} {
		t.Run(c.name, func(*testing.T) {
			b.say(c.say)
			b.wantSaid(c.want)
		})
	}
	if r, d := b.s.invalidReplies.Load(), b.s.invalidDecisions.Load(); r != 4 || d != 9 {
		t.Errorf("counted %d invalid replies and %d invalid decisions, want 4 and 9", r, d)
	}
}

func TestCommands(t *testing.T) {
	b := registered(t, 0)
	b.say(command(1, &foyerv1.Command{Command: &foyerv1.Command_Emit{Emit: &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello()}}}))
	b.say(joinCommand(2, "x"))
	b.say(joinCommand(0, "no result"))
	b.say(command(3, &foyerv1.Command{Command: &foyerv1.Command_Leave{Leave: &foyerv1.LeaveRoomsRequest{Target: toRoom("r"), Rooms: []string{"x"}}}}))
	b.say(command(4, &foyerv1.Command{Command: &foyerv1.Command_Disconnect{Disconnect: &foyerv1.DisconnectSocketsRequest{Target: toRoom("r")}}}))
	ok := &foyerv1.Coverage{}
	for _, want := range []*foyerv1.CommandResult{
		{Id: 1, Result: &foyerv1.CommandResult_Emit{Emit: &foyerv1.EmitResponse{Matched: proto.Int32(2), Enqueued: proto.Int32(2), DroppedVolatile: proto.Int32(0), DroppedSlow: proto.Int32(0), Coverage: ok}}},
		{Id: 2, Result: &foyerv1.CommandResult_Join{Join: &foyerv1.JoinRoomsResponse{Matched: proto.Int32(1), Coverage: ok}}},
		{Id: 3, Result: &foyerv1.CommandResult_Leave{Leave: &foyerv1.LeaveRoomsResponse{Matched: proto.Int32(1), Coverage: &foyerv1.Coverage{Unreachable: []string{"b"}, UnreachableUnnamed: 1, UncountedNodes: 2}}}},
		{Id: 4, Result: &foyerv1.CommandResult_Disconnect{Disconnect: &foyerv1.DisconnectSocketsResponse{Matched: proto.Int32(1), Coverage: ok}}},
	} {
		if diff := cmp.Diff(b.hear().GetCommandResult(), want, protocmp.Transform()); diff != "" {
			t.Errorf("result %d (-got +want):\n%s", want.GetId(), diff)
		}
	}
	want := []string{"batch of 1", `emit ["hello","world"] to [r]`, "join [r]: [x]", "join [r]: [no result]", "leave [r]: [x]", "disconnect [r]: 0"}
	if diff := cmp.Diff(b.n.noted(), want); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
}

func TestCommandErrors(t *testing.T) {
	b := registered(t, 0)
	b.n.onEmit = func(context.Context, service.Emit) (service.Receipt, error) {
		return service.Receipt{}, fmt.Errorf("a fault")
	}
	for i, c := range []struct {
		name    string
		command *foyerv1.Command
		code    codes.Code
		reason  foyerv1.ErrorReason
		field   string
	}{
		{"bad target", &foyerv1.Command{Command: &foyerv1.Command_Join{Join: &foyerv1.JoinRoomsRequest{Target: toRoom("")}}}, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_TARGET, "command.join.target.rooms[0]"},
		{"nothing in it", &foyerv1.Command{Command: &foyerv1.Command_Leave{}}, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_TARGET, "command.leave.target"},
		{"no command", &foyerv1.Command{}, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "command"},
		{"update", &foyerv1.Command{Command: &foyerv1.Command_Update{}}, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "command.update.socket_id"},
		{"server-side emit", &foyerv1.Command{Command: &foyerv1.Command_ServerSideEmit{}}, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "command.server_side_emit.payload"},
		{"server-side emit that asks", &foyerv1.Command{Command: &foyerv1.Command_ServerSideEmit{ServerSideEmit: &foyerv1.ServerSideEmitRequest{Payload: jsonPayload("connection", "[]"), WantsReplies: true}}}, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_RESERVED_EVENT, "command.server_side_emit.payload.event"},
		{"fault", &foyerv1.Command{Command: &foyerv1.Command_Emit{Emit: &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello()}}}, codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.say(command(0, proto.CloneOf(c.command))) // nobody hears of this one
			b.say(command(uint64(i+1), c.command))
			result := b.hear().GetCommandResult()
			if result.GetId() != uint64(i+1) {
				t.Fatalf("got %v", result)
			}
			wantStatus(t, status.FromProto(result.GetError()), c.code, c.reason, c.field)
		})
	}
}

// TestStreamOrder: whatever a backend says takes effect in the order in which it was said, and results come in order.
func TestStreamOrder(t *testing.T) {
	b := registered(t, 0)
	go func() {
		for i := range 3000 { // three times what may wait, so that reading has to pause
			if b.Send(joinCommand(uint64(i+1), fmt.Sprint(i))) != nil {
				return
			}
		}
	}()
	for i := range 3000 {
		if got := b.hear().GetCommandResult().GetId(); got != uint64(i+1) {
			t.Fatalf("got result %d, want %d", got, i+1)
		}
	}
	for i, call := range b.n.noted() {
		if want := fmt.Sprintf("join [r]: [%d]", i); call != want {
			t.Fatalf("got %q, want %q", call, want)
		}
	}
}

func TestAttachRefusals(t *testing.T) {
	register := &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/"}}}}
	const notRegistered = foyerv1.ErrorReason_ERROR_REASON_NOT_REGISTERED
	for _, c := range []struct {
		name   string
		say    []*foyerv1.AttachRequest
		code   codes.Code
		reason foyerv1.ErrorReason
		field  string
	}{
		{"does not register", []*foyerv1.AttachRequest{joinCommand(1, "x")}, codes.FailedPrecondition, notRegistered, "register"},
		{"says nothing", []*foyerv1.AttachRequest{{}}, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "message"},
		{"registers twice", []*foyerv1.AttachRequest{register, register}, codes.FailedPrecondition, notRegistered, "register"},
		{"says nothing later", []*foyerv1.AttachRequest{register, {}}, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "message"},
		{"registers nothing", []*foyerv1.AttachRequest{{Message: &foyerv1.AttachRequest_Register{}}}, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "register.namespaces"},
		{"leaves", nil, codes.FailedPrecondition, notRegistered, "register"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := attach(t)
			for _, m := range c.say {
				b.say(m)
			}
			if len(c.say) == 0 {
				if err := b.CloseSend(); err != nil {
					t.Fatal(err)
				}
			}
			if len(c.say) == 2 {
				b.hear() // registered
			}
			_, err := b.Recv()
			wantError(t, err, c.code, c.reason, c.field)
			if len(c.say) == 2 {
				<-b.h.detached
			}
		})
	}
	t.Run("claimed", func(t *testing.T) {
		b := attach(t)
		b.n.onAttach = func(service.Registration) (handler, error) {
			return nil, &service.Error{Code: service.Precondition, Reason: "ALREADY_CLAIMED", Message: `group "x" has it`, Field: "register.events"}
		}
		b.say(register)
		_, err := b.Recv()
		wantError(t, err, codes.FailedPrecondition, foyerv1.ErrorReason_ERROR_REASON_ALREADY_CLAIMED, "register.events")
	})
}

func TestRegisterInTime(t *testing.T) { bubble(t, testRegisterInTime) }

func testRegisterInTime(t *testing.T) {
	b := attach(t)
	began := time.Now()
	_, err := b.Recv()
	wantError(t, err, codes.FailedPrecondition, foyerv1.ErrorReason_ERROR_REASON_NOT_REGISTERED, "register")
	if took := time.Since(began); took != registerWithin {
		t.Errorf("took %v, want %v", took, registerWithin)
	}
}

func TestAttachEnds(t *testing.T) {
	t.Run("drained", func(t *testing.T) {
		b := registered(t, 0)
		b.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Drain{Drain: &foyerv1.Drain{}}})
		if _, err := b.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want %v", err, io.EOF)
		}
		b.wantSaid("drain")
		<-b.h.detached
	})
	t.Run("client closes its side", func(t *testing.T) {
		b := registered(t, 0)
		b.say(joinCommand(1, "x"))
		if err := b.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if got := b.hear().GetCommandResult().GetId(); got != 1 {
			t.Errorf("got result %d, want 1", got)
		}
		if _, err := b.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want %v", err, io.EOF)
		}
		<-b.h.detached
	})
	for name, c := range map[string]struct {
		err    *service.Error
		code   codes.Code
		reason foyerv1.ErrorReason
	}{
		"replaced":    {service.ErrReplaced, codes.Aborted, foyerv1.ErrorReason_ERROR_REASON_REPLACED},
		"too slow":    {service.ErrTooSlow, codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_TOO_SLOW},
		"node closes": {service.ErrDraining, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING},
	} {
		t.Run(name, func(t *testing.T) {
			b := registered(t, 0)
			b.h.queue <- service.Notice{Kind: service.NoticeDraining}
			b.h.end(c.err)
			if b.hear().GetDraining() == nil {
				t.Error("what was queued is to be heard first")
			}
			_, err := b.Recv()
			wantError(t, err, c.code, c.reason, c.err.Field)
			<-b.h.detached
		})
	}
	t.Run("client goes away", func(t *testing.T) {
		n, h := newFakeNode(), newFakeHandler()
		n.onAttach = func(service.Registration) (handler, error) { return h, nil }
		_, client := start(t, Config{}, n)
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := client.handler.Attach(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/"}}}}); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-h.detached
	})
}

// TestHandlerThatDoesNotRead: a backend that reads nothing is let go of, though its stream is stuck in a write.
func TestHandlerThatDoesNotRead(t *testing.T) { bubble(t, testHandlerThatDoesNotRead) }

func testHandlerThatDoesNotRead(t *testing.T) {
	b := registered(t, 0)
	info := service.SocketInfo{Rooms: []string{strings.Repeat("r", 500_000)}}
	for range 100 {
		b.h.queue <- service.Notice{Kind: service.NoticeConnected, Sockets: []*service.SocketInfo{&info}}
	}
	synctest.Wait()
	began := time.Now()
	b.h.end(service.ErrTooSlow)
	<-b.h.detached
	if took := time.Since(began); took != linger {
		t.Errorf("held for %v, want %v", took, linger)
	}
	for {
		if _, err := b.Recv(); err != nil {
			wantError(t, err, codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_TOO_SLOW, "")
			break
		}
	}
}

// mutable is a link whose peer may fall silent: what it writes is lost, and nobody is told.
type mutable struct {
	net.Conn
	mute *atomic.Bool
}

func (m mutable) Write(p []byte) (int, error) {
	if m.mute.Load() {
		return len(p), nil
	}
	return m.Conn.Write(p)
}

// TestHandlerThatIsGone: a backend that vanishes without a word is missed after two keepalive times, a quiet one is
// not.
func TestHandlerThatIsGone(t *testing.T) { bubble(t, testHandlerThatIsGone) }

func testHandlerThatIsGone(t *testing.T) {
	n, h := newFakeNode(), newFakeHandler()
	n.onAttach = func(service.Registration) (handler, error) { return h, nil }
	s, err := newServer(Config{}, n)
	if err != nil {
		t.Fatal(err)
	}
	lis := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	var mute atomic.Bool
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c, err := lis.DialContext(ctx)
			return mutable{c, &mute}, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := foyerv1.NewHandlerServiceClient(conn).Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/"}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Hour)
	select {
	case <-h.detached:
		t.Error("a quiet handler is not a dead one")
	default:
	}
	mute.Store(true)
	began := time.Now()
	<-h.detached
	if took := time.Since(began); took > keepaliveTime+keepaliveTimeout {
		t.Errorf("missed after %v, want at most %v", took, keepaliveTime+keepaliveTimeout)
	}
	_ = conn.Close()
	s.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
