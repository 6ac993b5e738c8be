package adapter

import (
	"bytes"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
	"foyer/service/payload"
)

// This file has the words between the owner of sockets and a handler elsewhere: notices one way, replies the other.

// notices are what a handler is told on a stream.
type notices struct {
	stream  uint64
	handler uint64
	opens   bool
	list    []notice
}

// notice is one of them.
type notice struct {
	number uint64           // 0: a part of the next one; of one that cannot be read, all that is known
	of     service.SocketID // of an event and of an end
	age    time.Duration    // of an event
	trace  string           // of a connect and the event of a server
	service.Notice
}

const (
	maxNotices  = 1024
	maxAssigned = 1000
	assignStep  = 256 << 10 // bytes of sockets in one notice, or one socket more
)

// appendNotices begins an item with notices; what follows are the notices, by appendMessage with field 4.
func (n *notices) append(dst []byte, list []byte) []byte {
	size := len(list) + 1 + protowire.SizeVarint(n.stream) + 1 + protowire.SizeVarint(n.handler)
	if n.opens {
		size += 2
	}
	dst = appendHead(dst, 11, size)
	dst = appendUint(dst, 1, n.stream)
	dst = appendUint(dst, 2, n.handler)
	dst = appendBool(dst, 3, n.opens)
	return append(dst, list...)
}

// appendNotice appends a notice, in as many parts as it takes, of which the last has the number.
func appendNotice(dst []byte, number uint64, n *service.Notice, view service.View, now time.Time) []byte {
	switch n.Kind {
	case service.NoticeEvent:
		return appendEvent(dst, number, n, now)
	case service.NoticeWithdrawn:
		return appendOther(dst, number, &clusterv1.SocketNotice{Kind: uint32(n.Kind), Withdrawn: n.CallID})
	}
	if n.Kind == service.NoticeServerSide {
		return appendOther(dst, number, &clusterv1.SocketNotice{
			Kind: uint32(n.Kind), Namespace: text(n.Namespace), WantsReply: n.WantsReply, Trace: n.Trace.Traceparent(),
			Packet: &clusterv1.Packet{Payload: n.Packet.Payload, Attachments: n.Packet.Attachments},
		})
	}
	m := &clusterv1.SocketNotice{Kind: uint32(n.Kind), Failover: n.Failover, Reason: uint32(n.Reason), Detail: text(n.Detail)}
	if n.Kind == service.NoticeConnect {
		m.Auth, view, m.Trace = n.Sockets[0].Auth, service.ViewFull, n.Trace.Traceparent()
	}
	view = max(view, service.ViewBasic) // rooms are wanted in every view of an end
	m.Namespace = text(n.Sockets[0].Namespace)
	weight := 0
	for i, s := range n.Sockets {
		m.Sockets = append(m.Sockets, socketMessage(s, view))
		if weight += view.Bytes(s); i+1 < len(n.Sockets) && (weight >= assignStep || len(m.Sockets) == maxAssigned) {
			dst = appendOther(dst, 0, m)
			m.Sockets, weight = nil, 0
		}
	}
	return appendOther(dst, number, m)
}

func appendOther(dst []byte, number uint64, m *clusterv1.SocketNotice) []byte {
	body, err := proto.Marshal(m)
	if err != nil { // a text that is not UTF-8: it is told of nothing, so that the rest goes on
		return appendOther(dst, number, &clusterv1.SocketNotice{Kind: uint32(service.NoticeWithdrawn), Withdrawn: number})
	}
	dst = appendHead(dst, 4, sizeUint(number)+sizeBytes(len(body)))
	return appendMessage(appendUint(dst, 1, number), 3, body)
}

// sizeUint is the size of a number in a field, which is left out when it is 0.
func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func appendEvent(dst []byte, number uint64, n *service.Notice, now time.Time) []byte {
	id, p, age, packet := string(n.From.ID()), n.Packet, uint64(max(0, now.Sub(n.Time))), packetSize(n.Packet)
	size := sizeBytes(len(id)) + sizeUint(n.Generation) + sizeBytes(packet) + sizeUint(age)
	if p.AckID != service.NoAck {
		size += 2
	}
	dst = appendHead(dst, 4, sizeUint(number)+sizeBytes(size))
	dst = appendHead(appendUint(dst, 1, number), 2, size)
	dst = appendUint(appendString(dst, 1, id), 2, n.Generation)
	dst = appendPacket(dst, 3, p)
	dst = appendBool(dst, 4, p.AckID != service.NoAck)
	return appendUint(dst, 5, age)
}

