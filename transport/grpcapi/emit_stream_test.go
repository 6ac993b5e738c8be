package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// emitter is a client's end of an EmitStream.
type emitter struct {
	testing.TB
	grpc.BidiStreamingClient[foyerv1.EmitStreamRequest, foyerv1.EmitStreamResponse]
	s *Server
}

func emitting(t testing.TB, n node) *emitter {
	t.Helper()
	s, client := start(t, Config{}, n)
	stream, err := client.emit.EmitStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return &emitter{TB: t, BidiStreamingClient: stream, s: s}
}

func (e *emitter) say(items ...*foyerv1.EmitStreamItem) {
	e.Helper()
	if err := e.Send(&foyerv1.EmitStreamRequest{Items: items}); err != nil {
		e.Fatal(err)
	}
}

// hear receives n results, in however many messages.
func (e *emitter) hear(n int) []*foyerv1.EmitStreamResult {
	e.Helper()
	var results []*foyerv1.EmitStreamResult
	for len(results) < n {
		m, err := e.Recv()
		if err != nil {
			e.Fatal(err)
		}
		if len(m.GetResults()) == 0 || len(m.GetResults()) > maxStreamResults {
			e.Fatalf("got a message with %d results", len(m.GetResults()))
		}
		results = append(results, m.GetResults()...)
	}
	if len(results) > n {
		e.Fatalf("got %d results, want %d", len(results), n)
	}
	return results
}

func (e *emitter) wantEnd() {
	e.Helper()
	if m, err := e.Recv(); !errors.Is(err, io.EOF) {
		e.Fatalf("got %v, %v, want %v", m, err, io.EOF)
	}
}

func item(id uint64, args string) *foyerv1.EmitStreamItem {
	return &foyerv1.EmitStreamItem{Id: id, Emit: &foyerv1.EmitRequest{Target: toRoom("r"), Payload: jsonPayload("e", args)}}
}

func TestEmitStream(t *testing.T) {
	n := newFakeNode()
	n.onEmit = func(_ context.Context, e service.Emit) (service.Receipt, error) {
		switch string(e.Packet.Payload) {
		case `["e","limit"]`:
			return service.Receipt{}, &service.Error{Code: service.Exhausted, Reason: "LIMIT_REACHED", Message: "no"}
		case `["e","fault"]`:
			return service.Receipt{}, errors.New("a fault")
		}
		return service.Receipt{Matched: 6, Enqueued: 3, DroppedVolatile: 2, DroppedSlow: 1, Coverage: service.Coverage{UncountedNodes: 1}}, nil
	}
	e := emitting(t, n)
	again := item(6, `["once"]`)
	again.Emit.RequestId = "1"
	first := proto.CloneOf(again)
	first.Id = 3
	reused := item(7, `["other"]`)
	reused.Emit.RequestId = "1"
	e.say()
	e.say(
		item(1, `["a"]`), item(2, ` [ "b" ] `), first, item(4, `["limit"]`), &foyerv1.EmitStreamItem{Id: 5}, again, reused,
		item(8, `{}`), item(9, `["fault"]`), item(9, `["c"]`),
	)
	results := e.hear(10)
	ok := &foyerv1.EmitResponse{
		Matched: proto.Int32(6), Enqueued: proto.Int32(3), DroppedVolatile: proto.Int32(2), DroppedSlow: proto.Int32(1),
		Coverage: &foyerv1.Coverage{UncountedNodes: 1},
	}
	repeat := proto.CloneOf(ok)
	repeat.Deduplicated = true
	for i, want := range []struct {
		id     uint64
		ok     *foyerv1.EmitResponse
		code   codes.Code
		reason foyerv1.ErrorReason
		field  string
	}{
		{id: 1, ok: ok},
		{id: 2, ok: ok},
		{id: 3, ok: ok},
		{id: 4, code: codes.ResourceExhausted, reason: foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED},
		{id: 5, code: codes.InvalidArgument, reason: fieldReason, field: "items[4].emit"},
		{id: 6, ok: repeat},
		{id: 7, code: codes.InvalidArgument, reason: fieldReason, field: "items[6].emit.request_id"},
		{id: 8, code: codes.InvalidArgument, reason: invalidPayload, field: "items[7].emit.payload.json"},
		{id: 9, code: codes.Internal, reason: foyerv1.ErrorReason_ERROR_REASON_INTERNAL},
		{id: 9, ok: ok},
	} {
		got := results[i]
		if got.GetId() != want.id {
			t.Fatalf("result %d: got id %d, want %d", i, got.GetId(), want.id)
		}
		if diff := cmp.Diff(got.GetOk(), want.ok, protocmp.Transform()); diff != "" {
			t.Errorf("result %d (-got +want):\n%s", i, diff)
		}
		if want.ok == nil {
			wantStatus(t, status.FromProto(got.GetError()), want.code, want.reason, want.field)
		}
	}
	want := []string{
		"batch of 2", `emit ["e","a"] to [r]`, `emit ["e","b" ]  to [r]`, // ids are looked at alone, in their place
		"batch of 1", `emit ["e","once"] to [r]`,
		"batch of 1", `emit ["e","limit"] to [r]`,
		"batch of 2", `emit ["e","fault"] to [r]`, `emit ["e","c"] to [r]`,
	}
	if diff := cmp.Diff(n.noted(), want); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	if err := e.CloseSend(); err != nil {
		t.Fatal(err)
	}
	e.wantEnd()
}

