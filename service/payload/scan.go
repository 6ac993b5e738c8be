package payload

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may stand in each other; the outermost one is the first.
const MaxDepth = 1000

// MaxAttachments is how many binary values a packet may have. The official decoders refuse more.
const MaxAttachments = 10

// Fault is what is wrong with a text. Errors of this package are tested with errors.Is against one of them.
type Fault uint8

// The faults.
const (
	Syntax      Fault = iota + 1 // not JSON (RFC 8259)
	UTF8                         // a string is not UTF-8
	Depth                        // deeper than allowed
	NotArray                     // begins like JSON, but not with [
	NotObject                    // begins like JSON, but not with {
	Placeholder                  // {"_placeholder":true} without a num that belongs to an attachment
	Attachments                  // more attachments than MaxAttachments
	Unnamed                      // an attachment that no placeholder names
)

var faultWords = [...]string{
	"", "not JSON", "not UTF-8", "too deep", "not an array", "not an object", "placeholder without attachment", "too many attachments",
	"attachment without placeholder",
}

func (f Fault) Error() string {
	if int(f) >= len(faultWords) {
		return "fault " + strconv.Itoa(int(f))
	}
	return faultWords[f]
}

// Error is a Fault and where it was found.
type Error struct {
	Fault  Fault
	Offset int // bytes before it
}

func (e *Error) Error() string { return e.Fault.Error() + " at byte " + strconv.Itoa(e.Offset) }

// Unwrap returns the Fault.
func (e *Error) Unwrap() error { return e.Fault }

// Options narrow a check.
type Options struct {
	MaxDepth int // default and maximum: the constant MaxDepth
	// Exact wants each placeholder to have an attachment, also when there are none at all, and each attachment a
	// placeholder: what is emitted so arrives as it was meant, where a browser's decoder would drop the attachment or show
	// the placeholder.
	Exact bool
}

// Check says whether text is exactly one JSON array in UTF-8 and, with attachments, whether each of its placeholders
// {"_placeholder":true,"num":i} names one of them. Without attachments such an object is like any other, as in the
// reference (Socket.IO protocol v5, "Binary attachments"), unless the check is to be Exact. The error is an *Error. It
// allocates only for the error.
func Check(text []byte, attachments int, o Options) error {
	return scan(text, '[', attachments, o.Exact, o.depth(), nil)
}

// CheckObject says whether text is exactly one JSON object in UTF-8. The error is an *Error.
func CheckObject(text []byte, o Options) error {
	return scan(text, '{', 0, false, o.depth(), nil)
}

// CheckValue says whether text is exactly one JSON value in UTF-8. The error is an *Error.
func CheckValue(text []byte, o Options) error {
	return scan(text, 0, 0, false, o.depth(), nil)
}

func (o Options) depth() int {
	if o.MaxDepth <= 0 || o.MaxDepth > MaxDepth {
		return MaxDepth
	}
	return o.MaxDepth
}

// Shape is what an encoder of another form needs to know before it begins: for every array and object, in the order in
// which they open, how many items (members) it has, or -1-i when it is the placeholder of attachment i.
type Shape []int32

// Measure checks a JSON value like Check, whatever its kind, and appends its shape to into.
func Measure(text []byte, attachments int, into Shape, o Options) (Shape, error) {
	m := measure{shape: into}
	err := scan(text, 0, attachments, o.Exact, o.depth(), &m)
	return m.shape, err
}

type measure struct {
	shape Shape
	open  []int32 // indexes into shape of what is open now
}

// Bits of what is known of an open array or object: it is one byte, so that a thousand of them need no heap.
const (
	object    = 0x80
	stand     = 0x40 // has "_placeholder":true
	holding   = 0x20 // a placeholder stands somewhere in it
	numMask   = 0x0f
	numNobody = 0x0f // "num" is missing, no number, or of no attachment
)

// role is the meaning of the member whose value comes next.
type role uint8

const (
	roleNone role = iota
	rolePlaceholder
	roleNum
)

