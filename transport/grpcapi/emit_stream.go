package grpcapi

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

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
	// resultBytes has room for the result of an emit that was sent.
	resultBytes = 32
)

// EmitStream receives items on one goroutine, applies them on a second and sends the results on a third. While a
// fan-out is written, what comes meanwhile gathers and goes as one batch: eight messages of one emit each to a thousand
// sockets are a thousand writes then and not eight thousand. Results of many small messages go out as one, too.
func (e *emitService) EmitStream(stream grpc.BidiStreamingServer[foyerv1.EmitStreamRequest, foyerv1.EmitStreamResponse]) error {
	s := e.s
	ctx, cancel := context.WithCancel(stream.Context())
	applying, stop := context.WithCancel(ctx)
	p := &pipeline{
		applying: applying, stop: stop,
		s: s, stream: stream, ctx: ctx, arrived: make(chan struct{}, 1), came: make(chan struct{}, 1), freed: make(chan struct{}, 1),
		in: emitStreamRequest{maxBytes: s.limits.MaxPayloadBytes, maxMessage: s.maxRequest(), tracer: s.limits.Tracer},
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
	s        *Server
	stream   grpc.BidiStreamingServer[foyerv1.EmitStreamRequest, foyerv1.EmitStreamResponse]
	ctx      context.Context    // of the stream's life
	applying context.Context    // of what is being applied, which may wait for room at a link
	stop     context.CancelFunc // of applying
	arrived  chan struct{}      // 1: items wait, or no more will come
	came     chan struct{}      // 1: results wait, or all items are applied
	freed    chan struct{}      // 1: items were applied, or results sent

	in emitStreamRequest // owned by the goroutine that receives

	gate sync.Mutex // held while items are applied
	over bool       // nothing is applied any more; guarded by gate

	mu sync.Mutex
	// Guarded by mu.
	gathered gathered // to be applied
	bytes    int      // of what is gathered and of what is being applied
	last     bool     // no more are received
	lastErr  error    // why
	results  []byte   // to be sent, encoded one behind the other
	fresh    int      // how many those are
	waiting  int      // how many results wait, with those that are being sent or will be
	ended    bool     // nothing more is applied
	err      error    // why
}

// gathered are items in their order, of any number of messages, and their emits.
type gathered struct {
	items []emitItem
	emits []service.Emit
	bytes int
}

// receive takes messages, checks their items and has them applied in their order.
func (p *pipeline) receive() {
	for {
		err := p.stream.RecvMsg(&p.in)
		if errors.Is(err, io.EOF) {
			p.noMore(nil)
			return
		}
		if err == nil {
			err = p.accept(&p.in)
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
func (p *pipeline) accept(in *emitStreamRequest) error {
	defer in.reset()
	n := max(len(in.items), len(in.message.GetItems()))
	switch {
	case n == 0:
		return nil
	case n > maxStreamItems:
		return invalidField("items", "has %d items, at most %d go in one message", n, maxStreamItems)
	}
	for _, item := range in.message.GetItems() {
		in.add(item)
	}
	bytes := in.bytes()
	if !p.reserve(n, bytes) {
		return errOver
	}
	p.mu.Lock()
	g := &p.gathered
	g.items, g.emits, g.bytes = append(g.items, in.items...), append(g.emits, in.emits...), g.bytes+bytes
	p.mu.Unlock()
	signal(p.arrived)
	return nil
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
	var g gathered
	for {
		clear(g.items) // an idle stream keeps no packets
		clear(g.emits)
		p.mu.Lock()
		g, p.gathered = p.gathered, gathered{items: g.items[:0], emits: g.emits[:0]}
		last, err := p.last, p.lastErr
		p.mu.Unlock()
		switch {
		case len(g.items) > 0:
			if !p.applyTogether(&g) {
				return
			}
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
func (p *pipeline) applyTogether(g *gathered) bool {
	p.gate.Lock()
	defer p.gate.Unlock()
	if p.over {
		return false
	}
	results := p.run(make([]byte, 0, len(g.items)*resultBytes), g.items, g.emits)
	p.mu.Lock()
	if p.fresh == 0 {
		p.results = results
	} else {
		p.results = append(p.results, results...)
	}
	p.fresh += len(g.items)
	p.bytes -= g.bytes
	p.mu.Unlock()
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

// run emits items and appends a result for each. Those that follow each other pass together; one with a request_id goes
// alone, since only then it is known whether it is sent at all.
func (p *pipeline) run(results []byte, items []emitItem, emits []service.Emit) []byte {
	for len(items) > 0 {
		if items[0].request != nil {
			results = p.once(results, &items[0])
			items = items[1:]
			continue
		}
		n, ready := 0, 0
		for ; n < len(items) && items[n].request == nil; n++ {
			if items[n].err == nil {
				ready++
			}
		}
		results = p.batch(results, items[:n], emits[:ready])
		items, emits = items[n:], emits[ready:]
	}
	return results
}

// once emits what may be a repeat.
func (p *pipeline) once(results []byte, item *emitItem) []byte {
	resp, err := p.s.emit(p.applying, item.request, true)
	if err != nil {
		return p.appendError(results, item.id, within(item.path(), err))
	}
	return p.appendResult(results, &foyerv1.EmitStreamResult{Id: item.id, Result: &foyerv1.EmitStreamResult_Ok{Ok: resp}})
}

// batch emits the emits of items together.
func (p *pipeline) batch(results []byte, items []emitItem, emits []service.Emit) []byte {
	var receipts []service.Receipt
	if len(emits) > 0 {
		receipts = p.s.node.EmitBatch(p.applying, emits)
	}
	for i := range items {
		err := items[i].err
		if err == nil {
			if err = receipts[0].Err; err == nil {
				results = appendReceipt(results, items[i].id, &receipts[0])
			} else {
				err = within(items[i].path(), err)
			}
			receipts = receipts[1:]
		}
		if err != nil {
			results = p.appendError(results, items[i].id, err)
		}
	}
	return results
}

// appendError appends the result of an item that was not sent.
func (p *pipeline) appendError(results []byte, id uint64, err error) []byte {
	st := toStatus(err)
	if st.Code() == codes.Internal {
		p.s.logInternal(emitStreamMethod, err, nil)
	}
	return p.appendResult(results, &foyerv1.EmitStreamResult{Id: id, Result: &foyerv1.EmitStreamResult_Error{Error: st.Proto()}})
}

// appendResult appends any result, as a field of an EmitStreamResponse.
func (p *pipeline) appendResult(results []byte, r *foyerv1.EmitStreamResult) []byte {
	m, err := proto.Marshal(r)
	if err != nil { // a text in it is not UTF-8; that of the internal error is
		return p.appendError(results, r.GetId(), internalError(err))
	}
	return appendMessage(results, 1, m)
}

// send sends results as they come, all that wait in one message, until the stream is over.
func (p *pipeline) send() error {
	draining := p.s.draining.Done()
	for {
		p.mu.Lock()
		batch, n := p.results, p.fresh
		p.results, p.fresh = nil, 0
		ended, err := p.ended, p.err
		p.mu.Unlock()
		if n > 0 {
			if err := p.stream.SendMsg(newEncoded(batch)); err != nil {
				return err
			}
			p.mu.Lock()
			p.waiting -= n
			p.mu.Unlock()
			signal(p.freed)
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
	p.stop()
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
