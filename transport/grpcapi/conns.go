package grpcapi

import (
	"container/list"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"foyer/service"
)

// Bounds of what a connection may cost before one of its calls has shown a token, and of how long it may take.
const (
	tokenWithin     = 20 * time.Second // to show one; a call of health begins the time anew
	requestWithin   = time.Minute      // for the whole of a message that has begun, or of a call's request
	sweepEvery      = 5 * time.Second  // how late the two above may be noticed
	unknownConns    = 128              // that have shown no token; beyond it, or half of it from one address, the oldest goes
	unknownRefusals = 16               // of one connection that may hold something until they are answered: see tap
	unknownProbes   = 8                // calls of health under way on one connection
	maxProbes       = 64               // the same when it has shown a token
	unknownHeld     = 64 << 20         // of messages that are not complete and mostly of calls that are refused
	probedHeld      = 64 << 10         // the same of a connection that may call health
)

// gate has the connections of a Server: how many there are, whose they are and what they hold before a call of theirs
// begins.
type gate struct {
	max atomic.Int64 // connections; half of them for one address

	// Set before start.
	heldBytes int64 // of messages that are not complete
	connBytes int64 // the same for one connection
	open      bool  // everybody may call
	budget    *service.Budget
	told      *zap.Logger

	held   atomic.Int64
	counts [refusalCount]atomic.Int64

	mu sync.Mutex
	// Guarded by mu.
	conns   map[*conn]struct{}
	hosts   map[string]int // connections of each address
	unknown *list.List     // of *conn, the oldest first
	sweeper *time.Timer
	closed  bool
}

// newGate makes a gate. fair is what a client may have under way that keeps to its turns and windows.
func newGate(maxConns int, heldBytes, fair int64, open bool, budget *service.Budget, told *zap.Logger) *gate {
	g := &gate{
		heldBytes: heldBytes, connBytes: min(heldBytes, max(heldBytes/4, fair)), open: open, budget: budget, told: told,
		conns: make(map[*conn]struct{}), hosts: make(map[string]int), unknown: list.New(),
	}
	g.max.Store(int64(maxConns))
	return g
}

// gateListener lets in whom the gate does.
type gateListener struct {
	net.Listener
	gate *gate
}

func (l gateListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.gate.admit(raw); c != nil {
			return c, nil
		}
		_ = raw.Close()
	}
}

// admit counts a connection; nil: there is no room for it. One that is not known takes the place of the oldest such.
func (g *gate) admit(raw net.Conn) *conn {
	c := &conn{Conn: raw, gate: g, host: hostOf(raw.RemoteAddr()), slots: make(chan int, receiving)}
	c.own.caller = c.host
	for i := range receiving {
		c.slots <- i
	}
	c.addr = connAddr{raw.RemoteAddr(), c}
	c.progress = newProgress()
	c.seen.Store(time.Now().UnixNano())
	var oldest *conn
	most := int(g.max.Load())
	g.mu.Lock()
	ok := !g.closed && len(g.conns) < most && g.hosts[c.host] < max(1, most/2)
	if ok {
		if !g.open {
			oldest = g.oldestLocked(c.host)
			c.place = g.unknown.PushBack(c)
		}
		g.conns[c] = struct{}{}
		g.hosts[c.host]++
		if g.sweeper == nil {
			g.sweeper = time.AfterFunc(sweepEvery, g.sweep)
		}
	}
	g.mu.Unlock()
	if !ok {
		g.refuse(refusedConnections, c.host, "")
		return nil
	}
	if oldest != nil {
		g.refuse(refusedUnknown, oldest.host, "")
		_ = oldest.Close()
	}
	return c
}

// oldestLocked is the connection that makes room for another of host; nil: there is room. One address has half of it.
func (g *gate) oldestLocked(host string) *conn {
	of := 0
	var first *conn
	for e := g.unknown.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); c.host == host {
			of++
			if first == nil {
				first = c
			}
		}
	}
	switch {
	case of >= unknownConns/2:
		return first
	case g.unknown.Len() >= unknownConns:
		return g.unknown.Front().Value.(*conn)
	}
	return nil
}

// known says that a connection has shown a token.
func (g *gate) known(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.place != nil {
		g.unknown.Remove(c.place)
		c.place = nil
	}
	c.known.Store(true)
}

func (g *gate) forget(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.conns[c]; !ok {
		return
	}
	delete(g.conns, c)
	if g.hosts[c.host]--; g.hosts[c.host] == 0 {
		delete(g.hosts, c.host)
	}
	if c.place != nil {
		g.unknown.Remove(c.place)
		c.place = nil
	}
	if len(g.conns) == 0 && g.sweeper != nil {
		g.sweeper.Stop()
		g.sweeper = nil
	}
}

