package adapter

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

func someExplanation() *service.Explanation {
	socket := service.SocketInfo{
		ID: "AAAA0123456789abcdef", Generation: 3, Namespace: "/", NodeID: "AAAA", SessionID: "s", Transport: "polling", ConnectedAt: time.Unix(5, 6),
		Rooms: []string{"a"}, UserID: "ann", Handshake: handshake{},
	}
	gone := socket
	gone.Namespace = "/shop"
	return &service.Explanation{
		Asked: []service.Explained{
			{Socket: socket, Verdict: service.VerdictQueueFull, Rooms: []string{"a"}, Link: &service.LinkState{Waiting: 2, Limit: 3, FullSince: time.Unix(7, 8), Paused: true}},
			{Socket: gone, Verdict: service.VerdictDisconnected, Gone: &service.Departure{Socket: gone, Time: time.Unix(9, 0), Reason: service.ReasonNodeLost, Detail: "d"}},
			{Socket: service.SocketInfo{ID: "x"}, Verdict: service.VerdictUnknown},
		},
		Nodes:  []service.Reach{{Node: "AAAA", Matched: 3, Reached: 2, NearlyFull: 1, Verdicts: [service.Verdicts]int{service.VerdictReached: 2, service.VerdictQueueFull: 1}}},
		Sample: []service.Explained{{Socket: socket, Verdict: service.VerdictExcepted, ExceptRooms: []string{"a"}, Link: &service.LinkState{Writable: true}}},
	}
}

// TestExplanationsOnTheWire: what a node says of its sockets and handlers is what the other one reads.
func TestExplanationsOnTheWire(t *testing.T) { synctest.Test(t, testExplanationsOnTheWire) }

