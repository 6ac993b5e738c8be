package grpcapi

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// errRevoked is what callers hear whose token is known no more while their stream runs.
var errRevoked = fail(service.Unauthenticated, foyerv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "",
	"the metadata authorization has a token that is no longer in the node's --api-token-file")

// SetTokens makes others the tokens that callers need. Calls that run go on, also those of a token that is not among
// them, but its streams end with UNAUTHENTICATED and its next call is refused. It is for servers that began with
// tokens, and an API is not opened to everybody by it: without tokens, with an empty one or on an open server it
// changes nothing and says so.
func (s *Server) SetTokens(tokens []string) error {
	c := Config{Tokens: tokens}
	switch {
	case s.gate.open:
		return errors.New("the API began without tokens")
	case len(tokens) == 0:
		return errors.New("there is no token")
	}
	if err := c.Validate(); err != nil {
		return err
	}
	s.settingTokens.Lock()
	defer s.settingTokens.Unlock()
	before := s.auth.Load()
	now := newAuthenticator(tokens, before)
	s.auth.Store(now)
	for i, digest := range before.digests {
		if now.callerOf(digest) == nil {
			before.callers[i].revoke(errRevoked)
		}
	}
	return nil
}

// revocable is a stream that ends when its caller's token is known no more. Calls of one request and one answer are
// none: they are short, and the busy ones among them are spared what this takes.
func revocable(next grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, ss grpc.ServerStream) error {
		a := admissionOf(ss.Context())
		if a.valid == nil {
			return next(srv, ss)
		}
		in := ss.(*serverStream) //nolint:forcetypeassert // the interceptor's
		ctx, cancel := context.WithCancelCause(in.ctx)
		defer cancel(nil)
		defer context.AfterFunc(a.valid, func() { cancel(errRevoked) })()
		in.ctx = ctx
		err := next(srv, in)
		if errors.Is(context.Cause(ctx), errRevoked) {
			return errRevoked
		}
		return err
	}
}
