package engineio

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Config sets up a Server. Zero means default; negative means off where off makes sense, and is an error elsewhere.
type Config struct {
	// Path is the prefix of the raw request path that belongs to the server. Default "/socket.io/"; a missing slash at
	// the end is added.
	Path string

	// PingInterval is the time between pings, PingTimeout how long a pong may take, UpgradeTimeout how long a probe may
	// take to finish its upgrade. Defaults 25 s, 20 s, 10 s. At least 1 ms, as the first two are announced in ms.
	PingInterval, PingTimeout, UpgradeTimeout time.Duration

	// MaxPayload is the largest message or POST body accepted, in bytes after inflation, type digit included. Default
	// 1,000,000. It is announced to clients.
	MaxPayload int
	// MaxPayloadBeforeAdmit is the limit until Session.Admit. Default 16 KiB; negative: MaxPayload from the start.
	MaxPayloadBeforeAdmit int

	// QueueBytes bounds what waits to be sent to one session, what is being written included; each message counts 32 bytes
	// beside its own. Default 1 MiB. One message larger than that is taken when nothing else is waiting. Until
	// Session.Admit it is at most 16 KiB.
	QueueBytes int
	// SlowAfter is how long the peer of a session may take nothing at all, once something did not fit into its queue: then
	// the session is closed with ReasonSlow. A peer that takes a little at a time never is. Default 10 s.
	SlowAfter time.Duration
	// Budget is asked for what is above 16 KiB of each queue, in steps of 64 KiB; what it refuses is as if the queue were
	// full. Default: no such bound.
	Budget Budget
	// Inbound is asked for the bodies above 16 KiB of POSTs that wait because their session is paused, and for what is
	// above 64 KiB of the buffer of a message or body that is still arriving. A session that it refuses is closed.
	// Default: no such bound.
	Inbound Budget

	// MaxSessions bounds the open sessions. A handshake over it takes the place of the oldest session that has joined
	// nothing (see Session.Admit), and is answered 503 when there is none. Default 100,000; negative: no bound.
	MaxSessions int
	// MaxSessionsPerAddress bounds those of one address, of IPv6 those of one /64, in the same way. Default half of
	// MaxSessions; negative: no bound.
	MaxSessionsPerAddress int
	// HandshakeRate is how many handshakes a second one address may make for long, HandshakeBurst how many at once.
	// Handshakes over that wait for up to a second, then are answered 503. Defaults 2,000, 10,000; negative rate: no
	// bound.
	HandshakeRate, HandshakeBurst int
	// MessageRate is how many messages a second one session may send for long, MessageBurst how many at once; then it is
	// read more slowly. Polls, POSTs and WebSocket pings count too, some things as several, see Session.Charge. Defaults
	// 2,000, 5,000; negative rate: no bound.
	MessageRate, MessageBurst int
	// AddressMessageRate is how many messages a second all links of one address may send for long, AddressMessageBurst
	// how many at once; then they are read more slowly. Defaults 50,000, 100,000; negative rate: no bound.
	AddressMessageRate, AddressMessageBurst int
	// TrustedProxies are the networks of proxies whose X-Forwarded-For tells a client's address. Default: none.
	TrustedProxies []netip.Prefix

	// Compression offers permessage-deflate on WebSocket and gzip on poll responses. Default off: it costs CPU, and
	// memory per message in flight.
	Compression bool

	// AllowEIO3 also serves version 3 of the protocol, which the clients of Socket.IO v2 speak: to all that do not say
	// EIO=4. Default off. Two things to know before it is switched on. These clients show their application the session's
	// sid, as socket.id (in other namespaces with "/name#" before it): it is not the id that the service knows the socket
	// by, and a program that is told it can act as the client. And their JSONP lets any page read what it fetches, without
	// an Origin: a JSONP handshake is refused unless its Referer is of a page that Origins allows.
	AllowEIO3 bool

	// Origins lists the values of the Origin header that may come in, such as "https://example.com", beside the origin
	// whose host is the request's Host; requests without one always may. "https://*.example.com" stands for all hosts
	// with one more label, "*" for any origin. A list, or "*", also brings the CORS headers.
	Origins []string
	// ListedOriginsOnly takes the server's own origin for one that has to be listed as well. Where the server is reached
	// by an address that is not public, it keeps out a page whose name was pointed there (DNS rebinding), which
	// otherwise counts as of the same origin. Default off; without a list it has no effect.
	ListedOriginsOnly bool

	// HandshakeHeaders lists the request headers kept in Handshake.Headers, lower-case. Nil: a short default list without
	// anything secret. "*": all but cookie, authorization, proxy-authorization and set-cookie.
	HandshakeHeaders []string

	// NewSID makes the secret id of a session: in the characters of base64url, unique, and not to be guessed. It is
	// called from any goroutine, and does not block. Default: 24 random bytes.
	NewSID func() string
	// Unknown is asked whose a sid is that this server does not know, before its request is refused with "Session ID
	// unknown", whatever its method and transport. "": it has answered the request, or taken its connection over. Else
	// it has done neither, and says why not, for the log; it may have begun to read the body, for which it may take 30 s.
	// It may block as long as the request lasts, and may change the headers that are set already, those of CORS. Default:
	// it is nobody's.
	Unknown func(sid string, w http.ResponseWriter, r *http.Request) (why string)

	// Upgraded is told how long each upgrade took, from the probe's request to the client's last word, on any goroutine.
	// It hears nothing of an upgrade that ends after its session has begun to close. It does not block. Default: nobody
	// is told.
	Upgraded func(took time.Duration)

	// Crash is called with a panic of a request's handler and its stack, on its goroutine, with locks possibly held. It
	// does not return, save in tests. Default: it logs both and panics where nothing recovers.
	Crash func(v any, stack []byte)

	// Logger gets debug lines per session. Default: none.
	Logger *zap.Logger
	// Told gets lines about what hostile peers can cause, and says the same only once in a while. Default: Logger with a
	// sampler of its own, which takes 450 KB.
	Told *zap.Logger
}

