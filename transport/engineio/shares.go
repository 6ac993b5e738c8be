package engineio

import (
	"container/heap"
	"container/list"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// shares divides the server's sessions between the addresses that clients come from, so that none of them keeps the
// others out. Where there is no room, the oldest session that has joined nothing (see Session.Admit) goes: one of the
// newcomer's own address if that has used its share up, else one of the address that has most of them. Only when there
// is no such session is the newcomer refused.
type shares struct {
	mu sync.Mutex
	// guarded by mu
	cfg     Config
	refill  time.Duration // until the buckets of an address that does nothing are full
	leeway  int           // how many sessions that have lost their seat may still be there
	peers   map[netip.Addr]*Peer
	taken   int       // seats
	leaving int       // sessions without a seat: another has got it, and their connection is about to end
	crowds  crowds    // peers with sessions that have joined nothing
	idle    list.List // of *Peer: nobody is there, but the buckets may not be full; the longest idle first
}

// Peer is an address that clients come from: of IPv6 the first 64 bits, which is what one customer of a provider has.
// It is forgotten when none of its clients is there and its buckets are full.
type Peer struct {
	key netip.Addr // set before start

	// Both are made when a second client comes. Safe for concurrent use.
	handshakes, messages atomic.Pointer[rate.Limiter]

	// guarded by shares.mu
	users    int           // sessions and handshakes under way
	seats    int           // those that count
	unjoined list.List     // of *Session, the oldest first
	crowd    int           // place in shares.crowds plus one; 0: in none
	idle     *list.Element // place in shares.idle
	idleAt   time.Time
}

// maxIdlePeers bounds the addresses that are remembered for their buckets' sake alone. Beyond it the longest idle one
// gets full buckets.
const maxIdlePeers = 16 << 10

func newShares(cfg Config) *shares {
	sh := &shares{peers: make(map[netip.Addr]*Peer)}
	sh.setLocked(cfg) // nobody else has it yet
	return sh
}

// enter counts a handshake of an address. The caller owes a leave, or a rise for the session that it becomes.
func (sh *shares) enter(addr netip.Addr) *Peer {
	key := addr.Unmap().WithZone("")
	if key.Is6() {
		if p, err := key.Prefix(64); err == nil {
			key = p.Addr()
		}
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p := sh.peers[key]
	switch {
	case p == nil:
		p = &Peer{key: key}
		sh.peers[key] = p
	case p.handshakes.Load() == nil && sh.cfg.HandshakeRate > 0:
		p.handshakes.Store(rate.NewLimiter(rate.Limit(sh.cfg.HandshakeRate), sh.cfg.HandshakeBurst))
	}
	if p.idle != nil {
		sh.idle.Remove(p.idle)
		p.idle = nil
	}
	if p.users++; p.users == 2 && p.messages.Load() == nil && sh.cfg.AddressMessageRate > 0 {
		p.messages.Store(rate.NewLimiter(rate.Limit(sh.cfg.AddressMessageRate), sh.cfg.AddressMessageBurst))
	}
	sh.forgetIdleLocked()
	return p
}

// leave ends what enter has begun.
func (sh *shares) leave(p *Peer) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.leaveLocked(p)
}

func (sh *shares) leaveLocked(p *Peer) {
	if p.users--; p.users == 0 {
		p.idleAt, p.idle = time.Now(), sh.idle.PushBack(p)
	}
	sh.forgetIdleLocked()
}

// forgetIdleLocked drops who has been idle for so long that nothing is lost, a few at a time.
func (sh *shares) forgetIdleLocked() {
	for range 4 {
		e := sh.idle.Front()
		if e == nil {
			return
		}
		p := e.Value.(*Peer)
		if sh.idle.Len() <= maxIdlePeers && time.Since(p.idleAt) < sh.refill {
			return
		}
		sh.idle.Remove(e)
		delete(sh.peers, p.key)
	}
}

// turn takes one handshake from the address' bucket, and says how long it has to wait for that. False: for too long.
func (p *Peer) turn(most time.Duration) (wait time.Duration, ok bool) {
	bucket := p.handshakes.Load()
	if bucket == nil {
		return 0, true
	}
	r := bucket.Reserve()
	if wait = r.Delay(); wait > most {
		r.Cancel()
		return 0, false
	}
	return wait, true
}

// take takes n messages, at most a whole bucket, from the bucket that all links of the address share, and says for how
// long the caller should not read on. While only one link is there its own bucket is enough, and this costs nothing. As
// the bucket has a lock, a link takes several messages at a time.
func (p *Peer) take(n int) time.Duration {
	m := p.messages.Load()
	if m == nil {
		return 0
	}
	r := m.ReserveN(time.Now(), min(n, m.Burst()))
	if !r.OK() {
		return 0 // the bucket has just become smaller than that
	}
	return r.Delay()
}

// seating says what became of a newcomer.
type seating uint8

const (
	seated      seating = iota
	overShare           // its address has all that it may have, and all of them have joined something
	overAll             // so has the server
	overLeaving         // too many of those who have lost their seat are still there
)

// sit gives a newcomer a seat. A session that has lost its seat by that is returned; the caller ends it.
func (sh *shares) sit(p *Peer) (out *Session, s seating) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	from := p
	switch {
	case sh.cfg.MaxSessionsPerAddress > 0 && p.seats >= sh.cfg.MaxSessionsPerAddress:
		s = overShare
	case sh.cfg.MaxSessions > 0 && sh.taken >= sh.cfg.MaxSessions:
		s = overAll
		if len(sh.crowds) > 0 {
			from = sh.crowds[0]
		}
	default:
		sh.taken++
		p.seats++
		return nil, seated
	}
	leeway := sh.leeway
	if from != p {
		leeway *= 2 // a flooder is at its bound before the others are
	}
	e := from.unjoined.Front()
	switch {
	case e == nil:
		return nil, s
	case sh.leaving >= leeway:
		return nil, overLeaving
	}
	out = e.Value.(*Session)
	sh.dropLocked(out)
	out.displaced = true
	sh.leaving++
	from.seats--
	p.seats++
	return out, seated
}

