package service

import (
	"slices"
	"time"
)

// others is what a followed namespace has of the sockets of other nodes. Guarded by Namespace.mu.
type others struct {
	owners map[NodeID]*owner // those that have told all that they have
	coming map[NodeID]*owner // those that are telling it: nobody is told of it yet
	copies roster[*replica]  // of both
}

// owner is a node as a followed namespace here knows it: its run, how far its news was heard, and a copy of each of its
// sockets there. Guarded by Namespace.mu.
type owner struct {
	Incarnation
	whole   bool   // all was told: its sockets are in snapshots, and its news in the log
	next    uint64 // number of the change that is to come
	first   uint64 // number from which on the log has all changes
	place   uint64 // where the log says that it has told all; what is before is of an earlier time
	risen   uint64 // the generation that each of its sockets has at least
	lowest  uint64 // the lowest generation in which one of its sockets came; 0: none has come
	sockets map[SocketID]*replica
}

// replica is a copy of what ViewBasic shows of a socket elsewhere.
type replica struct {
	seq   uint64
	place uint32
	owner *owner
	info  *SocketInfo // replaced, never changed
}

func (r *replica) slot() *uint32 { return &r.place }

// replicaBytes is what a copy takes beside the texts in it: its entries in the map and the roster, and the two objects.
const replicaBytes = 192

// Told is a piece of what a node tells of its own sockets in a namespace: first all that there are, unless the listener
// has heard of them before, then the changes. It is shared, and not to be changed.
type Told struct {
	Begin   bool            // a new telling begins: what was told in an earlier one is replaced when this one is whole
	Sockets []SocketInfo    // some of those that there are
	Changes []PresenceEvent // behind them, by their numbers
	From    uint64          // number of the first change that may be among Changes
	Next    uint64          // number of the first one that follows them; 0: no changes are told yet
	Whole   bool            // with this piece all is told that there is, and from here on every change is
}

// Heard takes what another node told of its sockets in a namespace, in its order. What does not go on from what was
// heard before has no effect; then it says false: the namespace is not followed here any more, or has to be followed
// anew.
func (n *Node) Heard(of Incarnation, namespace string, t *Told) bool {
	ns := n.namespace(namespace)
	if ns == nil {
		return false
	}
	ns.mu.Lock()
	l := ns.log
	if l == nil || l.others == nil {
		ns.mu.Unlock()
		return false
	}
	ok, kept := l.hearLocked(of, t)
	if kept {
		ns.mu.Unlock()
		return ok
	}
	l.giveUpLocked()
	ns.mu.Unlock()
	n.release(ns)
	return false
}

// hearLocked says whether what was told went on from what was heard before, and whether there was memory for it.
func (l *presenceLog) hearLocked(of Incarnation, t *Told) (ok, kept bool) {
	x := l.others
	if t.Begin {
		l.forgetLocked(x.coming[of.Node])
		x.coming[of.Node] = &owner{Incarnation: of, sockets: map[SocketID]*replica{}}
	}
	o := x.coming[of.Node]
	if o == nil {
		o = x.owners[of.Node]
	}
	if o == nil || o.Incarnation != of || o.whole && (t.From != o.next || len(t.Sockets) > 0) {
		return false, true
	}
	for i := range t.Sockets {
		if kept = l.keepLocked(o, &t.Sockets[i]); !kept {
			return false, false
		}
	}
	for i := range t.Changes {
		if e := &t.Changes[i]; e.Number >= o.next {
			if kept = l.applyLocked(o, e); !kept {
				return false, false
			}
		}
	}
	o.next = max(o.next, t.Next)
	if t.Whole && !o.whole {
		delete(x.coming, of.Node)
		l.arriveLocked(o)
	}
	return true, true
}

