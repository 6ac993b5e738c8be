package pgbus

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/adaptertest"
	"foyer/service/adapter/lives"
	"foyer/service/adapter/pgdial/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestOneServer are the tests that do no harm to their server, which takes some seconds to make.
func TestOneServer(t *testing.T) {
	server := pgtest.New(t)
	t.Run("Bus", func(t *testing.T) { testBus(t, server) })
	t.Run("Unusable", func(t *testing.T) { testUnusable(t, server) })
}

func connect(tb testing.TB, c Config) *Bus {
	tb.Helper()
	c.callTimeout = cmp.Or(c.callTimeout, pgtest.Patience/4) // a busy server may answer late
	b, err := Connect(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.Close() })
	return b
}

// await waits until something holds that has no event.
func await(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(pgtest.Patience); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			tb.Fatalf("%s does not come", what)
		}
	}
}

// forger is somebody who is no node.
type forger struct {
	tb   testing.TB
	conn *pgconn.PgConn
}

func newForger(tb testing.TB, url string) *forger {
	tb.Helper()
	c, err := pgconn.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close(context.Background()) })
	return &forger{tb, c}
}

func (f *forger) notify(channel, text string) {
	f.tb.Helper()
	_, err := f.conn.ExecParams(f.tb.Context(), "SELECT pg_notify($1, $2)", [][]byte{[]byte(channel), []byte(text)}, nil, nil, nil).Close()
	if err != nil {
		f.tb.Errorf("%s %.50q: %v", channel, text, err)
	}
}

// frame publishes what looks like a frame of a node.
func (f *forger) frame(channel string, frame []byte) {
	f.tb.Helper()
	var t tag
	copy(t[:], "forgerforger")
	for at := 0; at < len(frame); at += partBytes {
		f.notify(channel, string(appendPart(nil, &t, 7, frame, at)))
	}
}

func testBus(t *testing.T, server *pgtest.Server) {
	url := server.URL("postgres", "")
	var clusters atomic.Int64
	adaptertest.Run(t, func(t *testing.T) adaptertest.Cluster {
		name := fmt.Sprintf("Foyer-%d", clusters.Add(1))
		stranger := newForger(t, url)
		return adaptertest.Cluster{
			Open: func(node service.NodeID) adapter.Bus { return connect(t, Config{Node: node, Cluster: name, URL: url}) },
			Stranger: func(node service.NodeID) adapter.Bus {
				return connect(t, Config{Node: node, Cluster: strings.ToLower(name), URL: url})
			},
			Ordered: true, Whole: true,
			Forge: func(to service.NodeID, frame []byte) {
				channel := name + ".all"
				if to != "" {
					channel = name + ".to." + string(to)
				}
				for _, text := range []string{"", "{", "short", strings.Repeat("x", 30), strings.Repeat("é", 3000), strings.Repeat("=", 7999)} {
					stranger.notify(channel, text)
				}
				stranger.frame(channel, frame)
			},
			Break: breakConnection,
		}
	})
}

// breakConnection has the connections of a node break, and every new one too, until it is mended.
func breakConnection(bus adapter.Bus) (mend func()) {
	b, _ := bus.(*Bus)
	b.refuse.Store(true)
	b.now.Load().sub.Break()
	return func() { b.refuse.Store(false) }
}

// ear is a bus and the frames that have come to it.
type ear struct {
	*Bus
	mu  sync.Mutex
	got map[string]bool // guarded by mu
}

func newEar(tb testing.TB, b *Bus) *ear {
	tb.Helper()
	e := &ear{Bus: b, got: make(map[string]bool)}
	if err := b.Receive(func(frame []byte) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(frame) < 100 {
			e.got[string(frame)] = true
		}
	}); err != nil {
		tb.Fatal(err)
	}
	return e
}

func (e *ear) has(frame string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.got[frame]
}

