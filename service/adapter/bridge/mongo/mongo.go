package mongo

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"foyer/service/adapter/bridge/beats"
	"foyer/service/adapter/bridge/queue"
	"foyer/service/adapter/mongodb"
	"foyer/service/adapter/official"
)

// Config is how a node reaches MongoDB, and which collection it shares there.
type Config struct {
	URL *mongodb.URL
	// TLS makes the settings of each new client, where the URL wants TLS. Default: what the URL says.
	TLS        func() (*tls.Config, error)
	Collection string
	UID        string // of this node
	Ours       string // what the UIDs of all nodes of the cluster begin with
	MaxBytes   int    // largest message that is read; default 16 MiB
	Logger     *zap.Logger

	callTimeout time.Duration // how long MongoDB may take to answer; for tests; default mongodb.AnswerTimeout
}

const (
	maxBytes = 16 << 20
	// maxDocument is the largest that is inserted: a server gives it out inside of another one, which may have 16 MiB.
	maxDocument = maxBytes - 64<<10
	outBytes    = 8 << 20  // that wait to be inserted; more are refused
	inBytes     = 32 << 20 // that wait for the bridge; more are dropped
	overhead    = 256      // bytes that a message takes beside its own

	lastTimeout  = time.Second // for what waits at the end
	retryWait    = 250 * time.Millisecond
	retryMost    = 2 * time.Second
	recheckEvery = 5 * time.Second
)

var (
	errAway = errors.New("the server is away")
	errFull = errors.New("too much waits to be published")
	errMany = errors.New("too many namespaces are heard")
)

// Medium is a bridge.Medium.
type Medium struct {
	cfg    Config
	mine   string // what the ids of this node's requests begin with
	server mongodb.Config
	log    *zap.Logger
	beats  *beats.Beats
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	ended  sync.WaitGroup
	out    *queue.Queue[saying]
	in     *queue.Queue[came]
	place  place // owned by keep: how far was read

	begins sync.Mutex // held while beats are told of a namespace; taken before mu

	mu       sync.Mutex
	life     *life               // guarded by mu; nil: the server is away
	hearings map[string]*hearing // guarded by mu; by namespace
	dropped  map[string]int64    // guarded by mu
}

// New makes the medium; nothing is connected before Open.
func New(c Config) *Medium {
	if c.MaxBytes == 0 {
		c.MaxBytes = maxBytes
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	m := &Medium{
		cfg: c, mine: c.UID + ":", log: c.Logger, server: mongodb.Config{URL: c.URL, TLS: c.TLS, Name: "foyer-official", Timeout: c.callTimeout},
		out: queue.New[saying](outBytes), in: queue.New[came](inBytes), hearings: map[string]*hearing{}, dropped: map[string]int64{},
	}
	m.cfg.callTimeout = cmp.Or(c.callTimeout, mongodb.AnswerTimeout)
	m.beats = beats.New(beats.Config{Self: c.UID, Ours: c.Ours, Say: m.say})
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Open implements bridge.Medium. Errors: a mongodb.Refusal, and a CollectionError in one where it is the collection
// that does not do. A server that cannot be reached now is no error.
func (m *Medium) Open(each func(*official.Message)) error {
	l, err := m.open()
	if _, refused := errors.AsType[*mongodb.Refusal](err); refused {
		return err
	}
	if err != nil {
		m.log.Warn("servers on Node not reached yet", zap.String("setting", "--cluster-url"), zap.Error(err))
	} else {
		m.begin(l)
	}
	m.ended.Go(func() { m.keep(l) })
	m.ended.Go(m.publish)
	m.ended.Go(func() { m.deliver(each) })
	m.ended.Go(m.tidy)
	m.ended.Go(func() { m.beats.Run(m.ctx) })
	return nil
}

// Close implements bridge.Medium.
func (m *Medium) Close() error {
	last := saying{end: make(chan struct{})}
	if m.now() != nil && m.out.Put(last, 0) {
		wait := time.NewTimer(lastTimeout)
		defer wait.Stop()
		select {
		case <-last.end:
		case <-wait.C:
		}
	}
	m.cancel()
	m.ended.Wait()
	return nil
}

// keep reads, and makes the next life when one has ended.
func (m *Medium) keep(l *life) {
	wait := retryWait
	for {
		if l != nil {
			err := m.read(l)
			m.ends(l)
			if m.ctx.Err() == nil {
				m.log.Warn("servers on Node not heard", zap.Error(err))
			}
			wait = retryWait
		}
		pause := time.NewTimer(wait/2 + rand.N(wait)) // all nodes lose a server at the same moment
		select {
		case <-m.ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		var err error
		l, err = m.open()
		_, refused := errors.AsType[*mongodb.Refusal](err)
		switch {
		case err == nil:
			m.begin(l)
			m.log.Info("servers on Node heard")
		case m.ctx.Err() != nil:
		case refused:
			m.log.Warn("way to servers on Node unusable", zap.Error(err))
			wait = recheckEvery
		default:
			wait = min(2*wait, retryMost)
		}
	}
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

func (m *Medium) drop(reason, namespace string, err error) {
	m.count(reason, 1)
	m.log.Warn("message dropped", zap.String("reason", reason), zap.String("namespace", namespace), zap.Error(err))
}
