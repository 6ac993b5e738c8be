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
	// What may wait for one page. A line that is larger goes alone.
	maxLines     = 10_000
	maxLineBytes = 4 << 20
	// What goes to the hall at once.
	batchLines = 256
	batchBytes = 1 << 20
)

// ReasonSlow is the reason for which the page of an operator is closed: it took less than it was told. It comes back by
// itself, and begins anew.
const ReasonSlow = "ui_operator_slow"

var (
	errSlow = errors.New("the page takes less than it is told")
	errLeft = errors.New("the page has left")
)

// operator is a page that is in, or about to be. The panel owns it; what has a goroutine of its own is said.
type operator struct {
	account
	address string
	session string       // to be told once it is connected; "": it has shown one
	object  socketObject // without an id: it is not connected yet
	lines   outbox
	end     context.CancelCauseFunc // of writing; nil: it is not connected yet
	// commands are carried out by a goroutine, until it is closed and those in it are done.
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

// attend tells a page what waits for it, and closes one that does not take it: nobody else waits for that.
func (p *panel) attend(ctx context.Context, op *operator, id string) {
	err := p.write(ctx, op, id)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	switch {
	case p.ctx.Err() != nil, errors.Is(err, errLeft):
		return
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

// write sends what is in a page's outbox, a batch at a time, and waits until the hall has it in the page's queue.
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

// outbox is what a page is to be told still. Who puts a line into it never waits. Safe for concurrent use.
type outbox struct {
	some chan struct{} // 1: there are lines

	mu sync.Mutex
	// guarded by mu
	lines []line
	bytes int
	over  bool // there was too much: nothing is kept any more
}

// put adds a line; false: there is no room for it, and nothing is kept from now on. It says so once.
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

// take removes the first lines, as many as go to the hall at once.
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
