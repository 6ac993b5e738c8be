package service

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func recording(ratio float64) (*Tracer, *tracetest.SpanRecorder) {
	r := tracetest.NewSpanRecorder()
	return NewTracer(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r)).Tracer(""), ratio), r
}

const somebodys = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestParseTraceparent(t *testing.T) {
	tracer, _ := recording(1)
	for given, want := range map[string]struct{ recorded, said bool }{
		somebodys:                               {true, true},
		somebodys[:53] + "00":                   {false, true},
		somebodys[:53] + "02":                   {false, true},
		somebodys[:53] + "03":                   {true, true},
		"cc" + somebodys[2:] + "-what-comes":    {true, true},
		"cc" + somebodys[2:] + "what":           {},
		somebodys + "-more":                     {},
		"ff" + somebodys[2:]:                    {},
		"":                                      {},
		strings.ToUpper(somebodys):              {},
		somebodys[:53] + "0g":                   {},
		somebodys[:53] + "+1":                   {},
		strings.Replace(somebodys, "-", "_", 1): {},
		"00-" + strings.Repeat("0", 32) + somebodys[35:]:      {},
		somebodys[:36] + strings.Repeat("0", 16) + "-01":      {},
		"cc" + somebodys[2:] + "-" + strings.Repeat("x", 300): {},
	} {
		step, said := tracer.Parse(given)
		if (step != nil) != want.recorded || said != want.said {
			t.Errorf("%q is recorded: %t, and said: %t, want %v", given, step != nil, said, want)
		}
		if step != nil && step.Traceparent() != somebodys {
			t.Errorf("%q goes on as %q", given, step.Traceparent())
		}
		if step, said := (*Tracer)(nil).Parse(given); step != nil || said {
			t.Errorf("without a tracer %q is a step", given)
		}
	}
}

// TestTraceShare: of what nobody has decided about, about the share is recorded; of what belongs to a trace, all.
func TestTraceShare(t *testing.T) {
	for ratio, most := range map[float64][2]int{0: {0, 0}, 0.5: {300, 700}, 1: {1000, 1000}} {
		tracer, r := recording(ratio)
		for range 1000 {
			tracer.Begin(nil, 0, "root", time.Now()).End()
		}
		if n := len(r.Ended()); n < most[0] || n > most[1] {
			t.Errorf("of 1000 with a share of %v %d were recorded", ratio, n)
		}
		cause, _ := tracer.Parse(somebodys)
		tracer.Begin(cause, 0, "child", time.Now()).End()
		last := r.Ended()[len(r.Ended())-1]
		if last.Name() != "child" || last.Parent().TraceID().String() != somebodys[3:35] {
			t.Errorf("with a share of %v the step of a trace is %v", ratio, last)
		}
	}
}

// TestTraceOfWhatIsLost: the step of an event whose handler leaves ends, and says so; one that is not answered does not
// end.
func TestTraceOfWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracer, r := recording(1)
		n := newNode(t, Config{Tracer: tracer})
		h := attach(t, n, Registration{Namespaces: []string{"/"}})
		s, _ := connect(t, n, "/")
		s.emits("e")
		list, err := h.Next(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		e := list[len(list)-1]
		if e.Kind != NoticeEvent || e.Trace.Traceparent() == "" {
			t.Fatalf("%+v", e)
		}
		if n := len(r.Ended()); n != 0 {
			t.Errorf("%d steps have ended before the answer", n)
		}
		h.Detach()
		if all := r.Ended(); len(all) != 1 || all[0].Status().Description != "the handler has left" {
			t.Errorf("%v", all)
		}
	})
}

// TestTraceNotJoined: an emit that is part of a trace goes by itself, so that other nodes hear of its trace and of no
// other's.
func TestTraceNotJoined(t *testing.T) {
	tracer, r := recording(0)
	n := newNode(t, Config{Tracer: tracer})
	connect(t, n, "/")
	cause, _ := tracer.Parse(somebodys)
	e := Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e")}
	traced := e
	traced.Trace = cause
	emits := []Emit{e, e, traced, e}
	one := &turn{}
	var list []delivery
	for i := range emits {
		list = append(list, delivery{emit: &emits[i], turn: one})
	}
	wantEqual(t, "together", []int{alike(list), alike(list[2:])}, []int{2, 1})
	for _, r := range n.EmitBatch(t.Context(), emits) {
		wantEqual(t, "matched", r.Matched, 1)
	}
	wantEqual(t, "steps", len(r.Ended()), 1)
}
