package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"foyer/cmd/foyer/bench"
)

func parseBench(t *testing.T, args ...string) (*benchCommand, error) {
	t.Helper()
	_, err := shared().parser.Parse(append([]string{"bench"}, args...))
	return &shared().commands.Bench, err
}

// What is wrong is an error of the command line, for every scenario; what that is, the package's own test says.
func TestBadBenchFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"dance"},
		{"idle", "--clients", "0"},
		{"idle", "--seconds", "0"},
		{"idle", "--api", "127.0.0.1:50051"},
		{"connect", "--parallel", "0"},
		{"connect", "--seconds", "1"},
		{"upgrade", "--url", "127.0.0.1:3000"},
		{"upgrade", "--transport", "websocket"},
		{"broadcast", "--clients", "10", "--rooms", "11"},
		{"broadcast", "--window", "0"},
		{"broadcast", "--rate=-1"},
		{"broadcast", "--bytes", "1"},
		{"broadcast", "-o", "xml"},
		{"polling", "--window", "0"},
		{"polling", "--warmup=-1s"},
		{"echo", "--bytes", "1"},
		{"echo", "--window", "2"},
		{"churn", "--rooms", "0"},
		{"churn", "--bytes", "100"},
	} {
		if _, err := parseBench(t, args...); err == nil {
			t.Errorf("bench %q is taken", args)
		}
	}
}

func TestBenchOptions(t *testing.T) {
	c, err := parseBench(t, "polling", "--clients", "7", "--api", "127.0.0.1:1", "--window", "3", "--rate", "0.5", "--seconds", "1.5", "--warmup", "0s")
	if err != nil {
		t.Fatal(err)
	}
	want := &bench.Options{
		Scenario: "broadcast", URL: "http://127.0.0.1:3000", API: "127.0.0.1:1", Transport: "polling", Clients: 7, Parallel: 64, Rooms: 1,
		Window: 3, Rate: 0.5, Bytes: 100, Duration: 1500e6, Patience: 15e9,
	}
	if d := cmp.Diff(want, c.Polling.options(), cmpopts.IgnoreUnexported(bench.Options{}), cmpopts.IgnoreFields(bench.Options{}, "Progress", "Notes")); d != "" {
		t.Errorf("options (-want +got):\n%s", d)
	}
}

func TestBenchFailsByExitCode(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[int][]string{
		exitUsage:   {"bench", "idle", "--clients", "0"},
		exitFailure: {"bench", "echo", "--api-token-file", empty},
	} {
		if _, _, code := say(t, args...); code != want {
			t.Errorf("%q: exit code %d, want %d", args, code, want)
		}
	}
}
