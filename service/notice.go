package service

import "time"

// NoticeKind is what a Notice is about.
type NoticeKind uint8

// The kinds of notices.
const (
	noticeGone         NoticeKind = iota // taken back before it was told: never seen outside
	NoticeConnect                        // CallID, Sockets[0] with Auth
	NoticeConnected                      // Sockets[0]
	NoticeAssigned                       // Sockets, Failover
	NoticeEvent                          // CallID, From, Packet, Time; wants an ack when Packet.AckID is not NoAck
	NoticeDisconnected                   // From, Sockets[0], Reason, Detail
	NoticeDraining                       // Replaced or not; Until
	NoticePosted                         // Posted
	NoticeServerSide                     // Namespace, Packet, FromNode; CallID when WantsReply
	NoticeWithdrawn                      // the NoticeConnect with CallID needs no answer; only for handlers elsewhere
)

// Notice is what a handler is told. Shared with others: not to be changed.
type Notice struct {
	Kind       NoticeKind
	Failover   bool
	Replaced   bool
	WantsReply bool
	Reason     Reason
	held       bool // it waits, and counts in the share of From
	CallID     uint64
	From       Origin
	Generation uint64 // of From
	Packet     *Packet
	Time       time.Time
	Sockets    []*SocketInfo
	Detail     string
	Until      time.Time
	Posted     any
	Namespace  string
	FromNode   NodeID
	Trace      *Trace // of a question or an event, what its handler continues; nil: it is not traced

	visit *Visit // whose node is to hear that it was taken, under the number there; nil: it comes from this node
	there uint64
	fresh []Origin // of Sockets, those that the group is told of for the first time
	seq   uint64   // its place in out, ascending
}

// Number is the notice's number among those of its handler: they ascend.
func (n *Notice) Number() uint64 { return n.seq }

// leave says that a notice has left the handler, taken or not: its owner need not keep it any more. Handler.mu is held.
func (n *Notice) leave() {
	if n.visit != nil {
		n.visit.way.Taken(n.there)
	}
}

// refuse is leave for an event that nobody will answer.
func (n *Notice) refuse() {
	if n.visit != nil {
		n.leave()
		n.visit.way.Answered(n.there, nil, nil)
	}
}

// Weights of notices, rather too much than too little.
const (
	noticeBytes = 256
	socketBytes = 256
	postedBytes = 512

	handshakeBytes = 2048
)

// weigh says what a notice that is no event keeps in memory: always the same.
func (n *Notice) weigh() int {
	w := noticeBytes + n.size() + len(n.Detail)
	for _, s := range n.Sockets {
		w += socketBytes + len(s.Data) + len(s.Auth) + len(s.UserID)
		for _, r := range s.Rooms {
			w += len(r) + 16
		}
		if n.Kind == NoticeDisconnected { // those of sockets that are here are kept anyway
			w += handshakeBytes
		}
	}
	if n.Kind == NoticePosted {
		w += postedBytes
	}
	return w
}

// own says whether a notice is of the handler's own callers' making: nobody's browser can cause one.
func (n *Notice) own() bool { return n.Kind == NoticePosted || n.Kind == NoticeServerSide }
