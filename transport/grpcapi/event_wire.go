package grpcapi

import (
	"bytes"
	"unicode/utf8"

	"foyer/service"
	"foyer/service/payload"
)

// encodeEvent is an AttachResponse with a client's event. Its small parts are put together on the stack; the arguments
// are copied once, from the packet to where gRPC writes them from. A test compares it with eventMessage.
func encodeEvent(n *service.Notice) *encoded {
	var socketSpace [192]byte // longer names take it to the heap
	var timeSpace [32]byte
	p := n.Packet
	socket, moment := appendSocketRef(socketSpace[:0], n), appendTime(timeSpace[:0], n.Time)
	event, args := text(p.Event), argumentsOf(p)

	payloadSize := sizeString(event) + sizeBytes(len("[")+len(args))
	for _, a := range p.Attachments {
		payloadSize += sizeBytes(len(a))
	}
	trace := n.Trace.Traceparent()
	size := sizeUint(n.CallID) + sizeBytes(len(socket)) + sizeBytes(payloadSize) + sizeBytes(len(moment)) + sizeString(trace)
	wantsAck := p.AckID != service.NoAck
	if wantsAck {
		size += sizeUint(1)
	}

	dst := make([]byte, 0, sizeBytes(size))
	dst = appendHead(dst, 5, size) // AttachResponse.event
	dst = appendUint(dst, 1, n.CallID)
	dst = appendMessage(dst, 2, socket)
	dst = appendHead(dst, 3, payloadSize)
	dst = appendString(dst, 1, event)
	dst = append(appendHead(dst, 2, len("[")+len(args)), '[')
	dst = append(dst, args...)
	for _, a := range p.Attachments {
		dst = appendMessage(dst, 4, a)
	}
	if wantsAck {
		dst = appendUint(dst, 4, 1)
	}
	return newEncoded(appendString(appendMessage(dst, 5, moment), 6, trace))
}

// appendSocketRef appends the Socket of an event, as SOCKET_VIEW_REF shows it.
func appendSocketRef(dst []byte, n *service.Notice) []byte {
	dst = appendString(dst, 1, string(n.From.ID()))
	dst = appendUint(dst, 2, n.Generation)
	dst = appendString(dst, 3, text(n.From.Namespace()))
	return appendString(dst, 4, string(n.From.NodeID()))
}

// argumentsOf is the array of an event's arguments without its opening bracket: a part of the packet.
func argumentsOf(p *service.Packet) []byte {
	_, rest, ok := payload.Token(p.Payload)
	if !ok || len(rest) == 0 || rest[0] != ',' {
		return []byte("]")
	}
	if rest = rest[1:]; !utf8.Valid(rest) {
		return bytes.ToValidUTF8(rest, []byte("\uFFFD"))
	}
	return rest
}
