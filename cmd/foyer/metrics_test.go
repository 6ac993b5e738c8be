package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
)

func scrape(t *testing.T, f *foyer, path, token string) (code int, body string) {
	t.Helper()
	_, port, _ := strings.Cut(strings.TrimPrefix(f.adminListener.Addr().String(), "[::]"), ":")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestMetrics: a node tells all reasons that alerts look for, also those that have not occurred.
func TestMetrics(t *testing.T) {
	f := startNode(t, nil)
	code, body := scrape(t, f, "/metrics", "")
	if code != http.StatusOK || !strings.Contains(body, `foyer_ready 1`) {
		t.Fatalf("code %d, %.1000s", code, body)
	}
	var reasons []string
	for _, m := range regexp.MustCompile(`(?m)^foyer_dropped_total\{reason="(\w+)"\} `).FindAllStringSubmatch(body, -1) {
		reasons = append(reasons, m[1])
	}
	rules, err := os.ReadFile("../../examples/monitoring/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, m := range regexp.MustCompile(`reason=~?"([^"]+)"`).FindAllStringSubmatch(string(rules), -1) {
		for _, one := range strings.Split(unfold(m[1]), "|") {
			if asked++; !slices.Contains(reasons, one) {
				t.Errorf("an alert asks for the reason %s, which is none of %v", one, reasons)
			}
		}
	}
	if asked < 8 || len(reasons) < 60 {
		t.Errorf("alerts ask for %d reasons of %d", asked, len(reasons))
	}
}

// TestMetricsOfCalls: calls are counted by method and code when they have ended, whatever a caller makes up is one
// method, and bounds are told with what is used of them.
func TestMetricsOfCalls(t *testing.T) {
	f := startNode(t, nil)
	conn, err := grpc.NewClient("passthrough:///"+f.apiListener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := foyerv1.NewNodeServiceClient(conn).GetInfo(t.Context(), &foyerv1.GetInfoRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := foyerv1.NewEmitServiceClient(conn).Emit(t.Context(), &foyerv1.EmitRequest{}); err == nil {
		t.Fatal("an emit without a target was taken")
	}
	for _, method := range []string{"/foyer.v1.EmitService/Made", "/up/Yes"} {
		if err := conn.Invoke(t.Context(), method, &foyerv1.GetInfoRequest{}, &foyerv1.GetInfoResponse{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v", method, err)
		}
	}
	_, body := scrape(t, f, "/metrics", "")
	lines := strings.Split(body, "\n")
	for _, line := range []string{
		`foyer_grpc_calls_total{code="OK",method="foyer.v1.NodeService/GetInfo"} 1`,
		`foyer_grpc_calls_total{code="InvalidArgument",method="foyer.v1.EmitService/Emit"} 1`,
		`foyer_grpc_calls_total{code="Unimplemented",method="other"} 2`,
		`foyer_grpc_call_seconds_count{method="foyer.v1.NodeService/GetInfo"} 1`,
		`foyer_limit{limit="sessions"} 100000`, `foyer_limit_used{limit="sessions"} 0`, `foyer_limit{limit="api_connections"} 4096`, `foyer_limit_used{limit="api_connections"} 1`,
		`foyer_limit{limit="namespaces"} 10000`, `foyer_limit_used{limit="admin_connections"} 1`,
	} {
		if !slices.Contains(lines, line) {
			t.Errorf("there is no line %s", line)
		}
	}
	if strings.Contains(body, "Made") || strings.Contains(body, "/up/") {
		t.Error("a name that a caller made up is in a label")
	}
}

// unfold writes out a(b|c) as ab|ac.
func unfold(s string) string {
	return regexp.MustCompile(`(\w+)\(([^)]*)\)`).ReplaceAllStringFunc(s, func(m string) string {
		before, inside, _ := strings.Cut(strings.TrimSuffix(m, ")"), "(")
		return before + strings.ReplaceAll(inside, "|", "|"+before)
	})
}

// TestMetricsAreNotForEverybody: off loopback they want a token of the API, and /healthz and /readyz do not.
func TestMetricsAreNotForEverybody(t *testing.T) {
	f := startNode(t, nil, "--admin", ":0")
	for _, try := range []struct {
		tokens      []string
		path, token string
		code        int
		says        string
	}{
		{nil, "/healthz", "", 200, "ok"},
		{nil, "/readyz", "", 200, "ok"},
		{nil, "/metrics", "", 401, "the node has no tokens"},
		{nil, "/metrics", "anything", 401, "the node has no tokens"},
		{[]string{"one", "two"}, "/metrics", "", 401, "wants a token"},
		{[]string{"one", "two"}, "/metrics", "three", 401, "no token of the API"},
		{[]string{"one", "two"}, "/metrics", "two", 200, "foyer_ready"},
		{[]string{"one", "two"}, "/debug/pprof/", "", 401, "wants a token"},
		{[]string{"one", "two"}, "/healthz", "", 200, "ok"},
	} {
		f.tokens.now.Store(&try.tokens)
		if code, body := scrape(t, f, try.path, try.token); code != try.code || !strings.Contains(body, try.says) {
			t.Errorf("%s with token %q of %q: %d %.200q, want %d and %q", try.path, try.token, try.tokens, code, body, try.code, try.says)
		}
	}
	f.tokens.now.Store(&[]string{"one"})
	if _, body := scrape(t, f, "/metrics", "one"); !strings.Contains(body, "foyer_dropped_total{reason=\"admin_unauthenticated\"} 5\n") {
		t.Error("it is not counted who was refused")
	}
}
