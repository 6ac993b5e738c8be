package classic

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// follows is a namespace that is followed.
type follows struct {
	on      bool                // it is to be
	is      bool                // this life has subscribed to it
	pending map[string]struct{} // what is not confirmed yet
	heard   chan struct{}
}

// confirm tells those who wait for it that a namespace is heard, or cannot be now.
func (f *follows) confirm() {
	select {
	case <-f.heard:
	default:
		close(f.heard)
	}
}

// place says what comes on a channel.
type place struct {
	namespace string
	kind      kind
}

type kind uint8

const (
	broadcasts kind = iota
	requests
	responses
	marker
	ancient // of emitters that nobody understands any more
)

// channels are what a namespace is subscribed to.
func (m *Medium) channels(namespace string) (plain map[string]kind, pattern string) {
	unfinished, unfinishedRequests := m.names.Unfinished(namespace)
	return map[string]kind{
		m.names.Requests(namespace): requests,
		unfinished:                  broadcasts, unfinishedRequests: requests, m.marker(namespace): marker,
	}, m.names.Pattern(namespace)
}

// Follow implements bridge.Medium.
func (m *Medium) Follow(namespace string, on bool) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.follows[namespace]
	if f == nil {
		f = &follows{heard: make(chan struct{})}
		m.follows[namespace] = f
	}
	f.on = on
	switch {
	case m.live:
		if !slices.Contains(m.changes, namespace) {
			m.changes = append(m.changes, namespace)
			poke(m.changed)
		}
	case on:
		f.confirm() // the next life says it
	default:
		m.forgetLocked(namespace, f)
	}
	return f.heard
}

// forgetLocked ends what is known of a namespace that nobody follows any more.
func (m *Medium) forgetLocked(namespace string, f *follows) {
	plain, pattern := m.channels(namespace)
	for channel := range plain {
		delete(m.places, channel)
	}
	delete(m.places, pattern)
	delete(m.follows, namespace)
	f.confirm()
}

// enterLocked notes that a namespace is about to be subscribed to, and returns by which names.
func (m *Medium) enterLocked(namespace string, f *follows) (names []string, pattern string) {
	plain, pattern := m.channels(namespace)
	f.is, f.pending = true, map[string]struct{}{pattern: {}}
	m.places[pattern] = place{namespace, broadcasts}
	for channel, kind := range plain {
		m.places[channel] = place{namespace, kind}
		f.pending[channel] = struct{}{}
		names = append(names, channel)
	}
	return names, pattern
}

// listen lives one life after the other, until Close. first is closed when the first one has begun, or has come to
// nothing.
func (m *Medium) listen(first chan struct{}) {
	wait := retryWait
	for m.ctx.Err() == nil {
		began := time.Now()
		err := m.liveOnce(func() {
			if first != nil {
				close(first)
				first = nil
			}
		})
		if first != nil {
			close(first)
			first = nil
		}
		if m.ctx.Err() != nil {
			return
		}
		m.log.Warn("servers on Node are not heard", zap.Error(err))
		if time.Since(began) > retryMost {
			wait = retryWait
		}
		pause := time.NewTimer(wait/2 + rand.N(wait)) // all nodes lose a server at the same moment
		select {
		case <-pause.C:
		case <-m.ctx.Done():
			pause.Stop()
		}
		wait = min(2*wait, retryMost)
	}
}

// life is one connection that hears.
type life struct {
	*Medium
	client  *redis.Client
	sub     *redis.PubSub
	address string
	heard   atomic.Int64 // when something came last, in nanoseconds since the epoch
	over    chan struct{}
}

// liveOnce lives one life and returns why it has ended. begun is called when its subscriptions are said.
func (m *Medium) liveOnce(begun func()) error {
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	m.clustered(ctx)
	address, err := m.where(ctx)
	if err != nil {
		m.away.Store(true)
		return err
	}
	l := &life{Medium: m, client: m.at(address), address: address, over: make(chan struct{})}
	l.sub = l.client.Subscribe(m.ctx)
	defer l.client.Close()
	defer l.sub.Close()
	l.heard.Store(time.Now().UnixNano())
	if err := l.begin(ctx); err != nil {
		m.lose(false)
		return err
	}
	m.log.Debug("servers on Node are heard", zap.String("server", address))
	m.away.Store(false)
	begun()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.change()
	}()
	for err == nil {
		err = l.receive()
	}
	close(l.over)
	_ = l.sub.Close()
	<-ended
	m.lose(true)
	return err
}

