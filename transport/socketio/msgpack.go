package socketio

import (
	"encoding/binary"
	"math"
)

// What stands in a msgpack text, with notepack's extensions already told apart (Socket.IO protocol v5, "msgpack parser").
type itemKind uint8

const (
	itemNil itemKind = iota
	itemFalse
	itemTrue
	itemInt       // num is an int64
	itemUint      // num
	itemFloat     // num is the bits of a float64
	itemString    // body
	itemBinary    // body; ext 0 of variable length, too
	itemArray     // num items follow
	itemMap       // num pairs follow
	itemUndefined // fixext 1 of type 0
	itemDate      // fixext 8 of type 0; num is an int64 of milliseconds
	itemExt       // ext, body
)

type item struct {
	kind itemKind
	ext  int8
	num  uint64
	body []byte
}

// readItem reads the item at i: of an array or map its head only. It says false when the bytes end too early or begin
// with the one that msgpack never uses.
func readItem(b []byte, i int) (it item, next int, ok bool) {
	if i >= len(b) {
		return it, i, false
	}
	c := b[i]
	i++
	switch {
	case c < 0x80:
		return item{kind: itemUint, num: uint64(c)}, i, true
	case c < 0x90:
		return item{kind: itemMap, num: uint64(c & 0x0f)}, i, true
	case c < 0xa0:
		return item{kind: itemArray, num: uint64(c & 0x0f)}, i, true
	case c < 0xc0:
		return readBody(b, i, itemString, uint64(c&0x1f))
	case c >= 0xe0:
		return item{kind: itemInt, num: uint64(int64(int8(c)))}, i, true
	}
	var n uint64
	if width := int(widths[c-0xc0]); width > 0 {
		if len(b)-i < width {
			return it, i, false
		}
		n = bigEndian(b[i : i+width])
		i += width
	}
	switch c {
	case 0xc0:
		return item{kind: itemNil}, i, true
	case 0xc2:
		return item{kind: itemFalse}, i, true
	case 0xc3:
		return item{kind: itemTrue}, i, true
	case 0xc4, 0xc5, 0xc6:
		return readBody(b, i, itemBinary, n)
	case 0xc7, 0xc8, 0xc9:
		it, next, ok = readExt(b, i, n)
		if ok && it.ext == 0 {
			it.kind = itemBinary
		}
		return it, next, ok
	case 0xca:
		return item{kind: itemFloat, num: math.Float64bits(float64(math.Float32frombits(uint32(n))))}, i, true
	case 0xcb:
		return item{kind: itemFloat, num: n}, i, true
	case 0xcc, 0xcd, 0xce, 0xcf:
		return item{kind: itemUint, num: n}, i, true
	case 0xd0:
		return item{kind: itemInt, num: uint64(int64(int8(n)))}, i, true
	case 0xd1:
		return item{kind: itemInt, num: uint64(int64(int16(n)))}, i, true
	case 0xd2:
		return item{kind: itemInt, num: uint64(int64(int32(n)))}, i, true
	case 0xd3:
		return item{kind: itemInt, num: n}, i, true
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		it, next, ok = readExt(b, i, 1<<(c-0xd4))
		switch {
		case !ok || it.ext != 0:
		case c == 0xd4:
			it.kind = itemUndefined
		case c == 0xd7:
			it.kind, it.num = itemDate, binary.BigEndian.Uint64(it.body)
		}
		return it, next, ok
	case 0xd9, 0xda, 0xdb:
		return readBody(b, i, itemString, n)
	case 0xdc, 0xdd:
		return item{kind: itemArray, num: n}, i, true
	case 0xde, 0xdf:
		return item{kind: itemMap, num: n}, i, true
	}
	return it, i, false // 0xc1
}

// widths is how many bytes of length or value follow the bytes 0xc0 to 0xdf.
var widths = [32]uint8{
	0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8,
	1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4,
}

func bigEndian(b []byte) uint64 {
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

func readBody(b []byte, i int, kind itemKind, n uint64) (item, int, bool) {
	if n > uint64(len(b)-i) {
		return item{}, i, false
	}
	end := i + int(n)
	return item{kind: kind, body: b[i:end:end]}, end, true
}

func readExt(b []byte, i int, n uint64) (item, int, bool) {
	if i == len(b) {
		return item{}, i, false
	}
	ext := int8(b[i])
	it, next, ok := readBody(b, i+1, itemExt, n)
	it.ext = ext
	return it, next, ok
}

// children is how many items follow the head of an array or map.
func (it *item) children() uint64 {
	switch it.kind {
	case itemArray:
		return it.num
	case itemMap:
		return 2 * it.num
	default:
		return 0
	}
}

// skipItem returns where the item at i ends, however deep it is. Every item takes a byte at least, which bounds the work.
func skipItem(b []byte, i int) (int, bool) {
	for left := uint64(1); left > 0; left-- {
		it, next, ok := readItem(b, i)
		if !ok {
			return i, false
		}
		i = next
		if left += it.children(); left-1 > uint64(len(b)-i) {
			return i, false
		}
	}
	return i, true
}

// whole returns the integer that a number is, if it is one that a float64 holds exactly or any 64-bit integer of its own
// form.
func (it *item) whole() (n int64, ok bool) {
	switch it.kind {
	case itemInt:
		return int64(it.num), true
	case itemUint:
		return int64(it.num), it.num <= math.MaxInt64
	case itemFloat:
		f := math.Float64frombits(it.num)
		return int64(f), f == math.Trunc(f) && math.Abs(f) < 1<<53
	default:
		return 0, false
	}
}
