package adapter

import (
	"slices"
	"time"

	"foyer/service"
)

// Edge says that a room has got its first socket here or has lost its last one; "" is the namespace. It is told at the
// next Flush.
func (p *Peers) Edge(now time.Duration, namespace, room string, on bool) {
	p.own.edge(p.keys.room(namespace, room), on, now)
}

// tellRooms tells all what has changed among the rooms of this node.
func (p *Peers) tellRooms(now time.Duration) {
	news := p.own.news(now)
	if news == nil {
		return
	}
	for len(news.plus)+len(news.minus) > 0 {
		plus := news.plus[:min(tellRooms, len(news.plus))]
		minus := news.minus[:min(tellRooms, len(news.minus))]
		news.plus, news.minus = news.plus[len(plus):], news.minus[len(minus):]
		item := interestItem(&interest{plus, minus})
		for _, m := range p.members {
			if m.State.Reachable() {
				p.news(m, item, now)
			}
		}
	}
}

// news gives a member what it has to hear. Where that finds no room the epoch ends, and the next one tells all.
func (p *Peers) news(m *member, item []byte, now time.Duration) {
	if !m.out.news(item) {
		p.reopen(m, EndFull, now)
		m.out.full = true
	}
}

// teller returns the next piece of a part of the state, as an item, and what is left then, which is what it is called
// with again; it is called with -1 first. No item: that was all.
type teller func(left int) (item []byte, rest int)

// tellState returns the next piece of what a new epoch tells; nil: that was all.
func (p *Peers) tellState(o *out) []byte {
	if o.part == 0 {
		rooms, left := p.own.tell(o.cursor, min(tellRooms, (p.maxItem-partOverhead)/8))
		if o.cursor = left; len(rooms) > 0 {
			return interestItem(&interest{plus: rooms})
		}
		o.part, o.cursor = 1, -1
	}
	if o.part == 1 {
		if item := p.tellFollow(o.to); item != nil {
			return item
		}
		o.part, o.cursor = 2, -1
	}
	for ; o.part-2 < len(p.tellers); o.part, o.cursor = o.part+1, -1 {
		var item []byte
		if item, o.cursor = p.tellers[o.part-2](o.cursor); item != nil {
			return item
		}
	}
	return nil
}

// Tell tells one node, or with "" all, what it has to hear, and is lost only with what the node knows at all: what
// finds no room ends the epoch, with its emits, and is told in the next one, though facts alone may fill the window by
// then: no state says it once more. They may fill it twice, and what comes beyond that is lost. False: one was asked
// for, and is not there.
func (p *Peers) Tell(now time.Duration, to service.NodeID, item []byte) (told bool) {
	for _, m := range p.members {
		if !m.State.Reachable() || to != "" && to != m.Node || len(item) == 0 || len(item) > MaxItem {
			continue
		}
		told = m.out.fact(item)
		if !told {
			p.reopen(m, EndFull, now)
			m.out.full = true
			if told = m.out.bytes <= 2*m.out.window; told {
				m.out.addFact(item)
			}
		}
	}
	return told
}

// Fact gives an item that outlives an epoch which ends for want of room to the trunk of a run of a node. It says
// whether there was room, and whether that run is there at all.
func (p *Peers) Fact(to service.Incarnation, item []byte) (given, there bool) {
	m := p.member(to.Node)
	there = m != nil && m.Run == to.Run && m.State.Reachable()
	return there && len(item) <= MaxItem && m.out.fact(item), there
}

// Mark is a place on the way to a member, up to which it is to hear.
type Mark struct {
	to     service.Incarnation
	number uint64
}

// Marks are the places, one a member that can be reached, which are heard when all news up to now is.
func (p *Peers) Marks(now time.Duration) []Mark {
	p.tellRooms(now)
	var marks []Mark
	for _, m := range p.members {
		if m.State.Reachable() {
			marks = append(marks, Mark{m.Incarnation, m.out.mark()})
		}
	}
	return marks
}

// Unheard are those of the marks that are not heard yet and still can be. What has been said of a member that is lost
// or gone is said by its state.
func (p *Peers) Unheard(marks []Mark) []Mark {
	return slices.DeleteFunc(marks, func(k Mark) bool {
		m := p.member(k.to.Node)
		return m == nil || m.Run != k.to.Run || !m.State.Reachable() || m.out.heard >= k.number
	})
}

// Awaited says whether any of the marks, of those that Unheard has left, is to be waited for: a silent member is not.
func (p *Peers) Awaited(marks []Mark) bool {
	return slices.ContainsFunc(marks, func(k Mark) bool { return p.State(k.to.Node) != Silent })
}