// scan walks text without recursion: the goroutine of a link must not keep a large stack because one client once sent a
// deep array. kind is '[', '{' or 0 for any value.
func scan(text []byte, kind byte, attachments int, exact bool, maxDepth int, m *measure) error {
	if attachments > MaxAttachments {
		return &Error{Attachments, 0}
	}
	var (
		levels [MaxDepth]uint8
		depth  int
		next   role
		fault  Fault
		named  uint16 // attachments that have a placeholder, a bit each
	)
	i := space(text, 0)
	if i < len(text) && kind != 0 && text[i] != kind {
		return &Error{wrongKind(kind, text[i]), i}
	}

value:
	if i == len(text) {
		return &Error{Syntax, i}
	}
	switch c := text[i]; {
	case c == '"':
		note(levels[:depth], next, nil, 0)
		if i, _, fault = stringEnd(text, i); fault != 0 {
			return &Error{fault, i}
		}
	case c == '{' || c == '[':
		note(levels[:depth], next, nil, 0)
		if depth == maxDepth {
			return &Error{Depth, i}
		}
		level := uint8(numNobody)
		if c == '{' {
			level |= object
		}
		levels[depth] = level
		depth++
		if m != nil {
			m.push()
		}
		i = space(text, i+1)
		if i < len(text) && text[i] == c+2 { // ] and } stand two after [ and {
			goto closing
		}
		if c == '{' {
			goto key
		}
		if m != nil {
			m.item()
		}
		next = roleNone
		goto value
	case c == '-' || c-'0' <= 9:
		start := i
		if i, fault = numberEnd(text, i); fault != 0 {
			return &Error{fault, i}
		}
		note(levels[:depth], next, text[start:i], attachments)
	default:
		word := "null"
		switch c {
		case 't':
			word = "true"
		case 'f':
			word = "false"
		}
		for j := range len(word) {
			if i+j == len(text) || text[i+j] != word[j] {
				return &Error{Syntax, i + j}
			}
		}
		note(levels[:depth], next, text[i:i+len(word)], attachments)
		i += len(word)
	}

after:
	i = space(text, i)
	if depth == 0 {
		if i != len(text) {
			return &Error{Syntax, i}
		}
		if exact && named != 1<<attachments-1 {
			return &Error{Unnamed, i}
		}
		return nil
	}
	if i == len(text) {
		return &Error{Syntax, i}
	}
	switch c := text[i]; {
	case c == ',':
		i = space(text, i+1)
		if levels[depth-1]&object != 0 {
			goto key
		}
		if m != nil {
			m.item()
		}
		next = roleNone
		goto value
	case c == ']' && levels[depth-1]&object == 0, c == '}' && levels[depth-1]&object != 0:
		goto closing
	default:
		return &Error{Syntax, i}
	}

key:
	if i == len(text) || text[i] != '"' {
		return &Error{Syntax, i}
	}
	{
		start := i
		end, escaped, fault := stringEnd(text, i)
		if i = end; fault != 0 {
			return &Error{fault, i}
		}
		next = roleNone
		if attachments > 0 || exact {
			next = roleOf(text[start+1:i-1], escaped)
		}
	}
	if m != nil {
		m.item()
	}
	if i = space(text, i); i == len(text) || text[i] != ':' {
		return &Error{Syntax, i}
	}
	i = space(text, i+1)
	goto value

closing:
	depth--
	num := -1
	if levels[depth]&stand != 0 {
		num = int(levels[depth] & numMask)
		if num == numNobody || exact && levels[depth]&holding != 0 { // what stands in a placeholder vanishes with it
			return &Error{Placeholder, i}
		}
		named |= 1 << num
	}
	if levels[depth]&(stand|holding) != 0 && depth > 0 {
		levels[depth-1] |= holding
	}
	if m != nil {
		m.pop(num)
	}
	i++
	goto after
}

func wrongKind(want, got byte) Fault {
	switch {
	case got != '"' && got != '{' && got != '[' && got != '-' && got-'0' > 9 && got != 't' && got != 'f' && got != 'n':
		return Syntax
	case want == '[':
		return NotArray
	default:
		return NotObject
	}
}

// note keeps what a value says about the placeholder that its object may be. Of two members with one name the later
// counts, as in JavaScript. scalar is nil for what is neither a number nor true, false or null.
func note(open []uint8, r role, scalar []byte, attachments int) {
	switch r {
	case rolePlaceholder:
		level := &open[len(open)-1]
		*level &^= stand
		if len(scalar) == len("true") && scalar[0] == 't' {
			*level |= stand
		}
	case roleNum:
		level := &open[len(open)-1]
		*level |= numNobody
		if n := index(scalar); n >= 0 && n < attachments {
			*level = *level&^numMask | uint8(n)
		}
	}
}

