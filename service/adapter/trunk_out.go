package adapter

import "time"

// The times of a trunk.
const (
	// repairAfter is how long a frame may be without an ack until it is sent again, and how long there is at least between
	// two answers that ask, and between two repairs that were asked for.
	repairAfter = 200 * time.Millisecond
	// repairMost is the longest wait between two attempts at one frame, each of which waits twice as long as the last.
	repairMost = time.Second
	// stuckLeases is after how many leases a way on which nothing is heard begins anew, though its other end is there.
	// A frame that the bus has delayed has come by then. So the other end drops each copy of the frame, or it has stopped.
	stuckLeases = 6
	// ackWithin is how long an ack waits for a frame that takes it along. It is well below repairAfter.
	ackWithin = 20 * time.Millisecond
)

// The sizes of a trunk, in bytes.
const (
	frameItems  = 64 << 10  // of items in one frame; a larger item goes alone
	ackEvery    = 256 << 10 // of items heard, after which an ack does not wait
	repairBurst = 1 << 20   // sent again without hearing that it helps
	itemWeight  = 64        // what an item costs besides its bytes, about
)

type outStage uint8

const (
	outClosed  outStage = iota // no epoch: the peer is not there
	outOpening                 // the first frame has no ack yet, and nothing goes behind it
	outTelling                 // the state is being told
	outOpen
)

// outItem is an item on its way.
type outItem struct {
	data   []byte // whole or a part; shared with other trunks
	number uint64 // of the item among those of the trunk
	emit   bool   // and no news; of parts, the last one
	prompt bool   // an ack is wanted at once
	fact   []byte // the item, when it is one that outlives its epoch; of parts, with the last one
}

// outFrame is a frame that has no ack yet.
type outFrame struct {
	items  [][]byte
	weight int
	upTo   uint64 // number of the last item that is whole with this frame
	emits  int
	prompt bool
	facts  [][]byte
}

// out is the way to one peer: it keeps what has no ack, up to the window, and sends it again. Its epochs are those of
// T2.
type out struct {
	window  int // bytes kept and waiting at most
	maxItem int // of one item in a frame, in bytes

	epoch   uint64 // 0: there was none
	stage   outStage
	kept    []outFrame // those behind base
	base    uint64     // the last frame with an ack
	at      uint64     // the next frame to send
	sent    uint64     // the last frame that was ever sent
	waiting []outItem  // in no frame yet
	bytes   int        // weight of kept and waiting
	facts   [][]byte   // of the last epoch, for the one that is to be opened
	full    bool       // no emits until half of the window is free (T4)
	part    int        // of the state that is being told
	cursor  int        // what is left of that part; -1: all
	to      *member

	repairing bool          // at goes over frames that were sent before
	budget    int           // of a repair, in bytes
	since     time.Duration // the last progress, or attempt
	stuckFrom time.Duration // the last progress
	wait      time.Duration // from then until the next attempt
	repaired  time.Duration // the last repair that was asked for

	added uint64 // items in the life of the trunk
	fresh uint64 // number of the last item that is news
	told  uint64 // number of the item that ended the telling of this epoch; 0: it is not there yet
	heard uint64 // the peer has heard everything up to this item, or the state that followed it
}

// open begins an epoch, with the frame that goes alone.
func (o *out) open(epoch uint64, now time.Duration) {
	o.epoch, o.stage = epoch, outOpening
	o.added++
	o.kept = append(o.kept[:0], outFrame{items: [][]byte{openItem}, weight: len(openItem) + itemWeight, upTo: o.added, prompt: true})
	o.bytes, o.base, o.at, o.sent, o.told, o.part, o.cursor = o.kept[0].weight, 0, 1, 0, 0, 0, 0
	o.repairing, o.since, o.stuckFrom, o.wait, o.repaired = false, now, now, repairAfter, now-repairAfter
	for _, item := range o.facts {
		o.addFact(item)
	}
	o.facts = nil
}

