package natsbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"foyer/service"
)

// External is how a node reaches NATS servers that others run.
type External struct {
	Node    service.NodeID
	Cluster string // first part of all subjects; default "foyer"
	URL     string // one or more of nats://host:port or tls://host:port, with a comma between
	// Credentials is a file with a user's JWT and seed. Default: what the URL says.
	Credentials string
	CA          string      // file of certificates that the server's has to come from; default: the system's
	Cert, Key   string      // files by which the server knows this node
	Logger      *zap.Logger // default: none

	patience time.Duration // how long the other side may say nothing; for tests; default pingEvery
}

// Validate says all that is wrong at once.
func (c *External) Validate() error {
	errs := []error{checkNames(c.Node, c.Cluster)}
	if c.URL == "" {
		errs = append(errs, errors.New("the URL of a NATS server is missing"))
	}
	if (c.Cert == "") != (c.Key == "") {
		errs = append(errs, errors.New("a certificate needs its key, and a key its certificate"))
	}
	return errors.Join(errs...)
}

// checkNames says what is wrong with what subjects are made of.
func checkNames(node service.NodeID, cluster string) error {
	var errs []error
	if !node.Valid() {
		errs = append(errs, fmt.Errorf("%q is no name of a node", node))
	}
	for token := range strings.SplitSeq(cluster, ".") {
		plain := strings.IndexFunc(token, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
		}) < 0
		if cluster != "" && (token == "" || !plain || len(cluster) > 100) {
			errs = append(errs, fmt.Errorf("cluster name %.100q: want letters, digits, - and _, with dots between, 100 at most", cluster))
			break
		}
	}
	return errors.Join(errs...)
}

// Connect reaches the servers. One that cannot be reached now is no error: the bus is down until it can be. It is an
// error when a server refuses this node, or does not take what nodes send.
func Connect(c External) (*Bus, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	cluster, log := orDefaults(c.Cluster, c.Logger)
	b := newBus(c.Node, cluster, log, c.patience)
	options := append(b.options(), nats.SetCustomDialer(dialer{b}))
	if c.Credentials != "" {
		options = append(options, nats.UserCredentials(c.Credentials))
	}
	if c.CA != "" {
		options = append(options, nats.RootCAs(c.CA))
	}
	if c.Cert != "" {
		options = append(options, nats.ClientCert(c.Cert, c.Key))
	}
	nc, err := nats.Connect(c.URL, options...)
	if away(err) {
		log.Warn("bus not reached yet", zap.Error(err))
		nc, err = nats.Connect(c.URL, append(options, nats.RetryOnFailedConnect(true))...)
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return b.start(nc)
}

// away says whether an error of a connect may pass by itself.
func away(err error) bool {
	var network net.Error
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.As(err, &network)
}

func orDefaults(cluster string, log *zap.Logger) (string, *zap.Logger) {
	if cluster == "" {
		cluster = "foyer"
	}
	if log == nil {
		log = zap.NewNop()
	}
	return cluster, log
}

// start begins to keep a connection, which is the bus's from then on.
func (b *Bus) start(nc *nats.Conn) (*Bus, error) {
	b.nc = nc
	if nc.IsConnected() {
		if err := b.check(); err != nil {
			b.Close()
			return nil, err
		}
		b.setUp(true)
	}
	b.ended.Go(b.keep)
	poke(b.turned) // it may have gone or come meanwhile
	return b, nil
}

// dialer makes the connections to servers of others.
type dialer struct{ bus *Bus }

func (d dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	return d.bus.through(conn)
}

// through makes a connection the one that is written to.
func (b *Bus) through(conn net.Conn) (net.Conn, error) {
	if b.refuse.Load() {
		conn.Close()
		return nil, net.ErrClosed
	}
	out := newOutlet(conn)
	b.pipe.Store(out)
	return out, nil
}
