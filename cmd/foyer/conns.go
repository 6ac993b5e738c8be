package main

import (
	"container/list"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"foyer/service"
)

// looks bounds how many connections are looked at for one that can go.
const looks = 64

// conns bounds the connections of an HTTP listener, as each takes a descriptor: at the edge so many that the API and
// the admin listener can always accept. One address has a share of them. Where there is no room, a connection goes on
// which no request is under way, of the newcomer's own address if that has used its share up; only when there is none
// is the newcomer closed. A websocket counts, and stays: it is a session, which has bounds of its own.
type conns struct {
	// Set before start.
	what string
	told *zap.Logger // says the same thing once in tellEvery

	failed, refused, displaced, unsafe atomic.Int64

	most  atomic.Int64 // 0: no bound
	share atomic.Int64 // of one address; 0: no bound

	mu sync.Mutex
	// Guarded by mu.
	open   int
	hosts  map[netip.Addr]*host
	queue  list.List      // of *conn: those that speak HTTP, roughly the oldest first
	exempt []netip.Prefix // proxies, which are let in for many
}

// host is an address, of IPv6 the first 64 bits. Guarded by conns.mu.
type host struct {
	conns *conns // set before start
	key   netip.Addr
	open  int
	queue *list.List // of *conn, as in conns; nil: none
}

// newConns makes the bounds of a listener: most connections, of which a share, of 0 three quarters, may be of one
// address.
func newConns(what string, most, share int, exempt []netip.Prefix, told *zap.Logger) *conns {
	cs := &conns{what: what, exempt: exempt, hosts: make(map[netip.Addr]*host), told: told.Named("listener")}
	cs.bound(most, share)
	return cs
}

// bound has other bounds hold from now on. Connections that are open stay until there is no room for another.
func (cs *conns) bound(most, share int) {
	if share == 0 && most > 0 {
		share = max(1, most/4*3)
	}
	cs.most.Store(int64(most))
	cs.share.Store(int64(share))
}

// excuse has these proxies in place of others hold from now on. The slice is its own.
func (cs *conns) excuse(proxies []netip.Prefix) {
	cs.mu.Lock()
	cs.exempt = proxies
	cs.mu.Unlock()
}

// limit is the bound of all connections of the listener.
func (cs *conns) limit() service.Limit {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return service.Limit{Name: cs.what + "_connections", Used: int64(cs.open), Most: cs.most.Load()}
}

// listen returns a listener whose connections are bounded.
func (cs *conns) listen(l net.Listener) net.Listener { return boundedListener{l, cs} }

// counts returns what was not let in, by the words of GetInfo.
func (cs *conns) counts(into map[string]int64) {
	into[cs.what+"_accept_failed"] = cs.failed.Load()
	into[cs.what+"_connection_refused"] = cs.refused.Load()
	into[cs.what+"_connection_displaced"] = cs.displaced.Load()
	into[cs.what+"_tls_failed"] = cs.unsafe.Load()
}

type boundedListener struct {
	net.Listener
	conns *conns
}

// Accept returns the next connection that there is room for. An error is counted and told: the server only waits, and
// tries again.
func (l boundedListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.conns.failed.Add(1)
				l.conns.told.Error("no connection can be accepted", zap.String("reason", l.conns.what+"_accept_failed"), zap.NamedError("err", err))
			}
			return nil, err
		}
		tcp, ok := raw.(*net.TCPConn)
		if !ok {
			return raw, nil // only in tests
		}
		if c := l.conns.admit(tcp); c != nil {
			return c, nil
		}
		_ = raw.Close()
	}
}

// conn is a connection that is counted until it is closed. It is a *net.TCPConn to all that ask for more than net.Conn
// has. Every websocket has one, so it is small.
type conn struct {
	*net.TCPConn
	host *host       // set before start
	busy atomic.Bool // a request is under way

	closed bool    // guarded by conns.mu
	places *places // guarded by conns.mu; nil once it is a websocket, or closed
}

// places are those of a connection in the queues of its listener and of its host.
type places struct{ all, host *list.Element }

// Close closes the connection, and makes room for another.
func (c *conn) Close() error {
	cs := c.host.conns
	cs.mu.Lock()
	cs.closedLocked(c)
	cs.mu.Unlock()
	return c.TCPConn.Close()
}

// admit makes room for a connection; nil: there is none.
func (cs *conns) admit(raw *net.TCPConn) *conn {
	from := netip.Addr{}
	if addr, ok := raw.RemoteAddr().(*net.TCPAddr); ok {
		from = addr.AddrPort().Addr().Unmap().WithZone("")
	}
	cs.mu.Lock()
	out, c := cs.admitLocked(raw, from)
	cs.mu.Unlock()
	switch {
	case c == nil:
		cs.refused.Add(1)
		cs.told.Warn("connection refused", zap.String("reason", cs.what+"_connection_refused"), zap.Stringer("address", from),
			zap.String("detail", "all connections that may be open, of all or of this address, have a request under way or are websockets; "+
				"a proxy that --trusted-proxy names may have more than one address' share"), cs.setting())
	case out != nil:
		cs.displaced.Add(1)
		cs.told.Warn("connection closed", zap.String("reason", cs.what+"_connection_displaced"), zap.Stringer("address", out.host.key),
			zap.String("detail", "it has no request under way, and makes room for another"), cs.setting())
		_ = out.TCPConn.Close()
	}
	return c
}

