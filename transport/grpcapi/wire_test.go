package grpcapi

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/service/payload"
)

// These tests hold what is written and read by hand against the generated code.

// eventMessage is what encodeEvent writes.
func eventMessage(n *service.Notice) *foyerv1.AttachResponse {
	return &foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Event{Event: &foyerv1.Event{
		CallId: n.CallID,
		Socket: &foyerv1.Socket{
			Id: string(n.From.ID()), Generation: n.Generation, Namespace: n.From.Namespace(), NodeId: string(n.From.NodeID()),
		},
		Payload:  payloadMessage(n.Packet),
		WantsAck: n.Packet.AckID != service.NoAck,
		Time:     timestamp(n.Time),

		Traceparent: n.Trace.Traceparent(),
	}}}
}

// wireOf is what codec gives to gRPC.
func wireOf(t testing.TB, v any) (wire []byte) {
	t.Helper()
	buffers, err := newCodec().Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range buffers {
		wire = append(wire, b.ReadOnlyData()...)
	}
	return wire
}

func TestEncodeEvent(t *testing.T) {
	n, err := service.New(service.Config{Namespaces: []service.NamespaceConfig{{Pattern: "/chat*"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	sockets := []*service.Socket{connectSinkTo(t, n, "/").socket, connectSinkTo(t, n, "/chat"+string(bytes.Repeat([]byte("é"), 120))).socket}
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.Just("a\xff\"\u2028")).Draw(rt, "event")
		args := rapid.SampledFrom([]string{`[]`, ` [ ] `, `["x"]`, `[{"a":[1,"é"]}, null ]`, "[\"\xff\"]", `["` + string(bytes.Repeat([]byte("y"), 70_000)) + `"]`}).Draw(rt, "args")
		notice := &service.Notice{
			Kind: service.NoticeEvent, From: rapid.SampledFrom(sockets).Draw(rt, "socket"),
			CallID: rapid.Uint64().Draw(rt, "call"), Generation: rapid.Uint64().Draw(rt, "generation"),
			Packet: &service.Packet{
				Kind: service.KindEvent, AckID: rapid.Int64Min(service.NoAck).Draw(rt, "ack"), Event: name, Payload: payload.Event(name, []byte(args)),
				Attachments: rapid.SliceOfN(rapid.SliceOf(rapid.Byte()), 0, 3).Draw(rt, "attachments"),
			},
			Time: time.Unix(rapid.Int64Range(1, 1<<34).Draw(rt, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(rt, "nanos")),
		}
		got := &foyerv1.AttachResponse{}
		m := encodeEvent(notice)
		if err := proto.Unmarshal(wireOf(t, m), got); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(got, eventMessage(notice), protocmp.Transform()); diff != "" {
			rt.Fatalf("-got +want:\n%s", diff)
		}
		if cap(m.data) != len(m.data) && len(m.data) > 1024 { // below that it is a class of the allocator's
			rt.Errorf("%d bytes made, %d needed", cap(m.data), len(m.data))
		}
	})
}

func TestAppendReceipt(t *testing.T) {
	count := rapid.IntRange(0, 1<<31-1)
	rapid.Check(t, func(rt *rapid.T) {
		r := &service.Receipt{
			Matched: count.Draw(rt, "matched"), Enqueued: count.Draw(rt, "enqueued"), DroppedVolatile: count.Draw(rt, "volatile"),
			DroppedSlow: count.Draw(rt, "slow"), Coverage: service.Coverage{
				Unreachable:        rapid.SliceOfN(rapid.String(), 0, 5).Draw(rt, "unreachable"),
				UnreachableUnnamed: count.Draw(rt, "unnamed"), UncountedNodes: count.Draw(rt, "uncounted"),
			},
		}
		want := &foyerv1.EmitStreamResponse{Results: []*foyerv1.EmitStreamResult{
			{Id: rapid.Uint64().Draw(rt, "id"), Result: &foyerv1.EmitStreamResult_Ok{Ok: emitResponse(r)}},
			{Id: 1, Result: &foyerv1.EmitStreamResult_Ok{Ok: emitResponse(&service.Receipt{})}},
		}}
		got := &foyerv1.EmitStreamResponse{}
		wire := appendReceipt(nil, want.GetResults()[0].GetId(), r)
		wire = appendReceipt(wire, 1, &service.Receipt{})
		if err := proto.Unmarshal(wireOf(t, newEncoded(wire)), got); err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
			rt.Fatalf("-got +want:\n%s", diff)
		}
	})
}

// wireSeeds are messages with a field of every kind, and what can be wrong with one.
func wireSeeds(f *testing.F, messages ...proto.Message) {
	for _, m := range messages {
		wire, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
		f.Add(wire[:len(wire)*2/3])
		f.Add(append(wire, wire...)) // merged
		f.Add(protowire.AppendString(append(wire, undecodableMark...), "items\x00is odd"))
		f.Add(bytes.Replace(wire, []byte("é"), []byte("\xff\xff"), 1))
	}
}

// FuzzAttachRequest: what is read by hand is what the generated code reads, and valid.
func FuzzAttachRequest(f *testing.F) {
	wireSeeds(f,
		reply(7, `["é"]`), reply(0, ``), reply(1<<40, ` [] `),
		&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{CallId: 1, Args: &foyerv1.Args{
			Args:        &foyerv1.Args_Json{Json: `[{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]`},
			Attachments: [][]byte{{1}, {}},
		}}}},
		&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Handled{Handled: &foyerv1.Handled{UpTo: 7}}},
		&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Drain{Drain: &foyerv1.Drain{}}},
	)
	const maxBytes = 200
	f.Fuzz(func(t *testing.T, wire []byte) {
		want := &foyerv1.AttachRequest{}
		wantErr := proto.Unmarshal(wire, want)
		got := &attachRequest{maxBytes: maxBytes}
		if err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, got); err != nil {
			t.Fatal(err)
		}
		if refused := decoded(got) != nil; refused != (wantErr != nil) && !bytes.HasPrefix(want.ProtoReflect().GetUnknown(), undecodableMark) {
			t.Fatalf("refused: %t, want %v", refused, wantErr)
		}
		array, attachments, err := ackArguments(want.GetEventReply().GetArgs(), maxBytes)
		if got.message != nil {
			usual := reply(want.GetEventReply().GetCallId(), want.GetEventReply().GetArgs().GetJson(), attachments...)
			if err == nil && wantErr == nil && bytes.Equal(wire, wireOf(t, usual)) {
				t.Error("a message of the usual form was not read by hand")
			}
			if wantErr == nil && !proto.Equal(got.message, want) {
				t.Errorf("got %v, want %v", got.message, want)
			}
			return
		}
		if wantErr != nil || err != nil || want.GetEventReply() == nil {
			t.Fatalf("let through: %v, %v, %v", want, wantErr, err)
		}
		if got.callID != want.GetEventReply().GetCallId() || !bytes.Equal(got.json, array) || !cmp.Equal(got.attachments, attachments, cmpopts.EquateEmpty()) {
			t.Errorf("got %d %q %q, want %v", got.callID, got.json, got.attachments, want)
		}
	})
}

