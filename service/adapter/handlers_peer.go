package adapter

import (
	"maps"
	"slices"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// abroad is what a member has to do with handlers: those that it has, which may serve sockets here, and its sockets,
// which handlers here serve. It is owned by the goroutine that works on the member's inbox.
type abroad struct {
	from    Member
	theirs  map[uint64]*theirs
	streams map[uint64]*theirs // those that serve here, by stream
	visits  map[uint64]*visiting
	claims  map[uint64]*theirs // that are open, as another node judges, or agreed to
}

// theirs is a handler of a member, or what it claims.
type theirs struct {
	number  uint64
	reg     service.Registration
	at      time.Time // when it was claimed
	leaving bool
	agreed  bool // to the claim
	told    bool // the log knows why it does not serve here
	stream  *stream
}

func makeTheirs(m *clusterv1.Registration) *theirs {
	return &theirs{number: m.GetNumber(), reg: registrationOf(m), at: claimedAt(m), leaving: m.GetLeaving()}
}

// maxTheirs is how many handlers of one member are known.
const maxTheirs = 4096

// hearHandlers takes what is new of a member's handlers.
func (c *Cluster) hearHandlers(in *inbox, from Member, n *clusterv1.HandlerNews) {
	a := &in.abroad
	if a.theirs == nil {
		a.theirs, a.streams, a.claims = map[uint64]*theirs{}, map[uint64]*theirs{}, map[uint64]*theirs{}
	}
	a.from = from
	switch k := n.GetNews().(type) {
	case *clusterv1.HandlerNews_Roster:
		for number, t := range a.theirs {
			if !slices.Contains(k.Roster.GetNumbers(), number) {
				c.forgetTheirs(a, t)
			}
		}
	case *clusterv1.HandlerNews_Claim:
		c.hearClaim(in, k.Claim)
	case *clusterv1.HandlerNews_Unclaimed:
		c.dropClaim(a, k.Unclaimed)
	case *clusterv1.HandlerNews_Registered:
		c.hearRegistered(in, k.Registered)
	case *clusterv1.HandlerNews_Leaves:
		if t := a.theirs[k.Leaves]; t != nil {
			c.leavesTheirs(t)
		}
	case *clusterv1.HandlerNews_Gone:
		if t := a.theirs[k.Gone]; t != nil {
			c.forgetTheirs(a, t)
		}
	case *clusterv1.HandlerNews_Verdict:
		c.hearVerdict(from, k.Verdict)
	case *clusterv1.HandlerNews_Stalls:
		c.mu.Lock()
		o := c.handlers.find(k.Stalls)
		c.mu.Unlock()
		if o != nil {
			c.Shed(o.h)
		}
	case *clusterv1.HandlerNews_Names:
		for _, name := range k.Names.GetKnown() {
			c.Learn(name, false)
		}
		for _, name := range k.Names.GetDecided() {
			c.Learn(name, true)
		}
	case *clusterv1.HandlerNews_UnknownStream:
		if t := a.streams[k.UnknownStream]; t != nil {
			c.restart(in, t)
		}
	}
}

func (c *Cluster) hearClaim(in *inbox, m *clusterv1.Registration) {
	a := &in.abroad
	switch t := a.claims[m.GetNumber()]; {
	case t != nil && t.agreed: // it is told again, and what was promised is taken back once
		c.say(a.from, t.number, nil)
	case t == nil && len(a.claims) < maxTheirs:
		c.judge(in, makeTheirs(m))
	}
}

// judge answers a claim, or keeps it until it can.
func (c *Cluster) judge(in *inbox, t *theirs) {
	a := &in.abroad
	if t.agreed {
		return
	}
	verdict, err := c.Consider(&t.reg, a.from.Node, time.Since(t.at), false)
	if t.agreed = verdict == service.Agreed; verdict != service.Held {
		a.claims[t.number] = t
	} else {
		delete(a.claims, t.number)
	}
	if verdict != service.Open {
		c.say(a.from, t.number, err)
	}
}

// dropClaim lets go of a claim: its handler is there, or will not be.
func (c *Cluster) dropClaim(a *abroad, number uint64) {
	if t := a.claims[number]; t != nil {
		delete(a.claims, number)
		c.Unpromise(&t.reg)
	}
}

// say tells a member what this node says to a claim or a registration of it.
func (c *Cluster) say(to Member, number uint64, err error) {
	v := &clusterv1.Verdict{Number: number}
	if err != nil {
		v.Error = errorMessage(err)
	}
	c.mu.Lock()
	c.peers.Tell(c.now(), to.Node, handlerNewsItem(&clusterv1.HandlerNews{News: &clusterv1.HandlerNews_Verdict{Verdict: v}}))
	c.leave()
}

// hearVerdict takes what a member says to a claim or a registration of this node.
func (c *Cluster) hearVerdict(from Member, v *clusterv1.Verdict) {
	err := errorOf(v.GetError())
	c.mu.Lock()
	for _, k := range c.handlers.claims {
		if k.number == v.GetNumber() {
			k.answered(from.Node, err)
		}
	}
	o := c.handlers.find(v.GetNumber())
	c.mu.Unlock()
	if o != nil && err != nil {
		c.Refuse(o.h, err)
	}
}

func (c *Cluster) hearRegistered(in *inbox, m *clusterv1.Registration) {
	a := &in.abroad
	defer c.dropClaim(a, m.GetNumber())
	if t := a.theirs[m.GetNumber()]; t != nil { // it is told again
		if m.GetLeaving() {
			c.leavesTheirs(t)
		}
		return
	}
	if len(a.theirs) >= maxTheirs {
		return
	}
	for _, r := range m.GetReplaces() {
		if service.NodeID(r.GetNode()) == c.ID() {
			c.mu.Lock()
			o := c.handlers.find(r.GetNumber())
			c.mu.Unlock()
			if o != nil {
				c.Refuse(o.h, service.ErrReplaced)
			}
		}
	}
	t := makeTheirs(m)
	a.theirs[t.number] = t
	c.admit(in, t)
}

// admit lets a handler of a member serve the sockets of this node, unless something is against it: then it is tried
// again when others have left.
func (c *Cluster) admit(in *inbox, t *theirs) {
	a := &in.abroad
	if t.stream != nil || t.leaving {
		return
	}
	verdict, err := c.Consider(&t.reg, a.from.Node, time.Since(t.at), true)
	if verdict == service.Held {
		c.say(a.from, t.number, err)
	}
	if verdict != service.Agreed {
		return
	}
	h, err := c.AttachElsewhere(t.reg, a.from.Node)
	if err != nil {
		if !t.told {
			t.told = true
			c.logRefused(t, a.from, err)
		}
		return
	}
	h.Avoid(a.from.avoided())
	t.stream = c.openStream(a.from, t.number, t.reg.View, h)
	a.streams[t.stream.id] = t
}

// reconsider has those that wait for others to leave tried again, with the mutex held.
func (c *Cluster) reconsider() {
	for _, in := range c.inboxes {
		if in.tells && !in.retries {
			in.retries = true
			c.add(in, told{do: func() { c.retry(in) }})
		}
	}
}

func (c *Cluster) retry(in *inbox) {
	c.mu.Lock()
	in.retries = false
	c.mu.Unlock()
	for _, t := range slices.Collect(maps.Values(in.abroad.claims)) {
		c.judge(in, t)
	}
	for _, t := range in.abroad.theirs {
		c.admit(in, t)
	}
}

func (c *Cluster) leavesTheirs(t *theirs) {
	t.leaving = true
	if t.stream != nil {
		t.stream.handler.Drain()
	}
}

// forgetTheirs lets go of a handler that is gone.
func (c *Cluster) forgetTheirs(a *abroad, t *theirs) {
	delete(a.theirs, t.number)
	c.endStream(a, t)
}

func (c *Cluster) endStream(a *abroad, t *theirs) {
	if s := t.stream; s != nil {
		t.stream = nil
		delete(a.streams, s.id)
		c.closeStream(s)
	}
}

// restart begins anew with a handler whose node has forgotten what it was told of sockets here.
func (c *Cluster) restart(in *inbox, t *theirs) {
	c.endStream(&in.abroad, t)
	c.admit(in, t)
}

// handlersOver begins anew with all handlers of a member that has lost this node, and forgets its sockets, which it
// gives to others or tells anew.
func (c *Cluster) handlersOver(in *inbox) {
	a := &in.abroad
	for id, v := range a.visits {
		delete(a.visits, id)
		c.closeVisit(v, service.ReasonNone)
	}
	for _, t := range a.theirs {
		c.restart(in, t)
	}
}

// avoided says whether new sockets are to go to handlers of others.
func (m Member) avoided() bool { return m.State == Leaving || m.State == Silent }

// handlersChanged does what follows for handlers from the state of a member.
func (c *Cluster) handlersChanged(in *inbox, m Member) {
	a := &in.abroad
	switch {
	case m.State.Reachable():
		a.from = m
		for _, t := range a.theirs {
			if t.stream != nil {
				t.stream.handler.Avoid(m.avoided())
			}
		}
	default:
		reason := service.ReasonNodeLost
		if m.State == Gone {
			reason = service.ReasonShutdown
		}
		for _, v := range a.visits {
			c.closeVisit(v, reason)
		}
		for number := range a.claims {
			c.dropClaim(a, number)
		}
		theirs := a.theirs
		a.visits, a.theirs, a.claims = nil, nil, nil
		for _, t := range theirs {
			c.endStream(a, t)
		}
		c.mu.Lock()
		for _, k := range c.handlers.claims {
			if k.err == nil && slices.Contains(k.missing, m.Node) {
				k.answered(m.Node, nil)
				k.lost = append(k.lost, m.Node)
			}
		}
		c.mu.Unlock()
	}
}
