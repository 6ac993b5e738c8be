package streams

import (
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/official"
)

const (
	inBytes   = 32 << 20 // that wait for the bridge; more are dropped
	askEvery  = 2 * time.Second
	silentFor = 6 * time.Second // a connection that says nothing for so long, though it is asked, is given up
)

// listen reads what is published, until Close. It never waits for the bridge: Redis would end a connection that is not read.
func (p *plain) listen() {
	var wait retry
	heard := time.Now()
	for sub := p.renew(nil); sub != nil && p.ctx.Err() == nil; {
		something, err := sub.ReceiveTimeout(p.ctx, askEvery)
		var timeout net.Error
		switch {
		case err == nil:
			heard, wait = time.Now(), retry{}
			p.isLive(nil)
		case !errors.As(err, &timeout) || !timeout.Timeout(): // the library connects anew, and subscribes
			p.isLive(err)
			wait.pause(p.ctx)
		case time.Since(heard) < silentFor:
			_ = sub.Ping(p.ctx) // what is wrong is seen by what does not come
		default:
			p.isLive(err)
			sub, heard = p.renew(sub), time.Now()
		}
		switch something := something.(type) {
		case *redis.Subscription:
			if something.Kind == "subscribe" {
				p.confirmed(something.Channel)
			}
		case *redis.Message:
			p.take(something)
		}
	}
}

// isLive notes whether the connection that listens does.
func (p *plain) isLive(err error) {
	p.mu.Lock()
	was := p.live
	p.live = err == nil
	switch {
	case was && !p.live:
		p.gaps++
	case !was && p.live && p.gaps > 0:
		p.settling = time.Now().Add(settleFor)
	}
	p.mu.Unlock()
	switch {
	case was && err != nil && p.ctx.Err() == nil:
		p.count("gap", 1)
		p.log.Warn("connection lost: what servers on Node ask and answer meanwhile is not heard", zap.NamedError("err", err))
	case !was && err == nil:
		p.log.Info("servers on Node are heard")
	}
}

// renew puts a connection in the place of one; nil: there is to be none any more. All that is followed is subscribed to at
// the new one. A channel of this node's own is the first: the library connects to a master for it, and the official servers
// do not count who listens to a replica.
func (p *plain) renew(old *redis.PubSub) *redis.PubSub {
	p.mu.Lock()
	if p.ctx.Err() != nil {
		p.mu.Unlock()
		return nil
	}
	if old != nil {
		_ = old.Close()
		p.sub = p.client.Subscribe(p.ctx)
	}
	sub := p.sub
	channels := []string{p.marker(p.cfg.UID)}
	for channel := range p.places {
		channels = append(channels, channel)
	}
	p.mu.Unlock()
	_ = sub.Subscribe(p.ctx, channels...) // an error says that there is no connection yet, and the library does it later
	return sub
}

// take keeps a message for the bridge.
func (p *plain) take(message *redis.Message) {
	switch {
	case len(message.Payload) > p.cfg.MaxBytes:
		p.drop(official.TooLarge.Reason(), message.Channel)
	case !p.in.Put(message, messageBytes(message)):
		p.drop("busy", message.Channel)
	}
}

func messageBytes(message *redis.Message) int {
	return len(message.Payload) + len(message.Channel) + 256
}

// deliver gives what was published to the bridge, until Close.
func (p *plain) deliver(each func(*official.Message)) {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.in.Filled():
		}
		for _, message := range p.in.Take() {
			if p.ctx.Err() != nil {
				return
			}
			if read := p.read(message); read != nil {
				each(read)
			}
			p.in.Done(messageBytes(message))
		}
	}
}

// read reads a message of a namespace; nil: it was dropped.
func (p *plain) read(message *redis.Message) *official.Message {
	p.mu.Lock()
	namespace, ok := p.places[message.Channel]
	p.mu.Unlock()
	if !ok || message.Channel == p.marker(namespace) {
		return nil
	}
	read, fault := official.ReadCluster(namespace, []byte(message.Payload), p.cfg.MaxBytes)
	if fault != 0 {
		p.drop(fault.Reason(), message.Channel)
		return nil
	}
	return read
}
