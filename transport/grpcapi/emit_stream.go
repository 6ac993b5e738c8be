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
	// maxStreamBytes is how much of items may wait to be applied before the stream is not read any further. One message is
	// taken whatever its size.
	maxStreamBytes = 1 << 20
)

// EmitStream receives items on one goroutine, applies them on a second and sends the results on a third. While a fan-out is
// written, what comes meanwhile gathers and goes as one batch: eight messages of one emit each to a thousand sockets are a
// thousand writes then and not eight thousand. Results of many small messages go out as one, too.
func (e *emitService) EmitStream(stream grpc.BidiStreamingServer[foyerv1.EmitStreamRequest, foyerv1.EmitStreamResponse]) error {
	s := e.s
	ctx, cancel := context.WithCancel(stream.Context())
	p := &pipeline{
		s: s, stream: stream, ctx: ctx, arrived: make(chan struct{}, 1), came: make(chan struct{}, 1), freed: make(chan struct{}, 1),
	}
	defer func() {
		cancel()
		p.finish()
	}()
	s.streams.Go(p.receive)
	s.streams.Go(p.apply)
	return s.outlet(p.send, s.draining.Done(), service.ErrDraining)
}

// pipeline is one EmitStream.
type pipeline struct {
	// Set before start.
	s       *Server
	stream  grpc.BidiStreamingServer[foyerv1.EmitStreamRequest, foyerv1.EmitStreamResponse]
	ctx     context.Context // of the stream's life
	arrived chan struct{}   // 1: items wait, or no more will come
	came    chan struct{}   // 1: results wait, or all items are applied
	freed   chan struct{}   // 1: items were applied, or results sent

	gate sync.Mutex // held while items are applied
	over bool       // nothing is applied any more; guarded by gate

	mu      sync.Mutex
	items   []streamItem                // to be applied; guarded by mu
	bytes   int                         // of them, with those that are being applied; guarded by mu
	last    bool                        // no more are received; guarded by mu
	lastErr error                       // why; guarded by mu
	results []*foyerv1.EmitStreamResult // to be sent; guarded by mu
	waiting int                         // results, with those that are being sent or will be; guarded by mu
	ended   bool                        // nothing more is applied; guarded by mu
	err     error                       // why; guarded by mu

	// Owned by who applies.
	emits   []service.Emit              // of the batch that is made up
	places  []int                       // of their items
	outcome []*foyerv1.EmitStreamResult // of the items that were taken together, while it is made up
}

// streamItem is an item that was checked: an emit, or one with a request_id as it came, or what is wrong with it.
type streamItem struct {
	id      uint64
	emit    service.Emit
	request *foyerv1.EmitRequest
	err     error
	bytes   int
}

// receive takes messages, checks their items and has them applied in their order.
func (p *pipeline) receive() {
	defer func() {
		if v := recover(); v != nil {
			p.noMore(panicked(v))
		}
	}()
	for {
		m, err := p.stream.Recv()
		if errors.Is(err, io.EOF) {
			p.noMore(nil)
			return
		}
		if err == nil {
			err = p.accept(m.GetItems())
		}
		switch {
		case errors.Is(err, errOver): // nobody is there to be told, or has been
			return
		case err != nil:
			p.noMore(err)
			return
		}
	}
}

// accept queues the items of one message. An error ends the stream.
func (p *pipeline) accept(list []*foyerv1.EmitStreamItem) error {
	switch n := len(list); {
	case n == 0:
		return nil
	case n > maxStreamItems:
		return invalidField("items", "%d items, at most %d in one message", n, maxStreamItems)
	}
	items, bytes := make([]streamItem, len(list)), 0
	for i, it := range list {
		items[i] = p.check(it)
		bytes += items[i].bytes
	}
	if !p.reserve(len(items), bytes) {
		return errOver
	}
	p.mu.Lock()
	p.items = append(p.items, items...)
	p.mu.Unlock()
	signal(p.arrived)
	return nil
}

// check says what an item is.
func (p *pipeline) check(it *foyerv1.EmitStreamItem) (item streamItem) {
	item.id = it.GetId()
	r := it.GetEmit()
	if r == nil {
		item.err = invalidField("emit", "is required")
		return item
	}
	if item.emit, item.err = emitRequest(r, p.s.limits.MaxPayloadBytes); item.err != nil {
		return item
	}
	if r.GetRequestId() != "" {
		item.request = r
	}
	item.bytes = item.emit.Packet.Size()
	return item
}

