package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
)

// fault is an error with its reason, as those of the gRPC API are.
func fault(code connect.Code, reason foyerv1.ErrorReason, format string, args ...any) *connect.Error {
	e := connect.NewError(code, fmt.Errorf(format, args...))
	if d, err := connect.NewErrorDetail(infoOf(reason)); err == nil {
		e.AddDetail(d)
	}
	return e
}

func invalid(format string, args ...any) *connect.Error {
	return fault(connect.CodeInvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, format, args...)
}

// refusedStatus is the same for what is told by way of vanguard.
func refusedStatus(reason foyerv1.ErrorReason, code codes.Code, message string) error {
	st := status.New(code, message)
	if full, err := st.WithDetails(infoOf(reason)); err == nil {
		st = full
	}
	return st.Err()
}

func infoOf(reason foyerv1.ErrorReason) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: strings.TrimPrefix(reason.String(), "ERROR_REASON_"), Domain: "foyer"}
}

// fromStatus is a status of the gRPC API as an error of this package.
func fromStatus(err error) *connect.Error {
	st := status.Convert(err)
	e := connect.NewError(connect.Code(st.Code()), fmt.Errorf("%s", st.Message()))
	for _, d := range st.Proto().GetDetails() {
		if detail, err := connect.NewErrorDetail(d); err == nil {
			e.AddDetail(detail)
		}
	}
	return e
}

// noCall is the error of a request that is no call: its path or its method is wrong. HTTP has a status for each of
// these, which proxies and their logs understand. No code of the Connect protocol becomes 405, and its code for an
// unknown path becomes 501.
type noCall struct {
	told   *connect.Error
	status int
	allow  string // the methods that the path takes; "": it takes none
}

func (e *noCall) Error() string { return e.told.Error() }
func (e *noCall) Unwrap() error { return e.told }

// statusWriter puts another status in the place of an error's. Streams and gRPC-Web tell errors with 200, which stays.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if status >= http.StatusBadRequest {
		status = w.status
	}
	w.ResponseWriter.WriteHeader(status)
}

// answer tells a client an error in the form of its protocol; without one as JSON.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*noCall](err); ok {
		if e.allow != "" {
			w.Header().Set("Allow", e.allow)
		}
		w = &statusWriter{w, e.status}
	}
	if !s.faults.IsSupported(r) || strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc+") || r.Header.Get("Content-Type") == "application/grpc" {
		r.Header.Set("Content-Type", "application/json")
	}
	_ = s.faults.Write(w, r, err) // a client that is gone hears nothing
}

// refuse counts a refusal and tells it the log, few of a kind. It returns what the client hears.
func (s *Server) refuse(why refusal, r *http.Request, detail string) error {
	is := &refusals[why]
	s.counts[why].Add(1)
	s.told.Warn("HTTP request refused", zap.String("reason", is.reason), zap.String("address", s.address(r)),
		zap.String("detail", detail), zap.String("setting", "--"+is.flag))
	return fault(is.code, is.why, "%s", detail)
}