// close ends an epoch and returns how many emits are lost with it, or may be. keep: its facts that may not have been
// heard are told in the next one.
func (o *out) close(keep bool) (lost int) {
	for i := range o.kept {
		lost += o.kept[i].emits
		if keep {
			o.facts = append(o.facts, o.kept[i].facts...)
		}
	}
	for i := range o.waiting {
		switch it := &o.waiting[i]; {
		case it.fact != nil && keep:
			o.facts = append(o.facts, it.fact)
		case it.emit:
			lost++
		}
	}
	clear(o.kept)
	clear(o.waiting)
	o.stage, o.kept, o.waiting, o.bytes, o.full = outClosed, nil, nil, 0, false
	return lost
}

// room says whether an item finds room in the window. Where there is nothing else each does: one that is larger than
// the window would never go.
func (o *out) room(item []byte) bool {
	parts := 1 + len(item)/o.partData()
	return o.bytes == 0 || o.bytes+len(item)+parts*(itemWeight+partOverhead) <= o.window
}

func (o *out) partData() int { return o.maxItem - partOverhead }

// emit takes an item that a full window may refuse.
func (o *out) emit(item []byte) bool {
	if o.stage == outClosed || o.full {
		return false
	}
	if !o.room(item) {
		o.full = true
		return false
	}
	o.add(item, true, false)
	return true
}

// news takes an item that the peer has to hear. It says false when the window has no room for it: then the epoch is
// over. While an epoch opens there is nothing to do: the state is told after that, and has it.
func (o *out) news(item []byte) bool {
	switch {
	case o.stage == outClosed || o.stage == outOpening:
		return true
	case !o.room(item):
		return false
	}
	o.add(item, false, true)
	o.fresh = o.added
	return true
}

// fact takes an item that the peer is to hear even if the epoch ends for want of room, as long as neither end forgets
// the other; it may hear it twice then. A full window refuses it.
func (o *out) fact(item []byte) bool {
	if o.stage == outClosed || !o.room(item) {
		return false
	}
	o.addFact(item)
	return true
}

func (o *out) addFact(item []byte) {
	o.add(item, false, false)
	o.waiting[len(o.waiting)-1].fact = item
}

// mark is the number which heard reaches when the peer knows all that there is to know now.
func (o *out) mark() uint64 {
	if o.stage == outOpen {
		return max(o.fresh, o.told)
	}
	return o.added + 1 // what ends the telling comes after that
}

func (o *out) add(item []byte, emit, prompt bool) {
	o.added++
	if size := o.partData(); len(item) > o.maxItem {
		for ; len(item) > size; item = item[size:] {
			o.push(outItem{data: partItem(item[:size], false), number: o.added - 1})
		}
		item = partItem(item, true)
	}
	o.push(outItem{data: item, number: o.added, emit: emit, prompt: prompt})
}

func (o *out) push(it outItem) {
	o.bytes += len(it.data) + itemWeight
	o.waiting = append(o.waiting, it)
}

// last is the last frame that there is.
func (o *out) last() uint64 { return o.base + uint64(len(o.kept)) }

// cut makes a frame of what waits, as much as goes into one.
func (o *out) cut() {
	f, size, n := outFrame{items: make([][]byte, 0, min(len(o.waiting), itemsAtOnce))}, 0, 0
	for ; n < len(o.waiting) && n < maxFrameItems; n++ {
		it := &o.waiting[n]
		if n > 0 && size+len(it.data) > min(frameItems, o.maxItem) {
			break
		}
		size += len(it.data) + itemHead
		f.items = append(f.items, it.data)
		f.weight += len(it.data) + itemWeight
		f.upTo, f.prompt = it.number, f.prompt || it.prompt
		if it.emit {
			f.emits++
		}
		if it.fact != nil {
			f.facts = append(f.facts, it.fact)
		}
	}
	clear(o.waiting[:n])
	switch {
	case n < len(o.waiting):
		o.waiting = o.waiting[n:]
	case cap(o.waiting) <= maxSpare:
		o.waiting = o.waiting[:0]
	default:
		o.waiting = nil
	}
	o.kept = append(o.kept, f)
}

