package socketio

import (
	"time"

	"foyer/service"
	"foyer/transport/engineio"
)

var (
	_ service.Conn      = (*Link)(nil)
	_ engineio.Receiver = (*Link)(nil)
	_ service.Frame     = (*engineio.Message)(nil)
)

// Codec returns the codec of the parser that the client's first message told, or that of v2.
func (l *Link) Codec() service.Codec {
	switch {
	case l.msgpack:
		return Msgpack
	case l.v2:
		return JSONv2
	}
	return JSON
}

// The two packages number their flags and outcomes alike, so that Send has nothing to look up.
var (
	_ = [1]struct{}{}[uint8(service.Volatile)-uint8(engineio.Volatile)]
	_ = [1]struct{}{}[uint8(service.NoCompress)-uint8(engineio.NoCompress)]
	_ = [1]struct{}{}[uint8(service.Owed)-uint8(engineio.Owed)]
	_ = [1]struct{}{}[uint8(service.Relayed)-uint8(engineio.Relayed)]
	_ = [1]struct{}{}[uint8(service.Queued)-uint8(engineio.Queued)]
	_ = [1]struct{}{}[uint8(service.QueuedFlush)-uint8(engineio.QueuedFlush)]
	_ = [1]struct{}{}[uint8(service.DroppedVolatile)-uint8(engineio.DroppedVolatile)]
	_ = [1]struct{}{}[uint8(service.Full)-uint8(engineio.Full)]
	_ = [1]struct{}{}[uint8(service.Closed)-uint8(engineio.Closed)]
)

// Send queues a frame of this package's codecs; another one is a mistake of the program and panics.
func (l *Link) Send(f service.Frame, flags service.Flags) service.Outcome {
	return service.Outcome(l.session.Send(f.(*engineio.Message), engineio.Flags(flags)))
}

// Room returns a channel that is closed when the session has room for a frame of so many bytes, see service.Conn.
func (l *Link) Room(bytes int) (room <-chan struct{}, since time.Time) { return l.session.Room(bytes) }

// Probe says what Send would do with a frame of so many bytes.
func (l *Link) Probe(bytes int, flags service.Flags) (service.Outcome, service.LinkState) {
	outcome, state := l.session.Probe(bytes, engineio.Flags(flags))
	return service.Outcome(outcome), service.LinkState(state)
}

// Flush writes what is queued.
func (l *Link) Flush() { l.session.Flush() }

// Pause stops the reading of the session, with all its namespaces, until as many calls of Resume.
func (l *Link) Pause() { l.session.Pause() }

// Resume takes one Pause back.
func (l *Link) Resume() { l.session.Resume() }

// Close closes the session after a flush; its end, on another goroutine, closes the sockets.
func (l *Link) Close(r service.Reason) {
	l.mu.Lock()
	l.ended.Store(true)
	l.mu.Unlock()
	l.session.Close(wordOf(r))
}

// Dismiss sends a DISCONNECT for every namespace that the client is in, closes the session, and closes the sockets
// before it returns. Not to be called with a lock of the service held.
func (l *Link) Dismiss() {
	// Taken out first: the session's end, on another goroutine, would tell the sockets another reason.
	out := l.takeOut()
	out.each(func(p *place) {
		if p.socket == nil {
			return
		}
		f, err := l.Codec().Encode(&service.Packet{Kind: service.KindDisconnect, Namespace: p.name, AckID: service.NoAck})
		if err == nil {
			l.Send(f, service.Owed)
		}
	})
	l.session.Close(engineio.ReasonForcedClose)
	l.vacate(&out, service.ReasonServerDisconnect, "")
}

// Forget keeps the name of the socket's namespace, so that packets which crossed its end are ignored until the client
// connects to it again.
func (l *Link) Forget(s *service.Socket) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.eachLocked(func(p *place) bool { return p.socket != s })
	if p == nil {
		return false
	}
	p.socket = nil
	return true
}

// SessionID returns the session's public handle.
func (l *Link) SessionID() string { return l.session.Handle() }

// Transport returns the transport that the session uses now.
func (l *Link) Transport() string { return l.session.Transport() }

// Handshake returns what the session's first request said.
func (l *Link) Handshake() service.Handshake { return l.session.Handshake() }

// sendNow encodes and sends a packet of the link's own: an answer, which its client is owed.
func (l *Link) sendNow(p *service.Packet) {
	f, err := l.Codec().Encode(p)
	if err != nil {
		return // its namespace cannot be said in this parser: the client gets no answer
	}
	if l.Send(f, service.Owed) == service.QueuedFlush {
		l.Flush()
	}
}

func reasonOf(r engineio.Reason) service.Reason {
	switch r {
	case engineio.ReasonTransportClose:
		return service.ReasonTransportClose
	case engineio.ReasonTransportError:
		return service.ReasonTransportError
	case engineio.ReasonPingTimeout:
		return service.ReasonPingTimeout
	case engineio.ReasonParseError:
		return service.ReasonParseError
	case engineio.ReasonShutdown:
		return service.ReasonShutdown
	case engineio.ReasonSlow:
		return service.ReasonSlow
	case engineio.ReasonHandlerSlow:
		return service.ReasonHandlerSlow
	default:
		return service.ReasonForcedClose
	}
}

func wordOf(r service.Reason) engineio.Reason {
	switch r {
	case service.ReasonTransportClose:
		return engineio.ReasonTransportClose
	case service.ReasonTransportError:
		return engineio.ReasonTransportError
	case service.ReasonPingTimeout:
		return engineio.ReasonPingTimeout
	case service.ReasonParseError:
		return engineio.ReasonParseError
	case service.ReasonShutdown:
		return engineio.ReasonShutdown
	case service.ReasonSlow:
		return engineio.ReasonSlow
	case service.ReasonHandlerSlow:
		return engineio.ReasonHandlerSlow
	default:
		return engineio.ReasonForcedClose
	}
}
