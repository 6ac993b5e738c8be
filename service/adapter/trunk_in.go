package adapter

import "time"

// in is the way from one peer: what was heard is a prefix of what was sent in an epoch (T1).
type in struct {
	epoch  uint64 // the last one that began; 0: none
	closed bool   // it is over for this node
	next   uint64 // the frame that is to come
	told   bool   // all state was told in it
	parts  []byte // of the item that is not whole yet

	owed   bool // an ack, at the latest at by
	by     time.Duration
	bytes  int           // heard without an ack
	asked  time.Duration // when this end answered that it lacks something, or that an epoch is over
	answer answer        // to be given at once
}

// answer is what a peer is to be told in a frame without items.
type answer struct {
	due, asks, over bool
	epoch           uint64 // that is over
}

// hear takes a frame with items and returns those that are new, in order, with the parts put together. began says that
// an epoch begins with it, so that what was told in earlier ones is to be dropped first.
func (i *in) hear(f *frame, now time.Duration) (items []item, began bool, drop Drop) {
	opens := f.seq == 1 && len(f.items) == 1 && f.items[0].open
	switch {
	case opens != (f.seq == 1): // the first frame is an opening, and no other one
		return nil, false, DropUnreadable
	case f.epoch < i.epoch:
		return nil, false, DropEpoch
	case f.epoch == i.epoch && i.closed, f.epoch > i.epoch && !opens:
		// The second frame of an epoch is sent when the first one was heard: this end has forgotten it.
		i.complain(answer{over: true, epoch: f.epoch}, now)
		return nil, false, DropEpoch
	case f.epoch > i.epoch:
		*i = in{epoch: f.epoch, next: 1, asked: i.asked}
		began = true
	}
	switch {
	case f.seq < i.next: // its sender has not heard so
		i.complain(answer{}, now)
		return nil, false, DropRepeated
	case f.seq > i.next:
		i.complain(answer{asks: true}, now)
		return nil, false, DropGap
	}
	items, parts, ok := i.whole(f.items)
	if !ok {
		return nil, false, DropUnreadable
	}
	i.next, i.parts = f.seq+1, parts
	for k := range items {
		i.told = i.told || items[k].told
	}
	if !i.owed {
		i.owed, i.by = true, now+ackWithin
	}
	if i.bytes += f.bytes; f.asks || f.last > f.seq || i.bytes >= ackEvery {
		i.answer.due = true
	}
	return items, began, 0
}

// whole puts parts together. What it returns becomes the rest when the frame is taken.
func (i *in) whole(items []item) (whole []item, parts []byte, ok bool) {
	parts = i.parts
	whole = items[:0]
	for _, it := range items {
		switch {
		case it.part == nil && len(parts) > 0, it.open && i.next != 1:
			return nil, nil, false
		case it.part == nil:
			whole = append(whole, it)
			continue
		case len(parts)+len(it.part) > MaxItem:
			return nil, nil, false
		}
		if parts = append(parts, it.part...); !it.last {
			continue
		}
		if it = readItem(parts); it.open || it.told || it.part != nil {
			return nil, nil, false
		}
		whole, parts = append(whole, it), nil
	}
	return whole, parts, true
}

// complain answers what shows that an end lacks something; 200 ms apart, since two ends that both do must not answer
// each other for ever.
func (i *in) complain(a answer, now time.Duration) {
	if now-i.asked < repairAfter {
		return
	}
	i.asked = now
	a.due = true
	i.answer = a
}

// close ends what the peer tells: it has to tell all anew, in another epoch.
func (i *in) close() {
	*i = in{epoch: i.epoch, closed: true, asked: i.asked}
}

// due says when an ack can wait no longer.
func (i *in) due() time.Duration {
	if i.owed {
		return i.by
	}
	return never
}

func (i *in) tick(now time.Duration) {
	if i.due() <= now {
		i.answer.due = true
	}
}

// ack fills in the ack that each frame takes along.
func (i *in) ack(h *header) {
	if i.epoch != 0 && !i.closed {
		h.ackEpoch, h.ack = i.epoch, i.next-1
		i.owed, i.bytes = false, 0
	}
}
