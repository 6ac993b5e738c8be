package engineio

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
)

// originPolicy decides which browsers' pages may talk to the server, and says so in CORS headers
// (https://fetch.spec.whatwg.org/#http-cors-protocol). Origins are checked even where browsers would not ask, since a
// WebSocket is open to every page.
type originPolicy struct {
	any     bool
	listed  map[string]bool // in the form of browsers
	below   map[string]bool // "https://.example.com" stands for a label before the dot
	foreign bool            // the server's own origin is not among them unless it is listed
}

func newOriginPolicy(origins []string, listedOnly bool) originPolicy {
	p := originPolicy{listed: map[string]bool{}, below: map[string]bool{}, foreign: listedOnly}
	for _, o := range origins {
		switch origin, below, _ := readOrigin(o); {
		case o == "*":
			p.any = true
		case below:
			p.below[origin] = true
		default:
			p.listed[origin] = true
		}
	}
	return p
}

// readOrigin reads an origin of the configuration, and returns it in the form in which browsers send it: lower-case,
// without a scheme's own port (https://html.spec.whatwg.org/#ascii-serialisation-of-an-origin). What no browser can
// send is an error, since it would never match. Of "https://*.example.com", which stands for all that have one more
// label, the star is left out.
func readOrigin(o string) (origin string, below bool, err error) {
	if o == "*" || o == "null" {
		return o, false, nil
	}
	scheme, host, ok := strings.Cut(strings.ToLower(strings.TrimSuffix(o, "/")), "://")
	rest, below := strings.CutPrefix(host, "*.")
	switch {
	case strings.Contains(rest, "*") || strings.Contains(scheme, "*"):
		return "", false, fmt.Errorf("origin %q: a star stands alone, or for the whole first label of a host, as in https://*.example.com", o)
	case strings.IndexFunc(o, func(c rune) bool { return c > unicode.MaxASCII }) >= 0:
		return "", false, fmt.Errorf("origin %q: browsers send other letters than a-z in their ASCII form, which begins with xn--", o)
	}
	u, err := url.Parse(scheme + "://" + rest)
	if !ok || err != nil || scheme == "" || rest == "" || u.Host != rest || u.Hostname() == "" || strings.HasPrefix(rest, ".") ||
		strings.HasSuffix(rest, ":") || strings.ContainsAny(rest, " \t%\"'<>\\^`{|}") {
		return "", false, fmt.Errorf("origin %q is not of the form scheme://host[:port]", o)
	}
	if port := u.Port(); scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		rest = strings.TrimSuffix(rest, ":"+port)
	}
	if below {
		rest = "." + rest
	}
	return scheme + "://" + rest, below, nil
}

// cors reports whether CORS headers are given at all.
func (p originPolicy) cors() bool { return p.any || len(p.listed)+len(p.below) > 0 }

func (p originPolicy) allows(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin == "" || p.allowsOrigin(origin, r.Host)
}

// allowsOrigin decides about an origin that is known. Host is the server's, as the request names it.
func (p originPolicy) allowsOrigin(origin, host string) bool {
	if p.any || p.lists(origin) {
		return true
	}
	if p.foreign && p.cors() {
		return false
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// lists reports whether an origin is one of those of the configuration.
func (p originPolicy) lists(origin string) bool {
	origin = strings.ToLower(origin)
	if p.listed[origin] {
		return true
	}
	scheme, host, _ := strings.Cut(origin, "://")
	label, rest, _ := strings.Cut(host, ".")
	return label != "" && label != "*" && !strings.ContainsAny(label, ":@/[]") && p.below[scheme+"://."+rest]
}

// apply sets the headers that go on every response, errors and the 101 included.
func (p originPolicy) apply(h http.Header, r *http.Request) {
	if p.any {
		h.Set("Access-Control-Allow-Origin", "*")
		return
	}
	if !p.cors() {
		return
	}
	h.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" && p.lists(origin) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	}
}

// refuseOrigin counts a request whose page may not talk to the server, and tells those who run it how it might.
func (s *Server) refuseOrigin(r *http.Request, page string) {
	s.counts.add(countOriginRefused)
	s.tellRefused(r, countOriginRefused, fmt.Sprintf("the page's origin is %q, and this server's host is %q", cut(page), cut(r.Host)),
		s.originSetting())
}

// originSetting is the setting that lets an origin in.
func (s *Server) originSetting() string {
	return settingOf("cors-origin", cut(strings.Join(s.tuned.limits.Load().Origins, ",")))
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
