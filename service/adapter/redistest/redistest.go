// Package redistest runs real Redis servers for tests.
package redistest

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

// Patience is for a machine that is busy with something else.
const Patience = 60 * time.Second

// binary is the server that FOYER_REDIS names, the one that `make bin/redis-server` has brought, or one that is
// installed.
func binary(tb testing.TB) string {
	tb.Helper()
	if other := os.Getenv("FOYER_REDIS"); other != "" {
		return other
	}
	if _, here, _, ok := runtime.Caller(0); ok {
		own := filepath.Join(filepath.Dir(here), "../../../bin/redis-server")
		if _, err := os.Stat(own); err == nil {
			return own
		}
	}
	path, err := exec.LookPath("redis-server")
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		tb.Fatal("there is no redis-server; `make bin/redis-server` brings one")
	default:
		tb.Skip("there is no redis-server; `make bin/redis-server` brings one")
	}
	return path
}

// Server is a Redis server of a test.
type Server struct {
	*exec.Cmd
	Addr string
	once sync.Once
}

// Kill ends it without a word.
func (s *Server) Kill() {
	s.once.Do(func() {
		_ = s.Process.Kill()
		_ = s.Wait()
	})
}

// Start runs a server at a port until the test ends, with what more its configuration is to have.
func Start(tb testing.TB, port string, more ...string) *Server {
	tb.Helper()
	return start(tb, port, append([]string{"--save", "", "--dir", tb.TempDir()}, more...)...)
}

// StartSentinel runs a sentinel, which keeps what it knows in its file.
func StartSentinel(tb testing.TB, port, file string) *Server {
	tb.Helper()
	return start(tb, port, file, "--sentinel")
}

func start(tb testing.TB, port string, more ...string) *Server {
	tb.Helper()
	args := append(more, "--bind", "127.0.0.1", "--port", port)
	s := &Server{Cmd: exec.CommandContext(tb.Context(), binary(tb), args...), Addr: "127.0.0.1:" + port}
	ready := &readyWriter{ready: make(chan struct{})}
	s.Stdout = ready
	if err := s.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Kill)
	select {
	case <-ready.ready:
	case <-time.After(Patience):
		tb.Fatalf("the Redis server does not get ready:\n%s", ready.text())
	}
	return s
}

// readyWriter sees in a server's log that it takes connections.
type readyWriter struct {
	ready chan struct{}

	mu   sync.Mutex
	told bytes.Buffer // guarded by mu
	seen bool         // guarded by mu
}

func (w *readyWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told.Write(p)
	if !w.seen && (bytes.Contains(w.told.Bytes(), []byte("eady to accept connections")) || bytes.Contains(w.told.Bytes(), []byte("Sentinel ID is"))) {
		w.seen = true
		close(w.ready)
	}
	return len(p), nil
}

func (w *readyWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told.String()
}

// Await waits until something holds that has no event.
func Await(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(Patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("%s does not come", what)
		}
	}
}
