package engineio

import "time"

// A session is slow when its peer does not take, never because much came at once. A message that does not fit into the
// queue is refused (Full) and changes nothing. Its sender waits for room, or drops it. From a refusal on, the session's
// timer gives up a peer that takes nothing for SlowAfter. What counts as taking: the kernel accepts bytes of a
// websocket write, or the peer's kernel acknowledges some; a poll's response, or a piece of it, is written.

// pressure is what a session has while its peer does not keep up: from the first refusal until the queue is empty and
// nobody waits. Guarded by Session.mu.
type pressure struct {
	slowAt time.Duration // when the session ends unless its peer takes something; zero: nothing was refused since it last did
	fullAt time.Time     // of the first refusal since the queue was last half empty; zero: there was none
	room   chan struct{} // closed when no more than roomAt is pending, or the session takes no more; nil while nobody waits
	roomAt int
	spent  bool // the node's budget has refused; something has to go before it is asked again
	owed   bool // what is owed went over the bound: the session is paused
}

// relayedQueues is how many times its usual bound a queue may hold where nobody can wait for room.
const relayedQueues = 8

const (
	freeBytes  = 16 << 10 // of a queue; what is above is taken from the node's budget, so that small queues touch nothing shared
	budgetStep = 64 << 10
	// behindBytes is how much in the kernel a ping may be behind without that being a reason to wait for longer.
	behindBytes = 64 << 10
)

// roomNow is the channel of a caller that need not wait.
var roomNow = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (s *Session) pressureLocked() *pressure {
	if s.press == nil {
		s.press = &pressure{}
	}
	return s.press
}

// queueLimit is the bound of the queue now, in bytes.
func (s *Session) queueLimit() int {
	if s.admitted.Load() {
		return int(s.srv.tuned.queueBytes.Load())
	}
	return min(int(s.srv.tuned.queueBytes.Load()), preAdmitQueueBytes-len(s.queue)*preAdmitItemBytes)
}

// refusedLocked notes that a message did not fit.
func (s *Session) refusedLocked() {
	p, now := s.pressureLocked(), s.srv.now()
	if p.fullAt.IsZero() {
		p.fullAt = time.Now()
	}
	s.expectLocked(p, now)
	s.srv.counts.add(countQueueFull)
}

// misfitLocked says what becomes of a message that does not fit; Queued: it is queued all the same.
func (s *Session) misfitLocked(m *Message, f Flags) Outcome {
	switch {
	case f&Volatile != 0:
		s.srv.counts.add(countVolatile)
		return DroppedVolatile
	case !s.admitted.Load():
		s.failLocked(&ending{reason: ReasonSlow, why: countSlow, detail: "what waits for it is too much for a client that has joined no namespace"}) // a client that nobody knows yet is not waited for
		return Closed
	}
	s.refusedLocked()
	switch {
	case f&Owed != 0:
	case f&Relayed != 0 && s.pending+m.size <= relayedQueues*s.queueLimit() && s.chargeLocked(m.size+itemOverhead, false):
		return Queued
	default:
		return Full
	}
	s.chargeLocked(m.size+itemOverhead, true)
	if !s.press.owed {
		s.press.owed = true
		s.pauseLocked()
	}
	return Queued
}

// expectLocked gives the peer its time to take something: from when it last did, if it could have since.
func (s *Session) expectLocked(p *pressure, now time.Duration) {
	if p.slowAt != 0 {
		return
	}
	since := now
	if s.blocked || !s.websocket && s.poll == nil && !s.token && !s.heldBackLocked() {
		since = s.takenAt
	}
	p.slowAt = max(since+s.srv.slowAfter(), 1) // never zero, which is none
	s.armLocked(now)
}

// heldBackLocked says whether the client has asked for what waits, and the server has its GET wait for the rate.
func (s *Session) heldBackLocked() bool { return !s.websocket && s.gettingLocked() }

// tookLocked notes that the peer has taken something.
func (s *Session) tookLocked() {
	now := s.srv.now()
	s.takenAt = now
	if p := s.press; p != nil && p.slowAt != 0 {
		p.slowAt = 0
		if p.room != nil || p.owed { // nobody who is held asks again before there is room
			p.slowAt = now + s.srv.slowAfter()
			s.armLocked(now)
		}
	}
}