// begin says all subscriptions.
func (l *life) begin(ctx context.Context) error {
	l.mu.Lock()
	patterns, names := make([]string, 0, 1+len(l.follows)), []string(nil)
	patterns = append(patterns, l.names.AllResponses())
	for namespace, f := range l.follows {
		plain, pattern := l.enterLocked(namespace, f)
		patterns, names = append(patterns, pattern), append(names, plain...)
	}
	names = append(names, l.names.Ancient())
	l.changes, l.live = nil, true
	l.mu.Unlock()
	return l.subscribe(ctx, patterns, names)
}

// subscribe subscribes to patterns before names: so a node that is counted hears broadcasts. The names of a namespace
// are one command, so that no server counts a node that it takes for a peer.
func (l *life) subscribe(ctx context.Context, patterns, names []string) error {
	err := l.sub.PSubscribe(ctx, patterns...)
	if err == nil && len(names) > 0 {
		err = l.sub.Subscribe(ctx, names...)
	}
	return err
}

// lose notes that a life has ended, or has come to nothing.
func (m *Medium) lose(heard bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live = false
	m.away.Store(true)
	m.settling = time.Now().Add(settleFor)
	if heard && m.ctx.Err() == nil {
		m.dropped["gap"]++
	}
	for namespace, f := range m.follows {
		if f.is = false; f.on {
			f.confirm()
		} else {
			m.forgetLocked(namespace, f)
		}
	}
}

// receive takes the next thing that comes.
func (l *life) receive() error {
	something, err := l.sub.Receive(l.ctx)
	var answer redis.Error
	switch {
	case errors.As(err, &answer):
		if told := l.refusal("listen", err); told != nil {
			err = told
		}
		l.log.Warn("subscription refused", zap.Error(err))
		l.confirmAll()
	case err != nil:
		return err
	}
	l.heard.Store(time.Now().UnixNano())
	switch something := something.(type) {
	case *redis.Subscription:
		if something.Kind == "subscribe" || something.Kind == "psubscribe" {
			l.confirmed(something.Channel)
		}
	case *redis.Message:
		l.take(something)
	}
	return nil
}

// confirmed notes that the server has taken a subscription.
func (m *Medium) confirmed(channel string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.follows[m.places[channel].namespace]
	if f == nil {
		return
	}
	if delete(f.pending, channel); len(f.pending) == 0 {
		f.confirm()
	}
}

// confirmAll lets go of those who wait for what the server has refused; it does not say which that was.
func (m *Medium) confirmAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.follows {
		if f.is {
			f.confirm()
		}
	}
}

// change subscribes and unsubscribes, and looks after the connection, until the life is over.
func (l *life) change() {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	asked := time.Now()
	for {
		var err error
		select {
		case <-l.ctx.Done():
			err = l.ctx.Err()
		case <-l.over:
			return
		case <-l.changed:
			err = l.changeAll()
		case <-tick.C:
			if time.Since(time.Unix(0, l.heard.Load())) > silentFor {
				err = errors.New("the server is silent")
				break
			}
			ctx, stop := context.WithTimeout(l.ctx, probeEvery)
			if time.Since(asked) > moveEvery {
				asked = time.Now()
				if now, e := l.where(ctx); e == nil && now != l.address {
					err = errors.New("another server is the master: " + now)
				}
			}
			if err == nil {
				err = l.sub.Ping(ctx)
			}
			stop()
		}
		if err != nil {
			if l.ctx.Err() == nil {
				l.log.Debug("connection given up", zap.String("server", l.address), zap.Error(err))
			}
			_ = l.sub.Close() // receive ends by that
			return
		}
	}
}

// changeAll says what has changed since the life began.
func (l *life) changeAll() error {
	for {
		l.mu.Lock()
		if len(l.changes) == 0 {
			l.mu.Unlock()
			return nil
		}
		namespace := l.changes[0]
		l.changes = l.changes[1:]
		f := l.follows[namespace]
		if f == nil {
			l.mu.Unlock()
			continue
		}
		on, was := f.on, f.is
		var names []string
		var pattern string
		switch {
		case on && !was:
			names, pattern = l.enterLocked(namespace, f)
		case !on:
			plain, p := l.channels(namespace)
			for channel := range plain {
				names = append(names, channel)
			}
			pattern = p
			l.forgetLocked(namespace, f)
		}
		l.mu.Unlock()
		ctx, stop := context.WithTimeout(l.ctx, l.cfg.callTimeout)
		var err error
		switch {
		case on && !was:
			err = l.subscribe(ctx, []string{pattern}, names)
		case !on && was:
			if err = l.sub.Unsubscribe(ctx, names...); err == nil {
				err = l.sub.PUnsubscribe(ctx, pattern)
			}
		}
		stop()
		if err != nil {
			return err
		}
	}
}
