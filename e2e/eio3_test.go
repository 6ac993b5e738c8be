//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	foyerv1 "foyer/gen/foyer/v1"
)

// eio3Stage is a node that lets clients of Socket.IO v2 in, with a backend, and stock clients of both versions.
type eio3Stage struct {
	f        *foyer
	b        *backend
	old, new *puppets
}

func setEIO3Stage(t testing.TB, args ...string) *eio3Stage {
	t.Helper()
	f := startFoyer(t, append([]string{"--allow-eio3", "--handler-wait=300ms"}, args...)...)
	b := attach(t, f.api, &foyerv1.Register{
		Namespaces: []string{"/", "/chat", "/tenant-*"}, Group: "e2e", DecideConnects: true, SocketView: foyerv1.SocketView_SOCKET_VIEW_FULL,
	}, func(b *backend) {
		b.decide = decideByQuery
		b.on["whoami"] = func(e *event) { e.reply(e.GetSocket().GetId()) }
	})
	return &eio3Stage{f, b, startOldPuppets(t), startPuppets(t)}
}

func startOldPuppets(t testing.TB) *puppets {
	t.Helper()
	// The old client uses what Node warns of.
	return startPuppets(t, "NODE_OPTIONS=--require=./js/eio3.js", "NODE_NO_WARNINGS=1")
}

// decideByQuery is decideByAuth, but in "/" clients of v2 have only the handshake's query to say something.
func decideByQuery(c *foyerv1.Connect) *foyerv1.ConnectReply {
	if message := c.GetSocket().GetHandshake().GetQuery()["reject"]; message != "" && c.GetSocket().GetNamespace() == "/" {
		return &foyerv1.ConnectReply{Decision: &foyerv1.ConnectReply_Reject{Reject: &foyerv1.Reject{Message: message}}}
	}
	return decideByAuth(c)
}

// arrived waits for a client of v2 and returns the id that the service knows it by, which the client does not.
func (s *eio3Stage) arrived(t testing.TB, c *client) (id string) {
	t.Helper()
	own := c.expect("connect").ID
	got := c.ask("whoami")
	if len(got) != 1 {
		t.Fatalf("got %v, want an id", got)
	}
	id, _ = got[0].(string)
	if len(id) != 20 || strings.HasSuffix(own, id) {
		t.Errorf("the service says %q, the client %q", id, own)
	}
	return id
}

func (s *eio3Stage) connect(t testing.TB, nsp string, o opts) (c *client, id string) {
	t.Helper()
	c = s.old.open(t, s.f.url(), nsp, o)
	return c, s.arrived(t, c)
}

// TestEIO3Clients is what a stock client of Socket.IO v2 must be able to do, whatever way it comes in.
func TestEIO3Clients(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			s := setEIO3Stage(t)
			o := quick.with(transport.opts)
			for _, test := range []struct {
				name string
				run  func(*testing.T, *eio3Stage, opts)
			}{
				{"events", testEIO3Events},
				{"binary", testEIO3Binary},
				{"order", testEIO3Order},
				{"namespaces", testEIO3Namespaces},
				{"refusals", testEIO3Refusals},
				{"rooms", testEIO3Rooms},
				{"disconnects", testEIO3Disconnects},
			} {
				t.Run(test.name, func(t *testing.T) { test.run(t, s, o) })
			}
			t.Run("transport", func(t *testing.T) {
				c, _ := s.connect(t, "/", o)
				if transport.name == "upgrade" {
					c.expect("upgrade")
					c.ask("settle")
				}
				if got := c.state().Transport; got != transport.ends {
					t.Errorf("got %q, want %q", got, transport.ends)
				}
				c.op("disconnect")
			})
		})
	}
}

func testEIO3Events(t *testing.T, s *eio3Stage, o opts) {
	c, id := s.connect(t, "/", o)
	args := []any{"Grüße, 東京, \U0001F600 \u2028\u0000\"\\", 1, nil, true, map[string]any{"a": []any{1.5, "b"}}, strings.Repeat("\U0001F600", 3000)}
	want := plain(t, args)
	if diff := cmp.Diff(want, plain(t, c.ask("echo", args...))); diff != "" {
		t.Errorf("acknowledgement: want -, got +:\n%.2000s", diff)
	}
	s.b.mustEmit(t, &foyerv1.Target{Rooms: []string{id}}, 1, "values", args...)
	if diff := cmp.Diff(want, plain(t, c.event("values"))); diff != "" {
		t.Errorf("event: want -, got +:\n%.2000s", diff)
	}
	c.answers("q", []any{"yes", 1})
	r, err := s.b.emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{Target: &foyerv1.Target{Rooms: []string{id}}, Payload: say("q", "?")})
	if err != nil || len(r.GetOutcomes()) != 1 || r.GetOutcomes()[0].GetArgs().GetJson() != `["yes",1]` {
		t.Errorf("got %v, %v", r, err)
	}
	c.op("disconnect")
}

