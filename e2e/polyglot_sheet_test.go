//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	foyerv1 "foyer/gen/foyer/v1"
)

// grpcurl calls a method and returns what it printed: a response, or the responses of a stream.
func grpcurl(t testing.TB, api, method, request string) (out []byte, err error) {
	t.Helper()
	name, err := exec.LookPath("grpcurl")
	if err != nil {
		if name, err = filepath.Abs("../bin/grpcurl"); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), name, "-plaintext", "-max-time", "15", "-d", request, api, "foyer.v1."+method)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	if out, err = c.Output(); err != nil {
		err = fmt.Errorf("%w: %s", err, &stderr)
	}
	return out, err
}

// place is where a client of the cheat sheet stands: its rooms of room1, room2 and room3, or its namespace.
type place struct {
	*client
	id string
}

// sheet is the stage of the cheat sheet in one language.
type sheet struct {
	f      *foyer
	b      *foreign
	p      *puppets
	places map[string]*place
	ids    map[string]string
}

// row is one line of the cheat sheet. What its backends do for it stands in polyglot/*/backend.*; here is what they
// must bring about, and the same by grpcurl.
type row struct {
	name    string
	grpcurl func(ids map[string]string, event string) (method, request string)
	check   func(t *testing.T, s *sheet, do func() any)
}

// emits is the request of an emit, target and more being fields in JSON; $name is the id of who stands there.
func emits(target, more string) func(map[string]string, string) (string, string) {
	return request("EmitService/Emit", target, `,"payload":{"event":"$event","values":["hello",1]}`+more)
}

func request(method, target, more string) func(map[string]string, string) (string, string) {
	return func(ids map[string]string, event string) (string, string) {
		replace := []string{"$event", event}
		for name, id := range ids {
			replace = append(replace, "$"+name+"$", id)
		}
		return method, strings.NewReplacer(replace...).Replace(`{"target":{` + target + `}` + more + `}`)
	}
}

// reaches wants exactly these to get the event of the row, once each.
func reaches(names string) func(*testing.T, *sheet, func() any) {
	return func(t *testing.T, s *sheet, do func() any) {
		t.Helper()
		want := strings.Fields(names)
		got, ok := do().(map[string]any)
		if n := float64(len(want)); !ok || got["matched"] != n || got["enqueued"] != n {
			t.Errorf("got %v, want matched and enqueued %v", got, n)
		}
		for name, c := range s.places {
			c.t = t
			c.settle()
			n := 0
			if slices.Contains(want, name) {
				n = 1
			}
			if got := c.count(t.Name()); got != n {
				t.Errorf("%s got it %d times, want %d", name, got, n)
			} else if n == 1 {
				if diff := cmp.Diff([]any{"hello", 1.0}, c.event(t.Name())); diff != "" {
					t.Errorf("%s: want -, got +:\n%s", name, diff)
				}
			}
		}
	}
}

func answers(want string) func(*testing.T, *sheet, func() any) {
	return func(t *testing.T, s *sheet, do func() any) {
		t.Helper()
		s.wants(t, do(), want)
	}
}

