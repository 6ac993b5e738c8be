package adapter_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/membus"
)

// link is a client's link that keeps what it is sent.
type link struct {
	codec  text
	mu     sync.Mutex
	got    []string
	full   bool
	socket *service.Socket
	in     chan string // gets "" with the answer to its CONNECT, or why it is refused; nil: nobody wants to know
	closed bool
}

type (
	text  struct{}
	frame string
)

func (f frame) Len() int { return len(f) }

func (text) Encode(p *service.Packet) (service.Frame, error) {
	if p.AckID != service.NoAck {
		return frame(fmt.Sprintf("%d%s", p.AckID, p.Payload)), nil
	}
	return frame(p.Payload), nil
}

func (text) Join(frames []service.Frame) service.Frame {
	var all []string
	for _, f := range frames {
		all = append(all, string(f.(frame)))
	}
	return frame(strings.Join(all, "\n"))
}

func (l *link) Probe(int, service.Flags) (service.Outcome, service.LinkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full {
		return service.Full, service.LinkState{Waiting: 1000, Limit: 1000, FullSince: time.Unix(5, 0)}
	}
	return service.Queued, service.LinkState{Limit: 1000, Writable: true}
}

func (l *link) setFull(full bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = full
}

func (l *link) Codec() service.Codec { return l.codec }

func (l *link) Send(f service.Frame, flags service.Flags) service.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.full && flags&service.Owed == 0 {
		return service.Full
	}
	l.got = append(l.got, strings.Split(string(f.(frame)), "\n")...)
	if in := l.in; in != nil {
		l.in = nil
		in <- ""
	}
	return service.Queued
}

func (l *link) Room(int) (<-chan struct{}, time.Time) { return make(chan struct{}), time.Unix(5, 0) } // nobody waits for it
func (l *link) Flush()                                {}
func (l *link) Pause()                                {}
func (l *link) Resume()                               {}
func (l *link) Close(service.Reason)                  {}
func (l *link) Dismiss()                              {}
func (l *link) Forget(*service.Socket) bool           { l.closed = true; return true }
func (l *link) SessionID() string                     { return "session" }
func (l *link) Transport() string                     { return "websocket" }
func (l *link) Handshake() service.Handshake          { return shake{} }

type shake struct{}

func (shake) Address() string            { return "10.0.0.1" }
func (shake) Time() time.Time            { return time.Unix(5, 6) }
func (shake) URL() string                { return "/socket.io/?EIO=4" }
func (shake) Query() map[string]string   { return map[string]string{"EIO": "4"} }
func (shake) Headers() map[string]string { return map[string]string{"cookie": "a\xff"} }
func (shake) Bytes() int                 { return 100 }

// take returns what came since the last call.
func (l *link) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.got
	l.got = nil
	return got
}

// cluster is some nodes over one bus, of which each frame may meet faults.
type cluster struct {
	testing.TB
	net    *membus.Network
	faults *membus.Faults
	nodes  map[service.NodeID]*adapter.Cluster
	sent   map[service.NodeID]*atomic.Int64      // frames that each has given its bus for one other node
	looks  func(to service.NodeID, frame []byte) // at each of these; nil: nobody does
}

// meter is a bus that counts.
type meter struct {
	adapter.Bus
	*cluster
	sent *atomic.Int64
}

func (m meter) Send(to service.NodeID, frame []byte) error {
	m.sent.Add(1)
	if m.looks != nil {
		m.looks(to, frame)
	}
	return m.Bus.Send(to, frame)
}

func emptyCluster(t testing.TB, seed uint64) *cluster {
	return &cluster{
		TB: t, net: membus.New(), faults: membus.NewFaults(seed), nodes: map[service.NodeID]*adapter.Cluster{}, sent: map[service.NodeID]*atomic.Int64{},
	}
}

func newCluster(t testing.TB, names ...service.NodeID) *cluster {
	c := emptyCluster(t, 7)
	for _, name := range names {
		c.start(name, service.Config{}, adapter.Config{})
	}
	return c
}

// settle waits until all know all, in a bubble.
func (c *cluster) settle() {
	c.Helper()
	time.Sleep(3 * time.Second)
	synctest.Wait()
	if missing := c.unsettled(); missing != "" {
		c.Fatal(missing)
	}
}

