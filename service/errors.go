package service

import "errors"

// Code is the kind of an Error, one for each gRPC code that Foyer uses.
type Code uint8

// The codes.
const (
	Invalid Code = iota + 1
	NotFound
	Denied
	Unauthenticated
	Exhausted
	Precondition
	Unavailable
	Unimplemented
	Aborted
	Internal
)

// Error is what a caller did wrong or cannot have now. Errors with the same Reason are the same for errors.Is.
type Error struct {
	Code    Code
	Reason  string // a stable word of the API's ErrorReason, without its prefix
	Message string // for developers; names no secrets
	Field   string // path of the request's field that it is about, if it is about one; Message goes on from there
	Cause   error  // for the log only
}

// Error names the field: most languages show their callers the text of an error and not its details.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

// At is the same error about another field.
func (e *Error) At(field string) *Error {
	named := *e
	named.Field = field
	return &named
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is says whether target is an Error with the same reason.
func (e *Error) Is(target error) bool {
	var other *Error
	return errors.As(target, &other) && other.Reason == e.Reason
}

// Errors without further detail; others are made where they occur.
var (
	ErrTooSlow  = &Error{Code: Exhausted, Reason: "TOO_SLOW", Message: "the stream was ended: its caller does not read what it is sent"}
	ErrDraining = &Error{Code: Unavailable, Reason: "DRAINING", Message: "the node is going down: try again, at another node if there is one"}
	ErrReplaced = &Error{Code: Aborted, Reason: "REPLACED", Field: "register.handler_id", Message: "another stream with the same one took over"}
	ErrBudget   = &Error{Code: Exhausted, Reason: "LIMIT_REACHED", Message: "the node's memory budget is spent (--memory-budget)"}
	// The watch of a namespace whose sockets on other nodes are more than this node keeps copies of.
	ErrPresenceBytes = &Error{Code: Exhausted, Reason: "LIMIT_REACHED", Message: "the node has no memory for what is to be known of the sockets of others (--presence-bytes, --memory-budget)"}
	ErrToken         = &Error{Code: Invalid, Reason: "INVALID_TOKEN", Message: "is not a token of this request: it was given for another one, or is damaged"}
)
