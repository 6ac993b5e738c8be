package service

import (
	"context"
	"math/rand/v2"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Tracer begins the steps of traces. nil is one that begins none, and costs a comparison. Safe for concurrent use: it
// does not block, and may be called with locks held.
type Tracer struct {
	tracer trace.Tracer
	ratio  float64
}

// NewTracer makes a Tracer of t, which must record whatever it is asked for: what is worth it is decided here. Of what
// is part of no trace it takes a share of ratio, from 0 to 1.
func NewTracer(t trace.Tracer, ratio float64) *Tracer { return &Tracer{t, ratio} }

// Trace is a step of a trace that is recorded: one of this node, or of somebody else who caused one of this node. nil:
// there is none.
type Trace struct {
	at   trace.SpanContext
	span trace.Span // nil: it is somebody else's
}

// The steps, as they are called in traces.
const (
	stepEmit    = "emit"             // through the lane, and the other nodes' receipts
	stepDeliver = "deliver"          // the same at another node
	stepAcks    = "acks"             // until the last acknowledgement, or the end of the wait
	stepEvent   = "event"            // of a browser: from its receipt until its handler has answered
	stepConnect = "connect"          // of a browser: from when a handler is asked until it is let in or not
	stepServers = "server_side_emit" // until the replies have come that are wanted
)

// traceKey is where a context has the step that it is part of.
type traceKey struct{}

// WithTrace is a context of what a step has caused.
func WithTrace(ctx context.Context, step *Trace) context.Context {
	return context.WithValue(ctx, traceKey{}, step)
}

// TraceOf is the step that a context is part of; nil: none that is recorded.
func TraceOf(ctx context.Context) *Trace {
	step, _ := ctx.Value(traceKey{}).(*Trace)
	return step
}

// A traceparent of version 00 has so many bytes (W3C Trace Context, section 3.2). Those of later versions may have
// more.
const (
	traceparentLen = 55
	MaxTraceparent = 256
)

// Parse reads a traceparent. Said: it is one, so the caller that has begun the trace has decided. Then the step is nil
// when the trace is not recorded.
func (t *Tracer) Parse(traceparent string) (from *Trace, said bool) {
	if t == nil || len(traceparent) < traceparentLen || len(traceparent) > MaxTraceparent {
		return nil, false
	}
	p := traceparent
	if p[2] != '-' || p[35] != '-' || p[52] != '-' || p[:2] == "ff" || len(p) > traceparentLen && (p[:2] == "00" || p[55] != '-') {
		return nil, false
	}
	id, err := trace.TraceIDFromHex(p[3:35])
	if err != nil {
		return nil, false
	}
	span, err := trace.SpanIDFromHex(p[36:52])
	if err != nil {
		return nil, false
	}
	flags, err := strconv.ParseUint(p[53:55], 16, 8)
	if err != nil {
		return nil, false
	}
	if trace.TraceFlags(flags)&trace.FlagsSampled == 0 {
		return nil, true
	}
	return &Trace{at: trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.FlagsSampled, Remote: true})}, true
}

// beginning is the cause of what begins a trace.
var beginning = &Trace{}

// Cause is the cause of what somebody asks for with a traceparent, or with none: then a share begins a trace. nil: it
// is not recorded. It costs a comparison where nothing is traced.
func (t *Tracer) Cause(traceparent string) *Trace {
	if t == nil {
		return nil
	}
	if traceparent != "" {
		if from, said := t.Parse(traceparent); said {
			return from
		}
	}
	if rand.Float64() >= t.ratio {
		return nil
	}
	return beginning
}

// Begin begins a step that others may cause. A nil cause begins a trace, if it is in the share of those that are
// recorded.
func (t *Tracer) Begin(cause *Trace, kind trace.SpanKind, name string, since time.Time, about ...attribute.KeyValue) *Trace {
	if t == nil || cause == nil && rand.Float64() >= t.ratio {
		return nil
	}
	return t.step(cause, kind, name, since, about...)
}

func (t *Tracer) step(cause *Trace, kind trace.SpanKind, name string, since time.Time, about ...attribute.KeyValue) *Trace {
	ctx := context.Background()
	if cause != nil && cause != beginning {
		ctx = trace.ContextWithSpanContext(ctx, cause.at)
	}
	_, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(since), trace.WithAttributes(about...))
	return &Trace{at: span.SpanContext(), span: span}
}

// Traceparent is how the step is told to others; "" for nil.
func (s *Trace) Traceparent() string {
	if s == nil {
		return ""
	}
	return "00-" + s.at.TraceID().String() + "-" + s.at.SpanID().String() + "-01"
}

// ID is the id of the trace, for the log and for exemplars; "" for nil.
func (s *Trace) ID() string {
	if s == nil {
		return ""
	}
	return s.at.TraceID().String()
}

