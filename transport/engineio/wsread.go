package engineio

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

var (
	errOversize  = errors.New("engineio: message over the limit")
	errUTF8      = errors.New("engineio: text is not UTF-8")
	errViolation = errors.New("engineio: websocket protocol error")
	errNothing   = errors.New("engineio: nothing to read now")
	errUnkept    = errors.New("engineio: no memory for the rest of a message")
)

const (
	readBuffer  = 4 << 10 // a burst of small messages costs one read(2)
	ownBuffer   = 512     // of a reader that is not lent
	keepScratch = 64 << 10
)

// reader is gorilla's reading side with its buffers. A connection borrows one while there is something to read and has
// none between messages, where gorilla remembers nothing: together they would be 6 KiB of each idle session. A paused
// connection keeps it while there is something in its buffer. With deflate it keeps a smaller one for itself: gorilla
// gives a message away where its deflate stream ends (RFC 7692 section 7.2.3.4), which may be before the message does,
// and what is left of it must not meet another connection.
type reader struct {
	noConn // what gorilla may call besides
	srv    *Server
	conn   *wsConn // whose bytes it reads
	wait   bool    // reads may block: a message has begun
	reads  int     // of conn, since it borrowed the reader

	announced int64 // bytes of the message in hand, as its first frame says; 0: not known

	alone bool // see leave

	gorilla  *websocket.Conn
	buf      *bufio.Reader // gorilla's
	head     []byte        // bytes that were read before conn borrowed the reader
	scratch  []byte        // for the message that is being read, so that it is allocated once, in its size
	arriving arriving      // what scratch holds of the node's budget
	deflate  bool
	spent    bool // gorilla has met an error
	violated bool // the peer was told in a close frame that it broke the protocol, or that there is no room for more

	// of a read that does not wait
	p     []byte
	n     int
	err   error
	bound func(fd uintptr) bool // r.readNow, which would be allocated for each read
}

// noConn stands for the methods of net.Conn that a reader does not have.
type noConn struct{ net.Conn }

func (noConn) SetDeadline(time.Time) error { return nil }

// borrow returns a reader for conn. Head is what has already been read from it; it must not change until it has been.
func (s *Server) borrow(conn *wsConn, head []byte) *reader {
	r := conn.own
	conn.own = nil
	if r == nil && !conn.deflate {
		r, _ = s.readers.Get().(*reader)
	}
	if r == nil {
		r = s.newReader(conn.deflate)
	}
	r.conn = conn
	if len(head) > 0 { // a reader that was kept may have some left
		r.head = head
	}
	return r
}

// keep leaves a paused connection its reader if that holds bytes of the next message, and takes it back otherwise.
func (s *Server) keep(r *reader) {
	if r.buf.Buffered() == 0 && len(r.head) == 0 {
		s.giveBack(r)
		return
	}
	r.rest(ownBuffer)
	r.conn.own = r
}

// rest ends a turn of reading. The scratch is left with at most so many bytes.
func (r *reader) rest(scratch int) {
	if r.alone {
		r.conn.park.unblocked()
	}
	r.reads, r.alone = 0, false
	if cap(r.scratch) > scratch {
		r.scratch = make([]byte, ownBuffer)
	}
	r.arriving.giveBack() // what is left of the scratch is less than is asked for
}

// giveBack takes a reader back, whose buffer is empty. Unless it is spent, or its connection's own, it stands between
// two messages.
func (s *Server) giveBack(r *reader) {
	r.rest(keepScratch)
	r.head = nil
	if r.deflate {
		r.conn.own = r
		return
	}
	r.conn = nil
	if r.spent {
		r.renew()
	}
	s.readers.Put(r)
}

// leave says that the worker that reads is this connection's own from now on, until the reader is given back. Another
// worker takes its place: a client that sends without a pause must not hold up others.
func (r *reader) leave() {
	if !r.alone {
		r.alone = true
		r.conn.park.blocked()
	}
}

