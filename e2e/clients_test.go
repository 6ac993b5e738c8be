//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// The ways in which a stock client comes in.
var transports = []struct {
	name string
	opts opts
	ends string // the transport it ends on
}{
	{"websocket", opts{"transports": []string{"websocket"}}, "websocket"},
	{"polling", opts{"transports": []string{"polling"}}, "polling"},
	{"upgrade", opts{}, "websocket"},
}

var parsers = []struct {
	name string
	opts opts
}{
	{"json", opts{}},
	{"msgpack", opts{"parser": "msgpack"}},
}

// quick makes reconnecting quick.
var quick = opts{"reconnectionDelay": 50, "reconnectionDelayMax": 200, "randomizationFactor": 0}

// stage is a node with a backend that decides connects by auth, and a Node process.
type stage struct {
	f *foyer
	b *backend
	p *puppets
}

func setStage(t testing.TB, args ...string) *stage {
	t.Helper()
	return setStageAt(t, startFoyer(t, args...))
}

// setStageAt is setStage for what clients and the backend see as one node.
func setStageAt(t testing.TB, f *foyer) *stage {
	t.Helper()
	b := attach(t, f.api, &foyerv1.Register{
		Namespaces: []string{"/", "/chat", "/tenant-*"}, Group: "e2e", DecideConnects: true,
		SocketView: foyerv1.SocketView_SOCKET_VIEW_FULL,
	}, func(b *backend) {
		b.decide = decideByAuth
		b.on["silent"] = func(*event) {}
		b.on["looks like binary"] = func(e *event) { e.reply() }
		b.on["nothing"] = func(e *event) { e.reply() }
		b.on["many"] = func(e *event) { e.reply("a", 2, nil) }
	})
	return &stage{f, b, startPuppets(t)}
}

// decideByAuth lets in who does not say otherwise: auth {reject, data, retry, rooms, user, wait}.
func decideByAuth(c *foyerv1.Connect) *foyerv1.ConnectReply {
	auth := c.GetSocket().GetHandshake().GetAuth().GetFields()
	if auth["wait"].GetBoolValue() {
		return nil
	}
	if message := auth["reject"].GetStringValue(); message != "" {
		return &foyerv1.ConnectReply{Decision: &foyerv1.ConnectReply_Reject{Reject: &foyerv1.Reject{
			Message: message, Data: auth["data"], Retry: auth["retry"].GetBoolValue(),
		}}}
	}
	var rooms []string
	for _, room := range auth["rooms"].GetListValue().GetValues() {
		rooms = append(rooms, room.GetStringValue())
	}
	data, _ := structpb.NewStruct(map[string]any{"seen": "by the handler"})
	return &foyerv1.ConnectReply{Decision: &foyerv1.ConnectReply_Accept{Accept: &foyerv1.Accept{
		Rooms: rooms, UserId: auth["user"].GetStringValue(), Data: data,
	}}}
}

// TestClients is what every stock client must be able to do, whatever way it comes in.
func TestClients(t *testing.T) {
	for _, transport := range transports {
		for _, parser := range parsers {
			t.Run(transport.name+"/"+parser.name, func(t *testing.T) {
				setStage(t, "--max-payload=100000").test(t, transport.name, transport.ends, quick.with(transport.opts).with(parser.opts))
			})
		}
	}
}

// test runs all that a stock client must be able to do.
func (s *stage) test(t *testing.T, transport, ends string, o opts) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *stage, opts)
	}{
		{"values", testValues},
		{"binary", testBinary},
		{"acks", testAcks},
		{"connect decisions", testDecisions},
		{"namespaces on one link", testNamespaces},
		{"rooms", testRooms},
		{"emit with ack", testEmitWithAck},
		{"disconnected by the backend", testServerDisconnects},
		{"disconnected by the client", testClientDisconnects},
		{"volatile", testVolatile},
		{"reserved events", testReserved},
		{"too large", testTooLarge},
		{"order", testOrder},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s, o) })
	}
	t.Run("transport", func(t *testing.T) {
		c, _ := s.p.connect(t, s.f.url(), "/", o)
		if transport == "upgrade" {
			c.expect("upgrade")
			c.settle()
		}
		if got := c.state().Transport; got != ends {
			t.Errorf("got %q, want %q", got, ends)
		}
	})
}

