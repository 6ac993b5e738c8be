package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/bridge"
	"foyer/service/adapter/membus"
	"foyer/service/adapter/official"
)

// air is a medium between nodes and one peer, which the test is.
type air struct {
	mu      sync.Mutex
	follows []string
	said    []*official.Message
	each    func(*official.Message)
	peers   int
	away    bool          // nobody can be counted
	full    bool          // nothing can be sent
	unsaid  string        // a payload that official servers must not be sent
	doubt   bool          // it may be lost
	gate    chan struct{} // nobody is counted before it is closed; nil: at once
	heard   chan struct{}
}

func (a *air) Open(each func(*official.Message)) error { a.each = each; return nil }
func (a *air) Close() error                            { return nil }
func (a *air) Dropped() map[string]int64               { return map[string]int64{"shape": 2} }

func (a *air) Publish(m *official.Message, to string) error {
	if _, err := official.AppendClassic(nil, m); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.full:
		return errors.New("full")
	case a.unsaid != "" && string(m.Payload) == a.unsaid:
		return official.Key
	}
	c := *m
	c.Names = append(c.Names, to)
	a.said = append(a.said, &c)
	if a.doubt {
		return official.ErrDoubt
	}
	return nil
}

func (a *air) Follow(namespace string, on bool) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.follows = append(a.follows, namespace); !on {
		a.follows = slices.DeleteFunc(a.follows, func(n string) bool { return n == namespace })
	}
	return a.heard
}

func (a *air) Peers(ctx context.Context, _ string) (int, error) {
	a.mu.Lock()
	gate := a.gate
	a.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return 0, errors.New("away")
	}
	return a.peers, nil
}

// taken returns what was said since the last call.
func (a *air) taken() []*official.Message {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	said := a.said
	a.said = nil
	return said
}

func (a *air) followed() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.follows)
}

// link is a client's link that keeps what it is sent.
type link struct {
	mu   sync.Mutex
	got  []string
	in   chan struct{}
	self *service.Socket
}

type text string

func (f text) Len() int { return len(f) }

type codec struct{}

func (codec) Encode(p *service.Packet) (service.Frame, error) { return text(p.Payload), nil }
func (codec) Join(frames []service.Frame) service.Frame {
	var all []string
	for _, f := range frames {
		all = append(all, string(f.(text)))
	}
	return text(strings.Join(all, "\n"))
}

func (l *link) Probe(int, service.Flags) (service.Outcome, service.LinkState) {
	return service.Queued, service.LinkState{Limit: 1000, Writable: true}
}
func (l *link) Codec() service.Codec { return codec{} }
func (l *link) Send(f service.Frame, _ service.Flags) service.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, strings.Split(string(f.(text)), "\n")...)
	if l.in != nil {
		close(l.in)
		l.in = nil
	}
	return service.Queued
}
func (l *link) Room(int) (<-chan struct{}, time.Time) { return nil, time.Now() }
func (l *link) Flush()                                {}
func (l *link) Pause()                                {}
func (l *link) Resume()                               {}
func (l *link) Close(service.Reason)                  {}
func (l *link) Dismiss()                              {}
func (l *link) Forget(*service.Socket) bool           { return true }
func (l *link) SessionID() string                     { return "session" }
func (l *link) Transport() string                     { return "websocket" }
func (l *link) Handshake() service.Handshake          { return shake{} }

type shake struct{}

func (shake) Address() string            { return "10.0.0.1" }
func (shake) Time() time.Time            { return time.Unix(5, 6e6) }
func (shake) URL() string                { return "/socket.io/?EIO=4" }
func (shake) Query() map[string]string   { return map[string]string{"EIO": "4"} }
func (shake) Headers() map[string]string { return map[string]string{"origin": "http://here"} }
func (shake) Bytes() int                 { return 100 }

func (l *link) taken() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.got
	l.got = nil
	return got
}

// world is one node with its bridge.
type world struct {
	*testing.T
	*air
	b *bridge.Bridge
}

