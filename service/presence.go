package service

import (
	"context"
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
	// PresenceRisen is none of a socket, and told to other nodes only: all sockets of the node count for more from here
	// on, as the generation of Socket does, which is none of them.
	PresenceRisen
)

// PresenceEvent is one change of one socket. Shared by all watchers: not to be changed.
type PresenceEvent struct {
	Kind   PresenceKind
	Reason Reason
	Socket *SocketInfo // after the change; of a disconnect: with the rooms it left
	Rooms  []string    // of this change
	Number uint64      // among the changes of the socket's node, which counts them without a gap
	Time   time.Time
	Detail string
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
	wake  func() // of a feed: called, with locks, when there is more to tell; nil: this is none
	most  int    // of a feed: bytes of a page and of the changes of one step; owned by the caller of Next

	// Owned by the caller of Next.
	reset    ResetReason // to be given out first
	walk     *snapshot   // until it is told, and all changes that it had in it are behind
	restarts int         // of it, since the log overtook it
	synced   bool
	idle     *time.Timer
	own      uint64   // number of the first change of this node that it was not told
	heard    position // the same of the others that it was told of
	resumed           // how it goes on behind a token

	// Guarded by log.mu.
	pos     uint64 // place of the next change to look at
	inside  int    // how much of it was looked at, when it is about many
	walking bool   // the snapshot is not told yet
	ended   error  // why; nil: it goes on
	closed  bool
	held    int // bytes of the budget, for what was given out last
}

// watchBatch is how many changes one step looks at: bounded work under the log's mutex. watchBatchBytes is how many
// bytes they keep alive, or the last of them more.
const (
	watchBatch      = 256
	watchBatchBytes = 1 << 20
)

// Watch begins to follow a scope, from token if it is not empty: at the change after the one that came with the token,
// or with a snapshot when the past is gone. A token of another scope: ErrToken. It waits for what the other nodes have
// to tell, as long as ctx lasts and gatherWithin at most. The caller ends it with Watcher.Close.
func (n *Node) Watch(ctx context.Context, s Scope, token string) (*Watcher, error) {
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
	ns := n.acquire(s.Namespace, false, "")
	if ns == nil {
		n.watchers.Add(-1)
		return nil, &Error{
			Code: Exhausted, Reason: "LIMIT_REACHED", Field: "namespace",
			Message: fmt.Sprintf("the node has %d namespaces, and takes no more", n.cfg.MaxNamespaces),
		}
	}
	w.enter(ns)
	w.idle = time.NewTimer(n.cfg.BookmarkEvery)
	w.gather(ctx)
	if token == "" {
		w.startWalk()
	} else if w.reset = w.resume(ctx, from); w.reset != ResetNone {
		w.startWalk()
	}
	return w, nil
}

// enter takes a namespace, of which it is a user, begins its log if there is none, and has the other nodes followed.
func (w *Watcher) enter(ns *Namespace) {
	n := w.node
	n.mu.RLock()
	above := n.logsEnd
	n.mu.RUnlock()
	ns.mu.Lock()
	if ns.log == nil {
		ns.log = newPresenceLog(ns, max(above, ns.logEnd))
	}
	l := ns.log
	w.ns, w.log = ns, l
	l.mu.Lock()
	l.enterLocked(w)
	w.pos, w.walking = l.next, true // it is not overtaken before it has begun
	l.mu.Unlock()
	l.riseLocked()
	follows := w.wake == nil && l.followLocked()
	ns.mu.Unlock()
	if follows {
		n.acquire(ns.name, true, "")
	}
}

// Done is closed when the watch was ended by the node, whether or not Next is being called: Next then says why.
func (w *Watcher) Done() <-chan struct{} { return w.done }

// Close ends the watch. A call of Next may still be on its way.
func (w *Watcher) Close() {
	w.letGo(true)
	w.log.leave(w)
	if w.wake == nil {
		w.idle.Stop()
		w.node.watchers.Add(-1)
	}
	w.node.release(w.ns)
}

