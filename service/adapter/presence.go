package adapter

import (
	"slices"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// follows are the namespaces that this node follows at all others: their names are state, which each new epoch tells.
type follows struct {
	list   []string // in no order; whoever tells it goes down from its end
	places map[string]int
	last   uint64 // number of the newest wish, of all members
}

// following is a namespace as it is followed at one member.
type following struct {
	number uint64 // of the wish: what is told for another one is old
	next   uint64 // number of the change that is to come; 0: all is to be told
	begun  bool   // a snapshot is being told
}

// Follow says that this node wants to hear of the sockets of all others in a namespace, or does not any more. It is
// told at the next Flush.
func (p *Peers) Follow(now time.Duration, namespace string, on bool) {
	place, known := p.follows.places[namespace]
	if on == known {
		return
	}
	if on {
		if p.follows.places == nil {
			p.follows.places = map[string]int{}
		}
		p.follows.places[namespace] = len(p.follows.list)
		p.follows.list = append(p.follows.list, namespace)
	} else {
		last := len(p.follows.list) - 1
		moved := p.follows.list[last]
		p.follows.list[place], p.follows.places[moved] = moved, place
		p.follows.list = p.follows.list[:last]
		delete(p.follows.places, namespace)
	}
	for _, m := range p.members {
		switch f := m.follows[namespace]; {
		case !m.State.Reachable():
		case on:
			p.follow(m, namespace, 0, now)
		case f != nil:
			delete(m.follows, namespace)
			p.news(m, followItem(&clusterv1.Follow{Namespace: namespace, Number: f.number, End: true}), now)
		}
	}
}

// follow wants a namespace told by a member, from a change on.
func (p *Peers) follow(m *member, namespace string, next uint64, now time.Duration) {
	p.news(m, p.wish(m, namespace, next), now)
}

// wish makes the item that wants a namespace told.
func (p *Peers) wish(m *member, namespace string, next uint64) []byte {
	if m.follows == nil {
		m.follows = map[string]*following{}
	}
	p.follows.last++
	m.follows[namespace] = &following{number: p.follows.last, next: next}
	return followItem(&clusterv1.Follow{Namespace: namespace, Number: p.follows.last, Next: next})
}

// followAgain wants everything told on by a member that has begun a new epoch: what was on its way in the one before is
// lost, and what was heard is not told again.
func (p *Peers) followAgain(m *member, now time.Duration) {
	for _, namespace := range p.follows.list {
		next := uint64(0)
		if f := m.follows[namespace]; f != nil {
			next = f.next
		}
		p.follow(m, namespace, next, now)
	}
}

// Refollow wants all told anew that a member has told for a wish: what came of it does not fit to what was heard.
func (p *Peers) Refollow(now time.Duration, of service.Incarnation, namespace string, number uint64) {
	m := p.member(of.Node)
	if m == nil || m.Run != of.Run {
		return
	}
	if f := m.follows[namespace]; f != nil && f.number == number {
		p.follow(m, namespace, 0, now)
	}
}

// tellFollow is the next wish that a new epoch tells; nil: there is none left.
func (p *Peers) tellFollow(m *member) []byte {
	o := &m.out
	if o.cursor < 0 || o.cursor > len(p.follows.list) {
		o.cursor = len(p.follows.list)
	}
	if o.cursor == 0 {
		return nil
	}
	o.cursor--
	namespace, next := p.follows.list[o.cursor], uint64(0)
	if f := m.follows[namespace]; f != nil {
		next = f.next
	}
	return p.wish(m, namespace, next)
}

// hearPresence says whether a piece of what is told goes on from what was heard.
func (p *Peers) hearPresence(m *member, t *clusterv1.Presence, now time.Duration) bool {
	f := m.follows[t.GetNamespace()]
	if f == nil || f.number != t.GetNumber() {
		return false
	}
	foreign := func(s *clusterv1.Socket) bool { return s.GetId()[:len(m.Node)] != string(m.Node) }
	if slices.ContainsFunc(t.GetSockets(), foreign) || slices.ContainsFunc(t.GetChanges(), func(c *clusterv1.Change) bool {
		return c.GetKind() != uint32(service.PresenceRisen) && foreign(c.GetSocket())
	}) {
		return false
	}
	switch {
	case t.GetBegin():
		f.begun, f.next = true, 0
	case f.next != t.GetFrom() && (f.next != 0 || !f.begun):
		p.follow(m, t.GetNamespace(), 0, now)
		return false
	}
	if t.GetWhole() || !f.begun { // changes count as they come, and a snapshot when all of it is there
		f.begun, f.next = false, t.GetNext()
	}
	return true
}

// Feed gives a follower a piece of what there is to tell it, if the way to it has room. A follower waits for room, and
// does not end the epoch as other news does: what it has not heard stays in the log, which is bounded and the same for
// all who follow. If that has moved on when there is room, it is told all anew.
func (p *Peers) Feed(to service.Incarnation, item []byte) bool {
	m := p.member(to.Node)
	return m != nil && m.Run == to.Run && m.State.Reachable() && m.out.feed(item)
}

// Roomy says whether a follower could be told so many bytes more.
func (p *Peers) Roomy(to service.Incarnation, bytes int) bool {
	m := p.member(to.Node)
	return m != nil && m.Run == to.Run && m.State.Reachable() && m.out.roomy(bytes)
}

// feed takes an item that can wait.
func (o *out) feed(item []byte) bool {
	if len(item) > MaxItem || !o.roomy(len(item)) || !o.room(item) {
		return false
	}
	o.add(item, false, false)
	return true
}

// roomy says whether so many bytes leave half of the window to what cannot wait.
func (o *out) roomy(bytes int) bool {
	return (o.stage == outTelling || o.stage == outOpen) && (o.bytes == 0 || o.bytes+bytes < o.window/2)
}
