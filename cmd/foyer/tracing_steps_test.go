package main

import (
	"context"
	"encoding/hex"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// tracingNodes are two nodes of a cluster that trace everything.
func tracingNodes(t *testing.T, g *gathering) (first, second *foyer) {
	t.Helper()
	trace := []string{"--trace-endpoint", g.url, "--trace-ratio", "1"}
	first = listening(t, append(trace, "--node-id", "AAAA")...)
	if err := first.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	second = listening(t, append(trace, "--node-id", "BBBB", "--cluster-routes", first.clusterAddr)...)
	if err := second.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	return first, second
}

func traceparentOf(s *tracepb.Span) string {
	return "00-" + hex.EncodeToString(s.GetTraceId()) + "-" + hex.EncodeToString(s.GetSpanId()) + "-01"
}

// flush ends nodes once they have sent their steps.
func flush(t *testing.T, nodes ...*foyer) {
	for _, f := range nodes {
		f.tracing.close(t.Context())
		f.close()
	}
}

// callers is the context of a call that is part of the caller's trace.
func callers(t *testing.T) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+callersTrace+"-"+callersSpan+"-01")
}

// TestTraceOfAConnect: a connect begins a trace that its handler, of another node, is told of. What the handler does by
// commands is part of it, at each node that has to do with that.
func TestTraceOfAConnect(t *testing.T) {
	g := gather(t)
	first, second := tracingNodes(t, g)
	h := attachTo(t, first.asks(t), &foyerv1.Register{Namespaces: []string{"/"}, Group: "door", HandlerId: "one", DecideConnects: true})
	came := make(chan *pollingClient)
	go func() { came <- browse(t, second) }()
	c := h.hear(func(m *foyerv1.AttachResponse) bool { return m.GetConnect() != nil }).GetConnect()
	h.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: &foyerv1.ConnectReply{
		CallId: c.GetCallId(), Decision: &foyerv1.ConnectReply_Accept{Accept: &foyerv1.Accept{}},
	}}})
	<-came
	all := &foyerv1.Target{All: true}
	for id, command := range []*foyerv1.Command{
		{Command: &foyerv1.Command_Join{Join: &foyerv1.JoinRoomsRequest{Target: all, Rooms: []string{"a"}}}},
		{Command: &foyerv1.Command_Leave{Leave: &foyerv1.LeaveRoomsRequest{Target: all, Rooms: []string{"a"}}}},
		{Command: &foyerv1.Command_Emit{Emit: &foyerv1.EmitRequest{Target: all, Payload: &foyerv1.Payload{Event: "welcome"}}}},
		{Command: &foyerv1.Command_Disconnect{Disconnect: &foyerv1.DisconnectSocketsRequest{Target: all}}},
	} {
		command.Id, command.Traceparent = uint64(id+1), c.GetTraceparent()
		h.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Command{Command: command}})
		h.hear(func(m *foyerv1.AttachResponse) bool { return m.GetCommandResult().GetId() == command.GetId() })
	}
	flush(t, first, second)

	connect := g.span(t, "connect", "", "")
	if c.GetTraceparent() != traceparentOf(connect) || len(connect.GetParentSpanId()) != 0 {
		t.Errorf("the handler was told %q of %v", c.GetTraceparent(), connect)
	}
	for name, want := range map[string]string{"foyer.node": "BBBB", "foyer.group": "door", "foyer.handler": "one", "foyer.refused": ""} {
		if got := attributeOf(connect, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for method, question := range map[string]string{
		"foyer.v1.RoomService/JoinRooms": "join", "foyer.v1.RoomService/LeaveRooms": "leave", "foyer.v1.SocketService/DisconnectSockets": "disconnect",
	} {
		call := g.span(t, method, "", "")
		wantChild(t, connect, call)
		there := g.span(t, "answer", "foyer.question", question)
		if wantChild(t, call, there); attributeOf(there, "foyer.node") != "BBBB" {
			t.Errorf("%v", there)
		}
	}
	emit := g.span(t, "emit", "foyer.event", "welcome")
	wantChild(t, connect, emit)
	wantChild(t, emit, g.span(t, "deliver", "foyer.event", "welcome"))
}

// TestTraceOfServers: an event for other servers is a step of the call that it came by, and a handler of another node
// is told of it.
func TestTraceOfServers(t *testing.T) {
	g := gather(t)
	first, second := tracingNodes(t, g)
	h := attachTo(t, first.asks(t), &foyerv1.Register{Namespaces: []string{"/"}, Group: "servers", ServerSideEvents: true})
	told := make(chan string, 1)
	go func() {
		e := h.hear(func(m *foyerv1.AttachResponse) bool { return m.GetServerSideEvent() != nil }).GetServerSideEvent()
		h.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{CallId: e.GetCallId()}}})
		told <- e.GetTraceparent()
	}()
	r, err := foyerv1.NewEmitServiceClient(second.asks(t)).ServerSideEmit(callers(t), &foyerv1.ServerSideEmitRequest{
		Payload: &foyerv1.Payload{Event: "reload"}, WantsReplies: true, Timeout: durationpb.New(time.Minute),
	})
	if err != nil || len(r.GetReplies()) != 1 {
		t.Fatal(r, err)
	}
	traceparent := <-told
	flush(t, first, second)
	call := g.span(t, "foyer.v1.EmitService/ServerSideEmit", "", "")
	if hex.EncodeToString(call.GetTraceId()) != callersTrace {
		t.Errorf("%v", call)
	}
	step := g.span(t, "server_side_emit", "foyer.event", "reload")
	if wantChild(t, call, step); traceparent != traceparentOf(step) {
		t.Errorf("the handler was told %q of %v", traceparent, step)
	}
}

