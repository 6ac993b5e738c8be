//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// benchServer is the server that Foyer is compared with, on Node.
func benchServer(t testing.TB) (url string, pid int) {
	t.Helper()
	p := start(t, "node", nil, "js/bench_server.js")
	t.Cleanup(func() {
		if log := p.log.all(); len(log) > 0 {
			t.Errorf("node says:\n%s", strings.Join(log, "\n"))
		}
		p.kill()
	})
	port, _, err := p.out.await(0, patience, func(string) bool { return true })
	if err != nil {
		t.Fatalf("node does not listen: %v", err)
	}
	return "http://127.0.0.1:" + port, p.cmd.Process.Pid
}

// bench runs `foyer bench` to its good end and returns what it prints.
func bench(t testing.TB, args ...string) map[string]any {
	t.Helper()
	p := start(t, binary(t), nil, append([]string{"bench"}, args...)...)
	if code := p.exit(t, 2*patience); code != 0 {
		t.Fatalf("foyer bench %q ended with code %d:\n%s", args, code, p.tail(20))
	}
	out := strings.Join(p.out.all(), "\n")
	var result map[string]any
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return result
}

// TestBench runs every scenario of the load generator against both servers that it is to compare.
func TestBench(t *testing.T) {
	brief := []string{"--warmup", "0.1s", "--seconds", "0.3"}
	f := startFoyer(t)
	node, pid := benchServer(t)
	for _, s := range []struct {
		name  string
		args  []string
		more  []string // keys that others do not have
		plain bool     // needs no API
	}{
		{name: "idle", args: []string{"idle", "--seconds", "0.3"}, more: []string{"rss_bytes_per_session", "connects_per_second"}, plain: true},
		{name: "connect", args: []string{"connect"}, more: []string{"connects_per_second"}, plain: true},
		{name: "connect, polling", args: []string{"connect", "--transport", "polling"}, more: []string{"connects_per_second"}, plain: true},
		{name: "upgrade", args: []string{"upgrade"}, plain: true},
		{name: "broadcast", args: []string{"broadcast", "--window", "4"}},
		{name: "broadcast, paced", args: []string{"broadcast", "--rate", "100", "--window", "100"}},
		{name: "broadcast, long messages to many rooms", args: []string{"broadcast", "--bytes", "20000", "--rooms", "10", "--window", "10"}},
		{name: "polling", args: []string{"polling"}},
		{name: "echo", args: []string{"echo"}},
		{name: "churn", args: []string{"churn", "--rooms", "50"}},
	} {
		args := append(s.args, "--clients", "30", "-o", "json")
		if !s.plain {
			args = append(args, brief...)
		}
		check := func(t *testing.T, args ...string) {
			t.Helper()
			r := bench(t, args...)
			for range 4 { // a busy server may do nothing for so short a time
				if r["deliveries"] != 0.0 {
					break
				}
				r = bench(t, args...)
			}
			keys := append(s.more, "deliveries", "per_second", "lost", "duplicated", "server_cpu_us_per_op", "p50_ms", "p99_ms", "max_ms")
			for _, key := range keys {
				if _, ok := r[key].(float64); !ok {
					t.Errorf("%s is not told: %v", key, r)
				}
			}
			for _, key := range []string{"rss_bytes_per_session", "connects_per_second"} {
				if _, ok := r[key]; ok && !slices.Contains(s.more, key) {
					t.Errorf("%s is told", key)
				}
			}
			for _, key := range []string{"deliveries", "per_second", "p50_ms", "p99_ms", "max_ms", "server_rss_bytes"} {
				if r[key].(float64) <= 0 {
					t.Errorf("%s is %v", key, r[key])
				}
			}
			if r["lost"] != 0.0 || r["duplicated"] != 0.0 {
				t.Errorf("lost %v, duplicated %v", r["lost"], r["duplicated"])
			}
		}
		t.Run(s.name+"/Foyer", func(t *testing.T) {
			flags := []string{"--url", f.url(), "--server-pid", strconv.Itoa(f.cmd.Process.Pid)}
			if !s.plain {
				flags = append(flags, "--api", f.api)
			}
			check(t, slices.Concat(args, flags)...)
		})
		if nodesOfOne() > 1 {
			continue
		}
		t.Run(s.name+"/Node", func(t *testing.T) {
			check(t, slices.Concat(args, []string{"--url", node, "--server-pid", strconv.Itoa(pid)})...)
		})
	}
}

// A server that goes away in the middle ends the run with a word about it, and nothing waits any longer.
func TestBenchServerDies(t *testing.T) {
	f := startFoyer(t)
	p := start(t, binary(t), nil, "bench", "broadcast", "--url", f.url(), "--api", f.api, "--clients", "20", "--seconds", "600")
	b := api(t, f.api)
	eventually(t, func() error {
		if n := b.info(t).GetSessions(); n < 20 {
			return fmt.Errorf("%d sessions of 20", n)
		}
		return nil
	})
	f.crash()
	if code := p.exit(t, patience); code != 1 {
		t.Errorf("foyer bench ended with code %d, want 1", code)
	}
	if told := p.tail(5); !strings.Contains(told, "foyer: bench broadcast: ") || len(p.out.all()) > 0 {
		t.Errorf("it says %q, and as a result %q", told, p.out.all())
	}
}

// TestCompare has a quick look at what `make bench-compare` and `make profile` do.
func TestCompare(t *testing.T) {
	compare := filepath.Join(t.TempDir(), "compare")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", compare, "./compare").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	foyer := binary(t)
	run := func(args ...string) string {
		t.Helper()
		p := start(t, compare, nil, append([]string{"-foyer", foyer, "-node", "js/bench_server.js", "-warmup", "0s"}, args...)...)
		if code := p.exit(t, 4*patience); code != 0 {
			t.Fatalf("compare %q ended with code %d:\n%s", args, code, p.tail(20))
		}
		return strings.Join(p.out.all(), "\n")
	}
	raw := filepath.Join(t.TempDir(), "raw")
	table := run("-rounds", "1", "-seconds", "0.3", "-rest", "0.3", "-idle", "50", "-connects", "50", "-divide", "50",
		"-only", "idle|connects|broadcast to 20|echo", "-raw", raw)
	for _, row := range []string{
		"| | Foyer | Node socket.io | ratio (95 % interval) | mark | write(2) floor |", "| idle websocket session, memory | ", "| connects a second | ",
		"| broadcast to 20, one in flight | ", "| echo with ack, 2 clients | ",
	} {
		if !strings.Contains(table, row) {
			t.Errorf("%q is not in\n%s", row, table)
		}
	}
	lines, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for text := range strings.Lines(string(lines)) {
		var line struct {
			Round       int
			Row, Server string
			Result      map[string]any
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil || line.Round != 1 || line.Row == "" || len(line.Result) == 0 {
			t.Errorf("%v: %s", err, text)
		}
		seen[line.Server]++
	}
	if seen["Foyer"] != 5 || seen["Node"] != 5 || seen["floor"] != 2 {
		t.Errorf("results: %v, want 5 of each server and 2 of the floor", seen)
	}

	t.Chdir(t.TempDir())
	run("-profile", "connect", "-seconds", "1", "--", "--clients", "100")
	for _, kind := range []string{"cpu", "heap", "allocs", "mutex", "goroutine"} {
		for _, file := range []string{kind + ".pprof", kind + ".txt"} {
			if info, err := os.Stat(filepath.Join("profiles", "connect", file)); err != nil || info.Size() == 0 {
				t.Errorf("%s: %v, %+v", file, err, info)
			}
		}
	}
}
