package adapter

import (
	"time"

	"foyer/service"
)

// Outgoing is a frame for the bus.
type Outgoing struct {
	To    service.NodeID // "": all
	Frame []byte
}

// Take returns what is to be sent, in order. It is the caller's.
func (p *Peers) Take() []Outgoing {
	o := p.outbox
	p.outbox = nil
	return o
}

// Sent gives back what Take has returned, if nothing more was to be sent meanwhile: the memory is used again.
func (p *Peers) Sent(list []Outgoing) {
	if p.outbox != nil || cap(list) > maxSpare || cap(p.frames) > MinFrame {
		p.frames = nil
		return
	}
	clear(list)
	p.outbox, p.frames = list[:0], p.frames[:0]
}

// Flush sends what waits.
func (p *Peers) Flush(now time.Duration) {
	if p.over {
		return
	}
	p.tellRooms(now)
	for _, m := range p.members {
		if m.State.Reachable() {
			p.pump(m, now)
		}
	}
}

// pump sends what a trunk has to send: frames with items, each of which takes an ack along, or an answer alone.
func (p *Peers) pump(m *member, now time.Duration) {
	if a := m.in.answer; a.asks || a.over {
		h := p.header(m)
		if h.asks = a.asks; a.over {
			h.over, h.ackEpoch, h.ack = true, a.epoch, 0
		}
		p.frame(m, &h, nil, 0)
		m.in.answer = answer{}
	}
	for {
		sent := m.out.sent
		f, seq, prompt := m.out.next(now, p.tellState)
		if f == nil {
			break
		}
		if seq <= sent {
			p.traffic.Resent++
		}
		h := p.header(m)
		h.seq, h.last, h.asks = seq, m.out.sent, prompt
		p.frame(m, &h, f.items, f.weight)
		m.in.answer = answer{}
	}
	if m.in.answer.due {
		h := p.header(m)
		p.frame(m, &h, nil, 0)
		m.in.answer = answer{}
	}
}

// header is that of a frame for a member, with the ack.
func (p *Peers) header(m *member) header {
	h := header{version: m.wire, from: p.self, to: m.Incarnation}
	if m.out.stage != outClosed {
		h.epoch, h.last = m.out.epoch, m.out.sent
	}
	m.in.ack(&h)
	return h
}

// frame sends a frame with items, which are no longer than their weight.
func (p *Peers) frame(m *member, h *header, items [][]byte, weight int) {
	size, from := weight+frameOverhead, len(p.frames)
	if cap(p.frames)-from < size {
		p.frames, from = make([]byte, 0, max(size, 4<<10)), 0
	}
	frame := p.keys.appendFrame(p.frames[from:from:from+size], h, items)
	p.frames = p.frames[:from+len(frame)]
	p.send(m.Node, frame, len(items))
}

func (p *Peers) send(to service.NodeID, frame []byte, items int) {
	p.traffic.Out.add(items, len(frame))
	p.outbox = append(p.outbox, Outgoing{to, frame})
}
