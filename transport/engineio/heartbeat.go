package engineio

import (
	"time"

	"go.uber.org/zap"
)

var (
	pingMessage = newControl("2")
	pongMessage = newControl("3")
	closeFrame  = []byte{finBit | opClose, 0}
)

// beginHeartbeatLocked makes the session's timer and sets it to the first deadline.
func (s *Session) beginHeartbeatLocked() {
	now, first := s.srv.now(), s.srv.cfg.PingInterval
	if s.dialect == eio4 {
		s.pingAt = now + first
	} else {
		first = s.pongWait()
		s.pongAt, s.extended = now+first, true
	}
	s.armedAt = now + first
	s.timer = time.AfterFunc(first, s.tick)
}

// pongWait is how long the client's part of a heartbeat may take from now on.
func (s *Session) pongWait() time.Duration {
	if s.dialect == eio4 {
		return s.srv.cfg.PingTimeout
	}
	return s.srv.cfg.PingInterval + s.srv.cfg.PingTimeout // it is a ping, which the client sends by its own clock
}

// tick is the session's one timer, for all its deadlines. It may come early, late or twice: it does what is due and
// sets the timer anew. It runs on a goroutine of its own, so it is also where the ends happen that others must not
// carry out.
func (s *Session) tick() {
	s.mu.Lock()
	now := s.srv.now()
	s.armedAt = 0
	switch s.state {
	case stateClosed:
		s.owesNoopLocked() // for nobody any more
		s.mu.Unlock()
		return
	case stateClosing:
		s.tickClosing(now)
		return
	}
	if p := s.press; p != nil && due(p.slowAt, now) && s.heldBackLocked() {
		p.slowAt = now + s.srv.slowAfter()
	}
	paused := s.paused.Load()
	late := due(s.pongAt, now) && !paused
	if late || s.press != nil && due(s.press.slowAt, now) {
		s.askKernelLocked()
		if s.state != stateOpen { // meanwhile; who did that set the timer
			s.mu.Unlock()
			return
		}
	}
	if p := s.press; p != nil && due(p.slowAt, now) {
		pending := s.pending
		s.mu.Unlock()
		after := s.srv.slowAfter()
		s.end(broken(ReasonSlow, countSlow, "the client has taken nothing for %v of what waits for it, %d bytes", after, pending).
			under("slow-after", after), "1")
		return
	}
	if late && due(s.pongAt, now) && !s.stillTakesLocked(now) {
		s.mu.Unlock()
		s.end(broken(ReasonPingTimeout, countPingTimeout, "the client has answered no ping in time").
			under("ping-timeout", s.srv.cfg.PingTimeout), "1")
		return
	}
	tell := paused && s.overRateLocked() && due(s.halt.rateAt, now) && s.afterRateLocked()
	if due(s.pingAt, now) {
		s.beatLocked(now)
	}
	probeLate := due(s.probeAt, now) && !paused
	if probeLate {
		s.srv.counts.add(countProbeTimeout)
		s.probe.interrupt()
		s.dropProbeLocked()
	}
	if due(s.noopAt, now) {
		s.releasePollLocked(now)
	}
	s.armLocked(now)
	if s.token || len(s.queue) == 0 {
		s.mu.Unlock()
	} else {
		s.token = true
		s.pump(false)
	}
	if tell {
		s.tellSlowed()
	}
	if probeLate {
		s.srv.tell(zap.InfoLevel, "upgrade failed", countProbeTimeout, s.handshake.address,
			"the client did not finish its upgrade to websocket, and stays on polling; a proxy may be in its way",
			settingOf("upgrade-timeout", s.srv.cfg.UpgradeTimeout), zap.String("session", s.Handle()))
	}
}

// tickClosing closes what has been flushed or has had its time, and flushes what nobody does. Called with mu held,
// returns with mu released.
func (s *Session) tickClosing(now time.Duration) {
	flushed := len(s.queue) == 0 && !s.token
	reachable := s.websocket || s.poll != nil // on polling the close itself wants a GET to travel with
	switch {
	case s.abrupt, due(s.closeAt, now), flushed && reachable:
		s.mu.Unlock()
		s.end(s.ending, "1")
	case !flushed && !s.token && reachable:
		s.armLocked(now)
		s.token = true
		s.pump(false)
	default:
		s.armLocked(now)
		s.mu.Unlock()
	}
}

// armLocked sets the timer to the nearest deadline. A timer that is set too early is left alone: it costs one idle
// tick, resetting it on each packet would cost more.
func (s *Session) armLocked(now time.Duration) {
	var next time.Duration
	pongAt, probeAt := s.pongAt, s.probeAt
	var rateAt time.Duration
	if s.paused.Load() {
		pongAt, probeAt = 0, 0
		if s.halt != nil {
			rateAt = s.halt.rateAt
		}
	}
	var slowAt time.Duration
	if s.press != nil {
		slowAt = s.press.slowAt
	}
	for _, at := range [...]time.Duration{s.pingAt, pongAt, probeAt, rateAt, s.noopAt, s.closeAt, slowAt} {
		if at != 0 && (next == 0 || at < next) {
			next = at
		}
	}
	if next == 0 || s.armedAt != 0 && s.armedAt <= next {
		return
	}
	s.armedAt = next
	s.timer.Reset(max(next-now, 0))
}

func due(at, now time.Duration) bool { return at != 0 && at <= now }

// pongLocked re-arms the heartbeat on a pong, awaited or not.
func (s *Session) pongLocked() {
	now := s.srv.now()
	s.pongAt, s.pingAt = 0, now+s.srv.cfg.PingInterval
	s.armLocked(now)
}

// pingedLocked answers a client of version 3, and gives it time until its next ping. A client that pings without
// reading gets no more answers than its queue takes.
func (s *Session) pingedLocked() {
	s.pongAt = s.srv.now() + s.pongWait() // later than what the timer is set to
	if !s.fitsLocked(pongMessage) {
		s.srv.counts.add(countPong)
		return
	}
	s.pushLocked(pongMessage, NoCompress)
}

// heardLocked moves the awaited pong's deadline once per ping: a packet shows that the client is there, its pong may
// wait behind a long upload.
func (s *Session) heardLocked() {
	if s.pongAt != 0 && !s.extended {
		s.extended = true
		s.pongAt = s.srv.now() + s.srv.cfg.PingTimeout // later than what the timer is set to
	}
}
