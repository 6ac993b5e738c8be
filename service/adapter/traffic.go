package adapter

import "time"

// Traffic is what has gone between a node and the others since it began to look for them.
type Traffic struct {
	In  Flow // what has had an effect; the rest is counted as dropped, by reason
	Out Flow // what was given to the bus; a frame that is for all nodes counts once
	// Resent are the frames of Out that had been sent before.
	Resent uint64
	// Epochs are those that this node has begun. In each it tells the other node anew what there is to know.
	Epochs uint64
	// Unheard is for how long the node that is furthest behind has confirmed nothing of what was sent to it. It is 0
	// when nothing waits to be confirmed.
	Unheard time.Duration
}

// Flow is what was moved one way.
type Flow struct {
	Frames uint64
	Items  uint64 // of the frames; an item that is too large for one frame counts for each part
	Bytes  uint64 // of the frames, header and check included
}

func (f *Flow) add(items, bytes int) {
	f.Frames++
	f.Items += uint64(items)
	f.Bytes += uint64(bytes)
}

// Traffic returns what has gone between this node and the others, as of now.
func (p *Peers) Traffic(now time.Duration) Traffic {
	t := p.traffic
	t.Epochs = p.epochs
	for _, m := range p.members {
		if m.State.Reachable() && m.out.due() != never {
			t.Unheard = max(t.Unheard, now-m.out.stuckFrom)
		}
	}
	return t
}

// Traffic is that of Peers at this moment.
func (c *Cluster) Traffic() Traffic {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers.Traffic(c.now())
}
