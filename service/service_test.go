package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// textCodec writes packets as people would, and counts how often it is asked to.
type textCodec struct{ encodes *int }

type textFrame string

func (f textFrame) Len() int { return len(f) }

func (c textCodec) Encode(p *Packet) (Frame, error) {
	*c.encodes++
	if p.Namespace == unencodable {
		return nil, errors.New("cannot be said")
	}
	switch p.Kind {
	case KindConnect:
		return textFrame("connect " + p.Namespace), nil
	case KindDisconnect:
		return textFrame("disconnect " + p.Namespace), nil
	case KindAck:
		return textFrame(fmt.Sprintf("ack %d %s", p.AckID, p.Payload)), nil
	}
	if p.AckID != NoAck {
		return textFrame(fmt.Sprintf("event %d %s", p.AckID, p.Payload)), nil
	}
	return textFrame("event " + string(p.Payload)), nil
}

// unencodable is the namespace of a packet that textCodec has no words for.
const unencodable = "/unencodable"

// joint stands between joined frames; no packet of a test has it.
const joint = "\x1e"

func (textCodec) Join(frames []Frame) Frame {
	texts := make([]string, len(frames))
	for i, f := range frames {
		texts[i] = string(f.(textFrame))
	}
	return textFrame(strings.Join(texts, joint))
}

// fakeConn is a link whose queue is read by the test.
type fakeConn struct {
	codec   textCodec
	address string // "": 10.0.0.1

	mu      sync.Mutex
	sockets []*Socket
	frames  []string
	refused []Refusal
	closed  Reason
	out     Outcome
	flushes int
	pauses  int
	sends   int           // frames, joined ones as one
	space   int           // what its queue has room for, when out is Full
	wider   int           // the same for what is relayed
	since   time.Time     // when it became full
	room    chan struct{} // made by Room
}

func newConn() *fakeConn { return &fakeConn{codec: textCodec{new(int)}, out: QueuedFlush} }

func (c *fakeConn) Codec() Codec { return c.codec }
func (c *fakeConn) Send(f Frame, flags Flags) Outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != ReasonNone {
		return Closed
	}
	if c.out == DroppedVolatile && flags&Volatile == 0 {
		return Queued
	}
	if c.out == Full && flags&Owed == 0 {
		if flags&Relayed != 0 && f.Len() <= c.wider {
			c.wider -= f.Len()
		} else if f.Len() > c.space {
			return Full
		}
		c.space = max(0, c.space-f.Len())
		c.sends++
		c.frames = append(c.frames, strings.Split(string(f.(textFrame)), joint)...)
		return QueuedFlush
	}
	c.sends++
	if c.out != DroppedVolatile {
		c.frames = append(c.frames, strings.Split(string(f.(textFrame)), joint)...)
	}
	return c.out
}

// full makes it a link with so many bytes of room.
func (c *fakeConn) full(space int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out, c.space, c.since = Full, space, time.Now()
}

// give makes so much room.
func (c *fakeConn) give(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.space += bytes
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

func (c *fakeConn) Room(bytes int) (<-chan struct{}, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.room == nil {
		c.room = make(chan struct{})
	}
	room := c.room
	if c.closed != ReasonNone || bytes <= c.space {
		close(c.room)
		c.room = nil
	}
	return room, c.since
}

// Probe tells what Send would do.
func (c *fakeConn) Probe(bytes int, flags Flags) (Outcome, LinkState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state := LinkState{Limit: 1000, Writable: c.out == QueuedFlush, Paused: c.pauses > 0, FullSince: c.since}
	switch {
	case c.closed != ReasonNone:
		return Closed, state
	case c.out == DroppedVolatile && flags&Volatile == 0:
		return Queued, state
	case c.out == Full:
		if state.Waiting = 1000 - c.space; bytes <= c.space || flags&Relayed != 0 && bytes <= c.wider {
			return QueuedFlush, state
		}
	}
	return c.out, state
}

func (c *fakeConn) Pause()  { c.mu.Lock(); c.pauses++; c.mu.Unlock() }
func (c *fakeConn) Resume() { c.mu.Lock(); c.pauses--; c.mu.Unlock() }
func (c *fakeConn) paused() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pauses
}