// Values come back as they went out, by the acknowledgement and by an event of the backend.
func testValues(t *testing.T, s *stage, o opts) {
	c, id := s.p.connect(t, s.f.url(), "/", o)
	tests := []struct {
		name string
		args []any
		want []any // nil: args
	}{
		{"none", []any{}, nil},
		{"one", []any{"x"}, nil},
		{"several", []any{1, "two", nil, true, []any{}, map[string]any{}}, nil},
		{"nested", []any{map[string]any{"a": []any{map[string]any{"b": []any{[]any{[]any{1}}}}}}}, nil},
		{"utf-8", []any{"Grüße, Αθήνα, 東京, \U0001F600, e\u0301, \u2028\u2029, \u0000\u001f\u007f\"\\/"}, nil},
		{"keys", []any{map[string]any{"": 1, "ключ": 2, "a b": 3, "\"": 4, "_placeholder": false, "num": 0}}, nil},
		{"numbers", []any{
			0, -1, 127, 128, 255, 256, -128, -129, 65535, 65536, 2147483648, -2147483649, 4294967295, 4294967296,
			int64(9007199254740991), int64(-9007199254740991), 0.1, -2.5, 1.5e-7, 5e-324, 123456789.123456789,
		}, nil},
		{"huge numbers", []any{1.7976931348623157e308, -1e300, 1e21, 1.8446744073709552e19}, nil},
		{"date", []any{date("2026-02-28T12:34:56.789Z")}, []any{"2026-02-28T12:34:56.789Z"}}, // the words of JSON
		{"undefined is null", []any{1, undefined{}, 3}, []any{1, nil, 3}},
		{"undefined is absent", []any{map[string]any{"a": undefined{}, "b": 1}}, []any{map[string]any{"b": 1}}},
		{"long", []any{strings.Repeat("0123456789abcde\u00df", 3000)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c.t = t
			if tt.want == nil {
				tt.want = tt.args
			}
			want := plain(t, tt.want)
			// The msgpack client itself sends whole numbers of 2^64 and more without their upper bits.
			if tt.name != "huge numbers" || o["parser"] != "msgpack" {
				if diff := cmp.Diff(want, plain(t, nonNil(c.ask("echo", tt.args...)))); diff != "" {
					t.Errorf("acknowledgement: want -, got +:\n%s", diff)
				}
			}
			raw, err := json.Marshal(tt.want)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.b.emits.Emit(t.Context(), &foyerv1.EmitRequest{
				Target:  &foyerv1.Target{Rooms: []string{id}},
				Payload: &foyerv1.Payload{Event: "values", Args: &foyerv1.Payload_Json{Json: string(raw)}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, plain(t, nonNil(c.event("values")))); diff != "" {
				t.Errorf("event: want -, got +:\n%s", diff)
			}
		})
	}
	c.t = t
	// An object that only looks like an attachment is not one, as long as there are none.
	c.emit("looks like binary", map[string]any{"_placeholder": true, "num": 7})
	if got := s.b.event(t, "looks like binary").GetPayload(); !strings.Contains(got.GetJson(), `"_placeholder":true`) || len(got.GetAttachments()) > 0 {
		t.Errorf("got %v", got)
	}
	c.op("disconnect")
}

func nonNil(args []any) []any {
	if args == nil {
		return []any{}
	}
	return args
}

func testBinary(t *testing.T, s *stage, o opts) {
	c, id := s.p.connect(t, s.f.url(), "/", o)
	all := make(bin, 256)
	for i := range all {
		all[i] = byte(i)
	}
	deep := map[string]any{"files": []any{map[string]any{"name": "a", "body": bin("first")}, map[string]any{"name": "b", "body": all}}, "n": 1}
	args := []any{"x", bin{}, all, deep, bin(strings.Repeat("\x00\xff", 20_000))}
	want := plain(t, args)

	t.Run("event and acknowledgement", func(t *testing.T) {
		c.t = t
		if diff := cmp.Diff(want, plain(t, c.ask("binary", args...))); diff != "" {
			t.Errorf("want -, got +:\n%.2000s", diff)
		}
		if got := s.b.event(t, "binary").GetPayload().GetAttachments(); len(got) < 5 {
			t.Errorf("the backend got %d attachments, want 5", len(got))
		}
	})
	// From the backend: an event with attachments, whose acknowledgement, made by the client, has attachments too.
	t.Run("emit with ack", func(t *testing.T) {
		c.t = t
		r, err := s.b.emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
			Target:  &foyerv1.Target{Rooms: []string{id}},
			Timeout: durationpb.New(patience),
			Payload: &foyerv1.Payload{
				Event:       "from backend",
				Args:        &foyerv1.Payload_Json{Json: `[{"_placeholder":true,"num":1},"and",{"b":{"_placeholder":true,"num":0}}]`},
				Attachments: [][]byte{all, []byte("second")},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		want := plain(t, []any{bin("second"), "and", map[string]any{"b": all}})
		if diff := cmp.Diff(want, plain(t, c.event("from backend"))); diff != "" {
			t.Errorf("event: want -, got +:\n%s", diff)
		}
		if len(r.GetOutcomes()) != 1 || r.GetOutcomes()[0].GetArgs() == nil {
			t.Fatalf("got %v, want one acknowledgement", r)
		}
		got := r.GetOutcomes()[0].GetArgs()
		if n := len(got.GetAttachments()); n != 2 {
			t.Fatalf("got %d attachments, want 2: %v", n, got)
		}
		if diff := cmp.Diff(want, resolve(t, got)); diff != "" {
			t.Errorf("acknowledgement: want -, got +:\n%s", diff)
		}
	})
	c.t = t
	c.op("disconnect")
}

// resolve puts attachments where they are referred to, in the form of puppet.js.
func resolve(t *testing.T, args *foyerv1.Args) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(args.GetJson()), &v); err != nil {
		t.Fatalf("%v: %s", err, args.GetJson())
	}
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case map[string]any:
			if v["_placeholder"] == true {
				return plain(t, bin(args.GetAttachments()[int(v["num"].(float64))]))
			}
			for k := range v {
				v[k] = walk(v[k])
			}
		}
		return v
	}
	return walk(v)
}

