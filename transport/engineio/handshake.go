package engineio

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unique"

	"github.com/gorilla/websocket"
	"go.uber.org/zap"
)

// Handshake is what is known of a client from its first request. Immutable. It is kept small, as every session has one:
// what many clients send alike, such as their browser's name, is in memory once, and maps are made when asked for. Two
// maps of its own per session were 1 KiB.
type Handshake struct {
	address string
	time    time.Time
	url     unique.Handle[string]
	headers []unique.Handle[header]
}

// header is one request header: its lower-case name, and its values joined by ", ".
type header struct{ name, value string }

// Address returns the client's IP address, without port: the connection's, or what a trusted proxy says.
func (h *Handshake) Address() string { return h.address }

// Time returns the moment of the handshake.
func (h *Handshake) Time() time.Time { return h.time }

// URL returns path and query as sent.
func (h *Handshake) URL() string { return h.url.Value() }

// Query returns the query in a new map; of repeated keys the last counts.
func (h *Handshake) Query() map[string]string {
	_, query, _ := strings.Cut(h.URL(), "?")
	return parseQuery(query)
}

// Bytes estimates what all of it takes, rather too much than too little, with 10 bytes for each entry of a map.
func (h *Handshake) Bytes() int {
	url := h.URL() // it is told once more as the query, where a broken byte becomes three
	n := len(h.address) + 4*len(url) + 10*(1+strings.Count(url, "&"))
	for _, f := range h.headers {
		n += len(f.Value().name) + 3*len(f.Value().value) + 10
	}
	return n
}

// Headers returns the headers on the allow-list in a new map: lower-case names, several values joined by ", ".
func (h *Handshake) Headers() map[string]string {
	m := make(map[string]string, len(h.headers))
	for _, f := range h.headers {
		m[f.Value().name] = f.Value().value
	}
	return m
}

// handshakeError is a refusal with its number on the wire (Engine.IO v4, server errors).
type handshakeError uint8

const (
	errTransportUnknown handshakeError = iota
	errSessionUnknown
	errBadMethod
	errBadRequest
	errForbidden
	errBadVersion
	errUnavailable // not numbered by the protocol: 503, code 4 for clients that show it
)

var handshakeTexts = [...]struct {
	code, status int
	message      string
}{
	errTransportUnknown: {0, 400, "Transport unknown"},
	errSessionUnknown:   {1, 400, "Session ID unknown"},
	errBadMethod:        {2, 400, "Bad handshake method"},
	errBadRequest:       {3, 400, "Bad request"},
	errForbidden:        {4, 403, "Forbidden"},
	errBadVersion:       {5, 400, "Unsupported protocol version"},
	errUnavailable:      {4, 503, "Service unavailable"},
}

// ServeHTTP serves one request. A GET blocks until there is something to send to its client; the goroutine of a
// WebSocket request returns as soon as the connection is taken over. Requests outside of Config.Path get 404.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.crash()
	// Nobody waits for a body but who reads it, such as servePost: net/http would, before it lets an answer go.
	waitForBody(w, r, time.Unix(1, 0))
	raw := r.RequestURI
	if !strings.HasPrefix(raw, "/") { // absolute form, or a request made by hand
		raw = r.URL.EscapedPath()
	}
	if !strings.HasPrefix(raw, s.cfg.Path) {
		http.NotFound(w, r)
		return
	}
	origins := s.tuned.origins.Load()
	origins.apply(w.Header(), r)
	upgrade := isUpgrade(r)

	// The order of the checks is the reference server's; the first failure is the answer.
	if !origins.allows(r) {
		s.refuseOrigin(r, r.Header.Get("Origin"))
		s.refuse(w, r, errForbidden, upgrade, "")
		return
	}
	if r.Method == http.MethodOptions && origins.cors() {
		origins.preflight(w, r)
		return
	}
	transport, _ := lookup(r.URL.RawQuery, "transport")
	if transport != "polling" && transport != "websocket" {
		s.refuse(w, r, errTransportUnknown, upgrade, fmt.Sprintf("the transport asked for is %q; polling and websocket are served", cut(transport)))
		return
	}
	if !legalHeader(r.Header.Get("Origin")) {
		s.refuse(w, r, errBadRequest, upgrade, "the Origin header has bytes that no header may have")
		return
	}
	if sid, ok := lookup(r.URL.RawQuery, "sid"); ok && sid != "" { // an empty one is none, as in the reference
		eio, _ := lookup(r.URL.RawQuery, "EIO")
		s.serveSession(w, r, sid, transport, eio, upgrade)
		return
	}
	query := parseQuery(r.URL.RawQuery)
	switch {
	case r.Method != http.MethodGet:
		s.refuse(w, r, errBadMethod, upgrade, fmt.Sprintf("a handshake is a GET, and not a %q", cut(r.Method)))
	case upgrade != (transport == "websocket"):
		s.refuse(w, r, errBadRequest, upgrade, wrongTransport(upgrade))
	case query["EIO"] != "4" && !s.cfg.AllowEIO3:
		s.refuse(w, r, errBadVersion, upgrade, fmt.Sprintf("EIO is %q, and only 4 is served; clients of Socket.IO v2 say 3", cut(query["EIO"])))
	case isJSONP(query) && !s.tuned.origins.Load().allowsScript(r):
		s.refuseOrigin(r, r.Referer())
		s.refuse(w, r, errForbidden, upgrade, "")
	default:
		s.handshake(w, r, query, upgrade)
	}
}

