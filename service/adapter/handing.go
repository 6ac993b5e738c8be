package adapter

import (
	"slices"
	"time"

	"foyer/service"
)

// Handed says who was given an item.
type Handed struct {
	Given  []service.NodeID // they will answer
	Silent []service.NodeID // they have it on the way to them, and are not to be waited for
	Missed []service.NodeID // they may have sockets for it, and were not given it
}

// Publish gives an item that is for a target to the trunks of all who have told of sockets for it, or have not told all
// yet. A silent member that has not told of any is named, and given nothing. The item is made when it is wanted, for a
// version of the wire; one of more than MaxItem bytes, or none, can be given to nobody. It goes out at the next Flush,
// in one frame with what came before.
func (p *Peers) Publish(now time.Duration, t *service.Target, volatile bool, item func(wire uint64) []byte) (to Handed) {
	if len(p.members) == 0 {
		return to
	}
	p.tellRooms(now)
	p.hash(t)
	var encoded []byte
	var wire uint64 // that it is encoded for
	for _, m := range p.members {
		if m.State == Gone {
			continue
		}
		if m.in.told && !p.wants(m, t) {
			if p.doubts(m, t) {
				to.Missed = append(to.Missed, m.Node)
			}
			continue
		}
		if m.State.Reachable() && m.wire != wire {
			encoded, wire = item(m.wire), m.wire
		}
		to.hand(m, encoded, volatile)
	}
	return to
}

// GiveAll gives an item to the trunks of all members, of which each has to speak a version of the wire at the least.
func (p *Peers) GiveAll(item []byte, least uint64) (to Handed) {
	for _, m := range p.members {
		switch {
		case m.State == Gone:
		case m.wire < least:
			to.Missed = append(to.Missed, m.Node)
		default:
			to.hand(m, item, false)
		}
	}
	return to
}

func (to *Handed) hand(m *member, item []byte, volatile bool) {
	switch {
	case volatile && m.State == Silent || !m.give(item):
		to.Missed = append(to.Missed, m.Node)
	case m.State == Silent:
		to.Silent = append(to.Silent, m.Node)
	default:
		to.Given = append(to.Given, m.Node)
	}
}

// Wanting are the members that may have sockets for a target, by name.
func (p *Peers) Wanting(t *service.Target) []Member {
	p.hash(t)
	var list []Member
	for _, m := range p.members {
		if m.State != Gone && (!m.in.told || p.wants(m, t) || p.doubts(m, t)) {
			list = append(list, m.Member)
		}
	}
	return list
}

// hash sets the hashes of what a target names.
func (p *Peers) hash(t *service.Target) {
	p.hashes = p.hashes[:0]
	if t.All {
		p.hashes = append(p.hashes, p.keys.room(t.Namespace, ""))
	}
	for _, room := range t.Rooms {
		p.hashes = append(p.hashes, p.keys.room(t.Namespace, room))
	}
}

// Give gives an item to the trunk of one node. False: it is not there, or its window is full.
func (p *Peers) Give(to service.NodeID, item []byte) bool {
	m := p.member(to)
	return m != nil && m.give(item)
}

func (m *member) give(item []byte) bool {
	return m.State.Reachable() && len(item) > 0 && len(item) <= MaxItem && m.out.emit(item)
}

// Speaks says whether a node speaks a version of the wire, or a later one.
func (p *Peers) Speaks(node service.NodeID, version uint64) bool {
	m := p.member(node)
	return m != nil && m.wire >= version
}

// State is how a node is; Gone: nobody knows it.
func (p *Peers) State(of service.NodeID) State {
	if m := p.member(of); m != nil {
		return m.State
	}
	return Gone
}

// Foresee counts the calls here that have asked other nodes to put sockets into rooms and wait for their answers. Any
// of these nodes may have sockets in the rooms before this node hears so.
func (p *Peers) Foresee(namespace string, rooms []string, n int) {
	if p.foreseen == nil {
		p.foreseen = map[uint64]int{}
	}
	for _, room := range rooms {
		hash := p.keys.room(namespace, room)
		if p.foreseen[hash] += n; p.foreseen[hash] == 0 {
			delete(p.foreseen, hash)
		}
	}
}

// wants says whether a member that has told all may have sockets for a target, whose hashes are set.
func (p *Peers) wants(m *member, t *service.Target) bool {
	if len(p.foreseen) > 0 && slices.ContainsFunc(p.hashes, func(h uint64) bool { return p.foreseen[h] > 0 }) {
		return true
	}
	return m.rooms.wants(p.hashes) || slices.ContainsFunc(t.Rooms, func(room string) bool {
		return len(room) == socketIDLen && room[:4] == string(m.Node)
	})
}

// doubts says whether a member that has told all may have got sockets for a target since then: it is silent, so that
// this node does not hear of them. A socket's id names its node, and so no other one is in doubt.
func (p *Peers) doubts(m *member, t *service.Target) bool {
	return m.State == Silent && (t.All || slices.ContainsFunc(t.Rooms, func(room string) bool {
		if len(room) != socketIDLen {
			return true
		}
		owner := service.NodeID(room[:4])
		return owner != p.self.Node && p.member(owner) == nil
	}))
}

// socketIDLen is the length of a socket's id, which begins with the name of its node.
const socketIDLen = 20