// TestEmitStreamHalfClose: a caller that closes its side gets all results, then OK.
func TestEmitStreamHalfClose(t *testing.T) {
	e := emitting(t, newFakeNode())
	const messages, batch = 300, 10
	for i := range messages {
		items := make([]*foyerv1.EmitStreamItem, batch)
		for j := range items {
			items[j] = item(uint64(i*batch+j), "[]")
		}
		e.say(items...)
	}
	if err := e.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for i, r := range e.hear(messages * batch) {
		if r.GetId() != uint64(i) || r.GetOk().GetMatched() != 2 {
			t.Fatalf("result %d: got %v", i, r)
		}
	}
	e.wantEnd()

	e = emitting(t, newFakeNode())
	if err := e.CloseSend(); err != nil {
		t.Fatal(err)
	}
	e.wantEnd()
}

func TestEmitStreamRefusals(t *testing.T) {
	many := make([]*foyerv1.EmitStreamItem, maxStreamItems+1)
	for i := range many {
		many[i] = item(uint64(i), "[]")
	}
	t.Run("too many items", func(t *testing.T) {
		n := newFakeNode()
		e := emitting(t, n)
		e.say(item(1, "[]"))
		e.say(many[1:]...) // as many as may be
		e.say(many...)
		e.hear(1 + maxStreamItems) // what came before is answered
		_, err := e.Recv()
		wantError(t, err, codes.InvalidArgument, fieldReason, "items")
		if calls := n.noted(); len(calls) != 2+1+maxStreamItems {
			t.Errorf("%d calls, want none of what was refused", len(calls))
		}
	})
	t.Run("undecodable", func(t *testing.T) {
		_, client := start(t, Config{}, newFakeNode())
		stream, err := client.conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
			foyerv1.EmitService_EmitStream_FullMethodName, grpc.ForceCodec(raw{}))
		if err != nil {
			t.Fatal(err)
		}
		in := []byte{0x0a, 0x7f}
		_ = stream.SendMsg(&in) // the refusal may come while it is being sent
		var out []byte
		err = stream.RecvMsg(&out)
		wantError(t, err, codes.InvalidArgument, fieldReason, "items[0]")
	})
}

// TestEmitStreamThatIsNotRead: a caller that takes no results is not read any further, and finds all of them when it
// takes them.
func TestEmitStreamThatIsNotRead(t *testing.T) { bubble(t, testEmitStreamThatIsNotRead) }

func testEmitStreamThatIsNotRead(t *testing.T) {
	var applied atomic.Int64
	n := newFakeNode()
	n.onEmit = func(context.Context, service.Emit) (service.Receipt, error) {
		applied.Add(1)
		return service.Receipt{Coverage: service.Coverage{Unreachable: []string{strings.Repeat("x", 1000)}}}, nil
	}
	e := emitting(t, n)
	const messages, batch = 80, 100
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for i := range messages {
			items := make([]*foyerv1.EmitStreamItem, batch)
			for j := range items {
				items[j] = item(uint64(i*batch+j), "[]")
			}
			if e.Send(&foyerv1.EmitStreamRequest{Items: items}) != nil {
				return
			}
		}
		_ = e.CloseSend()
	})
	synctest.Wait()
	stopped := applied.Load()
	if most := int64(2*maxStreamResults + 512); stopped > most { // some of them travel: the windows of HTTP/2
		t.Errorf("%d emits were applied while nobody took their results, want at most %d", stopped, most)
	}
	time.Sleep(time.Hour)
	if now := applied.Load(); now != stopped {
		t.Errorf("then %d more", now-stopped)
	}
	for i, r := range e.hear(messages * batch) {
		if r.GetId() != uint64(i) {
			t.Fatalf("got result %d, want %d", r.GetId(), i)
		}
	}
	e.wantEnd()
}

