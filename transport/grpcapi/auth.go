package grpcapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"strings"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// authenticator knows callers by bearer tokens; without tokens everybody may call. Only digests are kept: of equal length,
// so that comparing them takes the same time for every token, and of no use to whoever reads the memory.
type authenticator struct {
	digests [][sha256.Size]byte
}

func newAuthenticator(tokens []string) *authenticator {
	a := &authenticator{}
	for _, t := range tokens {
		a.digests = append(a.digests, sha256.Sum256([]byte(t)))
	}
	return a
}

type callerKey struct{}

// callerOf names who calls: a digest of the token, or without tokens the peer's address. It tells the request ids of one
// caller from those of another, and is no secret.
func callerOf(ctx context.Context) string {
	caller, _ := ctx.Value(callerKey{}).(string)
	return caller
}

// admit returns ctx with its caller, or an Error with reason UNAUTHENTICATED. Health is for balancers, which have no token;
// reflection, which shows the whole API, is not.
func (a *authenticator) admit(ctx context.Context, method string) (context.Context, error) {
	if len(a.digests) == 0 {
		return context.WithValue(ctx, callerKey{}, peerHost(ctx)), nil
	}
	if strings.HasPrefix(method, "/"+healthpb.Health_ServiceDesc.ServiceName+"/") {
		return ctx, nil
	}
	digest, ok := bearer(ctx)
	known := 0
	for i := range a.digests { // all of them, found or not: how long it takes must not tell which one matched
		known |= subtle.ConstantTimeCompare(digest[:], a.digests[i][:])
	}
	if !ok || known == 0 {
		return nil, fail(service.Unauthenticated, foyerv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "",
			"a bearer token that this node knows is required")
	}
	return context.WithValue(ctx, callerKey{}, hex.EncodeToString(digest[:8])), nil
}

func bearer(ctx context.Context) (digest [sha256.Size]byte, ok bool) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 { // two of them contradict each other
		return digest, false
	}
	scheme, token, found := strings.Cut(values[0], " ")
	if !found || !strings.EqualFold(scheme, "bearer") {
		return digest, false
	}
	return sha256.Sum256([]byte(strings.TrimSpace(token))), true
}

func peerHost(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(p.Addr.String())
	if err != nil {
		return p.Addr.String()
	}
	return host // without the port: a caller that reconnects is the same caller
}
