package natsbus

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"foyer/service"
)

// Embedded is a NATS server within the process, and how it finds those of other nodes.
type Embedded struct {
	Node    service.NodeID
	Cluster string // first part of all subjects, and what the servers call their cluster; default "foyer"
	// Listen is where other nodes' servers connect, host:port. Port 0: any; RouteAddr says which.
	Listen string
	// Routes are others' Listen, host:port. Names are resolved again and again, and may stand for many addresses. This
	// node's own address may be among them, and nobody needs to be there.
	Routes []string
	// Advertise is what other nodes tell each other of this one, host:port. Default: the address that it is seen to come
	// from, and the port of Listen.
	Advertise string
	// SecretKey is what all nodes of the cluster know. It does not travel: what does is made from it. It, or TLS, is
	// needed when Listen is not loopback.
	SecretKey []byte
	// TLS is for both sides of the connections between nodes, and is what knows who is a member: connections go to
	// addresses, which no name stands for. Default: none.
	TLS    *tls.Config
	Logger *zap.Logger // default: none

	lookup   func(ctx context.Context, host string) ([]string, error) // default: the system's
	patience time.Duration                                            // as External's
	settles  time.Duration                                            // least time to settle; for tests
}

const (
	// routeRetries is how often a node tries to reach another one that it has only heard of, about once a second. With 0 a
	// connection that broke once would never come back. What is in Routes is tried for ever.
	routeRetries = 3600
	// routeDeadline is how long a write to another node may take until its connection counts as broken.
	routeDeadline = 5 * time.Second
	readyTimeout  = 10 * time.Second
	readyStep     = 100 * time.Millisecond // how often it is asked whether it failed
)

// Validate says all that is wrong at once.
func (c *Embedded) Validate() error {
	errs := []error{checkNames(c.Node, c.Cluster)}
	host, _, err := splitAddress(c.Listen)
	if err != nil {
		errs = append(errs, fmt.Errorf("address to listen at: %w", err))
	} else if !loopback(host) && len(c.SecretKey) == 0 && c.TLS == nil {
		errs = append(errs, fmt.Errorf("other machines can reach %s, so a secret key or certificates are needed", c.Listen))
	}
	for _, route := range c.Routes {
		if _, port, err := splitAddress(route); err != nil || port == 0 {
			errs = append(errs, fmt.Errorf("address of another node %q: want host:port", route))
		}
	}
	if c.Advertise != "" {
		if _, port, err := splitAddress(c.Advertise); err != nil || port == 0 {
			errs = append(errs, fmt.Errorf("address to tell other nodes %q: want host:port", c.Advertise))
		}
	}
	return errors.Join(errs...)
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q of %s: want a number up to 65535", text, address)
	}
	return host, int(number), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// embedded is a server within the process.
type embedded struct {
	server  *server.Server
	options *server.Options // as given at first; routes change
	user    *url.Userinfo   // by which servers know each other
	log     *serverLog
	finder  *finder
	settles time.Duration
	done    chan struct{}
	ended   sync.WaitGroup
}

// Embed starts a server and connects to it. It returns when the node's server is ready, whoever else is there.
func Embed(c Embedded) (*Bus, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	cluster, log := orDefaults(c.Cluster, c.Logger)
	b := newBus(c.Node, cluster, log, c.patience)
	e, err := c.startServer(cluster, log)
	if err != nil {
		return nil, err
	}
	b.server = e
	options := append(b.options(), nats.InProcessServer(inProcess{b}), nats.UserInfo(e.options.Username, e.options.Password))
	nc, err := nats.Connect("", options...)
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("connect to the NATS server within: %w", err)
	}
	return b.start(nc)
}

// RouteAddr is where an embedded server takes connections of other nodes; nil: none is embedded.
func (b *Bus) RouteAddr() net.Addr {
	if b.server == nil {
		return nil
	}
	return b.server.server.ClusterAddr()
}

// inProcess gives the client library connections that need no socket.
type inProcess struct{ bus *Bus }

func (p inProcess) InProcessConn() (net.Conn, error) {
	conn, err := p.bus.server.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	return p.bus.through(conn)
}

func (c *Embedded) startServer(cluster string, log *zap.Logger) (*embedded, error) {
	e := &embedded{log: &serverLog{log: log.Named("nats"), failed: make(chan string, 1)}, settles: c.settles, done: make(chan struct{})}
	e.finder = newFinder(c, log)
	addresses := e.finder.find()
	e.log.tries = newTries(addresses)
	user, password := "foyer", random()
	if len(c.SecretKey) > 0 {
		mac := hmac.New(sha256.New, c.SecretKey)
		mac.Write([]byte("foyer nats route"))
		e.user = url.UserPassword(user, hex.EncodeToString(mac.Sum(nil)))
	}
	host, port, err := splitAddress(c.Listen)
	if err != nil {
		return nil, err
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	e.options = &server.Options{
		ServerName: "foyer-" + string(c.Node) + "-" + random()[:8], // two runs of one node can overlap
		// Nobody connects here: a server that listens to no client never begins to listen to others.
		Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: user, Password: password,
		NoSigs: true, NoSystemAccount: true, NoHeaderSupport: true,
		MaxPayload: maxFrame,
		// What is for a node that does not read is dropped when its queue is nearly full. Without this, its sender would be
		// made to wait, and with it all that goes to others.
		NoFastProducerStall:   true,
		WriteDeadline:         cmp.Or(c.patience, routeDeadline),
		ReconnectErrorReports: routeRetries, ConnectErrorReports: routeRetries,
		Cluster: server.ClusterOpts{
			Name: cluster, Host: host, Port: port, Advertise: c.Advertise,
			PoolSize:       1,                               // of more, one account uses one, and the others hide that it is gone
			ConnectRetries: routeRetries, NoAdvertise: true, // of client addresses
			PingInterval: cmp.Or(c.patience, pingEvery),
			Compression:  server.CompressionOpts{Mode: server.CompressionOff},
		},
	}
	if e.user != nil {
		e.options.Cluster.Username = e.user.Username()
		e.options.Cluster.Password, _ = e.user.Password()
	}
	if c.TLS != nil {
		e.options.Cluster.TLSConfig, e.options.Cluster.TLSTimeout = c.TLS, dialTimeout.Seconds()
	}
	e.options.Routes = e.urls(addresses)

	if e.server, err = server.NewServer(e.options.Clone()); err != nil {
		return nil, fmt.Errorf("NATS server: %w", err)
	}
	e.server.SetLoggerV2(e.log, false, false, false)
	e.server.Start()
	if err := e.ready(c.Listen); err != nil {
		e.close()
		return nil, err
	}
	e.ended.Go(e.follow)
	return e, nil
}

// ready waits until the server takes connections, or says why it does not.
func (e *embedded) ready(listen string) error {
	for deadline := time.Now().Add(readyTimeout); time.Now().Before(deadline); {
		if e.server.ReadyForConnections(readyStep) {
			return nil
		}
		select {
		case why := <-e.log.failed:
			return fmt.Errorf("NATS server: %s", why)
		default:
		}
	}
	return fmt.Errorf("the NATS server at %s was not ready after %v", listen, readyTimeout)
}

func (e *embedded) close() {
	close(e.done)
	e.server.Shutdown()
	e.server.WaitForShutdown()
	e.ended.Wait()
}

func random() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}