func inBubble(t *testing.T, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		heard := make(chan struct{})
		close(heard)
		w := &world{t, &air{peers: 1, heard: heard}, nil}
		cluster, err := adapter.NewCluster(adapter.Config{Self: service.NewIncarnation("AAAA")}, membus.New().Open("AAAA"), zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		w.b = bridge.New(cluster, "c", "AAAA", w.air, zap.NewNop())
		w.start(cluster, func() { test(w) })
	})
}

// start runs a node of the cluster while a test lasts.
func (w *world) start(cluster *adapter.Cluster, test func()) {
	node, err := service.New(service.Config{NodeID: "AAAA", Remote: w.b, Namespaces: []service.NamespaceConfig{{Pattern: "/other", Connect: service.ConnectOpen}}})
	if err != nil {
		w.Fatal(err)
	}
	if err := errors.Join(cluster.Start(w.Context(), node), w.b.Open()); err != nil {
		w.Fatal(err)
	}
	test()
	if err := w.b.Shut(); err != nil {
		w.Error(err)
	}
	node.Close()
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	cluster.Close(ctx)
}

func (w *world) connect(namespace string) (*service.Socket, *link) {
	w.Helper()
	in := make(chan struct{})
	l := &link{in: in}
	w.b.Connect(service.Connect{
		Conn: l, Namespace: namespace, Bind: func(s *service.Socket) bool { l.self = s; return true },
		Refuse: func(r service.Refusal) { w.Fatal(r.Message) },
	})
	<-in
	l.taken()
	return l.self, l
}

func event(namespace, text string) *service.Packet {
	return &service.Packet{Kind: service.KindEvent, Namespace: namespace, AckID: service.NoAck, Payload: []byte(text), Event: "e"}
}

func (w *world) want(what string, got, want any) {
	w.Helper()
	if g, h := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != h {
		w.Errorf("%s: got %s, want %s", what, g, h)
	}
}

// TestNamespacesAreHeardWhileTheyAreUsed: a node is counted as a server of a namespace from before its first client is
// in until the last one has gone, and while a handler wants what servers say; and of no other.
func TestNamespacesAreHeardWhileTheyAreUsed(t *testing.T) {
	inBubble(t, func(w *world) {
		s, _ := w.connect("/")
		other, _ := w.connect("/")
		w.want("with sockets", w.followed(), []string{"/"})
		_, _, _ = w.b.Disconnect(w.Context(), service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}, service.DisconnectNamespace)
		synctest.Wait()
		w.want("with one left", w.followed(), []string{"/"})
		_, _, _ = w.b.Disconnect(w.Context(), service.Target{Namespace: "/", Rooms: []string{string(other.ID())}}, service.DisconnectNamespace)
		synctest.Wait()
		w.want("with none", w.followed(), []string{})
		h, _, err := w.b.Attach(w.Context(), service.Registration{Namespaces: []string{"/a", "/b*"}, ServerSideEvents: true})
		if err != nil {
			w.Fatal(err)
		}
		w.want("with a handler", w.followed(), []string{"/a"})
		h.Detach()
		w.want("without", w.followed(), []string{})
	})
}

// TestClientsWaitUntilPeersAreHeard: a client that connects first is in once what peers say is heard, or once the time
// for that is over.
func TestClientsWaitUntilPeersAreHeard(t *testing.T) {
	inBubble(t, func(w *world) {
		w.heard = make(chan struct{})
		began := time.Now()
		w.connect("/")
		w.want("how long it waited", time.Since(began), 250*time.Millisecond)
		heard := make(chan struct{})
		w.heard = heard
		time.AfterFunc(100*time.Millisecond, func() { close(heard) })
		began = time.Now()
		w.connect("/other")
		w.want("how long it waited for what came", time.Since(began), 100*time.Millisecond)
	})
}