func testAcks(t *testing.T, s *stage, o opts) {
	c, _ := s.p.connect(t, s.f.url(), "/", o)
	if got := c.ask("nothing"); len(got) != 0 {
		t.Errorf("got %v, want no arguments", got)
	}
	if diff := cmp.Diff(plain(t, []any{"a", 2, nil}), any(c.ask("many"))); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if got := c.askWith(map[string]any{"timeout": 200}, "silent", 1); got.Err != "operation has timed out" {
		t.Errorf("got %q, want a timeout", got.Err)
	}
	if got := c.askWith(map[string]any{"timeout": patience.Milliseconds()}, "echo", 1); got.Err != "" || len(got.Args) != 1 {
		t.Errorf("got %+v, want an acknowledgement in time", got)
	}
	late := c.later(nil, "silent", 2) // one that is not answered holds up nobody
	if got := c.ask("echo", "x"); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	for _, sight := range c.p.seen.all() {
		if sight.Ack == late {
			t.Errorf("got %+v for an event that was not answered", sight)
		}
	}
	c.op("disconnect")
}

func testDecisions(t *testing.T, s *stage, o opts) {
	t.Run("accepted with rooms", func(t *testing.T) {
		c, id := s.p.connect(t, s.f.url(), "/", o.with(opts{"auth": map[string]any{"rooms": []string{"vip", "door"}, "user": "u1"}}))
		r, err := s.b.socket(t, &foyerv1.GetSocketRequest{SocketId: id, View: foyerv1.SocketView_SOCKET_VIEW_FULL})
		if err != nil {
			t.Fatal(err)
		}
		got := r.GetSocket()
		if diff := cmp.Diff([]string{"door", "vip"}, got.GetRooms()); diff != "" || got.GetUserId() != "u1" ||
			got.GetData().GetFields()["seen"].GetStringValue() != "by the handler" {
			t.Errorf("got %v, want rooms, user and data of the decision", got)
		}
		if got.GetHandshake().GetAuth() != nil {
			t.Error("auth is for the deciding handler only")
		}
		if got.GetHandshake().GetAddress() != "127.0.0.1" {
			t.Errorf("got address %q", got.GetHandshake().GetAddress())
		}
		c.op("disconnect")
	})
	t.Run("refused with data", func(t *testing.T) {
		c := s.p.open(t, s.f.url(), "/", o.with(opts{"auth": map[string]any{"reject": "not today", "data": map[string]any{"code": 7, "why": []any{"é"}}}}))
		got := c.expect("connect_error")
		if got.Message != "not today" || cmp.Diff(plain(t, map[string]any{"code": 7, "why": []any{"é"}}), got.Data) != "" || got.Active {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("refused without data", func(t *testing.T) {
		c := s.p.open(t, s.f.url(), "/", o.with(opts{"auth": map[string]any{"reject": "no"}}))
		if got := c.expect("connect_error"); got.Message != "no" || got.Data != nil && cmp.Diff(any(map[string]any{"$undefined": true}), got.Data) != "" {
			t.Errorf("got %+v", got)
		}
	})
	// The link is closed without a word; the client comes back by itself, and is asked for again.
	t.Run("sent away to come back", func(t *testing.T) {
		c := s.p.open(t, s.f.url(), "/", o.with(opts{"auth": map[string]any{"reject": "later", "retry": true}}))
		c.expectThat("reconnect_attempt", func(s sight) bool { return s.Attempt >= 1 })
		if c.saw("connect_error") {
			t.Error("it saw a connect_error")
		}
		c.op("disconnect")
	})
	t.Run("unknown namespace", func(t *testing.T) {
		// Held once, as while a handler is away, unless a handler that is there would have it; so with a short wait.
		f := startFoyer(t, "--handler-wait=300ms", "--namespaces=/chat,/tenant-*")
		c := s.p.open(t, f.url(), "/nowhere", o)
		if got := c.expect("connect_error"); got.Message != "Invalid namespace" || got.Active {
			t.Errorf("got %+v", got)
		}
		for _, name := range []string{"/chat", "/tenant-7"} {
			known, _ := s.p.connect(t, f.url(), name, o)
			known.op("disconnect")
		}
	})
}

func testNamespaces(t *testing.T, s *stage, o opts) {
	root, rootID := s.p.connect(t, s.f.url(), "/", o)
	chat := root.beside("/chat", nil)
	tenant := root.beside("/tenant-a", opts{"auth": map[string]any{"rooms": []string{"r"}}})
	refused := root.beside("/tenant-b", opts{"auth": map[string]any{"reject": "no", "data": map[string]any{"a": 1}}})
	chatID, tenantID := chat.connected(), tenant.connected()
	if got := refused.expect("connect_error"); got.Message != "no" {
		t.Errorf("got %+v", got)
	}
	if rootID == chatID || chatID == tenantID {
		t.Errorf("got ids %s, %s, %s: want them to differ", rootID, chatID, tenantID)
	}
	for _, to := range []struct{ namespace, id string }{{"", rootID}, {"chat", chatID}, {"/tenant-a", tenantID}} {
		s.b.mustEmit(t, &foyerv1.Target{Namespace: to.namespace, Rooms: []string{to.id}}, 1, "to", to.id)
	}
	for c, id := range map[*client]string{root: rootID, chat: chatID, tenant: tenantID} {
		if got := c.event("to"); len(got) != 1 || got[0] != id {
			t.Errorf("got %v, want %s", got, id)
		}
		if got := c.ask("whoami", id); len(got) != 1 || got[0] != id {
			t.Errorf("got %v, want %s", got, id)
		}
	}
	session := func(namespace, id string) string {
		r, err := s.b.socket(t, &foyerv1.GetSocketRequest{Namespace: namespace, SocketId: id})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetSocket().GetSessionId()
	}
	if a, b := session("/", rootID), session("/chat", chatID); a != b || a == "" {
		t.Errorf("got sessions %q and %q of one link", a, b)
	}
	chat.op("disconnect") // leaves one, and the others stay
	if got := s.b.disconnected(t, chatID).GetReason(); got != foyerv1.DisconnectReason_DISCONNECT_REASON_CLIENT_NAMESPACE_DISCONNECT {
		t.Errorf("got %v", got)
	}
	if got := tenant.ask("still here", 1); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	chat.op("connect")
	if again := chat.connected(); again == chatID {
		t.Error("the same id came back")
	}
	root.op("disconnect")
	chat.op("disconnect")
	tenant.op("disconnect")
}

// mustEmit emits and wants so many recipients.
func (b *backend) mustEmit(t testing.TB, to *foyerv1.Target, matched int32, event string, args ...any) {
	t.Helper()
	b.mustEmitWith(t, to, nil, matched, event, args...)
}

func (b *backend) mustEmitWith(t testing.TB, to *foyerv1.Target, o *foyerv1.EmitOptions, matched int32, event string, args ...any) {
	t.Helper()
	r, err := b.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: to, Payload: say(event, args...), Options: o})
	if err != nil {
		t.Fatalf("emit %s: %v", event, err)
	}
	if len(r.GetCoverage().GetUnreachable()) > 0 && r.GetMatched() < matched { // a busy node was late to count; its clients tell
		matched = r.GetMatched()
	}
	if r.Matched == nil || r.GetMatched() != matched || r.GetEnqueued()+r.GetDroppedVolatile()+r.GetDroppedSlow() != matched {
		t.Errorf("emit %s: got %v, want matched %d and its sum", event, r, matched)
	}
}

// late says whether a busy node was late to count one socket, and so whether one may be missing.
func late(matched int32, c *foyerv1.Coverage) bool {
	return matched == 0 && len(c.GetUnreachable()) > 0
}

// socket is GetSocket, which is asked again while the node of the socket is late.
func (b *backend) socket(t testing.TB, request *foyerv1.GetSocketRequest) (r *foyerv1.GetSocketResponse, err error) {
	t.Helper()
	eventually(t, func() error {
		if r, err = b.sockets.GetSocket(t.Context(), request); status.Code(err) == codes.Unavailable {
			return err
		}
		return nil
	})
	return r, err
}

func (b *backend) join(t testing.TB, namespace, id string, rooms ...string) {
	t.Helper()
	eventually(t, func() error {
		r, err := b.rooms.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: &foyerv1.Target{Namespace: namespace, Rooms: []string{id}}, Rooms: rooms})
		if err == nil && len(r.GetCoverage().GetUnreachable()) > 0 { // a busy node may be late
			return fmt.Errorf("join %v: %v", rooms, r)
		}
		if err != nil || r.GetMatched() != 1 {
			t.Fatalf("join %v: %v, %v", rooms, r, err)
		}
		return nil
	})
}

