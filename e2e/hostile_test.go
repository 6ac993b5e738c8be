//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	foyerv1 "foyer/gen/foyer/v1"
)

// Hostile programs: each may slow or close itself, and nobody else. They come from 127.0.0.2; those who must not notice
// come from elsewhere.

const mallory = "127.0.0.2"

// TestConnectFlood: one websocket connects and disconnects in a loop. A backend that reads, one that does not and a
// watcher live on, other clients are served meanwhile, and the node stays small.
func TestConnectFlood(t *testing.T) {
	f := startFoyer(t, "--log-level=info", "--namespaces=/frozen")
	var heard atomic.Int64
	b := attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}}, func(b *backend) {
		b.onConnected = func(*foyerv1.Connected) { heard.Add(1) }
	})
	// This one stops reading with the first that it is told, until the floods are over.
	over := make(chan struct{})
	frozen := attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/frozen"}, Group: "frozen"}, func(b *backend) {
		b.onConnected = func(*foyerv1.Connected) { <-over }
	})
	watch, err := b.presence.Watch(t.Context(), &foyerv1.WatchRequest{All: true})
	if err != nil {
		t.Fatal(err)
	}
	watched := newFeed[*foyerv1.PresenceEvent]()
	go func() {
		defer watched.end()
		for {
			m, err := watch.Recv()
			if err != nil {
				t.Logf("the watch ended: %v", err)
				return
			}
			for _, e := range m.GetEvents().GetEvents() {
				if e.GetType() == foyerv1.PresenceEvent_TYPE_CONNECTED {
					watched.add(e)
				}
			}
		}
	}()
	if err := mustJoin(t, "", f.edge).send(`42["before"]`); err != nil {
		t.Fatal(err)
	}
	b.event(t, "before")
	f.resetPeak(t)
	before := f.resident(t)

	var sent atomic.Int64
	flood := func(namespace string) func(context.Context) {
		s, err := rawOpen(mallory, f.edge)
		if err != nil {
			t.Fatal(err)
		}
		var loop []byte
		for range 100 {
			loop = appendText(appendText(loop, "40"+namespace), "41"+namespace)
		}
		go func() { _, _ = io.Copy(io.Discard, s.Conn) }() // it takes all answers
		return func(ctx context.Context) {
			defer s.Close()
			context.AfterFunc(ctx, func() { s.Close() })
			for {
				if _, err := s.Write(loop); err != nil {
					return
				}
				sent.Add(100)
			}
		}
	}
	stops := []func(){during(flood("")), during(flood("/frozen,"))}
	p := startPuppets(t)
	c, _ := p.connect(t, f.url(), "/", quick)
	for began := time.Now(); time.Since(began) < 5*time.Second; { // so long it went on, and as often as could be
		c.settle()
	}
	for _, stop := range stops {
		stop()
	}
	if rose := f.peak(t) - before; rose > 64<<20 {
		t.Errorf("the node grew by %d MiB, want at most 64", rose>>20)
	}
	t.Logf("%d times out and in were written, of which the backend heard %d; the node grew by %d KiB", sent.Load(), heard.Load(), (f.peak(t)-before)>>10)
	close(over)

	// All are still attached: the next is told to each.
	last := mustJoin(t, "", f.edge)
	if err := last.join("/frozen"); err != nil {
		t.Fatal(err)
	}
	if err := last.send(`42["after"]`, `42/frozen,["after"]`); err != nil {
		t.Fatal(err)
	}
	b.event(t, "after")
	frozen.event(t, "after")
	if c.saw("disconnect") {
		t.Error("a client that did nothing was disconnected")
	}
	next := mustJoin(t, "", f.edge).id
	if _, _, err := watched.await(0, patience, func(e *foyerv1.PresenceEvent) bool { return e.GetSocket().GetId() == next }); err != nil {
		t.Errorf("the watcher does not see who comes: %v", err)
	}
}

