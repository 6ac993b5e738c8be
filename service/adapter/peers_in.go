package adapter

import (
	"time"
)

// Receive takes a frame from the bus, which is the caller's again when it returns.
func (p *Peers) Receive(now time.Duration, b []byte) {
	if p.over {
		return
	}
	p.wake(now) // what waited may come before the late Tick, and may move the next heartbeat
	f, drop := p.keys.readFrame(b)
	switch {
	case drop != 0:
	case f.to.Node != "" && f.to.Node != p.self.Node:
		drop = DropForeign
	case f.hello != nil:
		drop = p.hearHello(&f, now)
	default:
		drop = p.hearFrame(&f, now)
	}
	if drop != 0 {
		p.dropped[drop]++
	} else {
		p.traffic.In.add(len(f.items), len(b))
	}
	p.tickReady(now)
	p.Flush(now)
}

// hearFrame takes a frame of a trunk.
func (p *Peers) hearFrame(f *frame, now time.Duration) Drop {
	m := p.member(f.from.Node)
	switch {
	case m == nil || f.from.Run > m.Run || m.State == Hearsay:
		return DropUnknown
	case f.from.Run < m.Run || m.State == Gone:
		return DropRun
	case m.lost:
		return DropTerm
	case !m.State.Reachable() || f.version != m.wire:
		return DropVersion
	case f.to.Run != p.self.Run: // a sign of life and nothing else
		m.heard = now
		p.settle(m, now)
		return DropRun
	}
	mine := f.ackEpoch == m.out.epoch && m.out.stage != outClosed
	if mine && f.ack > m.out.sent {
		return DropUnreadable
	}
	var drop Drop
	if f.seq != 0 {
		if drop = p.hearItems(m, f, now); drop == DropUnreadable {
			return drop
		}
	}
	switch {
	case !mine || f.ackEpoch != m.out.epoch: // what was heard may have ended the epoch that the ack is of
	case f.over:
		p.reopen(m, EndOver, now)
	default:
		m.out.acked(f.ack, f.asks && f.seq == 0, now)
	}
	m.heard = now
	m.out.wait = min(m.out.wait, repairAfter) // it is heard: what it lacks need not wait long
	p.settle(m, now)
	return drop
}

func (p *Peers) hearItems(m *member, f *frame, now time.Duration) Drop {
	if !p.upper.Room(m.Member, f.bytes) {
		return DropBusy
	}
	items, began, drop := m.in.hear(f, now)
	if drop != 0 {
		return drop
	}
	if p.trace != nil {
		p.trace(m, f)
	}
	if began {
		m.rooms = nil
		p.upper.Began(m.Member)
		p.followAgain(m, now)
		if m.out.base > 0 && f.ackEpoch != m.out.epoch {
			// It begins anew and has forgotten what it acked: it had declared this node lost.
			p.reopen(m, EndOver, now)
		}
	}
	for i := range items {
		if why := items[i].skipped; why != 0 {
			p.skipped[why]++
		}
		switch it := &items[i]; {
		case it.empty():
		case it.interest != nil:
			if m.rooms == nil {
				m.rooms = theirRooms{}
			}
			m.rooms.hear(it.interest)
		case it.open, it.told, it.presence != nil && !p.hearPresence(m, it.presence, now):
		default:
			p.upper.Heard(m.Member, it)
		}
	}
	return 0
}
