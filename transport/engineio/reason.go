package engineio

// Reason says why a session ended. The words are those of Socket.IO where it has one, so that they can be shown as they
// are. Comparable; the zero Reason is no reason.
type Reason string

// The reasons of an end (Engine.IO v4, "Closing", and Foyer's own).
const (
	ReasonTransportClose Reason = "transport close"      // the peer closed, cleanly or not
	ReasonTransportError Reason = "transport error"      // protocol violation, overlap, oversize, failed write
	ReasonPingTimeout    Reason = "ping timeout"         // no pong within PingTimeout
	ReasonParseError     Reason = "parse error"          // undecodable packet
	ReasonForcedClose    Reason = "forced close"         // closed by the application
	ReasonShutdown       Reason = "server shutting down" // Drain or Close of the server
	ReasonSlow           Reason = "slow"                 // the queue was full and the peer took nothing of it in time; not flushed
	ReasonDisplaced      Reason = "displaced"            // it had joined nothing, and another needed its place
	ReasonHandlerSlow    Reason = "handler_slow"         // the backend did not keep up with this client's events
)

// String returns the reason's words.
func (r Reason) String() string { return string(r) }
