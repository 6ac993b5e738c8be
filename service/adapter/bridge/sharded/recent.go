package sharded

import (
	"sync"
	"time"

	"foyer/service/adapter/official"
)

const (
	// recentFor is for how long an emit to a room that was joined goes by the namespace's channel, and twice that at most.
	// A server on Node subscribes to the channel of a room once it has read that its socket joins, and says to nobody when
	// that is done. It is done by then unless the server was frozen or behind for as long, and a server that is behind so
	// far is about to be cut off by Redis.
	recentFor = 10 * time.Second
	// recentMost are kept for that time, twice. Where there are more, it is so for all rooms.
	recentMost = 1 << 15
)

// recent are the rooms, by their channels, that somebody's socket was put into lately by a message to all servers. Safe
// for concurrent use.
type recent struct {
	mu          sync.Mutex
	now, before map[string]struct{} // guarded by mu; of the time since turned, and of that before
	turned      time.Time           // guarded by mu
	every       time.Time           // guarded by mu; until then all rooms are recent
}

func (r *recent) note(channel string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turnLocked()
	if len(r.now) >= recentMost {
		r.every = time.Now().Add(2 * recentFor)
		return
	}
	if r.now == nil {
		r.now = map[string]struct{}{}
	}
	r.now[channel] = struct{}{}
}

func (r *recent) has(channel string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turnLocked()
	_, now := r.now[channel]
	_, before := r.before[channel]
	return now || before || time.Now().Before(r.every)
}

// turnLocked lets go of what is not recent any more.
func (r *recent) turnLocked() {
	switch age := time.Since(r.turned); {
	case age < recentFor:
		return
	case age < 2*recentFor:
		r.before = r.now
	default:
		r.before = nil
	}
	r.now, r.turned = nil, time.Now()
}

// noteJoin notes the rooms that sockets are put into.
func (m *Medium) noteJoin(message *official.Message) {
	for _, room := range message.Change {
		if m.names.OwnChannel(room) {
			m.recent.note(m.names.Room(message.Namespace, room))
		}
	}
}
