package msgpack

import (
	"encoding/binary"
	"math"
)

// Kind is what an item is, with notepack's extensions already told apart (Socket.IO protocol v5, "msgpack parser").
type Kind uint8

// The kinds of an item.
const (
	Nil Kind = iota
	False
	True
	Int       // Num is an int64
	Uint      // Num
	Float     // Num is the bits of a float64
	String    // Body
	Binary    // Body; ext 0 of variable length, too
	Array     // Num items follow
	Map       // Num pairs follow
	Undefined // fixext 1 of type 0
	Date      // fixext 8 of type 0; Num is an int64 of milliseconds
	Ext       // Ext, Body
)

// Item is one value as it stands in msgpack; of an array or map its head.
type Item struct {
	Kind Kind
	Ext  int8
	Num  uint64
	Body []byte // a part of what is read
}

// Read reads the item at i: of an array or map its head only. It says false when the bytes end too early or begin
// with the one that msgpack never uses.
func Read(b []byte, i int) (it Item, next int, ok bool) {
	if i >= len(b) {
		return it, i, false
	}
	c := b[i]
	i++
	switch {
	case c < 0x80:
		return Item{Kind: Uint, Num: uint64(c)}, i, true
	case c < 0x90:
		return Item{Kind: Map, Num: uint64(c & 0x0f)}, i, true
	case c < 0xa0:
		return Item{Kind: Array, Num: uint64(c & 0x0f)}, i, true
	case c < 0xc0:
		return readBody(b, i, String, uint64(c&0x1f))
	case c >= 0xe0:
		return Item{Kind: Int, Num: uint64(int64(int8(c)))}, i, true
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
		return Item{Kind: Nil}, i, true
	case 0xc2:
		return Item{Kind: False}, i, true
	case 0xc3:
		return Item{Kind: True}, i, true
	case 0xc4, 0xc5, 0xc6:
		return readBody(b, i, Binary, n)
	case 0xc7, 0xc8, 0xc9:
		it, next, ok = readExt(b, i, n)
		if ok && it.Ext == 0 {
			it.Kind = Binary
		}
		return it, next, ok
	case 0xca:
		return Item{Kind: Float, Num: math.Float64bits(float64(math.Float32frombits(uint32(n))))}, i, true
	case 0xcb:
		return Item{Kind: Float, Num: n}, i, true
	case 0xcc, 0xcd, 0xce, 0xcf:
		return Item{Kind: Uint, Num: n}, i, true
	case 0xd0:
		return Item{Kind: Int, Num: uint64(int64(int8(n)))}, i, true
	case 0xd1:
		return Item{Kind: Int, Num: uint64(int64(int16(n)))}, i, true
	case 0xd2:
		return Item{Kind: Int, Num: uint64(int64(int32(n)))}, i, true
	case 0xd3:
		return Item{Kind: Int, Num: n}, i, true
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		it, next, ok = readExt(b, i, 1<<(c-0xd4))
		switch {
		case !ok || it.Ext != 0:
		case c == 0xd4:
			it.Kind = Undefined
		case c == 0xd7:
			it.Kind, it.Num = Date, binary.BigEndian.Uint64(it.Body)
		}
		return it, next, ok
	case 0xd9, 0xda, 0xdb:
		return readBody(b, i, String, n)
	case 0xdc, 0xdd:
		return Item{Kind: Array, Num: n}, i, true
	case 0xde, 0xdf:
		return Item{Kind: Map, Num: n}, i, true
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

func readBody(b []byte, i int, kind Kind, n uint64) (Item, int, bool) {
	if n > uint64(len(b)-i) {
		return Item{}, i, false
	}
	end := i + int(n)
	return Item{Kind: kind, Body: b[i:end:end]}, end, true
}

func readExt(b []byte, i int, n uint64) (Item, int, bool) {
	if i == len(b) {
		return Item{}, i, false
	}
	ext := int8(b[i])
	it, next, ok := readBody(b, i+1, Ext, n)
	it.Ext = ext
	return it, next, ok
}

// Children is how many items follow the head of an array or map.
func (it *Item) Children() uint64 {
	switch it.Kind {
	case Array:
		return it.Num
	case Map:
		return 2 * it.Num
	default:
		return 0
	}
}

// Skip returns where the item at i ends, however deep it is. Every item takes a byte at least, which bounds the work.
func Skip(b []byte, i int) (int, bool) {
	for left := uint64(1); left > 0; left-- {
		it, next, ok := Read(b, i)
		if !ok {
			return i, false
		}
		i = next
		if left += it.Children(); left-1 > uint64(len(b)-i) {
			return i, false
		}
	}
	return i, true
}

// Whole returns the integer that a number is, if it is one that a float64 holds exactly or any 64-bit integer of its
// own form.
func (it *Item) Whole() (n int64, ok bool) {
	switch it.Kind {
	case Int:
		return int64(it.Num), true
	case Uint:
		return int64(it.Num), it.Num <= math.MaxInt64
	case Float:
		f := math.Float64frombits(it.Num)
		return int64(f), f == math.Trunc(f) && math.Abs(f) < 1<<53
	default:
		return 0, false
	}
}
