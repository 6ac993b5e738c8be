package metrics

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"foyer/service"
)

// node has something of everything.
func node() *Node {
	m := service.Measures{Emits: 3, Deliveries: 12, Watchers: 2, WatcherLag: 8, Handlers: service.HandlerMeasures{Attached: 1, HandlerLoad: service.HandlerLoad{Queued: 4}}}
	m.Limits = []service.Limit{{Name: "handlers", Used: 1, Most: 1000}}
	m.Classes[service.ClassPattern] = service.ClassMeasures{Namespaces: 1, Sockets: 7, Rooms: 2}
	m.FanOut[1] = service.Timing{Count: 3, Sum: 30 * time.Millisecond}
	// Two of a second to 1.4 s, one of 1.4 s to 2 s, one of 4 s to 5.6 s, one of too long.
	for half, n := range map[int]uint64{1: 2, 2: 1, 5: 1, 15: 1} {
		m.FanOut[1].Buckets[half-service.TimingFirst] = n
	}
	m.FanOut[1].Count, m.FanOut[1].Buckets[0] = 8, 3
	m.Acks[service.AckTimeout] = 5
	timed := NewTimed()
	timed.Upgraded(20 * time.Millisecond)
	timed.Called("foyer.v1.EmitService/Emit", "OK", time.Millisecond, false, "0af7651916cd43dd8448eb211c80319c")
	timed.Called("other", "Unimplemented", time.Millisecond, true, "")
	return &Node{
		Measure: func() service.Measures { return m },
		Info: func() service.Info {
			return service.Info{NodeID: "AAAA", Version: "v1", Budget: -1, Kept: map[string]int64{"rooms": 2}}
		},
		Edge: func() Edge {
			return Edge{Upgrades: 5, QueuedBytes: 70, WorstQueue: 40, Links: []Links{
				{"polling", 1, Traffic{2, 20}, Traffic{3, 30}}, {"websocket", 6, Traffic{4, 40}, Traffic{5, 50}},
			}}
		},
		Limits:  func() []service.Limit { return []service.Limit{{Name: "sessions", Used: 7, Most: 0}} },
		Timed:   timed,
		Dropped: func() map[string]int64 { return map[string]int64{"slow": 9, "volatile": 0} },
		Ready:   func() error { return errors.New("draining") },
		Cluster: func() Cluster {
			return Cluster{
				Nodes: []service.NodeStatus{{State: service.NodeUp}, {State: service.NodeUp}, {State: service.NodeLost}}, BusUp: true,
				In: Frames{10, 11, 12}, Out: Frames{13, 14, 15}, Resent: 1, Epochs: 2, Unheard: 300 * time.Millisecond,
				Passed: []Passed{{"request", 16}, {"stream", 17}, {"served", 18}}, PassedNow: 19,
			}
		},
		ClusterKind: "embedded",
	}
}

