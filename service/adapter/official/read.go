package official

import (
	"time"

	"foyer/service"
	"foyer/service/payload"
)

// maxTimeout bounds what is believed of a timeout.
const maxTimeout = time.Hour

// Numbers of packets (Socket.IO protocol v5, "Packet types").
const (
	packetEvent       = 2
	packetBinaryEvent = 5
)

// reader reads one message. maxBytes bounds each payload with its attachments.
type reader struct {
	m        *Message
	maxBytes int
}

// uid reads who says it.
func (r *reader) uid(v value) Fault {
	var ok bool
	if r.m.UID, ok = v.id(); !ok {
		return Shape
	}
	return 0
}

// request reads the id of a request, which must be there if it is wanted.
func (r *reader) request(v value, wanted bool) Fault {
	var ok bool
	if r.m.Request, ok = v.id(); !ok || wanted && r.m.Request == "" {
		return Shape
	}
	return 0
}

// target reads options: rooms, except, flags.
func (r *reader) target(v value) (f Fault) {
	if v.sort() != object {
		return Shape
	}
	opts := v.fields()
	if r.m.Rooms, f = opts.rooms.names(maxNames); f != 0 {
		return f
	}
	if r.m.Except, f = opts.except.names(maxNames); f != 0 {
		return f
	}
	flags := opts.flags.fields()
	if flags.volatile.truthy() {
		r.m.Flags |= service.Volatile
	}
	if flags.compress.sort() == no {
		r.m.Flags |= service.NoCompress
	}
	if flags.timeout.sort() == number {
		if ms := flags.timeout.number(); ms > 0 { // false for NaN
			r.m.Timeout = time.Duration(min(ms, float64(maxTimeout/time.Millisecond))) * time.Millisecond
		}
	}
	r.m.SingleResponse = flags.single.truthy()
	return 0
}

// packet reads the packet of a broadcast.
func (r *reader) packet(v value) Fault {
	if v.sort() != object {
		return Shape
	}
	p := v.fields()
	switch p.typ.sort() {
	case number:
		if n := p.typ.number(); n != packetEvent && n != packetBinaryEvent {
			return PacketType
		}
	case text:
		if p.typ.text() != "2" {
			return PacketType
		}
	default:
		return PacketType
	}
	return r.event(p.data, payload.Reserved)
}

// event reads the array of an event.
func (r *reader) event(v value, reserved func(string) bool) (f Fault) {
	if v.sort() != list {
		return EventName
	}
	m := r.m
	if m.Payload, m.Attachments, f = v.json(r.maxBytes, false); f != 0 {
		return f
	}
	name, _, ok := payload.EventName(m.Payload)
	if !ok || name == "" || reserved(name) {
		return EventName
	}
	m.Event = name
	return 0
}

// serverReserved says whether an event name means something to the servers themselves, which they do not send either.
func serverReserved(event string) bool {
	return event == "connection" || event == "connect" || event == "new_namespace"
}

// answer reads the one value of an ack or a reply.
func (r *reader) answer(v value) (f Fault) {
	if v.sort() == absent {
		return 0
	}
	r.m.Payload, r.m.Attachments, f = v.json(r.maxBytes, false)
	return f
}

// change reads the rooms to join or leave.
func (r *reader) change(v value) (f Fault) {
	if v.sort() != list {
		return Shape
	}
	if r.m.Change, f = v.names(maxNames); f != 0 {
		return f
	}
	for _, room := range r.m.Change {
		if room == "" {
			return Shape
		}
	}
	if len(r.m.Change) == 0 {
		return Shape
	}
	return 0
}

// count reads how many sockets got a broadcast.
func (r *reader) count(v value) Fault {
	var ok bool
	if r.m.Count, ok = v.whole(); !ok {
		return Shape
	}
	return 0
}

// sockets reads descriptions of sockets. Their data has no attachments: binaries in it are as Node writes them in JSON.
func (r *reader) sockets(v value) (f Fault) {
	if v.sort() != list {
		return Shape
	}
	left := r.maxBytes
	v.items(func(item value) bool {
		if len(r.m.Sockets) == maxList {
			f = TooLarge
			return false
		}
		var (
			s  Socket
			ok bool
			is = item.fields()
		)
		if s.ID, ok = is.id.id(); !ok || s.ID == "" {
			f = Shape
			return false
		}
		if s.Rooms, f = is.rooms.names(maxNames); f != 0 {
			return false
		}
		if is.handshake.sort() == object {
			if s.Handshake, _, f = is.handshake.json(left, true); f != 0 {
				return false
			}
			left -= len(s.Handshake)
		}
		if is.data.sort() != absent {
			if s.Data, _, f = is.data.json(left, true); f != 0 {
				return false
			}
			left -= len(s.Data)
		}
		r.m.Sockets = append(r.m.Sockets, s)
		return left >= 0
	})
	if left < 0 {
		return TooLarge
	}
	return f
}

// namespace reads the namespace. want is that of the channel; "": any, and then it must be there.
func (r *reader) namespace(v value, want, missing string) Fault {
	switch v.sort() {
	case absent:
		r.m.Namespace = missing
	case text:
		r.m.Namespace = v.text()
	}
	if r.m.Namespace == "" || r.m.Namespace[0] != '/' || want != "" && r.m.Namespace != want {
		return Namespace
	}
	return 0
}
