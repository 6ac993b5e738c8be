//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/transport/engineio"
	"foyer/transport/grpcapi"
	"foyer/transport/socketio"
)

// patience is how long what is normally there in a moment may take on a machine that is busy with something else.
const patience = 60 * time.Second

// stack is a node with its edges, real sockets on one side and gRPC on the other.
type stack struct {
	testing.TB
	node  *service.Node
	edge  *httptest.Server
	emits foyerv1.EmitServiceClient
	nodes foyerv1.NodeServiceClient
	attac foyerv1.HandlerServiceClient
	ctx   context.Context
}

func newStack(t testing.TB, edge engineio.Config, node service.Config) *stack {
	t.Helper()
	n, err := service.New(node)
	if err != nil {
		t.Fatal(err)
	}
	links, err := socketio.New(socketio.Config{}, n)
	if err != nil {
		t.Fatal(err)
	}
	edge.Budget = use{n.Budget(), service.UseOutbound}
	engine, err := engineio.New(edge, links.Accept)
	if err != nil {
		t.Fatal(err)
	}
	api, err := grpcapi.New(grpcapi.Config{}, n)
	if err != nil {
		t.Fatal(err)
	}
	lis := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- api.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	s := &stack{
		TB: t, node: n, edge: httptest.NewUnstartedServer(engine), ctx: ctx, emits: foyerv1.NewEmitServiceClient(conn),
		nodes: foyerv1.NewNodeServiceClient(conn), attac: foyerv1.NewHandlerServiceClient(conn),
	}
	s.edge.Listener = smallBuffers{s.edge.Listener}
	s.edge.Start()
	t.Cleanup(func() {
		cancel()
		engine.Close()
		s.edge.Close()
		n.Close()
		_ = conn.Close()
		api.Stop()
		<-served
		if used := n.Budget().UsedBy(service.UseOutbound); used != 0 {
			t.Errorf("%d bytes of the budget are still taken by queues", used)
		}
	})
	return s
}

// smallBuffers has the kernel hold little for each client, so that not much is needed until it refuses more.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		_ = conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
	}
	return conn, err
}

// browser is a client that notes the number with which each event begins.
type browser struct {
	t  testing.TB
	id string

	mu      sync.Mutex
	numbers []int
	changed chan struct{}
	closed  bool

	say  func(text string) error // of a websocket
	read func()                  // goes on until the link ends
}

func (b *browser) note(packet string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rest, ok := strings.CutPrefix(packet, `42["e",`); ok {
		var n int
		_, _ = fmt.Sscanf(rest, "%d", &n)
		b.numbers = append(b.numbers, n)
	}
	b.changeLocked()
}

func (b *browser) changeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *browser) over() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.changeLocked()
}

// await returns what ok is waited for, or fails.
func (b *browser) await(what string, ok func(b *browser) bool) {
	b.t.Helper()
	late := time.After(patience)
	for {
		b.mu.Lock()
		done, changed, n := ok(b), b.changed, len(b.numbers)
		b.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-late:
			b.t.Fatalf("%s: %d events came", what, n)
		}
	}
}

// wantAll waits for events 0 to n-1, in their order and once each.
func (b *browser) wantAll(n int) {
	b.t.Helper()
	b.await(fmt.Sprint(n, " events"), func(b *browser) bool { return len(b.numbers) >= n || b.closed })
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range max(n, len(b.numbers)) {
		if i >= len(b.numbers) || b.numbers[i] != i || len(b.numbers) != n {
			b.t.Fatalf("%d events, want %d; closed %v; place %d is wrong", len(b.numbers), n, b.closed, i)
		}
	}
}

func (b *browser) start() { go b.read() }

