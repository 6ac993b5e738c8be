package grpcapi

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
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

func TestEmitWithAck(t *testing.T) {
	n := newFakeNode()
	n.onAck = func(context.Context, service.Emit, time.Duration, int) (service.AckResult, error) {
		return service.AckResult{Matched: 7, Coverage: service.Coverage{UncountedNodes: 1}, Outcomes: []service.AckOutcome{
			{Socket: "s1", Node: "node", Latency: time.Second, Payload: []byte(`["ok"]`), Attachments: [][]byte{{7}}},
			{Socket: "s2", Node: "node", Failure: service.AckNodeUnreachable},
			{Socket: "s3", Node: "node", Failure: service.AckTimeout},
			{Socket: "s4", Node: "node", Failure: service.AckDisconnected},
			{Socket: "s5", Node: "node", Failure: service.AckTimeout},
			{Socket: "s6", Node: "node", Failure: service.AckDroppedVolatile},
		}}, nil
	}
	_, client := start(t, Config{}, n)
	resp, err := client.emit.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
		Target: toRoom("r"), Payload: hello(), Timeout: durationpb.New(time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &foyerv1.AckSummary{
		Matched: proto.Int32(7), Acked: proto.Int32(1), Unattributed: proto.Int32(1), Coverage: &foyerv1.Coverage{UncountedNodes: 1},
		TimeoutUsed: durationpb.New(time.Second),
		Failures: []*foyerv1.AckFailureCount{
			{Failure: foyerv1.AckFailure_ACK_FAILURE_TIMEOUT, Count: 2},
			{Failure: foyerv1.AckFailure_ACK_FAILURE_DISCONNECTED, Count: 1},
			{Failure: foyerv1.AckFailure_ACK_FAILURE_DROPPED_VOLATILE, Count: 1},
			{Failure: foyerv1.AckFailure_ACK_FAILURE_NODE_UNREACHABLE, Count: 1},
		},
	}
	if diff := cmp.Diff(resp.GetSummary(), want, protocmp.Transform()); diff != "" {
		t.Errorf("summary (-got +want):\n%s", diff)
	}
	first := &foyerv1.AckOutcome{SocketId: "s1", NodeId: "node", Latency: durationpb.New(time.Second), Outcome: &foyerv1.AckOutcome_Args{
		Args: &foyerv1.Args{Args: &foyerv1.Args_Json{Json: `["ok"]`}, Attachments: [][]byte{{7}}},
	}}
	if diff := cmp.Diff(resp.GetOutcomes()[0], first, protocmp.Transform()); diff != "" {
		t.Errorf("outcome (-got +want):\n%s", diff)
	}
	if got := resp.GetOutcomes()[1].GetFailure(); got != foyerv1.AckFailure_ACK_FAILURE_NODE_UNREACHABLE {
		t.Errorf("got failure %v", got)
	}
	if diff := cmp.Diff(n.noted(), []string{`emit ["hello","world"] to [r], acks within 1s from 1000`}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
}

// TestEmitWithAckOutlivesItsCaller: the caller of a call with a request_id goes away; its repeat gets what came of it.
func TestEmitWithAckOutlivesItsCaller(t *testing.T) { bubble(t, testEmitWithAckOutlivesItsCaller) }

func testEmitWithAckOutlivesItsCaller(t *testing.T) {
	n := newFakeNode()
	n.onAck = func(ctx context.Context, _ service.Emit, d time.Duration, _ int) (service.AckResult, error) {
		select {
		case <-time.After(d):
			return service.AckResult{Matched: 1}, nil
		case <-ctx.Done():
			return service.AckResult{}, ctx.Err()
		}
	}
	s, err := newServer(Config{}, n)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	e := &emitService{s: s}
	r := &foyerv1.EmitWithAckRequest{Target: toRoom("r"), Payload: hello(), RequestId: "1"}
	ctx, leave := context.WithCancel(t.Context())
	go func() { _, _ = e.EmitWithAck(ctx, r) }()
	synctest.Wait()
	leave()
	r2 := &foyerv1.EmitWithAckRequest{Target: toRoom("r"), Payload: hello(), RequestId: "1", Timeout: durationpb.New(time.Second)}
	resp, err := e.EmitWithAck(t.Context(), r2)
	if err != nil || !resp.GetDeduplicated() || resp.GetSummary().GetMatched() != 1 {
		t.Errorf("got %v, %v, want the first response", resp, err)
	}
	if calls := n.noted(); len(calls) != 1 {
		t.Errorf("got %q, want one", calls)
	}
}

func TestServiceErrorsBecomeStatuses(t *testing.T) {
	n := newFakeNode()
	n.onAck = func(context.Context, service.Emit, time.Duration, int) (service.AckResult, error) {
		return service.AckResult{}, &service.Error{Code: service.Precondition, Reason: "TOO_MANY_RECIPIENTS", Message: "1001", Field: "target"}
	}
	n.onEmit = func(context.Context, service.Emit) (service.Receipt, error) { panic("a fault") }
	n.err = service.ErrDraining
	_, client := start(t, Config{}, n)
	_, err := client.emit.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{Target: toRoom("r"), Payload: hello()})
	wantError(t, err, codes.FailedPrecondition, foyerv1.ErrorReason_ERROR_REASON_TOO_MANY_RECIPIENTS, "")
	_, err = client.emit.Emit(t.Context(), &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello()})
	wantError(t, err, codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, "")
	_, err = client.room.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: toRoom("r"), Rooms: []string{"x"}})
	wantError(t, err, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING, "")
	_, err = client.socket.DisconnectSockets(t.Context(), &foyerv1.DisconnectSocketsRequest{Target: toRoom("r")})
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