// reserve waits until n more results and so many bytes of items may wait; false: the stream is over.
func (p *pipeline) reserve(n, bytes int) bool {
	for {
		p.mu.Lock()
		ok := p.waiting+n <= maxStreamResults && (p.bytes == 0 || p.bytes+bytes <= maxStreamBytes)
		if ok {
			p.waiting += n
			p.bytes += bytes
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

// noMore ends the stream with err once all that was received is applied.
func (p *pipeline) noMore(err error) {
	p.mu.Lock()
	p.last, p.lastErr = true, err
	p.mu.Unlock()
	signal(p.arrived)
}

// apply lets items take effect, all that have gathered at a time.
func (p *pipeline) apply() {
	defer func() {
		if v := recover(); v != nil {
			p.end(panicked(v))
		}
	}()
	var items []streamItem
	for {
		p.mu.Lock()
		items, p.items = p.items, items[:0]
		last, err := p.last, p.lastErr
		p.mu.Unlock()
		switch {
		case len(items) > 0:
			if !p.applyTogether(items) {
				return
			}
			clear(items) // an idle stream keeps no packets
			continue
		case last:
			p.end(err)
			return
		}
		select {
		case <-p.arrived:
		case <-p.ctx.Done():
			return
		}
	}
}

// applyTogether applies items and hands over their results; false: nothing is applied any more.
func (p *pipeline) applyTogether(items []streamItem) bool {
	p.gate.Lock()
	defer p.gate.Unlock()
	if p.over {
		return false
	}
	results := p.run(items)
	p.mu.Lock()
	p.results = append(p.results, results...)
	for i := range items {
		p.bytes -= items[i].bytes
	}
	p.mu.Unlock()
	clear(results)
	signal(p.came)
	signal(p.freed)
	return true
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

// streamOK is the result of an emit that was sent, in one piece.
type streamOK struct {
	result  foyerv1.EmitStreamResult
	ok      foyerv1.EmitStreamResult_Ok
	receipt receiptMessage
}

// run emits items and returns a result for each. Those that follow each other pass together; one with a request_id goes
// alone, since only then it is known whether it is sent at all.
func (p *pipeline) run(items []streamItem) []*foyerv1.EmitStreamResult {
	results := p.outcome[:0]
	for i := range items {
		results = append(results, nil)
		switch it := &items[i]; {
		case it.err != nil:
			results[i] = p.failed(it.id, it.err)
		case it.request != nil:
			p.flush(items, results)
			resp, err := p.s.emit(p.ctx, it.request)
			if err != nil {
				results[i] = p.failed(it.id, err)
			} else {
				results[i] = &foyerv1.EmitStreamResult{Id: it.id, Result: &foyerv1.EmitStreamResult_Ok{Ok: resp}}
			}
		default:
			p.emits, p.places = append(p.emits, it.emit), append(p.places, i)
		}
	}
	p.flush(items, results)
	p.outcome = results
	return results
}

// flush sends the batch that is made up.
func (p *pipeline) flush(items []streamItem, results []*foyerv1.EmitStreamResult) {
	if len(p.emits) == 0 {
		return
	}
	receipts := p.s.node.EmitBatch(p.emits)
	sent := make([]streamOK, len(receipts))
	for j := range receipts {
		i := p.places[j]
		if err := receipts[j].Err; err != nil {
			results[i] = p.failed(items[i].id, err)
			continue
		}
		m := &sent[j]
		m.ok.Ok = m.receipt.fill(&receipts[j])
		m.result.Id, m.result.Result = items[i].id, &m.ok
		results[i] = &m.result
	}
	clear(p.emits) // an idle stream keeps no packets
	p.emits, p.places = p.emits[:0], p.places[:0]
}

// failed is the result of an item that was not sent.
func (p *pipeline) failed(id uint64, err error) *foyerv1.EmitStreamResult {
	st := toStatus(err)
	if st.Code() == codes.Internal {
		p.s.logInternal(emitStreamMethod, err)
	}
	return &foyerv1.EmitStreamResult{Id: id, Result: &foyerv1.EmitStreamResult_Error{Error: st.Proto()}}
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
