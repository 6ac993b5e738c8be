package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Result is what a run found. Fields that a scenario has nothing to say about are zero and left out of its JSON.
type Result struct {
	Scenario  string  `json:"scenario"`
	URL       string  `json:"url"`
	Transport string  `json:"transport"`
	Clients   int     `json:"clients"`
	Rooms     int     `json:"rooms,omitempty"`
	Window    int     `json:"window,omitempty"`
	Rate      float64 `json:"rate,omitempty"` // emits a second that were asked for
	Bytes     int     `json:"bytes,omitempty"`
	Seconds   float64 `json:"seconds"` // measured

	Deliveries int64   `json:"deliveries"` // or connects, echoes, joins and leaves: the scenario's operations
	PerSecond  float64 `json:"per_second"`
	Lost       int64   `json:"lost"`
	Duplicated int64   `json:"duplicated"`

	ServerCPUMicros float64 `json:"server_cpu_us_per_op"` // user and system
	ServerCPU       float64 `json:"server_cpu_seconds"`
	ServerRSS       int64   `json:"server_rss_bytes"` // at the end

	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`

	// Of deliveries to clients at other servers than the one that was asked for the emits, when there are some.
	FarP50 float64 `json:"far_p50_ms,omitempty"`
	FarP99 float64 `json:"far_p99_ms,omitempty"`

	RSSPerSession     *float64 `json:"rss_bytes_per_session,omitempty"` // idle, when the server's process is known
	ConnectsPerSecond float64  `json:"connects_per_second,omitempty"`   // connect and idle
}

// Err says whether the server kept its word.
func (r *Result) Err() error {
	if r.Lost+r.Duplicated > 0 {
		return fmt.Errorf("%d messages were lost and %d came twice: %w", r.Lost, r.Duplicated, ErrLost)
	}
	return nil
}

// ErrLost is the error of a run whose messages did not all arrive once.
var ErrLost = errors.New("not delivered exactly once")

// took notes what was counted in a time, and what the server used in it.
func (r *Result) took(t *tally, d time.Duration, before, after usage) {
	cpu := after.cpu - before.cpu
	r.Deliveries, r.Seconds, r.ServerCPU, r.ServerRSS = t.total(), d.Seconds(), cpu.Seconds(), after.rss
	if r.Deliveries > 0 {
		r.PerSecond = float64(r.Deliveries) / d.Seconds()
		r.ServerCPUMicros = float64(cpu.Microseconds()) / float64(r.Deliveries)
	}
	h := t.latencies()
	r.P50, r.P99, r.Max = ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(99)), ms(h.Max())
}

// tookFar notes the latencies at the other servers.
func (r *Result) tookFar(t *tally) {
	h := t.latencies()
	r.FarP50, r.FarP99 = ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(99))
}

func ms(micros int64) float64 { return float64(micros) / 1000 }

// WriteJSON writes the result as one object on one line.
func (r *Result) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

// WriteTable writes the result for people.
func (r *Result) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("scenario", "%s, %d clients by %s%s", r.Scenario, r.Clients, r.Transport, r.how())
	row("operations", "%d in %.1f s, %.0f a second", r.Deliveries, r.Seconds, r.PerSecond)
	row("lost, duplicated", "%d, %d", r.Lost, r.Duplicated)
	if r.ServerRSS > 0 {
		row("server's CPU", "%.2f s, %.2f µs an operation", r.ServerCPU, r.ServerCPUMicros)
		row("server's memory", "%.1f MiB", float64(r.ServerRSS)/(1<<20))
	}
	if r.RSSPerSession != nil {
		row("a session's memory", "%.2f KiB", *r.RSSPerSession/1024)
	}
	if r.ConnectsPerSecond != 0 {
		row("connects", "%.0f a second", r.ConnectsPerSecond)
	}
	row("latency", "p50 %.3f ms, p99 %.3f ms, max %.3f ms", r.P50, r.P99, r.Max)
	if r.FarP99 > 0 {
		row("at other servers", "p50 %.3f ms, p99 %.3f ms", r.FarP50, r.FarP99)
	}
	return t.Flush()
}

func (r *Result) how() string {
	s := ""
	if r.Rooms > 0 {
		s += ", " + rooms(r.Rooms)
	}
	switch {
	case r.Rate > 0:
		s += fmt.Sprintf(", %g emits a second", r.Rate)
	case r.Window > 0:
		s += fmt.Sprintf(", %d in flight", r.Window)
	}
	if r.Bytes > 0 {
		s += fmt.Sprintf(", %d bytes", r.Bytes)
	}
	return s
}

func rooms(n int) string {
	if n == 1 {
		return "1 room"
	}
	return fmt.Sprintf("%d rooms", n)
}
