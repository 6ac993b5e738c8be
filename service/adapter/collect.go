package adapter

import (
	"context"
	"slices"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// collects are the events whose acknowledgements come from other nodes, and those of others whose acknowledgements this
// one tells. Guarded by Cluster.mu.
type collects struct {
	mine   map[uint64]*collecting
	of     map[*service.Acks]*collecting
	theirs map[theirCall]context.CancelFunc
}

// collecting is an event of this node.
type collecting struct {
	acks   *service.Acks
	number uint64
	asked  []service.NodeID
}

// theirCall is an event of another node.
type theirCall struct {
	from   service.Incarnation
	number uint64
}

const (
	collectMost = 6 * time.Minute // more than anybody waits for acknowledgements
	collectStep = 1 << 20         // bytes of answers in one item, or one answer more
	roomAgain   = 20 * time.Millisecond
)

// begin notes whom an event was handed to. Acks know it before Cluster.mu is given back: one of them may be lost, or
// may have answered, at once.
func (c *collects) begin(a *service.Acks, number uint64, asked []service.NodeID) {
	if len(asked) == 0 {
		return
	}
	for _, node := range asked {
		a.Asked(node)
	}
	if c.mine == nil {
		c.mine, c.of = map[uint64]*collecting{}, map[*service.Acks]*collecting{}
	}
	k := &collecting{a, number, asked}
	c.mine[number], c.of[a] = k, k
}

// Finished implements service.Remote.
func (c *Cluster) Finished(a *service.Acks) {
	c.mu.Lock()
	defer c.leave()
	k := c.collect.of[a]
	if k == nil {
		return
	}
	delete(c.collect.of, a)
	delete(c.collect.mine, k.number)
	item := questionItem(&clusterv1.Question{Ask: &clusterv1.Question_Finished{Finished: k.number}})
	for _, node := range k.asked {
		c.peers.Give(node, item) // whoever does not hear it ends by itself
	}
}

// hearAcks takes acknowledgements that come from a member.
func (c *Cluster) hearAcks(from Member, m *clusterv1.Acks) {
	c.mu.Lock()
	k := c.collect.mine[m.GetCall()]
	c.mu.Unlock()
	switch {
	case k == nil || !slices.Contains(k.asked, from.Node):
	case m.GetRecipients():
		ids := make([]service.SocketID, len(m.GetIds()))
		for i, id := range m.GetIds() {
			ids[i] = service.SocketID(id)
		}
		k.acks.Named(from.Node, ids, int(m.GetTotal()))
	default:
		list := make([]service.AckOutcome, len(m.GetOutcomes()))
		for i, o := range m.GetOutcomes() {
			list[i] = service.AckOutcome{
				Socket: service.SocketID(o.GetId()), Latency: time.Duration(o.GetLatency()), Failure: service.AckFailure(o.GetFailure()),
				Payload: o.GetPayload(), Attachments: o.GetAttachments(),
			}
		}
		k.acks.Outcomes(from.Node, list)
	}
}

// loseMine ends what a node was asked for until now, of which it may have told what is lost. It is called with the
// mutex held: what the node is asked for after this, or another run of it, is not concerned.
func (c *Cluster) loseMine(of Member) {
	var lost []*collecting
	for _, k := range c.collect.mine {
		if slices.Contains(k.asked, of.Node) {
			lost = append(lost, k)
		}
	}
	if len(lost) == 0 {
		return
	}
	c.push(of, told{do: func() { // behind what it has told before
		for _, k := range lost {
			k.acks.Unreachable(of.Node)
		}
	}})
}

// loseTheirs ends what a run of a node has asked for.
func (c *Cluster) loseTheirs(of Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for their, stop := range c.collect.theirs {
		if their.from == of.Incarnation {
			stop()
		}
	}
}

// collectFor delivers an event of a member here and tells it of the acknowledgements as they come.
func (c *Cluster) collectFor(from Member, e *Emit) {
	t := e.Target
	t.Local = true
	acks, err := c.CollectHere(service.Emit{Target: t, Packet: e.Packets[0], Flags: e.Flags, Trace: c.causeOf(e)})
	if err != nil { // it cannot be said
		c.give(from, acksItem(&clusterv1.Acks{Call: e.Call, Recipients: true}), countsItem(e.Call, make([]service.Receipt, 1)))
		return
	}
	who := &clusterv1.Acks{Call: e.Call, Recipients: true, Total: uint32(acks.Matched)}
	for _, id := range acks.Sockets(maxRooms) {
		who.Ids = append(who.Ids, string(id))
	}
	c.give(from, acksItem(who), countsItem(e.Call, []service.Receipt{{Matched: acks.Matched, Enqueued: acks.Matched}}))
	ctx, stop := context.WithTimeout(c.context, collectMost)
	key := theirCall{from.Incarnation, e.Call}
	c.mu.Lock()
	if c.collect.theirs == nil {
		c.collect.theirs = map[theirCall]context.CancelFunc{}
	}
	c.collect.theirs[key] = stop
	c.mu.Unlock()
	c.ended.Go(func() {
		defer stop()
		c.tellAcks(ctx, from, e.Call, acks)
		acks.Finish()
		c.mu.Lock()
		delete(c.collect.theirs, key)
		c.mu.Unlock()
	})
}

// finished ends what a run of a node has asked for.
func (c *Cluster) finished(from Member, number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stop := c.collect.theirs[theirCall{from.Incarnation, number}]; stop != nil {
		stop()
	}
}

// tellAcks tells a member of acknowledgements until there are no more.
func (c *Cluster) tellAcks(ctx context.Context, to Member, number uint64, acks *service.Acks) {
	for {
		list, err := acks.Next(ctx)
		if err != nil {
			return
		}
		for len(list) > 0 {
			m, bytes, n := &clusterv1.Acks{Call: number}, 0, 0
			for ; n < len(list) && n < maxOutcomes && bytes < collectStep; n++ {
				o := &list[n]
				m.Outcomes = append(m.Outcomes, &clusterv1.AckOutcome{
					Id: string(o.Socket), Latency: int64(o.Latency), Failure: uint32(o.Failure), Payload: o.Payload, Attachments: o.Attachments,
				})
				bytes += len(o.Payload)
				for _, a := range o.Attachments {
					bytes += len(a)
				}
			}
			list = list[n:]
			if !c.giveWhenRoom(ctx, to, acksItem(m)) {
				return
			}
		}
	}
}

// giveWhenRoom gives an item to the trunk of a run of a node as soon as there is room; false: there is none in time, or
// the node is gone.
func (c *Cluster) giveWhenRoom(ctx context.Context, to Member, item []byte) bool {
	for {
		c.mu.Lock()
		m := c.peers.member(to.Node)
		there := m != nil && m.Run == to.Run && m.State.Reachable()
		given := there && c.peers.Give(to.Node, item)
		c.leave()
		if given || !there {
			return given
		}
		again := time.NewTimer(roomAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return false
		}
	}
}
