package passing

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// lines are the connections to peer listeners on which requests are passed, one at a time on each.
type lines struct {
	passing *Passing // set before start

	mu sync.Mutex
	// guarded by mu
	idle   map[string][]*line // by address; the one that was used last is taken first
	closed bool
}

// line is one connection. The request that has taken it owns it.
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

// headWaits is how long the head of a request waits for the first of its body.
const headWaits = 5 * time.Millisecond

// ask sends a request and returns the head of its answer. An early word of the member is taken on the way.
func (l *line) ask(q *request, r *http.Request, body io.Reader) (*http.Response, error) {
	failed := l.send(q, r, body)
	for {
		// Who has refused a body may have answered before its end, and then have closed.
		res, err := http.ReadResponse(l.in, r)
		if err != nil {
			return nil, errors.Join(failed, err)
		}
		q.hear() // it is there
		if res.StatusCode >= http.StatusOK {
			res.Close = res.Close || failed != nil
			return res, nil
		}
	}
}

// send sends a request. What has come of its body goes with the head in one write: for two of them its member would
// wake up twice. A body that does not come holds up the head for a moment only.
func (l *line) send(q *request, r *http.Request, body io.Reader) error {
	out := writers.Get().(*bufio.Writer)
	out.Reset(l.conn)
	defer func() { out.Reset(nil); writers.Put(out) }()
	if err := q.passing.writeHead(out, r, q.to, body != http.NoBody); err != nil || body == http.NoBody {
		return errors.Join(err, out.Flush())
	}
	var to io.Writer = out
	var chunks io.WriteCloser
	if r.ContentLength < 0 {
		chunks = httputil.NewChunkedWriter(out)
		to = chunks
	}
	buf := q.passing.buffers.Get()
	defer q.passing.buffers.Put(buf)
	sent := make(chan struct{})
	late := time.AfterFunc(headWaits, func() { _ = out.Flush(); close(sent) })
	n, err := body.Read(buf)
	if !late.Stop() {
		<-sent
	}
	for {
		if n > 0 {
			_, _ = to.Write(buf[:n])
		}
		if err == io.EOF {
			break
		}
		if err := errors.Join(err, out.Flush()); err != nil { // one of out is kept by it
			return err
		}
		n, err = body.Read(buf)
	}
	if chunks != nil {
		_ = chunks.Close()
		_, _ = out.WriteString("\r\n") // no trailers
	}
	return out.Flush()
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