// end is why it was closed.
func (c *fakeConn) end() Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}
func (c *fakeConn) Flush() { c.mu.Lock(); c.flushes++; c.mu.Unlock() }
func (c *fakeConn) Close(r Reason) {
	c.mu.Lock()
	if c.closed != ReasonNone {
		c.mu.Unlock()
		return
	}
	c.closed = r
	sockets := slices.Clone(c.sockets)
	c.mu.Unlock()
	for _, s := range sockets {
		s.leave(r, "", nil)
	}
	c.give(0) // a caller that waits for room meets a link without sockets, and not one that is about to lose them
}

func (c *fakeConn) Dismiss() {
	for _, s := range c.sockets {
		s.leave(ReasonServerDisconnect, "", nil)
	}
	c.Close(ReasonServerDisconnect)
}
func (c *fakeConn) Forget(*Socket) bool { return true }
func (c *fakeConn) SessionID() string   { return "session" }
func (c *fakeConn) Transport() string   { return "websocket" }
func (c *fakeConn) Handshake() Handshake {
	if c.address == "" {
		return fakeHandshake("10.0.0.1")
	}
	return fakeHandshake(c.address)
}

func (c *fakeConn) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.frames
	c.frames = nil
	return f
}

// refusals are what clients see of them.
func (c *fakeConn) refusals() []Refusal {
	list := c.reasons()
	for i := range list {
		list[i].Reason, list[i].Detail, list[i].Setting = "", "", ""
	}
	return list
}

// reasons are the refusals with what the log is told.
func (c *fakeConn) reasons() []Refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.refused)
}

func (c *fakeConn) request(namespace string) Connect {
	return Connect{
		Conn: c, Namespace: namespace, Auth: []byte(`{"token":"t"}`),
		Bind: func(s *Socket) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.closed != ReasonNone {
				return false
			}
			c.sockets = append(c.sockets, s)
			return true
		},
		Refuse: func(r Refusal) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.refused = append(c.refused, r)
		},
	}
}

