package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"foyer/cmd/foyer/adminui"
	"foyer/cmd/foyer/chat"
	"foyer/cmd/foyer/web"
	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/bridge"
	"foyer/transport/admin"
	"foyer/transport/engineio"
	"foyer/transport/grpcapi"
	"foyer/transport/metrics"
	"foyer/transport/passing"
	"foyer/transport/socketio"
)

const (
	maxNamespacesPerLink = 64
	// net/http adds 4 KiB of its own to what it is told: together 16 KiB.
	maxHeaderBytes = 12 << 10
	// With --pprof one in so many waits for a lock is in the profile: which locks matter shows long before all are
	// counted.
	mutexProfileFraction = 100
)

// waits are how long the node waits for what others owe it.
type waits struct {
	header   time.Duration // a TLS greeting, then the header of a request
	body     time.Duration // a body that the parts behind the listener give no time of their own
	write    time.Duration // an answer's bytes to be taken, likewise
	idle     time.Duration // between two polls or two files
	lastPoll time.Duration // see drain.go
	end      time.Duration
	traces   time.Duration
}

var usualWaits = waits{
	header: 10 * time.Second, body: 10 * time.Second, write: time.Minute, idle: 2 * time.Minute,
	// Most polling clients ask at once for the end of their link. A client that is gone never does.
	lastPoll: 2 * time.Second,
	end:      5 * time.Second,
	traces:   time.Second,
}

// foyer is a node with its edges and listeners.
type foyer struct {
	s      *settings                // as at the start
	holds  atomic.Pointer[settings] // with what was taken up since
	level  zap.AtomicLevel
	launch launch
	demo   bool
	log    *zap.Logger
	told   *zap.Logger // log, for what peers can cause at any rate
	waits  waits
	files  files

	edgeCert, apiCert certificate
	tokens            tokens
	membership        membership
	reloadable        []*reloadable // what of these is set

	budgetFrom string // what the memory budget is a share of

	// Of a node that is not alone.
	self         service.Incarnation
	clusterKey   []byte
	cluster      *adapter.Cluster // nil: it is alone
	bridge       *bridge.Bridge   // nil: no servers on Node share its rooms
	clusterAddr  string           // where its embedded server listens; "": the server is another process
	passing      *passing.Passing // nil: it is alone
	peerListener net.Listener     // nil: nobody passes on anything to this node
	peerServer   *http.Server
	peerConns    *conns
	joined       atomic.Bool

	node   *service.Node
	engine *engineio.Server
	api    *grpcapi.Server

	edgeListener, apiListener, adminListener net.Listener // admin may be nil
	edgeServer, adminServer                  *http.Server
	edgeConns, adminConns                    *conns
	edgeTLS, apiTLS                          *tls.Config
	http                                     httpEdge
	ui                                       ui

	timed        *metrics.Timed
	tracing      *tracing // nil: nothing is traced
	draining     atomic.Bool
	panics       atomic.Int64   // of pages
	refusedLooks atomic.Int64   // at the admin address
	serving      sync.WaitGroup // the serve loops, and the demo's backend
	failed       chan error     // a serve loop that ended by itself
	stopDemo     context.CancelFunc
	unload       context.CancelFunc // ends the reloader
}

func newFoyer(s *settings, demo bool, log *zap.Logger) *foyer {
	f := &foyer{
		s: s, level: zap.NewAtomicLevel(), demo: demo, log: log, told: seldom(log), waits: usualWaits, files: filesOf(s),
		timed: metrics.NewTimed(), failed: make(chan error, 7), stopDemo: func() {}, unload: func() {},
	}
	f.holds.Store(s)
	return f
}