// hears waits until a frame has come from another bus. It is sent anew while that may be lost.
func (e *ear) hears(tb testing.TB, from *Bus, frame string) {
	tb.Helper()
	await(tb, "a frame", func() bool {
		if !e.has(frame) {
			_ = from.Send(e.self, []byte(frame))
		}
		return e.has(frame)
	})
}

func testLog() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.InfoLevel)
	return zap.New(core), logs
}

// A server that does not do is told in one line, at start, without a password.
func testUnusable(t *testing.T, server *pgtest.Server) {
	server.Do("CREATE ROLE enough LOGIN PASSWORD 'p:/@ 1'", "CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
	stranger := listen(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	const password = "p%3A%2F%40%201"
	at := func(user, database, more string) string {
		return "postgres://" + user + "@127.0.0.1:" + server.Port + "/" + database + "?" + more
	}
	for _, test := range []struct {
		name, url string
		want      string // "": it does
	}{
		{"no password", at("postgres", "postgres", "sslmode=disable"), ""},
		{"no rights but a login", at("enough:"+password, "postgres", ""), ""},
		{"wrong password", at("enough:wrong", "postgres", ""), "the user and password of the URL are not taken: FATAL: password"},
		{"unknown user", at("nobody:wrong", "postgres", ""), "the user and password of the URL are not taken"},
		{"no database", at("postgres", "nowhere", ""), "the database of the URL is not there"},
		{"may not connect", at("enough:"+password, "closed", ""), "this user may not do what Foyer needs"},
		{"no TLS", at("postgres", "postgres", "sslmode=require"), "does not speak TLS"},
		{"unknown setting", at("postgres", "postgres", "no_such_thing=1"), "no_such_thing"},
		{"no PostgreSQL", "postgres://u:p@" + stranger + "/d?sslmode=disable", "does not speak as PostgreSQL does"},
		{"no PostgreSQL, and TLS perhaps", "postgres://u:p@" + stranger + "/d", "does not speak as PostgreSQL does"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var err error
			await(t, cmp.Or(test.want, "a bus that is up"), func() bool { // a slow server may not have answered yet
				var b *Bus
				if b, err = Connect(Config{Node: "AAAA", URL: test.url}); err != nil {
					return true
				}
				defer b.Close()
				return b.Up()
			})
			switch {
			case err == nil:
				if test.want != "" {
					t.Errorf("it is taken, want an error about %q", test.want)
				}
			case test.want == "" || !strings.Contains(err.Error(), test.want) || strings.ContainsAny(err.Error(), "\r\n") || strings.Contains(err.Error(), "p:/@"):
				t.Errorf("got %v, want one line about %q", err, test.want)
			}
		})
	}
}

// listen has a function serve each connection to an address, which is returned.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

// TestServerRestarts: a server that comes later is found; one that is killed, that refuses from then on, or that is
// frozen, is said to be down until it does again.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	log, logs := testLog()
	s := pgtest.New(t)
	s.Do("CREATE ROLE foyer LOGIN PASSWORD 'p'")
	s.Kill()
	url := s.URL("foyer", "p")
	a := newEar(t, connect(t, Config{Node: "AAAA", URL: url, Logger: log, callTimeout: answerTimeout}))
	if a.Up() || logs.FilterMessage("bus not reached yet").Len() != 1 {
		t.Errorf("the bus is up: %v, without a server; it has told %v", a.Up(), logs.All())
	}
	if err := a.SendAll([]byte("x")); !errors.Is(err, adapter.ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
	s.Run()
	await(t, "the bus", a.Up)
	b := newEar(t, connect(t, Config{Node: "BBBB", URL: url, callTimeout: answerTimeout}))
	whole := func(round string) {
		t.Helper()
		await(t, "the bus", func() bool { return a.Up() && b.Up() })
		a.hears(t, b.Bus, "to A, "+round)
		b.hears(t, a.Bus, "to B, "+round)
	}
	whole("first")
	for round := range 2 {
		s.Kill()
		await(t, "the end of the bus", func() bool { return !a.Up() && !b.Up() })
		began := time.Now()
		s.Run()
		whole(fmt.Sprintf("after a restart %d", round))
		t.Logf("whole %v after the server's start", time.Since(began))
	}
	s.Do("ALTER ROLE foyer NOLOGIN", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'foyer'")
	await(t, "a line about the user", func() bool {
		return !a.Up() && logs.FilterMessage("bus unusable").Len() > 0
	})
	s.Do("ALTER ROLE foyer LOGIN")
	whole("after a refusal")

	// One that is frozen is found out, and Send does not wait meanwhile.
	s.Signal(syscall.SIGSTOP)
	a.out.mu.Lock()
	a.out.most = 1 << 20 // where others take the processors, more is not to be filled before the server is found out
	a.out.mu.Unlock()
	adaptertest.Frozen(t, "BBBB", a, b)
	await(t, "the count of what is lost", func() bool { return a.Lost() > 0 })
	s.Signal(syscall.SIGCONT)
	whole("after it was frozen")
}

// TestParts: frames are whole or counted as lost, whatever comes between their parts, and what is kept of those that
// are not whole is bounded.
func TestParts(t *testing.T) {
	frame := make([]byte, 3*partBytes+1)
	for i := range frame {
		frame[i] = byte(i * 7)
	}
	one, two := newTag(), newTag()
	part := func(t tag, number uint32, frame []byte, i int) string {
		return string(appendPart(nil, &t, number, frame, i*partBytes))
	}
	if size := 0; true {
		for i := range 4 {
			size += len(part(one, 1, frame, i))
		}
		if textSize(len(frame)) != size {
			t.Errorf("the parts have %d bytes, and textSize says %d", size, textSize(len(frame)))
		}
	}
	if n := len(part(one, 1, frame, 0)); n > 7999 {
		t.Errorf("a part has %d bytes", n)
	}
	lost := 0
	j := joiner{map[tag]*begun{}, func() { lost++ }}
	feed := func(want bool, wantLost int, parts ...string) {
		t.Helper()
		lost = 0
		var got []byte
		for _, p := range parts {
			if f := j.add(p); f != nil {
				got = f
			}
		}
		if (got != nil) != want || want && string(got) != string(frame) || lost != wantLost {
			t.Errorf("a frame of %d bytes, want one: %v; %d lost, want %d", len(got), want, lost, wantLost)
		}
	}
	p := func(i int) string { return part(one, 1, frame, i) }
	q := func(i int) string { return part(two, 1, frame, i) }
	feed(true, 0, p(0), q(0), p(1), q(1), p(2), "noise", p(3), q(2))
	feed(true, 0, q(3))
	feed(false, 1, p(0), p(1), p(3), p(2))
	feed(true, 1, p(0), p(1), p(0), p(1), p(2), p(3))
	feed(false, 1, p(0), part(one, 2, frame, 1), p(1), p(2), p(3))
	feed(false, 1, p(0), p(1)[:30]+"!"+p(1)[31:])
	feed(false, 1, p(0), part(one, 1, frame[1:], 1))
	feed(false, 1, part(one, 1, make([]byte, lives.MaxFrame+1), 0), part(one, 1, make([]byte, lives.MaxFrame+1), 1))
	feed(false, 0, p(0)[:27], string(one[:])+base64.StdEncoding.EncodeToString(make([]byte, 30)), string(one[:]))
	for range 10 * maxJoins {
		j.add(part(newTag(), 1, frame, 0))
	}
	if len(j.begun) > maxJoins {
		t.Errorf("parts of %d frames are kept", len(j.begun))
	}
}

func BenchmarkBus(b *testing.B) {
	url := pgtest.New(b).URL("postgres", "")
	adaptertest.Bench(b, func(b *testing.B) (one, other adapter.Bus) {
		return connect(b, Config{Node: "AAAA", URL: url}), connect(b, Config{Node: "BBBB", URL: url})
	})
}
