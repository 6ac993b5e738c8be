package official

import (
	"strconv"

	"foyer/service/payload"
)

// Limits of PostgreSQL, of which the official adapter forgets the first by one byte and the other altogether.
const (
	maxNotification = 7999
	maxChannel      = 63
)

// DefaultTable is the table of attachments when the official adapter is told nothing else.
const DefaultTable = "socket_io_attachments"

// PostgresChannel is the channel of a namespace. It returns false when PostgreSQL would cut the name, or not take it. A
// listener quotes the name as an identifier, since it may contain quotes.
func PostgresChannel(prefix, nsp string) (channel string, ok bool) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	channel = prefix + "#" + nsp
	return channel, len(channel) <= maxChannel
}

// NewNotification is how the PostgreSQL adapter says a message: text is the payload of a notification, or, where it is
// nil, row is to be put into the table of attachments, and what AppendAttached makes is the notification. threshold is
// option payloadThreshold: how long text may be; 0, or more than PostgreSQL takes: that. The error is a Fault.
func NewNotification(m *Message, threshold int) (text, row []byte, err error) {
	if threshold <= 0 || threshold > maxNotification {
		threshold = maxNotification
	}
	if !m.binary() {
		text, err = appendCluster(nil, m, false, true)
		if err != nil || len(text) <= threshold {
			return text, nil, err
		}
	}
	row, err = appendCluster(nil, m, true, true)
	return nil, row, err
}

// AppendAttached appends the notification that tells of the row of a message; id is the row's.
func AppendAttached(dst []byte, m *Message, id int64) []byte {
	w := writer{b: dst}
	w.open('{', 0)
	w.field("uid", m.UID)
	w.number("type", clusterNumbers[m.Kind])
	w.field("attachmentId", strconv.FormatInt(id, 10))
	w.close()
	return w.b
}

// ReadNotification reads a notification. Where the message itself is in the table of attachments, m is nil and row is
// the id of its row, which ReadCluster reads; uid is who says it in either case, so that nobody fetches its own. nsp is
// the namespace of the channel: messages of the official emitter have none.
func ReadNotification(nsp string, b []byte, maxBytes int) (m *Message, uid string, row int64, f Fault) {
	v, f := parseJSON(b, maxBytes)
	if f != 0 {
		return nil, "", 0, f
	}
	is := v.fields()
	if is.attachment.truthy() {
		uid, ok := is.uid.id()
		id, name := is.attachment.name()
		row, err := strconv.ParseInt(id, 10, 64)
		if !ok || !name || err != nil || row <= 0 {
			return nil, "", 0, Shape
		}
		return nil, uid, row, 0
	}
	n, ok := is.typ.whole()
	if !ok {
		return nil, "", 0, Shape
	}
	if m, f = readCluster(nsp, n, &is, maxBytes); f != 0 {
		return nil, "", 0, f
	}
	return m, m.UID, 0, 0
}

// quoted is a text as a value.
func quoted(s string) value {
	if s == "" {
		return value{}
	}
	return value{b: payload.AppendQuoted(nil, s)}
}