// unsettled says who does not know whom.
func (c *cluster) unsettled() string {
	for name, n := range c.nodes {
		for _, m := range n.Members() {
			if c.nodes[m.Node] != nil && m.State != adapter.Up {
				return fmt.Sprintf("at %s, %s is %v", name, m.Node, m.State)
			}
		}
		if len(n.Members()) < len(c.nodes)-1 {
			return fmt.Sprintf("%s knows %v", name, n.Members())
		}
	}
	return ""
}

func (c *cluster) start(name service.NodeID, sc service.Config, cc adapter.Config) *adapter.Cluster {
	c.Helper()
	bus := c.faults.Wrap(name, c.net.Open(name))
	cc.Self = service.Incarnation{Node: name, Run: uint64(time.Now().UnixMilli())}
	c.sent[name] = new(atomic.Int64)
	n, err := adapter.NewCluster(cc, meter{bus, c, c.sent[name]}, zap.NewNop())
	if err != nil {
		c.Fatal(err)
	}
	sc.NodeID, sc.Remote = string(name), n
	node, err := service.New(sc)
	if err != nil {
		c.Fatal(err)
	}
	ctx, stop := context.WithTimeout(c.Context(), 30*time.Second)
	defer stop()
	if err := n.Start(ctx, node); err != nil {
		c.Fatal(err)
	}
	c.nodes[name] = n
	c.Cleanup(func() {
		if c.nodes[name] == n {
			c.stop(name)
		}
	})
	return n
}

// stop ends a node in good order.
func (c *cluster) stop(name service.NodeID) {
	n := c.nodes[name]
	delete(c.nodes, name)
	n.Node.Close()
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	n.Close(ctx)
}

// enter connects a client at a node, and returns when all have heard of it or had their time.
func (c *cluster) enter(at service.NodeID) (*service.Socket, *link) { return c.connect(at, "/") }

func (c *cluster) connect(at service.NodeID, namespace string, rooms ...string) (*service.Socket, *link) {
	c.Helper()
	in := make(chan string, 1)
	l := &link{in: in}
	c.nodes[at].Connect(service.Connect{
		Conn: l, Namespace: namespace, Bind: func(s *service.Socket) bool { l.socket = s; return true },
		Refuse: func(r service.Refusal) { in <- r.Message },
	})
	if refused := <-in; refused != "" {
		c.Fatalf("not let in: %q", refused)
	}
	l.take()
	if len(rooms) > 0 {
		t := service.Target{Namespace: namespace, Rooms: []string{string(l.socket.ID())}}
		if n, coverage, err := c.nodes[at].Join(c.Context(), t, rooms); n != 1 || err != nil || len(coverage.Unreachable) > 0 {
			c.Fatalf("join: %d, %v, %v", n, coverage, err)
		}
	}
	return l.socket, l
}

func event(text string) *service.Packet {
	return &service.Packet{Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Payload: []byte(text), Event: "e"}
}

func (c *cluster) emit(at service.NodeID, t service.Target, text string) service.Receipt {
	c.Helper()
	t.Namespace = "/"
	r, err := c.nodes[at].Emit(c.Context(), service.Emit{Target: t, Packet: event(text)})
	if err != nil {
		c.Fatal(err)
	}
	return r
}

func want[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

// bubble runs a test of a cluster in its own time.
func bubble(t *testing.T, names []service.NodeID, test func(t *testing.T, c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, names...)
		c.settle()
		test(t, c)
	})
}

var abc = []service.NodeID{"AAAA", "BBBB", "CCCC"}

