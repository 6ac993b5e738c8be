package official

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"

	"foyer/service"
	"foyer/service/payload"
	"foyer/service/payload/msgpack"
)

// writer writes a message in JSON or msgpack by the same calls. In JSON each value is followed by a comma, which what
// closes the array or object around it takes away.
type writer struct {
	b        []byte
	packed   bool
	bson     *bsonWriter // in BSON; what else is written is then too
	maxDepth int         // of the whole message
	strict   bool        // for @msgpack/msgpack, which refuses some keys
	fault    Fault

	level  int // how many are open
	closer [8]byte
}

func (w *writer) fail(f Fault) {
	if w.fault == 0 {
		w.fault = f
	}
}

// open begins an array or object; msgpack wants to know of how many items or members.
func (w *writer) open(c byte, n int) {
	if w.bson != nil {
		w.bsonOpen(c)
		return
	}
	w.closer[w.level] = c + 2 // ] and } stand two after [ and {
	w.level++
	switch {
	case !w.packed:
		w.b = append(w.b, c)
	case c == '{':
		w.b = msgp.AppendMapHeader(w.b, uint32(n))
	default:
		w.b = msgp.AppendArrayHeader(w.b, uint32(n))
	}
}

func (w *writer) close() {
	w.level--
	if w.bson != nil {
		w.bsonClose()
		return
	}
	if w.packed {
		return
	}
	if last := len(w.b) - 1; w.b[last] == ',' {
		w.b = w.b[:last]
	}
	w.b = append(w.b, w.closer[w.level])
	w.comma()
}

func (w *writer) comma() {
	if !w.packed && w.level > 0 {
		w.b = append(w.b, ',')
	}
}

func (w *writer) key(name string) {
	switch {
	case w.bson != nil:
		w.bson.name = append(w.bson.name[:0], name...)
		return
	case w.packed:
		w.b = msgp.AppendString(w.b, name)
		return
	}
	w.b = append(append(append(w.b, '"'), name...), `":`...)
}

func (w *writer) text(s string) {
	if !utf8.ValidString(s) {
		w.fail(Text)
		return
	}
	switch {
	case w.bson != nil:
		w.bsonText([]byte(s))
		return
	case w.packed:
		w.b = msgp.AppendString(w.b, s)
		return
	}
	w.b = payload.AppendQuoted(w.b, s)
	w.comma()
}

func (w *writer) field(name, s string) {
	w.key(name)
	w.text(s)
}

func (w *writer) number(name string, n int) {
	w.key(name)
	switch {
	case w.bson != nil:
		w.bsonNumber(float64(n))
		return
	case w.packed:
		w.b = msgp.AppendUint64(w.b, uint64(n)) // never negative; without sign it is the shortest
		return
	}
	w.b = strconv.AppendInt(w.b, int64(n), 10)
	w.comma()
}

func (w *writer) bool(name string, is bool) {
	w.key(name)
	switch {
	case w.bson != nil:
		w.bsonBool(is)
		return
	case w.packed:
		w.b = msgp.AppendBool(w.b, is)
		return
	}
	w.b = strconv.AppendBool(w.b, is)
	w.comma()
}

func (w *writer) names(name string, list []string) {
	w.key(name)
	w.open('[', len(list))
	for _, s := range list {
		w.text(s)
	}
	w.close()
}

// value writes JSON with its attachments. In a message that is JSON these stand as Node.js writes a Buffer, if the kind
// may have them there.
func (w *writer) value(text []byte, attachments [][]byte, inline bool) {
	if w.fault != 0 {
		return
	}
	depth := w.maxDepth - w.level
	if w.bson != nil {
		w.bsonValue(text, attachments, depth)
		return
	}
	if w.packed {
		if w.strict && hasProto(text) {
			w.fail(Key)
			return
		}
		b, err := msgpack.Append(w.b, text, attachments, depth)
		if w.b = b; err != nil {
			w.fail(textFault(err, Text))
		}
		return
	}
	if len(attachments) > 0 {
		if !inline {
			w.fail(TooManyParts)
			return
		}
		if text = inlined(text, attachments, w); text == nil {
			return
		}
	}
	if err := payload.CheckValue(text, payload.Options{MaxDepth: depth}); err != nil {
		w.fail(textFault(err, Text))
		return
	}
	w.b = append(w.b, bytes.TrimSpace(text)...)
	w.comma()
}

// inlined is JSON with what Node.js writes for a Buffer in the place of each attachment.
func inlined(text []byte, attachments [][]byte, w *writer) []byte {
	packed, err := msgpack.Append(nil, text, attachments, 0)
	if err != nil {
		w.fail(textFault(err, Text))
		return nil
	}
	const widest = 6 // bytes that one of msgpack can become, in a text or a Buffer
	t := msgpack.Text{MaxBytes: widest*len(packed) + len(text) + 64*len(attachments), Inline: true}
	if f := t.Value(packed, 0); f != 0 {
		w.fail(msgpackFaults[f])
		return nil
	}
	return t.Out
}

