package socketio

import (
	"bytes"
	"math"
	"strconv"
	"time"

	"foyer/service"
	"foyer/service/payload"
)

// decodeMsgpack decodes a packet of socket.io-msgpack-parser: one map, keys in any order, unknown ones ignored (Socket.IO
// protocol v5, "msgpack parser"). The payload becomes JSON, its binaries become attachments in the order of the walk, as
// parts of b or copies. Payload and attachments together must stay within maxBytes.
func decodeMsgpack(b []byte, maxBytes int) (in incoming, f fault) {
	in.id = service.NoAck
	head, i, ok := readItem(b, 0)
	if !ok || head.kind != itemMap {
		return in, faultPayload
	}
	var typ, nsp, data, id item
	dataAt, dataEnd := 0, 0
	typ.kind, nsp.kind, data.kind, id.kind = itemUndefined, itemUndefined, itemUndefined, itemUndefined
	for range head.num {
		key, _, ok := readItem(b, i)
		at, ok2 := skipItem(b, i)
		if !ok || !ok2 {
			return in, faultPayload
		}
		value, _, ok := readItem(b, at)
		end, ok2 := skipItem(b, at)
		if !ok || !ok2 {
			return in, faultPayload
		}
		if key.kind == itemString {
			switch string(key.body) { // of two equal keys the later counts, as in JavaScript
			case "type":
				typ = value
			case "nsp":
				nsp = value
			case "id":
				id = value
			case "data":
				data, dataAt, dataEnd = value, at, end
			}
		}
		i = end
	}
	if i != len(b) {
		return in, faultPayload
	}
	kind, ok := typ.whole()
	switch {
	case !ok || kind < 0 || kind > int64(service.KindConnectError):
		return in, faultType
	case kind == int64(service.KindConnectError):
		return in, faultDirection
	case nsp.kind != itemString || !sendable(nsp.body):
		return in, faultNamespace
	}
	in.kind, in.namespace = service.Kind(kind), nsp.body
	if id.kind != itemUndefined {
		if in.id, ok = id.whole(); !ok || in.id < 0 {
			return in, faultAckID
		}
	}
	want := itemArray
	switch in.kind {
	case service.KindConnect:
		if want = itemMap; data.kind == itemUndefined {
			return in, 0
		}
	case service.KindDisconnect:
		want = itemUndefined
	}
	if data.kind != want {
		return in, faultPayload
	}
	if want == itemUndefined {
		return in, 0
	}
	text := jsonText{maxBytes: maxBytes, inline: in.kind == service.KindConnect}
	text.out = make([]byte, 0, min(dataEnd-dataAt+(dataEnd-dataAt)/8+32, maxBytes))
	if f := text.value(b, dataAt); f != 0 {
		return in, f
	}
	if text.literal && len(text.attachments) > 0 {
		// A map that only looks like a placeholder would become one: next to attachments they can not be told apart.
		return in, faultPlaceholder
	}
	in.payload = keep(text.out, cap(text.out))
	in.attachments = text.attachments
	if text.binaryBytes < len(b)/2 { // most of the message would be held for nothing
		for i, a := range in.attachments {
			in.attachments[i] = bytes.Clone(a)
		}
	}
	if in.kind == service.KindEvent {
		// This parser's reference checks no names. Events without one, or with one that would be taken for Socket.IO's own,
		// have no listener there; here they are ignored by having no name.
		name, _, ok := payload.Token(in.payload)
		if ok && !reserved(name) {
			in.name = name
		}
	}
	return in, 0
}

// jsonText writes msgpack as JSON.
type jsonText struct {
	out         []byte
	attachments [][]byte
	binaryBytes int
	maxBytes    int
	inline      bool // binaries have no attachments to go to: they are written as Node.js writes a Buffer
	literal     bool // there was a map with "_placeholder":true
}

// frame is an array or map that is not finished.
type frame struct {
	left  uint64 // items or pairs
	isMap bool
	comma bool
}

// value writes the value at i, which skipItem has accepted. It does not recurse, so that a deep value does not leave the
// link's goroutine with a large stack.
func (t *jsonText) value(b []byte, i int) fault {
	var shallow [16]frame
	stack := shallow[:0]
	for {
		it, next, ok := readItem(b, i)
		if !ok {
			return faultPayload
		}
		i = next
		switch it.kind {
		case itemArray, itemMap:
			if len(stack) == payload.MaxDepth {
				return faultDepth
			}
			if it.kind == itemArray {
				t.out = append(t.out, '[')
			} else {
				t.out = append(t.out, '{')
			}
			stack = append(stack, frame{left: it.num, isMap: it.kind == itemMap})
		default:
			if f := t.scalar(&it); f != 0 {
				return f
			}
		}
		if len(t.out)+t.binaryBytes > t.maxBytes {
			return faultTooLarge
		}
		// To the next value, closing what ends before it.
		for more := false; !more; {
			if len(stack) == 0 {
				return 0
			}
			top := &stack[len(stack)-1]
			if top.left == 0 {
				if top.isMap {
					t.out = append(t.out, '}')
				} else {
					t.out = append(t.out, ']')
				}
				stack = stack[:len(stack)-1]
				continue
			}
			top.left--
			if top.isMap {
				key, afterKey, ok := readItem(b, i)
				value, afterValue, ok2 := readItem(b, afterKey)
				if !ok || !ok2 {
					return faultPayload
				}
				if value.kind == itemUndefined && key.children() == 0 {
					i = afterValue // JSON has no such members
					continue
				}
				if top.comma {
					t.out = append(t.out, ',')
				}
				if f := t.key(&key); f != 0 {
					return f
				}
				t.literal = t.literal || value.kind == itemTrue && string(key.body) == "_placeholder"
				i = afterKey
			} else if top.comma {
				t.out = append(t.out, ',')
			}
			top.comma = true
			more = true
		}
	}
}

