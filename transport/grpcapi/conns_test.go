package grpcapi

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

const (
	emitMethod   = foyerv1.EmitService_Emit_FullMethodName
	healthMethod = healthpb.Health_Check_FullMethodName
	mebibyte     = 1 << 20
)

// newTestServer is a Server that is not served yet. Its node takes payloads of the usual size.
func newTestServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	n := newFakeNode()
	n.config.MaxPayloadBytes = 1_000_000
	s, err := newServer(cfg, n)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func heapNow() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the pools' second chance
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestUnknownCallersHoldNothing: of a call without a token nothing is kept, however much of it is sent.
func TestUnknownCallersHoldNothing(t *testing.T) {
	const calls, size, sent = 34, 4_900_000, 4_800_000
	for name, headers := range map[string][]string{"no deadline": nil, "deadline": {"grpc-timeout", "99999999H"}} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, Config{Tokens: []string{"secret"}})
			began := time.Now()
			c := dialRaw(t, listening(t, s)).greet()
			c.hasty = true
			before := heapNow()
			for range calls {
				stream := c.call(emitMethod, headers...)
				if !c.message(stream, size, sent) {
					break
				}
				c.wantEnded(stream)
			}
			if got := heapNow() - before; got > 2*mebibyte {
				t.Errorf("%d bytes are held of %d", got, calls*sent)
			}
			got, want := c.isClosed() || waitClosed(c), headers != nil
			late := time.Since(began) > tokenWithin // on a busy machine; then each such connection is closed
			if got != want && (want || !late) {
				t.Errorf("closed: %t, want %t", got, want)
			}
			if got := s.gate.counts[refusedCalls].Load(); got < unknownRefusals {
				t.Errorf("%d refusals are counted", got)
			}
		})
	}
}

// waitClosed says whether the server has closed a connection by the time it answers the next call.
func waitClosed(c *rawClient) bool {
	stream := c.call(emitMethod)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.ended[stream] && !c.isClosed() {
		c.told.Wait()
	}
	return c.isClosed()
}

// TestUnknownCallersAreTold: a caller with a wrong token hears so, also about requests that it cannot send to their
// end.
func TestUnknownCallersAreTold(t *testing.T) {
	s := newTestServer(t, Config{Tokens: []string{"secret"}})
	client := serve(t, s)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer wrong")
	large := &foyerv1.EmitRequest{Target: toRoom("r"), Payload: jsonPayload("e", `["`+strings.Repeat("x", 900_000)+`"]`)}
	var calls sync.WaitGroup
	for i := range 100 {
		calls.Go(func() {
			ctx := ctx
			if i < unknownRefusals/2 { // more of these at once are too many for a connection
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Minute)
				defer cancel()
			}
			_, err := client.emit.Emit(ctx, large)
			if got := statusReason(err); got != "UNAUTHENTICATED" {
				t.Errorf("got %v, want UNAUTHENTICATED", err)
			}
		})
	}
	calls.Wait()
	_, err := client.emit.Emit(ctx, large)
	wantError(t, err, codes.Unauthenticated, foyerv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, "")
	ctx = metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer secret")
	if _, err := client.emit.Emit(ctx, large); err != nil {
		t.Errorf("with the token on the same connection: %v", err)
	}
}

// TestUnknownConnectionEnds: a connection has a while to show a token; calls of health renew it.
func TestUnknownConnectionEnds(t *testing.T) { bubble(t, testUnknownConnectionEnds) }

func testUnknownConnectionEnds(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	s := newTestServer(t, Config{Tokens: []string{"secret"}, Logger: zap.New(core)})
	lis := listening(t, s)
	idle, refused, probing, known := dialRaw(t, lis).greet(), dialRaw(t, lis).greet(), dialRaw(t, lis).greet(), dialRaw(t, lis).greet()
	known.message(known.call(emitMethod, "authorization", "Bearer secret"), 0, 0)
	began := time.Now()
	for time.Since(began) < 4*tokenWithin {
		refused.call(emitMethod, "authorization", "Bearer wrong")
		probing.message(probing.call(healthMethod), 0, 0)
		time.Sleep(tokenWithin / 4)
		if late := time.Since(began) > tokenWithin+sweepEvery; idle.isClosed() != late && late || refused.isClosed() != late && late {
			t.Fatalf("after %v: idle closed %t, refused closed %t", time.Since(began), idle.isClosed(), refused.isClosed())
		}
		if time.Since(began) < tokenWithin && (idle.isClosed() || refused.isClosed()) {
			t.Fatalf("closed after %v", time.Since(began))
		}
	}
	if probing.isClosed() || known.isClosed() {
		t.Errorf("closed: probing %t, known %t", probing.isClosed(), known.isClosed())
	}
	time.Sleep(tokenWithin + 2*sweepEvery)
	if !probing.isClosed() || known.isClosed() {
		t.Errorf("after the last call of health: closed: probing %t, known %t", probing.isClosed(), known.isClosed())
	}
	if got := s.gate.counts[refusedUnknown].Load(); got != 3 {
		t.Errorf("%d are counted, want 3", got)
	}
	if len(logs.FilterField(zap.String("reason", "api_connection_unknown")).All()) == 0 {
		t.Error("the log says nothing")
	}
}

