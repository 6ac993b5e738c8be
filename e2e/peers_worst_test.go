//go:build e2e

package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// classicByIoredis is Redis with the other library, which lets exceptions through that the first one swallows.
var classicByIoredis = &medium{name: "redis", options: `{"library":"ioredis"}`, serve: classic.serve, flags: classic.flags}

// worstPayloads are arguments at the edge of what the API takes, and beyond it.
func worstPayloads() (list []*foyerv1.Payload) {
	with := func(json string, attachments ...[]byte) {
		list = append(list, &foyerv1.Payload{Event: "worst", Args: &foyerv1.Payload_Json{Json: json}, Attachments: attachments})
	}
	for _, depth := range []int{98, 101, 500, 998, 1001} {
		with(strings.Repeat("[", depth) + strings.Repeat("]", depth))
		with("[" + strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth) + "]")
	}
	for _, value := range []string{
		`{"__proto__":{"a":1}}`, `{"constructor":{"prototype":1},"toJSON":1,"hasOwnProperty":null}`, `{"toJSON":{"call":1},"then":1}`, `{"":1,"a":{"":[]}}`,
		`{"a":1,"a":2}`, `-0`, `1e308`, `1e400`, `-1e-400`, `123456789012345678901234567890`, `9007199254740993`, `18446744073709551616`, `1.5e3`,
		`"\ud800"`, `"\udc00\ud800"`, `"\u0000\u0001\u2028"`, `{"\ud800":1}`, `{"type":"Buffer","data":[1,2]}`, `{"_placeholder":false,"num":0}`, `{"_placeholder":true}`,
		`{"_placeholder":true,"num":-1}`, `{"_placeholder":true,"num":7}`, `{"_placeholder":true,"num":"0"}`, `nul`, `[`, `]`, `"` + strings.Repeat("é", 100_000) + `"`,
		"[" + strings.Repeat("0,", 70_000) + "0]", `"` + strings.Repeat("x", 900_000) + `"`,
	} {
		with("[" + value + "]")
		with(`[{"in":`+value+`},{"_placeholder":true,"num":0}]`, []byte{1})
	}
	var ten [][]byte
	for range 10 {
		ten = append(ten, make([]byte, 70_000))
	}
	with(`[{"_placeholder":true,"num":0}]`, nil)
	with(`[{"_placeholder":true,"num":9},{"_placeholder":true,"num":0}]`, ten...)
	with(`[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]`, ten[0])
	with(`[]`, append(ten, nil)...)
	with(`[]`, []byte{1})
	with(``)
	with(`{}`)
	with(`null`)
	list = append(list, &foyerv1.Payload{Event: "worst"}, nil)
	for _, event := range []string{
		"", "connect", "disconnect", "disconnecting", "connect_error", "newListener", "removeListener", "connection", "new_namespace", "error", "__proto__", "constructor",
		"5", "\x00", "é", "message", "ping", strings.Repeat("e", 70_000),
	} {
		list = append(list, &foyerv1.Payload{Event: event, Args: &foyerv1.Payload_Json{Json: `[1]`}})
	}
	list = append(list, &foyerv1.Payload{Event: "worst", Args: &foyerv1.Payload_Values{Values: &structpb.ListValue{Values: []*structpb.Value{
		structpb.NewNumberValue(1e308), structpb.NewNullValue(), structpb.NewStringValue("\u0000"), {},
	}}}})
	return list
}

// worstNames are of rooms.
func worstNames() (list [][]string) {
	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprint("room", i))
	}
	for _, name := range []string{
		"", "#", "a#b#", "*", "[a]?", "\x00", "5", "__proto__", "constructor", "é\u2028", "aaaaaaaaaaaaaaaaaaaa", strings.Repeat("r", 255), strings.Repeat("r", 5000),
	} {
		list = append(list, []string{name})
	}
	return append(list, []string{"worst", "worst"}, many, []string{"worst", ""}, nil)
}

// TestPeersLive: nothing that a backend can ask of Foyer ends a server on Node, makes it deaf or costs it a client,
// whatever the library by which it reaches Redis: what would do so is refused, or said in another way.
func TestPeersLive(t *testing.T) {
	t.Run("redis", func(t *testing.T) { testServersLive(t, classic) })
	t.Run("ioredis", func(t *testing.T) { testServersLive(t, classicByIoredis) })
}

