package service

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEmitBatchKeepsOrderAcrossNamespaces(t *testing.T) {
	n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "/b"}}})
	_, a := connect(t, n, "/", "r")
	_, b := connect(t, n, "/b")
	var batch []Emit
	for i, namespace := range []string{"/", "/", "/b", "/none", "/"} {
		batch = append(batch, Emit{Target: Target{Namespace: namespace, All: true}, Packet: event("e", i)})
	}
	got := n.EmitBatch(t.Context(), batch)
	var matched []int
	for _, r := range got {
		matched = append(matched, r.Matched)
	}
	wantEqual(t, "receipts", matched, []int{1, 1, 1, 0, 1})
	wantEqual(t, "in order", a.take(), []string{`event ["e",0]`, `event ["e",1]`, `event ["e",4]`})
	wantEqual(t, "the other", b.take(), []string{`event ["e",2]`})
	if a.flushes > 4 {
		t.Errorf("%d flushes", a.flushes)
	}
}

// Emits to one target that follow each other are one frame and one place in a queue, and their receipts are as if they
// were not. What differs in target or flags, is volatile or cannot be encoded stays by itself.
func TestEmitsToOneTargetGoAsOne(t *testing.T) {
	n := newNode(t, Config{})
	_, a := connect(t, n, "/", "r", "q")
	_, b := connect(t, n, "/", "r")
	rooms := func(names ...string) Target { return Target{Namespace: "/", Rooms: names} }
	batch := []Emit{
		{Target: rooms("r"), Packet: event("e", 0)},
		{Target: rooms("r"), Packet: event("e", 1)},
		{Target: rooms("r"), Packet: &Packet{Kind: KindEvent, AckID: NoAck, Namespace: unencodable}},
		{Target: rooms("r"), Packet: event("e", 3)},
		{Target: rooms("r"), Packet: event("e", 4), Flags: Volatile},
		{Target: rooms("r"), Packet: event("e", 5), Flags: Volatile},
		{Target: rooms("r"), Packet: event("e", 6), Flags: NoCompress},
		{Target: rooms("q"), Packet: event("e", 7)},
		{Target: rooms("r"), Packet: event("e", 8)},
		{Target: Target{Namespace: "/", Rooms: []string{"r"}, ExceptRooms: []string{"q"}}, Packet: event("e", 9)},
		{Target: rooms("nobody"), Packet: event("e", 10)},
	}
	a.sends, b.sends = 0, 0
	var got []string
	for i, r := range n.EmitBatch(t.Context(), batch) {
		if (r.Err != nil) != (i == 2) {
			t.Errorf("emit %d: %v", i, r.Err)
		}
		if i != 2 {
			got = append(got, fmt.Sprint(i, " ", r.Matched, " ", r.Enqueued))
		}
	}
	wantEqual(t, "receipts", got, []string{"0 2 2", "1 2 2", "3 2 2", "4 2 2", "5 2 2", "6 2 2", "7 1 1", "8 2 2", "9 1 1", "10 0 0"})
	frames := func(numbers ...int) (list []string) {
		for _, i := range numbers {
			list = append(list, fmt.Sprintf(`event ["e",%d]`, i))
		}
		return list
	}
	wantEqual(t, "the first hears", a.take(), frames(0, 1, 3, 4, 5, 6, 7, 8))
	wantEqual(t, "the second hears", b.take(), frames(0, 1, 3, 4, 5, 6, 8, 9))
	wantEqual(t, "places in queues", []int{a.sends, b.sends}, []int{6, 6})
}

// However much waits, what goes as one stays small beside what a queue holds.
func TestJoinedEmitsAreBounded(t *testing.T) {
	n := newNode(t, Config{})
	_, c := connect(t, n, "/")
	var many, large []Emit
	for i := range 3 * maxJoined {
		many = append(many, Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e", i)})
	}
	for range 8 {
		large = append(large, Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e", strings.Repeat("x", maxJoinedBytes/2-10))})
	}
	for _, tt := range []struct {
		emits []Emit
		sends int
	}{{many, 3}, {large, 4}} {
		c.sends = 0
		n.EmitBatch(t.Context(), tt.emits)
		wantEqual(t, "frames", len(c.take()), len(tt.emits))
		wantEqual(t, "places in the queue", c.sends, tt.sends)
	}
}

func TestCollectAcksAsTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		var sockets []*Socket
		for range 3 {
			s, _ := connect(t, n, "/")
			sockets = append(sockets, s)
		}
		c, err := n.CollectAcks(t.Context(), Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e")}, 0)
		if err != nil || c.Matched != 3 {
			t.Fatalf("%+v, %v", c, err)
		}
		for i, s := range sockets[:2] {
			s.receive(&Packet{Kind: KindAck, AckID: 1, Payload: fmt.Appendf(nil, "[%d]", i)})
			got, err := c.Next(t.Context())
			if err != nil || len(got) != 1 || got[0].Socket != s.ID() {
				t.Fatalf("%+v, %v", got, err)
			}
		}
		time.Sleep(time.Second)
		rest := c.Finish()
		wantEqual(t, "the rest", []any{len(rest), rest[0].Failure, rest[0].Latency}, []any{1, AckTimeout, time.Second})
		if _, err := c.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("after the end: %v", err)
		}
		empty, err := n.CollectAcks(t.Context(), Emit{Target: Target{Namespace: "/none", All: true}, Packet: event("e")}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := empty.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("nobody: %v", err)
		}
	})
}