// TestNodesOfTheClusterArePassedOver: what another node of this cluster says to peers is not heard a second time, and
// what a node of another cluster says is heard as a peer's.
func TestNodesOfTheClusterArePassedOver(t *testing.T) {
	inBubble(t, func(w *world) {
		_, l := w.connect("/")
		m := func(uid string) *official.Message {
			return &official.Message{Kind: official.Broadcast, UID: uid, Namespace: "/", Payload: []byte(`["e",1]`), Event: "e"}
		}
		w.each(m("foyer:c:BBBB"))
		w.want("of this cluster", l.taken(), []string{})
		w.each(m("foyer:other:BBBB"))
		w.each(m("abcdef"))
		w.each(m(official.Emitter))
		w.want("of others", len(l.taken()), 3)
	})
}

// TestOwnSocketsAreNobodyElses: what is for one socket of the cluster is told to no peer, and what peers may have is.
func TestOwnSocketsAreNobodyElses(t *testing.T) {
	inBubble(t, func(w *world) {
		s, _ := w.connect("/")
		emit := func(t service.Target) service.Receipt {
			t.Namespace = "/"
			r, err := w.b.Emit(w.Context(), service.Emit{Target: t, Packet: event("/", `["e"]`)})
			if err != nil {
				w.Fatal(err)
			}
			return r
		}
		w.taken()
		w.want("to its own", emit(service.Target{Rooms: []string{string(s.ID())}}).Coverage, service.Coverage{})
		w.want("here", emit(service.Target{All: true, Local: true}).Coverage, service.Coverage{})
		w.want("said", len(w.taken()), 0)
		w.want("to a room", emit(service.Target{Rooms: []string{"r"}}).Coverage, service.Coverage{UncountedNodes: 1})
		w.want("to a peer's socket", emit(service.Target{Rooms: []string{"zzzzzzzzzzzzzzzzAAAB"}}).Coverage, service.Coverage{UncountedNodes: 1})
		w.want("said", len(w.taken()), 2)
	})
}

// TestWhatIsNotSentReachesNoPeer: an answer says of peers that they are not counted when they were told, and that they
// are not reached when what was said to them did not go out.
func TestWhatIsNotSentReachesNoPeer(t *testing.T) {
	inBubble(t, func(w *world) {
		all := service.Target{Namespace: "/", All: true}
		calls := map[string]func() (service.Coverage, error){
			"emit": func() (service.Coverage, error) {
				r, err := w.b.Emit(w.Context(), service.Emit{Target: all, Packet: event("/", `["e"]`)})
				return r.Coverage, err
			},
			"join": func() (service.Coverage, error) {
				_, c, err := w.b.Join(w.Context(), all, []string{"r"})
				return c, err
			},
			"leave": func() (service.Coverage, error) {
				_, c, err := w.b.Leave(w.Context(), all, []string{"r"})
				return c, err
			},
			"disconnect": func() (service.Coverage, error) {
				_, c, err := w.b.Disconnect(w.Context(), all, service.DisconnectNamespace)
				return c, err
			},
			"server-side emit": func() (service.Coverage, error) {
				r, err := w.b.ServerSideEmit(w.Context(), service.ServerSideEmit{Namespace: "/", Packet: event("/", `["e"]`)})
				return r.Coverage, err
			},
		}
		for name, call := range calls {
			for fate, want := range map[string]service.Coverage{
				"it goes out": {UncountedNodes: 1}, "nothing goes out": {UnreachableUnnamed: 1}, "it may be lost": {UnreachableUnnamed: 1},
			} {
				w.mu.Lock()
				w.full, w.doubt = fate == "nothing goes out", fate == "it may be lost"
				w.mu.Unlock()
				w.taken()
				got, err := call()
				if err != nil {
					t.Fatal(err)
				}
				w.want(name+", "+fate, got, want)
				if n := len(w.taken()); (n > 0) == w.full {
					t.Errorf("%s, %s: the medium has %d messages", name, fate, n)
				}
			}
		}
	})
}

