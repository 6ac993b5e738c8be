package bridge

import (
	"context"

	"foyer/service/adapter/official"
)

// Medium carries messages of the official form between the servers of one Socket.IO application. All methods but Open
// and Close are safe for concurrent use.
type Medium interface {
	// Open begins to give what comes to a function, one message at a time, and those of one sender in the order in which
	// they came. The function may block: what waits meanwhile is bounded by the medium, and dropped beyond. It is called
	// once.
	Open(each func(m *official.Message)) error
	// Publish hands over a message. It goes out in the order of the calls, and may be lost when the medium is away. It
	// does not block and keeps nothing of the message. to is the UID of who asked, for an answer. Errors: an
	// official.Fault, when official servers must not be sent this, or why the medium takes nothing now. With
	// official.ErrDoubt it has taken the message.
	Publish(m *official.Message, to string) error
	// Follow has this node hear a namespace, and be counted in it as one of the servers, or ends that. The channel is
	// closed when what others say from then on is heard, or this cannot be had now. It does not block. A namespace is
	// followed once.
	Follow(namespace string, on bool) <-chan struct{}
	// Peers asks how many servers hear a namespace that are no nodes of this cluster. It blocks until that is known or ctx
	// ends.
	Peers(ctx context.Context, namespace string) (int, error)
	// Dropped are messages that came and were dropped, by reason.
	Dropped() map[string]int64
	// Close ends all that Open has begun.
	Close() error
}

// Roll is a Medium that knows servers by the UIDs that stand in their answers. Safe for concurrent use.
type Roll interface {
	// Gone returns those of some servers, by their UIDs, that do not hear a namespace any more. It blocks until that is
	// known or ctx ends.
	Gone(ctx context.Context, namespace string, uids []string) ([]string, error)
}

// Rooms is a Medium on which what is said to one room reaches only those who ask for it. Safe for concurrent use.
type Rooms interface {
	// Room has this node hear a room, which may be a socket's own, in a namespace that is followed meanwhile. Each on is
	// followed by one off. It is called with locks of the service held: memory only.
	Room(namespace, room string, on bool)
	// Heard returns a channel that is closed when what others say to a room from then on is heard, or this cannot be had
	// now, or nobody wants it.
	Heard(namespace, room string) <-chan struct{}
}
