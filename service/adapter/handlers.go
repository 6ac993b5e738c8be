package adapter

import (
	"cmp"
	"context"
	"slices"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// claimWait is how long others may take to say what they have against a handler.
const claimWait = 2 * time.Second

// handlers are those of this node as it tells others of them, and the names that any node knows. Guarded by Cluster.mu.
type handlers struct {
	last    uint64 // number of a claim, which its handler keeps
	streams uint64
	claims  map[*service.Handler]*claim
	own     []*ownHandler // by number
	names   []string
	decides map[string]bool // the names, and whether a handler decides who connects
	told    []*visiting     // with replies that are to be given
	due     time.Duration   // when the next of them are
	given   time.Duration   // when some were last
}

// claim is a handler that is about to be attached.
type claim struct {
	number  uint64
	missing []service.NodeID // nodes that have not said anything
	lost    []service.NodeID // nodes that will not
	err     error
	done    chan struct{} // closed when all have, or one is against it
}

type ownHandler struct {
	h       *service.Handler
	number  uint64
	leaving bool
}

// Claim implements service.RemoteHandlers.
func (c *Cluster) Claim(ctx context.Context, h *service.Handler) (service.Coverage, error) {
	c.mu.Lock()
	c.handlers.last++
	k := &claim{number: c.handlers.last, done: make(chan struct{})}
	if c.handlers.claims == nil {
		c.handlers.claims = map[*service.Handler]*claim{}
	}
	c.handlers.claims[h] = k
	item := handlerNewsItem(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Claim{Claim: registrationMessage(k.number, h)}})
	var silent []service.NodeID
	for _, m := range c.peers.Members() {
		if m.State.Reachable() && m.State != Silent {
			k.missing = append(k.missing, m.Node)
		} else {
			silent = append(silent, m.Node)
		}
	}
	c.peers.Tell(c.now(), "", item)
	asked := len(k.missing) > 0
	c.leave()
	if asked {
		late := time.NewTimer(claimWait)
		defer late.Stop()
		select {
		case <-k.done:
		case <-late.C:
		case <-ctx.Done():
		case <-h.Done(): // another one was earlier: Node.Consider has ended it
		case <-c.context.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return coverageOf(silent, k.lost, k.missing), k.err
}

// answered takes what a node says to a claim; nil: it has nothing against it.
func (k *claim) answered(by service.NodeID, err error) {
	before := len(k.missing)
	if k.missing = slices.DeleteFunc(k.missing, func(n service.NodeID) bool { return n == by }); len(k.missing) == before || k.err != nil {
		return
	}
	if k.err = err; err != nil || len(k.missing) == 0 {
		close(k.done)
	}
}

// Unclaimed implements service.RemoteHandlers.
func (c *Cluster) Unclaimed(h *service.Handler) {
	c.mu.Lock()
	defer c.leave()
	if k := c.handlers.claims[h]; k != nil {
		delete(c.handlers.claims, h)
		c.tellHandlers(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Unclaimed{Unclaimed: k.number}})
	}
	c.reconsider()
}

// tellHandlers tells all what is new of handlers.
func (c *Cluster) tellHandlers(n *clusterv1.HandlerNews) {
	c.peers.Tell(c.now(), "", handlerNewsItem(n))
	poke(c.wake)
}

// Registered implements service.RemoteHandlers.
func (c *Cluster) Registered(h *service.Handler, replaces []*service.Handler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.handlers.claims[h]
	if k == nil {
		return
	}
	delete(c.handlers.claims, h)
	i, _ := slices.BinarySearchFunc(c.handlers.own, k.number, (*ownHandler).compare)
	c.handlers.own = slices.Insert(c.handlers.own, i, &ownHandler{h: h, number: k.number})
	m := registrationMessage(k.number, h)
	for _, o := range replaces {
		if at := c.streams[o]; at != nil {
			m.Replaces = append(m.Replaces, &clusterv1.Replaced{Node: string(at.to.Node), Number: at.number})
		}
	}
	c.tellHandlers(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Registered{Registered: m}})
}

func (o *ownHandler) compare(number uint64) int { return cmp.Compare(o.number, number) }

// find is the handler with a number; nil: there is none.
func (hs *handlers) find(number uint64) *ownHandler {
	if i, ok := slices.BinarySearchFunc(hs.own, number, (*ownHandler).compare); ok {
		return hs.own[i]
	}
	return nil
}

