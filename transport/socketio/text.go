package socketio

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"foyer/service"
	"foyer/service/payload"
	"foyer/transport/engineio"
)

// incoming is one packet from a client. Its slices are parts of the message that it came in, or, for msgpack, the JSON
// made of it.
type incoming struct {
	kind        service.Kind
	await       int    // attachments that follow as messages of their own
	namespace   []byte // nil: /
	id          int64
	payload     []byte // nil: none
	name        []byte // events: the array's first element as it stands there; nil: none
	attachments [][]byte
}

// decodeText decodes the text of a packet, without Engine.IO's "4", by the rules of the reference (Socket.IO protocol
// v5, "Packet types and grammar", "Server-side validation"). It copies nothing: the result is made of parts of text.
func decodeText(text []byte) (in incoming, f fault) {
	if len(text) == 0 {
		return in, faultType
	}
	binary := false
	switch text[0] {
	case '0':
		in.kind = service.KindConnect
	case '1':
		in.kind = service.KindDisconnect
	case '2':
		in.kind = service.KindEvent
	case '3':
		in.kind = service.KindAck
	case '4':
		return in, faultDirection
	case '5':
		in.kind, binary = service.KindEvent, true
	case '6':
		in.kind, binary = service.KindAck, true
	default:
		return in, faultType
	}
	text = text[1:]
	if binary {
		if in.await, text = cutCount(text); in.await == 0 {
			return in, faultAttachments
		}
	}
	if len(text) > 0 && text[0] == '/' {
		end := 0
		for end < len(text) && text[end] != ',' {
			end++
		}
		in.namespace = text[:end]
		if !sendable(in.namespace) {
			return in, faultNamespace
		}
		text = text[min(end+1, len(text)):]
	}
	var ok bool
	if in.id, text, ok = cutID(text); !ok {
		return in, faultAckID
	}
	if len(text) > 0 {
		in.payload = trim(text)
	}
	return in, checkPayload(&in)
}

// cutCount reads "<n>-". It returns 0 unless n is 1 to payload.MaxAttachments.
func cutCount(text []byte) (int, []byte) {
	n := 0
	for i, c := range text {
		switch {
		case c == '-':
			return n, text[i+1:]
		case c-'0' > 9:
			return 0, nil
		}
		if n = n*10 + int(c-'0'); n > payload.MaxAttachments {
			return 0, nil
		}
	}
	return 0, nil
}

// cutID reads the ack id, if there is one. It says false when int64 cannot hold it.
func cutID(text []byte) (int64, []byte, bool) {
	if len(text) == 0 || text[0]-'0' > 9 {
		return service.NoAck, text, true
	}
	var id int64
	i := 0
	for ; i < len(text) && text[i]-'0' <= 9; i++ {
		d := int64(text[i] - '0')
		if id > (math.MaxInt64-d)/10 {
			return 0, nil, false
		}
		id = id*10 + d
	}
	return id, text[i:], true
}

// sendable says whether a namespace may stand in a text that goes back: UTF-8 without control characters, one of which
// separates the packets of a polling payload.
func sendable(namespace []byte) bool {
	for _, c := range namespace {
		if c < 0x20 || c == 0x7f {
			return false
		}
	}
	return utf8.Valid(namespace)
}

// trim takes JSON's whitespace off both ends.
func trim(text []byte) []byte {
	for len(text) > 0 && isSpace(text[0]) {
		text = text[1:]
	}
	for len(text) > 0 && isSpace(text[len(text)-1]) {
		text = text[:len(text)-1]
	}
	return text
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// checkPayload checks that the payload is right for the kind of the packet, and finds an event's name.
func checkPayload(in *incoming) fault {
	if in.payload == nil {
		return 0 // an event without payload, too: link.go ignores it
	}
	switch in.kind {
	case service.KindConnect:
		return payloadFault(payload.CheckObject(in.payload, payload.Options{}))
	case service.KindEvent:
		if err := payload.Check(in.payload, in.await, payload.Options{}); err != nil {
			return payloadFault(err)
		}
		var ok bool
		if in.name, _, ok = payload.Token(in.payload); !ok || reserved(in.name) {
			return faultEventName
		}
		return 0
	case service.KindAck:
		return payloadFault(payload.Check(in.payload, in.await, payload.Options{}))
	default: // DISCONNECT
		return faultPayload
	}
}

func payloadFault(err error) fault {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, payload.Placeholder):
		return faultPlaceholder
	case errors.Is(err, payload.Depth):
		return faultDepth
	default:
		return faultPayload
	}
}

