package grpcapi

import (
	"context"
	"crypto/sha256"

	foyerv1 "foyer/gen/foyer/v1"
)

type emitService struct {
	foyerv1.UnimplementedEmitServiceServer
	s *Server
}

func (e *emitService) Emit(ctx context.Context, r *foyerv1.EmitRequest) (*foyerv1.EmitResponse, error) {
	return e.s.emit(ctx, r)
}

// emit is Emit, as a call and as a command: a repeat of one as the other is a repeat.
func (s *Server) emit(ctx context.Context, r *foyerv1.EmitRequest) (*foyerv1.EmitResponse, error) {
	// One node: both receipts mean the same, the queue of every recipient.
	if err := knownEnum("receipt", foyerv1.Receipt_name, r.GetReceipt()); err != nil {
		return nil, err
	}
	e, err := emitOf(r.GetTarget(), r.GetPayload(), r.GetOptions(), r.GetRequestId(), s.limits.MaxPayloadBytes)
	if err != nil {
		return nil, err
	}
	key := requestKey{callerOf(ctx), "Emit", r.GetRequestId()}
	return once(ctx, s.dedup, key, sent(r), func() (*foyerv1.EmitResponse, error) {
		receipt, err := s.node.Emit(ctx, e)
		if err != nil {
			return nil, err
		}
		return emitResponse(receipt), nil
	}, func(first *foyerv1.EmitResponse) *foyerv1.EmitResponse {
		return &foyerv1.EmitResponse{
			Matched: first.Matched, Enqueued: first.Enqueued, DroppedVolatile: first.DroppedVolatile,
			DroppedSlow: first.DroppedSlow, Coverage: first.Coverage, Deduplicated: true,
		}
	})
}

func (e *emitService) EmitWithAck(ctx context.Context, r *foyerv1.EmitWithAckRequest) (*foyerv1.EmitWithAckResponse, error) {
	s := e.s
	emit, err := emitOf(r.GetTarget(), r.GetPayload(), r.GetOptions(), r.GetRequestId(), s.limits.MaxPayloadBytes)
	if err != nil {
		return nil, err
	}
	wait, err := ackWait(ctx, r.GetTimeout())
	if err != nil {
		return nil, err
	}
	key := requestKey{callerOf(ctx), "EmitWithAck", r.GetRequestId()}
	return once(ctx, s.dedup, key, sent(r), func() (*foyerv1.EmitWithAckResponse, error) {
		if r.GetRequestId() != "" {
			// Its response is also that of a repeat, which may come because this caller's connection broke: the wait goes on
			// without the caller. It ends all the same, at wait.
			var cancel context.CancelFunc
			ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
			defer cancel()
			defer context.AfterFunc(s.stopping, cancel)()
		}
		result, err := s.node.EmitWithAck(ctx, emit, wait, maxAckRecipients)
		if err != nil {
			return nil, err
		}
		return ackResponse(result, wait), nil
	}, func(first *foyerv1.EmitWithAckResponse) *foyerv1.EmitWithAckResponse {
		return &foyerv1.EmitWithAckResponse{Outcomes: first.Outcomes, Summary: first.Summary, Deduplicated: true}
	})
}

// sending is what requests with a request_id have in common.
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