// wants compares an answer with JSON in which $name$ is the id of who stands there.
func (s *sheet) wants(t *testing.T, got any, want string) {
	t.Helper()
	for name, id := range s.ids {
		want = strings.ReplaceAll(want, "$"+name+"$", id)
	}
	var v any
	if err := json.Unmarshal([]byte(want), &v); err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	if diff := cmp.Diff(v, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

var rows = []row{
	{"socket.emit", emits(`"rooms":["$sender$"]`, ""), reaches("sender")},
	{"io.to(socketId).emit", emits(`"rooms":["$none$"]`, ""), reaches("none")},
	{"socket.broadcast.emit", emits(`"all":true,"except_rooms":["$sender$"]`, ""), reaches("in1 in12 in2 in23 none")},
	{"socket.to(room1).emit", emits(`"rooms":["room1"],"except_rooms":["$sender$"]`, ""), reaches("in1 in12")},
	{"socket.to([room1,room2]).emit", emits(`"rooms":["room1","room2"],"except_rooms":["$sender$"]`, ""), reaches("in1 in12 in2 in23")},
	{"io.in(room1).emit", emits(`"rooms":["room1"]`, ""), reaches("sender in1 in12")},
	{"io.to([room1,room2]).except(room3).emit", emits(`"rooms":["room1","room2"],"except_rooms":["room3"]`, ""), reaches("sender in1 in12 in2")},
	{"io.of(myNamespace).emit", emits(`"namespace":"myNamespace","all":true`, ""), reaches("ns ns1")},
	{"io.of(myNamespace).to(room1).emit", emits(`"namespace":"myNamespace","rooms":["room1"]`, ""), reaches("ns1")},
	{"io.local.emit", emits(`"all":true,"local":true`, ""), func(t *testing.T, s *sheet, do func() any) {
		reaches(atCalls("sender in1 in12 in2 in23 none", func(name string) string { return s.ids[name] }))(t, s, do)
	}},
	{"io.emit", emits(`"all":true`, ""), reaches("sender in1 in12 in2 in23 none")},
	{"socket.compress(false).emit", emits(`"rooms":["$sender$"]`, `,"options":{"compress":false}`), reaches("sender")},
	{"socket.volatile.emit", emits(`"rooms":["$sender$"]`, `,"options":{"volatile":true}`), func(t *testing.T, s *sheet, do func() any) {
		sender := s.places["sender"]
		got, _ := do().(map[string]any)
		sender.settle()
		arrived := float64(sender.count(t.Name()))
		dropped, _ := got["dropped_volatile"].(float64)
		if got["matched"] != 1.0 || got["enqueued"] != arrived || arrived+dropped != 1 {
			t.Errorf("it arrived %v times, and the answer is %v", arrived, got)
		}
	}},

	{
		"socket.emit(question, ack)", request("EmitService/EmitWithAck", `"rooms":["$sender$"]`, `,"payload":{"event":"$event","values":["?"]}`),
		func(t *testing.T, s *sheet, do func() any) {
			s.places["sender"].answers(t.Name(), []any{"42", map[string]any{"sure": true}})
			s.wants(t, do(), `{"matched":1,"acked":1,"outcomes":{"$sender$":{"args":["42",{"sure":true}]}}}`)
			s.wants(t, anyOf(s.places["sender"].event(t.Name())), `["?"]`)
		},
	},
	{
		"socket.timeout(5000).emit", request("EmitService/EmitWithAck", `"rooms":["$sender$"]`, `,"payload":{"event":"$event"},"timeout":"0.3s"`),
		func(t *testing.T, s *sheet, do func() any) {
			s.places["sender"].answers(t.Name(), nil)
			began := time.Now()
			s.wants(t, do(), `{"matched":1,"acked":0,"outcomes":{"$sender$":{"failure":"TIMEOUT"}}}`)
			if took := time.Since(began); took < 300*time.Millisecond {
				t.Errorf("took %v", took)
			}
		},
	},
	{
		"io.timeout(1000).emit(hi, acks)", request("EmitService/EmitWithAck", `"rooms":["room1","room2"]`, `,"payload":{"event":"$event","values":[7]},"timeout":"4s"`),
		func(t *testing.T, s *sheet, do func() any) {
			s.places["in2"].answers(t.Name(), nil)
			s.wants(t, do(), `{"matched":5,"acked":4,"outcomes":{"$sender$":{"args":[7]},"$in1$":{"args":[7]},"$in12$":{"args":[7]},
				"$in2$":{"failure":"TIMEOUT"},"$in23$":{"args":[7]}}}`)
		},
	},
	{
		"the same by CollectAcks", request("EmitService/CollectAcks", `"rooms":["room1","room2"]`, `,"payload":{"event":"$event","values":[7]},"timeout":"4s"`),
		func(t *testing.T, s *sheet, do func() any) {
			s.places["in2"].answers(t.Name(), nil)
			s.wants(t, do(), `{"order":"sooooos","started":5,"matched":5,"acked":4,"outcomes":{"$sender$":{"args":[7]},"$in1$":{"args":[7]},
				"$in12$":{"args":[7]},"$in2$":{"failure":"TIMEOUT"},"$in23$":{"args":[7]}}}`)
		},
	},

	{"socket.join", request("RoomService/JoinRooms", `"rooms":["$sender$"]`, `,"rooms":["room9"]`), func(t *testing.T, s *sheet, do func() any) {
		s.wants(t, do(), `{"matched":1}`)
		s.in(t, "room9", "sender")
	}},
	{"socket.leave", request("RoomService/LeaveRooms", `"rooms":["$sender$"]`, `,"rooms":["room9"]`), func(t *testing.T, s *sheet, do func() any) {
		s.wants(t, do(), `{"matched":1}`)
		s.in(t, "room9", "")
	}},
	{
		"io.in(room1).socketsJoin([room4,room5])", request("RoomService/JoinRooms", `"rooms":["room1"]`, `,"rooms":["room4","room5"]`),
		func(t *testing.T, s *sheet, do func() any) {
			s.wants(t, do(), `{"matched":3}`)
			s.in(t, "room4", "sender in1 in12")
			s.in(t, "room5", "sender in1 in12")
		},
	},
	{
		"io.in(room4).socketsLeave(room4)", request("RoomService/LeaveRooms", `"rooms":["room4"]`, `,"rooms":["room4"]`),
		func(t *testing.T, s *sheet, do func() any) {
			s.wants(t, do(), `{"matched":3}`)
			s.in(t, "room4", "")
			s.in(t, "room5", "sender in1 in12")
		},
	},
	{"io.in(room2).fetchSockets", request("SocketService/ListSockets", `"rooms":["room2"]`, ``), answers(`{
		"in12":{"id":"$in12$","rooms":["room1","room2","room5"]},"in2":{"id":"$in2$","rooms":["room2"]},"in23":{"id":"$in23$","rooms":["room2","room3"]}}`)},
	{"socket.data", func(ids map[string]string, _ string) (string, string) {
		return "SocketService/UpdateSocket", `{"socket_id":"` + ids["sender"] + `","data":{"size":1,"shape":"round"},"user_id":"renamed"}`
	}, answers(`{"user":"renamed","data":{"size":1,"shape":"round"}}`)},
	{"io.serverSideEmit", func(_ map[string]string, event string) (string, string) {
		return "EmitService/ServerSideEmit", `{"payload":{"event":"` + event + `","values":[1]},"wants_replies":true}`
	}, func(t *testing.T, s *sheet, do func() any) {
		attach(t, s.f.api, &foyerv1.Register{Namespaces: []string{"/"}, Group: "other", HandlerId: "other", Events: []string{"of its own"}, ServerSideEvents: true},
			func(b *backend) { b.onServerSide = func(e *event) { e.reply("pong of other") } })
		got := do()
		if strings.Contains(t.Name(), "grpcurl") { // a caller that has no stream of its own reaches the backend as well
			s.wants(t, got, `{"matched":2,"replies":[{"handler":"itself","args":["pong",1]},{"handler":"other","args":["pong of other"]}]}`)
			return
		}
		s.wants(t, got, `{"matched":1,"replies":[{"handler":"other","args":["pong of other"]}]}`)
	}},
	{"a reserved event", emits(`"rooms":["$sender$"]`, ""), func(t *testing.T, s *sheet, _ func() any) {
		if !strings.Contains(t.Name(), "grpcurl") {
			got := s.places["sender"].ask("row", "a reserved event", "", s.ids)
			if code := got[0].(map[string]any)["code"]; code != "INVALID_ARGUMENT" {
				t.Errorf("got %v", got)
			}
			return
		}
		_, err := grpcurl(t, s.f.api, "EmitService/Emit", `{"target":{"all":true},"payload":{"event":"disconnect"}}`)
		if err == nil || !strings.Contains(err.Error(), "InvalidArgument") || !strings.Contains(err.Error(), "RESERVED_EVENT") {
			t.Errorf("got %v", err)
		}
	}},
	// Last, since one is gone then.
	{"io.in(room3).disconnectSockets", request("SocketService/DisconnectSockets", `"rooms":["room3"]`, ""), func(t *testing.T, s *sheet, do func() any) {
		s.wants(t, do(), `{"matched":1}`)
		gone := s.places["in23"]
		gone.t = t
		if got := gone.expect("disconnect"); got.Reason != "io server disconnect" || got.Active {
			t.Errorf("got %+v", got)
		}
		if got := s.b.about(t, "disconnected", gone.id); got.Detail != "server namespace disconnect" || cmp.Diff([]string{"room2", "room3"}, got.Rooms) != "" {
			t.Errorf("the backend was told %+v", got)
		}
		s.in(t, "room2", "in12 in2")
	}},
}

func anyOf(args []any) any { return args }

// in wants exactly these in a room.
func (s *sheet) in(t *testing.T, room, names string) {
	t.Helper()
	r, err := api(t, s.f.api).sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{Rooms: []string{room}}})
	if err != nil {
		t.Fatal(err)
	}
	got, want := map[string]bool{}, map[string]bool{}
	for _, socket := range r.GetSockets() {
		got[socket.GetId()] = true
	}
	for _, name := range strings.Fields(names) {
		want[s.ids[name]] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("in %s: want -, got +:\n%s", room, diff)
	}
}

