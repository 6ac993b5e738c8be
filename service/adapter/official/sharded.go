package official

import (
	"unicode/utf16"
	"unicode/utf8"
)

// ShardedMode says which rooms have a channel of their own. All nodes of a cluster have the same.
type ShardedMode uint8

// The modes, by the names of option subscriptionMode.
const (
	Dynamic        ShardedMode = iota // public rooms: those whose name does not look like the id of a socket. The default
	DynamicPrivate                    // every room
	Static                            // none
)

// Sharded are the channels of the sharded Redis adapter, to which SSUBSCRIBE and SPUBLISH belong. The streams adapter
// uses Main and Node of the same names, by either form of Pub/Sub.
type Sharded struct {
	Prefix string // option channelPrefix of the official adapter; "": DefaultPrefix
	Mode   ShardedMode
}

// Main is the channel of a namespace. How many subscribe to it is how many nodes there are.
func (s Sharded) Main(nsp string) string { return Classic{s.Prefix}.Broadcasts(nsp) }

// Node is the channel of the answers to one node. What comes there is an answer, and what comes elsewhere is none.
func (s Sharded) Node(nsp, uid string) string { return s.Main(nsp) + uid + "#" }

// Room is the channel of a room that has one.
func (s Sharded) Room(nsp, room string) string { return s.Main(nsp) + room + "#" }

// Channel is where a message goes; to is the UID of the node that asked when it is an answer. "": the answer goes to
// all, which the official adapter takes too.
func (s Sharded) Channel(m *Message, to string) string {
	switch {
	case m.Kind.Answer() && to != "":
		return s.Node(m.Namespace, to)
	case m.Kind == Broadcast && m.Request == "" && len(m.Rooms) == 1 && s.OwnChannel(m.Rooms[0]):
		return s.Room(m.Namespace, m.Rooms[0])
	default:
		return s.Main(m.Namespace)
	}
}

// OwnChannel says whether what is broadcast to a room alone goes to a channel of the room. Where that is not so, nobody
// has to subscribe to it.
func (s Sharded) OwnChannel(room string) bool {
	return s.Mode == DynamicPrivate || s.Mode == Dynamic && !looksLikeSocketID(room)
}

// looksLikeSocketID says whether a name has the length of a socket's id as JavaScript counts it.
func looksLikeSocketID(room string) bool {
	const length = 20
	n := 0
	for _, r := range room {
		n += max(1, utf16.RuneLen(r))
	}
	return n == length && utf8.ValidString(room)
}

// AppendSharded appends a message in the sharded Redis adapter's form; where it goes is Sharded.Channel. The error is a
// Fault, and dst is then as before.
func AppendSharded(dst []byte, m *Message) ([]byte, error) {
	return appendCluster(dst, m, m.binary(), false)
}
