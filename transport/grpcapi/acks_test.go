package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// someOutcomes are of every kind; the last of the seven recipients is known by number only.
func someOutcomes() []service.AckOutcome {
	return []service.AckOutcome{
		{Socket: "s1", Node: "node", Latency: time.Second, Payload: []byte(`["ok"]`), Attachments: [][]byte{{7}}},
		{Socket: "s2", Node: "node", Failure: service.AckNodeUnreachable},
		{Socket: "s3", Node: "node", Failure: service.AckTimeout},
		{Socket: "s4", Node: "node", Failure: service.AckDisconnected},
		{Socket: "s5", Node: "node", Failure: service.AckTimeout},
		{Socket: "s6", Node: "node", Failure: service.AckDroppedVolatile},
	}
}

// partly is the coverage of fakeAcks.
func partly() *foyerv1.Coverage { return &foyerv1.Coverage{Unreachable: []string{"b"}} }

func summaryOfSome() *foyerv1.AckSummary {
	return &foyerv1.AckSummary{
		Matched: proto.Int32(7), Acked: proto.Int32(1), Unattributed: proto.Int32(1), Coverage: partly(),
		TimeoutUsed: durationpb.New(time.Second),
		Failures: []*foyerv1.AckFailureCount{
			{Failure: foyerv1.AckFailure_ACK_FAILURE_TIMEOUT, Count: 2},
			{Failure: foyerv1.AckFailure_ACK_FAILURE_DISCONNECTED, Count: 1},
			{Failure: foyerv1.AckFailure_ACK_FAILURE_DROPPED_VOLATILE, Count: 1},
			{Failure: foyerv1.AckFailure_ACK_FAILURE_NODE_UNREACHABLE, Count: 1},
		},
	}
}