// handshake makes a session where there is room for one.
func (s *Server) handshake(w http.ResponseWriter, r *http.Request, query map[string]string, upgrade bool) {
	text, addr := s.client(r)
	peer := s.shares.enter(addr)
	if !s.inTurn(r, peer, text) || !s.reserve(peer, text) {
		s.shares.leave(peer)
		w.Header().Set("Retry-After", retryAfter)
		s.refuse(w, r, errUnavailable, upgrade, "")
		return
	}
	h := newHandshake(r, s.headers, text)
	if upgrade {
		s.handshakeWebSocket(w, r, h, peer, query)
		return
	}
	s.handshakePolling(w, r, h, peer, query)
}

// inTurn makes a handshake wait for its turn when many come from one address. A connection that waits is not read from,
// so what it sends next waits too. False: it would be for too long, or its client is gone.
func (s *Server) inTurn(r *http.Request, peer *Peer, address string) bool {
	if s.refusing.Load() {
		return true // the answer need not wait
	}
	wait, ok := peer.turn(handshakePatience)
	switch {
	case !ok:
		s.counts.add(countRate)
		s.tell(zap.InfoLevel, "handshake refused", countRate, address,
			"this address makes too many handshakes; behind a proxy, --trusted-proxy tells its clients apart",
			s.handshakeSetting())
		return false
	case wait > 0:
		s.counts.add(countSlowed)
		return sleep(r.Context(), wait)
	}
	return true
}

