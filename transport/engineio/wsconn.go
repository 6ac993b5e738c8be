package engineio

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// wsConn is one WebSocket connection: gorilla for the handshake and, on loan, for reading (wsread.go), the session's
// token for writing.
type wsConn struct {
	// What a write touches stands first, see Session.
	try tryWriter // set before start; nil: only writes that wait
	out rawWriter // what try is, outside of tests

	// guarded by Session.mu
	up        bool // the 101 is out
	failed    bool // a write failed
	closeSent bool
	deflate   bool    // permessage-deflate was negotiated; set before start
	dialect   dialect // set before start
	unsentWas int     // what the peer had not acknowledged when the kernel last took something of a write that waits

	control []byte // control frames that wait for the token; at first the 101; guarded by Session.mu

	conn net.Conn // set before start

	// owned by the reader
	session *Session // nil while probing: then the reader alone writes, directly
	own     *reader  // with deflate or over a pause, see reader; nil while it is borrowed, and before the first message
	readErr error    // the end of what can be read
	drained bool     // the last read took all there was
	closed  bool     // a close frame was sent before there was a session

	parked // see park.go

	last atomic.Pointer[time.Time] // set by linger: no write may take longer
}

// hijacker hands the connection to gorilla's Upgrader.
type hijacker struct {
	http.ResponseWriter
	ws *wsConn
}

// Hijack gives gorilla a connection that keeps the 101 back.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.ws.conn = conn
	return handshaker{conn, h.ws}, rw, nil
}

type handshaker struct {
	net.Conn
	ws *wsConn
}

// Write keeps the 101.
func (h handshaker) Write(p []byte) (int, error) {
	h.ws.control = bytes.Clone(p)
	return len(p), nil
}

// upgrade answers a WebSocket handshake (RFC 6455 section 4.2) with its error, or with 101. The 101 is left in control,
// so that it can be written together with what follows.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) (*wsConn, error) {
	ws := &wsConn{}
	header := http.Header{}
	for k, v := range w.Header() { // CORS
		header[k] = v
	}
	if p, _, _ := strings.Cut(r.Header.Get("Sec-Websocket-Protocol"), ","); strings.TrimSpace(p) != "" {
		header.Set("Sec-Websocket-Protocol", strings.TrimSpace(p))
	}
	u := s.upgrader
	ws.deflate = s.cfg.Compression && offersDeflate(r.Header)
	u.EnableCompression = ws.deflate
	if _, err := u.Upgrade(hijacker{w, ws}, r, header); err != nil {
		s.counts.add(countBadUpgrade)
		s.tellRefused(r, countBadUpgrade, plain(err), "")
		return nil, err
	}
	ws.try = s.tryWriter(ws.conn, &ws.out)
	return ws, nil
}

// writeSome waits until the kernel takes something of p, and returns how much that was. It waits with as little as can
// be, as what the kernel takes within a write that waits is not seen.
func (c *wsConn) writeSome(p []byte) (int, error) {
	if _, ok := c.try.(askOnly); ok || c.try == nil {
		return c.conn.Write(p[:min(len(p), pieceBytes)])
	}
	if n, err := c.try.tryWrite(p); n > 0 || err != nil {
		return n, err
	}
	return c.conn.Write(p[:1])
}

// unsent is how much of what was written the peer has not acknowledged; negative: unknown.
func (c *wsConn) unsent() int {
	if c.try == nil {
		return -1
	}
	return c.try.unsent()
}

// close closes the connection, once no write without blocking is under way. Safe for concurrent use.
func (c *wsConn) close() {
	if c.try != nil {
		c.try.close()
	}
	_ = c.conn.Close()
}

// writeControl writes a control frame for who reads. On a session it is queued and never blocks; while probing the
// reader is the only writer and a short deadline bounds it.
func (c *wsConn) writeControl(frame []byte) error {
	if c.session != nil {
		c.session.control(c, frame)
		return nil
	}
	return c.send(frame)
}

// limit is the size of the largest message that may come in now.
func (c *wsConn) limit() int {
	if c.session == nil {
		return probeLimit
	}
	return c.session.payloadLimit()
}

// writeDeadline gives the next write d, or what is left to a connection that lingers.
func (c *wsConn) writeDeadline(d time.Duration) error {
	at := time.Now().Add(d)
	if last := c.last.Load(); last != nil && last.Before(at) {
		at = *last
	}
	return c.conn.SetWriteDeadline(at)
}

// send writes from the reader of a probe.
func (c *wsConn) send(frame []byte) error {
	if err := c.writeDeadline(lingerTimeout); err != nil {
		return err
	}
	if _, err := c.conn.Write(frame); err != nil {
		return err
	}
	return c.conn.SetWriteDeadline(time.Time{})
}

// replyClose answers the peer's close frame with its code (RFC 6455 section 5.5.1).
func (c *wsConn) replyClose(code int) {
	payload := websocket.FormatCloseMessage(code, "")
	c.closed = true
	_ = c.writeControl(append([]byte{finBit | opClose, byte(len(payload))}, payload...)) // the connection ends either way
}

// interrupt makes a probe's reader give up. Called under Session.mu; sets a deadline only.
func (c *wsConn) interrupt() {
	if c.up {
		_ = c.conn.SetDeadline(time.Unix(1, 0))
	}
}

// await gives a probe's reader a last moment for the client's `5`. Called under Session.mu; sets a deadline only.
func (c *wsConn) await() {
	if c.up {
		_ = c.conn.SetReadDeadline(time.Now().Add(lingerTimeout))
	}
}

// abort sends a close frame and closes, for connections without a session.
func (c *wsConn) abort(frame []byte) {
	if frame != nil && !c.closed {
		_ = c.send(frame)
	}
	c.close()
}

// linger bounds what is left of a closed session's connection: the peer's close frame, the rest of a write.
func (c *wsConn) linger() {
	at := time.Now().Add(lingerTimeout)
	c.last.CompareAndSwap(nil, &at)
	_ = c.conn.SetDeadline(at)
	c.wake()
}

// reset drops the connection together with what the kernel still holds for it.
func (c *wsConn) reset() {
	if t, ok := c.conn.(interface{ SetLinger(sec int) error }); ok { // a *net.TCPConn, or one that is counted
		_ = t.SetLinger(0)
	}
	c.close()
	c.wake()
}

// finish closes the connection after the last read, once the writer is done with it.
func (c *wsConn) finish(s *Session, violated bool) {
	s.mu.Lock()
	busy := s.token
	s.mu.Unlock()
	if busy || violated { // seldom: a crowd that goes at once should not need a crowd of workers
		c.park.blocked()
		defer c.park.unblocked()
	}
	_ = c.writeDeadline(lingerTimeout) // shortens a write that waits
	s.waitToken()
	if violated {
		c.drain()
	}
	c.park.forget(c)
	c.close()
}

// drain reads on for a moment after a violation. Closing with unread bytes would make the kernel send a reset, and that
// may take our close frame from the peer before it has read it.
func (c *wsConn) drain() {
	if h, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
	c.linger()
	var scratch [512]byte
	for left := 4 << 20; left > 0; {
		n, err := c.conn.Read(scratch[:])
		if err != nil {
			return
		}
		left -= n
	}
}
