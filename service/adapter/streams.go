package adapter

import (
	"bytes"
	"context"
	"time"

	"go.uber.org/zap"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// A handler of another node is a service.Handler here, whose stream is the trunk: a goroutine takes what it is told and
// gives it to the trunk as facts, which nothing but the loss of the other node loses. There a visit offers it to the
// handler itself, and what comes of it goes back the same way.

// stream is the way from this node to a handler of another one.
type stream struct {
	to      Member
	number  uint64 // of the handler at its node
	id      uint64 // of the stream
	view    service.View
	handler *service.Handler
	stop    context.CancelFunc
	ended   chan struct{}
}

// openStream begins to tell a handler of another node of sockets here.
func (c *Cluster) openStream(to Member, number uint64, view service.View, h *service.Handler) *stream {
	ctx, stop := context.WithCancel(c.context)
	s := &stream{to: to, number: number, view: view, handler: h, stop: stop, ended: make(chan struct{})}
	c.mu.Lock()
	c.handlers.streams++
	s.id = c.handlers.streams
	c.streams[h] = s
	c.mu.Unlock()
	c.ended.Go(func() {
		defer close(s.ended)
		c.tellHandler(ctx, s)
	})
	return s
}

// closeStream ends a stream, and its handler with it: what was not taken goes to others, what was not answered is lost.
func (c *Cluster) closeStream(s *stream) {
	s.stop()
	<-s.ended
	c.mu.Lock()
	delete(c.streams, s.handler)
	c.mu.Unlock()
	s.handler.Detach()
	c.mu.Lock()
	c.reconsider()
	c.mu.Unlock()
}

const (
	noticesStep = 48 << 10 // bytes in one item, or one notice more
	roomForFact = 10 * time.Millisecond
	// takenWithin is how long it may take until the owner of an event hears that a backend has got it. Most often the
	// answer comes by then, which takes that along: it is a third of all frames.
	takenWithin = 2 * time.Millisecond
	together    = 500 * time.Microsecond // answers closer than this go in one frame
)

// tellHandler gives what a handler is told to the trunk, until the handler or the stream ends.
func (c *Cluster) tellHandler(ctx context.Context, s *stream) {
	buf := make([]service.Notice, 0, 256)
	head := notices{stream: s.id, handler: s.number, opens: true}
	var list []byte
	for {
		var err error
		if buf, err = s.handler.Next(ctx, buf); err != nil {
			return
		}
		now := time.Now()
		list = list[:0]
		first := 0
		for i := range buf {
			list = appendNotice(list, buf[i].Number(), &buf[i], s.view, now)
			if i+1 < len(buf) && len(list) < noticesStep {
				continue
			}
			if !c.giveNotices(ctx, s, &head, list) {
				return
			}
			if len(list) > MaxItem-64 { // nobody can be told of it
				for ; first <= i; first++ {
					s.handler.Taken(buf[first].Number())
					if buf[first].Kind == service.NoticeEvent {
						s.handler.Reply(buf[first].Number(), nil, nil)
					}
				}
			}
			list, first = list[:0], i+1
		}
		clear(buf)
		if cap(list) > 2*noticesStep {
			list = nil
		}
	}
}

// giveNotices gives an item to the trunk as soon as there is room; false: the node is gone, or the stream has ended.
func (c *Cluster) giveNotices(ctx context.Context, s *stream, head *notices, list []byte) bool {
	if len(list) > MaxItem-64 {
		return true
	}
	item := head.append(make([]byte, 0, len(list)+32), list)
	head.opens = false
	for {
		c.mu.Lock()
		given, there := c.peers.Fact(s.to.Incarnation, item)
		c.leave()
		if given || !there {
			return given
		}
		again := time.NewTimer(roomForFact)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return false
		}
	}
}

// visiting is what comes to a handler of this node on a stream of another one. It is the service.Way back.
type visiting struct {
	*Cluster
	from   Member
	number uint64 // of the handler
	visit  *service.Visit

	// Guarded by Cluster.mu.
	replies replies       // that are to be given
	waits   bool          // it is among those that have some
	by      time.Duration // when they are to be given at the latest
	closed  bool
}

// Taken implements service.Way.
func (v *visiting) Taken(number uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	by := v.by
	if v.replies.empty() {
		by = v.now() + takenWithin
	}
	v.replies.taken = append(v.replies.taken, number)
	v.wait(by)
	if v.handlers.due < v.planned {
		v.planned = v.handlers.due
		poke(v.wake)
	}
}

// Answered implements service.Way.
func (v *visiting) Answered(number uint64, payload []byte, attachments [][]byte) {
	a := reply{number: number, payload: bytes.Clone(payload)}
	for _, x := range attachments {
		a.attachments = append(a.attachments, bytes.Clone(x))
	}
	size := a.size()
	v.mu.Lock()
	defer v.unlock()
	if v.replies.bytes+size > v.peers.cfg.Window/2 { // the other node takes nothing: its slots are free all the same
		a.payload, a.attachments, size = nil, nil, 0
		v.lost++
	}
	v.replies.list = append(v.replies.list, a)
	v.replies.bytes += size
	v.wait(0)
}

