package passing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"foyer/service"
)

// Config sets up a Passing. Zero means default.
type Config struct {
	// Self is the name of this node. Required.
	Self service.NodeID
	// Key is the cluster's. A program that knows it can make sids, and is a member to the peer listeners. Without a key
	// everybody can, and is: that is for nodes on one machine, and for members that know each other by certificates.
	Key []byte
	// Where says where a member's peer listener is and how the member is. False: it is no member, or there is no way to
	// it. It is called with every request that is passed, from any goroutine, and does not block. Required.
	Where func(service.NodeID) (Member, bool)
	// TLS is for both sides of the connections between members, each of which demands a certificate of the other.
	// Default: none, on a network that is trusted.
	TLS *tls.Config

	// Most is how many requests and streams may be passed at once. Default 10,000.
	Most int
	// Patience is how long a member may take for its first word on a request, its connection included. It begins anew for
	// one that is not silent, up to 30 times. Default 1 s.
	Patience time.Duration
	// SlowAfter is how long a client may take nothing at all of what is passed to it. Default 10 s.
	SlowAfter time.Duration

	// Told gets lines about what peers and clients can cause, and says the same only once in a while. Default: none.
	Told *zap.Logger
}

// Member is where the sessions of a node are to be had.
type Member struct {
	Address string // host:port of its peer listener
	Silent  bool   // the cluster has missed its heartbeats
	Leaving bool   // it is about to end
}

