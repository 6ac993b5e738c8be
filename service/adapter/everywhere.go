package adapter

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// The calls of the API that take other nodes, as grpcapi's contract has them.

// ask asks all nodes that may have sockets for a target, and waits for their answers.
func (c *Cluster) ask(ctx context.Context, t *service.Target, q *clusterv1.Question) (answers []answered, coverage service.Coverage) {
	if t.Local {
		return nil, service.Coverage{}
	}
	trace := c.traceOf(ctx)
	c.mu.Lock()
	handed := c.peers.Publish(c.now(), t, false, func(wire uint64) []byte {
		if q.Call == 0 {
			q.Call = c.calls.next()
		}
		if q.Trace = trace; wire < wireSkips {
			q.Trace = ""
		}
		return questionItem(q)
	})
	k := c.calls.begin(q.GetCall(), handed, 1)
	c.leave()
	return c.answersTo(ctx, k)
}

// askOne asks one node; nil: it does not answer.
func (c *Cluster) askOne(ctx context.Context, node service.NodeID, q *clusterv1.Question) *clusterv1.Answer {
	trace := c.traceOf(ctx)
	c.mu.Lock()
	if q.Call = c.calls.next(); c.peers.Speaks(node, wireSkips) {
		q.Trace = trace
	}
	handed := Handed{Given: []service.NodeID{node}}
	if !c.peers.Speaks(node, leastWire(q)) || !c.peers.Give(node, questionItem(q)) || c.peers.State(node) == Silent {
		handed = Handed{Missed: handed.Given}
	}
	k := c.calls.begin(q.GetCall(), handed, 1)
	c.leave()
	if answers, _ := c.answersTo(ctx, k); len(answers) > 0 {
		return answers[0].Answer
	}
	return nil
}

// traceOf is the trace that a call is part of, as it is told.
func (c *Cluster) traceOf(ctx context.Context) string {
	if c.Tracer() == nil {
		return ""
	}
	return service.TraceOf(ctx).Traceparent()
}

func (c *Cluster) answersTo(ctx context.Context, k *call) ([]answered, service.Coverage) {
	c.wait(ctx, k, callWait)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls.leave(k)
	coverage := k.coverage()
	for _, a := range k.answers {
		if len(a.GetUnreachable()) > 0 {
			coverage.Unreachable = append(coverage.Unreachable, a.GetUnreachable()...)
		}
	}
	slices.Sort(coverage.Unreachable)
	coverage.Unreachable = slices.Compact(coverage.Unreachable)
	return slices.Clone(k.answers), coverage
}

// both adds what the others did to what was done here, unless that was an error.
func (c *Cluster) both(ctx context.Context, t *service.Target, q *clusterv1.Question, here int) (int, service.Coverage, error) {
	answers, coverage := c.ask(ctx, t, q)
	for _, a := range answers {
		if err := errorOf(a.GetError()); err != nil {
			return 0, service.Coverage{}, err
		}
		here += int(a.GetMatched())
	}
	return here, coverage, nil
}

// Join puts every socket of a target into rooms, at all nodes, of which each has told the others before it does so.
// Rooms that would be too many for a socket of another node are an error though sockets of this one have joined.
func (c *Cluster) Join(ctx context.Context, t service.Target, rooms []string) (int, service.Coverage, error) {
	here, unheard, err := c.joinHere(ctx, t, rooms, "")
	if err != nil {
		return 0, service.Coverage{}, err
	}
	if !t.Local { // a node that joins sockets elsewhere does not wait for this node, which knows without being told
		defer c.foresee(t.Namespace, rooms)()
	}
	n, coverage, err := c.both(ctx, &t, &clusterv1.Question{Ask: &clusterv1.Question_Join{Join: &clusterv1.Rooms{Target: targetMessage(&t), Rooms: rooms}}}, here)
	if len(unheard) > 0 && err == nil {
		for _, node := range unheard {
			coverage.Unreachable = append(coverage.Unreachable, string(node))
		}
		slices.Sort(coverage.Unreachable)
		coverage.Unreachable = slices.Compact(coverage.Unreachable)
	}
	return n, coverage, err
}

