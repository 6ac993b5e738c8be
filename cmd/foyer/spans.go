package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
)

// The reasons for which spans are not sent.
const (
	reasonTraceQueue  = "trace_queue_full"
	reasonTraceExport = "trace_not_exported"
)

const (
	maxSpans    = 4096 // that wait to be sent, and those that are being sent
	spansAtOnce = 512
	spansEvery  = 2 * time.Second // how long a span waits at the most for others to go with it
)

// spans send spans to a collector: a sdktrace.SpanProcessor that never makes anybody wait. The SDK's own drops what is
// too much without a word; this one counts it.
type spans struct {
	exporter sdktrace.SpanExporter
	told     *zap.Logger

	full, failed atomic.Int64

	queue  chan sdktrace.ReadOnlySpan
	ending chan struct{} // closed by Shutdown
	end    sync.Once
	done   chan struct{}      // closed when nothing is sent any more
	ctx    context.Context    // of exports
	cancel context.CancelFunc // when Shutdown's time is over
}

// newSpans begins to send. Its goroutine ends with Shutdown.
func newSpans(exporter sdktrace.SpanExporter, told *zap.Logger) *spans {
	s := &spans{
		exporter: exporter, told: told, queue: make(chan sdktrace.ReadOnlySpan, maxSpans), ending: make(chan struct{}), done: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.run()
	return s
}

// OnStart implements sdktrace.SpanProcessor.
func (*spans) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor. It does not block.
func (s *spans) OnEnd(span sdktrace.ReadOnlySpan) {
	select {
	case s.queue <- span:
	default:
		s.full.Add(1)
	}
}

// ForceFlush implements sdktrace.SpanProcessor. Nobody needs it here.
func (*spans) ForceFlush(context.Context) error { return nil }

// Shutdown sends what is left, as long as ctx lasts.
func (s *spans) Shutdown(ctx context.Context) error {
	s.end.Do(func() { close(s.ending) })
	defer s.cancel()
	defer context.AfterFunc(ctx, s.cancel)()
	<-s.done                                               // soon after ctx has ended at the latest
	return s.exporter.Shutdown(context.WithoutCancel(ctx)) // nothing is under way that it could wait for
}

func (s *spans) run() {
	defer close(s.done)
	tick := time.NewTicker(spansEvery)
	defer tick.Stop()
	batch := make([]sdktrace.ReadOnlySpan, 0, spansAtOnce)
	for {
		var send bool
		select {
		case span := <-s.queue:
			batch = append(batch, span)
			send = len(batch) == spansAtOnce
		case <-tick.C:
			send = len(batch) > 0
		case <-s.ending:
			for more := true; more; {
				select {
				case span := <-s.queue:
					if batch = append(batch, span); len(batch) == spansAtOnce {
						batch = s.send(batch)
					}
				default:
					more = false
				}
			}
			s.send(batch)
			return
		}
		if send {
			batch = s.send(batch)
		}
	}
}

// send exports a batch and returns its space.
func (s *spans) send(batch []sdktrace.ReadOnlySpan) []sdktrace.ReadOnlySpan {
	if len(batch) == 0 {
		return batch
	}
	ctx, cancel := context.WithTimeout(s.ctx, exportWithin)
	defer cancel()
	if err := s.exporter.ExportSpans(ctx, batch); err != nil {
		s.failed.Add(int64(len(batch)))
		s.told.Warn("traces were not sent", zap.String("reason", reasonTraceExport), zap.String("detail", fmt.Sprintf("%d spans are dropped", len(batch))),
			zap.NamedError("err", err), zap.String("setting", "--trace-endpoint"))
	}
	clear(batch)
	return batch[:0]
}
