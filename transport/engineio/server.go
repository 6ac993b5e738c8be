package engineio

import (
	"context"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/zap"
)

// Receiver takes what comes in on one Session. Its methods are called without any lock a caller could need: it may call
// every method of the Session, but not Server.Close or Server.Drain, which wait for it.
type Receiver interface {
	// Message is called with one Engine.IO message, serially and in order, over an upgrade too. Data is the receiver's to
	// keep. While it runs nothing more is read from the session, so it must not block for long.
	Message(data []byte, binary bool)
	// Closed is called exactly once, after the last Message has returned. Detail says what the client did wrong and which
	// setting rules it; "": the reason says it all.
	Closed(r Reason, detail string)
}

// Server is an http.Handler that speaks Engine.IO with any number of clients. Safe for concurrent use.
type Server struct {
	// set before start
	cfg      Config
	accept   func(*Session) Receiver
	log      *zap.Logger
	epoch    time.Time // deadlines are durations since then: 8 bytes each instead of 24
	upgrader websocket.Upgrader
	headers  headerPolicy
	told     *zap.Logger // says the same thing once in tellEvery: for what a hostile peer can cause
	openRest string      // of the open packet
	seed     maphash.Seed

	tuned tuning // what may change while it runs; see SetLimits

	newTryWriter func(net.Conn, *rawWriter) tryWriter // the seam of the non-blocking write; tests replace it
	newPoller    func() (poller, error)

	readers     sync.Pool // of *reader
	parkingOnce sync.Once
	parkingLot  *parking // nil where nothing can be parked, and before the first websocket

	refusing atomic.Bool
	counts   counters
	shares   *shares
	shards   [64]shard
	departed departed

	// wg counts open sessions and the goroutines they own. Add is called with the count above zero or under liveMu with
	// the server not closed, so it never races with Wait.
	wg sync.WaitGroup

	liveMu sync.Mutex
	live   int
	closed bool
	none   chan struct{} // closed when live reaches zero; nil while nobody waits

	measuring sync.Mutex
	measured  Measures // the last ones; guarded by measuring
}

type shard struct {
	mu     sync.RWMutex
	m      map[string]*Session // by sid; a closed session stays until its connection is gone
	opened uint64              // sessions that were put into m; guarded by mu
	moved  [directions]traffic
}

// New makes a Server. Accept is called once per handshake, before any message is read, on the goroutine of the request;
// it may already Send. A nil Receiver refuses the client with code 4. The error is that of Config.Validate.
func New(cfg Config, accept func(*Session) Receiver) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if accept == nil {
		return nil, errors.New("engineio: accept is nil")
	}
	cfg = cfg.withDefaults()
	s := &Server{
		cfg:          cfg,
		accept:       accept,
		log:          cfg.Logger.Named("engineio"),
		told:         cfg.Told.Named("engineio"),
		epoch:        time.Now(),
		headers:      newHeaderPolicy(cfg.HandshakeHeaders),
		shares:       newShares(cfg),
		openRest:     restOfOpen(cfg),
		seed:         maphash.MakeSeed(),
		newTryWriter: newRawWriter,
		newPoller:    newPoller,
	}
	s.tune(cfg)
	s.upgrader = websocket.Upgrader{
		ReadBufferSize:  1, // the least there is: this gorilla is for the handshake only
		WriteBufferPool: noBuffers{},
		CheckOrigin:     func(*http.Request) bool { return true },
	}
	for i := range s.shards {
		s.shards[i].m = make(map[string]*Session)
	}
	return s, nil
}

// Refuse answers handshakes with 503 from now on; sessions that exist are served on, upgrades included.
func (s *Server) Refuse() { s.refusing.Store(true) }

// Len is the number of open sessions, those whose connection was hijacked included. A closed session counts until its
// connection is gone.
func (s *Server) Len() int {
	s.liveMu.Lock()
	defer s.liveMu.Unlock()
	return s.live
}

// Drain refuses handshakes and closes all sessions with ReasonShutdown, spread over window at jittered moments, so that
// their clients do not come back all at once. What is queued is flushed first, save for polling clients that have
// joined nothing. It blocks until no session is left or ctx ends; then sessions may remain for Close.
func (s *Server) Drain(ctx context.Context, window time.Duration) {
	s.Refuse()
	for ctx.Err() == nil {
		all := s.snapshot()
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		start := time.Now()
		for i, ss := range all {
			at := time.Duration((float64(i) + rand.Float64()) / float64(len(all)) * float64(window))
			if !sleep(ctx, at-time.Since(start)) {
				return
			}
			ss.dismiss()
		}
		window = 0 // a handshake that was under way at Refuse comes in a second round
		select {
		case <-s.idle():
			return
		case <-ctx.Done():
			return
		case <-time.After(noopInterval):
		}
	}
}

