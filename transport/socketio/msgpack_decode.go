package socketio

import (
	"bytes"

	"foyer/service"
	"foyer/service/payload"
	"foyer/service/payload/msgpack"
)

// msgpackFaults is what the faults of a msgpack value are to a link.
var msgpackFaults = [...]fault{
	msgpack.Broken: faultPayload, msgpack.TooDeep: faultDepth, msgpack.TooLarge: faultTooLarge, msgpack.TooMany: faultAttachments,
}

// decodeMsgpack decodes a packet of socket.io-msgpack-parser: one map, keys in any order, unknown ones ignored
// (Socket.IO protocol v5, "msgpack parser"). The payload becomes JSON, its binaries become attachments in the order of
// the walk, as parts of b or copies. Payload and attachments together must stay within maxBytes.
func decodeMsgpack(b []byte, maxBytes int) (in incoming, f fault) {
	in.id = service.NoAck
	head, i, ok := msgpack.Read(b, 0)
	if !ok || head.Kind != msgpack.Map {
		return in, faultPayload
	}
	var typ, nsp, data, id msgpack.Item
	dataAt, dataEnd := 0, 0
	typ.Kind, nsp.Kind, data.Kind, id.Kind = msgpack.Undefined, msgpack.Undefined, msgpack.Undefined, msgpack.Undefined
	for range head.Num {
		key, _, ok := msgpack.Read(b, i)
		at, ok2 := msgpack.Skip(b, i)
		if !ok || !ok2 {
			return in, faultPayload
		}
		value, _, ok := msgpack.Read(b, at)
		end, ok2 := msgpack.Skip(b, at)
		if !ok || !ok2 {
			return in, faultPayload
		}
		if key.Kind == msgpack.String {
			switch string(key.Body) { // of two equal keys the later counts, as in JavaScript
			case "type":
				typ = value
			case "nsp":
				nsp = value
			case "id":
				id = value
			case "data":
				data, dataAt, dataEnd = value, at, end
			}
		}
		i = end
	}
	if i != len(b) {
		return in, faultPayload
	}
	kind, ok := typ.Whole()
	switch {
	case !ok || kind < 0 || kind > int64(service.KindConnectError):
		return in, faultType
	case kind == int64(service.KindConnectError):
		return in, faultDirection
	case nsp.Kind != msgpack.String || !sendable(nsp.Body):
		return in, faultNamespace
	}
	in.kind, in.namespace = service.Kind(kind), nsp.Body
	if id.Kind != msgpack.Undefined {
		if in.id, ok = id.Whole(); !ok || in.id < 0 {
			return in, faultAckID
		}
	}
	want := msgpack.Array
	switch in.kind {
	case service.KindConnect:
		if want = msgpack.Map; data.Kind == msgpack.Undefined {
			return in, 0
		}
	case service.KindDisconnect:
		want = msgpack.Undefined
	}
	if data.Kind != want {
		return in, faultPayload
	}
	if want == msgpack.Undefined {
		return in, 0
	}
	text := msgpack.Text{MaxBytes: maxBytes, Inline: in.kind == service.KindConnect}
	text.Out = make([]byte, 0, min(dataEnd-dataAt+(dataEnd-dataAt)/8+32, maxBytes))
	if f := text.Value(b, dataAt); f != 0 {
		return in, msgpackFaults[f]
	}
	if text.Literal && len(text.Attachments) > 0 {
		// A map that only looks like a placeholder would become one: next to attachments they cannot be told apart.
		return in, faultPlaceholder
	}
	in.payload = keep(text.Out, cap(text.Out))
	in.attachments = text.Attachments
	if text.BinaryBytes < len(b)/2 { // most of the message would be held for nothing
		for i, a := range in.attachments {
			in.attachments[i] = bytes.Clone(a)
		}
	}
	if in.kind == service.KindEvent {
		// This parser's reference checks no names. Events without one, or with one that would be taken for Socket.IO's own,
		// have no listener there; here they are ignored by having no name.
		name, _, ok := payload.Token(in.payload)
		if ok && !reserved(name) {
			in.name = name
		}
	}
	return in, 0
}
