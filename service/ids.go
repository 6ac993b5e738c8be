package service

import (
	"crypto/rand"
	"encoding/base64"
)

const (
	nodeIDLen   = 4
	socketIDLen = 20 // some Socket.IO adapters know a socket's id by this length
)

// SocketID names a socket: 4 characters of its node, 16 random ones.
type SocketID string

// NodeID names a node.
type NodeID string

func newSocketID(node NodeID) SocketID {
	return SocketID(string(node) + randomText(socketIDLen-nodeIDLen))
}

// randomText returns n characters of the URL-safe base64 alphabet, 6 random bits each.
func randomText(n int) string {
	raw := make([]byte, (n*6+7)/8)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(raw)[:n]
}