// Set notes something about the step.
func (s *Trace) Set(about ...attribute.KeyValue) {
	if s != nil && s.span != nil {
		s.span.SetAttributes(about...)
	}
}

// Fail says that the step has failed, and why.
func (s *Trace) Fail(why string) {
	if s != nil && s.span != nil {
		s.span.SetStatus(codes.Error, why)
	}
}

// End ends the step. Only the first call counts.
func (s *Trace) End() {
	if s != nil && s.span != nil {
		s.span.End()
	}
}

// Tracer is the node's; nil: it has none.
func (n *Node) Tracer() *Tracer { return n.cfg.Tracer }

// traceEmit begins the step of an emit that is part of a trace, which becomes the cause of what follows of it.
func (n *Node) traceEmit(e *Emit, name string) *Trace {
	if e.Trace == nil || n.cfg.Tracer == nil {
		return nil
	}
	kind := trace.SpanKindInternal
	if name == stepDeliver {
		kind = trace.SpanKindConsumer
	}
	e.Trace = n.cfg.Tracer.step(e.Trace, kind, name, time.Now(), n.about(e.Target.Namespace, e.Packet)...)
	return e.Trace
}

// traceAll is traceEmit for emits that pass together; nil: none of them is part of a trace.
func (n *Node) traceAll(emits []Emit, name string) (steps []*Trace) {
	if n.cfg.Tracer == nil {
		return nil
	}
	for i := range emits {
		if s := n.traceEmit(&emits[i], name); s != nil {
			if steps == nil {
				steps = make([]*Trace, len(emits))
			}
			steps[i] = s
		}
	}
	return steps
}

// about is what a step tells of what it is about. Names are told, and payloads never.
func (n *Node) about(namespace string, p *Packet) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("foyer.node", string(n.id)), attribute.String("foyer.namespace", namespace), attribute.String("foyer.event", p.Event),
	}
}

// delivered ends the step of an emit.
func (s *Trace) delivered(r *Receipt) {
	if s == nil {
		return
	}
	s.Set(attribute.Int("foyer.matched", r.Matched), attribute.Int("foyer.enqueued", r.Enqueued), attribute.Int("foyer.unreachable", len(r.Coverage.Unreachable)+r.Coverage.UnreachableUnnamed))
	if r.Err != nil {
		s.Fail("nothing was sent")
	}
	s.End()
}

// traceAcks begins the step of those that collect an emit's acknowledgements.
func (n *Node) traceAcks(emit *Trace) *Trace {
	if emit == nil || n.cfg.Tracer == nil {
		return nil
	}
	return n.cfg.Tracer.step(emit, trace.SpanKindInternal, stepAcks, time.Now(), attribute.String("foyer.node", string(n.id)))
}

// traceConnect begins the step of a connect that a handler is about to be asked to decide, here or at another node.
func (n *Node) traceConnect(s *Socket, h *Handler) *Trace {
	t := n.cfg.Tracer
	if t == nil {
		return nil
	}
	return t.Begin(nil, trace.SpanKindProducer, stepConnect, time.Now(), attribute.String("foyer.node", string(n.id)),
		attribute.String("foyer.namespace", s.ns.name), attribute.String("foyer.socket", string(s.id)),
		attribute.String("foyer.group", h.reg.Group), attribute.String("foyer.handler", h.reg.ID))
}

// refused says that the step of a connect has not let its browser in. That a handler does not want it is no failure.
func (s *Trace) refused(why string) {
	if s == nil {
		return
	}
	s.Set(attribute.String("foyer.refused", why))
	if why != dropNames[dropRejected] {
		s.Fail(why)
	}
}

// traceServers begins the step of an event for other servers.
func (n *Node) traceServers(e *ServerSideEmit) *Trace {
	if e.Trace == nil || n.cfg.Tracer == nil {
		return nil
	}
	return n.cfg.Tracer.step(e.Trace, trace.SpanKindProducer, stepServers, time.Now(), n.about(e.Namespace, e.Packet)...)
}

// traceEvent begins the step of a browser's event that its handler is about to be told of. It began when the event
// came.
func (h *Handler) traceEvent(n *Notice) *Trace {
	t := h.node.cfg.Tracer
	if t == nil || h.at != "" || h.reg.Observer { // elsewhere, the handler's node does
		return nil
	}
	if rand.Float64() >= t.ratio {
		return nil
	}
	about := append(h.node.about(n.From.Namespace(), n.Packet), attribute.String("foyer.socket", string(n.From.ID())),
		attribute.String("foyer.group", h.reg.Group), attribute.String("foyer.handler", h.reg.ID))
	s := t.step(nil, trace.SpanKindProducer, stepEvent, n.Time, about...)
	s.span.AddEvent("told")
	return s
}
