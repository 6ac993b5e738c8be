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
	"strconv"
	"strings"
	"sync"
	"time"
)

// pollingLink is a long-polling client with two connections, one that polls and one that posts, as browsers have.
type pollingLink struct {
	u    *url.URL
	sid  string // set by the handshake, before anything else is called
	poll *httpConn

	// Owned by who calls next.
	rest []byte // packets of the last response that were not taken
	at   time.Time

	mu   sync.Mutex // of posting
	post *httpConn  // made when first needed
	gone bool       // guarded by mu
}

// dialPolling opens a connection; the first next is the handshake's.
func dialPolling(ctx context.Context, u *url.URL) (*pollingLink, error) {
	poll, err := dialHTTP(ctx, u)
	if err != nil {
		return nil, err
	}
	return &pollingLink{u: u, poll: poll}, nil
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
		body, err := l.poll.do("GET", l.u, l.query(), "")
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
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return net.ErrClosed
	}
	if l.post == nil {
		var err error
		if l.post, err = dialHTTP(context.Background(), l.u); err != nil {
			return err
		}
	}
	_, err := l.post.do("POST", l.u, l.query(), strings.Join(packets, "\x1e"))
	return err
}

func (l *pollingLink) close() {
	l.poll.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	if l.post != nil {
		l.post.close()
	}
}

// httpConn is one kept HTTP/1.1 connection. It is for one request at a time.
type httpConn struct {
	conn net.Conn
	r    *bufio.Reader
	out  []byte
}

func dialHTTP(ctx context.Context, u *url.URL) (*httpConn, error) {
	conn, err := dial(ctx, u)
	if err != nil {
		return nil, err
	}
	return &httpConn{conn: conn, r: bufio.NewReaderSize(conn, readSize)}, nil
}

// do makes a request and returns the body of its answer, which is to be 200. A GET may be held as long as the server likes.
func (c *httpConn) do(method string, u *url.URL, query, body string) ([]byte, error) {
	b := append(c.out[:0], method...)
	b = append(b, ' ')
	b = append(append(b, u.Path...), '?')
	b = append(append(b, query...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, u.Host...), "\r\n"...)
	if method == "POST" {
		b = append(b, "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n"...)
	}
	b = append(append(b, "\r\n"...), body...)
	c.out = b
	if _, err := c.conn.Write(b); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = errClosed
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s is answered %s", method, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxFrame))
}

func (c *httpConn) close() { _ = c.conn.Close() }
