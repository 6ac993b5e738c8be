package redisbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"foyer/service/adapter"
)

// tag marks what a bus has published. Redis gives that back to it, and two nodes of one name have to hear each other.
type tag [8]byte

var ping = appendCommand(nil, "PING")

var (
	errSplit = errors.New("what this node publishes does not come back to it; the URL has to lead to one server, or to nodes of one Redis Cluster")
	errOver  = errors.New("closed")
)

// life is a pair of connections to one server, which live and break together: what is published on the one is heard on
// the other.
type life struct {
	bus      *Bus
	pub, sub *conn
	address  string

	answers atomic.Uint64 // of the server, to what was published
	quiet   chan struct{} // closed when the bus is closed and all is answered
	settle  sync.Once

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

// open makes a life at one of the servers. It waits for as long as dials and answers may take at all of them.
func (b *Bus) open(ctx context.Context) (*life, error) {
	var errs []error
	addresses, err := b.find(ctx)
	if err != nil {
		return nil, judge(err)
	}
	for _, i := range rand.Perm(len(addresses)) {
		address := addresses[i]
		l, err := b.openAt(ctx, address)
		if err == nil {
			return l, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", address, err))
		if ctx.Err() != nil {
			break
		}
	}
	for _, err := range errs {
		if _, refused := errors.AsType[*refusal](err); refused {
			return nil, err
		}
	}
	return nil, errs[0]
}

func (b *Bus) openAt(ctx context.Context, address string) (*life, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	sub, err := b.dial(ctx, address, host, b.enter)
	if err != nil {
		return nil, judge(err)
	}
	l := &life{bus: b, sub: sub, address: address, whole: make(chan struct{}), quiet: make(chan struct{}), over: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(b.ctx)
	// A name can stand for several servers.
	if l.pub, err = b.dial(ctx, sub.RemoteAddr().String(), host, b.enter); err == nil {
		stop := context.AfterFunc(ctx, func() { l.pub.Close(); l.sub.Close() })
		err = l.greet()
		stop()
	}
	if err != nil {
		l.cancel()
		sub.Close()
		if l.pub != nil {
			l.pub.Close()
		}
		return nil, judge(err)
	}
	l.start()
	wait := time.NewTimer(answerTimeout)
	defer wait.Stop()
	select {
	case <-l.whole:
		return l, nil
	case <-ctx.Done():
		l.end(ctx.Err())
	case <-wait.C:
		l.end(errSplit)
	case <-l.over:
	}
	l.ended.Wait()
	return nil, judge(l.err)
}

// greet subscribes, and publishes what is to come back. Both say whether this user may.
func (l *life) greet() error {
	b := l.bus
	deadline := time.Now().Add(answerTimeout)
	if err := errors.Join(l.sub.SetWriteDeadline(deadline), l.pub.SetWriteDeadline(deadline)); err != nil {
		return err
	}
	for _, channel := range []string{b.all, b.own} {
		if _, err := l.sub.Write(appendCommand(nil, "SUBSCRIBE", channel)); err != nil {
			return err
		}
		if err := l.await("subscribe"); err != nil {
			return b.permission(err, "subscribe to "+channel)
		}
	}
	if _, err := l.sub.Write(ping); err != nil {
		return err
	}
	if err := l.await("pong"); err != nil {
		return b.permission(err, "PING")
	}
	for _, channel := range []string{b.all, b.own} {
		if _, err := l.pub.Write(appendCommand(nil, "PUBLISH", channel, string(b.tag[:]))); err != nil {
			return err
		}
		if err := l.pub.ok(); err != nil {
			return b.permission(err, "publish to "+channel)
		}
	}
	if len(b.servers.Addresses) > 1 && b.servers.Master == "" {
		if err := l.clustered(); err != nil {
			return err
		}
	}
	return errors.Join(l.sub.SetWriteDeadline(time.Time{}), l.pub.SetWriteDeadline(time.Time{}))
}

// await reads until the server says that something is done; messages may come before.
func (l *life) await(what string) error {
	for {
		parts, kind, err := l.sub.push()
		if err != nil {
			return err
		}
		found := string(kind) == what
		if !found && string(kind) != "message" {
			return errProtocol
		}
		if err := l.sub.skip(parts - 1); err != nil || found {
			return err
		}
	}
}

// permission says what a user has to be allowed.
func (b *Bus) permission(err error, what string) error {
	answer, ok := errors.AsType[serverError](err)
	switch {
	case ok && answer.word() == "NOPERM":
		return fmt.Errorf("the Redis server does not let this user %s, and Foyer needs SUBSCRIBE, PUBLISH and PING with %s and %s*: %w",
			what, b.all, b.to, err)
	case ok:
		return fmt.Errorf("%s: %w", what, err)
	}
	return err
}

// start begins what a life does until it ends.
func (l *life) start() {
	b := l.bus
	l.echoed.Store(time.Now().UnixNano())
	b.out.begin()
	for _, run := range []func() error{
		l.hear, l.read, l.probe, l.follow, func() error { return b.out.write(l.pub, l.over) },
	} {
		l.ended.Go(func() { l.end(run()) })
	}
}

// end breaks both connections. What was not published is lost.
func (l *life) end(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.over)
		l.cancel()
		l.bus.lost.Add(uint64(l.bus.out.end()))
		l.pub.Close()
		l.sub.Close()
	})
}