// websocket connects a client that does not read yet. What its kernel takes for it is little.
func (s *stack) websocket() *browser {
	s.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<10) })
	}}
	conn, err := d.DialContext(s.ctx, "tcp", s.edge.Listener.Addr().String())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = conn.Close() })
	r := bufio.NewReader(conn)
	_, _ = io.WriteString(conn, "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		s.Fatal(resp, err)
	}
	var writing sync.Mutex
	say := func(text string) error {
		writing.Lock()
		defer writing.Unlock()
		_ = conn.SetWriteDeadline(time.Now().Add(patience))
		_, err := conn.Write(append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...))
		return err
	}
	next := func() (string, error) {
		var head [10]byte
		if _, err := io.ReadFull(r, head[:2]); err != nil {
			return "", err
		}
		n := uint64(head[1])
		switch n {
		case 126:
			_, _ = io.ReadFull(r, head[:2])
			n = uint64(binary.BigEndian.Uint16(head[:]))
		case 127:
			_, _ = io.ReadFull(r, head[:8])
			n = binary.BigEndian.Uint64(head[:])
		}
		p := make([]byte, n)
		_, err := io.ReadFull(r, p)
		return string(p), err
	}
	_, _ = next() // open
	_ = say("40")
	answer, err := next()
	if err != nil {
		s.Fatal(err)
	}
	b := &browser{t: s.TB, id: socketID(s, answer), changed: make(chan struct{}), say: say}
	b.read = func() {
		defer b.over()
		for {
			p, err := next()
			if err != nil {
				return
			}
			if p == "2" {
				_ = say("3")
			}
			b.note(p)
		}
	}
	return b
}

func socketID(t testing.TB, answer string) string {
	t.Helper()
	var sid struct{ SID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(answer, "40")), &sid); err != nil || sid.SID == "" {
		t.Fatalf("answer to CONNECT: %q", answer)
	}
	return sid.SID
}

// request returns the body of an answer. A status other than 200 is an error.
func request(ctx context.Context, client *http.Client, method, url, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(text), err
}

// polling connects a client that does not poll yet.
func (s *stack) polling() *browser {
	s.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2}}
	s.Cleanup(client.CloseIdleConnections)
	url := s.edge.URL + "/socket.io/?EIO=4&transport=polling"
	ask := func(method, body string) (string, error) {
		return request(s.ctx, client, method, url, body)
	}
	must := func(text string, err error) string {
		if err != nil {
			s.Fatal(err)
		}
		return text
	}
	var sid struct{ SID string }
	if err := json.Unmarshal([]byte(must(ask("GET", ""))[1:]), &sid); err != nil {
		s.Fatal(err)
	}
	url += "&sid=" + sid.SID
	must(ask("POST", "40"))
	b := &browser{t: s.TB, id: socketID(s, must(ask("GET", ""))), changed: make(chan struct{})}
	b.read = func() {
		defer b.over()
		for {
			text, err := ask("GET", "")
			if err != nil {
				return
			}
			for p := range strings.SplitSeq(text, "\x1e") {
				if p == "2" {
					_, _ = ask("POST", "3")
				}
				b.note(p)
			}
		}
	}
	return b
}

func emitOf(i, size int, rooms ...string) *foyerv1.EmitRequest {
	target := &foyerv1.Target{Rooms: rooms, All: len(rooms) == 0}
	return &foyerv1.EmitRequest{Target: target, Payload: &foyerv1.Payload{
		Event: "e", Args: &foyerv1.Payload_Json{Json: fmt.Sprintf(`[%d,%q]`, i, strings.Repeat("x", size))},
	}}
}

// stream emits over one EmitStream, so many items a message, and returns the results.
func (s *stack) stream(batch int, items []*foyerv1.EmitRequest) []*foyerv1.EmitResponse {
	s.Helper()
	stream, err := s.emits.EmitStream(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for len(items) > 0 {
			m := &foyerv1.EmitStreamRequest{}
			n := min(batch, len(items))
			for i, e := range items[:n] {
				m.Items = append(m.Items, &foyerv1.EmitStreamItem{Id: uint64(i), Emit: e})
			}
			items = items[n:]
			if stream.Send(m) != nil {
				return // the receiver hears why
			}
		}
		_ = stream.CloseSend()
	})
	var results []*foyerv1.EmitResponse
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return results
		}
		if err != nil {
			s.Fatalf("after %d results: %v", len(results), err)
		}
		for _, r := range m.GetResults() {
			if r.GetError() != nil {
				s.Fatal(r.GetError())
			}
			results = append(results, r.GetOk())
		}
	}
}

func wantReceipts(t testing.TB, results []*foyerv1.EmitResponse, n int, matched int32) {
	t.Helper()
	if len(results) != n {
		t.Fatalf("%d results, want %d", len(results), n)
	}
	for i, r := range results {
		if r.GetMatched() != matched || r.GetEnqueued() != matched {
			t.Fatalf("result %d: %v", i, r)
		}
	}
}

// Each way in which much may come at once for somebody who reads: all of it arrives, once and in its order.
var bursts = map[string]struct{ n, size, batch int }{
	"12 x 100 KB in a message":     {12, 100_000, 12},
	"60 x 100 KB in five messages": {60, 100_000, 12},
	"3 x 600 KB":                   {3, 600_000, 3},
	"20,000 x 10 B":                {20_000, 10, 1000},
}