// applyLocked takes a change of an owner's socket. What is older than what is known, or of a socket that is not, has no
// effect.
func (l *presenceLog) applyLocked(o *owner, e *PresenceEvent) (kept bool) {
	o.next = e.Number + 1
	if e.Kind == PresenceRisen {
		o.risen = max(o.risen, e.Socket.Generation)
		if o.whole {
			l.append(&change{PresenceEvent: *e, owner: o, cost: entryBytes})
		}
		return true
	}
	r := o.sockets[e.Socket.ID]
	if (r == nil) != (e.Kind == PresenceConnected) || r != nil && e.Socket.Generation <= r.info.Generation {
		l.ns.node.drops.add(dropPresence, 1)
		return true
	}
	released := 0
	switch {
	case r == nil:
		if !l.keepLocked(o, e.Socket) {
			return false
		}
		r = o.sockets[e.Socket.ID]
	case e.Kind == PresenceDisconnected:
		released = r.info.bytes() + replicaBytes
		l.ns.node.letCopiesGo(released)
		delete(o.sockets, e.Socket.ID)
		l.others.copies.remove(r)
	default:
		info := basic(e.Socket)
		released = r.info.bytes()
		if !l.roomForCopy(info.bytes()) {
			return false
		}
		l.ns.node.letCopiesGo(released)
		r.info = info
	}
	if o.whole {
		c := change{PresenceEvent: *e, seq: r.seq, owner: o}
		c.cost = entryBytes + roomNameBytes*len(e.Rooms) + len(e.Detail) + len(e.Socket.Data) + released
		if h := e.Socket.Handshake; h != nil {
			c.cost += h.Bytes()
		}
		l.append(&c)
	}
	return true
}

// keepLocked makes a copy of a socket that there is none of.
func (l *presenceLog) keepLocked(o *owner, s *SocketInfo) (kept bool) {
	if o.sockets[s.ID] != nil { // an honest node tells each once
		l.ns.node.drops.add(dropPresence, 1)
		return true
	}
	info := basic(s)
	if !l.roomForCopy(info.bytes() + replicaBytes) {
		return false
	}
	l.ns.seq++
	r := &replica{seq: l.ns.seq, owner: o, info: info}
	o.sockets[s.ID] = r
	if o.lowest == 0 || s.Generation < o.lowest {
		o.lowest = s.Generation
	}
	l.others.copies.add(r.seq, r)
	return true
}

// basic is what ViewBasic shows of a socket.
func basic(s *SocketInfo) *SocketInfo {
	b := *s
	b.Data, b.Handshake, b.Auth = nil, nil, nil
	if !slices.IsSorted(b.Rooms) {
		b.Rooms = slices.Sorted(slices.Values(b.Rooms))
	}
	return &b
}

// arriveLocked makes an owner that has told all known to watchers. If they know it already, in the same run, they have
// missed some of its news, and begin anew.
func (l *presenceLog) arriveLocked(o *owner) {
	x := l.others
	all := &roll{}
	if was := x.owners[o.Node]; was != nil && was.Incarnation == o.Incarnation {
		all.gap = true
		l.forgetLocked(was)
	} else {
		l.loseLocked(was, ReasonNodeLost)
		all.list = x.list(o)
	}
	all.term = o.term()
	x.owners[o.Node] = o
	o.whole, o.first, o.place = true, o.next, l.next
	c := change{owner: o, all: all, cost: entryBytes + 16*len(all.list)}
	c.Kind, c.Time, c.Number = PresenceConnected, time.Now(), o.next
	l.append(&c)
	l.ownersChanged()
}

// loseLocked tells watchers that an owner's sockets are gone.
func (l *presenceLog) loseLocked(o *owner, why Reason) {
	if o == nil {
		return
	}
	all := &roll{list: l.others.list(o)}
	all.term = o.risen >> termShift
	for i := range all.list {
		all.held += all.list[i].info.bytes() + replicaBytes
		all.term = max(all.term, all.list[i].info.Generation>>termShift)
	}
	l.others.remove(o)
	delete(l.others.owners, o.Node)
	c := change{owner: o, all: all, cost: entryBytes}
	c.Kind, c.Time, c.Reason, c.Number = PresenceDisconnected, time.Now(), why, o.next
	l.append(&c)
}

// term is the one in which each of its sockets counts at least.
func (o *owner) term() uint64 {
	if o.lowest == 0 {
		return wasLost - 1 // there is none of an earlier time
	}
	return max(o.lowest, o.risen) >> termShift
}

// shown is a copy of what is known, as it counts since its owner has risen.
func (r *replica) shown() *SocketInfo {
	info := *r.info
	if info.Generation < r.owner.risen {
		info.Generation = r.owner.risen + info.Generation&(1<<termShift-1)
	}
	return &info
}

// riseLocked takes note of the node's term, with the namespace's mutex held. It is a change with a number: a watcher
// that has heard it elsewhere has heard more than one that has not.
func (l *presenceLog) riseLocked() {
	ns := l.ns
	term := ns.node.term.Load()
	if term <= ns.term.Load() {
		return
	}
	ns.term.Store(term)
	e := change{cost: entryBytes}
	e.Kind, e.Time, e.Socket = PresenceRisen, time.Now(), &SocketInfo{Generation: term << termShift}
	l.append(&e)
}

