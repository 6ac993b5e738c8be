package passing

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"foyer/service"
)

// Header lines of a request that a member passes: its name and proof, and the address that the request came from. They
// are believed together.
const (
	memberHeader = "Foyer-Member" // NAME.PROOF
	clientHeader = "Foyer-Client" // host:port

	nodeHeader = "Foyer-Node" // of an answer: whose it is
)

// HeaderBytes is the most that a member adds to the header of a request that it passes.
const HeaderBytes = 1 << 10

// earlyAfter is how long the other member waits before it hears that this one is there.
const earlyAfter = 250 * time.Millisecond

// sign says in the header of a request to a member who passes it, and for whom.
func (p *Passing) sign(h http.Header, r *http.Request, to service.NodeID) {
	h[memberHeader], h[clientHeader] = []string{p.proof(r, to)}, []string{r.RemoteAddr}
}

// proof says who passes a request.
func (p *Passing) proof(r *http.Request, to service.NodeID) string {
	var space [nameLen + 1 + proofLen]byte
	b := append(append(space[:0], p.cfg.Self...), '.')
	return string(p.keys.proofs.check(b, proofLen, p.proved(to, p.cfg.Self, r.RemoteAddr, r.Method, r.URL.RequestURI())...))
}

// proved is what a proof is of.
func (p *Passing) proved(to, from service.NodeID, client, method, uri string) []string {
	return []string{string(to), string(from), client, method, uri}
}

// memberOf returns the member that passes a request; false: it is none.
func (p *Passing) memberOf(r *http.Request) (service.NodeID, bool) {
	if p.cfg.TLS != nil && (r.TLS == nil || len(r.TLS.PeerCertificates) == 0) {
		return "", false
	}
	from, proof, _ := strings.Cut(r.Header.Get(memberHeader), ".")
	ok := len(proof) == proofLen && p.keys.proofs.matches(proof, p.proved(p.cfg.Self, service.NodeID(from), r.Header.Get(clientHeader), r.Method, r.RequestURI)...)
	return service.NodeID(from), ok
}

type passedKey struct{}

// passed says whether a request was passed to this node. Such a one is never passed on: so there is no loop.
func passed(r *http.Request) bool { return r.Context().Value(passedKey{}) != nil }

// Handler is for the peer listener of this node. It gives sessions the requests that members pass, as if they had come
// from their clients: RemoteAddr is that of the client. Everybody else gets status 403.
func (p *Passing) Handler(sessions http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, ok := p.memberOf(r)
		if !ok {
			p.counts.add(countNotMember)
			p.tell(zap.WarnLevel, "request refused", countNotMember, r.RemoteAddr, "only nodes of this cluster may call the peer listener: it has another key, or is none")
			http.Error(w, "only nodes of this cluster may call here", http.StatusForbidden)
			return
		}
		if sid := sidOf(r.URL.RawQuery); !strings.HasPrefix(sid, string(p.cfg.Self)) {
			p.counts.add(countForeign)
			p.tell(zap.WarnLevel, "request refused", countForeign, r.RemoteAddr, "a node has passed a request to this one that names no session of it")
			http.Error(w, "the session is not of this node", http.StatusMisdirectedRequest)
			return
		}
		p.counts.add(countServed)
		r.RemoteAddr = r.Header.Get(clientHeader)
		delete(r.Header, memberHeader)
		delete(r.Header, clientHeader)
		r = r.WithContext(context.WithValue(r.Context(), passedKey{}, true))
		own := []string{string(p.cfg.Self)}
		if r.Header.Get("Upgrade") != "" { // it is answered at once
			w.Header()[nodeHeader] = own
			sessions.ServeHTTP(w, r)
			return
		}
		e := &early{apart: apart{ResponseWriter: w, header: http.Header{nodeHeader: own}}, ends: make(chan struct{})}
		e.timer = time.AfterFunc(earlyAfter, e.say)
		defer e.over()
		if r.Method == http.MethodGet {
			p.wait(e, from)
			defer p.served(e)
		}
		sessions.ServeHTTP(e, r)
	})
}

// wait notes a poll that a member has passed, until it is served.
func (p *Passing) wait(e *early, from service.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waits[e] = from
	p.lookLocked()
}

func (p *Passing) served(e *early) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waits, e)
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

// early says a word before an answer that takes long, so that the member which passed the request knows that this one
// is there.
type early struct {
	apart

	ends  chan struct{} // closed by answer
	timer *time.Timer
	mu    sync.Mutex
	quiet bool // guarded by mu: no word any more
}

// WayEnds is for engineio: it answers a poll then.
func (e *early) WayEnds() <-chan struct{} { return e.ends }

func (e *early) say() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.quiet {
		e.ResponseWriter.WriteHeader(http.StatusProcessing)
	}
}

func (e *early) over() {
	e.timer.Stop()
	e.mu.Lock()
	e.quiet = true
	e.mu.Unlock()
}

// WriteHeader begins the answer.
func (e *early) WriteHeader(code int) {
	e.over()
	e.begin(code)
}

func (e *early) Write(b []byte) (int, error) {
	if !e.began {
		e.WriteHeader(http.StatusOK)
	}
	return e.ResponseWriter.Write(b)
}
