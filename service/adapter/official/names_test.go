package official

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foyer/service"
)

func TestClassicNames(t *testing.T) {
	c, other := Classic{}, Classic{Prefix: "app"}
	for _, tc := range []struct{ got, want string }{
		{c.Broadcasts("/admin"), "socket.io#/admin#"},
		{c.Pattern("/admin"), "socket.io#/admin#*"},
		{c.Pattern("/"), "socket.io#/#*"},
		{c.Pattern(`/[x]*?\`), `socket.io#/\[x\]\*\?\\#*`},
		{c.Room("/admin", "r"), "socket.io#/admin#r#"},
		{c.Requests("/admin"), "socket.io-request#/admin#"},
		{c.Responses("/"), "socket.io-response#/#"},
		{c.ResponsesTo("/", "RgiusQ"), "socket.io-response#/#RgiusQ#"},
		{other.Requests("/"), "app-request#/#"},
		{other.Room("/", "5"), "app#/#5#"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %s, want %s", tc.got, tc.want)
		}
	}
	if b, r := c.Unfinished("/"); b != "socket.io#/" || r != "socket.io-request#/" {
		t.Error(b, r)
	}
	for _, tc := range []struct {
		nsp, channel, room string
		ok                 bool
	}{
		{"/", "socket.io#/#", "", false},
		{"/", "socket.io#/#r1#", "r1", true},
		{"/", "socket.io#/#r1", "r1", true}, // without the last #
		{"/", "socket.io#/#a#b#", "a#b", true},
		{"/", "socket.io#/#5#", "5", true},
		{"/admin", "socket.io#/admin#日#", "日", true},
		{"/admin", "socket.io#/#r#", "", false},
		{"/", "socket.io#/", "", false},
	} {
		if room, ok := c.RoomOf(tc.nsp, tc.channel); room != tc.room || ok != tc.ok {
			t.Errorf("%s: %q, %v", tc.channel, room, ok)
		}
	}
}

// TestClassicChannels: a broadcast has the channel of a room for exactly one room, and else a message that of its kind.
func TestClassicChannels(t *testing.T) {
	for _, tc := range []struct {
		m        Message
		to, want string
	}{
		{Message{Kind: Broadcast}, "", "socket.io#/#"},
		{Message{Kind: Broadcast, Rooms: []string{"a"}, Except: []string{"b"}}, "", "socket.io#/#a#"},
		{Message{Kind: Broadcast, Rooms: []string{"a", "b"}}, "", "socket.io#/#"},
		{Message{Kind: Broadcast, Rooms: []string{"a"}, Request: "r"}, "", "socket.io-request#/#"},
		{Message{Kind: Join}, "", "socket.io-request#/#"},
		{Message{Kind: ServerSideEmit}, "", "socket.io-request#/#"},
		{Message{Kind: Ack}, "", "socket.io-response#/#"},
		{Message{Kind: Ack}, "uid", "socket.io-response#/#uid#"},
		{Message{Kind: Sockets}, "uid", "socket.io-response#/#uid#"},
		{Message{Kind: Reply}, "uid", "socket.io-response#/#"},
	} {
		tc.m.Namespace = "/"
		if got := (Classic{}).Channel(&tc.m, tc.to); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.m.Kind, got, tc.want)
		}
	}
}