// Decided implements service.Way.
func (v *visiting) Decided(number uint64, d service.Decision) {
	m := decisionMessage(number, &d)
	v.mu.Lock()
	defer v.unlock()
	v.replies.decisions = append(v.replies.decisions, m)
	v.replies.bytes += decisionBytes(m)
	v.wait(0)
}

// wait has the loop give what is to be given, with what comes until it does, at a time at the latest.
func (v *visiting) wait(by time.Duration) {
	if v.closed {
		v.replies = replies{}
		return
	}
	if !v.waits {
		v.waits = true
		v.handlers.told = append(v.handlers.told, v)
	}
	v.by = by
	v.handlers.due = min(v.handlers.due, by)
}

// giveReplies gives the replies of visits to the trunks whose time has come, as far as there is room. all: those of all
// visits, and what finds no room ends the epoch, so that there is some, since something is to be told behind it.
func (c *Cluster) giveReplies(now time.Duration, all bool) {
	if !all && c.handlers.due > now {
		return
	}
	kept := c.handlers.told[:0]
	c.handlers.due, c.handlers.given = never, now
	for _, v := range c.handlers.told {
		if all || v.by <= now {
			v.give(now, all)
		}
		if v.waits = !v.closed && !v.replies.empty(); v.waits {
			kept = append(kept, v)
			c.handlers.due = min(c.handlers.due, v.by)
		}
	}
	clear(c.handlers.told[len(kept):])
	c.handlers.told = kept
}

// give gives the replies of a visit.
func (v *visiting) give(now time.Duration, must bool) {
	for !v.closed && !v.replies.empty() {
		part, rest := v.replies.cut()
		given, there := v.peers.Fact(v.from.Incarnation, part.item())
		if !given && there && must {
			given = v.peers.Tell(now, v.from.Node, part.item())
		}
		if !given && there {
			v.by = now + roomForFact
			return
		}
		v.replies = rest
	}
}

// unlock gives the mutex back, and sends what there is when it is a while since that was last done: so one answer at a
// time needs no other goroutine, and many of them go together.
func (v *visiting) unlock() {
	if now := v.now(); v.handlers.due == 0 && now-v.handlers.given > together {
		v.leave()
		return
	}
	if v.handlers.due < v.planned {
		v.planned = v.handlers.due
		poke(v.wake)
	}
	v.mu.Unlock()
}

// closeVisit ends a visit; with a reason, its sockets are gone.
func (c *Cluster) closeVisit(v *visiting, reason service.Reason) {
	c.mu.Lock()
	v.closed = true
	c.mu.Unlock()
	v.visit.Close(reason)
}

// hearNotices takes what a handler of this node is told of sockets of a member.
func (c *Cluster) hearNotices(in *inbox, from Member, n *notices) {
	v := in.abroad.visits[n.stream]
	if v == nil {
		c.mu.Lock()
		o := c.handlers.find(n.handler)
		if o != nil && !n.opens { // this node had lost it, and it does not know that
			c.peers.Tell(c.now(), from.Node, handlerNewsItem(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_UnknownStream{UnknownStream: n.stream}}))
			poke(c.wake)
		}
		c.mu.Unlock()
		if o == nil || !n.opens { // it is gone, which is said to all
			return
		}
		c.endVisits(in, n.handler) // if there is one, the member had lost this node, and begins anew
		v = &visiting{Cluster: c, from: from, number: n.handler, replies: replies{stream: n.stream}}
		v.visit = o.h.Visit(from.Node, v)
		if in.abroad.visits == nil {
			in.abroad.visits = map[uint64]*visiting{}
		}
		in.abroad.visits[n.stream] = v
	}
	now := time.Now()
	for i := range n.list {
		one := &n.list[i]
		one.Time = now.Add(-one.age)
		if one.trace != "" {
			one.Trace, _ = c.Tracer().Parse(one.trace)
		}
		if one.number == 0 { // a part: it may come twice when an epoch ends between the two
			v.visit.OfferPart(one.Notice)
			continue
		}
		v.visit.Offer(one.number, one.of, one.Notice)
	}
}

// hearReplies takes what a handler of a member answers.
func (c *Cluster) hearReplies(in *inbox, r *replies) {
	t := in.abroad.streams[r.stream]
	if t == nil {
		return
	}
	h := t.stream.handler
	h.Taken(r.taken...)
	for i := range r.list {
		h.Reply(r.list[i].number, r.list[i].payload, r.list[i].attachments)
	}
	for _, d := range r.decisions {
		h.Decide(d.GetNumber(), decisionOf(d))
	}
}

// logRefused tells that a handler of another node does not serve here.
func (c *Cluster) logRefused(t *theirs, from Member, err error) {
	c.log.Warn("a handler of another node does not serve the sockets of this one", zap.String("node", string(from.Node)),
		zap.String("group", t.reg.Group), zap.String("handler", t.reg.ID), zap.Error(err))
}
