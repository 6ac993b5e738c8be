package bridge

import (
	"context"
	"fmt"
	"time"

	"foyer/service"
	"foyer/service/adapter/official"
)

// The calls of the API that take peers. What a caller does goes out in the order in which it does it.

// tell tells peers to do something with the sockets of a target, and adds them to the coverage.
func (b *Bridge) tell(ctx context.Context, t *service.Target, m *official.Message, c *service.Coverage) {
	if b.ours(t) || !m.SetTarget(t) {
		return
	}
	_, sure := b.publish(m, "")
	cover(c, b.uncounted(ctx, t.Namespace), sure)
}

// Join puts every socket of a target into rooms, at all nodes and peers.
func (b *Bridge) Join(ctx context.Context, t service.Target, rooms []string) (int, service.Coverage, error) {
	n, c, err := b.Cluster.Join(ctx, t, rooms)
	if err == nil {
		b.tell(ctx, &t, &official.Message{Kind: official.Join, Change: rooms}, &c)
		b.awaitRooms(ctx, t.Namespace, rooms)
	}
	return n, c, err
}

// Leave takes every socket of a target out of rooms, at all nodes and peers.
func (b *Bridge) Leave(ctx context.Context, t service.Target, rooms []string) (int, service.Coverage, error) {
	n, c, err := b.Cluster.Leave(ctx, t, rooms)
	if err == nil {
		b.tell(ctx, &t, &official.Message{Kind: official.Leave, Change: rooms}, &c)
	}
	return n, c, err
}

// Disconnect ends every socket of a target, at all nodes and peers. Peers know two ways: to leave the namespace, and to
// close the link.
func (b *Bridge) Disconnect(ctx context.Context, t service.Target, mode service.DisconnectMode) (int, service.Coverage, error) {
	n, c, err := b.Cluster.Disconnect(ctx, t, mode)
	if err == nil {
		m := &official.Message{Kind: official.Disconnect, Close: mode != service.DisconnectNamespace}
		b.tell(ctx, &t, m, &c)
	}
	return n, c, err
}

// Room is the size of a room at all nodes; peers are not counted.
func (b *Bridge) Room(ctx context.Context, namespace, room string) (int, service.Coverage, error) {
	n, c, err := b.Cluster.Room(ctx, namespace, room)
	if err == nil {
		c.UncountedNodes += b.uncounted(ctx, namespace)
	}
	return n, c, err
}

// Rooms is a page of the rooms of all nodes; those of peers are not in it.
func (b *Bridge) Rooms(ctx context.Context, r service.RoomsRequest) (service.RoomsPage, error) {
	page, err := b.Cluster.Rooms(ctx, r)
	if err == nil {
		page.Coverage.UncountedNodes += b.uncounted(ctx, r.Namespace)
	}
	return page, err
}

// fetch asks peers for the sockets of a target.
func (b *Bridge) fetch(ctx context.Context, t *service.Target) (list []official.Socket, missing int) {
	if b.ours(t) {
		return nil, 0
	}
	peers := b.uncounted(ctx, t.Namespace)
	if peers == 0 {
		return nil, 0
	}
	a := b.begin(t.Namespace, nil)
	if a == nil {
		return nil, 1
	}
	defer b.end(a)
	m := &official.Message{Kind: official.FetchSockets, Request: a.id, Timeout: fetchWait}
	if !m.SetTarget(t) {
		return nil, 0
	}
	if taken, _ := b.publish(m, ""); !taken {
		return nil, peers
	}
	missing = b.await(ctx, a, fetchWait)
	b.mu.Lock()
	defer b.mu.Unlock()
	return a.sockets, missing
}

// maxPeerSockets is how many sockets of peers one listing has; of more, the coverage says that peers are not counted.
const maxPeerSockets = 10_000

// Sockets is a page of the sockets of all nodes. Those of peers stand on the last page, whatever its size: peers are
// asked once in a listing. Pages before that one say that they are not counted.
func (b *Bridge) Sockets(ctx context.Context, t service.Target, r service.PageRequest) (service.Page, error) {
	page, err := b.Cluster.Sockets(ctx, t, r)
	if err != nil || b.ours(&t) {
		return page, err
	}
	if page.Next != (service.Place{}) {
		page.Coverage.UncountedNodes += b.uncounted(ctx, t.Namespace)
		return page, nil
	}
	list, missing := b.fetch(ctx, &t)
	page.Coverage.UnreachableUnnamed += missing
	if len(list) == 0 { // to measure a page is a sixth of what a list costs
		return page, nil
	}
	bytes := 0
	for i := range page.Sockets {
		bytes += r.View.Bytes(&page.Sockets[i])
	}
	for i := range list {
		info := socketInfo(t.Namespace, &list[i])
		if bytes += r.View.Bytes(&info); i >= maxPeerSockets || r.Bytes > 0 && bytes > r.Bytes {
			page.Coverage.UncountedNodes += max(0, b.uncounted(ctx, t.Namespace)-missing)
			break
		}
		page.Sockets = append(page.Sockets, info)
		if r.Place == (service.Place{}) {
			page.Total++
		}
	}
	return page, nil
}

