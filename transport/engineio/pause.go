package engineio

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// A session is paused while somebody who takes its messages has no room: after the message in hand nothing more of its
// client is read. What the client sends meanwhile waits where it costs least. A websocket is parked with its reading
// off (park.go), and the kernel keeps its bytes; one that cannot be parked has its goroutine wait. The POST in hand is
// answered when all its packets have been taken, and a client has one POST at a time.
//
// Pongs lie unread with the rest, so no deadline that waits for the client runs: neither for a pong nor for the end of
// an upgrade, which begins only after the last POST. Pings go on, since a client that hears none leaves.

// halt is what a session keeps from its first pause on. Guarded by Session.mu.
type halt struct {
	resumed   chan struct{} // closed when reading goes on; nil while nobody waits
	postFirst bool          // one of the pauses is the websocket's own, until the POST from before the upgrade has been taken
	told      bool          // the log has heard that the link was slowed
	getting   bool          // a GET waits for the link's rate
	byAddress bool          // it was the rate of all links of its address that was met last
	since     time.Duration // when the pause began that holds now, or the last one did
	rateAt    time.Duration // when the link's rate allows for more; zero: it does, and no pause is for it. See rate.go
}

// Pause stops the reading of what the client sends, after the message in hand, until as many calls of Resume. It may be
// called from within Receiver.Message. Memory only. A session that is ending is not paused: what still comes is
// dropped.
func (s *Session) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pauseLocked()
}

// Resume takes one Pause back. Memory only: what waits is read by another goroutine.
func (s *Session) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumeLocked()
}

// Paused says whether the client is not read now, for whatever reason.
func (s *Session) Paused() bool { return s.paused.Load() }

func (s *Session) pauseLocked() {
	s.pauses++
	if s.pauses == 1 && s.state == stateOpen {
		s.paused.Store(true)
		s.pauseHeartbeatLocked()
	}
}

func (s *Session) resumeLocked() {
	s.pauses--
	switch {
	case !s.paused.Load():
	case s.pauses == 0:
		s.readOnLocked()
		s.resumeHeartbeatLocked()
	case s.pauses == 1 && s.halt != nil && s.halt.postFirst:
		s.tellResumedLocked()
	}
}

// readOnLocked ends the pause, if there is one.
func (s *Session) readOnLocked() {
	if !s.paused.Load() {
		return
	}
	s.paused.Store(false)
	s.tellResumedLocked()
	if s.ws != nil {
		s.ws.wake()
	}
}

func (s *Session) haltLocked() *halt {
	if s.halt == nil {
		s.halt = &halt{}
	}
	return s.halt
}

// resumedLocked returns a channel that is closed when something has changed about the pauses.
func (s *Session) resumedLocked() <-chan struct{} {
	h := s.haltLocked()
	if h.resumed == nil {
		h.resumed = make(chan struct{})
	}
	return h.resumed
}

func (s *Session) tellResumedLocked() {
	if h := s.halt; h != nil && h.resumed != nil {
		close(h.resumed)
		h.resumed = nil
	}
}

// awaitReading returns when the session is not paused, or is ending; false: ctx ended before. A POST does not wait for
// the pause that is for its own sake.
func (s *Session) awaitReading(ctx context.Context, post bool) bool {
	for s.paused.Load() {
		s.mu.Lock()
		if !s.paused.Load() || post && s.pauses == 1 && s.halt != nil && s.halt.postFirst {
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
	return true
}

// unkept is the end of a session for which the node's budget has no room: what says of what.
func unkept(what string) *ending {
	return &ending{
		reason: ReasonTransportError, why: countUnkept, level: zap.WarnLevel, setting: "--memory-budget",
		detail: what + ", and the memory budget is spent",
	}
}

// beginPostFirstLocked has the new websocket of an upgrade wait for a POST that is still under way. No official client
// makes it wait: they begin when their last POST was answered.
func (s *Session) beginPostFirstLocked() {
	if s.posting {
		s.haltLocked().postFirst = true
		s.pauseLocked()
	}
}

// endPostLocked says that the POST under way has been taken.
func (s *Session) endPostLocked() {
	s.posting = false
	if s.halt != nil && s.halt.postFirst {
		s.halt.postFirst = false
		s.resumeLocked()
	}
}

// pauseHeartbeatLocked keeps the client's side of the heartbeat going by the clock alone.
func (s *Session) pauseHeartbeatLocked() {
	now := s.srv.now()
	s.haltLocked().since = now
	switch {
	case s.dialect != eio4:
		// A client of version 3 waits PingTimeout for the answer to a ping which may lie unread: it is answered unseen. It
		// takes an answer that it has not asked for as news that the link is alive.
		s.pingAt = now + s.pausedInterval()
	case s.pingAt == 0: // a pong is awaited, which would have set it
		s.pingAt = now
	}
	s.armLocked(now)
}

// resumeHeartbeatLocked gives the client the time that it had left when the pause began, or all of it for what is
// awaited since then. It does not begin anew: a client may have itself paused again and again.
func (s *Session) resumeHeartbeatLocked() {
	now := s.srv.now()
	if s.dialect != eio4 {
		s.pingAt = 0
	}
	paused := now - s.halt.since
	if s.pongAt != 0 {
		s.pongAt = min(s.pongAt+paused, now+s.pongWait())
	}
	if s.probeAt != 0 {
		s.probeAt = min(s.probeAt+paused, now+s.srv.cfg.UpgradeTimeout)
	}
	s.armLocked(now)
}

// pausedInterval is the time between two things that a paused client of version 3 hears.
func (s *Session) pausedInterval() time.Duration {
	return min(s.srv.cfg.PingInterval, s.srv.cfg.PingTimeout) / 2
}

// beatLocked sends what is due of the server's part in the heartbeat.
func (s *Session) beatLocked(now time.Duration) {
	m, paused := pingMessage, s.paused.Load()
	switch {
	case s.dialect != eio4:
		m, s.pingAt = pongMessage, now+s.pausedInterval()
	case s.pongAt != 0 && !paused:
		s.pingAt = 0 // the pong sets it
		return
	case s.pongAt != 0: // still awaited, when reading goes on
		s.pingAt = now + s.srv.cfg.PingInterval
	default:
		// The pong is awaited from now on even if no GET is there to take the ping: a client that stopped polling is gone.
		s.pingAt, s.pongAt, s.extended = now+s.srv.cfg.PingInterval, now+s.srv.cfg.PingTimeout, false
	}
	if !paused || s.fitsLocked(m) { // nobody counts the pings that a paused client does not take
		s.pushLocked(m, NoCompress)
	}
}
