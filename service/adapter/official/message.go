package official

import (
	"strconv"
	"time"

	"foyer/service"
)

// Kind is what a message says, whatever the medium and its number there.
type Kind uint8

// The kinds.
const (
	// Said to all, by a node or an emitter.
	Broadcast      Kind = iota + 1 // Payload to the sockets of the target; with Request their acks are wanted
	Join                           // the sockets of the target join the rooms in Change
	Leave                          // the same for leaving
	Disconnect                     // the sockets of the target are disconnected
	FetchSockets                   // who is in the target; answered by Sockets
	ServerSideEmit                 // Payload to the servers themselves; with Request a reply is wanted
	Hello                          // a node has come; answered by Heartbeat
	Heartbeat                      // a node is there
	Goodbye                        // a node goes
	FetchRooms                     // which rooms there are; answered by Rooms. Classic only
	FetchIDs                       // FetchSockets of old nodes; answered by IDs. Classic only

	// Answers to a request.
	Sockets
	Reply       // to ServerSideEmit: one value in Payload, or none
	ClientCount // to Broadcast: how many sockets got it, in Count
	Ack         // to Broadcast, for each socket that acked: its first argument in Payload, or none
	Rooms       // in Names
	IDs         // in Names
	Done        // to Join, Leave and Disconnect of old nodes

	kinds
)

var kindWords = [kinds]string{
	Broadcast: "broadcast", Join: "join", Leave: "leave", Disconnect: "disconnect", FetchSockets: "fetch_sockets",
	ServerSideEmit: "server_side_emit", Hello: "hello", Heartbeat: "heartbeat", Goodbye: "goodbye", FetchRooms: "fetch_rooms",
	FetchIDs: "fetch_ids", Sockets: "sockets", Reply: "reply", ClientCount: "client_count", Ack: "ack", Rooms: "rooms", IDs: "ids",
	Done: "done",
}

func (k Kind) String() string {
	if k == 0 || k >= kinds {
		return "kind " + strconv.Itoa(int(k))
	}
	return kindWords[k]
}

// Answer says whether the kind is an answer to a request.
func (k Kind) Answer() bool { return k >= Sockets }

// Emitter is the UID of those that publish and never listen. They are no nodes and must not be counted.
const Emitter = "emitter"

// Message is one message. Its slices are its own once it was read; of what is to be written nothing is kept or changed.
// Namespace is always set; which other fields count depends on the kind.
type Message struct {
	Kind      Kind
	UID       string // the server that says it; "": an old emitter, or an answer in the classic form, which does not say
	Namespace string
	Request   string // names a request in the request and in each answer to it

	// The target: the sockets that are in one of Rooms, or all for none, and in none of Except. A room may be called ""
	// here: it has no sockets.
	Rooms, Except []string
	// Flags are Volatile and NoCompress.
	Flags service.Flags
	// Timeout is how long the one who asks will wait; 0: it does not say. Whole milliseconds.
	Timeout time.Duration
	// SingleResponse says that the one who asks wants the ack of one socket.
	SingleResponse bool

	// Payload is JSON: the array of an event, its name first (Broadcast, ServerSideEmit), or one value (Reply, Ack), which
	// is nil where no argument was given. Binary values stand in it as {"_placeholder":true,"num":i}.
	Payload     []byte
	Attachments [][]byte
	// Event is the name that Payload begins with; of a number its text. It is set by reading, and not looked at in
	// writing.
	Event string

	Change []string // Join, Leave: the rooms, none of them "". Node has names longer than service.MaxNameBytes
	Close  bool     // Disconnect: the link, too
	// Old is the id of the one socket that is meant where Join, Leave and Disconnect of old nodes name no target. They
	// have one room in Change, and a Request that wants Done from the node of that socket. Classic only.
	Old string

	Sockets []Socket
	Names   []string
	Count   int
}

// Socket is how a node describes one of its sockets.
type Socket struct {
	ID        string
	Handshake []byte // a JSON object; see ReadHandshake
	Rooms     []string
	Data      []byte // JSON; nil for none
}

// Packet is the event of a Broadcast or ServerSideEmit as the service takes it, with the message's own bytes.
func (m *Message) Packet() *service.Packet {
	return &service.Packet{
		Kind: service.KindEvent, Namespace: m.Namespace, AckID: service.NoAck, Payload: m.Payload, Attachments: m.Attachments, Event: m.Event,
	}
}

// SetTarget sets the target of a message that is to be written. It says false, and changes nothing, for a target that
// means nobody (no rooms, and not all), which here would mean everybody, and for one of this node's sockets only.
func (m *Message) SetTarget(t *service.Target) bool {
	if t.Local || t.All == (len(t.Rooms) > 0) {
		return false
	}
	m.Namespace, m.Rooms, m.Except = t.Namespace, t.Rooms, t.ExceptRooms
	return true
}

// Target is the target of a message that was read, as the service takes it.
func (m *Message) Target() service.Target {
	return service.Target{Namespace: m.Namespace, Rooms: m.Rooms, ExceptRooms: m.Except, All: len(m.Rooms) == 0}
}
