package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Options say what is measured and how. Every field has to be set where its comment names no default.
type Options struct {
	Scenario string // "idle", "connect", "upgrade", "broadcast", "echo" or "churn"

	URL      string   // of the server, with the path of the protocol: "/socket.io/" when it has none
	Others   []string // broadcast: those of the rest of its cluster, over all of which the clients are divided
	API      string   // host:port of Foyer's gRPC API; "": the server's application serves events, see the package comment
	Token    string   // bearer token of the API; default none
	APITLS   bool     // the API is served by TLS; default plain
	Insecure bool     // take any certificate, the server's and the API's; default only good ones

	Transport string // "websocket" or "polling"; upgrade is from the one to the other
	Clients   int
	Parallel  int           // most connects at once
	Rooms     int           // broadcast: over which the clients are divided; churn: which they join and leave
	Window    int           // broadcast: most emits in flight; one has landed when all have it. churn: calls at once
	Rate      float64       // broadcast: emits a second, Window still being the most in flight; 0: as fast as they land
	Bytes     int           // of a message, that is of one Engine.IO packet
	Warmup    time.Duration // runs before it is measured
	Duration  time.Duration // measured; for idle how long the crowd rests before its memory is read
	Patience  time.Duration // how long the server may take for any one step; what has not come by then is lost. Default 15 s

	Collect   string    // idle: URL that has the server collect its garbage; "": it does when it likes
	ServerPID []int     // for the CPU and memory of the server, or of a cluster; none: not told
	Progress  io.Writer // gets a line a second; nil: none
	Notes     io.Writer // gets what explains a silence, such as a wait for the server; nil: nothing

	dial func(ctx context.Context, network, addr string) (net.Conn, error) // tests have networks of their own; nil: the machine's
}

const (
	transportWebSocket = "websocket"
	transportPolling   = "polling"

	// minBytes is what a message takes that is no longer than its name and number.
	minBytes = 40
)

// Validate says all that is wrong at once, by the names of the command's flags.
func (o *Options) Validate() error {
	var errs []error
	wrong := func(is bool, format string, args ...any) {
		if is {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	s := scenarioOf(o.Scenario)
	wrong(s == nil, "there is no scenario %q", o.Scenario)
	if _, err := serverURL(o.URL); err != nil {
		errs = append(errs, fmt.Errorf("--url: %w", err))
	}
	for _, other := range o.Others {
		if _, err := serverURL(other); err != nil {
			errs = append(errs, fmt.Errorf("--others: %w", err))
		}
	}
	if o.Collect != "" {
		u, err := url.Parse(o.Collect)
		wrong(err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "", "--collect: %q is no URL of the form http://host:port/path", o.Collect)
	}
	if o.API != "" {
		_, _, err := net.SplitHostPort(o.API)
		wrong(err != nil, "--api: %q is no address of the form HOST:PORT", o.API)
	}
	wrong(!slices.Contains([]string{transportWebSocket, transportPolling}, o.Transport), "--transport: %q is neither websocket nor polling", o.Transport)
	wrong(o.Clients < 1, "--clients: %d is not above zero", o.Clients)
	wrong(o.Parallel < 1, "--parallel: %d is not above zero", o.Parallel)
	for _, pid := range o.ServerPID {
		wrong(pid <= 0, "--server-pid: %d is no process", pid)
	}
	wrong(o.Patience < 0, "--patience: %v is below zero", o.Patience)
	if s == nil {
		return errors.Join(errs...)
	}
	if s.rooms {
		wrong(o.Rooms < 1, "--rooms: %d is not above zero", o.Rooms)
		wrong(o.Window < 1 || o.Window > maxWindow, "--window: %d is not between 1 and %d", o.Window, maxWindow)
	}
	if o.Scenario == "broadcast" {
		wrong(o.Rooms > o.Clients, "--rooms: %d rooms for %d clients: some would be empty", o.Rooms, o.Clients)
		wrong(!(o.Rate >= 0 && o.Rate <= 1e9), "--rate: %g is no number of emits a second", o.Rate)
	}
	if s.sized {
		wrong(o.Bytes < minBytes || o.Bytes > maxFrame, "--bytes: %d is not between %d and %d", o.Bytes, minBytes, maxFrame)
	}
	if s.timed {
		wrong(o.Duration <= 0, "--seconds: %g is not above zero", o.Duration.Seconds())
		wrong(o.Warmup < 0, "--warmup: %v is below zero", o.Warmup)
	}
	return errors.Join(errs...)
}

// maxWindow keeps the list of what is in flight within reason.
const maxWindow = 1 << 16

func serverURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("%q is no URL of the form http://host:port", s)
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	if u.Path == "/" {
		u.Path = "/socket.io/"
	}
	return u, nil
}

// server is where the clients connect.
type server struct {
	url      *url.URL
	tls      *tls.Config // nil: plain
	patience time.Duration
	dialer   func(ctx context.Context, network, addr string) (net.Conn, error)
}

func newServer(o *Options, address string) (*server, error) {
	u, err := serverURL(address)
	if err != nil {
		return nil, err
	}
	to := &server{url: u, patience: cmp.Or(o.Patience, 15*time.Second), dialer: o.dial}
	if to.dialer == nil {
		to.dialer = new(net.Dialer).DialContext
	}
	if u.Scheme == "https" {
		to.tls = o.tls(u.Hostname())
	}
	return to, nil
}

func (o *Options) tls(host string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, InsecureSkipVerify: o.Insecure} //nolint:gosec // as told
}

// dial opens a connection.
func (to *server) dial(ctx context.Context) (net.Conn, error) {
	conn, err := to.dialer(ctx, "tcp", to.addr())
	if errors.Is(err, syscall.EMFILE) {
		err = fmt.Errorf("%w: raise ulimit -n; a client takes one, one that polls two", err)
	}
	if err != nil || to.tls == nil {
		return conn, err
	}
	secure := tls.Client(conn, to.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, explainTLS(to.addr(), false, err)
	}
	return secure, nil
}

// addr is where it listens.
func (to *server) addr() string {
	port := cmp.Or(to.url.Port(), map[string]string{"http": "80", "https": "443"}[to.url.Scheme])
	return net.JoinHostPort(to.url.Hostname(), port)
}

// errLate is the end of a step that took the server too long.
func (to *server) errLate() error { return fmt.Errorf("no answer within %v", to.patience) }

// path is that of the protocol, as requests have it.
func (to *server) path() string { return to.url.EscapedPath() }

// because prefers the reason for which ctx has ended, if it has: what else went wrong then only follows from it.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
