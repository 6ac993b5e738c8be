package grpcapi

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// texts has a real node behind a server that wants a token, and what tests of its errors' texts ask it.
type texts struct {
	t      *testing.T
	client *api
}

func newTexts(t *testing.T) *texts {
	n, err := service.New(service.Config{NodeID: "test", MaxPayloadBytes: 1000, MaxRoomsPerSocket: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	_, client := start(t, Config{
		Tokens: []string{"secret"}, Drain: func(context.Context, time.Duration, func(int, int)) error { return nil },
	}, serviceNode{n})
	<-join(n, "browser", "/", "").sent
	return &texts{t: t, client: client}
}

// as is a context of calls with some values of the metadata authorization.
func (x *texts) as(authorization ...string) context.Context {
	return metadata.NewOutgoingContext(x.t.Context(), metadata.MD{"authorization": authorization})
}

// call makes a call of any kind with its first message, and is the error that comes back.
func (x *texts) call(ctx context.Context, method string, request proto.Message) error {
	stream, err := x.client.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		return err
	}
	_ = stream.SendMsg(request) // the refusal may come while it is being sent
	_ = stream.CloseSend()
	return stream.RecvMsg(&emptypb.Empty{}) // of whatever type: its fields are unknown then
}

// ask is call with the token.
func (x *texts) ask(method string, request proto.Message) error {
	return x.call(x.as("Bearer secret"), method, request)
}

// item is the error of the last of some items of an EmitStream.
func (x *texts) item(emits ...*foyerv1.EmitRequest) error {
	stream, err := x.client.emit.EmitStream(x.as("Bearer secret"))
	if err != nil {
		return err
	}
	defer func() { _ = stream.CloseSend() }()
	r := &foyerv1.EmitStreamRequest{}
	for i, e := range emits {
		r.Items = append(r.Items, &foyerv1.EmitStreamItem{Id: uint64(i), Emit: e})
	}
	_ = stream.Send(r)
	var last *foyerv1.EmitStreamResult
	for n := 0; n < len(emits); {
		results, err := stream.Recv()
		if err != nil {
			return err
		}
		n += len(results.GetResults())
		last = results.GetResults()[len(results.GetResults())-1]
	}
	return status.FromProto(last.GetError()).Err()
}

// attach says all that a handler says. It is the error that the stream ends with, or the first of a command.
func (x *texts) attach(says ...*foyerv1.AttachRequest) error {
	ctx, cancel := context.WithCancel(x.as("Bearer secret"))
	defer cancel()
	stream, err := x.client.handler.Attach(ctx)
	if err != nil {
		return err
	}
	for _, m := range says {
		_ = stream.Send(m)
	}
	for {
		heard, err := stream.Recv()
		if err != nil {
			return err
		}
		if failed := heard.GetCommandResult().GetError(); failed != nil {
			return status.FromProto(failed).Err()
		}
	}
}

// command is the error of a command.
func (x *texts) command(c *foyerv1.Command) error {
	c.Id = 1
	return x.attach(x.register(&foyerv1.Register{Namespaces: []string{"/commands"}}),
		&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Command{Command: c}})
}

func (x *texts) register(r *foyerv1.Register) *foyerv1.AttachRequest {
	return &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: r}}
}

