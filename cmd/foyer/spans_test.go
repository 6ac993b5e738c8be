package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/zap"
)

// exporter is a collector that is told about, and answers when it likes.
type exporter struct {
	got  int
	stop bool // it does not answer
	err  error
}

func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if e.stop {
		<-ctx.Done()
		return ctx.Err()
	}
	if e.err == nil {
		e.got += len(spans)
	}
	return e.err
}

func (*exporter) Shutdown(context.Context) error { return nil }

// TestSpansAreBounded: while the collector does not answer, nobody waits for it; what there is no room for is dropped
// and counted, as is what it did not take in time.
func TestSpansAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &exporter{stop: true}
		s := newSpans(e, zap.NewNop())
		span := tracetest.SpanStub{Name: "step"}.Snapshot()
		for range spansAtOnce {
			s.OnEnd(span)
		}
		synctest.Wait() // they are on their way
		began := time.Now()
		for range maxSpans + 10 {
			s.OnEnd(span)
		}
		if n := s.full.Load(); n != 10 || time.Since(began) != 0 {
			t.Errorf("%d were dropped after %v, want the 10 beyond the bound, at once", n, time.Since(began))
		}
		time.Sleep(exportWithin + time.Millisecond)
		synctest.Wait()
		if n := s.failed.Load(); n != spansAtOnce {
			t.Errorf("%d were not exported, want the %d of the first batch", n, spansAtOnce)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began = time.Now()
		_ = s.Shutdown(ctx)
		if took := time.Since(began); took != 3*time.Second || s.failed.Load() != spansAtOnce+maxSpans {
			t.Errorf("the end took %v, and %d were not exported, want all %d", took, s.failed.Load(), spansAtOnce+maxSpans)
		}
	})
}

// TestSpansAreFlushed: what waits goes after a while, and all of it at the end.
func TestSpansAreFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &exporter{}
		s := newSpans(e, zap.NewNop())
		span := tracetest.SpanStub{Name: "step"}.Snapshot()
		s.OnEnd(span)
		time.Sleep(spansEvery + time.Millisecond)
		synctest.Wait()
		if e.got != 1 {
			t.Errorf("%d have come after %v", e.got, spansEvery)
		}
		for range 2*spansAtOnce + 1 {
			s.OnEnd(span)
		}
		if err := s.Shutdown(t.Context()); err != nil || e.got != 2*spansAtOnce+2 {
			t.Errorf("%d have come at the end, %v", e.got, err)
		}
		e.err = errors.New("no")
		_ = s.Shutdown(t.Context()) // the second time does nothing
		if s.failed.Load() != 0 || s.full.Load() != 0 {
			t.Errorf("%d and %d were dropped", s.failed.Load(), s.full.Load())
		}
	})
}

func TestTraceSettings(t *testing.T) {
	for _, bad := range []struct{ flag, value, says string }{
		{"--trace-ratio", "1.1", "--trace-ratio: 1.1 is not from 0 to 1"},
		{"--trace-ratio", "NaN", "--trace-ratio: NaN is not from 0 to 1"},
		{"--trace-endpoint", "127.0.0.1:4317", "--trace-endpoint: this is no URL"},
		{"--trace-endpoint", "localhost:4317", `"localhost:4317" is not of the form http://HOST:PORT`},
		{"--trace-endpoint", "grpc://collector:4317", "is not of the form http://HOST:PORT"},
		{"--trace-endpoint", "http://me:secret@collector:4317", "OTEL_EXPORTER_OTLP_HEADERS"},
		{"--trace-endpoint", "http://me:secret@%zz", "this is no URL"},
	} {
		_, err := parse(t, bad.flag+"="+bad.value)
		if err == nil || !strings.Contains(err.Error(), bad.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s=%s: %v, want %q", bad.flag, bad.value, err, bad.says)
		}
	}
	for _, good := range []string{"http://127.0.0.1:4317", "https://collector.example:4317"} {
		if _, err := parse(t, "--trace-endpoint="+good, "--trace-ratio=0"); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}

// TestTracesPage: the command of docs/tracing.md is one that a node takes.
func TestTracesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/tracing.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(page)) {
		if args, ok := strings.CutPrefix(strings.TrimSpace(line), "bin/foyer serve "); ok {
			found++
			if s, err := parse(t, strings.Fields(args)...); err != nil || s.TraceEndpoint == "" {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	if found == 0 {
		t.Error("no command was found")
	}
}