// list is what is known of an owner's sockets, in the order in which it was heard.
func (x *others) list(o *owner) []known {
	list := make([]known, 0, len(o.sockets))
	for i := range x.copies.entries {
		r := x.copies.entries[i].socket
		if r == nil || r.owner != o {
			continue
		}
		info := r.info
		if info.Generation < o.risen {
			info = r.shown()
		}
		list = append(list, known{r.seq, info})
	}
	return list
}

// remove takes out the copies of an owner.
func (x *others) remove(o *owner) {
	x.copies.removeAll(func(r *replica) bool { return r.owner == o })
	o.sockets = nil
}

// forgetLocked drops the copies of an owner that nobody is told of.
func (l *presenceLog) forgetLocked(o *owner) {
	if o == nil {
		return
	}
	bytes := 0
	for _, r := range o.sockets {
		bytes += r.info.bytes() + replicaBytes
	}
	l.ns.node.letCopiesGo(bytes)
	l.others.remove(o)
}

// Lost says that a node is lost, or gone with a goodbye: each of its sockets that watchers know of is disconnected, for
// that reason. What it told and did not end counts no more.
func (n *Node) Lost(of Incarnation, why Reason) {
	for _, ns := range n.all() {
		ns.mu.Lock()
		if l := ns.log; l != nil && l.others != nil {
			if o := l.others.coming[of.Node]; o != nil && o.Incarnation == of {
				delete(l.others.coming, of.Node)
				l.forgetLocked(o)
			}
			if o := l.others.owners[of.Node]; o != nil && o.Incarnation == of {
				l.loseLocked(o, why)
			}
			l.ownersChanged()
		}
		ns.mu.Unlock()
	}
}

// ownersChanged wakes those that wait for owners.
func (l *presenceLog) ownersChanged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.arrived != nil {
		close(l.arrived)
		l.arrived = nil
	}
}

// followLocked begins to follow the other nodes in the namespace, with its mutex held. true: it did, and the caller is
// to count another user of the namespace, which the code that ends it gives back.
func (l *presenceLog) followLocked() bool {
	if l.ns.node.watches == nil || l.others != nil {
		return false
	}
	l.others = &others{owners: map[NodeID]*owner{}, coming: map[NodeID]*owner{}}
	l.ns.node.watches.Follow(l.ns.name, true)
	return true
}

// unfollowLocked lets go of all that is known of other nodes, with the namespace's mutex held and nobody left to be
// told. true: the caller is to release the namespace when it has let go of the mutex.
func (l *presenceLog) unfollowLocked() bool {
	if l.others == nil {
		return false
	}
	bytes := 0
	for i := range l.others.copies.entries {
		if r := l.others.copies.entries[i].socket; r != nil {
			bytes += r.info.bytes() + replicaBytes
		}
	}
	l.ns.node.letCopiesGo(bytes)
	l.others = nil
	l.ns.node.watches.Follow(l.ns.name, false)
	return true
}

// giveUpLocked ends all watches of the namespace, as there is no memory for what they are about. The caller is to
// release the namespace.
func (l *presenceLog) giveUpLocked() {
	l.unfollowLocked()
	l.mu.Lock()
	defer l.mu.Unlock()
	for w := range l.watchers {
		if w.wake == nil {
			w.endLocked(ErrPresenceBytes)
		}
	}
}

// roomForCopy takes bytes for a copy. What the log still knows of nodes that are lost goes before anything is refused.
func (l *presenceLog) roomForCopy(bytes int) bool {
	n := l.ns.node
	if n.keepCopies(bytes) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	dead := l.first
	for i := l.first; i < l.next; i++ {
		if e := l.at(i); e.all != nil && e.all.held > 0 {
			dead = i + 1
		}
	}
	for l.first < dead {
		l.evictLocked()
	}
	return n.keepCopies(bytes)
}

// keepCopies takes bytes for copies; false: there are none left.
func (n *Node) keepCopies(bytes int) bool {
	if n.copied.Add(int64(bytes)) > int64(n.cfg.PresenceBytes) || !n.cfg.Budget.Take(UsePresence, bytes) {
		n.copied.Add(-int64(bytes))
		return false
	}
	return true
}

func (n *Node) letCopiesGo(bytes int) {
	n.copied.Add(-int64(bytes))
	n.cfg.Budget.Give(UsePresence, bytes)
}
