package engineio

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// What a client makes others do passes two token buckets: one of its link, and one that all links of its address share.
// A link over one of them is paused until there are tokens again, by the session's own timer. No link is closed for it.
// Every Engine.IO packet costs a token, and so do a POST, a GET and a WebSocket ping; a probe costs probeCost.
//
// The link's bucket has the arithmetic of golang.org/x/time/rate, whose Limiter would be 80 bytes and a second lock.
// Here it is one time: when the bucket will be full again. A busy link buys its tokens many at a time, so that most
// messages cost a subtraction and look at neither the clock nor the address' bucket; what is bought is kept.

const (
	mostAtOnce = 64
	busy       = time.Second // between two purchases: the next one is twice as large
	probeCost  = 10
)

// prices are what tokens cost the links of a server. The zero prices are for nothing.
type prices struct {
	each   time.Duration // of the link's time per token; zero: there is no such bucket
	burst  time.Duration // how much of it may be owed
	atOnce int           // how many are bought together at most
	most   int           // of the address' bucket, which refuses more
}

func newPrices(c Config) prices {
	p := prices{atOnce: mostAtOnce, most: c.AddressMessageBurst}
	if c.MessageRate > 0 {
		p.each = time.Second / time.Duration(c.MessageRate)
		p.burst = time.Duration(c.MessageBurst) * p.each
		p.atOnce = min(p.atOnce, c.MessageBurst/mostAtOnce)
	}
	p.atOnce = max(min(p.atOnce, p.most/mostAtOnce), 1)
	return p
}

// Charge takes n more tokens for what the message in hand makes others do. It may be called from within
// Receiver.Message. Memory only.
func (s *Session) Charge(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spendLocked(n)
}

func (s *Session) spendLocked(n int) {
	if s.credit -= int32(n); s.credit < 0 {
		s.buyLocked()
	}
}

// buyLocked buys what is owed and a few more, and pauses the session when that is over its rate.
func (s *Session) buyLocked() {
	p, now := s.srv.tuned.prices.Load(), s.srv.now()
	if now-s.fullAt < busy {
		s.bought = uint8(min(2*int(s.bought)+1, p.atOnce-1))
	} else {
		s.bought = 0
	}
	n := int(-s.credit) + int(s.bought)
	s.credit += int32(n)
	s.fullAt = max(s.fullAt, now) + time.Duration(n)*p.each
	own, shared := s.fullAt-now-p.burst, s.peer.take(min(n, p.most))
	wait := max(own, shared)
	if wait <= 0 || s.state != stateOpen {
		return
	}
	s.srv.counts.add(countLinkSlowed)
	h := s.haltLocked()
	if h.rateAt == 0 {
		s.pauseLocked()
	}
	h.rateAt, h.byAddress = max(h.rateAt, now+wait), shared > own
	s.armLocked(now)
}

// overRateLocked says whether the session waits for tokens.
func (s *Session) overRateLocked() bool { return s.halt != nil && s.halt.rateAt != 0 }

// afterRateLocked lets a session read on that has its tokens. True: the log has not been told yet that it was slowed.
func (s *Session) afterRateLocked() (tell bool) {
	tell = !s.halt.told
	s.halt.rateAt, s.halt.told = 0, true
	s.resumeLocked()
	s.tellResumedLocked() // a GET does not care for other pauses
	return tell
}

// tellSlowed logs that a link was slowed.
func (s *Session) tellSlowed() {
	detail, setting := "the client sends more messages than it may, and is read more slowly", settingOf("message-rate", s.srv.tuned.limits.Load().MessageRate)
	s.mu.Lock()
	if s.halt.byAddress {
		detail = "the clients of this address send more messages than they may, and are read more slowly"
		setting = settingOf("address-message-rate", s.srv.tuned.limits.Load().AddressMessageRate)
	}
	s.mu.Unlock()
	s.srv.tell(zap.InfoLevel, "link slowed", countLinkSlowed, s.handshake.address, detail, setting, zap.String("session", s.Handle()))
}

// awaitRate returns when the session does not wait for tokens, or is ending; false: ctx ended before.
func (s *Session) awaitRate(ctx context.Context) bool {
	for {
		s.mu.Lock()
		if !s.overRateLocked() || s.state != stateOpen {
			s.mu.Unlock()
			return true
		}
		resumed := s.resumedLocked()
		s.mu.Unlock()
		select {
		case <-resumed:
		case <-ctx.Done():
			return false
		}
	}
}

// gettingLocked says whether a GET waits for the session's rate.
func (s *Session) gettingLocked() bool { return s.halt != nil && s.halt.getting }

// chargeGetLocked charges a GET and has it wait while the session is over its rate. It is called with mu held, and
// returns so unless it returns false: then the GET is done with.
func (s *Session) chargeGetLocked(ctx context.Context) bool {
	s.spendLocked(1)
	if !s.overRateLocked() {
		return true
	}
	h := s.haltLocked()
	h.getting = true
	s.mu.Unlock()
	there := s.awaitRate(ctx)
	s.mu.Lock()
	h.getting = false
	if !there {
		s.mu.Unlock()
		s.end(endLost, "1") // as with a GET that waits for something to carry
	}
	return there
}

// controlled charges a control frame of the peer's, and waits while the session is over its rate: after one gorilla
// goes on to the next message, so its reader has a goroutine of its own by then.
func (r *reader) controlled() {
	s := r.conn.session
	if s == nil {
		return // a probe: UpgradeTimeout bounds it
	}
	s.mu.Lock()
	s.spendLocked(1)
	over := s.overRateLocked()
	s.mu.Unlock()
	if over {
		r.leave()
		s.awaitRate(context.Background()) // the session's end ends this, too
	}
}