// TestPipelinedHandshakes: eight connections of one address open sessions as fast as they can, and leave them. A client
// that comes from another address is let in at once.
func TestPipelinedHandshakes(t *testing.T) {
	f := startFoyer(t, "--log-level=info", "--max-sessions=2000")
	attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}}, nil)
	request := []byte(strings.Repeat("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: "+f.edge+"\r\n\r\n", 50))
	var opened, refused atomic.Int64
	for range 8 {
		defer during(func(ctx context.Context) {
			for ctx.Err() == nil {
				conn, err := dialFrom(mallory, f.edge)
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { conn.Close() })
				go func() {
					for {
						if _, err := conn.Write(request); err != nil {
							return
						}
					}
				}()
				for r := bufio.NewReader(conn); ; {
					answer, err := http.ReadResponse(r, nil)
					if err != nil {
						break
					}
					_, _ = io.Copy(io.Discard, answer.Body)
					if answer.StatusCode == http.StatusOK {
						opened.Add(1)
					} else {
						refused.Add(1)
					}
				}
				conn.Close()
				stop()
			}
		})()
	}
	// Until all that this address may have is taken; a full node is what others come to.
	eventually(t, func() error {
		if n := opened.Load(); n < 2000 {
			return fmt.Errorf("only %d sessions", n)
		}
		return nil
	})
	for i := range 100 {
		s, err := rawJoin("127.0.0.3", f.edge)
		if err != nil {
			t.Fatalf("newcomer %d: %v", i, err)
		}
		defer s.Close() // it stays
	}
	t.Logf("%d sessions were opened and %d refused meanwhile", opened.Load(), refused.Load())
}

// TestBodiesThatDoNotCome: five hundred requests of each listener and path whose bodies do not come, or come a byte at
// a time. Health, API and clients work meanwhile, and when their time is over they are gone.
func TestBodiesThatDoNotCome(t *testing.T) {
	f := startFoyer(t, "--log-level=info")
	b := attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}}, nil)
	p := startPuppets(t)
	c, _ := p.connect(t, f.url(), "/", quick.with(transports[1].opts))
	c.settle()
	before := f.descriptors(t)

	heads := []string{
		"POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"POST /socket.io/?EIO=4&transport=polling&sid=nobody HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"GET /socket.io/?EIO=4&transport=polling&sid=nobody HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n4",
		"POST /socket.io/?EIO=4&transport=polling&sid=nobody HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
		"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
		"POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nContent-Le",
		"",
	}
	var open sync.WaitGroup
	var left atomic.Int64
	hang := func(addr, head string, drip bool) {
		conn, err := dialFrom(mallory, addr)
		if err != nil {
			return // refused: as good
		}
		left.Add(1)
		open.Go(func() {
			defer left.Add(-1)
			defer conn.Close()
			_, _ = io.WriteString(conn, head)
			if drip {
				defer during(func(ctx context.Context) {
					tick := time.NewTicker(200 * time.Millisecond)
					defer tick.Stop()
					for ctx.Err() == nil {
						if _, err := conn.Write([]byte("4")); err != nil {
							return
						}
						<-tick.C
					}
				})()
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a connection to %s is still there: %.80q", addr, head)
			}
		})
	}
	for i := range 500 {
		hang(f.edge, heads[i%len(heads)], i%2 == 0)
		if i%5 == 0 {
			hang(f.admin, strings.ReplaceAll(heads[i/5%len(heads)], "/nowhere", "/healthz"), i%2 == 0)
		}
	}
	for range 5 {
		c.settle()
		mustJoin(t, "", f.edge).Close()
		if r, err := http.Get("http://" + f.admin + "/healthz"); err != nil || r.StatusCode != http.StatusOK {
			t.Errorf("health: %v, %v", r, err)
		} else {
			r.Body.Close()
		}
		if _, err := b.node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{}); err != nil {
			t.Error(err)
		}
	}
	open.Wait()
	eventually(t, func() error {
		if n := f.descriptors(t); n > before+10 {
			return fmt.Errorf("%d descriptors, there were %d before", n, before)
		}
		return nil
	})
	c.settle()
}

// shared is a codec that sends the same bytes for each message, so that many large ones cost a test nothing.
type shared []byte

