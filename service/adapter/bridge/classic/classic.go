// Package classic carries messages of the official form over Redis as @socket.io/redis-adapter does, by Pub/Sub: it is the
// bridge.Medium to servers on Node with that adapter, and to the emitters that belong to it.
//
// A node hears the responses of all namespaces, since it may ask where it has no sockets. In each namespace that it follows it subscribes to what a server on Node subscribes to, so it is counted as one; to
// the channels of emitters that leave the last # out; and to a channel of the cluster's own. How many more listen to
// requests than to that one is how many servers are no nodes.
//
// One goroutine publishes what waits, at one server, and waits for the answers before it goes on: so messages go out in
// their order. Nothing is published again, since what has no answer may
// have been published.
//
// Goroutines, from Open to Close: publish (writes), change (subscribes), listen (reads what comes, and never waits),
// deliver (gives it to the bridge). The library has its own.
package classic

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/official"
)

// Config is how a node reaches Redis, and by which names.
type Config struct {
	Addresses      []string // host:port; several are of one Redis Cluster
	Master         string   // what sentinels, whose Addresses are, call the server; "": none
	User, Password string
	TLS            *tls.Config // nil: none
	Prefix         string      // option key of the official adapter; default "socket.io"
	Ours           string      // what the UIDs of all nodes of the cluster begin with
	Marker         string      // what the channels of the cluster's own begin with; no # in it
	MaxBytes       int         // largest message that is read; default 16 MiB
	Logger         *zap.Logger
}

const (
	maxBytes    = 16 << 20
	outBytes    = 8 << 20  // that wait to be published; more are refused
	inBytes     = 32 << 20 // that wait for the bridge; more are dropped
	batchMost   = 512      // messages that are published before answers are waited for
	callTimeout = 5 * time.Second
	dialTimeout = 2 * time.Second
	healthEvery = 3 * time.Second
	channelSize = 1024
)

// logger takes what the library has to say.
type logger struct{ *zap.Logger }

// Printf is called for connections that are lost, which this package says itself.
func (l logger) Printf(_ context.Context, format string, v ...any) {
	l.Debug("library", zap.String("detail", fmt.Sprintf(format, v...)))
}

// errFull is the answer while too much waits to be published.
var errFull = errors.New("too much waits to be published")

// Medium is a bridge.Medium.
type Medium struct {
	cfg    Config
	names  official.Classic
	client redis.UniversalClient
	sub    *redis.PubSub
	log    *zap.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  sync.WaitGroup

	out outbox
	in  inbox

	mu      sync.Mutex
	places  map[string]place    // by channel or pattern
	follows map[string]*follows // by namespace
	changes []string            // namespaces whose subscriptions are to change, in order
	changed chan struct{}       // has a value when there are some
	dropped map[string]int64
}

// follows is a namespace that is followed, or was.
type follows struct {
	on      bool // it is to be
	is      bool // it was subscribed to
	waiting int  // confirmations
	heard   chan struct{}
}

// place says what comes on a channel.
type place struct {
	namespace string
	kind      kind
}

type kind uint8

const (
	broadcasts kind = iota
	requests
	responses
	marker
)

// New makes the medium; nothing is connected before Open or a call that needs it.
func New(c Config) *Medium {
	if c.MaxBytes == 0 {
		c.MaxBytes = maxBytes
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	m := &Medium{
		cfg: c, names: official.Classic{Prefix: c.Prefix}, log: c.Logger, places: map[string]place{}, follows: map[string]*follows{},
		changed: make(chan struct{}, 1), dropped: map[string]int64{}, out: outbox{filled: make(chan struct{}, 1)}, in: inbox{filled: make(chan struct{}, 1)},
	}
	sentinel := func(text string) string { // they may want what the server wants
		if c.Master == "" {
			return ""
		}
		return text
	}
	m.client = redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: c.Addresses, MasterName: c.Master, Username: c.User, Password: c.Password, SentinelUsername: sentinel(c.User), SentinelPassword: sentinel(c.Password),
		TLSConfig: c.TLS, ClientName: "foyer-official",
		MaxRetries: -1, MaxRedirects: -1, // what has no answer may have been done
		PoolSize: 4, DialTimeout: dialTimeout, ReadTimeout: callTimeout, WriteTimeout: callTimeout, ContextTimeoutEnabled: true,
		DisableIdentity: true,
	})
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.sub = m.client.Subscribe(m.ctx)
	redis.SetLogger(logger{m.log})
	m.places[m.names.AllResponses()] = place{"", responses}
	return m
}

// Open implements bridge.Medium.
func (m *Medium) Open(each func(*official.Message)) error {
	m.ended.Go(m.publish)
	m.ended.Go(m.change)
	m.ended.Go(m.listen)
	m.ended.Go(func() { m.deliver(each) })
	return nil
}

// Close implements bridge.Medium.
func (m *Medium) Close() error {
	m.cancel()
	err := errors.Join(m.sub.Close(), m.client.Close())
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

func (m *Medium) drop(reason, channel string, err error) {
	m.mu.Lock()
	m.dropped[reason]++
	m.mu.Unlock()
	m.log.Warn("message dropped", zap.String("reason", reason), zap.String("channel", channel), zap.Error(err))
}

// Peers implements bridge.Medium. In a Redis Cluster each server, replicas too, counts its own.
func (m *Medium) Peers(ctx context.Context, namespace string) (int, error) {
	all, ours := m.names.Requests(namespace), m.marker(namespace)
	var mu sync.Mutex
	n := int64(0)
	ask := func(ctx context.Context, c redis.Cmdable) error {
		counts, err := c.PubSubNumSub(ctx, all, ours).Result()
		mu.Lock()
		defer mu.Unlock()
		n += counts[all] - counts[ours]
		return err
	}
	var err error
	if cluster, ok := m.client.(*redis.ClusterClient); ok {
		err = cluster.ForEachShard(ctx, func(ctx context.Context, c *redis.Client) error { return ask(ctx, c) })
	} else {
		err = ask(ctx, m.client)
	}
	return int(max(0, n)), err
}

func (m *Medium) marker(namespace string) string { return m.cfg.Marker + ".in." + namespace }

// channels are what a namespace is subscribed to.
func (m *Medium) channels(namespace string) (plain map[string]kind, pattern string) {
	unfinished, unfinishedRequests := m.names.Unfinished(namespace)
	return map[string]kind{
		m.names.Requests(namespace): requests,
		unfinished:                  broadcasts, unfinishedRequests: requests, m.marker(namespace): marker,
	}, m.names.Pattern(namespace)
}

// ourBroadcast says whether bytes are a broadcast of a node of this cluster, without reading it whole.
func (m *Medium) ourBroadcast(text string) bool {
	const array3, shortText, text8 = 0x93, 0xa0, 0xd9
	switch {
	case len(text) < 3 || text[0] != array3:
		return false
	case text[1]&0xe0 == shortText:
		return strings.HasPrefix(text[2:], m.cfg.Ours)
	case text[1] == text8:
		return strings.HasPrefix(text[3:], m.cfg.Ours)
	}
	return false
}