// reserved says whether a name, as it stands in the array, is a reserved one. It allocates only for short escaped
// names.
func reserved(name []byte) bool {
	const longest = len("removeListener")
	if name[0] != '"' || len(name) > 2+longest*len(`\u0000`) {
		return false
	}
	if bytes.IndexByte(name, '\\') >= 0 {
		return payload.Reserved(payload.Unquote(name))
	}
	return len(name) <= 2+longest && payload.Reserved(string(name[1:len(name)-1]))
}

// keep returns part, or a copy when part is what holds a much larger buffer in memory: queues count the bytes of
// packets, and a client must not make them stand for a multiple, by whitespace, leading zeros or unknown keys.
func keep(part []byte, buffer int) []byte {
	const slack = 1 << 10
	if buffer <= 2*len(part)+slack {
		return part
	}
	return bytes.Clone(part)
}

// JSON is the codec of links that use Socket.IO's own parser. Its frames are *engineio.Message.
var JSON service.Codec = jsonCodec{}

type jsonCodec struct{}

// Encode returns an error for a packet that Socket.IO has no text for: an unknown kind, an event without payload, more
// than ten attachments or any at a packet that is neither event nor ack, a namespace with a comma.
func (jsonCodec) Encode(p *service.Packet) (service.Frame, error) {
	if err := checkOutgoing(p); err != nil {
		return nil, err
	}
	if strings.IndexByte(p.Namespace, ',') >= 0 {
		return nil, errNamespace
	}
	return engineio.NewMessage(encodeText(p), p.Attachments), nil
}

// Join makes one message of several.
func (jsonCodec) Join(frames []service.Frame) service.Frame { return joinMessages(frames) }

func joinMessages(frames []service.Frame) service.Frame {
	messages := make([]*engineio.Message, len(frames))
	for i, f := range frames {
		messages[i] = f.(*engineio.Message)
	}
	return engineio.JoinMessages(messages)
}

var (
	errKind        = errors.New("socketio: unknown packet kind")
	errNoPayload   = errors.New("socketio: event without payload")
	errAttachments = errors.New("socketio: more than ten attachments, or at a packet that cannot have any")
	errNamespace   = errors.New("socketio: a comma cannot stand in a namespace")
)

func checkOutgoing(p *service.Packet) error {
	switch p.Kind {
	case service.KindEvent:
		if len(p.Payload) == 0 {
			return errNoPayload
		}
	case service.KindAck:
	case service.KindConnect, service.KindDisconnect, service.KindConnectError:
		if len(p.Attachments) > 0 {
			return errAttachments
		}
	default:
		return errKind
	}
	if len(p.Attachments) > payload.MaxAttachments {
		return errAttachments
	}
	return nil
}

// digitOf is the type digit by kind; that of an event or ack with attachments is 3 more.
var digitOf = [...]byte{
	service.KindConnect: '0', service.KindDisconnect: '1', service.KindEvent: '2', service.KindAck: '3', service.KindConnectError: '4',
}

func encodeText(p *service.Packet) []byte {
	const most = len("5") + len("10-") + len(",") + 20 + len("[]") // 20: the digits of an id
	b := make([]byte, 0, most+len(p.Namespace)+len(p.Payload))
	digit := digitOf[p.Kind]
	if n := len(p.Attachments); n > 0 {
		b = append(b, digit+3)
		b = strconv.AppendInt(b, int64(n), 10)
		b = append(b, '-')
	} else {
		b = append(b, digit)
	}
	if p.Namespace != "/" && p.Namespace != "" {
		b = append(b, p.Namespace...)
		b = append(b, ',')
	}
	if p.AckID >= 0 && (p.Kind == service.KindEvent || p.Kind == service.KindAck) {
		b = strconv.AppendInt(b, p.AckID, 10)
	}
	if p.Kind == service.KindAck && len(p.Payload) == 0 {
		return append(b, "[]"...)
	}
	return append(b, p.Payload...)
}
