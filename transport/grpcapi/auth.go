package grpcapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// authenticator knows callers by bearer tokens; without tokens everybody may call. Only digests are kept: of equal
// length, so that comparing them takes the same time for every token, and of no use to a program that reads the memory.
// It does not change: other tokens are another one, see SetTokens.
type authenticator struct {
	digests [][sha256.Size]byte
	callers []*admission // of the digests
}

// newAuthenticator makes the one of tokens. A token that before knows too stays the same caller, whose streams go on;
// before may be nil.
func newAuthenticator(tokens []string, before *authenticator) *authenticator {
	a := &authenticator{}
	for _, t := range tokens {
		digest := sha256.Sum256([]byte(t))
		caller := before.callerOf(digest)
		if caller == nil {
			caller = admit(digest)
		}
		a.digests = append(a.digests, digest)
		a.callers = append(a.callers, caller)
	}
	return a
}

func admit(digest [sha256.Size]byte) *admission {
	a := &admission{caller: hex.EncodeToString(digest[:8])}
	a.valid, a.revoke = context.WithCancelCause(context.Background())
	return a
}

// callerOf is the caller with a token; nil: there is none.
func (a *authenticator) callerOf(digest [sha256.Size]byte) *admission {
	if a == nil {
		return nil
	}
	if i := slices.Index(a.digests, digest); i >= 0 { // files are compared, no caller waits: time tells nobody anything
		return a.callers[i]
	}
	return nil
}

// admission is what is known of a call before its request is read.
type admission struct {
	caller  string
	address string // of the client of a call by a connection in memory; "": the connection's
	nobody  bool   // it has no token and needs none
	refused error  // it has no token that is known and needs one
	status  error  // the same as gRPC wants it from a tap

	// Of a token: valid ends when it is known no more.
	valid  context.Context
	revoke context.CancelCauseFunc
}

type admissionKey struct{}

// admissionOf is what the tap has found out about a call.
func admissionOf(ctx context.Context) *admission {
	a, _ := ctx.Value(admissionKey{}).(*admission)
	return a
}

// callerOf names who calls: a digest of the token, or without tokens the peer's address. It tells the request ids of
// one caller from those of another, and is no secret.
func callerOf(ctx context.Context) string {
	if a := admissionOf(ctx); a != nil {
		return a.caller
	}
	return ""
}

var (
	nobody = &admission{nobody: true}

	// Faults of the metadata "authorization", in words that say what is to be done.
	noToken      = refuseToken("is required: send Bearer TOKEN, where TOKEN is a line of the node's --api-token-file")
	manyTokens   = refuseToken("came more than once: send one")
	noBearer     = refuseToken("is not of the form Bearer TOKEN, where TOKEN is a line of the node's --api-token-file")
	unknownToken = refuseToken("has a token that is not in the node's --api-token-file")
)

func refuseToken(what string) *admission {
	err := fail(service.Unauthenticated, foyerv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "", "the metadata authorization %s", what)
	return &admission{refused: err, status: toStatus(err).Err()}
}

// admit says whose call it is. Health is for balancers, which have no token; reflection, which shows the whole API, is
// not.
func (a *authenticator) admit(ctx context.Context, method string) *admission {
	digest, wrong := bearer(ctx)
	known, caller := 0, 0
	for i := range a.digests { // all of them, found or not: how long it takes must not tell which one matched
		same := subtle.ConstantTimeCompare(digest[:], a.digests[i][:])
		known |= same
		caller = subtle.ConstantTimeSelect(same, i, caller)
	}
	switch {
	case wrong == nil && known == 1:
		return a.callers[caller]
	case isHealth(method):
		return nobody
	case wrong != nil:
		return wrong
	}
	return unknownToken
}

func isHealth(method string) bool {
	return strings.HasPrefix(method, "/"+healthpb.Health_ServiceDesc.ServiceName+"/")
}

// tap looks at a call's token when its headers have come and before anything else of it is kept. It runs on the
// connection's reader. It refuses a call at once, which holds nothing of it, unless the call has a deadline: gRPC keeps
// the timer of a refused one until it fires, and that time is the peer's choice. Such a call is refused by the
// interceptor, unread, and a connection without a token that has many of them is closed.
func (s *Server) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	c := connOf(ctx)
	if c == nil { // no listener of ours
		return ctx, noToken.status
	}
	a := &c.own
	if !s.gate.open {
		a = s.auth.Load().admit(ctx, info.FullMethodName)
	}
	if isMemory(c.addr.Addr) {
		a = a.madeFor(ctx, s.gate.open)
	}
	switch {
	case a.nobody:
		c.probed.Store(true)
		c.seen.Store(time.Now().UnixNano())
	case a.refused != nil:
		s.gate.refuse(refusedCalls, cmp.Or(a.address, c.host), a.refused.Error(), zap.String("method", cut(info.FullMethodName)))
		if _, limited := ctx.Deadline(); !limited {
			return ctx, a.status
		}
		if c.refusals++; c.refusals > unknownRefusals && !c.known.Load() {
			_ = c.Close()
		}
	case !c.known.Load():
		s.gate.known(c)
	}
	return context.WithValue(ctx, admissionKey{}, a), nil
}

// bearer is a digest of the token that a call shows; wrong says why there is none.
func bearer(ctx context.Context) (digest [sha256.Size]byte, wrong *admission) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch len(values) {
	case 0:
		return digest, noToken
	case 1:
	default: // two of them contradict each other
		return digest, manyTokens
	}
	scheme, token, found := strings.Cut(values[0], " ")
	if !found || !strings.EqualFold(scheme, "bearer") {
		return digest, noBearer
	}
	return sha256.Sum256([]byte(strings.TrimSpace(token))), nil
}
