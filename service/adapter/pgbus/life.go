package pgbus

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"foyer/service/adapter"
	"foyer/service/adapter/pgdial"
)

var (
	errSplit  = errors.New("what this node publishes does not come back to it; the URL has to lead to one server, and not to a pooler that lends sessions to statements")
	errOver   = errors.New("the connection is given up")
	errClosed = errors.New("closed")
)

// life is a pair of connections to one server, which live and break together: what is published on the one is heard on
// the other.
type life struct {
	bus      *Bus
	pub, sub *pgdial.Conn
	quiet    chan struct{} // closed when the bus is closed and all is published

	joiner        joiner        // owned by hear
	toAll, toSelf bool          // owned by hear: what this node published has come back
	whole         chan struct{} // closed when both have
	echoed        atomic.Int64  // when that was last, in nanoseconds since the epoch

	ctx    context.Context // ends with this life
	cancel context.CancelFunc

	over  chan struct{} // closed by end
	once  sync.Once
	err   error // set before over is closed
	ended sync.WaitGroup
}

// open makes a life. It waits for as long as dials and answers may take.
func (b *Bus) open() (*life, error) {
	if b.refuse.Load() {
		return nil, net.ErrClosed
	}
	l := &life{bus: b, whole: make(chan struct{}), quiet: make(chan struct{}), over: make(chan struct{})}
	l.joiner = joiner{map[tag]*begun{}, func() { b.lost.Add(1) }}
	l.ctx, l.cancel = context.WithCancel(b.ctx)
	if err := l.greet(); err != nil {
		l.cancel()
		for _, c := range []*pgdial.Conn{l.sub, l.pub} {
			if c != nil {
				c.Break()
				c.End()
			}
		}
		return nil, pgdial.Judge(err)
	}
	l.start()
	wait := time.NewTimer(answerTimeout)
	defer wait.Stop()
	select {
	case <-l.whole:
		return l, nil
	case <-b.ctx.Done():
		l.end(b.ctx.Err())
	case <-wait.C:
		l.end(errSplit)
	case <-l.over:
	}
	l.buried()
	if errors.Is(l.err, errSplit) {
		return nil, l.err
	}
	return nil, pgdial.Judge(l.err)
}

// greet makes the connections and listens.
func (l *life) greet() (err error) {
	b := l.bus
	name := "foyer-" + string(b.self)
	if l.sub, err = b.server.Dial(l.ctx, pgdial.Options{Name: name + " listens", Notified: l.notified}); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(l.ctx, answerTimeout)
	defer stop()
	if err := l.sub.Do(ctx, "LISTEN "+pgdial.Quote(b.all)+"; LISTEN "+pgdial.Quote(b.own)); err != nil {
		return err
	}
	if l.pub, err = b.server.Dial(l.ctx, pgdial.Options{Name: name + " publishes"}); err != nil {
		return err
	}
	return l.pub.PrepareNotify(ctx)
}

// start begins what a life does until it ends, and publishes what is to come back.
func (l *life) start() {
	b := l.bus
	l.echoed.Store(time.Now().UnixNano())
	b.out.begin()
	_ = b.out.publish(b.all, "", nil)
	_ = b.out.publish(b.own, "", nil)
	for _, run := range []func() error{l.hear, l.write, l.probe} {
		l.ended.Go(func() { l.end(run()) })
	}
}

// end has a life end. What was not published is lost.
func (l *life) end(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.over)
		l.bus.lost.Add(uint64(l.bus.out.end()))
		if errors.Is(err, errClosed) { // nothing is on its way: buried says goodbye
			l.sub.Wake()
		} else {
			l.pub.Break()
			l.sub.Break()
		}
		l.cancel()
	})
}

// buried waits until nothing of a life that ends is left.
func (l *life) buried() {
	l.ended.Wait()
	l.sub.End()
	l.pub.End()
}

// hear takes what comes on the channels, by notified.
func (l *life) hear() error {
	for {
		if err := l.sub.WaitForNotification(context.Background()); err != nil {
			return err
		}
	}
}

// notified takes one notification.
func (l *life) notified(n *pgconn.Notification) {
	if len(n.Payload) >= tagText && n.Payload[:tagText] == string(l.bus.out.tag[:]) {
		l.echo(n.Channel == l.bus.all)
	} else if frame := l.joiner.add(n.Payload); frame != nil {
		l.bus.put(frame)
	}
}

// echo notes that something of this node's own has come back.
func (l *life) echo(toAll bool) {
	l.echoed.Store(time.Now().UnixNano())
	before := l.toAll && l.toSelf
	l.toAll, l.toSelf = l.toAll || toAll, l.toSelf || !toAll
	if !before && l.toAll && l.toSelf {
		close(l.whole)
	}
}

// write publishes what waits.
func (l *life) write() error {
	b := l.bus
	for {
		select {
		case <-l.over:
			return errOver
		case <-b.out.filled:
		}
		for x := b.out.take(); x != nil; x = b.out.take() {
			ctx, stop := context.WithTimeout(l.ctx, answerTimeout)
			err := l.pub.Notify(ctx, &x.Batch)
			stop()
			if err != nil {
				b.lost.Add(uint64(x.frames))
			}
			if b.out.written(x); err != nil {
				return err
			}
		}
		if b.closed.Load() {
			close(l.quiet)
			<-l.over
			return errOver
		}
	}
}

// probe publishes something for this node itself when nothing of its own came back for a while, which shows that the
// one connection still leads to the other.
func (l *life) probe() error {
	tick := time.NewTicker(probeEvery / 2)
	defer tick.Stop()
	for {
		select {
		case <-l.over:
			return errOver
		case <-tick.C:
		}
		silent := time.Since(time.Unix(0, l.echoed.Load()))
		switch {
		case silent > splitAfter:
			return errSplit
		case silent >= probeEvery:
			if err := l.bus.out.publish(l.bus.own, "", nil); err != nil && !errors.Is(err, adapter.ErrFull) {
				return err
			}
		}
	}
}