func testEIO3Binary(t *testing.T, s *eio3Stage, o opts) {
	c, id := s.connect(t, "/", o)
	all := make(bin, 256)
	for i := range all {
		all[i] = byte(i)
	}
	args := []any{"x", bin{}, all, map[string]any{"deep": []any{bin("first")}}, bin(strings.Repeat("\x00\xff", 20_000))}
	if diff := cmp.Diff(plain(t, args), plain(t, c.ask("binary", args...))); diff != "" {
		t.Errorf("acknowledgement: want -, got +:\n%.2000s", diff)
	}
	if got := s.b.event(t, "binary").GetPayload().GetAttachments(); len(got) != 4 {
		t.Errorf("the backend got %d attachments, want 4", len(got))
	}
	r, err := s.b.emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
		Target: &foyerv1.Target{Rooms: []string{id}},
		Payload: &foyerv1.Payload{
			Event: "from backend", Args: &foyerv1.Payload_Json{Json: `[{"_placeholder":true,"num":0},"and"]`}, Attachments: [][]byte{all},
		},
	})
	if err != nil || len(r.GetOutcomes()) != 1 {
		t.Fatalf("got %v, %v", r, err)
	}
	want := plain(t, []any{all, "and"})
	if diff := cmp.Diff(want, plain(t, c.event("from backend"))); diff != "" {
		t.Errorf("event: want -, got +:\n%s", diff)
	}
	if diff := cmp.Diff(want, resolve(t, r.GetOutcomes()[0].GetArgs())); diff != "" {
		t.Errorf("acknowledgement: want -, got +:\n%s", diff)
	}
	c.op("disconnect")
}

func testEIO3Order(t *testing.T, s *eio3Stage, o opts) {
	c, id := s.connect(t, "/", o)
	const n = 200
	var want, up, down []any
	for i := range n {
		want = append(want, float64(i))
		if i%7 == 0 {
			c.emit("up", i, bin("attached"))
		} else {
			c.emit("up", i)
		}
		s.b.emit("/", id, "down", i)
	}
	c.ask("settle")
	for _, m := range s.b.told.all() {
		if e := m.GetEvent(); e.GetSocket().GetId() == id && e.GetPayload().GetEvent() == "up" {
			up = append(up, argsOf(t, e)[0])
		}
	}
	for range n {
		down = append(down, c.event("down")[0])
	}
	if diff := cmp.Diff(want, up); diff != "" {
		t.Errorf("at the backend: want -, got +:\n%s", diff)
	}
	if diff := cmp.Diff(want, down); diff != "" {
		t.Errorf("at the client: want -, got +:\n%s", diff)
	}
	c.op("disconnect")
}

func argsOf(t *testing.T, e *foyerv1.Event) []any {
	t.Helper()
	args, ok := resolve(t, &foyerv1.Args{Args: &foyerv1.Args_Json{Json: e.GetPayload().GetJson()}, Attachments: e.GetPayload().GetAttachments()}).([]any)
	if !ok {
		t.Fatalf("got %v, want an array", e)
	}
	return args
}

// The query of a namespace is its auth.
func testEIO3Namespaces(t *testing.T, s *eio3Stage, o opts) {
	root, rootID := s.connect(t, "/", o.with(opts{"query": map[string]any{"who": "me"}}))
	chat := root.beside("/chat", opts{"query": map[string]any{"user": "a b,c&d=é?\"", "empty": ""}})
	bare := root.beside("/tenant-bare", nil)
	chatID, bareID := s.arrived(t, chat), s.arrived(t, bare)
	if rootID == chatID || chatID == bareID {
		t.Errorf("got ids %s, %s, %s: want them to differ", rootID, chatID, bareID)
	}
	for id, want := range map[string]map[string]any{rootID: nil, chatID: {"user": "a b,c&d=é?\"", "empty": ""}, bareID: nil} {
		connect := s.b.await(t, "connect "+id, func(m *foyerv1.AttachResponse) bool { return m.GetConnect().GetSocket().GetId() == id }).GetConnect()
		handshake := connect.GetSocket().GetHandshake()
		if diff := cmp.Diff(want, handshake.GetAuth().AsMap()); diff != "" && (want != nil || len(handshake.GetAuth().GetFields()) > 0) {
			t.Errorf("auth in %s: want -, got +:\n%s", connect.GetSocket().GetNamespace(), diff)
		}
		if q := handshake.GetQuery(); q["EIO"] != "3" || q["who"] != "me" {
			t.Errorf("got the query %v", q)
		}
	}
	s.b.mustEmit(t, &foyerv1.Target{Namespace: "/chat", Rooms: []string{chatID}}, 1, "to chat", bin("with binary"))
	chat.event("to chat")
	chat.op("disconnect") // leaves one, and the others stay
	if got := s.b.disconnected(t, chatID).GetReason(); got != foyerv1.DisconnectReason_DISCONNECT_REASON_CLIENT_NAMESPACE_DISCONNECT {
		t.Errorf("got %v", got)
	}
	chat.op("connect")
	if again := s.arrived(t, chat); again == chatID {
		t.Error("the same id came back")
	}
	bare.ask("still here")
	root.op("disconnect")
	chat.op("disconnect")
	bare.op("disconnect")
}

