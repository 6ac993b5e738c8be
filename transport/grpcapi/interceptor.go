package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"foyer/service"
)

// The two interceptors do the same for their kinds of calls: who calls, what comes back, and no panic beyond this call.

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
		if err != nil {
			resp, err = nil, s.finish(info.FullMethod, err)
		}
	}()
	ctx, err = s.auth.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if err := decoded(req); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
		err = s.finish(info.FullMethod, err)
	}()
	ctx, err := s.auth.admit(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	if !isOurs(info.FullMethod) {
		// Streams of ours are ended by the service. Nothing else would end a health watch, and GracefulStop waits for it.
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.draining, cancel)()
	}
	return next(srv, &serverStream{ServerStream: ss, ctx: ctx})
}

// serverStream is a stream with the context of this package, and no undecodable messages.
type serverStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *serverStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return decoded(m)
}

// panicError is a panic on its way to the log.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

func panicked(value any) error {
	return internalError(&panicError{value: value, stack: debug.Stack()})
}

// finish maps an error for the caller and logs it once, here at the edge: faults of ours as errors, faults of the caller's
// for those who look for them.
func (s *Server) finish(method string, err error) error {
	if err == nil {
		return nil
	}
	// The one place that answers for what is declared and not there: generated code says only that it is so.
	if isOurs(method) && status.Code(err) == codes.Unimplemented {
		err = notImplemented(strings.TrimPrefix(method, "/"))
	}
	st := toStatus(err)
	if st.Code() == codes.Internal {
		s.logInternal(method, err)
	} else if ce := s.log.Check(zap.DebugLevel, "call refused"); ce != nil {
		ce.Write(zap.String("method", method), zap.Stringer("code", st.Code()), zap.NamedError("err", err))
	}
	return st.Err()
}

func isOurs(method string) bool { return strings.HasPrefix(method, "/foyer.v1.") }

func (s *Server) logInternal(method string, err error) {
	fields := []zap.Field{zap.String("method", method), zap.NamedError("err", rootCause(err))}
	if p, ok := errors.AsType[*panicError](rootCause(err)); ok {
		fields = append(fields, zap.ByteString("stack", p.stack))
	}
	s.log.Error("internal error", fields...)
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
