//go:build unix

package grpcapi

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// These benchmarks have their client in a process of its own: what this process uses is the server's alone.

// BenchmarkEmitStream is an emit of 100 bytes to a room of one, of a client that keeps its stream full.
func BenchmarkEmitStream(b *testing.B) {
	for _, batch := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			n, addr := loopback(b)
			for i := range 100 {
				connectSink(b, n, fmt.Sprint("room", i))
			}
			b.ReportAllocs()
			b.ResetTimer()
			client := otherProcess(b, "emit", addr, b.N, batch)
			before := cpuTime(b)
			client.wait(b)
			b.ReportMetric(float64(cpuTime(b)-before)/1e3/float64(b.N), "server-µs/op")
		})
	}
}

// BenchmarkAttach is an event of a client on its way to its handler, and the ack on its way back: one after the other,
// and a hundred at once.
func BenchmarkAttach(b *testing.B) {
	for _, flight := range []int{1, 100} {
		b.Run(fmt.Sprint(flight), func(b *testing.B) {
			n, addr := loopback(b)
			p := &service.Packet{
				Kind: service.KindEvent, Namespace: "/", AckID: 1, Event: "ask", Payload: []byte(`["ask","` + strings.Repeat("x", 100) + `"]`),
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan struct{})
			sockets := make([]*sink, flight)
			for i := range sockets {
				s := connectSink(b, n)
				s.onAck = func() { // and the next one
					switch rest := left.Add(-1); {
					case rest >= int64(flight):
						n.Receive(s.socket, p)
					case rest == 0:
						close(done)
					}
				}
				sockets[i] = s
			}
			client := otherProcess(b, "attach", addr, 0, 0)
			for late := time.Now().Add(10 * time.Second); n.Info().Handlers == 0; {
				if time.Now().After(late) {
					b.Fatal("the backend does not attach")
				}
				time.Sleep(time.Millisecond)
			}
			b.ReportAllocs()
			b.ResetTimer()
			before := cpuTime(b)
			for _, s := range sockets[:min(b.N, flight)] {
				n.Receive(s.socket, p)
			}
			<-done
			b.StopTimer()
			b.ReportMetric(float64(cpuTime(b)-before)/1e3/float64(b.N), "server-µs/op")
			client.stop()
		})
	}
}

const processVariable = "FOYER_BENCH_CLIENT"

type process struct{ cmd *exec.Cmd }

// otherProcess starts TestClientProcess.
func otherProcess(b *testing.B, role, addr string, count, batch int) *process {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(b.Context(), exe, "-test.run=^TestClientProcess$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %d", processVariable, role, addr, count, batch))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return &process{cmd}
}

func (p *process) wait(b *testing.B) {
	b.Helper()
	if err := p.cmd.Wait(); err != nil {
		b.Fatal(err)
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// cpuTime is what this process has used.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestClientProcess is the other process of a benchmark.
func TestClientProcess(t *testing.T) {
	fields := strings.Fields(os.Getenv(processVariable))
	if len(fields) != 4 {
		t.Skip("for the benchmarks")
	}
	conn, err := grpc.NewClient(fields[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	count, _ := strconv.Atoi(fields[2])
	batch, _ := strconv.Atoi(fields[3])
	if fields[0] == "emit" {
		emitForBenchmark(t, apiOf(conn), count, batch)
	} else {
		replyForBenchmark(t, apiOf(conn))
	}
}

// emitForBenchmark emits count times to a hundred rooms of one, and waits for the results.
func emitForBenchmark(t *testing.T, client *api, count, batch int) {
	args := `["` + strings.Repeat("x", 100-len(`["message",""]`)) + `"]`
	messages := make([]*foyerv1.EmitStreamRequest, 100)
	for i := range messages {
		messages[i] = &foyerv1.EmitStreamRequest{}
		for j := range batch {
			messages[i].Items = append(messages[i].Items, &foyerv1.EmitStreamItem{
				Id: uint64(j), Emit: &foyerv1.EmitRequest{
					Target: toRoom(fmt.Sprint("room", (i*batch+j)%100)), Payload: jsonPayload("message", args),
				},
			})
		}
	}
	stream, err := client.emit.EmitStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	results, done := 0, make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				return
			}
			for _, r := range m.GetResults() {
				if r.GetOk().GetEnqueued() != 1 {
					t.Error(r)
				}
			}
			results += len(m.GetResults())
		}
	}()
	for sent := 0; sent < count; sent += batch {
		m := messages[sent/batch%len(messages)]
		if left := count - sent; left < batch {
			m = &foyerv1.EmitStreamRequest{Items: m.GetItems()[:left]}
		}
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	<-done
	if results != count {
		t.Errorf("got %d results of %d emits", results, count)
	}
}

// replyForBenchmark answers every event until it is killed.
func replyForBenchmark(t *testing.T, client *api) {
	stream, err := client.handler.Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	register := &foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/"}}}}
	if err := stream.Send(register); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return
		}
		if e := m.GetEvent(); e != nil {
			if stream.Send(reply(e.GetCallId(), e.GetPayload().GetJson())) != nil {
				return
			}
		}
	}
}
