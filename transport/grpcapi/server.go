package grpcapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

const (
	// A backend that is gone without a word is known to be so after two of these.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 10 * time.Second
	// minClientPing allows clients' own pings of 10 s, also of an idle connection, with room for their jitter.
	minClientPing = 5 * time.Second

	connectionTimeout  = 10 * time.Second // TLS and HTTP/2 greetings
	maxHeaderListBytes = 16 << 10
	// maxConcurrentStreams bounds one connection: many waits for acknowledgements at once are what the API is for.
	maxConcurrentStreams = 1024
	// streamWindow is what a client may send on a stream that is not read. It does not grow: what a connection holds
	// unread is bounded by the number of its streams. A message that is read may be larger. A quarter of it cost busy
	// streams a tenth more.
	streamWindow = 256 << 10
	connWindow   = 4 << 20 // on its way; what has come is counted by the streams' windows alone
	// transportSlack is how much larger than the largest request a message may be that is still answered for what it is.
	// With one beyond gRPC ends its stream by itself.
	transportSlack = 4 << 20

	maxRequestBytes = 1 << 30 // the default of Config.RequestBytes where the budget is large or none
)

// Config is what a Server needs. Zero values mean the default that the field names.
type Config struct {
	// Bearer tokens of callers, until SetTokens. None: everybody may call, and Serve takes loopback addresses only.
	Tokens []string
	// TLS of the listener. Default: none. With ClientAuth RequireAndVerifyClientCert it may stand in for tokens.
	TLS *tls.Config
	// Words for GetInfo: transports, parsers and parts that are on.
	Features []string
	// Sessions counts the links that the node holds, for GetInfo. Default: not told.
	Sessions func() int
	// EdgeCounts is what the edges counted, by names that the service does not use, for GetInfo. Default: not told.
	EdgeCounts func() map[string]int64
	// The node has to join its cluster first: until Ready, only NodeService, health and reflection answer, and health says
	// that nothing is served.
	Joining bool
	// Limits of the edges, for GetInfo and Registered; 0: not told.
	MaxNamespacesPerLink int
	QueueBytes           int64 // that wait for one link
	// Empties the node over window at the most, for NodeService.Drain. It tells how many sessions are left and how many it
	// has closed, from any goroutine and as often as it likes, returns nil when none is left, and soon after ctx has
	// ended. Default: the call is not there.
	Drain func(ctx context.Context, window time.Duration, progress func(left, closed int)) error

	// Called is told of each call that was let in when it has ended, on its goroutine. It does not block. Default: nobody
	// is.
	Called func(Call)

	// Connections at once, half of them at most from one address. Default 4096.
	MaxConnections int
	// Bytes of requests that are being received and have not come to their end. One connection has a quarter of it, or
	// what its calls need that are not streams. Default: a quarter of the node's budget, 1 GiB at most.
	RequestBytes int64

	Logger *zap.Logger // default: none
	Told   *zap.Logger // gets what peers can cause at any rate, and writes few of a kind; default: Logger, which writes all
}

// Validate says all that is wrong with a Config at once.
func (c *Config) Validate() error {
	var errs []error
	for i, t := range c.Tokens {
		if t == "" {
			errs = append(errs, fmt.Errorf("token %d is empty", i))
		}
	}
	if c.MaxConnections < 0 || c.RequestBytes < 0 {
		errs = append(errs, errors.New("bounds of connections and requests are not below zero"))
	}
	return errors.Join(errs...)
}

// Server is the gRPC API of one node. Its methods are safe for concurrent use.
type Server struct {
	// Set before start.
	cfg    Config
	node   node
	limits service.Config
	gate   *gate
	left   *shares // of calls whose callers are gone
	// Of what the service bounds for all callers together.
	handlers, watchers *shares
	dedup              *dedup
	log                *zap.Logger
	grpc               *grpc.Server
	methods            map[string]Call // by name on the wire
	once               map[string]bool // the methods that are answered once
	health             *health.Server

	auth          atomic.Pointer[authenticator]
	settingTokens sync.Mutex // held while auth is exchanged
	queueBytes    atomic.Int64

	draining context.Context // ends with Shutdown; streams that nobody else would end follow it
	drain    context.CancelFunc
	stopping context.Context // ends with Stop; calls that outlive their callers follow it
	stop     context.CancelFunc
	streams  sync.WaitGroup // goroutines of streams

	joining    atomic.Bool // Ready was not called yet
	notServing atomic.Bool // NotServing was called
	emptying   atomic.Bool // a Drain runs
	cutting    atomic.Bool // Shutdown waits no longer
	cut        atomic.Int64

	// Drops of this package, for GetInfo.
	invalidReplies, invalidDecisions, invalidAuth atomic.Int64
	panics                                        atomic.Int64
}

// New makes the API of a node. The caller ends it with Shutdown or Stop, after the node was told to drain.
func New(cfg Config, n Node) (*Server, error) {
	return newServer(cfg, serviceNode{n})
}