// index is the value of a number token, or -1 if it is no index of an attachment.
func index(token []byte) int {
	if len(token) == 1 && token[0]-'0' <= 9 {
		return int(token[0] - '0')
	}
	const longest = 16 // 0.0 or 2e0 may come from other languages' encoders; nobody writes a longer one
	if len(token) == 0 || len(token) > longest {
		return -1
	}
	f, err := strconv.ParseFloat(string(token), 64) // fails for true, false and null, too
	if err != nil || f < 0 || f >= MaxAttachments || f != float64(int(f)) {
		return -1
	}
	return int(f)
}

func roleOf(key []byte, escaped bool) role {
	const longest = len(`\u005f`) * len("_placeholder")
	if escaped && len(key) <= longest {
		var buf [longest]byte
		key = AppendUnescaped(buf[:0], key)
	}
	switch string(key) {
	case "_placeholder":
		return rolePlaceholder
	case "num":
		return roleNum
	default:
		return roleNone
	}
}

func (m *measure) push() {
	m.open = append(m.open, int32(len(m.shape)))
	m.shape = append(m.shape, 0)
}

func (m *measure) item() { m.shape[m.open[len(m.open)-1]]++ }

func (m *measure) pop(num int) {
	last := len(m.open) - 1
	if num >= 0 {
		m.shape[m.open[last]] = int32(-1 - num)
	}
	m.open = m.open[:last]
}

func space(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t' || text[i] == '\r') {
		i++
	}
	return i
}

// plain returns where, from i on, the first byte stands that a string cannot simply contain: a quote, a backslash, a
// control character, or one that is not ASCII. Eight bytes at a time: most of what is ever scanned are such bytes.
func plain(text []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(text) {
		w := binary.LittleEndian.Uint64(text[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		found := (w | (w-ones*0x20)&^w | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		if found != 0 {
			return i + bits.TrailingZeros64(found)/8 // a borrow falsifies only bytes above the first hit
		}
		i += 8
	}
	for i < len(text) && text[i] >= 0x20 && text[i] < utf8.RuneSelf && text[i] != '"' && text[i] != '\\' {
		i++
	}
	return i
}

// stringEnd returns where the string ends that begins with the quote at i, or where its fault is.
func stringEnd(text []byte, i int) (end int, escaped bool, fault Fault) {
	i++
	for {
		i = plain(text, i)
		if i == len(text) {
			return i, escaped, Syntax
		}
		switch c := text[i]; {
		case c == '"':
			return i + 1, escaped, 0
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				return i, escaped, UTF8
			}
			i += size
		case c == '\\':
			escaped = true
			if i++; i == len(text) {
				return i, escaped, Syntax
			}
			switch text[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i++
			case 'u':
				i++
				for range 4 {
					if i == len(text) || unhex(text[i]) < 0 {
						return i, escaped, Syntax
					}
					i++
				}
			default:
				return i, escaped, Syntax
			}
		default:
			return i, escaped, Syntax // a raw control character
		}
	}
}

// numberEnd returns where the number ends that begins at i, or where its fault is.
func numberEnd(text []byte, i int) (int, Fault) {
	if text[i] == '-' {
		i++
	}
	first := i
	if i = digits(text, i); i == first || (text[first] == '0' && i > first+1) {
		return i, Syntax
	}
	if i < len(text) && text[i] == '.' {
		first = i + 1
		if i = digits(text, first); i == first {
			return i, Syntax
		}
	}
	if i < len(text) && text[i]|0x20 == 'e' {
		i++
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		first = i
		if i = digits(text, first); i == first {
			return i, Syntax
		}
	}
	return i, 0
}

func digits(text []byte, i int) int {
	for i < len(text) && text[i]-'0' <= 9 {
		i++
	}
	return i
}

func unhex(c byte) int {
	switch {
	case c-'0' <= 9:
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	default:
		return -1
	}
}

// Unpacked estimates how large a JSON object becomes as a google.protobuf.Struct, without decoding it: what separates
// values in JSON stands for the tags, lengths and eight-byte numbers of protobuf.
func Unpacked(object []byte) int {
	n := len(object)
	for _, c := range object {
		switch c {
		case ',', ':':
			n += 9
		case '[', '{':
			n += 6
		}
	}
	return n
}
