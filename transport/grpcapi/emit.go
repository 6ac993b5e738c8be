package grpcapi

import (
	"context"
	"crypto/sha256"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

type emitService struct {
	foyerv1.UnimplementedEmitServiceServer
	s *Server
}

func (e *emitService) Emit(ctx context.Context, r *foyerv1.EmitRequest) (*foyerv1.EmitResponse, error) {
	return e.s.emit(ctx, r, false)
}

// emit is Emit, as a call, as a command and as an item of a stream: a repeat of one as the other is a repeat. An event
// for one socket that has no room waits within the call's deadline; on a stream, where others wait behind it, not that
// long.
func (s *Server) emit(ctx context.Context, r *foyerv1.EmitRequest, onStream bool) (*foyerv1.EmitResponse, error) {
	e, err := emitRequest(r, s.limits.MaxPayloadBytes, onStream)
	if err != nil {
		return nil, err
	}
	e.Trace = s.causeOf(ctx, r, onStream)
	key := requestKey{callerOf(ctx), "Emit", r.GetRequestId()}
	return once(ctx, s.dedup, key, sent(r), func() (*foyerv1.EmitResponse, error) {
		var receipt service.Receipt
		if onStream {
			receipt = s.node.EmitBatch(ctx, []service.Emit{e})[0]
			err = receipt.Err
		} else {
			receipt, err = s.node.Emit(ctx, e)
		}
		if err != nil {
			return nil, err
		}
		return emitResponse(&receipt), nil
	}, func(first *foyerv1.EmitResponse) *foyerv1.EmitResponse {
		return &foyerv1.EmitResponse{
			Matched: first.Matched, Enqueued: first.Enqueued, DroppedVolatile: first.DroppedVolatile,
			DroppedSlow: first.DroppedSlow, Coverage: first.Coverage, Deduplicated: true,
		}
	})
}

// emitRequest checks an EmitRequest.
func emitRequest(r *foyerv1.EmitRequest, maxBytes int, onStream bool) (service.Emit, error) {
	if err := knownEnum("receipt", foyerv1.Receipt_name, r.GetReceipt()); err != nil {
		return service.Emit{}, err
	}
	e, err := emitOf(r.GetTarget(), r.GetPayload(), r.GetOptions(), r.GetRequestId(), maxBytes)
	e.Accepted = accepted(r.GetReceipt(), onStream)
	return e, err
}

// accepted says whether a receipt is this node's alone. Which one is the default is the call's: others wait behind an
// emit on a stream.
func accepted(r foyerv1.Receipt, onStream bool) bool {
	return r == foyerv1.Receipt_RECEIPT_ACCEPTED || onStream && r == foyerv1.Receipt_RECEIPT_UNSPECIFIED
}

// sending is what requests with a target and a request_id have in common.
type sending interface {
	GetTarget() *foyerv1.Target
	GetPayload() *foyerv1.Payload
	GetOptions() *foyerv1.EmitOptions
	GetRequestId() string
}

// sent is a fingerprint of what a request sends and to whom. How long it waits is no part of it: a repeat has less time
// left than the first.
func sent(r sending) (sum [sha256.Size]byte) {
	if r.GetRequestId() == "" {
		return sum
	}
	return contentOf(r.GetTarget(), r.GetPayload(), r.GetOptions())
}
