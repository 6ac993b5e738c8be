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

	"go.uber.org/zap"

	"foyer/service/adapter/lives"
)

// tag marks what a bus has published. Redis gives that back to it, and two nodes of one name have to hear each other.
type tag [8]byte

var ping = appendCommand(nil, "PING")

var errSplit = errors.New("what this node publishes does not come back to it; the URL has to lead to one server, or to nodes of one Redis Cluster")

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
	pub, sub *conn
	address  string

	answers atomic.Uint64 // of the server, to what was published
	asked   atomic.Bool   // by Drained
	quiet   chan struct{} // closed when that is so, and all is answered
	settle  sync.Once
}

// open makes a life at one of the servers. It waits for as long as dials and answers may take at all of them.
func (b *Bus) open(ctx context.Context, in *lives.Inbox) (lives.Life, error) {
	var errs []error
	addresses, err := b.find(ctx)
	if err != nil {
		return nil, judge(err)
	}
	for _, i := range rand.Perm(len(addresses)) {
		address := addresses[i]
		l, err := b.openAt(ctx, in, address)
		if err == nil {
			b.now.Store(l)
			b.log.Debug("server taken", zap.String("server", address))
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

func (b *Bus) openAt(ctx context.Context, in *lives.Inbox, address string) (*life, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	sub, err := b.dial(ctx, address, host, b.enter)
	if err != nil {
		return nil, judge(err)
	}
	l := &life{bus: b, in: in, sub: sub, address: address, quiet: make(chan struct{})}
	// A name can stand for several servers.
	if l.pub, err = b.dial(ctx, sub.RemoteAddr().String(), host, b.enter); err == nil {
		stop := context.AfterFunc(ctx, func() { l.pub.Close(); l.sub.Close() })
		err = l.greet()
		stop()
	}
	if err != nil {
		sub.Close()
		if l.pub != nil {
			l.pub.Close()
		}
		return nil, judge(err)
	}
	l.Begin(ctx, bothWays, errSplit, l.breaks)
	b.out.begin()
	l.Run(l.hear, l.read, l.probe, l.follow, func() error { return b.out.write(l.pub, l.Over()) })
	if err := l.Whole(b.callTimeout); err != nil {
		_ = l.Bury()
		return nil, judge(err)
	}
	return l, nil
}

// greet subscribes, and publishes what is to come back. Both say whether this user may.
func (l *life) greet() error {
	b := l.bus
	deadline := time.Now().Add(b.callTimeout)
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

// breaks breaks both connections. What was not published is lost.
func (l *life) breaks(error) {
	l.in.Lose(l.bus.out.end())
	l.pub.Close()
	l.sub.Close()
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
	way := toSelf
	if string(channel) == b.all {
		way = toAll
	}
	n, err := l.sub.header('$')
	switch {
	case err != nil:
		return err
	case n < 0:
		return errProtocol
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
		l.Echo(way)
	}
	if own || !l.in.Wants(size) {
		return l.sub.pass(n)
	}
	if _, err := l.sub.Discard(len(b.tag)); err != nil {
		return err
	}
	frame := make([]byte, size)
	if err := l.sub.full(frame); err != nil {
		return err
	}
	l.in.Put(frame)
	return l.sub.pass(0)
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

// settled looks whether the server's answers are there to all that was sent, once nothing more comes.
func (l *life) settled() {
	if l.asked.Load() && l.answers.Load() >= l.bus.out.commands() {
		l.settle.Do(func() { close(l.quiet) })
	}
}

// Drained implements lives.Life.
func (l *life) Drained() <-chan struct{} {
	l.asked.Store(true)
	l.settled()
	return l.quiet
}

// probe has both connections say something now and then. What is published to this node itself shows also that the one
// still leads to the other.
func (l *life) probe() error {
	return l.Probe(probeEvery, func(time.Duration) error {
		if err := l.bus.out.publish(l.bus.heads.own, "", &l.bus.tag, nil); err != nil {
			return err
		}
		_, err := l.sub.Write(ping)
		return err
	})
}
