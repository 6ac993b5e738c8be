package engineio

import (
	"container/list"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Flags are options of one Send.
type Flags uint8

// The flags of Send.
const (
	Volatile   Flags = 1 << iota // drop the message when it cannot be written now
	NoCompress                   // do not compress it
	Owed                         // the client is owed it: it may go over the bound, and the client is not read while it does
	Relayed                      // nobody can wait until there is room for it: its bound is relayedQueues times the usual one
)

// Outcome says what became of a Send.
type Outcome uint8

// The outcomes of Send.
const (
	Queued          Outcome = iota // the holder of the write token, or the next GET, will write it
	QueuedFlush                    // the caller owes a Flush
	DroppedVolatile                // volatile, and not writable now
	Full                           // no room: nothing was queued; see Session.Room
	Closed                         // the session no longer takes messages
)

// String returns the outcome's name.
func (o Outcome) String() string {
	return [...]string{"queued", "queued, flush", "dropped volatile", "full", "closed"}[o]
}

type state uint8

const (
	stateOpen    state = iota
	stateClosing       // takes no messages any more; flushes, then closes
	stateClosed        // out of service; its connection may still linger
)

type item struct {
	msg   *Message
	flags Flags
}

// Session is one client's Engine.IO link, over whichever transport. Its methods are safe for concurrent use.
type Session struct {
	// What a fan-out touches stands first and together: with thousands of receivers it is cache lines that it pays for.
	mu sync.Mutex
	// guarded by mu
	state     state
	websocket bool    // the current transport; polling otherwise
	token     bool    // the write token is out
	blocked   bool    // the token is with a writer goroutine, waiting for the kernel
	abrupt    bool    // closing without a flush
	pauses    int16   // Pauses without their Resume
	posting   bool    // a POST is being read or processed
	bought    uint8   // tokens that were bought beyond need the last time, see rate.go
	owesNoop  bool    // the client has closed the session, and its last GET may still come
	probed    bool    // the probe has been heard: GETs are released
	extended  bool    // the awaited pong's deadline has been moved once
	displaced bool    // another session has got its seat; guarded by shares.mu
	dialect   dialect // of the handshake; a websocket that it is upgraded to may have another of the version. Set before start
	moved     [directions]tally
	ws        *wsConn
	queue     []item
	one       [1]item       // the first queue, as most have no more than that at a time
	pending   int           // bytes in queue and in what is left of the write under way
	steps     int32         // of budgetStep, taken from the node's budget
	credit    int32         // tokens that are bought and not spent, see rate.go
	press     *pressure     // see pressure.go; nil while the peer keeps up
	takenAt   time.Duration // when the peer last took something that it had not taken at once; of a poll, anything
	spare     []item        // the queue of the last write, empty, kept when small
	poll      *poll         // the waiting GET
	tokenFree chan struct{} // closed when the token comes back; nil while nobody waits
	ending    *ending       // how it ends; nil while it is open
	shunned   *ending       // a body that was refused, after which its client goes; nil: none
	body      *http.ResponseController
	probe     *wsConn
	halt      *halt         // see pause.go; nil before the first pause
	fullAt    time.Duration // when the link's bucket will be full

	// set before start
	srv       *Server
	ids       string // see newIDs
	handshake *Handshake
	peer      *Peer    // whom it is counted with
	recv      Receiver // written under recvMu

	// guarded by shares.mu
	newcomer *list.Element // place among those of its peer that have joined nothing; nil: it has joined, or not begun

	admitted atomic.Bool
	paused   atomic.Bool  // there are pauses, and the session is open; changed with mu held
	refs     atomic.Int32 // the open session, and the reader of its websocket; at zero the server forgets it

	recvMu sync.Mutex // the receive lock, see the package comment

	// deadlines, guarded by mu, as time since the server's epoch; zero: none
	timer    *time.Timer
	armedAt  time.Duration // what the timer is set to
	pingAt   time.Duration
	pongAt   time.Duration
	probeAt  time.Duration
	noopAt   time.Duration
	lastNoop time.Duration // when a GET was last released
	closeAt  time.Duration
}

func (s *Server) newSession(h *Handshake, peer *Peer, d dialect) *Session {
	ss := &Session{srv: s, handshake: h, peer: peer, dialect: d}
	ss.queue = ss.one[:0]
	ss.ids = s.newIDs()
	ss.refs.Store(1)
	return ss
}

// attachFirst makes conn the transport of a session that nobody else knows yet. Conn holds its 101 back.
func (s *Session) attachFirst(conn *wsConn) {
	s.websocket, s.ws = true, conn
	conn.session, conn.dialect = s, s.dialect
	s.refs.Add(1)
	s.token = true // until sendOpen
}

// sendOpen writes the 101, the open packet and what was queued meanwhile: as one write they cost a tenth of a connect
// less than as two.
func (s *Session) sendOpen(packet string) {
	s.mu.Lock()
	if !s.ws.closeSent {
		s.ws.control = append(appendFrameHeader(s.ws.control, opText, len(packet)), packet...)
	}
	s.pump(false)
}

// open asks for a Receiver and puts the session into service. False: it was refused, nothing is left of it but, with a
// websocket, the connection.
func (s *Session) open() bool {
	s.recvMu.Lock() // an end during accept waits for its Receiver
	s.mu.Lock()
	s.beginHeartbeatLocked()
	s.takenAt = s.srv.now() // the open packet
	s.mu.Unlock()
	// Registered first: whatever ends the session needs recvMu, so it forgets it after this and never before.
	if s.srv.register(s) {
		s.srv.shares.arrive(s)
		s.recv = s.srv.accept(s)
	}
	refused := s.recv == nil
	s.recvMu.Unlock()
	if refused {
		s.kill()
		if s.ws != nil {
			s.unref() // the reader that will not be
		}
		return false
	}
	s.srv.debug("open", s, endOpen)
	return true
}

// Handshake returns what is known of the client's first request.
func (s *Session) Handshake() *Handshake { return s.handshake }

// Handle returns the public name of the session: random, and no way to the sid.
func (s *Session) Handle() string { return s.ids[len(s.ids)-handleLen:] }

// sid is the session's secret: a program that knows it can act as the client.
func (s *Session) sid() string { return s.ids[:len(s.ids)-handleLen] }

// Protocol returns the version of the protocol that the client speaks, 4 or 3.
func (s *Session) Protocol() int {
	if s.dialect == eio4 {
		return 4
	}
	return 3
}

// Transport returns the current transport, "polling" or "websocket".
func (s *Session) Transport() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.websocket {
		return "websocket"
	}
	return "polling"
}

