package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func toRoom(rooms ...string) *foyerv1.Target { return &foyerv1.Target{Rooms: rooms} }

func jsonPayload(event, args string, attachments ...[]byte) *foyerv1.Payload {
	return &foyerv1.Payload{Event: event, Args: &foyerv1.Payload_Json{Json: args}, Attachments: attachments}
}

func hello() *foyerv1.Payload { return jsonPayload("hello", `["world"]`) }

// TestRefusals: every bad request gets its code, its reason and the path of its field, and nothing is done.
func TestRefusals(t *testing.T) {
	const (
		field     = foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD
		badTarget = foyerv1.ErrorReason_ERROR_REASON_INVALID_TARGET
		reserved  = foyerv1.ErrorReason_ERROR_REASON_RESERVED_EVENT
		badJSON   = foyerv1.ErrorReason_ERROR_REASON_INVALID_PAYLOAD
		large     = foyerv1.ErrorReason_ERROR_REASON_PAYLOAD_TOO_LARGE
		token     = foyerv1.ErrorReason_ERROR_REASON_INVALID_TOKEN
	)
	long := strings.Repeat("x", 256)
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	emit := func(target *foyerv1.Target, payload *foyerv1.Payload) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error {
			_, err := a.emit.Emit(ctx, &foyerv1.EmitRequest{Target: target, Payload: payload})
			return err
		}
	}
	args := func(json string, attachments ...[]byte) func(context.Context, *api) error {
		return emit(toRoom("r"), jsonPayload("e", json, attachments...))
	}
	values := func(v ...*structpb.Value) func(context.Context, *api) error {
		return emit(toRoom("r"), &foyerv1.Payload{Event: "e", Args: &foyerv1.Payload_Values{Values: &structpb.ListValue{Values: v}}})
	}
	acks := func(r *foyerv1.EmitWithAckRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error { _, err := a.emit.EmitWithAck(ctx, r); return err }
	}
	collect := func(r *foyerv1.CollectAcksRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error {
			stream, err := a.emit.CollectAcks(ctx, r)
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}
	}
	servers := func(r *foyerv1.ServerSideEmitRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error { _, err := a.emit.ServerSideEmit(ctx, r); return err }
	}
	room := func(r *foyerv1.GetRoomRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error { _, err := a.room.GetRoom(ctx, r); return err }
	}
	rooms := func(r *foyerv1.ListRoomsRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error { _, err := a.room.ListRooms(ctx, r); return err }
	}
	update := func(r *foyerv1.UpdateSocketRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error { _, err := a.socket.UpdateSocket(ctx, r); return err }
	}
	drain := func(d *durationpb.Duration) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error {
			stream, err := a.node.Drain(ctx, &foyerv1.DrainRequest{Window: d})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}
	}
	object := func(v *structpb.Value) *structpb.Struct {
		return &structpb.Struct{Fields: map[string]*structpb.Value{"a": v}}
	}
	deep := structpb.NewNumberValue(1)
	for range maxStructDepth {
		deep = structpb.NewStructValue(object(deep))
	}
	join := func(target *foyerv1.Target, rooms ...string) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error {
			_, err := a.room.JoinRooms(ctx, &foyerv1.JoinRoomsRequest{Target: target, Rooms: rooms})
			return err
		}
	}
	leave := func(target *foyerv1.Target, rooms ...string) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error {
			_, err := a.room.LeaveRooms(ctx, &foyerv1.LeaveRoomsRequest{Target: target, Rooms: rooms})
			return err
		}
	}
	get := func(r *foyerv1.GetSocketRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error { _, err := a.socket.GetSocket(ctx, r); return err }
	}
	list := func(r *foyerv1.ListSocketsRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error { _, err := a.socket.ListSockets(ctx, r); return err }
	}
	explain := func(r *foyerv1.ExplainRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error { _, err := a.socket.Explain(ctx, r); return err }
	}
	handlers := func(r *foyerv1.ListHandlersRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error { _, err := a.handler.ListHandlers(ctx, r); return err }
	}
	disconnect := func(r *foyerv1.DisconnectSocketsRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error { _, err := a.socket.DisconnectSockets(ctx, r); return err }
	}
	watch := func(r *foyerv1.WatchRequest) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error {
			stream, err := a.watch.Watch(ctx, r)
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}
	}
	attach := func(r *foyerv1.Register) func(context.Context, *api) error {
		return func(ctx context.Context, a *api) error {
			stream, err := a.handler.Attach(ctx)
			if err != nil {
				return err
			}
			if err := stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: r}}); err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		}
	}
	all := &foyerv1.Target{All: true}

	n := newFakeNode()
	_, client := start(t, Config{Drain: func(context.Context, time.Duration, func(int, int)) error {
		n.note("drain")
		return nil
	}}, n)
	for _, c := range []struct {
		name   string
		call   func(context.Context, *api) error
		reason foyerv1.ErrorReason
		field  string
	}{
		{"no target", emit(nil, hello()), badTarget, "target"},
		{"nobody named", emit(&foyerv1.Target{}, hello()), badTarget, "target.rooms"},
		{"rooms and all", emit(&foyerv1.Target{Rooms: []string{"r"}, All: true}, hello()), badTarget, "target.all"},
		{"empty room", emit(toRoom("a", "b", ""), hello()), badTarget, "target.rooms[2]"},
		{"long room", emit(toRoom("a", long), hello()), badTarget, "target.rooms[1]"},
		{"too many rooms", emit(toRoom(many...), hello()), badTarget, "target.rooms"},
		{"empty except", emit(&foyerv1.Target{All: true, ExceptRooms: []string{""}}, hello()), badTarget, "target.except_rooms[0]"},
		{"too many except", emit(&foyerv1.Target{All: true, ExceptRooms: many}, hello()), badTarget, "target.except_rooms"},
		{"only except", emit(&foyerv1.Target{ExceptRooms: []string{"r"}}, hello()), badTarget, "target.rooms"},
		{"long namespace", emit(&foyerv1.Target{All: true, Namespace: long}, hello()), badTarget, "target.namespace"},
		{"long once it has its slash", emit(&foyerv1.Target{All: true, Namespace: long[:255]}, hello()), badTarget, "target.namespace"},
		{"namespace with comma", emit(&foyerv1.Target{All: true, Namespace: "/a,b"}, hello()), badTarget, "target.namespace"},

		{"no payload", emit(all, nil), field, "payload"},
		{"no event", emit(all, jsonPayload("", `[]`)), field, "payload.event"},
		{"long event", emit(all, jsonPayload(long, `[]`)), field, "payload.event"},
		{"reserved: connect", emit(all, jsonPayload("connect", `[]`)), reserved, "payload.event"},
		{"reserved: connect_error", emit(all, jsonPayload("connect_error", `[]`)), reserved, "payload.event"},
		{"reserved: disconnect", emit(all, jsonPayload("disconnect", `[]`)), reserved, "payload.event"},
		{"reserved: disconnecting", emit(all, jsonPayload("disconnecting", `[]`)), reserved, "payload.event"},
		{"reserved: newListener", emit(all, jsonPayload("newListener", `[]`)), reserved, "payload.event"},
		{"reserved: removeListener", emit(all, jsonPayload("removeListener", `[]`)), reserved, "payload.event"},
		{"empty json", args(``), badJSON, "payload.json"},
		{"object", args(`{"a":1}`), badJSON, "payload.json"},
		{"syntax", args(`[1,]`), badJSON, "payload.json"},
		{"cut off", args(`["a"`), badJSON, "payload.json"},
		{"two values", args(`[] []`), badJSON, "payload.json"},
		{"placeholder without attachment", args(`[{"_placeholder":true,"num":1}]`, []byte("a")), badJSON, "payload.json"},
		{"placeholder without any attachment", args(`[{"_placeholder":true,"num":0}]`), badJSON, "payload.json"},
		{"attachment without placeholder", args(`["a"]`, []byte("a")), badJSON, "payload.attachments"},
		{"attachment without arguments", emit(toRoom("r"), &foyerv1.Payload{Event: "e", Attachments: [][]byte{{1}}}), badJSON, "payload.attachments"},
		{"placeholder as values without attachment", values(structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"_placeholder": structpb.NewBoolValue(true), "num": structpb.NewNumberValue(0),
		}})), badJSON, "payload.values"},
		{"acks: attachment without placeholder", acks(&foyerv1.EmitWithAckRequest{Target: toRoom("r"), Payload: jsonPayload("e", `[]`, []byte("a"))}), badJSON, "payload.attachments"},
		{"collect: placeholder without attachment", collect(&foyerv1.CollectAcksRequest{Target: toRoom("r"), Payload: jsonPayload("e", `[{"_placeholder":true}]`)}), badJSON, "payload.json"},
		{"servers: attachment without placeholder", servers(&foyerv1.ServerSideEmitRequest{Payload: jsonPayload("e", `[]`, []byte("a"))}), badJSON, "payload.attachments"},
		{"too many attachments", args(`[]`, make([][]byte, 11)...), large, "payload.attachments"},
		{"large json", args(`["` + strings.Repeat("x", 1000) + `"]`), large, "payload"},
		{"large with its name", args(`["` + strings.Repeat("x", 994) + `"]`), large, "payload"},
		{"large attachments", args(`[]`, make([]byte, 600), make([]byte, 600)), large, "payload"},
		{"NaN", values(structpb.NewNumberValue(1), structpb.NewNumberValue(math.NaN())), badJSON, "payload.values[1]"},
		{"value without kind", values(structpb.NewStructValue(object(&structpb.Value{}))), badJSON, "payload.values[0].a"},
		{"large values", values(structpb.NewStringValue(strings.Repeat("x", 1000))), large, "payload"},
		{"unknown receipt", func(ctx context.Context, a *api) error {
			_, err := a.emit.Emit(ctx, &foyerv1.EmitRequest{Target: all, Payload: hello(), Receipt: 9})
			return err
		}, field, "receipt"},
		{"long request id", func(ctx context.Context, a *api) error {
			_, err := a.emit.Emit(ctx, &foyerv1.EmitRequest{Target: all, Payload: hello(), RequestId: long[:129]})
			return err
		}, field, "request_id"},

		{"acks: no target", acks(&foyerv1.EmitWithAckRequest{Payload: hello()}), badTarget, "target"},
		{"acks: no payload", acks(&foyerv1.EmitWithAckRequest{Target: all}), field, "payload"},
		{"acks: negative timeout", acks(&foyerv1.EmitWithAckRequest{Target: all, Payload: hello(), Timeout: durationpb.New(-1)}), field, "timeout"},
		{"acks: no duration", acks(&foyerv1.EmitWithAckRequest{Target: all, Payload: hello(), Timeout: &durationpb.Duration{Seconds: 1, Nanos: -1}}), field, "timeout"},
		{"acks: long request id", acks(&foyerv1.EmitWithAckRequest{Target: all, Payload: hello(), RequestId: long[:129]}), field, "request_id"},

		{"collect: no target", collect(&foyerv1.CollectAcksRequest{Payload: hello()}), badTarget, "target"},
		{"collect: no payload", collect(&foyerv1.CollectAcksRequest{Target: all}), field, "payload"},
		{"collect: reserved", collect(&foyerv1.CollectAcksRequest{Target: all, Payload: jsonPayload("disconnect", "[]")}), reserved, "payload.event"},
		{"collect: negative timeout", collect(&foyerv1.CollectAcksRequest{Target: all, Payload: hello(), Timeout: durationpb.New(-1)}), field, "timeout"},

		{"servers: namespace", servers(&foyerv1.ServerSideEmitRequest{Namespace: "a,b", Payload: hello()}), field, "namespace"},
		{"servers: no payload", servers(&foyerv1.ServerSideEmitRequest{}), field, "payload"},
		{"servers: no event", servers(&foyerv1.ServerSideEmitRequest{Payload: jsonPayload("", "[]")}), field, "payload.event"},
		{"servers: connect", servers(&foyerv1.ServerSideEmitRequest{Payload: jsonPayload("connect", "[]")}), reserved, "payload.event"},
		{"servers: connection", servers(&foyerv1.ServerSideEmitRequest{Payload: jsonPayload("connection", "[]")}), reserved, "payload.event"},
		{"servers: new_namespace", servers(&foyerv1.ServerSideEmitRequest{Payload: jsonPayload("new_namespace", "[]")}), reserved, "payload.event"},
		{"servers: object", servers(&foyerv1.ServerSideEmitRequest{Payload: jsonPayload("e", "{}")}), badJSON, "payload.json"},
		{"servers: large", servers(&foyerv1.ServerSideEmitRequest{Payload: jsonPayload("e", `["`+strings.Repeat("x", 1000)+`"]`)}), large, "payload"},
		{"servers: negative timeout", servers(&foyerv1.ServerSideEmitRequest{Payload: hello(), Timeout: durationpb.New(-1)}), field, "timeout"},
		{"servers: long request id", servers(&foyerv1.ServerSideEmitRequest{Payload: hello(), RequestId: long[:129]}), field, "request_id"},

		{"room: none", room(&foyerv1.GetRoomRequest{}), field, "room"},
		{"room: long", room(&foyerv1.GetRoomRequest{Room: long}), field, "room"},
		{"room: namespace", room(&foyerv1.GetRoomRequest{Room: "r", Namespace: long}), field, "namespace"},
		{"rooms: namespace", rooms(&foyerv1.ListRoomsRequest{Namespace: "a,b"}), field, "namespace"},
		{"rooms: long prefix", rooms(&foyerv1.ListRoomsRequest{Prefix: long}), field, "prefix"},
		{"rooms: page size", rooms(&foyerv1.ListRoomsRequest{PageSize: -1}), field, "page_size"},
		{"rooms: token", rooms(&foyerv1.ListRoomsRequest{PageToken: "nonsense"}), token, "page_token"},
		{"rooms: token of another prefix", rooms(&foyerv1.ListRoomsRequest{Prefix: "a", PageToken: roomsToken("ab", roomsQuery("/", "b"))}), token, "page_token"},
		{"rooms: token of sockets", rooms(&foyerv1.ListRoomsRequest{PageToken: pageToken(somePlace, roomsQuery("/", ""))}), token, "page_token"},

		{"update: no id", update(&foyerv1.UpdateSocketRequest{UserId: new(string)}), field, "socket_id"},
		{"update: long id", update(&foyerv1.UpdateSocketRequest{SocketId: long, UserId: new(string)}), field, "socket_id"},
		{"update: namespace", update(&foyerv1.UpdateSocketRequest{SocketId: "s", Namespace: "a,b", UserId: new(string)}), field, "namespace"},
		{"update: nothing", update(&foyerv1.UpdateSocketRequest{SocketId: "s"}), field, "change"},
		{"update: long user", update(&foyerv1.UpdateSocketRequest{SocketId: "s", UserId: proto.String(strings.Repeat("u", maxUserID+1))}), field, "user_id"},
		{"update: large data", update(&foyerv1.UpdateSocketRequest{SocketId: "s", Change: &foyerv1.UpdateSocketRequest_Data{Data: object(structpb.NewStringValue(strings.Repeat("x", service.MaxDataBytes)))}}), large, "data"},
		{"update: deep data", update(&foyerv1.UpdateSocketRequest{SocketId: "s", Change: &foyerv1.UpdateSocketRequest_Data{Data: object(deep)}}), field, "data"},
		{"update: NaN", update(&foyerv1.UpdateSocketRequest{SocketId: "s", Change: &foyerv1.UpdateSocketRequest_Data{Data: object(structpb.NewNumberValue(math.NaN()))}}), field, "data.a"},
		{"update: large merge", update(&foyerv1.UpdateSocketRequest{SocketId: "s", Change: &foyerv1.UpdateSocketRequest_MergeData{MergeData: object(structpb.NewStringValue(strings.Repeat("x", service.MaxDataBytes)))}}), large, "merge_data"},
		{"update: broken merge", update(&foyerv1.UpdateSocketRequest{SocketId: "s", Change: &foyerv1.UpdateSocketRequest_MergeData{MergeData: object(&structpb.Value{})}}), field, "merge_data.a"},

		{"drain: negative", drain(durationpb.New(-1)), field, "window"},
		{"drain: too long", drain(durationpb.New(time.Hour + 1)), field, "window"},
		{"drain: no duration", drain(&durationpb.Duration{Seconds: 1, Nanos: -1}), field, "window"},

		{"join: no target", join(nil, "r"), badTarget, "target"},
		{"join: no rooms", join(all), field, "rooms"},
		{"join: empty room", join(all, "a", ""), field, "rooms[1]"},
		{"join: too many rooms", join(all, many...), field, "rooms"},
		{"leave: no rooms", leave(all), field, "rooms"},
		{"leave: long room", leave(all, long), field, "rooms[0]"},
		{"leave: nobody named", leave(&foyerv1.Target{}, "r"), badTarget, "target.rooms"},

		{"get: no id", get(&foyerv1.GetSocketRequest{}), field, "socket_id"},
		{"get: long id", get(&foyerv1.GetSocketRequest{SocketId: long}), field, "socket_id"},
		{"get: namespace", get(&foyerv1.GetSocketRequest{SocketId: "s", Namespace: "a,b"}), field, "namespace"},
		{"get: view", get(&foyerv1.GetSocketRequest{SocketId: "s", View: 9}), field, "view"},
		{"list: no target", list(&foyerv1.ListSocketsRequest{}), badTarget, "target"},
		{"list: view", list(&foyerv1.ListSocketsRequest{Target: all, View: -1}), field, "view"},
		{"list: page size", list(&foyerv1.ListSocketsRequest{Target: all, PageSize: -1}), field, "page_size"},
		{"list: token", list(&foyerv1.ListSocketsRequest{Target: all, PageToken: "nonsense"}), token, "page_token"},
		{"explain: no target", explain(&foyerv1.ExplainRequest{}), badTarget, "target"},
		{"explain: nobody named", explain(&foyerv1.ExplainRequest{Target: &foyerv1.Target{}}), badTarget, "target.rooms"},
		{"explain: empty id", explain(&foyerv1.ExplainRequest{Target: all, Who: &foyerv1.ExplainRequest_SocketId{}}), field, "socket_id"},
		{"explain: long id", explain(&foyerv1.ExplainRequest{Target: all, Who: &foyerv1.ExplainRequest_SocketId{SocketId: long}}), field, "socket_id"},
		{"explain: empty user", explain(&foyerv1.ExplainRequest{Target: all, Who: &foyerv1.ExplainRequest_UserId{}}), field, "user_id"},
		{"explain: long user", explain(&foyerv1.ExplainRequest{Target: all, Who: &foyerv1.ExplainRequest_UserId{UserId: strings.Repeat("u", maxUserID+1)}}), field, "user_id"},
		{"explain: negative size", explain(&foyerv1.ExplainRequest{Target: all, EventBytes: -1}), field, "event_bytes"},
		{"explain: large event", explain(&foyerv1.ExplainRequest{Target: all, EventBytes: 1001}), large, "event_bytes"},
		{"explain: negative sample", explain(&foyerv1.ExplainRequest{Target: all, SampleSize: -1}), field, "sample_size"},
		{"handlers: page size", handlers(&foyerv1.ListHandlersRequest{PageSize: -1}), field, "page_size"},
		{"handlers: token", handlers(&foyerv1.ListHandlersRequest{PageToken: "nonsense"}), token, "page_token"},
		{"handlers: token of another query", handlers(&foyerv1.ListHandlersRequest{PageToken: pageToken(somePlace, handlersQuery(true))}), token, "page_token"},
		{"disconnect: no target", disconnect(&foyerv1.DisconnectSocketsRequest{}), badTarget, "target"},
		{"disconnect: mode", disconnect(&foyerv1.DisconnectSocketsRequest{Target: all, Mode: 9}), field, "mode"},

		{"watch: neither", watch(&foyerv1.WatchRequest{}), badTarget, "rooms"},
		{"watch: both", watch(&foyerv1.WatchRequest{Rooms: []string{"r"}, All: true}), badTarget, "all"},
		{"watch: empty room", watch(&foyerv1.WatchRequest{Rooms: []string{""}}), badTarget, "rooms[0]"},
		{"watch: too many rooms", watch(&foyerv1.WatchRequest{Rooms: many}), badTarget, "rooms"},
		{"watch: namespace", watch(&foyerv1.WatchRequest{Namespace: long, All: true}), field, "namespace"},
		{"watch: view", watch(&foyerv1.WatchRequest{All: true, View: 9}), field, "view"},

		{"register: no namespaces", attach(&foyerv1.Register{}), field, "register.namespaces"},
		{"register: too many namespaces", attach(&foyerv1.Register{Namespaces: many}), field, "register.namespaces"},
		{"register: two stars", attach(&foyerv1.Register{Namespaces: []string{"/", "/*a*"}}), field, "register.namespaces[1]"},
		{"register: comma", attach(&foyerv1.Register{Namespaces: []string{"a,b"}}), field, "register.namespaces[0]"},
		{"register: long group", attach(&foyerv1.Register{Namespaces: []string{"/"}, Group: long}), field, "register.group"},
		{"register: long id", attach(&foyerv1.Register{Namespaces: []string{"/"}, HandlerId: long}), field, "register.handler_id"},
		{"register: empty event", attach(&foyerv1.Register{Namespaces: []string{"/"}, Events: []string{""}}), field, "register.events[0]"},
		{"register: reserved event", attach(&foyerv1.Register{Namespaces: []string{"/"}, Events: []string{"a", "disconnect"}}), reserved, "register.events[1]"},
		{"register: too many events", attach(&foyerv1.Register{Namespaces: []string{"/"}, Events: many}), field, "register.events"},
		{"register: deciding observer", attach(&foyerv1.Register{Namespaces: []string{"/"}, Observer: true, DecideConnects: true}), field, "register.decide_connects"},
		{"register: negative flight", attach(&foyerv1.Register{Namespaces: []string{"/"}, MaxInFlight: -1}), field, "register.max_in_flight"},
		{"register: large flight", attach(&foyerv1.Register{Namespaces: []string{"/"}, MaxInFlight: 65537}), field, "register.max_in_flight"},
		{"register: view", attach(&foyerv1.Register{Namespaces: []string{"/"}, SocketView: 9}), field, "register.socket_view"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantError(t, c.call(t.Context(), client), codes.InvalidArgument, c.reason, c.field)
			if calls := n.noted(); len(calls) > 0 {
				t.Errorf("nothing was to be done, but %q", calls)
			}
		})
	}
}

