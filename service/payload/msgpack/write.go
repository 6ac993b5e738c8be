package msgpack

import (
	"bytes"
	"math"
	"strconv"

	"github.com/tinylib/msgp/msgp"

	"foyer/service/payload"
)

// Append appends JSON as msgpack, binaries in the place of their placeholders. It takes no more than maxDepth levels
// (0: payload.MaxDepth). The error is an *payload.Error, and b is then as before.
func Append(b, text []byte, attachments [][]byte, maxDepth int) ([]byte, error) {
	var few [32]int32
	shape, err := payload.Measure(text, len(attachments), few[:0], payload.Options{MaxDepth: maxDepth})
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
			b = AppendNumeral(b, text[start:i])
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

// AppendNumeral appends a JSON number in the form that notepack gives the number which JavaScript would read: the
// shortest integer, else a float64. Integers of 64 bits keep their digits.
func AppendNumeral(b, text []byte) []byte {
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
