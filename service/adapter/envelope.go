package adapter

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// The versions of the wire that this build speaks. What each has is told in proto/foyer/cluster/v1.
const (
	wireFrom uint64 = 1
	wireTo   uint64 = 2
)

// wireSkips is the first version whose readers step over what they do not know. Those before drop a frame that has a
// field, a question or an item which came later, and drop it again each time that it comes.
const wireSkips uint64 = 2

// header is all of a frame but what it tells.
type header struct {
	version       uint64
	from, to      service.Incarnation
	epoch         uint64
	seq, last     uint64
	ackEpoch, ack uint64
	asks, over    bool
}

// frame is one that was read.
type frame struct {
	header
	bytes int
	items []item
	hello *clusterv1.Hello
}

// item is one thing told, as it is read: what is not nil or not false, it is.
type item struct {
	skipped    Skip // why it has no effect, or a part of it
	open, told bool
	part       []byte // of the frame's bytes
	last       bool   // of the parts of one item
	interest   *interest
	emit       *Emit
	counts     *counts
	question   *clusterv1.Question
	answer     *clusterv1.Answer
	acks       *clusterv1.Acks
	news       *clusterv1.HandlerNews
	notices    *notices
	replies    *replies
	follow     *clusterv1.Follow
	presence   *clusterv1.Presence
	bytes      int // of all of it, encoded
}

// interest are rooms by their hashes.
type interest struct{ plus, minus []uint64 }

// maxFrameItems is how many items a frame is read with at most, and written: they cost more than their bytes.
const maxFrameItems = 4096

// itemsAtOnce is for how many items of a frame there is room from the first on.
const itemsAtOnce = 128

// maxKnown is how many members a hello names at most.
const maxKnown = 256

// frameOverhead is what a frame has at most besides its items. Names have 4 characters.
const frameOverhead = 160

// itemHead is what an item has at most besides its bytes.
const itemHead = 6

// appendFrame appends a frame with items that are encoded already, and seals it.
func (k *keys) appendFrame(dst []byte, h *header, items [][]byte) []byte {
	dst = h.append(dst)
	for _, it := range items {
		dst = appendMessage(dst, 13, it)
	}
	return k.seal(dst)
}

// helloFrame is a frame with a hello, sealed.
func (k *keys) helloFrame(h *header, hello *clusterv1.Hello) []byte {
	body, err := proto.Marshal(hello)
	if err != nil { // a name that is not UTF-8; Config.Validate has refused it
		body = nil
	}
	return k.seal(appendMessage(h.append(nil), 14, body))
}

func (h *header) append(dst []byte) []byte {
	dst = appendUint(dst, 1, h.version)
	dst = appendString(dst, 2, string(h.from.Node))
	dst = appendUint(dst, 3, h.from.Run)
	dst = appendString(dst, 4, string(h.to.Node))
	dst = appendUint(dst, 5, h.to.Run)
	for i, v := range [...]uint64{h.epoch, h.seq, h.last, h.ackEpoch, h.ack} {
		dst = appendUint(dst, protowire.Number(6+i), v)
	}
	dst = appendBool(dst, 11, h.asks)
	return appendBool(dst, 12, h.over)
}