// run runs a node until ctx ends, and drains it.
func run(ctx context.Context, s *settings, demo bool, l launch) error {
	log, level, err := newLogger(s)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // a terminal cannot be synced, and says so
	for _, text := range l.strays {
		log.Warn(text)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked, stop := hangups(cancel)
	defer stop()
	f := newFoyer(s, demo, log)
	f.level, f.launch = level, l
	if err := f.build(ctx); err != nil {
		return err
	}
	if err := f.listen(ctx); err != nil {
		f.close()
		return err
	}
	f.serve()
	if err := f.join(ctx); err != nil {
		f.close()
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	f.reload(asked)
	f.tellListening()
	f.tellUI()
	if isTerminal(os.Stdout) { // programs read the log
		f.greet(os.Stdout)
	}

	select {
	case <-ctx.Done():
		f.drain()
		return nil
	case <-f.taken():
		f.drain()
		return fmt.Errorf("another node has taken the name %s, while this one was not heard", f.self.Node)
	case err := <-f.failed:
		f.close()
		return err
	}
}

// build makes the parts and connects them: engineio to socketio to service, and grpcapi to service.
func (f *foyer) build(ctx context.Context) (err error) {
	s := f.s
	defer func() {
		if err != nil {
			f.leaveCluster(ctx)
		}
	}()
	f.reloadable = f.reloads()
	for _, r := range f.reloadable {
		if r.known { // it was read before
			continue
		}
		if _, err := r.load(); err != nil {
			return err
		}
	}
	if s.EdgeTLS.Cert != "" {
		f.edgeTLS = f.edgeCert.config()
		f.edgeTLS.NextProtos = []string{"http/1.1"} // a websocket needs it
	}
	if s.APITLS.Cert != "" {
		f.apiTLS = f.apiCert.config()
	}
	namespaces, err := s.namespaceConfig()
	if err != nil {
		return err
	}
	if err := f.openCluster(ctx); err != nil {
		return err
	}
	bytes, from := memoryBudget(s.MemoryBudget)
	f.budgetFrom = from
	config := service.Config{
		NodeID: s.NodeID, Version: buildVersion(), Namespaces: namespaces, HandlerWait: s.HandlerWait, HandlerPatience: s.HandlerPatience,
		HoldStream: s.SlowAfter, MaxPayloadBytes: int(s.MaxPayload), PresenceLogBytes: int(s.PresenceLog), PresenceBytes: int(s.PresenceBytes),
		DepartureBytes: int(s.Departures),
		Budget:         service.NewBudget(bytes), Logger: f.log, Told: f.told,
	}
	if f.cluster != nil {
		config.NodeID, config.Run, config.Remote = string(f.self.Node), f.self.Run, f.cluster
	}
	if f.bridge != nil {
		config.Remote = f.bridge
	}
	if f.tracing, err = openTracing(s, service.NodeID(config.NodeID), f.told); err != nil {
		return err
	}
	config.Tracer = f.tracing.Tracer()
	if f.node, err = service.New(config); err != nil {
		return err
	}
	var api grpcapi.Node = f.node
	if f.cluster != nil {
		f.cluster.Node = f.node
		api = f.cluster
	}
	if f.bridge != nil {
		api = f.bridge
	}
	links, err := socketio.New(socketio.Config{
		ConnectTimeout: s.ConnectTimeout, MaxNamespaces: maxNamespacesPerLink, MaxPayload: int(s.MaxPayload),
		MaxPacketBytes: int(s.MaxPacket), AttachmentTimeout: s.AttachmentTimeout, MaxConnectPayload: int(s.MaxConnectPayload),
		Budget: f.node.Budget(), Logger: f.log, Told: f.told,
	}, f.node)
	if err != nil {
		return err
	}
	if err := f.openPassing(); err != nil {
		return err
	}
	edge := engineio.Config{
		Path: s.Path, PingInterval: s.PingInterval, PingTimeout: s.PingTimeout, UpgradeTimeout: s.UpgradeTimeout,
		MaxPayload: int(s.MaxPayload), MaxPayloadBeforeAdmit: int(s.MaxConnectPayload), QueueBytes: int(s.QueueBytes), SlowAfter: s.SlowAfter,
		Budget: use{f.node.Budget(), service.UseOutbound}, Inbound: use{f.node.Budget(), service.UseInbound}, MaxSessions: s.MaxSessions, Compression: s.Compression,
		MaxSessionsPerAddress: s.MaxSessionsPerAddress, HandshakeRate: s.HandshakeRate, HandshakeBurst: s.HandshakeBurst,
		MessageRate: s.MessageRate, MessageBurst: s.MessageBurst,
		AddressMessageRate: s.AddressMessageRate, AddressMessageBurst: s.AddressMessageBurst, TrustedProxies: s.TrustedProxy,
		AllowEIO3: s.AllowEIO3, Origins: s.CORSOrigin, ListedOriginsOnly: s.CORSListedOnly, HandshakeHeaders: s.HandshakeHeaders, Logger: f.log, Told: f.told,
		Upgraded: f.timed.Upgraded,
	}
	if f.passing != nil {
		edge.NewSID, edge.Unknown = f.passing.NewSID, f.passing.Pass
	}
	if f.engine, err = engineio.New(edge, links.Accept); err != nil {
		return err
	}
	edgeCounts := func() map[string]int64 {
		counts := map[string]int64{}
		for name, v := range f.engine.Stats() {
			if name != "upgraded" { // the one that counts a success
				counts["engineio_"+name] = int64(v)
			}
		}
		for name, v := range links.Counters() {
			counts["socketio_"+name] = v
		}
		if f.passing != nil {
			maps.Copy(counts, f.passing.Dropped())
			f.peerConns.counts(counts)
		}
		f.tracing.counts(counts)
		counts["page_panic"], counts[reasonLook] = f.panics.Load(), f.refusedLooks.Load()
		f.edgeConns.counts(counts)
		f.adminConns.counts(counts)
		f.http.counts(counts)
		counts[adminui.ReasonLogin], counts[adminui.ReasonSlow] = f.ui.refused.Load(), f.ui.slow.Load()
		return counts
	}
	features := []string{"polling", "websocket", "json", "msgpack"}
	if f.cluster == nil {
		features = append(features, "memory")
	} else {
		features = append(features, s.Cluster)
	}
	if s.Compression {
		features = append(features, "compression")
	}
	if s.AllowEIO3 {
		features = append(features, "eio3")
	}
	f.api, err = grpcapi.New(grpcapi.Config{
		Tokens: f.tokens.list(), TLS: f.apiTLS, Features: features, Sessions: f.engine.Len, EdgeCounts: edgeCounts,
		MaxNamespacesPerLink: maxNamespacesPerLink, QueueBytes: int64(s.QueueBytes), Drain: f.emptyByCall,
		MaxConnections: f.files.api, RequestBytes: int64(s.APIRequestBytes), Joining: f.cluster != nil, Called: f.called, Logger: f.log, Told: f.told,
	}, api)
	if err != nil {
		return err
	}
	f.tokens.use = f.api.SetTokens
	f.edgeConns = newConns("edge", f.files.edge, s.MaxConnectionsPerAddress, s.TrustedProxy, f.told)
	f.adminConns = newConns("admin", f.files.admin, 0, nil, f.told)
	f.edgeServer = f.httpServer(f.edge(), f.edgeConns)
	if err := f.openHTTP(); err != nil {
		return err
	}
	if f.passing != nil {
		f.peerConns = newConns("peer", f.files.peer, f.files.peer, nil, f.told)
		f.peerServer = f.httpServer(f.passing.Handler(f.engine), f.peerConns)
		f.peerServer.MaxHeaderBytes += passing.HeaderBytes // what the edge of another node has taken is taken here as well
	}
	status := admin.Handler(f.ready)
	if s.Pprof {
		status = admin.WithProfiles(status)
		runtime.SetMutexProfileFraction(mutexProfileFraction)
	}
	status = admin.Guard(admin.WithMetrics(status, metrics.Handler(f.measured())), f.mayLook)
	if err := f.openUI(); err != nil {
		return err
	}
	f.adminServer = f.httpServer(f.withUI(f.contain(pageOf(status))), f.adminConns)
	return nil
}

// httpServer serves h. Every wait for a client has an end: for its header by ReadHeaderTimeout, for its body and for
// its taking the answer by deadlines that are set with each request, which a handler may move.
func (f *foyer) httpServer(h http.Handler, cs *conns) *http.Server {
	timed := func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 { // without a body there is nothing to wait for, and a poll may take its time
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(f.waits.body))
		}
		h.ServeHTTP(w, r)
	}
	return &http.Server{
		Handler: http.HandlerFunc(timed), MaxHeaderBytes: maxHeaderBytes, ReadHeaderTimeout: f.waits.header,
		WriteTimeout: f.waits.write, IdleTimeout: f.waits.idle, ConnState: cs.changed,
		ErrorLog: f.serverLog(cs),
	}
}

