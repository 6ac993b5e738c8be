//go:build e2e

package e2e

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"foyer/service"
	"foyer/service/adapter/official"
)

// officialPeer is a Node process with the official adapters and emitters, on stand-ins for their buses
// (js/official.js).
type officialPeer struct {
	*process
	answers int
}

// officialAnswer is what came of a command.
type officialAnswer struct {
	Error     string
	Published []officialPublished
	Heard     []officialHeard
	Thrown    string

	// Of what a library decodes: as a client gets it.
	Hex, Text string
	Binary    []string
}

type officialPublished struct {
	Channel, Hex, Stream, Row, Document string
	Entry                               struct{ UID, NSP, Type, Data string }
}

type officialHeard struct {
	Event, Text string
	Binary      []string
	Volatile    bool
	Compress    *bool
	Join, Leave []string
	Disconnect  *bool
	Noted       string
}

const officialMaxBytes = 1 << 20

func startOfficial(t testing.TB) *officialPeer {
	t.Helper()
	return &officialPeer{process: start(t, "node", nil, "js/official.js")}
}

func (p *officialPeer) do(t testing.TB, command map[string]any) (a officialAnswer) {
	t.Helper()
	line, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		t.Fatalf("node is gone: %v\n%s", err, p.tail(30))
	}
	text, _, err := p.out.await(p.answers, patience, func(string) bool { return true })
	if err != nil {
		t.Fatalf("%v\n%s", err, p.tail(30))
	}
	p.answers++
	if err := json.Unmarshal([]byte(text), &a); err != nil || a.Error != "" {
		t.Fatalf("%v: %s%.300s", err, a.Error, text)
	}
	return a
}

func unhexed(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// meaning is what a client makes of an event: values, with binaries as their hexadecimal digits.
func meaning(t testing.TB, text string, binary []string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var resolve func(v any) any
	resolve = func(v any) any {
		switch v := v.(type) {
		case []any:
			for i := range v {
				v[i] = resolve(v[i])
			}
		case map[string]any:
			if n, ok := v["num"].(float64); ok && v["_placeholder"] == true && int(n) < len(binary) {
				return "binary " + binary[int(n)]
			}
			for k := range v {
				v[k] = resolve(v[k])
			}
		}
		return v
	}
	return resolve(v)
}

func hexes(list [][]byte) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = hex.EncodeToString(b)
	}
	return out
}

// read reads what an official adapter or emitter has published.
func (pub *officialPublished) read(t testing.TB, on, nsp string) *official.Message {
	t.Helper()
	var (
		m *official.Message
		f official.Fault
	)
	b := unhexed(t, pub.Hex)
	switch {
	case pub.Stream != "":
		if want := official.StreamName("socket.io", nsp, 1); pub.Stream != want {
			t.Errorf("stream %s, want %s", pub.Stream, want)
		}
		m, f = official.ReadEntry(official.Entry(pub.Entry), officialMaxBytes)
	case pub.Document != "":
		m, _, f = official.ReadDocument(unhexed(t, pub.Document), officialMaxBytes)
	case pub.Row != "":
		m, f = official.ReadCluster(nsp, unhexed(t, pub.Row), officialMaxBytes)
	case strings.HasPrefix(on, "postgres"):
		m, _, _, f = official.ReadNotification(nsp, b, officialMaxBytes)
	case on == "sharded" || on == "streams":
		m, f = official.ReadCluster(nsp, b, officialMaxBytes)
	case strings.HasPrefix(pub.Channel, "socket.io-request"):
		m, f = official.ReadClassicRequest(nsp, b, officialMaxBytes)
	case strings.HasPrefix(pub.Channel, "socket.io-response"):
		m, f = official.ReadClassicResponse(nsp, b, officialMaxBytes)
	default:
		m, f = official.ReadClassicBroadcast(nsp, b, officialMaxBytes)
	}
	if f != 0 {
		t.Fatalf("%s: %+v: %v", on, pub, f)
	}
	return m
}

