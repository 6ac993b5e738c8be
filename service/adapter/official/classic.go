package official

import (
	"foyer/service/payload"
)

// Numbers of requests and responses of the classic Redis adapter.
const (
	classicFetchIDs = iota
	classicFetchRooms
	classicJoin
	classicLeave
	classicDisconnect
	classicFetch
	classicServerSideEmit
	classicBroadcast
	classicCount
	classicAck
)

var classicRequests = map[Kind]int{
	FetchIDs: classicFetchIDs, FetchRooms: classicFetchRooms, Join: classicJoin, Leave: classicLeave, Disconnect: classicDisconnect,
	FetchSockets: classicFetch, ServerSideEmit: classicServerSideEmit,
}

// ReadClassicBroadcast reads what came on the channel of broadcasts of a namespace, or on one of a room there. Payload
// and attachments may have maxBytes, like the message itself.
func ReadClassicBroadcast(nsp string, b []byte, maxBytes int) (*Message, Fault) {
	v, f := parsePacked(b, maxBytes)
	if f != 0 {
		return nil, f
	}
	if v.sort() != list {
		return nil, Shape
	}
	var part [3]value
	n := 0
	v.items(func(item value) bool {
		part[n] = item
		n++
		return n < len(part)
	})
	r := reader{&Message{Kind: Broadcast}, maxBytes}
	if part[1].sort() != object {
		return nil, Shape
	}
	packet := part[1].fields()
	if f := r.namespace(packet.nsp, nsp, "/"); f != 0 {
		return nil, f
	}
	if f := r.uid(part[0]); f != 0 {
		return nil, f
	}
	if f := r.target(part[2]); f != 0 {
		return nil, f
	}
	if f := r.packet(part[1]); f != 0 {
		return nil, f
	}
	return r.m, 0
}

// ReadClassicRequest reads what came on the channel of requests of a namespace.
func ReadClassicRequest(nsp string, b []byte, maxBytes int) (*Message, Fault) {
	v, f := parse(b, maxBytes)
	if f != 0 {
		return nil, f
	}
	if v.sort() != object {
		return nil, Shape
	}
	is := v.fields()
	r := reader{&Message{Namespace: nsp}, maxBytes}
	typ, ok := is.typ.whole()
	if !ok {
		return nil, Shape
	}
	if f := r.uid(is.uid); f != 0 {
		return nil, f
	}
	m := r.m
	switch typ {
	case classicFetchIDs:
		m.Kind = FetchIDs
		if f = r.request(is.request, true); f == 0 {
			m.Rooms, f = is.rooms.names(maxNames)
		}
	case classicFetchRooms:
		m.Kind = FetchRooms
		f = r.request(is.request, true)
	case classicJoin:
		m.Kind = Join
		f = r.classicChange(&is)
	case classicLeave:
		m.Kind = Leave
		f = r.classicChange(&is)
	case classicDisconnect:
		m.Kind, m.Close = Disconnect, is.closes.truthy()
		f = r.classicChange(&is)
	case classicFetch:
		m.Kind = FetchSockets
		if f = r.request(is.request, true); f == 0 {
			f = r.target(is.opts)
		}
	case classicServerSideEmit:
		m.Kind = ServerSideEmit
		if f = r.request(is.request, false); f == 0 {
			f = r.event(is.data, serverReserved)
		}
	case classicBroadcast:
		m.Kind = Broadcast
		if f = r.request(is.request, true); f == 0 {
			if f = r.target(is.opts); f == 0 {
				f = r.packet(is.packet)
			}
		}
	default:
		f = Unknown
	}
	if f != 0 {
		return nil, f
	}
	return m, 0
}

// classicChange reads what Join, Leave and Disconnect have besides, in the form of now or of old nodes.
func (r *reader) classicChange(is *fields) Fault {
	m := r.m
	if is.opts.sort() == object {
		if f := r.target(is.opts); f != 0 || m.Kind == Disconnect {
			return f
		}
		return r.change(is.rooms)
	}
	if is.opts.truthy() {
		return Shape
	}
	var ok bool
	if m.Old, ok = is.sid.id(); !ok || m.Old == "" {
		return Shape
	}
	if m.Kind != Disconnect {
		room, ok := is.room.name()
		if !ok || room == "" {
			return Shape
		}
		m.Change = []string{room}
	}
	return r.request(is.request, false)
}