// joinHere puts this node's sockets of a target into rooms, once the others, but for one, have heard that it has some
// in them: so from the first emit that reaches a socket in its room on, each one does that begins after it, wherever it
// is made. It returns those that have not heard in time.
func (c *Cluster) joinHere(ctx context.Context, t service.Target, rooms []string, except service.NodeID) (n int, unheard []service.NodeID, err error) {
	told := c.Count(t) > 0
	if told {
		defer c.announce(t.Namespace, rooms)()
		unheard = c.telling(except).unheard(ctx)
	}
	n, _, err = c.Node.Join(ctx, t, rooms)
	if !told && n > 0 { // they have come just now
		unheard = c.telling(except).unheard(ctx)
	}
	return n, unheard, err
}

// Leave takes every socket of a target out of rooms, at all nodes.
func (c *Cluster) Leave(ctx context.Context, t service.Target, rooms []string) (int, service.Coverage, error) {
	here, _, err := c.Node.Leave(ctx, t, rooms)
	if err != nil {
		return 0, service.Coverage{}, err
	}
	return c.both(ctx, &t, &clusterv1.Question{Ask: &clusterv1.Question_Leave{Leave: &clusterv1.Rooms{Target: targetMessage(&t), Rooms: rooms}}}, here)
}

// Disconnect ends every socket of a target, at all nodes.
func (c *Cluster) Disconnect(ctx context.Context, t service.Target, mode service.DisconnectMode) (int, service.Coverage, error) {
	here, _, err := c.Node.Disconnect(ctx, t, mode)
	if err != nil {
		return 0, service.Coverage{}, err
	}
	return c.both(ctx, &t, &clusterv1.Question{Ask: &clusterv1.Question_Disconnect{
		Disconnect: &clusterv1.Disconnect{Target: targetMessage(&t), Mode: uint32(mode)},
	}}, here)
}

// count is how many sockets a target has at all nodes.
func (c *Cluster) count(ctx context.Context, t *service.Target) (int, service.Coverage) {
	n, coverage, _ := c.both(ctx, t, &clusterv1.Question{Ask: &clusterv1.Question_Count{Count: targetMessage(t)}}, c.Count(*t))
	return n, coverage
}

// CollectAcks asks the recipients at all nodes. Of more than one it counts them first, so that nobody is sent to where
// there are too many; those that come meanwhile may be more.
func (c *Cluster) CollectAcks(ctx context.Context, e service.Emit, limit int) (*service.Acks, error) {
	if one := len(e.Target.Rooms) == 1 && len(e.Target.Rooms[0]) == socketIDLen; limit > 0 && !one && !e.Target.Local {
		if n, _ := c.count(ctx, &e.Target); n > limit {
			return nil, service.TooManyRecipients(n, limit)
		}
	}
	return c.Node.CollectAcks(ctx, e, limit)
}

// Room is the size of a room over all nodes.
func (c *Cluster) Room(ctx context.Context, namespace, room string) (int, service.Coverage, error) {
	n, coverage := c.count(ctx, &service.Target{Namespace: namespace, Rooms: []string{room}})
	return n, coverage, nil
}

