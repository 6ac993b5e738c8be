package adapter

import (
	"google.golang.org/protobuf/encoding/protowire"

	"foyer/service"
)

// counts are what became of the events of one item at a node. One receipt stands for all of them where they are alike.
type counts struct {
	call     uint64
	receipts []service.Receipt
}

// place is the receipt of the event at a place.
func (c *counts) place(i int) service.Receipt {
	if len(c.receipts) == 1 {
		return c.receipts[0]
	}
	if i < len(c.receipts) {
		return c.receipts[i]
	}
	return service.Receipt{}
}

// numbers are those of a receipt in the order of the wire.
func numbers(r *service.Receipt) [5]*int {
	return [...]*int{&r.Matched, &r.Enqueued, &r.DroppedVolatile, &r.DroppedSlow, &r.Closing}
}

// countsItem is an item with the receipts of a call, which are one at least.
func countsItem(call uint64, receipts []service.Receipt) []byte {
	if alike(receipts) {
		receipts = receipts[:1]
	}
	size := 0
	for i := range receipts {
		for _, n := range numbers(&receipts[i]) {
			size += protowire.SizeVarint(uint64(*n))
		}
	}
	body := appendUint(make([]byte, 0, 16+size), 1, call)
	body = appendHead(body, 2, size)
	for i := range receipts {
		for _, n := range numbers(&receipts[i]) {
			body = protowire.AppendVarint(body, uint64(*n))
		}
	}
	return appendMessage(make([]byte, 0, len(body)+itemHead), 6, body)
}

// alike says whether receipts have the same numbers.
func alike(receipts []service.Receipt) bool {
	for i := 1; i < len(receipts); i++ {
		a, b := numbers(&receipts[0]), numbers(&receipts[i])
		for k := range a {
			if *a[k] != *b[k] {
				return false
			}
		}
	}
	return true
}

// maxCount is the most recipients that a node can say it has.
const maxCount = 1<<31 - 1

func readCounts(b []byte) (c *counts, ok bool) {
	var w wireField
	if b, ok = w.next(b); !ok || w.key != 1<<3|varintField || w.varint == 0 {
		return nil, false
	}
	c = &counts{call: w.varint}
	if b, ok = w.next(b); !ok || w.key != 2<<3|bytesField || len(w.bytes) == 0 {
		return nil, false
	}
	for rest := w.bytes; len(rest) > 0; {
		var r service.Receipt
		for _, n := range numbers(&r) {
			var v uint64
			if v, rest, ok = shortest(rest); !ok || v > maxCount {
				return nil, false
			}
			*n = int(v)
		}
		c.receipts = append(c.receipts, r)
	}
	return c, later(b, 3) && (len(c.receipts) == 1 || !alike(c.receipts)) // what is the same has the same bytes
}
