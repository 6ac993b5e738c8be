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

// begin begins the step of a call that comes to its end by itself. Streams that last have none: what passes on them
// has.
func (s *Server) begin(ctx context.Context, method string, began time.Time) *service.Trace {
	tracer := s.limits.Tracer
	c, known := s.methods[method]
	if tracer == nil || !known || c.Stream && method != foyerv1.EmitService_CollectAcks_FullMethodName || !isOurs(method) {
		return nil
	}
	traceparent := ""
	if values := metadata.ValueFromIncomingContext(ctx, "traceparent"); len(values) > 0 {
		traceparent = values[0]
	}
	return beginCall(tracer, traceparent, c.Method, began)
}

// beginCall begins the step of a call; nil: it is not recorded.
func beginCall(tracer *service.Tracer, traceparent, method string, began time.Time) *service.Trace {
	cause := tracer.Cause(traceparent)
	if cause == nil {
		return nil
	}
	service, name, _ := strings.Cut(method, "/")
	return tracer.Begin(cause, trace.SpanKindServer, method, began,
		attribute.String("rpc.system", "grpc"), attribute.String("rpc.service", service), attribute.String("rpc.method", name))
}

// beginCommand begins the step of a command, which is that of the same call by itself. An emit has its own.
func (s *Server) beginCommand(c *foyerv1.Command) *service.Trace {
	var method string
	switch c.GetCommand().(type) {
	case *foyerv1.Command_Join:
		method = foyerv1.RoomService_JoinRooms_FullMethodName
	case *foyerv1.Command_Leave:
		method = foyerv1.RoomService_LeaveRooms_FullMethodName
	case *foyerv1.Command_Disconnect:
		method = foyerv1.SocketService_DisconnectSockets_FullMethodName
	case *foyerv1.Command_Update:
		method = foyerv1.SocketService_UpdateSocket_FullMethodName
	case *foyerv1.Command_ServerSideEmit:
		method = foyerv1.EmitService_ServerSideEmit_FullMethodName
	default:
		return nil
	}
	return beginCall(s.limits.Tracer, c.GetTraceparent(), method[1:], time.Now())
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

// causeOf is what an emit is part of: the call that it came by, or what the request says. On a stream it is a call of
// its own.
func (s *Server) causeOf(ctx context.Context, r *foyerv1.EmitRequest, onStream bool) *service.Trace {
	tracer := s.limits.Tracer
	switch {
	case tracer == nil:
		return nil
	case onStream:
		return tracer.Cause(r.GetTraceparent())
	}
	if t := service.TraceOf(ctx); t != nil || r.GetTraceparent() == "" {
		return t
	}
	cause, _ := tracer.Parse(r.GetTraceparent())
	return cause
}