func testEIO3Refusals(t *testing.T, s *eio3Stage, o opts) {
	c := s.old.open(t, s.f.url(), "/", o.with(opts{"query": map[string]any{"reject": "not today"}}))
	if got := c.expect("connect_error"); got.Message != "not today" {
		t.Errorf("got %+v", got)
	}
	c.op("disconnect")

	root, _ := s.connect(t, "/", o)
	for _, tt := range []struct {
		nsp     string
		query   map[string]any
		message string
		data    any
	}{
		{"/tenant-words", map[string]any{"reject": "nope"}, "nope", nil},
		{"/tenant-data", map[string]any{"reject": "nope", "data": "the data"}, "the data", nil},
		{"/nowhere", nil, "Invalid namespace", map[string]any{"message": "Invalid namespace"}},
	} {
		c := root.beside(tt.nsp, opts{"query": tt.query})
		if got := c.expect("connect_error"); got.Message != tt.message || cmp.Diff(tt.data, got.Data) != "" && tt.data != nil {
			t.Errorf("%s: got %+v", tt.nsp, got)
		}
	}
	root.ask("still here")
	root.op("disconnect")
}

// A broadcast reaches clients of both versions alike.
func testEIO3Rooms(t *testing.T, s *eio3Stage, o opts) {
	a, aID := s.connect(t, "/tenant-rooms", o)
	b, bID := s.connect(t, "/tenant-rooms", o)
	c := s.new.open(t, s.f.url(), "/tenant-rooms", o)
	cID := c.connected()
	s.b.join(t, "/tenant-rooms", aID, "one")
	s.b.join(t, "/tenant-rooms", cID, "one")
	all := map[*client]string{a: "a", b: "b", c: "c"}
	for i, tt := range []struct {
		rooms, except []string
		want          string
	}{{nil, nil, "abc"}, {[]string{"one"}, nil, "ac"}, {nil, []string{"one"}, "b"}, {[]string{"one", bID}, []string{cID}, "ab"}, {nil, []string{aID}, "bc"}} {
		name := "e" + string(rune('0'+i))
		s.b.mustEmit(t, &foyerv1.Target{Namespace: "/tenant-rooms", Rooms: tt.rooms, ExceptRooms: tt.except, All: tt.rooms == nil}, int32(len(tt.want)), name, bin("\x00\xff"), "é")
		for c, who := range all {
			c.settle()
			if got, want := c.count(name), strings.Count(tt.want, who); got != want {
				t.Errorf("%+v: %s got it %d times, want %d", tt, who, got, want)
			}
		}
	}
	r, err := s.b.emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
		Target: &foyerv1.Target{Namespace: "/tenant-rooms", All: true}, Payload: say("everybody", "here"),
	})
	if err != nil || r.GetSummary().GetMatched() != 3 || len(r.GetOutcomes()) != 3 {
		t.Fatalf("got %v, %v", r, err)
	}
	for _, outcome := range r.GetOutcomes() {
		if outcome.GetArgs().GetJson() != `["here"]` {
			t.Errorf("got %v", outcome)
		}
	}
	for c := range all {
		c.op("disconnect")
	}
}

