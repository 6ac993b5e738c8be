package pgdial

import (
	"context"
	"encoding/binary"
)

const (
	notify    = `SELECT count(pg_notify(c, p)) FROM unnest($1::text[], $2::text[]) AS t(c, p)`
	statement = "notify"

	arrayHeader = 20
	textOID     = 25
)

var binaryFormat = []int16{1}

// Batch are notifications that go by one statement, in order. PostgreSQL gives equal ones of a statement once.
type Batch struct {
	N        int
	channels []byte // an array of text as PostgreSQL takes it in binary, without its header's numbers
	texts    []byte
}

// Reset empties a batch, or makes the first one.
func (x *Batch) Reset() {
	x.channels, x.texts = append(x.channels[:0], make([]byte, arrayHeader)...), append(x.texts[:0], make([]byte, arrayHeader)...)
	x.N = 0
}

// Add begins a notification of so many bytes, for a channel whose name is that of the two together. What is behind the
// bytes that are returned is its text; Done takes them back with it.
func (x *Batch) Add(channel, more string, size int) []byte {
	x.N++
	x.channels = binary.BigEndian.AppendUint32(x.channels, uint32(len(channel)+len(more)))
	x.channels = append(append(x.channels, channel...), more...)
	return binary.BigEndian.AppendUint32(x.texts, uint32(size))
}

// Done ends what Add began.
func (x *Batch) Done(texts []byte) { x.texts = texts }

// Bytes are those of all texts.
func (x *Batch) Bytes() int { return len(x.texts) - arrayHeader - 4*x.N }

// PrepareNotify is called once before Notify.
func (c *Conn) PrepareNotify(ctx context.Context) error {
	_, err := c.Prepare(ctx, statement, notify, nil)
	return err
}

// Notify publishes a batch. After an answer of the server that is an error nothing of it was published; after another
// error that is not known.
func (c *Conn) Notify(ctx context.Context, x *Batch) error {
	for _, b := range [][]byte{x.channels, x.texts} {
		binary.BigEndian.PutUint32(b, 1) // dimensions
		binary.BigEndian.PutUint32(b[8:], textOID)
		binary.BigEndian.PutUint32(b[12:], uint32(x.N))
		binary.BigEndian.PutUint32(b[16:], 1) // the first index
	}
	_, err := c.ExecPrepared(ctx, statement, [][]byte{x.channels, x.texts}, binaryFormat, nil).Close()
	return err
}
