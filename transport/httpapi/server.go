package httpapi

import (
	"context"
	_ "embed" // the description of the API
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	foyerv1 "foyer/gen/foyer/v1"
)

// openAPI is made of proto/ by make generate.
//
//go:embed openapi.swagger.yaml
var openAPI []byte

const openAPIPath = "/openapi.yaml"

const (
	// callTimeout ends a call with one answer. It is above the longest wait for acknowledgements, which is a minute.
	callTimeout = 75 * time.Second
	// streamWindow is what waits in memory for a client that does not read. More is held up at the gRPC server.
	streamWindow = 64 << 10
	// maxAnswer is the largest message that is taken of the gRPC server, in bytes.
	maxAnswer = 64 << 20
)

// Config is what a Server needs. All fields without a default are required.
type Config struct {
	// Dial opens a connection in memory to the gRPC server. It returns soon after ctx has ended.
	Dial func(ctx context.Context) (net.Conn, error)
	// Admit says what is wrong with a caller's values of the header Authorization, as a status; nil: it may call. It
	// counts and tells its refusals by itself. It does not block.
	Admit func(ctx context.Context, method string, authorization []string, address string) error
	// Address is the address of a request's client, without the port. Default: the connection's.
	Address func(r *http.Request) string
	// AddressKey is the metadata in which the gRPC server is told that address. Default: it is not told.
	AddressKey string
	// Open says that everybody may call. Then only names of this machine are taken as Host.
	Open bool
	// Origins of pages that may call, as https://example.com. Default: none.
	Origins []string
	// MaxMessage is the largest request in bytes.
	MaxMessage int
	// RequestBytes is how many bytes of requests are held at once that the gRPC server has not taken yet.
	RequestBytes int64
	// Hold counts bytes that are held, or below zero that are no more. Default: nobody counts them.
	Hold func(bytes int)
	// WriteTimeout is how long a client may take for what is written to it at once.
	WriteTimeout time.Duration
	// Told gets what peers can cause at any rate, and writes few of a kind. Default: none.
	Told *zap.Logger
}

// Validate says all that is wrong with a Config at once.
func (c *Config) Validate() error {
	var errs []error
	for _, o := range c.Origins {
		if _, err := readOrigin(o); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Server answers calls over HTTP. Safe for concurrent use.
type Server struct {
	// Set before start.
	cfg      Config
	methods  map[string]*method
	vanguard http.Handler
	conn     *grpc.ClientConn
	faults   *connect.ErrorWriter
	told     *zap.Logger

	origins atomic.Pointer[map[string]bool] // as browsers send them; exchanged as a whole

	held   atomic.Int64 // bytes of requests
	counts [refusalCount]atomic.Int64
}

// New makes a Server. The caller ends it with Close when no request is under way.
func New(cfg Config) (*Server, error) {
	if cfg.Told == nil {
		cfg.Told = zap.NewNop()
	}
	if cfg.Hold == nil {
		cfg.Hold = func(int) {}
	}
	s := &Server{
		cfg: cfg, methods: methodsOf("foyer.v1"), faults: connect.NewErrorWriter(),
		told: cfg.Told.Named("httpapi"),
	}
	if err := s.SetOrigins(cfg.Origins); err != nil {
		return nil, err
	}
	var services []*vanguard.Service
	for _, name := range servicesOf(s.methods) {
		services = append(services, vanguard.NewService(name, http.HandlerFunc(s.call)))
	}
	var err error
	s.vanguard, err = vanguard.NewTranscoder(services, vanguard.WithCodec(newJSON()), vanguard.WithDefaultServiceOptions(
		vanguard.WithTargetProtocols(vanguard.ProtocolGRPC), vanguard.WithTargetCodecs(vanguard.CodecProto),
		vanguard.WithNoTargetCompression(), vanguard.WithMaxMessageBufferBytes(maxAnswer),
	))
	if err != nil {
		return nil, fmt.Errorf("make the translation of protocols: %w", err)
	}
	s.conn, err = grpc.NewClient("passthrough:///memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return cfg.Dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(streamWindow), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(maxAnswer)),
	)
	if err != nil {
		return nil, fmt.Errorf("make the connection in memory: %w", err)
	}
	return s, nil
}

// SetOrigins has pages of these origins call from now on, and no others. An error, that of Config.Validate, has changed
// nothing.
func (s *Server) SetOrigins(origins []string) error {
	if err := (&Config{Origins: origins}).Validate(); err != nil {
		return err
	}
	all := make(map[string]bool, len(origins))
	for _, o := range origins {
		origin, _ := readOrigin(o) // was checked
		all[origin] = true
	}
	s.origins.Store(&all)
	return nil
}

// Close ends the connection to the gRPC server, and with it the calls that are under way.
func (s *Server) Close() { _ = s.conn.Close() }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w = &writer{ResponseWriter: w, timeout: s.cfg.WriteTimeout}
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Cache-Control", "no-store")
	if err := s.checkOrigin(r); err != nil {
		s.answer(w, r, err)
		return
	}
	if s.allowOrigin(head, r) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if err := s.cfg.Admit(r.Context(), r.URL.Path, r.Header["Authorization"], s.address(r)); err != nil {
		head.Set("WWW-Authenticate", "Bearer")
		s.answer(w, r, fromStatus(err))
		return
	}
	if r.URL.Path == openAPIPath && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		head.Set("Content-Type", "application/yaml")
		_, _ = w.Write(openAPI)
		return
	}
	m, plain, err := s.prepare(r)
	if err != nil {
		s.answer(w, r, err)
		return
	}
	b, err := s.readBody(w, r)
	if err != nil {
		s.answer(w, r, err)
		return
	}
	defer b.release()
	if plain && len(b.rest) == 0 {
		b.rest = []byte("{}") // a request without fields
	}
	if plain && m.stream {
		l := &lines{ResponseWriter: w}
		defer l.end()
		w = l
		b.rest = envelope(b.rest)
		r.Header.Set("Content-Type", "application/connect+json")
	}
	r.Body, r.ContentLength = b, int64(len(b.rest))
	s.vanguard.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), bodyKey{}, b)))
}

