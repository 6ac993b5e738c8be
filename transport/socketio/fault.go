package socketio

import "sync/atomic"

// fault is why a packet was not taken or a link was closed. 0 is none.
type fault uint8

const (
	// The link is closed.
	faultType              fault = iota + 1 // no packet type, or an unknown one
	faultAttachments                        // attachment count missing, zero or too large
	faultNamespace                          // bytes that no namespace may have
	faultAckID                              // no ack id, or beyond int64
	faultPayload                            // JSON or msgpack malformed, or not of the kind that the packet type wants
	faultDepth                              // nested too deeply
	faultPlaceholder                        // a placeholder without its attachment
	faultEventName                          // reserved, or neither string nor number
	faultDirection                          // a packet that only servers send
	faultTextMeanwhile                      // text while attachments are missing
	faultBinary                             // a binary that no packet waits for
	faultTooLarge                           // payload over MaxPayload, or with its attachments over MaxPacketBytes
	faultMemory                             // no memory is left for a packet that waits for its attachments
	faultAttachmentTimeout                  // the next attachment did not come in time
	faultOtherParser                        // text for the msgpack parser, or the reverse
	faultNotConnected                       // a packet for a namespace that the link has not joined
	faultAuthTooLarge                       // too much auth data before anything was joined
	faultConnectTimeout                     // nothing joined in time
	faultTurnedAway                         // the service wants the client to come back later

	// The link stays.
	faultRefused           // the service sent a CONNECT_ERROR
	faultTooManyNamespaces // CONNECT_ERROR
	faultNamespaceName     // CONNECT_ERROR
	faultConnectAgain      // CONNECT for a namespace that the link has joined or is about to: what was before has ended
	faultForgotten         // a packet that crossed the end of its namespace, ignored
	faultNameless          // an event without a name, ignored

	faults
)

var faultWords = [faults]string{
	faultType: "packet_type", faultAttachments: "attachment_count", faultNamespace: "namespace_bytes", faultAckID: "ack_id",
	faultPayload: "payload", faultDepth: "depth", faultPlaceholder: "placeholder", faultEventName: "event_name",
	faultDirection: "direction", faultTextMeanwhile: "attachment_missing", faultBinary: "attachment_unexpected",
	faultTooLarge: "too_large", faultMemory: "memory", faultAttachmentTimeout: "attachment_timeout", faultOtherParser: "other_parser", faultNotConnected: "not_connected",
	faultConnectAgain: "connect_again", faultAuthTooLarge: "auth_too_large", faultConnectTimeout: "connect_timeout",
	faultTurnedAway: "turned_away", faultRefused: "refused", faultTooManyNamespaces: "too_many_namespaces",
	faultNamespaceName: "namespace_name", faultForgotten: "after_disconnect", faultNameless: "nameless",
}

func (f fault) String() string { return faultWords[f] }

// reason is the fault's counter as GetInfo and the log have it.
func (f fault) reason() string { return "socketio_" + faultWords[f] }

type counters [faults]atomic.Int64

func (c *counters) add(f fault) { c[f].Add(1) }

func (c *counters) snapshot() map[string]int64 {
	m := make(map[string]int64, faults-1)
	for f := fault(1); f < faults; f++ {
		m[f.String()] = c[f].Load()
	}
	return m
}