// TestErrorTexts: a person who reads only the text of an error knows which field it is about and what is to be done.
// Its path is also in the details.
func TestErrorTexts(t *testing.T) {
	const (
		emit, ack, collect, servers = foyerv1.EmitService_Emit_FullMethodName, foyerv1.EmitService_EmitWithAck_FullMethodName,
			foyerv1.EmitService_CollectAcks_FullMethodName, foyerv1.EmitService_ServerSideEmit_FullMethodName
		joinRooms, leave     = foyerv1.RoomService_JoinRooms_FullMethodName, foyerv1.RoomService_LeaveRooms_FullMethodName
		room, rooms          = foyerv1.RoomService_GetRoom_FullMethodName, foyerv1.RoomService_ListRooms_FullMethodName
		get, list            = foyerv1.SocketService_GetSocket_FullMethodName, foyerv1.SocketService_ListSockets_FullMethodName
		update, disconnect   = foyerv1.SocketService_UpdateSocket_FullMethodName, foyerv1.SocketService_DisconnectSockets_FullMethodName
		watch, drain, attach = foyerv1.PresenceService_Watch_FullMethodName, foyerv1.NodeService_Drain_FullMethodName,
			foyerv1.HandlerService_Attach_FullMethodName

		hint = `: the arguments are a JSON array, as ["hello",1]`
		page = "is not a token of this request: send next_page_token of the page before, with the rest of that request unchanged"
	)
	x := newTexts(t)
	all := &foyerv1.Target{All: true}
	with := func(p *foyerv1.Payload) *foyerv1.EmitRequest { return &foyerv1.EmitRequest{Target: all, Payload: p} }
	to := func(target *foyerv1.Target) *foyerv1.EmitRequest {
		return &foyerv1.EmitRequest{Target: target, Payload: hello()}
	}
	nan := structpb.NewNumberValue(math.NaN())
	fine := to(all)
	namespaces := func(names ...string) *foyerv1.Register { return &foyerv1.Register{Namespaces: names} }
	taken, err := x.client.handler.Attach(x.as("Bearer secret"))
	if err == nil {
		err = taken.Send(x.register(&foyerv1.Register{Namespaces: []string{"/taken"}, Group: "first", Events: []string{"a"}}))
	}
	if err == nil {
		_, err = taken.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	tooMany := make([]*foyerv1.EmitRequest, maxStreamItems+1)

	seen := map[string]bool{}
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{x.ask(emit, to(nil)), codes.InvalidArgument, "target: is required"},
		{x.ask(emit, to(&foyerv1.Target{})), codes.InvalidArgument, "target.rooms: neither rooms nor all is given: name rooms, or set all for every socket of the namespace"},
		{x.ask(emit, to(&foyerv1.Target{Rooms: []string{"a"}, All: true})), codes.InvalidArgument, "target.all: rooms and all exclude each other: give one of them"},
		{x.ask(emit, to(toRoom(""))), codes.InvalidArgument, "target.rooms[0]: must not be empty"},
		{x.ask(emit, to(toRoom("a", strings.Repeat("x", 256)))), codes.InvalidArgument, "target.rooms[1]: has 256 bytes, at most 255"},
		{x.ask(emit, to(&foyerv1.Target{All: true, ExceptRooms: []string{""}})), codes.InvalidArgument, "target.except_rooms[0]: must not be empty"},
		{x.ask(emit, to(&foyerv1.Target{All: true, Namespace: "/a,b"})), codes.InvalidArgument, "target.namespace: must not have a comma"},
		{x.ask(emit, with(nil)), codes.InvalidArgument, "payload: is required"},
		{x.ask(emit, with(jsonPayload("", "[]"))), codes.InvalidArgument, "payload.event: must not be empty"},
		{x.ask(emit, with(jsonPayload("disconnect", "[]"))), codes.InvalidArgument, `payload.event: "disconnect" is reserved by Socket.IO: give the event another name`},
		{x.ask(emit, with(jsonPayload("e", `{"a":1}`))), codes.InvalidArgument, "payload.json: is not an array, at byte 0" + hint},
		{x.ask(emit, with(jsonPayload("e", "hello"))), codes.InvalidArgument, "payload.json: is not JSON, at byte 0" + hint},
		{x.ask(emit, with(jsonPayload("e", `[1,]`))), codes.InvalidArgument, "payload.json: is not JSON, at byte 3" + hint},
		{x.ask(emit, with(jsonPayload("e", strings.Repeat("[", 1001)))), codes.InvalidArgument, "payload: has 1001 bytes, at most 1000 (Limits.max_payload_bytes, --max-payload of the node)"},
		{x.ask(emit, with(jsonPayload("e", `[{"_placeholder":true,"num":0}]`))), codes.InvalidArgument, `payload.json: has a "_placeholder" whose "num" is that of no attachment, at byte 29`},
		{x.ask(emit, with(jsonPayload("e", `["a"]`, []byte("b")))), codes.InvalidArgument, `payload.attachments: has one that no argument refers to: {"_placeholder":true,"num":0} stands for the first`},
		{x.ask(emit, with(jsonPayload("e", `[]`, make([][]byte, 11)...))), codes.InvalidArgument, "payload.attachments: has 11 attachments, at most 10"},
		{x.ask(emit, with(&foyerv1.Payload{Event: "e", Args: &foyerv1.Payload_Values{Values: &structpb.ListValue{Values: []*structpb.Value{
			structpb.NewStringValue("a"), structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"price": nan}}),
		}}}})), codes.InvalidArgument, "payload.values[1].price: is a number that JSON does not have: NaN or an infinity"},
		{x.ask(emit, &foyerv1.EmitRequest{Target: all, Payload: hello(), Receipt: 9}), codes.InvalidArgument, "receipt: 9 is no value that this version knows"},
		{x.ask(emit, &foyerv1.EmitRequest{Target: all, Payload: hello(), RequestId: strings.Repeat("r", 129)}), codes.InvalidArgument, "request_id: has more than 128 bytes"},
		{x.ask(ack, &foyerv1.EmitWithAckRequest{Target: all, Payload: hello(), Timeout: durationpb.New(-1)}), codes.InvalidArgument, "timeout: must not be negative"},
		{x.ask(collect, &foyerv1.CollectAcksRequest{Target: toRoom("a", "b", ""), Payload: hello()}), codes.InvalidArgument, "target.rooms[2]: must not be empty"},
		{x.ask(servers, &foyerv1.ServerSideEmitRequest{Payload: jsonPayload("connection", "[]")}), codes.InvalidArgument, `payload.event: "connection" is reserved by Socket.IO: give the event another name`},
		{x.ask(joinRooms, &foyerv1.JoinRoomsRequest{Target: all}), codes.InvalidArgument, "rooms: at least one room is required"},
		{x.ask(leave, &foyerv1.LeaveRoomsRequest{Target: all, Rooms: []string{"a", ""}}), codes.InvalidArgument, "rooms[1]: must not be empty"},
		{x.ask(room, &foyerv1.GetRoomRequest{}), codes.InvalidArgument, "room: must not be empty"},
		{x.ask(rooms, &foyerv1.ListRoomsRequest{PageToken: "x"}), codes.InvalidArgument, "page_token: " + page},
		{x.ask(rooms, &foyerv1.ListRoomsRequest{PageSize: -1}), codes.InvalidArgument, "page_size: must not be negative"},
		{x.ask(get, &foyerv1.GetSocketRequest{SocketId: "nobody"}), codes.NotFound, "socket_id: no such socket in this namespace, or not any more"},
		{x.ask(list, &foyerv1.ListSocketsRequest{Target: all, View: 9}), codes.InvalidArgument, "view: 9 is no value that this version knows"},
		{x.ask(update, &foyerv1.UpdateSocketRequest{SocketId: "s"}), codes.InvalidArgument, "change: one of data, merge_data and user_id is required"},
		{x.ask(update, &foyerv1.UpdateSocketRequest{SocketId: "s", UserId: proto.String("u")}), codes.NotFound, "socket_id: no such socket in this namespace, or not any more"},
		{x.ask(update, &foyerv1.UpdateSocketRequest{SocketId: "s", Change: &foyerv1.UpdateSocketRequest_Data{
			Data: &structpb.Struct{Fields: map[string]*structpb.Value{"a": nan}},
		}}), codes.InvalidArgument, "data.a: is a number that JSON does not have: NaN or an infinity"},
		{x.ask(disconnect, &foyerv1.DisconnectSocketsRequest{Target: all, Mode: 9}), codes.InvalidArgument, "mode: 9 is no value that this version knows"},
		{x.ask(watch, &foyerv1.WatchRequest{}), codes.InvalidArgument, "rooms: neither rooms nor all is given: name rooms, or set all for every socket of the namespace"},
		{x.ask(watch, &foyerv1.WatchRequest{All: true, ResumeToken: "x"}), codes.InvalidArgument, "resume_token: is not a token of this request: it was given for another one, or is damaged"},
		{x.ask(drain, &foyerv1.DrainRequest{Window: durationpb.New(2 * time.Hour)}), codes.InvalidArgument, "window: must be between 0 and 1h0m0s"},

		{x.item(fine, fine, fine, to(nil)), codes.InvalidArgument, "items[3].emit.target: is required"},
		{x.item(fine, to(toRoom("a", ""))), codes.InvalidArgument, "items[1].emit.target.rooms[1]: must not be empty"},
		{x.item(nil), codes.InvalidArgument, "items[0].emit: is required"},
		{x.item(&foyerv1.EmitRequest{Target: all, RequestId: "r"}), codes.InvalidArgument, "items[0].emit.payload: is required"},
		{x.item(tooMany...), codes.InvalidArgument, "items: has 1025 items, at most 1024 go in one message"},

		{x.attach(x.register(namespaces("/", "/chat", "/a*b"))), codes.InvalidArgument, `register.namespaces[2]: "/a*b" is neither a name, as /chat, nor a prefix with one * behind it, as /tenant-*; none of them has a comma`},
		{x.attach(x.register(&foyerv1.Register{})), codes.InvalidArgument, "register.namespaces: at least one namespace is required"},
		{x.attach(x.register(&foyerv1.Register{Namespaces: []string{"/"}, Observer: true, DecideConnects: true})), codes.InvalidArgument, "register.decide_connects: an observer cannot decide"},
		{x.attach(x.register(&foyerv1.Register{Namespaces: []string{"/"}, MaxInFlight: -1})), codes.InvalidArgument, "register.max_in_flight: must be between 0 and 65536"},
		{x.attach(x.register(&foyerv1.Register{Namespaces: []string{"/"}, Events: []string{"a", "connect"}})), codes.InvalidArgument, `register.events[1]: "connect" is reserved by Socket.IO: no client can send it`},
		{x.attach(x.register(&foyerv1.Register{Namespaces: []string{"/taken"}, Group: "second", Events: []string{"a"}})), codes.FailedPrecondition, `register.events: group "first" takes the event "a" of "/taken": each event goes to one group, and to observers`},
		{x.attach(x.register(&foyerv1.Register{Namespaces: []string{"/taken"}, Group: "first"})), codes.FailedPrecondition, `register.events: the handlers of group "first" have registered otherwise: all of a group must register alike`},
		{x.attach(joinCommand(1, "a")), codes.FailedPrecondition, "register: must be the first message of the stream"},
		{x.attach(x.register(namespaces("/")), x.register(namespaces("/"))), codes.FailedPrecondition, "register: must come only once"},
		{x.ask(attach, &foyerv1.AttachRequest{}), codes.InvalidArgument, "message: one of register, connect_reply, event_reply, handled, command and drain is required"},
		{x.command(&foyerv1.Command{}), codes.InvalidArgument, "command: one of emit, join, leave, disconnect, update and server_side_emit is required"},
		{x.command(&foyerv1.Command{Command: &foyerv1.Command_Emit{Emit: with(jsonPayload("e", "1"))}}), codes.InvalidArgument, "command.emit.payload.json: is not an array, at byte 0" + hint},
		{x.command(&foyerv1.Command{Command: &foyerv1.Command_Join{Join: &foyerv1.JoinRoomsRequest{Target: all, Rooms: []string{"a", "b", "c"}}}}), codes.ResourceExhausted, "command.join.rooms: socket"},
		{x.command(&foyerv1.Command{Command: &foyerv1.Command_Leave{}}), codes.InvalidArgument, "command.leave.target: is required"},
		{x.command(&foyerv1.Command{Command: &foyerv1.Command_Disconnect{}}), codes.InvalidArgument, "command.disconnect.target: is required"},
		{x.command(&foyerv1.Command{Command: &foyerv1.Command_Update{}}), codes.InvalidArgument, "command.update.socket_id: must not be empty"},
		{x.command(&foyerv1.Command{Command: &foyerv1.Command_ServerSideEmit{ServerSideEmit: &foyerv1.ServerSideEmitRequest{Namespace: "a,b"}}}), codes.InvalidArgument, "command.server_side_emit.namespace: must not have a comma"},
	} {
		st := status.Convert(c.err)
		if st.Code() != c.code || !strings.HasPrefix(st.Message(), c.text) {
			t.Errorf("got %v %q, want %v %q", st.Code(), st.Message(), c.code, c.text)
			continue
		}
		seen[st.Message()] = true
		field, _, _ := strings.Cut(c.text, ": ")
		wantStatus(t, st, c.code, reasonOf(t, st), field)
	}
	if len(seen) < 22 {
		t.Errorf("%d texts", len(seen))
	}
}