// TestUnknownConnectionsMakeRoom: a caller that shows no token keeps out no caller that has one.
func TestUnknownConnectionsMakeRoom(t *testing.T) {
	s := newTestServer(t, Config{Tokens: []string{"secret"}})
	lis := listening(t, s)
	first := dialRaw(t, lis).greet()
	first.wantEnded(first.call(emitMethod, "authorization", "Bearer wrong"))
	for range 3 * unknownConns {
		c := dialRaw(t, lis).greet()
		c.wantEnded(c.call(emitMethod))
	}
	<-first.closed
	s.gate.mu.Lock()
	unknown := s.gate.unknown.Len()
	s.gate.mu.Unlock()
	if unknown > unknownConns/2 {
		t.Errorf("%d connections of one address have shown no token, want %d at most", unknown, unknownConns/2)
	}
	c := dialRaw(t, lis).greet()
	stream := c.call(emitMethod, "authorization", "Bearer secret")
	c.message(stream, 0, 0)
	c.wantEnded(stream)
}

// addressed is a connection of some address.
type addressed struct {
	net.Conn
	address string
	closed  bool
}

func (a *addressed) RemoteAddr() net.Addr { return fakeAddr(a.address) }
func (a *addressed) Close() error         { a.closed = true; return nil }

type fakeAddr string

func (fakeAddr) Network() string  { return "tcp" }
func (a fakeAddr) String() string { return string(a) }

// TestConnectionShares: one address has half of the connections, and gives back what it has.
func TestConnectionShares(t *testing.T) {
	g := newGate(10, 1<<20, 1<<20, true, service.NewBudget(0), zap.NewNop())
	defer g.close()
	admit := func(host string, port int) *conn {
		return g.admit(&addressed{address: fmt.Sprintf("%s:%d", host, port)})
	}
	var own []*conn
	for port := range 20 {
		if c := admit("10.0.0.1", port); c != nil {
			own = append(own, c)
		}
	}
	if len(own) != 5 {
		t.Errorf("one address has %d of 10 connections, want 5", len(own))
	}
	others := 0
	for i := range 10 {
		if admit(fmt.Sprintf("10.0.1.%d", i), 1) != nil {
			others++
		}
	}
	if others != 5 {
		t.Errorf("the others have %d of 10 connections, want 5", others)
	}
	_ = own[0].Close()
	_ = own[0].Close() // once more changes nothing
	if admit("10.0.0.1", 30) == nil || admit("10.0.0.1", 31) != nil {
		t.Error("one has left, and not just one comes in")
	}
	if got := g.counts[refusedConnections].Load(); got != 21 {
		t.Errorf("%d refusals are counted, want 21", got)
	}
}

// TestStalledRequest: a message that is not sent to its end ends its connection, whichever kind of call it is of.
func TestStalledRequest(t *testing.T) { bubble(t, testStalledRequest) }

func testStalledRequest(t *testing.T) {
	s := newTestServer(t, Config{})
	n := s.node.(*fakeNode)
	n.onAttach = func(service.Registration) (handler, error) { return newFakeHandler(), nil }
	lis := listening(t, s)
	methods := map[string]string{
		"unary": emitMethod, "server stream": foyerv1.PresenceService_Watch_FullMethodName,
		"stream": foyerv1.EmitService_EmitStream_FullMethodName,
	}
	stalled := map[string]*rawClient{}
	for kind, method := range methods {
		for part, sent := range map[string]int{"some": 100, "large": 500_000, "nothing": -1} {
			if kind == "stream" && sent < 0 {
				continue // a stream may be idle
			}
			c := dialRaw(t, lis).greet()
			stalled[kind+", "+part] = c
			if stream := c.call(method); sent >= 0 {
				c.message(stream, 900_000, sent)
			}
		}
	}
	fine := dialRaw(t, lis).greet()
	fine.call(foyerv1.EmitService_EmitStream_FullMethodName)
	time.Sleep(requestWithin - time.Second)
	for name, c := range stalled {
		if c.isClosed() {
			t.Errorf("%s: closed too early", name)
		}
	}
	time.Sleep(2*sweepEvery + time.Second)
	for name, c := range stalled {
		if !c.isClosed() {
			t.Errorf("%s: not closed after %v", name, requestWithin)
		}
	}
	time.Sleep(5 * requestWithin)
	if fine.isClosed() {
		t.Error("an idle stream is closed")
	}
	if got := s.gate.counts[refusedStalled].Load(); got != int64(len(stalled)) {
		t.Errorf("%d are counted, want %d", got, len(stalled))
	}
	if got := s.gate.held.Load(); got != 0 {
		t.Errorf("%d bytes are held", got)
	}
}

