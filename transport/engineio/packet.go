package engineio

import (
	"encoding/base64"
	"errors"
)

// Packet types, Engine.IO v4 section "Protocol".
const (
	packetOpen    = '0'
	packetClose   = '1'
	packetPing    = '2'
	packetPong    = '3'
	packetMessage = '4'
	packetUpgrade = '5'
	packetNoop    = '6'

	binaryPrefix = 'b'  // a binary message in a text encoding: base64 follows, no type digit
	separator    = 0x1e // between packets of a polling payload
)

var errPacket = errors.New("engineio: undecodable packet")

// packet is one decoded packet. Data aliases the bytes it was decoded from, unless binary.
type packet struct {
	typ    byte
	binary bool
	data   []byte
}

// size is the packet's bytes as its sender had them: what it says and, of a text, its type.
func (p *packet) size() int {
	if p.binary {
		return len(p.data)
	}
	return len(p.data) + 1
}

// decodePacket decodes one packet in its text form.
func decodePacket(b []byte) (packet, error) {
	if len(b) == 0 {
		return packet{}, errPacket
	}
	switch t := b[0]; t {
	case packetOpen, packetClose, packetPing, packetPong, packetMessage, packetUpgrade, packetNoop:
		return packet{typ: t, data: b[1:]}, nil
	case binaryPrefix:
		return packet{typ: packetMessage, binary: true, data: decodeBase64(b[1:])}, nil
	}
	return packet{}, errPacket
}

// decodeBase64 is lenient, as the reference server is: padding may be missing, both alphabets count, junk is skipped.
// It never fails; the receiver judges what comes out.
func decodeBase64(src []byte) []byte {
	dst := make([]byte, base64.StdEncoding.DecodedLen(len(src)))
	if n, err := base64.StdEncoding.Strict().Decode(dst, src); err == nil && cleanBase64(src) {
		return dst[:n]
	}
	clean := make([]byte, 0, len(src))
	for _, c := range src {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '/':
			clean = append(clean, c)
		case c == '-':
			clean = append(clean, '+')
		case c == '_':
			clean = append(clean, '/')
		}
	}
	if len(clean)%4 == 1 { // six bits make no byte
		clean = clean[:len(clean)-1]
	}
	n, err := base64.RawStdEncoding.Decode(clean, clean)
	if err != nil {
		return nil // cannot be: only letters of the alphabet are left
	}
	return clean[:n]
}

// cleanBase64 reports that the length is whole; encoding/base64 by itself skips line breaks.
func cleanBase64(src []byte) bool { return len(src)%4 == 0 }