// TestErrorTextsOfNoField: errors that are about no field say what they are about, and what is to be done.
func TestErrorTextsOfNoField(t *testing.T) {
	x := newTexts(t)
	const emit = foyerv1.EmitService_Emit_FullMethodName
	info := &foyerv1.GetInfoRequest{}
	large := jsonPayload("e", strings.Repeat("x", 4*1000+1<<20+transportSlack))
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
		bare bool // gRPC's own, without details
	}{
		{err: x.call(x.as(), emit, info), code: codes.Unauthenticated, text: "the metadata authorization is required: send Bearer TOKEN, where TOKEN is a line of the node's --api-token-file"},
		{err: x.call(x.as("Bearer other"), emit, info), code: codes.Unauthenticated, text: "the metadata authorization has a token that is not in the node's --api-token-file"},
		{err: x.call(x.as("secret"), emit, info), code: codes.Unauthenticated, text: "the metadata authorization is not of the form Bearer TOKEN, where TOKEN is a line of the node's --api-token-file"},
		{err: x.call(x.as("Bearer secret", "Bearer other"), emit, info), code: codes.Unauthenticated, text: "the metadata authorization came more than once: send one"},
		{err: toStatus(errRevoked).Err(), code: codes.Unauthenticated, text: "the metadata authorization has a token that is no longer in the node's --api-token-file"},
		{err: toStatus(service.ErrDraining).Err(), code: codes.Unavailable, text: "the node is going down: try again, at another node if there is one"},
		{err: toStatus(service.ErrBudget).Err(), code: codes.ResourceExhausted, text: "the node's memory budget is spent (--memory-budget)"},
		{err: toStatus(&noTime{50 * time.Millisecond}).Err(), code: codes.DeadlineExceeded, text: "the call's deadline is 50ms away, and the wait for answers ends 100ms before it: nothing was sent"},
		{err: x.ask("/foyer.v1.EmitService/Nothing", info), code: codes.Unimplemented, text: "foyer.v1.EmitService/Nothing is not in this version: GetInfo tells which it is, and reflection, as by grpcurl list, what it has"},
		{err: x.ask("/foyer.v2.EmitService/Emit", info), code: codes.Unimplemented, text: "foyer.v2.EmitService/Emit is not in this version: GetInfo tells which it is, and reflection, as by grpcurl list, what it has"},
		{
			err: x.ask(emit, &foyerv1.EmitRequest{Payload: large}), code: codes.ResourceExhausted, bare: true,
			text: fmt.Sprintf("grpc: received message larger than max (%d vs. %d)", proto.Size(&foyerv1.EmitRequest{Payload: large}), 4*1000+1<<20+transportSlack),
		},
	} {
		st := status.Convert(c.err)
		if st.Code() != c.code || st.Message() != c.text {
			t.Errorf("got %v %q, want %v %q", st.Code(), st.Message(), c.code, c.text)
		} else if !c.bare {
			wantStatus(t, st, c.code, reasonOf(t, st), "")
		}
	}
}

// reasonOf is the published reason of an error.
func reasonOf(t testing.TB, st *status.Status) foyerv1.ErrorReason {
	t.Helper()
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return foyerv1.ErrorReason(foyerv1.ErrorReason_value[reasonPrefix+info.GetReason()])
		}
	}
	t.Errorf("%v %q has no reason", st.Code(), st.Message())
	return 0
}
