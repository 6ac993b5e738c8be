package passing

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// lines are the connections to peer listeners on which requests are passed, one at a time on each. They are an
// http.RoundTripper that does all on the goroutine of its caller: with net/http's Transport, which has two of its own
// for each connection, a passed request took a sixth more of both nodes' processors.
type lines struct {
	passing *Passing // set before start

	mu sync.Mutex
	// guarded by mu
	idle   map[string][]*line // by address; the one that was used last is taken first
	closed bool
}

// line is one connection. Whoever has taken it owns it.
type line struct {
	conn   net.Conn
	in     *bufio.Reader
	at     string
	timer  *time.Timer // ends it when nobody has used it for idleFor; nil before the first rest
	silent func() bool // nothing has come, not even its end
}

var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}
)

// RoundTrip sends a request to its member and returns the head of the answer. An early word of the member is taken on
// the way.
func (ls *lines) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.Context().Value(requestKey{}).(*request)
	l, err := ls.take(q)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(q, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	res, err := l.ask(q, r)
	if err != nil {
		stop()
		l.close()
		return nil, err
	}
	res.Body = &rest{ReadCloser: res.Body, lines: ls, line: l, stop: stop, last: res.Close}
	return res, nil
}

// ask writes a request and reads the head of its answer.
func (l *line) ask(q *request, r *http.Request) (*http.Response, error) {
	out := writers.Get().(*bufio.Writer)
	out.Reset(l.conn)
	failed := r.Write(out)
	if failed == nil {
		failed = out.Flush()
	}
	out.Reset(nil)
	writers.Put(out)
	for {
		// Who has refused a body may have answered before its end, and then have closed.
		res, err := http.ReadResponse(l.in, r)
		switch {
		case err != nil:
			return nil, errors.Join(failed, err)
		case res.StatusCode >= http.StatusOK:
			res.Close = res.Close || failed != nil
			return res, nil
		}
		q.hear() // it is there
	}
}

// rest is the body of an answer, at whose end the line is free.
type rest struct {
	io.ReadCloser

	lines *lines
	line  *line
	stop  func() bool
	last  bool // nothing may follow on the line
	whole bool
}

func (b *rest) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.whole = b.whole || errors.Is(err, io.EOF)
	return n, err
}

// Close gives the line back. What is left of the body ends it.
func (b *rest) Close() error {
	if b.line == nil {
		return nil
	}
	if b.stop() && b.whole && !b.last {
		b.lines.put(b.line)
	} else {
		b.line.close()
	}
	b.line = nil
	return nil
}

// take returns a line to a member, a new one if none is idle.
func (ls *lines) take(q *request) (*line, error) {
	for {
		ls.mu.Lock()
		list := ls.idle[q.at]
		if len(list) == 0 {
			ls.mu.Unlock()
			break
		}
		l := list[len(list)-1]
		list[len(list)-1] = nil
		ls.keep(q.at, list[:len(list)-1])
		ls.mu.Unlock()
		if l.timer.Stop() && l.silent() { // else it has ended, or does so now
			l.in = readers.Get().(*bufio.Reader)
			l.in.Reset(l.conn)
			return l, nil
		}
		l.close()
	}
	conn, err := ls.passing.connect(q)
	if err != nil {
		return nil, err
	}
	l := &line{conn: conn, at: q.at, in: readers.Get().(*bufio.Reader), silent: silence(conn)}
	l.in.Reset(conn)
	return l, nil
}

// put lets a line rest.
func (ls *lines) put(l *line) {
	if l.in.Buffered() > 0 { // it has said more than it was asked
		l.close()
		return
	}
	l.release()
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.closed || len(ls.idle[l.at]) >= idlePerMember {
		l.close()
		return
	}
	ls.idle[l.at] = append(ls.idle[l.at], l)
	if l.timer == nil {
		l.timer = time.AfterFunc(idleFor, func() { ls.drop(l) })
	} else {
		l.timer.Reset(idleFor)
	}
}

// drop ends a line that has rested too long.
func (ls *lines) drop(l *line) {
	ls.mu.Lock()
	list := ls.idle[l.at]
	for i, other := range list {
		if other == l {
			copy(list[i:], list[i+1:])
			list[len(list)-1] = nil
			ls.keep(l.at, list[:len(list)-1])
			break
		}
	}
	ls.mu.Unlock()
	l.close()
}

// keep stores what is left of a list, with mu held.
func (ls *lines) keep(at string, list []*line) {
	if len(list) == 0 {
		delete(ls.idle, at) // addresses come and go
		return
	}
	ls.idle[at] = list
}

// closeIdle ends the lines that rest; closed: and all others when they are given back.
func (ls *lines) closeIdle(closed bool) {
	ls.mu.Lock()
	idle := ls.idle
	ls.idle, ls.closed = map[string][]*line{}, ls.closed || closed
	ls.mu.Unlock()
	for _, list := range idle {
		for _, l := range list {
			l.timer.Stop()
			l.close()
		}
	}
}

// release gives the buffer back, which a resting line does not need.
func (l *line) release() {
	if l.in != nil {
		l.in.Reset(nil)
		readers.Put(l.in)
		l.in = nil
	}
}

func (l *line) close() {
	_ = l.conn.Close()
	l.release()
}
