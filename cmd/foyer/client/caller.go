package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// caller asks one node. It is used by one goroutine.
type caller struct {
	sys      *System
	place    place
	conn     *grpc.ClientConn
	greeting *greeting
	patience time.Duration
}

// open makes a caller. Its user closes it.
func (c *connection) open(k *kong.Context, sys *System) (*caller, error) {
	p, err := c.place(k, sys)
	if err != nil {
		return nil, err
	}
	if c.Patience <= 0 {
		return nil, failure(Usage, "--patience: %v is not above zero", c.Patience)
	}
	conn, greeting, err := p.dial(sys)
	if err != nil {
		return nil, err
	}
	return &caller{sys: sys, place: p, conn: conn, greeting: greeting, patience: c.Patience}, nil
}

func (c *caller) close() { _ = c.conn.Close() }

// call makes one call, shows that it waits, and puts its error into words.
func call[Q, A any](ctx context.Context, c *caller, do func(context.Context, Q, ...grpc.CallOption) (A, error), q Q) (A, error) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	stop := c.sys.wait(func() string { return "waiting for " + c.place.api })
	a, err := do(ctx, q)
	stop()
	return a, c.explain(ctx, err)
}

// reasonOf is the word of Foyer's for an error; "": it is not one of Foyer's.
func reasonOf(s *status.Status) string {
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "foyer" {
			return info.GetReason()
		}
	}
	return ""
}

// explain puts the error of a call into words, with its exit code.
func (c *caller) explain(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	s, at := status.Convert(err), c.place.api
	reason := reasonOf(s)
	switch code := s.Code(); {
	case code == codes.Canceled && ctx.Err() != nil:
		return failure(Failed, "interrupted")
	case reason == "DRAINING", reason == "JOINING", reason == "NODE_UNREACHABLE":
		return failure(Unanswered, "the node at %s says: %s", at, s.Message())
	case code == codes.Unavailable:
		return failure(Unanswered, "%s: %s", c.place.apiName, c.unreached(s.Message()))
	case code == codes.DeadlineExceeded:
		return failure(Unanswered, "%s: the node at %s has not answered within %v (--patience)", c.place.apiName, at, c.patience)
	case code == codes.Unauthenticated && c.place.tokenFile == "":
		return failure(Failed, "--api-token-file: the node at %s wants a token, and this names no file that has one", at)
	case code == codes.Unauthenticated:
		return failure(Failed, "%s: the node at %s knows no such token", c.place.tokenName, at)
	case code == codes.NotFound:
		return failure(Nobody, "%s", inFlags(s))
	case code == codes.InvalidArgument:
		return failure(Usage, "%s", inFlags(s))
	case code == codes.Unimplemented:
		return failure(Failed, "%s: the node at %s does not have this call: its version is too old, or it is no node of Foyer", c.place.apiName, at)
	}
	return failure(Failed, "the node at %s says: %s", at, inFlags(s))
}

// unreached says why there is no connection, of which gRPC says this.
func (c *caller) unreached(text string) string {
	at := c.place.api
	why := c.greeting.why()
	host, _, _ := net.SplitHostPort(at)
	switch {
	case why != "":
		return fmt.Sprintf("there is no secure connection to %s: %s", at, why)
	case strings.Contains(text, "no such host"):
		return "there is no host " + host
	case !c.greeting.met.somebody.Load():
		return fmt.Sprintf("nobody answers at %s: does a node run there, and is this its --api?", at)
	case c.place.tls:
		return fmt.Sprintf("what answers at %s closes the connection: is it the --api of a node?", at)
	}
	return fmt.Sprintf("what answers at %s closes the connection: is it the --api of a node, and does it speak TLS (--api-tls)?", at)
}

// flagOf are the flags and arguments that fill fields of requests. A longer field comes before one that it begins with.
var flagOf = []struct{ field, flag string }{
	{"target.rooms", "--room"},
	{"target.except_rooms", "--except"},
	{"target.namespace", "--namespace"},
	{"target", "--room"},
	{"payload.event", "EVENT"},
	{"payload", "ARGS"},
	{"register.namespaces", "--namespace"},
	{"register.events", "--event"},
	{"namespace", "--namespace"},
	{"rooms", "ROOM"},
	{"room", "--room"},
	{"socket_id", "ID"},
	{"timeout", "--timeout"},
	{"window", "--window"},
	{"prefix", "--prefix"},
	{"resume_token", "--resume"},
}

// inFlags is what an error says, with a flag or an argument in place of the field.
func inFlags(s *status.Status) string {
	for _, d := range s.Details() {
		bad, ok := d.(*errdetails.BadRequest)
		if !ok || len(bad.GetFieldViolations()) == 0 {
			continue
		}
		field := bad.GetFieldViolations()[0].GetField()
		rest, ok := strings.CutPrefix(s.Message(), field+": ")
		if !ok {
			break
		}
		for _, f := range flagOf {
			if field == f.field || strings.HasPrefix(field, f.field+".") || strings.HasPrefix(field, f.field+"[") {
				return fmt.Sprintf("%s: %s", f.flag, rest)
			}
		}
	}
	return s.Message()
}