func TestEmitWithAck(t *testing.T) {
	n := newFakeNode()
	a := newFakeAcks(someOutcomes()...)
	n.onCollect = func(service.Emit, int) (acks, int, error) { return a, 7, nil }
	_, client := start(t, Config{}, n)
	resp, err := client.emit.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
		Target: toRoom("r"), Payload: hello(), Timeout: durationpb.New(time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(resp.GetSummary(), summaryOfSome(), protocmp.Transform()); diff != "" {
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
	if diff := cmp.Diff(n.noted(), []string{`emit ["hello","world"] to [r], acks of at most 1000`}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	<-a.finished
}

// TestEmitWithAckTimesOut: the wait ends in time, and a socket that has not answered is told with the rest.
func TestEmitWithAckTimesOut(t *testing.T) { bubble(t, testEmitWithAckTimesOut) }

func testEmitWithAckTimesOut(t *testing.T) {
	for _, c := range []struct {
		name           string
		deadline, want time.Duration
	}{
		{"by default", time.Hour, 5 * time.Second},
		{"before the deadline", time.Second, 900 * time.Millisecond},
	} {
		n := newFakeNode()
		a := newFakeAcks(service.AckOutcome{Socket: "s1", Payload: []byte("[]")})
		a.err, a.rest = nil, []service.AckOutcome{{Socket: "s2", Failure: service.AckTimeout}}
		n.onCollect = func(service.Emit, int) (acks, int, error) { return a, 2, nil }
		_, client := start(t, Config{}, n)
		ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
		began := time.Now()
		resp, err := client.emit.EmitWithAck(ctx, &foyerv1.EmitWithAckRequest{Target: toRoom("r"), Payload: hello()})
		cancel()
		if err != nil || len(resp.GetOutcomes()) != 2 || resp.GetSummary().GetAcked() != 1 || resp.GetSummary().GetUnattributed() != 0 {
			t.Errorf("%s: got %v, %v", c.name, resp, err)
		}
		if took := time.Since(began); took != c.want || resp.GetSummary().GetTimeoutUsed().AsDuration() != c.want {
			t.Errorf("%s: took %v and says %v, want %v", c.name, took, resp.GetSummary().GetTimeoutUsed().AsDuration(), c.want)
		}
	}
}

// TestEmitWithAckStaysSmall: answers that do not fit are counted, and the response is one that clients take.
func TestEmitWithAckStaysSmall(t *testing.T) {
	n := newFakeNode()
	large := []byte(`["` + strings.Repeat("x", 500_000) + `"]`)
	outcomes := make([]service.AckOutcome, 0, 1000)
	for i := range 1000 {
		o := service.AckOutcome{Socket: service.SocketID(fmt.Sprintf("node%016d", i)), Node: "node", Latency: time.Second + 1, Payload: []byte(`["small"]`)}
		switch {
		case i < 10:
			o.Payload = large
		case i%2 == 1:
			o.Payload, o.Failure = nil, service.AckTimeout
		}
		outcomes = append(outcomes, o)
	}
	n.onCollect = func(service.Emit, int) (acks, int, error) { return newFakeAcks(outcomes...), 1000, nil }
	_, client := start(t, Config{}, n)
	resp, err := client.emit.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{Target: toRoom("r"), Payload: hello()})
	if err != nil {
		t.Fatal(err)
	}
	s := resp.GetSummary()
	if s.GetAcked() != 505 || s.GetFailures()[0].GetCount() != 495 || s.GetUnattributed() != 4 || len(resp.GetOutcomes()) != 996 || s.GetMatched() != 1000 {
		t.Errorf("got %v with %d outcomes, want all counted and four large ones left out", s, len(resp.GetOutcomes()))
	}
	if size := proto.Size(resp); size > maxAnswerBytes+1000*outcomeBytes {
		t.Errorf("the response has %d bytes", size)
	}
}

// TestEmitWithAckOutlivesItsCaller: the caller of a call with a request_id goes away; its repeat gets what came of it.
func TestEmitWithAckOutlivesItsCaller(t *testing.T) { bubble(t, testEmitWithAckOutlivesItsCaller) }

func testEmitWithAckOutlivesItsCaller(t *testing.T) {
	n := newFakeNode()
	n.onCollect = func(service.Emit, int) (acks, int, error) {
		a := newFakeAcks()
		a.err = nil
		return a, 1, nil
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
	began := time.Now()
	resp, err := e.EmitWithAck(t.Context(), r2)
	if err != nil || !resp.GetDeduplicated() || resp.GetSummary().GetMatched() != 1 {
		t.Errorf("got %v, %v, want the first response", resp, err)
	}
	if took := time.Since(began); took != defaultAckTimeout {
		t.Errorf("took %v, want the whole wait of the first", took)
	}
	if calls := n.noted(); len(calls) != 1 {
		t.Errorf("got %q, want one", calls)
	}
}

// collecting starts a CollectAcks.
func collecting(ctx context.Context, t testing.TB, a *fakeAcks, matched int, r *foyerv1.CollectAcksRequest) (*fakeNode, grpc.ServerStreamingClient[foyerv1.CollectAcksResponse]) {
	t.Helper()
	n := newFakeNode()
	n.onCollect = func(service.Emit, int) (acks, int, error) { return a, matched, nil }
	_, client := start(t, Config{}, n)
	r.Target, r.Payload = toRoom("r"), hello()
	stream, err := client.emit.CollectAcks(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return n, stream
}

func TestCollectAcks(t *testing.T) {
	a := newFakeAcks(someOutcomes()...)
	n, stream := collecting(t.Context(), t, a, 7, &foyerv1.CollectAcksRequest{Timeout: durationpb.New(time.Second)})
	var got []*foyerv1.CollectAcksResponse
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	want := []*foyerv1.CollectAcksResponse{{Message: &foyerv1.CollectAcksResponse_Started{
		Started: &foyerv1.CollectAcksStarted{Matched: proto.Int32(7), Coverage: partly()},
	}}}
	for _, o := range someOutcomes() {
		want = append(want, &foyerv1.CollectAcksResponse{Message: &foyerv1.CollectAcksResponse_Outcome{Outcome: outcomeMessage(&o)}})
	}
	want = append(want, &foyerv1.CollectAcksResponse{Message: &foyerv1.CollectAcksResponse_Summary{Summary: summaryOfSome()}})
	if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(n.noted(), []string{`emit ["hello","world"] to [r], acks of at most 0`}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	<-a.finished
}

// TestCollectAcksAsTheyCome: each outcome comes at its time, and the summary last, before the deadline of a caller in
// haste.
func TestCollectAcksAsTheyCome(t *testing.T) { bubble(t, testCollectAcksAsTheyCome) }

func testCollectAcksAsTheyCome(t *testing.T) {
	a := newFakeAcks()
	a.err, a.rest = nil, []service.AckOutcome{{Socket: "late", Failure: service.AckTimeout}}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	began := time.Now()
	_, stream := collecting(ctx, t, a, 2, &foyerv1.CollectAcksRequest{})
	go func() {
		time.Sleep(time.Second)
		a.outcomes <- []service.AckOutcome{{Socket: "early", Payload: []byte("[]")}}
	}()
	for _, want := range []struct {
		step string
		at   time.Duration
	}{{"started", 0}, {"early", time.Second}, {"late", 2900 * time.Millisecond}, {"summary", 2900 * time.Millisecond}} {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		step := m.GetOutcome().GetSocketId()
		switch {
		case m.GetStarted() != nil:
			step = "started"
		case m.GetSummary() != nil:
			step = "summary"
		}
		if at := time.Since(began); step != want.step || at != want.at {
			t.Errorf("got %s at %v, want %s at %v", step, at, want.step, want.at)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want %v", err, io.EOF)
	}
	<-a.finished
}

func TestCollectAcksEnds(t *testing.T) {
	t.Run("too much waits", func(t *testing.T) {
		a := newFakeAcks()
		a.err = service.ErrTooSlow
		_, stream := collecting(t.Context(), t, a, 9, &foyerv1.CollectAcksRequest{})
		_, err := stream.Recv()
		if err == nil {
			_, err = stream.Recv()
		}
		wantError(t, err, codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_TOO_SLOW, "")
		<-a.finished
	})
	t.Run("the caller goes away", func(t *testing.T) {
		a := newFakeAcks()
		a.err = nil
		ctx, cancel := context.WithCancel(t.Context())
		_, stream := collecting(ctx, t, a, 9, &foyerv1.CollectAcksRequest{})
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-a.finished
	})
	t.Run("no time is left", func(t *testing.T) {
		n := newFakeNode()
		_, client := start(t, Config{}, n)
		ctx, cancel := context.WithTimeout(t.Context(), ackMargin)
		defer cancel()
		stream, err := client.emit.CollectAcks(ctx, &foyerv1.CollectAcksRequest{Target: toRoom("r"), Payload: hello()})
		if err == nil {
			_, err = stream.Recv()
		}
		if got := status.Code(err); got != codes.DeadlineExceeded || len(n.noted()) > 0 {
			t.Errorf("got %v, want %v and nothing done", err, codes.DeadlineExceeded)
		}
	})
}

// TestCollectAcksThatAreNotRead: a caller that reads nothing is let go of, though its stream is stuck in a write.
func TestCollectAcksThatAreNotRead(t *testing.T) { bubble(t, testCollectAcksThatAreNotRead) }

func testCollectAcksThatAreNotRead(t *testing.T) {
	a := newFakeAcks()
	for range 100 {
		a.outcomes <- []service.AckOutcome{{Payload: []byte(`["` + strings.Repeat("x", 500_000) + `"]`)}}
	}
	began := time.Now()
	_, stream := collecting(t.Context(), t, a, 100, &foyerv1.CollectAcksRequest{Timeout: durationpb.New(time.Minute)})
	<-a.finished
	if took := time.Since(began); took != maxSend+linger {
		t.Errorf("held for %v, want %v", took, maxSend+linger)
	}
	for {
		if _, err := stream.Recv(); err != nil {
			wantError(t, err, codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_TOO_SLOW, "")
			break
		}
	}
}

// TestCollectAcksThatAreReadSlowly: a caller that takes its time is not one that has stopped.
func TestCollectAcksThatAreReadSlowly(t *testing.T) { bubble(t, testCollectAcksThatAreReadSlowly) }

func testCollectAcksThatAreReadSlowly(t *testing.T) {
	a := newFakeAcks()
	for range 20 {
		a.outcomes <- []service.AckOutcome{{Payload: []byte(`["` + strings.Repeat("x", 500_000) + `"]`)}}
	}
	_, stream := collecting(t.Context(), t, a, 20, &foyerv1.CollectAcksRequest{Timeout: durationpb.New(time.Second)})
	steps := 0
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		steps++
		time.Sleep(maxSend / 4)
	}
	if steps != 22 {
		t.Errorf("got %d steps, want all", steps)
	}
}

// TestRealCollectAcks: over the real service, and what was waited for is let go of.
func TestRealCollectAcks(t *testing.T) { bubble(t, testRealCollectAcks) }

func testRealCollectAcks(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	_, client := start(t, Config{}, serviceNode{n})
	links := make([]*link, 1001)
	for i := range links {
		links[i] = join(n, fmt.Sprint(i), "/", "")
		<-links[i].sent
	}
	all := &foyerv1.Target{All: true}
	_, err := client.emit.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{Target: all, Payload: hello()})
	wantError(t, err, codes.FailedPrecondition, foyerv1.ErrorReason_ERROR_REASON_TOO_MANY_RECIPIENTS, "target")

	stream, err := client.emit.CollectAcks(t.Context(), &foyerv1.CollectAcksRequest{Target: all, Payload: hello()})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := stream.Recv(); err != nil || m.GetStarted().GetMatched() != 1001 {
		t.Fatalf("got %v, %v", m, err)
	}
	for i, l := range links {
		l.want(t, `2 / 1 ["hello","world"]`)
		switch {
		case i == 0:
			l.node.End(l.socket, service.ReasonTransportClose, "")
		case i < 1000:
			l.node.Receive(l.socket, &service.Packet{Kind: service.KindAck, Namespace: "/", AckID: 1, Payload: []byte("[1]")})
		}
	}
	began, outcomes := time.Now(), 0
	for {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetOutcome() != nil {
			outcomes++
			continue
		}
		want := &foyerv1.AckSummary{
			Matched: proto.Int32(1001), Acked: proto.Int32(999), Unattributed: proto.Int32(0), Coverage: &foyerv1.Coverage{},
			TimeoutUsed: durationpb.New(5 * time.Second), Failures: []*foyerv1.AckFailureCount{
				{Failure: foyerv1.AckFailure_ACK_FAILURE_TIMEOUT, Count: 1}, {Failure: foyerv1.AckFailure_ACK_FAILURE_DISCONNECTED, Count: 1},
			},
		}
		if diff := cmp.Diff(m.GetSummary(), want, protocmp.Transform()); diff != "" || outcomes != 1001 {
			t.Errorf("%d outcomes, summary (-got +want):\n%s", outcomes, diff)
		}
		break
	}
	if took := time.Since(began); took != 5*time.Second {
		t.Errorf("took %v", took)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want %v", err, io.EOF)
	}
	nobody, err := client.emit.CollectAcks(t.Context(), &foyerv1.CollectAcksRequest{Target: toRoom("nobody"), Payload: hello()})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"started", "summary"} {
		m, err := nobody.Recv()
		if err != nil || (m.GetStarted() != nil) != (want == "started") || (m.GetSummary() != nil) != (want == "summary") {
			t.Errorf("got %v, %v, want %s", m, err, want)
		}
	}
}
