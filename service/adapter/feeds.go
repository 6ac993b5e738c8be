package adapter

import (
	"context"
	"slices"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// feeds are what others follow here. Guarded by Cluster.mu. While one of them has something to tell, and the way to its
// follower has room, a goroutine works on them.
type feeds struct {
	of      map[service.NodeID]map[string]*feed // by follower and namespace
	ready   []*feed                             // those that may have something to tell, each once
	working bool
}

// feed is what is told to one follower of one namespace.
type feed struct {
	to     Member
	wish   *clusterv1.Follow
	tells  *service.Feed
	queued bool   // it is ready, or in hand
	woken  bool   // while it was in hand
	inHand bool   // of the goroutine, which closes it when it is closed meanwhile
	closed bool   // nobody follows any more
	item   []byte // that has found no room; owned by the goroutine while it is in hand
}

// feedBytes is about how much one piece has.
const feedBytes = 48 << 10

// hearFollow begins or ends to tell a member of a namespace. It is called by the goroutine of the member's inbox.
func (c *Cluster) hearFollow(from Member, wish *clusterv1.Follow) {
	c.mu.Lock()
	old := c.feeds.of[from.Node][wish.GetNamespace()]
	if old != nil && old.wish.GetNumber() > wish.GetNumber() || wish.GetEnd() && (old == nil || old.wish.GetNumber() != wish.GetNumber()) {
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.closeFeed(old)
	if wish.GetEnd() {
		return
	}
	f := &feed{to: from, wish: wish, queued: true, inHand: true}
	f.tells = c.Feed(wish.GetNamespace(), wish.GetNext(), func() { c.wakeFeed(f) })
	c.mu.Lock()
	if c.feeds.of == nil {
		c.feeds.of = map[service.NodeID]map[string]*feed{}
	}
	if c.feeds.of[from.Node] == nil {
		c.feeds.of[from.Node] = map[string]*feed{}
	}
	c.feeds.of[from.Node][wish.GetNamespace()] = f
	f.inHand = false
	c.feeds.ready = append(c.feeds.ready, f)
	c.workFeeds()
	c.mu.Unlock()
}

// hearPresence takes what a member tells of its sockets.
func (c *Cluster) hearPresence(from Member, p *clusterv1.Presence) {
	if c.Heard(from.Incarnation, p.GetNamespace(), toldOf(from.Node, p.GetNamespace(), p)) {
		return
	}
	c.mu.Lock()
	c.peers.Refollow(c.now(), from.Incarnation, p.GetNamespace(), p.GetNumber())
	c.leave()
}

// losePresence says that a member is not there any more, and tells it nothing any more.
func (c *Cluster) losePresence(m Member) {
	why := service.ReasonNodeLost
	if m.State == Gone { // else it was said before that it is lost
		why = service.ReasonShutdown
	}
	c.Lost(m.Incarnation, why)
	c.closeFeeds(m.Node)
}

// wakeFeed says that a feed may have something to tell. It is called with locks of the service.
func (c *Cluster) wakeFeed(f *feed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case f.inHand:
		f.woken = true
	case !f.queued && !f.closed:
		f.queued = true
		c.feeds.ready = append(c.feeds.ready, f)
		c.workFeeds()
	}
}

// closeFeed ends a feed, if there is one.
func (c *Cluster) closeFeed(f *feed) {
	if f == nil {
		return
	}
	c.mu.Lock()
	if byName := c.feeds.of[f.to.Node]; byName[f.wish.GetNamespace()] == f {
		delete(byName, f.wish.GetNamespace())
	}
	c.feeds.ready = slices.DeleteFunc(c.feeds.ready, func(o *feed) bool { return o == f })
	mine := !f.inHand && !f.closed
	f.closed = true
	c.mu.Unlock()
	if mine {
		f.tells.Close()
	}
}

// closeFeeds ends what a node is told.
func (c *Cluster) closeFeeds(to service.NodeID) {
	c.mu.Lock()
	list := make([]*feed, 0, len(c.feeds.of[to]))
	for _, f := range c.feeds.of[to] {
		list = append(list, f)
	}
	delete(c.feeds.of, to)
	c.mu.Unlock()
	for _, f := range list {
		c.closeFeed(f)
	}
}

// closeAllFeeds is for a node that has told all it could.
func (c *Cluster) closeAllFeeds() {
	c.mu.Lock()
	names := make([]service.NodeID, 0, len(c.feeds.of))
	for name := range c.feeds.of {
		names = append(names, name)
	}
	c.mu.Unlock()
	for _, name := range names {
		c.closeFeeds(name)
	}
}

// workFeeds lets a goroutine work when one of the feeds could tell something, with the mutex held.
func (c *Cluster) workFeeds() {
	if c.feeds.working || c.context.Err() != nil || c.roomyFeed() < 0 {
		return
	}
	c.feeds.working = true
	c.ended.Go(c.feed)
}

// roomyFeed is the place of the first ready feed whose follower has room, with the mutex held; -1: there is none.
func (c *Cluster) roomyFeed() int {
	return slices.IndexFunc(c.feeds.ready, func(f *feed) bool { return c.peers.Roomy(f.to.Incarnation, len(f.item)) })
}

// feed tells followers what there is, one piece of each in turn, until there is nothing or no room.
func (c *Cluster) feed() {
	for {
		c.mu.Lock()
		i := c.roomyFeed()
		if i < 0 || c.context.Err() != nil {
			c.feeds.working = false
			c.mu.Unlock()
			return
		}
		f := c.feeds.ready[i]
		c.feeds.ready = slices.Delete(c.feeds.ready, i, i+1)
		f.inHand, f.woken = true, false
		c.mu.Unlock()
		f.next()
		c.mu.Lock()
		f.inHand = false
		if f.closed {
			c.mu.Unlock()
			f.tells.Close()
			continue
		}
		more := f.item != nil || f.woken
		if f.item != nil && c.peers.Feed(f.to.Incarnation, f.item) {
			f.item = nil
		}
		if f.queued = more; more {
			c.feeds.ready = append(c.feeds.ready, f)
		}
		c.leave()
	}
}

// next makes the next piece, if there is one and none waits for room. A feed that was overtaken too often begins anew.
func (f *feed) next() {
	if f.item != nil {
		return
	}
	t, ok := f.tells.Next(feedBytes)
	if !ok {
		return
	}
	m := presenceMessage(&t)
	m.Namespace, m.Number = f.wish.GetNamespace(), f.wish.GetNumber()
	f.item = presenceItem(m)
}

// Follow implements service.Remote.
func (c *Cluster) Follow(namespace string, on bool) {
	c.mu.Lock()
	c.peers.Follow(c.now(), namespace, on)
	poke(c.wake)
	c.mu.Unlock()
}

// Tellers implements service.Remote.
func (c *Cluster) Tellers(string) (tellers []service.Incarnation, coverage service.Coverage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.peers.Members() {
		if m.State.Reachable() && m.State != Silent {
			tellers = append(tellers, m.Incarnation)
		} else {
			coverage.Unreachable = append(coverage.Unreachable, string(m.Node))
		}
	}
	return tellers, coverage
}

// maxPast is how many bytes of another node's past are taken for one watcher.
const maxPast = 8 << 20

// Past implements service.Remote.
func (c *Cluster) Past(ctx context.Context, of service.Incarnation, namespace string, from, before uint64) (changes []service.PresenceEvent, ok bool) {
	for bytes := 0; from < before && bytes < maxPast; {
		a := c.askOne(ctx, of.Node, &clusterv1.Question{Ask: &clusterv1.Question_Past{
			Past: &clusterv1.Past{Namespace: namespace, Run: of.Run, From: from},
		}})
		p := a.GetPresence()
		if p == nil || p.GetFrom() != from || p.GetNext() <= from || p.GetNamespace() != namespace {
			return nil, false
		}
		for _, s := range p.GetChanges() {
			bytes += 512 + len(s.GetSocket().GetData())
		}
		changes = append(changes, changesOf(of.Node, namespace, p.GetChanges())...)
		from = p.GetNext()
	}
	return changes, from >= before
}

// past answers what another node asks for.
func (c *Cluster) past(q *clusterv1.Past) *clusterv1.Presence {
	if q.GetRun() != c.Incarnation().Run {
		return nil
	}
	f := c.Feed(q.GetNamespace(), q.GetFrom(), func() {})
	defer f.Close()
	t, ok := f.Next(maxPastPiece)
	if !ok || t.Begin {
		return nil
	}
	m := presenceMessage(&t)
	m.Namespace = q.GetNamespace()
	return m
}

// maxPastPiece is about how many bytes of a past come in one answer.
const maxPastPiece = 256 << 10
