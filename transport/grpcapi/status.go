package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

const (
	errorDomain  = "foyer"
	reasonPrefix = "ERROR_REASON_"
	internalText = "internal error: the node's log has the cause"
	// retryDelay is what RetryInfo advises: long enough for a node to be replaced in a balancer, short for a person.
	retryDelay = time.Second
)

// codeOf has one gRPC code for each kind of service.Error.
var codeOf = map[service.Code]codes.Code{
	service.Invalid:         codes.InvalidArgument,
	service.NotFound:        codes.NotFound,
	service.Denied:          codes.PermissionDenied,
	service.Unauthenticated: codes.Unauthenticated,
	service.Exhausted:       codes.ResourceExhausted,
	service.Precondition:    codes.FailedPrecondition,
	service.Unavailable:     codes.Unavailable,
	service.Unimplemented:   codes.Unimplemented,
	service.Aborted:         codes.Aborted,
	service.Internal:        codes.Internal,
}

// word is a reason as ErrorInfo has it.
func word(r foyerv1.ErrorReason) string { return strings.TrimPrefix(r.String(), reasonPrefix) }

// fail makes an error of this package; that its reason is a value of the enum keeps the published list complete.
func fail(code service.Code, reason foyerv1.ErrorReason, field, format string, args ...any) *service.Error {
	return &service.Error{Code: code, Reason: word(reason), Field: field, Message: fmt.Sprintf(format, args...)}
}

func invalid(reason foyerv1.ErrorReason, field, format string, args ...any) *service.Error {
	return fail(service.Invalid, reason, field, format, args...)
}

func invalidField(field, format string, args ...any) *service.Error {
	return invalid(foyerv1.ErrorReason_ERROR_REASON_INVALID_FIELD, field, format, args...)
}

// notImplemented answers what the contract has and this version has not.
func notImplemented(what string) *service.Error {
	return fail(service.Unimplemented, foyerv1.ErrorReason_ERROR_REASON_NOT_IMPLEMENTED, "",
		"%s is not in this version: GetInfo tells which it is, and reflection, as by grpcurl list, what it has", what)
}

// within says where in a larger message a field stands.
func within(path string, err error) error {
	e, ok := errors.AsType[*service.Error](err)
	switch {
	case !ok:
		return err
	case e.Field != "":
		return e.At(path + "." + e.Field)
	case e.Code == service.Invalid:
		return e.At(path)
	}
	return err // of the node, not of the message
}

func internalError(cause error) *service.Error {
	e := fail(service.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, "", "%s", internalText)
	e.Cause = cause
	return e
}

// toStatus says what the caller is told about an error, nil for nil. Causes stay behind: they are for the log.
func toStatus(err error) *status.Status {
	var e *service.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return describe(e)
	case errors.Is(err, context.Canceled), status.Code(err) == codes.Canceled:
		return build(codes.Canceled, contextReason("CANCELLED"), "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		message := "the call's deadline has passed"
		if e, ok := errors.AsType[*noTime](err); ok {
			message = e.Error()
		}
		if e, ok := errors.AsType[*stillOpen](err); ok {
			message = e.Error()
		}
		return build(codes.DeadlineExceeded, contextReason("DEADLINE_EXCEEDED"), message)
	}
	if st, ok := status.FromError(err); ok { // gRPC's own services (health, reflection) speak for themselves
		return st
	}
	return describe(internalError(err))
}

// contextReason is the word of a context's end, or, as long as the enum has none, the nearest one that it has.
func contextReason(name string) string {
	if _, ok := foyerv1.ErrorReason_value[reasonPrefix+name]; ok {
		return name
	}
	return word(foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED)
}

func describe(e *service.Error) *status.Status {
	code, ok := codeOf[e.Code]
	reason := e.Reason
	if _, known := foyerv1.ErrorReason_value[reasonPrefix+reason]; !ok || !known || reason == "UNSPECIFIED" {
		return build(codes.Internal, word(foyerv1.ErrorReason_ERROR_REASON_INTERNAL), internalText)
	}
	var details []protoadapt.MessageV1
	if e.Field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: e.Field, Description: e.Message},
		}})
	}
	switch code {
	case codes.FailedPrecondition:
		details = append(details, &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
			{Type: reason, Subject: e.Field, Description: e.Message},
		}})
	case codes.Unavailable, codes.ResourceExhausted:
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryDelay)})
	}
	return build(code, reason, e.Error(), details...)
}

func build(code codes.Code, reason, message string, details ...protoadapt.MessageV1) *status.Status {
	st := status.New(code, message)
	info := &errdetails.ErrorInfo{Reason: reason, Domain: errorDomain}
	full, err := st.WithDetails(append([]protoadapt.MessageV1{info}, details...)...)
	if err != nil { // only for OK and for details that cannot be marshalled: neither is made here
		return st
	}
	return full
}
