package bridge

import (
	"context"
	"strings"
	"time"

	"foyer/service"
	"foyer/service/adapter/official"
)

// A Bridge is the service.Remote of its node.

const (
	heardWait   = 250 * time.Millisecond // how long a client that connects waits until peers are heard in its namespace
	socketIDLen = 20
)

// Publish implements service.Remote.
func (b *Bridge) Publish(x service.Batch) service.Ticket {
	inner := b.Cluster.Publish(x)
	if b.ours(x.Target) {
		return inner
	}
	t := &ticket{bridge: b, inner: inner, namespace: x.Target.Namespace}
	if x.Acks != nil {
		t.ask = b.begin(x.Target.Namespace, x.Acks)
	}
	for i, p := range x.Packets {
		m := broadcast(p, x.Flags)
		if !m.SetTarget(x.Target) {
			break
		}
		if t.ask != nil {
			m.Request = t.ask.id
		}
		taken, sure := b.publish(m, "")
		if !sure {
			if t.doubtful == nil {
				t.doubtful = make([]bool, len(x.Packets))
			}
			t.doubtful[i] = true
		}
		if t.ask != nil && !taken {
			b.unasked(t.ask)
		}
	}
	return t
}

func broadcast(p *service.Packet, flags service.Flags) *official.Message {
	return &official.Message{
		Kind: official.Broadcast, Flags: flags & (service.Volatile | service.NoCompress), Payload: p.Payload, Attachments: p.Attachments,
	}
}

// ours says whether a target is one socket of this cluster: peers have none of its name.
func (b *Bridge) ours(t *service.Target) bool {
	if t.Local {
		return true
	}
	if len(t.Rooms) != 1 || len(t.Rooms[0]) != socketIDLen {
		return false
	}
	owner := service.NodeID(t.Rooms[0][:len(b.ID())])
	if owner == b.ID() {
		return true
	}
	_, known := b.Member(owner)
	return known
}

// ticket is an emit on its way to other nodes and to peers.
type ticket struct {
	bridge    *Bridge
	inner     service.Ticket // nil: no other node wants it
	namespace string
	ask       *ask   // nil: nobody waits for acknowledgements
	doubtful  []bool // by place: it may not have gone out to peers; nil: none is
}

func (t *ticket) sure(place int) bool { return t.doubtful == nil || !t.doubtful[place] }

// Unreached implements service.Ticket.
func (t *ticket) Unreached(place int) (c service.Coverage) {
	if t.inner != nil {
		c = t.inner.Unreached(place)
	}
	t.bridge.mu.Lock()
	defer t.bridge.mu.Unlock()
	cover(&c, t.bridge.countLocked(t.namespace).least(), t.sure(place))
	return c
}

// Wait implements service.Ticket.
func (t *ticket) Wait(ctx context.Context, place int) (sum service.Receipt) {
	if t.inner != nil {
		sum = t.inner.Wait(ctx, place)
	}
	if t.ask == nil || t.ask.unasked {
		cover(&sum.Coverage, t.bridge.uncounted(ctx, t.namespace), t.sure(place))
		return sum
	}
	clients, missing := t.bridge.awaitCounts(ctx, t.ask)
	sum.Matched += clients
	sum.Enqueued += clients
	sum.Coverage.UnreachableUnnamed += missing
	return sum
}

// follow is why a namespace is followed.
type follow struct {
	sockets bool // this node has some in it
	holds   int  // sockets that are about to come, and handlers
	heard   <-chan struct{}
}