// edge is what browsers see: the client's files, the protocol, and in the demo a page.
func (f *foyer) edge() http.Handler {
	client := f.contain(web.Client(f.s.Path))
	path := strings.TrimSuffix(f.s.Path, "/") + "/"
	rest := http.NotFoundHandler()
	if f.demo {
		rest = web.Page(func() web.Node {
			flags, api := f.grpcurl()
			return web.Node{Path: f.s.Path, Grpcurl: flags, API: api}
		})
	}
	other := f.contain(pageOf(rest))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case f.cluster != nil && !f.joined.Load():
			w.Header().Set("Retry-After", "1")
			http.Error(w, "the node is joining its cluster", http.StatusServiceUnavailable)
		case client(w, r):
		case strings.HasPrefix(r.URL.Path, path):
			f.engine.ServeHTTP(w, r)
		default:
			other(w, r)
		}
	})
}

func (f *foyer) ready() error {
	if f.draining.Load() {
		return errors.New("draining")
	}
	if f.cluster != nil && !f.joined.Load() {
		return f.joining()
	}
	return nil
}

// listen takes the addresses before anything is served, so that a taken one is told at once.
func (f *foyer) listen(ctx context.Context) (err error) {
	for _, l := range []struct {
		what, addr string
		to         *net.Listener
	}{
		{"edge", f.s.Edge, &f.edgeListener},
		{"api", f.s.API, &f.apiListener},
		{"admin", f.s.Admin, &f.adminListener},
		{"http", f.s.HTTP, &f.http.listener},
	} {
		if l.addr == "" {
			continue
		}
		if *l.to, err = new(net.ListenConfig).Listen(ctx, "tcp", l.addr); err != nil {
			return listenError(l.what, l.addr, err)
		}
	}
	return nil
}

