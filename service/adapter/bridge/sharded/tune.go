package sharded

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	auditEvery = 3 * time.Second
	answerWait = time.Second // then a channel that does not stand is asked for again
	retryWait  = 100 * time.Millisecond
	retryMost  = 2 * time.Second
	lockedMost = 256 // channels that are looked at before others may have the mutex
)

// tune makes subscriptions what they are to be, until Close.
func (m *Medium) tune() {
	wait := retryWait
	var last time.Time
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.changed:
		case <-due.C:
			if m.audit() {
				wait = min(2*wait, retryMost)
			} else {
				wait = retryWait
			}
			last = time.Now()
		}
		m.change()
		m.mu.Lock()
		next := auditEvery
		if m.trouble {
			next = wait/2 + rand.N(wait) // all nodes lose a server at the same moment
		}
		m.mu.Unlock()
		due.Reset(max(0, next-time.Since(last)))
	}
}

// audit looks after all channels. It says whether there was trouble before.
func (m *Medium) audit() (trouble bool) {
	m.mu.Lock()
	trouble, m.trouble = m.trouble, false
	m.mu.Unlock()
	m.reload(m.ctx)
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	_, err := m.at(ctx, m.names.Main("/"))
	known := err == nil         // and then at does not block
	checks := map[*ear]*place{} // one that stands of each

	m.mu.Lock()
	n, heard := 0, true
	for channel, p := range m.places {
		if n++; n%lockedMost == 0 {
			m.mu.Unlock()
			m.mu.Lock()
		}
		var server *redis.Client
		if known {
			server, _ = m.at(m.ctx, channel)
		}
		heard = heard && p.stands
		switch {
		case p.at == nil, known && p.at.server != server, !p.stands && time.Since(p.asked) > answerWait:
			m.changeLocked(p)
		case p.stands && (checks[p.at] == nil || p.kind == answers):
			checks[p.at] = p
		}
	}
	again := m.unheard && heard
	m.unheard = m.unheard && !heard
	m.quietLocked()
	var idle []*ear
	for _, e := range m.ears {
		if len(e.placed) == 0 {
			idle = append(idle, e)
		}
	}
	m.mu.Unlock()
	if again {
		m.away.Store(false)
		m.log.Info("servers on Node are heard")
	}
	for _, e := range idle {
		m.giveUp(e, errIdle)
	}
	for e, p := range checks {
		m.check(e, p)
	}
	return trouble
}

// check finds out whether an ear hears. It is asked for a channel that stands, once more: the answer says how many
// subscriptions the server knows of. And where nobody else has that channel, the server that takes messages is asked
// for it, which may have become another one.
func (m *Medium) check(e *ear, p *place) {
	if m.ask(e, p.channel) != nil || p.kind != answers {
		return
	}
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	counts, err := e.server.PubSubShardNumSub(ctx, p.channel).Result()
	if err == nil && counts[p.channel] == 0 {
		m.giveUp(e, errLess)
	}
}

// change makes and ends what is in the list of changes.
func (m *Medium) change() {
	failed := map[*redis.Client]bool{}
	for m.ctx.Err() == nil {
		m.mu.Lock()
		n := min(len(m.changes), lockedMost)
		list := m.changes[:n:n]
		if m.changes = m.changes[n:]; len(m.changes) == 0 {
			m.changes = nil
		}
		for _, p := range list {
			p.queued = false
		}
		m.mu.Unlock()
		if n == 0 {
			return
		}
		for _, p := range list {
			m.settle(p, failed)
		}
	}
}

// settle makes the subscription to a channel what it is to be. failed are servers that cannot be reached now.
func (m *Medium) settle(p *place, failed map[*redis.Client]bool) {
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	server, err := m.at(ctx, p.channel)

	m.mu.Lock()
	old := p.at
	var e *ear
	switch {
	case p.wanted == 0:
		p.at, p.stands = nil, false
		delete(m.places, p.channel)
		p.release()
	case old != nil && old.server == server && (p.stands || time.Since(p.asked) < answerWait):
		old = nil
	case err != nil || failed[server]:
		p.release() // it cannot be had now
		m.troubleLocked()
		old = nil
	default:
		e = m.earLocked(server)
		p.at, p.stands, p.asked = e, false, time.Now()
		stood := e.placed[p.channel]
		e.placed[p.channel] = stood
	}
	m.mu.Unlock()

	if old != nil && old != e {
		m.leave(old, p.channel)
	}
	if e != nil && m.ask(e, p.channel) != nil {
		failed[server] = true
	}
}