func testRooms(t *testing.T, s *stage, o opts) {
	auth := func(rooms ...string) opts { return o.with(opts{"auth": map[string]any{"rooms": rooms}}) }
	a, aID := s.p.connect(t, s.f.url(), "/tenant-rooms", auth("one"))
	b, bID := s.p.connect(t, s.f.url(), "/tenant-rooms", auth("one", "two"))
	c, cID := s.p.connect(t, s.f.url(), "/tenant-rooms", auth("two"))
	all := map[*client]string{a: "a", b: "b", c: "c"}
	target := func(rooms, except []string) *foyerv1.Target {
		return &foyerv1.Target{Namespace: "tenant-rooms", Rooms: rooms, ExceptRooms: except, All: rooms == nil}
	}
	n := 0
	check := func(to *foyerv1.Target, want string) {
		t.Helper()
		n++
		event := fmt.Sprintf("e%d", n)
		s.b.mustEmit(t, to, int32(len(want)), event)
		for c, name := range all {
			c.settle()
			if got, want := c.count(event), strings.Count(want, name); got != want {
				t.Errorf("%v: %s got it %d times, want %d", to, name, got, want)
			}
		}
	}
	check(target([]string{"one"}, nil), "ab")
	check(target([]string{"one", "two"}, nil), "abc")
	check(target(nil, nil), "abc")
	check(target(nil, []string{aID}), "bc")
	check(target(nil, []string{"one"}), "c")
	check(target([]string{"one"}, []string{bID}), "a")
	check(target([]string{"one", "two"}, []string{"two"}), "a")
	check(target([]string{cID}, nil), "c")
	check(target([]string{"nobody"}, nil), "")

	s.b.join(t, "tenant-rooms", cID, "one", "three")
	check(target([]string{"one"}, nil), "abc")
	check(target([]string{"three"}, nil), "c")
	if _, err := s.b.rooms.LeaveRooms(t.Context(), &foyerv1.LeaveRoomsRequest{Target: target([]string{"one"}, nil), Rooms: []string{"one"}}); err != nil {
		t.Fatal(err)
	}
	check(target([]string{"one"}, nil), "")
	check(target([]string{"two"}, nil), "bc")
	b.op("disconnect")
	gone := s.b.disconnected(t, bID)
	if diff := cmp.Diff([]string{"two"}, gone.GetSocket().GetRooms()); diff != "" {
		t.Errorf("rooms that were left: want -, got +:\n%s", diff)
	}
	delete(all, b)
	check(target([]string{"two"}, nil), "c")
	a.op("disconnect")
	c.op("disconnect")
}