func (s shared) Marshal(any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(s)}, nil
}
func (s shared) Unmarshal(mem.BufferSlice, any) error { return nil }
func (s shared) Name() string                         { return proto.Name }

// stalling is a connection that takes so many bytes to be sent and no more.
type stalling struct {
	net.Conn
	left    atomic.Int64
	stalled atomic.Bool
	closed  context.Context
	close   context.CancelFunc
}

func (s *stalling) Write(b []byte) (int, error) {
	if s.left.Add(-int64(len(b))) < 0 {
		s.stalled.Store(true)
		<-s.closed.Done()
		return 0, net.ErrClosed
	}
	return s.Conn.Write(b)
}

func (s *stalling) Close() error {
	s.close()
	return s.Conn.Close()
}

// TestCallersWithoutToken: two hundred calls without a token send all of a large message but its end. Such callers are
// nobody, and nothing is kept for them. A caller that has a token is served.
func TestCallersWithoutToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := startFoyer(t, "--log-level=info", "--api-token-file="+file)
	known := api(t, f.api)
	withToken := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer secret")
	if _, err := known.node.GetInfo(withToken, &foyerv1.GetInfoRequest{}); err != nil {
		t.Fatal(err)
	}
	f.resetPeak(t)
	before := f.resident(t)

	message := shared(bytes.Repeat([]byte{0}, 4_900_000))
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	var ended atomic.Int64
	var mu sync.Mutex
	var conns []*stalling
	const callers = 200
	for range callers {
		conn, err := dial(f.api, nil, grpc.WithContextDialer(func(_ context.Context, addr string) (net.Conn, error) {
			conn, err := dialFrom(mallory, addr)
			if err != nil {
				return nil, err
			}
			s := &stalling{Conn: conn}
			s.closed, s.close = context.WithCancel(context.Background())
			s.left.Store(4_800_000)
			mu.Lock()
			conns = append(conns, s)
			mu.Unlock()
			return s, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		calls.Go(func() {
			defer conn.Close()
			defer ended.Add(1)
			err := conn.Invoke(ctx, foyerv1.EmitService_Emit_FullMethodName, new(foyerv1.EmitRequest), new(foyerv1.EmitResponse),
				grpc.ForceCodecV2(message), grpc.MaxCallSendMsgSize(1<<30))
			if err == nil {
				t.Error("it was answered OK")
			}
		})
	}
	// Each has been answered, or has sent all that it will send.
	eventually(t, func() error {
		mu.Lock()
		defer mu.Unlock()
		n := ended.Load()
		for _, c := range conns {
			if c.stalled.Load() {
				n++
			}
		}
		if n < callers {
			return fmt.Errorf("%d of %d are through", n, callers)
		}
		return nil
	})
	rose := f.peak(t) - before
	t.Logf("%d were answered; the node grew by %d MiB", ended.Load(), rose>>20)
	if rose > 64<<20 {
		t.Errorf("the node grew by %d MiB, want at most 64", rose>>20)
	}
	if _, err := known.node.GetInfo(withToken, &foyerv1.GetInfoRequest{}); err != nil {
		t.Error(err)
	}
	cancel()
	mu.Lock()
	for _, c := range conns {
		c.Close()
	}
	mu.Unlock()
	calls.Wait()
}

// TestDrainWithSilentConnections: a drain is over in the time that was promised, even when clients say nothing on any
// port.
func TestDrainWithSilentConnections(t *testing.T) {
	f := startFoyer(t, "--log-level=info", "--drain-window=2s")
	attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}}, nil)
	mustJoin(t, "", f.edge)
	for _, addr := range []string{f.edge, f.api, f.admin} {
		for _, said := range []string{"", "P", "POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
			conn, err := dialFrom("", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, said); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.stopped = true
	began := time.Now()
	if err := f.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	// What waits for such connections takes until their own deadlines, of 20 s and more.
	if code := f.exit(t, 15*time.Second); code != 0 {
		t.Errorf("it ended with code %d", code)
	}
	t.Logf("it took %v", time.Since(began))
}