// TestCheatSheetPolyglot goes through the cheat sheet as TestCheatSheet does: by a backend of each language, whose rows
// are asked for by a browser and use nothing but the API, and by grpcurl, as a person would.
func TestCheatSheetPolyglot(t *testing.T) {
	for _, language := range append(slices.Clone(languages), "grpcurl") {
		t.Run(language, func(t *testing.T) {
			s := &sheet{f: startFoyer(t), places: map[string]*place{}, ids: map[string]string{}}
			answering := language
			if language == "grpcurl" { // somebody has to decide connects and to answer
				answering = "node"
			}
			s.b = startForeign(t, answering, s.f.api, "itself")
			s.p = startPuppets(t)
			enter := func(name, namespace string, rooms ...string) {
				c := s.p.open(t, s.f.url(), namespace, quick.with(opts{"auth": map[string]any{"rooms": rooms, "user": name}}))
				s.places[name] = &place{c, c.connected()}
				s.ids[name] = s.places[name].id
			}
			enter("sender", "/", "room1")
			enter("in1", "/", "room1")
			enter("in12", "/", "room1", "room2")
			enter("in2", "/", "room2")
			enter("in23", "/", "room2", "room3")
			enter("none", "/")
			enter("ns", "/myNamespace")
			enter("ns1", "/myNamespace", "room1")
			for _, row := range rows {
				t.Run(row.name, func(t *testing.T) {
					for _, c := range s.places {
						c.t = t
					}
					row.check(t, s, func() any {
						t.Helper()
						if language == "grpcurl" {
							return s.byGrpcurl(t, row, t.Name())
						}
						return s.byBackend(t, row.name, t.Name())
					})
				})
			}
			if language != "grpcurl" {
				testClientRows(t, s)
			}
		})
	}
}