// setting names what bounds the connections.
func (cs *conns) setting() zap.Field {
	return zap.String("setting", fmt.Sprintf("--max-connections=%d --max-connections-per-address=%d", cs.most.Load(), cs.share.Load()))
}

func (cs *conns) admitLocked(raw *net.TCPConn, from netip.Addr) (out, c *conn) {
	key := hostKey(from)
	h := cs.hosts[key]
	if h == nil {
		h = &host{conns: cs, key: key}
	}
	most, share := int(cs.most.Load()), int(cs.share.Load())
	queue, full := &cs.queue, most > 0 && cs.open >= most
	if share > 0 && h.open >= share && !slices.ContainsFunc(cs.exempt, func(p netip.Prefix) bool { return p.Contains(from) }) {
		queue, full = h.queue, true
	}
	if full {
		if out = idleOf(queue); out == nil {
			return nil, nil
		}
		cs.closedLocked(out)
	}
	c = &conn{TCPConn: raw, host: h}
	if h.queue == nil {
		h.queue = list.New()
	}
	c.places = &places{cs.queue.PushBack(c), h.queue.PushBack(c)}
	h.open++
	cs.open++
	cs.hosts[key] = h
	return out, c
}

// idleOf returns the first connection of a queue on which no request is under way. Those that it passes over go to the
// end, so that the next look begins elsewhere.
func idleOf(queue *list.List) *conn {
	if queue == nil {
		return nil
	}
	for range min(looks, queue.Len()) {
		e := queue.Front()
		c := e.Value.(*conn)
		if !c.busy.Load() {
			return c
		}
		queue.MoveToBack(e)
	}
	return nil
}

func (cs *conns) closedLocked(c *conn) {
	if c.closed {
		return
	}
	c.closed = true
	cs.leaveLocked(c)
	cs.open--
	if c.host.open--; c.host.open == 0 {
		delete(cs.hosts, c.host.key)
	}
}

func (cs *conns) leaveLocked(c *conn) {
	if c.places != nil {
		cs.queue.Remove(c.places.all)
		c.host.queue.Remove(c.places.host)
		c.places = nil
		if c.host.queue.Len() == 0 {
			c.host.queue = nil
		}
	}
}

// changed is http.Server.ConnState: it tells which connections have a request under way. That is so when a whole header
// has come, however many bytes came before.
func (cs *conns) changed(raw net.Conn, state http.ConnState) {
	if t, ok := raw.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	c, ok := raw.(*conn)
	if !ok {
		return
	}
	switch state {
	case http.StateActive:
		c.busy.Store(true)
	case http.StateIdle:
		c.busy.Store(false)
	case http.StateHijacked:
		cs.mu.Lock()
		cs.leaveLocked(c)
		cs.mu.Unlock()
	case http.StateNew, http.StateClosed:
	}
}

// hostKey is what an address without a zone counts as: a network of 64 bits is one client's.
func hostKey(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// files says how the descriptors of the process are shared out: what is kept back lets the API and the admin address
// accept whatever happens at the edge.
type files struct{ edge, api, admin, http, peer, passed int } // connections; 0: no bound, or of what is passed on the default

// filesOf is what the settings make of the descriptors.
func filesOf(s *settings) files {
	f := sharedFiles(fileLimit(), s.APIConnections)
	if s.Cluster != clusterOff {
		f = f.withPeers(s.MaxSessions)
	}
	if s.HTTP != "" {
		f = f.withHTTP()
	}
	if s.MaxConnections > 0 {
		f.edge = s.MaxConnections
	}
	return f
}

// sharedFiles divides so many descriptors, of which the API is to have a number.
func sharedFiles(limit uint64, api int) files {
	const endless = 1 << 30
	if limit == 0 || limit > endless {
		return files{api: api}
	}
	all := int(limit)
	f := files{api: max(1, min(api, all/4)), admin: min(max(4, all/128), 512)}
	own := min(32+all/64, 512) // the listeners, the log, what watches the websockets
	f.edge = max(1, all-f.api-f.admin-own)
	return f
}

// withHTTP takes a part of the edge's for calls over HTTP.
func (f files) withHTTP() files {
	f.http = maxHTTPFiles
	if f.edge > 0 {
		f.http = max(1, min(f.api, f.edge/8, maxHTTPFiles))
		f.edge = max(1, f.edge-f.http)
	}
	return f
}

// withPeers takes a part of the edge's for the nodes of a cluster: behind a balancer that knows nothing of sessions
// most links come to another node than their own, where they take two files, and one more at their own. There are no
// more of them than the sessions that a node may have.
func (f files) withPeers(sessions int) files {
	if f.edge == 0 {
		return f
	}
	f.peer = min(max(1, f.edge/4), sessions)
	f.passed = f.peer
	f.edge = max(1, f.edge-f.peer-f.passed)
	return f
}
