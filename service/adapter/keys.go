package adapter

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/bits"
)

// keys are what is made of the key of a cluster, and the versions of the wire that this node speaks: all that it takes
// to read.
type keys struct {
	mac    hash.Hash // for the checks of frames
	sum    [sha256.Size]byte
	k0, k1 uint64 // for the hashes of rooms

	wireFrom, wireTo uint64
}

// newKeys makes keys. Each use has one of its own, so that one tells nothing of another. A cluster without a key has
// checks too: they show that a frame was cut.
func newKeys(secret []byte) *keys {
	derive := func(use string) []byte {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(use))
		return m.Sum(nil)
	}
	k := &keys{mac: hmac.New(sha256.New, derive("foyer frames")), wireFrom: wireFrom, wireTo: wireTo}
	rooms := derive("foyer rooms")
	k.k0, k.k1 = binary.LittleEndian.Uint64(rooms), binary.LittleEndian.Uint64(rooms[8:])
	return k
}

// A check is a field of 16 bytes, the last one.
const (
	checkBytes = 16
	sealBytes  = 2 + checkBytes
	checkKey   = 15<<3 | byte(bytesField)
)

// seal appends the check to a frame.
func (k *keys) seal(frame []byte) []byte {
	sum := k.check(frame)
	return append(append(frame, checkKey, checkBytes), sum...)
}

// unseal returns a frame without its check, and says whether that is the one which it has to have.
func (k *keys) unseal(b []byte) ([]byte, Drop) {
	n := len(b) - sealBytes
	if n < 0 || b[n] != checkKey || b[n+1] != checkBytes || !hmac.Equal(k.check(b[:n]), b[n+2:]) {
		return nil, DropCheck
	}
	return b[:n], 0
}

// check returns a slice of k, good until the next call.
func (k *keys) check(b []byte) []byte {
	k.mac.Reset()
	k.mac.Write(b)
	return k.mac.Sum(k.sum[:0])[:checkBytes]
}

// room is the hash of a room of a namespace; "" is the namespace itself. Names have at most 255 bytes, so the length
// between them keeps two pairs of one text apart.
func (k *keys) room(namespace, room string) uint64 {
	var space [2*255 + 2]byte
	b := append(space[:0], byte(len(namespace)), byte(len(namespace)>>8))
	b = append(append(b, namespace...), room...)
	return sipHash(k.k0, k.k1, b)
}

// sipHash is SipHash-2-4 (Aumasson and Bernstein, 2012).
func sipHash(k0, k1 uint64, b []byte) uint64 {
	v0, v1 := k0^0x736f6d6570736575, k1^0x646f72616e646f6d
	v2, v3 := k0^0x6c7967656e657261, k1^0x7465646279746573
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	tail := uint64(len(b)) << 56
	for ; len(b) >= 8; b = b[8:] {
		m := binary.LittleEndian.Uint64(b)
		v3 ^= m
		round()
		round()
		v0 ^= m
	}
	for i, c := range b {
		tail |= uint64(c) << (8 * i)
	}
	v3 ^= tail
	round()
	round()
	v0 ^= tail
	v2 ^= 0xff
	for range 4 {
		round()
	}
	return v0 ^ v1 ^ v2 ^ v3
}