// TestOneOfManyIsNotSent: of emits that go out together, only the one that official servers must not be sent has not
// reached peers.
func TestOneOfManyIsNotSent(t *testing.T) {
	inBubble(t, func(w *world) {
		emits := make([]service.Emit, 4)
		for i := range emits {
			emits[i] = service.Emit{Target: every, Packet: event("/", `["e"]`), Accepted: i%2 == 1}
		}
		w.unsaid = `["e",{"__proto__":1}]`
		for bad := range emits {
			emits[bad].Packet = event("/", w.unsaid)
			receipts := w.b.EmitBatch(w.Context(), emits)
			if n := len(w.taken()); n != len(emits)-1 {
				t.Errorf("peers are told %d emits", n)
			}
			for i := range receipts {
				want := service.Coverage{UncountedNodes: 1}
				if i == bad {
					want = service.Coverage{UnreachableUnnamed: 1}
				} else if emits[i].Accepted && receipts[i].Coverage.UncountedNodes == 0 {
					want = service.Coverage{}
				}
				w.want(fmt.Sprintf("emit %d, where %d cannot be sent", i, bad), receipts[i].Coverage, want)
			}
			emits[bad].Packet = event("/", `["e"]`)
		}
	})
}

// TestNobodyIsWaitedForWhoWasNotAsked: a call whose question did not go out to peers does not wait for their answers.
func TestNobodyIsWaitedForWhoWasNotAsked(t *testing.T) {
	inBubble(t, func(w *world) {
		w.peers, w.full = 2, true
		calls := map[string]func() (service.Coverage, error){
			"acknowledgements": func() (service.Coverage, error) {
				a, err := w.b.CollectAcks(w.Context(), service.Emit{Target: every, Packet: event("/", `["e"]`)}, 0)
				if err != nil {
					return service.Coverage{}, err
				}
				if _, err := a.Next(w.Context()); err != io.EOF { //nolint:errorlint // it is given as it is
					t.Errorf("somebody is waited for: %v", err)
				}
				a.Finish()
				return a.Coverage(), nil
			},
			"sockets": func() (service.Coverage, error) {
				page, err := w.b.Sockets(w.Context(), every, service.PageRequest{Limit: 10})
				return page.Coverage, err
			},
			"replies": func() (service.Coverage, error) {
				r, err := w.b.ServerSideEmit(w.Context(), service.ServerSideEmit{
					Namespace: "/", Packet: event("/", `["e"]`), WantsReplies: true, Timeout: 5 * time.Second,
				})
				return r.Coverage, err
			},
		}
		for name, call := range calls {
			began := time.Now()
			got, err := call()
			w.want(name, fmt.Sprint(got.UnreachableUnnamed, got.UncountedNodes, err, time.Since(began)), "2 0 <nil> 0s")
		}
	})
}

// TestWhoCannotBeCountedIsSuspected: while the medium is away, an answer says that there may be a peer, as long as
// nobody has been counted. One call waits for that, and not each.
func TestWhoCannotBeCountedIsSuspected(t *testing.T) {
	inBubble(t, func(w *world) {
		emit := func() (peers int, took time.Duration) {
			w.Helper()
			began := time.Now()
			r, err := w.b.Emit(w.Context(), service.Emit{Target: service.Target{Namespace: "/", All: true}, Packet: event("/", `["e"]`)})
			if err != nil {
				w.Fatal(err)
			}
			return r.Coverage.UncountedNodes, time.Since(began)
		}
		gate := make(chan struct{})
		w.gate, w.peers = gate, 0
		for i, most := range []time.Duration{500 * time.Millisecond, 0, 0} {
			peers, took := emit()
			w.want(fmt.Sprintf("emit %d while nothing answers", i), fmt.Sprint(peers, took), fmt.Sprint(1, most))
		}
		close(gate)
		time.Sleep(time.Second)
		emit() // it is asked anew
		synctest.Wait()
		peers, took := emit()
		w.want("back", fmt.Sprint(peers, took), fmt.Sprint(0, time.Duration(0)))
	})
}

