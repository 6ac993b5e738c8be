package engineio

import (
	"time"

	"go.uber.org/zap"
)

// failLocked begins an end without a flush; the timer carries it out. It is how those who must not close (a Send, a
// writer) close.
func (s *Session) failLocked(e *ending) {
	switch s.state {
	case stateClosed:
		return
	case stateOpen:
		s.state, s.ending = stateClosing, e
	case stateClosing: // the first reason counts
	}
	s.abrupt = true
	s.readOnLocked()
	s.relieveLocked()
	s.kickLocked()
}

// dismiss ends a session for a drain. A polling client that has joined nothing is not waited for, as it may never ask
// again: if it does, it hears that there is no such session, and begins anew elsewhere.
func (s *Session) dismiss() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state != stateOpen:
	case s.websocket || s.admitted.Load():
		s.closeLocked(endShutdown)
	default:
		s.failLocked(endShutdown)
	}
}

// kickLocked lets the timer fire now.
func (s *Session) kickLocked() {
	s.armedAt = s.srv.now()
	s.timer.Reset(0)
}

// closeLocked begins an end with a flush.
func (s *Session) closeLocked(e *ending) {
	s.state, s.ending = stateClosing, e
	s.readOnLocked()
	s.relieveLocked()
	switch {
	case s.probe == nil:
	case s.probed:
		// The client may have stopped polling for good and be about to say `5`: what is left of the session, its end
		// included, can then only reach it by the websocket. So the upgrade may finish, within closeAt.
		s.probeAt, s.noopAt = 0, 0
	default:
		s.probe.interrupt()
		s.dropProbeLocked()
	}
	s.pingAt, s.pongAt = 0, 0
	s.closeAt = s.srv.now() + flushTimeout
	if !s.websocket {
		s.closeAt = s.srv.now() + pollCloseTimeout + time.Duration(len(s.queue)/pollPackets)*pollTurn
	}
	s.kickLocked()
}

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stateClosed
}

// end takes the session out of service, whatever state it is in, and tells the Receiver; all endings meet here, and the
// second does nothing. A pending GET ends with pollBody ("1", or "6" after the client's own close). Its caller holds
// no lock, runs on a goroutine of ours or net/http's, and is not inside Receiver.Message.
func (s *Session) end(e *ending, pollBody string) {
	s.mu.Lock()
	if s.state == stateClosed {
		s.mu.Unlock()
		return
	}
	if s.state == stateOpen {
		s.ending = e
	}
	e = s.ending
	shunned := s.shunned
	s.state = stateClosed
	s.readOnLocked()
	s.relieveLocked()
	s.timer.Stop()
	p, probe, ws := s.poll, s.probe, s.ws
	probed := s.probed
	s.owesNoop = p == nil && pollBody == string(pollNoop) && !s.websocket
	s.poll, s.probe, s.probed = nil, nil, false
	s.pingAt, s.pongAt, s.probeAt, s.noopAt, s.closeAt = 0, 0, 0, 0, 0
	s.dropQueueLocked()
	s.spare = nil
	if s.body != nil {
		// Ends the read of a POST. Under mu, because after the handler has taken s.body back the connection may already
		// serve another request; it only sets a timer.
		_ = s.body.SetReadDeadline(time.Unix(1, 0))
	}
	switch {
	case probe == nil:
	case probed:
		probe.await() // a client that has stopped polling hears of the end when it says `5`
	default:
		probe.interrupt()
	}
	s.mu.Unlock()

	if p != nil {
		p.ready <- pollVerdict(pollBody)
	}
	if ws != nil {
		if e.reason == ReasonSlow || e.reason == ReasonDisplaced {
			ws.reset() // what the kernel holds for a peer that does not read is not worth keeping
		} else {
			s.control(ws, closeFrame) // without a code, Engine.IO's way (RFC 6455 section 5.5.1 allows it)
			ws.linger()
		}
	}
	s.tellEnd(e)
	s.recvMu.Lock() // wait for the last Message; none follows, as the state is closed
	recv := s.recv
	s.recvMu.Unlock()
	if recv != nil {
		detail := e.detail
		if e.why == noCounter && shunned != nil {
			detail = shunned.detail
		}
		recv.Closed(e.reason, detail)
	}
	s.srv.debug("close", s, e)
	s.unref()
}

// kill ends the session and its connection at once.
func (s *Session) kill() {
	s.end(endShutdown, "1")
	s.mu.Lock()
	ws, busy := s.ws, s.token
	s.mu.Unlock()
	if ws != nil && !busy { // a writer at work still has the close frame to write; the linger bounds it
		ws.close()
	}
}

// unref gives back one reference; the last one makes the server forget the session.
func (s *Session) unref() {
	if s.refs.Add(-1) == 0 {
		s.srv.forget(s)
		s.srv.release(s.peer, s)
	}
}

// debug logs one line about a session, never with its sid.
func (s *Server) debug(what string, ss *Session, e *ending) {
	if ce := s.log.Check(zap.DebugLevel, what); ce != nil {
		ce.Write(zap.String("session", ss.Handle()), zap.String("transport", ss.Transport()), zap.String("reason", string(e.reason)))
	}
}
