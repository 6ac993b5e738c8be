package engineio

import "time"

// QueueState is how the queue of a session is.
type QueueState struct {
	Waiting, Limit int       // bytes, with what each message takes beside its own
	FullSince      time.Time // when a message did not fit for the first time since it was last half empty; zero: all did
	Writable       bool      // what is queued now would be written at once
	Paused         bool      // its client is not read
}

// Probe says what Send would do with a message of so many bytes at this moment, and how the queue is. It queues
// nothing, counts nothing and starts no client's time.
func (s *Session) Probe(bytes int, f Flags) (Outcome, QueueState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := QueueState{Waiting: s.pending, Limit: s.queueLimit(), Writable: s.writableLocked(), Paused: s.Paused()}
	if s.press != nil {
		q.FullSince = s.press.fullAt
	}
	if f&Relayed != 0 {
		q.Limit *= relayedQueues
	}
	switch {
	case s.state != stateOpen:
		return Closed, q
	case f&Volatile != 0 && !q.Writable:
		return DroppedVolatile, q
	case s.pending == 0 || s.pending+bytes+itemOverhead <= q.Limit && s.wouldChargeLocked(bytes+itemOverhead):
		if !s.token && (s.websocket || s.poll != nil) {
			return QueuedFlush, q
		}
		return Queued, q
	case f&Volatile != 0:
		return DroppedVolatile, q
	}
	return Full, q
}

// wouldChargeLocked is chargeLocked, and takes nothing.
func (s *Session) wouldChargeLocked(bytes int) bool {
	more := budgetSteps(s.pending+bytes) - int(s.steps)
	return more <= 0 || s.srv.cfg.Budget == nil || s.srv.cfg.Budget.Fits(more*budgetStep)
}
