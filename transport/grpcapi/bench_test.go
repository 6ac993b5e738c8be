package grpcapi

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// The benchmarks run the API and the real service over a TCP connection of this machine, with links that take
// everything.

// bytesCodec copies what it encodes, as the codecs of Socket.IO do.
type bytesCodec struct{}

type bytesFrame []byte

func (f bytesFrame) Len() int { return len(f) }

func (bytesCodec) Encode(p *service.Packet) (service.Frame, error) {
	return bytesFrame(append([]byte("42"), p.Payload...)), nil
}

func (bytesCodec) Join(frames []service.Frame) service.Frame {
	var all bytesFrame
	for _, f := range frames {
		all = append(all, f.(bytesFrame)...)
	}
	return all
}

// sink is a link that takes everything at once. onAck, if set, hears of acknowledgements when they are flushed, which
// is with no lock of the service held.
type sink struct {
	link
	onAck func()
}

func (s *sink) Codec() service.Codec { return bytesCodec{} }
func (s *sink) Send(service.Frame, service.Flags) service.Outcome {
	return service.QueuedFlush
}

func (s *sink) Flush() {
	if s.onAck != nil {
		s.onAck()
	}
}

// connectSinkTo connects a link to a namespace.
func connectSinkTo(tb testing.TB, n *service.Node, namespace string) *sink {
	tb.Helper()
	s := &sink{link: link{name: "sink"}}
	n.Connect(service.Connect{
		Conn: s, Namespace: namespace, Refuse: func(r service.Refusal) { tb.Error(r) },
		Bind: func(to *service.Socket) bool { s.socket = to; return true },
	})
	return s
}

// connectSink connects a link to "/" and puts it into rooms.
func connectSink(tb testing.TB, n *service.Node, rooms ...string) *sink {
	tb.Helper()
	s := connectSinkTo(tb, n, "/")
	if len(rooms) > 0 {
		if _, _, err := n.Join(tb.Context(), service.Target{Namespace: "/", Rooms: []string{string(s.socket.ID())}}, rooms); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// loopback runs the API of a new node on a TCP port.
func loopback(b *testing.B) (n *service.Node, addr string) {
	b.Helper()
	return loopbackOf(b, service.Config{})
}

func loopbackOf(b *testing.B, config service.Config) (n *service.Node, addr string) {
	b.Helper()
	n, err := service.New(config)
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(Config{}, n)
	if err != nil {
		b.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(lis); err != nil {
			b.Error(err)
		}
	})
	b.Cleanup(func() {
		n.Close()
		s.Stop()
		serving.Wait()
	})
	return n, lis.Addr().String()
}

// loopbackClient is loopback with a client in this process.
func loopbackClient(b *testing.B) (*service.Node, *api) {
	b.Helper()
	return loopbackClientOf(b, service.Config{})
}

func loopbackClientOf(b *testing.B, config service.Config) (*service.Node, *api) {
	b.Helper()
	n, addr := loopbackOf(b, config)
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return n, apiOf(conn)
}

// rooms of one for a hundred sockets.
func hundredRooms(b *testing.B, n *service.Node) []*foyerv1.EmitRequest {
	b.Helper()
	requests := make([]*foyerv1.EmitRequest, 100)
	args := `["` + strings.Repeat("x", 100-len(`["message",""]`)) + `"]`
	for i := range requests {
		room := fmt.Sprint("room", i)
		connectSink(b, n, room)
		requests[i] = &foyerv1.EmitRequest{Target: toRoom(room), Payload: jsonPayload("message", args)}
	}
	return requests
}

// BenchmarkEmit is the unary call: alone, and by many callers at once.
func BenchmarkEmit(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			n, client := loopbackClient(b)
			requests := hundredRooms(b, n)
			b.SetParallelism(callers)
			b.ReportAllocs()
			call := func(i int) {
				if r, err := client.emit.Emit(b.Context(), requests[i%len(requests)]); err != nil || r.GetEnqueued() != 1 {
					b.Error(r, err)
				}
			}
			if callers == 1 {
				for i := 0; b.Loop(); i++ {
					call(i)
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					call(i)
				}
			})
		})
	}
}

// BenchmarkListSockets is a page of a thousand, of two thousand sockets.
func BenchmarkListSockets(b *testing.B) {
	n, client := loopbackClient(b)
	for i := range 2000 {
		connectSink(b, n, "everybody", fmt.Sprint("room", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		r, err := client.socket.ListSockets(b.Context(), &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{All: true}, PageSize: 1000})
		if err != nil || len(r.GetSockets()) != 1000 {
			b.Fatal(len(r.GetSockets()), err)
		}
	}
}

// BenchmarkWatch is one change on its way to a hundred watchers.
func BenchmarkWatch(b *testing.B) {
	const watchers = 100
	n, client := loopbackClient(b)
	s := connectSink(b, n)
	ctx, cancel := context.WithCancel(b.Context())
	var seen sync.WaitGroup
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	for range watchers {
		stream, err := client.watch.Watch(ctx, &foyerv1.WatchRequest{All: true})
		if err != nil {
			b.Fatal(err)
		}
		for {
			m, err := stream.Recv()
			if err != nil {
				b.Fatal(err)
			}
			if m.GetSynced() != nil {
				break
			}
		}
		reading.Go(func() {
			for {
				m, err := stream.Recv()
				if err != nil {
					return
				}
				for range m.GetEvents().GetEvents() {
					seen.Done()
				}
			}
		})
	}
	target := service.Target{Namespace: "/", Rooms: []string{string(s.socket.ID())}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		seen.Add(watchers)
		change := n.Join
		if i%2 == 1 {
			change = n.Leave
		}
		if _, _, err := change(ctx, target, []string{"r"}); err != nil {
			b.Fatal(err)
		}
		seen.Wait()
	}
}