// readFrame reads a frame. The parts in it are of b. It says why a frame is not to be heard; then nothing of it counts.
func (k *keys) readFrame(b []byte) (f frame, drop Drop) {
	f.bytes = len(b)
	b, drop = k.unseal(b)
	if drop != 0 {
		return f, drop
	}
	var w wireField
	hello := false
	for before := uint64(0); len(b) > 0; {
		var ok bool
		if b, ok = w.next(b); !ok {
			return frame{}, DropUnreadable
		}
		n := w.key >> 3
		if n < before || n == before && n != 13 && n <= 15 { // each once, in order: a frame has one form
			return frame{}, DropUnreadable
		}
		before = n
		switch {
		case n > 15: // of a later version
		case n < 13 || n > 14:
			ok = f.readHeader(&w)
		default:
			// The header stands before them, and says whether they can be read.
			switch {
			case w.key&7 != bytesField || len(f.items) == maxFrameItems:
				return frame{}, DropUnreadable
			case n == 14 && f.version != 0 || n == 13 && (f.version < k.wireFrom || f.version > k.wireTo):
				return frame{}, DropVersion
			case n == 14:
				hello, ok = true, f.readHello(w.bytes)
			default:
				if f.items == nil { // most often the others are about as long
					f.items = make([]item, 0, min(1+len(b)/(1+len(w.bytes)), itemsAtOnce))
				}
				f.items = append(f.items, readItem(w.bytes))
			}
		}
		if !ok {
			return frame{}, DropUnreadable
		}
	}
	switch {
	case f.version > k.wireTo || f.version < k.wireFrom && !hello:
		return frame{}, DropVersion
	case !validName(f.from.Node) || f.from.Run == 0 || f.to.Node != "" && !validName(f.to.Node):
		return frame{}, DropUnreadable
	case hello && (len(f.items) > 0 || f.epoch != 0 || f.seq != 0 || f.ackEpoch != 0):
		return frame{}, DropUnreadable
	case !hello && (f.to.Node == "" || f.to.Run == 0 || f.seq != 0 != (len(f.items) > 0) || f.seq > f.last || f.seq != 0 && f.epoch == 0):
		return frame{}, DropUnreadable
	}
	return f, 0
}

func (h *header) readHeader(w *wireField) bool {
	switch w.key {
	case 1<<3 | varintField:
		h.version = w.varint
	case 2<<3 | bytesField:
		h.from.Node = service.NodeID(w.bytes)
	case 3<<3 | varintField:
		h.from.Run = w.varint
	case 4<<3 | bytesField:
		h.to.Node = service.NodeID(w.bytes)
	case 5<<3 | varintField:
		h.to.Run = w.varint
	case 6<<3 | varintField:
		h.epoch = w.varint
	case 7<<3 | varintField:
		h.seq = w.varint
	case 8<<3 | varintField:
		h.last = w.varint
	case 9<<3 | varintField:
		h.ackEpoch = w.varint
	case 10<<3 | varintField:
		h.ack = w.varint
	case 11<<3 | varintField:
		h.asks = w.varint == 1
	case 12<<3 | varintField:
		h.over = w.varint == 1
	default:
		return false
	}
	if w.key >= 11<<3 && w.varint > 1 {
		return false // what is said or not has one form
	}
	return w.key&7 != varintField || w.varint != 0 // a zero is left out
}

func (f *frame) readHello(b []byte) bool {
	f.hello = &clusterv1.Hello{}
	if proto.Unmarshal(b, f.hello) != nil || len(f.hello.GetMembers()) > maxKnown {
		return false
	}
	for _, m := range f.hello.GetMembers() {
		if !validName(service.NodeID(m.GetName())) || m.GetRun() == 0 {
			return false
		}
	}
	return f.hello.GetCount() > 0
}

// Skip is why an item has no effect, or a part of it. The items around it do: a peer would send again for ever what is
// not heard.
type Skip uint8

// The reasons; 0 is none.
const (
	SkipUnknown    Skip = iota + 1 // it is of a kind that came with a later version
	SkipUnreadable                 // it says what no node says
	skips
)

var skipWords = [skips]string{"", "unknown", "unreadable"}

func (s Skip) String() string { return skipWords[s] }

// readItem reads an item, which has one field that is known.
func readItem(b []byte) item {
	it := item{bytes: len(b)}
	var w wireField
	b, ok := w.next(b)
	switch {
	case !ok:
	case w.key < 15<<3:
		ok = it.read(&w)
	default:
		it.skipped = SkipUnknown
	}
	if !ok || !later(b, 15) {
		return item{bytes: it.bytes, skipped: SkipUnreadable}
	}
	return it
}

// empty says whether nothing of it has an effect.
func (it *item) empty() bool {
	return it.skipped != 0 && it.question == nil && it.notices == nil && it.replies == nil
}

