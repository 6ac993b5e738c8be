package payload

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// Reserved says whether an event name has a meaning of its own in Socket.IO, so that neither side may emit it.
func Reserved(event string) bool {
	switch event {
	case "connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener":
		return true
	default:
		return false
	}
}

// Token cuts a checked event array after its first element: the name as it stands there, a JSON string or a number, and
// the rest, which begins with the comma or the closing bracket. Both are parts of array. It says false when there is no
// element or it is neither.
func Token(array []byte) (token, rest []byte, ok bool) {
	i := space(array, 0)
	if i == len(array) || array[i] != '[' {
		return nil, nil, false
	}
	i = space(array, i+1)
	if i == len(array) {
		return nil, nil, false
	}
	var (
		end   int
		fault Fault
	)
	switch c := array[i]; {
	case c == '"':
		end, _, fault = stringEnd(array, i)
	case c == '-' || c-'0' <= 9:
		end, fault = numberEnd(array, i)
	default:
		return nil, nil, false
	}
	if fault != 0 {
		return nil, nil, false
	}
	return array[i:end], array[space(array, end):], true
}

// EventName returns the name that a checked event array begins with, unescaped; of a number, its text. rest is as in
// Token. It says false when there is no name. It allocates the name only.
func EventName(array []byte) (name string, rest []byte, ok bool) {
	token, rest, ok := Token(array)
	if !ok {
		return "", nil, false
	}
	return Unquote(token), rest, true
}

// Unquote is the text of a checked JSON string, or of any other token the token itself.
func Unquote(token []byte) string {
	if len(token) < 2 || token[0] != '"' {
		return string(token)
	}
	inner := token[1 : len(token)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	return string(AppendUnescaped(make([]byte, 0, len(inner)), inner))
}

// Event builds the array of an event from its name and the checked JSON array of its arguments, which is not encoded
// again; empty args are none. The result is a new slice.
func Event(name string, args []byte) []byte {
	array := make([]byte, 0, len(`["",`)+len(name)+len(args))
	array = AppendQuoted(append(array, '['), name)
	if i := space(args, 0); i < len(args) {
		if i = space(args, i+1); i < len(args) {
			if args[i] != ']' {
				array = append(array, ',')
			}
			return append(array, args[i:]...)
		}
	}
	return append(array, ']')
}

var none = []byte("[]")

// Split is the reverse of Event: the name, and the JSON array of the arguments after it, copied once. The arguments of
// an event without any are a shared slice that must not be changed. Of an array without a name it returns "" and the
// array.
func Split(array []byte) (name string, args []byte) {
	name, rest, ok := EventName(array)
	switch {
	case !ok:
		return "", array
	case len(rest) == 0 || rest[0] != ',': // the closing bracket
		return name, none
	}
	args = bytes.Clone(rest) // a comma stands where the bracket belongs
	args[0] = '['
	return name, args
}

const hexDigits = "0123456789abcdef"

// AppendQuoted appends s as a JSON string, escaped as little as JSON.stringify does. Bytes that are not UTF-8 become
// U+FFFD.
func AppendQuoted[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			end := min(i+utf8.UTFMax, len(s))
			r, size := utf8.DecodeRuneInString(string(s[i:end]))
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&0xf])
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// AppendUnescaped appends the text of the inside of a checked JSON string. Half a surrogate pair becomes U+FFFD.
func AppendUnescaped(dst, inner []byte) []byte {
	for {
		i := bytes.IndexByte(inner, '\\')
		if i < 0 || i+1 == len(inner) {
			return append(dst, inner...)
		}
		dst = append(dst, inner[:i]...)
		c := inner[i+1]
		inner = inner[i+2:]
		switch c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r := unit(inner)
			inner = inner[min(4, len(inner)):]
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if len(inner) >= 6 && inner[0] == '\\' && inner[1] == 'u' {
					low = unit(inner[2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					inner = inner[6:]
				}
			}
			dst = utf8.AppendRune(dst, r)
		default: // the three that stand for themselves
			dst = append(dst, c)
		}
	}
}

// unit is the number that four hexadecimal digits write.
func unit(digits []byte) rune {
	if len(digits) < 4 {
		return utf8.RuneError
	}
	var r rune
	for _, c := range digits[:4] {
		r = r<<4 | rune(unhex(c))
	}
	return r
}
