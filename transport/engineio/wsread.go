package engineio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

var (
	errOversize  = errors.New("engineio: message over the limit")
	errUTF8      = errors.New("engineio: text is not UTF-8")
	errViolation = errors.New("engineio: websocket protocol error")
)

const keepScratch = 64 << 10

// scratchPool holds buffers for messages that are being read, so that an idle connection has none and a message is
// allocated once, in its size.
var scratchPool = sync.Pool{New: func() any { b := make([]byte, 4<<10); return &b }}

// readMessage blocks for the next message. Its size is bounded as it is inflated, byte for byte, because gorilla's read
// limit counts compressed bytes. A violation has been answered with a close frame of its code (RFC 6455 section 7.4.1)
// when this returns. The data is the caller's.
func (c *wsConn) readMessage(limit func() int) (messageType int, data []byte, err error) {
	messageType, r, err := c.gorilla.NextReader()
	if err != nil {
		return 0, nil, c.readError(err)
	}
	scratch := scratchPool.Get().(*[]byte)
	data, err = readAll(r, scratch, limit())
	if cap(*scratch) <= keepScratch {
		scratchPool.Put(scratch)
	}
	switch {
	case errors.Is(err, errOversize):
		c.violate(websocket.CloseMessageTooBig)
		return 0, nil, err
	case err != nil:
		return 0, nil, c.readError(err)
	case messageType == websocket.TextMessage && !utf8.Valid(data):
		c.violate(websocket.CloseInvalidFramePayloadData)
		return 0, nil, errUTF8
	}
	return messageType, data, nil
}

// readAll reads r to its end through scratch, which it may replace by a larger buffer, and returns a copy of the right size.
func readAll(r io.Reader, scratch *[]byte, limit int) ([]byte, error) {
	buf, n := *scratch, 0
	for {
		if n == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
			*scratch = buf
		}
		m, err := r.Read(buf[n:min(len(buf), limit+1)])
		if n += m; n > limit {
			return nil, errOversize
		}
		switch {
		case err == io.EOF:
			return bytes.Clone(buf[:n:n]), nil
		case err != nil:
			return nil, err
		}
	}
}

// violate sends a close frame with a code.
func (c *wsConn) violate(code int) {
	c.violated = true
	_ = c.replyClose(code, "")
}

// readError sorts gorilla's errors into violations by the peer and ends of the connection.
func (c *wsConn) readError(err error) error {
	var closed *websocket.CloseError
	var network net.Error
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		if !c.violated { // a length over 63 bits: gorilla has said nothing
			c.violate(websocket.CloseMessageTooBig)
		}
		return errOversize
	case errors.As(err, &closed), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return err
	case !c.violated: // broken deflate data: gorilla leaves the answer to us
		c.violate(websocket.CloseInvalidFramePayloadData)
	}
	return fmt.Errorf("%w: %w", errViolation, err)
}
