package mongobus

import (
	"cmp"
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter/lives"
	"foyer/service/adapter/mongodb"
)

const (
	// cappedBytes is how much the collection keeps: some seconds of a busy cluster, by which a node may be behind.
	cappedBytes = 64 << 20

	probeEvery = time.Second

	// MaxName is how long the name of a cluster may be.
	MaxName = 100
)

// Config is how a node reaches MongoDB.
type Config struct {
	Node    service.NodeID
	Cluster string // first part of the collection's name; default "foyer"
	URL     string // as mongodb.ParseURL takes it
	// TLS makes the settings of each new client, where the URL wants TLS. Default: what the URL says.
	TLS    func() (*tls.Config, error)
	Logger *zap.Logger // default: none

	bytes       int64         // of the collection; default cappedBytes
	callTimeout time.Duration // how long MongoDB may take to answer; for tests; default mongodb.AnswerTimeout
}

// Validate says all that is wrong at once.
func (c *Config) Validate() error {
	_, err := mongodb.ParseURL(c.URL)
	return errors.Join(lives.Check(c.Node, c.Cluster, MaxName), err)
}

// Bus is a node's way to MongoDB. Safe for concurrent use.
type Bus struct {
	*lives.Bus

	// Set before the bus is given out.
	self   service.NodeID
	name   string // of the collection
	bytes  int64  // of the collection, when it is made
	server mongodb.Config
	log    *zap.Logger
	out    *outbox

	callTimeout time.Duration

	now    atomic.Pointer[life] // for tests
	refuse atomic.Bool          // set by tests: no life can begin
}

// Connect reaches the server. One that cannot be reached now is no error: the bus is down until it can be. It is an
// error when it refuses this node, or what nodes do.
func Connect(c Config) (*Bus, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Cluster == "" {
		c.Cluster = "foyer"
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.bytes == 0 {
		c.bytes = cappedBytes
	}
	b := &Bus{
		self: c.Node, name: c.Cluster + ".frames", bytes: c.bytes, log: c.Logger, out: newOutbox(),
		server:      mongodb.Config{Name: "foyer-" + string(c.Node), TLS: c.TLS, Timeout: c.callTimeout},
		callTimeout: cmp.Or(c.callTimeout, mongodb.AnswerTimeout),
	}
	b.server.URL, _ = mongodb.ParseURL(c.URL) // it was validated
	refused := func(err error) bool {
		_, is := errors.AsType[*mongodb.Refusal](err)
		return is
	}
	var err error
	if b.Bus, err = lives.Connect(lives.Config{Open: b.open, Refused: refused, Send: b.send, Log: c.Logger}); err != nil {
		return nil, err
	}
	return b, nil
}

// send puts a frame into the outbox.
func (b *Bus) send(to service.NodeID, frame []byte) error {
	if to == "" {
		to = toAll
	}
	return b.out.put(to, frame)
}