// TestEmitOverNodes: an emit reaches the sockets of all nodes, in one order, and its receipt counts them all; a node
// without sockets for it is told nothing.
func TestEmitOverNodes(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		_, a := c.connect("AAAA", "/")
		b1, b := c.connect("BBBB", "/", "room")
		_, b2 := c.connect("BBBB", "/", "room", "quiet")
		want(t, "all", c.emit("AAAA", service.Target{All: true}, `["all"]`), service.Receipt{Matched: 3, Enqueued: 3})
		want(t, "room", c.emit("AAAA", service.Target{Rooms: []string{"room"}, ExceptRooms: []string{"quiet"}}, `["room"]`), service.Receipt{Matched: 1, Enqueued: 1})
		want(t, "one", c.emit("CCCC", service.Target{Rooms: []string{string(b1.ID())}}, `["one"]`), service.Receipt{Matched: 1, Enqueued: 1})
		want(t, "local", c.emit("AAAA", service.Target{All: true, Local: true}, `["local"]`), service.Receipt{Matched: 1, Enqueued: 1})
		want(t, "nobody", c.emit("AAAA", service.Target{Rooms: []string{"none"}}, `["none"]`), service.Receipt{})
		want(t, "at a", a.take(), []string{`["all"]`, `["local"]`})
		want(t, "at b", b.take(), []string{`["all"]`, `["room"]`, `["one"]`})
		want(t, "at b2", b2.take(), []string{`["all"]`})

		var emits []service.Emit
		var texts []string
		for i := range 100 {
			texts = append(texts, fmt.Sprintf(`["e",%d]`, i))
			emits = append(emits, service.Emit{Target: service.Target{Namespace: "/", Rooms: []string{"room"}}, Packet: event(texts[i]), Accepted: i%2 == 0})
		}
		for i, r := range c.nodes["CCCC"].EmitBatch(t.Context(), emits) {
			matched := 2 * (i % 2) // of an accepted one, those here
			want(t, "receipt", r, service.Receipt{Matched: matched, Enqueued: matched})
		}
		synctest.Wait()
		want(t, "batch at b", b.take(), texts)

		b.full = true
		want(t, "a full link", c.emit("AAAA", service.Target{Rooms: []string{"room"}}, `["x"]`), service.Receipt{Matched: 2, Enqueued: 1, DroppedSlow: 1})
	})
}

// TestEventLargerThanAWindow: it arrives.
func TestEventLargerThanAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 7)
		for _, name := range abc[:2] {
			c.start(name, service.Config{}, adapter.Config{Window: 16 << 10, MaxFrame: 4 << 10})
		}
		c.settle()
		_, l := c.connect("BBBB", "/")
		c.pass(time.Second)
		large := `["e","` + strings.Repeat("x", 100<<10) + `"]`
		want(t, "receipt", c.emit("AAAA", service.Target{All: true}, large), service.Receipt{Matched: 1, Enqueued: 1})
		if got := l.take(); len(got) != 1 || got[0] != large {
			t.Errorf("%d events arrive", len(got))
		}
	})
}

// TestJoinIsHeard: when a join was answered, an emit at any node reaches the socket.
func TestJoinIsHeard(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		s, l := c.connect("BBBB", "/")
		me := service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}
		for i := range 300 {
			room := fmt.Sprint("room", i)
			at := abc[i%3]
			if n, coverage, err := c.nodes[at].Join(t.Context(), me, []string{room}); n != 1 || err != nil || len(coverage.Unreachable) > 0 {
				t.Fatal(n, coverage, err)
			}
			if r := c.emit(abc[(i/3)%3], service.Target{Rooms: []string{room}}, `["x"]`); r.Enqueued != 1 || len(r.Coverage.Unreachable) > 0 {
				t.Fatalf("join %d at %s: %+v", i, at, r)
			}
			if n, _, err := c.nodes[abc[(i+1)%3]].Leave(t.Context(), me, []string{room}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			want(t, "after leaving", c.emit(at, service.Target{Rooms: []string{room}}, `["y"]`), service.Receipt{})
		}
		want(t, "got", len(l.take()), 300)
	})
}

// TestConnectIsHeard: when a client hears CONNECT, its namespace is known to all.
func TestConnectIsHeard(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		for _, at := range abc {
			l := &link{}
			in := make(chan struct{})
			c.nodes[at].Connect(service.Connect{
				Conn: l, Namespace: "/", Refuse: func(service.Refusal) { t.Error("refused") },
				Bind: func(s *service.Socket) bool { l.socket = s; close(in); return true },
			})
			<-in
			for _, other := range abc {
				r := c.emit(other, service.Target{Rooms: []string{string(l.socket.ID())}}, `["x"]`)
				want(t, "emit", r, service.Receipt{Matched: 1, Enqueued: 1})
			}
			r := c.emit(abc[0], service.Target{All: true}, `["x"]`)
			want(t, "emit to all", r.Matched, 1)
			c.nodes[at].End(l.socket, service.ReasonTransportClose, "")
		}
	})
}

