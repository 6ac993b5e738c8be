package pgbus

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"foyer/service/adapter/lives"
	"foyer/service/adapter/pgdial"
)

var errSplit = errors.New("what this node publishes does not come back to it; the URL has to lead to one server, and not to a pooler that lends sessions to statements")

// The channels by which what this node publishes comes back to it.
const (
	toAll = iota
	toSelf
	bothWays
)

// life is a pair of connections to one server, which live and break together: what is published on the one is heard on
// the other.
type life struct {
	lives.Course

	bus      *Bus
	in       *lives.Inbox
	pub, sub *pgdial.Conn
	joiner   joiner        // owned by hear
	drain    atomic.Bool   // set by Drained
	quiet    chan struct{} // closed when that is so, and all is published
}

// open makes a life. It waits for as long as dials and answers may take.
func (b *Bus) open(ctx context.Context, in *lives.Inbox) (lives.Life, error) {
	if b.refuse.Load() {
		return nil, net.ErrClosed
	}
	l := &life{bus: b, in: in, quiet: make(chan struct{})}
	l.joiner = joiner{map[tag]*begun{}, func() { in.Lose(1) }}
	l.Begin(ctx, bothWays, errSplit, l.breaks)
	if err := l.greet(); err != nil {
		l.End(err)
		_ = l.Bury()
		return nil, pgdial.Judge(err)
	}
	b.out.begin()
	_ = b.out.publish(b.all, "", nil)
	_ = b.out.publish(b.own, "", nil)
	l.Run(l.hear, l.write, l.probe)
	if err := l.Whole(b.callTimeout); err != nil {
		if _ = l.Bury(); errors.Is(err, errSplit) {
			return nil, err
		}
		return nil, pgdial.Judge(err)
	}
	b.now.Store(l)
	return l, nil
}

// greet makes the connections and listens.
func (l *life) greet() (err error) {
	b := l.bus
	name := "foyer-" + string(b.self)
	if l.sub, err = b.server.Dial(l.Context, pgdial.Options{Name: name + " listens", Notified: l.notified}); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(l.Context, b.callTimeout)
	defer stop()
	if err := l.sub.Do(ctx, "LISTEN "+pgdial.Quote(b.all)+"; LISTEN "+pgdial.Quote(b.own)); err != nil {
		return err
	}
	if l.pub, err = b.server.Dial(l.Context, pgdial.Options{Name: name + " publishes"}); err != nil {
		return err
	}
	return l.pub.PrepareNotify(ctx)
}

// breaks has the loops end. What was not published is lost.
func (l *life) breaks(why error) {
	l.in.Lose(l.bus.out.end())
	if errors.Is(why, lives.ErrClosed) { // nothing is on its way: Bury says goodbye
		l.sub.Wake()
		return
	}
	l.each((*pgdial.Conn).Break)
}

// Bury implements lives.Life.
func (l *life) Bury() error {
	err := l.Course.Bury()
	l.each((*pgdial.Conn).End)
	return err
}

// each does something with the connections that there are.
func (l *life) each(do func(*pgdial.Conn)) {
	for _, c := range []*pgdial.Conn{l.sub, l.pub} {
		if c != nil {
			do(c)
		}
	}
}

// Drained implements lives.Life.
func (l *life) Drained() <-chan struct{} {
	l.drain.Store(true)
	lives.Poke(l.bus.out.filled)
	return l.quiet
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
		way := toSelf
		if n.Channel == l.bus.all {
			way = toAll
		}
		l.Echo(way)
	} else if frame := l.joiner.add(n.Payload); frame != nil && l.in.Wants(len(frame)) {
		l.in.Put(frame)
	}
}

// write publishes what waits.
func (l *life) write() error {
	b := l.bus
	for {
		select {
		case <-l.Over():
			return nil
		case <-b.out.filled:
		}
		for x := b.out.take(); x != nil; x = b.out.take() {
			ctx, stop := context.WithTimeout(l.Context, b.callTimeout)
			err := l.pub.Notify(ctx, &x.Batch)
			stop()
			if err != nil {
				l.in.Lose(x.frames)
			}
			if b.out.written(x); err != nil {
				return err
			}
		}
		if l.drain.Load() {
			close(l.quiet)
			<-l.Over()
			return nil
		}
	}
}

// probe publishes something for this node itself when nothing of its own came back for a while, which shows that the
// one connection still leads to the other.
func (l *life) probe() error {
	return l.Probe(probeEvery/2, func(silent time.Duration) error {
		if silent < probeEvery {
			return nil
		}
		return l.bus.out.publish(l.bus.own, "", nil)
	})
}
