package official

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"foyer/service/payload"
	"foyer/service/payload/msgpack"
)

// Bounds of what comes, beside that on its bytes.
const (
	maxNames = 10_000  // rooms of a target, of a change or of a socket
	maxList  = 100_000 // sockets, room names or ids of one answer
	maxID    = 128     // bytes of a uid or of a request's id; the official ones have 6 or 16
)

// value is one value of a message: exactly its bytes, in JSON, msgpack or BSON whose syntax was checked. The zero value
// is one that is not there.
type value struct {
	b    []byte
	form form
	typ  byte // of BSON, where it stands before the name
}

type form uint8

const (
	inJSON form = iota
	inMsgpack
	inBSON
)

// sort is what a value is.
type sort uint8

const (
	absent sort = iota
	null
	no
	yes
	number
	text
	list
	object
	other // binary, date
)

// parse checks a message that is JSON when it begins with a brace, and otherwise msgpack.
func parse(b []byte, maxBytes int) (value, Fault) {
	if len(b) > 0 && b[0] == '{' {
		return parseJSON(b, maxBytes)
	}
	return parsePacked(b, maxBytes)
}

func parsePacked(b []byte, maxBytes int) (value, Fault) {
	if len(b) > maxBytes {
		return value{}, TooLarge
	}
	if end, ok := msgpack.Skip(b, 0); !ok || end != len(b) {
		return value{}, Garbled
	}
	return value{b: b, form: inMsgpack}, 0
}

func parseJSON(b []byte, maxBytes int) (value, Fault) {
	if len(b) > maxBytes {
		return value{}, TooLarge
	}
	if !utf8.Valid(b) {
		b = bytes.ToValidUTF8(b, []byte("\uFFFD")) // as Node reads bytes as text
	}
	b = bytes.TrimSpace(b)
	if err := payload.CheckObject(b, payload.Options{}); err != nil {
		return value{}, textFault(err, Garbled)
	}
	return value{b: b}, 0
}

func (v value) sort() sort {
	switch {
	case v.form == inBSON: // of which nil has no bytes
		return v.bsonSort()
	case len(v.b) == 0:
		return absent
	case v.form == inJSON:
		switch v.b[0] {
		case 'n':
			return null
		case 'f':
			return no
		case 't':
			return yes
		case '"':
			return text
		case '[':
			return list
		case '{':
			return object
		default:
			return number
		}
	}
	it, _, _ := msgpack.Read(v.b, 0)
	switch it.Kind {
	case msgpack.Undefined:
		return absent
	case msgpack.Nil:
		return null
	case msgpack.False:
		return no
	case msgpack.True:
		return yes
	case msgpack.Int, msgpack.Uint, msgpack.Float:
		return number
	case msgpack.String:
		return text
	case msgpack.Array:
		return list
	case msgpack.Map:
		return object
	default:
		return other
	}
}

// text is the text of a text, always UTF-8.
func (v value) text() string {
	switch v.form {
	case inJSON:
		return payload.Unquote(v.b)
	case inBSON:
		return v.bsonText()
	}
	it, _, _ := msgpack.Read(v.b, 0)
	return strings.ToValidUTF8(string(it.Body), "\uFFFD")
}

// number is the value of a number as JavaScript has it.
func (v value) number() float64 {
	switch v.form {
	case inBSON:
		return v.bsonNumber()
	case inJSON:
		f, _ := strconv.ParseFloat(string(v.b), 64) // out of range is infinity
		return f
	}
	it, _, _ := msgpack.Read(v.b, 0)
	switch it.Kind {
	case msgpack.Int:
		return float64(int64(it.Num))
	case msgpack.Uint:
		return float64(it.Num)
	default:
		return math.Float64frombits(it.Num)
	}
}

// whole is the value of a number that is whole and not negative.
func (v value) whole() (int, bool) {
	if v.sort() != number {
		return 0, false
	}
	f := v.number()
	return int(f), f >= 0 && f <= math.MaxInt32 && f == math.Trunc(f)
}

// name is the name of a room: a text, or the decimal text of a number.
func (v value) name() (string, bool) {
	switch v.sort() {
	case text:
		return v.text(), true
	case number:
		var few [32]byte
		return string(msgpack.AppendNumber(few[:0], v.number())), true
	default:
		return "", false
	}
}

// truthy says whether a flag is set.
func (v value) truthy() bool {
	switch v.sort() {
	case yes, list, object, other:
		return true
	case number:
		f := v.number()
		return f != 0 && !math.IsNaN(f)
	case text:
		return v.text() != ""
	default:
		return false
	}
}

// id is a uid or the id of a request: empty when it is not there. It says false when it is something else.
func (v value) id() (string, bool) {
	switch v.sort() {
	case absent:
		return "", true
	case text:
		id := v.text()
		return id, id != "" && len(id) <= maxID
	default:
		return "", false
	}
}

