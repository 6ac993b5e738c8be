package official

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"time"

	"foyer/service/payload"
)

// maxDocument is how large a document MongoDB takes.
const maxDocument = 16 << 20

// ObjectID is what MongoDB knows a document by.
type ObjectID [12]byte

// AppendDocument appends a message as a BSON document of the MongoDB adapter's collection. created is for collections
// with option addCreatedAtField; zero: the document has no such field. The error is a Fault, and dst is then as before.
func AppendDocument(dst []byte, m *Message, created time.Time, id ObjectID) ([]byte, error) {
	n, f := m.clusterNumber()
	if f != 0 {
		return dst, f
	}
	// MongoDB takes as many levels as @msgpack/msgpack, and JavaScript's undefined is null for the driver too.
	w := writer{b: dst, packed: true, strict: true, maxDepth: maxDepthStrict, bson: &bsonWriter{}}
	w.open('{', 0)
	w.number("type", n)
	if m.hasData() {
		w.key("data")
		w.clusterData(m)
	}
	w.field("uid", m.UID)
	w.field("nsp", m.Namespace)
	if !created.IsZero() {
		w.key("createdAt")
		w.bsonElement(bsonDate)
		w.b = binary.LittleEndian.AppendUint64(w.b, uint64(created.UnixMilli()))
	}
	w.key("_id")
	w.bsonElement(bsonObjectID)
	w.b = append(w.b, id[:]...)
	w.close()
	if len(w.b)-len(dst) > maxDocument {
		w.fail(TooLarge)
	}
	return w.done(dst)
}

// ReadDocument reads a BSON document of the collection, which has messages of all namespaces. Sessions are Unknown.
// Payload and attachments may have maxBytes, like the document itself.
func ReadDocument(b []byte, maxBytes int) (m *Message, id ObjectID, f Fault) {
	v, f := parseBSON(b, maxBytes)
	if f != 0 {
		return nil, id, f
	}
	is := v.fields()
	if is.object.typ == bsonObjectID {
		copy(id[:], is.object.b)
	}
	n, ok := is.typ.whole()
	if !ok {
		return nil, id, Shape
	}
	m, f = readCluster("", n, &is, maxBytes)
	return m, id, f
}

// bsonWriter is what a writer of BSON knows besides.
type bsonWriter struct {
	name []byte // of the next element, in a document
	open []bsonOpen
}

type bsonOpen struct {
	start int // where the length belongs
	array bool
	next  int // index of the next item
}

// bsonElement begins an element: its type and its name.
func (w *writer) bsonElement(typ byte) {
	w.b = append(w.b, typ)
	s := w.bson
	if top := &s.open[len(s.open)-1]; top.array {
		w.b = strconv.AppendInt(w.b, int64(top.next), 10)
		top.next++
	} else {
		if bytes.IndexByte(s.name, 0) >= 0 { // a name ends with that byte
			w.fail(Key)
		}
		w.b = append(w.b, s.name...)
	}
	w.b = append(w.b, 0)
}

func (w *writer) bsonOpen(c byte) {
	s := w.bson
	if len(s.open) > 0 {
		if c == '[' {
			w.bsonElement(bsonArray)
		} else {
			w.bsonElement(bsonDocument)
		}
	}
	s.open = append(s.open, bsonOpen{start: len(w.b), array: c == '['})
	w.b = append(w.b, 0, 0, 0, 0)
	w.level++
}

// bsonClose ends what was opened last; the level was taken back already.
func (w *writer) bsonClose() {
	s := w.bson
	top := s.open[len(s.open)-1]
	s.open = s.open[:len(s.open)-1]
	w.b = append(w.b, 0)
	binary.LittleEndian.PutUint32(w.b[top.start:], uint32(len(w.b)-top.start))
}

func (w *writer) bsonText(s []byte) {
	w.bsonElement(bsonString)
	w.b = binary.LittleEndian.AppendUint32(w.b, uint32(len(s)+1))
	w.b = append(append(w.b, s...), 0)
}

// bsonNumber writes a number as the official driver does.
func (w *writer) bsonNumber(f float64) {
	if f == math.Trunc(f) && f >= math.MinInt32 && f <= math.MaxInt32 && !(f == 0 && math.Signbit(f)) {
		w.bsonElement(bsonInt32)
		w.b = binary.LittleEndian.AppendUint32(w.b, uint32(int32(f)))
		return
	}
	w.bsonElement(bsonDouble)
	w.b = binary.LittleEndian.AppendUint64(w.b, math.Float64bits(f))
}

func (w *writer) bsonBool(is bool) {
	w.bsonElement(bsonBool)
	if is {
		w.b = append(w.b, 1)
	} else {
		w.b = append(w.b, 0)
	}
}

// bsonValue writes JSON, binaries in the place of their placeholders. See msgpack.Append, whose walk it is.
func (w *writer) bsonValue(text []byte, attachments [][]byte, depth int) {
	var few [32]int32
	shape, err := payload.Measure(text, len(attachments), few[:0], payload.Options{MaxDepth: depth})
	if err != nil {
		w.fail(textFault(err, Text))
		return
	}
	k := 0
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '"':
			end := payload.End(text, i)
			s := payload.AppendUnescaped(nil, text[i+1:end-1])
			for i = end; i < len(text) && text[i] <= ' '; i++ {
			}
			if i < len(text) && text[i] == ':' {
				w.bson.name = s
			} else {
				w.bsonText(s)
			}
		case c == '{' || c == '[':
			n := shape[k]
			k++
			if n >= 0 {
				w.bsonOpen(c)
				i++
				break
			}
			a := attachments[-1-n]
			w.bsonElement(bsonBinary)
			w.b = append(binary.LittleEndian.AppendUint32(w.b, uint32(len(a))), 0)
			w.b = append(w.b, a...)
			end := payload.End(text, i)
			for i++; i < end; { // whatever else stands in the placeholder
				switch text[i] {
				case '"':
					i = payload.End(text, i)
					continue
				case '{', '[':
					k++
				}
				i++
			}
		case c == '}' || c == ']':
			w.level--
			w.bsonClose()
			i++
		case c == '-' || c-'0' <= 9:
			end := payload.End(text, i)
			f, _ := strconv.ParseFloat(string(text[i:end]), 64) // out of range is infinity, in JavaScript too
			w.bsonNumber(f)
			i = end
		case c == 't' || c == 'f':
			w.bsonBool(c == 't')
			i = payload.End(text, i)
		case c == 'n':
			w.bsonElement(bsonNull)
			i += len("null")
		default: // spaces, commas, colons
			i++
		}
	}
}
