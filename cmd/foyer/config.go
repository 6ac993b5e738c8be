package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"foyer/service"
	"foyer/transport/engineio"
	"foyer/transport/httpapi"
)

// settings are the flags of a node, and the one place where they are declared. Kong fills them from the file of
// --config, FOYER_… and the command line; later wins. Beside kong's tags there are two: secret is of what may have a
// password in it, and reload of what a running node takes up (see retune.go).
type settings struct {
	Config string `type:"path" placeholder:"FILE" help:"File with settings, as YAML: a key is the name of a flag without its dashes. Variables win over it, and flags over both. It is read again when it changes, and at SIGHUP: what can change while the node runs does, and the log says what needs a restart."`

	Edge    string  `default:":3000" placeholder:"ADDR" help:"Where browsers connect. Default ${default}."`
	Path    string  `default:"/socket.io/" placeholder:"PATH" help:"Path of the protocol. Default ${default}."`
	API     string  `name:"api" default:"127.0.0.1:50051" placeholder:"ADDR" help:"Where backends call the gRPC API. Default ${default}."`
	Admin   string  `default:"127.0.0.1:9090" placeholder:"ADDR" help:"Where /healthz, /readyz and /metrics are; empty: nowhere. On an address that is not loopback all but the first two want a token of the API. Default ${default}."`
	HTTP    string  `name:"http" placeholder:"ADDR" help:"Where programs call the API by JSON over HTTP, or by gRPC-Web; empty: nowhere. Default: nowhere."`
	UI      bool    `name:"ui" help:"Serve the Socket.IO Admin UI at the admin address, below /ui/. Default off."`
	Pprof   bool    `help:"Serve Go's profiles at that address, below /debug/pprof/, with a token where /metrics wants one, and sample waiting for locks. Default off."`
	NodeID  string  `name:"node-id" placeholder:"NAME" help:"Name of this node, 4 characters. Default: random."`
	EdgeTLS tlsPair `embed:"" prefix:"edge-"`
	APITLS  tlsPair `embed:"" prefix:"api-"`
	HTTPTLS tlsPair `embed:"" prefix:"http-"`

	HTTPOrigin []string `reload:"" name:"http-origin" placeholder:"ORIGIN" help:"Origins whose pages may call the API at the --http address, as https://example.com. Default: none."`

	UIPasswordFile string `reload:"content" name:"ui-password-file" type:"path" placeholder:"FILE" help:"Who may log in to the Admin UI, one a line: NAME:HASH, or NAME:HASH:readonly, with bcrypt's hash, as htpasswd -nB writes it. It is read again when it changes, and at SIGHUP. A token of the API is as good as a password. Default: only such tokens."`
	UIReadOnly     bool   `name:"ui-readonly" help:"Let nobody change anything by the Admin UI. Default off."`

	APIConnections  int      `reload:"" name:"api-connections" default:"4096" placeholder:"N" help:"Most connections of backends at once; half of them from one address. Default ${default}."`
	APIRequestBytes byteSize `name:"api-request-bytes" placeholder:"BYTES" help:"Most that is kept of backends' requests whose end has not come. Default: a quarter of what --memory-budget is at the start, 1GiB at most."`

	APITokenFile string `reload:"content" name:"api-token-file" type:"path" placeholder:"FILE" help:"Bearer tokens of API callers, one a line. Required when the address of --api or of --http is not loopback. It is read again when it changes, and at SIGHUP; calls and streams of a token that was removed are refused and ended."`

	Namespaces  []string      `placeholder:"NAME" help:"Namespaces that exist without a handler's asking; NAME* is a prefix. / always exists."`
	Connect     []string      `default:"open" placeholder:"MODE" help:"Who may connect: open (anyone) or handler (a handler decides), for all namespaces or as NAME=MODE for one. Default ${default}."`
	HandlerWait time.Duration `default:"10s" placeholder:"TIME" help:"How long connects and events wait for a handler that is not there. Default ${default}."`

	HandlerPatience time.Duration `default:"30s" placeholder:"TIME" help:"How long a handler may take nothing from a client that is paused for it, before the client is closed, or the handler given up where another one makes progress. Default ${default}."`

	CORSOrigin       []string `reload:"" name:"cors-origin" placeholder:"ORIGIN" help:"Origins that may connect beside the server's own, as https://example.com or https://*.example.com (one label); * is any. Default: none."`
	CORSListedOnly   bool     `reload:"" name:"cors-listed-only" help:"With --cors-origin, let the server's own origin in only if it is listed too, which keeps out rebound DNS names. Default off."`
	HandshakeHeaders []string `placeholder:"NAME" help:"Request headers that backends see; * is all but cookie and authorization. Default: a safe list."`

	PingInterval   time.Duration `default:"25s" placeholder:"TIME" help:"Time between heartbeats. Default ${default}."`
	PingTimeout    time.Duration `default:"20s" placeholder:"TIME" help:"How long a client may take to answer one. Default ${default}."`
	UpgradeTimeout time.Duration `default:"10s" placeholder:"TIME" help:"How long an upgrade from polling may take. Default ${default}."`
	ConnectTimeout time.Duration `default:"45s" placeholder:"TIME" help:"How long a link may be in no namespace at first. Default ${default}."`
	MaxPayload     byteSize      `default:"1000000" placeholder:"BYTES" help:"Largest message. Clients and backends are told it when they come, so that it holds from a start on. Default ${default}."`
	MaxPacket      byteSize      `placeholder:"BYTES" help:"Largest packet of a client, all its attachments included. Default: ten times --max-payload, at most 3MiB; backends whose gRPC takes more than 4 MB at once can have more."`

	AttachmentTimeout time.Duration `default:"30s" placeholder:"TIME" help:"How long a client may take for the next attachment of a packet that it has begun. Default ${default}."`
	MaxConnectPayload byteSize      `default:"16KiB" placeholder:"BYTES" help:"Largest message of a client that is in no namespace yet, such as CONNECT with its auth. Default ${default}."`
	AllowEIO3         bool          `name:"allow-eio3" env:"FOYER_ALLOW_EIO3" help:"Also serve clients of Socket.IO v2. Their socket.id is a secret of their link, not the id that Foyer tells."`
	Compression       bool          `negatable:"" help:"Compress messages where the client can. Default off: it costs CPU."`
	QueueBytes        byteSize      `reload:"" default:"1MiB" placeholder:"BYTES" help:"Most that waits for one link. Default ${default}."`
	SlowAfter         time.Duration `reload:"" default:"10s" placeholder:"TIME" help:"How long a client may take nothing of what no longer fits into its link's queue, before the link is closed as slow; and how long, from when the queue became full, an emit on a stream waits for it. Default ${default}."`
	PresenceLog       byteSize      `name:"presence-log-bytes" default:"16MiB" placeholder:"BYTES" help:"Most that a namespace remembers of who came, left and changed, for watchers. Default ${default}."`
	Departures        byteSize      `name:"departure-bytes" default:"4MiB" placeholder:"BYTES" help:"Most that this node remembers of clients that are gone, for who asks why one was not reached. Default ${default}."`
	MemoryBudget      memorySize    `reload:"" placeholder:"BYTES" help:"Most memory for all queues, logs and snapshots together, as 2GiB. Default: half of GOMEMLIMIT, or of what the cgroup or machine has."`
	MaxSessions       int           `reload:"" default:"100000" placeholder:"N" help:"Most links at once. Default ${default}."`

	MaxConnections           int `reload:"" placeholder:"N" help:"Most TCP connections at the edge. Default: as many files as the process may open, less some for the API and the admin address."`
	MaxConnectionsPerAddress int `reload:"" placeholder:"N" help:"Most of them from one address that is no trusted proxy. Default: three quarters."`

	MaxSessionsPerAddress int            `reload:"" placeholder:"N" help:"Most links of one address, of IPv6 of one /64. Default: half of --max-sessions."`
	HandshakeRate         int            `reload:"" default:"2000" placeholder:"N" help:"Handshakes a second that one address may make for long; -1: any number. Default ${default}."`
	HandshakeBurst        int            `reload:"" default:"10000" placeholder:"N" help:"Handshakes that one address may make at once. Default ${default}."`
	MessageRate           int            `reload:"" default:"2000" placeholder:"N" help:"Messages a second that one link may send for long, before it is read more slowly; -1: any number. Connects and disconnects count as ten. Default ${default}."`
	MessageBurst          int            `reload:"" default:"5000" placeholder:"N" help:"Messages that one link may send at once. Default ${default}."`
	AddressMessageRate    int            `reload:"" default:"50000" placeholder:"N" help:"Messages a second that all links of one address may send for long, before they are read more slowly; -1: any number. Default ${default}."`
	AddressMessageBurst   int            `reload:"" default:"100000" placeholder:"N" help:"Messages that they may send at once. Default ${default}."`
	TrustedProxy          []netip.Prefix `reload:"" placeholder:"CIDR" help:"Networks of proxies whose X-Forwarded-For tells a client's address. Default: none."`

	Cluster       string       `default:"off" enum:"off,embedded,nats,redis,redis-sharded,redis-streams,postgres,mongo" placeholder:"MODE" help:"How this node finds others: off (it is alone), embedded (the nodes connect to each other), nats (by a NATS server that you run), redis (by a Redis server that you run; with --cluster-prefix, beside Socket.IO servers on Node with its classic adapter), redis-sharded (the same, beside those with its sharded adapter), redis-streams (the same, beside those with the streams adapter), postgres (by a PostgreSQL server that you run; with --cluster-prefix, beside those with its adapter) or mongo (by a MongoDB server that you run; with --cluster-collection, beside those with its adapter). Default ${default}."`
	ClusterFlags  clusterFlags `embed:"" prefix:"cluster-"`
	Peer          string       `default:"auto" placeholder:"ADDR" help:"Where other nodes of the cluster pass on what clients send to them and this node owns; empty: nowhere, and a balancer has to keep clients at their node. auto is a free port where --cluster-listen is, or, with a server that you run, on all addresses unless that is on this machine. Default ${default}."`
	PeerAdvertise string       `placeholder:"ADDR" help:"What other nodes are told of that address, when they reach it by another one. Default: what it listens at, or the first address of this machine."`
	PresenceBytes byteSize     `default:"256MiB" placeholder:"BYTES" help:"Most that this node keeps of other nodes' sockets, for its watchers. Default ${default}."`

	TraceEndpoint string  `placeholder:"URL" help:"Where traces are sent by OTLP over gRPC, as http://127.0.0.1:4317; https:// is with TLS. The variables OTEL_EXPORTER_OTLP_HEADERS and _CERTIFICATE, OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES count too. Default: nothing is traced."`
	TraceRatio    float64 `default:"0.01" placeholder:"SHARE" help:"Share of calls and events, from 0 to 1, that begin a trace; who calls with a trace of its own has decided that. Default ${default}."`

	DrainNotice time.Duration `reload:"" default:"0s" placeholder:"TIME" help:"After SIGTERM, how long to serve on as not ready before links are closed. Default ${default}."`
	DrainWindow time.Duration `reload:"" default:"10s" placeholder:"TIME" help:"Over how long links are closed at most. Default ${default}."`

	LogLevel  string `reload:"" default:"info" enum:"debug,info,warn,error" placeholder:"LEVEL" help:"debug, info, warn or error. Default ${default}."`
	LogFormat string `default:"auto" enum:"auto,console,json" placeholder:"FORMAT" help:"console, json, or auto: console in a terminal. Default ${default}."`
}

