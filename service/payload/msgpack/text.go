package msgpack

import (
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"foyer/service/payload"
)

// Fault is why a value did not become JSON. 0 is none.
type Fault uint8

// The faults.
const (
	Broken   Fault = iota + 1 // no msgpack, or a key that no encoder writes
	TooDeep                   // deeper than payload.MaxDepth
	TooLarge                  // over MaxBytes
	TooMany                   // more binaries than payload.MaxAttachments
)

// Text writes msgpack as JSON. What is set is set before Value.
type Text struct {
	Out         []byte   // the JSON; whatever it holds before Value stays in front
	Attachments [][]byte // the binaries in the order of the walk, parts of what is read
	BinaryBytes int      // how many bytes the attachments have together

	MaxBytes int // of Out and the attachments together
	// Inline is for a text without attachments: binaries stand in it as Node.js writes a Buffer in JSON.
	Inline bool
	// Timestamps makes dates of msgpack's own timestamps, as notepack.io 3 and @msgpack/msgpack do. notepack.io 2, of
	// which socket.io-msgpack-parser is made, does not know them.
	Timestamps bool

	// Literal says that there was a map with "_placeholder":true. Next to attachments it cannot be told from a
	// placeholder.
	Literal bool
}

// frame is an array or map that is not finished.
type frame struct {
	left  uint64 // items or pairs
	isMap bool
	comma bool
}

// Value writes the value at i, which Skip has accepted.
func (t *Text) Value(b []byte, i int) Fault {
	var shallow [16]frame
	stack := shallow[:0]
	for {
		it, next, ok := Read(b, i)
		if !ok {
			return Broken
		}
		i = next
		switch it.Kind {
		case Array, Map:
			if len(stack) == payload.MaxDepth {
				return TooDeep
			}
			if it.Kind == Array {
				t.Out = append(t.Out, '[')
			} else {
				t.Out = append(t.Out, '{')
			}
			stack = append(stack, frame{left: it.Num, isMap: it.Kind == Map})
		default:
			if f := t.scalar(&it); f != 0 {
				return f
			}
		}
		if len(t.Out)+t.BinaryBytes > t.MaxBytes {
			return TooLarge
		}
		// To the next value, closing what ends before it.
		for more := false; !more; {
			if len(stack) == 0 {
				return 0
			}
			top := &stack[len(stack)-1]
			if top.left == 0 {
				if top.isMap {
					t.Out = append(t.Out, '}')
				} else {
					t.Out = append(t.Out, ']')
				}
				stack = stack[:len(stack)-1]
				continue
			}
			top.left--
			if top.isMap {
				key, afterKey, ok := Read(b, i)
				value, afterValue, ok2 := Read(b, afterKey)
				if !ok || !ok2 {
					return Broken
				}
				if value.Kind == Undefined && key.Children() == 0 {
					i = afterValue // JSON has no such members
					continue
				}
				if top.comma {
					t.Out = append(t.Out, ',')
				}
				if f := t.key(&key); f != 0 {
					return f
				}
				t.Literal = t.Literal || value.Kind == True && string(key.Body) == "_placeholder"
				i = afterKey
			} else if top.comma {
				t.Out = append(t.Out, ',')
			}
			top.comma = true
			more = true
		}
	}
}

// key writes a map's key. JavaScript makes a string of whatever it is; of what no encoder writes there that is refused.
func (t *Text) key(it *Item) Fault {
	switch it.Kind {
	case String:
		t.Out = payload.AppendQuoted(t.Out, it.Body)
	case Nil, False, True, Int, Uint, Float:
		t.Out = append(t.Out, '"')
		if f := it.Num; it.Kind == Float && (math.IsNaN(math.Float64frombits(f)) || math.IsInf(math.Float64frombits(f), 0)) {
			return Broken
		}
		if f := t.scalar(it); f != 0 {
			return f
		}
		t.Out = append(t.Out, '"')
	default:
		return Broken
	}
	t.Out = append(t.Out, ':')
	return 0
}

func (t *Text) scalar(it *Item) Fault {
	switch it.Kind {
	case False:
		t.Out = append(t.Out, "false"...)
	case True:
		t.Out = append(t.Out, "true"...)
	case Int:
		t.Out = strconv.AppendInt(t.Out, int64(it.Num), 10)
	case Uint:
		t.Out = strconv.AppendUint(t.Out, it.Num, 10)
	case Float:
		t.Out = AppendNumber(t.Out, math.Float64frombits(it.Num))
	case String:
		t.Out = payload.AppendQuoted(t.Out, it.Body)
	case Binary:
		return t.Binary(it.Body)
	case Date:
		t.Out = AppendDate(t.Out, float64(int64(it.Num)))
	case Ext:
		if it.Ext == timestamp && t.Timestamps {
			ms, ok := milliseconds(it.Body)
			if !ok {
				return Broken
			}
			t.Out = AppendDate(t.Out, ms)
			break
		}
		// notepack makes an array of what it does not know: the type and the bytes.
		t.Out = append(t.Out, '[')
		t.Out = strconv.AppendInt(t.Out, int64(it.Ext), 10)
		t.Out = append(t.Out, ',')
		if f := t.Binary(it.Body); f != 0 {
			return f
		}
		t.Out = append(t.Out, ']')
	default: // nil; undefined, where JSON needs a value
		t.Out = append(t.Out, "null"...)
	}
	return 0
}

// Binary writes a binary value.
func (t *Text) Binary(body []byte) Fault {
	if t.Inline {
		t.Out = append(t.Out, `{"type":"Buffer","data":[`...)
		for i, c := range body {
			if i > 0 {
				t.Out = append(t.Out, ',')
			}
			t.Out = strconv.AppendUint(t.Out, uint64(c), 10)
		}
		t.Out = append(t.Out, "]}"...)
		return 0
	}
	if len(t.Attachments) == payload.MaxAttachments {
		return TooMany
	}
	t.Out = append(t.Out, `{"_placeholder":true,"num":`...)
	t.Out = strconv.AppendInt(t.Out, int64(len(t.Attachments)), 10)
	t.Out = append(t.Out, '}')
	t.Attachments = append(t.Attachments, body)
	t.BinaryBytes += len(body)
	return 0
}

// AppendNumber appends a number as JavaScript does (ECMAScript, Number::toString); JSON.stringify makes null of what is
// none.
func AppendNumber(b []byte, f float64) []byte {
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

// timestamp is the extension type that msgpack itself gives to times.
const timestamp = -1

// milliseconds is the time in a timestamp of 4, 8 or 12 bytes, in the arithmetic of the official decoders.
func milliseconds(body []byte) (ms float64, ok bool) {
	switch len(body) {
	case 4:
		return float64(binary.BigEndian.Uint32(body)) * 1e3, true
	case 8:
		const bits = 34 // of the seconds; nanoseconds stand above
		n := binary.BigEndian.Uint64(body)
		return float64(n&(1<<bits-1))*1e3 + float64(n>>bits)/1e6, true
	case 12:
		return float64(int64(binary.BigEndian.Uint64(body[4:])))*1e3 + float64(binary.BigEndian.Uint32(body))/1e6, true
	default:
		return 0, false
	}
}

// AppendDate appends a time in milliseconds as JavaScript's Date.toJSON does, and null for one that Date cannot hold.
func AppendDate(b []byte, ms float64) []byte {
	const most = 8_640_000_000_000_000
	if ms < -most || ms > most {
		return append(b, "null"...)
	}
	at := time.UnixMilli(int64(ms)).UTC() // without a fraction, as Date keeps it
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
