//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestConfigurationIsTakenUp: at SIGHUP a node takes up what its file says of the log, of origins and of limits, and a
// handshake shows it; it says what needs a restart. A broken file changes nothing.
func TestConfigurationIsTakenUp(t *testing.T) {
	file := filepath.Join(t.TempDir(), "foyer.yaml")
	const fixed = "edge: 127.0.0.1:0\napi: 127.0.0.1:0\nadmin: 127.0.0.1:0\nlog-format: json\ndrain-window: 1s\n"
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(fixed+text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	put("max-sessions: 1\n")
	f := &foyer{process: startCommand(t, childOf(binary(t), nil, "serve", "--config", file))}
	t.Cleanup(func() { f.stop(t) })
	f.listens(t)
	said := 0
	awaitLine := func(parts ...string) {
		t.Helper()
		line, at, err := f.log.await(said, patience, func(line string) bool {
			for _, p := range parts {
				if !strings.Contains(line, p) {
					return false
				}
			}
			return true
		})
		if err != nil {
			t.Fatalf("the log does not say %q: %v\n%s", parts, err, f.tail(20))
		}
		t.Log(line)
		said = at + 1
	}
	const page = "https://page.example"
	handshake := func(origin string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.edge+"/socket.io/?EIO=4&transport=polling", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	p := startPuppets(t)
	p.connect(t, "http://"+f.edge, "/", quick.with(transports[0].opts)) // it has the only place
	if full, foreign := handshake(""), handshake(page); full != http.StatusServiceUnavailable || foreign != http.StatusForbidden {
		t.Fatalf("before: %d, and %d with an origin", full, foreign)
	}

	put("max-sessions: 9\ncors-origin: [" + page + "]\nlog-level: debug\npath: /other/\n")
	f.cmd.Process.Signal(syscall.SIGHUP)
	awaitLine(`"level":"warn"`, "after a restart only", "path /socket.io/ → /other/")
	awaitLine(`"reloaded"`, "max-sessions 1 → 9", "log-level info → debug", "cors-origin - → "+page)
	if got := handshake(page); got != http.StatusOK {
		t.Errorf("afterwards a handshake of the page is answered %d", got)
	}
	awaitLine(`"level":"debug"`)

	put("max-sessions: many\nlog-level: error\n")
	f.cmd.Process.Signal(syscall.SIGHUP)
	awaitLine("not reloaded", fmt.Sprintf(`%s:6: max-sessions: \"many\" is not a whole number`, file))
	if got := handshake(page); got != http.StatusOK {
		t.Errorf("with a broken file a handshake of the page is answered %d", got)
	}
	awaitLine(`"level":"debug"`)
}