// TestEmitStreamGathers: what comes while a batch is written goes together, however many messages it came in, and never
// more of it than may wait.
func TestEmitStreamGathers(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes, most int
		together    bool
	}{
		"small": {10, 10, true},
		"large": {maxStreamBytes / 4, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				release := make(chan struct{})
				n := newFakeNode()
				n.config.MaxPayloadBytes = maxStreamBytes
				n.onEmit = func(context.Context, service.Emit) (service.Receipt, error) {
					<-release
					return service.Receipt{Matched: 1}, nil
				}
				e := emitting(t, n)
				args := `["` + strings.Repeat("x", tt.bytes) + `"]`
				e.say(item(0, args))
				synctest.Wait()
				var sending sync.WaitGroup
				sending.Go(func() {
					for i := range 10 {
						e.say(item(uint64(i+1), args))
					}
				})
				synctest.Wait()
				close(release)
				for i, r := range e.hear(11) {
					if r.GetId() != uint64(i) || r.GetOk() == nil {
						t.Errorf("result %d: %v", i, r)
					}
				}
				sending.Wait()
				var batches []int
				for _, call := range n.noted() {
					var size int
					if _, err := fmt.Sscanf(call, "batch of %d", &size); err == nil {
						batches = append(batches, size)
					}
				}
				if slices.Max(batches) > tt.most || batches[0] != 1 || tt.together && len(batches) != 2 {
					t.Errorf("batches of %v", batches)
				}
			})
		})
	}
}

// TestEmitStreamOnShutdown: what was applied is answered, then the stream ends; it does not hold the node up.
func TestEmitStreamOnShutdown(t *testing.T) { bubble(t, testEmitStreamOnShutdown) }

func testEmitStreamOnShutdown(t *testing.T) {
	n := newFakeNode()
	var e *emitter
	down := make(chan error, 1)
	shutdown := sync.OnceFunc(func() {
		go func() { down <- e.s.Shutdown(t.Context()) }()
		<-e.s.draining.Done()
	})
	applied := 0
	n.onEmit = func(context.Context, service.Emit) (service.Receipt, error) {
		shutdown()
		applied++
		return service.Receipt{Matched: 1}, nil
	}
	e = emitting(t, n)
	for i := range 100 {
		// The stream may end meanwhile.
		_ = e.Send(&foyerv1.EmitStreamRequest{Items: []*foyerv1.EmitStreamItem{item(uint64(i), "[]")}})
	}
	answered := 0
	for {
		m, err := e.Recv()
		if err != nil {
			wantError(t, err, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING, "")
			break
		}
		answered += len(m.GetResults())
	}
	if err := <-down; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if answered != applied || applied == 0 {
		t.Errorf("%d were applied and %d answered", applied, answered)
	}
}

// TestEmitStreamOnShutdownUnread: one that nobody reads ends with the time that the node has. Its RPC is over before
// that, but gRPC waits for what it has still to write.
func TestEmitStreamOnShutdownUnread(t *testing.T) { bubble(t, testEmitStreamOnShutdownUnread) }

