package classic

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"foyer/service/adapter/freeport"
	"foyer/service/adapter/official"
	"foyer/service/adapter/redistest"
)

// The library goes on to dial for up to a second after a client is closed whose server is away.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// node is a medium and what it has heard.
type node struct {
	*Medium
	logs *observer.ObservedLogs

	mu    sync.Mutex
	heard map[string]int // payloads; guarded by mu
	gate  chan struct{}  // the bridge takes nothing before it is closed; nil: at once
}

// config is that of a node of the cluster foyer.
func config(name string, addresses ...string) Config {
	return Config{Addresses: addresses, UID: "foyer:foyer:" + name, Ours: "foyer:foyer:", Marker: "foyer"}
}

func open(t *testing.T, c Config) *node {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	c.Logger = zap.New(core)
	c.callTimeout = cmp.Or(c.callTimeout, redistest.Patience/4) // a busy server may answer late
	n := &node{Medium: New(c), logs: logs, heard: map[string]int{}}
	n.opens(t)
	return n
}

func (n *node) opens(t *testing.T) {
	t.Helper()
	if err := n.Open(n.hear); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
}

func (n *node) hear(m *official.Message) {
	if n.gate != nil {
		<-n.gate
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heard[m.Namespace+" "+string(m.Payload)]++
}

func (n *node) times(text string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.heard[text]
}

// peers awaits that so many are counted.
func (n *node) peers(t *testing.T, namespace string, want int) {
	t.Helper()
	redistest.Await(t, fmt.Sprintf("a count of %d in %s", want, namespace), func() bool {
		got, err := n.Peers(t.Context(), namespace)
		return err == nil && got == want
	})
}

// server is somebody at Redis who is no node, and who can be what a server on Node is.
type server struct {
	*redis.Client
	t *testing.T

	mu    sync.Mutex
	heard []string // guarded by mu
}

func dialServer(t *testing.T, address string) *server {
	t.Helper()
	s := &server{Client: redis.NewClient(&redis.Options{Addr: address, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1}), t: t}
	t.Cleanup(func() { s.Close() })
	return s
}

// serve subscribes to what a server on Node subscribes to in a namespace, until the test ends.
func (s *server) serve(namespace string) {
	s.t.Helper()
	names := official.Classic{}
	sub := s.PSubscribe(s.t.Context(), names.Broadcasts(namespace)+"*")
	if err := sub.Subscribe(s.t.Context(), names.Requests(namespace), names.Responses(namespace)); err != nil {
		s.t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() {
		// A health check would leave a busy server.
		for message := range sub.Channel(redis.WithChannelHealthCheckInterval(0)) {
			m, fault := official.ReadClassicBroadcast(namespace, []byte(message.Payload), maxBytes)
			if fault == 0 {
				s.mu.Lock()
				s.heard = append(s.heard, string(m.Payload))
				s.mu.Unlock()
			}
		}
	})
	s.t.Cleanup(func() {
		sub.Close()
		ended.Wait()
	})
}

func (s *server) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard)
}

// say publishes a message as a server on Node does.
func (s *server) say(m *official.Message) error {
	if m.UID == "" {
		m.UID = "abcdef"
	}
	text, err := official.AppendClassic(nil, m)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.Publish(s.t.Context(), official.Classic{}.Channel(m, ""), text).Err()
}

func event(namespace, text string, rooms ...string) *official.Message {
	return &official.Message{Kind: official.Broadcast, Namespace: namespace, Rooms: rooms, Payload: fmt.Appendf(nil, "[%q]", text)}
}

// own is an event of a node itself.
func own(n *node, namespace, text string) *official.Message {
	m := event(namespace, text)
	m.UID = n.cfg.UID
	return m
}

// follow follows a namespace, and waits until it is heard.
func follow(t *testing.T, n *node, namespace string) {
	t.Helper()
	n.lives(t)
	<-n.Follow(namespace, true)
}

// lives awaits that it hears Redis.
func (n *node) lives(t *testing.T) {
	t.Helper()
	redistest.Await(t, "a connection", func() bool {
		n.Medium.mu.Lock()
		defer n.Medium.mu.Unlock()
		return n.live
	})
}

