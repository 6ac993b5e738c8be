package service

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
)

// position is how far a watcher has heard of each node whose changes it is told; none: nothing that it could go on
// from.
type position []heard

// heard is how far it has heard of one, or that this one was lost. Another node may know the sockets of a lost one as
// they were: a watcher that was told of their end, and goes on there, must not be told that they are there again unless
// the lost node has risen since.
type heard struct {
	Incarnation
	next uint64 // number of the first change that it has not; of a lost one: wasLost, and the highest term that was told
}

// wasLost stands above all numbers of changes.
const wasLost = 1 << 63

// lost says whether the node was lost, and in which term it was told last.
func (h heard) lost() (term uint64, lost bool) { return h.next &^ wasLost, h.next&wasLost != 0 }

// A resume token is a version, the scope's hash, and of each node its name, its run and a number.
const (
	tokenVersion = 3
	heardBytes   = nodeIDLen + 8 + 8
	maxHeard     = 64 // nodes in a cluster
)

// token writes a position in a scope down.
func (p position) token(scope [8]byte) string {
	b := append([]byte{tokenVersion}, scope[:]...)
	for _, h := range p {
		b = binary.BigEndian.AppendUint64(append(b, h.Node...), h.Run)
		b = binary.BigEndian.AppendUint64(b, h.next)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// parsePosition reads a token of a scope. ErrToken: it is none.
func parsePosition(token string, scope [8]byte) (position, error) {
	const head = 1 + len(scope)
	if len(token) > base64.RawURLEncoding.EncodedLen(head+maxHeard*heardBytes) {
		return nil, ErrToken
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < head || b[0] != tokenVersion || [8]byte(b[1:]) != scope || (len(b)-head)%heardBytes != 0 {
		return nil, ErrToken
	}
	var p position
	for b = b[head:]; len(b) > 0; b = b[heardBytes:] {
		of := Incarnation{NodeID(b[:nodeIDLen]), binary.BigEndian.Uint64(b[nodeIDLen:])}
		twice := slices.ContainsFunc(p, func(h heard) bool { return h.Node == of.Node })
		if twice || !of.Node.Valid() {
			return nil, ErrToken
		}
		p = append(p, heard{of, binary.BigEndian.Uint64(b[nodeIDLen+8:])})
	}
	return p, nil
}

// hash is the same for scopes that mean the same.
func (s Scope) hash() [8]byte {
	rooms := slices.Compact(slices.Sorted(slices.Values(s.Rooms)))
	h := sha256.New()
	for _, part := range append([]string{s.Namespace}, rooms...) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	if s.All {
		h.Write([]byte{1})
	}
	return [8]byte(h.Sum(nil))
}