// officialBytes is a message as it goes to an official adapter; to is who asked, if it is an answer.
func officialBytes(t testing.TB, on string, m *official.Message, to string) map[string]any {
	t.Helper()
	what := map[string]any{"do": "hear", "on": on}
	var (
		b   []byte
		err error
	)
	switch on {
	case "classic":
		b, err = official.AppendClassic(nil, m)
		what["channel"] = official.Classic{}.Channel(m, "")
	case "sharded":
		b, err = official.AppendSharded(nil, m)
		what["channel"] = official.Sharded{}.Channel(m, to)
	case "streams":
		if official.Streamed(m) {
			e, err := official.NewEntry(m)
			if err != nil {
				t.Fatal(err)
			}
			what["entry"] = map[string]any{"uid": e.UID, "nsp": e.NSP, "type": e.Type, "data": e.Data}
			return what
		}
		b, err = official.AppendStreams(nil, m)
		what["channel"] = official.Sharded{}.Channel(m, to)
	case "mongo":
		b, err = official.AppendDocument(nil, m, time.Time{}, officialID)
		what["document"] = hex.EncodeToString(b)
	case "postgres":
		var row []byte
		if b, row, err = official.NewNotification(m, 0); b == nil && err == nil {
			what["row"] = hex.EncodeToString(row)
			b = official.AppendAttached(nil, m, 3)
		}
	}
	if err != nil {
		t.Fatalf("%s: %v: %v", on, m.Kind, err)
	}
	what["hex"] = hex.EncodeToString(b)
	return what
}

var (
	officialAdapters = []string{"classic", "sharded", "streams", "postgres", "mongo"}
	officialID       = official.ObjectID{0xf0, 1, 2} // of documents
)

// begin makes the adapters that count heartbeats know of two other nodes; Redis is asked how many there are, and says
// three.
func (p *officialPeer) begin(t testing.TB, on string) {
	t.Helper()
	if on != "postgres" && on != "mongo" {
		return
	}
	p.do(t, map[string]any{"do": "call", "on": on, "js": ""})
	for _, uid := range []string{"nodenodenodenod1", "nodenodenodenod2"} {
		m := &official.Message{Kind: official.Hello, UID: uid, Namespace: "/"}
		a := p.do(t, officialBytes(t, on, m, ""))
		if len(a.Published) != 1 || a.Published[0].read(t, on, "/").Kind != official.Heartbeat {
			t.Fatalf("a hello was answered by %+v %s", a.Published, a.Thrown)
		}
	}
}