// rise gives a seat back, and ends what enter has begun. ss is nil where no session came of it.
func (sh *shares) rise(p *Peer, ss *Session) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if ss != nil {
		sh.dropLocked(ss)
	}
	if ss != nil && ss.displaced {
		sh.leaving--
	} else {
		sh.taken--
		p.seats--
	}
	sh.leaveLocked(p)
}

// stand gives the seat of a newcomer back who is turned away for another reason.
func (sh *shares) stand(p *Peer) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.taken--
	p.seats--
}

// arrive lists a session as one that has joined nothing. From here on it may lose its seat.
func (sh *shares) arrive(ss *Session) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	ss.newcomer = ss.peer.unjoined.PushBack(ss)
	sh.sortLocked(ss.peer)
}

// joined takes a session off that list.
func (sh *shares) joined(ss *Session) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.dropLocked(ss)
}

func (sh *shares) dropLocked(ss *Session) {
	if ss.newcomer != nil {
		ss.peer.unjoined.Remove(ss.newcomer)
		ss.newcomer = nil
		sh.sortLocked(ss.peer)
	}
}

// sortLocked puts a peer where its crowd of newcomers belongs.
func (sh *shares) sortLocked(p *Peer) {
	switch n := p.unjoined.Len(); {
	case n == 0 && p.crowd > 0:
		heap.Remove(&sh.crowds, p.crowd-1)
	case n > 0 && p.crowd == 0:
		heap.Push(&sh.crowds, p)
	case n > 0:
		heap.Fix(&sh.crowds, p.crowd-1)
	}
}

// crowds is a heap of peers, the one with most sessions that have joined nothing first; of equals the one that has the
// oldest.
type crowds []*Peer

// Len is the number of peers.
func (c crowds) Len() int { return len(c) }

// Less is the order of the heap.
func (c crowds) Less(i, j int) bool {
	a, b := &c[i].unjoined, &c[j].unjoined
	if a.Len() != b.Len() {
		return a.Len() > b.Len()
	}
	return a.Front().Value.(*Session).handshake.time.Before(b.Front().Value.(*Session).handshake.time)
}

// Swap swaps two peers.
func (c crowds) Swap(i, j int) {
	c[i], c[j] = c[j], c[i]
	c[i].crowd, c[j].crowd = i+1, j+1
}

// Push adds a *Peer.
func (c *crowds) Push(x any) {
	p := x.(*Peer)
	*c = append(*c, p)
	p.crowd = len(*c)
}

// Pop takes the last peer.
func (c *crowds) Pop() any {
	old := *c
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*c = old[:len(old)-1]
	p.crowd = 0
	return p
}
