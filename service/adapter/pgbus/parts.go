package pgbus

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"

	"foyer/service/adapter/lives"
)

// A part of a frame is the text of a notification: the tag of its bus, then in base64 which frame it belongs to, how
// large that is and where the part begins, and its bytes. A tag alone is what a bus says to itself.

const (
	tagText     = 12
	headerBytes = 12
	headerText  = 16
	// partBytes go into one notification: PostgreSQL takes 7999 bytes.
	partBytes = 5976
	// maxJoins is of how many senders the first parts of a frame are kept.
	maxJoins = 64
)

var text = base64.RawStdEncoding

// tag marks what a bus has published. PostgreSQL gives that back to it, and two nodes of one name have to hear each
// other.
type tag [tagText]byte

func newTag() (t tag) {
	raw := make([]byte, tagText/4*3)
	_, _ = rand.Read(raw) // it never fails
	text.Encode(t[:], raw)
	return t
}

// textSize is how long the parts of a frame are.
func textSize(frame int) int {
	full, rest := frame/partBytes, frame%partBytes
	size := full * (tagText + headerText + text.EncodedLen(partBytes))
	if rest > 0 || frame == 0 {
		size += tagText
	}
	if rest > 0 {
		size += headerText + text.EncodedLen(rest)
	}
	return size
}

// partSize is how long the part of a frame is that begins at a byte.
func partSize(frame []byte, at int) int {
	return tagText + headerText + text.EncodedLen(min(partBytes, len(frame)-at))
}

// appendPart appends the part of a frame that begins at a byte.
func appendPart(dst []byte, t *tag, number uint32, frame []byte, at int) []byte {
	part := frame[at:min(at+partBytes, len(frame))]
	dst = append(dst, t[:]...)
	var header [headerBytes]byte
	binary.BigEndian.PutUint32(header[:], number)
	binary.BigEndian.PutUint32(header[4:], uint32(len(frame)))
	binary.BigEndian.PutUint32(header[8:], uint32(at))
	return text.AppendEncode(text.AppendEncode(dst, header[:]), part)
}

// joiner puts frames together, those of each sender by itself. Parts of one sender come in order.
type joiner struct {
	begun map[tag]*begun
	lost  func() // called for each frame that will not be whole, or is too large
}

// begun is a frame of which parts are missing.
type begun struct {
	number uint32
	frame  []byte // its capacity is the size of the whole
}

// add takes a notification's text and returns a frame when it is whole. Texts that are no parts are passed over.
func (j *joiner) add(payload string) (frame []byte) {
	var header [headerBytes]byte
	if len(payload) <= tagText+headerText {
		return nil
	}
	if _, err := text.Decode(header[:], []byte(payload[tagText:tagText+headerText])); err != nil {
		return nil
	}
	var from tag
	copy(from[:], payload)
	data := payload[tagText+headerText:]
	number, size, at := binary.BigEndian.Uint32(header[:]), int(binary.BigEndian.Uint32(header[4:])), int(binary.BigEndian.Uint32(header[8:]))
	n := text.DecodedLen(len(data))
	before := j.begun[from]
	switch {
	case at < 0 || at >= size || at%partBytes != 0 || n != min(partBytes, size-at):
		return nil
	case at == 0:
		if before != nil {
			j.drop(from)
		}
		if size > lives.MaxFrame {
			j.lost()
			return nil
		}
		frame = make([]byte, 0, size)
	case before == nil:
		return nil // its first part was lost, or dropped and counted
	case before.number != number || len(before.frame) != at || cap(before.frame) != size:
		j.drop(from)
		return nil
	default:
		frame = before.frame
	}
	whole, err := text.AppendDecode(frame, []byte(data))
	switch {
	case err != nil:
		if before != nil && at > 0 {
			j.drop(from)
		}
		return nil
	case len(whole) == size:
		delete(j.begun, from)
		return whole
	case at > 0:
		before.frame = whole
		return nil
	}
	if len(j.begun) >= maxJoins { // more senders than nodes: somebody forges, or many have gone amid a frame
		for other := range j.begun {
			j.drop(other)
			break
		}
	}
	j.begun[from] = &begun{number, whole}
	return nil
}

func (j *joiner) drop(from tag) {
	delete(j.begun, from)
	j.lost()
}
