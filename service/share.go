package service

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

// share is what of one socket waits for handlers, and whether its link is paused for it. A burst of any length arrives
// whole: what is in hand is taken, and the rest stays with the client until half of what waited has gone on.
type share struct {
	mu     sync.Mutex // a leaf: only a link's own locks are taken with it held
	events int32
	bytes  int32
	pause  *pause // nil: the link is read
}

// pause is the time for which the link of a socket is not read.
type pause struct {
	lowEvents, lowBytes int32 // at which it is read again
	at                  *Handler
	taken               time.Time // when something of the socket went on last
	timer               *time.Timer
}

// Pressure is what a socket must hold at least to be paused though its own share is not used up: its part of a bound
// that is reached and that all share. The zero value never pauses, as nobody waits without holding an event.
type Pressure struct{ Events, Bytes int }

func (p Pressure) on(events, bytes int) bool {
	return p.Events > 0 && (events >= p.Events || bytes >= p.Bytes)
}

// Hold is Origin.Hold.
func (s *Socket) Hold(size int, h *Handler, shared Pressure) {
	cfg := &s.ns.node.cfg
	w := &s.share
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events++
	w.bytes += int32(size)
	if p := w.pause; p != nil {
		p.at = h
		return
	}
	events, bytes := int(w.events), int(w.bytes)
	if events < cfg.MaxQueuedEvents && bytes < cfg.MaxQueuedEventBytes && !shared.on(events, bytes) {
		return
	}
	p := &pause{lowEvents: w.events / 2, lowBytes: w.bytes / 2, at: h, taken: time.Now()}
	p.timer = time.AfterFunc(cfg.HandlerPatience, func() { s.ns.node.handlers.impatient(s, p) })
	w.pause = p
	s.conn.Pause()
	s.ns.node.drops.add(dropPaused, 1)
}

// mayWait says whether an event can wait without a pause of the link.
func (s *Socket) mayWait(size int) bool {
	cfg := &s.ns.node.cfg
	w := &s.share
	w.mu.Lock()
	defer w.mu.Unlock()
	return int(w.events)+1 < cfg.MaxQueuedEvents && int(w.bytes)+size < cfg.MaxQueuedEventBytes
}

// HeldBy is Origin.HeldBy.
func (s *Socket) HeldBy(h *Handler) {
	w := &s.share
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pause; p != nil && p.at != h {
		p.at, p.taken = h, time.Now()
	}
}

// Release is Origin.Release.
func (s *Socket) Release(size int) {
	w := &s.share
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events--
	w.bytes -= int32(size)
	p := w.pause
	if p == nil {
		return
	}
	p.taken = time.Now()
	if w.events <= p.lowEvents && w.bytes <= p.lowBytes {
		s.readOnLocked(p)
	}
}

// readOnLocked ends a pause, with share.mu held.
func (s *Socket) readOnLocked(p *pause) {
	p.timer.Stop()
	s.share.pause = nil
	s.conn.Resume()
}

// rest is how long a pause may go on without progress, and who is waited for; false: the pause is over.
func (s *Socket) rest(p *pause) (time.Duration, *Handler, bool) {
	w := &s.share
	w.mu.Lock()
	defer w.mu.Unlock()
	return s.ns.node.cfg.HandlerPatience - time.Since(p.taken), p.at, w.pause == p
}

// readOnWithout ends a pause for a socket that has left: other namespaces of its link must not wait for it. False: the
// socket is there.
func (s *Socket) readOnWithout(p *pause) bool {
	s.mu.Lock()
	gone := s.gone != nil
	s.mu.Unlock()
	if !gone {
		return false
	}
	w := &s.share
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pause == p {
		s.readOnLocked(p)
	}
	return true
}

// ask sets the timer of a pause that goes on.
func (s *Socket) ask(p *pause, d time.Duration) {
	w := &s.share
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pause == p {
		p.timer.Reset(d)
	}
}

// impatient is called when nothing of a paused socket has gone on for as long as a handler may take. A handler that
// makes no progress at all is given up before its clients are, where another one of its group can take them. Else the
// link goes.
func (hs *handlers) impatient(s *Socket, p *pause) {
	patience := hs.node.cfg.HandlerPatience
	rest, h, on := s.rest(p)
	if rest <= 0 && (h == nil || h.patient(s)) { // what is parked has its time from elsewhere, too
		rest = patience
	}
	if !on || hs.closed.Load() || s.readOnWithout(p) {
		return
	}
	if rest > 0 {
		s.ask(p, rest)
		return
	}
	now := time.Now()
	shed := h.progress(now) >= patience && h.group.healthy(h, now)
	setting := "--handler-patience=" + patience.String()
	if shed && h.at != "" {
		if shed = h.shedOnce(); shed {
			hs.node.abroad.Stalls(h)
			s.ask(p, patience)
			return
		}
	}
	if shed {
		hs.shed(h)
		s.ask(p, patience)
		return
	}
	hs.node.drops.add(dropHandlerSlow, 1)
	hs.node.told.Warn("session closed", zap.String("reason", dropNames[dropHandlerSlow]), zap.String("address", s.conn.Handshake().Address()),
		zap.String("detail", "its handler takes nothing from it"), zap.String("setting", setting), zap.String("session", s.conn.SessionID()),
		zap.String("socket", string(s.id)), zap.String("namespace", s.ns.name), zap.String("group", h.reg.Group), zap.String("handler", h.reg.ID))
	s.conn.Close(ReasonHandlerSlow)
}

// shed gives a handler up that makes no progress.
func (hs *handlers) shed(h *Handler) {
	hs.node.drops.add(dropHandlerTooSlow, 1)
	hs.handOver(h)
	h.end(&Error{
		Code: ErrTooSlow.Code, Reason: ErrTooSlow.Reason,
		Message: "the handler makes no progress, and others of its group take its sockets (--handler-patience=" + hs.node.cfg.HandlerPatience.String() + ")",
	})
	hs.letGo(h)
}
