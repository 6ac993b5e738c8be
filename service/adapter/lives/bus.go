package lives

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
)

const (
	// MaxFrame is the largest frame in bytes. It is the same at all nodes, and on all buses that go by a server.
	MaxFrame = 128 << 10

	lastTimeout  = time.Second
	retryWait    = 250 * time.Millisecond
	retryMost    = 2 * time.Second
	recheckEvery = 5 * time.Second
)

// ErrClosed ends the life of a bus that is closed, when all that it was given is with the server.
var ErrClosed = errors.New("closed")

// Life is one life of a bus. A Course has most of it.
type Life interface {
	// Over is closed when this life ends.
	Over() <-chan struct{}
	// End has it end, and does not wait for that. Only the first call counts.
	End(why error)
	// Bury waits until nothing of a life that ends is left, and returns why it does.
	Bury() error
	// Drained returns a channel that is closed when all that was sent is with the server. It is called once, when nothing
	// more comes.
	Drained() <-chan struct{}
}

// Config is what a bus is made of.
type Config struct {
	// Open begins a life, which gives what comes to the inbox. It may wait for as long as the server takes to answer, and
	// no longer than ctx, which ends with the bus.
	Open func(ctx context.Context, in *Inbox) (Life, error)
	// Refused says that an error of Open does not pass by itself.
	Refused func(err error) bool
	// Send puts a frame into what waits to be sent: to one node, or with "" to all. Frames are neither empty nor too
	// large. Errors: adapter.ErrDown, adapter.ErrFull.
	Send func(to service.NodeID, frame []byte) error
	Log  *zap.Logger // nil: none
}

// Bus keeps a life going. It is an adapter.Bus, safe for concurrent use.
type Bus struct {
	config Config
	log    *zap.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	in      Inbox
	changed chan struct{}
	ended   sync.WaitGroup
	closing sync.Once
	mu      sync.Mutex // held by Receive, and while Inbox.closed is set
	up      atomic.Bool
	life    atomic.Pointer[Life]
}

// Connect begins the first life. It returns an error when the server refuses this node. When the server cannot be
// reached now, it returns a bus that is down, and that comes up when the server can be reached.
func Connect(c Config) (*Bus, error) {
	b := &Bus{config: c, log: c.Log, changed: make(chan struct{}, 1)}
	if b.log == nil {
		b.log = zap.NewNop()
	}
	b.in.frames = make(chan []byte, inFrames)
	b.ctx, b.cancel = context.WithCancel(context.Background())
	l, err := c.Open(b.ctx, &b.in)
	switch {
	case err == nil:
	case c.Refused(err):
		b.cancel()
		return nil, err
	default:
		l = nil
		b.log.Warn("bus not reached yet", zap.String("setting", "--cluster-url"), zap.Error(err))
	}
	b.begin(l)
	b.ended.Go(func() { b.keep(l) })
	return b, nil
}

// begin is called when a life has begun; nil: it has not.
func (b *Bus) begin(l Life) {
	if l == nil {
		return
	}
	b.life.Store(&l)
	b.setUp(true)
	b.log.Debug("connected")
}

// keep makes the next life when one has ended.
func (b *Bus) keep(l Life) {
	wait := retryWait
	for {
		if l != nil {
			select {
			case <-l.Over():
			case <-b.ctx.Done():
				l.End(b.ctx.Err())
			}
			b.setUp(false)
			if err := l.Bury(); b.ctx.Err() == nil {
				b.log.Debug("connection lost", zap.Error(err)) // that the bus is down, says who uses it
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
		next, err := b.config.Open(b.ctx, &b.in)
		switch {
		case err == nil:
			b.begin(next)
		case b.ctx.Err() != nil:
		case b.config.Refused(err):
			b.log.Warn("bus unusable", zap.String("setting", "--cluster-url"), zap.Error(err))
			wait = recheckEvery
		default:
			b.log.Debug("bus not reached", zap.Error(err))
			wait = min(2*wait, retryMost)
		}
		if l = next; err != nil {
			l = nil
		}
	}
}

func (b *Bus) setUp(up bool) {
	if b.up.Swap(up) != up {
		Poke(b.changed)
	}
}

// Send implements adapter.Bus.
func (b *Bus) Send(to service.NodeID, frame []byte) error {
	if !to.Valid() {
		return adapter.ErrName
	}
	return b.send(to, frame)
}

// SendAll implements adapter.Bus.
func (b *Bus) SendAll(frame []byte) error { return b.send("", frame) }

func (b *Bus) send(to service.NodeID, frame []byte) error {
	switch {
	case len(frame) > MaxFrame:
		return adapter.ErrTooLarge
	case b.in.closed.Load():
		return adapter.ErrClosed
	case !b.up.Load():
		return adapter.ErrDown
	case len(frame) == 0:
		return nil
	}
	return b.config.Send(to, frame)
}

// Receive implements adapter.Bus. What this node listens to stands since the bus is up.
func (b *Bus) Receive(each func(frame []byte)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.in.closed.Load():
		return adapter.ErrClosed
	case b.in.receiving.Swap(true):
		return errors.New("a bus has one receiver")
	}
	b.ended.Go(func() { b.in.deliver(b.ctx, each) })
	return nil
}

// MaxFrame implements adapter.Bus.
func (b *Bus) MaxFrame() int { return MaxFrame }

// Up implements adapter.Bus: the server answers, lets this node send and listen, and gives back what it sends.
func (b *Bus) Up() bool { return b.up.Load() }

// Changed implements adapter.Bus.
func (b *Bus) Changed() <-chan struct{} { return b.changed }

// Lost implements adapter.Bus.
func (b *Bus) Lost() uint64 { return b.in.Lost() }

// Close implements adapter.Bus.
func (b *Bus) Close() error {
	b.closing.Do(func() {
		b.mu.Lock()
		b.in.closed.Store(true)
		b.mu.Unlock()
		if l := b.life.Load(); l != nil && b.up.Load() { // the last word, a goodbye, is to be with the server before this ends
			wait := time.NewTimer(lastTimeout)
			defer wait.Stop()
			select {
			case <-(*l).Drained():
				(*l).End(ErrClosed)
			case <-(*l).Over():
			case <-wait.C:
				(*l).End(errLate)
			}
		}
		b.cancel()
		b.ended.Wait()
		b.setUp(false)
		Poke(b.changed)
	})
	return nil
}

var errLate = errors.New("closed before the server had all that was sent")

// Check says what is wrong with the names of a node and of its cluster, which may have so many letters.
func Check(node service.NodeID, cluster string, most int) error {
	var errs []error
	if !node.Valid() {
		errs = append(errs, fmt.Errorf("%q is no name of a node", node))
	}
	return errors.Join(append(errs, CheckName(cluster, most))...)
}

// CheckName says what is wrong with the name of a cluster.
func CheckName(cluster string, most int) error {
	strange := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}
	if strings.ContainsFunc(cluster, strange) || len(cluster) > most {
		return fmt.Errorf("cluster name %.100q: want letters, digits, -, _ and dots, %d at most", cluster, most)
	}
	return nil
}

// Poke leaves a value in a channel that holds one.
func Poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
