package engineio

import (
	"errors"
	"syscall"

	"github.com/gorilla/websocket"
)

// verdict is what reading a packet means for the session: nothing, or its end.
type verdict struct {
	reason   Reason // "" to go on
	pollBody string // what a pending GET then ends with
}

// receive takes one packet. recvMu held: Receiver.Message runs under it, in the order of the wire.
func (s *Session) receive(p packet) verdict {
	s.mu.Lock()
	if s.state != stateOpen {
		s.mu.Unlock()
		return verdict{} // on the way out packets are dropped
	}
	switch {
	case p.typ == packetPong && s.dialect == eio4:
		s.pongLocked()
		s.mu.Unlock()
		return verdict{}
	case p.typ == packetPing && s.dialect != eio4:
		s.pingedLocked()
		s.mu.Unlock()
		s.Flush()
		return verdict{}
	case p.typ == packetClose:
		s.mu.Unlock()
		return verdict{ReasonTransportClose, "6"}
	case p.typ == packetPing, p.typ == packetPong: // the server pings; only version 3, and a probe, do the other way round
		s.mu.Unlock()
		return verdict{ReasonTransportError, "1"}
	}
	s.heardLocked()
	s.mu.Unlock()
	if p.typ == packetMessage {
		s.recv.Message(p.data, p.binary)
	}
	return verdict{} // open, upgrade and noop mean nothing here
}

// packetReader walks the packets of a POST body. Ok is false at the end, and after an error.
type packetReader interface {
	next() (p packet, ok bool, err error)
}

// receivePayload takes the packets of a POST.
func (s *Session) receivePayload(r packetReader) verdict {
	s.recvMu.Lock()
	defer s.recvMu.Unlock()
	for {
		p, ok, err := r.next()
		if err != nil {
			return verdict{ReasonParseError, "1"}
		}
		if !ok {
			return verdict{}
		}
		if v := s.receive(p); v.reason != "" {
			return v
		}
	}
}

// receiveFrame takes one websocket message, which it owns.
func (s *Session) receiveFrame(messageType int, data []byte) verdict {
	p, err := packet{typ: packetMessage, binary: true, data: data}, error(nil)
	switch {
	case s.dialect != eio4:
		p, err = decodeEIO3(data, messageType == websocket.BinaryMessage)
	case messageType == websocket.TextMessage:
		p, err = decodePacket(data)
	}
	if err != nil {
		return verdict{ReasonParseError, "1"}
	}
	s.recvMu.Lock()
	defer s.recvMu.Unlock()
	return s.receive(p)
}

// beginReading has the session's websocket read from now on: parked where that can be done, otherwise by a goroutine.
func (s *Session) beginReading(ws *wsConn) {
	if conn, ok := ws.conn.(syscall.Conn); ok && s.srv.parking().add(ws, conn) {
		return
	}
	s.srv.wg.Add(1) // above zero: the session is referred to by its reading
	go func() {
		defer s.srv.wg.Done()
		s.readLoop(ws)
	}()
}

// readLoop reads a websocket that cannot be parked until its connection ends. Between messages it holds a few bytes.
func (s *Session) readLoop(ws *wsConn) {
	var head [16]byte
	for {
		n, err := ws.conn.Read(head[:])
		ws.readErr = err
		if s.readReady(s.srv.borrow(ws, head[:n])) {
			return
		}
	}
}

// How much may be read in one go before the rest counts as a goroutine's own work: messages, and reads of the connection, as
// frames of which no message comes are work too.
const (
	burst      = 64
	burstReads = 16
)

// readReady takes the messages that are there, and gives the reader back. True: the connection has ended. Reading holds a
// reference on the session until then, is the only one to close the connection in good order, and does so after the writer
// has given the token back.
func (s *Session) readReady(r *reader) (ended bool) {
	ws := r.conn
	for n := 0; ; n++ {
		if n == burst {
			r.leave()
		}
		messageType, data, err := r.next()
		if errors.Is(err, errNothing) {
			s.srv.giveBack(r)
			return false
		}
		if err != nil {
			violated := r.violated
			s.srv.giveBack(r)
			s.end(s.readReason(err), "1")
			ws.finish(s, violated)
			s.unref()
			return true
		}
		if v := s.receiveFrame(messageType, data); v.reason != "" {
			s.end(v.reason, v.pollBody) // reading goes on, for the peer's close frame
		}
	}
}

// readReason says what a failed read means, and counts it.
func (s *Session) readReason(err error) Reason {
	switch {
	case errors.Is(err, errOversize):
		s.srv.counts.add(countOversize)
	case errors.Is(err, errUTF8):
		s.srv.counts.add(countUTF8)
	case errors.Is(err, errViolation):
		s.srv.counts.add(countProtocol)
	default:
		return ReasonTransportClose
	}
	return ReasonTransportError
}