func newNode(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// connect brings a socket into a namespace that lets everybody in.
func connect(t testing.TB, n *Node, namespace string, rooms ...string) (*Socket, *fakeConn) {
	t.Helper()
	c := newConn()
	n.Connect(c.request(namespace))
	if len(c.sockets) != 1 {
		t.Fatalf("connect to %s: not let in: %+v", namespace, c.refused)
	}
	s := c.sockets[0]
	if len(rooms) > 0 {
		join(t, n, s, rooms...)
	}
	c.take()
	return s, c
}

func join(t testing.TB, n *Node, s *Socket, rooms ...string) {
	t.Helper()
	if m, _, err := n.Join(t.Context(), Target{Namespace: s.Namespace(), Rooms: []string{string(s.ID())}}, rooms); m != 1 || err != nil {
		t.Fatalf("join: %d, %v", m, err)
	}
}

func event(name string, args ...any) *Packet {
	b, _ := json.Marshal(append([]any{name}, args...))
	return &Packet{Kind: KindEvent, Namespace: "/", AckID: NoAck, Payload: b, Event: name}
}

func emit(t testing.TB, n *Node, target Target) Receipt {
	t.Helper()
	if target.Namespace == "" {
		target.Namespace = "/"
	}
	r, err := n.Emit(t.Context(), Emit{Target: target, Packet: event("e")})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// attach makes a handler and drops the notice of what it was assigned.
func attach(t testing.TB, n *Node, r Registration) *Handler {
	t.Helper()
	if len(r.Namespaces) == 0 {
		r.Namespaces = []string{"/"}
	}
	h, _, err := n.Attach(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Detach)
	return h
}

// told is what a handler is told now, in short.
func told(t testing.TB, h *Handler) []string {
	t.Helper()
	var list []string
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for {
		notices, err := h.Next(ctx, nil)
		if err != nil {
			return list
		}
		for _, n := range notices {
			list = append(list, short(n))
		}
	}
}

func short(n Notice) string {
	names := map[NoticeKind]string{
		NoticeConnect: "connect", NoticeConnected: "connected", NoticeAssigned: "assigned", NoticeEvent: "event",
		NoticeDisconnected: "disconnected", NoticeDraining: "draining", NoticePosted: "posted",
	}
	s := names[n.Kind]
	switch n.Kind {
	case NoticeEvent:
		s += " " + string(n.Packet.Payload)
	case NoticeAssigned:
		s += fmt.Sprintf(" %d", len(n.Sockets))
	case NoticeDisconnected:
		s += " " + n.Reason.String()
	}
	return s
}

func wantEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// pass lets time go by in a bubble, and all that falls due in it be done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestTargets(t *testing.T) {
	n := newNode(t, Config{})
	names := map[SocketID]string{}
	conns := map[string]*fakeConn{}
	ids := map[string]string{}
	for name, rooms := range map[string][]string{"a": {"r1"}, "b": {"r1", "r2"}, "c": {"r2", "r3"}, "d": nil} {
		s, c := connect(t, n, "/", rooms...)
		names[s.ID()], conns[name], ids[name] = name, c, string(s.ID())
	}
	for _, tc := range []struct {
		name   string
		target Target
		want   string
	}{
		{"all", Target{All: true}, "abcd"},
		{"everyone but the sender", Target{All: true, ExceptRooms: []string{ids["a"]}}, "bcd"},
		{"one room", Target{Rooms: []string{"r1"}}, "ab"},
		{"one room but the sender", Target{Rooms: []string{"r1"}, ExceptRooms: []string{ids["a"]}}, "b"},
		{"union, once each", Target{Rooms: []string{"r1", "r2"}}, "abc"},
		{"room named twice", Target{Rooms: []string{"r1", "r1"}}, "ab"},
		{"union without a room", Target{Rooms: []string{"r1", "r2"}, ExceptRooms: []string{"r3"}}, "ab"},
		{"all without rooms", Target{All: true, ExceptRooms: []string{"r3", "r1"}}, "d"},
		{"a socket's own room", Target{Rooms: []string{ids["d"]}}, "d"},
		{"own room and a room it is in", Target{Rooms: []string{ids["a"], "r1"}}, "ab"},
		{"own room twice", Target{Rooms: []string{ids["a"], ids["a"]}}, "a"},
		{"own room but itself", Target{Rooms: []string{ids["a"]}, ExceptRooms: []string{ids["a"]}}, ""},
		{"empty room", Target{Rooms: []string{"nobody"}}, ""},
		{"unknown namespace", Target{Namespace: "/none", All: true}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := emit(t, n, tc.target)
			got := ""
			for _, name := range []string{"a", "b", "c", "d"} {
				got += strings.Repeat(name, len(conns[name].take()))
			}
			wantEqual(t, "recipients", got, tc.want)
			wantEqual(t, "receipt", r, Receipt{Matched: len(tc.want), Enqueued: len(tc.want)})
		})
	}
}

func TestRoomsOfASocket(t *testing.T) {
	n := newNode(t, Config{MaxRoomsPerSocket: 4})
	s, _ := connect(t, n, "/")
	target := Target{Namespace: "/", Rooms: []string{string(s.ID())}}
	rooms := func() []string { i, _ := n.Socket(t.Context(), "/", s.ID()); return i.Rooms }
	n.Join(t.Context(), target, []string{"b", "a", "b", string(s.ID())})
	wantEqual(t, "joined", rooms(), []string{"a", "b"})
	if _, _, err := n.Join(t.Context(), target, []string{"c", "d", "e"}); !errors.Is(err, &Error{Reason: "LIMIT_REACHED"}) {
		t.Errorf("more than the limit: %v", err)
	}
	wantEqual(t, "nobody has joined", rooms(), []string{"a", "b"})
	join(t, n, s, "a", "c", "d", "d", "c", "b")
	wantEqual(t, "up to the limit", rooms(), []string{"a", "b", "c", "d"})
	n.Leave(t.Context(), target, []string{"b", "nope"})
	n.Leave(t.Context(), Target{Namespace: "/", Rooms: []string{"a"}}, []string{"a"})
	wantEqual(t, "left", rooms(), []string{"c", "d"})
	s.leave(ReasonTransportClose, "", nil)
	ns := n.namespace("/")
	if ns != nil {
		t.Errorf("an empty namespace stays: %d rooms, %d sockets", len(ns.rooms), len(ns.sockets))
	}
}