// TestRequestBytes: what is held of messages that do not come to their end is bounded, for a connection and for all of
// them together, where the largest holder pays.
func TestRequestBytes(t *testing.T) { bubble(t, testRequestBytes) }

func testRequestBytes(t *testing.T) {
	s := newTestServer(t, Config{RequestBytes: 4 * mebibyte})
	lis := listening(t, s)
	hold := func(c *rawClient, streams, bytes int) {
		for range streams {
			c.message(c.call(foyerv1.EmitService_EmitStream_FullMethodName), 2*bytes, bytes)
		}
		synctest.Wait()
	}
	greedy := dialRaw(t, lis).greet()
	hold(greedy, 4, 1_000_000)
	if greedy.isClosed() {
		t.Fatal("closed below its bound")
	}
	if got := s.limits.Budget.UsedBy(service.UseInbound); got != 4_000_000 {
		t.Errorf("the node's budget has %d bytes of it, want 4000000", got)
	}
	hold(greedy, 1, 300_000)
	if !greedy.isClosed() || s.gate.held.Load() != 0 {
		t.Fatalf("closed %t, %d bytes are held", greedy.isClosed(), s.gate.held.Load())
	}
	largest := dialRaw(t, lis).greet()
	hold(largest, 1, 1_000_000)
	var some []*rawClient
	for range 4 {
		c := dialRaw(t, lis).greet()
		hold(c, 1, 800_000)
		some = append(some, c)
	}
	if !largest.isClosed() {
		t.Error("the largest holder is not closed")
	}
	for i, c := range some {
		if c.isClosed() {
			t.Errorf("%d is closed, and others hold more", i)
		}
	}
	for _, c := range some {
		_ = c.Close()
	}
	synctest.Wait()
	if got := s.limits.Budget.UsedBy(service.UseInbound); got != 0 {
		t.Errorf("the node's budget has %d bytes when all is closed", got)
	}
	if got := s.gate.counts[refusedBytes].Load(); got != 2 {
		t.Errorf("%d are counted, want 2", got)
	}
}

// TestProbesHoldLittle: a connection that may call health without a token holds no more for it than such calls need.
func TestProbesHoldLittle(t *testing.T) { bubble(t, testProbesHoldLittle) }

func testProbesHoldLittle(t *testing.T) {
	s := newTestServer(t, Config{Tokens: []string{"secret"}})
	c := dialRaw(t, listening(t, s)).greet()
	for range 10 {
		if !c.message(c.call(healthMethod), 100_000, 50_000) {
			break
		}
	}
	synctest.Wait()
	if !c.isClosed() || s.gate.held.Load() != 0 {
		t.Errorf("closed %t, %d bytes are held", c.isClosed(), s.gate.held.Load())
	}
}

// TestRequestsTakeTurns: what one connection sends beyond a few requests at a time waits in its windows and then comes
// through, whole.
func TestRequestsTakeTurns(t *testing.T) {
	s := newTestServer(t, Config{RequestBytes: 256 * mebibyte})
	client := serve(t, s)
	large := &foyerv1.EmitRequest{Target: toRoom("r"), Payload: jsonPayload("e", `["`+strings.Repeat("x", 900_000)+`"]`)}
	var calls sync.WaitGroup
	for range 200 { // 180 MB, where one connection may hold 64
		calls.Go(func() {
			if _, err := client.emit.Emit(t.Context(), large); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if got := s.gate.held.Load(); got != 0 {
		t.Errorf("%d bytes are held", got)
	}
}

// TestStopWithSilentConnections: a connection that says nothing does not hold up the end.
func TestStopWithSilentConnections(t *testing.T) { bubble(t, testStopWithSilentConnections) }

func testStopWithSilentConnections(t *testing.T) {
	s := newTestServer(t, Config{})
	lis := listening(t, s)
	silent := dialRaw(t, lis)
	half := dialRaw(t, lis)
	half.write([]byte("PRI * HTTP/2.0\r\n"))
	synctest.Wait()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil || time.Since(began) > time.Second {
		t.Errorf("stopped after %v: %v", time.Since(began), err)
	}
	<-silent.closed
	<-half.closed
}
