package redisbus

import (
	"cmp"
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

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/adaptertest"
	"foyer/service/adapter/freeport"
	"foyer/service/adapter/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = redistest.Patience

// callTimeout lets a busy server answer late: a connection that is given up loses what is on it.
const callTimeout = patience / 4

type process = redistest.Server

var (
	startServer   = redistest.Start
	startSentinel = redistest.StartSentinel
	await         = redistest.Await
)

func connect(tb testing.TB, c Config) *Bus {
	tb.Helper()
	c.callTimeout = cmp.Or(c.callTimeout, callTimeout)
	b, err := Connect(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { b.Close() })
	return b
}

// client is somebody who is no node.
type client struct {
	tb testing.TB
	*conn
}

func dialClient(tb testing.TB, addr string) *client {
	tb.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	return &client{tb, &conn{nc, newReader(nc)}}
}

// do has a command done; its answer is passed over.
func (c *client) do(words ...string) {
	c.tb.Helper()
	if _, err := c.Write(appendCommand(nil, words...)); err != nil {
		c.tb.Error(err)
	}
	if err := c.ok(); err != nil {
		c.tb.Errorf("%.100q: %v", words, err)
	}
}

func TestBus(t *testing.T) {
	server := startServer(t, freeport.New(t))
	url := "redis://" + server.Addr
	var clusters atomic.Int64
	adaptertest.Run(t, func(t *testing.T) adaptertest.Cluster {
		name := fmt.Sprintf("foyer%d", clusters.Add(1))
		stranger := dialClient(t, server.Addr)
		return adaptertest.Cluster{
			Open: func(node service.NodeID) adapter.Bus { return connect(t, Config{Node: node, Cluster: name, URL: url}) },
			Stranger: func(node service.NodeID) adapter.Bus {
				return connect(t, Config{Node: node, Cluster: name + "x", URL: url})
			},
			Ordered: true, Whole: true,
			Forge: func(to service.NodeID, frame []byte) {
				channel := name + ".all"
				if to != "" {
					channel = name + ".to." + string(to)
				}
				stranger.do("PUBLISH", channel, "a forger"+string(frame))
				stranger.do("PUBLISH", channel, "forger") // no tag
				stranger.do("PUBLISH", channel, "")
			},
			Break: breakConnection,
		}
	})
}

// breakConnection has the connections of a node break, and every new one too, until it is mended.
func breakConnection(bus adapter.Bus) (mend func()) {
	b, _ := bus.(*Bus)
	b.refuse.Store(true)
	b.now.Load().pub.Close()
	return func() { b.refuse.Store(false) }
}

// The official Socket.IO adapters and emitters subscribe to patterns that end in #, and hear nothing of nodes.
func TestUnseenByOfficial(t *testing.T) {
	server := startServer(t, freeport.New(t))
	official := dialClient(t, server.Addr)
	for _, prefix := range []string{"socket.io", "foyer", "foyer.to", "*"} {
		official.do("PSUBSCRIBE", prefix+"#/#*")
		for _, name := range []string{"-request#/#", "-response#/#"} {
			official.do("SUBSCRIBE", prefix+name)
		}
	}
	a, e := connect(t, Config{Node: "AAAA", URL: "redis://" + server.Addr}), newEar(t, connect(t, Config{Node: "BBBB", URL: "redis://" + server.Addr}))
	for i := range 10 {
		e.hears(t, a, fmt.Sprintf("frame %d", i))
	}
	other := dialClient(t, server.Addr)
	other.do("PUBLISH", "socket.io#/#", "of Node")
	if _, err := official.header('*'); err != nil {
		t.Fatal(err)
	}
	if kind, err := official.word(); err != nil || string(kind) != "pmessage" {
		t.Fatalf("it hears %q, %v", kind, err)
	}
	if err := official.skip(1); err != nil {
		t.Fatal(err)
	}
	if channel, err := official.word(); err != nil || string(channel) != "socket.io#/#" {
		t.Errorf("it hears something on %q, %v; want what Node has published", channel, err)
	}
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

// A server that does not do is told in one line, at start.
func TestUnusable(t *testing.T) {
	server := startServer(t, freeport.New(t))
	admin := dialClient(t, server.Addr)
	rule := func(user string, more ...string) {
		admin.do(append([]string{"ACL", "SETUSER", user, "reset", "on", ">p:/@ 1"}, more...)...)
	}
	commands := []string{"-@all", "+subscribe", "+publish", "+ping"}
	rule("enough", append(commands, "&foyer.all", "&foyer.to.*")...)
	rule("own", append(commands, "&foyer.all", "&foyer.to.AAAA")...)
	rule("notall", append(commands, "&foyer.to.*")...)
	rule("notself", append(commands, "&foyer.all", "&foyer.to.BBBB")...)
	rule("mute", "-@all", "+subscribe", "+ping", "&foyer.*")
	rule("deaf", "-@all", "+publish", "+ping", "&foyer.*")
	rule("noping", "-@all", "+publish", "+subscribe", "&foyer.*")
	closed := startServer(t, freeport.New(t), "--requirepass", "secret")
	stranger := listen(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})

	password := "p%3A%2F%40%201"
	for _, test := range []struct {
		name, url string
		want      string // "": it does
	}{
		{"no user", "redis://" + server.Addr, ""},
		{"escaped password", "redis://enough:" + password + "@" + server.Addr + "/7", ""},
		{"own name only", "redis://own:" + password + "@" + server.Addr, ""},
		{"wrong password", "redis://enough:wrong@" + server.Addr, "the user and password of the URL are not taken: WRONGPASS"},
		{"unknown user", "redis://nobody:" + password + "@" + server.Addr, "WRONGPASS"},
		{"password where none is", "redis://:any@" + server.Addr, "the user and password of the URL are not taken: ERR AUTH"},
		{"may not hear what is for all", "redis://notall:" + password + "@" + server.Addr, "subscribe to foyer.all"},
		{"may not hear what is for it", "redis://notself:" + password + "@" + server.Addr, "subscribe to foyer.to.AAAA"},
		{"may not publish", "redis://mute:" + password + "@" + server.Addr, "publish to foyer.all"},
		{"may not subscribe", "redis://deaf:" + password + "@" + server.Addr, "subscribe to foyer.all"},
		{"may not ping", "redis://noping:" + password + "@" + server.Addr, "PING"},
		{"a password", "redis://:secret@" + closed.Addr, ""},
		{"no password", "redis://" + closed.Addr, "the URL has no password, and the server wants one: NOAUTH"},
		{"no Redis", "redis://" + stranger, "does not speak as Redis"},
		{"no TLS", "rediss://" + stranger, "does not speak TLS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := Connect(Config{Node: "AAAA", URL: test.url, callTimeout: callTimeout})
			switch {
			case err == nil:
				if !b.Up() {
					t.Error("the bus is not up")
				}
				b.Close()
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

// A server that comes later is found; one that is killed, that refuses from then on, or that is frozen, is said to be
// down until it does again.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	port := freeport.New(t)
	log, logs := testLog()
	a := newEar(t, connect(t, Config{Node: "AAAA", URL: "redis://127.0.0.1:" + port, Logger: log, callTimeout: answerTimeout}))
	if a.Up() || logs.FilterMessage("bus not reached yet").Len() != 1 {
		t.Errorf("the bus is up: %v, without a server; it has told %v", a.Up(), logs.All())
	}
	if err := a.SendAll([]byte("x")); !errors.Is(err, adapter.ErrDown) {
		t.Errorf("got %v, want ErrDown", err)
	}
	s := startServer(t, port)
	await(t, "the bus", a.Up)
	b := newEar(t, connect(t, Config{Node: "BBBB", URL: "redis://127.0.0.1:" + port, callTimeout: answerTimeout}))
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
		s = startServer(t, port)
		whole(fmt.Sprintf("after a restart %d", round))
		t.Logf("whole %v after the server's start", time.Since(began))
	}
	admin := dialClient(t, s.Addr)
	admin.do("ACL", "SETUSER", "default", "resetchannels")
	await(t, "a line about the user", func() bool {
		return !a.Up() && logs.FilterMessage("bus unusable").Len() > 0
	})
	admin.do("ACL", "SETUSER", "default", "allchannels")
	whole("after a refusal")

	// One that is frozen is found out by probes, and Send does not wait meanwhile.
	if err := s.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	adaptertest.Frozen(t, "BBBB", a, b)
	await(t, "the count of what is lost", func() bool { return a.Lost() > 0 })
	if err := s.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	whole("after it was frozen")
}

func BenchmarkBus(b *testing.B) {
	server := startServer(b, freeport.New(b))
	adaptertest.Bench(b, func(b *testing.B) (one, other adapter.Bus) {
		url := "redis://" + server.Addr
		return connect(b, Config{Node: "AAAA", URL: url}), connect(b, Config{Node: "BBBB", URL: url})
	})
}

// A frame costs one allocation at whom it comes to, which is the frame, and none at whom it comes from.
func TestAllocations(t *testing.T) {
	server := startServer(t, freeport.New(t))
	url := "redis://" + server.Addr
	a, b := connect(t, Config{Node: "AAAA", URL: url}), connect(t, Config{Node: "BBBB", URL: url})
	came := make(chan struct{}, 100)
	if err := b.Receive(func([]byte) { came <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 200)
	got := testing.AllocsPerRun(100, func() {
		for range 100 {
			if err := a.Send("BBBB", frame); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			<-came
		}
	})
	if got > 150 {
		t.Errorf("100 frames cost %v allocations", got)
	}
}
