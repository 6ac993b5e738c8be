package grpcapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"go.uber.org/zap"

	"foyer/service"
)

// refusal is why a connection, a stream or a call of a backend was refused or closed. Each has a counter of GetInfo and
// one line in the log, of which the reason is the counter's name.
type refusal uint8

const (
	refusedCalls       refusal = iota // without a token that is known
	refusedConnections                // more than fit, or more than one address may have
	refusedUnknown                    // connections that showed no token in time, or had to make room for others
	refusedStalled                    // connections whose request did not come to its end
	refusedBytes                      // connections that held too much of requests that do not come to their end
	refusedShare                      // streams beyond their caller's share
	refusedLeft                       // waits of callers that have left more of them behind than they may
	refusedTLS                        // connections whose TLS handshake failed
	refusedGreeting                   // connections that do not begin as HTTP/2 does
	refusedStream                     // handlers and watches that ask for what cannot be, or break a rule later on
	refusedSlow                       // streams that do not read, or handlers that make no progress
	refusedReplaced                   // handlers whose handler_id another stream has taken over
	refusalCount
)

var refusals = [refusalCount]struct{ reason, message, detail, flag string }{
	refusedCalls:       {"api_call_unauthenticated", "call refused", "", "api-token-file"},
	refusedConnections: {"api_connection_refused", "connection refused", "all connections of the node, or the half of them that one address may have, are taken", "api-connections"},
	refusedUnknown:     {"api_connection_unknown", "connection closed", "no call of it has shown a token in time, or it made room for another", "api-token-file"},
	refusedStalled:     {"api_connection_stalled", "connection closed", "a request of it has begun and has not come to its end in time", ""},
	refusedBytes:       {"api_connection_bytes", "connection closed", "it holds too much of requests that have not come to their end", "api-request-bytes"},
	refusedShare:       {"api_stream_share", "stream refused", "", ""},
	refusedLeft:        {"api_call_left", "call given up", "its caller has left, and has left too many others behind", ""},
	refusedTLS:         {"api_tls_failed", "TLS handshake failed", "", "api-cert"},
	refusedGreeting:    {"api_greeting", "connection refused", "the client does not speak HTTP/2, which gRPC needs", ""},
	refusedStream:      {"api_stream_refused", "stream refused", "", ""},
	refusedSlow:        {"api_stream_slow", "stream closed", "", ""},
	refusedReplaced:    {"api_handler_replaced", "handler detached", "", ""},
}

// refuse counts a refusal, and tells the log: few of a kind. Detail says what was wrong; "": as always.
func (g *gate) refuse(why refusal, address, detail string, more ...zap.Field) {
	g.counts[why].Add(1)
	r := &refusals[why]
	if detail == "" {
		detail = r.detail
	}
	fields := append(make([]zap.Field, 0, 4+len(more)), zap.String("reason", r.reason), zap.String("address", address), zap.String("detail", cut(detail)))
	switch {
	case why == refusedConnections:
		fields = append(fields, zap.String("setting", fmt.Sprint("--api-connections=", g.max.Load())))
	case why == refusedBytes:
		fields = append(fields, zap.String("setting", fmt.Sprint("--api-request-bytes=", g.heldBytes)))
	case r.flag != "":
		fields = append(fields, zap.String("setting", "--"+r.flag))
	}
	g.told.Warn(r.message, append(fields, more...)...)
}

// cut bounds what of a stranger's words goes into the log.
func cut(words string) string {
	const most = 300
	return words[:min(len(words), most)]
}

// left says whether a handshake failed because the client went away: a balancer that looks whether the port is open
// does.
func left(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// greeted looks at the first bytes of a connection: gRPC closes one that does not begin as HTTP/2 does, and tells
// nobody.
func (c *conn) greeted(p []byte) {
	switch greeting := []byte("PRI"); {
	case len(p) == 0, bytes.HasPrefix(p, greeting[:min(len(p), len(greeting))]):
	case p[0] == 0x16: // the record of a ClientHello (RFC 8446 section 5.1)
		c.gate.refuse(refusedTLS, c.host, "the client speaks TLS, and this address does not")
	default:
		c.gate.refuse(refusedGreeting, c.host, "")
	}
}

// hostOfCall is the address of a call's client, without the port.
func hostOfCall(ctx context.Context) string {
	if a := admissionOf(ctx); a != nil && a.address != "" {
		return a.address
	}
	if c := connOf(ctx); c != nil {
		return c.host
	}
	return ""
}

// refuseStream counts and tells that a handler or a watch was refused, and returns err. A client that went away, and a
// node that goes down, refuse nothing.
func (s *Server) refuseStream(ctx context.Context, what string, err error) error {
	var e *service.Error
	if !errors.As(err, &e) || errors.Is(err, service.ErrDraining) {
		return err
	}
	s.gate.refuse(refusedStream, hostOfCall(ctx), told(what, err))
	return err
}

// told is an error as the log has it: whose it is, and the reason that the caller hears.
func told(what string, err error) string {
	var e *service.Error
	if errors.As(err, &e) {
		return fmt.Sprintf("%s: %v (%s)", what, e, e.Reason)
	}
	return fmt.Sprintf("%s: %v", what, err)
}

// tellDetached tells how a handler's stream has ended: by its own will, or because the node has ended it.
func (s *Server) tellDetached(ctx context.Context, err error, who ...zap.Field) {
	address := hostOfCall(ctx)
	var e *service.Error
	switch {
	case errors.Is(err, service.ErrReplaced):
		s.gate.refuse(refusedReplaced, address, err.Error(), who...)
		return
	case errors.Is(err, service.ErrTooSlow):
		s.gate.refuse(refusedSlow, address, told("handler", err), who...)
		return
	case errors.As(err, &e) && !errors.Is(err, service.ErrDraining):
		s.gate.refuse(refusedStream, address, told("handler", err), who...)
		return
	}
	how := "its connection or its call has ended"
	switch {
	case err == nil:
		how = "it has drained, or closed its side"
	case errors.Is(err, service.ErrDraining):
		how = "the node is going down"
	}
	s.gate.told.Info("handler detached", append([]zap.Field{zap.String("address", address), zap.String("detail", how)}, who...)...)
}