// hear takes what comes on the channels.
func (l *life) hear() error {
	for {
		parts, kind, err := l.sub.push()
		switch {
		case err != nil:
		case string(kind) == "message" && parts == 3:
			err = l.message()
		default:
			err = l.sub.skip(parts - 1) // the answer to a PING
		}
		if err != nil {
			return l.bus.permission(err, "listen")
		}
	}
}

// message reads the channel of a message, its tag and its frame. What is no frame of another node is not kept.
func (l *life) message() error {
	b := l.bus
	channel, err := l.sub.word()
	if err != nil {
		return err
	}
	toAll := string(channel) == b.all
	n, err := l.sub.header('$')
	switch {
	case err != nil:
		return err
	case n < 0:
		return errProtocol
	case n > len(b.tag)+maxFrame:
		b.lost.Add(1)
		return l.sub.pass(n)
	case n < len(b.tag):
		return l.sub.pass(n)
	}
	from, err := l.sub.Peek(len(b.tag))
	if err != nil {
		return err
	}
	own := string(from) == string(b.tag[:])
	size := n - len(b.tag)
	if own && size == 0 {
		l.echo(toAll)
	}
	if own || !b.wants(size) {
		return l.sub.pass(n)
	}
	if _, err := l.sub.Discard(len(b.tag)); err != nil {
		return err
	}
	frame := make([]byte, size)
	if err := l.sub.full(frame); err != nil {
		return err
	}
	b.put(frame)
	return l.sub.pass(0)
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

// read takes the server's answers to what is published: how many heard it, or an error.
func (l *life) read() error {
	for {
		if err := l.pub.ok(); err != nil {
			return l.bus.permission(err, "publish")
		}
		l.answers.Add(1)
		l.settled()
	}
}

// settled looks whether a bus that is closed has the server's answers to all that it sent.
func (l *life) settled() {
	if b := l.bus; b.closed.Load() && l.answers.Load() >= b.out.commands() {
		l.settle.Do(func() { close(l.quiet) })
	}
}

// probe has both connections say something now and then. What is published to this node itself shows also that the one
// still leads to the other.
func (l *life) probe() error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.over:
			return errOver
		case <-tick.C:
		}
		if err := l.bus.out.publish(l.bus.heads.own, "", &l.bus.tag, nil); err != nil && !errors.Is(err, adapter.ErrFull) {
			return err
		}
		if _, err := l.sub.Write(ping); err != nil {
			return err
		}
		if time.Since(time.Unix(0, l.echoed.Load())) > splitAfter {
			return errSplit
		}
	}
}
