package service

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// Scope is what a watcher follows: rooms, or everything.
type Scope struct {
	Namespace string
	Rooms     []string
	All       bool
}

// PresenceKind is the kind of a change.
type PresenceKind uint8

// The kinds, with the numbers of the API.
const (
	PresenceConnected PresenceKind = iota + 1
	PresenceJoined
	PresenceLeft
	PresenceUpdated
	PresenceDisconnected
)

// PresenceEvent is one change of one socket. Shared by all watchers: not to be changed.
type PresenceEvent struct {
	Kind   PresenceKind
	Socket *SocketInfo // after the change; of a disconnect: with the rooms it left
	Rooms  []string    // of this change
	Reason Reason
	Detail string
	Time   time.Time
}

// WatchStep is one step of a watch: exactly one of its first five parts is set.
type WatchStep struct {
	Snapshot []SocketInfo // the sockets in scope; the caller sends them in chunks
	Synced   bool
	Events   []PresenceEvent
	Bookmark bool
	Reset    bool   // the token is of no use: a snapshot follows
	Token    string // on Synced, Events and Bookmark
}

// presenceLog is the numbered past of a namespace: a ring of its newest changes. It is begun by the first watcher.
type presenceLog struct {
	node *Node
	size int
	base uint64 // number of its first change: above all that an earlier life of the namespace has used

	mu       sync.Mutex
	ring     []PresenceEvent // grows up to size
	first    uint64          // number of the oldest change that is kept
	next     uint64          // number of the next change
	changed  chan struct{}   // closed by the next change; nil while nobody waits
	watchers map[*Watcher]struct{}
}

func newPresenceLog(n *Node) *presenceLog {
	n.mu.RLock()
	base := n.logsEnd + 1
	n.mu.RUnlock()
	return &presenceLog{node: n, size: n.cfg.PresenceLog, base: base, first: base, next: base, watchers: map[*Watcher]struct{}{}}
}