func (f *foyer) serve() {
	edge := f.edgeConns.listen(f.edgeListener)
	if f.edgeTLS != nil {
		edge = tls.NewListener(edge, f.edgeTLS)
	}
	f.loop("edge", func() error { return f.edgeServer.Serve(edge) })
	f.servePeers()
	f.loop("api", func() error { return f.api.Serve(f.apiListener) })
	f.serveHTTP()
	if f.adminListener != nil {
		admin := f.adminConns.listen(f.adminListener)
		f.loop("admin", func() error { return f.adminServer.Serve(admin) })
	}
	f.serveUI()
	if f.demo && f.cluster == nil { // else when it has joined
		f.startDemo()
	}
}

// loop runs a serve loop; when it ends by itself, the node does.
func (f *foyer) loop(what string, serve func() error) {
	f.serving.Go(func() {
		if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
			select {
			case f.failed <- fmt.Errorf("%s: %w", what, err):
			default:
			}
		}
	})
}

// reload begins to look after what can change while the node runs.
func (f *foyer) reload(asked <-chan os.Signal) {
	ctx, cancel := context.WithCancel(context.Background())
	f.unload = cancel
	log := f.log.Named(reloadLog)
	f.serving.Go(func() {
		r := &reloader{log: log, parts: f.reloadable}
		var changes <-chan struct{}
		if len(r.parts) > 0 {
			w := newWatcher(log)
			defer w.close()
			r.watched, changes = w.follow, w.changes
		}
		r.run(ctx, asked, changes)
	})
}

