package pgbus

import (
	"cmp"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter/lives"
	"foyer/service/adapter/pgdial"
)

const (
	answerTimeout = 5 * time.Second
	probeEvery    = 2 * time.Second

	// MaxName is how long the name of a cluster may be: PostgreSQL takes 63 bytes for a channel.
	MaxName = 63 - len(".to.NAME")
)

// Config is how a node reaches PostgreSQL.
type Config struct {
	Node    service.NodeID
	Cluster string // first part of all channels; default "foyer"
	URL     string // as pgdial.ParseURL takes it
	Logger  *zap.Logger

	callTimeout time.Duration // how long PostgreSQL may take to answer; for tests; default answerTimeout
}

// Validate says all that is wrong at once.
func (c *Config) Validate() error {
	_, err := pgdial.ParseURL(c.URL)
	return errors.Join(lives.Check(c.Node, c.Cluster, MaxName), err)
}

// Bus is a node's pair of connections to PostgreSQL. Safe for concurrent use.
type Bus struct {
	*lives.Bus

	// Set before the bus is given out.
	all, own, to string // channels: for all, for this node, and what those of nodes begin with
	self         service.NodeID
	server       *pgdial.Server
	callTimeout  time.Duration
	out          *outbox

	now    atomic.Pointer[life] // for tests
	refuse atomic.Bool          // set by tests: no connection can be made
}

// Connect reaches the server. One that cannot be reached now is no error: the bus is down until it can be. It is an
// error when it refuses this node.
func Connect(c Config) (*Bus, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	server, err := pgdial.ParseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Cluster == "" {
		c.Cluster = "foyer"
	}
	b := &Bus{all: c.Cluster + ".all", to: c.Cluster + ".to.", self: c.Node, server: server, out: newOutbox()}
	b.own, b.callTimeout = b.to+string(c.Node), cmp.Or(c.callTimeout, answerTimeout)
	b.Bus, err = lives.Connect(lives.Config{Open: b.open, Refused: pgdial.Refused, Send: b.send, Log: c.Logger})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// send puts a frame into the outbox.
func (b *Bus) send(to service.NodeID, frame []byte) error {
	if to == "" {
		return b.out.publish(b.all, "", frame)
	}
	return b.out.publish(b.to, string(to), frame)
}
