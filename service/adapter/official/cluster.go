package official

import "foyer/service/payload"

// The numbers that cluster messages have; 0: the kind is of the classic adapter only.
var clusterNumbers = [kinds]int{
	Hello: 1, Heartbeat: 2, Broadcast: 3, Join: 4, Leave: 5, Disconnect: 6, FetchSockets: 7, Sockets: 8, ServerSideEmit: 9, Reply: 10,
	ClientCount: 11, Ack: 12, Goodbye: 13,
}

var clusterKinds = func() (list [14]Kind) {
	for k, n := range clusterNumbers {
		if n > 0 {
			list[n] = Kind(k)
		}
	}
	return list
}()

// ReadCluster reads a cluster message in JSON or msgpack: one of the sharded Redis adapter, one that the streams
// adapter publishes, or a row of the PostgreSQL adapter's table. nsp is the namespace of the channel: a message without
// one is of it, and one of another is refused. With nsp "" a message is of any namespace, and has to say of which.
// Payload and attachments may have maxBytes, like the message itself.
func ReadCluster(nsp string, b []byte, maxBytes int) (*Message, Fault) {
	v, f := parse(b, maxBytes)
	if f != 0 {
		return nil, f
	}
	if v.sort() != object {
		return nil, Shape
	}
	is := v.fields()
	n, ok := is.typ.whole()
	if !ok {
		return nil, Shape
	}
	return readCluster(nsp, n, &is, maxBytes)
}

func readCluster(nsp string, n int, is *fields, maxBytes int) (*Message, Fault) {
	r := reader{&Message{}, maxBytes}
	m := r.m
	if f := r.namespace(is.nsp, nsp, nsp); f != 0 {
		return nil, f
	}
	if n <= 0 || n >= len(clusterKinds) {
		return nil, Unknown
	}
	if m.Kind = clusterKinds[n]; m.Kind == Goodbye && is.data.truthy() {
		return nil, Unknown // a session of the Mongo adapter
	}
	if f := r.uid(is.uid); f != 0 {
		return nil, f
	}
	if f := r.clusterData(is.data); f != 0 {
		return nil, f
	}
	if m.UID == "" || m.UID == Emitter {
		switch { // it can neither be answered nor have been asked, and is no node
		case m.Request != "", m.Kind == Hello, m.Kind == Heartbeat, m.Kind == Goodbye:
			return nil, Shape
		}
	}
	return m, 0
}

func (r *reader) clusterData(v value) Fault {
	m := r.m
	switch m.Kind {
	case Hello, Heartbeat, Goodbye:
		return 0
	}
	if v.sort() != object {
		return Shape
	}
	is := v.fields()
	if f := r.request(is.request, m.Kind == FetchSockets || m.Kind.Answer()); f != 0 {
		return f
	}
	switch m.Kind {
	case Broadcast, Join, Leave, Disconnect, FetchSockets:
		if f := r.target(is.opts); f != 0 {
			return f
		}
	}
	switch m.Kind {
	case Broadcast:
		return r.packet(is.packet)
	case Join, Leave:
		return r.change(is.rooms)
	case Disconnect:
		m.Close = is.closes.truthy()
	case Sockets:
		return r.sockets(is.sockets)
	case ServerSideEmit:
		return r.event(is.packet, serverReserved)
	case Reply, Ack:
		return r.answer(is.packet)
	case ClientCount:
		return r.count(is.count)
	}
	return 0
}

// Levels that a message may have. @msgpack/msgpack counts what stands in the innermost array as a level too.
const (
	maxDepth       = payload.MaxDepth
	maxDepthStrict = 99
)

// appendCluster writes a cluster message, for @msgpack/msgpack if strict.
func appendCluster(dst []byte, m *Message, packed, strict bool) ([]byte, error) {
	w := writer{b: dst, packed: packed, strict: strict, maxDepth: maxDepth}
	if packed && strict {
		w.maxDepth = maxDepthStrict
	}
	n, f := m.clusterNumber()
	if f != 0 {
		return dst, f
	}
	members := 3
	if m.hasData() {
		members++
	}
	w.open('{', members)
	w.number("type", n)
	if m.hasData() {
		w.key("data")
		w.clusterData(m)
	}
	w.field("uid", m.UID)
	w.field("nsp", m.Namespace)
	w.close()
	return w.done(dst)
}

// clusterNumber checks a message and returns its number.
func (m *Message) clusterNumber() (int, Fault) {
	if f := m.check(); f != 0 {
		return 0, f
	}
	n := clusterNumbers[m.Kind]
	switch {
	case n == 0 || m.Old != "":
		return 0, Medium
	case m.UID == "", m.UID == Emitter && (m.Request != "" || !m.hasData()):
		return 0, Shape
	}
	return n, 0
}

func (m *Message) hasData() bool { return m.Kind != Hello && m.Kind != Heartbeat && m.Kind != Goodbye }

// binary says whether a message must go as msgpack where JSON is the rule.
func (m *Message) binary() bool { return len(m.Attachments) > 0 }

// clusterData writes the data of a message, in the order of the official adapters.
func (w *writer) clusterData(m *Message) {
	n := 2
	switch {
	case m.Kind == Broadcast && m.Request != "":
		n = 3
	case m.Kind == ServerSideEmit && m.Request == "":
		n = 1
	case (m.Kind == Ack || m.Kind == Reply) && m.Payload == nil && !w.strict:
		n = 1
	}
	w.open('{', n)
	switch m.Kind {
	case Broadcast:
		w.key("packet")
		w.packet(m, false)
		if m.Request != "" {
			w.field("requestId", m.Request)
		}
		w.key("opts")
		w.opts(m, true)
	case Join, Leave:
		w.key("opts")
		w.opts(m, true)
		w.names("rooms", m.Change)
	case Disconnect:
		w.key("opts")
		w.opts(m, true)
		w.bool("close", m.Close)
	case FetchSockets:
		w.key("opts")
		w.opts(m, true)
		w.field("requestId", m.Request)
	case Sockets:
		w.field("requestId", m.Request)
		w.sockets(m)
	case ServerSideEmit:
		if m.Request != "" {
			w.field("requestId", m.Request)
		}
		w.key("packet")
		w.value(m.Payload, m.Attachments, false)
	case Reply, Ack:
		w.field("requestId", m.Request)
		switch {
		case m.Payload != nil:
			w.key("packet")
			w.value(m.Payload, m.Attachments, false)
		case w.strict && w.packed: // @msgpack/msgpack writes what is undefined as nil
			w.key("packet")
			w.value([]byte("null"), nil, false)
		}
	case ClientCount:
		w.field("requestId", m.Request)
		w.number("clientCount", m.Count)
	}
	w.close()
}
