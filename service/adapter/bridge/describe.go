package bridge

import (
	"slices"
	"time"

	"foyer/service"
	"foyer/service/adapter/official"
	"foyer/service/payload"
)

// Sockets as the official servers describe them to each other, and as the API has them.

// roomsOf are the rooms of a socket with its own, which the official servers name too.
func roomsOf(s *service.SocketInfo) []string {
	return append([]string{string(s.ID)}, s.Rooms...)
}

// handshakeOf describes the request that opened a socket's link; nil: it cannot be said.
func handshakeOf(s *service.SocketInfo) []byte {
	h := official.Handshake{Time: s.ConnectedAt}
	if of := s.Handshake; of != nil {
		h = official.Handshake{Address: of.Address(), Time: of.Time(), URL: of.URL(), Query: of.Query(), Headers: of.Headers()}
		_, h.XDomain = h.Headers["origin"]
	}
	text, err := h.Append(nil)
	if err != nil { // a header that is not UTF-8
		h.Headers, h.Query = nil, nil
		text, _ = h.Append(nil)
	}
	return text
}

// socketInfo is a socket of a peer as the API has it.
func socketInfo(namespace string, s *official.Socket) service.SocketInfo {
	h := official.ReadHandshake(s.Handshake)
	rooms := slices.DeleteFunc(slices.Clone(s.Rooms), func(room string) bool { return room == s.ID })
	slices.Sort(rooms)
	info := service.SocketInfo{
		ID: service.SocketID(s.ID), Namespace: namespace, ConnectedAt: h.Time, Rooms: rooms, Handshake: peerHandshake{h, len(s.Handshake)},
	}
	if len(s.Data) > 0 && s.Data[0] == '{' {
		info.Data = s.Data
	}
	return info
}

// peerHandshake is a handshake as a peer has described it.
type peerHandshake struct {
	official.Handshake
	bytes int
}

func (h peerHandshake) Address() string            { return h.Handshake.Address }
func (h peerHandshake) Time() time.Time            { return h.Handshake.Time }
func (h peerHandshake) URL() string                { return h.Handshake.URL }
func (h peerHandshake) Query() map[string]string   { return h.Handshake.Query }
func (h peerHandshake) Headers() map[string]string { return h.Handshake.Headers }
func (h peerHandshake) Bytes() int                 { return 2 * h.bytes }

// argumentsOf makes the array of arguments of one value, or of none.
func argumentsOf(value []byte) []byte {
	array := make([]byte, 0, len(value)+2)
	array = append(array, '[')
	array = append(array, value...)
	return append(array, ']')
}

// firstArgument is the first value of an array of arguments with its binaries, which come before those of others; nil:
// it is empty. The official form has no room for more.
func firstArgument(array []byte, attachments [][]byte) (value []byte, binaries [][]byte) {
	if len(array) == 0 { // a backend could not say it
		return nil, nil
	}
	payload.Items(array, func(item []byte) bool {
		value = item
		return false
	})
	if len(attachments) == 0 || value == nil {
		return value, nil
	}
	shape, err := payload.Measure(value, len(attachments), nil, payload.Options{})
	if err != nil {
		return value, nil
	}
	n := int32(0)
	for _, part := range shape {
		n = max(n, -part) // that of attachment i is -1-i
	}
	return value, attachments[:n]
}