func (hs *handlers) place(h *service.Handler) int {
	return slices.IndexFunc(hs.own, func(o *ownHandler) bool { return o.h == h })
}

// Leaves implements service.RemoteHandlers. What the handler has taken is told first.
func (c *Cluster) Leaves(h *service.Handler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.handlers.place(h); i >= 0 && !c.handlers.own[i].leaving {
		c.handlers.own[i].leaving = true
		c.giveReplies(c.now(), true)
		c.tellHandlers(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Leaves{Leaves: c.handlers.own[i].number}})
	}
	c.reconsider()
}

// Gone implements service.RemoteHandlers.
func (c *Cluster) Gone(h *service.Handler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.handlers.place(h); i >= 0 {
		number := c.handlers.own[i].number
		c.handlers.own = slices.Delete(c.handlers.own, i, i+1)
		c.giveReplies(c.now(), true)
		c.tellHandlers(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Gone{Gone: number}})
		for _, in := range c.inboxes {
			c.add(in, told{do: func() { c.endVisits(in, number) }})
		}
	}
}

// endVisits ends what came from a member to a handler of this node that is gone.
func (c *Cluster) endVisits(in *inbox, number uint64) {
	for id, v := range in.abroad.visits {
		if v.number == number {
			delete(in.abroad.visits, id)
			c.closeVisit(v, service.ReasonNone)
		}
	}
}

// Stalls implements service.RemoteHandlers.
func (c *Cluster) Stalls(h *service.Handler) {
	c.mu.Lock()
	defer c.leave()
	if s := c.streams[h]; s != nil {
		c.peers.Tell(c.now(), s.to.Node, handlerNewsItem(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Stalls{Stalls: s.number}}))
	}
}

// Learned implements service.RemoteHandlers. Nodes that are there hear of it by the registration; those that come, by
// the state.
func (c *Cluster) Learned(pattern string, decides bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.handlers.decides[pattern]
	if !ok {
		if c.handlers.decides == nil {
			c.handlers.decides = map[string]bool{}
		}
		c.handlers.names = append(c.handlers.names, pattern)
	}
	c.handlers.decides[pattern] = known || decides
}

// tellRegistrations is a part of the state that a new epoch tells: first which handlers there are, then each of them.
func (hs *handlers) tellRegistrations(left int) (item []byte, rest int) {
	if left < 0 {
		roster := &clusterv1.Roster{}
		for _, o := range hs.own {
			roster.Numbers = append(roster.Numbers, o.number)
		}
		return handlerNewsItem(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Roster{Roster: roster}}), 0
	}
	i, _ := slices.BinarySearchFunc(hs.own, uint64(left)+1, (*ownHandler).compare)
	if i == len(hs.own) {
		return nil, left
	}
	o := hs.own[i]
	m := registrationMessage(o.number, o.h)
	m.Leaving = o.leaving
	return handlerNewsItem(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Registered{Registered: m}}), int(o.number)
}

// tellNames is another part.
func (hs *handlers) tellNames(left int) (item []byte, rest int) {
	left = max(0, left)
	names := hs.names[left:min(len(hs.names), left+namesStep)]
	if len(names) == 0 {
		return nil, left
	}
	m := &clusterv1.Names{Known: names}
	for _, name := range names {
		if hs.decides[name] {
			m.Decided = append(m.Decided, name)
		}
	}
	return handlerNewsItem(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Names{Names: m}}), left + len(names)
}

// ServerSideEmit sends an event to the handlers of all nodes that asked for it. The coverage names the nodes whose
// handlers nobody knows, and those that are silent: these may have got handlers since. Handlers there that are known
// hear it when their node is back, and their replies are not waited for.
func (c *Cluster) ServerSideEmit(ctx context.Context, e service.ServerSideEmit) (service.ServerSideResult, error) {
	var missed []service.NodeID
	c.mu.Lock()
	for _, m := range c.peers.Members() {
		if m.State == Silent {
			e.Silent = append(e.Silent, m.Node)
		}
		if m.State == Silent || !m.State.Reachable() {
			missed = append(missed, m.Node)
		}
	}
	c.mu.Unlock()
	r, err := c.Node.ServerSideEmit(ctx, e)
	for _, name := range r.Coverage.Unreachable {
		missed = append(missed, service.NodeID(name))
	}
	r.Coverage = coverageOf(missed)
	return r, err
}
