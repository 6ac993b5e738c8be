package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Timed are metrics of what takes a while each time and is seldom enough to be noted as it happens. Its methods are
// safe for concurrent use, and do not block.
type Timed struct {
	upgrades  prometheus.Histogram
	calls     *prometheus.CounterVec
	callTimes *prometheus.HistogramVec
}

// The buckets, of a native histogram and of a classic one for a collector that does not take those.
const nativeFactor = 1.1

var seconds = prometheus.ExponentialBuckets(0.0001, 4, 10) // up to 26 s

// NewTimed returns a Timed that has noted nothing.
func NewTimed() *Timed {
	times := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{
			Name: "foyer_" + name, Help: help, Buckets: seconds,
			NativeHistogramBucketFactor: nativeFactor, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}
	}
	return &Timed{
		upgrades: prometheus.NewHistogram(times("upgrade_seconds", "How long upgrades from polling to websocket took, from the probe's request to the client's last word.")),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "foyer_grpc_calls_total", Help: "Calls of the API that have ended, by method and code. Methods that are not in it are one: other.",
		}, []string{"method", "code"}),
		callTimes: prometheus.NewHistogramVec(times("grpc_call_seconds", "How long calls took that have one answer."), []string{"method"}),
	}
}

// Upgraded notes an upgrade.
func (t *Timed) Upgraded(took time.Duration) { t.upgrades.Observe(took.Seconds()) }

// Called notes a call of the API. The words are of closed sets. Trace is the id of the trace that it is part of, for an
// exemplar; "": none.
func (t *Timed) Called(method, code string, took time.Duration, stream bool, trace string) {
	t.calls.WithLabelValues(method, code).Inc()
	if stream {
		return
	}
	times := t.callTimes.WithLabelValues(method)
	if o, ok := times.(prometheus.ExemplarObserver); ok && trace != "" {
		o.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": trace})
		return
	}
	times.Observe(took.Seconds())
}

// Describe implements prometheus.Collector.
func (t *Timed) Describe(to chan<- *prometheus.Desc) {
	t.upgrades.Describe(to)
	t.calls.Describe(to)
	t.callTimes.Describe(to)
}

// Collect implements prometheus.Collector.
func (t *Timed) Collect(to chan<- prometheus.Metric) {
	t.upgrades.Collect(to)
	t.calls.Collect(to)
	t.callTimes.Collect(to)
}