// Edge implements service.Remote.
func (b *Bridge) Edge(namespace, room string, on bool) {
	b.Cluster.Edge(namespace, room, on)
	if room != "" {
		if b.byRoom != nil {
			b.byRoom.Room(namespace, room, on)
		}
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.followLocked(namespace)
	f.sockets = on
	b.settleLocked(namespace, f)
}

// followLocked is what is known of a namespace, which is heard from now on. settleLocked follows.
func (b *Bridge) followLocked(namespace string) *follow {
	f := b.follows[namespace]
	if f == nil {
		f = &follow{heard: b.medium.Follow(namespace, true)}
		b.follows[namespace] = f
	}
	return f
}

// settleLocked ends what nobody wants any more.
func (b *Bridge) settleLocked(namespace string, f *follow) {
	if !f.sockets && f.holds == 0 {
		delete(b.follows, namespace)
		b.medium.Follow(namespace, false)
	}
}

// hold has a namespace be heard until the hold is given back.
func (b *Bridge) hold(namespace string) (heard <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.followLocked(namespace)
	f.holds++
	return f.heard
}

func (b *Bridge) release(namespace string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.follows[namespace]
	f.holds--
	b.settleLocked(namespace, f)
}

// SocketEdge implements service.RemoteSockets.
func (b *Bridge) SocketEdge(namespace string, id service.SocketID, on bool) {
	if b.byRoom != nil {
		b.byRoom.Room(namespace, string(id), on)
	}
}

// hearRooms has rooms be heard, or ends that.
func (b *Bridge) hearRooms(namespace string, rooms []string, on bool) {
	if b.byRoom == nil {
		return
	}
	for _, room := range rooms {
		b.byRoom.Room(namespace, room, on)
	}
}

// awaitRooms waits until peers are heard in rooms that have sockets here.
func (b *Bridge) awaitRooms(ctx context.Context, namespace string, rooms []string) {
	if b.byRoom == nil {
		return
	}
	late := time.NewTimer(heardWait)
	defer late.Stop()
	for _, room := range rooms {
		select {
		case <-b.byRoom.Heard(namespace, room):
		case <-late.C:
			return
		case <-ctx.Done():
			return
		case <-b.context.Done():
			return
		}
	}
}

// Expect implements service.Remote.
func (b *Bridge) Expect(namespace string, rooms []string, ready func()) {
	waits := []<-chan struct{}{b.hold(namespace)}
	b.hearRooms(namespace, rooms, true)
	if b.byRoom != nil {
		for _, room := range rooms {
			waits = append(waits, b.byRoom.Heard(namespace, room))
		}
	}
	b.Cluster.Expect(namespace, rooms, func() {
		admit := func() {
			ready()
			b.hearRooms(namespace, rooms, false)
			b.release(namespace)
		}
		for len(waits) > 0 && isClosed(waits[0]) {
			waits = waits[1:]
		}
		if len(waits) == 0 {
			admit()
			return
		}
		b.mu.Lock()
		over := b.context.Err() != nil
		if !over {
			b.ended.Add(1)
		}
		b.mu.Unlock()
		if over {
			admit()
			return
		}
		go func() {
			defer b.ended.Done()
			late := time.NewTimer(heardWait)
			defer late.Stop()
			defer admit()
			for _, heard := range waits {
				select {
				case <-heard:
				case <-late.C:
					return
				case <-b.context.Done():
					return
				}
			}
		}()
	})
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// Finished implements service.Remote.
func (b *Bridge) Finished(a *service.Acks) {
	b.forgetAcks(a)
	b.Cluster.Finished(a)
}

// Follow implements service.Remote. Peers are counted, so that their number is known when a watch has begun.
func (b *Bridge) Follow(namespace string, on bool) {
	b.Cluster.Follow(namespace, on)
	if on {
		b.mu.Lock()
		b.countLocked(namespace)
		b.mu.Unlock()
	}
}

// Tellers implements service.Remote. Peers tell nothing of who comes and goes.
func (b *Bridge) Tellers(namespace string) ([]service.Incarnation, service.Coverage) {
	tellers, c := b.Cluster.Tellers(namespace)
	b.mu.Lock()
	defer b.mu.Unlock()
	c.UncountedNodes += b.countLocked(namespace).least()
	return tellers, c
}

// Registered implements service.RemoteHandlers: peers are heard where a handler wants events of servers, though no
// socket is there. Namespaces of a pattern are heard when they have sockets.
func (b *Bridge) Registered(h *service.Handler, replaces []*service.Handler) {
	if r := h.Registration(); r.ServerSideEvents {
		b.mu.Lock()
		for _, pattern := range r.Namespaces {
			if strings.HasSuffix(pattern, "*") {
				continue
			}
			b.followLocked(pattern).holds++
			b.handlers[h] = append(b.handlers[h], pattern)
		}
		b.mu.Unlock()
	}
	b.Cluster.Registered(h, replaces)
}

// Gone implements service.RemoteHandlers.
func (b *Bridge) Gone(h *service.Handler) {
	b.mu.Lock()
	for _, namespace := range b.handlers[h] {
		f := b.follows[namespace]
		f.holds--
		b.settleLocked(namespace, f)
	}
	delete(b.handlers, h)
	b.mu.Unlock()
	b.Cluster.Gone(h)
}