// appendPacket appends a packet as a field.
func appendPacket(dst []byte, field protowire.Number, p *service.Packet) []byte {
	dst = appendMessage(appendHead(dst, field, packetSize(p)), 1, p.Payload)
	for _, a := range p.Attachments {
		dst = appendMessage(dst, 2, a)
	}
	return dst
}

// readNotices reads what append has written behind the item's head. Nothing of it is of b. A notice that cannot be read
// is of no kind: the node that tells it waits for its number.
func readNotices(b []byte) (n *notices, skipped Skip, ok bool) {
	count, ok := countNotices(b)
	if !ok || count == 0 || count > maxNotices {
		return nil, 0, false
	}
	n = &notices{list: make([]notice, 0, count)} // a notice is large, and is not to be copied
	var w wireField
	for before := uint64(0); len(b) > 0; before = w.key {
		if b, ok = w.next(b); ok && w.key >= 5<<3 && w.key >= before {
			continue
		}
		if !ok || w.key < before || w.key == before && w.key != 4<<3|bytesField || w.key&7 == varintField && w.varint == 0 {
			return nil, 0, false
		}
		switch w.key {
		case 1<<3 | varintField:
			n.stream = w.varint
		case 2<<3 | varintField:
			n.handler = w.varint
		case 3<<3 | varintField:
			n.opens = true
			ok = w.varint == 1
		case 4<<3 | bytesField:
			n.list = n.list[:len(n.list)+1]
			one := &n.list[len(n.list)-1]
			if !one.read(w.bytes) {
				*one, skipped, ok = notice{number: one.number}, SkipUnreadable, one.number != 0
			}
		default:
			return nil, 0, false
		}
		if !ok {
			return nil, 0, false
		}
	}
	return n, skipped, n.stream != 0 && n.handler != 0
}

// countNotices is how many notices there are.
func countNotices(b []byte) (n int, ok bool) {
	var w wireField
	for len(b) > 0 {
		if b, ok = w.next(b); !ok {
			return 0, false
		}
		if w.key == 4<<3|bytesField {
			n++
		}
	}
	return n, true
}

func (n *notice) read(b []byte) (ok bool) {
	var w wireField
	if b, ok = w.next(b); !ok {
		return false
	}
	if w.key == 1<<3|varintField {
		n.number = w.varint
		if b, ok = w.next(b); !ok || n.number == 0 {
			return false
		}
	}
	switch w.key {
	case 2<<3 | bytesField:
		return later(b, 4) && n.number != 0 && n.readEvent(w.bytes)
	case 3<<3 | bytesField:
		return later(b, 4) && n.readOther(w.bytes)
	}
	return false
}

func (n *notice) readEvent(b []byte) (ok bool) {
	n.Kind = service.NoticeEvent
	p := &service.Packet{Kind: service.KindEvent, AckID: service.NoAck}
	var w wireField
	for before := uint64(0); len(b) > 0; before = w.key {
		if b, ok = w.next(b); ok && w.key >= 6<<3 && w.key >= before {
			continue
		}
		if !ok || w.key <= before || w.key&7 == varintField && w.varint == 0 {
			return false
		}
		switch w.key {
		case 1<<3 | bytesField:
			n.of = service.SocketID(w.bytes)
		case 2<<3 | varintField:
			n.Generation = w.varint
		case 3<<3 | bytesField:
			if !readContent(w.bytes, p) {
				return false
			}
			n.Packet = p
		case 4<<3 | varintField:
			if w.varint != 1 {
				return false
			}
			p.AckID = 0 // the client's own is known where it is connected
		case 5<<3 | varintField:
			n.age = min(time.Duration(w.varint&(1<<62-1)), maxAge)
		default:
			return false
		}
	}
	if n.Packet == nil || len(n.of) != socketIDLen {
		return false
	}
	return validEvent(p)
}

// validEvent says whether a packet can be told to a handler, and sets its event's name.
func validEvent(p *service.Packet) bool {
	name, _, ok := payload.Token(p.Payload)
	p.Event = payload.Unquote(name)
	return ok && payload.Check(p.Payload, len(p.Attachments), payload.Options{}) == nil
}