// TestSocketsOverNodes: GetSocket, UpdateSocket, counts, lists of sockets and rooms speak for all nodes.
func TestSocketsOverNodes(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		var ids []string
		for i := range 9 {
			s, _ := c.connect(abc[i%3], "/", "room", fmt.Sprint("of", i%3), fmt.Sprint("own", i))
			ids = append(ids, string(s.ID()))
		}
		slices.SortFunc(ids, func(a, b string) int { return strings.Compare(a[:4], b[:4]) }) // stable by node only
		for _, at := range abc {
			n := c.nodes[at]
			size, coverage, err := n.Room(t.Context(), "/", "room")
			want(t, "room", fmt.Sprint(size, coverage, err), "9 {[] 0 0} <nil>")
			var listed []string
			request := service.PageRequest{Limit: 2, View: service.ViewFull, Bytes: 1 << 20}
			for pages := 0; ; pages++ {
				page, err := n.Sockets(t.Context(), service.Target{Namespace: "/", All: true}, request)
				if err != nil || pages > 9 || len(page.Coverage.Unreachable) > 0 {
					t.Fatal(err, pages, page)
				}
				if pages == 0 {
					want(t, "total", page.Total, 9)
				}
				for i := range page.Sockets {
					s := &page.Sockets[i]
					listed = append(listed, string(s.ID))
					if !slices.Contains(s.Rooms, "room") || s.Handshake.URL() != "/socket.io/?EIO=4" || s.SessionID != "session" || string(s.NodeID) != string(s.ID[:4]) {
						t.Errorf("told of %+v", s)
					}
				}
				if request.Place = page.Next; page.Next == (service.Place{}) {
					want(t, "pages", pages+1, 5) // they go over nodes
					break
				}
			}
			slices.Sort(listed)
			sorted := slices.Sorted(slices.Values(ids))
			want(t, "listed", listed, sorted)

			rooms, err := n.Rooms(t.Context(), service.RoomsRequest{Namespace: "/", Prefix: "o", Limit: 5})
			want(t, "rooms", fmt.Sprint(rooms, err), "{[{of0 3} {of1 3} {of2 3} {own0 1} {own1 1}] own1 {[] 0 0}} <nil>")
			for _, id := range ids {
				user := "u-" + string(at)
				info, err := n.Update(t.Context(), "/", service.SocketID(id), service.Update{Merge: []byte(fmt.Sprintf(`{%q:1}`, at)), UserID: &user})
				if err != nil || info.UserID != user {
					t.Fatal(info, err)
				}
			}
		}
		info, err := c.nodes["AAAA"].Socket(t.Context(), "/", service.SocketID(ids[8]))
		want(t, "socket", fmt.Sprint(string(info.Data), " ", info.UserID, err), `{"AAAA":1,"BBBB":1,"CCCC":1} u-CCCC<nil>`)
		for _, id := range []service.SocketID{"BBBBxxxxxxxxxxxxxxxx", "ZZZZxxxxxxxxxxxxxxxx", "short"} {
			if _, err := c.nodes["AAAA"].Socket(t.Context(), "/", id); !errors.Is(err, service.ErrSocketNotFound) {
				t.Errorf("%s: %v", id, err)
			}
		}
		n, coverage, err := c.nodes["CCCC"].Disconnect(t.Context(), service.Target{Namespace: "/", Rooms: []string{"of1"}}, service.DisconnectNamespace)
		want(t, "disconnect", fmt.Sprint(n, coverage, err), "3 {[] 0 0} <nil>")
		size, _, _ := c.nodes["AAAA"].Room(t.Context(), "/", "room")
		want(t, "left", size, 6)
	})
}

