package main

import (
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// gathering is a collector of traces.
type gathering struct {
	collector.UnimplementedTraceServiceServer
	url string
	mu  sync.Mutex
	all []*tracepb.Span
}

func (g *gathering) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, of := range r.GetResourceSpans() {
		for _, scope := range of.GetScopeSpans() {
			g.all = append(g.all, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// spans are those that have come so far.
func (g *gathering) spans() []*tracepb.Span {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.all)
}

func gather(t *testing.T) *gathering {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g, s := &gathering{url: "http://" + lis.Addr().String()}, grpc.NewServer(grpc.WaitForHandlers(true))
	collector.RegisterTraceServiceServer(s, g)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(lis) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return g
}

// span finds the only span with a name and an attribute of a value; "": whatever it is.
func (g *gathering) span(t *testing.T, name, attribute, value string) *tracepb.Span {
	t.Helper()
	all := g.spans()
	var found []*tracepb.Span
	for _, s := range all {
		if s.GetName() == name && (attribute == "" || attributeOf(s, attribute) == value) {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans %s with %s=%s, want one, of %v", len(found), name, attribute, value, all)
	}
	return found[0]
}

func attributeOf(s *tracepb.Span, name string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == name {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// pollingClient is a polling client in the namespace "/".
type pollingClient struct {
	t   *testing.T
	url string
}

func browse(t *testing.T, f *foyer) *pollingClient {
	t.Helper()
	b := &pollingClient{t, "http://" + f.edgeListener.Addr().String() + "/socket.io/?EIO=4&transport=polling"}
	sid := regexp.MustCompile(`"sid":"([^"]+)"`).FindStringSubmatch(b.do(http.MethodGet, ""))
	if sid == nil {
		t.Fatal("no sid")
	}
	b.url += "&sid=" + sid[1]
	b.do(http.MethodPost, "40")
	b.hear("40")
	return b
}

func (b *pollingClient) do(method, body string) string {
	b.t.Helper()
	r, _ := http.NewRequestWithContext(b.t.Context(), method, b.url, strings.NewReader(body))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %d %s", method, resp.StatusCode, text)
	}
	return string(text)
}

// hear polls until a packet begins so.
func (b *pollingClient) hear(begins string) string {
	b.t.Helper()
	for {
		for _, p := range strings.Split(b.do(http.MethodGet, ""), "\x1e") {
			if strings.HasPrefix(p, begins) {
				return p
			}
			if p == "2" {
				b.do(http.MethodPost, "3")
			}
		}
	}
}

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

func wantChild(t *testing.T, of, child *tracepb.Span) {
	t.Helper()
	if hex.EncodeToString(child.GetTraceId()) != hex.EncodeToString(of.GetTraceId()) || hex.EncodeToString(child.GetParentSpanId()) != hex.EncodeToString(of.GetSpanId()) {
		t.Errorf("%s is not caused by %s: %v, %v", child.GetName(), of.GetName(), child, of)
	}
	if child.GetStartTimeUnixNano() < of.GetStartTimeUnixNano() || child.GetEndTimeUnixNano() < child.GetStartTimeUnixNano() {
		t.Errorf("%s is not after %s has begun, or ends before: %v, %v", child.GetName(), of.GetName(), child, of)
	}
}

// TestTraceOfACall: a trace that a caller has begun goes on with the call, the emit, its delivery at the node that has
// the browser, and the acknowledgement. What the caller does not record is not recorded.
func TestTraceOfACall(t *testing.T) {
	g := gather(t)
	trace := []string{"--trace-endpoint", g.url, "--trace-ratio", "0"}
	first := listening(t, append(trace, "--node-id", "AAAA")...)
	if err := first.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := listening(t, append(trace, "--node-id", "BBBB", "--cluster-routes", first.clusterAddr)...)
	if err := second.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := browse(t, second)
	emit := foyerv1.NewEmitServiceClient(first.asks(t))
	for _, from := range []string{"", "00-" + callersTrace + "-" + callersSpan + "-00", "nonsense", "00-" + callersTrace + "-" + callersSpan + "-01"} {
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			id := regexp.MustCompile(`^42(\d+)`).FindStringSubmatch(b.hear("42"))
			b.do(http.MethodPost, "43"+id[1]+`["yes"]`)
		}()
		ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", from)
		resp, err := emit.EmitWithAck(ctx, &foyerv1.EmitWithAckRequest{
			Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: "ask"}, Timeout: durationpb.New(time.Minute),
		})
		if err != nil || resp.GetSummary().GetAcked() != 1 {
			t.Fatal(resp, err)
		}
		<-answered
	}
	_, body := scrape(t, first, "/metrics", "")
	for _, reason := range []string{reasonTraceQueue, reasonTraceExport} {
		if !strings.Contains(body, `foyer_dropped_total{reason="`+reason+`"} 0`) {
			t.Errorf("%s is not told", reason)
		}
	}
	flush(t, first, second)

	call := g.span(t, "foyer.v1.EmitService/EmitWithAck", "", "")
	if hex.EncodeToString(call.GetTraceId()) != callersTrace || hex.EncodeToString(call.GetParentSpanId()) != callersSpan || call.GetKind() != tracepb.Span_SPAN_KIND_SERVER {
		t.Errorf("the call is not the caller's: %v", call)
	}
	step := g.span(t, "emit", "", "")
	wantChild(t, call, step)
	if attributeOf(step, "foyer.event") != "ask" || attributeOf(step, "foyer.node") != "AAAA" {
		t.Errorf("%v", step)
	}
	wantChild(t, step, g.span(t, "acks", "foyer.node", "AAAA"))
	there := g.span(t, "deliver", "foyer.node", "BBBB")
	wantChild(t, step, there)
	wantChild(t, there, g.span(t, "acks", "foyer.node", "BBBB"))
	wantChild(t, call, g.span(t, "answer", "foyer.question", "count")) // it is looked whether they are too many
	if all := g.spans(); len(all) != 6 {
		t.Errorf("%d spans: %v", len(all), all)
	}
}

// backend is a handler.
type backend struct {
	t      *testing.T
	stream grpc.BidiStreamingClient[foyerv1.AttachRequest, foyerv1.AttachResponse]
}

// attachTo attaches a handler, and returns when it is registered.
func attachTo(t *testing.T, conn *grpc.ClientConn, r *foyerv1.Register) *backend {
	t.Helper()
	stream, err := foyerv1.NewHandlerServiceClient(conn).Attach(t.Context(), grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	h := &backend{t, stream}
	h.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: r}})
	h.hear(func(m *foyerv1.AttachResponse) bool { return m.GetRegistered() != nil })
	return h
}

func (h *backend) say(m *foyerv1.AttachRequest) {
	h.t.Helper()
	if err := h.stream.Send(m); err != nil {
		h.t.Fatal(err)
	}
}

// hear waits for a message of a kind.
func (h *backend) hear(wanted func(*foyerv1.AttachResponse) bool) *foyerv1.AttachResponse {
	h.t.Helper()
	for {
		m, err := h.stream.Recv()
		if err != nil {
			h.t.Fatal(err)
		}
		if wanted(m) {
			return m
		}
	}
}

// TestTraceOfAnEvent: an event begins a trace that lasts until its handler has answered; the handler is told of it, and
// what it emits in answer is part of it.
func TestTraceOfAnEvent(t *testing.T) {
	g := gather(t)
	f := startNode(t, nil, "--trace-endpoint", g.url, "--trace-ratio", "1")
	h := attachTo(t, f.asks(t), &foyerv1.Register{Namespaces: []string{"/"}, Group: "chat", HandlerId: "one"})
	say, hear := h.say, h.hear
	b := browse(t, f)
	b.do(http.MethodPost, `425["say","hello"]`)
	e := hear(func(m *foyerv1.AttachResponse) bool { return m.GetEvent() != nil }).GetEvent()
	say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Command{Command: &foyerv1.Command{Id: 1, Command: &foyerv1.Command_Emit{Emit: &foyerv1.EmitRequest{
		Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: "said"}, Traceparent: e.GetTraceparent(),
	}}}}})
	hear(func(m *foyerv1.AttachResponse) bool { return m.GetCommandResult().GetEmit().GetMatched() == 1 })
	say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{CallId: e.GetCallId()}}})
	b.hear("435[]")
	f.tracing.close(t.Context())

	event := g.span(t, "event", "foyer.event", "say")
	if want := "00-" + hex.EncodeToString(event.GetTraceId()) + "-" + hex.EncodeToString(event.GetSpanId()) + "-01"; e.GetTraceparent() != want {
		t.Errorf("the handler was told %q, want %q", e.GetTraceparent(), want)
	}
	if len(event.GetParentSpanId()) != 0 || attributeOf(event, "foyer.handler") != "one" || attributeOf(event, "foyer.group") != "chat" {
		t.Errorf("%v", event)
	}
	said := g.span(t, "emit", "foyer.event", "said")
	wantChild(t, event, said)
	if said.GetEndTimeUnixNano() > event.GetEndTimeUnixNano() {
		t.Error("the event has ended before the handler's answer")
	}
}
