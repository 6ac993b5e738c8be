package socketio

import (
	"sync"
	"sync/atomic"
	"time"

	"foyer/service"
	"foyer/service/payload"
	"foyer/transport/engineio"
)

// Link is one session as the service sees it, with the namespaces that its client is in. It is the session's
// engineio.Receiver and the service's Conn.
type Link struct {
	// Set before start. What a fan-out looks at stands together: with thousands of receivers it is cache lines that it
	// pays for.
	session session
	v2      bool // the client is of Socket.IO v2, see eio3.go

	// Set by the first message, before the service hears of the link.
	msgpack bool

	server *Server // set before start

	// Owned by the session's reading: Message and Closed come one at a time.
	started   bool
	lastEvent string   // the last short event name: clients repeat few
	waiting   *joining // a packet without all of its attachments

	ended atomic.Bool // nothing more is taken from the client; changed with mu held

	mu sync.Mutex
	// Guarded by mu.
	joined   bool        // was in a namespace at least once
	held     bool        // not read, because too much is pending
	awaits   bool        // the next attachment of waiting
	progress uint32      // when the wait for it began, by Server.clock
	pending  int         // bytes of the undecided connects
	timer    *time.Timer // until something is joined that of the ConnectTimeout, then that of the AttachmentTimeout
	first    place       // of the one namespace that most links have
	more     []place
}

// place is a link's part in one namespace: connected (socket), about to be (attempt), or, with neither, ended by the
// server, so that what the client sent before it knew does no harm. Without a name it is free. A namespace has one
// place: of two CONNECTs for it the newest counts.
type place struct {
	name    string
	socket  *service.Socket
	attempt *attempt
}

func (p *place) live() bool { return p.socket != nil || p.attempt != nil }

// Message takes the next message of the session, and keeps data. The first one tells the parser: text is JSON, binary
// is msgpack. It does not block. What is wrong closes the session.
func (l *Link) Message(data []byte, binary bool) {
	if l.ended.Load() {
		l.dropWaiting()
		return
	}
	if !l.started {
		l.started, l.msgpack = true, binary
	}
	if f := l.take(data, binary); f != 0 {
		bytes := len(data)
		if l.waiting != nil {
			bytes = l.waiting.bytes
		}
		detail, setting := l.wrong(f, bytes)
		l.dropWaiting()
		l.fail(f, detail, setting)
	}
}

// Closed ends the link after its session: every socket of it is closed, every pending connect cancelled. It may block
// for as long as the service's locks are held by others.
func (l *Link) Closed(r engineio.Reason, detail string) {
	l.dropWaiting()
	l.release(reasonOf(r), detail)
}

func (l *Link) take(data []byte, binary bool) fault {
	switch {
	case l.msgpack && !binary:
		return faultOtherParser
	case l.msgpack:
		in, f := decodeMsgpack(data, l.server.cfg.MaxPayload)
		if f != 0 {
			return f
		}
		return l.dispatch(&in)
	case binary:
		return l.attachment(data)
	case l.waiting != nil:
		return faultTextMeanwhile
	}
	in, f := decodeText(data)
	if f != 0 {
		return f
	}
	if l.v2 {
		cutQuery(&in)
	}
	if in.payload != nil {
		if len(in.payload) > l.server.cfg.MaxPayload {
			return faultTooLarge
		}
		if kept := keep(in.payload, cap(data)); len(kept) > 0 && &kept[0] != &in.payload[0] {
			in.payload = kept
			in.name, _, _ = payload.Token(kept)
		}
	}
	if in.await == 0 {
		return l.dispatch(&in)
	}
	// Attachments are not collected for a namespace that would refuse them: before it has joined one, a client can make
	// the link hold nothing.
	s, _, awaited, f := l.receiver(in.namespace)
	if f != 0 {
		return f
	}
	return l.begin(&in, s == nil && !awaited)
}

// turnCost is what a CONNECT or a DISCONNECT costs of the link's rate beyond any message: handlers, watchers and the
// log of a namespace hear of each.
const turnCost = 9

// dispatch acts on a packet that is complete.
func (l *Link) dispatch(in *incoming) fault {
	if in.kind == service.KindConnect || in.kind == service.KindDisconnect {
		l.session.Charge(turnCost)
	}
	switch in.kind {
	case service.KindConnect:
		return l.connect(in)
	case service.KindDisconnect:
		return l.leave(in)
	}
	s, name, awaited, f := l.receiver(in.namespace)
	switch {
	case f != 0:
		return f
	case s == nil && (!awaited || in.kind != service.KindEvent || in.name == nil):
		l.server.counters.add(faultForgotten)
		return 0
	case in.kind == service.KindAck && in.id == service.NoAck:
		return 0 // as in the reference, an answer to nothing
	case in.kind == service.KindEvent && in.name == nil:
		l.server.counters.add(faultNameless)
		return 0
	}
	p := &service.Packet{Kind: in.kind, Namespace: name, AckID: in.id, Payload: in.payload, Attachments: in.attachments}
	if in.kind == service.KindEvent {
		p.Event = l.eventName(in.name)
	} else if p.Payload == nil {
		p.Payload = noArguments
	}
	if s == nil {
		return l.hold(in.namespace, p)
	}
	l.server.hall.Receive(s, p)
	return 0
}