func TestBurstsToOneReader(t *testing.T) {
	for name, b := range bursts {
		for transport, connect := range map[string]func(*stack) *browser{"websocket": (*stack).websocket, "polling": (*stack).polling} {
			t.Run(name+"/"+transport, func(t *testing.T) {
				s := newStack(t, engineio.Config{}, service.Config{})
				reader := connect(s)
				items := make([]*foyerv1.EmitRequest, b.n)
				for i := range items {
					items[i] = emitOf(i, b.size, reader.id)
				}
				reader.start()
				wantReceipts(t, s.stream(b.batch, items), b.n, 1)
				reader.wantAll(b.n)
			})
		}
	}
}

// TestCallsSideBySide: calls that come all at once wait for room, each by itself.
func TestCallsSideBySide(t *testing.T) {
	const n = 60
	for transport, connect := range map[string]func(*stack) *browser{"websocket": (*stack).websocket, "polling": (*stack).polling} {
		t.Run(transport, func(t *testing.T) {
			s := newStack(t, engineio.Config{}, service.Config{})
			reader := connect(s)
			var calls sync.WaitGroup
			for i := range n {
				calls.Go(func() {
					if r, err := s.emits.Emit(s.ctx, emitOf(i, 100_000, reader.id)); err != nil || r.GetEnqueued() != 1 {
						t.Error(r, err)
					}
				})
			}
			reader.start()
			calls.Wait()
			reader.await("all", func(b *browser) bool { return len(b.numbers) == n })
			seen := map[int]bool{}
			for _, i := range reader.numbers {
				seen[i] = true
			}
			if len(seen) != n {
				t.Errorf("%d different events", len(seen))
			}
		})
	}
}

// TestBurstsToTwo: what fits into the queues of a room of two arrives at both. Nobody waits there, so a burst is what a
// queue holds beside what a transport takes.
func TestBurstsToTwo(t *testing.T) {
	for name, b := range map[string]struct{ n, size, batch int }{
		"9 x 100 KB": {9, 100_000, 9}, "15,000 x 10 B": {15_000, 10, 1000},
	} {
		for transport, connect := range map[string]func(*stack) *browser{"websocket": (*stack).websocket, "polling": (*stack).polling} {
			t.Run(name+"/"+transport, func(t *testing.T) {
				s := newStack(t, engineio.Config{}, service.Config{})
				readers := []*browser{connect(s), connect(s)}
				items := make([]*foyerv1.EmitRequest, b.n)
				for i := range items {
					items[i] = emitOf(i, b.size)
				}
				for _, r := range readers {
					r.start()
				}
				wantReceipts(t, s.stream(b.batch, items), b.n, 2)
				for _, r := range readers {
					r.wantAll(b.n)
				}
			})
		}
	}
}

// TestFrozenMember: a member that reads nothing goes without, the healthy member of its room gets all at once, and in
// the end the frozen link is closed and nothing is kept for it.
func TestFrozenMember(t *testing.T) {
	s := newStack(t, engineio.Config{SlowAfter: 2 * time.Second}, service.Config{})
	frozen, healthy := s.websocket(), s.websocket()
	healthy.start()
	dropped := 0
	for i := range 300 { // 30 MB
		r, err := s.emits.Emit(s.ctx, emitOf(i, 100_000))
		if err != nil {
			t.Fatal(err)
		}
		if r.GetMatched() != r.GetEnqueued()+r.GetDroppedSlow() {
			t.Fatal(r)
		}
		dropped += int(r.GetDroppedSlow())
		healthy.await("event", func(b *browser) bool { return len(b.numbers) == i+1 })
		if used := s.node.Budget().UsedBy(service.UseOutbound); used > 3<<20 {
			t.Fatalf("queues hold %d bytes", used)
		}
	}
	healthy.wantAll(300)
	if dropped == 0 {
		t.Error("nothing was dropped for one that reads nothing")
	}
	s.awaitSockets(1)
	if d := s.node.Info().Dropped["slow"]; d != int64(dropped) {
		t.Errorf("%d counted, %d told", d, dropped)
	}
	frozen.start()
	frozen.await("the end", func(b *browser) bool { return b.closed })
	for i, n := range frozen.numbers {
		if n != i {
			t.Fatalf("place %d has event %d: the first to be dropped is followed by others", i, n)
		}
	}
}

