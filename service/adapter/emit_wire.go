package adapter

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"foyer/service"
	"foyer/service/payload"
)

// Emit is events for one target as they pass from node to node. A receiver may keep it.
type Emit struct {
	Target  service.Target // never Local
	Flags   service.Flags
	Call    uint64 // the number under which counts are wanted; 0: none are
	Packets []*service.Packet
	Collect bool // the sender waits for acknowledgements under the number of the call
	Trace   string
}

// AppendEmit appends an item that is an emit. One encoding serves all nodes that want it.
func AppendEmit(dst []byte, e *Emit) []byte {
	t, n := &e.Target, e.headSize()
	for _, p := range e.Packets {
		n += sizeBytes(packetSize(p))
	}
	dst = appendHead(slices.Grow(dst, sizeBytes(n)), 5, n)
	dst = appendString(dst, 1, t.Namespace)
	for _, room := range t.Rooms {
		dst = append(appendHead(dst, 2, len(room)), room...)
	}
	for _, room := range t.ExceptRooms {
		dst = append(appendHead(dst, 3, len(room)), room...)
	}
	dst = appendBool(dst, 4, t.All)
	dst = appendBool(dst, 5, e.Flags&service.Volatile != 0)
	dst = appendBool(dst, 6, e.Flags&service.NoCompress != 0)
	dst = appendUint(dst, 7, e.Call)
	for _, p := range e.Packets {
		dst = appendMessage(appendHead(dst, 8, packetSize(p)), 1, p.Payload)
		for _, a := range p.Attachments {
			dst = appendMessage(dst, 2, a)
		}
	}
	return appendString(appendBool(dst, 9, e.Collect), 10, e.Trace)
}

// headSize is the size of all fields but the packets.
func (e *Emit) headSize() int {
	t, n := &e.Target, 0
	if t.Namespace != "" {
		n += sizeBytes(len(t.Namespace))
	}
	for _, room := range t.Rooms {
		n += sizeBytes(len(room))
	}
	for _, room := range t.ExceptRooms {
		n += sizeBytes(len(room))
	}
	for _, set := range [...]bool{t.All, e.Flags&service.Volatile != 0, e.Flags&service.NoCompress != 0, e.Collect} {
		if set {
			n += 2
		}
	}
	if e.Trace != "" {
		n += sizeBytes(len(e.Trace))
	}
	if e.Call != 0 {
		n += 1 + protowire.SizeVarint(e.Call)
	}
	return n
}

func packetSize(p *service.Packet) int {
	n := sizeBytes(len(p.Payload))
	for _, a := range p.Attachments {
		n += sizeBytes(len(a))
	}
	return n
}

// readEmit reads what AppendEmit has written behind the item's head. Nothing of it is of b.
func readEmit(b []byte) (e *Emit, ok bool) {
	usual := &struct { // most are for one room, or all, and have one event
		Emit
		room    [1]string
		packet  service.Packet
		packets [1]*service.Packet
	}{}
	e = &usual.Emit
	t := &e.Target
	var w wireField
	for before := uint64(0); len(b) > 0; before = w.key {
		if b, ok = w.next(b); !ok || w.key < before {
			return nil, false
		}
		switch n := w.key >> 3; {
		case n > 10:
			continue
		case w.key&7 == varintField && w.varint == 0: // a zero is left out
			return nil, false
		case n != 2 && n != 3 && n != 8 && w.key == before: // no list
			return nil, false
		case n <= 3 && (len(w.bytes) == 0 || len(w.bytes) > service.MaxNameBytes):
			return nil, false
		case (n >= 4 && n <= 6 || n == 9) && w.varint != 1:
			return nil, false
		}
		switch w.key {
		case 1<<3 | bytesField:
			t.Namespace = string(w.bytes)
		case 2<<3 | bytesField:
			if t.Rooms == nil {
				t.Rooms = usual.room[:0]
			}
			t.Rooms = append(t.Rooms, string(w.bytes))
		case 3<<3 | bytesField:
			t.ExceptRooms = append(t.ExceptRooms, string(w.bytes))
		case 4<<3 | varintField:
			t.All = true
		case 5<<3 | varintField:
			e.Flags |= service.Volatile
		case 6<<3 | varintField:
			e.Flags |= service.NoCompress
		case 7<<3 | varintField:
			e.Call = w.varint
		case 8<<3 | bytesField:
			p := &usual.packet
			if e.Packets == nil {
				e.Packets = usual.packets[:0]
			} else {
				p = new(service.Packet)
			}
			if !readPacket(p, w.bytes, t.Namespace) {
				return nil, false
			}
			e.Packets = append(e.Packets, p)
		case 9<<3 | varintField:
			e.Collect = true
		case 10<<3 | bytesField:
			if e.Trace = string(w.bytes); len(e.Trace) == 0 || len(e.Trace) > service.MaxTraceparent {
				return nil, false
			}
		default:
			return nil, false
		}
	}
	if e.Collect && (len(e.Packets) != 1 || e.Call == 0) {
		return nil, false
	}
	return e, t.Namespace != "" && t.Namespace[0] == '/' && t.All == (len(t.Rooms) == 0) && len(e.Packets) > 0
}

// readPacket reads what an item says of an event; false: browsers could not be sent it.
func readPacket(p *service.Packet, b []byte, namespace string) bool {
	*p = service.Packet{Kind: service.KindEvent, Namespace: namespace, AckID: service.NoAck}
	var w wireField
	for first := true; len(b) > 0; first = false {
		var ok bool
		if b, ok = w.next(b); !ok {
			return false
		}
		switch {
		case w.key == 1<<3|bytesField && first:
			p.Payload = bytes.Clone(w.bytes)
		case w.key == 2<<3|bytesField && !first:
			p.Attachments = append(p.Attachments, bytes.Clone(w.bytes))
		case w.key < 3<<3 || first:
			return false
		}
	}
	if payload.Check(p.Payload, len(p.Attachments), payload.Options{}) != nil {
		return false
	}
	name, _, ok := payload.EventName(p.Payload)
	p.Event = name
	return ok
}
