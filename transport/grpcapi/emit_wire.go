package grpcapi

import (
	"bytes"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/service/payload"
)

// emitStreamRequest is what an EmitStream receives into. A valid item of the usual form becomes an emit where it
// stands: its JSON is copied once, into its place behind the event's name. What is unusual or wrong in an item is found
// out and told by way of the generated code alone.
type emitStreamRequest struct {
	maxBytes   int
	maxMessage int // of one message; 0: any
	tracer     *service.Tracer

	items   []emitItem
	emits   []service.Emit             // of the items that are to be sent, in their order
	message *foyerv1.EmitStreamRequest // one that read did not take; nil: it did
	large   error                      // why no item of a message that is too large is sent; nil: it is not

	namespace, event string // of the last item: those of the next one are mostly the same
}

// emitItem is one item. Without an error and a request it has the next of the emits.
type emitItem struct {
	id      uint64
	err     error                // why it is not sent
	request *foyerv1.EmitRequest // of one with a request_id: only in its turn it is known whether it is sent at all
	place   int                  // in its message
}

// path is where the emit stands in its message.
func (i *emitItem) path() string { return fmt.Sprintf("items[%d].emit", i.place) }

// reset forgets everything: an idle stream keeps no packets.
func (r *emitStreamRequest) reset() {
	clear(r.items)
	clear(r.emits)
	r.items, r.emits, r.message, r.large = r.items[:0], r.emits[:0], nil, nil
}

// bytes is what the items weigh while they wait.
func (r *emitStreamRequest) bytes() (n int) {
	for i := range r.emits {
		e := &r.emits[i]
		n += e.Packet.Size() + namesBytes(e.Target.Rooms) + namesBytes(e.Target.ExceptRooms)
	}
	for i := range r.items {
		if m := r.items[i].request; m != nil {
			n += proto.Size(m)
		}
	}
	return n
}

// namesBytes is what names weigh: a thousand rooms are more than most payloads.
func namesBytes(names []string) int {
	const header = 16 // of a string
	n := header * len(names)
	for _, name := range names {
		n += len(name)
	}
	return n
}

// read takes a message of items and nothing else, if they are not too many.
func (r *emitStreamRequest) read(buf mem.Buffer) (ok bool) {
	r.reset()
	if r.maxMessage > 0 && buf.Len() > r.maxMessage {
		r.large = invalid(tooLarge, "items", "the message has %d bytes, at most %d (Limits.max_request_bytes): send them in several messages",
			buf.Len(), r.maxMessage)
	}
	var f wireField
	for b := buf.ReadOnlyData(); len(b) > 0; {
		if b, ok = f.next(b); !ok || f.key != 1<<3|bytesField || len(r.items) == maxStreamItems || !r.readItem(f.bytes) {
			large := r.large
			r.reset()
			r.message, r.large = &foyerv1.EmitStreamRequest{}, large
			return false
		}
	}
	return true
}

func (r *emitStreamRequest) other() proto.Message {
	if r.message == nil {
		return nil
	}
	return r.message
}

// readItem says false when an item cannot be decoded.
func (r *emitStreamRequest) readItem(b []byte) bool {
	if r.large == nil {
		if id, e, ok := r.usual(b); ok {
			if r.tracer != nil {
				e.Trace = r.tracer.Cause("")
			}
			r.items, r.emits = append(r.items, emitItem{id: id, place: len(r.items)}), append(r.emits, e)
			return true
		}
	}
	item := &foyerv1.EmitStreamItem{}
	if proto.Unmarshal(b, item) != nil {
		return false
	}
	r.add(item)
	return true
}

// add adds an item that the generated code has decoded.
func (r *emitStreamRequest) add(item *foyerv1.EmitStreamItem) {
	it := emitItem{id: item.GetId(), place: len(r.items)}
	switch request := item.GetEmit(); {
	case r.large != nil:
		it.err = r.large
	case request == nil:
		it.err = invalidField(it.path(), "is required")
	case request.GetRequestId() != "":
		it.request = request
	default:
		e, err := emitRequest(request, r.maxBytes, true)
		if err == nil {
			e.Trace = r.tracer.Cause(request.GetTraceparent())
			r.emits = append(r.emits, e)
		} else {
			it.err = within(it.path(), err)
		}
	}
	r.items = append(r.items, it)
}

