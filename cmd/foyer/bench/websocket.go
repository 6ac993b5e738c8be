package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	// maxFrame is the largest frame that is taken: more is a mistake of the server or of ours.
	maxFrame = 64 << 20
	readSize = 4 << 10
)

// link carries Engine.IO packets of one session. Next is for one goroutine; the others are safe for concurrent use.
type link interface {
	// next returns the next packet in its text form and when its bytes arrived. The packet is valid until the next call.
	next() (packet []byte, at time.Time, err error)
	// send writes packets, in one write where the transport can. It blocks for no longer than a step may take.
	send(packets ...string) error
	// close ends the connection at once, and with it a next or a send that waits.
	close()
}

// websocketLink is a WebSocket client that does only what a load generator needs (RFC 6455): text frames, no
// extensions.
type websocketLink struct {
	conn     net.Conn
	patience time.Duration // of a write
	mask     [4]byte

	// Owned by the caller of next.
	buf        []byte // what was read and not taken: buf[start:end]
	start, end int
	at         time.Time
	parts      []byte // of a message in fragments

	mu  sync.Mutex // of writing
	out []byte
}

// dialWebSocket opens a WebSocket. The query is that of the request; ctx is for the time that this takes.
func dialWebSocket(ctx context.Context, to *server, query string) (*websocketLink, error) {
	conn, err := to.dial(ctx)
	if err != nil {
		return nil, err
	}
	l := &websocketLink{conn: conn, patience: to.patience, buf: make([]byte, readSize)}
	stop := context.AfterFunc(ctx, l.close)
	err = l.handshake(to, query)
	if !stop() || err != nil {
		l.close()
		return nil, fmt.Errorf("websocket: %w", because(ctx, err))
	}
	return l, nil
}

func (l *websocketLink) handshake(to *server, query string) error {
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails
	_, _ = rand.Read(l.mask[:])
	// A server may spare itself the unmasking of a mask of zeros, which no browser sends.
	l.mask[0] |= 1
	request := "GET " + to.path() + "?" + query + " HTTP/1.1\r\nHost: " + to.url.Host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.StdEncoding.EncodeToString(key[:]) + "\r\n\r\n"
	if _, err := io.WriteString(l.conn, request); err != nil {
		return err
	}
	for {
		n, err := l.conn.Read(l.buf[l.end:])
		l.end += n
		head := bytes.Index(l.buf[:l.end], []byte("\r\n\r\n"))
		switch {
		case head >= 0 && bytes.HasPrefix(l.buf, []byte("HTTP/1.1 101")):
			l.start, l.at = head+4, time.Now() // frames may follow in the same packet
			return nil
		case head >= 0:
			resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(l.buf[:l.end])), nil)
			if err != nil {
				return err
			}
			_ = resp.Body.Close()
			if wantsTLS(l.buf[:l.end]) {
				return to.errSpeaksTLS()
			}
			return fmt.Errorf("the server answers %s", resp.Status)
		case err != nil && wantsTLS(l.buf[:l.end]):
			return to.errSpeaksTLS()
		case errors.Is(err, io.EOF):
			return errClosed
		case err != nil:
			return err
		case l.end == len(l.buf):
			return errors.New("the answer's header is too long")
		}
	}
}

var errClosed = errors.New("the server has closed the connection")

// closed is the error that a close frame tells (RFC 6455, section 5.5.1).
func closed(body []byte) error {
	if len(body) < 2 {
		return errClosed
	}
	return fmt.Errorf("%w: code %d %s", errClosed, binary.BigEndian.Uint16(body), body[2:])
}

// next returns the next message. Pings of the WebSocket layer are answered.
func (l *websocketLink) next() ([]byte, time.Time, error) {
	for {
		op, final, body, err := l.frame()
		if err != nil {
			return nil, l.at, err
		}
		switch op {
		case 8:
			return nil, l.at, closed(body)
		case 9:
			if err := l.write(0xA, string(body)); err != nil {
				return nil, l.at, err
			}
			continue
		case 10:
			continue
		}
		if final && l.parts == nil {
			return body, l.at, nil
		}
		if l.parts = append(l.parts, body...); len(l.parts) > maxFrame {
			return nil, l.at, errors.New("a message is too long")
		}
		if final {
			whole := l.parts
			l.parts = nil
			return whole, l.at, nil
		}
	}
}

// frame takes the next frame, reading when it is not there yet.
func (l *websocketLink) frame() (op byte, final bool, body []byte, err error) {
	for {
		b := l.buf[l.start:l.end]
		head, size := 2, 0
		if len(b) >= 2 {
			switch n := int(b[1]); {
			case n < 126:
				size = n
			case n == 126 && len(b) >= 4:
				head, size = 4, int(binary.BigEndian.Uint16(b[2:]))
			case n == 127 && len(b) >= 10:
				head, size = 10, int(min(binary.BigEndian.Uint64(b[2:]), maxFrame+1))
			case n == 126, n == 127:
				head = 10 // of its own length no more than that is known
			default:
				return 0, false, nil, errors.New("the server sends masked frames")
			}
		}
		if size > maxFrame {
			return 0, false, nil, errors.New("a frame is too long")
		}
		if len(b) >= head+size {
			l.start += head + size
			return b[0] & 0xf, b[0]&0x80 != 0, b[head : head+size], nil
		}
		l.room(head + size)
		n, err := l.conn.Read(l.buf[l.end:])
		l.end += n
		l.at = time.Now()
		if err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				err = errClosed
			}
			return 0, false, nil, err
		}
	}
}

// room makes the buffer hold n bytes from start on.
func (l *websocketLink) room(n int) {
	if l.start > 0 {
		l.end = copy(l.buf, l.buf[l.start:l.end])
		l.start = 0
	}
	if n > len(l.buf) {
		l.buf = append(make([]byte, 0, 2*n), l.buf[:l.end]...)
		l.buf = l.buf[:cap(l.buf)]
	}
}

func (l *websocketLink) send(packets ...string) error { return l.write(0x1, packets...) }

// write writes frames of one kind.
func (l *websocketLink) write(op byte, bodies ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out = l.out[:0]
	for _, body := range bodies {
		l.out = l.appendFrame(l.out, op, body)
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.patience)) // a server that does not read any more
	_, err := l.conn.Write(l.out)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the server has not read for %v", l.patience)
	}
	return err
}

func (l *websocketLink) appendFrame(b []byte, op byte, body string) []byte {
	b = append(b, 0x80|op)
	switch n := len(body); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, l.mask[:]...)
	at := len(b)
	b = append(b, body...)
	for i := range body {
		b[at+i] ^= l.mask[i&3]
	}
	return b
}

func (l *websocketLink) close() { _ = l.conn.Close() }