func testEmitWithAck(t *testing.T, s *stage, o opts) {
	a, aID := s.p.connect(t, s.f.url(), "/tenant-acks", o)
	b, bID := s.p.connect(t, s.f.url(), "/tenant-acks", o)
	a.answers("q", []any{"yes", 1})
	b.answers("q", []any{})
	ask := func(event string, timeout time.Duration) map[string]*foyerv1.AckOutcome {
		t.Helper()
		r, err := s.b.emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
			Target: &foyerv1.Target{Namespace: "tenant-acks", All: true}, Payload: say(event, "?"), Timeout: durationpb.New(timeout),
		})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]*foyerv1.AckOutcome{}
		for _, outcome := range r.GetOutcomes() {
			got[outcome.GetSocketId()] = outcome
		}
		if len(r.GetSummary().GetCoverage().GetUnreachable()) > 0 { // a busy node was late
			return nil
		}
		if sum := r.GetSummary(); sum.GetMatched() != 2 || len(got) != 2 {
			t.Fatalf("got %v, want two outcomes", r)
		}
		return got
	}
	got := ask("q", patience)
	for tries := 0; got == nil && tries < 10; tries++ {
		got = ask("q", patience)
	}
	if got[aID].GetArgs().GetJson() != `["yes",1]` || got[bID].GetArgs().GetJson() != `[]` {
		t.Errorf("got %v", got)
	}
	b.answers("mute", nil)
	got = nil
	for timeout := 300 * time.Millisecond; got[aID].GetArgs() == nil && timeout < patience; timeout *= 4 { // a busy client may be late
		got = ask("mute", timeout)
	}
	if got[aID].GetArgs() == nil || got[bID].GetFailure() != foyerv1.AckFailure_ACK_FAILURE_TIMEOUT {
		t.Errorf("got %v, want an acknowledgement of %s and a timeout of %s", got, aID, bID)
	}
	// One that goes away meanwhile is told of at once, not after the timeout.
	b.answers("bye", nil)
	began := time.Now()
	outcomes := make(chan map[string]*foyerv1.AckOutcome, 1)
	go func() { outcomes <- ask("bye", 30*time.Second) }()
	b.event("bye")
	b.op("disconnect")
	if got = <-outcomes; got[bID].GetFailure() != foyerv1.AckFailure_ACK_FAILURE_DISCONNECTED || time.Since(began) > patience {
		t.Errorf("got %v after %v, want DISCONNECTED of %s at once", got, time.Since(began), bID)
	}
	a.op("disconnect")
}

