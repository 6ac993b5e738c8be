package socketio

import (
	"bytes"
	"math"
	"strconv"

	"github.com/tinylib/msgp/msgp"

	"foyer/service"
	"foyer/service/payload"
	"foyer/transport/engineio"
)

// Msgpack is the codec of links that use socket.io-msgpack-parser. Its frames are *engineio.Message.
var Msgpack service.Codec = msgpackCodec{}

type msgpackCodec struct{}

// Join makes one message of several.
func (msgpackCodec) Join(frames []service.Frame) service.Frame { return joinMessages(frames) }

// Encode returns an error for an unknown kind, an event without payload, attachments that a packet can not have, and a
// payload that is no JSON (an *payload.Error).
func (msgpackCodec) Encode(p *service.Packet) (service.Frame, error) {
	if err := checkOutgoing(p); err != nil {
		return nil, err
	}
	size := len(p.Payload) + len(p.Namespace) + 32
	for _, a := range p.Attachments {
		size += len(a)
	}
	b, err := appendMsgpack(make([]byte, 0, size), p)
	if err != nil {
		return nil, err
	}
	return engineio.NewBinary(b), nil
}

// appendMsgpack writes the keys in the order in which the reference's server does, and leaves out what is absent.
func appendMsgpack(b []byte, p *service.Packet) (_ []byte, err error) {
	hasID := p.AckID >= 0 && (p.Kind == service.KindEvent || p.Kind == service.KindAck)
	text := p.Payload
	if p.Kind == service.KindAck && len(text) == 0 {
		text = noArguments
	}
	if p.Kind == service.KindDisconnect {
		text = nil
	}
	keys := uint32(2)
	if hasID {
		keys++
	}
	if len(text) > 0 {
		keys++
	}
	b = msgp.AppendMapHeader(b, keys)
	id := func() {
		if hasID {
			b = msgp.AppendUint64(msgp.AppendString(b, "id"), uint64(p.AckID))
		}
	}
	nsp := func() { b = msgp.AppendString(msgp.AppendString(b, "nsp"), p.Namespace) }
	data := func() {
		if len(text) > 0 && err == nil {
			b, err = appendValue(msgp.AppendString(b, "data"), text, p.Attachments)
		}
	}
	typ := func() { b = msgp.AppendUint64(msgp.AppendString(b, "type"), uint64(p.Kind)) }
	switch p.Kind {
	case service.KindAck:
		id()
		typ()
		data()
		nsp()
	case service.KindConnectError:
		typ()
		nsp()
		data()
	default:
		typ()
		data()
		id()
		nsp()
	}
	return b, err
}

// appendValue writes JSON as msgpack, binaries in the place of their placeholders. As msgpack says in front how much an
// array or map holds, payload.Measure counts first; after that the text is right, and needs no stack, no recursion and no
// look at its commas.
func appendValue(b, text []byte, attachments [][]byte) ([]byte, error) {
	var few [32]int32
	shape, err := payload.Measure(text, len(attachments), few[:0])
	if err != nil {
		return b, err
	}
	var scratch []byte
	k := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			end := closingQuote(text, i)
			inner := text[i+1 : end-1]
			if bytes.IndexByte(inner, '\\') >= 0 {
				scratch = payload.AppendUnescaped(scratch[:0], inner)
				inner = scratch
			}
			b = msgp.AppendStringFromBytes(b, inner)
			i = end
		case c == '{' || c == '[':
			n := shape[k]
			k++
			i++
			switch {
			case n < 0:
				b = msgp.AppendBytes(b, attachments[-1-n])
				var inside int
				i, inside = closingBrace(text, i)
				k += inside
			case c == '{':
				b = msgp.AppendMapHeader(b, uint32(n))
			default:
				b = msgp.AppendArrayHeader(b, uint32(n))
			}
		case c == '-' || c-'0' <= 9:
			start := i
			for i < len(text) && inNumber(text[i]) {
				i++
			}
			b = appendNumeral(b, text[start:i])
		case c == 't':
			b = msgp.AppendBool(b, true)
			i += len("true")
		case c == 'f':
			b = msgp.AppendBool(b, false)
			i += len("false")
		case c == 'n':
			b = msgp.AppendNil(b)
			i += len("null")
		default: // spaces, commas, colons, closing brackets
			i++
		}
	}
	return b, nil
}

// closingQuote returns where the string ends that begins at i.
func closingQuote(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// closingBrace returns where the object ends whose brace was just before i, and how many arrays and objects are in it.
func closingBrace(text []byte, i int) (end, inside int) {
	for depth := 1; depth > 0; {
		switch text[i] {
		case '"':
			i = closingQuote(text, i)
			continue
		case '{', '[':
			depth++
			inside++
		case '}', ']':
			depth--
		}
		i++
	}
	return i, inside
}

func inNumber(c byte) bool { return c-'0' <= 9 || c == '-' || c == '+' || c == '.' || c|0x20 == 'e' }

// appendNumeral writes a JSON number in the form that notepack gives the number which JavaScript would read: the shortest
// integer, else a float64. Integers of 64 bits keep their digits.
func appendNumeral(b, text []byte) []byte {
	const longest = len("-9223372036854775808")
	if len(text) <= longest {
		if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			return appendWhole(b, n)
		}
		if n, err := strconv.ParseUint(string(text), 10, 64); err == nil {
			return msgp.AppendUint64(b, n)
		}
	}
	f, _ := strconv.ParseFloat(string(text), 64) // out of range is infinity, in JavaScript too
	if f == math.Trunc(f) && math.Abs(f) < 1<<63 {
		return appendWhole(b, int64(f))
	}
	return msgp.AppendFloat64(b, f)
}

func appendWhole(b []byte, n int64) []byte {
	if n < 0 {
		return msgp.AppendInt64(b, n)
	}
	return msgp.AppendUint64(b, uint64(n)) // notepack writes what is positive without sign, which is shorter
}