func TestHandler(t *testing.T) {
	h := Handler(node())
	for accept, lines := range map[string][]string{
		"text/plain": {
			`foyer_build_info{cluster="embedded",node="AAAA",version="v1"} 1`, `foyer_ready 0`, `foyer_sessions{transport="websocket"} 6`, `foyer_upgrades_total 5`,
			`foyer_sockets{class="pattern"} 7`, `foyer_sockets{class="configured"} 0`, `foyer_emits_total 3`, `foyer_fanout_seconds_bucket{recipients="2-9",le="7.62939453125e-06"} 3`,
			`foyer_fanout_seconds_bucket{recipients="2-9",le="1"} 3`, `foyer_fanout_seconds_bucket{recipients="2-9",le="2"} 6`, `foyer_fanout_seconds_bucket{recipients="2-9",le="128"} 7`,
			`foyer_fanout_seconds_bucket{recipients="2-9",le="+Inf"} 8`, `foyer_fanout_seconds_count{recipients="2-9"} 8`, `foyer_fanout_seconds_sum{recipients="2-9"} 0.03`,
			`foyer_packets_total{direction="in",transport="polling"} 2`, `foyer_packets_total{direction="out",transport="websocket"} 5`,
			`foyer_packet_bytes_total{direction="out",transport="polling"} 30`, `foyer_queue_bytes 70`, `foyer_queue_worst_bytes 40`, `foyer_watcher_lag_changes 8`,
			`foyer_limit{limit="handlers"} 1000`, `foyer_limit_used{limit="handlers"} 1`, `foyer_limit{limit="sessions"} 0`, `foyer_limit_used{limit="sessions"} 7`,
			`foyer_upgrade_seconds_bucket{le="0.0256"} 1`, `foyer_grpc_calls_total{code="OK",method="foyer.v1.EmitService/Emit"} 1`,
			`foyer_grpc_calls_total{code="Unimplemented",method="other"} 1`, `foyer_grpc_call_seconds_count{method="foyer.v1.EmitService/Emit"} 1`,
			`foyer_acks_total{outcome="unanswered"} 5`, `foyer_handler_queued 4`, `foyer_memory_budget_bytes 0`, `foyer_dropped_total{reason="slow"} 9`,
			`foyer_dropped_total{reason="volatile"} 0`, `foyer_nodes{state="up"} 2`, `foyer_nodes{state="lost"} 1`, `foyer_bus_up 1`, `foyer_cluster_frames_total{direction="in"} 10`, `foyer_cluster_items_total{direction="in"} 11`,
			`foyer_cluster_bytes_total{direction="out"} 15`, `foyer_cluster_frames_resent_total 1`, `foyer_cluster_epochs_total 2`, `foyer_cluster_unheard_seconds 0.3`,
			`foyer_passed_total{kind="served"} 18`, `foyer_passed_open 19`, `foyer_kept{kind="rooms"} 2`,
		},
		"application/openmetrics-text; version=1.0.0": {
			`# TYPE foyer_emits counter`, `foyer_emits_total 3.0`, `# EOF`,
			`foyer_grpc_call_seconds_bucket{method="foyer.v1.EmitService/Emit",le="0.0016"} 1 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 0.001…`,
		},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
		r.Header.Set("Accept", accept)
		h.ServeHTTP(w, r)
		got := strings.Split(w.Body.String(), "\n")
		for _, line := range lines {
			begin, only := strings.CutSuffix(line, "…") // the rest is a time
			is := func(l string) bool { return l == line || only && strings.HasPrefix(l, begin) }
			if w.Code != http.StatusOK || !slices.ContainsFunc(got, is) {
				t.Errorf("as %s, with code %d, there is no line %s", accept, w.Code, line)
			}
		}
	}
	problems, err := testutil.GatherAndLint(Registry(node()))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestNative: a histogram is a native one beside a classic one, and both count the same.
func TestNative(t *testing.T) {
	for _, name := range []string{"foyer_fanout_seconds", "foyer_upgrade_seconds", "foyer_grpc_call_seconds"} {
		for _, m := range families(t)[name].GetMetric() {
			h := m.GetHistogram()
			if len(h.GetBucket()) < 10 || h.ZeroThreshold == nil || h.Schema == nil {
				t.Fatalf("%s is no histogram of both kinds: %v", name, h)
			}
			if h.GetSampleCount() == 0 {
				continue
			}
			sum, n, at, list := h.GetZeroCount(), int64(0), 0, map[int32]int64{}
			index := int32(0)
			for _, span := range h.GetPositiveSpan() {
				index += span.GetOffset()
				for range span.GetLength() {
					n += h.GetPositiveDelta()[at]
					list[index] = n
					sum += uint64(n)
					at++
					index++
				}
			}
			if sum != h.GetSampleCount() || at != len(h.GetPositiveDelta()) {
				t.Errorf("%s: its native buckets have %d of %d", name, sum, h.GetSampleCount())
			}
			if want := (map[int32]int64{1: 2, 2: 1, 5: 1, 15: 1}); name == "foyer_fanout_seconds" && (h.GetSchema() != 1 || !maps.Equal(list, want)) {
				t.Errorf("with schema %d the native buckets are %v, want %v", h.GetSchema(), list, want)
			}
		}
	}
	w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	r.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	Handler(node()).ServeHTTP(w, r)
	if kind := w.Header().Get("Content-Type"); w.Code != http.StatusOK || !strings.HasPrefix(kind, "application/vnd.google.protobuf") {
		t.Errorf("%d %s: native histograms need protobuf", w.Code, kind)
	}
}

// families are the metrics of Foyer by name.
func families(t *testing.T) map[string]*dto.MetricFamily {
	list, err := Registry(node()).Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*dto.MetricFamily{}
	for _, f := range list {
		all[f.GetName()] = f
	}
	return all
}

// TestPage: docs/metrics.md has each metric, and no other one.
func TestPage(t *testing.T) {
	raw, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for name, f := range families(t) {
		if !strings.HasPrefix(name, "foyer_") {
			continue
		}
		labels := ""
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels += ", `" + l.GetName() + "`"
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", name, strings.ToLower(f.GetType().String()), strings.TrimPrefix(labels, ", "), f.GetHelp()))
	}
	slices.Sort(want)
	var got []string
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "| `foyer_") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the table has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestQueries: the dashboard and the alerts ask for nothing that is not there.
func TestQueries(t *testing.T) {
	all := families(t)
	for _, file := range []string{"dashboard.json", "alerts.yaml"} {
		raw, err := os.ReadFile("../../examples/monitoring/" + file)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, m := range regexp.MustCompile(`\b((?:foyer|process|go)_[a-z_]+)(?:\{(\w+)=)?`).FindAllStringSubmatch(string(raw), -1) {
			name := m[1]
			f := all[name]
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				if base, ok := strings.CutSuffix(name, part); ok && f == nil && all[base].GetType() == dto.MetricType_HISTOGRAM {
					f = all[base]
				}
			}
			if f == nil {
				t.Errorf("%s asks for %s, which is not there", file, name)
				continue
			}
			found++
			if m[2] != "" && !slices.ContainsFunc(f.GetMetric()[0].GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == m[2] }) {
				t.Errorf("%s asks for %s by %s, which is no label of it", file, name, m[2])
			}
		}
		if found < 8 {
			t.Errorf("%s asks for %d metrics", file, found)
		}
	}
}