// byBackend has the sender ask the backend for a row.
func (s *sheet) byBackend(t *testing.T, name, event string) any {
	t.Helper()
	got := s.places["sender"].ask("row", name, event, s.ids)
	if len(got) != 1 {
		t.Fatalf("got %v", got)
	}
	answer, _ := got[0].(map[string]any)
	if answer["ok"] == nil {
		t.Fatalf("got %v: %v", answer["code"], answer["message"])
	}
	return answer["ok"]
}

func (s *sheet) byGrpcurl(t *testing.T, row row, event string) any {
	t.Helper()
	method, request := row.grpcurl(s.ids, event)
	out, err := grpcurl(t, s.f.api, method, request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, request, err)
	}
	var messages []map[string]any
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var m map[string]any
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		messages = append(messages, m)
	}
	if len(messages) == 0 {
		t.Fatal("grpcurl printed nothing")
	}
	return inBackendsForm[method](messages)
}

// inBackendsForm makes of what grpcurl prints what a backend answers.
var inBackendsForm = map[string]func([]map[string]any) any{
	"EmitService/Emit": func(m []map[string]any) any {
		m[0]["dropped_volatile"] = m[0]["droppedVolatile"]
		return m[0]
	},
	"EmitService/EmitWithAck": func(m []map[string]any) any {
		outcomes, _ := m[0]["outcomes"].([]any)
		return acksTold(outcomes, m[0]["summary"])
	},
	"EmitService/CollectAcks": func(m []map[string]any) any {
		order, outcomes := "", []any{}
		var started, summary any
		for _, m := range m {
			for k, v := range m {
				order += k[:1]
				switch k {
				case "started":
					started = v.(map[string]any)["matched"]
				case "outcome":
					outcomes = append(outcomes, v)
				case "summary":
					summary = v
				}
			}
		}
		told := acksTold(outcomes, summary)
		told["order"], told["started"] = order, started
		return told
	},
	"RoomService/JoinRooms":           matchedOnly,
	"RoomService/LeaveRooms":          matchedOnly,
	"SocketService/DisconnectSockets": matchedOnly,
	"SocketService/ListSockets": func(m []map[string]any) any {
		told := map[string]any{}
		sockets, _ := m[0]["sockets"].([]any)
		for _, s := range sockets {
			s := s.(map[string]any)
			told[s["userId"].(string)] = map[string]any{"id": s["id"], "rooms": s["rooms"]}
		}
		return told
	},
	"SocketService/UpdateSocket": func(m []map[string]any) any {
		socket, _ := m[0]["socket"].(map[string]any)
		return map[string]any{"user": socket["userId"], "data": socket["data"]}
	},
	"EmitService/ServerSideEmit": func(m []map[string]any) any {
		replies, _ := m[0]["replies"].([]any)
		for i, r := range replies {
			r := r.(map[string]any)
			replies[i] = map[string]any{"handler": r["handlerId"], "args": fromJSON(r["args"])}
		}
		slices.SortFunc(replies, func(a, b any) int {
			return strings.Compare(fmt.Sprint(a.(map[string]any)["handler"]), fmt.Sprint(b.(map[string]any)["handler"]))
		})
		return map[string]any{"matched": m[0]["matched"], "replies": anyOf(replies)}
	},
}