// read reads what the one field of an item has.
func (it *item) read(w *wireField) (ok bool) {
	switch w.key {
	case 1<<3 | bytesField:
		it.open, ok = true, later(w.bytes, 1)
	case 2<<3 | bytesField:
		ok = it.readPart(w.bytes)
	case 3<<3 | bytesField:
		it.told, ok = true, later(w.bytes, 1)
	case 4<<3 | bytesField:
		it.interest, ok = readInterest(w.bytes)
	case 5<<3 | bytesField:
		it.emit, ok = readEmit(w.bytes)
	case 6<<3 | bytesField:
		it.counts, ok = readCounts(w.bytes)
	case 7<<3 | bytesField:
		it.question, it.skipped, ok = readQuestion(w.bytes)
	case 8<<3 | bytesField:
		it.answer, ok = readAnswer(w.bytes)
	case 9<<3 | bytesField:
		it.acks, ok = readAcks(w.bytes)
	case 10<<3 | bytesField:
		it.news, it.skipped, ok = readHandlerNews(w.bytes)
	case 11<<3 | bytesField:
		it.notices, it.skipped, ok = readNotices(w.bytes)
	case 12<<3 | bytesField:
		it.replies, it.skipped, ok = readReplies(w.bytes)
	case 13<<3 | bytesField:
		it.follow, ok = readFollow(w.bytes)
	case 14<<3 | bytesField:
		it.presence, ok = readPresence(w.bytes)
	}
	return ok
}

// The items that have nothing in them, encoded.
var (
	openItem = []byte{1<<3 | byte(bytesField), 0}
	toldItem = []byte{3<<3 | byte(bytesField), 0}
)

// partOverhead is what a part has at most besides its data.
const partOverhead = 16

// partItem is an item that is a part of another one.
func partItem(data []byte, last bool) []byte {
	n := sizeBytes(len(data))
	if last {
		n += 2
	}
	return appendBool(appendMessage(appendHead(nil, 2, n), 1, data), 2, last)
}

func (it *item) readPart(b []byte) (ok bool) {
	var w wireField
	if b, ok = w.next(b); !ok || w.key != 1<<3|bytesField || len(w.bytes) == 0 {
		return false
	}
	it.part = w.bytes
	for before := w.key; len(b) > 0; before = w.key {
		switch b, ok = w.next(b); {
		case !ok:
			return false
		case w.key >= 3<<3 && w.key >= before:
		case w.key != 2<<3|varintField || w.key <= before || w.varint != 1:
			return false
		default:
			it.last = true
		}
	}
	return true
}

// interestItem is an item that tells of rooms.
func interestItem(in *interest) []byte {
	n := 0
	for _, list := range [...][]uint64{in.plus, in.minus} {
		if len(list) > 0 {
			n += sizeBytes(8 * len(list))
		}
	}
	dst := appendHead(make([]byte, 0, n+itemHead), 4, n)
	for i, list := range [...][]uint64{in.plus, in.minus} {
		if len(list) == 0 {
			continue
		}
		dst = appendHead(dst, protowire.Number(1+i), 8*len(list))
		for _, h := range list {
			dst = protowire.AppendFixed64(dst, h)
		}
	}
	return dst
}

func readInterest(b []byte) (in *interest, ok bool) {
	in = &interest{}
	var w wireField
	for before := uint64(0); len(b) > 0; before = w.key {
		if b, ok = w.next(b); ok && w.key >= 3<<3 && w.key >= before {
			continue
		}
		if !ok || w.key <= before || len(w.bytes) == 0 || len(w.bytes)%8 != 0 {
			return nil, false
		}
		list := make([]uint64, 0, len(w.bytes)/8)
		for chunk := range slices.Chunk(w.bytes, 8) {
			v, _ := protowire.ConsumeFixed64(chunk)
			list = append(list, v)
		}
		switch w.key {
		case 1<<3 | bytesField:
			in.plus = list
		case 2<<3 | bytesField:
			in.minus = list
		default:
			return nil, false
		}
	}
	return in, true
}

// validName says whether a name can be one of a node: 4 characters that stand in ids and subjects.
func validName(name service.NodeID) bool {
	for _, c := range []byte(name) {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(name) == 4
}
