package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// pollingLink is a long-polling client with two connections, one that polls and one that posts, as browsers have.
type pollingLink struct {
	sid  string // set by the handshake, before anything else is called
	poll httpConn

	// Owned by the caller of next.
	rest []byte // packets of the last response that were not taken
	at   time.Time

	posting sync.Mutex
	post    httpConn // guarded by posting, but for its close
}

// newPollingLink opens nothing: the first next is the handshake.
func newPollingLink(to *server) *pollingLink {
	l := &pollingLink{}
	l.poll.open(to)
	l.post.open(to)
	return l
}

func (l *pollingLink) query() string {
	q := "EIO=4&transport=polling"
	if l.sid != "" {
		q += "&sid=" + url.QueryEscape(l.sid)
	}
	return q
}

func (l *pollingLink) next() ([]byte, time.Time, error) {
	if len(l.rest) == 0 {
		body, err := l.poll.do("GET", l.query(), "")
		l.at = time.Now()
		if err != nil {
			return nil, l.at, err
		}
		l.rest = body
	}
	packet, rest, _ := bytes.Cut(l.rest, []byte{0x1e})
	l.rest = rest
	return packet, l.at, nil
}

func (l *pollingLink) send(packets ...string) error {
	l.posting.Lock()
	defer l.posting.Unlock()
	_, err := l.post.do("POST", l.query(), strings.Join(packets, "\x1e"))
	return err
}

func (l *pollingLink) close() {
	l.poll.close()
	l.post.close()
}

// httpConn is a kept HTTP/1.1 connection, made when it is needed. It is for one request at a time.
type httpConn struct {
	to     *server
	ctx    context.Context // ends with close
	cancel context.CancelFunc

	// Owned by the goroutine that makes the request.
	r    *bufio.Reader
	used time.Time // when the last request ended
	last bool      // the server has said that it takes no more
	out  []byte

	mu   sync.Mutex // not held while a request is under way
	conn net.Conn   // guarded by mu
}

// keepIdle is how long a connection may rest before a new one is taken instead: Node closes those that rest for five
// seconds, and a request that meets the close is lost.
const keepIdle = time.Second

func (c *httpConn) open(to *server) {
	c.to = to
	c.ctx, c.cancel = context.WithCancel(context.Background())
}

// ready is a connection that can take a request.
func (c *httpConn) ready() (net.Conn, error) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil && !c.last && time.Since(c.used) < keepIdle {
		return conn, nil
	}
	if conn != nil {
		conn.Close()
	}
	ctx, cancel := context.WithTimeoutCause(c.ctx, c.to.patience, c.to.errLate())
	defer cancel()
	conn, err := c.to.dial(ctx)
	if err != nil {
		return nil, because(ctx, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil { // closed meanwhile, and so blind to this one
		conn.Close()
		return nil, net.ErrClosed
	}
	c.conn, c.r = conn, bufio.NewReaderSize(conn, readSize)
	return conn, nil
}

// do makes a request and returns the body of its answer, which is to be 200. A GET may be held as long as the server
// likes.
func (c *httpConn) do(method, query, body string) ([]byte, error) {
	conn, err := c.ready()
	if err != nil {
		return nil, err
	}
	b := append(c.out[:0], method...)
	b = append(b, ' ')
	b = append(append(b, c.to.path()...), '?')
	b = append(append(b, query...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, c.to.url.Host...), "\r\n"...)
	if method == "POST" {
		b = append(b, "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n"...)
		_ = conn.SetDeadline(time.Now().Add(c.to.patience))
	}
	b = append(append(b, "\r\n"...), body...)
	c.out = b
	if _, err := conn.Write(b); err != nil {
		return nil, c.ended(err)
	}
	answered, _ := c.r.Peek(1) // that it fails, what follows says
	if wantsTLS(answered) {
		return nil, c.to.errSpeaksTLS()
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, c.ended(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusBadRequest {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, readSize))
		if wantsTLS(why) {
			return nil, c.to.errSpeaksTLS()
		}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s is answered %s", method, resp.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxFrame+1))
	switch {
	case err != nil:
		return nil, c.ended(err)
	case len(answer) > maxFrame:
		return nil, fmt.Errorf("the answer to a %s is too long", method)
	}
	c.used, c.last = time.Now(), resp.Close
	return answer, nil
}

// ended names the end of a connection.
func (c *httpConn) ended(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		return c.to.errLate()
	}
	return err
}

func (c *httpConn) close() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.conn.Close()
	}
}
