package official

import "strings"

// DefaultPrefix is what the official adapters put in front of their channels when they are told nothing else.
const DefaultPrefix = "socket.io"

// Classic are the channels of the classic Redis adapter.
type Classic struct {
	Prefix string // option key of the official adapter; "": DefaultPrefix
}

func (c Classic) prefix() string {
	if c.Prefix == "" {
		return DefaultPrefix
	}
	return c.Prefix
}

// Broadcasts is the channel of a namespace's broadcasts. Those for one room go to Room.
func (c Classic) Broadcasts(nsp string) string { return c.prefix() + "#" + nsp + "#" }

// Room is the channel of the broadcasts for exactly one room.
func (c Classic) Room(nsp, room string) string { return c.Broadcasts(nsp) + room + "#" }

// Requests is the channel of a namespace's requests. How many subscribe to it is how many nodes there are: a node
// subscribes to it once, by its name and not by a pattern.
func (c Classic) Requests(nsp string) string { return c.prefix() + "-request#" + nsp + "#" }

// Responses is the channel of the responses to all nodes.
func (c Classic) Responses(nsp string) string { return c.prefix() + "-response#" + nsp + "#" }

// ResponsesTo is the channel of the responses to one node. A node that asked may be answered there or on Responses.
func (c Classic) ResponsesTo(nsp, uid string) string { return c.Responses(nsp) + uid + "#" }

// AllResponses is what PSUBSCRIBE takes for Responses and ResponsesTo of all namespaces and nodes. Requests are known
// by their names, whatever their namespace.
func (c Classic) AllResponses() string { return globEscape.Replace(c.prefix()+"-response#") + "*" }

// Pattern is what PSUBSCRIBE takes for Broadcasts and for Room of every room. What means something in a pattern is
// escaped, where the official adapter forgets it and hears nothing.
func (c Classic) Pattern(nsp string) string { return globEscape.Replace(c.Broadcasts(nsp)) + "*" }

var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// Unfinished are the channels of emitters that leave the last # out, where Pattern does not reach: broadcasts, and
// requests. To subscribe to them is not counted as a node.
func (c Classic) Unfinished(nsp string) (broadcasts, requests string) {
	return c.prefix() + "#" + nsp, c.prefix() + "-request#" + nsp
}

// Ancient is where emitters of the time of Socket.IO 1.0 publish. They say it in another form, which no server hears.
func (c Classic) Ancient() string { return c.prefix() + "#emitter" }

// RoomOf says which room a channel of broadcasts names, with or without the last #; false: none, and all sockets of the
// namespace may be meant. It is only a hint, for a caller that wants to drop a message without reading it: the message
// says who is meant, and a room's name may end with a # itself.
func (c Classic) RoomOf(nsp, channel string) (room string, ok bool) {
	rest, ok := strings.CutPrefix(channel, c.Broadcasts(nsp))
	if !ok || rest == "" {
		return "", false
	}
	return strings.TrimSuffix(rest, "#"), true
}

// Channel is where a message goes. to is the UID of the node that asked when the message is an answer and is to go to
// it alone; "": the answer goes to all. Replies always do, as old nodes expect.
func (c Classic) Channel(m *Message, to string) string {
	switch {
	case m.Kind.Answer() && to != "" && m.Kind != Reply:
		return c.ResponsesTo(m.Namespace, to)
	case m.Kind.Answer():
		return c.Responses(m.Namespace)
	case m.Kind == Broadcast && m.Request == "" && len(m.Rooms) == 1:
		return c.Room(m.Namespace, m.Rooms[0])
	case m.Kind == Broadcast && m.Request == "":
		return c.Broadcasts(m.Namespace)
	default:
		return c.Requests(m.Namespace)
	}
}