func (s *Session) took() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tookLocked()
}

// chargeLocked takes what the queue would need of the node's budget with so many bytes more. Forced: whatever is left
// of it.
func (s *Session) chargeLocked(bytes int, forced bool) bool {
	want := budgetSteps(s.pending + bytes)
	if want <= int(s.steps) || s.srv.cfg.Budget == nil {
		return true
	}
	budget := s.srv.cfg.Budget
	more := (want - int(s.steps)) * budgetStep
	switch {
	case forced:
		budget.Force(more)
	case !budget.Take(more):
		return false
	}
	s.steps = int32(want)
	return true
}

func budgetSteps(pending int) int {
	return (max(pending-freeBytes, 0) + budgetStep - 1) / budgetStep
}

// creditLocked takes bytes out of the queue's account, and tells those who wait for that.
func (s *Session) creditLocked(bytes int) {
	s.pending -= bytes
	if s.steps != 0 {
		// A queue at the edge of a step does not take and give it with each message.
		if want := budgetSteps(s.pending); s.pending == 0 || want+1 < int(s.steps) {
			s.srv.cfg.Budget.Give((int(s.steps) - want) * budgetStep)
			s.steps = int32(want)
		}
	}
	if s.press == nil || bytes == 0 {
		return
	}
	p, half := s.press, s.queueLimit()/2
	p.spent = false
	if s.pending <= half {
		p.fullAt = time.Time{}
		if p.owed {
			p.owed = false
			s.resumeLocked()
		}
	}
	if p.room != nil && s.pending <= p.roomAt {
		s.giveRoomLocked()
	}
	if s.pending == 0 && p.slowAt == 0 && p.room == nil {
		s.press = nil
	}
}

func (s *Session) giveRoomLocked() {
	if p := s.press; p.room != nil {
		close(p.room)
		p.room, p.roomAt = nil, 0
	}
}

// relieveLocked is for a session that takes no more messages.
func (s *Session) relieveLocked() {
	if s.press != nil {
		s.giveRoomLocked()
		s.press = nil
	}
}

// Room returns a channel that is closed when there is room for a message of so many bytes, and for a good deal more
// where that can be, or when the session takes no more messages. Others may fill the room first: Send says. Since is
// when the queue was found full for the first time since it was last half empty; zero: it was not. The peer has
// SlowAfter to take something of what is waited for.
func (s *Session) Room(bytes int) (room <-chan struct{}, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	limit := s.queueLimit()
	at := max(limit-max(bytes+itemOverhead, limit/8), 0)
	spent := s.press != nil && s.press.spent
	if s.press != nil {
		since = s.press.fullAt
	}
	if s.state != stateOpen || s.pending <= at && !spent {
		return roomNow, since
	}
	p := s.pressureLocked()
	if spent {
		at = min(at, s.pending-1)
	}
	if p.room == nil {
		p.room = make(chan struct{})
	}
	p.roomAt = max(p.roomAt, at)
	s.expectLocked(p, s.srv.now())
	return p.room, since
}

// askKernelLocked looks whether the peer of a websocket has acknowledged something of what the kernel holds for it: the
// kernel may report room only long after. It lets go of mu meanwhile.
func (s *Session) askKernelLocked() {
	if !s.websocket {
		return
	}
	ws := s.ws
	s.mu.Unlock()
	unsent := ws.unsent()
	s.mu.Lock()
	was := ws.unsentWas
	if unsent < 0 {
		return
	}
	ws.unsentWas = unsent
	// While a write waits, nothing but progress changes it. Where it was not known, a peer is given up at the second look.
	if was > 0 && unsent != was || was == 0 && unsent >= behindBytes {
		refused := s.press != nil && s.press.slowAt != 0
		s.tookLocked()
		if refused && s.press.slowAt == 0 { // before that or after, nobody knows
			s.press.slowAt = s.takenAt + s.srv.slowAfter()
		}
	}
}

// stillTakesLocked says whether the client has taken something lately that it had not taken at once: what it is to
// answer was behind that, or still is, and has its time from then on.
func (s *Session) stillTakesLocked(now time.Duration) bool {
	at := s.takenAt + s.srv.cfg.PingTimeout
	if at <= now {
		return false
	}
	s.pongAt = at
	return true
}