// Rooms is a page of the rooms of all nodes, with the sums of their sizes.
func (c *Cluster) Rooms(ctx context.Context, r service.RoomsRequest) (service.RoomsPage, error) {
	more := r
	more.Limit++ // that there is another one says whether there is another page
	here, err := c.Node.Rooms(ctx, more)
	if err != nil {
		return service.RoomsPage{}, err
	}
	answers, coverage := c.ask(ctx, &service.Target{Namespace: r.Namespace, All: true}, &clusterv1.Question{Ask: &clusterv1.Question_ListRooms{
		ListRooms: &clusterv1.ListRooms{Namespace: r.Namespace, Prefix: r.Prefix, After: r.After, Limit: uint32(more.Limit)},
	}})
	sizes := map[string]int{}
	for _, room := range here.Rooms {
		sizes[room.Name] = room.Size
	}
	for _, a := range answers {
		for _, room := range a.GetRooms() {
			sizes[room.GetName()] += int(room.GetSize())
		}
	}
	page := service.RoomsPage{Coverage: coverage}
	for name, size := range sizes {
		if name > r.After {
			page.Rooms = append(page.Rooms, service.RoomInfo{Name: name, Size: size})
		}
	}
	slices.SortFunc(page.Rooms, func(a, b service.RoomInfo) int { return strings.Compare(a.Name, b.Name) })
	if len(page.Rooms) > r.Limit {
		page.Rooms = page.Rooms[:r.Limit]
		page.Next = page.Rooms[r.Limit-1].Name
	}
	return page, nil
}

// Socket asks the node that is named in a socket's id.
func (c *Cluster) Socket(ctx context.Context, namespace string, id service.SocketID) (service.SocketInfo, error) {
	owner, elsewhere := c.ownerOf(id)
	if !elsewhere {
		return c.Node.Socket(ctx, namespace, id)
	}
	return c.socketAt(ctx, owner, namespace, &clusterv1.Question{Ask: &clusterv1.Question_GetSocket{
		GetSocket: &clusterv1.GetSocket{Namespace: namespace, Id: string(id)},
	}})
}

// Update asks the node that is named in a socket's id.
func (c *Cluster) Update(ctx context.Context, namespace string, id service.SocketID, u service.Update) (service.SocketInfo, error) {
	owner, elsewhere := c.ownerOf(id)
	if !elsewhere {
		return c.Node.Update(ctx, namespace, id, u)
	}
	return c.socketAt(ctx, owner, namespace, &clusterv1.Question{Ask: &clusterv1.Question_UpdateSocket{
		UpdateSocket: &clusterv1.UpdateSocket{Namespace: namespace, Id: string(id), Data: u.Data, Merge: u.Merge, UserId: u.UserID},
	}})
}

// ownerOf is the node in a socket's id, and says whether that is another one.
func (c *Cluster) ownerOf(id service.SocketID) (service.NodeID, bool) {
	if len(id) != socketIDLen {
		return "", false
	}
	owner := service.NodeID(id[:4])
	return owner, owner != c.ID()
}

func (c *Cluster) socketAt(ctx context.Context, owner service.NodeID, namespace string, q *clusterv1.Question) (service.SocketInfo, error) {
	c.mu.Lock()
	state := c.peers.State(owner)
	c.mu.Unlock()
	if state == Lost || state == Gone {
		return service.SocketInfo{}, service.ErrSocketNotFound
	}
	a := c.askOne(ctx, owner, q)
	switch {
	case a == nil && ctx.Err() != nil:
		return service.SocketInfo{}, ctx.Err()
	case a == nil:
		return service.SocketInfo{}, &service.Error{
			Code: service.Unavailable, Reason: "NODE_UNREACHABLE", Field: "socket_id",
			Message: fmt.Sprintf("node %s, which has this socket, does not answer (it is %s)", owner, state),
		}
	case a.GetError() != nil:
		return service.SocketInfo{}, errorOf(a.GetError())
	case len(a.GetSockets()) != 1:
		return service.SocketInfo{}, service.ErrSocketNotFound
	}
	return socketInfo(owner, namespace, a.GetSockets()[0]), nil
}