// hasProto says whether a member somewhere in the text is called __proto__.
func hasProto(text []byte) bool {
	if !bytes.Contains(text, []byte("proto")) && !bytes.Contains(text, []byte(`\u`)) || !utf8.Valid(text) {
		return false
	}
	if payload.CheckValue(text, payload.Options{}) != nil {
		return false // it is refused for that
	}
	for i := 0; i < len(text); {
		if text[i] != '"' {
			i++
			continue
		}
		end := payload.End(text, i)
		token := text[i:end]
		for i = end; i < len(text) && text[i] <= ' '; i++ {
		}
		if i < len(text) && text[i] == ':' && payload.Unquote(token) == "__proto__" {
			return true
		}
	}
	return false
}

// packet writes the packet of a broadcast; of the classic adapter it says the namespace.
func (w *writer) packet(m *Message, namespace bool) {
	n := 2
	if namespace {
		n++
	}
	w.open('{', n)
	w.number("type", packetEvent)
	w.key("data")
	w.value(m.Payload, m.Attachments, false)
	if namespace {
		w.field("nsp", m.Namespace)
	}
	w.close()
}

// opts writes the target.
func (w *writer) opts(m *Message, flags bool) {
	n := 2
	if flags {
		n++
	}
	w.open('{', n)
	w.names("rooms", m.Rooms)
	w.names("except", m.Except)
	if flags {
		w.key("flags")
		w.flags(m)
	}
	w.close()
}

func (w *writer) flags(m *Message) {
	volatile, plain := m.Flags&service.Volatile != 0, m.Flags&service.NoCompress != 0
	n := 0
	for _, is := range [...]bool{volatile, plain, m.Timeout > 0, m.SingleResponse} {
		if is {
			n++
		}
	}
	w.open('{', n)
	if volatile {
		w.bool("volatile", true)
	}
	if plain {
		w.bool("compress", false)
	}
	if m.Timeout > 0 {
		w.number("timeout", int(m.Timeout/time.Millisecond))
	}
	if m.SingleResponse {
		w.bool("expectSingleResponse", true)
	}
	w.close()
}

// there is how many members the value of an answer takes.
func (w *writer) there(m *Message) int {
	if m.Payload == nil {
		return 0
	}
	return 1
}

// answer writes the value of an answer, if there is one.
func (w *writer) answer(name string, m *Message) {
	if m.Payload != nil {
		w.key(name)
		w.value(m.Payload, m.Attachments, true)
	}
}

var emptyObject = []byte("{}")

func (w *writer) sockets(m *Message) {
	w.key("sockets")
	w.open('[', len(m.Sockets))
	for i := range m.Sockets {
		s := &m.Sockets[i]
		w.open('{', 4)
		w.field("id", s.ID)
		w.key("handshake")
		w.object(s.Handshake)
		w.names("rooms", s.Rooms)
		w.key("data")
		w.object(s.Data)
		w.close()
	}
	w.close()
}

// object writes JSON, and an empty object for none.
func (w *writer) object(text []byte) {
	if text == nil {
		text = emptyObject
	}
	w.value(text, nil, false)
}

// done returns what was written behind dst, or dst and why nothing was.
func (w *writer) done(dst []byte) ([]byte, error) {
	if w.fault != 0 {
		return dst, w.fault
	}
	return w.b, nil
}

// check says what is wrong with a message that is to be written, apart from what the writer finds.
func (m *Message) check() Fault {
	switch {
	case m.Kind == 0 || m.Kind >= kinds:
		return Medium
	case m.Namespace == "" || m.Namespace[0] != '/' || !utf8.ValidString(m.Namespace):
		return Namespace
	case len(m.UID) > maxID || len(m.Request) > maxID || len(m.Old) > maxID || m.Timeout < 0 || m.Count < 0:
		return Shape
	}
	switch m.Kind {
	case Broadcast:
		if m.UID == "" {
			return Shape
		}
		return eventFault(m.Payload, payload.Reserved)
	case ServerSideEmit:
		if m.UID == "" {
			return Shape
		}
		return eventFault(m.Payload, func(name string) bool {
			// A server without a listener for "error" dies of it.
			return name == "error" || serverReserved(name) || payload.Reserved(name)
		})
	case Join, Leave:
		if len(m.Change) == 0 || m.Old != "" && len(m.Change) != 1 {
			return Shape
		}
		for _, room := range m.Change {
			if room == "" {
				return Shape
			}
		}
	case Disconnect, Hello, Heartbeat, Goodbye:
	default: // what is a request that must have an answer, or an answer
		if m.Request == "" {
			return Shape
		}
	}
	for i := range m.Sockets {
		if s := &m.Sockets[i]; s.ID == "" || len(s.ID) > maxID || s.Handshake != nil && payload.CheckObject(s.Handshake, payload.Options{}) != nil {
			return Shape
		}
	}
	return 0
}

// eventFault says whether a payload begins like the array of an event. Its JSON is checked where it is written.
func eventFault(array []byte, reserved func(string) bool) Fault {
	token, _, ok := payload.Token(array)
	if !ok {
		return EventName
	}
	if name := payload.Unquote(token); name == "" || reserved(name) {
		return EventName
	}
	return 0
}