// serveSession routes a request that names a session.
func (s *Server) serveSession(w http.ResponseWriter, r *http.Request, sid, transport, eio string, upgrade bool) {
	ss := s.find(sid)
	if ss == nil {
		if why := s.elsewhere(w, r, sid); why != "" {
			s.refuse(w, r, errSessionUnknown, upgrade, why)
		}
		return
	}
	closed := ss.isClosed()
	if closed && (upgrade || transport != "polling" || r.Method != http.MethodGet) {
		s.refuse(w, r, errSessionUnknown, upgrade, sessionUnknown)
		return
	}
	switch {
	case closed && (eio == "4") == (ss.dialect == eio4): // maybe it has a last word
		ss.serveGet(w, r)
	case upgrade && transport != "websocket", !upgrade && transport != ss.Transport(), (eio == "4") != (ss.dialect == eio4):
		s.refuse(w, r, errBadRequest, upgrade, "the request does not fit its session's transport or version")
	case upgrade:
		ss.serveProbe(w, r)
	case transport == "websocket": // a plain request cannot belong to a websocket
		s.refuse(w, r, errBadRequest, false, "a request without an upgrade names a session that is on websocket")
	case r.Method == http.MethodGet:
		ss.serveGet(w, r)
	case r.Method == http.MethodPost:
		ss.servePost(w, r)
	default:
		s.counts.add(countBadMethod)
		s.tellRefused(r, countBadMethod, fmt.Sprintf("a request of a session is a GET or a POST, and not a %q", cut(r.Method)), "")
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// elsewhere lets who knows whose a session is answer the request; what it returns is why nobody does.
func (s *Server) elsewhere(w http.ResponseWriter, r *http.Request, sid string) (why string) {
	if s.cfg.Unknown == nil {
		return sessionUnknown
	}
	waitForBody(w, r, time.Now().Add(bodyTimeout))
	if why = s.cfg.Unknown(sid, w, r); why != "" {
		waitForBody(w, r, time.Unix(1, 0))
	}
	return why
}

// waitForBody bounds the wait for a request's body, if it has one. Without support the server's own limits hold.
func waitForBody(w http.ResponseWriter, r *http.Request, until time.Time) {
	if r.Body != nil && r.Body != http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(until)
	}
}

func (s *Server) handshakePolling(w http.ResponseWriter, r *http.Request, h *Handshake, peer *Peer, query map[string]string) {
	ss := s.newSession(h, peer, dialectOf(query))
	if !ss.open() {
		s.refuse(w, r, errForbidden, false, "")
		return
	}
	body := s.openPacket(ss.sid(), true)
	setPollHeaders(w.Header(), r)
	if ss.dialect != eio4 {
		body, _ = ss.eio3Body(w.Header(), nil, body)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write([]byte(body)) // a client that is gone is found by the heartbeat
}

func (s *Server) handshakeWebSocket(w http.ResponseWriter, r *http.Request, h *Handshake, peer *Peer, query map[string]string) {
	conn, err := s.upgrade(w, r)
	if err != nil {
		s.release(peer, nil)
		return
	}
	ss := s.newSession(h, peer, dialectOf(query))
	ss.attachFirst(conn)
	if !ss.open() {
		conn.abort(conn.control)
		return
	}
	ss.sendOpen(s.openPacket(ss.sid(), false))
	ss.beginReading(conn)
}

// openPacket is the first packet of a session, with exactly the five keys of the protocol.
func (s *Server) openPacket(sid string, upgradable bool) string {
	upgrades := ""
	if upgradable {
		upgrades = `"websocket"`
	}
	return `0{"sid":"` + sid + `","upgrades":[` + upgrades + s.openRest
}

// restOfOpen is what open packets end with.
func restOfOpen(c Config) string {
	return fmt.Sprintf(`],"pingInterval":%d,"pingTimeout":%d,"maxPayload":%d}`,
		c.PingInterval.Milliseconds(), c.PingTimeout.Milliseconds(), c.MaxPayload)
}

const sessionUnknown = "there is no such session: it has ended, or another server has it, which takes sticky sessions at the balancer"

func wrongTransport(upgrade bool) string {
	if upgrade {
		return "an upgrade to websocket asks for transport=polling"
	}
	return "transport=websocket comes without an upgrade; a proxy may leave out the Upgrade header"
}

// refuse answers with a numbered error: JSON to plain HTTP, the bare text and a close to an upgrade request. It counts
// and logs it with detail, unless that is "": then its caller does.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, e handshakeError, upgrade bool, detail string) {
	t := handshakeTexts[e]
	if e != errUnavailable {
		s.counts.add(countTransportUnknown + counter(e))
	}
	if detail != "" {
		setting := ""
		if e == errBadVersion {
			setting = settingOf("allow-eio3", s.cfg.AllowEIO3)
		}
		s.tellRefused(r, countTransportUnknown+counter(e), detail, setting)
	}
	if upgrade && refuseUpgrade(w, e) {
		return
	}
	body := fmt.Sprintf(`{"code":%d,"message":"%s"}`, t.code, t.message)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(t.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(body))
	}
}