// maxAge is the most that is believed of how long ago something was.
const maxAge = 24 * time.Hour

// readContent reads payload and attachments.
func readContent(b []byte, p *service.Packet) bool {
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
	return true
}

func (n *notice) readOther(b []byte) bool {
	m := &clusterv1.SocketNotice{}
	if proto.Unmarshal(b, m) != nil {
		return false
	}
	n.Kind, n.Failover, n.Reason, n.Detail = service.NoticeKind(m.GetKind()), m.GetFailover(), service.Reason(m.GetReason()), m.GetDetail()
	n.trace = m.GetTrace()
	sockets := len(m.GetSockets())
	switch n.Kind {
	case service.NoticeWithdrawn:
		n.CallID = m.GetWithdrawn()
		return n.number != 0 && sockets == 0 && n.CallID != 0
	case service.NoticeServerSide:
		n.Namespace, n.WantsReply = m.GetNamespace(), m.GetWantsReply()
		n.Packet = &service.Packet{
			Kind: service.KindEvent, AckID: service.NoAck, Namespace: n.Namespace, Payload: m.GetPacket().GetPayload(), Attachments: m.GetPacket().GetAttachments(),
		}
		return n.number != 0 && sockets == 0 && validNamespace(n.Namespace) && validEvent(n.Packet)
	case service.NoticeAssigned:
		if sockets == 0 || sockets > maxAssigned {
			return false
		}
	case service.NoticeConnect, service.NoticeConnected, service.NoticeDisconnected:
		if sockets != 1 || n.number == 0 {
			return false
		}
	default:
		return false
	}
	if !validNamespace(m.GetNamespace()) || !validObject(m.GetAuth()) || len(m.GetDetail()) > maxDetail || m.GetReason() > uint32(service.ReasonNodeLost) {
		return false
	}
	for _, s := range m.GetSockets() {
		if !validSocket(s) {
			return false
		}
		info := socketInfo(service.NodeID(s.GetId()[:4]), m.GetNamespace(), s)
		info.Auth = m.GetAuth()
		n.Sockets = append(n.Sockets, &info)
	}
	n.of = n.Sockets[0].ID
	return true
}

// maxDetail is the longest text about an end.
const maxDetail = 4096

// replies are what a handler answers on a stream.
type replies struct {
	stream    uint64
	taken     []uint64
	list      []reply
	decisions []*clusterv1.Decision
	bytes     int // of the answers
}

func (r *replies) empty() bool { return len(r.taken)+len(r.list)+len(r.decisions) == 0 }

// cut takes off as much as one item is to have.
func (r *replies) cut() (part, rest replies) {
	const most = 1 << 20
	part, rest = replies{stream: r.stream, taken: r.taken, bytes: r.bytes}, replies{stream: r.stream}
	if r.bytes <= most {
		part.list, part.decisions = r.list, r.decisions
		return part, rest
	}
	part.bytes = 0
	n := 0
	for ; n < len(r.list) && part.bytes < most; n++ {
		part.bytes += r.list[n].size()
	}
	part.list, rest.list = r.list[:n], r.list[n:]
	k := 0
	for ; k < len(r.decisions) && part.bytes < most; k++ {
		part.bytes += decisionBytes(r.decisions[k])
	}
	part.decisions, rest.decisions = r.decisions[:k], r.decisions[k:]
	rest.bytes = r.bytes - part.bytes
	return part, rest
}

func (a *reply) size() int {
	n := len(a.payload)
	for _, x := range a.attachments {
		n += len(x)
	}
	return n
}

func decisionBytes(d *clusterv1.Decision) int {
	n := len(d.GetData()) + len(d.GetMessageData()) + len(d.GetMessage())
	for _, room := range d.GetRooms() {
		n += len(room) + 2
	}
	return n
}

type reply struct {
	number      uint64
	payload     []byte // nil: nothing is acknowledged
	attachments [][]byte
}