// Sockets is a page of the sockets of all nodes: those of one node after those of another, by the nodes' names. A place
// is at one node; a page goes on with the next node while it has room, so that a short list is one page as on one node.
// Nodes that do not answer are stepped over, and named.
func (c *Cluster) Sockets(ctx context.Context, t service.Target, r service.PageRequest) (service.Page, error) {
	if t.Local {
		return c.Node.Sockets(ctx, t, r)
	}
	nodes := c.nodesFor(&t)
	total, coverage := 0, service.Coverage{}
	place := r.Place
	if place == (service.Place{}) {
		total, coverage = c.count(ctx, &t)
	} else if !slices.ContainsFunc(nodes, func(m Member) bool { return m.Node == place.Node }) && c.unknown(place.Node) {
		return service.Page{}, service.ErrToken
	}
	missed := map[string]struct{}{}
	for _, name := range coverage.Unreachable {
		missed[name] = struct{}{}
	}
	page, bytes := service.Page{Total: total}, 0
	for i, m := range nodes {
		if m.Node < place.Node {
			continue
		}
		request := r
		request.Place = service.Place{}
		request.Limit -= len(page.Sockets)
		if request.Bytes > 0 {
			request.Bytes -= bytes
		}
		if m.Node == place.Node {
			request.Place = place
		}
		part, ok, err := c.pageOf(ctx, m, &t, &request)
		if err != nil {
			return service.Page{}, err
		}
		if !ok {
			missed[string(m.Node)] = struct{}{}
		}
		for k := range part.Sockets {
			bytes += r.View.Bytes(&part.Sockets[k])
		}
		page.Sockets, page.Next = append(page.Sockets, part.Sockets...), part.Next
		if page.Next == (service.Place{}) && i+1 < len(nodes) {
			page.Next = service.Place{Incarnation: nodes[i+1].Incarnation, Seq: 1}
		}
		if part.Next != (service.Place{}) || len(page.Sockets) >= r.Limit || r.Bytes > 0 && bytes >= r.Bytes {
			break
		}
	}
	for name := range missed {
		page.Coverage.Unreachable = append(page.Coverage.Unreachable, name)
	}
	slices.Sort(page.Coverage.Unreachable)
	return page, nil
}

// nodesFor are the nodes that may have sockets of a target, this one among them, by name.
func (c *Cluster) nodesFor(t *service.Target) []Member {
	c.mu.Lock()
	list := c.peers.Wanting(t)
	c.mu.Unlock()
	list = append(list, Member{Incarnation: c.Incarnation(), State: Up})
	slices.SortFunc(list, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

// unknown says whether there is no such node, and was not lately.
func (c *Cluster) unknown(node service.NodeID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return node != c.ID() && c.peers.member(node) == nil
}

// pageOf is a page of one node; not ok: it does not answer.
func (c *Cluster) pageOf(ctx context.Context, m Member, t *service.Target, r *service.PageRequest) (page service.Page, ok bool, err error) {
	if m.Node == c.ID() {
		if r.Place == (service.Place{}) { // that of a later page counts nothing
			r.Place = service.Place{Incarnation: m.Incarnation, Seq: 1}
		}
		page, err = c.Node.Sockets(ctx, *t, *r)
		return page, true, err
	}
	if !m.State.Reachable() {
		return page, false, nil
	}
	a := c.askOne(ctx, m.Node, &clusterv1.Question{Ask: &clusterv1.Question_ListSockets{ListSockets: &clusterv1.ListSockets{
		Target: targetMessage(t), Run: r.Place.Run, Seq: r.Place.Seq, Limit: uint32(r.Limit), Bytes: uint32(r.Bytes), View: uint32(r.View),
	}}})
	if a == nil {
		return page, false, ctx.Err()
	}
	if a.GetError() != nil {
		return page, false, errorOf(a.GetError())
	}
	for _, s := range a.GetSockets() {
		page.Sockets = append(page.Sockets, socketInfo(m.Node, t.Namespace, s))
	}
	if a.GetNext() != 0 {
		page.Next = service.Place{Incarnation: m.Incarnation, Seq: a.GetNext()}
	}
	return page, true, nil
}
