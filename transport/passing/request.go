package passing

import (
	"bufio"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"foyer/service"
)

// request is one on its way to a member.
//
// A poll may wait for a message as long as it likes, so a late answer is no bad sign. The member therefore sends a word
// of its own, status 102, when an answer takes longer than earlyAfter. A node that has heard nothing after Patience
// gives up, unless the cluster hears of the member: then the member is slow, not silent, and is given the time again,
// mostRounds times at most.
type request struct {
	context.Context

	passing *Passing
	to      service.NodeID
	at      string
	cancel  context.CancelCauseFunc

	mu        sync.Mutex
	timer     *time.Timer // of the first word; guarded by mu, as are the following
	heard     bool
	suspended bool
	rounds    int // how often the timer has fired since the last await
}

func (q *request) member() service.NodeID { return q.to }

func (q *request) end(why counter) { q.cancel(ended(why)) }

// await begins the wait for the first word, anew when it has begun.
func (q *request) await() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.suspended, q.rounds = false, 0
	switch {
	case q.heard:
	case q.timer == nil:
		q.timer = time.AfterFunc(q.passing.cfg.Patience, q.quiet)
	default:
		q.timer.Reset(q.passing.cfg.Patience)
	}
}

// suspend stops it until the next await.
func (q *request) suspend() {
	q.mu.Lock()
	q.suspended = true
	q.timer.Stop()
	q.mu.Unlock()
}

// hear ends it.
func (q *request) hear() {
	q.mu.Lock()
	q.heard = true
	q.timer.Stop()
	q.mu.Unlock()
}

// quiet is called when the member has said nothing for as long as it may.
func (q *request) quiet() {
	m, ok := q.passing.cfg.Where(q.to)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.heard || q.suspended { // the timer had fired before it was stopped
		return
	}
	if q.rounds++; ok && !m.Silent && q.rounds < mostRounds {
		q.timer.Reset(q.passing.cfg.Patience)
	} else {
		q.end(countSilent)
	}
}

// waited is how long the member has said nothing.
func (q *request) waited() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	return time.Duration(q.rounds) * q.passing.cfg.Patience
}

// passRequest passes a poll or a POST on, and its answer back. All is done on this goroutine: net/http's Transport,
// which has two of its own for each connection, took a sixth more of both nodes' processors, and so did its
// ReverseProxy, which copies every header, with a body sent behind its head.
func (p *Passing) passRequest(q *request, w http.ResponseWriter, r *http.Request) error {
	l, err := p.lines.take(q)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(q, func() { _ = l.conn.SetDeadline(time.Unix(1, 0)) })
	released := false
	release := func(again bool) { // again: another request may follow on it
		if released {
			return
		}
		if released = true; stop() && again {
			p.lines.put(l)
		} else {
			l.close()
		}
	}
	defer release(false)
	a := &answer{ResponseWriter: w, control: http.NewResponseController(w), request: q}
	var from io.Reader = http.NoBody
	if r.Method == http.MethodPost && r.ContentLength != 0 { // no poll has a body
		a.body = &body{Reader: r.Body, request: q, control: a.control}
		from = a.body
	}
	res, err := l.ask(q, r, from) //nolint:bodyclose // it is on the line, which ends when it is not read
	if err != nil {
		return err
	}
	if err := answeredBy(q.to, res.Header); err != nil {
		return err
	}
	a.pass(res, release)
	return nil
}

// hop has the names of header lines that are said to the next hop alone, and of those that this node says itself.
var hop = map[string]bool{
	"Connection": true, "Close": true, "Keep-Alive": true, "Proxy-Connection": true, "Proxy-Authenticate": true, "Proxy-Authorization": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Expect": true,
	"Host": true, "Content-Length": true, memberHeader: true, clientHeader: true,
}

// notPassed is hop, and what a header names beside in Connection.
func notPassed(h http.Header) map[string]bool {
	names := hop
	for _, line := range h["Connection"] {
		for word := range strings.SplitSeq(line, ",") {
			name := http.CanonicalHeaderKey(strings.TrimSpace(word))
			if names[name] {
				continue
			}
			if len(names) == len(hop) {
				names = maps.Clone(hop)
			}
			names[name] = true
		}
	}
	return names
}

