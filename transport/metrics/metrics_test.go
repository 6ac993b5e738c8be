package metrics

import (
	"errors"
	"fmt"
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
	m := service.Measures{Emits: 3, Deliveries: 12, Watchers: 2, Handlers: service.HandlerMeasures{Attached: 1, Queued: 4}}
	m.Classes[service.ClassPattern] = service.ClassMeasures{Namespaces: 1, Sockets: 7, Rooms: 2}
	m.FanOut[1] = service.Timing{Count: 3, Sum: 30 * time.Millisecond}
	m.FanOut[1].Buckets[2], m.FanOut[1].Buckets[4] = 2, 1
	m.Acks[service.AckTimeout] = 5
	return &Node{
		Measure: func() service.Measures { return m },
		Info: func() service.Info {
			return service.Info{NodeID: "AAAA", Version: "v1", Budget: -1, Kept: map[string]int64{"rooms": 2}}
		},
		Sessions: func() (int, int, uint64) { return 1, 6, 5 },
		Dropped:  func() map[string]int64 { return map[string]int64{"slow": 9, "volatile": 0} },
		Ready:    func() error { return errors.New("draining") },
		Nodes: func() ([]service.NodeStatus, bool) {
			return []service.NodeStatus{{State: service.NodeUp}, {State: service.NodeUp}, {State: service.NodeLost}}, true
		},
		Cluster: "embedded",
	}
}

func TestHandler(t *testing.T) {
	h := Handler(node())
	for accept, lines := range map[string][]string{
		"text/plain": {
			`foyer_build_info{cluster="embedded",node="AAAA",version="v1"} 1`, `foyer_ready 0`, `foyer_sessions{transport="websocket"} 6`, `foyer_upgrades_total 5`,
			`foyer_sockets{class="pattern"} 7`, `foyer_sockets{class="configured"} 0`, `foyer_emits_total 3`, `foyer_fanout_seconds_bucket{recipients="2-9",le="0.0001"} 2`,
			`foyer_fanout_seconds_bucket{recipients="2-9",le="0.001"} 3`, `foyer_fanout_seconds_count{recipients="2-9"} 3`, `foyer_fanout_seconds_sum{recipients="2-9"} 0.03`,
			`foyer_acks_total{outcome="unanswered"} 5`, `foyer_handler_queued 4`, `foyer_memory_budget_bytes 0`, `foyer_dropped_total{reason="slow"} 9`,
			`foyer_dropped_total{reason="volatile"} 0`, `foyer_nodes{state="up"} 2`, `foyer_nodes{state="lost"} 1`, `foyer_bus_up 1`, `foyer_kept{kind="rooms"} 2`,
		},
		"application/openmetrics-text; version=1.0.0": {`# TYPE foyer_emits counter`, `foyer_emits_total 3.0`, `# EOF`},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
		r.Header.Set("Accept", accept)
		h.ServeHTTP(w, r)
		got := strings.Split(w.Body.String(), "\n")
		for _, line := range lines {
			if w.Code != http.StatusOK || !slices.Contains(got, line) {
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