// TestAcksOfPeers: recipients of peers are counted when all peers have said how many they have, answers may come before
// that, and a peer that does not say so is missing.
func TestAcksOfPeers(t *testing.T) {
	inBubble(t, func(w *world) {
		w.peers = 2
		collect := func() (*service.Acks, error) {
			return w.b.CollectAcks(w.Context(), service.Emit{Target: service.Target{Namespace: "/", All: true}, Packet: event("/", `["e"]`)}, 0)
		}
		done := make(chan *service.Acks, 1)
		go func() { a, _ := collect(); done <- a }()
		said := w.taken()
		if len(said) != 1 || said[0].Request == "" {
			w.Fatalf("peers are told %v", said)
		}
		answer := func(m official.Message) {
			m.Namespace, m.Request = "/", said[0].Request
			w.each(&m)
		}
		answer(official.Message{Kind: official.ClientCount, Count: 2})
		answer(official.Message{Kind: official.Ack, Payload: []byte(`"yes"`)})
		answer(official.Message{Kind: official.ClientCount, Count: 1})
		answer(official.Message{Kind: official.Ack})
		a := <-done
		w.want("recipients", a.Matched, 3)
		list, err := a.Next(w.Context())
		var got []string
		for _, o := range list {
			got = append(got, fmt.Sprintf("%s%s %s %d", o.Socket, o.Node, o.Payload, o.Failure))
		}
		w.want("outcomes", fmt.Sprint(got, err), `[ ["yes"] 0  [] 0] <nil>`)
		w.want("those that are not known", len(a.Finish()), 0)
		answer(official.Message{Kind: official.Ack, Payload: []byte(`"late"`)})

		began := time.Now()
		go func() { a, _ := collect(); done <- a }()
		if said = w.taken(); len(said) != 1 {
			w.Fatal(said)
		}
		answer(official.Message{Kind: official.ClientCount, Count: 5})
		a = <-done
		w.want("recipients, and peers that are missing", fmt.Sprint(a.Matched, a.Coverage().UnreachableUnnamed, time.Since(began)), "5 1 2s")
		a.Finish()

		away := func(is bool, peers int) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.away, w.peers = is, peers
		}
		away(true, 2)
		began = time.Now()
		a, _ = collect()
		w.want("while peers cannot be counted", fmt.Sprint(a.Matched, a.Coverage().UnreachableUnnamed, time.Since(began)), "0 1 0s")
		_, err = a.Next(w.Context())
		w.want("nobody is waited for", err, io.EOF)
		a.Finish()
		away(false, 0)
		a, _ = collect()
		_, err = a.Next(w.Context())
		w.want("without peers", fmt.Sprint(a.Coverage().UnreachableUnnamed, err), "0 EOF")
		a.Finish()
	})
}

// TestPeersSocketsAreExplained: as far as their rooms say, and what is counted says that peers are not.
func TestPeersSocketsAreExplained(t *testing.T) {
	inBubble(t, func(w *world) {
		w.connect("/")
		explain := func(t service.Target, id service.SocketID) service.Explained {
			w.Helper()
			t.Namespace = "/"
			done := make(chan service.Explanation, 1)
			w.taken()
			go func() {
				x, err := w.b.Explain(w.Context(), service.ExplainRequest{Target: t, Socket: id})
				if err != nil {
					w.Error(err)
				}
				done <- x
			}()
			synctest.Wait()
			for _, m := range w.taken() {
				w.each(&official.Message{Kind: official.Sockets, Namespace: "/", Request: m.Request, Sockets: []official.Socket{
					{ID: "peer", Rooms: []string{"peer", "a", "b"}},
				}})
			}
			x := <-done
			w.want("peers that are not counted", x.Coverage.UncountedNodes, map[bool]int{false: 1}[t.Local])
			if len(x.Asked) != 1 || x.Asked[0].Socket.ID != id || x.Nodes[0].Node != "AAAA" {
				w.Fatalf("%+v", x)
			}
			return x.Asked[0]
		}
		e := explain(service.Target{Rooms: []string{"a", "c"}}, "peer")
		w.want("meant", []any{e.Verdict, e.Rooms, e.Socket.Rooms, e.Socket.NodeID, e.Link}, []any{service.VerdictOnPeer, []string{"a"}, []string{"a", "b"}, "", (*service.LinkState)(nil)})
		w.want("in none of the rooms", explain(service.Target{Rooms: []string{"c"}}, "peer").Verdict, service.VerdictNotInRooms)
		e = explain(service.Target{All: true, ExceptRooms: []string{"b"}}, "peer")
		w.want("left out", []any{e.Verdict, e.ExceptRooms}, []any{service.VerdictExcepted, []string{"b"}})
		w.want("local", explain(service.Target{All: true, Local: true}, "peer").Verdict, service.VerdictNotLocal)
		w.want("unknown there too", explain(service.Target{All: true}, "nobody").Verdict, service.VerdictUnknown)
	})
}

