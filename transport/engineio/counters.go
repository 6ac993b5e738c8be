package engineio

import "sync/atomic"

// counter names a thing that was dropped or refused. The set is closed: these become metric labels.
type counter uint8

const (
	countTransportUnknown counter = iota // handshake errors by code, same order as handshakeError
	countSessionUnknown
	countBadMethod
	countBadRequest
	countForbidden
	countBadVersion
	countOriginRefused
	countRefused      // handshakes answered 503 after Refuse
	countFull         // handshakes answered 503 over MaxSessions
	countShare        // handshakes answered 503 over MaxSessionsPerAddress
	countSlowed       // handshakes that had to wait for HandshakeRate
	countRate         // handshakes answered 503 as the wait was too long
	countDisplaced    // sessions that had joined nothing and made room for others
	countBadUpgrade   // upgrade requests that are no WebSocket handshake, or probes whose 101 could not be written
	countSlow         // sessions closed because their peer took nothing of a full queue in time
	countVolatile     // volatile messages dropped
	countOversize     // messages and bodies over the limit
	countParseError   // sessions closed by an undecodable packet
	countProtocol     // WebSocket protocol errors
	countUTF8         // text that is no UTF-8
	countOverlap      // second GET or POST while one is under way
	countPingTimeout  // sessions without a pong
	countUpgrade      // finished upgrades
	countProbeTimeout // probes without an upgrade packet in time
	countProbeRefused // probes of sessions that have one already or have been upgraded
	countProbeDropped // probes that failed otherwise
	countPong         // pongs, WebSocket's or EIO=3's, not sent because their receiver does not read
	countQueueFull    // messages that did not fit into a queue at first
	countUnsent       // messages that were queued when their session or connection ended
	countLinkSlowed   // pauses of links that were over their rate, or over that of their address
	countUnkept       // sessions closed because the budget refused a POST that had to wait, or a message on its way
	countBadBody      // POSTs of a kind that is not served; their sessions are closed
	countersLen

	noCounter counter = 255
)

var counterNames = [countersLen]string{
	"handshake_transport_unknown", "handshake_session_unknown", "handshake_bad_method", "handshake_bad_request",
	"handshake_forbidden", "handshake_bad_version", "origin_refused", "handshake_refused", "handshake_full",
	"handshake_share", "handshake_slowed", "handshake_rate", "displaced", "bad_upgrade",
	"slow", "volatile_dropped", "oversize", "parse_error", "protocol_error", "invalid_utf8", "overlap", "ping_timeout",
	"upgraded", "upgrade_timeout", "upgrade_refused", "upgrade_dropped", "pong_dropped",
	"queue_full", "unsent", "link_slowed", "post_budget", "bad_body",
}

// reason is the counter's name as GetInfo and the log have it.
func (k counter) reason() string { return reasons[k] }

var reasons = func() (words [countersLen]string) {
	for k, name := range counterNames {
		words[k] = "engineio_" + name
	}
	return words
}()

type counters [countersLen]atomic.Uint64

func (c *counters) add(k counter) { c[k].Add(1) }

// Stats returns what was dropped, refused or failed since New, by reason. The set of keys is fixed; the map is the
// caller's.
func (s *Server) Stats() map[string]uint64 {
	m := make(map[string]uint64, countersLen)
	for k, name := range counterNames {
		m[name] = s.counts[k].Load()
	}
	return m
}
