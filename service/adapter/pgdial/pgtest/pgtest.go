// Package pgtest runs PostgreSQL servers for tests.
package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"foyer/service/adapter/freeport"
)

// Patience is for a machine that is busy with something else.
const Patience = 60 * time.Second

// Server is a PostgreSQL server of a test, at a port of its own on this machine. Its user postgres needs no password,
// all others do.
type Server struct {
	tb      testing.TB
	folder  string // of the programs
	data    string
	Port    string
	process *exec.Cmd
	more    []string
}

// New makes a database and runs a server until the test ends, with what more its command is to have.
func New(tb testing.TB, more ...string) *Server {
	tb.Helper()
	s := &Server{tb: tb, folder: programs(tb), Port: freeport.New(tb), more: more}
	parent, err := os.MkdirTemp("", "foyer-postgres")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(parent) })
	s.data = filepath.Join(parent, "data")
	if err := os.Mkdir(s.data, 0o700); err != nil {
		tb.Fatal(err)
	}
	if owner := user(); owner != nil {
		if err := os.Chmod(parent, 0o711); err != nil { //nolint:gosec // another user's data is in it
			tb.Fatal(err)
		}
		if err := os.Chown(s.data, int(owner.Uid), int(owner.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	made := s.command(context.Background(), "initdb", "-D", s.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions")
	if told, err := made.CombinedOutput(); err != nil {
		tb.Fatalf("no database: %v\n%s", err, told)
	}
	rules := "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(s.data, "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Kill)
	s.Run()
	return s
}

// Run starts a server that was killed.
func (s *Server) Run() {
	s.tb.Helper()
	args := append([]string{
		"-D", s.data, "-p", s.Port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "jit=off",
		"-c", "shared_buffers=16MB",
	}, s.more...)
	ready := &readyWriter{ready: make(chan struct{})}
	s.process = s.command(context.Background(), "postgres", args...)
	s.process.Stderr = ready
	if err := s.process.Start(); err != nil {
		s.tb.Fatal(err)
	}
	late := time.NewTimer(Patience)
	defer late.Stop()
	select {
	case <-ready.ready:
	case <-late.C:
		s.tb.Fatalf("the PostgreSQL server does not get ready:\n%s", ready.text())
	}
}

// Kill ends the server at once, with all its connections.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	s.Signal(syscall.SIGCONT)
	_ = s.process.Process.Signal(syscall.SIGQUIT)
	_ = s.process.Wait()
	s.process = nil
}

// Signal gives a signal to all processes of the server: each connection has one.
func (s *Server) Signal(signal syscall.Signal) {
	server := s.process.Process.Pid
	list, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range list {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if parent, _ := strconv.Atoi(fields[1]); parent == server {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			_ = syscall.Kill(child, signal)
		}
	}
	_ = syscall.Kill(server, signal)
}

// URL leads to its database postgres, as a user with a password if there is one.
func (s *Server) URL(user, password string) string {
	if password != "" {
		user += ":" + password
	}
	return fmt.Sprintf("postgres://%s@127.0.0.1:%s/postgres?sslmode=disable", user, s.Port)
}

// Do executes statements as the user postgres, and returns the first column of what they answer.
func (s *Server) Do(sql ...string) (answers []string) {
	s.tb.Helper()
	ctx, stop := context.WithTimeout(context.Background(), Patience)
	defer stop()
	c, err := pgconn.Connect(ctx, s.URL("postgres", ""))
	if err != nil {
		s.tb.Fatal(err)
	}
	defer c.Close(ctx)
	for _, text := range sql {
		results, err := c.Exec(ctx, text).ReadAll()
		if err != nil {
			s.tb.Fatalf("%.200s: %v", text, err)
		}
		for _, r := range results {
			for _, row := range r.Rows {
				answers = append(answers, string(row[0]))
			}
		}
	}
	return answers
}

// user is whom a server runs as: PostgreSQL refuses to be root.
func user() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	const nobody = 65534
	return &syscall.Credential{Uid: nobody, Gid: nobody}
}

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(s.folder, name), args...)
	c.Dir = s.data
	c.Env = append(os.Environ(), "LC_ALL=C")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: user()}
	return c
}

// programs is the folder of PostgreSQL that FOYER_POSTGRES names, of the one that `make bin/postgres` has brought, or
// of one that is installed.
func programs(tb testing.TB) string {
	tb.Helper()
	if other := os.Getenv("FOYER_POSTGRES"); other != "" {
		return other
	}
	names, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	for folder, err := os.Getwd(); err == nil && folder != "/"; folder = filepath.Dir(folder) {
		names = append([]string{filepath.Join(folder, "bin", "postgres")}, names...)
	}
	for _, name := range names {
		if name, err := filepath.EvalSymlinks(name); err == nil {
			return filepath.Dir(name)
		}
	}
	if os.Getenv("CI") != "" {
		tb.Fatal("there is no PostgreSQL; `make bin/postgres` brings one")
	}
	tb.Skip("there is no PostgreSQL; `make bin/postgres` brings one")
	return ""
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
	if !w.seen && bytes.Contains(w.told.Bytes(), []byte("ready to accept connections")) {
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