// TestBackendThatCannotSayItsReply: a reply that is none is told as an empty one, and harms nobody.
func TestBackendThatCannotSayItsReply(t *testing.T) {
	inBubble(t, func(w *world) {
		h, _, err := w.b.Attach(w.Context(), service.Registration{Namespaces: []string{"/"}, ServerSideEvents: true})
		if err != nil {
			w.Fatal(err)
		}
		w.each(&official.Message{Kind: official.ServerSideEmit, UID: "peer", Request: "q", Namespace: "/", Payload: []byte(`["news"]`), Event: "news"})
		synctest.Wait()
		list, err := h.Next(w.Context(), nil)
		if err != nil || len(list) != 1 {
			w.Fatal(list, err)
		}
		h.Reply(list[0].CallID, nil, nil)
		said := w.taken()
		if len(said) != 1 || said[0].Kind != official.Reply || said[0].Payload != nil {
			w.Errorf("the peer is told %+v", said)
		}
		h.Detach()
	})
}

// TestPeersAsk: what peers ask of this node is answered by what it has, also when that is nothing.
func TestPeersAsk(t *testing.T) {
	inBubble(t, func(w *world) {
		s, l := w.connect("/")
		ask := func(m official.Message) *official.Message {
			w.Helper()
			w.taken()
			m.UID, m.Request, m.Namespace = "peer", "q", "/"
			w.each(&m)
			said := w.taken()
			if len(said) != 1 || said[0].Request != "q" || said[0].Names[len(said[0].Names)-1] != "peer" {
				w.Fatalf("the answer to %v is %+v", m.Kind, said)
			}
			return said[0]
		}
		w.each(&official.Message{Kind: official.Join, UID: "peer", Namespace: "/", Change: []string{"r"}})
		sockets := ask(official.Message{Kind: official.FetchSockets, Rooms: []string{"r"}}).Sockets
		if len(sockets) != 1 || sockets[0].ID != string(s.ID()) || !slices.Equal(sockets[0].Rooms, []string{string(s.ID()), "r"}) {
			w.Errorf("got %+v", sockets)
		}
		w.want("nobody", len(ask(official.Message{Kind: official.FetchSockets, Rooms: []string{"x"}}).Sockets), 0)
		w.want("rooms", ask(official.Message{Kind: official.FetchRooms}).Names, []string{string(s.ID()), "r", "peer"})
		w.want("ids", ask(official.Message{Kind: official.FetchIDs}).Names, []string{string(s.ID()), "peer"})
		w.want("recipients", ask(official.Message{Kind: official.Broadcast, Payload: []byte(`["e"]`), Event: "e"}).Count, 1)
		w.want("no recipients", ask(official.Message{Kind: official.Broadcast, Rooms: []string{"x"}, Payload: []byte(`["e"]`), Event: "e"}).Count, 0)
		w.want("delivered", l.taken(), []string{`["e"]`})
		w.want("a server without handlers", ask(official.Message{Kind: official.ServerSideEmit, Payload: []byte(`["news"]`), Event: "news"}).Kind, official.Reply)
		w.want("an old node's join", ask(official.Message{Kind: official.Join, Old: string(s.ID()), Change: []string{"old"}}).Kind, official.Done)
		w.want("counted", w.b.Info().Dropped["official_shape"], int64(2))
	})
}
