package socketio

import (
	"time"

	"foyer/service"
)

// A client that has asked for a namespace again, after it was let in, may have read the first answer and have sent
// events since: what its application emitted while it connected comes then. They are meant for whatever the second
// answer brings. So the first of them waits for that answer, and the link is not read meanwhile.

// hold keeps the event until the namespace's connect is decided, or passes it on if it is.
func (l *Link) hold(namespace []byte, p *service.Packet) fault {
	l.mu.Lock()
	place := l.placeLocked(namespace)
	switch {
	case place == nil || !place.live() || place.socket == nil && (!place.attempt.after || place.attempt.held != nil):
		l.mu.Unlock()
		l.server.counters.add(faultForgotten)
		return 0
	case place.socket != nil:
		s := place.socket
		l.mu.Unlock()
		l.server.hall.Receive(s, p)
		return 0
	}
	defer l.mu.Unlock()
	if n := heldBytes(p); n > 0 && l.server.cfg.Budget != nil && !l.server.cfg.Budget.Take(service.UseInbound, n) {
		return faultMemory
	}
	place.attempt.held = p
	l.session.Pause()
	return 0
}

// heldBytes is what a held event takes of the node's budget.
func heldBytes(p *service.Packet) int { return max(p.Size()-freeJoiningBytes, 0) }

// settleHeldLocked sees to the event that has waited for an attempt: it is for s, if the client was let in.
func (l *Link) settleHeldLocked(a *attempt, s *service.Socket) {
	if a.held == nil {
		return
	}
	if a.socket = s; s != nil {
		time.AfterFunc(0, a.deliver) // the service's locks are held
		return
	}
	l.server.counters.add(faultForgotten)
	l.letGoLocked(a)
}

// deliver passes the held event on, before the link is read again.
func (a *attempt) deliver() {
	l := a.link
	if !l.ended.Load() {
		l.server.hall.Receive(a.socket, a.held)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.letGoLocked(a)
}

func (l *Link) letGoLocked(a *attempt) {
	if n := heldBytes(a.held); n > 0 && l.server.cfg.Budget != nil {
		l.server.cfg.Budget.Give(service.UseInbound, n)
	}
	a.held = nil
	l.session.Resume()
}
