package adapter

import (
	"cmp"
	"context"
	"slices"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// Explain says whom an emit that enters here would reach at all nodes. Everybody is asked, also those that an emit
// would not be given to: they know why it is not for their sockets, and who has left them.
func (c *Cluster) Explain(ctx context.Context, r service.ExplainRequest) (service.Explanation, error) {
	x, err := c.Node.Explain(ctx, r)
	if err != nil {
		return x, err
	}
	answers, coverage := c.askAll(ctx, func(others int) *clusterv1.Question {
		return explainQuestion(&r, service.MaxExplainedBytes/max(others, 1))
	})
	x.Coverage = coverage
	owner, elsewhere := c.ownerOf(r.Socket)
	if elsewhere {
		x.Asked = []service.Explained{c.unheard(owner, r.Socket, coverage)}
	}
	for _, a := range answers {
		part := explanationOf(a.from, r.Target.Namespace, a.GetExplanation())
		x.Nodes, x.Sample = append(x.Nodes, part.Nodes...), append(x.Sample, part.Sample...)
		switch {
		case elsewhere && a.from == owner && len(part.Asked) == 1:
			x.Asked = part.Asked
		case r.User != "":
			x.Asked = append(x.Asked, part.Asked...)
		}
	}
	slices.SortFunc(x.Nodes, func(a, b service.Reach) int { return cmp.Compare(a.Node, b.Node) })
	x.Asked, x.Sample = service.Shortlist(x.Asked, service.MaxExplained), service.Shortlist(x.Sample, r.Most)
	return x, ctx.Err()
}

// unheard explains a socket of a node that has not answered.
func (c *Cluster) unheard(owner service.NodeID, id service.SocketID, coverage service.Coverage) service.Explained {
	e := service.Explained{Socket: service.SocketInfo{ID: id}, Verdict: service.VerdictUnknown}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.peers.member(owner)
	switch {
	case m == nil || m.State == Gone:
	case m.State == Lost:
		e.Socket.NodeID = owner
		e.Verdict = service.VerdictDisconnected
		e.Gone = &service.Departure{Time: c.began.Add(m.turned), Reason: service.ReasonNodeLost}
	case slices.Contains(coverage.Unreachable, string(owner)):
		e.Socket.NodeID = owner
		e.Verdict = service.VerdictUnreachable
	}
	return e
}

// askAll asks all members, and waits for their answers. others is how many they are.
func (c *Cluster) askAll(ctx context.Context, question func(others int) *clusterv1.Question) ([]answered, service.Coverage) {
	trace := c.traceOf(ctx)
	c.mu.Lock()
	q := question(len(c.peers.members))
	q.Call, q.Trace = c.calls.next(), trace
	k := c.calls.begin(q.GetCall(), c.peers.GiveAll(questionItem(q), leastWire(q)), 1)
	c.leave()
	return c.answersTo(ctx, k)
}

// Handlers is a page of the handlers of all nodes: those of one node after those of another, by the nodes' names, as
// pages of sockets are. Nodes that do not answer are stepped over, and named.
func (c *Cluster) Handlers(ctx context.Context, r service.HandlersRequest) (service.HandlersPage, error) {
	if r.Local {
		return c.Node.Handlers(ctx, r)
	}
	nodes := c.everybody()
	if r.Place != (service.Place{}) && c.unknown(r.Place.Node) {
		return service.HandlersPage{}, service.ErrToken
	}
	page, bytes := service.HandlersPage{}, 0
	for i, m := range nodes {
		if m.Node < r.Place.Node {
			continue
		}
		request := service.HandlersRequest{Limit: r.Limit - len(page.Handlers), Bytes: r.Bytes}
		if r.Bytes > 0 {
			request.Bytes -= bytes
		}
		if m.Node == r.Place.Node {
			request.Place = r.Place
		}
		part, ok, err := c.handlersOf(ctx, m, &request)
		if err != nil {
			return service.HandlersPage{}, err
		}
		if !ok {
			page.Coverage.Unreachable = append(page.Coverage.Unreachable, string(m.Node))
		}
		for k := range part.Handlers {
			bytes += part.Handlers[k].Size()
		}
		page.Handlers, page.Next = append(page.Handlers, part.Handlers...), part.Next
		if page.Next == (service.Place{}) && i+1 < len(nodes) {
			page.Next = service.Place{Incarnation: nodes[i+1].Incarnation, Seq: 1}
		}
		if part.Next != (service.Place{}) || len(page.Handlers) >= r.Limit || r.Bytes > 0 && bytes >= r.Bytes {
			break
		}
	}
	return page, nil
}

// everybody is this node and all its members, by name.
func (c *Cluster) everybody() []Member {
	c.mu.Lock()
	list := make([]Member, 0, 1+len(c.peers.members))
	for _, m := range c.peers.members {
		if m.State != Gone {
			list = append(list, m.Member)
		}
	}
	c.mu.Unlock()
	list = append(list, Member{Incarnation: c.Incarnation(), State: Up})
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

// handlersOf is a page of one node; not ok: it does not answer.
func (c *Cluster) handlersOf(ctx context.Context, m Member, r *service.HandlersRequest) (page service.HandlersPage, ok bool, err error) {
	switch {
	case m.Node == c.ID():
		page, err = c.Node.Handlers(ctx, *r)
		return page, true, err
	case !m.State.Reachable():
		return page, false, nil
	}
	a := c.askOne(ctx, m.Node, &clusterv1.Question{Ask: &clusterv1.Question_ListHandlers{ListHandlers: &clusterv1.ListHandlers{
		Run: r.Place.Run, Seq: r.Place.Seq, Limit: uint32(r.Limit), Bytes: uint32(r.Bytes),
	}}})
	if a == nil {
		return page, false, ctx.Err()
	}
	for _, h := range a.GetHandlers() {
		page.Handlers = append(page.Handlers, handlerInfo(m.Node, h))
	}
	if a.GetNext() != 0 {
		page.Next = service.Place{Incarnation: m.Incarnation, Seq: a.GetNext()}
	}
	return page, true, nil
}
