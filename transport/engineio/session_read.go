package engineio

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/gorilla/websocket"
)

// verdict is what reading a packet means for the session: nothing, or its end.
type verdict struct {
	end      *ending // nil to go on
	pollBody string  // what a pending GET then ends with
}

// receive takes one packet. recvMu held: Receiver.Message runs under it, in the order of the wire.
func (s *Session) receive(p packet) verdict {
	s.mu.Lock()
	if s.state != stateOpen {
		s.mu.Unlock()
		return verdict{} // on the way out packets are dropped
	}
	s.spendLocked(1)
	s.countLocked(in, 1, p.size())
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
		return verdict{endClient, "6"}
	case p.typ == packetPing, p.typ == packetPong: // the server pings; only version 3, and a probe, do the other way round
		s.mu.Unlock()
		return verdict{broken(ReasonTransportError, countProtocol, "a ping or pong that is the server's to send"), "1"}
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

// receivePayload takes the packets of a POST, and waits between them while the session is paused. Ctx ends when the
// client has gone: what it has not been told is taken is not. A large body that waits is counted by the node's budget.
func (s *Session) receivePayload(ctx context.Context, r packetReader, bytes int) verdict {
	kept := false
	defer func() {
		if kept {
			s.srv.cfg.Inbound.Give(bytes)
		}
	}()
	for {
		if s.paused.Load() && !kept && bytes > freeBytes && s.srv.cfg.Inbound != nil {
			if kept = s.srv.cfg.Inbound.Take(bytes); !kept {
				return verdict{unkept(fmt.Sprintf("its events wait, %d bytes", bytes)), "1"}
			}
		}
		if !s.awaitReading(ctx, true) {
			return verdict{endLost, "1"}
		}
		p, ok, err := r.next()
		if err != nil {
			return verdict{undecodable(err), "1"}
		}
		if !ok {
			return verdict{}
		}
		s.recvMu.Lock() // not over the wait: end takes it
		v := s.receive(p)
		s.recvMu.Unlock()
		if v.end != nil {
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
		return verdict{undecodable(err), "1"}
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
	found := s.readReady(s.srv.borrow(ws, nil)) // what an upgrade may have left
	for found != readEnded {
		var there []byte
		if found == readPaused {
			s.awaitReading(context.Background(), false) // the session's end ends this, too
		} else {
			n, err := ws.conn.Read(head[:])
			there, ws.readErr = head[:n], err
		}
		found = s.readReady(s.srv.borrow(ws, there))
	}
}

// Bounds of what is read in one go, before the rest counts as a goroutine's own work: messages, and reads of the
// connection, as frames of which no message comes are work too.
const (
	burst      = 64
	burstReads = 16
)

// readResult is why readReady has stopped reading.
type readResult uint8

const (
	readDone   readResult = iota // nothing is left for now
	readPaused                   // the session is paused
	readEnded                    // the connection has ended
)

// readReady takes the messages that are there, and gives the reader back, unless the connection keeps it over a pause.
// Reading holds a reference on the session until the connection has ended, is the only one to close it in good order,
// and does so after the writer has given the token back.
func (s *Session) readReady(r *reader) readResult {
	ws := r.conn
	for n := 0; ; n++ {
		if s.paused.Load() {
			s.srv.keep(r)
			return readPaused
		}
		if n == burst {
			r.leave()
		}
		messageType, data, err := r.next()
		if errors.Is(err, errNothing) {
			s.srv.giveBack(r)
			return readDone
		}
		if err != nil {
			violated, announced := r.violated, r.announced
			s.srv.giveBack(r)
			s.end(s.readEnd(err, announced), "1")
			ws.finish(s, violated)
			s.unref()
			return readEnded
		}
		if v := s.receiveFrame(messageType, data); v.end != nil {
			s.end(v.end, v.pollBody) // reading goes on, for the peer's close frame
		}
	}
}

// readEnd says what a failed read means. Announced is how long the message was to be, as far as that is known.
func (s *Session) readEnd(err error, announced int64) *ending {
	switch {
	case errors.Is(err, errOversize):
		return s.tooLarge(announced)
	case errors.Is(err, errUTF8):
		return broken(ReasonTransportError, countUTF8, "a text message is not UTF-8")
	case errors.Is(err, errUnkept):
		return unkept(stillArriving)
	case errors.Is(err, errViolation):
		return broken(ReasonTransportError, countProtocol, "%s", plain(err))
	}
	return endClient
}

// undecodable is the end of a session that sent what is no packet.
func undecodable(err error) *ending {
	return broken(ReasonParseError, countParseError, "%s", plain(err))
}

// plain is an error's text without the names of packages.
func plain(err error) string {
	return cut(strings.NewReplacer("engineio: ", "", "websocket: ", "").Replace(err.Error()))
}
