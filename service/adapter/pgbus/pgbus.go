package pgbus

import (
	"context"
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
	"foyer/service/adapter/pgdial"
)

const (
	// maxFrame is the same at all nodes, and on all buses that go by a server.
	maxFrame = 128 << 10
	// inFrames and inBytes may wait for the receiver; more are lost.
	inFrames = 8192
	inBytes  = 64 << 20

	answerTimeout = 5 * time.Second
	lastTimeout   = time.Second
	probeEvery    = 2 * time.Second
	splitAfter    = 15 * time.Second // longer than answerTimeout, since what comes back waits behind what is published
	retryWait     = 250 * time.Millisecond
	retryMost     = 2 * time.Second
	recheckEvery  = 5 * time.Second

	// MaxName is how long the name of a cluster may be: PostgreSQL takes 63 bytes for a channel.
	MaxName = 63 - len(".to.NAME")
)

// Config is how a node reaches PostgreSQL.
type Config struct {
	Node    service.NodeID
	Cluster string // first part of all channels; default "foyer"
	URL     string // as pgdial.ParseURL takes it
	Logger  *zap.Logger
}

// Validate says all that is wrong at once.
func (c *Config) Validate() error {
	var errs []error
	if !c.Node.Valid() {
		errs = append(errs, fmt.Errorf("%q is no name of a node", c.Node))
	}
	errs = append(errs, CheckName(c.Cluster))
	_, err := pgdial.ParseURL(c.URL)
	return errors.Join(append(errs, err)...)
}

// CheckName says what is wrong with the name of a cluster.
func CheckName(name string) error {
	strange := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}
	if strings.ContainsFunc(name, strange) || len(name) > MaxName {
		return fmt.Errorf("cluster name %.100q: want letters, digits, -, _ and dots, %d at most with postgres", name, MaxName)
	}
	return nil
}

// Bus is a node's pair of connections to PostgreSQL. Safe for concurrent use.
type Bus struct {
	// Set before the bus is given out.
	all, own, to string // channels: for all, for this node, and what those of nodes begin with
	self         service.NodeID
	server       *pgdial.Server
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
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	b := &Bus{
		all: c.Cluster + ".all", to: c.Cluster + ".to.", self: c.Node, server: server, log: c.Logger,
		out: newOutbox(), in: make(chan []byte, inFrames), changed: make(chan struct{}, 1),
	}
	b.own = b.to + string(c.Node)
	b.ctx, b.cancel = context.WithCancel(context.Background())

	l, err := b.open()
	if pgdial.Refused(err) {
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
			l.buried()
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
		l, err = b.open()
		switch {
		case b.ctx.Err() != nil:
		case err == nil:
			b.live(l)
		case pgdial.Refused(err):
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
	return b.publish(b.to, string(to), frame)
}

// SendAll implements adapter.Bus.
func (b *Bus) SendAll(frame []byte) error { return b.publish(b.all, "", frame) }

func (b *Bus) publish(channel, node string, frame []byte) error {
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
	return b.out.publish(channel, node, frame)
}

// Receive implements adapter.Bus. The node listens since the bus is up.
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

// put hands a frame to the receiver's goroutine, or counts it as lost when there is no room. One goroutine puts.
func (b *Bus) put(frame []byte) {
	switch {
	case !b.receiving.Load():
	case len(b.in) == cap(b.in) || b.waiting.Load()+int64(len(frame)) > inBytes:
		b.lost.Add(1)
	default:
		b.waiting.Add(int64(len(frame)))
		b.in <- frame
	}
}

// MaxFrame implements adapter.Bus.
func (b *Bus) MaxFrame() int { return maxFrame }

// Up implements adapter.Bus: the server answers, and gives back what this node publishes.
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
			poke(b.out.filled)
			wait := time.NewTimer(lastTimeout)
			defer wait.Stop()
			select {
			case <-l.quiet:
				l.end(errClosed)
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
