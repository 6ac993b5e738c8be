package adapter

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// The simulator's presence. In place of the service each node has a registry of sockets with a short log, what it tells
// to followers, and the copies of what it was told. Followers keep, beside them, the story that their watchers were
// told.

const (
	simSpace = "/"
	simLog   = 40 // changes that a log keeps
)

// simPresence is that of one run of a node.
type simPresence struct {
	term    uint64
	made    int               // sockets, ever
	here    map[string]uint64 // sockets here, with the number of their changes
	log     []simChange       // the newest of them
	next    uint64            // number of the next change
	follows bool
	feeds   map[service.Incarnation]*simFeed
	copies  map[service.NodeID]*simCopies // whole ones
	coming  map[service.NodeID]*simCopies
	told    map[string]uint64 // generation of each socket that was told of, ever
	there   map[string]bool   // those that were told to be there
	serves  bool              // clients and watchers may come
}

type simChange struct {
	kind   service.PresenceKind
	id     string
	of     uint64 // the number of the socket's changes, or the term
	number uint64
}

// simFeed is what one follower is told.
type simFeed struct {
	number uint64
	left   []string // of the snapshot
	begins bool
	next   uint64
	said   bool // that all is told
}

// simCopies is what one node was told by another one.
type simCopies struct {
	of      service.Incarnation
	sockets map[string]uint64 // generations
	risen   uint64
	next    uint64
}

func newSimPresence() *simPresence {
	return &simPresence{
		here: map[string]uint64{}, next: 1, feeds: map[service.Incarnation]*simFeed{}, copies: map[service.NodeID]*simCopies{},
		coming: map[service.NodeID]*simCopies{}, told: map[string]uint64{}, there: map[string]bool{},
	}
}

func (n *simNode) Risen(term uint64) {
	if term <= n.presence.term {
		n.fail("%s rises from term %d to %d", n.id.Node, n.presence.term, term)
	}
	n.presence.term = term
	n.change(service.PresenceRisen, "")
}

// change is one of a socket of this node.
func (n *simNode) change(kind service.PresenceKind, id string) {
	s := n.presence
	of := s.term
	switch kind {
	case service.PresenceRisen:
	case service.PresenceDisconnected:
		of = s.here[id] + 1
		delete(s.here, id)
	default:
		s.here[id]++
		of = s.here[id]
	}
	s.log = append(s.log, simChange{kind, id, of, s.next})
	s.next++
	s.log = s.log[max(0, len(s.log)-simLog):]
}

// serve lets the first watchers and sockets come when the node is ready.
func (n *simNode) serve() {
	if n.presence.serves || !n.ready {
		return
	}
	n.presence.serves = true
	n.live(n.IntN(10))
	if n.IntN(4) > 0 {
		n.watch()
	}
}

// live lets sockets come, go and change.
func (n *simNode) live(times int) {
	s := n.presence
	for range times {
		ids := slices.Sorted(maps.Keys(s.here))
		switch k := n.IntN(10); {
		case k < 4 && len(ids) < 60 || len(ids) == 0:
			s.made++
			id := string(n.id.Node) + strconv.FormatUint(n.id.Run%1_000_000_000, 10) + "x" + strconv.Itoa(s.made)
			n.change(service.PresenceConnected, id+strings.Repeat("-", socketIDLen-len(id)))
		case k < 6:
			n.change(service.PresenceDisconnected, ids[n.IntN(len(ids))])
		default:
			n.change(service.PresenceUpdated, ids[n.IntN(len(ids))])
		}
	}
}

// hearFollow begins what a follower is told.
func (n *simNode) hearFollow(from Member, wish *clusterv1.Follow) {
	s := n.presence
	old := s.feeds[from.Incarnation]
	if wish.GetEnd() {
		if old != nil && old.number == wish.GetNumber() {
			delete(s.feeds, from.Incarnation)
		}
		return
	}
	if old != nil && old.number > wish.GetNumber() {
		return
	}
	f := &simFeed{number: wish.GetNumber(), next: wish.GetNext()}
	if first := s.next - uint64(len(s.log)); f.next < first || f.next > s.next || f.next == 0 {
		f.begin(s)
	}
	s.feeds[from.Incarnation] = f
}

