package passing

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"foyer/service"
)

// request is one on its way to a member.
//
// A poll may wait for a message as long as it likes, so a late answer is no bad sign. The member therefore says a word
// of its own, status 102, when an answer takes longer than earlyAfter. Who has heard nothing after Patience gives up,
// unless the member was heard of meanwhile: then it is slow and not silent, and is given the time again.
type request struct {
	context.Context

	passing *Passing
	to      service.NodeID
	at      string
	cancel  context.CancelCauseFunc

	mu    sync.Mutex
	timer *time.Timer // of the first word; guarded by mu, as is heard
	heard bool
}

type requestKey struct{}

// Value has the request itself, for who makes the one that goes out.
func (q *request) Value(key any) any {
	if key == (requestKey{}) {
		return q
	}
	return q.Context.Value(key)
}

func (q *request) member() service.NodeID { return q.to }

func (q *request) end(why counter) { q.cancel(ended(why)) }

// await begins the wait for the first word, anew when it has begun.
func (q *request) await() {
	q.mu.Lock()
	defer q.mu.Unlock()
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
	heard := q.heard
	q.mu.Unlock()
	switch {
	case heard:
	case ok && time.Since(m.Heard) < q.passing.cfg.Patience:
		q.await()
	default:
		q.end(countSilent)
	}
}

// passRequest passes a poll or a POST on, and its answer back.
func (p *Passing) passRequest(q *request, w http.ResponseWriter, r *http.Request) error {
	out := r.WithContext(q)
	a := &answer{apart: apart{ResponseWriter: w, header: http.Header{}}, request: q}
	if r.Method != http.MethodPost || r.ContentLength == 0 { // no poll has a body
		out.Body, out.ContentLength = http.NoBody, 0
	} else {
		a.body = &body{ReadCloser: r.Body, request: q, control: http.NewResponseController(w)}
		out.Body = a.body
	}
	defer a.finish()
	p.proxy.ServeHTTP(a, out)
	a.whole = true
	return a.err
}

// rewrite makes the request that goes out: what came in, as it came, and who passes it for whom.
func (p *Passing) rewrite(pr *httputil.ProxyRequest) {
	q := pr.In.Context().Value(requestKey{}).(*request)
	p.address(pr.Out, q)
	for _, name := range []string{"Connection", "Upgrade", "Expect"} { // what is said to this node alone
		delete(pr.Out.Header, name)
	}
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := pr.In.Header[name]; ok {
			pr.Out.Header[name] = v
		}
	}
	p.sign(pr.Out, pr.In, q.to)
}

// address has a request go to a member.
func (p *Passing) address(out *http.Request, q *request) {
	out.URL.Scheme, out.URL.Host = "http", q.at
	if p.cfg.TLS != nil {
		out.URL.Scheme = "https"
	}
}

// received looks whether it is the session's node that has answered: its address may be another's by now.
func (p *Passing) received(res *http.Response) error {
	return answeredBy(res.Request.Context().Value(requestKey{}).(*request).to, res.Header)
}

func answeredBy(node service.NodeID, h http.Header) error {
	if h.Get(nodeHeader) != string(node) {
		return errors.New("at its address another one answers, or its key is another")
	}
	delete(h, nodeHeader)
	return nil
}

// failed is called when there is no answer.
func failed(w http.ResponseWriter, _ *http.Request, err error) { w.(*answer).err = err }

// body is that of a request. While its client is waited for, the member is not.
type body struct {
	io.ReadCloser

	request *request
	control *http.ResponseController
	ended   atomic.Bool // there is no more of it
}

func (b *body) Read(to []byte) (int, error) {
	b.request.suspend()
	n, err := b.ReadCloser.Read(to)
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

// apart is a ResponseWriter with headers of its own until the answer begins: somebody else may say something before.
type apart struct {
	http.ResponseWriter

	header http.Header
	began  bool
}

func (a *apart) Header() http.Header { return a.header }

func (a *apart) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// begin puts the headers in the place of those that were there.
func (a *apart) begin(code int) {
	h := a.ResponseWriter.Header()
	clear(h)
	maps.Copy(h, a.header)
	a.began = true
	a.ResponseWriter.WriteHeader(code) //nolint:staticcheck // those around it have a WriteHeader of their own
}

// answer takes what a member answers. Each piece has a deadline: a client that takes nothing must not hold it for ever.
type answer struct {
	apart

	request *request
	body    *body // nil: the request has none
	err     error // why there is no answer
	whole   bool  // it has not broken off
}

// WriteHeader begins the answer, or takes the member's early word, which is not for the client.
func (a *answer) WriteHeader(code int) {
	a.request.hear()
	if code < http.StatusOK && code != http.StatusSwitchingProtocols {
		return
	}
	a.deadline()
	if a.body != nil && !a.body.ended.Load() {
		a.body.refuse(a.header)
	}
	a.begin(code)
}

func (a *answer) Write(b []byte) (int, error) {
	a.deadline()
	return a.ResponseWriter.Write(b)
}

func (a *answer) deadline() {
	_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Now().Add(a.request.passing.cfg.SlowAfter + time.Second))
}

// finish sends what is still buffered, or counts an answer that has broken off.
func (a *answer) finish() {
	if !a.whole { // ReverseProxy ends the connection by a panic, which goes on to the server
		a.request.passing.counts.add(countCut)
		return
	}
	if a.began {
		control := http.NewResponseController(a.ResponseWriter)
		a.request.passing.counts.add(countRequests)
		_ = control.Flush()
		_ = control.SetWriteDeadline(time.Time{}) // the connection may go on with other handlers
	}
}

// buffers lend memory for what is being carried.
type buffers struct {
	pool sync.Pool    // of *[largeBytes]byte
	lent atomic.Int32 // to streams
}

const largeBytes = 16 << 10

// Get and Put make it a pool for ReverseProxy, which has one for as long as it copies an answer.
func (b *buffers) Get() []byte {
	if x, ok := b.pool.Get().(*[largeBytes]byte); ok {
		return x[:]
	}
	return make([]byte, largeBytes)
}

// Put takes one back.
func (b *buffers) Put(x []byte) { b.pool.Put((*[largeBytes]byte)(x)) }
