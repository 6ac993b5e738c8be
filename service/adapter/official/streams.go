package official

import (
	"encoding/base64"
	"strconv"
	"unicode/utf16"
)

// Entry is what the streams adapter puts into a stream: the values of the fields uid, nsp, type and data, in this
// order. data is left out when it is empty.
type Entry struct {
	UID, NSP, Type, Data string
}

// Streamed says whether a message goes into the stream; others are published on a channel of Sharded.
func Streamed(m *Message) bool {
	switch m.Kind {
	case Broadcast:
		return m.Request == ""
	case Join, Leave, Disconnect:
		return true
	default:
		return false
	}
}

// StreamName is the stream of a namespace where there are count of them. It may have a negative number, as the official
// adapter computes it: no official node reads that stream, though each writes there.
func StreamName(name, nsp string, count int) string {
	if count <= 1 {
		return name
	}
	h := int32(0)
	for _, unit := range utf16.Encode([]rune(nsp)) {
		h = h*31 + int32(unit)
	}
	return name + "-" + strconv.Itoa(int(h)%count)
}

// NewEntry is the entry of a message that is Streamed. The error is a Fault.
func NewEntry(m *Message) (Entry, error) {
	n, f := m.clusterNumber()
	if f != 0 {
		return Entry{}, f
	}
	if !Streamed(m) { // a reader would be deaf from then on
		return Entry{}, Medium
	}
	e := Entry{UID: m.UID, NSP: m.Namespace, Type: strconv.Itoa(n)}
	w := writer{maxDepth: maxDepth}
	if w.packed = m.binary(); w.packed {
		w.strict, w.maxDepth = true, maxDepthStrict
	}
	w.clusterData(m)
	if w.fault != 0 {
		return Entry{}, w.fault
	}
	if e.Data = string(w.b); w.packed {
		e.Data = base64.StdEncoding.EncodeToString(w.b)
	}
	return e, nil
}

// ReadEntry reads an entry of a stream, which has messages of all namespaces. Entries of old nodes may be of any kind.
// Payload and attachments may have maxBytes, like the data itself.
func ReadEntry(e Entry, maxBytes int) (*Message, Fault) {
	n, err := strconv.Atoi(e.Type)
	switch {
	case err != nil || len(e.UID) > maxID:
		return nil, Shape
	case len(e.Data) > maxBytes:
		return nil, TooLarge
	}
	is := fields{uid: quoted(e.UID), nsp: quoted(e.NSP)}
	if e.Data != "" {
		data, packed := []byte(e.Data), e.Data[0] != '{'
		if packed {
			if data, err = base64.StdEncoding.AppendDecode(nil, data); err != nil {
				return nil, Garbled
			}
		}
		var f Fault
		if packed {
			is.data, f = parsePacked(data, maxBytes)
		} else {
			is.data, f = parseJSON(data, maxBytes)
		}
		if f != 0 {
			return nil, f
		}
	}
	return readCluster("", n, &is, maxBytes)
}

// AppendStreams appends a message as the streams adapter publishes what is not Streamed. The error is a Fault, and dst
// is then as before.
func AppendStreams(dst []byte, m *Message) ([]byte, error) {
	if Streamed(m) {
		return dst, Medium
	}
	return appendCluster(dst, m, true, true)
}