// ReadClassicResponse reads what came on a channel of responses of a namespace. It does not say whose request it
// answers: an empty list of sockets is read as Sockets, also when ids were asked for.
func ReadClassicResponse(nsp string, b []byte, maxBytes int) (*Message, Fault) {
	v, f := parse(b, maxBytes)
	if f != 0 {
		return nil, f
	}
	if v.sort() != object {
		return nil, Shape
	}
	is := v.fields()
	r := reader{&Message{Namespace: nsp}, maxBytes}
	m := r.m
	if f := r.request(is.request, true); f != 0 {
		return nil, f
	}
	typ, ok := is.typ.whole()
	switch {
	case is.typ.sort() != absent && !ok:
		f = Shape
	case ok && typ == classicServerSideEmit:
		m.Kind = Reply
		f = r.answer(is.data)
	case ok && typ == classicCount:
		m.Kind = ClientCount
		f = r.count(is.count)
	case ok && typ == classicAck:
		m.Kind = Ack
		f = r.answer(is.packet)
	case ok:
		f = Unknown
	case is.sockets.sort() == list:
		ids := false
		is.sockets.items(func(item value) bool {
			ids = item.sort() != object
			return false
		})
		if ids {
			m.Kind = IDs
			m.Names, f = is.sockets.names(maxList)
		} else {
			m.Kind = Sockets
			f = r.sockets(is.sockets)
		}
	case is.rooms.sort() == list:
		m.Kind = Rooms
		m.Names, f = is.rooms.names(maxList)
	case is.sockets.sort() == absent && is.rooms.sort() == absent:
		m.Kind = Done
	default:
		f = Shape
	}
	if f != 0 {
		return nil, f
	}
	return m, 0
}

// AppendClassic appends a message in the classic Redis adapter's form; where it goes is Classic.Channel. The error is a
// Fault, and dst is then as before.
func AppendClassic(dst []byte, m *Message) ([]byte, error) {
	w := writer{b: dst, maxDepth: payload.MaxDepth}
	if f := m.check(); f != 0 {
		return dst, f
	}
	switch m.Kind {
	case Broadcast:
		w.packed = true
		if m.Request == "" {
			w.open('[', 3)
			w.text(m.UID)
		} else {
			w.open('{', 5)
			w.field("uid", m.UID)
			w.field("requestId", m.Request)
			w.number("type", classicBroadcast)
			w.key("packet")
		}
		w.packet(m, true)
		if m.Request != "" {
			w.key("opts")
		}
		w.opts(m, true)
	case Ack:
		w.packed = true
		w.open('{', 2+w.there(m))
		w.number("type", classicAck)
		w.field("requestId", m.Request)
		w.answer("packet", m)
	default:
		w.open('{', 0)
		w.classicJSON(m)
	}
	w.close()
	return w.done(dst)
}

// classicJSON writes the members of what is always JSON.
func (w *writer) classicJSON(m *Message) {
	switch m.Kind {
	case Reply:
		w.number("type", classicServerSideEmit)
		w.field("requestId", m.Request)
		w.answer("data", m)
		return
	case ClientCount:
		w.number("type", classicCount)
		w.field("requestId", m.Request)
		w.number("clientCount", m.Count)
		return
	case Sockets:
		w.field("requestId", m.Request)
		w.sockets(m)
		return
	case Rooms:
		w.field("requestId", m.Request)
		w.names("rooms", m.Names)
		return
	case IDs:
		w.field("requestId", m.Request)
		w.names("sockets", m.Names)
		return
	case Done:
		w.field("requestId", m.Request)
		return
	}
	if m.UID != "" {
		w.field("uid", m.UID)
	}
	if m.Request != "" {
		w.field("requestId", m.Request)
	}
	n, ok := classicRequests[m.Kind]
	if !ok {
		w.fail(Medium)
		return
	}
	w.number("type", n)
	switch {
	case m.Kind == FetchIDs:
		w.names("rooms", m.Rooms)
	case m.Kind == ServerSideEmit:
		w.key("data")
		w.value(m.Payload, m.Attachments, true)
	case m.Old != "":
		w.field("sid", m.Old)
		if m.Kind != Disconnect {
			w.field("room", m.Change[0])
		}
	case m.Kind != FetchRooms:
		w.key("opts")
		w.opts(m, false)
		if m.Kind == Join || m.Kind == Leave {
			w.names("rooms", m.Change)
		}
	}
	if m.Kind == Disconnect {
		w.bool("close", m.Close)
	}
}
