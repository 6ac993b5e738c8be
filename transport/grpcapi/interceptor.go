package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// stream is the one interceptor, since every call is a stream here: who calls, what comes back.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	began := time.Now()
	var step *service.Trace
	defer func() {
		err = s.finish(info.FullMethod, err, step)
		code := status.Code(err)
		s.called(info.FullMethod, code, time.Since(began), step)
		endStep(step, code)
		if s.cutting.Load() {
			s.cut.Add(1)
		}
	}()
	ctx := ss.Context()
	switch a := admissionOf(ctx); {
	case a == nil:
		return noToken.refused
	case a.refused != nil:
		return a.refused
	}
	c := connOf(ctx)
	if s.limits.Tracer != nil {
		if step = s.begin(ctx, info.FullMethod, began); step != nil {
			ctx = service.WithTrace(ctx, step)
		}
	}
	in := &serverStream{ServerStream: ss, ctx: ctx}
	if !info.IsClientStream {
		in.turn = c
	}
	if isOurs(info.FullMethod) {
		if s.joining.Load() && !strings.HasPrefix(info.FullMethod, nodeServicePrefix) {
			return errJoining
		}
		return next(srv, in)
	}
	if isHealth(info.FullMethod) {
		defer c.probes.Add(-1)
		most := int32(maxProbes)
		if !c.known.Load() && !s.gate.open {
			most = unknownProbes
		}
		if c.probes.Add(1) > most {
			return fail(service.Exhausted, foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, "",
				"%d calls of grpc.health.v1 are under way on this connection, and no more may", most)
		}
	}
	// Streams of ours are ended by the service. Nothing else would end a health watch, or reflection, and GracefulStop
	// waits for them.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.draining, func() { cancel(service.ErrDraining) })()
	in.ctx = ctx
	if isHealth(info.FullMethod) {
		return next(srv, in)
	}
	if a := admissionOf(ctx); a.valid != nil {
		defer context.AfterFunc(a.valid, func() { cancel(errRevoked) })()
	}
	return s.abandon(ctx, func() error { return next(srv, in) })
}

// abandon runs a handler that waits for its client whatever its context says. When that ends, it returns without the
// handler: by that the stream ends, and then so does the handler.
func (s *Server) abandon(ctx context.Context, handler func() error) error {
	ended := make(chan error, 1)
	s.streams.Go(func() { ended <- handler() })
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// register registers a service with its unary methods as streams of one request and an answer, which is the same on the
// wire: the interceptor of a unary method runs when its request is read, that of a stream before.
func (s *Server) register(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods, d.Streams = nil, slices.Clone(desc.Streams)
	for i := range d.Streams {
		d.Streams[i].Handler = revocable(d.Streams[i].Handler)
	}
	for _, m := range desc.Methods {
		s.once[desc.ServiceName+"/"+m.MethodName] = true
		d.Streams = append(d.Streams, grpc.StreamDesc{StreamName: m.MethodName, Handler: single(m.Handler), ServerStreams: true})
	}
	s.grpc.RegisterService(&d, impl)
}

// single is a unary method as a stream.
func single(method grpc.MethodHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		resp, err := method(srv, stream.Context(), stream.RecvMsg, nil)
		if err != nil {
			return err
		}
		return stream.SendMsg(resp)
	}
}

// serverStream is a stream with the context of this package, and no undecodable messages.
type serverStream struct {
	grpc.ServerStream
	ctx  context.Context
	turn *conn // of a call with one request; nil: it may have many
}

func (s *serverStream) Context() context.Context { return s.ctx }

// RecvMsg decodes here, where nothing is held.
func (s *serverStream) RecvMsg(m any) (err error) {
	defer contain(&err)
	if s.turn != nil {
		i, err := s.turn.begin(s.ctx)
		if err != nil {
			return err
		}
		defer s.turn.end(i)
	}
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if s.turn == nil && s.ctx.Err() != nil { // nothing of it takes effect when the caller's token is known no more
		return s.ctx.Err()
	}
	return decoded(m)
}

// panicError is a panic on its way to the log.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// contain is deferred by what decodes and checks a request: nothing is held there, so that a panic is an error of that
// request. It is the only place that recovers: see the policy in package service.
func contain(err *error) {
	if v := recover(); v != nil {
		*err = internalError(&panicError{value: v, stack: debug.Stack()})
	}
}

// finish maps an error for the caller and logs it once, here at the edge: faults of ours as errors, faults of the
// caller's for those who look for them.
func (s *Server) finish(method string, err error, step *service.Trace) error {
	if err == nil {
		return nil
	}
	// The one place that answers for what is declared and not there: generated code says only that it is so.
	if isOurs(method) && status.Code(err) == codes.Unimplemented {
		err = notImplemented(strings.TrimPrefix(method, "/"))
	}
	st := toStatus(err)
	if st.Code() == codes.Internal {
		s.logInternal(method, err, step)
	} else if ce := s.log.Check(zap.DebugLevel, "call refused"); ce != nil {
		ce.Write(zap.String("method", method), zap.Stringer("code", st.Code()), zap.NamedError("err", err), traceField(step))
	}
	return st.Err()
}

// nodeServicePrefix is that of the calls that are answered before a node has joined its cluster: they tell how it is.
const nodeServicePrefix = "/foyer.v1.NodeService/"

var errJoining = fail(service.Unavailable, foyerv1.ErrorReason_ERROR_REASON_JOINING, "",
	"the node is joining its cluster: try again in a moment, or at another node")

func isOurs(method string) bool { return strings.HasPrefix(method, "/foyer.v1.") }

// traceField names the trace of a call in the log.
func traceField(step *service.Trace) zap.Field {
	if step == nil {
		return zap.Skip()
	}
	return zap.String("trace", step.ID())
}

func (s *Server) logInternal(method string, err error, step *service.Trace) {
	fields := []zap.Field{zap.String("method", method), zap.NamedError("err", rootCause(err)), traceField(step)}
	if p, ok := errors.AsType[*panicError](rootCause(err)); ok {
		s.panics.Add(1)
		fields = append(fields, zap.ByteString("stack", p.stack))
	}
	s.gate.told.Error("internal error", fields...) // a caller may find out how, and repeat it
}

// rootCause is what the log is interested in: the cause of an Error of ours, if it has one.
func rootCause(err error) error {
	if e, ok := errors.AsType[*service.Error](err); ok && e.Cause != nil {
		return e.Cause
	}
	return err
}

// unknownMethod answers calls of what is not in the API at all.
func unknownMethod(_ any, ss grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(ss)
	return notImplemented(strings.TrimPrefix(method, "/"))
}
