package grpcapi

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func TestEmit(t *testing.T) {
	list, err := structpb.NewList([]any{"hi", 3, map[string]any{"_placeholder": true, "num": 0}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		request *foyerv1.EmitRequest
		want    service.Emit
	}{
		{
			"json goes on byte for byte",
			&foyerv1.EmitRequest{Target: &foyerv1.Target{Namespace: "chat", Rooms: []string{"a", "b"}, ExceptRooms: []string{"c"}, Local: true}, Payload: jsonPayload("hi", ` [ 1.0 , "\u00e9" ] `)},
			service.Emit{Target: service.Target{Namespace: "/chat", Rooms: []string{"a", "b"}, ExceptRooms: []string{"c"}, Local: true}, Packet: &service.Packet{Kind: service.KindEvent, Namespace: "/chat", AckID: service.NoAck, Event: "hi", Payload: []byte(`["hi",1.0 , "\u00e9" ] `)}},
		},
		{
			"no arguments",
			&foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: `"x`}},
			service.Emit{Target: service.Target{Namespace: "/", All: true}, Packet: &service.Packet{Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Event: `"x`, Payload: []byte(`["\"x"]`)}},
		},
		{
			"values and attachments",
			&foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: "v", Args: &foyerv1.Payload_Values{Values: list}, Attachments: [][]byte{{1, 2}}}},
			service.Emit{Target: service.Target{Namespace: "/", All: true}, Packet: &service.Packet{Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Event: "v", Payload: []byte(`["v","hi",3,{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{1, 2}}}},
		},
		{
			"options",
			&foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: "v"}, Options: &foyerv1.EmitOptions{Volatile: true, Compress: proto.Bool(false)}},
			service.Emit{Target: service.Target{Namespace: "/", All: true}, Flags: service.Volatile | service.NoCompress, Packet: &service.Packet{Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Event: "v", Payload: []byte(`["v"]`)}},
		},
		{
			"compressed when it is said so",
			&foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: "v"}, Options: &foyerv1.EmitOptions{Compress: proto.Bool(true)}, Receipt: foyerv1.Receipt_RECEIPT_ACCEPTED},
			service.Emit{Target: service.Target{Namespace: "/", All: true}, Packet: &service.Packet{Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Event: "v", Payload: []byte(`["v"]`)}},
		},
		{
			"as large as may be",
			&foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: jsonPayload("v", `["`+strings.Repeat("x", 992)+`"]`)},
			service.Emit{Target: service.Target{Namespace: "/", All: true}, Packet: &service.Packet{Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Event: "v", Payload: []byte(`["v","` + strings.Repeat("x", 992) + `"]`)}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newFakeNode()
			var got service.Emit
			n.onEmit = func(_ context.Context, e service.Emit) (service.Receipt, error) {
				got = e
				return service.Receipt{Matched: 6, Enqueued: 3, DroppedVolatile: 2, DroppedSlow: 1, Coverage: service.Coverage{UncountedNodes: 1}}, nil
			}
			_, client := start(t, Config{}, n)
			resp, err := client.emit.Emit(t.Context(), c.request)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, c.want, cmp.Comparer(func(a, b service.Emit) bool {
				return cmp.Equal(a.Target, b.Target) && a.Flags == b.Flags && cmp.Equal(a.Packet, b.Packet)
			})); diff != "" {
				t.Errorf("emit: got %q to %+v flags %d, want %q to %+v flags %d", got.Packet.Payload, got.Target, got.Flags, c.want.Packet.Payload, c.want.Target, c.want.Flags)
			}
			want := &foyerv1.EmitResponse{
				Matched: proto.Int32(6), Enqueued: proto.Int32(3), DroppedVolatile: proto.Int32(2), DroppedSlow: proto.Int32(1),
				Coverage: &foyerv1.Coverage{UncountedNodes: 1},
			}
			if diff := cmp.Diff(resp, want, protocmp.Transform()); diff != "" {
				t.Errorf("response (-got +want):\n%s", diff)
			}
		})
	}
}

// TestReceiptHasTheDefaultOfItsCall: a call waits for all nodes and a stream does not, unless it is said; however an
// item is read.
func TestReceiptHasTheDefaultOfItsCall(t *testing.T) {
	b := registered(t, foyerv1.SocketView_SOCKET_VIEW_REF)
	e := emitting(t, b.n)
	var asked []bool
	b.n.onEmit = func(_ context.Context, e service.Emit) (service.Receipt, error) {
		asked = append(asked, e.Accepted)
		return service.Receipt{}, nil
	}
	list, err := structpb.NewList(nil)
	if err != nil {
		t.Fatal(err)
	}
	for receipt, want := range map[foyerv1.Receipt][2]bool{ // of a call, of a stream
		foyerv1.Receipt_RECEIPT_UNSPECIFIED: {false, true},
		foyerv1.Receipt_RECEIPT_ALL_NODES:   {false, false},
		foyerv1.Receipt_RECEIPT_ACCEPTED:    {true, true},
	} {
		request := &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello(), Receipt: receipt}
		if _, err := (&emitService{s: e.s}).Emit(t.Context(), request); err != nil {
			t.Fatal(err)
		}
		values := &foyerv1.EmitRequest{
			Target: toRoom("r"), Receipt: receipt, Payload: &foyerv1.Payload{Event: "v", Args: &foyerv1.Payload_Values{Values: list}},
		}
		again := &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello(), Receipt: receipt, RequestId: receipt.String()}
		e.say(&foyerv1.EmitStreamItem{Emit: request}, &foyerv1.EmitStreamItem{Emit: values}, &foyerv1.EmitStreamItem{Emit: again})
		e.hear(3)
		b.say(command(1, &foyerv1.Command{Command: &foyerv1.Command_Emit{Emit: request}}))
		b.hear()
		if diff := cmp.Diff(asked, []bool{want[0], want[1], want[1], want[1], want[1]}); diff != "" {
			t.Errorf("%v (-got +want):\n%s", receipt, diff)
		}
		asked = nil
	}
}

func TestEmitRequestID(t *testing.T) {
	n := newFakeNode()
	_, client := start(t, Config{}, n)
	r := &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello(), RequestId: "1"}
	for i := range 3 {
		resp, err := client.emit.Emit(t.Context(), r)
		if err != nil || resp.GetDeduplicated() != (i > 0) || resp.GetMatched() != 2 {
			t.Errorf("call %d: got %v, %v", i, resp, err)
		}
	}
	if calls := n.noted(); len(calls) != 1 {
		t.Errorf("got %q, want one emit", calls)
	}
	r.Payload = jsonPayload("hello", `["moon"]`)
	_, err := client.emit.Emit(t.Context(), r)
	wantError(t, err, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "request_id")

	// The id of an emit has nothing to do with that of another call.
	ack, err := client.emit.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{Target: toRoom("r"), Payload: hello(), RequestId: "1"})
	if err != nil || ack.GetDeduplicated() {
		t.Errorf("EmitWithAck: got %v, %v, want a call of its own", ack, err)
	}
}

func TestServiceErrorsBecomeStatuses(t *testing.T) {
	n := newFakeNode()
	n.onCollect = func(service.Emit, int) (acks, int, error) {
		return nil, 0, &service.Error{Code: service.Precondition, Reason: "TOO_MANY_RECIPIENTS", Message: "1001", Field: "target"}
	}
	n.onEmit = func(context.Context, service.Emit) (service.Receipt, error) {
		return service.Receipt{}, errors.New("a fault")
	}
	n.err = service.ErrDraining
	_, client := start(t, Config{}, n)
	_, err := client.emit.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{Target: toRoom("r"), Payload: hello()})
	wantError(t, err, codes.FailedPrecondition, foyerv1.ErrorReason_ERROR_REASON_TOO_MANY_RECIPIENTS, "target")
	stream, err := client.emit.CollectAcks(t.Context(), &foyerv1.CollectAcksRequest{Target: toRoom("r"), Payload: hello()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantError(t, err, codes.FailedPrecondition, foyerv1.ErrorReason_ERROR_REASON_TOO_MANY_RECIPIENTS, "target")
	_, err = client.emit.Emit(t.Context(), &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello()})
	wantError(t, err, codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, "")
	_, err = client.room.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: toRoom("r"), Rooms: []string{"x"}})
	wantError(t, err, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING, "")
	_, err = client.socket.DisconnectSockets(t.Context(), &foyerv1.DisconnectSocketsRequest{Target: toRoom("r")})
	wantError(t, err, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING, "")
	_, err = client.room.GetRoom(t.Context(), &foyerv1.GetRoomRequest{Room: "r"})
	wantError(t, err, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING, "")
	_, err = client.room.ListRooms(t.Context(), &foyerv1.ListRoomsRequest{})
	wantError(t, err, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING, "")
}

func TestRooms(t *testing.T) {
	n := newFakeNode()
	_, client := start(t, Config{}, n)
	join, err := client.room.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: toRoom("r"), Rooms: []string{"x", "y"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(join, &foyerv1.JoinRoomsResponse{Matched: proto.Int32(1), Coverage: &foyerv1.Coverage{}}, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	leave, err := client.room.LeaveRooms(t.Context(), &foyerv1.LeaveRoomsRequest{Target: toRoom("r"), Rooms: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	want := &foyerv1.LeaveRoomsResponse{
		Matched: proto.Int32(1), Coverage: &foyerv1.Coverage{Unreachable: []string{"b"}, UnreachableUnnamed: 1, UncountedNodes: 2},
	}
	if diff := cmp.Diff(leave, want, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(n.noted(), []string{"join [r]: [x y]", "leave [r]: [x]"}); diff != "" {
		t.Error(diff)
	}
}
