package passing

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"strings"
	"sync"

	"foyer/service"
)

// A sid is the name of its node, 24 random characters and 16 of a check, all of base64url. The name comes first, so
// that a balancer can send a request to its session's node without knowing the key.
const (
	nameLen   = 4
	randomLen = 24
	checkLen  = 16
	sidLen    = nameLen + randomLen + checkLen

	proofLen = 22 // 16 bytes
)

// keys are what is made of the key of a cluster. Each use has one of its own, so that one tells nothing of another.
type keys struct{ sids, proofs keyed }

func newKeys(secret []byte) *keys {
	k := &keys{}
	for use, to := range map[string]*keyed{"foyer sids": &k.sids, "foyer peers": &k.proofs} {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(use))
		key := m.Sum(nil)
		to.states.New = func() any { return &state{mac: hmac.New(sha256.New, key)} }
	}
	return k
}

// keyed makes checks with one key. Safe for concurrent use.
type keyed struct{ states sync.Pool } // of *state

type state struct {
	mac hash.Hash
	in  []byte
	sum [sha256.Size]byte
}

// check appends the first n characters of the check of parts to b. Lengths stand between the parts, so that no two
// lists of them have one text.
func (k *keyed) check(b []byte, n int, parts ...string) []byte {
	s := k.states.Get().(*state)
	s.in = s.in[:0]
	for _, p := range parts {
		s.in = append(append(s.in, byte(len(p)>>8), byte(len(p))), p...)
	}
	s.mac.Reset()
	s.mac.Write(s.in)
	var text [(sha256.Size*8 + 5) / 6]byte
	base64.RawURLEncoding.Encode(text[:], s.mac.Sum(s.sum[:0]))
	if cap(s.in) > 4<<10 { // an unusual one is not kept
		s.in = nil
	}
	k.states.Put(s)
	return append(b, text[:n]...)
}

// matches says whether the check of parts is the one that it has to be.
func (k *keyed) matches(check string, parts ...string) bool {
	var space [proofLen]byte
	return hmac.Equal([]byte(check), k.check(space[:0], len(check), parts...))
}

// newSID makes a sid of a node.
func (k *keys) newSID(node service.NodeID) string {
	var raw [randomLen * 6 / 8]byte
	_, _ = rand.Read(raw[:]) // never fails: it crashes the process instead
	var space [sidLen]byte
	sid := append(space[:0], node...)
	sid = base64.RawURLEncoding.AppendEncode(sid, raw[:])
	return string(k.sids.check(sid, checkLen, string(sid)))
}

// owner returns the node whose a sid is; false: no member has made it.
func (k *keys) owner(sid string) (service.NodeID, bool) {
	if len(sid) != sidLen {
		return "", false
	}
	name := service.NodeID(sid[:nameLen])
	return name, name.Valid() && k.sids.matches(sid[sidLen-checkLen:], sid[:sidLen-checkLen])
}

// sidOf finds the sid in a query as all known clients write it: plainly, and once.
func sidOf(query string) string {
	sid := ""
	for pair := range strings.SplitSeq(query, "&") {
		if v, ok := strings.CutPrefix(pair, "sid="); ok {
			if sid != "" {
				return ""
			}
			sid = v
		}
	}
	return sid
}