// names reads a list of rooms. What is missing or an empty text, as some emitters write, is an empty list.
func (v value) names(most int) (names []string, f Fault) {
	switch v.sort() {
	case absent, null:
		return nil, 0
	case text:
		if v.text() != "" {
			return nil, Shape
		}
		return nil, 0
	case list:
	default:
		return nil, Shape
	}
	v.items(func(item value) bool {
		name, ok := item.name()
		switch {
		case !ok:
			f = Shape
		case len(names) == most:
			f = TooLarge
		default:
			names = append(names, name)
		}
		return f == 0
	})
	if f != 0 {
		return nil, f
	}
	return names, 0
}

// items calls yield with each item of a list until it says false.
func (v value) items(yield func(value) bool) {
	switch v.form {
	case inBSON:
		v.bsonElements(func(_ []byte, item value) bool { return yield(item) })
		return
	case inJSON:
		payload.Items(v.b, func(item []byte) bool { return yield(value{b: item}) })
		return
	}
	it, i, _ := msgpack.Read(v.b, 0)
	for range it.Num {
		end, _ := msgpack.Skip(v.b, i)
		if !yield(value{b: v.b[i:end:end], form: inMsgpack}) {
			return
		}
		i = end
	}
}

// fields are the members of an object that the protocol gives a meaning, at whichever place: of two with one name the
// later counts, as in JavaScript, and others are ignored.
type fields struct {
	typ, uid, nsp, request, data, opts, packet, rooms, except, flags value
	sid, room, closes, count, sockets, id, handshake, attachment     value
	object                                                           value
	volatile, compress, timeout, single                              value
}

func (f *fields) set(key []byte, v value) {
	switch string(key) {
	case "type":
		f.typ = v
	case "uid":
		f.uid = v
	case "nsp":
		f.nsp = v
	case "requestId":
		f.request = v
	case "data":
		f.data = v
	case "opts":
		f.opts = v
	case "packet":
		f.packet = v
	case "rooms":
		f.rooms = v
	case "except":
		f.except = v
	case "flags":
		f.flags = v
	case "sid":
		f.sid = v
	case "room":
		f.room = v
	case "close":
		f.closes = v
	case "clientCount":
		f.count = v
	case "sockets":
		f.sockets = v
	case "id":
		f.id = v
	case "handshake":
		f.handshake = v
	case "_id":
		f.object = v
	case "attachmentId":
		f.attachment = v
	case "volatile":
		f.volatile = v
	case "compress":
		f.compress = v
	case "timeout":
		f.timeout = v
	case "expectSingleResponse":
		f.single = v
	}
}

// fields reads an object; what is none has none.
func (v value) fields() (f fields) {
	switch {
	case v.sort() != object:
	case v.form == inBSON:
		v.bsonElements(func(key []byte, item value) bool {
			f.set(key, item)
			return true
		})
	case v.form == inJSON:
		payload.Members(v.b, func(key, item []byte) bool {
			name := key[1 : len(key)-1]
			if bytes.IndexByte(name, '\\') >= 0 {
				name = []byte(payload.Unquote(key))
			}
			f.set(name, value{b: item})
			return true
		})
	default:
		it, i, _ := msgpack.Read(v.b, 0)
		for range it.Num {
			key, _, _ := msgpack.Read(v.b, i)
			at, _ := msgpack.Skip(v.b, i)
			end, _ := msgpack.Skip(v.b, at)
			if key.Kind == msgpack.String {
				f.set(key.Body, value{b: v.b[at:end:end], form: inMsgpack})
			}
			i = end
		}
	}
	return f
}

// json is the value as JSON. Binaries become attachments, or with inline what Node.js writes for a Buffer in JSON.
func (v value) json(maxBytes int, inline bool) ([]byte, [][]byte, Fault) {
	if v.form == inJSON {
		return v.b, nil, 0
	}
	t := msgpack.Text{MaxBytes: maxBytes, Inline: inline, Timestamps: true}
	t.Out = make([]byte, 0, min(len(v.b)+len(v.b)/8+32, maxBytes))
	var f Fault
	if v.form == inBSON {
		f = v.bsonJSON(&t)
	} else {
		f = msgpackFaults[t.Value(v.b, 0)]
	}
	if f != 0 {
		return nil, nil, f
	}
	if t.Literal && len(t.Attachments) > 0 {
		return nil, nil, Placeholder
	}
	if t.BinaryBytes < len(v.b)/2 { // most of the message would be held for nothing
		for i, a := range t.Attachments {
			t.Attachments[i] = bytes.Clone(a)
		}
	}
	return t.Out, t.Attachments, 0
}