var noArguments = []byte("[]")

// receiver returns the socket of a namespace, or none if it has ended and what comes is to be ignored, or, where
// another one is awaited, held.
func (l *Link) receiver(namespace []byte) (s *service.Socket, name string, awaited bool, f fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.placeLocked(namespace)
	if p == nil || p.attempt != nil && !p.attempt.again {
		if l.ended.Load() {
			return nil, "", false, 0
		}
		return nil, "", false, faultNotConnected
	}
	return p.socket, p.name, p.attempt != nil && p.attempt.after, 0
}

// eventName is the text of an event's name. A name like the last one costs no allocation.
func (l *Link) eventName(token []byte) string {
	const longest = 64
	if len(token) > longest {
		return payload.Unquote(token)
	}
	// Where the inside of the token equals an unescaped name it has no escapes itself, or its backslashes are meant.
	if token[0] == '"' && string(token[1:len(token)-1]) == l.lastEvent && !escaped(token) {
		return l.lastEvent
	}
	l.lastEvent = payload.Unquote(token)
	return l.lastEvent
}

func escaped(token []byte) bool {
	for _, c := range token {
		if c == '\\' {
			return true
		}
	}
	return false
}

// fail closes the link because of what its client sent. Its sockets hear of it before this returns. A link whose
// session is ending already does so for another reason, which is told with that end.
func (l *Link) fail(f fault, detail, setting string) {
	if l.end(detail) {
		l.server.counters.add(f)
		l.tellClosed(f, detail, setting)
	}
}

// end closes the link, unless its session is ending already.
func (l *Link) end(detail string) (first bool) {
	if first = l.session.Close(engineio.ReasonForcedClose); first { // transport first
		l.release(service.ReasonForcedClose, detail)
	}
	return first
}

// expire closes a link that has joined nothing in time.
func (l *Link) expire() {
	l.mu.Lock()
	late := !l.joined && !l.ended.Load()
	if late {
		l.ended.Store(true) // no Bind from here on
	}
	l.mu.Unlock()
	if late {
		detail, setting := l.wrong(faultConnectTimeout, 0)
		l.fail(faultConnectTimeout, detail, setting)
	}
}

// release ends the link's part in every namespace.
func (l *Link) release(r service.Reason, detail string) {
	out := l.takeOut()
	l.vacate(&out, r, detail)
}

// places are a link's places after they were taken out of it.
type places struct {
	first place
	more  []place
}

func (ps *places) each(f func(*place)) {
	f(&ps.first)
	for i := range ps.more {
		f(&ps.more[i])
	}
}

// takeOut ends the link and takes all places out of it. The caller that takes a place out closes its socket or cancels
// its attempt, so that each is ended once.
func (l *Link) takeOut() places {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended.Store(true)
	l.stopTimerLocked()
	out := places{l.first, l.more}
	l.first, l.more, l.pending, l.held = place{}, nil, 0, false
	out.each(func(p *place) {
		if p.attempt != nil {
			p.attempt.over = true
			l.settleHeldLocked(p.attempt, nil)
		}
	})
	return out
}

// vacate ends what was taken out. Called without mu, as the service takes its own locks.
func (l *Link) vacate(out *places, r service.Reason, detail string) {
	out.each(func(p *place) {
		if p.attempt != nil {
			l.cancel(p.attempt)
		}
		if p.socket != nil {
			l.server.hall.End(p.socket, r, detail)
		}
	})
}

// cancel withdraws an attempt that is over but undecided. If Node.Connect has not returned yet, connect does it.
func (l *Link) cancel(a *attempt) {
	l.mu.Lock()
	cancel := a.cancel
	a.cancel = nil
	l.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (l *Link) stopTimerLocked() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// each calls f for every place in use until it says false, and returns the one where it stopped. The place is valid
// until mu is released or a place is added or removed.
func (l *Link) eachLocked(f func(*place) bool) *place {
	if l.first.name != "" && !f(&l.first) {
		return &l.first
	}
	for i := range l.more {
		if !f(&l.more[i]) {
			return &l.more[i]
		}
	}
	return nil
}

// placeLocked returns the place of a namespace, or nil. A nil namespace is "/".
func (l *Link) placeLocked(namespace []byte) *place {
	if namespace == nil {
		namespace = root
	}
	if l.first.name != "" && l.first.name == string(namespace) {
		return &l.first
	}
	for i := range l.more {
		if l.more[i].name == string(namespace) {
			return &l.more[i]
		}
	}
	return nil
}

var root = []byte("/")

// addLocked makes a place for a namespace that has none, at the cost of a forgotten one when there are too many.
func (l *Link) addLocked(name string) *place {
	if len(l.more) >= l.server.cfg.MaxNamespaces {
		if old := l.eachLocked((*place).live); old != nil {
			*old = place{name: name}
			return old
		}
	}
	if l.first.name == "" {
		l.first = place{name: name}
		return &l.first
	}
	l.more = append(l.more, place{name: name})
	return &l.more[len(l.more)-1]
}

func (l *Link) removeLocked(p *place) {
	if p == &l.first {
		l.first = place{}
		return
	}
	last := len(l.more) - 1
	*p = l.more[last]
	l.more[last] = place{}
	if l.more = l.more[:last]; last == 0 {
		l.more = nil
	}
}
