package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"connectrpc.com/connect"

	foyerv1 "foyer/gen/foyer/v1"
)

// Who may call from a browser. A page of any origin can have its browser post a form, or text, to any address that the
// browser reaches, loopback as well, without asking first; it cannot read the answer, and the call is done. On
// loopback without tokens nothing else would keep it out. What a browser cannot help to say is who asks:
//
//   - Origin is in every such request, as a name or as "null". One that is not listed is refused, whatever the Host:
//     after a rebound DNS name a foreign page is of the same origin as this server, so that this is not asked.
//   - Sec-Fetch-Site is looked at when there is no Origin, as with GET. A page has nothing to look for here then
//     either.
//   - Host is the name that the page knows. Where everybody may call it has to be one of this machine, which a rebound
//     name is not.
//
// Programs send none of the first two. A token is never sent by a browser of itself, so it guards against pages where
// there is one; the rule is the same there, for there is no use in a second one. Credentials of browsers (cookies) play
// no part, and CORS does not allow them.

// checkOrigin says why a request may come from a page that may not call; nil: it does not.
func (s *Server) checkOrigin(r *http.Request) error {
	switch origin, given := r.Header["Origin"]; {
	case given && (len(origin) != 1 || !(*s.origins.Load())[origin[0]]):
		return s.refuse(refusedOrigin, r, fmt.Sprintf("the page's origin %.100q is not in --http-origin", strings.Join(origin, ", ")))
	case given:
	case !fromNoPage(r.Header.Get("Sec-Fetch-Site")):
		return s.refuse(refusedOrigin, r, "a page of another site asks for it, by Sec-Fetch-Site")
	}
	if s.cfg.Open && !isLocal(r.Host) {
		return s.refuse(refusedOrigin, r, fmt.Sprintf("the Host %.100q is no name of this machine, and the node has no tokens", r.Host))
	}
	return nil
}

// fromNoPage: a program sends nothing, and a browser "none" when its user has typed the address.
func fromNoPage(site string) bool { return site == "" || site == "none" || site == "same-origin" }

// isLocal says whether a Host is one that only this machine answers to.
func isLocal(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// allowOrigin has the browser show a page the answer, which checkOrigin has let in
// (https://fetch.spec.whatwg.org/#http-cors-protocol). It says whether the request was only a question whether it may.
func (s *Server) allowOrigin(head http.Header, r *http.Request) (asked bool) {
	if len(*s.origins.Load()) == 0 {
		return false
	}
	head.Set("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	head.Set("Access-Control-Allow-Origin", origin)
	head.Set("Access-Control-Expose-Headers", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	head.Set("Access-Control-Allow-Methods", "POST, GET")
	head.Set("Access-Control-Allow-Headers",
		"Authorization, Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, Grpc-Timeout, X-Grpc-Web, X-User-Agent")
	head.Set("Access-Control-Max-Age", "600")
	return true
}

// readOrigin reads an origin of the configuration and returns it as browsers send it.
func readOrigin(o string) (string, error) {
	u, err := url.Parse(strings.ToLower(strings.TrimSuffix(o, "/")))
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.Scheme+"://"+u.Host != u.String() || strings.ContainsAny(o, "*,") {
		return "", fmt.Errorf("origin %q is not of the form scheme://host[:port]", o)
	}
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	return u.String(), nil
}

// refusal is why a request is refused here, beyond what is wrong with the call itself.
type refusal int

const (
	refusedOrigin refusal = iota // a page that may not call
	refusedBytes                 // more bytes of requests than all may hold
	refusedLate                  // bodies that do not come to their end
	refusalCount
)

var refusals = [refusalCount]struct {
	reason, flag string
	code         connect.Code
	why          foyerv1.ErrorReason
}{
	refusedOrigin: {"http_origin_refused", "http-origin", connect.CodePermissionDenied, foyerv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED},
	refusedBytes:  {"http_request_bytes", "api-request-bytes", connect.CodeResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED},
	refusedLate:   {"http_request_late", "http", connect.CodeDeadlineExceeded, foyerv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED},
}