func TestOneEncodePerBroadcastAndCodec(t *testing.T) {
	n := newNode(t, Config{})
	a, b := 0, 0
	for i := range 10 {
		_, c := connect(t, n, "/")
		if i%2 == 0 {
			c.codec = textCodec{&a}
		} else {
			c.codec = textCodec{&b}
		}
	}
	emit(t, n, Target{All: true})
	wantEqual(t, "encodes", []int{a, b}, []int{1, 1})
}

func TestReceiptCountsEachOutcome(t *testing.T) {
	n := newNode(t, Config{})
	for _, out := range []Outcome{Queued, QueuedFlush, DroppedVolatile, Full, Closed} {
		_, c := connect(t, n, "/")
		c.out = out
	}
	r, err := n.Emit(t.Context(), Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e"), Flags: Volatile})
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "receipt", r, Receipt{Matched: 4, Enqueued: 2, DroppedVolatile: 1, DroppedSlow: 1, Closing: 1})
	wantEqual(t, "dropped", n.Info().Dropped, map[string]int64{"volatile": 1, "slow": 1, "closing": 1})
}

func TestEmitsOfManyCallersKeepOneOrder(t *testing.T) {
	n := newNode(t, Config{})
	_, c1 := connect(t, n, "/")
	_, c2 := connect(t, n, "/")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				n.Emit(t.Context(), Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e", g, i)})
			}
		})
	}
	wg.Wait()
	a, b := c1.take(), c2.take()
	wantEqual(t, "frames", len(a), 1600)
	wantEqual(t, "order at two sockets", a, b)
	if c1.flushes == 0 || c1.flushes > 1601 {
		t.Errorf("flushes: %d", c1.flushes)
	}
}

// emitWithAck collects until everybody has answered or the time is up.
func emitWithAck(t testing.TB, n *Node, e Emit, timeout time.Duration, limit int) (matched int, outcomes []AckOutcome, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	c, err := n.CollectAcks(ctx, e, limit)
	if err != nil {
		return 0, nil, err
	}
	for {
		some, err := c.Next(ctx)
		outcomes = append(outcomes, some...)
		if err != nil {
			return c.Matched, append(outcomes, c.Finish()...), nil
		}
	}
}

func TestEmitWithAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		answers, answersConn := connect(t, n, "/", "r")
		silent, _ := connect(t, n, "/", "r")
		leaves, _ := connect(t, n, "/", "r")
		_, full := connect(t, n, "/", "r")
		full.full(0)
		outsider, _ := connect(t, n, "/")
		go func() {
			time.Sleep(time.Second)
			id := int64(1)
			if got := answersConn.take(); !slices.Equal(got, []string{`event 1 ["e"]`}) {
				t.Errorf("sent: %q", got)
			}
			outsider.receive(&Packet{Kind: KindAck, AckID: id, Payload: []byte(`["intruder"]`)})
			answers.receive(&Packet{Kind: KindAck, AckID: id, Payload: []byte(`["yes"]`)})
			answers.receive(&Packet{Kind: KindAck, AckID: id, Payload: []byte(`["twice"]`)})
			leaves.leave(ReasonTransportClose, "", nil)
		}()
		matched, outcomes, err := emitWithAck(t, n, Emit{Target: Target{Namespace: "/", Rooms: []string{"r"}}, Packet: event("e")}, 5*time.Second, 1000)
		if err != nil {
			t.Fatal(err)
		}
		got := map[SocketID]AckOutcome{}
		for _, o := range outcomes {
			got[o.Socket] = o
		}
		wantEqual(t, "matched", matched, 4)
		wantEqual(t, "answer", string(got[answers.ID()].Payload), `["yes"]`)
		wantEqual(t, "latency", got[answers.ID()].Latency, time.Second)
		wantEqual(t, "silent", got[silent.ID()].Failure, AckTimeout)
		wantEqual(t, "left", got[leaves.ID()].Failure, AckDisconnected)
		wantEqual(t, "full", got[full.sockets[0].ID()].Failure, AckQueueFull)
		ns := n.namespace("/")
		if len(ns.acks.collects) != 0 || silent.acks != nil {
			t.Error("a wait that is over is retained")
		}
		wantEqual(t, "ignored acks", n.Info().Dropped["ack_unknown"], int64(2))
	})
}