// TestNamesThatArePatterns: a namespace whose name means something in a pattern is heard, and no other one with it.
func TestNamesThatArePatterns(t *testing.T) {
	s := redistest.Start(t, freeport.New(t))
	n, peer := open(t, config("AAAA", s.Addr)), dialServer(t, s.Addr)
	names := []string{"/", "/[x]", "/x", "/a*", "/ab", "/b?", "/bc", `/c\*`, "/c*"}
	for _, name := range names {
		if !strings.ContainsAny(name, `[*?\`) {
			continue
		}
		follow(t, n, name)
	}
	for _, name := range names {
		for _, m := range []*official.Message{event(name, "all"), event(name, "room", "r")} {
			if err := peer.say(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	redistest.Await(t, "the last one", func() bool { return n.times(`/c* ["room"]`) > 0 })
	for _, name := range names {
		want := 0
		if strings.ContainsAny(name, `[*?\`) {
			want = 1
		}
		for _, text := range []string{"all", "room"} {
			if got := n.times(fmt.Sprintf("%s [%q]", name, text)); got != want {
				t.Errorf("%q in %s was heard %d times, want %d", text, name, got, want)
			}
		}
	}
}

// TestNamespaceIsGivenBack: what nobody follows any more has no subscription at the server, and no trace here.
func TestNamespaceIsGivenBack(t *testing.T) {
	s := redistest.Start(t, freeport.New(t))
	n, peer := open(t, config("AAAA", s.Addr)), dialServer(t, s.Addr)
	subscriptions := func() (channels int, patterns int64) {
		t.Helper()
		list, err := peer.PubSubChannels(t.Context(), "*").Result()
		patterns, err2 := peer.PubSubNumPat(t.Context()).Result()
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		return len(list), patterns
	}
	for range 3 {
		for i := range 50 {
			follow(t, n, fmt.Sprint("/", i))
		}
		if channels, patterns := subscriptions(); channels != 50*4+1 || patterns != 51 {
			t.Errorf("with 50 namespaces there are %d channels and %d patterns", channels, patterns)
		}
		n.peers(t, "/7", 0)
		for i := range 50 {
			n.Follow(fmt.Sprint("/", i), false)
		}
		redistest.Await(t, "the end of subscriptions", func() bool {
			channels, patterns := subscriptions()
			return channels == 1 && patterns == 1
		})
	}
	n.Medium.mu.Lock()
	defer n.Medium.mu.Unlock()
	if len(n.follows) != 0 || len(n.places) != 2 || len(n.counts) != 0 {
		t.Errorf("left are %d namespaces, %d places and %d counts", len(n.follows), len(n.places), len(n.counts))
	}
}

// TestOrder: what a node publishes comes in its order.
func TestOrder(t *testing.T) {
	s := redistest.Start(t, freeport.New(t))
	n, peer := open(t, config("AAAA", s.Addr)), dialServer(t, s.Addr)
	peer.serve("/")
	n.peers(t, "/", 1)
	const events = 3000
	var want []string
	for i := range events {
		m := own(n, "/", fmt.Sprint(i))
		if i%3 == 0 {
			m.Rooms = []string{"r"}
		}
		if err := n.Publish(m, ""); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("[%q]", fmt.Sprint(i)))
	}
	redistest.Await(t, "the last one", func() bool { return len(peer.all()) == events })
	if !slices.Equal(peer.all(), want) {
		t.Error("the order is another")
	}
}

// TestAnswersToOthers: an answer is read by the node that has asked, and by no other.
func TestAnswersToOthers(t *testing.T) {
	s := redistest.Start(t, freeport.New(t))
	a, b := open(t, config("AAAA", s.Addr)), open(t, config("BBBB", s.Addr))
	peer := dialServer(t, s.Addr)
	a.lives(t)
	b.lives(t)
	for _, m := range []*official.Message{
		{Kind: official.Reply, Namespace: "/", Request: "abcdef", Payload: []byte(`"a peer's"`)},
		{Kind: official.Reply, Namespace: "/", Request: a.cfg.UID + ":1", Payload: []byte(`"mine"`)},
		{Kind: official.Reply, Namespace: "/", Request: b.cfg.UID + ":2", Payload: []byte(`"last"`)},
	} {
		if err := peer.say(m); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Await(t, "the last one", func() bool { return b.times(` "last"`) == 1 })
	redistest.Await(t, "the answer", func() bool { return a.times(` "mine"`) == 1 })
	if len(a.heard) != 1 || len(b.heard) != 1 {
		t.Errorf("heard are %v and %v", a.heard, b.heard)
	}
}

// TestCopyForEachRoom: an event for several rooms that comes once on the channel of each is heard once.
func TestCopyForEachRoom(t *testing.T) {
	s := redistest.Start(t, freeport.New(t))
	n, peer := open(t, config("AAAA", s.Addr)), dialServer(t, s.Addr)
	follow(t, n, "/")
	twice := event("/", "twice", "a", "b#")
	twice.UID = official.Emitter
	text, err := official.AppendClassic(nil, twice)
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range []string{"a#", "b##", "a", "b#"} { // the last # may be missing
		if err := peer.Publish(t.Context(), "socket.io#/#"+room, text).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := peer.say(event("/", "last")); err != nil {
		t.Fatal(err)
	}
	redistest.Await(t, "the last one", func() bool { return n.times(`/ ["last"]`) == 1 })
	if got := n.times(`/ ["twice"]`); got != 2 {
		t.Errorf("two events for two rooms were heard %d times", got)
	}
}

// TestGarbage: a flood of what cannot be read is counted and told by reason, nothing of it is kept, and what can be
// read among it is heard.
func TestGarbage(t *testing.T) {
	s := redistest.Start(t, freeport.New(t))
	n, peer := open(t, config("AAAA", s.Addr)), dialServer(t, s.Addr)
	follow(t, n, "/")
	names := official.Classic{}
	deep := strings.Repeat("\x91", 200_000)
	const rounds = 30
	for i := range rounds {
		pipe := peer.Pipeline()
		for _, text := range []string{"", "x", "\xc1", "{", `{"type":3}`, `{"type":99}`, "\x93\xa1x\x81\xa4type\x04\x80", "\xdd\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff", deep[:1000+i*6600]} {
			pipe.Publish(t.Context(), names.Broadcasts("/"), text)
			pipe.Publish(t.Context(), names.Requests("/"), text)
			pipe.Publish(t.Context(), names.Responses("/"), text+n.mine)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint("good ", i)
		if err := peer.say(event("/", text)); err != nil {
			t.Fatal(err)
		}
		redistest.Await(t, text, func() bool { return n.times(fmt.Sprintf("/ [%q]", text)) == 1 })
	}
	total := int64(0)
	for _, count := range n.Dropped() {
		total += count
	}
	if dropped := n.Dropped(); total < 10*rounds || dropped["garbled"] == 0 || dropped["shape"] == 0 || dropped["unknown_type"] == 0 || dropped["packet_type"] == 0 {
		t.Errorf("dropped were %v", dropped)
	}
	redistest.Await(t, "the end of all that was kept", func() bool {
		n.in.mu.Lock()
		defer n.in.mu.Unlock()
		return n.in.bytes == 0 && len(n.in.list) == 0
	})
}

// TestBounds: what waits is bounded on the way out and in, and what is too large is not read. What is beyond is refused
// or dropped, and counted.
func TestBounds(t *testing.T) {
	s := redistest.Start(t, freeport.New(t))
	c := config("AAAA", s.Addr)
	c.MaxBytes = 1 << 20
	n := &node{Medium: New(c), heard: map[string]int{}, gate: make(chan struct{})}
	const size = 1 << 16
	n.out.most, n.in.most = 16*size, 16*size
	large := own(n, "/", strings.Repeat("x", size))
	refused := 0
	for range 50 { // nobody publishes yet
		if err := n.Publish(large, ""); errors.Is(err, errFull) {
			refused++
		}
	}
	if refused == 0 || n.out.bytes > n.out.most {
		t.Errorf("%d were refused, %d bytes wait", refused, n.out.bytes)
	}
	n.opens(t)
	peer := dialServer(t, s.Addr)
	follow(t, n, "/")
	if err := peer.say(event("/", strings.Repeat("x", c.MaxBytes))); err != nil {
		t.Fatal(err)
	}
	redistest.Await(t, "one that is too large", func() bool { return n.Dropped()["too_large"] == 1 })
	const events = 50
	for range events {
		if err := peer.say(event("/", strings.Repeat("y", size))); err != nil {
			t.Fatal(err)
		}
	}
	redistest.Await(t, "some that are dropped", func() bool { return n.Dropped()["busy"] > 0 })
	close(n.gate)
	redistest.Await(t, "the others", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		heard := 0
		for _, times := range n.heard {
			heard += times
		}
		return int64(heard)+n.Dropped()["busy"] == events
	})
	if err := peer.say(event("/", "after")); err != nil {
		t.Fatal(err)
	}
	redistest.Await(t, "one after", func() bool { return n.times(`/ ["after"]`) == 1 })
}