func testExplanationsOnTheWire(t *testing.T) {
	x := someExplanation()
	h := service.HandlerInfo{
		Node: "AAAA", Number: 7, Since: time.Now(), Draining: true, Oldest: time.Second,
		HandlerLoad: service.HandlerLoad{Sockets: 1, Queued: 2, Bytes: 3, InFlight: 4, Connects: 5},
		Registration: service.Registration{
			Namespaces: []string{"/"}, Group: "g", ID: "h", Observer: true, Events: []string{"e"}, DecideConnects: true, ServerSideEvents: true,
			MaxInFlight: 6, Local: true, View: service.ViewBasic, Address: "10.0.0.7",
		},
	}
	item := answerItem(&clusterv1.Answer{Call: 7, Explanation: explanationMessage("/", x), Handlers: []*clusterv1.AttachedHandler{handlerMessage(&h)}})
	a, ok := readAnswer(body(t, item))
	if !ok {
		t.Fatal("it is not read")
	}
	got := explanationOf("AAAA", "/", a.GetExplanation())
	same := cmp.Comparer(func(a, b service.Handshake) bool { return (a == nil) == (b == nil) })
	if diff := cmp.Diff(got, *x, same); diff != "" {
		t.Errorf("explanation (-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(handlerInfo("AAAA", a.GetHandlers()[0]), h); diff != "" {
		t.Errorf("handler (-got +want):\n%s", diff)
	}
	r := service.ExplainRequest{
		Target: service.Target{Namespace: "/", Rooms: []string{"a"}, ExceptRooms: []string{"b"}, Local: true}, Socket: "x", Flags: service.Volatile, Bytes: 5, Most: 6, MaxBytes: 7,
		Abroad: true,
	}
	q := explainQuestion(&r, 7)
	q.Call = 1
	asked, _, ok := readQuestion(body(t, questionItem(q)))
	if !ok {
		t.Fatal("it is not read")
	}
	if diff := cmp.Diff(explainRequest(asked.GetExplain()), r); diff != "" {
		t.Errorf("question (-got +want):\n%s", diff)
	}
}

// body is the message of an item that stands alone.
func body(t *testing.T, item []byte) []byte {
	t.Helper()
	var w wireField
	rest, ok := w.next(item)
	if !ok || len(rest) > 0 {
		t.Fatalf("no item: %x", item)
	}
	return w.bytes
}

// TestHostileExplanations: what no node says has no effect.
func TestHostileExplanations(t *testing.T) {
	explain := func(change func(x *clusterv1.Explain)) bool {
		r := service.ExplainRequest{Target: service.Target{Namespace: "/", All: true}}
		q := explainQuestion(&r, 1)
		q.Call = 1
		change(q.GetExplain())
		b, err := proto.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		asked, _, ok := readQuestion(b)
		return ok && asked.GetAsk() != nil
	}
	answer := func(change func(a *clusterv1.Answer)) bool {
		h := &service.HandlerInfo{Number: 1, Since: time.Now(), Registration: service.Registration{Namespaces: []string{"/"}, Group: "g", ID: "h", MaxInFlight: 1}}
		a := &clusterv1.Answer{Call: 1, Explanation: explanationMessage("/", someExplanation()), Handlers: []*clusterv1.AttachedHandler{handlerMessage(h)}}
		change(a)
		b, err := proto.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		_, ok := readAnswer(b)
		return ok
	}
	long := strings.Repeat("x", maxUserID+1)
	for name, change := range map[string]func(*clusterv1.Explain){
		"no target": func(x *clusterv1.Explain) { x.Target = nil }, "a long id": func(x *clusterv1.Explain) { x.SocketId = long },
		"a long user": func(x *clusterv1.Explain) { x.UserId = long }, "flags": func(x *clusterv1.Explain) { x.Flags = uint32(service.Owed) },
		"a size": func(x *clusterv1.Explain) { x.Size = 1 << 31 }, "a sample": func(x *clusterv1.Explain) { x.Most = maxPage + 1 },
		"bytes": func(x *clusterv1.Explain) { x.Bytes = 1 << 30 },
	} {
		if explain(change) {
			t.Errorf("a question with %s is read", name)
		}
	}
	for name, change := range map[string]func(*clusterv1.Answer){
		"few verdicts":   func(a *clusterv1.Answer) { a.Explanation.Reach.Verdicts = []uint32{1} },
		"a large count":  func(a *clusterv1.Answer) { a.Explanation.Reach.Matched = 1 << 31 },
		"a large number": func(a *clusterv1.Answer) { a.Explanation.Reach.Verdicts[1] = 1 << 31 },
		"no socket":      func(a *clusterv1.Answer) { a.Explanation.Asked[0].Socket = nil },
		"no verdict":     func(a *clusterv1.Answer) { a.Explanation.Sample[0].Verdict = 0 },
		"a verdict":      func(a *clusterv1.Answer) { a.Explanation.Sample[0].Verdict = uint32(service.Verdicts) },
		"a namespace":    func(a *clusterv1.Answer) { a.Explanation.Asked[1].Namespace = "shop" },
		"a reason":       func(a *clusterv1.Answer) { a.Explanation.Asked[1].Departure.Reason = 99 },
		"a queue":        func(a *clusterv1.Answer) { a.Explanation.Asked[0].Link.Waiting = 1 << 63 },
		"many sockets":   func(a *clusterv1.Answer) { a.Explanation.Sample = make([]*clusterv1.Explained, maxPage+1) },
		"no handler":     func(a *clusterv1.Answer) { a.Handlers[0].Registration = nil },
		"a bad handler":  func(a *clusterv1.Answer) { a.Handlers[0].Registration.Namespaces = []string{"a,b"} },
		"a large queue":  func(a *clusterv1.Answer) { a.Handlers[0].QueuedBytes = 1 << 63 },
	} {
		if answer(change) {
			t.Errorf("an answer with %s is read", name)
		}
	}
	if !explain(func(*clusterv1.Explain) {}) || !answer(func(*clusterv1.Answer) {}) {
		t.Error("what is right is not read")
	}
}