func newServer(cfg Config, n node) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Told == nil {
		cfg.Told = cfg.Logger
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 4096
	}
	s := &Server{
		cfg: cfg, node: n, limits: n.Config(), dedup: newDedup(), log: cfg.Logger.Named("grpcapi"),
		health: health.NewServer(), once: map[string]bool{},
	}
	s.auth.Store(newAuthenticator(cfg.Tokens, nil))
	s.queueBytes.Store(cfg.QueueBytes)
	if cfg.RequestBytes == 0 {
		cfg.RequestBytes = maxRequestBytes
		if budget := s.limits.Budget.Limit(); budget > 0 {
			cfg.RequestBytes = min(cfg.RequestBytes, budget/4)
		}
	}
	fair := int64(receiving*(s.maxRequest()+transportSlack) + maxConcurrentStreams*streamWindow)
	s.gate = newGate(cfg.MaxConnections, cfg.RequestBytes, fair, len(cfg.Tokens) == 0, s.limits.Budget, cfg.Told.Named("grpcapi"))
	s.left, s.handlers, s.watchers = newShares(maxLeft), newShares(s.limits.MaxHandlers), newShares(s.limits.MaxWatchers)
	s.draining, s.drain = context.WithCancel(context.Background())
	s.stopping, s.stop = context.WithCancel(context.Background())

	creds := insecure.NewCredentials()
	if cfg.TLS != nil {
		creds = credentials.NewTLS(cfg.TLS)
	}
	options := []grpc.ServerOption{
		grpc.Creds(watchedCreds{creds}),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.InTapHandle(s.tap),
		grpc.StreamInterceptor(s.stream),
		grpc.UnknownServiceHandler(unknownMethod),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(connectionTimeout),
		grpc.MaxHeaderListSize(maxHeaderListBytes),
		grpc.MaxConcurrentStreams(maxConcurrentStreams),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.MaxRecvMsgSize(s.maxRequest() + transportSlack),
		grpc.WaitForHandlers(true),
	}
	s.grpc = grpc.NewServer(options...)

	s.register(&foyerv1.EmitService_ServiceDesc, &emitService{s: s})
	s.register(&foyerv1.RoomService_ServiceDesc, &roomService{s: s})
	s.register(&foyerv1.SocketService_ServiceDesc, &socketService{s: s})
	s.register(&foyerv1.PresenceService_ServiceDesc, &presenceService{s: s})
	s.register(&foyerv1.HandlerService_ServiceDesc, &handlerService{s: s})
	s.register(&foyerv1.NodeService_ServiceDesc, &nodeService{s: s})
	for name := range s.grpc.GetServiceInfo() {
		s.health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	if cfg.Joining {
		s.joining.Store(true)
		s.health.Shutdown()
	}
	s.register(&healthpb.Health_ServiceDesc, s.health)
	if err := registerReflection(s.grpc); err != nil {
		return nil, err
	}
	s.methods = s.methodsOf()
	return s, nil
}

// maxRequest is the largest request in bytes. It is above what validation lets through, so that it is validation that
// says what is too large: the same arguments as values take up to about four times the bytes of their JSON.
func (s *Server) maxRequest() int { return 4*s.limits.MaxPayloadBytes + 1<<20 }

// Serve answers calls on lis until Shutdown or Stop, which make it return nil. It closes lis. Without authentication it
// refuses addresses that others can reach.
func (s *Server) Serve(lis net.Listener) error {
	if err := s.checkExposure(lis.Addr()); err != nil {
		return errors.Join(err, lis.Close())
	}
	if err := s.grpc.Serve(gateListener{lis, s.gate}); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve gRPC on %s: %w", lis.Addr(), err)
	}
	return nil
}

func (s *Server) checkExposure(addr net.Addr) error {
	tcp, ok := addr.(*net.TCPAddr)
	certified := s.cfg.TLS != nil && s.cfg.TLS.ClientAuth == tls.RequireAndVerifyClientCert
	if !ok || tcp.IP.IsLoopback() || len(s.cfg.Tokens) > 0 || certified {
		return nil
	}
	return fmt.Errorf("gRPC on %s: not without tokens or client certificates on an address that is not loopback", addr)
}

// Ready ends Config.Joining: all calls are served from now on.
func (s *Server) Ready() {
	s.joining.Store(false)
	s.health.Resume()
	if s.notServing.Load() { // it was called meanwhile
		s.health.Shutdown()
	}
}

// NotServing makes every health check answer NOT_SERVING from now on, so that balancers look away. Calls are still
// served.
func (s *Server) NotServing() {
	s.notServing.Store(true)
	s.health.Shutdown()
}

// Shutdown takes no new calls, waits for those that run and ends them when ctx does; then it returns ctx's error.
// Handler streams and watches run until the node drains or closes: tell it first.
func (s *Server) Shutdown(ctx context.Context) error {
	s.NotServing()
	s.drain()
	s.gate.closeSilent()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		s.cutting.Store(true)
	}
	s.Stop()
	<-done
	return err
}

// Cut is how many calls Shutdown has ended that had not come to their end.
func (s *Server) Cut() int { return int(s.cut.Load()) }

// Stop ends everything at once and waits for it.
func (s *Server) Stop() {
	s.NotServing()
	s.drain()
	s.stop()
	s.gate.close()
	s.grpc.Stop()
	s.streams.Wait()
}