// prepare finds the method of a request and sees that vanguard understands it. plain: it says of no protocol that it
// speaks it, and is taken for JSON.
func (s *Server) prepare(r *http.Request) (m *method, plain bool, err error) {
	m = s.methods[r.URL.Path]
	switch {
	case r.URL.Path == openAPIPath:
		return nil, false, &noCall{invalid("%s is read by GET, and this one is %.20q", openAPIPath, r.Method), http.StatusMethodNotAllowed, "GET, HEAD"}
	case m == nil:
		told := fault(connect.CodeUnimplemented, foyerv1.ErrorReason_ERROR_REASON_NOT_IMPLEMENTED,
			"there is no %.100q: the path is /SERVICE/METHOD, such as /foyer.v1.EmitService/Emit, and %s lists all", r.URL.Path, openAPIPath)
		return nil, false, &noCall{told, http.StatusNotFound, ""}
	case r.Method != http.MethodPost:
		return nil, false, &noCall{invalid("calls are POST requests, and this one is %.20q", r.Method), http.StatusMethodNotAllowed, http.MethodPost}
	case m.upload:
		return nil, false, fault(connect.CodeUnimplemented, foyerv1.ErrorReason_ERROR_REASON_NOT_IMPLEMENTED,
			"%s is a stream of requests, which needs gRPC: call it at the node's --api address", m.name)
	}
	for _, name := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
		if v := r.Header.Get(name); v != "" && v != "identity" {
			return nil, false, fault(connect.CodeUnimplemented, foyerv1.ErrorReason_ERROR_REASON_NOT_IMPLEMENTED,
				"%s: requests are taken uncompressed, and this one is %.20q", name, v)
		}
	}
	for _, name := range []string{"Accept-Encoding", "Connect-Accept-Encoding", "Grpc-Accept-Encoding"} {
		r.Header.Del(name) // so are the answers
	}
	if v, ok := r.Header["Connect-Protocol-Version"]; ok && (len(v) != 1 || v[0] != "1") {
		return nil, false, invalid("Connect-Protocol-Version is 1, if it is there")
	}
	if v := r.Header.Get("Connect-Timeout-Ms"); v != "" {
		if ms, err := strconv.ParseInt(v, 10, 64); err != nil || ms < 0 {
			return nil, false, invalid("Connect-Timeout-Ms is a number of milliseconds, and this one is %.20q", v)
		}
	}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	r.Header.Set("Content-Type", kind)
	r.URL.RawQuery = ""
	switch kind {
	case "", "application/json", "application/x-www-form-urlencoded", "text/plain": // curl -d says the third of all it sends
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Connect-Protocol-Version", "1")
		return m, true, nil
	case "application/proto":
		r.Header.Set("Connect-Protocol-Version", "1")
		if !m.stream {
			return m, false, nil
		}
	case "application/connect+json", "application/connect+proto":
		if m.stream {
			return m, false, nil
		}
	case "application/grpc-web", "application/grpc-web+proto", "application/grpc-web+json":
		return m, false, nil
	case "application/grpc", "application/grpc+proto":
		return nil, false, invalid("this address speaks HTTP/1.1: gRPC is at the node's --api address")
	}
	return nil, false, invalid("Content-Type %.60q is not for %s: send application/json", kind, m.name)
}

// Counters are what was refused, by the words of GetInfo.
func (s *Server) Counters() map[string]int64 {
	counts := make(map[string]int64, refusalCount)
	for i := range refusals {
		counts[refusals[i].reason] = s.counts[i].Load()
	}
	return counts
}

// address is the address of a request's client.
func (s *Server) address(r *http.Request) string {
	if s.cfg.Address != nil {
		return s.cfg.Address(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// writer gives each write its time.
type writer struct {
	http.ResponseWriter
	timeout time.Duration
}

func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) Write(p []byte) (int, error) {
	w.extend()
	return w.ResponseWriter.Write(p)
}

func (w *writer) Flush() {
	w.extend()
	_ = http.NewResponseController(w.ResponseWriter).Flush() // a client that is gone hears nothing
}

func (w *writer) extend() {
	if w.timeout > 0 {
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout))
	}
}