// Next blocks until there is a further step, ctx ends, or the watch does (ErrTooSlow, ErrDraining, ErrBudget,
// ErrPresenceBytes). For one goroutine. The step before is done with. At ErrDraining a last step with Bookmark comes
// with the error, unless the snapshot was not told yet.
func (w *Watcher) Next(ctx context.Context) (WatchStep, error) {
	w.letGo(false)
	if reset := w.reset; reset != ResetNone {
		w.reset = ResetNone
		return WatchStep{Reset: reset}, nil
	}
	if !w.synced && w.walk != nil && !w.walk.news {
		if list, err := w.page(ctx); err != nil || len(list) > 0 {
			return w.stepOf(WatchStep{Snapshot: list}, err)
		}
	}
	if !w.synced {
		w.synced = true
		c, _ := w.coverage()
		return WatchStep{Synced: true, Token: w.token(), Coverage: c}, nil
	}
	if events, err := w.missed(ctx); err != nil || len(events) > 0 {
		return w.stepOf(WatchStep{Events: events, Token: w.token()}, err)
	}
	for {
		events, end, changed, err := w.read()
		if err != nil {
			return w.stepOf(WatchStep{}, err)
		}
		if len(events) > 0 {
			w.idle.Reset(w.node.cfg.BookmarkEvery)
			return WatchStep{Events: events, Token: w.token()}, nil
		}
		if !end {
			continue // there is more, but none of it in scope so far
		}
		select {
		case <-changed:
		case <-w.done:
		case <-w.idle.C:
			w.idle.Reset(w.node.cfg.BookmarkEvery)
			return WatchStep{Bookmark: true, Token: w.token()}, nil
		case <-w.node.drainCh:
			return WatchStep{Bookmark: true, Token: w.token()}, ErrDraining
		case <-ctx.Done():
			return WatchStep{}, ctx.Err()
		}
	}
}

// voided is why what a watcher was told is void, so that its snapshot has begun anew.
type voided ResetReason

func (voided) Error() string { return "a snapshot begins anew" }

// stepOf is a step, or the reset or the error that came instead of it.
func (w *Watcher) stepOf(step WatchStep, err error) (WatchStep, error) {
	if v, ok := err.(voided); ok { //nolint:errorlint // it is made here and wrapped by nobody
		return WatchStep{Reset: ResetReason(v)}, nil
	}
	if err != nil {
		return WatchStep{}, err
	}
	return step, nil
}

// token is that of the changes that were looked at. It is of no use until the changes that the snapshot had in it are
// behind, nor between those of one roll: a watcher that resumed among them would hear what it was told already.
func (w *Watcher) token() string {
	if w.walk != nil || w.inside > 0 || len(w.heard) >= maxHeard {
		return position(nil).token(w.hash)
	}
	return append(position{{w.node.self, w.own}}, w.heard...).token(w.hash)
}

// read takes the next changes in scope. end says that there are no more for now; then changed is closed by the next
// one.
func (w *Watcher) read() (events []PresenceEvent, end bool, changed <-chan struct{}, err error) {
	events, void, end, changed, err := w.readLocked()
	if void != ResetNone && len(events) == 0 { // else they come first
		w.startWalk()
		return nil, false, nil, voided(void)
	}
	return events, end, changed, err
}

// readLocked takes the log's mutex. void is why all that was told so far is of no use.
func (w *Watcher) readLocked() (events []PresenceEvent, void ResetReason, end bool, changed <-chan struct{}, err error) {
	l := w.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.pos < l.first || w.ended != nil {
		w.endLocked(ErrTooSlow)
		return nil, ResetNone, false, nil, w.ended
	}
	bytes := 0
	for looked := 0; looked < watchBatch && bytes < w.stepBytes() && w.pos < l.next; looked++ {
		c := l.at(w.pos)
		if !w.skips(c) {
			if void = w.voids(c); void != ResetNone {
				break
			}
			if c.all != nil {
				var all bool
				if events, bytes, all = w.seeAll(c, events, bytes); !all {
					break
				}
			} else if e, ok := w.see(c); ok {
				events = append(events, e)
				bytes += w.weigh(c)
			}
			w.advance(c)
		}
		w.passLocked()
	}
	if len(events) > 0 && !w.closed {
		// They are in memory however spent the budget is, and perhaps in nobody else's any more.
		w.held = bytes
		w.node.cfg.Budget.Force(UsePresence, bytes)
	}
	if end = w.pos == l.next; !end {
		return events, void, false, nil, nil
	}
	if w.wake == nil {
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
	} else if len(events) == 0 && !slices.Contains(l.idle, w) {
		l.idle = append(l.idle, w)
	}
	return events, void, true, l.changed, nil
}

