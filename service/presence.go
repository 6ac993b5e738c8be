package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// ResetReason is why all that a watcher was told is of no use, so that a snapshot follows.
type ResetReason uint8

// The reasons, with the numbers of the API.
const (
	ResetNone         ResetReason = iota
	ResetTokenExpired             // the changes after the token are gone, or it is of another run of the node
	ResetNodeLost                 // a node is gone with its share of the past
	ResetGap                      // changes were missed, or came faster than the snapshot was taken
)

// WatchStep is one step of a watch: exactly one of its first five parts is set.
type WatchStep struct {
	Snapshot []SocketInfo // the next sockets in scope
	Synced   bool
	Events   []PresenceEvent
	Bookmark bool
	Reset    ResetReason
	Coverage Coverage // on Synced
	Token    string   // on Synced, Events and Bookmark
}

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
	reset    ResetReason // to be given out first
	walk     *snapshot   // until it is told, and all changes that it had in it are behind
	restarts int         // of it, since the log overtook it
	synced   bool
	idle     *time.Timer

	// Guarded by log.mu.
	pos     uint64 // number of the next change to look at
	walking bool   // the snapshot is not told yet
	ended   bool
	closed  bool
	held    int // bytes of the budget, for what was given out last
}

// watchBatch is how many changes one step looks at: bounded work under the log's mutex. watchBatchBytes is how many bytes
// they keep alive, or the last of them more.
const (
	watchBatch      = 256
	watchBatchBytes = 1 << 20
)

// Watch begins to follow a scope, from token if it is not empty: at the change after the one that came with the token, or
// with a snapshot when the past is gone. A token of another scope: ErrToken. The caller ends it with Watcher.Close.
func (n *Node) Watch(_ context.Context, s Scope, token string) (*Watcher, error) {
	if n.draining.Load() {
		return nil, ErrDraining
	}
	w := &Watcher{node: n, scope: s, hash: s.hash(), done: make(chan struct{}), rooms: map[string]struct{}{}}
	for _, r := range s.Rooms {
		w.rooms[r] = struct{}{}
	}
	var from position
	if token != "" {
		var err error
		if from, err = parsePosition(token, w.hash); err != nil {
			return nil, err
		}
	}
	if n.watchers.Add(1) > int64(n.cfg.MaxWatchers) {
		n.watchers.Add(-1)
		return nil, &Error{Code: Exhausted, Reason: "LIMIT_REACHED", Message: fmt.Sprintf("the node has %d watches, and takes no more", n.cfg.MaxWatchers)}
	}
	w.ns = n.acquire(s.Namespace, false, "")
	if w.ns == nil {
		n.watchers.Add(-1)
		return nil, &Error{
			Code: Exhausted, Reason: "LIMIT_REACHED", Field: "namespace",
			Message: fmt.Sprintf("the node has %d namespaces, and takes no more", n.cfg.MaxNamespaces),
		}
	}
	if !w.enter(from) {
		if token != "" {
			w.reset = ResetTokenExpired
		}
		w.startWalk()
	}
	w.idle = time.NewTimer(n.cfg.BookmarkEvery)
	return w, nil
}

// enter begins the log if there is none, and says whether the changes from a position on are still there. They stay
// until the watcher has seen them, or is told that it was overtaken.
func (w *Watcher) enter(from position) (resumed bool) {
	n, ns := w.node, w.ns
	n.mu.RLock()
	above := n.logsEnd
	n.mu.RUnlock()
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.log == nil {
		ns.log = newPresenceLog(ns, max(above, ns.logEnd))
	}
	l := ns.log
	w.log = l
	l.mu.Lock()
	defer l.mu.Unlock()
	l.enterLocked(w)
	w.pos = l.next
	next, own := from.only(n.self)
	if resumed = own && next >= l.first && next <= l.next; resumed {
		w.pos = next
	}
	w.walking = !resumed
	return resumed
}

// Done is closed when the watcher was overtaken, whether or not Next is being called: Next then says ErrTooSlow.
func (w *Watcher) Done() <-chan struct{} { return w.done }

// Close ends the watch. A call of Next may still be on its way.
func (w *Watcher) Close() {
	w.letGo(true)
	w.log.leave(w)
	w.idle.Stop()
	w.node.watchers.Add(-1)
	w.node.release(w.ns)
}

// Next blocks until there is a further step, ctx ends, or the watch does (ErrTooSlow, ErrDraining, ErrBudget). For one
// goroutine. The step before is done with. At ErrDraining a last step with Bookmark comes with the error, unless the
// snapshot was not told yet.
func (w *Watcher) Next(ctx context.Context) (WatchStep, error) {
	w.letGo(false)
	if reset := w.reset; reset != ResetNone {
		w.reset = ResetNone
		return WatchStep{Reset: reset}, nil
	}
	if w.walk != nil && !w.synced {
		list, err := w.page(ctx)
		switch {
		case errors.Is(err, errOvertaken):
			return WatchStep{Reset: ResetGap}, nil
		case err != nil:
			return WatchStep{}, err
		case len(list) > 0:
			return WatchStep{Snapshot: list}, nil
		}
	}
	if !w.synced {
		w.synced = true
		return WatchStep{Synced: true, Token: w.token(w.heardAll())}, nil
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

// heardAll is the number of the first change that the watcher was not told.
func (w *Watcher) heardAll() uint64 {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	return w.pos
}

// token is that of the changes before a number. It is of no use until the changes that the snapshot had in it are
// behind: whoever resumed among them would hear what it was told already.
func (w *Watcher) token(next uint64) string {
	if w.walk != nil {
		return position(nil).token(w.hash)
	}
	return position{{w.node.self, next}}.token(w.hash)
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
	bytes := 0
	for n := 0; n < watchBatch && bytes < watchBatchBytes && w.pos < l.next; n++ {
		c := l.at(w.pos)
		if e, ok := w.see(c, w.pos); ok {
			events = append(events, e)
			bytes += c.cost
		}
		w.passLocked()
	}
	if len(events) > 0 && !w.closed {
		// They are in memory however spent the budget is, and perhaps in nobody else's any more.
		w.held = bytes
		w.node.cfg.Budget.Force(UsePresence, bytes)
	}
	if w.pos == l.next {
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed = l.changed
	}
	return events, w.pos, changed, nil
}

// hold takes bytes of the budget until the next step is asked for. false: it is spent.
func (w *Watcher) hold(bytes int) bool {
	if !w.node.cfg.Budget.Take(UsePresence, bytes) {
		w.node.budgetSpent(UsePresence)
		return false
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	if w.closed {
		w.node.cfg.Budget.Give(UsePresence, bytes)
		return true
	}
	w.held = bytes
	return true
}

// letGo gives back what the step before held.
func (w *Watcher) letGo(forGood bool) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.closed = w.closed || forGood
	w.node.cfg.Budget.Give(UsePresence, w.held)
	w.held = 0
}

// patienceLocked is how many changes the log may be ahead of a watcher before it is told that it is too slow.
func (w *Watcher) patienceLocked() uint64 {
	if w.walking {
		return uint64((maxRestarts + 1) * w.node.cfg.PresenceLog)
	}
	return 0
}

func (w *Watcher) endLocked() {
	if !w.ended {
		w.ended = true
		w.node.drops.add(dropWatcherSlow, 1)
		close(w.done)
	}
}

// see is a change as the scope has it; false: nothing of it is in scope, or the snapshot had it in it.
func (w *Watcher) see(c *change, number uint64) (PresenceEvent, bool) {
	e := &c.PresenceEvent
	if w.walk.has(c.seq, number) {
		return PresenceEvent{}, false
	}
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