func testServerDisconnects(t *testing.T, s *stage, o opts) {
	type outcome struct {
		clientReason string
		active       bool // it comes back by itself
		reason       foyerv1.DisconnectReason
	}
	for _, tt := range []struct {
		mode            foyerv1.DisconnectMode
		here, elsewhere *outcome // in the namespace, and in another on the same link; nil: stays
	}{
		{
			foyerv1.DisconnectMode_DISCONNECT_MODE_NAMESPACE,
			&outcome{"io server disconnect", false, foyerv1.DisconnectReason_DISCONNECT_REASON_SERVER_NAMESPACE_DISCONNECT}, nil,
		},
		{
			foyerv1.DisconnectMode_DISCONNECT_MODE_CONNECTION,
			&outcome{"io server disconnect", false, foyerv1.DisconnectReason_DISCONNECT_REASON_SERVER_NAMESPACE_DISCONNECT},
			&outcome{"io server disconnect", false, foyerv1.DisconnectReason_DISCONNECT_REASON_SERVER_NAMESPACE_DISCONNECT},
		},
		{
			foyerv1.DisconnectMode_DISCONNECT_MODE_TRANSPORT,
			&outcome{"transport close", true, foyerv1.DisconnectReason_DISCONNECT_REASON_FORCED_CLOSE},
			&outcome{"transport close", true, foyerv1.DisconnectReason_DISCONNECT_REASON_FORCED_CLOSE},
		},
	} {
		t.Run(tt.mode.String(), func(t *testing.T) {
			c, id := s.p.connect(t, s.f.url(), "/", o)
			other := c.beside("/chat", nil)
			otherID := other.connected()
			s.b.knows(t, id, otherID)
			s.b.emit("/", id, "last words") // what was sent before arrives before
			r, err := s.b.sockets.DisconnectSockets(t.Context(), &foyerv1.DisconnectSocketsRequest{
				Target: &foyerv1.Target{Rooms: []string{id}}, Mode: tt.mode,
			})
			if err != nil || r.GetMatched() != 1 && !late(r.GetMatched(), r.GetCoverage()) {
				t.Fatalf("got %v, %v", r, err)
			}
			check := func(c *client, id string, want *outcome) {
				t.Helper()
				if want == nil {
					if got := c.ask("still here"); len(got) != 0 || c.saw("disconnect") {
						t.Errorf("got %v, want to stay", got)
					}
					return
				}
				if got := c.expect("disconnect"); got.Reason != want.clientReason || got.Active != want.active {
					t.Errorf("the client saw %q, active %v; want %q, %v", got.Reason, got.Active, want.clientReason, want.active)
				}
				if got := s.b.disconnected(t, id); got.GetReason() != want.reason {
					t.Errorf("the backend was told %v (%s), want %v", got.GetReason(), got.GetDetail(), want.reason)
				}
				if want.active {
					if again := c.connected(); again == id {
						t.Error("it came back with its old id")
					}
				} else if c.state().Active {
					t.Error("it is trying to come back")
				}
			}
			check(c, id, tt.here)
			check(other, otherID, tt.elsewhere)
			c.op("disconnect")
			other.op("disconnect")
		})
	}
}

