package classic

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/official"
)

// Follow implements bridge.Medium.
func (m *Medium) Follow(namespace string, on bool) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.follows[namespace]
	if f == nil {
		f = &follows{heard: make(chan struct{})}
		m.follows[namespace] = f
	}
	if f.on = on; !slices.Contains(m.changes, namespace) {
		m.changes = append(m.changes, namespace)
		poke(m.changed)
	}
	if m.ctx.Err() != nil {
		f.confirm()
	}
	return f.heard
}

// confirm tells those who wait for it that a namespace is heard.
func (f *follows) confirm() {
	select {
	case <-f.heard:
	default:
		close(f.heard)
	}
}

// change subscribes and unsubscribes, until Close.
func (m *Medium) change() {
	if err := m.sub.PSubscribe(m.ctx, m.names.AllResponses()); err != nil && m.ctx.Err() == nil {
		m.log.Warn("subscriptions not changed yet", zap.Error(err))
	}
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.changed:
		}
		for {
			m.mu.Lock()
			if len(m.changes) == 0 {
				m.mu.Unlock()
				break
			}
			namespace := m.changes[0]
			m.changes = m.changes[1:]
			f := m.follows[namespace]
			on, was := f.on, f.is
			f.is = on
			plain, pattern := m.channels(namespace)
			names := make([]string, 0, len(plain))
			for channel, kind := range plain {
				names = append(names, channel)
				if on {
					m.places[channel] = place{namespace, kind}
				} else {
					delete(m.places, channel)
				}
			}
			switch {
			case on && !was:
				m.places[pattern] = place{namespace, broadcasts}
				f.waiting = len(names) + 1
			case !on:
				delete(m.places, pattern)
				f.confirm()
				delete(m.follows, namespace)
			}
			m.mu.Unlock()
			if on != was {
				m.subscribe(on, names, pattern)
			}
		}
	}
}

// subscribe changes subscriptions. What the server does not hear now, the library says again when there is a connection.
func (m *Medium) subscribe(on bool, names []string, pattern string) {
	ctx, stop := context.WithTimeout(m.ctx, callTimeout)
	defer stop()
	var err error
	if on {
		if err = m.sub.PSubscribe(ctx, pattern); err == nil {
			err = m.sub.Subscribe(ctx, names...) // last: who is counted hears broadcasts
		} else {
			_ = m.sub.Subscribe(ctx, names...)
		}
	} else {
		if err = m.sub.Unsubscribe(ctx, names...); err == nil {
			err = m.sub.PUnsubscribe(ctx, pattern)
		} else {
			_ = m.sub.PUnsubscribe(ctx, pattern)
		}
	}
	if err != nil && m.ctx.Err() == nil {
		m.log.Warn("subscriptions not changed yet", zap.Error(err))
	}
}

const messageOverhead = 256 // bytes that a message takes beside its own

// inbox is what waits for the bridge.
type inbox struct {
	filled chan struct{}

	mu    sync.Mutex
	list  []*redis.Message // guarded by mu
	bytes int              // guarded by mu
}

// listen reads what comes, until Close. It never waits for the bridge: Redis would end a connection that is not read.
func (m *Medium) listen() {
	for something := range m.sub.ChannelWithSubscriptions(
		redis.WithChannelSize(channelSize), redis.WithChannelHealthCheckInterval(healthEvery), redis.WithChannelSendTimeout(time.Minute)) {
		switch message := something.(type) {
		case *redis.Subscription:
			if message.Kind == "subscribe" || message.Kind == "psubscribe" {
				m.confirmed(message.Channel)
			}
		case *redis.Message:
			m.take(message)
		}
	}
}

// confirmed notes that the server has taken a subscription.
func (m *Medium) confirmed(channel string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.follows[m.places[channel].namespace]
	if f == nil {
		return
	}
	if f.waiting--; f.waiting == 0 {
		f.confirm()
	}
}

// take keeps a message for the bridge.
func (m *Medium) take(message *redis.Message) {
	if m.ourBroadcast(message.Payload) {
		return
	}
	switch size := len(message.Payload) + messageOverhead; {
	case size > m.cfg.MaxBytes+messageOverhead:
		m.drop(official.TooLarge.Reason(), message.Channel, nil)
		return
	default:
		m.in.mu.Lock()
		full := m.in.bytes > 0 && m.in.bytes+size > inBytes
		if !full {
			m.in.list = append(m.in.list, message)
			m.in.bytes += size
		}
		m.in.mu.Unlock()
		if full {
			m.drop("busy", message.Channel, nil)
			return
		}
		poke(m.in.filled)
	}
}

// deliver gives what came to the bridge, until Close.
func (m *Medium) deliver(each func(*official.Message)) {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.in.filled:
		}
		m.in.mu.Lock()
		list := m.in.list
		m.in.list = nil
		m.in.mu.Unlock()
		for _, message := range list {
			if m.ctx.Err() != nil {
				return
			}
			if read := m.read(message); read != nil {
				each(read)
			}
			m.in.mu.Lock()
			m.in.bytes -= len(message.Payload) + messageOverhead
			m.in.mu.Unlock()
		}
	}
}

// read reads a message by where it came; nil: it was dropped.
func (m *Medium) read(message *redis.Message) (read *official.Message) {
	at := message.Channel
	if message.Pattern != "" {
		at = message.Pattern
	}
	m.mu.Lock()
	p, ok := m.places[at]
	m.mu.Unlock()
	if !ok || p.kind == marker {
		return nil
	}
	var fault official.Fault
	switch text := []byte(message.Payload); p.kind {
	case requests:
		read, fault = official.ReadClassicRequest(p.namespace, text, m.cfg.MaxBytes)
	case responses:
		read, fault = official.ReadClassicResponse(p.namespace, text, m.cfg.MaxBytes)
	default:
		read, fault = official.ReadClassicBroadcast(p.namespace, text, m.cfg.MaxBytes)
	}
	if fault != 0 {
		m.drop(fault.Reason(), message.Channel, nil)
		return nil
	}
	return read
}