// refuseUpgrade writes the refusal in the reference server's own form, which is not that of net/http. Status 400
// whatever the number, save 503. False when the connection cannot be taken over.
func refuseUpgrade(w http.ResponseWriter, e handshakeError) bool {
	header := w.Header()
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	defer conn.Close()
	text := handshakeTexts[e].message
	status := "400 Bad Request"
	if e == errUnavailable {
		status = "503 Service Unavailable"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %s\r\nConnection: close\r\nContent-type: text/html\r\nContent-Length: %d\r\n", status, len(text))
	_ = header.WriteSubset(&b, nil) // the CORS headers; a strings.Builder does not fail
	b.WriteString("\r\n" + text)
	_ = conn.SetDeadline(time.Now().Add(lingerTimeout))
	_, _ = conn.Write([]byte(b.String())) // the peer is refused either way
	return true
}

func isUpgrade(r *http.Request) bool {
	return websocket.IsWebSocketUpgrade(r)
}

// legalHeader: TAB, printable ASCII, and bytes above it.
func legalHeader(v string) bool {
	for i := range len(v) {
		if c := v[i]; c != '\t' && (c < 0x20 || c == 0x7f) {
			return false
		}
	}
	return true
}

// parseQuery reads a query as Node's querystring does: broken escapes stand for themselves, the last of repeated keys
// wins.
func parseQuery(raw string) map[string]string {
	q := make(map[string]string, 4)
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		q[unescape(k)] = unescape(v)
	}
	return q
}

// lookup is one value of parseQuery, without a map: it is asked for with every poll.
func lookup(raw, key string) (value string, ok bool) {
	for pair := range strings.SplitSeq(raw, "&") {
		if k, v, _ := strings.Cut(pair, "="); pair != "" && unescape(k) == key {
			value, ok = unescape(v), true
		}
	}
	return value, ok
}

func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 && utf8.ValidString(s) {
		return s
	}
	if u, err := url.QueryUnescape(s); err == nil {
		return strings.ToValidUTF8(u, "\uFFFD")
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "+", " "), "\uFFFD")
}

// headerPolicy says which request headers a Handshake keeps.
type headerPolicy struct {
	all   bool
	names map[string]string // lower-case name: the name as net/http has it
}

var secretHeaders = map[string]bool{"cookie": true, "authorization": true, "proxy-authorization": true, "set-cookie": true}

func newHeaderPolicy(names []string) headerPolicy {
	p := headerPolicy{names: make(map[string]string, len(names))}
	for _, n := range names {
		if n == "*" {
			p.all = true
			continue
		}
		p.names[n] = http.CanonicalHeaderKey(n)
	}
	return p
}

// kept returns what the policy keeps of a request's headers. unique.Make copies what it has not seen, so the request's
// header block can go.
func (p headerPolicy) kept(r *http.Request) []unique.Handle[header] {
	kept := make([]unique.Handle[header], 0, 8)
	keep := func(name string, values []string) {
		if len(values) > 0 && name != "host" {
			kept = append(kept, unique.Make(header{name, strings.Join(values, ", ")}))
		}
	}
	for name, canonical := range p.names {
		keep(name, r.Header[canonical])
	}
	if p.all {
		for canonical, values := range r.Header {
			name := strings.ToLower(canonical)
			if _, twice := p.names[name]; !twice && !secretHeaders[name] {
				keep(name, values)
			}
		}
	}
	if _, named := p.names["host"]; named || p.all { // net/http keeps it apart
		kept = append(kept, unique.Make(header{"host", r.Host}))
	}
	return slices.Clone(kept)
}

func newHandshake(r *http.Request, keep headerPolicy, address string) *Handshake {
	url := r.RequestURI
	if url == "" { // a request made by hand
		url = r.URL.RequestURI()
	}
	return &Handshake{address: address, time: time.Now(), url: unique.Make(url), headers: keep.kept(r)}
}

const handleLen = 16

// newIDs returns a sid and behind it a handle of 12 random bytes, in base64url: one piece of memory, and one string a
// session. With the default sid it is one call of crypto/rand, too.
func (s *Server) newIDs() string {
	var b [36]byte
	if s.cfg.NewSID != nil {
		_, _ = rand.Read(b[24:]) // never fails: it crashes the process instead
		return s.cfg.NewSID() + base64.RawURLEncoding.EncodeToString(b[24:])
	}
	_, _ = rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