func TestEmitWithAckBounds(t *testing.T) {
	n := newNode(t, Config{})
	_, c := connect(t, n, "/")
	connect(t, n, "/")
	_, _, err := emitWithAck(t, n, Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e")}, time.Second, 1)
	if !errors.Is(err, &Error{Reason: "TOO_MANY_RECIPIENTS"}) {
		t.Errorf("error: %v", err)
	}
	wantEqual(t, "nothing was sent", len(c.take()), 0)
	matched, _, err := emitWithAck(t, n, Emit{Target: Target{Namespace: "/", Rooms: []string{"empty"}}, Packet: event("e")}, time.Hour, 1)
	if err != nil || matched != 0 {
		t.Errorf("an empty room: %d, %v", matched, err)
	}
}

func TestDisconnectModes(t *testing.T) {
	n := newNode(t, Config{})
	h := attach(t, n, Registration{})
	for mode, want := range map[DisconnectMode][]string{
		DisconnectNamespace:  {"disconnected server namespace disconnect"},
		DisconnectConnection: {"disconnected server namespace disconnect"},
		DisconnectTransport:  {"disconnected forced close"},
	} {
		s, c := connect(t, n, "/")
		wantEqual(t, "told", told(t, h), []string{"connected"})
		m, _, err := n.Disconnect(t.Context(), Target{Namespace: "/", Rooms: []string{string(s.ID())}}, mode)
		if m != 1 || err != nil {
			t.Fatalf("matched %d, %v", m, err)
		}
		wantEqual(t, "told", told(t, h), want)
		if mode == DisconnectNamespace {
			wantEqual(t, "sent", c.take(), []string{"disconnect /"})
		}
		if _, err := n.Socket(t.Context(), "/", s.ID()); err == nil {
			t.Error("the socket is still listed")
		}
	}
}

func TestPagesListEachSocketOnce(t *testing.T) {
	n := newNode(t, Config{})
	var sockets []*Socket
	for i := range 100 {
		rooms := []string{"even"}
		if i%2 == 1 {
			rooms = []string{"odd", "every"}
		}
		s, _ := connect(t, n, "/", rooms...)
		sockets = append(sockets, s)
	}
	for _, target := range []Target{{All: true}, {Rooms: []string{"even", "odd", "every"}}, {All: true, ExceptRooms: []string{"x"}}} {
		target.Namespace = "/"
		seen := map[SocketID]int{}
		place := Place{}
		for page := 0; ; page++ {
			p, err := n.Sockets(t.Context(), target, PageRequest{Place: place, Limit: 7})
			if err != nil {
				t.Fatal(err)
			}
			if page == 0 && p.Total < 90 {
				t.Errorf("total %d", p.Total)
			}
			for _, s := range p.Sockets {
				seen[s.ID]++
			}
			// Somebody leaves and somebody comes between two pages.
			sockets[page*3].leave(ReasonTransportClose, "", nil)
			s, _ := connect(t, n, "/", "even")
			sockets = append(sockets, s)
			if place = p.Next; place == (Place{}) {
				break
			}
		}
		for _, s := range sockets[60:100] { // present throughout
			if seen[s.ID()] != 1 {
				t.Fatalf("socket listed %d times", seen[s.ID()])
			}
		}
	}
}

func TestNextBlocksUntilTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		h := attach(t, n, Registration{})
		var got []Notice
		go func() { got, _ = h.Next(t.Context(), nil) }()
		synctest.Wait()
		wantEqual(t, "before", len(got), 0)
		h.Post("x")
		synctest.Wait()
		wantEqual(t, "after", got[0].Posted.(string), "x")
		h.Drain()
		if _, err := h.Next(t.Context(), nil); !errors.Is(err, io.EOF) {
			t.Errorf("drained: %v", err)
		}
	})
}