func testEIO3Disconnects(t *testing.T, s *eio3Stage, o opts) {
	for _, tt := range []struct {
		mode   foyerv1.DisconnectMode
		client string
		active bool // it comes back by itself
		reason foyerv1.DisconnectReason
	}{
		{foyerv1.DisconnectMode_DISCONNECT_MODE_NAMESPACE, "io server disconnect", false, foyerv1.DisconnectReason_DISCONNECT_REASON_SERVER_NAMESPACE_DISCONNECT},
		{foyerv1.DisconnectMode_DISCONNECT_MODE_CONNECTION, "io server disconnect", false, foyerv1.DisconnectReason_DISCONNECT_REASON_SERVER_NAMESPACE_DISCONNECT},
		{foyerv1.DisconnectMode_DISCONNECT_MODE_TRANSPORT, "transport close", true, foyerv1.DisconnectReason_DISCONNECT_REASON_FORCED_CLOSE},
	} {
		t.Run(tt.mode.String(), func(t *testing.T) {
			c, id := s.connect(t, "/", o)
			s.b.knows(t, id)
			s.b.emit("/", id, "last words") // what was sent before arrives before
			r, err := s.b.sockets.DisconnectSockets(t.Context(), &foyerv1.DisconnectSocketsRequest{Target: &foyerv1.Target{Rooms: []string{id}}, Mode: tt.mode})
			if err != nil || r.GetMatched() != 1 {
				t.Fatalf("got %v, %v", r, err)
			}
			if got := c.expect("disconnect"); got.Reason != tt.client || got.Active != tt.active {
				t.Errorf("the client saw %q, active %v; want %q, %v", got.Reason, got.Active, tt.client, tt.active)
			}
			if got := s.b.disconnected(t, id).GetReason(); got != tt.reason {
				t.Errorf("the backend was told %v, want %v", got, tt.reason)
			}
			if tt.active {
				if again := s.arrived(t, c); again == id {
					t.Error("it came back with its old id")
				}
			}
			c.op("disconnect")
		})
	}
	c, id := s.connect(t, "/", o)
	s.b.knows(t, id)
	c.op("disconnect")
	if got := c.expect("disconnect"); got.Reason != "io client disconnect" {
		t.Errorf("the client saw %+v", got)
	}
	if got := s.b.disconnected(t, id).GetReason(); got != foyerv1.DisconnectReason_DISCONNECT_REASON_CLIENT_NAMESPACE_DISCONNECT {
		t.Errorf("the backend was told %v", got)
	}
	c, id = s.connect(t, "/", o)
	c.raw(`2["disconnecting"]`) // what is not to be sent
	if got := c.expect("disconnect"); got.Reason != "transport close" {
		t.Errorf("the client saw %+v", got)
	}
	if again := s.arrived(t, c); again == id {
		t.Error("it came back with its old id")
	}
	c.op("disconnect")
}

// The client pings, by the times that the handshake told, and is gone when it does not.
func TestEIO3Heartbeat(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			s := setEIO3Stage(t, "--ping-interval=300ms", "--ping-timeout=5s")
			c, id := s.connect(t, "/", quick.with(transport.opts))
			began := time.Now()
			eventually(t, func() error {
				c.settle()
				if time.Since(began) < 2*time.Second {
					return fmt.Errorf("only %v", time.Since(began))
				}
				return nil
			})
			if c.saw("disconnect") {
				t.Fatal("it was disconnected while all was well")
			}
			c.op("freeze") // the process goes on, but says nothing
			if got := s.b.disconnected(t, id).GetReason(); got != foyerv1.DisconnectReason_DISCONNECT_REASON_PING_TIMEOUT {
				t.Errorf("the backend was told %v", got)
			}
			s.old.crash() // it cannot be asked to end
		})
	}
}

// Clients of v2 come back by themselves when the node is started anew on its address.
func TestEIO3Restart(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			p := startOldPuppets(t)
			first := startFoyer(t, "--allow-eio3", "--edge="+freePorts(t, 1)[0])
			b := attach(t, first.api, &foyerv1.Register{Namespaces: []string{"/"}}, nil)
			c := p.open(t, first.url(), "/", quick.with(transport.opts))
			c.expect("connect")
			if transport.name == "upgrade" {
				c.expect("upgrade")
			}
			c.settle()
			first.stop(t)
			b.await(t, "disconnected", func(m *foyerv1.AttachResponse) bool {
				return m.GetDisconnected().GetReason() == foyerv1.DisconnectReason_DISCONNECT_REASON_SERVER_SHUTTING_DOWN
			})
			if got := c.expect("disconnect"); got.Reason != "transport close" || !got.Active {
				t.Errorf("the client saw %q, active %v", got.Reason, got.Active)
			}
			second := startFoyer(t, "--edge="+first.edge, "--allow-eio3")
			attach(t, second.api, &foyerv1.Register{Namespaces: []string{"/"}}, nil)
			c.expect("connect")
			if got := c.ask("echo", "back"); len(got) != 1 {
				t.Errorf("got %v", got)
			}
			c.op("disconnect")
		})
	}
}

// Without the setting they are told that their version is not served.
func TestEIO3Off(t *testing.T) {
	f := startFoyer(t)
	c := startOldPuppets(t).open(t, f.url(), "/", quick.with(opts{"reconnection": false}))
	c.expect("connect_error")
	if c.saw("connect") {
		t.Error("it is in")
	}
	c.op("disconnect")
}