func (l *presenceLog) append(e PresenceEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < l.size {
		l.ring = append(l.ring, e)
	} else {
		l.ring[l.slot(l.next)] = e
		l.first++
		// Once in a while, who was overtaken is told so even if it is stuck in a write.
		if l.next%uint64(max(1, l.size/8)) == 0 {
			for w := range l.watchers {
				if w.pos < l.first {
					w.endLocked()
				}
			}
		}
	}
	l.next++
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// at is the change with a number between first and next.
func (l *presenceLog) at(number uint64) *PresenceEvent {
	return &l.ring[l.slot(number)]
}

func (l *presenceLog) slot(number uint64) int { return int((number - l.base) % uint64(l.size)) }

// Watcher follows a scope.
type Watcher struct {
	node  *Node
	ns    *Namespace
	log   *presenceLog
	scope Scope
	hash  [8]byte
	rooms map[string]struct{} // of the scope
	done  chan struct{}

	// Owned by the caller of Next.
	snapshot *[]SocketInfo // to be given out next
	reset    bool          // to be given out before it
	synced   bool
	idle     *time.Timer

	// Guarded by log.mu.
	pos   uint64 // number of the next change to look at
	ended bool
}

// watchBatch is how many changes one step looks at: bounded work under the log's mutex.
const watchBatch = 256

// Watch begins to follow a scope, from token if it is not empty: at the change after the one that came with the token, or
// with a snapshot when the past is gone. A token of another scope: ErrToken. The caller ends it with Watcher.Close.
func (n *Node) Watch(s Scope, token string) (*Watcher, error) {
	if n.draining.Load() {
		return nil, ErrDraining
	}
	w := &Watcher{node: n, scope: s, hash: s.hash(), done: make(chan struct{}), rooms: map[string]struct{}{}}
	for _, r := range s.Rooms {
		w.rooms[r] = struct{}{}
	}
	var pos uint64
	sameBoot := false
	if token != "" {
		var err error
		if pos, sameBoot, err = w.parseToken(token); err != nil {
			return nil, err
		}
	}
	if n.watchers.Add(1) > int64(n.cfg.MaxWatchers) {
		n.watchers.Add(-1)
		return nil, &Error{Code: Exhausted, Reason: "LIMIT_REACHED", Message: "the node has all the watchers it may have"}
	}
	w.ns = n.acquire(s.Namespace, false)
	if w.ns == nil {
		n.watchers.Add(-1)
		return nil, &Error{Code: Exhausted, Reason: "LIMIT_REACHED", Message: "the node has all the namespaces it may have"}
	}
	// One at a time, and with the namespace shared: a crowd of watchers that comes at once would otherwise keep everybody
	// else from connecting for as long as all their snapshots take.
	select {
	case n.snapshots <- struct{}{}:
	case <-n.drainCh:
		n.watchers.Add(-1)
		n.release(w.ns)
		return nil, ErrDraining
	}
	w.begin(token != "", sameBoot, pos)
	<-n.snapshots
	w.idle = time.NewTimer(n.cfg.BookmarkEvery)
	return w, nil
}

// presence is the namespace's log; the first watcher begins it.
func (ns *Namespace) presence() *presenceLog {
	ns.mu.RLock()
	l := ns.log
	ns.mu.RUnlock()
	if l != nil {
		return l
	}
	fresh := newPresenceLog(ns.node)
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.log == nil {
		ns.log = fresh
	}
	return ns.log
}

// begin takes the number and, unless it resumes, the snapshot in one moment, so that nothing is lost or doubled between.
func (w *Watcher) begin(resume, sameBoot bool, pos uint64) {
	ns := w.ns
	l := ns.presence()
	w.log = l
	ns.mu.RLock() // the log grows only with it whole
	defer ns.mu.RUnlock()
	l.mu.Lock()
	l.watchers[w] = struct{}{}
	resumed := resume && sameBoot && pos >= l.first && pos <= l.next
	w.pos = l.next
	if resumed {
		w.pos = pos
	}
	l.mu.Unlock()
	if resumed {
		return
	}
	w.reset = resume
	list := []SocketInfo{}
	if w.scope.All {
		list = make([]SocketInfo, 0, len(ns.sockets))
	}
	t := Target{Rooms: w.scope.Rooms, All: w.scope.All}
	ns.matchLocked(&t, func(s *Socket) {
		info := s.infoLocked()
		w.narrow(info)
		list = append(list, *info)
	})
	w.snapshot = &list
}

// Done is closed when the watcher was overtaken, whether or not Next is being called: Next then says ErrTooSlow.
func (w *Watcher) Done() <-chan struct{} { return w.done }

// Close ends the watch.
func (w *Watcher) Close() {
	w.log.mu.Lock()
	delete(w.log.watchers, w)
	w.log.mu.Unlock()
	w.idle.Stop()
	w.node.watchers.Add(-1)
	w.node.release(w.ns)
}

// Next blocks until there is a further step, ctx ends, or the watch does (ErrTooSlow, ErrDraining). For one goroutine.
// At ErrDraining a last step with Bookmark comes with the error.
func (w *Watcher) Next(ctx context.Context) (WatchStep, error) {
	switch {
	case w.reset:
		w.reset = false
		return WatchStep{Reset: true}, nil
	case w.snapshot != nil:
		list := *w.snapshot
		w.snapshot = nil
		if len(list) > 0 {
			return WatchStep{Snapshot: list}, nil
		}
	}
	if !w.synced {
		w.synced = true
		return WatchStep{Synced: true, Token: w.token(w.position())}, nil
	}
	for {
		events, pos, changed, err := w.read()
		if err != nil {
			return WatchStep{}, err
		}
		if len(events) > 0 {
			w.idle.Reset(w.node.cfg.BookmarkEvery)
			return WatchStep{Events: events, Token: w.token(pos)}, nil
		}
		if changed == nil {
			continue // there is more, but none of it in scope so far
		}
		select {
		case <-changed:
		case <-w.done:
		case <-w.idle.C:
			w.idle.Reset(w.node.cfg.BookmarkEvery)
			return WatchStep{Bookmark: true, Token: w.token(pos)}, nil
		case <-w.node.drainCh:
			return WatchStep{Bookmark: true, Token: w.token(pos)}, ErrDraining
		case <-ctx.Done():
			return WatchStep{}, ctx.Err()
		}
	}
}

func (w *Watcher) position() uint64 {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return w.pos
}

// read takes the next changes in scope. changed is nil when there may be more, else closed by the next change.
func (w *Watcher) read() (events []PresenceEvent, pos uint64, changed <-chan struct{}, err error) {
	l := w.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.pos < l.first || w.ended {
		w.endLocked()
		return nil, 0, nil, ErrTooSlow
	}
	for n := 0; n < watchBatch && w.pos < l.next; n++ {
		if e, ok := w.see(l.at(w.pos)); ok {
			events = append(events, e)
		}
		w.pos++
	}
	if w.pos == l.next {
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed = l.changed
	}
	return events, w.pos, changed, nil
}

func (w *Watcher) endLocked() {
	if !w.ended {
		w.ended = true
		w.node.drops.add(dropWatcherSlow, 1)
		close(w.done)
	}
}

// see is a change as the scope has it; false: nothing of it is in scope.
func (w *Watcher) see(e *PresenceEvent) (PresenceEvent, bool) {
	if w.scope.All {
		return *e, true
	}
	seen := *e
	switch e.Kind {
	case PresenceUpdated:
		if !w.inScope(e.Socket, e.Socket.Rooms) {
			return seen, false
		}
	case PresenceConnected:
		seen.Kind = PresenceJoined
		fallthrough
	default:
		seen.Rooms = w.roomsInScope(e.Socket, e.Rooms, e.Kind)
		if len(seen.Rooms) == 0 {
			return seen, false
		}
	}
	info := *e.Socket
	w.narrow(&info)
	seen.Socket = &info
	return seen, true
}

func (w *Watcher) inScope(s *SocketInfo, rooms []string) bool {
	if _, own := w.rooms[string(s.ID)]; own {
		return true
	}
	return slices.ContainsFunc(rooms, func(r string) bool { _, ok := w.rooms[r]; return ok })
}

// roomsInScope are the rooms of a change in scope. A socket's own id is a room that it is in from connect to disconnect.
func (w *Watcher) roomsInScope(s *SocketInfo, rooms []string, kind PresenceKind) []string {
	var in []string
	for _, r := range rooms {
		if _, ok := w.rooms[r]; ok {
			in = append(in, r)
		}
	}
	if _, own := w.rooms[string(s.ID)]; own && (kind == PresenceConnected || kind == PresenceDisconnected) {
		in = append(in, string(s.ID))
	}
	return in
}

// narrow leaves of a socket's rooms those in scope.
func (w *Watcher) narrow(s *SocketInfo) {
	if !w.scope.All {
		s.Rooms = w.roomsInScope(s, s.Rooms, PresenceUpdated)
	}
}

// A resume token names the run of the node, the scope and the next change: 8 bytes each but the run, which is text.
const tokenVersion = 1

func (w *Watcher) token(pos uint64) string {
	b := append([]byte{tokenVersion}, w.node.boot...)
	b = append(b, w.hash[:]...)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, pos))
}

func (w *Watcher) parseToken(token string) (pos uint64, sameBoot bool, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	boot := len(w.node.boot)
	if err != nil || len(b) != 1+boot+8+8 || b[0] != tokenVersion || [8]byte(b[1+boot:]) != w.hash {
		return 0, false, ErrToken
	}
	return binary.BigEndian.Uint64(b[1+boot+8:]), string(b[1:1+boot]) == w.node.boot, nil
}

// hash is the same for scopes that mean the same.
func (s Scope) hash() [8]byte {
	rooms := slices.Compact(slices.Sorted(slices.Values(s.Rooms)))
	h := sha256.New()
	for _, part := range append([]string{s.Namespace}, rooms...) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		h.Write([]byte(part))
	}
	if s.All {
		h.Write([]byte{1})
	}
	return [8]byte(h.Sum(nil))
}