// FuzzEmitStreamRequest: what is read by hand is what the generated code reads, and its faults are the same.
func FuzzEmitStreamRequest(f *testing.F) {
	all := &foyerv1.EmitRequest{
		Target:  &foyerv1.Target{Namespace: "chaté", Rooms: []string{"a", "é"}, ExceptRooms: []string{"b"}, Local: true},
		Payload: jsonPayload("é", ` [ {"_placeholder":true,"num":0},{"_placeholder":true,"num":1} ] `, []byte("x"), nil),
		Options: &foyerv1.EmitOptions{Volatile: true, Compress: proto.Bool(false)}, Receipt: foyerv1.Receipt_RECEIPT_ALL_NODES,
	}
	wireSeeds(f,
		&foyerv1.EmitStreamRequest{},
		&foyerv1.EmitStreamRequest{Items: []*foyerv1.EmitStreamItem{item(1, `["é"]`), item(0, `[]`), {Id: 2, Emit: all}}},
		&foyerv1.EmitStreamRequest{Items: []*foyerv1.EmitStreamItem{
			{Id: 1},
			item(2, `{}`),
			item(2, `[{"_placeholder":true,"num":0}]`),
			{Id: 2, Emit: &foyerv1.EmitRequest{Target: toRoom("r"), Payload: jsonPayload("e", `[]`, []byte("x"))}},
			{Id: 3, Emit: &foyerv1.EmitRequest{Target: toRoom("r"), Payload: jsonPayload("connect", `[]`)}},
			{Id: 4, Emit: &foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: "e"}}},
			{Id: 5, Emit: &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello(), RequestId: "é"}},
			{Id: 6, Emit: &foyerv1.EmitRequest{Target: toRoom(""), Payload: hello(), Receipt: 9}},
		}},
	)
	const maxBytes = 200
	f.Fuzz(func(t *testing.T, wire []byte) {
		message := &foyerv1.EmitStreamRequest{}
		wantErr := proto.Unmarshal(wire, message)
		got := &emitStreamRequest{maxBytes: maxBytes}
		if err := newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(wire)}, got); err != nil {
			t.Fatal(err)
		}
		if refused := decoded(got) != nil; refused != (wantErr != nil) && !bytes.HasPrefix(message.ProtoReflect().GetUnknown(), undecodableMark) {
			t.Fatalf("refused: %t, want %v", refused, wantErr)
		}
		if wantErr != nil {
			return
		}
		if got.message != nil {
			if !proto.Equal(got.message, message) {
				t.Errorf("got %v, want %v", got.message, message)
			}
			return
		}
		want := &emitStreamRequest{maxBytes: maxBytes}
		for _, it := range message.GetItems() {
			want.add(it)
		}
		if diff := cmp.Diff(got.items, want.items, cmp.AllowUnexported(emitItem{}), protocmp.Transform(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("items (-got +want):\n%s", diff)
		}
		if diff := cmp.Diff(got.emits, want.emits, cmpopts.IgnoreUnexported(service.Emit{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("emits (-got +want):\n%s", diff)
		}
	})
}

