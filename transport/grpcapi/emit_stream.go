package grpcapi

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

const (
	// maxStreamResults is how many results may wait to be sent before the stream is not read any further.
	maxStreamResults = 1024
	// maxStreamItems is how many emits one message has: their results must find room.
	maxStreamItems = maxStreamResults
)

// EmitStream applies what it receives on one goroutine and sends the results on another: while results travel, the next
// items are applied, and results of many small messages go out as one.
func (e *emitService) EmitStream(stream grpc.BidiStreamingServer[foyerv1.EmitStreamRequest, foyerv1.EmitStreamResponse]) error {
	s := e.s
	ctx, cancel := context.WithCancel(stream.Context())
	p := &pipeline{s: s, stream: stream, ctx: ctx, came: make(chan struct{}, 1), freed: make(chan struct{}, 1)}
	defer func() {
		cancel()
		p.finish()
	}()
	s.streams.Go(p.receive)
	return s.outlet(p.send, s.draining.Done(), service.ErrDraining)
}

// pipeline is one EmitStream.
type pipeline struct {
	// Set before start.
	s      *Server
	stream grpc.BidiStreamingServer[foyerv1.EmitStreamRequest, foyerv1.EmitStreamResponse]
	ctx    context.Context // of the stream's life
	came   chan struct{}   // 1: results wait, or the receiver has ended
	freed  chan struct{}   // 1: results were sent

	gate sync.Mutex // held while items are applied
	over bool       // nothing is applied any more; guarded by gate

	mu      sync.Mutex
	results []*foyerv1.EmitStreamResult // to be sent; guarded by mu
	waiting int                         // results, with those that are being sent; guarded by mu
	ended   bool                        // nothing more is received; guarded by mu
	err     error                       // why; guarded by mu

	// Owned by the receiver.
	emits   []service.Emit              // of the batch that is made up
	places  []int                       // of their items in the message
	outcome []*foyerv1.EmitStreamResult // of one message, while it is made up
}

// receive takes items and applies them in their order.
func (p *pipeline) receive() {
	defer func() {
		if v := recover(); v != nil {
			p.end(panicked(v))
		}
	}()
	for {
		m, err := p.stream.Recv()
		if errors.Is(err, io.EOF) {
			p.end(nil)
			return
		}
		if err == nil {
			err = p.apply(m.GetItems())
		}
		switch {
		case errors.Is(err, errOver): // nobody is there to be told, or has been
			return
		case err != nil:
			p.end(err)
			return
		}
	}
}

// end makes the sender end the stream with err, behind the results that wait. Only the first end counts.
func (p *pipeline) end(err error) {
	p.mu.Lock()
	if !p.ended {
		p.ended, p.err = true, err
	}
	p.mu.Unlock()
	signal(p.came)
}

// apply lets the items of one message take effect. An error ends the stream.
func (p *pipeline) apply(items []*foyerv1.EmitStreamItem) error {
	switch n := len(items); {
	case n == 0:
		return nil
	case n > maxStreamItems:
		return invalidField("items", "%d items, at most %d in one message", n, maxStreamItems)
	case !p.reserve(n):
		return errOver
	}
	p.gate.Lock()
	defer p.gate.Unlock()
	if p.over {
		return errOver
	}
	results := p.run(items)
	p.mu.Lock()
	p.results = append(p.results, results...)
	p.mu.Unlock()
	clear(results)
	signal(p.came)
	return nil
}

// reserve waits until n more results may wait; false: the stream is over.
func (p *pipeline) reserve(n int) bool {
	for {
		p.mu.Lock()
		ok := p.waiting+n <= maxStreamResults
		if ok {
			p.waiting += n
		}
		p.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-p.freed:
		case <-p.ctx.Done():
			return false
		}
	}
}

// streamOK is the result of an emit that was sent, in one piece.
type streamOK struct {
	result  foyerv1.EmitStreamResult
	ok      foyerv1.EmitStreamResult_Ok
	receipt receiptMessage
}

// run emits items and returns a result for each. Those that follow each other pass together; one with a request_id goes
// alone, since only then it is known whether it is sent at all.
func (p *pipeline) run(items []*foyerv1.EmitStreamItem) []*foyerv1.EmitStreamResult {
	results := p.outcome[:0]
	for i, item := range items {
		results = append(results, nil)
		r := item.GetEmit()
		if r.GetRequestId() != "" {
			p.flush(items, results)
			resp, err := p.s.emit(p.ctx, r)
			if err != nil {
				results[i] = p.failed(item, err)
			} else {
				results[i] = &foyerv1.EmitStreamResult{Id: item.GetId(), Result: &foyerv1.EmitStreamResult_Ok{Ok: resp}}
			}
			continue
		}
		if r == nil {
			results[i] = p.failed(item, invalidField("emit", "is required"))
			continue
		}
		e, err := emitRequest(r, p.s.limits.MaxPayloadBytes)
		if err != nil {
			results[i] = p.failed(item, err)
			continue
		}
		p.emits, p.places = append(p.emits, e), append(p.places, i)
	}
	p.flush(items, results)
	p.outcome = results
	return results
}

// flush sends the batch that is made up.
func (p *pipeline) flush(items []*foyerv1.EmitStreamItem, results []*foyerv1.EmitStreamResult) {
	if len(p.emits) == 0 {
		return
	}
	receipts := p.s.node.EmitBatch(p.emits)
	sent := make([]streamOK, len(receipts))
	for j := range receipts {
		i := p.places[j]
		if err := receipts[j].Err; err != nil {
			results[i] = p.failed(items[i], err)
			continue
		}
		m := &sent[j]
		m.ok.Ok = m.receipt.fill(&receipts[j])
		m.result.Id, m.result.Result = items[i].GetId(), &m.ok
		results[i] = &m.result
	}
	clear(p.emits) // an idle stream keeps no packets
	p.emits, p.places = p.emits[:0], p.places[:0]
}

// failed is the result of an item that was not sent.
func (p *pipeline) failed(item *foyerv1.EmitStreamItem, err error) *foyerv1.EmitStreamResult {
	st := toStatus(err)
	if st.Code() == codes.Internal {
		p.s.logInternal(emitStreamMethod, err)
	}
	return &foyerv1.EmitStreamResult{Id: item.GetId(), Result: &foyerv1.EmitStreamResult_Error{Error: st.Proto()}}
}

// send sends results as they come, all that wait in one message, until the stream is over.
func (p *pipeline) send() error {
	var batch []*foyerv1.EmitStreamResult
	draining := p.s.draining.Done()
	for {
		p.mu.Lock()
		batch, p.results = p.results, batch[:0]
		ended, err := p.ended, p.err
		p.mu.Unlock()
		if len(batch) > 0 {
			if err := p.stream.Send(&foyerv1.EmitStreamResponse{Results: batch}); err != nil {
				return err
			}
			p.mu.Lock()
			p.waiting -= len(batch)
			p.mu.Unlock()
			signal(p.freed)
			clear(batch)
			continue
		}
		if ended {
			return err
		}
		select {
		case <-p.came:
		case <-p.ctx.Done():
			return p.ctx.Err()
		case <-draining:
			// What was applied by now is answered still, and nothing else is applied.
			p.finish()
			p.end(service.ErrDraining)
			draining = nil
		}
	}
}

// finish lets nothing of the stream take effect from now on. What is being applied ends soon.
func (p *pipeline) finish() {
	p.gate.Lock()
	defer p.gate.Unlock()
	p.over = true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
