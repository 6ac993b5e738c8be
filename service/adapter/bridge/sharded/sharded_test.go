package sharded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"foyer/service/adapter/freeport"
	"foyer/service/adapter/official"
	"foyer/service/adapter/redistest"
)

// The library goes on to dial for up to a second after a client is closed whose server is away.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// node is a medium with what it hears.
type node struct {
	*Medium
	t     *testing.T
	heard chan *official.Message
}

func startNode(t *testing.T, name string, c Config) *node {
	t.Helper()
	c.UID, c.Ours, c.Marker = "foyer:c:"+name, "foyer:c:", "c"
	c.callTimeout = cmp.Or(c.callTimeout, redistest.Patience/4) // a busy server may answer late
	n := &node{New(c), t, make(chan *official.Message, 10_000)}
	if err := n.Open(func(m *official.Message) { n.heard <- m }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// follow has it hear a namespace, and waits until it does.
func (n *node) follow(namespace string) {
	n.t.Helper()
	soon(n.t, "a namespace is heard", n.Follow(namespace, true))
	n.stands()
}

// stands waits until all is subscribed to that is wanted.
func (n *node) stands() {
	n.t.Helper()
	redistest.Await(n.t, "what is wanted", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, p := range n.places {
			if p.wanted > 0 && !p.stands {
				return false
			}
		}
		return true
	})
}

func (n *node) room(namespace, room string) {
	n.t.Helper()
	n.Room(namespace, room, true)
	soon(n.t, "a room is heard", n.Heard(namespace, room))
	n.stands()
}

func (n *node) publish(m official.Message, to string) {
	n.t.Helper()
	m.Namespace = "/"
	if m.UID == "" {
		m.UID = n.cfg.UID
	}
	if err := n.Publish(&m, to); err != nil && !errors.Is(err, official.ErrDoubt) {
		n.t.Fatal(err)
	}
}

// hears waits for an event, and passes over others.
func (n *node) hears(event string) *official.Message {
	n.t.Helper()
	late := time.After(redistest.Patience)
	for {
		select {
		case m := <-n.heard:
			if m.Event == event {
				return m
			}
		case <-late:
			n.t.Fatalf("%s is not heard", event)
		}
	}
}

func soon(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(redistest.Patience):
		t.Fatalf("it does not come that %s", what)
	}
}

func broadcast(event string, rooms ...string) official.Message {
	return official.Message{Kind: official.Broadcast, Rooms: rooms, Payload: []byte(`["` + event + `"]`)}
}

// peer is a server on Node, as far as Redis sees it, that does not come back when Redis was lost.
type peer struct {
	*redis.Client
	t    *testing.T
	sub  *redis.PubSub
	said chan string // "channel message"
}

