package sharded

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// silentFor is for how long a connection may say nothing. It is asked for something more often.
const silentFor = 5 * time.Second

var (
	errLess = errors.New("the server knows of fewer subscriptions than it has confirmed")
	errIdle = errors.New("nothing is wanted from it any more")
)

// ear is a connection to one server, on which channels are heard. It ends with the first fault.
type ear struct {
	server *redis.Client // by which the server is asked everything else
	client *redis.Client // of this one connection
	sub    *redis.PubSub

	// Guarded by Medium.mu.
	placed   map[string]bool // channels that were asked for here; true: the server has confirmed it
	standing int             // of those, confirmed
	over     bool
}

// earLocked returns the ear at a server, which is made when there is none.
func (m *Medium) earLocked(server *redis.Client) *ear {
	e := m.ears[server]
	if e == nil {
		client := m.earClient(server.Options().Addr)
		e = &ear{server: server, client: client, sub: client.Subscribe(m.ctx), placed: map[string]bool{}}
		m.ears[server] = e
		m.ended.Go(func() { m.hear(e) })
	}
	return e
}

// hear takes what comes until the connection ends. It never waits for the bridge: Redis would end a connection that is
// not read.
func (m *Medium) hear(e *ear) {
	for {
		got, err := e.sub.ReceiveTimeout(m.ctx, silentFor)
		var refusal redis.Error
		switch {
		case errors.As(err, &refusal):
			m.refused(e, err)
		case err != nil:
			m.giveUp(e, err)
			return
		}
		switch said := got.(type) {
		case *redis.Subscription:
			if !m.confirmed(e, said) {
				m.giveUp(e, errLess)
				return
			}
		case *redis.Message:
			m.take(said)
		}
	}
}

// refused is called when the server does not do what it was asked for, most often since the slot is another server's.
// It does not say for which channel: those that it has not confirmed are asked for again by the audit.
func (m *Medium) refused(e *ear, err error) {
	m.mu.Lock()
	m.troubleLocked()
	m.mu.Unlock()
	fields := []zap.Field{zap.String("server", e.server.Options().Addr), zap.Error(err)}
	if redis.HasErrorPrefix(err, "NOPERM") {
		m.log.Warn("the Redis server does not let this user hear a channel: servers on Node are not heard there (--cluster-url)", fields...)
		return
	}
	m.log.Debug("subscription refused", fields...)
}

// confirmed takes the server's word of a subscription, asked for or not. false: it has lost some.
func (m *Medium) confirmed(e *ear, s *redis.Subscription) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.over {
		return true
	}
	p := m.places[s.Channel]
	here := p != nil && p.at == e
	switch stood := e.placed[s.Channel]; s.Kind {
	case "ssubscribe":
		if !stood {
			e.standing++
			e.placed[s.Channel] = true
		}
		if here {
			p.stands = true
			p.release()
		}
	case "sunsubscribe":
		if stood {
			e.standing--
		}
		delete(e.placed, s.Channel)
		if here { // the slot is another server's now
			m.downLocked(p)
		}
	}
	return s.Count >= e.standing
}

// giveUp ends an ear. All that it heard is to be heard by another one.
func (m *Medium) giveUp(e *ear, err error) {
	m.mu.Lock()
	if e.over {
		m.mu.Unlock()
		return
	}
	e.over = true
	delete(m.ears, e.server)
	n := 0
	for channel := range e.placed {
		if n++; n%lockedMost == 0 {
			m.mu.Unlock()
			m.mu.Lock()
		}
		if p := m.places[channel]; p != nil && p.at == e {
			p.release() // it cannot be had now
			m.downLocked(p)
		}
	}
	gap := m.ctx.Err() == nil && e.standing > 0 && !errors.Is(err, errIdle)
	if gap {
		m.dropped["gap"]++
		m.unheard = true
		m.away.Store(true)
	}
	m.mu.Unlock()
	_ = errors.Join(e.sub.Close(), e.client.Close())
	if gap {
		m.log.Warn("servers on Node are not heard", zap.String("server", e.server.Options().Addr), zap.Int("channels", n), zap.Error(err))
	}
}

// ask has a server say that a channel is subscribed to. It is asked for one channel at a time, since those of one
// command have to be of one slot.
func (m *Medium) ask(e *ear, channel string) error {
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	err := e.sub.SSubscribe(ctx, channel)
	if err != nil {
		m.giveUp(e, err)
	}
	return err
}

// leave ends a subscription.
func (m *Medium) leave(e *ear, channel string) {
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	if err := e.sub.SUnsubscribe(ctx, channel); err != nil {
		m.giveUp(e, err)
	}
}
