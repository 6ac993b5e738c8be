package engineio

import (
	"bytes"
	"unicode/utf8"
)

// payloadReader walks the packets of a POST body (Engine.IO v4, "HTTP long-polling"). Every 0x1E separates, so an empty
// body and a separator at either end yield an empty, hence undecodable, packet.
type payloadReader struct {
	rest []byte
	done bool
	one  bool // the body is a single packet, which may then own all of its bytes
}

func newPayloadReader(body []byte) *payloadReader {
	return &payloadReader{rest: body, one: bytes.IndexByte(body, separator) < 0}
}

// next returns the next packet; ok is false at the end. Text that is no UTF-8 is an error like any other. Data of a
// message is a slice of its own unless the body holds nothing else, so that keeping one packet does not keep the body.
func (r *payloadReader) next() (p packet, ok bool, err error) {
	if r.done {
		return packet{}, false, nil
	}
	part, rest, more := bytes.Cut(r.rest, []byte{separator})
	if r.rest, r.done = rest, !more; r.done {
		r.rest = nil // a paused session may wait for long after the last packet: not with the body
	}
	if !utf8.Valid(part) {
		r.done = true
		return packet{}, false, errPacket
	}
	if p, err = decodePacket(part); err != nil {
		r.done = true
		return packet{}, false, err
	}
	if p.typ == packetMessage && !p.binary && !r.one {
		p.data = bytes.Clone(p.data)
	}
	return p, true, nil
}
