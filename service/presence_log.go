package service

import (
	"sync"
	"time"
)

// presenceLog is the numbered past of a namespace: its newest changes, bounded in number and in bytes. The first watcher
// begins it, and it goes some time after the last one has left, when the tokens that were given out are hardly used any more.
type presenceLog struct {
	ns *Namespace

	mu       sync.Mutex
	ring     []change      // a power of two; change i is at i modulo its length
	first    uint64        // number of the oldest change that is kept
	next     uint64        // number of the next change
	bytes    int           // what the changes keep alive
	evicted  int           // changes that went since the watchers were last looked at
	changed  chan struct{} // closed by the next change; nil while nobody waits
	watchers map[*Watcher]struct{}
	left     time.Time   // when the last watcher went
	expiry   *time.Timer // runs while there is no watcher
}

// change is an entry of the log.
type change struct {
	PresenceEvent
	seq  uint64 // of the socket
	cost int    // bytes that this entry keeps alive
}

// entryBytes is what an entry takes by itself, rather too much: its place in the ring, of which half may be empty, and the
// copy of what was known of the socket.
const entryBytes = 512

// roomNameBytes is what one name takes in a list of rooms, without its text.
const roomNameBytes = 16

// newPresenceLog makes a log that begins above all numbers that this namespace, or an earlier one of its name, has used.
func newPresenceLog(ns *Namespace, above uint64) *presenceLog {
	return &presenceLog{ns: ns, first: above + 1, next: above + 1, watchers: map[*Watcher]struct{}{}}
}

// costWith is what an entry keeps alive that nothing else does. Data, names and a handshake are alive while their socket or room
// has them: they are counted with the change by which it let go of them, which comes behind all others that know them.
func (e *change) costWith(released int) int {
	n := entryBytes + roomNameBytes*len(e.Rooms) + len(e.Detail) + released
	if e.Kind != PresenceDisconnected { // there it is the same list
		n += roomNameBytes * len(e.Socket.Rooms)
	}
	if e.Kind == PresenceLeft || e.Kind == PresenceDisconnected {
		for _, r := range e.Rooms {
			n += len(r)
		}
	}
	if e.Kind == PresenceDisconnected {
		n += cap(e.Socket.Data) + len(e.Socket.UserID) + len(e.Socket.SessionID) + e.Socket.Handshake.Bytes()
	}
	return n
}

// append adds a change, with Namespace.mu held. When the bounds of the log or the budget of the node are reached, the oldest
// changes go.
func (l *presenceLog) append(e change) {
	cfg := &l.ns.node.cfg
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.next > l.first && (l.next-l.first >= uint64(cfg.PresenceLog) || l.bytes+e.cost > cfg.PresenceLogBytes) {
		l.evictLocked()
	}
	if !cfg.Budget.Take(UsePresence, e.cost) {
		for freed := 0; freed < e.cost && l.next > l.first; {
			freed += l.evictLocked()
		}
		cfg.Budget.Force(UsePresence, e.cost) // the newest change is always kept: it is what watchers wait for
	}
	l.fitLocked()
	*l.at(l.next) = e
	l.next++
	l.bytes += e.cost
	// Once in a while, who was overtaken is told so even if it is stuck in a write.
	if l.evicted > 0 && l.evicted >= int(l.next-l.first)/8 {
		l.evicted = 0
		for w := range l.watchers {
			// A snapshot that is overtaken begins anew, unless nobody takes its pages.
			if patience := w.patienceLocked(); w.pos+patience < l.first {
				w.endLocked()
			}
		}
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// evictLocked lets the oldest change go and returns what that frees.
func (l *presenceLog) evictLocked() int {
	e := l.at(l.first)
	freed := e.cost
	*e = change{}
	l.first++
	l.evicted++
	l.bytes -= freed
	l.ns.node.cfg.Budget.Give(UsePresence, freed)
	return freed
}

// fitLocked gives the ring room for one more change, and takes it away where most of it is empty.
func (l *presenceLog) fitLocked() {
	held := int(l.next - l.first)
	size := len(l.ring)
	switch {
	case held == size:
		size = max(16, 2*size)
	case size > 64 && held < size/8:
		size /= 2
	default:
		return
	}
	old := l.ring
	l.ring = make([]change, size)
	for i := l.first; i < l.next; i++ {
		*l.at(i) = old[i&uint64(len(old)-1)]
	}
}

// at is the place of the change with a number.
func (l *presenceLog) at(number uint64) *change { return &l.ring[number&uint64(len(l.ring)-1)] }

// enterLocked adds a watcher, with the log's mutex held.
func (l *presenceLog) enterLocked(w *Watcher) {
	l.watchers[w] = struct{}{}
	if l.expiry != nil {
		l.expiry.Stop()
	}
}

// leave takes a watcher out. The last one leaves the log behind for those that come back with a token.
func (l *presenceLog) leave(w *Watcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.watchers, w)
	if len(l.watchers) > 0 {
		return
	}
	l.left = time.Now()
	if keep := l.ns.node.cfg.PresenceKeep; l.expiry == nil {
		l.expiry = time.AfterFunc(keep, l.expire)
	} else {
		l.expiry.Reset(keep)
	}
}

// expire ends a log that no watcher has come back to. From then on the namespace records nothing.
func (l *presenceLog) expire() {
	l.ns.mu.Lock()
	defer l.ns.mu.Unlock()
	l.mu.Lock()
	stale := len(l.watchers) == 0 && time.Since(l.left) >= l.ns.node.cfg.PresenceKeep
	l.mu.Unlock()
	if stale && l.ns.log == l {
		l.ns.dropLogLocked()
	}
}

// dropLogLocked frees the log, with mu held. A later one begins above its numbers.
func (ns *Namespace) dropLogLocked() {
	l := ns.log
	if l == nil {
		return
	}
	ns.log = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	ns.logEnd = l.next
	ns.node.cfg.Budget.Give(UsePresence, l.bytes)
	l.first, l.bytes, l.ring = l.next, 0, nil
	if l.expiry != nil {
		l.expiry.Stop()
	}
}

// stopLog ends the log's timer, for a node that ends.
func (ns *Namespace) stopLog() {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if l := ns.log; l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.expiry != nil {
			l.expiry.Stop()
		}
	}
}