func (f *simFeed) begin(s *simPresence) {
	f.begins, f.left, f.next, f.said = true, slices.Sorted(maps.Keys(s.here)), s.next, false
}

// feed tells all followers what there is and finds room.
func (n *simNode) feed() {
	s := n.presence
	for _, to := range slices.SortedFunc(maps.Keys(s.feeds), func(a, b service.Incarnation) int { return strings.Compare(string(a.Node), string(b.Node)) }) {
		for f := s.feeds[to]; n.p.Roomy(to, 0); {
			was := *f
			m := n.piece(f)
			if m == nil {
				break
			}
			m.Number, m.Namespace = f.number, simSpace
			if !n.p.Feed(to, presenceItem(m)) {
				*f = was
				break
			}
		}
	}
}

// piece is the next one of a feed; nil: there is none. A socket is told as it is now, so changes that it had are left
// out.
func (n *simNode) piece(f *simFeed) *clusterv1.Presence {
	s := n.presence
	first := s.next - uint64(len(s.log))
	if f.next < first {
		f.begin(s)
	}
	m := &clusterv1.Presence{Begin: f.begins}
	for ; len(f.left) > 0 && len(m.Sockets) < 5; f.left = f.left[1:] {
		if of, here := s.here[f.left[0]]; here {
			m.Sockets = append(m.Sockets, &clusterv1.Socket{Id: f.left[0], Generation: s.term<<40 + of})
		}
	}
	begins := f.begins
	f.begins = false
	if len(f.left) > 0 {
		return m
	}
	m.From = f.next
	for f.next < s.next && len(m.Changes) < 5 {
		c := s.log[f.next-first]
		f.next++
		change := &clusterv1.Change{Kind: uint32(c.kind), Number: c.number, Socket: &clusterv1.Socket{Id: c.id, Generation: s.term<<40 + c.of}}
		if c.kind == service.PresenceRisen {
			change.Socket = &clusterv1.Socket{Generation: c.of << 40}
		}
		m.Changes = append(m.Changes, change)
	}
	m.Next, m.Whole = f.next, f.next == s.next || f.said
	if len(m.Changes) == 0 && len(m.Sockets) == 0 && f.said && !begins {
		return nil
	}
	f.said = f.said || m.Whole
	return m
}

// hearTold keeps what another node told.
func (n *simNode) hearTold(from Member, m *clusterv1.Presence) {
	s := n.presence
	if !s.follows {
		n.fail("%s hears of sockets that it does not follow", n.id.Node)
		return
	}
	if m.GetBegin() {
		s.coming[from.Node] = &simCopies{of: from.Incarnation, sockets: map[string]uint64{}}
	}
	c, whole := s.coming[from.Node], false
	if c == nil {
		c, whole = s.copies[from.Node], true
	}
	switch {
	case c == nil || c.of != from.Incarnation:
		n.fail("%s hears of %s, which it does not know, in the middle", n.id.Node, from.Node)
		return
	case whole && m.GetFrom() != c.next:
		n.fail("P1: %s hears from %d of %s, and had heard up to %d", n.id.Node, m.GetFrom(), from.Node, c.next)
		return
	}
	for _, socket := range m.GetSockets() {
		if whole || c.sockets[socket.GetId()] != 0 {
			n.fail("P1: %s hears twice that %s is there", n.id.Node, socket.GetId())
		}
		c.sockets[socket.GetId()] = socket.GetGeneration()
	}
	for _, change := range m.GetChanges() {
		id, generation := change.GetSocket().GetId(), change.GetSocket().GetGeneration()
		was, known := c.sockets[id]
		kind := service.PresenceKind(change.GetKind())
		switch {
		case kind == service.PresenceRisen:
			c.risen = max(c.risen, generation)
			continue
		case !whole && known && generation <= was, !whole && !known && kind != service.PresenceConnected:
			continue // the snapshot had it
		case kind == service.PresenceDisconnected:
			delete(c.sockets, id)
		default:
			c.sockets[id] = generation
		}
		if whole {
			n.tell(kind, id, generation)
		}
	}
	c.next = m.GetNext()
	if m.GetWhole() && !whole {
		delete(s.coming, from.Node)
		if old := s.copies[from.Node]; old != nil { // a gap: watchers begin anew
			for id := range old.sockets {
				delete(s.there, id)
			}
			for id, generation := range c.sockets {
				if generation < s.told[id] {
					n.fail("P3: %s hears of %s in generation %x after %x", n.id.Node, id, generation, s.told[id])
				}
				s.there[id], s.told[id] = true, generation
			}
		} else {
			for id, generation := range c.sockets {
				n.tell(service.PresenceConnected, id, generation)
			}
		}
		s.copies[from.Node] = c
	}
}

