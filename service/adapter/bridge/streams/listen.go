package streams

import (
	"context"
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
	lookEvery = 5 * time.Second // how often it is looked where a master is
	silentFor = 6 * time.Second // a connection that says nothing for so long, though it is asked, is given up
)

// listen reads what is published, until Close. It never waits for the bridge: Redis would end a connection that is not
// read.
func (p *plain) listen() {
	var wait retry
	heard, looked := time.Now(), time.Now()
	for sub := p.renew(); sub != nil && p.ctx.Err() == nil; {
		look := time.Since(looked) > lookEvery
		if look {
			looked = time.Now()
		}
		something, err := sub.ReceiveTimeout(p.ctx, askEvery)
		var timeout net.Error
		over := false
		switch {
		case err == nil:
			heard, wait = time.Now(), retry{}
			p.isLive(nil)
		case !errors.As(err, &timeout) || !timeout.Timeout(): // the library connects anew, and subscribes
			p.isLive(err)
			p.lookAgain(p.ctx)
			wait.pause(p.ctx)
			look = true
		case time.Since(heard) < silentFor:
			_ = sub.Ping(p.ctx) // what is wrong is seen by what does not come
		default:
			over = true
		}
		switch something := something.(type) {
		case *redis.Subscription:
			if something.Kind == "subscribe" {
				p.confirmed(something.Channel)
			}
		case *redis.Message:
			p.take(something)
		}
		if over || look && p.moved() {
			p.isLive(errOver)
			sub, heard = p.renew(), time.Now()
		}
	}
}

var errOver = errors.New("the server says nothing, or another one is the master")

// moved says whether a node has to listen elsewhere: at a Redis Cluster the server may be the master no more, and the
// official servers do not count who listens to a replica.
func (p *plain) moved() bool {
	cluster, ok := p.client().(*redis.ClusterClient)
	if !ok {
		return false
	}
	ctx, stop := context.WithTimeout(p.ctx, p.cfg.callTimeout)
	defer stop()
	cluster.ReloadState(ctx) // which is known the next time; the library does so each minute
	master, err := cluster.MasterForKey(ctx, p.marker(p.cfg.UID))
	p.mu.Lock()
	defer p.mu.Unlock()
	return err == nil && master.Options().Addr != p.where
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

// renew makes another connection that listens, and closes the one that did. All that is followed is subscribed to at
// the new one, in one command. nil: there is to be none any more.
func (p *plain) renew() *redis.PubSub {
	own := p.marker(p.cfg.UID) // so that there is something to subscribe to
	var wait retry
	for p.ctx.Err() == nil {
		var from interface {
			Subscribe(ctx context.Context, channels ...string) *redis.PubSub
		} = p.client()
		where := ""
		if cluster, ok := p.client().(*redis.ClusterClient); ok {
			master, err := cluster.MasterForKey(p.ctx, own)
			if err != nil {
				p.lookAgain(p.ctx)
				wait.pause(p.ctx)
				continue
			}
			from, where = master, master.Options().Addr
		}
		p.mu.Lock()
		if p.ctx.Err() != nil {
			p.mu.Unlock()
			break
		}
		if p.sub != nil {
			_ = p.sub.Close()
		}
		sub := from.Subscribe(p.ctx)
		p.sub, p.where = sub, where
		channels := append(make([]string, 0, 1+len(p.places)), own)
		for channel := range p.places {
			channels = append(channels, channel)
		}
		p.mu.Unlock()
		_ = sub.Subscribe(p.ctx, channels...) // an error says that there is no connection yet, and the library does it later
		return sub
	}
	return nil
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