// TestOfficialCalls: whatever an official server or emitter says is understood, and of a server's messages the same
// bytes are written.
func TestOfficialCalls(t *testing.T) {
	p := startOfficial(t)
	event := func(text string) official.Message {
		return official.Message{Kind: official.Broadcast, Namespace: "/", Payload: []byte(text), Event: "hi"}
	}
	with := func(m official.Message, change func(*official.Message)) official.Message {
		change(&m)
		return m
	}
	const hold = `{"_placeholder":true,"num":0}`
	emits := []struct {
		js   string
		want official.Message
	}{
		{`x.emit("hi", 1, "é")`, event(`["hi",1,"é"]`)},
		{`x.to("r").emit("hi")`, with(event(`["hi"]`), func(m *official.Message) { m.Rooms = []string{"r"} })},
		{`x.to(["r", "s"]).except("q").volatile.compress(false).emit("hi", Buffer.from([1]))`, with(event(`["hi",`+hold+`]`), func(m *official.Message) {
			m.Rooms, m.Except, m.Attachments, m.Flags = []string{"r", "s"}, []string{"q"}, [][]byte{{1}}, service.Volatile|service.NoCompress
		})},
		{`x.of("/chat").emit("hi", null)`, with(event(`["hi",null]`), func(m *official.Message) { m.Namespace = "/chat" })},
		{`x.to(5).emit("hi", new Date(5))`, with(event(`["hi","1970-01-01T00:00:00.005Z"]`), func(m *official.Message) { m.Rooms = []string{"5"} })},
		{`x.in("a").socketsJoin(["b", "c"])`, official.Message{Kind: official.Join, Namespace: "/", Rooms: []string{"a"}, Change: []string{"b", "c"}}},
		{`x.in("a").except("e").socketsLeave("b")`, official.Message{Kind: official.Leave, Namespace: "/", Rooms: []string{"a"}, Except: []string{"e"}, Change: []string{"b"}}},
		{`x.in("a").disconnectSockets(true)`, official.Message{Kind: official.Disconnect, Namespace: "/", Rooms: []string{"a"}, Close: true}},
		{`x.disconnectSockets()`, official.Message{Kind: official.Disconnect, Namespace: "/"}},
		{`x.serverSideEmit("hi", 1)`, with(event(`["hi",1]`), func(m *official.Message) { m.Kind = official.ServerSideEmit })},
		{`x.emit("hi", "` + strings.Repeat("x", 9000) + `")`, event(`["hi","` + strings.Repeat("x", 9000) + `"]`)},
	}
	asks := []struct {
		js   string
		want official.Message
	}{
		{`x.timeout(300).emit("hi", 7, () => {})`, with(event(`["hi",7]`), func(m *official.Message) { m.Timeout = 300 * time.Millisecond })},
		{`x.in("a").fetchSockets().catch(() => {})`, official.Message{Kind: official.FetchSockets, Namespace: "/", Rooms: []string{"a"}}},
		{`x.serverSideEmit("hi", 1, () => {})`, with(event(`["hi",1]`), func(m *official.Message) { m.Kind = official.ServerSideEmit })},
		{`x.of("/").adapter.allRooms().catch(() => {})`, official.Message{Kind: official.FetchRooms, Namespace: "/"}},
	}
	check := func(t *testing.T, on, js string, want official.Message, asked bool) {
		t.Helper()
		a := p.do(t, map[string]any{"do": "call", "on": on, "js": js})
		if len(a.Published) == 0 {
			t.Fatalf("%s: %.80s: nothing was published", on, js)
		}
		pub := &a.Published[0]
		m := pub.read(t, on, want.Namespace)
		emitter := strings.HasSuffix(on, "emitter")
		if m.UID != "" && (m.UID == official.Emitter) != emitter || asked != (m.Request != "") {
			t.Errorf("%s: %.80s: uid %q, request %q", on, js, m.UID, m.Request)
		}
		want.UID, want.Request = m.UID, m.Request
		if diff := cmp.Diff(m, &want, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s: %.80s\n%s", on, js, diff)
		}
		channel := official.Classic{}.Channel(m, "")
		if on == "sharded" || on == "streams" {
			channel = official.Sharded{}.Channel(m, "")
		}
		if strings.HasPrefix(on, "postgres") {
			channel, _ = official.PostgresChannel("", m.Namespace)
		}
		if said := a.Published[len(a.Published)-1]; pub.Stream == "" && on != "mongo" && said.Channel != channel {
			t.Errorf("%s: %.80s: channel %s, want %s", on, js, said.Channel, channel)
		}
		if emitter || strings.Contains(js, "Date") || strings.Contains(js, "to(5)") {
			return
		}
		ours := officialBytes(t, on, m, "")
		if document, ok := ours["document"].(string); ok {
			const id = 2 * 12 // digits, and two of the byte that ends the document
			if a, b := document[:len(document)-id-2], pub.Document[:len(pub.Document)-id-2]; a != b {
				t.Errorf("%s: %.80s: %s, want %s", on, js, a, b)
			}
			return
		}
		if entry, ok := ours["entry"]; ok {
			got := map[string]any{"uid": pub.Entry.UID, "nsp": pub.Entry.NSP, "type": pub.Entry.Type, "data": pub.Entry.Data}
			if diff := cmp.Diff(entry, any(got)); diff != "" {
				t.Errorf("%s: %.80s\n%s", on, js, diff)
			}
			return
		}
		if row, ok := ours["row"]; ok && row != pub.Row {
			t.Errorf("%s: %.80s: row %s, want %s", on, js, row, pub.Row)
		}
		if said := a.Published[len(a.Published)-1]; ours["hex"] != said.Hex {
			t.Errorf("%s: %.80s: %s, want %s", on, js, ours["hex"], said.Hex)
		}
	}
	for _, on := range append(officialAdapters, "emitter", "old emitter", "postgres emitter") {
		t.Run(on, func(t *testing.T) {
			p.begin(t, on)
			for _, tc := range emits {
				if on == "old emitter" && (tc.want.Kind != official.Broadcast || strings.Contains(tc.js, "except")) {
					continue // what it cannot say
				}
				check(t, on, tc.js, tc.want, false)
			}
			if strings.HasSuffix(on, "emitter") {
				return
			}
			for _, tc := range asks {
				if tc.want.Kind == official.FetchRooms && on != "classic" {
					continue
				}
				check(t, on, tc.js, tc.want, true)
			}
		})
	}
}

