package redisbus

import (
	"cmp"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter/lives"
)

const (
	dialTimeout   = 2 * time.Second
	answerTimeout = 5 * time.Second // without anything of the server a connection counts as broken then
	probeEvery    = time.Second
	recheckEvery  = 5 * time.Second // of where the master is

	// MaxName is how long the name of a cluster may be.
	MaxName = 100
)

// Config is how a node reaches Redis.
type Config struct {
	Node    service.NodeID
	Cluster string // first part of all channels; default "foyer"
	URL     string // as ParseURL takes it
	// TLS, with rediss only.
	CA        string      // file of certificates that the server's has to come from; default: the system's
	Cert, Key string      // files by which the server knows this node
	Logger    *zap.Logger // default: none

	callTimeout time.Duration // how long Redis may take to answer; for tests; default answerTimeout
}

// Validate says all that is wrong at once.
func (c *Config) Validate() error {
	errs := []error{lives.Check(c.Node, c.Cluster, MaxName)}
	if (c.Cert == "") != (c.Key == "") {
		errs = append(errs, errors.New("a certificate needs its key, and a key its certificate"))
	}
	_, err := ParseURL(c.URL)
	return errors.Join(append(errs, err)...)
}

// Bus is a node's pair of connections to Redis. Safe for concurrent use.
type Bus struct {
	*lives.Bus

	// Set before the bus is given out.
	all, own, to string // channels: for all, for this node, and what those of nodes begin with
	heads        struct{ all, one, own []byte }
	self         service.NodeID
	tag          tag
	servers      *Servers
	files        Files
	log          *zap.Logger
	out          *outbox
	callTimeout  time.Duration

	now    atomic.Pointer[life] // for tests
	refuse atomic.Bool          // set by tests: no connection can be made
}

// Connect reaches the server. One that cannot be reached now is no error: the bus is down until it can be. It is an
// error when it refuses this node, or what nodes do.
func Connect(c Config) (*Bus, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	servers, err := ParseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Cluster == "" {
		c.Cluster = "foyer"
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	b := &Bus{
		all: c.Cluster + ".all", to: c.Cluster + ".to.", self: c.Node, servers: servers, log: c.Logger,
		out: &outbox{filled: make(chan struct{}, 1)}, callTimeout: cmp.Or(c.callTimeout, answerTimeout),
	}
	b.own = b.to + string(c.Node)
	b.heads.all, b.heads.one, b.heads.own = head(b.all), head(b.to+anyName), head(b.own)
	b.files.CA, b.files.Cert, b.files.Key = c.CA, c.Cert, c.Key
	_, _ = rand.Read(b.tag[:]) // it never fails
	refused := func(err error) bool {
		_, is := errors.AsType[*refusal](err)
		return is
	}
	b.Bus, err = lives.Connect(lives.Config{Open: b.open, Refused: refused, Send: b.send, Log: c.Logger})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// send puts a frame into the outbox.
func (b *Bus) send(to service.NodeID, frame []byte) error {
	if to == "" {
		return b.out.publish(b.heads.all, "", &b.tag, frame)
	}
	return b.out.publish(b.heads.one, string(to), &b.tag, frame)
}
