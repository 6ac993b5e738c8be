package adapter

import (
	"slices"

	"go.uber.org/zap"

	"foyer/service"
)

// inbox is what a member has told and this node has not done yet, in its order. It is guarded by Cluster.mu. A
// goroutine works on it, and stays as long as the member can be reached: to begin one for each frame costs a tenth of
// what an emit does.
type inbox struct {
	of      service.NodeID // "": no member
	list    []told
	spare   []told // is empty, and becomes the list
	bytes   int    // of what is in it, and in hand
	asked   int    // questions of the member that are being answered
	working bool
	idle    bool          // the goroutine that works on it waits for more
	wake    chan struct{} // 1: there is more
	tells   bool          // of handlers
	retries bool          // it will try again what waited for others to leave
	theirs  int           // handlers in abroad, as the goroutine that works has left them
	visits  int           // likewise

	// Owned by the goroutine that works; deliver uses the memory of the lists again.
	abroad   abroad
	emits    []service.Emit
	receipts []service.Receipt
}

// told is one thing in an inbox.
type told struct {
	from    Member // as it was when it told this
	item    *item
	began   bool   // it tells all anew
	changed bool   // it has come into another state
	over    bool   // it has forgotten what it was told, or is to be taken for one that has
	stuck   bool   // for it heard nothing
	ended   bool   // an epoch of the way to it has ended
	do      func() // something of this node's own
}

// maxAsked is how many questions of one member are answered at once. It waits for what is more as for what is lost.
const maxAsked = 1024

// maxSpare is how long a list may be to be used again.
const maxSpare = 256

// push adds to the inbox of a member, with the mutex held.
func (c *Cluster) push(from Member, t told) {
	in := c.inboxes[from.Node]
	if in == nil {
		in = &inbox{of: from.Node, wake: make(chan struct{}, 1)}
		c.inboxes[from.Node] = in
	}
	t.from = from
	c.add(in, t)
}

// later does something without the mutex, with which it is called.
func (c *Cluster) later(do func()) { c.add(&c.hellos, told{do: do}) }

func (c *Cluster) add(in *inbox, t told) {
	if t.item != nil {
		in.bytes += t.item.bytes
		in.tells = in.tells || t.item.news != nil
	}
	in.list = append(in.list, t)
	switch {
	case c.context.Err() != nil:
	case !in.working:
		in.working = true
		c.ended.Go(func() { c.work(in) })
	case in.idle:
		in.idle = false
		in.wake <- struct{}{}
	}
}

// next takes what is in an inbox, and waits for it while its member can tell more. When it returns nothing, the
// goroutine of the inbox ends.
func (c *Cluster) next(in *inbox) []told {
	c.mu.Lock()
	defer c.mu.Unlock()
	in.theirs, in.visits = len(in.abroad.theirs), len(in.abroad.visits)
	for len(in.list) == 0 && c.context.Err() == nil && c.peers.State(in.of).Reachable() {
		in.idle = true
		c.mu.Unlock()
		select {
		case <-in.wake:
		case <-c.context.Done():
		}
		c.mu.Lock()
	}
	if in.working = len(in.list) > 0 && c.context.Err() == nil; !in.working {
		c.forgetInbox(in)
		return nil
	}
	list := in.list
	in.list, in.spare = in.spare, nil
	return list
}

// forgetInbox lets an inbox go whose member is gone, when nothing is to be done for it any more, with the mutex held.
// Names are random where nobody sets them: each node that is replaced leaves another one.
func (c *Cluster) forgetInbox(in *inbox) {
	if !in.working && in.asked == 0 && c.inboxes[in.of] == in && c.peers.State(in.of) == Gone {
		delete(c.inboxes, in.of)
	}
}

// work does what is in an inbox.
func (c *Cluster) work(in *inbox) {
	for list := c.next(in); len(list) > 0; list = c.next(in) {
		bytes := 0
		for i := range list {
			if it := list[i].item; it != nil {
				bytes += it.bytes
			}
		}
		for rest := list; len(rest) > 0; {
			n := emitsOf(rest)
			if n > 0 {
				c.deliver(in, rest[0].from, rest[:n])
			} else {
				n = 1
				c.hear(in, &rest[0])
			}
			rest = rest[n:]
		}
		c.mu.Lock()
		in.bytes -= bytes
		if cap(list) <= maxSpare {
			clear(list)
			in.spare = list[:0]
		}
		c.mu.Unlock()
	}
}