func testServersLive(t *testing.T, on *medium) {
	m := startMixed(t, on)
	near := m.apis[0]
	all, ids := m.clients("/", opts{})
	chat, _ := m.clients("/chat", opts{})
	m.peer.run(`io.socketsJoin("worst")`)
	eventually(t, func() error { // the nodes have it, too
		r, err := near.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: []string{"worst"}}, Payload: say("first")})
		if err == nil && r.GetMatched() != 2 {
			err = fmt.Errorf("the answer is %v", r)
		}
		return err
	})
	for _, c := range all {
		c.answers("worst", []any{"best"})
	}
	done, refused := 0, 0
	judge := func(err error) {
		t.Helper()
		switch status.Code(err) {
		case codes.OK:
			done++
		case codes.InvalidArgument, codes.ResourceExhausted, codes.FailedPrecondition, codes.NotFound:
			refused++
		default:
			t.Errorf("it ends with %v", err)
		}
	}
	lives := func(what string) {
		t.Helper()
		if got := m.peer.run(`io.sockets.sockets.size + io.of("/chat").sockets.size`); got != "2" {
			t.Fatalf("after %s the server on Node has %s clients, want 2", what, got)
		}
		for nsp, list := range map[string][]*client{"/": all, "/chat": chat} {
			if _, err := near.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Namespace: nsp, All: true}, Payload: say("after " + what)}); err != nil {
				t.Fatal(err)
			}
			for _, c := range list {
				c.event("after " + what)
			}
		}
	}
	targets := []*foyerv1.Target{{All: true}, {Rooms: []string{"worst"}}, {Rooms: []string{ids[0]}}, {Namespace: "chat", Rooms: []string{"a", "b"}}, {Namespace: "chat", All: true, ExceptRooms: []string{"#"}}}
	for i, p := range worstPayloads() {
		for _, to := range []*foyerv1.Target{{All: true}, targets[i%len(targets)]} {
			_, err := near.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: to, Payload: p, Options: &foyerv1.EmitOptions{Volatile: i%2 == 0}})
			judge(err)
		}
	}
	lives("payloads")
	for i, p := range worstPayloads() {
		_, err := near.emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{Target: targets[i%2], Payload: p, Timeout: durationpb.New(50 * time.Millisecond)})
		judge(err)
		_, err = near.emits.ServerSideEmit(t.Context(), &foyerv1.ServerSideEmitRequest{Payload: p, WantsReplies: i%3 == 0, Timeout: durationpb.New(50 * time.Millisecond)})
		judge(err)
	}
	lives("questions")
	for _, names := range worstNames() {
		_, err := near.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: names}, Payload: say("x")})
		judge(err)
		_, err = near.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{All: true, ExceptRooms: names}, Payload: say("x")})
		judge(err)
		for _, to := range []*foyerv1.Target{{All: true}, {Rooms: names}, {Namespace: "chat", All: true, ExceptRooms: names}} {
			_, err = near.rooms.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: to, Rooms: names})
			judge(err)
			_, err = near.rooms.LeaveRooms(t.Context(), &foyerv1.LeaveRoomsRequest{Target: to, Rooms: names})
			judge(err)
		}
		if len(names) > 0 && names[0] != ids[0] {
			_, err = near.sockets.DisconnectSockets(t.Context(), &foyerv1.DisconnectSocketsRequest{Target: &foyerv1.Target{Rooms: []string{names[0] + "nobody"}}})
			judge(err)
			_, err = near.sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{Rooms: names}})
			judge(err)
			_, err = near.sockets.GetSocket(t.Context(), &foyerv1.GetSocketRequest{SocketId: names[0]})
			judge(err)
		}
	}
	for _, nsp := range []string{"/[x]", "chat?a=1", "a,b", "#", "/\x00", strings.Repeat("n", 1000)} {
		_, err := near.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Namespace: nsp, All: true}, Payload: say("x")})
		judge(err)
	}
	lives("names")

	// What clients and backends of Foyer answer to a server on Node is data too.
	for i, args := range [][]any{{}, {nil}, {undefined{}}, {bin{1}, bin{2}}, {map[string]any{on.member("__proto__"): 1}}, {strings.Repeat("x", 100_000)}, {[]any{[]any{}}}} {
		all[1].answers("question", args)
		got := m.peer.run(`io.timeout(5000).emitWithAck("question", ` + fmt.Sprint(i) + `).then((all) => all.length)`)
		if got != "3" {
			t.Errorf("the server on Node gets %s answers, want 3", got)
		}
	}
	lives("answers")
	t.Logf("%d calls were done and %d refused", done, refused)
	if done < 100 || refused < 50 {
		t.Error("the calls are not at the edge any more")
	}
}