func (s *Server) newReader(deflate bool) *reader {
	size := readBuffer
	if deflate {
		size = ownBuffer
	}
	r := &reader{srv: s, scratch: make([]byte, ownBuffer), arriving: arriving{budget: s.cfg.Inbound}, deflate: deflate}
	r.buf = bufio.NewReaderSize(r, size)
	r.bound = r.readNow
	r.renew()
	return r
}

// renew gives the reader a gorilla without a past, by the only way that gorilla has: a handshake, with nobody on the
// other side.
func (r *reader) renew() {
	r.gorilla, r.spent, r.violated = nil, false, false
	r.buf.Reset(r)
	u := websocket.Upgrader{WriteBufferPool: noBuffers{}, EnableCompression: r.deflate, CheckOrigin: func(*http.Request) bool { return true }}
	g, err := u.Upgrade(nobody{r}, nobodysRequest, nil)
	if err != nil {
		panic(err) // the request is ours
	}
	// The wire limit is the highest there is, since it cannot be changed while a read waits; readMessage knows the limit
	// of the moment. Slack for what deflate adds to incompressible data.
	largest := int64(r.srv.cfg.MaxPayload)
	g.SetReadLimit(largest + largest/512 + 64)
	g.SetPingHandler(func(data string) error {
		r.controlled()
		if err := g.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(lingerTimeout)); !errors.Is(err, websocket.ErrCloseSent) {
			return err
		}
		return nil
	})
	g.SetPongHandler(func(string) error { r.controlled(); return nil })
	g.SetCloseHandler(func(code int, _ string) error { r.conn.replyClose(code); return nil })
	r.gorilla = g
}

var nobodysRequest = &http.Request{Method: http.MethodGet, Header: http.Header{
	"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
	"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Extensions": {"permessage-deflate"},
}}

// nobody is the ResponseWriter of a handshake with nobody. A reader buffer of the hijacked kind becomes gorilla's own.
type nobody struct{ r *reader }

func (nobody) Header() http.Header         { return nil }
func (nobody) Write(p []byte) (int, error) { return len(p), nil }
func (nobody) WriteHeader(int)             {}
func (n nobody) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return n.r, bufio.NewReadWriter(n.r.buf, bufio.NewWriterSize(n.r, 256)), nil
}

// noBuffers is the pool of write buffers of a gorilla that writes control frames only: those need none.
type noBuffers struct{}

func (noBuffers) Get() any { return nil }
func (noBuffers) Put(any)  {}

// next reads the next message, or returns errNothing when not even its beginning is there. It does not wait for one to
// begin, unless the session is closing: then the peer's close frame is waited for, for a moment.
func (r *reader) next() (messageType int, data []byte, err error) {
	r.wait = r.conn.last.Load() != nil
	if _, err := r.buf.Peek(1); err != nil { // gorilla does not hear of it, as it would be spent
		return 0, nil, err
	}
	r.announced = 0
	if n := r.buf.Buffered(); n > longHeader {
		r.announce()
	}
	return r.readMessage()
}

// longHeader is how many bytes of a frame are enough to know its length.
const longHeader = 10

// announce notes how long the message in hand is to be if it is one frame, since gorilla does not say of what it
// refuses (RFC 6455 section 5.2).
func (r *reader) announce() {
	head, _ := r.buf.Peek(longHeader)
	switch length := head[1] &^ 0x80; {
	case head[0]&finBit == 0: // other frames follow
	case length == 127:
		r.announced = int64(binary.BigEndian.Uint64(head[2:]) &^ (1 << 63)) //nolint:gosec // the highest bit is off
	case length == 126:
		r.announced = int64(binary.BigEndian.Uint16(head[2:]))
	}
}