func startPeer(t *testing.T, address string, channels ...string) *peer {
	t.Helper()
	p := &peer{Client: redis.NewClient(&redis.Options{Addr: address, DisableIdentity: true}), t: t, said: make(chan string, 100_000)}
	var made atomic.Bool
	once := redis.NewClient(&redis.Options{
		Addr: address, DisableIdentity: true, Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			if made.Swap(true) {
				return nil, net.ErrClosed
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	})
	p.sub = once.Subscribe(context.Background())
	ended := make(chan struct{})
	for _, channel := range channels {
		if err := p.sub.SSubscribe(t.Context(), channel); err != nil {
			t.Fatal(err)
		}
		if _, err := p.sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		defer close(ended)
		for message := range p.sub.Channel(redis.WithChannelSize(100_000)) {
			p.said <- message.Channel + " " + message.Payload
		}
	}()
	t.Cleanup(func() {
		_ = p.sub.Close()
		_ = errors.Join(once.Close(), p.Close())
		<-ended
	})
	return p
}

func (p *peer) hears() string {
	p.t.Helper()
	select {
	case got := <-p.said:
		return got
	case <-time.After(redistest.Patience):
		p.t.Fatal("nothing is heard")
		return ""
	}
}

// says publishes a broadcast as a server on Node does.
func (p *peer) says(channel, event string, rooms ...string) {
	p.t.Helper()
	if err := p.SPublish(p.t.Context(), channel, text(p.t, event, rooms...)).Err(); err != nil {
		p.t.Fatal(err)
	}
}

func text(t *testing.T, event string, rooms ...string) []byte {
	t.Helper()
	m := broadcast(event, rooms...)
	m.UID, m.Namespace = "e8cda10cc767b228", "/"
	text, err := official.AppendSharded(nil, &m)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (n *node) wantPeers(want int) {
	n.t.Helper()
	var got int
	var err error
	redistest.Await(n.t, fmt.Sprintf("the number of peers %d (now %d, %v)", want, got, err), func() bool {
		ctx, stop := context.WithTimeout(n.t.Context(), time.Second)
		defer stop()
		got, err = n.Peers(ctx, "/")
		return err == nil && got == want
	})
}

func startOne(t *testing.T, more ...string) (*redistest.Server, Config) {
	t.Helper()
	s := redistest.Start(t, freeport.New(t), more...)
	return s, Config{Addresses: []string{s.Addr}}
}

// TestChannels: what is said goes on the channels of the mode, in its order, and to a room that was joined lately on
// that of the namespace.
func TestChannels(t *testing.T) {
	s, c := startOne(t)
	id := strings.Repeat("i", 20)
	p := startPeer(t, s.Addr, "socket.io#/#", "socket.io#/#r#", "socket.io#/#new#", "socket.io#/#"+id+"#", "socket.io#/#e8cda10cc767b228#")
	for mode, want := range map[official.ShardedMode][]string{
		official.Static:         {"#/#", "#/#", "#/#", "#/#", "#/#e8cda10cc767b228#", "#/#", "#/#"},
		official.Dynamic:        {"#/#", "#/#r#", "#/#", "#/#", "#/#e8cda10cc767b228#", "#/#", "#/#"},
		official.DynamicPrivate: {"#/#", "#/#r#", "#/#" + id + "#", "#/#", "#/#e8cda10cc767b228#", "#/#", "#/#"},
	} {
		c.Mode = mode
		n := startNode(t, "AAAA", c)
		n.publish(broadcast("all"), "")
		n.publish(broadcast("room", "r"), "")
		n.publish(broadcast("id", id), "")
		n.publish(broadcast("rooms", "r", "s"), "")
		n.publish(official.Message{Kind: official.ClientCount, Request: "q", Count: 1}, "e8cda10cc767b228")
		n.publish(official.Message{Kind: official.Join, Rooms: []string{id}, Change: []string{"new"}}, "")
		n.publish(broadcast("new", "new"), "")
		for i, channel := range want {
			if got := p.hears(); !strings.HasPrefix(got, "socket.io"+channel+" {") {
				t.Errorf("mode %d, message %d: %s, want it on %s", mode, i, got, channel)
			}
		}
	}
}

// TestHears: what others say is heard on the namespace's channel, on those of rooms that are wanted and on that of
// answers, where nothing else is taken. What nodes of this cluster say is passed over.
func TestHears(t *testing.T) {
	s, c := startOne(t)
	n, p := startNode(t, "AAAA", c), startPeer(t, s.Addr)
	n.follow("/")
	n.room("/", "r")
	n.room("/", "r") // by another one
	p.says("socket.io#/#", "all")
	p.says("socket.io#/#r#", "room", "r")
	p.says("socket.io#/#x#", "elsewhere", "x")
	p.says("socket.io#/#foyer:c:AAAA#", "no answer")
	p.SPublish(t.Context(), "socket.io#/#foyer:c:AAAA#", `{"type":11,"data":{"requestId":"q","clientCount":1},"uid":"f0491022611117bf","nsp":"/"}`)
	p.SPublish(t.Context(), "socket.io#/#", `{"type":3,"data":{"packet":{"type":2,"data":["own"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"foyer:c:BBBB","nsp":"/"}`)
	p.SPublish(t.Context(), "socket.io#/#", "garbage")
	n.Room("/", "r", false)
	p.says("socket.io#/#r#", "still", "r")
	var got []string
	until := func(event string) {
		for m := range n.heard {
			if got = append(got, m.Kind.String()+" "+m.Event); m.Event == event {
				return
			}
		}
	}
	until("still")
	n.Room("/", "r", false)
	redistest.Await(t, "that nobody hears the room", func() bool { return p.PubSubShardNumSub(t.Context(), "socket.io#/#r#").Val()["socket.io#/#r#"] == 0 })
	p.says("socket.io#/#", "end")
	until("end")
	if want := []string{"broadcast all", "broadcast room", "client_count ", "broadcast still", "broadcast end"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if d := n.Dropped(); d["shape"] != 1 || d["garbled"] != 1 || len(d) != 2 {
		t.Errorf("dropped %v, want one without the shape of an answer and one that cannot be read", d)
	}
	n.Follow("/", false)
	redistest.Await(t, "that nothing is subscribed to", func() bool { return len(p.PubSubShardChannels(t.Context(), "*").Val()) == 0 })
}

// TestPeersAreCounted: those that hear a namespace and are no nodes of this cluster.
func TestPeersAreCounted(t *testing.T) {
	s, c := startOne(t)
	a, b := startNode(t, "AAAA", c), startNode(t, "BBBB", c)
	a.wantPeers(0)
	a.follow("/")
	b.follow("/")
	a.wantPeers(0)
	p := startPeer(t, s.Addr, "socket.io#/#", "socket.io#/#e8cda10cc767b228#")
	a.wantPeers(1)
	redistest.Await(t, "who is gone", func() bool {
		gone, err := a.Gone(t.Context(), "/", []string{"e8cda10cc767b228", "f0491022611117bf"})
		if err == nil && !slices.Equal(gone, []string{"f0491022611117bf"}) {
			t.Fatalf("gone are %q", gone)
		}
		return err == nil
	})
	b.Follow("/", false)
	b.wantPeers(1)
	_ = p.sub.Close()
	a.wantPeers(0)
}

// TestAnswersAreHeardWhereNobodyIs: a node that asks in a namespace that it does not follow hears what is answered.
func TestAnswersAreHeardWhereNobodyIs(t *testing.T) {
	s, c := startOne(t)
	n, p := startNode(t, "AAAA", c), startPeer(t, s.Addr, "socket.io#/#")
	n.publish(official.Message{Kind: official.FetchSockets, Request: "q"}, "")
	if got := p.hears(); !strings.Contains(got, `"requestId":"q"`) {
		t.Fatal(got)
	}
	redistest.Await(t, "an answer", func() bool { // on a busy machine the question goes out before answers would be heard
		p.SPublish(t.Context(), "socket.io#/#foyer:c:AAAA#", `{"type":8,"data":{"requestId":"q","sockets":[]},"uid":"f0491022611117bf","nsp":"/"}`)
		select {
		case m := <-n.heard:
			if m.Kind != official.Sockets {
				t.Errorf("heard %v", m.Kind)
			}
			return true
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
	n.wantPeers(1)
}

// TestRedisRestarts: what is subscribed to is so again, everybody is counted, and nothing is published twice.
func TestRedisRestarts(t *testing.T) {
	t.Parallel()
	port := freeport.New(t)
	s := redistest.Start(t, port)
	n := startNode(t, "AAAA", Config{Addresses: []string{s.Addr}})
	n.follow("/")
	for i := range 300 {
		n.Room("/", strconv.Itoa(i), true)
	}
	n.room("/", "r")
	tries := 0
	tried := func() error {
		tries++
		m := broadcast(fmt.Sprintf("try %d", tries))
		m.Namespace, m.UID = "/", n.cfg.UID
		return n.Publish(&m, "")
	}
	seen := map[string]bool{}
	var mu sync.Mutex
	for round := range int64(2) {
		p := startPeer(t, s.Addr, "socket.io#/#")
		n.wantPeers(1)
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() { // it goes on while Redis dies
			defer close(ended)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
					n.publish(broadcast(fmt.Sprintf("%d of round %d", i, round)), "")
				}
			}
		}()
		for range 20 {
			p.hears()
		}
		s.Kill()
		redistest.Await(t, "doubt", func() bool { return errors.Is(tried(), official.ErrDoubt) })
		began := time.Now()
		s = redistest.Start(t, port)
		next := startPeer(t, s.Addr, "socket.io#/#")
		redistest.Await(t, "that all is subscribed to", func() bool { return len(next.PubSubShardChannels(t.Context(), "*").Val()) == 304 })
		next.says("socket.io#/#r#", "back", "r")
		n.hears("back")
		t.Logf("whole %v after Redis was killed", time.Since(began))
		redistest.Await(t, "the end of all doubt", func() bool { return tried() == nil })
		if got := n.Dropped()["gap"]; got < round+1 || got > 2*(round+1) { // a busy server may be given up once more
			t.Errorf("%d gaps are told of, want about %d", got, round+1)
		}
		close(stop)
		<-ended
		for _, one := range []*peer{p, next} {
			_ = one.sub.Close()
			for len(one.said) > 0 {
				got := <-one.said
				mu.Lock()
				if seen[got] {
					t.Errorf("%s came twice", got)
				}
				seen[got] = true
				mu.Unlock()
			}
		}
	}
}

// TestPeersMayBeAboutToComeBack: where Redis was lost, fewer peers than before are not taken for all of them.
func TestPeersMayBeAboutToComeBack(t *testing.T) {
	t.Parallel()
	port := freeport.New(t)
	s := redistest.Start(t, port)
	n := startNode(t, "AAAA", Config{Addresses: []string{s.Addr}})
	n.follow("/")
	startPeer(t, s.Addr, "socket.io#/#")
	n.wantPeers(1)
	s.Kill()
	redistest.Await(t, "that the loss is seen", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.trouble })
	if _, err := n.Peers(t.Context(), "/"); err == nil {
		t.Error("peers are counted while Redis is away")
	}
	if gone, err := n.Gone(t.Context(), "/", []string{"e8cda10cc767b228"}); err == nil {
		t.Errorf("%q are taken for gone while Redis is away", gone)
	}
	redistest.Start(t, port)
	var err error
	redistest.Await(t, "an answer", func() bool {
		n.mu.Lock()
		stands := n.places["socket.io#/#"].stands
		n.mu.Unlock()
		if !stands {
			return false
		}
		_, err = n.Peers(t.Context(), "/")
		return true
	})
	n.mu.Lock()
	settling := time.Now().Before(n.settles)
	n.mu.Unlock()
	if settling && err == nil { // a machine may be busy for that long
		t.Error("nobody is there, says the first answer")
	}
	gone, err := n.Gone(t.Context(), "/", []string{"e8cda10cc767b228"})
	n.mu.Lock()
	settling = time.Now().Before(n.settles)
	n.mu.Unlock()
	if settling && err == nil {
		t.Errorf("%q are gone, says the first answer", gone)
	}
}

// TestFrozenRedis: a server that says nothing is given up, and gone back to when it lives.
func TestFrozenRedis(t *testing.T) {
	t.Parallel()
	s, c := startOne(t)
	c.callTimeout = callWait
	n := startNode(t, "AAAA", c)
	n.follow("/")
	n.room("/", "r")
	n.mu.Lock()
	first := n.places["socket.io#/#r#"].at
	n.mu.Unlock()
	if err := s.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	redistest.Await(t, "that it is given up", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return first.over })
	if err := s.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p := startPeer(t, s.Addr)
	redistest.Await(t, "the room's subscription", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.places["socket.io#/#r#"].stands })
	p.says("socket.io#/#r#", "back", "r")
	n.hears("back")
}

// TestLostSubscriptions: a connection that Redis ends, a subscription that it ends by itself, and one that it has
// forgotten without a word are found, and made anew.
func TestLostSubscriptions(t *testing.T) {
	t.Parallel()
	s, c := startOne(t)
	n, p := startNode(t, "AAAA", c), startPeer(t, s.Addr)
	n.follow("/")
	n.room("/", "r")
	at := func() *ear {
		n.mu.Lock()
		defer n.mu.Unlock()
		if place := n.places["socket.io#/#r#"]; place.stands {
			return place.at
		}
		return nil
	}
	back := func(what string) {
		t.Helper()
		began := time.Now()
		redistest.Await(t, "the subscription after "+what, func() bool {
			return at() != nil && p.PubSubShardNumSub(t.Context(), "socket.io#/#r#").Val()["socket.io#/#r#"] == 1
		})
		p.says("socket.io#/#r#", what, "r")
		n.hears(what)
		t.Logf("%v after %s", time.Since(began), what)
	}
	back("the start")
	before := at()
	if err := p.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	redistest.Await(t, "another connection", func() bool { now := at(); return now != nil && now != before })
	back("a killed connection")

	if err := at().sub.SUnsubscribe(t.Context(), "socket.io#/#r#"); err != nil { // nobody wants that
		t.Fatal(err)
	}
	redistest.Await(t, "that it is lost", func() bool {
		return at() == nil || p.PubSubShardNumSub(t.Context(), "socket.io#/#r#").Val()["socket.io#/#r#"] == 1
	})
	back("an end that nobody has asked for")

	before = at()
	n.mu.Lock()
	before.standing++ // as if the server had one more
	n.mu.Unlock()
	redistest.Await(t, "another connection", func() bool { now := at(); return now != nil && now != before })
	back("one that was forgotten")
}

// TestBounds: what waits for a frozen server, and for a bridge that is slow, is bounded; the rest is refused, or
// dropped and counted, and garbage harms nobody.
func TestBounds(t *testing.T) {
	s, c := startOne(t)
	c.MaxBytes = 1 << 20
	c.UID, c.Ours, c.Marker = "foyer:c:AAAA", "foyer:c:", "c"
	m, gate := New(c), make(chan struct{})
	var mu sync.Mutex
	var last string
	if err := m.Open(func(read *official.Message) {
		<-gate
		mu.Lock()
		defer mu.Unlock()
		last = read.Event
	}); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	n := &node{m, t, nil}
	n.follow("/")
	p := startPeer(t, s.Addr)

	big := strings.Repeat("x", 1<<20-1000)
	for range 40 {
		p.says("socket.io#/#", big)
	}
	p.says("socket.io#/#", strings.Repeat("x", 1<<20))
	for i := range 1000 {
		p.SPublish(t.Context(), "socket.io#/#", fmt.Sprintf(`{"type":%d,"data":{"opts":null},"uid":"x","nsp":"/"}`, i%20))
	}
	redistest.Await(t, "that too much came", func() bool { d := m.Dropped(); return d["busy"] > 0 && d["too_large"] == 1 })
	close(gate)
	redistest.Await(t, "what comes after it", func() bool {
		p.says("socket.io#/#", "after")
		mu.Lock()
		defer mu.Unlock()
		return last == "after"
	})

	if err := s.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	message := broadcast(big)
	message.UID, message.Namespace = c.UID, "/"
	before, sent := heap(), 0
	redistest.Await(t, "a refusal", func() bool { // what the kernel takes is its own, and what waits for too long is lost
		sent++
		return errors.Is(m.Publish(&message, ""), errFull)
	})
	if kept := int64(heap() - before); kept > outBytes+2<<20 {
		t.Errorf("after %d messages of 1 MiB %d bytes are kept", sent, kept)
	}
	if err := s.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// TestManyRooms: thousands of rooms are one connection and nothing that runs for each.
func TestManyRooms(t *testing.T) {
	const rooms = 5000
	s, c := startOne(t)
	n, p := startNode(t, "AAAA", c), startPeer(t, s.Addr)
	n.follow("/")
	before, memory, remote := runtime.NumGoroutine(), heap(), p.usedMemory()
	began := time.Now()
	for i := range rooms {
		n.Room("/", fmt.Sprintf("room number %d", i), true)
	}
	noted := time.Since(began)
	for i := range rooms {
		soon(t, "a room is heard", n.Heard("/", fmt.Sprintf("room number %d", i)))
	}
	t.Logf("%d rooms: noted in %v, heard after %v, %d KiB of memory, and %d KiB at Redis", rooms, noted, time.Since(began),
		(heap()-memory)>>10, (p.usedMemory()-remote)>>10)
	if got := len(p.PubSubShardChannels(t.Context(), "*").Val()); got != rooms+3 {
		t.Errorf("%d subscriptions, want %d", got, rooms+3)
	}
	if now := runtime.NumGoroutine(); now > before+rooms/100 { // the runtime's own count may be some tens too high
		t.Errorf("%d goroutines, %d before", now, before)
	}
	for i := range rooms {
		n.Room("/", fmt.Sprintf("room number %d", i), false)
	}
	redistest.Await(t, "that all are given back", func() bool { return len(p.PubSubShardChannels(t.Context(), "*").Val()) == 3 })
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.places) != 3 {
		t.Errorf("%d places are kept, want 3", len(n.places))
	}
}

// usedMemory is what Redis has taken, in bytes.
func (p *peer) usedMemory() int {
	p.t.Helper()
	_, rest, _ := strings.Cut(p.Info(p.t.Context(), "memory").Val(), "used_memory:")
	text, _, _ := strings.Cut(rest, "\r")
	n, err := strconv.Atoi(text)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
