package official

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strings"

	"foyer/service/payload"
	"foyer/service/payload/msgpack"
)

// Types of BSON elements (bsonspec.org, version 1.1): those that the official adapter and what applications emit have.
// A document with another one is refused.
const (
	bsonDouble    = 0x01
	bsonString    = 0x02
	bsonDocument  = 0x03
	bsonArray     = 0x04
	bsonBinary    = 0x05
	bsonUndefined = 0x06
	bsonObjectID  = 0x07
	bsonBool      = 0x08
	bsonDate      = 0x09
	bsonNull      = 0x0a
	bsonInt32     = 0x10
	bsonInt64     = 0x12
)

// emptyDocument is how many bytes the smallest document has: its length and the byte that ends it.
const emptyDocument = 5

func parseBSON(b []byte, maxBytes int) (value, Fault) {
	if len(b) > maxBytes {
		return value{}, TooLarge
	}
	if f := checkBSON(b); f != 0 {
		return value{}, f
	}
	return value{b: b, form: inBSON, typ: bsonDocument}, 0
}

// bsonSize is how many bytes a value takes that begins b. It says false when there are not so many, or when the type is
// not one of the above.
func bsonSize(typ byte, b []byte) (int, bool) {
	n := 0
	switch typ {
	case bsonUndefined, bsonNull:
	case bsonBool:
		n = 1
	case bsonInt32:
		n = 4
	case bsonDouble, bsonDate, bsonInt64:
		n = 8
	case bsonObjectID:
		n = 12
	case bsonString, bsonDocument, bsonArray, bsonBinary:
		if len(b) < 4 {
			return 0, false
		}
		n = int(int32(binary.LittleEndian.Uint32(b)))
		if n < 0 || n > len(b) {
			return 0, false
		}
		switch typ {
		case bsonString:
			if n += 4; n == 4 || n > len(b) || b[n-1] != 0 {
				return 0, false
			}
		case bsonBinary:
			n += 4 + 1
		default:
			if n < emptyDocument || b[n-1] != 0 {
				return 0, false
			}
		}
	default:
		return 0, false
	}
	return n, n <= len(b)
}

// element is the element at i of a document that ends at end: its value, where its name is and where the value begins.
func bsonElement(b []byte, i, end int) (typ byte, name []byte, at, size int, ok bool) {
	if i >= end {
		return 0, nil, 0, 0, false
	}
	typ = b[i]
	n := bytes.IndexByte(b[i+1:end], 0)
	if n < 0 {
		return 0, nil, 0, 0, false
	}
	at = i + 1 + n + 1
	size, ok = bsonSize(typ, b[at:end])
	return typ, b[i+1 : at-1], at, size, ok
}

// checkBSON looks at every element once, without recursion.
func checkBSON(b []byte) Fault {
	if n, ok := bsonSize(bsonDocument, b); !ok || n != len(b) {
		return Garbled
	}
	var few [16]int
	ends := append(few[:0], len(b)-1) // where the bytes stand that end what is open
	for i := 4; len(ends) > 0; {
		end := ends[len(ends)-1]
		if i == end {
			ends = ends[:len(ends)-1]
			i++
			continue
		}
		typ, _, at, size, ok := bsonElement(b, i, end)
		switch {
		case !ok:
			return Garbled
		case typ != bsonDocument && typ != bsonArray:
			i = at + size
		case len(ends) == payload.MaxDepth:
			return TooDeep
		default:
			ends = append(ends, at+size-1)
			i = at + 4
		}
	}
	return 0
}

func (v value) bsonSort() sort {
	switch v.typ {
	case bsonUndefined:
		return absent
	case bsonNull:
		return null
	case bsonBool:
		if v.b[0] != 0 {
			return yes
		}
		return no
	case bsonDouble, bsonInt32, bsonInt64:
		return number
	case bsonString:
		return text
	case bsonArray:
		return list
	case bsonDocument:
		return object
	default:
		return other
	}
}

// bsonBytes are the bytes of a text.
func bsonBytes(b []byte) []byte { return b[4 : len(b)-1] }

func (v value) bsonText() string { return strings.ToValidUTF8(string(bsonBytes(v.b)), "\uFFFD") }

func (v value) bsonNumber() float64 {
	switch v.typ {
	case bsonInt32:
		return float64(int32(binary.LittleEndian.Uint32(v.b)))
	case bsonInt64:
		return float64(int64(binary.LittleEndian.Uint64(v.b)))
	default:
		return math.Float64frombits(binary.LittleEndian.Uint64(v.b))
	}
}

// bsonElements calls yield with the name and the value of each element until it says false.
func (v value) bsonElements(yield func(name []byte, item value) bool) {
	end := len(v.b) - 1
	for i := 4; i < end; {
		typ, name, at, size, _ := bsonElement(v.b, i, end)
		i = at + size
		if !yield(name, value{v.b[at:i:i], inBSON, typ}) {
			return
		}
	}
}

// bsonJSON writes a value as JSON, as JSON.stringify does with what the official driver reads.
func (v value) bsonJSON(t *msgpack.Text) Fault {
	type frame struct {
		end   int
		array bool
		comma bool
	}
	var few [16]frame
	stack := few[:0]
	b, typ, at, size := v.b, v.typ, 0, len(v.b)
	for {
		i := at + size
		switch item := b[at:i]; typ {
		case bsonDocument, bsonArray:
			if len(stack) == payload.MaxDepth {
				return TooDeep
			}
			stack = append(stack, frame{end: i - 1, array: typ == bsonArray})
			i = at + 4
			t.Out = append(t.Out, bracket(typ == bsonArray, '[', '{'))
		case bsonString:
			t.Out = payload.AppendQuoted(t.Out, bsonBytes(item))
		case bsonBinary:
			if f := msgpackFaults[t.Binary(item[5:])]; f != 0 {
				return f
			}
		case bsonObjectID:
			t.Out = append(hex.AppendEncode(append(t.Out, '"'), item), '"')
		case bsonDate:
			t.Out = msgpack.AppendDate(t.Out, float64(int64(binary.LittleEndian.Uint64(item))))
		case bsonBool:
			if item[0] != 0 {
				t.Out = append(t.Out, "true"...)
			} else {
				t.Out = append(t.Out, "false"...)
			}
		case bsonDouble, bsonInt32, bsonInt64:
			t.Out = msgpack.AppendNumber(t.Out, value{item, inBSON, typ}.bsonNumber())
		default:
			t.Out = append(t.Out, "null"...)
		}
		if len(t.Out)+t.BinaryBytes > t.MaxBytes {
			return TooLarge
		}
		// To the next value, closing what ends before it.
		for {
			if len(stack) == 0 {
				return 0
			}
			top := &stack[len(stack)-1]
			if i == top.end {
				t.Out = append(t.Out, bracket(top.array, ']', '}'))
				stack = stack[:len(stack)-1]
				i++
				continue
			}
			var name []byte
			typ, name, at, size, _ = bsonElement(b, i, top.end)
			if typ == bsonUndefined && !top.array {
				i = at + size // JSON has no such members
				continue
			}
			if top.comma {
				t.Out = append(t.Out, ',')
			}
			top.comma = true
			if !top.array {
				t.Literal = t.Literal || typ == bsonBool && b[at] != 0 && string(name) == "_placeholder"
				t.Out = append(payload.AppendQuoted(t.Out, name), ':')
			}
			break
		}
	}
}

func bracket(array bool, ofArray, ofObject byte) byte {
	if array {
		return ofArray
	}
	return ofObject
}
