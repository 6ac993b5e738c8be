package natsbus

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
)

const (
	// maxFrame is the same at all nodes, whatever their servers take.
	maxFrame = 128 << 10
	// outBytes is what may wait for a server that does not read; more is ErrFull.
	outBytes = 8 << 20
	// inFrames may wait for the receiver; more are lost. Trunks bound their bytes.
	inFrames = 8192

	pingEvery    = 2 * time.Second
	pingsOut     = 2 // without an answer: then the server counts as gone
	dialTimeout  = 2 * time.Second
	flushTimeout = 5 * time.Second
	lastTimeout  = time.Second
	retryWait    = 250 * time.Millisecond
	retryJitter  = 500 * time.Millisecond
	recheckEvery = 5 * time.Second
)

// Bus is a node's connection to a NATS server, which may be one within the process. Safe for concurrent use.
type Bus struct {
	// Set before the bus is given out.
	prefix string // of subjects, with its dot
	self   service.NodeID
	log    *zap.Logger
	ping   time.Duration // how often the server is asked whether it is there
	nc     *nats.Conn
	server *embedded // nil: the server is another process

	changed chan struct{}
	turned  chan struct{} // has a value after the connection has come or gone
	done    chan struct{} // closed by Close
	ended   sync.WaitGroup
	closing sync.Once
	closed  atomic.Bool
	up      atomic.Bool
	lost    atomic.Uint64 // but for what the subscriptions count
	pipe    atomic.Pointer[outlet]
	refuse  atomic.Bool // set by tests: no connection can be made

	mu        sync.Mutex
	receiving bool                 // guarded by mu
	subs      []*nats.Subscription // guarded by mu
}

