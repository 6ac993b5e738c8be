package engineio

import (
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Limits are those parts of a Config that may change while the server runs. Zero and negative are as in Config.
type Limits struct {
	QueueBytes                              int
	MaxSessions, MaxSessionsPerAddress      int
	HandshakeRate, HandshakeBurst           int
	MessageRate, MessageBurst               int
	AddressMessageRate, AddressMessageBurst int

	// SlowAfter holds for each session that is refused something from now on.
	SlowAfter time.Duration
	// TrustedProxies hold for handshakes from now on. Sessions that are open keep their address.
	TrustedProxies []netip.Prefix

	// Origins and ListedOriginsOnly hold for requests from now on. Sessions that are open stay, and a page whose origin is
	// no more among them cannot read what a poll answers.
	Origins           []string
	ListedOriginsOnly bool
}

// tuning is what of the limits is read without a lock. Each is exchanged as a whole, and read by a plain load.
type tuning struct {
	queueBytes atomic.Int64
	prices     atomic.Pointer[prices]
	origins    atomic.Pointer[originPolicy]
	limits     atomic.Pointer[Limits] // with their defaults; for what is seldom done, and what the log says
}

// limits are those of a Config.
func (c Config) limits() Limits {
	return Limits{
		QueueBytes: c.QueueBytes, MaxSessions: c.MaxSessions, MaxSessionsPerAddress: c.MaxSessionsPerAddress,
		HandshakeRate: c.HandshakeRate, HandshakeBurst: c.HandshakeBurst, MessageRate: c.MessageRate, MessageBurst: c.MessageBurst,
		AddressMessageRate: c.AddressMessageRate, AddressMessageBurst: c.AddressMessageBurst, SlowAfter: c.SlowAfter,
		TrustedProxies: c.TrustedProxies, Origins: c.Origins, ListedOriginsOnly: c.ListedOriginsOnly,
	}
}

func (l Limits) config() Config {
	return Config{
		QueueBytes: l.QueueBytes, MaxSessions: l.MaxSessions, MaxSessionsPerAddress: l.MaxSessionsPerAddress,
		HandshakeRate: l.HandshakeRate, HandshakeBurst: l.HandshakeBurst, MessageRate: l.MessageRate, MessageBurst: l.MessageBurst,
		AddressMessageRate: l.AddressMessageRate, AddressMessageBurst: l.AddressMessageBurst, SlowAfter: l.SlowAfter,
		TrustedProxies: l.TrustedProxies, Origins: l.Origins, ListedOriginsOnly: l.ListedOriginsOnly,
	}
}

// SetLimits has other limits hold from now on, for sessions that are open as well. Nobody is closed for a bound that
// has become lower: a queue that is over it drains, and newcomers wait until there are fewer sessions. The error is
// that of Config.Validate, and then nothing has changed. The server keeps the slices. Safe for concurrent use.
func (s *Server) SetLimits(l Limits) error {
	c := l.config()
	if err := c.Validate(); err != nil {
		return err
	}
	c = c.withDefaults()
	s.tune(c)
	s.shares.tune(c)
	return nil
}

// Limits are those that hold, with their defaults. The slices are the server's.
func (s *Server) Limits() Limits { return *s.tuned.limits.Load() }

func (s *Server) tune(c Config) {
	prices, origins, limits := newPrices(c), newOriginPolicy(c.Origins, c.ListedOriginsOnly), c.limits()
	s.tuned.queueBytes.Store(int64(c.QueueBytes))
	s.tuned.prices.Store(&prices)
	s.tuned.origins.Store(&origins)
	s.tuned.limits.Store(&limits)
}

// slowAfter is Config.SlowAfter as it holds now.
func (s *Server) slowAfter() time.Duration { return s.tuned.limits.Load().SlowAfter }

// client is the address that a request comes from, as text for people and as a value.
func (s *Server) client(r *http.Request) (text string, addr netip.Addr) {
	return proxies(s.tuned.limits.Load().TrustedProxies).client(r)
}

// handshakeSetting is how the log names the limits of handshakes.
func (s *Server) handshakeSetting() string {
	l := s.tuned.limits.Load()
	return settingOf("handshake-rate", l.HandshakeRate) + " " + settingOf("handshake-burst", l.HandshakeBurst)
}

// peersAtOnce is how many addresses get new limits before others may have the lock.
const peersAtOnce = 256

// tune has other limits hold. Buckets that are there keep what is in them, as far as it fits.
func (sh *shares) tune(c Config) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.setLocked(c)
	n := 0
	for _, p := range sh.peers { // those that come meanwhile are made with the new limits
		p.tuneLocked(c)
		if n++; n%peersAtOnce == 0 {
			sh.mu.Unlock()
			sh.mu.Lock()
		}
	}
}

func (sh *shares) setLocked(c Config) {
	of := func(burst, rate int) time.Duration {
		return time.Duration(float64(burst) / float64(max(rate, 1)) * float64(time.Second))
	}
	sh.cfg = c
	sh.refill = max(of(c.HandshakeBurst, c.HandshakeRate), of(c.AddressMessageBurst, c.AddressMessageRate))
	sh.leeway = max(16, max(c.MaxSessions, c.MaxSessionsPerAddress)/8)
}

// tuneLocked gives the buckets of an address other limits.
func (p *Peer) tuneLocked(c Config) {
	set := func(bucket *rate.Limiter, perSecond, burst int) {
		if bucket == nil {
			return // it is made when it is needed
		}
		bucket.SetLimit(limitOf(perSecond))
		bucket.SetBurst(burst)
	}
	set(p.handshakes.Load(), c.HandshakeRate, c.HandshakeBurst)
	set(p.messages.Load(), c.AddressMessageRate, c.AddressMessageBurst)
	if p.users > 1 && p.messages.Load() == nil && c.AddressMessageRate > 0 { // there was no bound until now
		p.messages.Store(rate.NewLimiter(rate.Limit(c.AddressMessageRate), c.AddressMessageBurst))
	}
}

func limitOf(perSecond int) rate.Limit {
	if perSecond < 0 {
		return rate.Inf
	}
	return rate.Limit(perSecond)
}