// readMessage reads the next message and waits for the rest of one that has begun. Its size is bounded as it is
// inflated, byte for byte, because gorilla's read limit counts compressed bytes. A violation has been answered with a
// close frame of its code (RFC 6455 section 7.4.1) when this returns. The data is the caller's.
func (r *reader) readMessage() (messageType int, data []byte, err error) {
	r.wait, r.spent = true, true // until it has come to its end
	messageType, m, err := r.gorilla.NextReader()
	if err != nil {
		return 0, nil, r.readError(err)
	}
	data, err = r.readAll(m, r.conn.limit())
	switch {
	case errors.Is(err, errOversize):
		r.violate(websocket.CloseMessageTooBig)
		return 0, nil, err
	case errors.Is(err, errUnkept):
		r.violate(websocket.CloseTryAgainLater)
		return 0, nil, err
	case err != nil:
		return 0, nil, r.readError(err)
	case messageType == websocket.TextMessage && !utf8.Valid(data):
		r.violate(websocket.CloseInvalidFramePayloadData)
		return 0, nil, errUTF8
	}
	r.spent = false
	return messageType, data, nil
}

// Read is how gorilla gets at the connection's bytes.
func (r *reader) Read(p []byte) (n int, err error) {
	c := r.conn
	if len(r.head) > 0 {
		n = copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	if c.readErr != nil {
		return 0, c.readErr
	}
	if n, err = r.tryRead(p); r.wait && errors.Is(err, errNothing) {
		c.park.blocked()
		n, err = c.conn.Read(p)
		c.park.unblocked()
		c.drained = false
	}
	if r.reads++; r.reads == burstReads {
		r.leave()
	}
	if err != nil && !errors.Is(err, errNothing) {
		c.readErr = err // more may meet it before gorilla does
	}
	return n, err
}

// tryRead reads what is there. One read(2) that fills less than its buffer has taken all there was, and spares the
// next.
func (r *reader) tryRead(p []byte) (int, error) {
	c := r.conn
	if c.park == nil || c.drained {
		return 0, errNothing
	}
	r.p = p
	err := c.raw.Read(r.bound)
	r.p = nil
	if err != nil {
		return 0, err
	}
	c.drained = r.n < len(p) && !c.hungUp.Load()
	return r.n, r.err
}

// readAll reads m to its end through the scratch, which it may replace by a larger one, and returns a copy of the right
// size. A large scratch stays in the node's budget until the reader rests: the next message may begin in it, and stop.
func (r *reader) readAll(m io.Reader, limit int) ([]byte, error) {
	n := 0
	for {
		if n == len(r.scratch) {
			if !r.arriving.cover(2 * n) {
				return nil, errUnkept
			}
			larger := make([]byte, 2*n)
			copy(larger, r.scratch)
			r.scratch = larger
		}
		got, err := m.Read(r.scratch[n:min(len(r.scratch), limit+1)])
		if n += got; n > limit {
			return nil, errOversize
		}
		switch {
		case err == io.EOF:
			return bytes.Clone(r.scratch[:n:n]), nil
		case err != nil:
			return nil, err
		}
	}
}

// Write takes what gorilla writes by itself: pongs, and closes after a violation.
func (r *reader) Write(p []byte) (int, error) {
	if r.gorilla == nil { // the 101 to nobody
		return len(p), nil
	}
	if len(p) > 0 && p[0]&0xf == opClose {
		r.violated = true // our own closes and the replies do not come this way
	}
	return len(p), r.conn.writeControl(p)
}

// SetWriteDeadline is gorilla's wish, before each of its writes. The code that writes sets deadlines itself.
func (r *reader) SetWriteDeadline(time.Time) error { return nil }

// violate sends a close frame with a code.
func (r *reader) violate(code int) {
	r.violated = true
	r.conn.replyClose(code)
}

// readError sorts gorilla's errors into violations by the peer and ends of the connection.
func (r *reader) readError(err error) error {
	var closed *websocket.CloseError
	var network net.Error
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		if !r.violated { // a length over 63 bits: gorilla has said nothing
			r.violate(websocket.CloseMessageTooBig)
		}
		return errOversize
	case errors.As(err, &closed), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return err
	case !r.violated: // broken deflate data: gorilla leaves the answer to us
		r.violate(websocket.CloseInvalidFramePayloadData)
	}
	return fmt.Errorf("%w: %w", errViolation, err)
}
