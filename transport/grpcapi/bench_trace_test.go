//go:build unix

package grpcapi

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// counting is where spans go.
type counting struct{ spans atomic.Int64 }

func (*counting) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (c *counting) OnEnd(sdktrace.ReadOnlySpan)                   { c.spans.Add(1) }
func (*counting) Shutdown(context.Context) error                  { return nil }
func (*counting) ForceFlush(context.Context) error                { return nil }

// BenchmarkTraced is what traces cost: an emit of 100 bytes by a call, and 64 by a message of a stream, to a room of
// one, while nothing is traced, and with shares that begin a trace. Sending them to a collector is not in it. The CPU
// is that of the server and of its client: on a machine that does other things too, it says more than the time.
func BenchmarkTraced(b *testing.B) {
	spans := &counting{}
	tracer := func(ratio float64) *service.Tracer {
		return service.NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("foyer"), ratio)
	}
	for _, traced := range []struct {
		name   string
		tracer *service.Tracer
	}{{"off", nil}, {"0.01", tracer(0.01)}, {"1", tracer(1)}} {
		b.Run("call/"+traced.name, func(b *testing.B) {
			n, client := loopbackClientOf(b, service.Config{Tracer: traced.tracer})
			connectSink(b, n, "room")
			r := &foyerv1.EmitRequest{Target: toRoom("room"), Payload: jsonPayload("message", `["`+strings.Repeat("x", 85)+`"]`)}
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				if _, err := client.emit.Emit(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-before)/1e3/float64(b.N), "cpu-µs/emit")
		})
		b.Run("stream/"+traced.name, func(b *testing.B) {
			n, client := loopbackClientOf(b, service.Config{Tracer: traced.tracer})
			m := &foyerv1.EmitStreamRequest{}
			for i := range 64 {
				connectSink(b, n, fmt.Sprint("room", i))
				m.Items = append(m.Items, &foyerv1.EmitStreamItem{Emit: &foyerv1.EmitRequest{
					Target: toRoom(fmt.Sprint("room", i)), Payload: jsonPayload("message", `["`+strings.Repeat("x", 85)+`"]`),
				}})
			}
			stream, err := client.emit.EmitStream(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				if err := stream.Send(m); err != nil {
					b.Fatal(err)
				}
				for results := 0; results < len(m.GetItems()); {
					got, err := stream.Recv()
					if err != nil {
						b.Fatal(err)
					}
					results += len(got.GetResults())
				}
			}
			if traced.name == "1" && spans.spans.Load() == 0 {
				b.Error("nothing is traced")
			}
			b.ReportMetric(float64(cpuTime(b)-before)/1e3/float64(b.N)/64, "cpu-µs/emit")
		})
	}
}