// key writes a map's key. JavaScript makes a string of whatever it is; of what no encoder writes there that is refused.
func (t *jsonText) key(it *item) fault {
	switch it.kind {
	case itemString:
		t.out = payload.AppendQuoted(t.out, it.body)
	case itemNil, itemFalse, itemTrue, itemInt, itemUint, itemFloat:
		t.out = append(t.out, '"')
		if f := it.num; it.kind == itemFloat && (math.IsNaN(math.Float64frombits(f)) || math.IsInf(math.Float64frombits(f), 0)) {
			return faultPayload
		}
		if f := t.scalar(it); f != 0 {
			return f
		}
		t.out = append(t.out, '"')
	default:
		return faultPayload
	}
	t.out = append(t.out, ':')
	return 0
}

func (t *jsonText) scalar(it *item) fault {
	switch it.kind {
	case itemFalse:
		t.out = append(t.out, "false"...)
	case itemTrue:
		t.out = append(t.out, "true"...)
	case itemInt:
		t.out = strconv.AppendInt(t.out, int64(it.num), 10)
	case itemUint:
		t.out = strconv.AppendUint(t.out, it.num, 10)
	case itemFloat:
		t.out = appendNumber(t.out, math.Float64frombits(it.num))
	case itemString:
		t.out = payload.AppendQuoted(t.out, it.body)
	case itemBinary:
		return t.binary(it.body)
	case itemDate:
		t.out = appendDate(t.out, int64(it.num))
	case itemExt: // notepack makes an array of what it does not know: the type and the bytes
		t.out = append(t.out, '[')
		t.out = strconv.AppendInt(t.out, int64(it.ext), 10)
		t.out = append(t.out, ',')
		if f := t.binary(it.body); f != 0 {
			return f
		}
		t.out = append(t.out, ']')
	default: // nil; undefined, where JSON needs a value
		t.out = append(t.out, "null"...)
	}
	return 0
}

func (t *jsonText) binary(body []byte) fault {
	if t.inline {
		t.out = append(t.out, `{"type":"Buffer","data":[`...)
		for i, c := range body {
			if i > 0 {
				t.out = append(t.out, ',')
			}
			t.out = strconv.AppendUint(t.out, uint64(c), 10)
		}
		t.out = append(t.out, "]}"...)
		return 0
	}
	if len(t.attachments) == payload.MaxAttachments {
		return faultAttachments
	}
	t.out = append(t.out, `{"_placeholder":true,"num":`...)
	t.out = strconv.AppendInt(t.out, int64(len(t.attachments)), 10)
	t.out = append(t.out, '}')
	t.attachments = append(t.attachments, body)
	t.binaryBytes += len(body)
	return 0
}

// appendNumber writes a number as JavaScript does (ECMAScript, Number::toString); JSON.stringify makes null of what is none.
func appendNumber(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	abs := math.Abs(f)
	switch {
	case abs == 0:
		return append(b, '0') // without the sign of -0
	case abs >= 1e-6 && abs < 1e21:
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	if n := len(b); b[n-4] == 'e' && b[n-2] == '0' { // Go writes two digits at least: e-07
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b
}

// appendDate writes a time in milliseconds as JavaScript's Date.toJSON does, and null for one that Date can not hold.
func appendDate(b []byte, ms int64) []byte {
	const most = 8_640_000_000_000_000
	if ms < -most || ms > most {
		return append(b, "null"...)
	}
	at := time.UnixMilli(ms).UTC()
	b = append(b, '"')
	switch year := at.Year(); {
	case year < 0:
		b = appendYear(append(b, '-'), -year, 100_000)
	case year > 9999:
		b = appendYear(append(b, '+'), year, 100_000)
	default:
		b = appendYear(b, year, 1000)
	}
	return at.AppendFormat(b, `-01-02T15:04:05.000Z"`)
}

func appendYear(b []byte, year, first int) []byte {
	for d := first; d > 0; d /= 10 {
		b = append(b, '0'+byte(year/d%10))
	}
	return b
}