// TestShardedChannels: which mode uses which channel, as a sender and as a subscriber.
func TestShardedChannels(t *testing.T) {
	id := strings.Repeat("i", 20)
	for _, tc := range []struct {
		name string
		m    Message
		// By mode.
		static, dynamic, private string
	}{
		{"to all", Message{Kind: Broadcast}, "#/#", "#/#", "#/#"},
		{"to a room", Message{Kind: Broadcast, Rooms: []string{"r"}}, "#/#", "#/#r#", "#/#r#"},
		{"to a socket", Message{Kind: Broadcast, Rooms: []string{id}}, "#/#", "#/#", "#/#" + id + "#"},
		{"to 20 units", Message{Kind: Broadcast, Rooms: []string{strings.Repeat("😀", 10)}}, "#/#", "#/#", "#/#" + strings.Repeat("😀", 10) + "#"},
		{"to 20 bytes", Message{Kind: Broadcast, Rooms: []string{strings.Repeat("é", 10)}}, "#/#", "#/#" + strings.Repeat("é", 10) + "#", "#/#" + strings.Repeat("é", 10) + "#"},
		{"to rooms", Message{Kind: Broadcast, Rooms: []string{"r", "s"}}, "#/#", "#/#", "#/#"},
		{"with acks", Message{Kind: Broadcast, Rooms: []string{"r"}, Request: "x"}, "#/#", "#/#", "#/#"},
		{"join", Message{Kind: Join, Rooms: []string{"r"}}, "#/#", "#/#", "#/#"},
		{"answer", Message{Kind: ClientCount}, "#/#uid#", "#/#uid#", "#/#uid#"},
	} {
		tc.m.Namespace = "/"
		for mode, want := range map[ShardedMode]string{Static: tc.static, Dynamic: tc.dynamic, DynamicPrivate: tc.private} {
			if got := (Sharded{Mode: mode}).Channel(&tc.m, "uid"); got != "socket.io"+want {
				t.Errorf("%s, mode %d: %s, want %s", tc.name, mode, got, want)
			}
		}
	}
	if got := (Sharded{}).Channel(&Message{Kind: Ack, Namespace: "/"}, ""); got != "socket.io#/#" {
		t.Error(got)
	}
}

// TestStreamName: hashes as util.js of the streams adapter computes them (node: hashCode(nsp) % count).
func TestStreamName(t *testing.T) {
	for _, tc := range []struct {
		nsp   string
		count int
		want  string
	}{
		{"/", 1, "socket.io"},
		{"/", 3, "socket.io-2"},
		{"/admin", 3, "socket.io-1"},
		{"/chat", 4, "socket.io-3"},
		{"/some-long-namespace", 7, "socket.io-0"},
		{"/été😀", 5, "socket.io-3"},
		{"/notifications", 3, "socket.io--2"}, // which nobody reads
	} {
		if got := StreamName("socket.io", tc.nsp, tc.count); got != tc.want {
			t.Errorf("%s of %d: %s, want %s", tc.nsp, tc.count, got, tc.want)
		}
	}
}

func TestPostgresChannel(t *testing.T) {
	if c, ok := PostgresChannel("", "/admin"); c != "socket.io#/admin" || !ok {
		t.Error(c, ok)
	}
	if c, ok := PostgresChannel("p", "/"+strings.Repeat("x", 60)); len(c) != 63 || !ok {
		t.Error(c, ok)
	}
	if c, ok := PostgresChannel("p", "/"+strings.Repeat("x", 61)); ok {
		t.Errorf("%s has %d bytes", c, len(c))
	}
}

// TestTarget: no target becomes everybody by accident.
func TestTarget(t *testing.T) {
	for _, tc := range []struct {
		name string
		t    service.Target
		want bool
	}{
		{"all", service.Target{Namespace: "/", All: true, ExceptRooms: []string{"a"}}, true},
		{"rooms", service.Target{Namespace: "/", Rooms: []string{"a", "b"}}, true},
		{"nobody", service.Target{Namespace: "/"}, false},
		{"both", service.Target{Namespace: "/", All: true, Rooms: []string{"a"}}, false},
		{"local", service.Target{Namespace: "/", All: true, Local: true}, false},
	} {
		m := Message{Namespace: "/before"}
		if got := m.SetTarget(&tc.t); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		} else if got && !cmp.Equal(m.Target(), tc.t) || !got && m.Namespace != "/before" {
			t.Errorf("%s: %+v", tc.name, m)
		}
	}
}