// TestAcksOverNodes: each recipient has one outcome, wherever it is.
func TestAcksOverNodes(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		var sockets []*service.Socket
		links := map[*service.Socket]*link{}
		for i := range 6 {
			s, l := c.connect(abc[i%3], "/")
			sockets = append(sockets, s)
			links[s] = l
		}
		ask := service.Emit{Target: service.Target{Namespace: "/", All: true}, Packet: event(`["q"]`)}
		if _, err := c.nodes["AAAA"].CollectAcks(t.Context(), ask, 5); err == nil || !strings.Contains(err.Error(), "6 sockets match") {
			t.Errorf("too many: %v", err)
		}
		acks, err := c.nodes["AAAA"].CollectAcks(t.Context(), ask, 6)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "matched", acks.Matched, 6)
		for i, s := range sockets[:5] {
			got := links[s].take()
			var id int64
			if len(got) != 1 || !strings.HasSuffix(got[0], `["q"]`) {
				t.Fatalf("socket %d got %q", i, got)
			}
			fmt.Sscanf(got[0], "%d", &id)
			if i == 4 {
				c.nodes[abc[1]].End(s, service.ReasonTransportClose, "")
				continue
			}
			c.nodes[abc[i%3]].Receive(s, &service.Packet{Kind: service.KindAck, Namespace: "/", AckID: id, Payload: []byte(fmt.Sprintf(`[%d]`, i))})
		}
		synctest.Wait()
		outcomes := map[service.SocketID]string{}
		count := 0
		add := func(list []service.AckOutcome) {
			for _, o := range list {
				count++
				outcomes[o.Socket] = fmt.Sprintf("%s %d %s", o.Node, o.Failure, o.Payload)
			}
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		for {
			list, err := acks.Next(ctx)
			add(list)
			if err != nil {
				if errors.Is(err, io.EOF) {
					t.Error("the end came before the last outcome")
				}
				break
			}
		}
		add(acks.Finish())
		want(t, "outcomes", count, 6)
		for i, s := range sockets {
			text := fmt.Sprintf("%s %d [%d]", abc[i%3], service.AckOK, i)
			switch i {
			case 4:
				text = fmt.Sprintf("BBBB %d ", service.AckDisconnected)
			case 5:
				text = fmt.Sprintf("CCCC %d ", service.AckTimeout)
			}
			want(t, "outcome", outcomes[s.ID()], text)
		}
	})
}

// TestAcksOfALostNode: those who were asked at a node that is lost have that for an outcome, and the wait ends.
func TestAcksOfALostNode(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		s, _ := c.connect("BBBB", "/")
		acks, err := c.nodes["AAAA"].CollectAcks(t.Context(), service.Emit{Target: service.Target{Namespace: "/", All: true}, Packet: event(`["q"]`)}, 0)
		if err != nil || acks.Matched != 1 {
			t.Fatal(acks, err)
		}
		c.faults.Part("AAAA", "BBBB")
		list, err := acks.Next(t.Context())
		if err != nil || len(list) != 1 || list[0].Socket != s.ID() || list[0].Failure != service.AckNodeUnreachable {
			t.Errorf("%+v, %v", list, err)
		}
		if _, err := acks.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("the end: %v", err)
		}
		want(t, "coverage", acks.Coverage().Unreachable, []string{"BBBB"})
		acks.Finish()
		c.faults.Clear()
		time.Sleep(10 * time.Second)
	})
}

// TestAcksOutliveAnEpoch: the way to a node is full and news ends its epoch, while clients there have not answered what
// they were asked before. Their answers come, by the way back, which is as it was.
func TestAcksOutliveAnEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 7)
		for _, name := range abc[:2] {
			c.start(name, service.Config{}, adapter.Config{Window: 16 << 10, MaxFrame: 4 << 10, Lease: 30 * time.Second})
		}
		c.settle()
		own, _ := c.connect("AAAA", "/")
		s, l := c.connect("BBBB", "/")
		acks, err := c.nodes["AAAA"].CollectAcks(t.Context(), service.Emit{
			Target: service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}, Packet: event(`["q"]`),
		}, 0)
		if err != nil || acks.Matched != 1 {
			t.Fatal(acks, err)
		}
		var id int64
		fmt.Sscanf(l.take()[0], "%d", &id)
		c.faults.Cut("AAAA", "BBBB")
		c.overfill("AAAA", own)
		c.faults.Heal("AAAA", "BBBB")
		c.pass(2 * time.Second)
		c.nodes["BBBB"].Receive(s, &service.Packet{Kind: service.KindAck, Namespace: "/", AckID: id, Payload: []byte(`[1]`)})
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		list, err := acks.Next(ctx)
		if err != nil || len(list) != 1 || list[0].Failure != service.AckOK {
			t.Errorf("%+v, %v", list, err)
		}
		want(t, "coverage", len(acks.Coverage().Unreachable), 0)
		acks.Finish()
	})
}

