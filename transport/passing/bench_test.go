package passing

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// wire is a client that costs little: requests that are ready, on one connection.
type wire struct {
	testing.TB
	conn      net.Conn
	in        *bufio.Reader
	get, post []byte
}

func openWire(t testing.TB, at *node, query string) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", at.edge.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &wire{
		t, conn, bufio.NewReader(conn), fmt.Appendf(nil, "GET /socket.io/?%s HTTP/1.1\r\nHost: x\r\n\r\n", query),
		fmt.Appendf(nil, "POST /socket.io/?%s HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 101\r\n\r\n4%s", query, strings.Repeat("x", 100)),
	}
}

// ask returns how long the answer is.
func (w *wire) ask(request []byte) int64 {
	w.Helper()
	if _, err := w.conn.Write(request); err != nil {
		w.Fatal(err)
	}
	res, err := http.ReadResponse(w.in, nil)
	if err != nil || res.StatusCode != http.StatusOK {
		w.Fatal(res, err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	if err != nil {
		w.Fatal(err)
	}
	res.Body.Close()
	return n
}

// processor is how much of a processor this process has used.
func processor(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs one round trip after the other and reports their median, and what all ends of them took of a processor,
// the client too.
func measure(b *testing.B, round func()) {
	b.Helper()
	round()
	var took []time.Duration
	before := processor(b)
	for b.Loop() {
		began := time.Now()
		round()
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(processor(b)-before)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportAllocs()
}

// BenchmarkPoll is a POST of 100 bytes and the GET that brings its echo, one after the other.
func BenchmarkPoll(b *testing.B) {
	for name, at := range map[string]int{"direct": 0, "passed": 1} {
		b.Run(name, func(b *testing.B) {
			c := startCluster(b, options{}, "aaaa", "bbbb")
			w := openWire(b, c.nodes[at], c.nodes[0].open())
			measure(b, func() {
				w.ask(w.post)
				if n := w.ask(w.get); n < 101 {
					b.Fatalf("%d bytes", n)
				}
			})
		})
	}
}

// BenchmarkEcho is a message of 100 bytes and its echo over a websocket that was upgraded to.
func BenchmarkEcho(b *testing.B) {
	for name, at := range map[string]int{"direct": 0, "passed": 1} {
		b.Run(name, func(b *testing.B) {
			c := startCluster(b, options{}, "aaaa", "bbbb")
			ws := c.nodes[at].upgrade(c.nodes[0].open())
			text := "4" + strings.Repeat("x", 100)
			measure(b, func() {
				ws.write(text)
				ws.want(text)
			})
		})
	}
}

// BenchmarkSID is what authenticating sids costs a handshake, and a request that comes to another node.
func BenchmarkSID(b *testing.B) {
	k := newKeys(secret)
	b.Run("make", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k.newSID("aaaa")
		}
	})
	b.Run("check", func(b *testing.B) {
		sid := k.newSID("aaaa")
		b.ReportAllocs()
		for b.Loop() {
			if _, ok := k.owner(sid); !ok {
				b.Fatal("refused")
			}
		}
	})
}