func matchedOnly(m []map[string]any) any { return map[string]any{"matched": m[0]["matched"]} }

func acksTold(outcomes []any, summary any) map[string]any {
	told := map[string]any{}
	for _, o := range outcomes {
		o := o.(map[string]any)
		if failure, failed := o["failure"].(string); failed {
			told[o["socketId"].(string)] = map[string]any{"failure": strings.TrimPrefix(failure, "ACK_FAILURE_")}
		} else {
			told[o["socketId"].(string)] = map[string]any{"args": fromJSON(o["args"])}
		}
	}
	sum, _ := summary.(map[string]any)
	return map[string]any{"outcomes": told, "matched": sum["matched"], "acked": sum["acked"]}
}

// fromJSON are the arguments in an Args.
func fromJSON(args any) any {
	m, _ := args.(map[string]any)
	text, _ := m["json"].(string)
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return fmt.Sprintf("%v: %v", err, args)
	}
	return v
}

// testClientRows are the rows of the client's side, and of the life of a socket.
func testClientRows(t *testing.T, s *sheet) {
	client := func(t *testing.T) *client {
		s.places["sender"].t = t
		return s.places["sender"].client
	}
	t.Run("client emit", func(t *testing.T) {
		client(t).emit("basic", 1, "2", map[string]any{"3": []any{4, nil}})
		got := s.b.event(t, "basic")
		s.wants(t, anyOf(got.Args), `[1,"2",{"3":[4,null]}]`)
		if got.WantsAck || got.ID != s.ids["sender"] || got.Namespace != "/" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("client emit with acknowledgement", func(t *testing.T) {
		s.wants(t, anyOf(client(t).ask("question", "x", 1)), `["x",1]`)
		if !s.b.event(t, "question").WantsAck {
			t.Error("the backend was not told that an acknowledgement is wanted")
		}
	})
	t.Run("client compress(false)", func(t *testing.T) {
		client(t).emitWith(map[string]any{"compress": false}, "uncompressed", 1)
		s.b.event(t, "uncompressed")
	})
	t.Run("client volatile", func(t *testing.T) {
		client(t).emitWith(map[string]any{"volatile": true}, "client volatile", 1)
		s.b.event(t, "client volatile")
	})
	t.Run("client timeout", func(t *testing.T) {
		if got := client(t).askWith(map[string]any{"timeout": 200}, "silent"); got.Err != "operation has timed out" {
			t.Errorf("got %+v", got)
		}
		if got := client(t).askWith(map[string]any{"timeout": 5000}, "in time", 1); got.Err != "" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("client retries", func(t *testing.T) {
		c, id := s.p.connect(t, s.f.url(), "/", quick.with(opts{"retries": 100, "ackTimeout": 300}))
		got := c.ask("flaky", id)
		if n, ok := got[len(got)-1].(float64); ok && n > 3 { // an answer was late
			got[len(got)-1] = 3.0
		}
		s.wants(t, anyOf(got), `[null,"at last",3]`) // with retries the stock client has an error first
		c.op("disconnect")
	})
	t.Run("handshake", func(t *testing.T) {
		c, _ := s.p.connect(t, s.f.url(), "/", opts{
			"auth": map[string]any{"user": "u", "n": []any{1, nil, "ü"}}, "query": map[string]any{"page": "a&b=ü"},
			"extraHeaders": map[string]any{"user-agent": "a browser", "cookie": "secret"},
		})
		got, _ := c.ask("handshake")[0].(map[string]any)
		query, _ := got["query"].(map[string]any)
		if query["page"] != "a&b=ü" || query["EIO"] != "4" || got["address"] != "127.0.0.1" || got["agent"] != "a browser" {
			t.Errorf("got %v", got)
		}
		s.wants(t, got["auth"], `{"user":"u","n":[1,null,"ü"]}`)
		c.op("disconnect")
	})
	t.Run("io.use", func(t *testing.T) {
		c := s.p.open(t, s.f.url(), "/", opts{"auth": map[string]any{"reject": "not authorized", "data": map[string]any{"content": "Please retry later", "n": []any{1}}}})
		got := c.expect("connect_error")
		s.wants(t, got.Data, `{"content":"Please retry later","n":[1]}`)
		if got.Message != "not authorized" || got.Active {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("io.use, to come back", func(t *testing.T) {
		c := s.p.open(t, s.f.url(), "/", quick.with(opts{"auth": map[string]any{"reject": "later", "retry": true}}))
		c.expectThat("reconnect_attempt", func(s sight) bool { return s.Attempt >= 1 })
		if c.saw("connect_error") {
			t.Error("it saw a connect_error")
		}
		c.op("disconnect")
	})
	t.Run("connection, disconnecting, disconnect", func(t *testing.T) {
		c, id := s.p.connect(t, s.f.url(), "/", opts{"auth": map[string]any{"rooms": []string{"b", "a"}}})
		if diff := cmp.Diff([]string{"a", "b"}, s.b.about(t, "connected", id).Rooms); diff != "" {
			t.Errorf("rooms: want -, got +:\n%s", diff)
		}
		c.op("disconnect")
		gone := s.b.about(t, "disconnected", id)
		if diff := cmp.Diff([]string{"a", "b"}, gone.Rooms); diff != "" || gone.Detail != "client namespace disconnect" ||
			gone.Reason != "DISCONNECT_REASON_CLIENT_NAMESPACE_DISCONNECT" {
			t.Errorf("got %+v; rooms: want -, got +:\n%s", gone, diff)
		}
	})
	t.Run("server-side event", func(t *testing.T) {
		r, err := api(t, s.f.api).emits.ServerSideEmit(t.Context(), &foyerv1.ServerSideEmitRequest{Payload: say("ping", 1), WantsReplies: true})
		if err != nil || r.GetMatched() != 1 || len(r.GetReplies()) != 1 || r.GetReplies()[0].GetHandlerId() != "itself" {
			t.Fatalf("got %v, %v", r, err)
		}
		var got any
		if err := json.Unmarshal([]byte(r.GetReplies()[0].GetArgs().GetJson()), &got); err != nil {
			t.Fatal(err)
		}
		s.wants(t, got, `["pong",1]`)
	})
}
