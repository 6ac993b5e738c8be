//go:build !race

// The race detector empties pools at random, so that it sees allocations which are not there.

package grpcapi

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// TestAllocationsOfStreams: what one event, one reply and one emit cost in objects, besides gRPC's own.
func TestAllocationsOfStreams(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	array := `["ask","` + strings.Repeat("x", 100) + `"]`
	notice := &service.Notice{
		Kind: service.NoticeEvent, CallID: 1, From: connectSink(t, n).socket, Generation: 1, Time: time.Now(),
		Packet: &service.Packet{Kind: service.KindEvent, AckID: 1, Event: "ask", Payload: []byte(array)},
	}
	wire := func(m proto.Message) mem.BufferSlice {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return mem.BufferSlice{mem.SliceBuffer(b)}
	}
	answer := wire(reply(1, array))
	emits := wire(&foyerv1.EmitStreamRequest{Items: []*foyerv1.EmitStreamItem{
		{Id: 1, Emit: &foyerv1.EmitRequest{Target: toRoom("room1"), Payload: jsonPayload("message", array)}},
	}})
	codec, attach, emit := newCodec(), &attachRequest{maxBytes: 1000}, &emitStreamRequest{maxBytes: 1000}
	results := make([]byte, 0, 64)
	for _, c := range []struct {
		what   string
		budget float64
		do     func()
	}{
		{"event", 2, func() { _, _ = codec.Marshal(encodeEvent(notice)) }}, // its bytes, and what holds them
		{"reply", 0, func() { _ = codec.Unmarshal(answer, attach) }},
		{"emit", 4, func() { _ = codec.Unmarshal(emits, emit) }}, // packet, its bytes, the list of rooms and the room
		{"receipt", 0, func() { results = appendReceipt(results[:0], 1, &service.Receipt{Matched: 1, Enqueued: 1}) }},
	} {
		if got := testing.AllocsPerRun(100, c.do); got > c.budget {
			t.Errorf("%s: %v objects, budget %v", c.what, got, c.budget)
		}
	}
	if attach.message != nil || emit.message != nil || len(emit.emits) != 1 {
		t.Error("not read by hand")
	}
}
