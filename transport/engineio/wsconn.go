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

// wsConn is one WebSocket connection: gorilla for the handshake and for reading, the session's token for writing. It is the
// net.Conn that gorilla sees, so that gorilla's own writes (pongs, closes) come through here.
type wsConn struct {
	// What a write touches stands first, see Session.
	try tryWriter // set before start; nil: only blocking writes (TLS)
	raw rawWriter // what try is, outside of tests

	// guarded by Session.mu
	up        bool // the 101 is out
	failed    bool // a write failed
	closeSent bool
	control   []byte // control frames that wait for the token; at first the 101

	// set before start
	deflate  bool // permessage-deflate was negotiated
	dialect  dialect
	net.Conn          // for the methods that need no say of ours
	conn     net.Conn // the same
	gorilla  *websocket.Conn

	session *Session // owned by the reader; nil while probing: then the reader alone writes, directly

	// owned by the reader
	violated bool // the peer broke the protocol, and was told in a close frame
	closed   bool // a close frame was sent before there was a session

	last atomic.Pointer[time.Time] // set by linger: no write may take longer
}

// hijacker hands our connection to gorilla's Upgrader.
type hijacker struct {
	http.ResponseWriter
	ws *wsConn
}

// Hijack gives gorilla a connection whose writes pass our token.
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.ws.Conn, h.ws.conn = conn, conn
	return h.ws, rw, nil
}

// upgrade answers a WebSocket handshake (RFC 6455 section 4.2) with its error, or with 101. The 101 is left in control, so that
// it can be written together with what follows.
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
	g, err := u.Upgrade(hijacker{w, ws}, r, header)
	if err != nil {
		s.counts.add(countBadUpgrade)
		return nil, err
	}
	ws.gorilla = g
	// The wire limit is the highest there is, since it cannot be changed while a read waits; readMessage knows the limit
	// of the moment. Slack for what deflate adds to incompressible data.
	g.SetReadLimit(int64(s.cfg.MaxPayload) + int64(s.cfg.MaxPayload)/512 + 64)
	g.SetCloseHandler(ws.replyClose)
	ws.try = s.newTryWriter(ws.conn, &ws.raw)
	return ws, nil
}

// Close closes the connection, once no write without blocking is under way. Safe for concurrent use.
func (c *wsConn) Close() error {
	if c.try != nil {
		c.try.close()
	}
	return c.conn.Close()
}

// Write takes what gorilla writes by itself. The 101 is kept; on a session the rest is queued and never blocks; while probing
// the reader is the only writer and a short deadline bounds it.
func (c *wsConn) Write(p []byte) (int, error) {
	if c.gorilla == nil {
		c.control = bytes.Clone(p)
		return len(p), nil
	}
	if len(p) > 0 && p[0]&0xf == opClose {
		c.violated = true // our own closes and the replies do not come this way
	}
	if c.session != nil {
		c.session.control(c, p)
		return len(p), nil
	}
	return len(p), c.send(p)
}

// SetWriteDeadline is gorilla's wish, before each of its writes; who writes sets deadlines itself.
func (c *wsConn) SetWriteDeadline(time.Time) error { return nil }

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
func (c *wsConn) replyClose(code int, _ string) error {
	payload := websocket.FormatCloseMessage(code, "")
	frame := append([]byte{finBit | opClose, byte(len(payload))}, payload...)
	if c.session != nil {
		c.session.control(c, frame)
	} else {
		c.closed = true
		_ = c.send(frame) // the connection ends either way
	}
	return nil
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
	_ = c.Close()
}

// linger bounds what is left of a closed session's connection: the peer's close frame, the rest of a write.
func (c *wsConn) linger() {
	at := time.Now().Add(lingerTimeout)
	c.last.CompareAndSwap(nil, &at)
	_ = c.conn.SetReadDeadline(at)
}

// reset drops the connection together with what the kernel still holds for it.
func (c *wsConn) reset() {
	if t, ok := c.conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}

// finish closes the connection after the last read, once the writer is done with it.
func (c *wsConn) finish(s *Session) {
	_ = c.writeDeadline(lingerTimeout) // shortens a write that waits
	s.waitToken()
	if c.violated {
		c.drain()
	}
	_ = c.Close()
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
