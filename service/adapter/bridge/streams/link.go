package streams

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/bridge/dial"
	"foyer/service/adapter/official"
)

const (
	callWait    = 3 * time.Second
	dialTimeout = 2 * time.Second
	retryLeast  = 100 * time.Millisecond
	retryMost   = 2 * time.Second
)

// link is a way to the servers, and what its owner counts.
type link struct {
	cfg    Config
	names  official.Sharded
	dialer *dial.Dialer
	log    *zap.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  sync.WaitGroup

	clients sync.Mutex
	now     redis.UniversalClient // guarded by clients
	reads   redis.UniversalClient // guarded by clients; for what has to wait; nil: nothing

	counting sync.Mutex
	dropped  map[string]int64 // guarded by counting
}

// newLink makes a link, on which so many things may wait for something.
func newLink(c *Config, reads int) *link {
	l := &link{
		cfg: *c, names: official.Sharded{Prefix: c.Prefix, Mode: official.Static}, dialer: dial.New(dialTimeout, c.TLS), log: c.Logger,
		dropped: map[string]int64{},
	}
	redis.SetLogger(logger{l.log})
	cluster := len(c.Addresses) > 1 && c.Master == ""
	l.now = l.connect(4, cluster)
	if reads > 0 {
		l.reads = l.connect(reads, cluster)
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// connect makes what has so many connections at most to each server. It makes them when they are needed.
func (l *link) connect(connections int, cluster bool) redis.UniversalClient {
	c := &l.cfg
	sentinel := func(text string) string { // they may want what the server wants
		if c.Master == "" {
			return ""
		}
		return text
	}
	return redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:         slices.Clone(c.Addresses), // to which the library appends
		IsClusterMode: cluster, MasterName: c.Master, Username: c.User, Password: c.Password, SentinelUsername: sentinel(c.User), SentinelPassword: sentinel(c.Password),
		Dialer: l.dialer.Dial, ClientName: "foyer-official",
		MaxRetries: -1, MaxRedirects: -1, // what has no answer may have been done
		PoolSize: connections, DialTimeout: dialTimeout, DialerRetries: 1, ReadTimeout: c.callTimeout, WriteTimeout: c.callTimeout, ContextTimeoutEnabled: true,
		DisableIdentity: true,
	})
}

// logger takes what the library has to say.
type logger struct{ *zap.Logger }

// Printf is called for connections that are lost, which this package says itself.
func (l logger) Printf(_ context.Context, format string, v ...any) {
	l.Debug("library", zap.String("detail", fmt.Sprintf(format, v...)))
}

// Dropped implements bridge.Medium.
func (l *link) Dropped() map[string]int64 {
	l.counting.Lock()
	defer l.counting.Unlock()
	return maps.Clone(l.dropped)
}

// drop counts what was dropped of what came from somewhere.
func (l *link) drop(reason, from string) {
	l.count(reason, 1)
	l.log.Warn("message dropped", zap.String("reason", reason), zap.String("from", from))
}

func (l *link) count(reason string, n int64) {
	l.counting.Lock()
	defer l.counting.Unlock()
	l.dropped[reason] += n
}

// client is for what is answered at once.
func (l *link) client() redis.UniversalClient {
	l.clients.Lock()
	defer l.clients.Unlock()
	return l.now
}

// reading is for what waits.
func (l *link) reading() redis.UniversalClient {
	l.clients.Lock()
	defer l.clients.Unlock()
	return l.reads
}

func (l *link) disconnect() error {
	l.dialer.Close()
	err := l.client().Close()
	if reads := l.reading(); reads != nil {
		err = errors.Join(err, reads.Close())
	}
	return err
}

// server is the one that has a key.
func server(ctx context.Context, client redis.UniversalClient, key string) (redis.Cmdable, error) {
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, key)
	}
	return client, nil
}

// lookAgain finds out which server has what. One server that this node was told of may be of a Redis Cluster, in which
// each counts its own listeners and has its own keys.
func (l *link) lookAgain(ctx context.Context) {
	for _, client := range []redis.UniversalClient{l.client(), l.reading()} {
		if cluster, ok := client.(*redis.ClusterClient); ok { // each of them knows by itself
			cluster.ReloadState(ctx)
		}
	}
	one, ok := l.client().(*redis.Client)
	if !ok || l.cfg.Master != "" {
		return
	}
	ctx, stop := context.WithTimeout(ctx, l.cfg.callTimeout)
	defer stop()
	info, err := one.Info(ctx, "cluster").Result() // a user that may not ask has to be told of several servers
	if err != nil || !strings.Contains(info, "cluster_enabled:1") {
		return
	}
	l.clients.Lock()
	reads := l.reads
	if l.now != redis.UniversalClient(one) {
		one, reads = nil, nil // somebody else was faster
	} else {
		l.now = l.connect(4, true)
		if reads != nil {
			l.reads = l.connect(2*l.cfg.Count, true)
		}
	}
	l.clients.Unlock()
	if one != nil {
		_ = one.Close()
	}
	if reads != nil {
		_ = reads.Close()
	}
}

// retry is how long to wait until something is tried again.
type retry struct{ last time.Duration }

// pause waits longer each time, and not the same at all nodes.
func (r *retry) pause(ctx context.Context) {
	r.last = min(max(2*r.last, retryLeast), retryMost)
	wait := time.NewTimer(r.last/2 + rand.N(r.last/2))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}

// poke leaves a value in a channel that holds one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// shut closes a channel once. The caller sees to it that nobody else does meanwhile.
func shut(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}