func testEmitStreamOnShutdownUnread(t *testing.T) {
	n := newFakeNode()
	n.onEmit = func(context.Context, service.Emit) (service.Receipt, error) {
		return service.Receipt{Coverage: service.Coverage{Unreachable: []string{strings.Repeat("x", 100_000)}}}, nil
	}
	e := emitting(t, n)
	for i := range 10 {
		e.say(item(uint64(i), "[]"))
		synctest.Wait()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := e.s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestRealEmitStream(t *testing.T) { bubble(t, testRealEmitStream) }

func testRealEmitStream(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	e := emitting(t, serviceNode{n})
	one, two := join(n, "one", "/chat", ""), join(n, "two", "/", "")
	<-one.sent
	<-two.sent
	var items []*foyerv1.EmitStreamItem
	for i := range 100 {
		it := item(uint64(i), fmt.Sprintf("[%d]", i))
		it.Emit.Target = &foyerv1.Target{All: true}
		if i%3 == 0 {
			it.Emit.Target.Namespace = "chat"
		}
		if i%7 == 0 {
			it.Emit.RequestId = fmt.Sprint(i)
		}
		items = append(items, it)
	}
	e.say(items[:33]...)
	e.say(items[33:]...)
	for i, r := range e.hear(len(items)) {
		if r.GetId() != uint64(i) || r.GetOk().GetMatched() != 1 || r.GetOk().GetEnqueued() != 1 {
			t.Errorf("got %v", r)
		}
	}
	for i := range items {
		l, name := two, "/"
		if i%3 == 0 {
			l, name = one, "/chat"
		}
		l.want(t, fmt.Sprintf(`2 %s -1 ["e",%d]`, name, i))
	}
}

// FuzzEventArray: putting an event together before it is checked lets through what checking its arguments does, and the
// same comes out.
func FuzzEventArray(f *testing.F) {
	for _, s := range []string{`[]`, ` [ ] `, `[1,{"a":[]}]`, `[,1]`, `[1]]`, `[1],[2]`, `["a"`, ``, `[`, `{}`, `[[[`, "[\"\xff\"]", `[{"_placeholder":true,"num":0}]`} {
		f.Add("e", s)
		f.Add(`a"b`, s)
	}
	f.Fuzz(func(t *testing.T, event, args string) {
		p := jsonPayload(event, args, []byte("x"))
		if checkName(fieldReason, "", event) != nil {
			return
		}
		array, ok := eventArray(event, args, p.GetAttachments(), 1000)
		want, err := arguments(p, "payload", 1000)
		switch {
		case ok != (err == nil) && len(args) < 1000: // attachments count too
			t.Errorf("%q: got %q, %t, want %v", args, array, ok, err)
		case ok && err == nil:
			packet, err := eventPacket(p, "/", func(string) bool { return false }, 2000)
			if err != nil || packet.Event != event || string(packet.Payload) != string(array) || len(want) == 0 {
				t.Errorf("%q: got %q, %v", args, array, err)
			}
		}
	})
}

// TestEmitStreamTooLarge: a message that is too large is an error of that message, whichever way its items are read.
func TestEmitStreamTooLarge(t *testing.T) {
	n := newFakeNode()
	e := emitting(t, n)
	many := func(id uint64, size, count int) []*foyerv1.EmitStreamItem {
		items := make([]*foyerv1.EmitStreamItem, count)
		for i := range items {
			items[i] = item(id+uint64(i), `["`+strings.Repeat("x", size/count)+`"]`)
		}
		return items
	}
	unusual := many(200, e.s.maxRequest()+1, 2)
	unusual[1].Emit.RequestId = "once"
	unusual = append(unusual, &foyerv1.EmitStreamItem{Id: 202})
	e.say(item(1, `[]`))
	e.say(many(100, e.s.maxRequest()+1, 64)...) // each of them is fine by itself, or would be with a larger payload
	e.say(unusual...)
	e.say(item(2, `[]`))
	for _, r := range e.hear(1 + 64 + 3 + 1) {
		switch id := r.GetId(); {
		case id <= 2:
			if r.GetOk() == nil {
				t.Errorf("item %d: got %v, want ok", id, r)
			}
		default:
			wantStatus(t, status.FromProto(r.GetError()), codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_PAYLOAD_TOO_LARGE, "items")
		}
	}
	for _, call := range n.noted() {
		if !strings.HasSuffix(call, " of 1") && !strings.HasPrefix(call, `emit ["e"]`) && !strings.HasPrefix(call, "batch of 2") {
			t.Errorf("applied: %.80s", call)
		}
	}

	// What the transport does not read ends the stream.
	e.say(many(300, e.s.maxRequest()+transportSlack+1, 2)...)
	if _, err := e.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v, want %v", err, codes.ResourceExhausted)
	}
}

// TestEmitStreamTakesManyItems: what is too large is the message, not the sum of its payloads.
func TestEmitStreamTakesManyItems(t *testing.T) {
	e := emitting(t, newFakeNode())
	items := make([]*foyerv1.EmitStreamItem, 1000)
	for i := range items {
		items[i] = item(uint64(i), `["`+strings.Repeat("x", 900)+`"]`)
	}
	e.say(items...)
	for i, r := range e.hear(1000) {
		if r.GetId() != uint64(i) || r.GetOk() == nil {
			t.Fatalf("got %v, want ok of item %d", r, i)
		}
	}
}
