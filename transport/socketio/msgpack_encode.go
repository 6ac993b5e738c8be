package socketio

import (
	"github.com/tinylib/msgp/msgp"

	"foyer/service"
	"foyer/service/payload/msgpack"
	"foyer/transport/engineio"
)

// Msgpack is the codec of links that use socket.io-msgpack-parser. Its frames are *engineio.Message.
var Msgpack service.Codec = msgpackCodec{}

type msgpackCodec struct{}

// Join makes one message of several.
func (msgpackCodec) Join(frames []service.Frame) service.Frame { return joinMessages(frames) }

// Encode returns an error for an unknown kind, an event without payload, attachments that a packet cannot have, and a
// payload that is no JSON (an *payload.Error).
func (msgpackCodec) Encode(p *service.Packet) (service.Frame, error) {
	if err := checkOutgoing(p); err != nil {
		return nil, err
	}
	size := len(p.Payload) + len(p.Namespace) + 32
	for _, a := range p.Attachments {
		size += len(a)
	}
	b, err := appendMsgpack(make([]byte, 0, size), p)
	if err != nil {
		return nil, err
	}
	return engineio.NewBinary(b), nil
}

// appendMsgpack writes the keys in the order in which the reference's server does, and leaves out what is absent.
func appendMsgpack(b []byte, p *service.Packet) (_ []byte, err error) {
	hasID := p.AckID >= 0 && (p.Kind == service.KindEvent || p.Kind == service.KindAck)
	text := p.Payload
	if p.Kind == service.KindAck && len(text) == 0 {
		text = noArguments
	}
	if p.Kind == service.KindDisconnect {
		text = nil
	}
	keys := uint32(2)
	if hasID {
		keys++
	}
	if len(text) > 0 {
		keys++
	}
	b = msgp.AppendMapHeader(b, keys)
	id := func() {
		if hasID {
			b = msgp.AppendUint64(msgp.AppendString(b, "id"), uint64(p.AckID))
		}
	}
	nsp := func() { b = msgp.AppendString(msgp.AppendString(b, "nsp"), p.Namespace) }
	data := func() {
		if len(text) > 0 && err == nil {
			b, err = msgpack.Append(msgp.AppendString(b, "data"), text, p.Attachments, 0)
		}
	}
	typ := func() { b = msgp.AppendUint64(msgp.AppendString(b, "type"), uint64(p.Kind)) }
	switch p.Kind {
	case service.KindAck:
		id()
		typ()
		data()
		nsp()
	case service.KindConnectError:
		typ()
		nsp()
		data()
	default:
		typ()
		data()
		id()
		nsp()
	}
	return b, err
}
