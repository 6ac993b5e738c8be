package service

// NoAck is the AckID of a packet that wants no acknowledgement.
const NoAck int64 = -1

// Kind is the type of a Socket.IO packet, without the difference between text and binary.
type Kind uint8

// The kinds that pass between a link and the service (Socket.IO protocol v5, "Packet types").
const (
	KindConnect Kind = iota
	KindDisconnect
	KindEvent
	KindAck
	KindConnectError
)

// Packet is one Socket.IO packet. It is immutable once it was handed over, and its bytes are shared by all who hold it.
type Packet struct {
	Kind      Kind
	Namespace string // in full, with its slash
	AckID     int64  // NoAck, or the id that the answer repeats
	// Payload is JSON: an array with the event's name first (event), an array of arguments (ack), an object or nothing
	// (connect, connect error). Binary values stand in it as {"_placeholder":true,"num":i}.
	Payload     []byte
	Attachments [][]byte
	// Event is the name that Payload begins with; set for events only.
	Event string
}

// Size is what a packet weighs in a queue, in bytes: its payload and attachments.
func (p *Packet) Size() int {
	n := len(p.Payload)
	for _, a := range p.Attachments {
		n += len(a)
	}
	return n
}
