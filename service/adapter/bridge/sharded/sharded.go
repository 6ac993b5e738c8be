package sharded

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/bridge/dial"
	"foyer/service/adapter/bridge/queue"
	"foyer/service/adapter/official"
)

// Config is how a node reaches Redis, and by which names.
type Config struct {
	Addresses      []string // host:port; several are of one Redis Cluster
	Master         string   // what sentinels, whose Addresses are, call the server; "": none
	User, Password string
	TLS            func() (*tls.Config, error) // nil: none
	Prefix         string                      // option channelPrefix of the official adapter; default "socket.io"
	Mode           official.ShardedMode
	// Append writes a message; nil: as the sharded Redis adapter does. The streams adapter has another form.
	Append   func(dst []byte, m *official.Message) ([]byte, error)
	UID      string // of this node
	Ours     string // what the UIDs of all nodes of the cluster begin with
	Marker   string // what the channels of the cluster's own begin with; no # and no brace in it
	MaxBytes int    // largest message that is read; default 16 MiB
	Logger   *zap.Logger

	callTimeout time.Duration // how long Redis may take to answer; for tests; default callWait
}

const (
	maxBytes    = 16 << 20
	outBytes    = 8 << 20  // that wait to be published; more are refused
	inBytes     = 32 << 20 // that wait for the bridge; more are dropped
	batchMost   = 512      // messages that are published before answers are waited for
	callWait    = 2 * time.Second
	dialTimeout = 2 * time.Second
)

// logger takes what the library has to say.
type logger struct{ *zap.Logger }

// Printf is called for connections that are lost, which this package says itself.
func (l logger) Printf(_ context.Context, format string, v ...any) {
	l.Debug("library", zap.String("detail", fmt.Sprintf(format, v...)))
}

// Medium is a bridge.Medium, and a bridge.Rooms.
type Medium struct {
	cfg    Config
	names  official.Sharded
	log    *zap.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  sync.WaitGroup

	dialer    *dial.Dialer
	servers   atomic.Pointer[servers] // nil: none is known yet
	reloading sync.Mutex              // held while they are looked for

	out    *queue.Queue[said]
	in     *queue.Queue[heard]
	recent recent
	away   atomic.Bool // a server was when it was used last, to hear or to publish

	mu      sync.Mutex
	places  map[string]*place      // guarded by mu; by channel
	changes []*place               // guarded by mu; whose subscription is to change, each once
	ears    map[*redis.Client]*ear // guarded by mu; of the servers that hear something for this node
	trouble bool                   // guarded by mu; the servers of channels are not known any more
	asking  map[string]*asking     // guarded by mu; by namespace
	counts  map[string]int         // guarded by mu; how many peers there were, by namespace
	settles time.Time              // guarded by mu; until then peers may be about to come back
	unheard bool                   // guarded by mu; a gap has begun, and some channels do not stand yet
	dropped map[string]int64       // guarded by mu
	changed chan struct{}          // has a value when there are changes, or trouble
}

// New makes the medium; nothing is connected before Open or a call that needs it.
func New(c Config) *Medium {
	if c.MaxBytes == 0 {
		c.MaxBytes = maxBytes
	}
	if c.callTimeout == 0 {
		c.callTimeout = callWait
	}
	if c.Append == nil {
		c.Append = official.AppendSharded
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	m := &Medium{
		cfg: c, names: official.Sharded{Prefix: c.Prefix, Mode: c.Mode}, log: c.Logger, places: map[string]*place{},
		ears: map[*redis.Client]*ear{}, dropped: map[string]int64{}, changed: make(chan struct{}, 1), counts: map[string]int{},
		asking: map[string]*asking{}, dialer: dial.New(dialTimeout, c.TLS),
		out: queue.New[said](outBytes), in: queue.New[heard](inBytes),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	redis.SetLogger(logger{m.log})
	m.connect()
	return m
}

// Open implements bridge.Medium. It is an error when the server refuses what this needs.
func (m *Medium) Open(each func(*official.Message)) error {
	if err := m.greet(); err != nil {
		return err
	}
	m.ended.Go(m.publish)
	m.ended.Go(m.tune)
	m.ended.Go(func() { m.deliver(each) })
	return nil
}

// Close implements bridge.Medium.
func (m *Medium) Close() error {
	m.cancel()
	m.dialer.Close()
	var err error
	if s := m.servers.Load(); s != nil {
		err = s.close()
	}
	m.ended.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.places {
		p.release()
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

// poke leaves a value in a channel that holds one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
