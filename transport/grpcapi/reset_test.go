package grpcapi

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// TestResets: a caller that opens calls and resets them at once has no more of them under way than one that does not.
func TestResets(t *testing.T) {
	// One processor, for the sake of Go 1.26.8. With two, the race detector may crash when timers of a bubble run at the
	// same time, since they share one context of it. And NumGoroutine may count up to 32 that have ended, while the
	// runtime moves them to its global list; synctest.Wait does not wait for that.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	bubble(t, testResets)
}

func testResets(t *testing.T) {
	const resets, batch = 1500, 500 // three batches show whether calls are left over
	const slack = 16                // the runtime's, and those of connections that answer a ping
	target := toRoom("r")
	for name, c := range map[string]struct {
		method string
		first  func(i int) proto.Message
	}{
		"emit": {emitMethod, func(int) proto.Message { return &foyerv1.EmitRequest{Target: target, Payload: hello()} }},
		"acks": {foyerv1.EmitService_EmitWithAck_FullMethodName, func(int) proto.Message {
			return &foyerv1.EmitWithAckRequest{Target: target, Payload: hello(), Timeout: durationpb.New(time.Minute)}
		}},
		"acks to remember": {foyerv1.EmitService_EmitWithAck_FullMethodName, func(i int) proto.Message {
			return &foyerv1.EmitWithAckRequest{Target: target, Payload: hello(), Timeout: durationpb.New(time.Minute), RequestId: time.Duration(i).String()}
		}},
		"acks joined": {foyerv1.EmitService_EmitWithAck_FullMethodName, func(int) proto.Message {
			return &foyerv1.EmitWithAckRequest{Target: target, Payload: hello(), Timeout: durationpb.New(time.Minute), RequestId: "same"}
		}},
		"collect": {foyerv1.EmitService_CollectAcks_FullMethodName, func(int) proto.Message {
			return &foyerv1.CollectAcksRequest{Target: target, Payload: hello(), Timeout: durationpb.New(time.Minute)}
		}},
		"emit stream": {foyerv1.EmitService_EmitStream_FullMethodName, func(int) proto.Message { return &foyerv1.EmitStreamRequest{} }},
		"attach": {foyerv1.HandlerService_Attach_FullMethodName, func(int) proto.Message {
			return &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/"}}}}
		}},
		"watch": {foyerv1.PresenceService_Watch_FullMethodName, func(int) proto.Message { return &foyerv1.WatchRequest{All: true} }},
	} {
		s := newTestServer(t, Config{})
		n := s.node.(*fakeNode)
		n.onCollect = func(service.Emit, int) (acks, int, error) { // nobody answers
			a := newFakeAcks()
			a.err = nil
			return a, 1, nil
		}
		n.onAttach = func(service.Registration) (handler, error) { return newFakeHandler(), nil }
		n.onWatch = func(service.Scope, string) (watcher, error) { return newFakeWatcher(), nil }
		raw := dialRaw(t, listening(t, s)).greet()
		synctest.Wait()
		before, most := runtime.NumGoroutine(), 0
		began := time.Now()
		for range resets / batch {
			var streams []uint32
			for i := range batch {
				stream := raw.call(c.method)
				wire, err := proto.Marshal(c.first(int(stream)))
				if err != nil {
					t.Fatal(err)
				}
				raw.frame(frameData, flagEnd, stream, append([]byte{0, 0, 0, byte(len(wire) >> 8), byte(len(wire))}, wire...))
				if streams = append(streams, stream); i%2 == 0 {
					raw.frame(frameReset, 0, stream, []byte{0, 0, 0, 8}) // before it has begun
				}
			}
			synctest.Wait()
			most = max(most, runtime.NumGoroutine()-before)
			for _, stream := range streams {
				raw.frame(frameReset, 0, stream, []byte{0, 0, 0, 8})
			}
			synctest.Wait()
		}
		stream := raw.call(emitMethod)
		raw.message(stream, 0, 0)
		raw.wantEnded(stream)
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: the connection's other calls wait for %v", name, took)
		}
		synctest.Wait()
		left := runtime.NumGoroutine() - before
		if most > batch*4+maxLeft/2+slack || left > maxLeft/2+slack || left > slack && name != "acks to remember" {
			t.Errorf("%s: %d goroutines with %d calls under way, %d with none", name, most, batch, left)
		}
		if c := s.gate.counts[refusedLeft].Load(); (c > 0) != (name == "acks to remember") {
			t.Errorf("%s: %d calls are counted as left", name, c)
		}
		time.Sleep(2 * time.Minute)
		if left := runtime.NumGoroutine() - before; left > slack {
			t.Errorf("%s: %d goroutines are left when all waits are over", name, left)
		}
	}
}

// TestShares: one caller has half of the handlers and watches, and what has ended counts no more.
func TestShares(t *testing.T) { bubble(t, testShares) }

func testShares(t *testing.T) {
	n := newFakeNode()
	n.config.MaxHandlers, n.config.MaxWatchers = 6, 6
	n.onAttach = func(service.Registration) (handler, error) { return newFakeHandler(), nil }
	n.onWatch = func(service.Scope, string) (watcher, error) {
		return newFakeWatcher(service.WatchStep{Bookmark: true, Token: "1"}), nil
	}
	s, client := start(t, Config{Tokens: []string{"first", "second"}}, n)
	attach := func(ctx context.Context) error {
		stream, err := client.handler.Attach(ctx)
		if err == nil {
			err = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/"}}}})
		}
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	watch := func(ctx context.Context) error {
		stream, err := client.watch.Watch(ctx, &foyerv1.WatchRequest{All: true})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	for name, open := range map[string]func(context.Context) error{"attach": attach, "watch": watch} {
		as := func(token string) context.Context {
			return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
		}
		first, cancel := context.WithCancel(as("first"))
		for range 3 {
			if err := open(first); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		err := open(first)
		wantError(t, err, codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, "")
		if !strings.Contains(err.Error(), "share") {
			t.Errorf("%s: %v does not name the share", name, err)
		}
		for range 3 {
			if err := open(as("second")); err != nil {
				t.Errorf("%s of another caller: %v", name, err)
			}
		}
		cancel()
		synctest.Wait()
		if err := open(as("first")); err != nil {
			t.Errorf("%s after the others have ended: %v", name, err)
		}
	}
	if got := s.gate.counts[refusedShare].Load(); got != 2 {
		t.Errorf("%d refusals are counted, want 2", got)
	}
}
