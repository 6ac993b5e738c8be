package mongobus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/mongodb"
)

const (
	// maxFrame is the same at all nodes, and on all buses that go by a server.
	maxFrame = 128 << 10
	// cappedBytes is how much the collection keeps: some seconds of a busy cluster, by which a node may be behind.
	cappedBytes = 64 << 20
	// inFrames and inBytes may wait for the receiver; more are lost.
	inFrames = 8192
	inBytes  = 64 << 20

	lastTimeout  = time.Second
	probeEvery   = time.Second
	splitAfter   = 15 * time.Second // then what this node inserts does not come back
	retryWait    = 250 * time.Millisecond
	retryMost    = 2 * time.Second
	recheckEvery = 5 * time.Second
)

// Config is how a node reaches MongoDB.
type Config struct {
	Node    service.NodeID
	Cluster string // first part of the collection's name; default "foyer"
	URL     string // as mongodb.ParseURL takes it
	// TLS makes the settings of each new client, where the URL wants TLS. Default: what the URL says.
	TLS    func() (*tls.Config, error)
	Logger *zap.Logger // default: none

	bytes int64 // of the collection; default cappedBytes
}

// Validate says all that is wrong at once.
func (c *Config) Validate() error {
	var errs []error
	if !c.Node.Valid() {
		errs = append(errs, fmt.Errorf("%q is no name of a node", c.Node))
	}
	strange := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}
	if strings.ContainsFunc(c.Cluster, strange) || len(c.Cluster) > 100 {
		errs = append(errs, fmt.Errorf("cluster name %.100q: want letters, digits, -, _ and dots, 100 at most", c.Cluster))
	}
	_, err := mongodb.ParseURL(c.URL)
	return errors.Join(append(errs, err)...)
}

// Bus is a node's way to MongoDB. Safe for concurrent use.
type Bus struct {
	// Set before the bus is given out.
	self   service.NodeID
	name   string // of the collection
	bytes  int64  // of the collection, when it is made
	server mongodb.Config
	log    *zap.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	out       *outbox
	in        chan []byte // what waits for the receiver
	waiting   atomic.Int64
	receiving atomic.Bool // written with mu
	changed   chan struct{}
	ended     sync.WaitGroup
	closing   sync.Once
	mu        sync.Mutex  // held by Receive, and while closed is set
	closed    atomic.Bool // written with mu
	up        atomic.Bool
	lost      atomic.Uint64
	now       atomic.Pointer[life]
	refuse    atomic.Bool // set by tests: no life can begin
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
		self: c.Node, name: c.Cluster + ".frames", bytes: c.bytes, log: c.Logger, server: mongodb.Config{Name: "foyer-" + string(c.Node), TLS: c.TLS},
		out: newOutbox(), in: make(chan []byte, inFrames), changed: make(chan struct{}, 1),
	}
	b.server.URL, _ = mongodb.ParseURL(c.URL) // it was validated
	b.ctx, b.cancel = context.WithCancel(context.Background())

	l, err := b.open(b.ctx)
	if _, refused := errors.AsType[*mongodb.Refusal](err); refused {
		b.cancel()
		return nil, err
	}
	if err != nil {
		b.log.Warn("bus not reached yet", zap.String("setting", "--cluster-url"), zap.Error(err))
	} else {
		b.live(l)
	}
	b.ended.Go(func() { b.keep(l) })
	return b, nil
}

// live is called when a life has begun.
func (b *Bus) live(l *life) {
	b.now.Store(l)
	b.setUp(true)
	b.log.Debug("connected")
}

// keep makes the next life when one has ended.
func (b *Bus) keep(l *life) {
	wait := retryWait
	for {
		if l != nil {
			select {
			case <-l.over:
			case <-b.ctx.Done():
				l.end(b.ctx.Err())
			}
			b.setUp(false)
			l.close()
			if b.ctx.Err() == nil {
				b.log.Debug("connection lost", zap.Error(l.err)) // that the bus is down, says who uses it
			}
			wait = retryWait
		}
		pause := time.NewTimer(wait/2 + rand.N(wait)) // all nodes lose a server at the same moment
		select {
		case <-b.ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		var err error
		l, err = b.open(b.ctx)
		_, refused := errors.AsType[*mongodb.Refusal](err)
		switch {
		case b.ctx.Err() != nil:
		case err == nil:
			b.live(l)
		case refused:
			b.log.Warn("bus unusable", zap.String("setting", "--cluster-url"), zap.Error(err))
			wait = recheckEvery
		default:
			b.log.Debug("bus not reached", zap.Error(err))
			wait = min(2*wait, retryMost)
		}
	}
}

func (b *Bus) setUp(up bool) {
	if b.up.Swap(up) != up {
		poke(b.changed)
	}
}

// Send implements adapter.Bus.
func (b *Bus) Send(to service.NodeID, frame []byte) error {
	if !to.Valid() {
		return adapter.ErrName
	}
	return b.insert(to, frame)
}

// SendAll implements adapter.Bus.
func (b *Bus) SendAll(frame []byte) error { return b.insert(toAll, frame) }

func (b *Bus) insert(to service.NodeID, frame []byte) error {
	switch {
	case len(frame) > maxFrame:
		return adapter.ErrTooLarge
	case b.closed.Load():
		return adapter.ErrClosed
	case !b.up.Load():
		return adapter.ErrDown
	case len(frame) == 0:
		return nil
	}
	return b.out.put(to, frame)
}

// Receive implements adapter.Bus. The collection is followed since the bus is up.
func (b *Bus) Receive(each func(frame []byte)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed.Load():
		return adapter.ErrClosed
	case b.receiving.Swap(true):
		return errors.New("a bus has one receiver")
	}
	b.ended.Go(func() { b.deliver(each) })
	return nil
}

func (b *Bus) deliver(each func(frame []byte)) {
	for {
		select {
		case <-b.ctx.Done():
			return
		case frame := <-b.in:
			b.waiting.Add(-int64(len(frame)))
			if !b.closed.Load() {
				each(frame)
			}
		}
	}
}

// take keeps a frame for the receiver, if there is room. It is called by one goroutine.
func (b *Bus) take(frame []byte) {
	switch size := len(frame); {
	case size == 0 || !b.receiving.Load():
	case size > maxFrame, len(b.in) == cap(b.in), b.waiting.Load()+int64(size) > inBytes:
		b.lost.Add(1)
	default:
		b.waiting.Add(int64(size))
		b.in <- append([]byte(nil), frame...)
	}
}

// MaxFrame implements adapter.Bus.
func (b *Bus) MaxFrame() int { return maxFrame }

// Up implements adapter.Bus: the server answers, lets this node insert and read, and gives back what it inserts.
func (b *Bus) Up() bool { return b.up.Load() }

// Changed implements adapter.Bus.
func (b *Bus) Changed() <-chan struct{} { return b.changed }

// Lost implements adapter.Bus.
func (b *Bus) Lost() uint64 { return b.lost.Load() }

// Close implements adapter.Bus.
func (b *Bus) Close() error {
	b.closing.Do(func() {
		b.mu.Lock()
		b.closed.Store(true)
		b.mu.Unlock()
		if l := b.now.Load(); l != nil && b.up.Load() { // the last word, a goodbye, is to be with the server before this ends
			wait := time.NewTimer(lastTimeout)
			defer wait.Stop()
			select {
			case <-b.out.emptied():
			case <-l.over:
			case <-wait.C:
			}
		}
		b.cancel()
		b.ended.Wait()
		b.setUp(false)
		poke(b.changed)
	})
	return nil
}

// poke leaves a value in a channel that holds one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