// next returns the next frame to be sent now; nil: there is none. tell appends the next piece of the state to an item,
// and says what is left.
func (o *out) next(now time.Duration, tell func(o *out) []byte) (f *outFrame, seq uint64, prompt bool) {
	for o.stage != outClosed {
		switch {
		case o.at <= o.last():
			f, seq = &o.kept[o.at-o.base-1], o.at
			if o.repairing {
				if o.budget <= 0 {
					return nil, 0, false
				}
				o.budget -= f.weight
			}
			if o.at == o.base+1 && !o.repairing { // nothing was on its way
				o.since, o.wait = now, repairAfter
				o.stuckFrom = now
			}
			o.at++
			o.sent = max(o.sent, seq)
			prompt = f.prompt || o.repairing && (o.budget <= 0 || o.at > o.last()) || o.bytes > o.window/2
			if o.at > o.last() {
				o.repairing = false
			}
			return f, seq, prompt
		case o.stage == outOpening:
			return nil, 0, false
		case len(o.waiting) > 0:
			o.cut()
		case o.stage == outTelling && o.bytes <= o.window/2:
			o.tellMore(tell)
		default:
			return nil, 0, false
		}
	}
	return nil, 0, false
}

// tellMore takes the next piece of the state. News has the other half of the window meanwhile.
func (o *out) tellMore(tell func(o *out) []byte) {
	if item := tell(o); item != nil {
		o.add(item, false, false)
		return
	}
	o.add(toldItem, false, true)
	o.told, o.stage = o.added, outOpen
}

// acked takes an ack of the current epoch, for what was sent. The peer asks when it lacks what is behind.
func (o *out) acked(ack uint64, asks bool, now time.Duration) {
	if ack > o.base {
		n := ack - o.base
		for i := range o.kept[:n] {
			o.bytes -= o.kept[i].weight
		}
		if upTo := o.kept[n-1].upTo; o.told != 0 && upTo >= o.told {
			o.heard = upTo
		}
		clear(o.kept[:n])
		o.kept, o.base = o.kept[n:], ack
		o.at = max(o.at, ack+1)
		o.since, o.stuckFrom, o.wait, o.budget = now, now, repairAfter, repairBurst
		if o.at > o.last() {
			o.repairing = false
		}
		if len(o.kept) == 0 {
			o.kept = nil
		}
		if o.stage == outOpening {
			o.stage = outTelling
			o.cursor = -1
		}
		if o.bytes <= o.window/2 {
			o.full = false
		}
	}
	// An ack that comes late names less than is known by now: what is behind it is not missing.
	if asks && ack == o.base && o.at > o.base+1 && now-o.repaired >= repairAfter {
		o.repaired = now
		o.again(now, repairBurst)
	}
}

// again goes back to the first frame without an ack.
func (o *out) again(now time.Duration, budget int) {
	o.at, o.repairing, o.budget, o.since = o.base+1, true, budget, now
}

// due says when the frame that waits for its ack is sent again; never: none waits.
func (o *out) due() time.Duration {
	if o.stage == outClosed || o.sent <= o.base {
		return never
	}
	return o.since + o.wait
}

// stuck says whether the first frame without an ack has been so for longer than a time.
func (o *out) stuck(now, most time.Duration) bool { return o.due() != never && now-o.stuckFrom >= most }

// tick sends a frame again that has waited too long: that one alone, as its peer may be frozen.
func (o *out) tick(now time.Duration) {
	if o.due() <= now {
		o.again(now, 1)
		o.wait = min(2*o.wait, repairMost)
	}
}