// Socket is what is known of one socket, at whichever node or peer.
func (b *Bridge) Socket(ctx context.Context, namespace string, id service.SocketID) (service.SocketInfo, error) {
	info, err := b.Cluster.Socket(ctx, namespace, id)
	if err != service.ErrSocketNotFound { //nolint:errorlint // it is given as it is
		return info, err
	}
	if peer, ok := b.peerSocket(ctx, namespace, id); ok {
		return socketInfo(namespace, peer), nil
	}
	return info, err
}

// Update changes a socket's notes. Those of a socket at a peer are the peer's own.
func (b *Bridge) Update(ctx context.Context, namespace string, id service.SocketID, u service.Update) (service.SocketInfo, error) {
	info, err := b.Cluster.Update(ctx, namespace, id, u)
	if err != service.ErrSocketNotFound { //nolint:errorlint // it is given as it is
		return info, err
	}
	if _, ok := b.peerSocket(ctx, namespace, id); ok {
		return info, &service.Error{
			Code: service.Precondition, Reason: "SOCKET_ON_PEER", Field: "socket_id",
			Message: fmt.Sprintf("socket %.40q is at a Socket.IO server on Node, whose sockets only it can change", id),
		}
	}
	return info, err
}

// Explain says whom an emit would reach. Sockets of peers are not counted; one that is asked for by its id, and that no
// node knows, is looked for there.
func (b *Bridge) Explain(ctx context.Context, r service.ExplainRequest) (service.Explanation, error) {
	x, err := b.Cluster.Explain(ctx, r)
	if err != nil {
		return x, err
	}
	if !b.ours(&r.Target) {
		x.Coverage.UncountedNodes += b.uncounted(ctx, r.Target.Namespace)
	}
	if len(x.Asked) == 1 && x.Asked[0].Verdict == service.VerdictUnknown {
		if peer, ok := b.peerSocket(ctx, r.Target.Namespace, r.Socket); ok {
			x.Asked[0] = service.ExplainPeer(r.Target, socketInfo(r.Target.Namespace, peer))
		}
	}
	return x, nil
}

func (b *Bridge) peerSocket(ctx context.Context, namespace string, id service.SocketID) (*official.Socket, bool) {
	t := &service.Target{Namespace: namespace, Rooms: []string{string(id)}}
	list, _ := b.fetch(ctx, t)
	for i := range list {
		if list[i].ID == string(id) {
			return &list[i], true
		}
	}
	return nil, false
}

// ServerSideEmit sends an event to the handlers of all nodes, and to the peers themselves.
func (b *Bridge) ServerSideEmit(ctx context.Context, e service.ServerSideEmit) (service.ServerSideResult, error) {
	m := &official.Message{Kind: official.ServerSideEmit, Namespace: e.Namespace, Payload: e.Packet.Payload, Attachments: e.Packet.Attachments}
	var a *ask
	if e.WantsReplies {
		if a = b.begin(e.Namespace, nil); a != nil {
			m.Request = a.id
			defer b.end(a)
		}
	}
	began := time.Now()
	told, taken, sure := e.Told, true, true
	e.Told = func() {
		taken, sure = b.publish(m, "")
		if told != nil {
			told()
		}
	}
	r, err := b.Cluster.ServerSideEmit(ctx, e)
	if err != nil {
		return r, err
	}
	if a == nil || !taken {
		cover(&r.Coverage, b.uncounted(ctx, e.Namespace), sure)
		return r, nil
	}
	missing := b.await(ctx, a, max(0, e.Timeout-time.Since(began)))
	b.mu.Lock()
	defer b.mu.Unlock()
	r.Coverage.UnreachableUnnamed += missing
	r.Matched += len(a.replies)
	r.Replies = append(r.Replies, a.replies...)
	return r, nil
}