// emitsOf is how many emits that nobody waits for answers of stand at the front.
func emitsOf(list []told) int {
	n := 0
	for n < len(list) && list[n].item != nil && list[n].item.emit != nil && !list[n].item.emit.Collect && list[n].from.Incarnation == list[0].from.Incarnation {
		n++
	}
	return n
}

// causeOf is the trace that a member's emit is part of.
func (c *Cluster) causeOf(e *Emit) *service.Trace {
	if e.Trace == "" {
		return nil
	}
	cause, _ := c.Node.Tracer().Parse(e.Trace)
	return cause
}

// deliver delivers emits of a member here, in their order, and tells it what became of those that it waits for.
func (c *Cluster) deliver(in *inbox, from Member, list []told) {
	emits := slices.Grow(in.emits, len(list))
	for i := range list {
		e := list[i].item.emit
		t := e.Target
		t.Local = true
		for _, p := range e.Packets {
			emits = append(emits, service.Emit{Target: t, Packet: p, Flags: e.Flags, Trace: c.causeOf(e)})
		}
	}
	receipts := c.DeliverHere(emits, in.receipts)
	var answers [][]byte
	for i, rest := 0, receipts; i < len(list); i++ {
		e := list[i].item.emit
		if e.Call != 0 {
			answers = append(answers, countsItem(e.Call, rest[:len(e.Packets)]))
		}
		rest = rest[len(e.Packets):]
	}
	if clear(emits); cap(emits) <= maxSpare {
		clear(receipts)
		in.emits, in.receipts = emits[:0], receipts[:0]
	}
	c.give(from, answers...)
}

// give gives items to the trunk of a run of a node, and sends them. What finds no room is lost: the node that waits for
// it waits in vain.
func (c *Cluster) give(to Member, items ...[]byte) {
	if len(items) == 0 {
		return
	}
	c.mu.Lock()
	defer c.leave()
	if m := c.peers.member(to.Node); m == nil || m.Run != to.Run {
		c.lost += uint64(len(items))
		return
	}
	for _, it := range items {
		if !c.peers.Give(to.Node, it) {
			c.lost++
		}
	}
}

// hear does what one thing says.
func (c *Cluster) hear(in *inbox, t *told) {
	switch {
	case t.do != nil:
		t.do()
	case t.changed:
		level := zap.InfoLevel
		if t.from.State == Lost || t.from.State == Incompatible {
			level = zap.WarnLevel
		}
		c.log.Log(level, "member "+t.from.State.String(), zap.String("node", string(t.from.Node)), zap.Uint64("run", t.from.Run),
			zap.Uint64("term", t.from.Term), zap.String("address", t.from.Address))
		if !t.from.State.Reachable() {
			c.loseTheirs(t.from)
			c.losePresence(t.from)
		}
		c.handlersChanged(in, t.from)
	case t.over:
		if t.stuck {
			c.log.Warn("member stuck: it takes nothing of what it is told, and the way to it begins anew", zap.String("node", string(t.from.Node)))
		}
		c.handlersOver(in)
	case t.ended:
		c.closeFeeds(t.from.Node) // it follows again when it hears of the next epoch
	case t.began: // what it has asked for goes on: the way to it is another one
		c.closeFeeds(t.from.Node) // it tells anew what it follows
	case t.item.follow != nil:
		c.hearFollow(t.from, t.item.follow)
	case t.item.presence != nil:
		c.hearPresence(t.from, t.item.presence)
	case t.item.emit != nil:
		c.collectFor(t.from, t.item.emit)
	case t.item.acks != nil:
		c.hearAcks(t.from, t.item.acks)
	case t.item.news != nil:
		c.hearHandlers(in, t.from, t.item.news)
	case t.item.notices != nil:
		c.hearNotices(in, t.from, t.item.notices)
	case t.item.replies != nil:
		c.hearReplies(in, t.item.replies)
	case t.item.question != nil:
		c.take(in, t.from, t.item.question)
	}
}
