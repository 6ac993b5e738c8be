package engineio

import (
	"encoding/base64"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// itemOverhead is what a queued message counts for beyond its bytes, so that empty messages are not free.
const itemOverhead = 32

// Message is one Socket.IO packet on its way out: a text with its attachments, or one binary. It is one item of a
// session's queue, so nothing slips between its parts. Immutable and safe for concurrent use: a broadcast shares one
// among all its receivers. The bytes each transport wants are built when first needed, each form at most once.
type Message struct {
	// set at creation
	text        []byte
	attachments [][]byte // or the one binary
	hasText     bool
	control     bool       // an Engine.IO packet of the server's own: text is the whole packet, type digit included
	count       uint32     // of packets
	parts       []*Message // or several messages that follow each other, and nothing of the above
	size        int

	mu      sync.Mutex // taken to build a form, not to read one
	plain   form
	deflate form
	polling form
	eio3    atomic.Pointer[eio3Forms] // nil until a client of that version is sent it
}

type form struct {
	built atomic.Bool
	b     []byte // set before built
}

// NewMessage makes a message of a text and its attachments, if any. It keeps the slices, which must not change any
// more. The text must be UTF-8 and free of the byte 0x1E, the separator of polling payloads; JSON never contains it
// raw.
func NewMessage(text []byte, attachments [][]byte) *Message {
	n := len(text) + 1
	for _, a := range attachments {
		n += len(a)
	}
	return &Message{text: text, attachments: attachments, hasText: true, count: uint32(1 + len(attachments)), size: n}
}

// NewBinary makes a message of one binary. It keeps data, which must not change any more.
func NewBinary(data []byte) *Message {
	return &Message{attachments: [][]byte{data}, count: 1, size: len(data)}
}

func newControl(packet string) *Message {
	return &Message{text: []byte(packet), hasText: true, control: true, count: 1, size: len(packet)}
}

// JoinMessages makes one message of several, at least one, none of which is joined itself: it goes through a
// websocket's queue as one item and is written from one buffer. It keeps the slice.
func JoinMessages(parts []*Message) *Message {
	n, count := (len(parts)-1)*itemOverhead, uint32(0)
	for _, p := range parts {
		n += p.size
		count += p.count
	}
	return &Message{parts: parts, count: count, size: n}
}

// Len is the size of the message in bytes before any encoding: text, type digit and attachments.
func (m *Message) Len() int { return m.size }

// packets is how many Engine.IO packets the message is.
func (m *Message) packets() int { return int(m.count) }

// build returns the bytes of f, making them with make if this is the first call.
func (m *Message) build(f *form, encode func(*Message) []byte) []byte {
	if f.built.Load() {
		return f.b
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !f.built.Load() {
		f.b = encode(m)
		f.built.Store(true)
	}
	return f.b
}

// frames returns the message as finished WebSocket frames, one after the other; with deflate those worth it are
// compressed.
func (m *Message) frames(d dialect, deflate bool) []byte {
	switch {
	case m.parts != nil && deflate:
		return m.build(&m.deflate, (*Message).buildJoinedDeflate)
	case m.parts != nil:
		return m.build(&m.plain, (*Message).buildJoined)
	case d != eio4 && len(m.attachments) > 0: // text is the same in all dialects
		return m.eio3Frames(d, deflate)
	}
	if deflate && m.worthDeflating() {
		return m.build(&m.deflate, (*Message).buildDeflate)
	}
	return m.build(&m.plain, (*Message).buildPlain)
}

// payload returns the message as a piece of a polling payload.
func (m *Message) payload() []byte { return m.build(&m.polling, (*Message).buildPolling) }

func (m *Message) textLen() int {
	if m.control {
		return len(m.text)
	}
	return 1 + len(m.text)
}

func (m *Message) appendText(b []byte) []byte {
	if !m.control {
		b = append(b, packetMessage)
	}
	return append(b, m.text...)
}

func (m *Message) buildPlain() []byte {
	n := 0
	if m.hasText {
		n += frameHeaderLen(m.textLen()) + m.textLen()
	}
	for _, a := range m.attachments {
		n += frameHeaderLen(len(a)) + len(a)
	}
	b := make([]byte, 0, n)
	if m.hasText {
		b = m.appendText(appendFrameHeader(b, opText, m.textLen()))
	}
	for _, a := range m.attachments {
		b = append(appendFrameHeader(b, opBinary, len(a)), a...)
	}
	return b
}

func (m *Message) buildPolling() []byte {
	n := 0
	if m.hasText {
		n += m.textLen()
	}
	for _, a := range m.attachments {
		n += 2 + base64.StdEncoding.EncodedLen(len(a))
	}
	b := make([]byte, 0, n)
	if m.hasText {
		b = m.appendText(b)
	}
	for i, a := range m.attachments {
		if i > 0 || m.hasText {
			b = append(b, separator)
		}
		b = append(b, binaryPrefix)
		b = base64.StdEncoding.AppendEncode(b, a)
	}
	return b
}

func (m *Message) buildJoined() []byte {
	n := 0
	for _, p := range m.parts {
		n += len(p.frames(eio4, false))
	}
	b := make([]byte, 0, n)
	for _, p := range m.parts {
		b = append(b, p.frames(eio4, false)...)
	}
	return b
}

func (m *Message) buildJoinedDeflate() []byte {
	b := make([]byte, 0, m.size)
	for _, p := range m.parts {
		b = append(b, p.frames(eio4, true)...)
	}
	return b
}

// Frame header of a server, RFC 6455 section 5.2: final, not masked.
const (
	finBit   = 0x80
	rsv1Bit  = 0x40
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPong   = 0xA
)

func frameHeaderLen(n int) int {
	switch {
	case n <= 125:
		return 2
	case n <= 0xffff:
		return 4
	}
	return 10
}

func appendFrameHeader(b []byte, op byte, n int) []byte {
	b = append(b, finBit|op)
	switch {
	case n <= 125:
		return append(b, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
}
