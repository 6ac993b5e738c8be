package engineio

import (
	"net/http"
	"net/url"
	"strings"
)

// originPolicy decides which browsers' pages may talk to the server, and says so in CORS headers
// (https://fetch.spec.whatwg.org/#http-cors-protocol). Origins are checked even where browsers would not ask, since a
// WebSocket is open to every page.
type originPolicy struct {
	any    bool
	listed map[string]bool // nil: same origin only, and no CORS headers
}

func newOriginPolicy(origins []string) originPolicy {
	var p originPolicy
	for _, o := range origins {
		if o == "*" {
			p.any = true
			continue
		}
		if p.listed == nil {
			p.listed = make(map[string]bool, len(origins))
		}
		p.listed[strings.ToLower(strings.TrimSuffix(o, "/"))] = true
	}
	return p
}

// cors reports whether CORS headers are given at all.
func (p originPolicy) cors() bool { return p.any || p.listed != nil }

func (p originPolicy) allows(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || p.allowsOrigin(origin, r.Host)
}

// allowsOrigin decides about an origin that is known. Host is the server's, as the request names it.
func (p originPolicy) allowsOrigin(origin, host string) bool {
	switch {
	case p.any:
		return true
	case p.listed != nil:
		return p.listed[strings.ToLower(origin)]
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// apply sets the headers that go on every response, errors and the 101 included.
func (p originPolicy) apply(h http.Header, r *http.Request) {
	if p.any {
		h.Set("Access-Control-Allow-Origin", "*")
		return
	}
	if p.listed == nil {
		return
	}
	h.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" && p.allows(r) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	}
}

// preflight answers an OPTIONS request whose origin has passed.
func (p originPolicy) preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Add("Vary", "Access-Control-Request-Headers")
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusNoContent)
}
