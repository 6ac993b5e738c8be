package service

import (
	"context"
	"slices"
)

// Remote are the other nodes, as this one tells them what it does and who is here. Unless it says otherwise, a method
// is called with locks of this package held: memory only, and it calls nothing of this package.
type Remote interface {
	Watches
	// Publish hands out a batch that is about to be delivered here. Batches of a namespace come one after the other, in
	// the order in which they are delivered, and never one that is for this node alone. The ticket stands for what
	// others do with it; nil: no other node wants it. Then it may wait here for the link of its only recipient, and it
	// comes again when it passes anew. The lists are the caller's; packets are not to be changed, and may be kept.
	Publish(b Batch) Ticket
	// Flush sends what was published. The caller that has delivered a turn of batches calls it once, before anything of
	// them is written to links here. It may be called without need.
	Flush()
	// Finished says that nobody waits any more for the acknowledgements of a batch with these Acks. Called without locks.
	Finished(a *Acks)
	// Edge says that a room has got its first socket here, or has lost its last one; "" is the namespace itself. Those
	// of a namespace come in the order of its membership; a room's lie between its namespace's. A socket's own id is no
	// room.
	Edge(namespace, room string, on bool)
	// Expect says that a socket is about to come into a namespace, in these rooms, of which its client is to hear only
	// once the others have heard of them. It calls ready once, when they have or have had their time; that may be before
	// it returns. When ready returns the socket is there, or it has come to nothing: from then on Edge alone counts.
	// Unlike the others it is called without locks, as is ready. It does not block.
	Expect(namespace string, rooms []string, ready func())
}

// RemoteSockets is a Remote that is told of each socket here too.
type RemoteSockets interface {
	// SocketEdge says that a socket has come into a namespace here, or has gone: between the edges of its namespace. It is
	// called as Remote.Edge is.
	SocketEdge(namespace string, id SocketID, on bool)
}

// Batch is events for one target, in their order.
type Batch struct {
	Target  *Target
	Packets []*Packet
	Flags   Flags
	Acks    *Acks  // who waits for the acknowledgements of the one event; nil: nobody
	Trace   *Trace // of the one event; nil: there is none
	Waits   int    // how many of the events Ticket.Wait is called for, once each: the others' receipts are this node's alone
}

// Ticket stands for a batch on its way to other nodes. Safe for concurrent use, and never called with a lock held.
type Ticket interface {
	// Unreached are the nodes that could not be handed an event, by its place in the batch. It does not block.
	Unreached(place int) Coverage
	// Wait returns what the others have done with an event, by its place too: how many recipients it had there, and who
	// has not answered. It blocks until all have, until ctx ends, or until the ticket's own patience
	// does.
	Wait(ctx context.Context, place int) Receipt
}

// handed is an emit that other nodes were handed, and the others of its turn.
type handed struct {
	ticket  Ticket
	place   int
	emit    *Emit
	receipt *Receipt
	before  *handed
}

// handOut tells the other nodes of a run that is about to be delivered here, with lane.step held.
func (ns *Namespace) handOut(run []delivery, packets []*Packet, touched *touched) {
	remote, e := ns.node.cfg.Remote, run[0].emit
	if remote == nil || e.Target.Local {
		return
	}
	waits := 0
	for i := range run {
		if !run[i].emit.Accepted {
			waits++
		}
	}
	ticket := remote.Publish(Batch{Target: &e.Target, Packets: packets, Flags: e.Flags, Acks: e.collect, Trace: e.Trace, Waits: waits})
	if ticket == nil {
		return
	}
	touched.handed = true
	for i := range run {
		d := &run[i]
		d.handed = true
		if d.emit.Accepted {
			if c := ticket.Unreached(i); c.none() {
				continue // its receipt has nothing of them
			}
		}
		d.turn.handed = &handed{ticket: ticket, place: i, emit: d.emit, receipt: d.receipt, before: d.turn.handed}
	}
}

// await adds to receipts what the other nodes did. The caller waits here, and not in the lane.
func (h *handed) await(ctx context.Context) {
	for ; h != nil; h = h.before {
		r := h.receipt
		if h.emit.Accepted {
			r.Coverage = h.ticket.Unreached(h.place)
			continue
		}
		there := h.ticket.Wait(ctx, h.place)
		r.Matched += there.Matched
		r.Enqueued += there.Enqueued
		r.DroppedVolatile += there.DroppedVolatile
		r.DroppedSlow += there.DroppedSlow
		r.Closing += there.Closing
		r.Coverage = there.Coverage
	}
}

// edgeLocked tells the other nodes that a room, or with "" the namespace, has its first socket or none any more, with
// mu held.
func (ns *Namespace) edgeLocked(room string, on bool) {
	if remote := ns.node.cfg.Remote; remote != nil {
		remote.Edge(ns.name, room, on)
	}
}

// socketLocked tells the other nodes of a socket, if they want that, with mu held.
func (ns *Namespace) socketLocked(s *Socket, on bool) {
	if remote := ns.node.eachOne; remote != nil {
		remote.SocketEdge(ns.name, s.id, on)
	}
}

// laneOf finds the namespace whose lane an emit passes; nil: nobody would hear it. Other nodes may have sockets of a
// name that this one has none of: then the namespace is made, and the caller has to release it.
func (n *Node) laneOf(t *Target) (ns *Namespace, made bool) {
	if ns = n.namespace(t.Namespace); ns != nil || n.cfg.Remote == nil || t.Local {
		return ns, false
	}
	return n.acquire(t.Namespace, true, ""), true
}

// DeliverHere delivers events that come from another node to the sockets of this one, in their order, and returns a
// receipt for each, in the memory of receipts where that is enough. Their targets are Local. It waits for no link: one
// that is full goes without, or, if it is the only recipient, gets it within a wider bound. It keeps neither slice.
func (n *Node) DeliverHere(emits []Emit, receipts []Receipt) []Receipt {
	receipts = slices.Grow(receipts[:0], len(emits))[:len(emits)]
	clear(receipts)
	n.passAll(context.Background(), emits, receipts, turn{relayed: true})
	return receipts
}

// CollectHere is CollectAcks for an event that comes from another node: for any number of recipients here, and without
// waiting for a link.
func (n *Node) CollectHere(e Emit) (*Acks, error) {
	return n.collect(context.Background(), e, 0, turn{relayed: true})
}

// Watches are the other nodes for those that watch here.
type Watches interface {
	// Follow says that this node is to be told, from now on, what sockets of others there are in a namespace and what
	// changes among them: by Heard and Lost. Or that it is not any more. It comes in the order of its being so, and may
	// come again. It is called with locks, as most methods of Remote.
	Follow(namespace string, on bool)
	// Tellers are, of a namespace, the nodes that can be heard now, so that they have told or will tell all, and those
	// that cannot, which are the coverage. It is called without locks, and does not block.
	Tellers(namespace string) ([]Incarnation, Coverage)
	// Past asks a node for its changes in a namespace, from a number on and before another one. It is called without
	// locks, and blocks until they are there or ctx ends. false: that node does not have all of them any more, or has not
	// answered.
	Past(ctx context.Context, of Incarnation, namespace string, from, before uint64) ([]PresenceEvent, bool)
}
