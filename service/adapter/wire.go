package adapter

import "google.golang.org/protobuf/encoding/protowire"

// This file has what is needed to read and write the frequent messages without the objects of generated code. Fields
// stand in the order of their numbers, all below 16, and those with their zero value are left out
// (https://protobuf.dev/programming-guides/encoding). A reader steps over fields behind those that it knows: a later
// version has them.

func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

func appendBool(dst []byte, field protowire.Number, v bool) []byte {
	return appendUint(dst, field, protowire.EncodeBool(v))
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

// wireField is one field of a message as it is read.
type wireField struct {
	key    uint64 // its number and type as they stand on the wire: n<<3|varintField or n<<3|bytesField, or another type
	varint uint64
	bytes  []byte // a part of what is read; nil in a field that is a number
}

const (
	varintField = uint64(protowire.VarintType)
	bytesField  = uint64(protowire.BytesType)
)

// next takes the first field of b and returns what is behind it. It says false when b has none, or has it in a longer
// form than need be: what is the same has the same bytes.
func (f *wireField) next(b []byte) ([]byte, bool) {
	var ok bool
	if f.key, b, ok = shortest(b); !ok || f.key < 1<<3 || f.key >= 1<<32 {
		return nil, false
	}
	f.varint, f.bytes = 0, nil
	switch protowire.Type(f.key & 7) {
	case protowire.Fixed32Type:
		return skip(b, 4)
	case protowire.Fixed64Type:
		return skip(b, 8)
	}
	var n uint64
	if n, b, ok = shortest(b); !ok {
		return nil, false
	}
	switch f.key & 7 {
	case varintField:
		f.varint = n
		return b, true
	case bytesField:
		if n > uint64(len(b)) {
			return nil, false
		}
		f.bytes = b[:n:n]
		return b[n:], true
	}
	return nil, false
}

// later says whether b has nothing but fields from a number on: those that came with a later version.
func later(b []byte, from uint64) bool {
	var w wireField
	ok := true
	for len(b) > 0 && ok {
		b, ok = w.next(b)
		ok = ok && w.key >= from<<3
	}
	return ok
}

// skip steps over a field of a type that no reader here knows.
func skip(b []byte, n int) ([]byte, bool) {
	if len(b) < n {
		return nil, false
	}
	return b[n:], true
}

// shortest takes a number in its shortest form.
func shortest(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := protowire.ConsumeVarint(b)
	if n < 0 || n != protowire.SizeVarint(v) {
		return 0, nil, false
	}
	return v, b[n:], true
}
