package redisbus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
)

const (
	// maxFrame is the same at all nodes, and on all buses that go by a server.
	maxFrame = 128 << 10
	// inFrames and inBytes may wait for the receiver; more are lost.
	inFrames = 8192
	inBytes  = 64 << 20

	dialTimeout   = 2 * time.Second
	answerTimeout = 5 * time.Second
	lastTimeout   = time.Second
	probeEvery    = time.Second
	silentFor     = 5 * time.Second  // then a connection counts as broken
	splitAfter    = 15 * time.Second // longer, since what comes back waits behind what is published
	retryWait     = 250 * time.Millisecond
	retryMost     = 2 * time.Second
	recheckEvery  = 5 * time.Second
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
	if (c.Cert == "") != (c.Key == "") {
		errs = append(errs, errors.New("a certificate needs its key, and a key its certificate"))
	}
	_, err := ParseURL(c.URL)
	return errors.Join(append(errs, err)...)
}

// Bus is a node's pair of connections to Redis. Safe for concurrent use.
type Bus struct {
	// Set before the bus is given out.
	all, own, to string // channels: for all, for this node, and what those of nodes begin with
	heads        struct{ all, one, own []byte }
	self         service.NodeID
	tag          tag
	servers      *Servers
	files        Files
	log          *zap.Logger
	ctx          context.Context // ends with Close
	cancel       context.CancelFunc

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
	refuse    atomic.Bool // set by tests: no connection can be made
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
		out: &outbox{filled: make(chan struct{}, 1)}, in: make(chan []byte, inFrames), changed: make(chan struct{}, 1),
	}
	b.own = b.to + string(c.Node)
	b.heads.all, b.heads.one, b.heads.own = head(b.all), head(b.to+anyName), head(b.own)
	b.files.CA, b.files.Cert, b.files.Key = c.CA, c.Cert, c.Key
	b.ctx, b.cancel = context.WithCancel(context.Background())
	_, _ = rand.Read(b.tag[:]) // it never fails

	l, err := b.open(b.ctx)
	if _, refused := errors.AsType[*refusal](err); refused {
		b.cancel()
		return nil, err
	}
	if err != nil {
		b.log.Warn("bus not reached yet", zap.Error(err))
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
	b.log.Debug("connected", zap.String("server", l.address))
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
			l.ended.Wait()
			if b.ctx.Err() == nil {
				b.log.Debug("connection lost", zap.String("server", l.address), zap.Error(l.err)) // that the bus is down, says who uses it
			}
			wait = retryWait
		}
		pause := time.NewTimer(wait/2 + mrand.N(wait)) // all nodes lose a server at the same moment
		select {
		case <-b.ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		var err error
		l, err = b.open(b.ctx)
		_, refused := errors.AsType[*refusal](err)
		switch {
		case b.ctx.Err() != nil:
		case err == nil:
			b.live(l)
		case refused:
			b.log.Warn("bus unusable", zap.Error(err))
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
	return b.publish(b.heads.one, string(to), frame)
}

// SendAll implements adapter.Bus.
func (b *Bus) SendAll(frame []byte) error { return b.publish(b.heads.all, "", frame) }

func (b *Bus) publish(head []byte, node string, frame []byte) error {
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
	return b.out.publish(head, node, &b.tag, frame)
}

// Receive implements adapter.Bus. The subscriptions stand since the bus is up.
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

// wants says whether a frame of this size is to be read, and counts one that is lost.
func (b *Bus) wants(size int) bool {
	switch {
	case size == 0 || !b.receiving.Load():
		return false
	case len(b.in) == cap(b.in) || b.waiting.Load()+int64(size) > inBytes:
		b.lost.Add(1)
		return false
	}
	return true
}

// put hands a frame to the receiver's goroutine. wants has found room, and nobody else puts.
func (b *Bus) put(frame []byte) {
	b.waiting.Add(int64(len(frame)))
	b.in <- frame
}

// MaxFrame implements adapter.Bus.
func (b *Bus) MaxFrame() int { return maxFrame }

// Up implements adapter.Bus: the server answers, lets this node publish and subscribe, and gives back what it publishes.
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
			l.settled()
			wait := time.NewTimer(lastTimeout)
			defer wait.Stop()
			select {
			case <-l.quiet:
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