// Admit lifts the limits for clients nobody knows yet: from now on messages may have MaxPayload bytes, and the queue
// QueueBytes, and the session does not have to make room for others.
func (s *Session) Admit() {
	if !s.admitted.Swap(true) {
		s.srv.shares.joined(s)
	}
}

// Send queues m for the client. Memory only: it never writes, blocks or calls back, and allocates only when the queue
// grows. After QueuedFlush the caller owes a Flush; many Sends may share one. Full says that nothing was queued: Flush,
// then either Send again, wait for Room, or drop it.
func (s *Session) Send(m *Message, f Flags) Outcome {
	s.mu.Lock()
	if s.state != stateOpen {
		s.mu.Unlock()
		return Closed
	}
	if f&Volatile != 0 && !s.writableLocked() {
		s.mu.Unlock()
		s.srv.counts.add(countVolatile)
		return DroppedVolatile
	}
	if !s.fitsLocked(m) {
		if o := s.misfitLocked(m, f); o != Queued {
			s.mu.Unlock()
			return o
		}
	}
	s.pushLocked(m, f)
	outcome := Queued
	if !s.token && (s.websocket || s.poll != nil) {
		outcome = QueuedFlush
	}
	s.mu.Unlock()
	return outcome
}

// Close ends the session: it takes no more messages, writes what is queued, closes the transport, then the Receiver
// hears Closed(r). It does not wait for any of that. The flush is bounded: 10 s on WebSocket; on polling one more GET
// within 30 s fetches it. With ReasonSlow nothing is flushed. Only the first reason counts; first says whether this is
// it.
func (s *Session) Close(r Reason) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state != stateOpen:
		return false
	case r == ReasonSlow:
		s.failLocked(endOf(r))
	default:
		s.closeLocked(endOf(r))
	}
	return true
}

func (s *Session) pushLocked(m *Message, f Flags) {
	if s.splitsLocked(m) {
		for _, p := range m.parts {
			s.pushLocked(p, f)
		}
		return
	}
	s.queue = append(s.queue, item{m, f})
	s.pending += m.size + itemOverhead
}

// splitsLocked says whether m is queued by its parts: joined bytes are those of version 4's frames.
func (s *Session) splitsLocked(m *Message) bool {
	return m.parts != nil && (!s.websocket || s.ws.dialect != eio4)
}

func (s *Session) fitsLocked(m *Message) bool {
	if s.pending == 0 {
		return s.chargeLocked(m.size+itemOverhead, true)
	}
	if s.pending+m.size+itemOverhead > s.queueLimit() {
		return false
	}
	if !s.chargeLocked(m.size+itemOverhead, false) {
		s.pressureLocked().spent = true
		return false
	}
	return true
}

// writableLocked reports that what is queued now would be written at once.
func (s *Session) writableLocked() bool {
	return len(s.queue) == 0 && !s.blocked && (s.websocket || s.poll != nil)
}

// payloadLimit is the size of the largest message the client may send now.
func (s *Session) payloadLimit() int {
	if s.admitted.Load() {
		return s.srv.cfg.MaxPayload
	}
	return s.srv.cfg.MaxPayloadBeforeAdmit
}