// TestPeersBadMessages: what ends official servers or makes them deaf, and what they forward to clients that disconnect
// by it, does Foyer no harm: it is dropped, counted and told, no client hears it or goes, and what comes after it is
// heard.
func TestPeersBadMessages(t *testing.T) {
	url0 := classic.serve(t)
	at, err := url.Parse(url0)
	if err != nil {
		t.Fatal(err)
	}
	server := redis.NewClient(&redis.Options{Addr: at.Host, DisableIdentity: true})
	t.Cleanup(func() { server.Close() })
	f := startFoyer(t, append([]string{"--node-id=AAAA"}, classic.flags(url0)...)...)
	attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}, ServerSideEvents: true}, nil)
	c, id := startPuppets(t).connect(t, f.url(), "/", opts{})
	const broadcasts, requests, responses = "socket.io#/#", "socket.io-request#/#", "socket.io-response#/#"
	packet := func(changes map[string]any) map[string]any {
		p := map[string]any{"type": 2, "data": []any{"bad", 1}, "nsp": "/"}
		for k, v := range changes {
			if p[k] = v; v == "none" {
				delete(p, k)
			}
		}
		return p
	}
	options := map[string]any{"rooms": []any{}, "except": []any{}, "flags": map[string]any{}}
	data := func(v any) map[string]any { return packet(map[string]any{"data": v}) }
	var many []any
	many = append(many, "bad")
	for range 11 {
		many = append(many, []byte{1})
	}
	deep := any("x")
	for range 500 {
		deep = []any{deep}
	}
	type said struct {
		channel string
		text    []byte
	}
	text := func(channel string, list ...string) (all []said) {
		for _, s := range list {
			all = append(all, said{channel, []byte(s)})
		}
		return all
	}
	packets := func(list ...map[string]any) (all []said) {
		for _, p := range list {
			all = append(all, said{broadcasts, message(p, options)})
		}
		return all
	}
	for _, row := range []struct {
		name string
		said []said
	}{
		{"bytes that do not decode", append(append(text(broadcasts, "", "x", "{", "\xc1", "\x93", "\xdd\xff\xff\xff\xff", "\xdb\xff\xff\xff\xff", "\xc6\xff\xff\xff\xffa", strings.Repeat("\x91", 200_000)),
			text(requests, "", "x", "{", "\xc1", "\x81", strings.Repeat("[", 200_000), strings.Repeat(`{"type":`, 100_000))...),
			text(responses, "", "x", `{"requestId":`, "\xc1foyer:foyer:AAAA:", strings.Repeat("[", 200_000)+"foyer:foyer:AAAA:")...)},
		{"broadcast without options or with rooms of the wrong kind", []said{
			{broadcasts, message(packet(nil), map[string]any{"rooms": 7})},
			{broadcasts, message(packet(nil), map[string]any{"rooms": map[string]any{"a": 1}})},
			{broadcasts, message(packet(nil), map[string]any{"rooms": []any{[]any{}}})},
			{broadcasts, message(packet(nil), map[string]any{"rooms": []any{}, "except": 7})},
			{broadcasts, []byte("\x92\xa1x\x80")},
			{broadcasts, []byte("\x91\xa1x")},
			{broadcasts, []byte("\x90")},
		}},
		{"request without what it needs", text(requests,
			`{"uid":"a","type":3,"opts":{"rooms":[],"except":[]}}`, `{"uid":"a","type":3,"opts":{"rooms":[],"except":[]},"rooms":7}`, `{"uid":"a","type":2,"opts":{"rooms":[],"except":[]},"rooms":"r"}`,
			`{"uid":"a","type":2,"opts":7,"rooms":["r"]}`, `{"uid":"a","type":4,"opts":{"rooms":7},"close":true}`, `{"uid":"a","type":4,"opts":[],"close":true}`,
			`{"uid":"a","requestId":"1","type":5}`, `{"uid":"a","requestId":"1","type":5,"opts":7}`, `{"uid":"a","requestId":"1","type":7}`, `{"uid":"a","requestId":"1","type":7,"packet":{"type":2,"data":["bad"]}}`,
			`{"uid":"a","requestId":"1","type":7,"opts":{"rooms":[],"except":[]}}`, `{"uid":"a","type":6,"data":"text"}`, `{"uid":"a","type":6,"data":{}}`, `{"uid":"a","type":6}`, `{"uid":"a","type":99}`,
			`{"uid":"a","type":"5"}`, `{"uid":7,"type":5,"requestId":[]}`, `[]`, `7`, `null`, `{}`)},
		{"data that is empty or no array or a reserved name", packets(data([]any{}), data("bad"), data(7), data(map[string]any{"0": "bad"}), packet(map[string]any{"data": "none"}), data(nil),
			data([]any{"connect"}), data([]any{"disconnect"}), data([]any{"connect_error"}), data([]any{""}), data([]any{nil}), data([]any{[]any{}}), data([]any{true}))},
		{"packets that are no events", packets(packet(map[string]any{"type": 0}), packet(map[string]any{"type": 1}), packet(map[string]any{"type": 3}), packet(map[string]any{"type": 4}), packet(map[string]any{"type": 6}),
			packet(map[string]any{"type": 99}), packet(map[string]any{"type": nil}), packet(map[string]any{"type": "none"}), packet(map[string]any{"type": -1}), packet(map[string]any{"type": 2.5}))},
		{"another namespace and too many attachments", packets(packet(map[string]any{"nsp": "/other"}), packet(map[string]any{"nsp": 7}), data(many))},
		{"answers that nobody has asked for", text(responses, `{"requestId":"foyer:foyer:AAAA:1","sockets":[{"id":7}]}`, `{"requestId":"foyer:foyer:AAAA:1","sockets":7}`, `{"type":8,"requestId":"foyer:foyer:AAAA:1","clientCount":-1}`,
			`{"type":8,"requestId":"foyer:foyer:AAAA:1","clientCount":1e99}`, `{"type":6,"requestId":"foyer:foyer:AAAA:1"}`, `{"type":99,"requestId":"foyer:foyer:AAAA:1"}`)},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, s := range row.said {
				publish(t, server, s.channel, s.text)
			}
			after := "after " + row.name
			publish(t, server, broadcasts, message(packet(map[string]any{"data": []any{after}}), options))
			c.event(after)
			if c.saw("disconnect") || c.count("bad") != 0 || c.count("connect") != 0 {
				t.Error("a client has heard of it")
			}
		})
	}
	t.Run("what is strange and does no harm", func(t *testing.T) {
		for _, s := range packets(packet(map[string]any{"type": "2", "data": []any{"as text"}}), packet(map[string]any{"id": 5, "data": []any{"with an id"}}), data([]any{"deep", deep})) {
			publish(t, server, s.channel, s.text)
		}
		for _, event := range []string{"as text", "with an id", "deep"} {
			c.event(event)
		}
	})
	info, err := api(t, f.api).node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	counted := fmt.Sprint(info)
	for _, reason := range []string{"garbled", "shape", "event_name", "packet_type", "unknown_type", "namespace", "attachments"} {
		if !strings.Contains(counted, "official_"+reason) {
			t.Errorf("nothing is counted as official_%s", reason)
		}
	}
	if _, _, err := f.log.await(0, patience, func(line string) bool { return strings.Contains(line, `"msg":"message dropped"`) }); err != nil {
		t.Errorf("the log says nothing: %v", err)
	}
	if got := c.ask("still there"); got == nil || id == "" {
		t.Error("the client is not there any more")
	}
}
