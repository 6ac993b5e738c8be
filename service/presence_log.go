package service

import (
	"slices"
	"sync"
	"time"
)

// presenceLog is the numbered past of a namespace: its newest changes, bounded in number and in bytes. The first
// watcher begins it, and it goes some time after the last one has left, when the tokens that were given out are hardly
// used any more.
//
// It has the changes of this node's sockets, and those of others in the order in which this node heard of them. Each
// node numbers its own changes without a gap, and they keep their numbers in the logs of others: so tokens mean the
// same everywhere. Where a change stands in this log is its place.
type presenceLog struct {
	ns *Namespace

	others *others // of the other nodes, while they are followed; guarded by Namespace.mu

	mu       sync.Mutex
	ring     []change      // a power of two; the change at place i is at i modulo its length
	first    uint64        // place of the oldest change that is kept
	next     uint64        // place of the next change
	own      uint64        // number of this node's next change, never more than its place
	ownFirst uint64        // number from which on all of this node's changes are kept
	bytes    int           // what the changes keep alive
	evicted  int           // changes that went since the watchers were last looked at
	changed  chan struct{} // closed by the next change; nil while nobody waits
	arrived  chan struct{} // closed when an owner has told all, or is gone; nil while nobody waits
	watchers map[*Watcher]struct{}
	feeds    int         // how many of them are feeds
	idle     []*Watcher  // the feeds that have told all, to be woken by the next change
	left     time.Time   // when the last watcher that is no feed went, or the last of all
	expiry   *time.Timer // runs while there is none
}

// change is an entry of the log.
type change struct {
	PresenceEvent
	seq   uint64 // of the socket, or its copy
	cost  int    // bytes that this entry keeps alive
	owner *owner // nil: this node
	all   *roll  // all sockets of the owner at once; then PresenceEvent is about none of them
}

// roll is all that an owner has at once: when it has told all, when it is lost, or when its news went on behind a gap.
type roll struct {
	list []known // none with a gap
	held int     // bytes that nothing else keeps alive, counted as those of copies
	gap  bool    // what watchers know of the owner is void
	term uint64  // of what it has told: with a loss the highest, else the lowest
}

// known is a copy at one moment.
type known struct {
	seq  uint64
	info *SocketInfo
}

// entryBytes is what an entry takes by itself, rather too much: its place in the ring, of which half may be empty, and
// the copy of what was known of the socket.
const entryBytes = 512

// roomNameBytes is what one name takes in a list of rooms, without its text.
const roomNameBytes = 16

// newPresenceLog makes a log that begins above all numbers that this namespace, or an earlier one of its name, has
// used.
func newPresenceLog(ns *Namespace, above uint64) *presenceLog {
	return &presenceLog{
		ns: ns, first: above + 1, next: above + 1, own: above + 1, ownFirst: above + 1, watchers: map[*Watcher]struct{}{},
	}
}

// costWith is what an entry keeps alive that nothing else does. Data, names and a handshake are alive while their
// socket or room has them: they are counted with the change by which it let go of them, which comes behind all others
// that know them.
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

// append adds a change, with Namespace.mu held. When the bounds of the log or the budget of the node are reached, the
// oldest changes go.
func (l *presenceLog) append(e *change) {
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
	if e.owner == nil {
		e.Number = l.own
		l.own++
	}
	l.fitLocked()
	*l.at(l.next) = *e
	l.next++
	l.bytes += e.cost
	// Once in a while, a watcher that was overtaken is told so even if it is stuck in a write.
	if l.evicted > 0 && l.evicted >= int(l.next-l.first)/8 {
		l.evicted = 0
		for w := range l.watchers {
			// A snapshot that is overtaken begins anew, unless nobody takes its pages.
			if patience := w.patienceLocked(); w.pos+patience < l.first {
				w.endLocked(ErrTooSlow)
			}
		}
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	l.wakeFeedsLocked(e.owner == nil)
}

// wakeFeedsLocked wakes the feeds that have told all, if the newest change is this node's; else it is nothing to them.
func (l *presenceLog) wakeFeedsLocked(own bool) {
	for _, w := range l.idle {
		if own {
			w.wake()
		} else {
			w.pos = l.next
		}
	}
	if own {
		l.idle = l.idle[:0]
	}
}

// evictLocked lets the oldest change go and returns what that frees.
func (l *presenceLog) evictLocked() int {
	e := l.at(l.first)
	freed := e.cost
	switch {
	case e.all != nil:
		l.ns.node.letCopiesGo(e.all.held)
	case e.owner == nil:
		l.ownFirst = e.Number + 1
	default:
		e.owner.first = max(e.owner.first, e.Number+1)
	}
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

// at is the change at a place.
func (l *presenceLog) at(place uint64) *change { return &l.ring[place&uint64(len(l.ring)-1)] }

// enterLocked adds a watcher, with the log's mutex held.
func (l *presenceLog) enterLocked(w *Watcher) {
	l.watchers[w] = struct{}{}
	if w.wake != nil {
		l.feeds++
	} else if l.expiry != nil {
		l.expiry.Stop()
	}
}

// leave takes a watcher out. The last one leaves the log behind for those that come back with a token, and the last
// that is no feed what is known of the other nodes.
func (l *presenceLog) leave(w *Watcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.watchers, w)
	if w.wake != nil {
		l.feeds--
		l.idle = slices.DeleteFunc(l.idle, func(o *Watcher) bool { return o == w })
	}
	if len(l.watchers) > l.feeds || w.wake != nil && l.feeds > 0 {
		return
	}
	l.left = time.Now()
	if keep := l.ns.node.cfg.PresenceKeep; l.expiry == nil {
		l.expiry = time.AfterFunc(keep, l.expire)
	} else {
		l.expiry.Reset(keep)
	}
}

// lag is how many changes the slowest watcher has not looked at. It looks at each.
func (l *presenceLog) lag() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	pos := l.next
	for w := range l.watchers {
		if w.wake == nil { // a feed is another node
			pos = min(pos, w.pos)
		}
	}
	return int(l.next - pos)
}

// expire ends what no watcher has come back to: what is known of other nodes, and if they do not follow either, the
// log. From then on the namespace records nothing.
func (l *presenceLog) expire() {
	ns := l.ns
	ns.mu.Lock()
	if ns.log != l {
		ns.mu.Unlock()
		return
	}
	l.mu.Lock()
	stale := len(l.watchers) == l.feeds && time.Since(l.left) >= ns.node.cfg.PresenceKeep
	fed := l.feeds > 0
	l.mu.Unlock()
	followed := stale && l.unfollowLocked()
	if stale && !fed {
		ns.dropLogLocked()
	}
	ns.mu.Unlock()
	if followed {
		ns.node.release(ns)
	}
}

// dropLogLocked frees the log, with mu held. A later one begins above its places.
func (ns *Namespace) dropLogLocked() {
	l := ns.log
	if l == nil {
		return
	}
	ns.log = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	if ns.node.watches != nil {
		for i := l.first; i < l.next; i++ {
			if e := l.at(i); e.all != nil {
				ns.node.letCopiesGo(e.all.held)
			}
		}
	}
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
