package service

import (
	crand "crypto/rand"
	"encoding/base64"
	"math/rand/v2"
	"time"
)

const (
	nodeIDLen   = 4
	socketIDLen = 20 // some Socket.IO adapters know a socket's id by this length
)

// SocketID names a socket: 4 characters of its node, 16 random ones.
type SocketID string

// NodeID names a node.
type NodeID string

// Incarnation is one run of a node.
type Incarnation struct {
	Node NodeID
	Run  uint64 // it grows from run to run of one name
}

// runChance is how many bits of a run's number are there by chance. Before them is when it began.
const runChance = 20

// NewIncarnation begins a run of a node, to which "" gives a name by chance. Two that begin in one millisecond are told
// apart by chance.
func NewIncarnation(node NodeID) Incarnation {
	if node == "" {
		node = NodeID(newNodeID())
	}
	return Incarnation{node, uint64(time.Now().UnixMilli())<<runChance | rand.Uint64N(1<<runChance)}
}

func newSocketID(node NodeID) SocketID {
	return SocketID(string(node) + randomText(socketIDLen-nodeIDLen))
}

// newNodeID makes a name of letters and digits: people type it, and ids begin with it.
func newNodeID() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	id := make([]byte, nodeIDLen)
	for i := range id {
		id[i] = alphabet[rand.IntN(len(alphabet))]
	}
	return string(id)
}

// randomText returns n characters of the URL-safe base64 alphabet, 6 random bits each.
func randomText(n int) string {
	raw := make([]byte, (n*6+7)/8)
	_, _ = crand.Read(raw) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(raw)[:n]
}

// Valid says whether a name can stand at the beginning of ids: they are rooms, parts of topics and of URLs.
func (id NodeID) Valid() bool {
	for _, c := range []byte(id) {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(id) == nodeIDLen
}