// writeHead writes the head of the request that goes out: what came in, as it came, and who passes it for whom.
func (p *Passing) writeHead(out *bufio.Writer, r *http.Request, to service.NodeID, body bool) error {
	for _, part := range [...]string{
		r.Method, " ", r.URL.RequestURI(), " HTTP/1.1\r\nHost: ", r.Host, "\r\n" + memberHeader + ": ", p.proof(r, to), "\r\n" + clientHeader + ": ", r.RemoteAddr, "\r\n",
	} {
		_, _ = out.WriteString(part)
	}
	switch {
	case body && r.ContentLength < 0:
		_, _ = out.WriteString("Transfer-Encoding: chunked\r\n")
	case r.Method == http.MethodPost:
		_, _ = out.WriteString("Content-Length: " + strconv.FormatInt(r.ContentLength, 10) + "\r\n")
	}
	_ = r.Header.WriteSubset(out, notPassed(r.Header))
	_, err := out.WriteString("\r\n") // an error stays with out
	return err
}

// answeredBy looks whether it is the session's node that has answered: its address may be another's by now.
func answeredBy(node service.NodeID, h http.Header) error {
	if h.Get(nodeHeader) != string(node) {
		return errors.New("at its address another one answers, or its key is another")
	}
	delete(h, nodeHeader)
	return nil
}

// body is that of a request. While its client is waited for, the member is not.
type body struct {
	io.Reader

	request *request
	control *http.ResponseController
	ended   atomic.Bool // there is no more of it
}

func (b *body) Read(to []byte) (int, error) {
	b.request.suspend()
	n, err := b.Reader.Read(to)
	b.request.await()
	if err == io.EOF && b.ended.CompareAndSwap(false, true) {
		_ = b.control.SetReadDeadline(time.Time{}) // a paused session is answered late, and its client is watched meanwhile
	}
	return n, err
}

// refuse has the answer not wait for the rest of a body that its session does not want.
func (b *body) refuse(h http.Header) {
	h.Set("Connection", "close")
	_ = b.control.EnableFullDuplex()
	_ = b.control.SetReadDeadline(time.Now().Add(lingerTimeout))
}

// answer takes what a member answers. Each piece has a deadline: a client that takes nothing must not hold it for ever.
type answer struct {
	http.ResponseWriter

	control *http.ResponseController
	request *request
	body    *body // nil: the request has none
}

// pass passes an answer on. It releases the line before the client has all of the answer: the client may leave after
// that.
func (a *answer) pass(res *http.Response, release func(again bool)) {
	counts, buffers := &a.request.passing.counts, &a.request.passing.buffers
	h := a.Header()
	clear(h)
	skip := notPassed(res.Header)
	for name, values := range res.Header {
		if name == "Content-Length" || !skip[name] {
			h[name] = values
		}
	}
	a.deadline()
	if a.body != nil && !a.body.ended.Load() {
		a.body.refuse(h)
	}
	a.WriteHeader(res.StatusCode)
	buf := buffers.Get()
	defer buffers.Put(buf)
	if _, err := io.CopyBuffer(a, res.Body, buf); err != nil {
		counts.add(countCut)
		panic(http.ErrAbortHandler) // so the client sees that there is more
	}
	counts.add(countRequests)
	release(!res.Close)
	_ = a.control.Flush()
	_ = a.control.SetWriteDeadline(time.Time{}) // the connection may go on with other handlers
}

func (a *answer) Write(b []byte) (int, error) {
	a.deadline()
	return a.ResponseWriter.Write(b)
}

func (a *answer) deadline() {
	_ = a.control.SetWriteDeadline(time.Now().Add(a.request.passing.SlowAfter() + time.Second))
}

// buffers lend memory for what is being carried.
type buffers struct {
	pool sync.Pool    // of *[largeBytes]byte
	lent atomic.Int32 // to streams
}

const largeBytes = 16 << 10

// Get lends one for as long as a body or an answer is copied.
func (b *buffers) Get() []byte {
	if x, ok := b.pool.Get().(*[largeBytes]byte); ok {
		return x[:]
	}
	return make([]byte, largeBytes)
}

// Put takes one back.
func (b *buffers) Put(x []byte) { b.pool.Put((*[largeBytes]byte)(x)) }