// usual reads an item whose emit is valid, and that has each field of a message once at the most.
func (r *emitStreamRequest) usual(b []byte) (id uint64, e service.Emit, ok bool) {
	var f wireField
	var emit, target, content, options []byte
	var receipt foyerv1.Receipt
	for len(b) > 0 {
		if b, ok = f.next(b); !ok {
			return 0, e, false
		}
		switch {
		case f.key == 1<<3|varintField:
			id = f.varint
		case f.key == 2<<3|bytesField && emit == nil:
			emit = f.bytes
		default:
			return 0, e, false
		}
	}
	for len(emit) > 0 {
		if emit, ok = f.next(emit); !ok {
			return 0, e, false
		}
		switch {
		case f.key == 1<<3|bytesField && target == nil:
			target = f.bytes
		case f.key == 2<<3|bytesField && content == nil:
			content = f.bytes
		case f.key == 3<<3|bytesField && options == nil:
			options = f.bytes
		case f.key == 4<<3|varintField && f.varint <= uint64(foyerv1.Receipt_RECEIPT_ACCEPTED):
			receipt = foyerv1.Receipt(f.varint)
		default:
			return 0, e, false
		}
	}
	e.Accepted = accepted(receipt, true)
	ok = r.readTarget(target, &e.Target) && r.readPayload(content, &e) && readOptions(options, &e.Flags)
	return id, e, ok
}

func (r *emitStreamRequest) readTarget(b []byte, t *service.Target) (ok bool) {
	var f wireField
	var namespace []byte
	for len(b) > 0 {
		if b, ok = f.next(b); !ok {
			return false
		}
		switch {
		case f.key == 1<<3|bytesField && namespace == nil:
			namespace = f.bytes
		case f.key == 2<<3|bytesField:
			t.Rooms = append(t.Rooms, string(f.bytes))
		case f.key == 3<<3|bytesField:
			t.ExceptRooms = append(t.ExceptRooms, string(f.bytes))
		case f.key == 4<<3|varintField:
			t.All = protowire.DecodeBool(f.varint)
		case f.key == 5<<3|varintField:
			t.Local = protowire.DecodeBool(f.varint)
		default:
			return false
		}
	}
	t.Namespace = again(&r.namespace, namespace)
	return checkTarget(t) == nil
}

func (r *emitStreamRequest) readPayload(b []byte, e *service.Emit) (ok bool) {
	var f wireField
	var event, json []byte
	var attachments [][]byte
	for len(b) > 0 {
		if b, ok = f.next(b); !ok {
			return false
		}
		switch {
		case f.key == 1<<3|bytesField && event == nil:
			event = f.bytes
		case f.key == 2<<3|bytesField && json == nil:
			json = f.bytes
		case f.key == 4<<3|bytesField && len(attachments) < payload.MaxAttachments:
			attachments = append(attachments, bytes.Clone(f.bytes))
		default:
			return false
		}
	}
	if json == nil {
		json = []byte("[]")
	}
	name := again(&r.event, event)
	if checkEvent(name, payload.Reserved) != nil {
		return false
	}
	array, ok := eventArray(name, json, attachments, r.maxBytes)
	if !ok || checkSize(len(array), attachments, "", r.maxBytes) != nil {
		return false
	}
	e.Packet = &service.Packet{
		Kind: service.KindEvent, Namespace: e.Target.Namespace, AckID: service.NoAck,
		Payload: array, Attachments: attachments, Event: name,
	}
	return true
}

func readOptions(b []byte, flags *service.Flags) (ok bool) {
	var f wireField
	volatile, compress := false, true
	for len(b) > 0 {
		if b, ok = f.next(b); !ok {
			return false
		}
		switch f.key {
		case 1<<3 | varintField:
			volatile = protowire.DecodeBool(f.varint)
		case 2<<3 | varintField:
			compress = protowire.DecodeBool(f.varint)
		default:
			return false
		}
	}
	if volatile {
		*flags |= service.Volatile
	}
	if !compress {
		*flags |= service.NoCompress
	}
	return true
}

// appendReceipt appends the result of an emit that was sent, as a field of an EmitStreamResponse.
func appendReceipt(dst []byte, id uint64, r *service.Receipt) []byte {
	var resultSpace, okSpace, coverageSpace [64]byte // unreachable nodes take them to the heap
	ok := okSpace[:0]
	for i, n := range [...]int{r.Matched, r.Enqueued, r.DroppedVolatile, r.DroppedSlow} { // zeroes are told
		ok = protowire.AppendTag(ok, protowire.Number(i+1), protowire.VarintType)
		ok = protowire.AppendVarint(ok, uint64(n))
	}
	coverage := coverageSpace[:0]
	for _, name := range r.Coverage.Unreachable {
		coverage = appendMessage(coverage, 1, []byte(name))
	}
	coverage = appendUint(coverage, 2, uint64(r.Coverage.UnreachableUnnamed))
	coverage = appendUint(coverage, 3, uint64(r.Coverage.UncountedNodes))
	ok = appendMessage(ok, 5, coverage)
	result := appendMessage(appendUint(resultSpace[:0], 1, id), 2, ok)
	return appendMessage(dst, 1, result)
}

// again is name as a string: the last one, if it is the same and no longer than a name may be.
func again(last *string, name []byte) string {
	if len(name) > service.MaxNameBytes {
		return string(name)
	}
	if *last != string(name) {
		*last = string(name)
	}
	return *last
}