// sweep closes the connections that have let their time pass.
func (g *gate) sweep() {
	for c, why := range g.late(time.Now()) {
		g.refuse(why, c.host, "")
		_ = c.Close()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sweeper != nil {
		g.sweeper.Reset(sweepEvery)
	}
}

func (g *gate) late(now time.Time) map[*conn]refusal {
	g.mu.Lock()
	defer g.mu.Unlock()
	late := map[*conn]refusal{}
	for c := range g.conns {
		switch {
		case c.place != nil && c.probes.Load() == 0 && now.UnixNano()-c.seen.Load() > int64(tokenWithin):
			late[c] = refusedUnknown
		case c.stalled(now.Add(-requestWithin).UnixNano()):
			late[c] = refusedStalled
		}
	}
	return late
}

// hold counts bytes that are held, or n below zero that are no more.
func (g *gate) hold(n int64) {
	g.held.Add(n)
	g.budget.Force(service.UseInbound, int(n))
}

// check closes who holds too much of messages that are not complete: c, when it holds more than one connection may, or
// the largest holder, when the node does.
func (g *gate) check(c *conn) {
	held := c.held.Load()
	switch {
	case held > g.connBytes,
		!c.known.Load() && !g.open && (held > unknownHeld || c.probed.Load() && held > probedHeld):
		g.refuse(refusedBytes, c.host, "")
		_ = c.Close()
	case g.held.Load() > g.heldBytes:
		if largest := g.largest(); largest != nil {
			g.refuse(refusedBytes, largest.host, "")
			_ = largest.Close()
		}
	}
}

func (g *gate) largest() (largest *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		if largest == nil || c.held.Load() > largest.held.Load() {
			largest = c
		}
	}
	return largest
}

// closeSilent closes the connections that have called nothing: before it stops, gRPC waits for their greeting, and then
// 5 s for their word that they have heard of the end.
func (g *gate) closeSilent() {
	g.closeThose(func(c *conn) bool { return !c.called.Load() })
}

// close closes all connections and lets in no more.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.closeThose(func(*conn) bool { return true })
}

func (g *gate) closeThose(which func(*conn) bool) {
	g.mu.Lock()
	those := make([]*conn, 0, len(g.conns))
	for c := range g.conns {
		if which(c) {
			those = append(those, c)
		}
	}
	g.mu.Unlock()
	for _, c := range those {
		_ = c.Close()
	}
}

// receiving is how many requests one connection may be sending whole at a time. Those behind them wait in their
// windows.
const receiving = 16

// conn is one connection of a backend. What gRPC knows as its peer's address leads back to it.
type conn struct {
	net.Conn
	gate *gate
	host string
	addr connAddr
	own  admission // of its calls where everybody may call

	known  atomic.Bool  // a call of it has shown a token
	probed atomic.Bool  // health was asked without
	called atomic.Bool  // a call of it has begun
	seen   atomic.Int64 // when it came or asked for health, in Unix nanoseconds
	probes atomic.Int32 // calls of health that are under way

	refusals int // calls that are refused by their handlers; owned by the reader

	held atomic.Int64 // bytes of messages that are not complete

	slots chan int                // the requests that may be received now
	begun [receiving]atomic.Int64 // since when each is, in Unix nanoseconds; 0: it is not

	place *list.Element // among the unknown; guarded by gate.mu

	mu       sync.Mutex
	progress progress // guarded by mu
	closed   bool     // guarded by mu
}

// connAddr is the address of a connection's peer.
type connAddr struct {
	net.Addr
	conn *conn
}

func (c *conn) RemoteAddr() net.Addr { return &c.addr }

func (c *conn) Close() error {
	c.mu.Lock()
	first := !c.closed
	if first {
		c.closed = true
		c.gate.hold(-c.held.Swap(0))
	}
	c.mu.Unlock()
	if first {
		c.gate.forget(c)
	}
	return c.Conn.Close()
}

// read takes what gRPC is about to see.
func (c *conn) read(p []byte) {
	c.mu.Lock()
	first := c.progress.first()
	called := c.progress.read(p)
	c.countLocked()
	c.mu.Unlock()
	if first {
		c.greeted(p)
	}
	if called && !c.called.Load() {
		c.called.Store(true)
	}
	if c.held.Load() > probedHeld {
		c.gate.check(c)
	}
}

// wrote takes what gRPC has sent.
func (c *conn) wrote(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress.wrote(p)
	c.countLocked()
}

func (c *conn) countLocked() {
	if more := c.progress.held - c.held.Load(); more != 0 && !c.closed {
		c.held.Add(more)
		c.gate.hold(more)
	}
}

// connOf is the connection of a call; nil outside of one.
func connOf(ctx context.Context) *conn {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	addr, ok := p.Addr.(*connAddr)
	if !ok {
		return nil
	}
	return addr.conn
}

func hostOf(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	if addr.Network() == memoryNetwork {
		return "memory"
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host // without the port: a caller that reconnects is the same caller
}

// begin waits for the turn of a call's request: what the connection sends beyond those that have it waits unread. end
// is to be called with what it returns.
func (c *conn) begin(ctx context.Context) (int, error) {
	select {
	case i := <-c.slots:
		c.begun[i].Store(time.Now().UnixNano())
		return i, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (c *conn) end(i int) {
	c.begun[i].Store(0)
	c.slots <- i
}

// stalled says whether something that the connection has begun before then is still to come.
func (c *conn) stalled(then int64) bool {
	c.mu.Lock()
	older := c.progress.older(then)
	c.mu.Unlock()
	if older {
		return true
	}
	for i := range c.begun {
		if t := c.begun[i].Load(); t != 0 && t < then {
			return true
		}
	}
	return false
}

// watchedCreds looks at what is received, above TLS where there is TLS.
type watchedCreds struct {
	credentials.TransportCredentials
}

func (w watchedCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(*conn)
	if ok && inMemory(c.Conn) {
		return &inbound{Conn: raw, conn: c}, nil, nil
	}
	plain, info, err := w.TransportCredentials.ServerHandshake(raw)
	switch {
	case !ok:
	case err == nil:
		plain = &inbound{Conn: plain, conn: c}
	case !left(err):
		c.gate.refuse(refusedTLS, c.host, err.Error())
	}
	return plain, info, err
}