// What waits to be applied is bounded by all that an item holds, whichever way it was read.
func TestEmitStreamRequestBytes(t *testing.T) {
	rooms := make([]string, maxRooms)
	for i := range rooms {
		rooms[i] = strings.Repeat("r", service.MaxNameBytes)
	}
	for name, target := range map[string]*foyerv1.Target{
		"rooms":        {Rooms: rooms},
		"except rooms": {All: true, ExceptRooms: rooms},
	} {
		for requestID, usual := range map[string]bool{"": true, "once": false} {
			item := &foyerv1.EmitStreamItem{Emit: &foyerv1.EmitRequest{
				Target: target, Payload: &foyerv1.Payload{Event: "e"}, RequestId: requestID,
			}}
			in := emitStreamRequest{maxBytes: 1 << 20}
			wire := mem.SliceBuffer(wireOf(t, &foyerv1.EmitStreamRequest{Items: []*foyerv1.EmitStreamItem{item}}))
			if !in.read(wire) || len(in.items) != 1 || (len(in.emits) == 1) != usual {
				t.Fatalf("%s: read %d items, %d emits", name, len(in.items), len(in.emits))
			}
			if got, least := in.bytes(), maxRooms*service.MaxNameBytes; got < least {
				t.Errorf("%s, request id %q: %d bytes, holds %d", name, requestID, got, least)
			}
		}
	}
}
