package adminui

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	// Bounds of what waits for one page. A line that is larger than maxLineBytes may still wait when no other one does.
	maxLines     = 10_000
	maxLineBytes = 4 << 20
	// Bounds of one request to the hall.
	batchLines = 256
	batchBytes = 1 << 20
)

// ReasonSlow is the reason for which the page of an operator is closed: it reads more slowly than there is news for it.
// The page connects again by itself, and begins anew.
const ReasonSlow = "ui_operator_slow"

var (
	errSlow = errors.New("the page reads more slowly than there is news for it")
	errLeft = errors.New("the page has left")
	errGone = errors.New("its operator may not log in so any more")
)

// operator is a page that is connected, or accepted and about to connect. The goroutine of the panel owns it.
type operator struct {
	account
	address string
	session string       // sent to the page once it is connected; "": the page came with one
	object  socketObject // without an id until the page is connected
	lines   outbox
	end     context.CancelCauseFunc // ends attend; nil until the page is connected
	// A goroutine of the page carries these out, until the channel is closed and empty.
	commands chan command
}

func newOperator(who account, address string) *operator {
	return &operator{account: who, address: address, lines: outbox{some: make(chan struct{}, 1)}}
}

// start begins to serve a page that is connected.
func (p *panel) start(op *operator, s *foyerv1.Socket) {
	op.object, op.commands = objectOf(s), make(chan command, maxCommands)
	ctx, cancel := context.WithCancelCause(p.ctx)
	op.end = cancel
	p.helpers.Go(func() { p.carryOut(op.commands) })
	p.helpers.Go(func() { p.attend(ctx, op, s.GetId()) })
}

// stop ends what start has begun.
func (op *operator) stop() {
	if op.end != nil {
		op.end(errLeft)
		close(op.commands)
	}
}

// attend sends to a page what waits for it. When the page does not take that, attend closes it. It has a goroutine of
// its own, so that no other page waits meanwhile.
func (p *panel) attend(ctx context.Context, op *operator, id string) {
	err := p.write(ctx, op, id)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	switch {
	case p.ctx.Err() != nil, errors.Is(err, errLeft):
		return
	case errors.Is(err, errGone):
		p.cfg.Log.Info("the page of an operator is closed", zap.String("operator", op.name), zap.String("address", op.address),
			zap.String("detail", err.Error()))
	case errors.Is(err, errSlow):
		p.cfg.count(ReasonSlow)
		p.cfg.Told.Warn("the page of an operator is closed", zap.String("reason", ReasonSlow), zap.String("address", op.address),
			zap.String("operator", op.name), zap.String("detail", err.Error()))
	default:
		p.cfg.Told.Warn("the page of an operator cannot be told more, and begins anew", zap.NamedError("err", err))
	}
	within, cancel := context.WithTimeout(p.ctx, callTimeout)
	defer cancel()
	_, err = foyerv1.NewSocketServiceClient(p.cfg.Hall).DisconnectSockets(within, &foyerv1.DisconnectSocketsRequest{
		Target: &foyerv1.Target{Namespace: Namespace, Rooms: []string{id}}, Mode: foyerv1.DisconnectMode_DISCONNECT_MODE_TRANSPORT,
	})
	if err != nil && p.ctx.Err() == nil {
		p.cfg.Told.Warn("the page of an operator cannot be closed", zap.NamedError("err", err))
	}
}

// write sends what is in the outbox of a page, a batch at a time. It waits until the hall has put each batch into the
// queue of the page.
func (p *panel) write(ctx context.Context, op *operator, id string) error {
	stream, err := foyerv1.NewEmitServiceClient(p.cfg.Hall).EmitStream(ctx)
	if err != nil {
		return fmt.Errorf("open a stream to the hall: %w", err)
	}
	target := &foyerv1.Target{Namespace: Namespace, Rooms: []string{id}}
	for {
		batch := op.lines.take()
		if len(batch) == 0 {
			select {
			case <-op.lines.some:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		items := make([]*foyerv1.EmitStreamItem, len(batch))
		for i, l := range batch {
			items[i] = &foyerv1.EmitStreamItem{Emit: &foyerv1.EmitRequest{
				Target: target, Payload: &foyerv1.Payload{Event: l.event, Args: &foyerv1.Payload_Json{Json: l.args}},
			}}
		}
		if err := stream.Send(&foyerv1.EmitStreamRequest{Items: items}); err != nil {
			return fmt.Errorf("write to the hall: %w", err)
		}
		for done := 0; done < len(batch); {
			m, err := stream.Recv()
			if err != nil {
				return fmt.Errorf("hear from the hall: %w", err)
			}
			for _, r := range m.GetResults() {
				done++
				if r.GetOk().GetDroppedSlow() > 0 {
					return errSlow
				}
				if r.GetError() != nil {
					return fmt.Errorf("tell a page something: %s", r.GetError().GetMessage())
				}
			}
		}
	}
}

// line is an event for a page, with its arguments as JSON.
type line struct{ event, args string }

func (l line) bytes() int { return len(l.event) + len(l.args) }

// outbox holds the lines that are not sent to a page yet. Putting one in does not block. Safe for concurrent use.
type outbox struct {
	some chan struct{} // has an item when there may be lines

	mu sync.Mutex
	// guarded by mu
	lines []line
	bytes int
	over  bool // it was full once: it keeps nothing any more
}

// put adds a line. When there is no room, it returns false, once, and the outbox keeps nothing from then on.
func (o *outbox) put(l line) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.over:
		return true
	case len(o.lines) >= maxLines, len(o.lines) > 0 && o.bytes+l.bytes() > maxLineBytes:
		o.over, o.lines, o.bytes = true, nil, 0
		return false
	}
	o.lines = append(o.lines, l)
	o.bytes += l.bytes()
	select {
	case o.some <- struct{}{}:
	default:
	}
	return true
}

// take removes the first lines, as many as go to the hall in one request.
func (o *outbox) take() []line {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, bytes := 0, 0
	for n < min(len(o.lines), batchLines) && (n == 0 || bytes+o.lines[n].bytes() <= batchBytes) {
		bytes += o.lines[n].bytes()
		n++
	}
	batch := append([]line(nil), o.lines[:n]...)
	if o.lines = o.lines[n:]; len(o.lines) == 0 {
		o.lines = nil
	}
	o.bytes -= bytes
	return batch
}
