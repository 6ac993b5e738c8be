package engineio

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"
)

// dialect is how packets become bytes: as in version 4 of the protocol, or in one of version 3's two ways.
type dialect uint8

const (
	eio4       dialect = iota
	eio3               // binary as it is
	eio3Base64         // binary as base64, in text: for a transport whose first request says b64=1
)

// dialectOf tells the dialect of a transport by the query of its first request. As in the reference, whatever is not
// version 4 is version 3.
func dialectOf(query map[string]string) dialect {
	switch {
	case query["EIO"] == "4":
		return eio4
	case query["b64"] != "", isJSONP(query): // JavaScript source has no bytes
		return eio3Base64
	}
	return eio3
}

// eio3Forms are the forms of a Message in version 3, each made when first needed, like the Message's own.
type eio3Forms struct {
	plain   form // WebSocket frames; a binary one begins with the packet type
	deflate form
	base64  form // WebSocket frames, all text
	text    form // a piece of a polling payload, all text
	octets  form // a piece of a polling payload that has a binary in it
}

func (m *Message) eio3Forms() *eio3Forms {
	if f := m.eio3.Load(); f != nil {
		return f
	}
	m.eio3.CompareAndSwap(nil, new(eio3Forms))
	return m.eio3.Load()
}

// eio3Frames is frames for a message with a binary in it, in version 3.
func (m *Message) eio3Frames(d dialect, deflate bool) []byte {
	f := m.eio3Forms()
	switch {
	case d == eio3Base64: // never compressed: a client that asks for this is older than permessage-deflate
		return m.build(&f.base64, (*Message).buildBase64Frames)
	case deflate && m.worthDeflating():
		return m.build(&f.deflate, (*Message).buildEIO3Deflate)
	}
	return m.build(&f.plain, (*Message).buildEIO3Plain)
}

// eio3Text returns the message as a piece of a text payload.
func (m *Message) eio3Text() []byte { return m.build(&m.eio3Forms().text, (*Message).buildEIO3Text) }

// eio3Octets returns the message as a piece of a binary payload.
func (m *Message) eio3Octets() []byte {
	return m.build(&m.eio3Forms().octets, (*Message).buildEIO3Octets)
}

func (m *Message) buildEIO3Plain() []byte {
	var b []byte
	if m.hasText {
		b = m.appendText(appendFrameHeader(b, opText, m.textLen()))
	}
	for _, a := range m.attachments {
		b = append(appendFrameHeader(b, opBinary, 1+len(a)), binaryMessage)
		b = append(b, a...)
	}
	return b
}

func (m *Message) buildEIO3Deflate() []byte {
	var b []byte
	if m.hasText {
		b = appendDeflated(b, opText, m.appendText(make([]byte, 0, m.textLen())))
	}
	for _, a := range m.attachments {
		b = appendDeflated(b, opBinary, append([]byte{binaryMessage}, a...))
	}
	return b
}

func (m *Message) buildBase64Frames() []byte {
	var b []byte
	if m.hasText {
		b = m.appendText(appendFrameHeader(b, opText, m.textLen()))
	}
	for _, a := range m.attachments {
		b = appendBase64Packet(appendFrameHeader(b, opText, base64PacketLen(a)), a)
	}
	return b
}

func (m *Message) buildEIO3Text() []byte {
	var b []byte
	if m.hasText {
		n := utf16Len(m.text)
		if !m.control {
			n++
		}
		b = m.appendText(appendTextHeader(b, n))
	}
	for _, a := range m.attachments {
		b = appendBase64Packet(appendTextHeader(b, base64PacketLen(a)), a)
	}
	return b
}

func (m *Message) buildEIO3Octets() []byte {
	var b []byte
	if m.hasText {
		b = m.appendText(appendOctetsHeader(b, octetsText, m.textLen()))
	}
	for _, a := range m.attachments {
		b = append(appendOctetsHeader(b, octetsBinary, 1+len(a)), binaryMessage)
		b = append(b, a...)
	}
	return b
}

const (
	binaryMessage = packetMessage - '0' // the type of a binary packet is a number, not a digit

	octetsText   = 0 // first byte of a packet in a binary payload
	octetsBinary = 1
	octetsEnd    = 0xff // after the digits of its length
)

// appendTextHeader begins a packet of a text payload. N is its length as JavaScript counts: in UTF-16 code units.
func appendTextHeader(b []byte, n int) []byte { return append(strconv.AppendInt(b, int64(n), 10), ':') }

// appendOctetsHeader begins a packet of n bytes in a binary payload.
func appendOctetsHeader(b []byte, kind byte, n int) []byte {
	b = append(b, kind)
	from := len(b)
	b = strconv.AppendInt(b, int64(n), 10)
	for i := from; i < len(b); i++ {
		b[i] -= '0'
	}
	return append(b, octetsEnd)
}

func base64PacketLen(a []byte) int { return len("b4") + base64.StdEncoding.EncodedLen(len(a)) }

func appendBase64Packet(b, a []byte) []byte {
	return base64.StdEncoding.AppendEncode(append(b, binaryPrefix, packetMessage), a)
}

// utf16Len is the length of a text in UTF-16 code units.
func utf16Len(text []byte) int {
	n := utf8.RuneCount(text)
	for _, c := range text {
		if c >= 0xf0 { // the first of four bytes: a surrogate pair
			n++
		}
	}
	return n
}