// startDemo runs the chat's backend against our own API, by the way any other backend comes in.
func (f *foyer) startDemo() {
	ctx, cancel := context.WithCancel(context.Background())
	f.stopDemo = cancel
	f.serving.Go(func() {
		conn, err := grpc.NewClient("passthrough:///"+dialable(f.apiListener.Addr()), f.demoOptions()...)
		for again := err == nil; again; {
			token := f.firstToken()
			err = chat.Run(ctx, conn, f.told.Named("chat"))
			again = err != nil && f.firstToken() != token // its token was removed, and there is another one
		}
		if conn != nil {
			_ = conn.Close()
		}
		if err != nil {
			f.log.Error("the chat has no backend", zap.NamedError("err", err))
		}
	})
}

func (f *foyer) demoOptions() []grpc.DialOption {
	creds := insecure.NewCredentials()
	if f.apiTLS != nil {
		// It is this process that answers; whatever name its certificate is for, it must be that very certificate.
		creds = credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, //nolint:gosec // VerifyConnection compares the certificate itself
			VerifyConnection: func(s tls.ConnectionState) error {
				if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, f.apiCert.now.Load().Certificate[0]) {
					return errors.New("not our own certificate")
				}
				return nil
			},
		})
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(creds)}
	if f.firstToken() != "" {
		authorize := func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+f.firstToken())
		}
		options = append(options, grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn,
			method string, next grpc.Streamer, o ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			return next(authorize(ctx), d, c, method, o...)
		}))
	}
	return options
}

// firstToken is what the chat's backend shows; "": none is needed.
func (f *foyer) firstToken() string {
	if list := f.tokens.list(); len(list) > 0 {
		return list[0]
	}
	return ""
}

// dialable is an address that a client on this machine can use for a listener's.
func dialable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
}

// greet says where everything is in words for people, that can be pasted.
func (f *foyer) greet(w io.Writer) {
	page := "http://"
	if f.edgeTLS != nil {
		page = "https://"
	}
	edge := browsable(f.edgeListener.Addr())
	flags, api := f.grpcurl()
	what := "socket.io   " + page + edge + f.s.Path
	if f.demo {
		what = "chat        " + page + edge + "/"
	}
	fmt.Fprintf(w, "\n  %s\n  API         %s\n", what, api)
	if f.demo {
		fmt.Fprintf(w, "  say hello   grpcurl %s -d '{\"target\":{\"rooms\":[\"lobby\"]},\"payload\":{\"event\":\"chat message\",\"values\":[\"hello from grpcurl\",{\"room\":\"lobby\"}]}}' %s foyer.v1.EmitService/Emit\n\n", flags, api)
		return
	}
	fmt.Fprintf(w, "  say hello   grpcurl %s -d '{\"target\":{\"all\":true},\"payload\":{\"event\":\"hello\",\"values\":[\"world\"]}}' %s foyer.v1.EmitService/Emit\n\n", flags, api)
}

// grpcurl is how grpcurl reaches our API: its flags and the address. The token is for the reader to fill in.
func (f *foyer) grpcurl() (flags, api string) {
	flags = "-plaintext"
	if f.apiTLS != nil {
		flags = "-insecure"
	}
	if f.firstToken() != "" {
		flags += " -H 'authorization: Bearer TOKEN'"
	}
	return flags, dialable(f.apiListener.Addr())
}

// browsable is an address to type into a browser on this machine.
func browsable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("localhost:%d", tcp.Port)
	}
	return addr.String()
}
