package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func TestServerSideEmit(t *testing.T) {
	n := newFakeNode()
	n.onServers = func(_ context.Context, from handler, e service.ServerSideEmit, _ func()) (service.ServerSideResult, error) {
		if from != nil {
			t.Errorf("a call comes from no handler, not from %v", from)
		}
		r := service.ServerSideResult{Matched: 3, Coverage: service.Coverage{UncountedNodes: 1}}
		if e.WantsReplies {
			r.Replies = []service.ServerSideReply{
				{Node: "node", Handler: "h2", Payload: []byte(`["me",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{7}}},
				{Node: "node", Handler: "h3"}, // its reply was invalid
			}
		}
		return r, nil
	}
	_, client := start(t, Config{}, n)
	told := &foyerv1.ServerSideEmitResponse{Matched: proto.Int32(3), Coverage: &foyerv1.Coverage{UncountedNodes: 1}}
	replied := proto.CloneOf(told)
	replied.Replies = []*foyerv1.ServerSideReply{{NodeId: "node", HandlerId: "h2", Args: &foyerv1.Args{
		Args: &foyerv1.Args_Json{Json: `["me",{"_placeholder":true,"num":0}]`}, Attachments: [][]byte{{7}},
	}}}
	repeat := proto.CloneOf(replied)
	repeat.Deduplicated = true
	asks := &foyerv1.ServerSideEmitRequest{Namespace: "chat", Payload: jsonPayload("disconnect", "[1]"), WantsReplies: true, RequestId: "1", Timeout: durationpb.New(time.Second)}
	for _, c := range []struct {
		name    string
		request *foyerv1.ServerSideEmitRequest
		want    *foyerv1.ServerSideEmitResponse
		call    []string
	}{
		{"plain", &foyerv1.ServerSideEmitRequest{Payload: hello()}, told, []string{`server-side emit ["hello","world"] in /, replies false within 5s`}},
		{"with replies", asks, replied, []string{`server-side emit ["disconnect",1] in /chat, replies true within 1s`}},
		{"repeated", asks, repeat, nil},
		{"for long", &foyerv1.ServerSideEmitRequest{Payload: hello(), WantsReplies: true, Timeout: durationpb.New(time.Hour)}, replied, []string{`server-side emit ["hello","world"] in /, replies true within 1m0s`}},
	} {
		got, err := client.emit.ServerSideEmit(t.Context(), c.request)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, c.want, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-got +want):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(n.noted(), c.call); diff != "" {
			t.Errorf("%s: calls (-got +want):\n%s", c.name, diff)
		}
	}
	other := proto.CloneOf(asks)
	other.Namespace = "other"
	_, err := client.emit.ServerSideEmit(t.Context(), other)
	wantError(t, err, codes.InvalidArgument, fieldReason, "request_id")

	// A deadline that leaves no time to wait forbids to ask, not to tell.
	s, err := newServer(Config{}, n)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), ackMargin)
	defer cancel()
	e := &emitService{s: s}
	if _, err := e.ServerSideEmit(ctx, &foyerv1.ServerSideEmitRequest{Payload: hello()}); err != nil {
		t.Errorf("telling: %v", err)
	}
	_, err = e.ServerSideEmit(ctx, &foyerv1.ServerSideEmitRequest{Payload: hello(), WantsReplies: true})
	if got := toStatus(err).Code(); got != codes.DeadlineExceeded {
		t.Errorf("asking: got %v", got)
	}
}

func askCommand(id uint64, r *foyerv1.ServerSideEmitRequest) *foyerv1.AttachRequest {
	r.Payload = jsonPayload("ask", fmt.Sprintf("[%d]", id))
	return command(id, &foyerv1.Command{Command: &foyerv1.Command_ServerSideEmit{ServerSideEmit: r}})
}

// TestCommandThatWaits: a command that waits for replies takes effect in its place and is answered when they are in;
// what comes behind it on the stream does not wait.
func TestCommandThatWaits(t *testing.T) { bubble(t, testCommandThatWaits) }

func testCommandThatWaits(t *testing.T) {
	b := registered(t, 0)
	b.n.onServers = func(ctx context.Context, from handler, e service.ServerSideEmit, told func()) (service.ServerSideResult, error) {
		if from != handler(b.h) {
			t.Errorf("got a command from %v, want the stream's handler", from)
		}
		if !e.WantsReplies {
			return service.ServerSideResult{Matched: 1}, nil
		}
		time.Sleep(time.Millisecond) // the emit itself takes its time: the stream waits for it
		b.n.note("told")
		told()
		select {
		case <-time.After(e.Timeout):
		case <-ctx.Done():
		}
		return service.ServerSideResult{Matched: 2}, nil
	}
	b.say(askCommand(1, &foyerv1.ServerSideEmitRequest{WantsReplies: true}))
	b.say(joinCommand(2, "x"))
	b.say(askCommand(3, &foyerv1.ServerSideEmitRequest{WantsReplies: true, Timeout: durationpb.New(time.Second)}))
	b.say(askCommand(4, &foyerv1.ServerSideEmitRequest{}))
	b.say(askCommand(0, &foyerv1.ServerSideEmitRequest{WantsReplies: true})) // nobody would hear of the replies
	for _, want := range []uint64{2, 4, 3, 1} {
		if r := b.hear().GetCommandResult(); r.GetId() != want || r.GetError() != nil {
			t.Fatalf("got %v, want the result of %d", r, want)
		}
	}
	want := []string{
		`server-side emit ["ask",1] in /, replies true within 5s`, "told", "join [r]: [x]",
		`server-side emit ["ask",3] in /, replies true within 1s`, "told",
		`server-side emit ["ask",4] in /, replies false within 5s`, `server-side emit ["ask",0] in /, replies false within 5s`,
	}
	if diff := cmp.Diff(b.n.noted(), want); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}

	// One that joins a call which runs does not hold up the stream either.
	for id := range uint64(2) {
		r := &foyerv1.ServerSideEmitRequest{WantsReplies: true, RequestId: "same"}
		m := askCommand(id+5, r)
		r.Payload = hello()
		b.say(m)
	}
	b.say(joinCommand(7, "x"))
	if r := b.hear().GetCommandResult(); r.GetId() != 7 {
		t.Errorf("got %v, want what comes behind", r)
	}
	for _, repeat := range []bool{false, true} {
		if r := b.hear().GetCommandResult(); r.GetServerSideEmit().GetDeduplicated() != repeat && r.GetId() != 5 && r.GetId() != 6 {
			t.Errorf("got %v", r)
		}
	}
	b.n.noted()

	// No more than maxAsks; the others are refused and nothing is sent.
	for id := range uint64(maxAsks) {
		b.say(askCommand(100+id, &foyerv1.ServerSideEmitRequest{WantsReplies: true}))
	}
	b.say(askCommand(1000, &foyerv1.ServerSideEmitRequest{WantsReplies: true}))
	r := b.hear().GetCommandResult()
	if r.GetId() != 1000 {
		t.Fatalf("got %v, want a refusal", r)
	}
	wantStatus(t, status.FromProto(r.GetError()), codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, "command.server_side_emit")
	if calls := b.n.noted(); slices.Contains(calls, `server-side emit ["ask",1000] in /, replies true within 5s`) || len(calls) != 2*maxAsks {
		t.Errorf("%d calls", len(calls))
	}

	// A backend that closes its side gets the results.
	if err := b.CloseSend(); err != nil {
		t.Fatal(err)
	}
	b.wantSaid("drain") // no events meanwhile
	for range maxAsks {
		if r := b.hear().GetCommandResult(); r.GetServerSideEmit().GetMatched() != 2 {
			t.Errorf("got %v", r)
		}
	}
	if _, err := b.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want %v", err, io.EOF)
	}
}

// TestCommandThatWaitsEnds: the end of a stream ends what waits for replies, and a fault is its result.
func TestCommandThatWaitsEnds(t *testing.T) {
	b := registered(t, 0)
	ended := make(chan struct{})
	b.n.onServers = func(ctx context.Context, _ handler, _ service.ServerSideEmit, told func()) (service.ServerSideResult, error) {
		told()
		<-ctx.Done()
		close(ended)
		return service.ServerSideResult{}, errors.New("a fault")
	}
	b.say(askCommand(1, &foyerv1.ServerSideEmitRequest{WantsReplies: true}))
	b.say(joinCommand(2, "x"))
	if r := b.hear().GetCommandResult(); r.GetId() != 2 {
		t.Errorf("got %v", r)
	}
	b.h.end(service.ErrReplaced)
	_, err := b.Recv()
	wantError(t, err, codes.Aborted, foyerv1.ErrorReason_ERROR_REASON_REPLACED, "register.handler_id")
	<-ended
	<-b.h.detached

	b = registered(t, 0)
	b.n.onServers = func(context.Context, handler, service.ServerSideEmit, func()) (service.ServerSideResult, error) {
		return service.ServerSideResult{}, errors.New("a fault")
	}
	b.say(askCommand(1, &foyerv1.ServerSideEmitRequest{WantsReplies: true}))
	r := b.hear().GetCommandResult()
	wantStatus(t, status.FromProto(r.GetError()), codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, "")
}

func TestServerSideEventNotice(t *testing.T) {
	b := registered(t, 0)
	b.h.queue <- service.Notice{
		Kind: service.NoticeServerSide, CallID: 4, Namespace: "/chat", FromNode: "other", WantsReply: true,
		Packet: &service.Packet{Payload: []byte(`["e",{"a":1}]`), Event: "e", Attachments: [][]byte{{1}}},
	}
	want := &foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_ServerSideEvent{ServerSideEvent: &foyerv1.ServerSideEvent{
		CallId: 4, Namespace: "/chat", Payload: jsonPayload("e", `[{"a":1}]`, []byte{1}), WantsReply: true, FromNodeId: "other",
	}}}
	if diff := cmp.Diff(b.hear(), want, protocmp.Transform()); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	b.say(reply(4, `["me"]`))
	b.wantSaid(`reply 4: ["me"] []`)
}

// TestRealServerSideEmit: handlers on one node ask each other.
func TestRealServerSideEmit(t *testing.T) { bubble(t, testRealServerSideEmit) }

func testRealServerSideEmit(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	_, client := start(t, Config{}, serviceNode{n})
	attached := func(id string) *backend {
		stream, err := client.handler.Attach(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := &backend{TB: t, BidiStreamingClient: stream}
		b.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{
			Namespaces: []string{"/"}, HandlerId: id, ServerSideEvents: true,
		}}})
		b.hear()
		return b
	}
	caller, other, silent := attached("caller"), attached("other"), attached("silent")

	began := time.Now()
	caller.say(askCommand(1, &foyerv1.ServerSideEmitRequest{WantsReplies: true, Timeout: durationpb.New(time.Second)}))
	caller.say(askCommand(2, &foyerv1.ServerSideEmitRequest{})) // behind the first at everybody, and not held up by it
	if r := caller.hear().GetCommandResult(); r.GetId() != 2 || r.GetServerSideEmit().GetMatched() != 2 {
		t.Errorf("got %v", r)
	}
	for _, b := range []*backend{other, silent} {
		first, second := b.hear().GetServerSideEvent(), b.hear().GetServerSideEvent()
		if first.GetPayload().GetJson() != "[1]" || !first.GetWantsReply() || first.GetFromNodeId() != "test" || first.GetNamespace() != "/" {
			t.Errorf("got %v", first)
		}
		if second.GetPayload().GetJson() != "[2]" || second.GetWantsReply() {
			t.Errorf("got %v", second)
		}
		switch b {
		case other:
			b.say(reply(first.GetCallId(), `["me",2]`))
		case silent:
			b.say(reply(first.GetCallId(), `"no array"`)) // counts as none
		}
	}
	r := caller.hear().GetCommandResult().GetServerSideEmit()
	if len(r.GetReplies()) != 1 || r.GetReplies()[0].GetHandlerId() != "other" || r.GetReplies()[0].GetNodeId() != "test" ||
		r.GetReplies()[0].GetArgs().GetJson() != `["me",2]` || r.GetMatched() != 2 {
		t.Errorf("got %v", r)
	}
	if took := time.Since(began); took != 0 {
		t.Errorf("took %v though all had replied", took)
	}

	// As a call it goes to everybody. A handler that is silent is missing after the timeout.
	answered := make(chan *foyerv1.ServerSideEmitResponse)
	go func() {
		resp, err := client.emit.ServerSideEmit(t.Context(), &foyerv1.ServerSideEmitRequest{Payload: hello(), WantsReplies: true})
		if err != nil {
			t.Error(err)
		}
		answered <- resp
	}()
	for _, b := range []*backend{caller, other, silent} {
		if e := b.hear().GetServerSideEvent(); b != silent {
			b.say(reply(e.GetCallId(), `[]`))
		}
	}
	if resp := <-answered; resp.GetMatched() != 3 || len(resp.GetReplies()) != 2 || time.Since(began) != defaultAckTimeout {
		t.Errorf("got %v after %v", resp, time.Since(began))
	}

	// A handler that drains still gets the replies that it waits for.
	caller.say(askCommand(3, &foyerv1.ServerSideEmitRequest{WantsReplies: true, Timeout: durationpb.New(time.Second)}))
	caller.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Drain{Drain: &foyerv1.Drain{}}})
	if r := caller.hear().GetCommandResult(); r.GetId() != 3 || r.GetServerSideEmit().GetMatched() != 2 {
		t.Errorf("got %v", r)
	}
	if _, err := caller.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want %v", err, io.EOF)
	}
	synctest.Wait()
}