// TestNotImplemented: what is not there says so, declared or not.
func TestNotImplemented(t *testing.T) {
	_, client := start(t, Config{}, newFakeNode())
	for _, c := range []struct {
		name string
		call func(context.Context) error
	}{
		{"Drain without a way to", func(ctx context.Context) error {
			stream, err := client.node.Drain(ctx, &foyerv1.DrainRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		{"unknown method", func(ctx context.Context) error {
			return client.conn.Invoke(ctx, "/foyer.v1.EmitService/Nothing", &foyerv1.GetInfoRequest{}, &foyerv1.GetInfoResponse{})
		}},
		{"unknown service", func(ctx context.Context) error {
			return client.conn.Invoke(ctx, "/foyer.v9.Nothing/Nothing", &foyerv1.GetInfoRequest{}, &foyerv1.GetInfoResponse{})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantError(t, c.call(t.Context()), codes.Unimplemented, foyerv1.ErrorReason_ERROR_REASON_NOT_IMPLEMENTED, "")
		})
	}
}

// TestDeadlineWithoutRoom: a deadline that leaves no time to wait is an error before anything is sent.
func TestDeadlineWithoutRoom(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), ackMargin)
	defer cancel()
	if wait, err := ackWait(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, %v, want %v", wait, err, context.DeadlineExceeded)
	}
}

func TestAckWait(t *testing.T) {
	for _, c := range []struct {
		name           string
		timeout, until time.Duration
		want           time.Duration
	}{
		{"default", 0, 0, 5 * time.Second},
		{"own", time.Second, 0, time.Second},
		{"at most", time.Hour, 0, time.Minute},
		{"deadline", time.Hour, 10 * time.Second, 10*time.Second - ackMargin},
		{"deadline behind timeout", time.Second, 10 * time.Second, time.Second},
		{"far deadline", 0, time.Hour, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ctx := t.Context()
				if c.until > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.until)
					defer cancel()
				}
				var timeout *durationpb.Duration
				if c.timeout > 0 {
					timeout = durationpb.New(c.timeout)
				}
				if got, err := ackWait(ctx, timeout); got != c.want || err != nil {
					t.Errorf("got %v, %v, want %v", got, err, c.want)
				}
			})
		})
	}
}