// Close ends all sessions at once with ReasonShutdown, without flushing, and returns when the last of their goroutines
// has. Later requests are answered as by Refuse. Not to be called from a Receiver.
func (s *Server) Close() {
	s.Refuse()
	s.liveMu.Lock()
	s.closed = true
	s.liveMu.Unlock()
	for _, ss := range s.snapshot() {
		ss.kill()
	}
	s.wg.Wait()                 // a handshake under way sees closed when it registers
	s.parkingOnce.Do(func() {}) // if it was not started, it is not any more
	if s.parkingLot != nil {
		s.parkingLot.close()
	}
}

func (s *Server) now() time.Duration { return time.Since(s.epoch) }

// reserve makes room for one session of a peer. The caller must give it back with release.
func (s *Server) reserve(peer *Peer, address string) bool {
	if s.refusing.Load() {
		s.counts.add(countRefused)
		return false
	}
	out, seat := s.shares.sit(peer)
	switch seat {
	case overShare:
		s.counts.add(countShare)
		s.tell(zap.InfoLevel, "handshake refused", countShare, address,
			"this address has its share of the sessions; behind a proxy, --trusted-proxy tells its clients apart",
			settingOf("max-sessions-per-address", s.tuned.limits.Load().MaxSessionsPerAddress))
		return false
	case overAll, overLeaving:
		s.counts.add(countFull)
		s.tell(zap.WarnLevel, "handshake refused", countFull, address, "all sessions are taken by clients that have joined a namespace",
			settingOf("max-sessions", s.tuned.limits.Load().MaxSessions))
		return false
	}
	s.liveMu.Lock()
	closed := s.closed
	if !closed {
		s.live++
		s.wg.Add(1)
	}
	s.liveMu.Unlock()
	if closed {
		s.counts.add(countRefused)
		s.shares.stand(peer)
	}
	if out != nil {
		s.displace(out)
	}
	return !closed
}

// displace ends a session whose seat another has got. The newcomer waits for that, so that a flood waits for itself.
func (s *Server) displace(out *Session) {
	e := broken(ReasonDisplaced, countDisplaced, "it has joined no namespace, and makes room for another")
	e.setting = settingOf("max-sessions", s.tuned.limits.Load().MaxSessions) + " " + settingOf("max-sessions-per-address", s.tuned.limits.Load().MaxSessionsPerAddress)
	out.end(e, "1")
}

// release gives back what reserve has made room for. ss is nil where no session came of it.
func (s *Server) release(peer *Peer, ss *Session) {
	s.shares.rise(peer, ss)
	s.liveMu.Lock()
	s.live--
	if s.live == 0 && s.none != nil {
		close(s.none)
		s.none = nil
	}
	s.liveMu.Unlock()
	s.wg.Done()
}

// idle returns a channel that is closed when no session is left.
func (s *Server) idle() <-chan struct{} {
	s.liveMu.Lock()
	defer s.liveMu.Unlock()
	if s.live == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if s.none == nil {
		s.none = make(chan struct{})
	}
	return s.none
}

func (s *Server) shard(sid string) *shard {
	return &s.shards[maphash.String(s.seed, sid)%uint64(len(s.shards))]
}

// register makes a session findable. False: the server has been closed meanwhile.
func (s *Server) register(ss *Session) bool {
	sh := s.shard(ss.sid())
	sh.mu.Lock()
	sh.m[ss.sid()] = ss
	sh.opened++
	sh.mu.Unlock()
	s.liveMu.Lock() // after the insertion: either Close's snapshot has the session or this sees closed
	defer s.liveMu.Unlock()
	return !s.closed
}

func (s *Server) find(sid string) *Session {
	sh := s.shard(sid)
	sh.mu.RLock()
	ss := sh.m[sid]
	sh.mu.RUnlock()
	if ss == nil {
		ss = s.departed.find(sid)
	}
	return ss
}

func (s *Server) forget(ss *Session) {
	ss.mu.Lock()
	ss.tellAllLocked()
	if ss.owesNoop {
		s.departed.add(ss) // before it is gone from the shard: a GET finds it here or there
		ss.timer.Reset(departedTime)
	}
	ss.mu.Unlock()
	sh := s.shard(ss.sid())
	sh.mu.Lock()
	delete(sh.m, ss.sid())
	sh.mu.Unlock()
}

func (s *Server) snapshot() []*Session {
	var all []*Session
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.RLock()
		for _, ss := range sh.m {
			all = append(all, ss)
		}
		sh.mu.RUnlock()
	}
	return all
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
