package grpcapi

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

const (
	// maxAnswerBytes is how much of answers an EmitWithAckResponse has: with all that stands around them it stays below
	// the 4 MiB that clients take by default.
	maxAnswerBytes = 3 << 20
	// outcomeBytes is what an AckOutcome weighs beside its answer, at the most: ids, latency, tags.
	outcomeBytes = 128
)

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
	emit.Trace = service.TraceOf(ctx)
	key := requestKey{callerOf(ctx), "EmitWithAck", r.GetRequestId()}
	return outliving(ctx, s, key, sent(r), func() {}, func(ctx context.Context) (*foyerv1.EmitWithAckResponse, error) {
		return s.emitWithAck(ctx, emit, wait)
	}, func(first *foyerv1.EmitWithAckResponse) *foyerv1.EmitWithAckResponse {
		return &foyerv1.EmitWithAckResponse{Outcomes: first.Outcomes, Summary: first.Summary, Deduplicated: true}
	})
}

// emitWithAck takes the answers as they come, so that no more of them is held than is answered with.
func (s *Server) emitWithAck(ctx context.Context, emit service.Emit, wait time.Duration) (*foyerv1.EmitWithAckResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	acks, matched, err := s.node.CollectAcks(ctx, emit, maxAckRecipients)
	if err != nil {
		return nil, err
	}
	defer acks.Finish()
	resp := &foyerv1.EmitWithAckResponse{Outcomes: make([]*foyerv1.AckOutcome, 0, matched)}
	counts, bytes := tally{matched: matched}, 0
	add := func(outcomes []service.AckOutcome) {
		for i := range outcomes {
			counts.count(&outcomes[i])
			if size := answerBytes(&outcomes[i]); size > 0 {
				if bytes+size > maxAnswerBytes {
					continue // counted, and told by number only
				}
				bytes += size
			}
			counts.told++
			resp.Outcomes = append(resp.Outcomes, outcomeMessage(&outcomes[i]))
		}
	}
	for {
		outcomes, err := acks.Next(ctx)
		add(outcomes)
		if err != nil { // all are known, or the wait is over: whatever ended it, the event was sent
			add(acks.Finish())
			resp.Summary = counts.summary(wait, acks.Coverage())
			return resp, nil
		}
	}
}

// CollectAcks ends with the summary: when everybody's outcome is known or the wait is over.
func (e *emitService) CollectAcks(r *foyerv1.CollectAcksRequest, stream grpc.ServerStreamingServer[foyerv1.CollectAcksResponse]) error {
	s := e.s
	emit, err := emitOf(r.GetTarget(), r.GetPayload(), r.GetOptions(), "", s.limits.MaxPayloadBytes)
	if err != nil {
		return err
	}
	wait, err := ackWait(stream.Context(), r.GetTimeout())
	if err != nil {
		return err
	}
	emit.Trace = service.TraceOf(stream.Context())
	waiting, cancel := context.WithTimeout(stream.Context(), wait)
	defer cancel()
	acks, matched, err := s.node.CollectAcks(waiting, emit, 0)
	if err != nil {
		return err
	}
	p := newPace()
	defer p.stop()
	c := &collection{stream: stream, pace: p, acks: acks, waiting: waiting, wait: wait, counts: tally{matched: matched}}
	err = s.outlet(c.send, p.stuck, service.ErrTooSlow)
	if errors.Is(err, service.ErrTooSlow) {
		s.gate.refuse(refusedSlow, hostOfCall(stream.Context()), told("CollectAcks", err))
	}
	return err
}

// collection is one CollectAcks on its way out. Owned by its sender. What has come and is not sent yet waits in acks,
// which bounds it.
type collection struct {
	stream  grpc.ServerStreamingServer[foyerv1.CollectAcksResponse]
	pace    *pace
	acks    acks
	waiting context.Context // of the wait for answers
	wait    time.Duration
	counts  tally
}

func (c *collection) send() error {
	defer c.acks.Finish() // here and not with the RPC: an outlet that gave up leaves this goroutine behind for a moment
	ctx := c.stream.Context()
	started := &foyerv1.CollectAcksStarted{Matched: count(c.counts.matched), Coverage: coverageMessage(c.acks.Coverage())}
	if err := c.step(&foyerv1.CollectAcksResponse{Message: &foyerv1.CollectAcksResponse_Started{Started: started}}); err != nil {
		return err
	}
	for {
		outcomes, err := c.acks.Next(c.waiting)
		if sendErr := c.outcomes(outcomes); sendErr != nil {
			return sendErr
		}
		if errors.Is(err, service.ErrTooSlow) {
			return err
		}
		if err != nil { // all are known, or the wait is over
			break
		}
	}
	if ctx.Err() != nil { // the caller has gone
		return ctx.Err()
	}
	if err := c.outcomes(c.acks.Finish()); err != nil {
		return err
	}
	return c.step(&foyerv1.CollectAcksResponse{Message: &foyerv1.CollectAcksResponse_Summary{Summary: c.counts.summary(c.wait, c.acks.Coverage())}})
}

func (c *collection) outcomes(list []service.AckOutcome) error {
	for i := range list {
		c.counts.told++
		c.counts.count(&list[i])
		err := c.step(&foyerv1.CollectAcksResponse{Message: &foyerv1.CollectAcksResponse_Outcome{Outcome: outcomeMessage(&list[i])}})
		if err != nil {
			return err
		}
		list[i] = service.AckOutcome{} // answers are large, and the last one may be long in going out
	}
	return nil
}

func (c *collection) step(m *foyerv1.CollectAcksResponse) error {
	return c.pace.send(func() error { return c.stream.Send(m) })
}

// tally counts outcomes for a summary.
type tally struct {
	matched int
	told    int // outcomes that the caller gets
	acked   int
	failed  [len(ackFailures)]int32
}

func (t *tally) count(o *service.AckOutcome) {
	if o.Failure == service.AckOK {
		t.acked++
	} else {
		t.failed[o.Failure]++
	}
}

func (t *tally) summary(wait time.Duration, coverage service.Coverage) *foyerv1.AckSummary {
	s := &foyerv1.AckSummary{
		Matched: count(t.matched), Acked: count(t.acked), Unattributed: count(t.matched - t.told),
		Coverage: coverageMessage(coverage), TimeoutUsed: durationpb.New(wait),
	}
	for why, n := range t.failed {
		if n > 0 {
			s.Failures = append(s.Failures, &foyerv1.AckFailureCount{Failure: ackFailures[why], Count: n})
		}
	}
	return s
}

// answerBytes is the size of an answer as a message; 0: there is none.
func answerBytes(o *service.AckOutcome) int {
	if o.Failure != service.AckOK {
		return 0
	}
	n := outcomeBytes + len(o.Payload)
	for _, a := range o.Attachments {
		n += len(a) + 6
	}
	return n
}

func outcomeMessage(o *service.AckOutcome) *foyerv1.AckOutcome {
	m := &foyerv1.AckOutcome{SocketId: string(o.Socket), NodeId: string(o.Node), Latency: durationpb.New(o.Latency)}
	if o.Failure == service.AckOK {
		m.Outcome = &foyerv1.AckOutcome_Args{Args: argsMessageOf(o.Payload, o.Attachments)}
	} else {
		m.Outcome = &foyerv1.AckOutcome_Failure{Failure: ackFailures[o.Failure]}
	}
	return m
}