func TestAcksThatNobodyTakesAreBounded(t *testing.T) {
	for name, budget := range map[string]*Budget{"by their own bound": NewBudget(0), "by the node's": NewBudget(5 << 20)} {
		t.Run(name, func(t *testing.T) { testUntakenAcks(t, budget) })
	}
}

func testUntakenAcks(t *testing.T, budget *Budget) {
	n := newNode(t, Config{Budget: budget})
	var sockets []*Socket
	for range 20 {
		s, _ := connect(t, n, "/")
		sockets = append(sockets, s)
	}
	c, err := n.CollectAcks(t.Context(), Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e")}, 0)
	if err != nil {
		t.Fatal(err)
	}
	big := []byte(`["` + strings.Repeat("x", 1<<20) + `"]`)
	for i, s := range sockets {
		s.receive(&Packet{Kind: KindAck, AckID: 1, Payload: big})
		if i == 2 {
			if got := budget.UsedBy(UseAcks); got != 3*int64(len(big)) {
				t.Errorf("three answers take %d bytes", got)
			}
			if some, err := c.Next(t.Context()); len(some) != 3 || err != nil || budget.UsedBy(UseAcks) != 0 {
				t.Errorf("%d answers, %v, and %d bytes are still taken", len(some), err, budget.UsedBy(UseAcks))
			}
		}
	}
	if got := budget.UsedBy(UseAcks); got != 0 {
		t.Errorf("%d bytes are taken for answers that were let go", got)
	}
	if _, err := c.Next(t.Context()); !errors.Is(err, ErrTooSlow) {
		t.Errorf("error: %v", err)
	}
	ns := n.namespace("/")
	if len(ns.acks.collects) != 0 || c.outcomes != nil || slices.ContainsFunc(sockets, func(s *Socket) bool { return s.acks != nil }) {
		t.Error("a wait that was given up is retained")
	}
}

func TestRoomsByName(t *testing.T) {
	n := newNode(t, Config{})
	for i := range 50 {
		connect(t, n, "/", fmt.Sprintf("a%02d", i), "all", fmt.Sprintf("b%02d", i%7))
	}
	var names []string
	for request := (RoomsRequest{Namespace: "/", Limit: 7}); ; {
		page, err := n.Rooms(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Rooms {
			names = append(names, r.Name)
		}
		if request.After = page.Next; page.Next == "" {
			break
		}
	}
	wantEqual(t, "all of them", len(names), 50+1+7)
	if !slices.IsSorted(names) || len(slices.Compact(names)) != 58 {
		t.Errorf("names: %q", names)
	}
	page, _ := n.Rooms(t.Context(), RoomsRequest{Namespace: "/", Prefix: "b", After: "b02", Limit: 2})
	wantEqual(t, "prefix", page, RoomsPage{Rooms: []RoomInfo{{"b03", 7}, {"b04", 7}}, Next: "b04"})
	for room, want := range map[string]int{"all": 50, "b00": 8, "nobody": 0} {
		if got, _, _ := n.Room(t.Context(), "/", room); got != want {
			t.Errorf("%s has %d, want %d", room, got, want)
		}
	}
}

func TestServerSideEmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		caller := attach(t, n, Registration{ServerSideEvents: true, ID: "caller"})
		other := attach(t, n, Registration{ServerSideEvents: true, ID: "other"})
		leaves := attach(t, n, Registration{ServerSideEvents: true, ID: "leaves"})
		deaf := attach(t, n, Registration{})
		e := ServerSideEmit{Namespace: "/", Packet: event("e"), From: caller}
		r, err := n.ServerSideEmit(t.Context(), e)
		wantEqual(t, "to the others", []any{r.Matched, err}, []any{2, nil})
		notice := next(t, other)[0]
		wantEqual(t, "notice", []any{notice.Kind, notice.Namespace, notice.WantsReply, notice.FromNode}, []any{NoticeServerSide, "/", false, n.id})
		wantEqual(t, "not to who did not ask", told(t, deaf), []string(nil))

		e.WantsReplies, e.Timeout = true, 5*time.Second
		told(t, leaves)
		var got ServerSideResult
		go func() { got, _ = n.ServerSideEmit(t.Context(), e) }()
		call := next(t, other)[0].CallID
		other.Reply(call, []byte(`["me"]`), nil)
		other.Reply(call, []byte(`["twice"]`), nil)
		leaves.Detach()
		synctest.Wait()
		wantEqual(t, "replies", got, ServerSideResult{Matched: 2, Replies: []ServerSideReply{{Node: n.id, Handler: "other", Payload: []byte(`["me"]`)}}})

		go func() { got, _ = n.ServerSideEmit(t.Context(), e) }()
		pass(6 * time.Second)
		wantEqual(t, "no reply in time", []int{got.Matched, len(got.Replies), len(other.serverCalls)}, []int{1, 0, 0})
	})
}