// awaitSockets waits until so many are connected.
func (s *stack) awaitSockets(n int) {
	s.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); s.node.Info().Sockets != n; {
		select {
		case <-tick.C:
		case <-late:
			s.Fatalf("%d sockets", s.node.Info().Sockets)
		}
	}
}

// TestStreamToFrozenAndHealthy: a stream whose items go to one socket each waits for the frozen one, in its order,
// until that is closed, and for no second one that has taken nothing for as long. Meanwhile another stream is served.
func TestStreamToFrozenAndHealthy(t *testing.T) {
	s := newStack(t, engineio.Config{SlowAfter: 2 * time.Second}, service.Config{})
	frozen, healthy, other := s.websocket(), s.websocket(), s.websocket()
	healthy.start()
	other.start()
	var items []*foyerv1.EmitRequest
	const n = 100 // 10 MB
	for i := range n {
		items = append(items, emitOf(i, 100_000, frozen.id), emitOf(i, 1000, healthy.id))
	}
	beside := make(chan struct{})
	go func() {
		defer close(beside)
		for i := range n {
			if r, err := s.emits.Emit(s.ctx, emitOf(i, 10, other.id)); err != nil || r.GetEnqueued() != 1 {
				t.Error(r, err)
			}
		}
	}()
	results := s.stream(20, items)
	<-beside
	healthy.wantAll(n)
	other.wantAll(n)
	for i, r := range results {
		if i%2 == 1 && r.GetEnqueued() != 1 {
			t.Errorf("result %d: %v", i, r)
		}
	}
	s.awaitSockets(2)
	frozen.start()
	frozen.await("the end", func(b *browser) bool { return b.closed })
}

// TestFrozenCrowd: many that read nothing beside as many that do: memory stays within the budget, all that read get
// all, and the others are gone in the end.
func TestFrozenCrowd(t *testing.T) {
	const each, events, size = 150, 40, 50_000
	budget := service.NewBudget(32 << 20)
	s := newStack(t, engineio.Config{SlowAfter: 3 * time.Second}, service.Config{Budget: budget})
	var healthy []*browser
	for range each {
		s.websocket()
		b := s.websocket()
		b.start()
		healthy = append(healthy, b)
	}
	var most uint64
	for i := range events {
		if _, err := s.emits.Emit(s.ctx, emitOf(i, size)); err != nil {
			t.Fatal(err)
		}
		for _, b := range healthy {
			b.await("event", func(b *browser) bool { return len(b.numbers) == i+1 })
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapInuse)
	}
	for _, b := range healthy {
		b.wantAll(events)
	}
	s.awaitSockets(each)
	t.Logf("at most %d MiB of heap, clients included", most>>20)
	if used := budget.UsedBy(service.UseOutbound); used > 1<<20 {
		t.Errorf("queues hold %d bytes", used)
	}
}

// TestAcksThatAreNotTaken: a client that asks for answers and takes none is not read any more, and is closed; its
// answers are not dropped before.
func TestAcksThatAreNotTaken(t *testing.T) {
	s := newStack(t, engineio.Config{SlowAfter: 2 * time.Second, QueueBytes: 256 << 10}, service.Config{})
	ctx, leave := context.WithCancel(s.ctx)
	attached, err := s.attac.Attach(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = attached.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/"}, Group: "g"}}})
	var handling sync.WaitGroup
	defer handling.Wait()
	defer leave()
	answer := fmt.Sprintf(`[%q]`, strings.Repeat("y", 50_000))
	ready := make(chan struct{})
	handling.Go(func() {
		for {
			m, err := attached.Recv()
			if err != nil {
				return
			}
			if m.GetRegistered() != nil {
				close(ready)
			}
			if e := m.GetEvent(); e != nil {
				_ = attached.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{
					CallId: e.GetCallId(), Args: &foyerv1.Args{Args: &foyerv1.Args_Json{Json: answer}},
				}}})
			}
		}
	})
	<-ready
	frozen := s.websocket()
	most := int64(0)
	for i := 0; ; i++ { // until the link is closed, or nothing is read any more for the whole time
		if err := frozen.say(fmt.Sprintf(`42%d["ask"]`, i)); err != nil {
			break
		}
		most = max(most, s.node.Budget().UsedBy(service.UseOutbound))
	}
	s.awaitSockets(0)
	if most > 16<<20 { // 256 events in flight
		t.Errorf("%d bytes of answers were held", most)
	}
	if d := s.node.Info().Dropped["slow"]; d != 0 {
		t.Errorf("%d answers dropped", d)
	}
}
