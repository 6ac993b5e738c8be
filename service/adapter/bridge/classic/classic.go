// Package classic carries messages of the official form over Redis as @socket.io/redis-adapter does, by Pub/Sub: it is
// the bridge.Medium to servers on Node with that adapter, and to the emitters that belong to it.
//
// A node hears the responses of all namespaces, since it may ask where it has no sockets. In each namespace that it
// follows it subscribes to what a server on Node subscribes to, so it is counted as one; to the channels of emitters
// that leave the last # out; and to a channel of the cluster's own. How many more listen to requests than to that one
// is how many servers are no nodes.
//
//	classic.go    Medium, what it is made of and its life
//	redis.go      where the server is, its rights, and who is counted there
//	life.go       one connection that hears, and its subscriptions
//	in.go         what comes
//	out.go        what goes
//
// One goroutine publishes what waits, at one server, and waits for the answers before it goes on: so messages go out in
// their order. Nothing is published again, since what has no answer may have been published.
//
// All subscriptions use one connection, to a master: the official servers do not count who listens to a replica. A life
// is the time of one such connection. When it ends, or when its server is the master no more, another life begins and
// makes all subscriptions anew, patterns first. So a node that is counted also hears.
//
// Goroutines, from Open to Close: publish (writes), listen (owns lives, reads what comes, and never waits), with one
// more in each life (change: subscribes, and looks after the connection), deliver (gives it to the bridge). The library
// has its own.
package classic

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/bridge/dial"
	"foyer/service/adapter/official"
)

// Config is how a node reaches Redis, and by which names.
type Config struct {
	Addresses      []string // host:port; several are of one Redis Cluster
	Master         string   // what sentinels, whose Addresses are, call the server; "": none
	User, Password string
	TLS            func() (*tls.Config, error) // asked for each connection; nil: none
	Prefix         string                      // option key of the official adapter; default "socket.io"
	UID            string                      // of this node; its requests have ids that begin with it and a colon
	Ours           string                      // what the UIDs of all nodes of the cluster begin with
	Marker         string                      // what the channels of the cluster's own begin with; no # in it
	MaxBytes       int                         // largest message that is read; default 16 MiB
	Logger         *zap.Logger

	callTimeout time.Duration // how long Redis may take to answer; for tests; default 5 s
}

const (
	maxBytes    = 16 << 20
	outBytes    = 8 << 20  // that wait to be published; more are refused
	inBytes     = 32 << 20 // that wait for the bridge; more are dropped
	batchMost   = 512      // messages that are published before answers are waited for
	answerWait  = 5 * time.Second
	dialTimeout = 2 * time.Second
	openWait    = 3 * time.Second // for the server at start
	probeEvery  = time.Second
	silentFor   = 5 * time.Second // then a connection that was asked counts as broken
	moveEvery   = 5 * time.Second // how often it is asked where the master is
	settleFor   = 5 * time.Second // how long servers on Node may take until they are back after a loss of Redis
	retryWait   = 250 * time.Millisecond
	retryMost   = time.Second
)

// quiet takes what the library has to say of connections that are lost, which this package says itself.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

var silence = sync.OnceFunc(func() { redis.SetLogger(quiet{}) })

// errFull is the answer while too much waits to be published.
var errFull = errors.New("too much waits to be published")

// Medium is a bridge.Medium.
type Medium struct {
	cfg    Config
	mine   string // what the ids of this node's requests begin with
	names  official.Classic
	dialer *dial.Dialer
	log    *zap.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  sync.WaitGroup

	out  outbox
	in   inbox
	away atomic.Bool // the server was when it was used last, to hear or to publish

	mu       sync.Mutex
	client   redis.UniversalClient
	places   map[string]place    // by channel or pattern
	follows  map[string]*follows // by namespace
	changes  []string            // namespaces whose subscriptions are to change in this life, in order
	changed  chan struct{}       // has a value when there are some
	live     bool                // there is a life, which has said its subscriptions
	counts   map[string]int      // of peers, by namespace, when they were counted last
	settling time.Time           // until then some may not be back that were there before
	dropped  map[string]int64
}

// New makes the medium; nothing is connected before Open or a call that needs it.
func New(c Config) *Medium {
	if c.MaxBytes == 0 {
		c.MaxBytes = maxBytes
	}
	if c.callTimeout == 0 {
		c.callTimeout = answerWait
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	m := &Medium{
		cfg: c, mine: c.UID + ":", names: official.Classic{Prefix: c.Prefix}, dialer: dial.New(dialTimeout, c.TLS), log: c.Logger,
		places: map[string]place{}, follows: map[string]*follows{}, changed: make(chan struct{}, 1), counts: map[string]int{},
		dropped: map[string]int64{}, out: outbox{filled: make(chan struct{}, 1), most: outBytes}, in: inbox{filled: make(chan struct{}, 1), most: inBytes},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	silence()
	m.client = m.connect(len(c.Addresses) > 1 && c.Master == "")
	m.places[m.names.AllResponses()] = place{"", responses}
	m.places[m.names.Ancient()] = place{"", ancient}
	return m
}

// Open implements bridge.Medium. A server that cannot be reached now is no error; one that refuses what is needed is.
func (m *Medium) Open(each func(*official.Message)) error {
	if err := m.check(); err != nil {
		return err
	}
	first := make(chan struct{})
	m.ended.Go(m.publish)
	m.ended.Go(func() { m.listen(first) })
	m.ended.Go(func() { m.deliver(each) })
	late := time.NewTimer(openWait)
	defer late.Stop()
	select {
	case <-first:
	case <-late.C:
	}
	return nil
}

// Close implements bridge.Medium. It does not wait for a server that is silent.
func (m *Medium) Close() error {
	m.cancel()
	m.dialer.Close()
	m.mu.Lock()
	client := m.client
	m.mu.Unlock()
	err := client.Close()
	m.ended.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.follows {
		f.confirm()
	}
	return err
}

// Dropped implements bridge.Medium.
func (m *Medium) Dropped() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.dropped)
}

func (m *Medium) count(reason string, n int) {
	m.mu.Lock()
	m.dropped[reason] += int64(n)
	m.mu.Unlock()
}

func (m *Medium) drop(reason, channel string, err error) {
	m.count(reason, 1)
	m.log.Warn("message dropped", zap.String("reason", reason), zap.String("channel", channel), zap.Error(err))
}

// poke leaves a value in a channel that holds one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
