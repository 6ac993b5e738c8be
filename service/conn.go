package service

import "time"

// Codec turns packets into frames. There is one for each parser (JSON, msgpack); it must be comparable, stateless and
// safe for concurrent use, and Encode must not change the packet, nor keep it or its Payload.
type Codec interface {
	Encode(p *Packet) (Frame, error)
	// Join makes one frame of several of this codec, in their order. A link takes it as one and sends them one by one.
	Join(frames []Frame) Frame
}

// Frame is an encoded packet: opaque, immutable, shared by every link that it is sent to.
type Frame interface {
	Len() int // bytes
}

// Flags are an emit's wishes about its transport.
type Flags uint8

// The flags of an emit.
const (
	Volatile   Flags = 1 << iota // drop it where the transport is not writable now
	NoCompress                   // do not compress it
	Owed                         // an answer that its client is owed: it goes over the bound, and the client is not read meanwhile
	Relayed                      // it comes from another node, where nobody can wait for room here: its bound is wider
)

// Outcome says what became of a frame at one link.
type Outcome uint8

// The outcomes of Conn.Send.
const (
	Queued          Outcome = iota // in the queue; somebody else flushes
	QueuedFlush                    // in the queue; the caller owes a Flush
	DroppedVolatile                // volatile, and the transport was not writable
	Full                           // no room, nothing was queued: a Flush may make some; else see Room
	Closed                         // the link is closed or closing
	outcomes                       // how many there are
)

// Conn is one client link, as far as the service needs it. Implementations are safe for concurrent use.
type Conn interface {
	// Codec is the same for the whole life of the link, from its first packet on.
	Codec() Codec
	// Send puts a frame of this link's codec into its queue: memory only, never IO, and it calls nothing back.
	Send(f Frame, flags Flags) Outcome
	// Room returns a channel that is closed when the queue has room for a frame of so many bytes, or the link takes no
	// more: Send says which, and whether somebody else was faster. Since is when the queue was found full for the first
	// time since it was last half empty; zero: it was not. A link whose client takes nothing while it is waited for closes
	// itself.
	Room(bytes int) (room <-chan struct{}, since time.Time)
	// Probe says what Send would do with a frame of so many bytes at this moment, and how the link's queue is. Nothing
	// changes by it. Memory only, and it calls nothing back.
	Probe(bytes int, flags Flags) (Outcome, LinkState)
	// Flush writes what is queued without blocking; what the kernel does not take is left to a writer of the link.
	Flush()
	// Pause stops the reading of what the client sends, after the packet in hand, until Resume has been called as often.
	// What the client sends meanwhile waits with it: nothing is lost, and heartbeats go on. Memory only, and it calls
	// nothing back.
	Pause()
	// Resume takes one Pause back. Memory only: what waits is read by another goroutine.
	Resume()
	// Close closes the link after what is queued was written. The client comes back by itself. Does not block; the link's
	// sockets are told by Node.End from another goroutine.
	Close(r Reason)
	// Dismiss sends a DISCONNECT for every namespace of the link and closes it. The client stays away. Does not block.
	Dismiss()
	// Forget tells the link that the server ended this socket: what the client still sends to that namespace is ignored.
	// False: the socket is not the link's any more, and there is nothing to end. Called with locks held: memory only, and
	// it calls nothing back.
	Forget(s *Socket) bool

	// SessionID is the public handle of the link.
	SessionID() string
	// Transport is how the link runs now.
	Transport() string
	// Handshake tells how the link was opened.
	Handshake() Handshake
}

// LinkState is what waits for a link.
type LinkState struct {
	Waiting, Limit int       // bytes in its queue, and how many may be
	FullSince      time.Time // when it was found full for the first time since it was last half empty; zero: it was not
	Writable       bool      // what is queued now would be written at once
	Paused         bool      // its client is not read
}

// NearlyFull says whether more than three quarters of a queue are taken.
func (l *LinkState) NearlyFull() bool { return l.Waiting > l.Limit-l.Limit/4 }

// Handshake is the request that opened a link. Immutable. Query and Headers are maps made for each call: a crowd of
// sockets that nobody asks about keeps none.
type Handshake interface {
	Address() string
	Time() time.Time
	URL() string
	Query() map[string]string
	Headers() map[string]string
	// Bytes estimates what all of it takes, rather too much than too little, without making the maps.
	Bytes() int
}

// Reason says why a socket or a link is gone. Where Socket.IO has a word for it, String is that word.
type Reason uint8

// The reasons (Socket.IO protocol v5, "Disconnecting: reasons", and Foyer's own).
const (
	ReasonNone Reason = iota
	ReasonClientDisconnect
	ReasonServerDisconnect
	ReasonTransportClose
	ReasonTransportError
	ReasonPingTimeout
	ReasonParseError
	ReasonForcedClose
	ReasonShutdown
	ReasonSlow
	ReasonHandlerSlow
	ReasonNodeLost
)

var reasonWords = [...]string{
	"", "client namespace disconnect", "server namespace disconnect", "transport close", "transport error", "ping timeout",
	"parse error", "forced close", "server shutting down", "slow", "handler_slow", "node lost",
}

func (r Reason) String() string {
	if int(r) >= len(reasonWords) {
		return ""
	}
	return reasonWords[r]
}