// TestTraceOfAStream: each item of a stream is a call of its own. It is part of the trace that it names, is not
// recorded when that is not, and else begins one.
func TestTraceOfAStream(t *testing.T) {
	g := gather(t)
	f := startNode(t, nil, "--trace-endpoint", g.url, "--trace-ratio", "1")
	stream, err := foyerv1.NewEmitServiceClient(f.asks(t)).EmitStream(callers(t)) // that of the stream is of no item
	if err != nil {
		t.Fatal(err)
	}
	item := func(event, id, traceparent string) *foyerv1.EmitStreamItem {
		return &foyerv1.EmitStreamItem{Emit: &foyerv1.EmitRequest{
			Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: event}, RequestId: id, Traceparent: traceparent,
		}}
	}
	const theirs = "00-" + callersTrace + "-" + callersSpan
	items := []*foyerv1.EmitStreamItem{
		item("begins", "", ""), item("goes on", "", theirs+"-01"), item("is not recorded", "", theirs+"-00"),
		item("may be a repeat, and begins", "1", ""), item("may be a repeat, and goes on", "2", theirs+"-01"),
	}
	if err := stream.Send(&foyerv1.EmitStreamRequest{Items: items}); err != nil {
		t.Fatal(err)
	}
	for results := 0; results < len(items); {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		results += len(m.GetResults())
	}
	f.tracing.close(t.Context())
	for event, trace := range map[string]string{
		"begins": "", "may be a repeat, and begins": "", "goes on": callersTrace, "may be a repeat, and goes on": callersTrace,
	} {
		s := g.span(t, "emit", "foyer.event", event)
		id, parent := hex.EncodeToString(s.GetTraceId()), hex.EncodeToString(s.GetParentSpanId())
		if trace == "" && (parent != "" || id == callersTrace) || trace != "" && (id != trace || parent != callersSpan) {
			t.Errorf("%s: %v", event, s)
		}
	}
	if all := g.spans(); len(all) != 4 {
		t.Errorf("%d spans: %v", len(all), all)
	}
}

// TestTracesOfADrain: a node that is told to go by a signal sends all steps, also those of what the drain ends.
func TestTracesOfADrain(t *testing.T) {
	g := gather(t)
	f := startNode(t, func(f *foyer) {
		f.waits.lastPoll, f.waits.end, f.waits.traces = 100*time.Millisecond, 500*time.Millisecond, time.Minute // the handler below does not answer
	}, "--trace-endpoint", g.url, "--trace-ratio", "1", "--drain-window", "0s")
	asked, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	conn := f.asks(t)
	h := attachTo(t, conn, &foyerv1.Register{Namespaces: []string{"/"}})
	browse(t, f).do("POST", `42["never answered"]`)
	h.hear(func(m *foyerv1.AttachResponse) bool { return m.GetEvent() != nil })
	emits := foyerv1.NewEmitServiceClient(conn)
	const calls = 700 // more than go at once
	for range calls {
		if _, err := emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: "e"}}); err != nil {
			t.Fatal(err)
		}
	}
	late := browse(t, f)
	answered := make(chan error, 1)
	go func() {
		_, err := emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
			Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: "ask"}, Timeout: durationpb.New(time.Minute),
		})
		answered <- err
	}()
	late.hear("42")
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-asked.Done()
	f.drain()
	if code := status.Code(<-answered); code != codes.Unavailable && code != codes.OK {
		t.Errorf("the call that was under way ends with %v", code)
	}
	counts := map[string]int{}
	for _, s := range g.spans() {
		counts[s.GetName()]++
	}
	for name, want := range map[string]int{
		"foyer.v1.EmitService/Emit": calls, "emit": calls + 1, "foyer.v1.EmitService/EmitWithAck": 1, "acks": 1, "event": 1,
	} {
		if counts[name] != want {
			t.Errorf("%d steps %s have come, want %d", counts[name], name, want)
		}
	}
}