func testClientDisconnects(t *testing.T, s *stage, o opts) {
	c, id := s.p.connect(t, s.f.url(), "/", o.with(opts{"auth": map[string]any{"rooms": []string{"r1", "r2"}}}))
	s.b.knows(t, id)
	c.op("disconnect")
	if got := c.expect("disconnect"); got.Reason != "io client disconnect" || got.Active {
		t.Errorf("the client saw %+v", got)
	}
	got := s.b.disconnected(t, id)
	if got.GetReason() != foyerv1.DisconnectReason_DISCONNECT_REASON_CLIENT_NAMESPACE_DISCONNECT || got.GetDetail() != "client namespace disconnect" {
		t.Errorf("the backend was told %v (%q)", got.GetReason(), got.GetDetail())
	}
	if diff := cmp.Diff([]string{"r1", "r2"}, got.GetSocket().GetRooms()); diff != "" {
		t.Errorf("rooms: want -, got +:\n%s", diff)
	}
	if _, err := s.b.socket(t, &foyerv1.GetSocketRequest{SocketId: id}); status.Code(err) != codes.NotFound {
		t.Errorf("got %v, want NOT_FOUND", err)
	}
}

// A volatile event is for clients that can take it now; it is either there or counted as dropped, and holds up nothing.
func testVolatile(t *testing.T, s *stage, o opts) {
	c, id := s.p.connect(t, s.f.url(), "/", o)
	dropped, unknown := 0, 0
	const n = 50
	for i := range n {
		r, err := s.b.emits.Emit(t.Context(), &foyerv1.EmitRequest{
			Target: &foyerv1.Target{Rooms: []string{id}}, Payload: say("tick", i), Options: &foyerv1.EmitOptions{Volatile: true},
		})
		switch {
		case err == nil && late(r.GetMatched(), r.GetCoverage()):
			unknown++
		case err != nil || r.GetMatched() != 1 || r.GetEnqueued()+r.GetDroppedVolatile() != 1:
			t.Fatalf("got %v, %v", r, err)
		}
		dropped += int(r.GetDroppedVolatile())
	}
	c.settle()
	if got := c.count("tick"); got > n-dropped || got < n-dropped-unknown {
		t.Errorf("got %d of %d, but %d were said to be dropped, and of %d nothing was said", got, n, dropped, unknown)
	}
	c.emitWith(map[string]any{"volatile": true}, "from client volatile", 1)
	s.b.event(t, "from client volatile")
	c.op("disconnect")
}

