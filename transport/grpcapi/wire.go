package grpcapi

import (
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// This file has what is needed to write the messages of the two busy streams without the objects of generated code.
// Fields stand in the order of their numbers, all below 16, and those with their zero value are left out
// (https://protobuf.dev/programming-guides/encoding).

// encoded is a message that is encoded already: codec passes it on as it is. Its bytes are not to be changed any more.
type encoded struct {
	data  mem.SliceBuffer
	slice [1]mem.Buffer // data in the form that gRPC takes, without an object of its own
}

func newEncoded(data []byte) *encoded {
	m := &encoded{data: data}
	m.slice[0] = &m.data
	return m
}

func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

func sizeString(s string) int {
	if s == "" {
		return 0
	}
	return sizeBytes(len(s))
}

func appendString(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return append(appendHead(dst, field, len(s)), s...)
}

// sizeBytes is the size of a field of n bytes, also if they are none.
func sizeBytes(n int) int { return 1 + protowire.SizeBytes(n) }

// appendHead begins a field of n bytes, which are to follow.
func appendHead(dst []byte, field protowire.Number, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.BytesType), uint64(n))
}

// appendMessage appends a field of bytes also if they are none: a message that is there and empty is not the same as
// none.
func appendMessage(dst []byte, field protowire.Number, m []byte) []byte {
	return append(appendHead(dst, field, len(m)), m...)
}

// appendTime appends the fields of a google.protobuf.Timestamp.
func appendTime(dst []byte, t time.Time) []byte {
	return appendUint(appendUint(dst, 1, uint64(t.Unix())), 2, uint64(t.Nanosecond()))
}

// wireField is one field of a message as it is read. Only those kinds are known that the messages of the busy streams
// have.
type wireField struct {
	key    uint64 // its number and type as they stand on the wire: n<<3|varintField or n<<3|bytesField
	varint uint64
	bytes  []byte // a part of what is read
}

const (
	varintField = uint64(protowire.VarintType)
	bytesField  = uint64(protowire.BytesType)
)

// next takes the first field of b and returns what is behind it. It says false when b has none that it knows.
func (f *wireField) next(b []byte) ([]byte, bool) {
	var n int
	if f.key, n = protowire.ConsumeVarint(b); n < 0 {
		return nil, false
	}
	b = b[n:]
	switch f.key & 7 {
	case varintField:
		f.varint, n = protowire.ConsumeVarint(b)
	case bytesField:
		f.bytes, n = protowire.ConsumeBytes(b)
	default:
		return nil, false
	}
	if n < 0 {
		return nil, false
	}
	return b[n:], true
}
