package engineio

import (
	"bytes"
	"unicode/utf8"
)

// decodeEIO3 decodes one packet of version 3. A binary packet begins with its type as a number; only messages are ever
// sent so. In text, base64 stands behind "b" and the type.
func decodeEIO3(b []byte, binary bool) (packet, error) {
	switch {
	case binary:
		if len(b) == 0 || b[0] != binaryMessage {
			return packet{}, errPacket
		}
		return packet{typ: packetMessage, binary: true, data: b[1:]}, nil
	case len(b) > 0 && b[0] == binaryPrefix:
		if len(b) < 2 || b[1] != packetMessage {
			return packet{}, errPacket
		}
		return packet{typ: packetMessage, binary: true, data: decodeBase64(b[2:])}, nil
	}
	return decodePacket(b)
}

// eio3Reader walks the packets of a POST body of version 3, in the text or the binary encoding. Every length has to be
// met exactly. Data of a message is a slice of its own unless the body holds nothing else, so that keeping one packet
// does not keep the body.
type eio3Reader struct {
	rest   []byte
	octets bool // the binary encoding
	failed bool
	shared bool // a packet was read before
}

func newEIO3Reader(body []byte, octets bool) *eio3Reader {
	return &eio3Reader{rest: body, octets: octets, failed: len(body) == 0}
}

func (r *eio3Reader) next() (p packet, ok bool, err error) {
	for !r.failed {
		if len(r.rest) == 0 {
			return packet{}, false, nil
		}
		part, binary, ok := r.cut()
		if ok && len(part) == 0 && !r.octets { // "0:" is how an empty payload is encoded
			continue
		}
		r.failed = true
		if !ok || !binary && !utf8.Valid(part) {
			break
		}
		if p, err = decodeEIO3(part, binary); err != nil {
			break
		}
		r.failed = false
		if r.shared = r.shared || len(r.rest) > 0; r.shared && p.typ == packetMessage && (r.octets || !p.binary) {
			p.data = bytes.Clone(p.data)
		}
		return p, true, nil
	}
	return packet{}, false, errPacket
}

// cut takes the next packet off the rest.
func (r *eio3Reader) cut() (part []byte, binary, ok bool) {
	zero, end := byte('0'), byte(':')
	if r.octets {
		if binary = r.rest[0] == octetsBinary; !binary && r.rest[0] != octetsText {
			return nil, false, false
		}
		r.rest, zero, end = r.rest[1:], 0, octetsEnd
	}
	n, ok := r.cutLength(zero, end)
	if ok && !r.octets {
		n, ok = utf16Index(r.rest, n)
	}
	if !ok || n > len(r.rest) {
		return nil, false, false
	}
	part, r.rest = r.rest[:n:n], r.rest[n:]
	return part, binary, true
}

// cutLength takes a length off the rest: one or more digits, which count from zero, and what ends them. A length over
// the rest cannot be met, whatever it counts, so nothing overflows.
func (r *eio3Reader) cutLength(zero, end byte) (n int, ok bool) {
	for i, c := range r.rest {
		switch {
		case c == end:
			r.rest = r.rest[i+1:]
			return n, i > 0
		case c-zero > 9:
			return 0, false
		}
		if n = 10*n + int(c-zero); n > len(r.rest) {
			return 0, false
		}
	}
	return 0, false
}

// utf16Index returns how many bytes the first n UTF-16 code units of a text take. It says false when the text is too
// short, is no UTF-8, or has no end of a character there.
func utf16Index(text []byte, n int) (i int, ok bool) {
	for n > 0 && i < len(text) {
		c, size := utf8.DecodeRune(text[i:])
		if c == utf8.RuneError && size < 2 {
			return 0, false
		}
		i += size
		if n--; size == utf8.UTFMax {
			n--
		}
	}
	return i, n == 0
}