func testReserved(t *testing.T, s *stage, o opts) {
	c, id := s.p.connect(t, s.f.url(), "/", o)
	for _, name := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} {
		_, err := s.b.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: []string{id}}, Payload: say(name)})
		wantError(t, err, codes.InvalidArgument, "RESERVED_EVENT")
		c.emit(name) // the stock client refuses by itself
		if got := c.expect("thrown"); !strings.Contains(got.Message, "reserved") {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	// Names that look reserved but are not.
	for _, name := range []string{"error", "connection", "message", "ping", "data"} {
		if got := c.ask(name, 1); len(got) != 1 {
			t.Errorf("%s: got %v", name, got)
		}
		s.b.mustEmit(t, &foyerv1.Target{Rooms: []string{id}}, 1, name, 2)
		if got := c.event(name); len(got) != 1 {
			t.Errorf("%s: got %v", name, got)
		}
	}
	// What is not to be sent closes the link, and only it. (The text is wrong for the msgpack parser in any case.)
	bystander, _ := s.p.connect(t, s.f.url(), "/", o)
	c.raw(`2["disconnecting"]`)
	if got := c.expect("disconnect"); got.Reason != "transport close" || !got.Active {
		t.Errorf("got %+v, want the link to be closed", got)
	}
	c.connected()
	bystander.settle()
	c.op("disconnect")
	bystander.op("disconnect")
}

func wantError(t testing.TB, err error, code codes.Code, reason string) {
	t.Helper()
	s := status.Convert(err)
	var got string
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "foyer" {
			got = info.GetReason()
		}
	}
	if s.Code() != code || got != reason {
		t.Errorf("got %v, reason %q; want %v, %s", err, got, code, reason)
	}
}

// Too much from a client closes its link, by the transport's own words; too much from a backend is refused. The limit
// is 100,000 bytes here.
func testTooLarge(t *testing.T, s *stage, o opts) {
	c, id := s.p.connect(t, s.f.url(), "/", o)
	onWebsocket := c.state().Transport == "websocket"
	if _, upgrades := o["transports"]; !upgrades {
		c.expect("upgrade")
		onWebsocket = true
	}
	c.settle()
	if got := c.ask("fits", strings.Repeat("x", 70_000)); len(got) != 1 { // in base64, as msgpack is on polling, 93,000
		t.Error("no answer to what fits")
	}
	c.emit("too large", strings.Repeat("x", 150_000))
	got := c.expect("disconnect")
	want := "transport error" // the POST is answered by 413
	if onWebsocket {
		want = "transport close"
	}
	if got.Reason != want || !got.Active {
		t.Errorf("the client saw %q, active %v; want %q", got.Reason, got.Active, want)
	}
	wantReason := foyerv1.DisconnectReason_DISCONNECT_REASON_TRANSPORT_CLOSE
	if onWebsocket {
		wantReason = foyerv1.DisconnectReason_DISCONNECT_REASON_TRANSPORT_ERROR
	}
	if got := s.b.disconnected(t, id).GetReason(); got != wantReason {
		t.Errorf("the backend was told %v, want %v", got, wantReason)
	}
	again := c.connected()
	_, err := s.b.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: []string{again}}, Payload: say("e", strings.Repeat("x", 150_000))})
	wantError(t, err, codes.InvalidArgument, "PAYLOAD_TOO_LARGE")
	s.b.mustEmit(t, &foyerv1.Target{Rooms: []string{again}}, 1, "large", strings.Repeat("y", 90_000))
	if got := c.event("large"); len(got) != 1 || len(got[0].(string)) != 90_000 {
		t.Error("what fits did not arrive whole")
	}
	c.op("disconnect")
}

// Hundreds of events both ways, some with attachments, arrive in the order in which they were sent.
func testOrder(t *testing.T, s *stage, o opts) {
	c, id := s.p.connect(t, s.f.url(), "/", o)
	const n = 300
	var want []any
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
	var up []any
	for _, m := range s.b.told.all() {
		if e := m.GetEvent(); e.GetSocket().GetId() == id && e.GetPayload().GetEvent() == "up" {
			var args []any
			if err := json.Unmarshal([]byte(e.GetPayload().GetJson()), &args); err != nil {
				t.Fatal(err)
			}
			up = append(up, args[0])
		}
	}
	if diff := cmp.Diff(want, up); diff != "" {
		t.Errorf("at the backend: want -, got +:\n%s", diff)
	}
	var down []any
	for range n {
		down = append(down, c.event("down")[0])
	}
	if diff := cmp.Diff(want, down); diff != "" {
		t.Errorf("at the client: want -, got +:\n%s", diff)
	}
	c.op("disconnect")
}