// TestUnreachableNodes: a node that does not answer is named, nobody waits for a silent one, and answers that came are
// given.
func TestUnreachableNodes(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		b, lb := c.connect("BBBB", "/", "room")
		_, lc := c.connect("CCCC", "/", "room")
		c.faults.Part("AAAA", "BBBB")
		took := func(do func()) time.Duration {
			began := time.Now()
			do()
			return time.Since(began)
		}
		all := service.Target{All: true}
		first := took(func() {
			want(t, "not silent yet", c.emit("AAAA", all, `["1"]`), service.Receipt{Matched: 1, Enqueued: 1, Coverage: service.Coverage{Unreachable: []string{"BBBB"}}})
		})
		if first > 2*time.Second {
			t.Errorf("waited for %v", first)
		}
		time.Sleep(time.Second)
		silent := took(func() {
			want(t, "silent", c.emit("AAAA", all, `["2"]`), service.Receipt{Matched: 1, Enqueued: 1, Coverage: service.Coverage{Unreachable: []string{"BBBB"}}})
			_, err := c.nodes["AAAA"].Socket(t.Context(), "/", b.ID())
			want(t, "socket", fmt.Sprint(err), "socket_id: node BBBB, which has this socket, does not answer (it is silent)")
			page, err := c.nodes["AAAA"].Sockets(t.Context(), service.Target{Namespace: "/", All: true}, service.PageRequest{Limit: 10})
			want(t, "list", fmt.Sprint(len(page.Sockets), page.Total, page.Coverage, err), "1 1 {[BBBB] 0 0} <nil>")
			n, coverage, err := c.nodes["AAAA"].Join(t.Context(), service.Target{Namespace: "/", Rooms: []string{"room"}}, []string{"more"})
			want(t, "join", fmt.Sprint(n, coverage, err), "1 {[BBBB] 0 0} <nil>")
		})
		if silent > 100*time.Millisecond {
			t.Errorf("waited %v for who is silent", silent)
		}
		want(t, "at c", lc.take(), []string{`["1"]`, `["2"]`})
		want(t, "at b, cut off", len(lb.take()), 0)
		c.faults.Clear() // within the lease: all arrives, in order
		time.Sleep(2 * time.Second)
		want(t, "at b, healed", lb.take(), []string{`["1"]`, `["2"]`})
		c.faults.Part("AAAA", "BBBB")
		time.Sleep(7 * time.Second)
		_, err := c.nodes["AAAA"].Socket(t.Context(), "/", b.ID())
		if !errors.Is(err, service.ErrSocketNotFound) {
			t.Errorf("of a lost node: %v", err)
		}
		c.faults.Clear()
		c.settle()
		want(t, "back", c.emit("AAAA", all, `["3"]`), service.Receipt{Matched: 2, Enqueued: 2})
	})
}

// TestNobodyWaitsForASilentNodeToHear of a room or of a client: it is in the coverage of a join, also when it becomes
// silent meanwhile.
func TestNobodyWaitsForASilentNodeToHear(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		s, _ := c.connect("AAAA", "/")
		me := service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}
		c.cut("AAAA", "BBBB")
		c.cut("CCCC", "BBBB")
		c.pass(1500 * time.Millisecond)
		for i, most := range []time.Duration{900 * time.Millisecond, 0} {
			start := time.Now()
			n, coverage, err := c.nodes["AAAA"].Join(t.Context(), me, []string{fmt.Sprint("room", i)})
			want(t, "join", fmt.Sprint(n, coverage, err), "1 {[BBBB] 0 0} <nil>")
			if took := time.Since(start); took > most {
				t.Errorf("join %d takes %v", i, took)
			}
		}
		start := time.Now()
		c.connect("CCCC", "/")
		want(t, "a client is let in after", time.Since(start), 0)
		c.heal()
		c.settle()
		want(t, "emit", c.emit("BBBB", service.Target{Rooms: []string{"room1"}}, `["x"]`).Enqueued, 1)
	})
}

// TestNameTaken: the second of a name does not start.
func TestNameTaken(t *testing.T) {
	bubble(t, abc, func(t *testing.T, c *cluster) {
		bus := c.faults.Wrap("BBBB", c.net.Open("BBBB"))
		n, err := adapter.NewCluster(adapter.Config{Self: service.Incarnation{Node: "BBBB", Run: uint64(time.Now().UnixMilli())}}, bus, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		node, _ := service.New(service.Config{NodeID: "BBBB", Remote: n})
		if err := n.Start(t.Context(), node); !errors.Is(err, adapter.ErrNameTaken) {
			t.Errorf("started: %v", err)
		}
		node.Close()
		n.Close(t.Context())
		c.settle()
	})
}