// weigh is how many bytes a change keeps alive, or takes when it is told to another node.
func (w *Watcher) weigh(c *change) int {
	if w.wake == nil || c.Socket.Handshake == nil {
		return c.cost
	}
	return c.cost + c.Socket.bytes() + c.Socket.Handshake.Bytes()
}

// hold takes bytes of the budget until the next step is asked for. false: it is spent.
func (w *Watcher) hold(bytes int) bool {
	if w.wake != nil { // what others are told is little, and must not stop
		w.node.cfg.Budget.Force(UsePresence, bytes)
	} else if !w.node.cfg.Budget.Take(UsePresence, bytes) {
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
	if w.closed = w.closed || forGood; w.closed {
		w.letPastGoLocked()
	}
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

func (w *Watcher) endLocked(why error) {
	if w.ended != nil {
		return
	}
	w.ended = why
	if why == ErrTooSlow { //nolint:errorlint // it is this very one
		w.node.drops.add(dropWatcherSlow, 1)
	}
	close(w.done)
	if w.wake != nil {
		w.wake()
	}
}

// passLocked goes past a change, and lets the snapshot go where all further changes are news.
func (w *Watcher) passLocked() {
	w.pos++
	w.inside = 0
	if w.walk != nil && w.walk.done && w.pos >= w.walk.reached() {
		w.walk = nil
	}
}

// advance notes how far was heard of a node.
func (w *Watcher) advance(c *change) {
	if c.owner == nil {
		w.own = c.Number + 1
		return
	}
	i := slices.IndexFunc(w.heard, func(h heard) bool { return h.Node == c.owner.Node })
	switch {
	case c.all != nil && c.Kind == PresenceDisconnected:
		if i >= 0 {
			w.heard[i].next = wasLost | c.all.term
		}
	case c.all != nil:
		w.hears(heard{c.owner.Incarnation, c.Number})
	case i >= 0:
		w.heard[i].next = c.Number + 1
	}
}

// hears notes how far a node was heard of which nothing was heard before, or that it was lost. A node that is lost for
// long makes room for one that is there.
func (w *Watcher) hears(h heard) {
	w.heard = slices.DeleteFunc(w.heard, func(o heard) bool { return o.Node == h.Node })
	if len(w.heard) >= maxHeard-2 {
		if i := slices.IndexFunc(w.heard, func(o heard) bool { _, lost := o.lost(); return lost }); i >= 0 {
			w.heard = slices.Delete(w.heard, i, i+1)
		}
	}
	w.heard = append(w.heard, h)
}

// see is a change as the scope has it; false: nothing of it is in scope, or the snapshot had it in it.
func (w *Watcher) see(c *change) (PresenceEvent, bool) {
	if c.Kind == PresenceRisen {
		return c.PresenceEvent, w.wake != nil
	}
	if w.walk.has(c, w.pos) {
		return PresenceEvent{}, false
	}
	return w.scoped(&c.PresenceEvent)
}

// scoped is a change as the scope has it, if it has any of it.
func (w *Watcher) scoped(e *PresenceEvent) (PresenceEvent, bool) {
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

// seeAll goes on with a change of all sockets of an owner, with the log's mutex held. all: it is behind.
func (w *Watcher) seeAll(c *change, events []PresenceEvent, bytes int) (_ []PresenceEvent, _ int, all bool) {
	one := change{PresenceEvent: c.PresenceEvent, owner: c.owner}
	for looked := 0; w.inside < len(c.all.list); looked++ {
		if len(events) >= min(watchBatch, w.node.pageSockets) || bytes >= watchBatchBytes || looked == pageWork {
			return events, bytes, false
		}
		k := c.all.list[w.inside]
		w.inside++
		one.seq, one.Socket, one.Rooms = k.seq, k.info, k.info.Rooms
		if e, ok := w.see(&one); ok {
			events = append(events, e)
			bytes += entryBytes
		}
	}
	return events, bytes, true
}

func (w *Watcher) inScope(s *SocketInfo, rooms []string) bool {
	if _, own := w.rooms[string(s.ID)]; own {
		return true
	}
	return slices.ContainsFunc(rooms, func(r string) bool { _, ok := w.rooms[r]; return ok })
}

// roomsInScope are the rooms of a change in scope. A socket's own id is a room that it is in from connect to
// disconnect.
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
