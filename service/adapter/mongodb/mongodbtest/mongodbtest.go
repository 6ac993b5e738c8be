// Package mongodbtest starts MongoDB servers for tests. What `make bin/secantusd-py` brings is no mongod, but
// SecantusDB, which speaks as one does: with replica set, capped collections, tailable cursors and change streams. It
// is slow.
package mongodbtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// patience is for a machine that is busy with something else.
const patience = 2 * time.Minute

// binary is the server that FOYER_SECANTUS names, or the one that `make bin/secantusd-py` has brought.
func binary(tb testing.TB) string {
	tb.Helper()
	if other := os.Getenv("FOYER_SECANTUS"); other != "" {
		return other
	}
	_, here, _, _ := runtime.Caller(0)
	own := filepath.Join(filepath.Dir(here), "../../../../bin/secantusd-py")
	if _, err := os.Stat(own); err == nil {
		return own
	}
	if os.Getenv("CI") != "" {
		tb.Fatal("there is no secantusd-py; `make bin/secantusd-py` brings one")
	}
	tb.Skip("there is no secantusd-py; `make bin/secantusd-py` brings one")
	return ""
}

// Server is one that runs until the test ends.
type Server struct {
	*exec.Cmd
	Addr string
	once sync.Once
}

// Kill ends it at once.
func (s *Server) Kill() {
	s.once.Do(func() {
		_ = s.Process.Kill()
		_ = s.Wait()
	})
}

// Start runs a server that is alone in its replica set, at a port, with what is in a folder, and with what more flags
// it is to have. With --standalone it is in none.
func Start(tb testing.TB, port, dir string, flags ...string) *Server {
	tb.Helper()
	args := append([]string{"--host", "127.0.0.1", "--port", port, "--storage-path", dir, "--cache-size", "64M"}, flags...)
	s := &Server{Cmd: exec.CommandContext(tb.Context(), binary(tb), args...), Addr: "127.0.0.1:" + port}
	s.Dir = tb.TempDir() // it looks for settings where it is
	out := &log{ready: make(chan struct{})}
	s.Stdout, s.Stderr = out, out
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Kill)
	select {
	case <-out.ready:
	case <-time.After(patience):
		tb.Fatalf("the server does not get ready:\n%s", out.text())
	}
	return s
}

// log sees what a server says, and that it takes connections.
type log struct {
	ready chan struct{}

	mu   sync.Mutex
	told bytes.Buffer // guarded by mu
	seen bool         // guarded by mu
}

func (w *log) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told.Write(p)
	if !w.seen && bytes.Contains(w.told.Bytes(), []byte("listening on")) {
		w.seen = true
		close(w.ready)
	}
	return len(p), nil
}

func (w *log) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told.String()
}
