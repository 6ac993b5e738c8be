package adapter

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

const someID = "AAAAxxxxxxxxxxxxxxxx"

func somePresence() *clusterv1.Presence {
	return &clusterv1.Presence{
		Namespace: "/", Number: 4, Begin: true, From: 5, Next: 9, Whole: true,
		Sockets: []*clusterv1.Socket{{Id: someID, Generation: 3, Rooms: []string{"r"}}},
		Changes: []*clusterv1.Change{
			{Kind: uint32(service.PresenceJoined), Number: 5, Socket: &clusterv1.Socket{Id: someID}, Rooms: []string{"r"}},
			{Kind: uint32(service.PresenceRisen), Number: 7, Socket: &clusterv1.Socket{Generation: 1 << 40}},
		},
	}
}

// TestWhatIsToldOfSocketsArrives: all of a change, and of a socket what BASIC shows.
func TestWhatIsToldOfSocketsArrives(t *testing.T) {
	at := time.Unix(0, 1234567890)
	basic := service.SocketInfo{
		ID: someID, Generation: 1<<40 + 3, Namespace: "/", NodeID: "AAAA", SessionID: "session", Transport: "websocket", ConnectedAt: at,
		Rooms: []string{"a", "b"}, UserID: "user",
	}
	full := basic
	full.Data = []byte(`{"a":1}`)
	full.Handshake = handshake{&clusterv1.Handshake{Address: "10.0.0.1", Time: 5, Url: "/?a=b", Query: map[string]string{"a": "b"}, Headers: map[string]string{"c": "d"}}}
	want := service.Told{
		Begin: true, Sockets: []service.SocketInfo{full}, From: 3, Next: 8, Whole: true,
		Changes: []service.PresenceEvent{
			{Kind: service.PresenceDisconnected, Socket: &full, Rooms: []string{"a"}, Reason: service.ReasonPingTimeout, Detail: "why", Number: 4, Time: at},
			{Kind: service.PresenceRisen, Socket: &service.SocketInfo{Generation: 2 << 40}, Number: 7, Time: at},
		},
	}
	m := presenceMessage(&want)
	m.Namespace, m.Number = "/", 1
	it := readItem(presenceItem(m))
	if it.skipped != 0 {
		t.Fatal("it is not read")
	}
	got := toldOf("AAAA", "/", it.presence)
	want.Sockets = []service.SocketInfo{basic}
	// What nothing was told of is not there.
	got.Sockets[0].Handshake = nil
	risen := got.Changes[1].Socket
	got.Changes[1].Socket, want.Changes[1].Socket = nil, nil
	if diff := cmp.Diff(got, &want, cmp.Comparer(func(a, b handshake) bool { return proto.Equal(a.m, b.m) })); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	if risen.Generation != 2<<40 {
		t.Errorf("risen to %x", risen.Generation)
	}
}

// TestPresenceThatIsNoneIsRefused: what a node would not say has no effect.
func TestPresenceThatIsNoneIsRefused(t *testing.T) {
	if it := readItem(presenceItem(somePresence())); it.skipped != 0 {
		t.Fatal("what is right is refused")
	}
	for what, wrong := range map[string]func(m *clusterv1.Presence){
		"no namespace":         func(m *clusterv1.Presence) { m.Namespace = "" },
		"no slash":             func(m *clusterv1.Presence) { m.Namespace = "chat" },
		"a long namespace":     func(m *clusterv1.Presence) { m.Namespace = "/" + strings.Repeat("x", 255) },
		"no number":            func(m *clusterv1.Presence) { m.Number = 0 },
		"an id that is short":  func(m *clusterv1.Presence) { m.Sockets[0].Id = "AAAA" },
		"a room without name":  func(m *clusterv1.Presence) { m.Sockets[0].Rooms = []string{""} },
		"a room's long name":   func(m *clusterv1.Presence) { m.Changes[0].Rooms = []string{strings.Repeat("x", 256)} },
		"a kind of none":       func(m *clusterv1.Presence) { m.Changes[0].Kind = 0 },
		"a kind of later":      func(m *clusterv1.Presence) { m.Changes[0].Kind = 7 },
		"a reason of later":    func(m *clusterv1.Presence) { m.Changes[0].Reason = 12 },
		"no socket":            func(m *clusterv1.Presence) { m.Changes[0].Socket = nil },
		"nothing that rises":   func(m *clusterv1.Presence) { m.Changes[1].Socket = nil },
		"data that is none":    func(m *clusterv1.Presence) { m.Changes[0].Socket.Data = []byte("[") },
		"an earlier change":    func(m *clusterv1.Presence) { m.Changes[0].Number = 4 },
		"a change twice":       func(m *clusterv1.Presence) { m.Changes[1].Number = 5 },
		"a change behind":      func(m *clusterv1.Presence) { m.Changes[1].Number = 9 },
		"an end before it":     func(m *clusterv1.Presence) { m.Changes, m.Next = nil, 4 },
		"whole without number": func(m *clusterv1.Presence) { m.Changes, m.From, m.Next = nil, 0, 0 },
		"too many sockets":     func(m *clusterv1.Presence) { m.Sockets = make([]*clusterv1.Socket, maxPage+1); fill(m.Sockets) },
	} {
		m := somePresence()
		wrong(m)
		if it := readItem(presenceItem(m)); !it.empty() {
			t.Errorf("%s is read", what)
		}
	}
	for what, f := range map[string]*clusterv1.Follow{
		"no namespace": {Number: 1}, "no number": {Namespace: "/"}, "an end that goes on": {Namespace: "/", Number: 1, Next: 1, End: true},
	} {
		if it := readItem(followItem(f)); !it.empty() {
			t.Errorf("%s is read", what)
		}
	}
}

func fill(list []*clusterv1.Socket) {
	for i := range list {
		list[i] = &clusterv1.Socket{Id: someID}
	}
}

// TestNobodyTellsOfOthersSockets: a member's news is of its own sockets alone.
func TestNobodyTellsOfOthersSockets(t *testing.T) {
	p, err := New(Config{Self: service.Incarnation{Node: "SELF", Run: 1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := p.meet(service.Incarnation{Node: "BBBB", Run: 1}, Hearsay, 0)
	m.follows = map[string]*following{"/": {number: 4}}
	if p.hearPresence(m, somePresence(), 0) {
		t.Error("BBBB tells of a socket of AAAA")
	}
	m.Node = "AAAA"
	if !p.hearPresence(m, somePresence(), 0) {
		t.Error("AAAA cannot tell of its own socket")
	}
}