func newBus(node service.NodeID, cluster string, log *zap.Logger, patience time.Duration) *Bus {
	return &Bus{
		prefix: cluster + ".", self: node, log: log, ping: cmp.Or(patience, pingEvery),
		changed: make(chan struct{}, 1), turned: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

func (b *Bus) all() string                  { return b.prefix + "all" }
func (b *Bus) one(to service.NodeID) string { return b.prefix + "to." + string(to) }

// options are what both kinds of connection have in common.
func (b *Bus) options() []nats.Option {
	turn := func(*nats.Conn) { poke(b.turned) }
	return []nats.Option{
		nats.Name("foyer " + string(b.self)),
		nats.NoEcho(),                 // a name would not do: two nodes of one name have to hear each other
		nats.MaxReconnects(-1),        // for ever
		nats.ReconnectWait(retryWait), //
		nats.ReconnectJitter(retryJitter, retryJitter),
		nats.ReconnectBufSize(-1), // nothing is kept while the server is away
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(b.ping),
		nats.MaxPingsOutstanding(pingsOut),
		nats.Timeout(dialTimeout),
		nats.ConnectHandler(turn),
		nats.ReconnectHandler(turn),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			b.setUp(false)
			if !b.closed.Load() {
				b.log.Debug("connection lost", zap.Error(err)) // that the bus is down, says who uses it
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if !errors.Is(err, nats.ErrSlowConsumer) && !b.closed.Load() { // Lost counts those
				b.log.Warn("bus error", zap.Error(err))
			}
		}),
	}
}

// keep checks each new connection, and says that the bus is up when it will do.
func (b *Bus) keep() {
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for {
		select {
		case <-b.done:
			return
		case <-b.turned:
		case <-again.C:
		}
		if !b.nc.IsConnected() {
			continue
		}
		if err := b.check(); err != nil {
			b.log.Warn("bus unusable", zap.Error(err))
			again.Reset(recheckEvery)
			continue
		}
		if !b.up.Load() && b.nc.IsConnected() {
			b.setUp(true)
			b.log.Debug("connected", zap.String("server", b.nc.ConnectedServerName()))
			if !b.nc.IsConnected() { // it went meanwhile, and its handler may have come first
				b.setUp(false)
			}
		}
	}
}

// check says whether the server takes what nodes send. It is called while the bus is not up.
func (b *Bus) check() error {
	if most := b.nc.MaxPayload(); most < maxFrame {
		return fmt.Errorf("the NATS server takes messages of %d bytes (max_payload), and Foyer needs %d", most, maxFrame)
	}
	// The library has made the receiver's subscriptions anew; these are made to be tried. A message without bytes is no
	// frame.
	for _, subject := range []string{b.all(), b.one(b.self)} {
		before := b.nc.LastError() // a refusal comes before the answer to the flush, and perhaps before the next line
		sub, err := b.nc.SubscribeSync(subject)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		err = errors.Join(b.nc.Publish(subject, nil), b.nc.FlushTimeout(flushTimeout), sub.Unsubscribe())
		if err != nil {
			return fmt.Errorf("try %s: %w", subject, err)
		}
		if err := b.nc.LastError(); !errors.Is(err, before) && errors.Is(err, nats.ErrPermissionViolation) {
			return fmt.Errorf("the NATS server does not let this user publish and subscribe to %s, and Foyer needs %s and %s: %w",
				subject, b.all(), b.one("*"), err)
		}
	}
	return nil
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
	return b.publish(b.one(to), frame)
}

// SendAll implements adapter.Bus.
func (b *Bus) SendAll(frame []byte) error { return b.publish(b.all(), frame) }

func (b *Bus) publish(subject string, frame []byte) error {
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
	if out := b.pipe.Load(); out != nil && out.waiting() > outBytes {
		return adapter.ErrFull
	}
	err := b.nc.Publish(subject, frame)
	switch {
	case err == nil:
		return nil
	case b.closed.Load():
		return adapter.ErrClosed
	default: // the connection has just gone
		return adapter.ErrDown
	}
}

// Receive implements adapter.Bus. What is for one and what is for all come through one channel, so that they keep their
// order. A bus with a server of its own waits a moment for the others that it knows to be at hand; ErrKey, ErrName and
// ErrCertificate say that none of them takes this node.
func (b *Bus) Receive(each func(frame []byte)) error {
	if err := b.subscribe(each); err != nil || b.server == nil {
		return err
	}
	return b.server.settle(b.all())
}

func (b *Bus) subscribe(each func(frame []byte)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed.Load():
		return adapter.ErrClosed
	case b.receiving:
		return errors.New("a bus has one receiver")
	}
	came := make(chan *nats.Msg, inFrames)
	for _, subject := range []string{b.all(), b.one(b.self)} {
		sub, err := b.nc.ChanSubscribe(subject, came)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		b.subs = append(b.subs, sub)
	}
	b.receiving = true
	b.ended.Go(func() { b.deliver(came, each) })
	if b.up.Load() { // otherwise the subscriptions are live before it comes up
		if err := b.nc.FlushTimeout(flushTimeout); err != nil && b.up.Load() {
			return fmt.Errorf("wait for subscriptions: %w", err)
		}
	}
	return nil
}

func (b *Bus) deliver(came <-chan *nats.Msg, each func(frame []byte)) {
	for {
		select {
		case <-b.done:
			return
		case m := <-came:
			switch {
			case len(m.Data) > maxFrame:
				b.lost.Add(1)
			case len(m.Data) > 0 && !b.closed.Load():
				each(m.Data)
			}
		}
	}
}

// MaxFrame implements adapter.Bus.
func (b *Bus) MaxFrame() int { return maxFrame }

// Up implements adapter.Bus: the server answers, and lets this node send and receive.
func (b *Bus) Up() bool { return b.up.Load() }

// Changed implements adapter.Bus.
func (b *Bus) Changed() <-chan struct{} { return b.changed }

// Lost implements adapter.Bus.
func (b *Bus) Lost() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	lost := b.lost.Load()
	for _, sub := range b.subs {
		if dropped, err := sub.Dropped(); err == nil {
			lost += uint64(dropped)
		}
	}
	return lost
}

// Close implements adapter.Bus.
func (b *Bus) Close() error {
	b.closing.Do(func() {
		b.closed.Store(true)
		close(b.done)
		b.ended.Wait()
		b.mu.Lock() // Receive has returned
		defer b.mu.Unlock()
		if b.nc != nil {
			if b.up.Load() { // the last word, a goodbye, is to be with the server before that ends
				_ = b.nc.FlushTimeout(lastTimeout)
			}
			b.nc.Close()
		}
		if out := b.pipe.Load(); out != nil {
			out.Close()
			out.ended.Wait()
		}
		if b.server != nil {
			b.server.close()
		}
		b.up.Store(false)
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
