package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func TestToStatus(t *testing.T) {
	custom := func(code service.Code, reason, field string) error {
		return &service.Error{Code: code, Reason: reason, Field: field, Message: "m", Cause: errors.New("secret")}
	}
	for _, c := range []struct {
		name    string
		err     error
		code    codes.Code
		reason  foyerv1.ErrorReason
		message string
		details []string
	}{
		{"invalid", custom(service.Invalid, "INVALID_FIELD", "a.b"), codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, "a.b: m", []string{"field a.b"}},
		{"invalid without field", custom(service.Invalid, "INVALID_TOKEN", ""), codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_TOKEN, "m", nil},
		{"not found", custom(service.NotFound, "SOCKET_NOT_FOUND", ""), codes.NotFound, foyerv1.ErrorReason_ERROR_REASON_SOCKET_NOT_FOUND, "m", nil},
		{"denied", custom(service.Denied, "UNAUTHENTICATED", ""), codes.PermissionDenied, foyerv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "m", nil},
		{"precondition", custom(service.Precondition, "ALREADY_CLAIMED", "register.events"), codes.FailedPrecondition, foyerv1.ErrorReason_ERROR_REASON_ALREADY_CLAIMED, "register.events: m", []string{"field register.events", "violation ALREADY_CLAIMED register.events"}},
		{"exhausted", custom(service.Exhausted, "LIMIT_REACHED", ""), codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, "m", []string{"retry 1s"}},
		{"too slow", service.ErrTooSlow, codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_TOO_SLOW, service.ErrTooSlow.Message, []string{"retry 1s"}},
		{"draining", service.ErrDraining, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING, service.ErrDraining.Message, []string{"retry 1s"}},
		{"replaced", service.ErrReplaced, codes.Aborted, foyerv1.ErrorReason_ERROR_REASON_REPLACED, service.ErrReplaced.Error(), []string{"field register.handler_id"}},
		{"wrapped", fmt.Errorf("attach: %w", service.ErrReplaced), codes.Aborted, foyerv1.ErrorReason_ERROR_REASON_REPLACED, service.ErrReplaced.Error(), []string{"field register.handler_id"}},
		{"internal", internalError(errors.New("secret")), codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, internalText, nil},
		{"unknown error", errors.New("secret"), codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, internalText, nil},
		{"unpublished reason", custom(service.Invalid, "NO_SUCH", ""), codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, internalText, nil},
		{"unspecified reason", custom(service.Invalid, "UNSPECIFIED", ""), codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, internalText, nil},
		{"no code", custom(0, "INTERNAL", ""), codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, internalText, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := toStatus(c.err)
			field := ""
			var details []string
			for _, d := range st.Details() {
				switch d := d.(type) {
				case *errdetails.BadRequest:
					field = d.GetFieldViolations()[0].GetField()
					details = append(details, "field "+field)
				case *errdetails.PreconditionFailure:
					v := d.GetViolations()[0]
					details = append(details, "violation "+v.GetType()+" "+v.GetSubject())
				case *errdetails.RetryInfo:
					details = append(details, fmt.Sprint("retry ", d.GetRetryDelay().AsDuration()))
				}
			}
			wantStatus(t, st, c.code, c.reason, field)
			if st.Message() != c.message {
				t.Errorf("got message %q, want %q", st.Message(), c.message)
			}
			if diff := cmp.Diff(details, c.details); diff != "" {
				t.Errorf("details (-got +want):\n%s", diff)
			}
		})
	}
	if st := toStatus(nil); st != nil {
		t.Errorf("nil: got %v, want nil", st)
	}
}

func TestToStatusOfContexts(t *testing.T) {
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{context.Canceled, codes.Canceled},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{status.Error(codes.Canceled, "by gRPC"), codes.Canceled},
	} {
		st := toStatus(c.err)
		if st.Code() != c.code || len(st.Details()) != 1 {
			t.Errorf("%v: got %v with %d details, want %v with its ErrorInfo", c.err, st.Code(), len(st.Details()), c.code)
			continue
		}
		info := st.Details()[0].(*errdetails.ErrorInfo)
		if _, ok := foyerv1.ErrorReason_value[reasonPrefix+info.GetReason()]; !ok {
			t.Errorf("%v: reason %q is not published", c.err, info.GetReason())
		}
	}
	if st := toStatus(status.Error(codes.NotFound, "health's own")); st.Code() != codes.NotFound {
		t.Errorf("a status of gRPC's own services: got %v, want it as it is", st.Code())
	}
}

// TestReasonsArePublished: whatever the service or this package may say is in the enum. Here errors are made by fail,
// from the enum; of the service, the errors that it declares.
func TestReasonsArePublished(t *testing.T) {
	for _, e := range []*service.Error{service.ErrTooSlow, service.ErrDraining, service.ErrReplaced, service.ErrToken} {
		if _, ok := foyerv1.ErrorReason_value[reasonPrefix+e.Reason]; !ok {
			t.Errorf("reason %q is not in the enum", e.Reason)
		}
	}
	for code := service.Invalid; code <= service.Internal; code++ {
		if _, ok := codeOf[code]; !ok {
			t.Errorf("service code %d has no gRPC code", code)
		}
	}
}