// item is an item with the replies.
func (r *replies) item() []byte {
	taken := 0
	for _, v := range r.taken {
		taken += protowire.SizeVarint(v)
	}
	body := appendUint(make([]byte, 0, 16+taken+r.bytes+16*len(r.list)), 1, r.stream)
	if len(r.taken) > 0 {
		body = appendHead(body, 2, taken)
		for _, v := range r.taken {
			body = protowire.AppendVarint(body, v)
		}
	}
	for i := range r.list {
		a := &r.list[i]
		size := sizeUint(a.number)
		if a.payload != nil {
			size += sizeBytes(len(a.payload))
			for _, x := range a.attachments {
				size += sizeBytes(len(x))
			}
		}
		body = appendUint(appendHead(body, 3, size), 1, a.number)
		if a.payload != nil {
			body = appendMessage(body, 2, a.payload)
			for _, x := range a.attachments {
				body = appendMessage(body, 3, x)
			}
		}
	}
	for _, d := range r.decisions {
		if m, err := proto.Marshal(d); err == nil {
			body = appendMessage(body, 4, m)
		}
	}
	return appendMessage(make([]byte, 0, len(body)+itemHead), 12, body)
}

// readReplies reads what item has written behind its head. Nothing of it is of b. A reply that cannot be read
// acknowledges nothing: its event is answered all the same.
func readReplies(b []byte) (r *replies, skipped Skip, ok bool) {
	r = &replies{}
	var w wireField
	for before := uint64(0); len(b) > 0; before = w.key {
		if b, ok = w.next(b); ok && w.key >= 5<<3 && w.key >= before {
			continue
		}
		if !ok || w.key < before || w.key == before && w.key < 3<<3 {
			return nil, 0, false
		}
		switch w.key {
		case 1<<3 | varintField:
			r.stream = w.varint
		case 2<<3 | bytesField:
			for rest := w.bytes; len(rest) > 0; {
				var v uint64
				if v, rest, ok = shortest(rest); !ok || v == 0 {
					return nil, 0, false
				}
				r.taken = append(r.taken, v)
			}
			ok = len(r.taken) > 0
		case 3<<3 | bytesField:
			var a reply
			if !a.read(w.bytes) {
				a, skipped, ok = reply{number: a.number}, SkipUnreadable, a.number != 0
			}
			r.list = append(r.list, a)
		case 4<<3 | bytesField:
			d := &clusterv1.Decision{}
			if proto.Unmarshal(w.bytes, d) != nil || !validDecision(d) {
				skipped = SkipUnreadable // the node that asked stops waiting by itself
				continue
			}
			r.decisions = append(r.decisions, d)
		default:
			return nil, 0, false
		}
		if !ok {
			return nil, 0, false
		}
	}
	return r, skipped, r.stream != 0 && (skipped != 0 || !r.empty())
}

func (a *reply) read(b []byte) (ok bool) {
	var w wireField
	if b, ok = w.next(b); !ok || w.key != 1<<3|varintField || w.varint == 0 {
		return false
	}
	a.number = w.varint
	for first := true; len(b) > 0; first = false {
		if b, ok = w.next(b); !ok {
			return false
		}
		switch {
		case w.key == 2<<3|bytesField && first:
			a.payload = bytes.Clone(w.bytes)
		case w.key == 3<<3|bytesField && !first:
			a.attachments = append(a.attachments, bytes.Clone(w.bytes))
		case w.key < 4<<3:
			return false
		}
	}
	return a.payload == nil || payload.Check(a.payload, len(a.attachments), payload.Options{}) == nil
}

func validDecision(d *clusterv1.Decision) bool {
	for _, room := range d.GetRooms() {
		if room == "" || len(room) > service.MaxNameBytes {
			return false
		}
	}
	return d.GetNumber() != 0 && len(d.GetUserId()) <= maxUserID && validObject(d.GetData())
}

func decisionMessage(number uint64, d *service.Decision) *clusterv1.Decision {
	m := &clusterv1.Decision{Number: number, Rooms: d.Rooms, UserId: d.UserID, Data: d.Data}
	if r := d.Reject; r != nil {
		m = &clusterv1.Decision{Number: number, Rejected: true, Message: text(r.Message), MessageData: r.Data, Close: r.CloseLink}
	}
	return m
}

func decisionOf(m *clusterv1.Decision) service.Decision {
	if m.GetRejected() {
		return service.Decision{Reject: &service.Refusal{Message: m.GetMessage(), Data: m.GetMessageData(), CloseLink: m.GetClose()}}
	}
	return service.Decision{Rooms: m.GetRooms(), UserID: m.GetUserId(), Data: m.GetData()}
}