// Validate reports everything that is wrong with the Config, joined.
func (c Config) Validate() error {
	var errs []error
	if !c.Self.Valid() {
		errs = append(errs, fmt.Errorf("passing: %q is no name of a node", c.Self))
	}
	if c.Where == nil {
		errs = append(errs, errors.New("passing: nobody says where members are"))
	}
	if c.Most < 0 || c.Patience < 0 || c.SlowAfter < 0 {
		errs = append(errs, errors.New("passing: a bound is negative; it cannot be off"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Most == 0 {
		c.Most = 10_000
	}
	if c.Patience == 0 {
		c.Patience = time.Second
	}
	if c.SlowAfter == 0 {
		c.SlowAfter = 10 * time.Second
	}
	if c.Told == nil {
		c.Told = zap.NewNop()
	}
	return c
}

const (
	// lookEvery is how often it is looked whether the members are still there that requests and streams wait for, and
	// whether those are about to leave that have passed a poll to this node.
	lookEvery = time.Second
	// Connections between members are kept for the next request, for less time than the other side keeps them: one that
	// is used again while it is being closed would cost a client its session.
	idlePerMember = 256
	idleFor       = 30 * time.Second
	drainRound    = 100 * time.Millisecond
	lingerTimeout = time.Second // for what comes when the other side has ended
	mostRounds    = 30          // of Config.Patience, for a member that is not silent
)

// Passing is the way from one node to the sessions of the others, and from theirs to its own. Safe for concurrent use.
type Passing struct {
	// set before start
	cfg    Config       // SlowAfter is in slow
	slow   atomic.Int64 // Config.SlowAfter, in ns; seldom changed
	keys   *keys
	told   *zap.Logger
	dialer net.Dialer
	dial   func(ctx context.Context, network, addr string) (net.Conn, error) // tests replace it

	lines    lines
	counts   counters
	buffers  buffers
	draining atomic.Bool
	carriers sync.WaitGroup // Add is called with mu held and closed false

	mu sync.Mutex
	// guarded by mu
	passes map[pass]struct{}
	waits  map[*early]service.NodeID // what members have passed to this node, and wait for
	look   *time.Timer               // nil while there is nobody to look for
	closed bool
}

// pass is a request, or a stream that came of one, on its way to another node.
type pass interface {
	member() service.NodeID
	// end ends it early. It does not block for long, and may be called more than once.
	end(why counter)
}

// New makes a Passing. The error is that of Config.Validate.
func New(cfg Config) (*Passing, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	p := &Passing{cfg: cfg, keys: newKeys(cfg.Key), told: cfg.Told.Named("passing"), passes: map[pass]struct{}{}, waits: map[*early]service.NodeID{}}
	p.dialer = net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	p.dial = p.dialer.DialContext
	p.slow.Store(int64(cfg.SlowAfter))
	p.lines = lines{passing: p, idle: map[string][]*line{}}
	return p, nil
}

// SetSlowAfter has another Config.SlowAfter hold from now on. Safe for concurrent use.
func (p *Passing) SetSlowAfter(d time.Duration) { p.slow.Store(int64(d)) }

// SlowAfter is the one that holds.
func (p *Passing) SlowAfter() time.Duration { return time.Duration(p.slow.Load()) }

// NewSID makes the sid of a session of this node. It is for engineio.Config.
func (p *Passing) NewSID() string { return p.keys.newSID(p.cfg.Self) }

// Pass has the node answer a request whose session a sid names, and returns when it has done so, or when the request
// has become a stream. It is for engineio.Config.Unknown: what it returns is why the request was not answered; "": it
// was.
func (p *Passing) Pass(sid string, w http.ResponseWriter, r *http.Request) (why string) {
	upgrade := says(r.Header, "Connection", "upgrade") && says(r.Header, "Upgrade", "websocket")
	name, ok := p.keys.owner(sid)
	switch {
	case passed(r):
		if name == p.cfg.Self {
			return "its node has no such session: it has ended"
		}
		return p.refuse(countForeign, "another node has passed it to this one, whose it is not")
	case !ok:
		return p.refuse(countForged, "no node of this cluster has made this sid")
	case name == p.cfg.Self:
		return "it has ended, or is of an earlier run of this node"
	case r.Method != http.MethodGet && r.Method != http.MethodPost || sidOf(r.URL.RawQuery) != sid:
		return p.refuse(countOdd, "a request of a session of another node is a GET or a POST, and names its sid once and plainly")
	case upgrade && p.draining.Load():
		return p.refuse(countDraining, "this node is draining, and passes no more upgrades")
	}
	m, ok := p.cfg.Where(name)
	if !ok {
		return p.refuse(countGone, "its node "+string(name)+" is no member of this cluster, or was lost")
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	q := &request{Context: ctx, passing: p, to: name, at: m.Address, cancel: cancel}
	if room, closed := p.enter(q); !room {
		cancel(nil)
		if closed {
			// A balancer that gets no answer asks another node, where the session is as good as before. That there is none
			// would be the end of it.
			p.counts.add(countDraining)
			panic(http.ErrAbortHandler)
		}
		return p.refuse(countFull, fmt.Sprintf("this node passes as many requests as it may, which are %d", p.cfg.Most))
	}
	defer p.leave(q)
	defer cancel(nil)
	q.await()
	defer q.hear()
	var err error
	if upgrade {
		err = p.passUpgrade(q, w, r)
	} else {
		err = p.passRequest(q, w, r)
	}
	if err == nil || r.Context().Err() != nil { // its client has left: there is nobody to answer
		return ""
	}
	return p.failure(q, err)
}

// says says whether a word is among those of a header.
func says(h http.Header, name, word string) bool {
	for _, line := range h[name] {
		for w := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(w), word) {
				return true
			}
		}
	}
	return false
}

// failure says why a request was not answered, and counts it.
func (p *Passing) failure(q *request, err error) string {
	why, ended := errors.AsType[ended](context.Cause(q))
	switch {
	case !ended:
		return p.refuse(countFailed, fmt.Sprintf("its node %s cannot be asked: %v", q.to, err))
	case counter(why) == countSilent:
		return p.refuse(countSilent, fmt.Sprintf("its node %s has said nothing in %v", q.to, q.waited()))
	case counter(why) == countGone:
		return p.refuse(countGone, "its node "+string(q.to)+" was lost")
	}
	return p.refuse(counter(why), "this node ends")
}

func (p *Passing) refuse(k counter, why string) string {
	p.counts.add(k)
	return why
}

// enter counts a pass, if there is room for it and this node does not end.
func (p *Passing) enter(what pass) (room, closed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.passes) >= p.cfg.Most {
		return false, p.closed
	}
	p.passes[what] = struct{}{}
	p.lookLocked()
	return true, false
}

// lookLocked begins to look for members, as long as somebody needs it.
func (p *Passing) lookLocked() {
	if p.look == nil && !p.closed {
		p.look = time.AfterFunc(lookEvery, p.lookForMembers)
	}
}

// become puts a stream in the place of the request that it came of. False: this node ends.
func (p *Passing) become(q *request, s *stream) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	delete(p.passes, q)
	p.passes[s] = struct{}{}
	p.carriers.Add(carriersPerStream)
	return true
}