// tell tells watchers of a change: of each socket in order, and none twice.
func (n *simNode) tell(kind service.PresenceKind, id string, generation uint64) {
	s := n.presence
	if s.there[id] == (kind == service.PresenceConnected) || generation <= s.told[id] {
		n.fail("P1: %s tells change %d of %s in generation %x; it was there: %t, in %x", n.id.Node, kind, id, generation, s.there[id], s.told[id])
	}
	s.told[id] = generation
	s.there[id] = kind != service.PresenceDisconnected
}

// losePresence tells watchers that a node is gone.
func (n *simNode) losePresence(m Member) {
	s := n.presence
	delete(s.coming, m.Node)
	delete(s.feeds, m.Incarnation)
	if c := s.copies[m.Node]; c != nil {
		for id := range c.sockets {
			if !s.there[id] {
				n.fail("P3: %s is lost at %s, and %s is not there", m.Node, n.id.Node, id)
			}
			s.there[id] = false
		}
		delete(s.copies, m.Node)
	}
}

// watch begins or ends to follow.
func (n *simNode) watch() {
	s := n.presence
	if s.follows = !s.follows; !s.follows {
		clear(s.copies)
		clear(s.coming)
		clear(s.there)
		clear(s.told)
	}
	n.p.Follow(n.now, simSpace, s.follows)
}

// healedPresence compares what followers know with what there is.
func (n *simNode) healedPresence() {
	s := n.presence
	if !s.follows {
		if len(s.copies)+len(s.coming) > 0 {
			n.fail("%s keeps copies for nobody", n.id.Node)
		}
		return
	}
	for _, o := range n.nodes {
		if o == n {
			continue
		}
		c := s.copies[o.id.Node]
		if c == nil || c.of != o.id || s.coming[o.id.Node] != nil {
			n.fail("P1: %s does not know all of %s", n.id.Node, o.id.Node)
			return
		}
		if c.next != o.presence.next || len(c.sockets) != len(o.presence.here) {
			n.fail("P1: %s knows %d sockets of %s up to %d, which has %d up to %d", n.id.Node, len(c.sockets), o.id.Node, c.next, len(o.presence.here), o.presence.next)
		}
		for id, of := range o.presence.here {
			if generation := c.sockets[id]; generation&(1<<40-1) != of || max(generation, c.risen)>>40 > o.presence.term {
				n.fail("P1: %s knows %s in generation %x, which has %x in term %d", n.id.Node, id, generation, of, o.presence.term)
			}
			if !s.there[id] {
				n.fail("P1: the watchers at %s do not know %s", n.id.Node, id)
			}
		}
	}
	for id, there := range s.there {
		at := slices.IndexFunc(n.nodes, func(o *simNode) bool { return string(o.id.Node) == id[:4] })
		if _, here := n.nodes[at].presence.here[id]; there != here {
			n.fail("P1: for the watchers at %s it is %t that %s is there", n.id.Node, there, id)
		}
	}
}