// Budget is how many bytes all queues, or all bodies, together may hold. Its methods are called with locks held: they
// neither wait nor call back. Safe for concurrent use.
type Budget interface {
	// Take asks for bytes; false: nothing was taken.
	Take(bytes int) bool
	// Fits says whether Take would give so many bytes now.
	Fits(bytes int) bool
	// Force takes bytes that cannot be refused.
	Force(bytes int)
	// Give gives back what was taken.
	Give(bytes int)
}

const (
	preAdmitQueueBytes = 16 << 10               // with a message, the headers and undecided connects: 64 KiB for a client nobody knows yet
	preAdmitItemBytes  = 192                    // what its answers, which nobody shares, take beside their bytes and itemOverhead
	flushTimeout       = 10 * time.Second       // for what is queued at the end of a session
	bodyTimeout        = 30 * time.Second       // a whole POST body; 1 MB at 34 KB/s
	lingerTimeout      = time.Second            // for the peer's answer to our close frame
	pollCloseTimeout   = 30 * time.Second       // how long a closed polling session waits for one more GET (Engine.IO reference server)
	pollTurn           = 100 * time.Millisecond // and for each GET that takes its last words
	handshakePatience  = time.Second            // for which a handshake waits for its turn
	retryAfter         = "1"                    // seconds, told with every 503
	tellEvery          = 10 * time.Second       // how often the log says the same of what peers cause
	noopInterval       = 100 * time.Millisecond
	probeLimit         = 128 // bytes of a message on a probing transport: "2probe" and "5" are all there is to say
)

var defaultHeaders = []string{
	"accept-language", "host", "origin", "referer", "user-agent", "x-forwarded-for", "x-forwarded-proto", "x-request-id",
}

// Validate reports everything that is wrong with the Config, joined.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("engineio: "+format, args...)) }
	if c.Path != "" && !strings.HasPrefix(c.Path, "/") {
		bad("path %q does not begin with a slash", c.Path)
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"ping interval", c.PingInterval}, {"ping timeout", c.PingTimeout}, {"upgrade timeout", c.UpgradeTimeout}, {"slow after", c.SlowAfter}} {
		if d.d != 0 && d.d < time.Millisecond {
			bad("%s %v is under 1ms; it cannot be off", d.name, d.d)
		}
	}
	for _, n := range []struct {
		name string
		n    int
	}{
		{"max payload", c.MaxPayload},
		{"queue bytes", c.QueueBytes},
		{"handshake burst", c.HandshakeBurst},
		{"message burst", c.MessageBurst},
		{"address message burst", c.AddressMessageBurst},
	} {
		if n.n < 0 {
			bad("%s %d is negative; it cannot be off", n.name, n.n)
		}
	}
	for _, o := range c.Origins {
		if _, _, err := readOrigin(o); err != nil {
			bad("%w", err)
		}
	}
	for _, h := range c.HandshakeHeaders {
		if h != strings.ToLower(h) || h == "" {
			bad("handshake header %q is not lower-case", h)
		}
	}
	return errors.Join(errs...)
}

// withDefaults returns a copy in which every zero has become its default and every "off" something that needs no
// special case later on.
func (c Config) withDefaults() Config {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	defD := func(p *time.Duration, v time.Duration) {
		if *p == 0 {
			*p = v
		}
	}
	if c.Path == "" {
		c.Path = "/socket.io/"
	}
	if !strings.HasSuffix(c.Path, "/") {
		c.Path += "/"
	}
	defD(&c.PingInterval, 25*time.Second)
	defD(&c.PingTimeout, 20*time.Second)
	defD(&c.UpgradeTimeout, 10*time.Second)
	def(&c.MaxPayload, 1_000_000)
	def(&c.MaxPayloadBeforeAdmit, 16<<10)
	if c.MaxPayloadBeforeAdmit < 0 || c.MaxPayloadBeforeAdmit > c.MaxPayload {
		c.MaxPayloadBeforeAdmit = c.MaxPayload
	}
	def(&c.QueueBytes, 1<<20)
	defD(&c.SlowAfter, 10*time.Second)
	def(&c.MaxSessions, 100_000)
	if c.MaxSessions > 0 {
		def(&c.MaxSessionsPerAddress, max(1, c.MaxSessions/2))
	}
	def(&c.HandshakeRate, 2000)
	def(&c.HandshakeBurst, 10_000)
	def(&c.MessageRate, 2000)
	def(&c.MessageBurst, 5000)
	def(&c.AddressMessageRate, 50_000)
	def(&c.AddressMessageBurst, 100_000)
	if c.HandshakeHeaders == nil {
		c.HandshakeHeaders = defaultHeaders
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Told == nil {
		c.Told = c.Logger.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(core, tellEvery, 1, 0)
		}))
	}
	if c.Crash == nil {
		c.Crash = crashLoudly(c.Logger.Named("engineio"))
	}
	return c
}