// TestOfficialHears: the official adapters do what a message says, and what they answer is understood.
func TestOfficialHears(t *testing.T) {
	p := startOfficial(t)
	const (
		hold   = `{"_placeholder":true,"num":0}`
		socket = "socketsocketsocket01"
	)
	compressed, closes := false, true
	for _, on := range officialAdapters {
		t.Run(on, func(t *testing.T) {
			p.begin(t, on)
			said := 0
			hear := func(m official.Message, to string) officialAnswer {
				t.Helper()
				said++ // the two other nodes take turns
				m.UID, m.Namespace = fmt.Sprint("nodenodenodenod", 1+said%2), "/"
				a := p.do(t, officialBytes(t, on, &m, to))
				if a.Thrown != "" {
					t.Fatalf("%s threw %s", on, a.Thrown)
				}
				return a
			}
			broadcast := official.Message{Kind: official.Broadcast, Rooms: []string{"roomA"}, Payload: []byte(`["hi",1,` + hold + `]`), Attachments: [][]byte{{1, 2}}, Flags: service.Volatile | service.NoCompress}
			a := hear(broadcast, "")
			want := []officialHeard{{Text: `["hi",1,` + hold + `]`, Binary: []string{"0102"}, Volatile: true, Compress: &compressed}}
			if diff := cmp.Diff(a.Heard, want); diff != "" {
				t.Error(diff)
			}
			broadcast.Payload, broadcast.Attachments, broadcast.Flags = []byte(`["hi","é"]`), nil, 0
			if a := hear(broadcast, ""); len(a.Heard) != 1 || a.Heard[0].Text != `["hi","é"]` || a.Heard[0].Volatile {
				t.Errorf("%+v", a.Heard)
			}
			broadcast.Except = []string{socket}
			if a := hear(broadcast, ""); len(a.Heard) != 0 {
				t.Errorf("%+v", a.Heard)
			}
			broadcast.Except, broadcast.Request, broadcast.Timeout = nil, "request1", time.Second
			a = hear(broadcast, "")
			kinds := map[official.Kind]*official.Message{}
			for _, pub := range a.Published {
				m := pub.read(t, on, "/")
				kinds[m.Kind] = m
			}
			if count, ack := kinds[official.ClientCount], kinds[official.Ack]; len(a.Heard) != 1 || count == nil || ack == nil || count.Count != 1 || count.Request != "request1" || string(ack.Payload) != `"yes"` {
				t.Errorf("%+v", a)
			}
			for _, tc := range []struct {
				m    official.Message
				want officialHeard
			}{
				{official.Message{Kind: official.Join, Change: []string{"a", "b"}}, officialHeard{Join: []string{"a", "b"}}},
				{official.Message{Kind: official.Leave, Rooms: []string{"roomA"}, Change: []string{"a"}}, officialHeard{Leave: []string{"a"}}},
				{official.Message{Kind: official.Disconnect, Close: true}, officialHeard{Disconnect: &closes}},
				{official.Message{Kind: official.ServerSideEmit, Payload: []byte(`["sse",{"a":1}]`)}, officialHeard{Event: "sse", Text: `["sse",{"a":1}]`}},
			} {
				if diff := cmp.Diff(hear(tc.m, "").Heard, []officialHeard{tc.want}, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%v\n%s", tc.m.Kind, diff)
				}
			}
			a = hear(official.Message{Kind: official.FetchSockets, Request: "request2"}, "")
			if len(a.Published) == 0 {
				t.Fatal("no answer to a fetch")
			}
			m := a.Published[0].read(t, on, "/")
			wantSocket := official.Socket{
				ID: socket, Rooms: []string{socket, "roomA"}, Data: []byte(`{"n":1,"b":{"type":"Buffer","data":[7]}}`),
				Handshake: []byte(`{"headers":{"host":"h"},"time":"t","address":"a","xdomain":false,"secure":false,"issued":5,"url":"/x","query":{"EIO":"4"},"auth":{}}`),
			}
			if diff := cmp.Diff(m.Sockets, []official.Socket{wantSocket}); diff != "" || m.Kind != official.Sockets || m.Request != "request2" {
				t.Errorf("%+v %s", m, diff)
			}
			a = hear(official.Message{Kind: official.ServerSideEmit, Request: "request3", Payload: []byte(`["ask",1]`)}, "")
			if len(a.Published) == 0 {
				t.Fatal("no reply")
			}
			m = a.Published[0].read(t, on, "/")
			reply := meaning(t, string(m.Payload), hexes(m.Attachments))
			binary := any("binary 01")
			if on == "classic" {
				binary = map[string]any{"type": "Buffer", "data": []any{1.0}}
			}
			if diff := cmp.Diff(reply, any(map[string]any{"got": 1.0, "b": binary})); diff != "" || m.Kind != official.Reply {
				t.Errorf("%v %s", m.Kind, diff)
			}

			// Answers to what the server asks of two others.
			ask := func(js string) *official.Message {
				t.Helper()
				a := p.do(t, map[string]any{"do": "call", "on": on, "js": js})
				if len(a.Published) == 0 {
					t.Fatalf("%s: nothing was published", js)
				}
				return a.Published[len(a.Published)-1].read(t, on, "/")
			}
			q := ask(`x.timeout(60000).emit("q", (e, list) => note(e, list))`)
			answer := func(kind official.Kind, change func(m *official.Message)) officialAnswer {
				t.Helper()
				m := official.Message{Kind: kind, Request: q.Request}
				if change != nil {
					change(&m)
				}
				return hear(m, q.UID)
			}
			noted := func(a officialAnswer, want string) {
				t.Helper()
				if len(a.Heard) != 1 || a.Heard[0].Noted != want {
					t.Errorf("heard %+v, want %s", a.Heard, want)
				}
			}
			answer(official.ClientCount, func(m *official.Message) { m.Count = 2 })
			answer(official.ClientCount, nil)
			answer(official.Ack, func(m *official.Message) { m.Payload = []byte(`{"a":[1,"é"]}`) })
			a = answer(official.Ack, nil)
			noted(a, `[null,["yes",{"a":[1,"é"]},null]]`)
			q = ask(`x.fetchSockets().then((list) => note(list.map((s) => [s.id, s.handshake, [...s.rooms], s.data])))`)
			answer(official.Sockets, nil)
			a = answer(official.Sockets, func(m *official.Message) {
				m.Sockets = []official.Socket{{ID: "foyerfoyerfoyerfoyer", Handshake: []byte(`{"url":"/y"}`), Rooms: []string{"r"}, Data: []byte(`{"k":2}`)}, {ID: "other"}}
			})
			own := `["` + socket + `",` + string(wantSocket.Handshake) + `,["` + socket + `","roomA"],` + string(wantSocket.Data) + `]`
			noted(a, `[[`+own+`,["foyerfoyerfoyerfoyer",{"url":"/y"},["r"],{"k":2}],["other",{},[],{}]]]`)
			q = ask(`x.serverSideEmit("hi", 1, (e, list) => note(e, list))`)
			answer(official.Reply, func(m *official.Message) { m.Payload = []byte(`"r"`) })
			noted(answer(official.Reply, nil), `[null,["r",null]]`)
		})
	}
}

// TestOfficialServerDies: what the official servers do not survive, and Foyer therefore does not write (the rest stands
// in the reference of the adapters).
func TestOfficialServerDies(t *testing.T) {
	p := startOfficial(t)
	p.do(t, map[string]any{"do": "call", "on": "classic", "js": `x.of("/").on("connection", (socket) => socket.on("message", () => {}))`})
	for _, event := range []string{"error", "connection"} {
		m := &official.Message{Kind: official.ServerSideEmit, UID: "u", Namespace: "/", Payload: []byte(`["` + event + `","x"]`)}
		if b, err := official.AppendClassic(nil, m); !errors.Is(err, official.EventName) {
			t.Errorf("%s was written: %s, %v", event, b, err)
		}
		text := `{"uid":"u","type":6,"data":` + string(m.Payload) + `}`
		a := p.do(t, map[string]any{"do": "hear", "on": "classic", "channel": "socket.io-request#/#", "hex": hex.EncodeToString([]byte(text))})
		if a.Thrown == "" {
			t.Errorf("a server survives a server-side emit of %q: it need not be refused any more", event)
		}
	}
}
