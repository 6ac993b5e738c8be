package engineio

import (
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

var probeReply = []byte{finBit | opText, 6, '3', 'p', 'r', 'o', 'b', 'e'}

// serveProbe lets a websocket in to take over from polling (Engine.IO v4, "Upgrade"). A session has one probe at a time
// and one upgrade in its life; further attempts are answered 101 and closed.
func (s *Session) serveProbe(w http.ResponseWriter, r *http.Request) {
	mark := &wsConn{} // keeps the place while the 101 is written
	s.mu.Lock()
	if s.state == stateClosed {
		s.mu.Unlock()
		s.srv.refuse(w, r, errSessionUnknown, true, sessionUnknown)
		return
	}
	taken := s.state != stateOpen || s.websocket || s.probe != nil
	if s.state == stateOpen {
		s.spendLocked(probeCost)
	}
	over := s.overRateLocked()
	if !taken {
		s.probe = mark
		now := s.srv.now()
		s.probeAt = now + s.srv.cfg.UpgradeTimeout
		s.armLocked(now)
		s.srv.wg.Add(1) // the session is open, so the count is above zero
	}
	s.mu.Unlock()
	if taken {
		s.srv.counts.add(countProbeRefused)
		if over { // not worth a 101
			s.srv.refuse(w, r, errUnavailable, true, "")
			return
		}
		if ws, err := s.srv.upgrade(w, r); err == nil {
			ws.abort(append(ws.control, closeFrame...))
		}
		return
	}

	s.awaitRate(r.Context())
	ws, err := s.srv.upgrade(w, r)
	if err == nil {
		err = ws.send(ws.control)
		ws.control = nil
		if err != nil {
			s.srv.counts.add(countBadUpgrade)
			ws.abort(nil)
		}
	}
	s.mu.Lock()
	if s.probe != mark { // timed out or closed meanwhile
		s.mu.Unlock()
		if err == nil {
			ws.abort(closeFrame)
		}
		s.srv.wg.Done()
		return
	}
	if err != nil {
		s.dropProbeLocked()
		s.mu.Unlock()
		s.srv.wg.Done()
		return
	}
	if s.dialect != eio4 {
		ws.dialect = dialectOf(parseQuery(r.URL.RawQuery))
	}
	ws.up = true
	s.probe = ws
	s.mu.Unlock()
	go func() {
		defer s.srv.wg.Done()
		r := s.srv.borrow(ws, nil)
		if s.probeLoop(r) && s.readReady(r) != readEnded {
			s.beginReading(ws)
		}
	}()
}

// probeLoop reads a probing websocket until it becomes the session's (true) or fails (false, and closed).
func (s *Session) probeLoop(r *reader) bool {
	ws := r.conn
	for {
		messageType, data, err := r.readMessage()
		if err == nil && messageType == websocket.TextMessage {
			switch string(data) {
			case "2probe":
				if s.heardProbe(ws) && ws.send(probeReply) == nil {
					continue
				}
			case "5":
				if took, ok := s.finishUpgrade(ws); ok {
					if took != unknown && s.srv.cfg.Upgraded != nil {
						s.srv.cfg.Upgraded(took)
					}
					return true
				}
			}
		}
		s.mu.Lock()
		if s.probe == ws {
			s.dropProbeLocked()
			s.srv.counts.add(countProbeDropped)
		}
		s.mu.Unlock()
		ws.abort(closeFrame)
		return false
	}
}

// dropProbeLocked forgets the probe; the session goes on with polling and may be probed again.
func (s *Session) dropProbeLocked() {
	s.probe, s.probed = nil, false
	s.probeAt, s.noopAt = 0, 0
}

// heardProbe releases a GET that waits. The client sends its upgrade packet only when no GET is pending, so every
// later GET with nothing to carry is released too, one per noopInterval (serveGet).
// Marked before the client has its answer: from then on it may stop polling. False: the session is ending.
func (s *Session) heardProbe(ws *wsConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.probe != ws || s.state != stateOpen {
		return false
	}
	s.probed = true
	s.armNoopLocked()
	return true
}

// unknown is how long an upgrade took that ended after its session had begun to close, which waits for it by another
// deadline.
const unknown = time.Duration(-1)

// finishUpgrade makes ws the transport. From here on, the holder of the token ends what it is writing and then writes
// to the websocket. If nobody holds it, finishUpgrade writes. What was queued between the probe and now goes out with
// that, in order. Nothing waits for the next message or ping.
func (s *Session) finishUpgrade(ws *wsConn) (took time.Duration, ok bool) {
	s.mu.Lock()
	if s.probe != ws || s.state == stateClosed {
		s.mu.Unlock()
		return 0, false
	}
	took = unknown
	if s.probeAt != 0 {
		took = s.srv.now() - s.probeAt + s.srv.cfg.UpgradeTimeout // since the probe's request, without the pauses
	}
	s.dropProbeLocked()
	s.tellAllLocked()
	s.websocket, s.ws = true, ws
	ws.session = s
	s.refs.Add(1) // for reading
	s.beginPostFirstLocked()
	if p := s.poll; p != nil { // no official client has one now; it holds no token
		s.poll = nil
		p.ready <- pollNoop
	}
	// The pong may have been lost with polling: wait for it anew. The ping's own time stays, as the client counts from the
	// last ping and not from the upgrade.
	if s.pongAt != 0 {
		s.pongAt = s.srv.now() + s.pongWait()
	}
	s.srv.counts.add(countUpgrade)
	if s.state == stateClosing {
		s.closeAt = s.srv.now() + flushTimeout
		s.kickLocked() // with the queue empty, nobody else would look
	}
	if s.token || len(s.queue) == 0 {
		s.mu.Unlock()
		return took, true
	}
	s.token = true
	s.pump(false)
	return took, true
}
