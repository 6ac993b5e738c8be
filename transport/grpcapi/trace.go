package grpcapi

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// traceKey is where the context of a call has its step of a trace.
type traceKey struct{}

// traceOf is the step of a call; nil: it is part of no trace that is recorded.
func traceOf(ctx context.Context) *service.Trace {
	t, _ := ctx.Value(traceKey{}).(*service.Trace)
	return t
}

// begin begins the step of a call that comes to its end by itself. Streams that last have none: what passes on them has.
func (s *Server) begin(ctx context.Context, method string, began time.Time) *service.Trace {
	tracer := s.limits.Tracer
	c, known := s.methods[method]
	if tracer == nil || !known || c.Stream && method != foyerv1.EmitService_CollectAcks_FullMethodName || !isOurs(method) {
		return nil
	}
	var cause *service.Trace
	if values := metadata.ValueFromIncomingContext(ctx, "traceparent"); len(values) > 0 {
		var said bool
		if cause, said = tracer.Parse(values[0]); said && cause == nil {
			return nil // whoever began the trace does not record it
		}
	}
	service, name, _ := strings.Cut(c.Method, "/")
	return tracer.Begin(cause, trace.SpanKindServer, c.Method, began,
		attribute.String("rpc.system", "grpc"), attribute.String("rpc.service", service), attribute.String("rpc.method", name))
}

// endStep ends the step of a call.
func endStep(step *service.Trace, code codes.Code) {
	if step == nil {
		return
	}
	step.Set(attribute.Int("rpc.grpc.status_code", int(code)))
	switch code { // those that are the server's own fault, by the conventions of OpenTelemetry
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		step.Fail(code.String())
	}
	step.End()
}

// causeOf is what an emit is part of: the call that it came by, or what the request says.
func (s *Server) causeOf(ctx context.Context, r *foyerv1.EmitRequest) *service.Trace {
	if s.limits.Tracer == nil {
		return nil
	}
	if t := traceOf(ctx); t != nil || r.GetTraceparent() == "" {
		return t
	}
	cause, _ := s.limits.Tracer.Parse(r.GetTraceparent())
	return cause
}