// byteSize is a number of bytes, as 1000000, 64KiB or 1MB.
type byteSize int

var byteUnits = []struct {
	suffix string
	factor float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

// UnmarshalText reads a size.
func (b *byteSize) UnmarshalText(text []byte) error {
	v, ok := parseBytes(string(text))
	if !ok || v < 1 || v > 1<<30 {
		return fmt.Errorf("%q is not a size between 1 and 1GiB, such as 1000000, 64KiB or 1MB", text)
	}
	*b = byteSize(v)
	return nil
}

// parseBytes reads a number with or without a unit.
func parseBytes(text string) (bytes float64, ok bool) {
	text = strings.TrimSpace(text)
	for _, u := range byteUnits {
		if number, ok := strings.CutSuffix(text, u.suffix); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
			return v * u.factor, err == nil && !math.IsNaN(v)
		}
	}
	return 0, false
}

// Validate is called by kong once all is filled in; it says all that is wrong at once.
func (s *settings) Validate() error {
	var errs []error
	for name, d := range map[string]time.Duration{
		"handler-wait": s.HandlerWait, "handler-patience": s.HandlerPatience, "ping-interval": s.PingInterval, "ping-timeout": s.PingTimeout,
		"upgrade-timeout": s.UpgradeTimeout, "slow-after": s.SlowAfter, "connect-timeout": s.ConnectTimeout, "attachment-timeout": s.AttachmentTimeout,
	} {
		if d < time.Millisecond {
			errs = append(errs, fmt.Errorf("--%s: %v is too short: 1ms at least", name, d))
		}
	}
	if s.DrainNotice < 0 || s.DrainWindow < 0 {
		errs = append(errs, errors.New("--drain-notice and --drain-window cannot be below zero"))
	}
	if s.APIConnections <= 0 {
		errs = append(errs, fmt.Errorf("--api-connections: %d is not above zero", s.APIConnections))
	}
	if s.MaxSessions <= 0 {
		errs = append(errs, fmt.Errorf("--max-sessions: %d is not above zero", s.MaxSessions))
	}
	for name, n := range map[string]int{
		"max-sessions-per-address": s.MaxSessionsPerAddress, "max-connections": s.MaxConnections, "max-connections-per-address": s.MaxConnectionsPerAddress,
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("--%s: %d is not above zero", name, n))
		}
	}
	for name, n := range map[string]int{"handshake-burst": s.HandshakeBurst, "message-burst": s.MessageBurst, "address-message-burst": s.AddressMessageBurst} {
		if n <= 0 {
			errs = append(errs, fmt.Errorf("--%s: %d is not above zero", name, n))
		}
	}
	for name, n := range map[string]int{"handshake-rate": s.HandshakeRate, "message-rate": s.MessageRate, "address-message-rate": s.AddressMessageRate} {
		if n == 0 {
			errs = append(errs, fmt.Errorf("--%s: 0 would let nobody in; -1 is any number", name))
		}
	}
	for name, addr := range map[string]string{"edge": s.Edge, "api": s.API, "admin": s.Admin, "http": s.HTTP} {
		if addr == "" && (name == "admin" || name == "http") {
			continue
		}
		if _, port, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("--%s: %q is no address of the form HOST:PORT", name, addr))
		} else if _, err := net.DefaultResolver.LookupPort(context.Background(), "tcp", port); err != nil {
			errs = append(errs, fmt.Errorf("--%s: %q is no port", name, port))
		}
	}
	switch {
	case s.UI && s.Admin == "":
		errs = append(errs, errors.New("--ui: there is no --admin address to serve it at"))
	case s.UI && s.UIPasswordFile == "" && s.APITokenFile == "":
		errs = append(errs, errors.New("--ui: nobody could log in; that needs --ui-password-file or --api-token-file"))
	case !s.UI && (s.UIPasswordFile != "" || s.UIReadOnly):
		errs = append(errs, errors.New("--ui-password-file and --ui-readonly are of the Admin UI, which is off: add --ui"))
	}
	if s.Pprof && s.Admin == "" {
		errs = append(errs, errors.New("--pprof: there is no --admin address to serve it at"))
	}
	if !strings.HasPrefix(s.Path, "/") {
		errs = append(errs, fmt.Errorf("--path: %q does not begin with a slash", s.Path))
	}
	if !loopback(s.API) && s.APITokenFile == "" {
		errs = append(errs, fmt.Errorf("--api: %s is not a loopback address; that needs --api-token-file, so that not everybody may call", s.API))
	}
	if s.HTTP != "" && !loopback(s.HTTP) && s.APITokenFile == "" {
		errs = append(errs, fmt.Errorf("--http: %s is not a loopback address; that needs --api-token-file, so that not everybody may call", s.HTTP))
	}
	if s.HTTP == "" && (s.HTTPTLS.Cert != "" || len(s.HTTPOrigin) > 0) {
		errs = append(errs, errors.New("--http-cert and --http-origin: there is no --http address that they are for"))
	}
	if err := (&httpapi.Config{Origins: s.HTTPOrigin}).Validate(); err != nil {
		for line := range strings.Lines(err.Error()) { // one for each entry
			errs = append(errs, fmt.Errorf("--http-origin: %s", strings.TrimSpace(line)))
		}
	}
	if err := (&service.Config{NodeID: s.NodeID}).Validate(); err != nil {
		errs = append(errs, fmt.Errorf("--node-id: %w", err))
	}
	for flag, c := range map[string]engineio.Config{
		"cors-origin": {Origins: s.CORSOrigin}, "handshake-headers": {HandshakeHeaders: s.HandshakeHeaders},
	} {
		if err := c.Validate(); err != nil {
			for line := range strings.Lines(err.Error()) { // one for each entry
				errs = append(errs, fmt.Errorf("--%s: %s", flag, strings.TrimPrefix(strings.TrimSpace(line), "engineio: ")))
			}
		}
	}
	errs = append(errs, s.checkTracing())
	errs = append(errs, s.EdgeTLS.check("edge"), s.APITLS.check("api"), s.HTTPTLS.check("http"))
	errs = append(errs, s.checkCluster())
	if _, err := s.namespaceConfig(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true // told as a bad address
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// namespaceConfig is --namespaces and --connect together.
func (s *settings) namespaceConfig() ([]service.NamespaceConfig, error) {
	modes := map[string]service.ConnectMode{"open": service.ConnectOpen, "handler": service.ConnectHandler}
	all, own := service.ConnectOpen, map[string]service.ConnectMode{}
	for _, c := range s.Connect {
		name, word, one := strings.Cut(c, "=")
		if !one {
			word = name
		}
		mode, ok := modes[word]
		switch {
		case !ok:
			return nil, fmt.Errorf("--connect: %q is neither open nor handler", word)
		case one:
			own[service.Canonical(name)] = mode
		default:
			all = mode
		}
	}
	configs := []service.NamespaceConfig{}
	for _, name := range append([]string{"/"}, s.Namespaces...) {
		name = service.Canonical(name)
		if err := service.CheckPattern(name); err != nil {
			return nil, fmt.Errorf("--namespaces: %w", err)
		}
		mode, ok := own[name]
		if !ok {
			mode = all
		}
		delete(own, name)
		configs = append(configs, service.NamespaceConfig{Pattern: name, Connect: mode})
	}
	for name := range own {
		return nil, fmt.Errorf("--connect: namespace %s is not among --namespaces", name)
	}
	return configs, nil
}