func (p *Passing) leave(what pass) {
	p.mu.Lock()
	delete(p.passes, what)
	p.mu.Unlock()
}

// lookForMembers ends what waits for members that are gone. A member that is only silent may come back. Polls that have
// come by members that are about to go are answered.
func (p *Passing) lookForMembers() {
	p.mu.Lock()
	there := map[service.NodeID]bool{}
	for what := range p.passes {
		there[what.member()] = true
	}
	by := map[service.NodeID]bool{}
	for _, from := range p.waits {
		by[from] = true
	}
	switch {
	case p.closed:
	case len(p.passes)+len(p.waits) == 0:
		p.look = nil
	default:
		p.look.Reset(lookEvery)
	}
	p.mu.Unlock()
	for name := range there {
		if _, ok := p.cfg.Where(name); !ok {
			p.endAll(countGone, func(of pass) bool { return of.member() == name })
		}
	}
	for name := range by {
		if m, ok := p.cfg.Where(name); ok && m.Leaving {
			p.answer(name)
		}
	}
}

// answer has the polls answered that would be cut off with the member that has passed them.
func (p *Passing) answer(from service.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e, by := range p.waits {
		if by == from {
			close(e.ends)
			delete(p.waits, e)
		}
	}
}

// endAll ends what is wanted of all that is passed.
func (p *Passing) endAll(why counter, wanted func(pass) bool) {
	for _, what := range p.all(wanted) {
		what.end(why)
	}
}

func (p *Passing) all(wanted func(pass) bool) (some []pass) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for what := range p.passes {
		if wanted(what) {
			some = append(some, what)
		}
	}
	return some
}

// ended is the cause of a pass that this node has ended.
type ended counter

func (e ended) Error() string { return counterNames[e] }

// Len is how many requests and streams are on their way to other nodes.
func (p *Passing) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.passes)
}

// Drain refuses upgrades from now on, and ends the streams one by one, spread over window at jittered moments, so that
// their clients do not come back all at once. Requests are passed on as before; the members that they go to answer
// polls when they hear that this node leaves. It blocks until nothing is left or ctx ends; then Close cuts what
// remains.
func (p *Passing) Drain(ctx context.Context, window time.Duration) {
	p.draining.Store(true)
	for {
		streams := p.all(func(of pass) bool { _, is := of.(*stream); return is })
		if len(streams) == 0 && p.Len() == 0 {
			return
		}
		rand.Shuffle(len(streams), func(i, j int) { streams[i], streams[j] = streams[j], streams[i] })
		start := time.Now()
		for i, s := range streams {
			at := time.Duration((float64(i) + rand.Float64()) / float64(len(streams)) * float64(window))
			if !sleep(ctx, at-time.Since(start)) {
				return
			}
			s.end(countDraining)
		}
		window = 0 // an upgrade that was under way comes in a second round
		if !sleep(ctx, drainRound) {
			return
		}
	}
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close ends all that is passed, and returns when the last stream has ended. Requests end on their own goroutines.
func (p *Passing) Close() {
	p.mu.Lock()
	p.closed = true
	if p.look != nil {
		p.look.Stop()
	}
	p.mu.Unlock()
	p.endAll(countDraining, func(pass) bool { return true })
	p.carriers.Wait()
	p.lines.closeIdle(true)
}
