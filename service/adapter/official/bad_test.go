package official

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"foyer/service/payload"
	"foyer/service/payload/msgpack"
)

// packedJSON is JSON as msgpack, with attachments in the place of placeholders.
func packedJSON(t testing.TB, text string, attachments ...[]byte) []byte {
	t.Helper()
	b, err := msgpack.Append(nil, []byte(text), attachments, 0)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return b
}

func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

const wellFormedOpts = `{"rooms":[],"except":[],"flags":{}}`

// classicOf is a classic broadcast of JSON parts.
func classicOf(packet, opts string) string { return `["u",` + packet + `,` + opts + `]` }

// clusterOf is a cluster message of a type with data.
func clusterOf(typ int, data string) string {
	return fmt.Sprintf(`{"type":%d,"data":%s,"uid":"u","nsp":"/"}`, typ, data)
}

func broadcastOf(data string) string {
	return clusterOf(3, `{"packet":{"type":2,"data":`+data+`},"opts":`+wellFormedOpts+`}`)
}

// TestBadInput: what an official server would pass on, die of or go deaf by is dropped with its reason.
func TestBadInput(t *testing.T) {
	deep := bytes.Repeat([]byte{0x91}, 200_000)
	deep = append(deep, 0x90)
	hold := func(n int) string {
		s := `["e"`
		for i := range n {
			s += fmt.Sprintf(`,{"_placeholder":true,"num":%d}`, i)
		}
		return s + "]"
	}
	some := slices.Repeat([][]byte{{1}}, 10)
	eleven := func() []byte { // the encoder refuses to write so many
		b := packedJSON(t, broadcastOf(hold(10)), some...)
		at := bytes.Index(b, []byte{0x9b})
		return slices.Concat(b[:at], []byte{0x9c}, b[at+1:at+3], []byte{0xc4, 1, 1}, b[at+3:])
	}()
	for _, tc := range []struct {
		name string
		on   wired
		b    []byte
		want Fault
	}{
		// Bytes.
		{"nothing", classicBroadcasts, nil, Garbled},
		{"nothing as request", classicRequestsOn, nil, Garbled},
		{"nothing as response", classicResponses, nil, Garbled},
		{"nothing as cluster message", sharded, nil, Garbled},
		{"nothing as notification", notifications, nil, Garbled},
		{"junk", classicBroadcasts, []byte{0xc1}, Garbled},
		{"JSON on the channel of broadcasts", classicBroadcasts, []byte(`{"a":1}`), Garbled},
		{"text", sharded, []byte("hello"), Garbled},
		{"cut", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, wellFormedOpts))[:20], Garbled},
		{"cut JSON", sharded, []byte(broadcastOf(`["e"]`))[:30], Garbled},
		{"trailing", classicBroadcasts, append(packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, wellFormedOpts)), 0), Garbled},
		{"trailing JSON", sharded, []byte(broadcastOf(`["e"]`) + "{}"), Garbled},
		{"200,000 levels", classicBroadcasts, deep, Shape},
		{"200,000 levels of JSON", sharded, []byte(broadcastOf(nested(200_000))), TooDeep},
		{"200,000 levels as data", classicBroadcasts, slices.Concat([]byte{0x93, 0xa1, 'u', 0x82, 0xa4}, []byte("type"), []byte{2, 0xa4}, []byte("data"), deep,
			packedJSON(t, wellFormedOpts)), TooDeep},
		{"array of 4 GiB", classicBroadcasts, []byte{0xdd, 0xff, 0xff, 0xff, 0xff, 0}, Garbled},
		{"map of 4 GiB", classicRequestsOn, []byte{0xdf, 0xff, 0xff, 0xff, 0xff, 0}, Garbled},
		{"text of 4 GiB", sharded, []byte{0x81, 0xdb, 0xff, 0xff, 0xff, 0xff, 'a'}, Garbled},
		{"binary of 4 GiB", sharded, []byte{0x81, 0xa1, 'a', 0xc6, 0xff, 0xff, 0xff, 0xff}, Garbled},
		{"extension of 4 GiB", sharded, []byte{0x81, 0xa1, 'a', 0xc9, 0xff, 0xff, 0xff, 0xff, 0}, Garbled},
		{"larger than allowed", sharded, []byte(broadcastOf(`["` + strings.Repeat("x", maxTest) + `"]`)), TooLarge},
		{"larger than allowed, classic", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["`+strings.Repeat("x", maxTest)+`"]}`, wellFormedOpts)), TooLarge},
		{"control characters that grow", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["`+strings.Repeat(`\u0001`, maxTest/5)+`"]}`, wellFormedOpts)), TooLarge},
		{"8 MB of binary", sharded, packedJSON(t, broadcastOf(hold(1)), make([]byte, 8<<20)), TooLarge},
		{"11 attachments", sharded, eleven, TooManyParts},
		{"entry without base64", streamEntries, []byte("u / 3 %%%"), Garbled},
		{"entry of other msgpack", streamEntries, []byte("u / 3 " + base64.StdEncoding.EncodeToString([]byte{7})), Shape},
		{"entry with junk behind", streamEntries, []byte("u / 3 " + base64.StdEncoding.EncodeToString([]byte{0x80, 0})), Garbled},
		{"entry of no type", streamEntries, []byte("u / x {}"), Shape},
		{"entry of no namespace", streamEntries, []byte("u  3 {}"), Namespace},
		{"entry without data", streamEntries, []byte("u / 3 "), Shape},

		// Wrong kinds.
		{"a number", classicBroadcasts, []byte{1}, Shape},
		{"a number as request", classicRequestsOn, []byte{1}, Shape},
		{"nil as response", classicResponses, []byte{0xc0}, Shape},
		{"a list as cluster message", sharded, []byte{0x90}, Shape},
		{"an empty list", classicBroadcasts, []byte{0x90}, Shape},
		{"no options", classicBroadcasts, packedJSON(t, `["u",{"type":2,"data":["e"]}]`), Shape},
		{"options null", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, `null`)), Shape},
		{"options a list", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, `[]`)), Shape},
		{"packet null", classicBroadcasts, packedJSON(t, classicOf(`null`, wellFormedOpts)), Shape},
		{"packet a text", classicBroadcasts, packedJSON(t, classicOf(`"x"`, wellFormedOpts)), Shape},
		{"uid a number", classicBroadcasts, packedJSON(t, `[1,{"type":2,"data":["e"]},`+wellFormedOpts+`]`), Shape},
		{"uid too long", classicBroadcasts, packedJSON(t, `["`+strings.Repeat("u", 129)+`",{"type":2,"data":["e"]},`+wellFormedOpts+`]`), Shape},
		{"rooms a number", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, `{"rooms":1}`)), Shape},
		{"rooms a text", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, `{"rooms":"abc"}`)), Shape},
		{"rooms an object", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, `{"rooms":{}}`)), Shape},
		{"a room null", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, `{"rooms":[null]}`)), Shape},
		{"except a number", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, `{"except":1}`)), Shape},
		{"too many rooms", sharded, []byte(clusterOf(3, `{"packet":{"type":2,"data":["e"]},"opts":{"rooms":[1`+strings.Repeat(",1", maxNames)+`]}}`)), TooLarge},
		{"type a text", classicRequestsOn, []byte(`{"type":"2"}`), Shape},
		{"no type", sharded, []byte(`{"uid":"u","nsp":"/"}`), Shape},
		{"no data", sharded, []byte(`{"type":3,"uid":"u","nsp":"/"}`), Shape},
		{"data a text", sharded, []byte(clusterOf(3, `"x"`)), Shape},
		{"fetch without request id", sharded, []byte(clusterOf(7, `{"opts":`+wellFormedOpts+`}`)), Shape},
		{"request id null", sharded, []byte(clusterOf(7, `{"opts":`+wellFormedOpts+`,"requestId":null}`)), Shape},
		{"request id too long", sharded, []byte(clusterOf(11, `{"requestId":"`+strings.Repeat("r", 129)+`","clientCount":1}`)), Shape},
		{"a request of an emitter", sharded, []byte(`{"type":7,"data":{"opts":{},"requestId":"r"},"uid":"emitter","nsp":"/"}`), Shape},
		{"a heartbeat of nobody", sharded, []byte(`{"type":2,"nsp":"/"}`), Shape},
		{"a heartbeat of an emitter", sharded, []byte(`{"type":2,"uid":"emitter","nsp":"/"}`), Shape},
		{"count a text", sharded, []byte(clusterOf(11, `{"requestId":"r","clientCount":"1"}`)), Shape},
		{"count negative", sharded, []byte(clusterOf(11, `{"requestId":"r","clientCount":-1}`)), Shape},
		{"count broken", sharded, []byte(clusterOf(11, `{"requestId":"r","clientCount":1.5}`)), Shape},
		{"count huge", sharded, []byte(clusterOf(11, `{"requestId":"r","clientCount":1e300}`)), Shape},
		{"sockets an object", sharded, []byte(clusterOf(8, `{"requestId":"r","sockets":{}}`)), Shape},
		{"a socket null", sharded, []byte(clusterOf(8, `{"requestId":"r","sockets":[null]}`)), Shape},
		{"a socket without id", sharded, []byte(clusterOf(8, `{"requestId":"r","sockets":[{}]}`)), Shape},
		{"a socket's rooms a number", sharded, []byte(clusterOf(8, `{"requestId":"r","sockets":[{"id":"s","rooms":1}]}`)), Shape},
		{"a namespace that is none", sharded, []byte(`{"type":2,"uid":"u","nsp":"admin"}`), Namespace},
		{"another namespace", sharded, []byte(`{"type":2,"uid":"u","nsp":"/admin"}`), Namespace},
		{"another namespace, classic", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"],"nsp":"/admin"}`, wellFormedOpts)), Namespace},
		{"namespace a number", sharded, []byte(`{"type":2,"uid":"u","nsp":1}`), Namespace},
		{"an attachment without number", notifications, []byte(`{"uid":"u","type":3,"attachmentId":"x"}`), Shape},
		{"an attachment negative", notifications, []byte(`{"uid":"u","type":3,"attachmentId":"-1"}`), Shape},
		{"an attachment that is an object", notifications, []byte(`{"uid":"u","type":3,"attachmentId":{}}`), Shape},

		// Types.
		{"type 99", sharded, []byte(clusterOf(99, `{}`)), Unknown},
		{"type 0", sharded, []byte(clusterOf(0, `{}`)), Unknown},
		{"type 10 as classic request", classicRequestsOn, []byte(`{"type":10}`), Unknown},
		{"type 8 as classic request", classicRequestsOn, []byte(`{"type":8}`), Unknown},
		{"type 99 as classic response", classicResponses, []byte(`{"type":99,"requestId":"r"}`), Unknown},
		{"a session", sharded, []byte(clusterOf(13, `{"sid":"a"}`)), Unknown},

		// Packets (section 11).
		{"packet of type 0", classicBroadcasts, packedJSON(t, classicOf(`{"type":0,"data":["e"]}`, wellFormedOpts)), PacketType},
		{"packet of type 1", classicBroadcasts, packedJSON(t, classicOf(`{"type":1}`, wellFormedOpts)), PacketType},
		{"packet of type 3", sharded, []byte(clusterOf(3, `{"packet":{"type":3,"data":["e"]},"opts":{}}`)), PacketType},
		{"packet of type 4", sharded, []byte(clusterOf(3, `{"packet":{"type":4,"data":{"message":"x"}},"opts":{}}`)), PacketType},
		{"packet of type 6", sharded, []byte(clusterOf(3, `{"packet":{"type":6,"data":["e"]},"opts":{}}`)), PacketType},
		{"packet without type", sharded, []byte(clusterOf(3, `{"packet":{"data":["e"]},"opts":{}}`)), PacketType},
		{"packet of type text 1", sharded, []byte(clusterOf(3, `{"packet":{"type":"1","data":["e"]},"opts":{}}`)), PacketType},
		{"no packet", sharded, []byte(clusterOf(3, `{"opts":{}}`)), Shape},
		{"broadcast without options", sharded, []byte(clusterOf(3, `{"packet":{"type":2,"data":["e"]}}`)), Shape},
		{"no event", sharded, []byte(broadcastOf(`[]`)), EventName},
		{"data an object", sharded, []byte(broadcastOf(`{"0":"e"}`)), EventName},
		{"data missing", sharded, []byte(clusterOf(3, `{"packet":{"type":2},"opts":{}}`)), EventName},
		{"event null", sharded, []byte(broadcastOf(`[null]`)), EventName},
		{"event an object", sharded, []byte(broadcastOf(`[{"a":1}]`)), EventName},
		{"event empty", sharded, []byte(broadcastOf(`[""]`)), EventName},
		{"event disconnect", sharded, []byte(broadcastOf(`["disconnect"]`)), EventName},
		{"event connect, escaped", sharded, []byte(broadcastOf(`["\u0063onnect"]`)), EventName},
		{"event connect_error, classic", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["connect_error"]}`, wellFormedOpts)), EventName},

		// Requests without what they need (section 11).
		{"3 without rooms", classicRequestsOn, []byte(`{"uid":"u","type":3,"opts":{"rooms":[],"except":[]}}`), Shape},
		{"3 of a number", classicRequestsOn, []byte(`{"uid":"u","type":3,"opts":{"rooms":[],"except":[]},"rooms":1}`), Shape},
		{"2 of room null", classicRequestsOn, []byte(`{"uid":"u","type":2,"opts":{"rooms":[],"except":[]},"rooms":[null]}`), Shape},
		{"2 of no room", classicRequestsOn, []byte(`{"uid":"u","type":2,"opts":{"rooms":[],"except":[]},"rooms":[""]}`), Shape},
		{"2 with options a text", classicRequestsOn, []byte(`{"uid":"u","type":2,"opts":"x","rooms":["a"]}`), Shape},
		{"2 with nothing", classicRequestsOn, []byte(`{"uid":"u","type":2}`), Shape},
		{"4 without options", classicRequestsOn, []byte(`{"uid":"u","type":4,"close":true}`), Shape},
		{"5 without options", classicRequestsOn, []byte(`{"uid":"u","requestId":"r","type":5}`), Shape},
		{"5 without request id", classicRequestsOn, []byte(`{"uid":"u","type":5,"opts":{}}`), Shape},
		{"6 of a text", classicRequestsOn, []byte(`{"uid":"u","type":6,"data":"x"}`), EventName},
		{"6 of connection", classicRequestsOn, []byte(`{"uid":"u","type":6,"data":["connection",1]}`), EventName},
		{"7 without options", classicRequestsOn, packedJSON(t, `{"uid":"u","requestId":"r","type":7,"packet":{"type":2,"data":["e"]}}`), Shape},
		{"7 without packet", classicRequestsOn, packedJSON(t, `{"uid":"u","requestId":"r","type":7,"opts":{}}`), Shape},
		{"cluster 5 without rooms", sharded, []byte(clusterOf(5, `{"opts":{}}`)), Shape},
		{"cluster 5 of a number", sharded, []byte(clusterOf(5, `{"opts":{},"rooms":1}`)), Shape},
		{"cluster 4 without options", sharded, []byte(clusterOf(4, `{"rooms":["a"]}`)), Shape},
		{"cluster 6 without options", sharded, []byte(clusterOf(6, `{"close":true}`)), Shape},
		{"cluster 7 without options", sharded, []byte(clusterOf(7, `{"requestId":"r"}`)), Shape},
		{"cluster 9 of a text", sharded, []byte(clusterOf(9, `{"packet":"x"}`)), EventName},
		{"cluster 9 without packet", sharded, []byte(clusterOf(9, `{}`)), EventName},
		{"cluster 8 without data", sharded, []byte(`{"type":8,"uid":"u","nsp":"/"}`), Shape},
		{"response without request id", classicResponses, []byte(`{"type":8,"clientCount":1}`), Shape},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, f := tc.on.read("/", tc.b, maxTest)
			if f != tc.want || m != nil {
				t.Errorf("%v, %+v, want %v", f, m, tc.want)
			}
		})
	}
}

// TestLiteralPlaceholder: beside a binary, an object of the browser's that looks like a placeholder is refused; alone
// it passes as any other.
func TestLiteralPlaceholder(t *testing.T) {
	const alone = `["e",{"_placeholder":true,"num":0}]`
	m, f := ReadCluster("/", []byte(broadcastOf(alone)), maxTest)
	if f != 0 || string(m.Payload) != alone || m.Attachments != nil {
		t.Errorf("%+v, %v", m, f)
	}
	b := packedJSON(t, broadcastOf(`["e",{"_placeholder":true,"num":0},{"a":true}]`), []byte{1})
	b = bytes.Replace(b, append([]byte{0xa1}, 'a'), append([]byte{0xac}, "_placeholder"...), 1)
	if _, f := ReadCluster("/", b, maxTest); f != Placeholder {
		t.Error(f)
	}
}

// TestForgiving: what official servers take, and official emitters of all years and languages write, is taken.
func TestForgiving(t *testing.T) {
	event := func(text string) Message {
		return Message{Kind: Broadcast, UID: "u", Event: "e", Payload: []byte(text)}
	}
	old := slices.Concat([]byte{0x93, 0xa1, 'u', 0x82, 0xa4}, []byte("type"), []byte{2, 0xa4}, []byte("data"), []byte{0x92, 0xa1, 'e', 0xd7, 0, 0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0x7b},
		packedJSON(t, `{"rooms":[],"flags":{"json":true,"broadcast":true}}`))
	for _, tc := range []struct {
		name string
		on   wired
		b    []byte
		want Message
	}{
		{"no rooms, except or flags", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, `{}`)), event(`["e"]`)},
		{"rooms and flags empty texts (Python)", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"],"nsp":"/"}`, `{"rooms":"","flags":""}`)), event(`["e"]`)},
		{"binary event (old emitters)", classicBroadcasts, packedJSON(t, classicOf(`{"type":5,"data":["e"],"nsp":"/"}`, wellFormedOpts)), event(`["e"]`)},
		{"dates of notepack 2 and flags of socket.io-emitter", classicBroadcasts, old, event(`["e","2023-11-14T22:13:20.123Z"]`)},
		{"numbers as rooms", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e"]}`, `{"rooms":[5,"5",-1,1.5,1e21],"except":[0]}`)), func() Message {
			m := event(`["e"]`)
			m.Rooms, m.Except = []string{"5", "5", "-1", "1.5", "1e+21"}, []string{"0"}
			return m
		}()},
		{"event name a number", sharded, []byte(broadcastOf(`[5,1]`)), Message{Kind: Broadcast, UID: "u", Event: "5", Payload: []byte(`[5,1]`)}},
		{"packet type a text", sharded, []byte(clusterOf(3, `{"packet":{"type":"2","data":["e"]},"opts":{}}`)), event(`["e"]`)},
		{"foreign ack id", sharded, []byte(clusterOf(3, `{"packet":{"type":2,"data":["e"],"id":7,"nsp":"/x"},"opts":{}}`)), event(`["e"]`)},
		{"500 levels", sharded, []byte(broadcastOf(`["e",` + nested(500) + `]`)), event(`["e",` + nested(500) + `]`)},
		{"500 levels of msgpack", classicBroadcasts, packedJSON(t, classicOf(`{"type":2,"data":["e",`+nested(500)+`]}`, wellFormedOpts)), event(`["e",` + nested(500) + `]`)},
		{"unknown members and flags", sharded, []byte(clusterOf(3, `{"x":{"y":[1]},"packet":{"type":2,"data":["e"],"z":1},"opts":{"rooms":[],"w":1,"flags":{"local":true,"timeout":"x","compress":1}}}`)), event(`["e"]`)},
		{"the later of two members", sharded, []byte(`{"type":2,"type":3,"data":{"packet":{"type":2,"data":["a"],"data":["e"]},"opts":{}},"uid":"x","uid":"u","nsp":"/"}`), event(`["e"]`)},
		{"keys escaped", sharded, []byte(`{"t\u0079pe":3,"data":{"packet":{"type":2,"data":["e"]},"opts":{}},"uid":"u","nsp":"/"}`), event(`["e"]`)},
		{"spaces", sharded, []byte("{ \"type\" : 3 , \"data\" : { \"packet\" : { \"type\" : 2 , \"data\" : [\"e\"] } , \"opts\" : { } } , \"uid\" : \"u\" } \n"), event(`["e"]`)},
		{"a binary where nobody looks", sharded, packedJSON(t, clusterOf(3, `{"x":{"_placeholder":true,"num":0},"packet":{"type":2,"data":["e"]},"opts":{}}`), []byte{1}), event(`["e"]`)},
		{"NaN, infinity, -0", classicBroadcasts, slices.Concat([]byte{0x93, 0xa1, 'u', 0x82, 0xa4}, []byte("type"), []byte{2, 0xa4}, []byte("data"), []byte{0x94, 0xa1, 'e'},
			[]byte{0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0}, []byte{0xcb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0}, []byte{0xcb, 0x80, 0, 0, 0, 0, 0, 0, 0}, packedJSON(t, wellFormedOpts)), event(`["e",null,null,0]`)},
		{
			"integers of 64 bits", classicBroadcasts, slices.Concat([]byte{0x93, 0xa1, 'u', 0x82, 0xa4}, []byte("type"), []byte{2, 0xa4}, []byte("data"), []byte{0x93, 0xa1, 'e'},
				[]byte{0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte{0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0}, packedJSON(t, wellFormedOpts)),
			event(`["e",18446744073709551615,-9223372036854775808]`),
		},
		{"undefined", classicBroadcasts, slices.Concat([]byte{0x93, 0xa1, 'u', 0x82, 0xa4}, []byte("type"), []byte{2, 0xa4}, []byte("data"), []byte{0x93, 0xa1, 'e', 0xd4, 0, 0},
			[]byte{0x82, 0xa1, 'a', 0xd4, 0, 0, 0xa1, 'b', 0xc0}, packedJSON(t, wellFormedOpts)), event(`["e",null,{"b":null}]`)},
		{"half a surrogate pair of notepack and of @msgpack", sharded, slices.Concat([]byte{0x84, 0xa4}, []byte("type"), []byte{3, 0xa4}, []byte("data"), []byte{0x82, 0xa6}, []byte("packet"), []byte{0x82, 0xa4},
			[]byte("type"), []byte{2, 0xa4}, []byte("data"), []byte{0x93, 0xa1, 'e', 0xa4, 0xf0, 0x90, 0x80, 0x80, 0xa3, 0xed, 0xa0, 0x80}, []byte{0xa4}, []byte("opts"), []byte{0x80},
			[]byte{0xa3}, []byte("uid"), []byte{0xa1, 'u', 0xa3}, []byte("nsp"), []byte{0xa1, '/'}), event("[\"e\",\"\U00010000\",\"\uFFFD\uFFFD\uFFFD\"]")},
		{"JSON that is not UTF-8", sharded, []byte(broadcastOf("[\"e\",\"\xff\"]")), event("[\"e\",\"\uFFFD\"]")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, f := tc.on.read("/", tc.b, maxTest)
			if f != 0 {
				t.Fatal(f)
			}
			tc.want.Namespace = "/"
			if diff := diffMessages(m, &tc.want); diff != "" {
				t.Error(diff)
			}
			if err := payload.Check(m.Payload, len(m.Attachments), payload.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPythonCopies: PyPI's socket.io-emitter sends one copy for each room, on its channel, with all rooms in each.
func TestPythonCopies(t *testing.T) {
	b := packedJSON(t, classicOf(`{"type":2,"data":["e"],"nsp":"/"}`, `{"rooms":["a","b"],"flags":""}`))
	m, f := ReadClassicBroadcast("/", b, maxTest)
	if f != 0 || !slices.Equal(m.Rooms, []string{"a", "b"}) {
		t.Errorf("%+v, %v", m, f)
	}
}

// TestNeverPublished: the encoders cannot be brought to write what an official server dies of, goes deaf by or hurts
// its clients with (section 11).
func TestNeverPublished(t *testing.T) {
	all := map[string]func([]byte, *Message) ([]byte, error){
		"classic": AppendClassic, "sharded": AppendSharded, "published": AppendStreams, "entry": streamEntries.write,
		"document": documents.write, "notification": func(dst []byte, m *Message) ([]byte, error) {
			text, row, err := NewNotification(m, 0)
			return append(append(dst, text...), row...), err
		},
	}
	good := func(kind Kind, change func(m *Message)) Message {
		m := Message{Kind: kind, UID: "u", Namespace: "/", Payload: []byte(`["e",1]`)}
		switch kind {
		case Join, Leave:
			m.Change = []string{"r"}
		case FetchSockets, Sockets, ClientCount, Ack, Reply:
			m.Request = "r"
		}
		if change != nil {
			change(&m)
		}
		return m
	}
	data := func(text string) func(*Message) { return func(m *Message) { m.Payload = []byte(text) } }
	strict := []string{"published", "notification", "entry"}
	type row struct {
		name string
		m    Message
		want Fault
		in   []string // forms; none: all that have the kind
	}
	rows := []row{
		{"kind 0", Message{Namespace: "/", UID: "u"}, Medium, nil},
		{"kind beyond", Message{Kind: kinds, Namespace: "/", UID: "u"}, Medium, nil},
		{"nobody", good(Broadcast, func(m *Message) { m.UID = "" }), Shape, nil},
		{"no namespace", good(Broadcast, func(m *Message) { m.Namespace = "" }), Namespace, nil},
		{"namespace without slash", good(Broadcast, func(m *Message) { m.Namespace = "admin" }), Namespace, nil},
		{"namespace not UTF-8", good(Broadcast, func(m *Message) { m.Namespace = "/\xff" }), Namespace, nil},
		{"uid not UTF-8", good(Broadcast, func(m *Message) { m.UID = "\xff" }), Text, []string{"classic", "sharded", "notification"}},
		{"room not UTF-8", good(Broadcast, func(m *Message) { m.Rooms = []string{"\xff"} }), Text, nil},
		{"excepted room not UTF-8", good(Join, func(m *Message) { m.Except = []string{"\xff"} }), Text, nil},
		{"changed room not UTF-8", good(Leave, func(m *Message) { m.Change = []string{"\xff"} }), Text, nil},
		{"no event", good(Broadcast, data(`[]`)), EventName, nil},
		{"nothing", good(Broadcast, data(``)), EventName, nil},
		{"an object", good(Broadcast, data(`{"a":1}`)), EventName, nil},
		{"event null", good(Broadcast, data(`[null]`)), EventName, nil},
		{"event empty", good(Broadcast, data(`[""]`)), EventName, nil},
		{"event disconnect", good(Broadcast, data(`["disconnect"]`)), EventName, nil},
		{"event connect, escaped", good(Broadcast, data(`["conn\u0065ct"]`)), EventName, nil},
		{"event newListener", good(Broadcast, data(`["newListener"]`)), EventName, nil},
		{"no JSON", good(Broadcast, data(`["e",]`)), Text, nil},
		{"cut JSON", good(Broadcast, data(`["e"`)), Text, nil},
		{"JSON and more", good(Broadcast, data(`["e"]]`)), Text, nil},
		{"JSON not UTF-8", good(Broadcast, data("[\"e\",\"\xed\xa0\x80\"]")), Text, nil},
		{"1,001 levels", good(Broadcast, data(`["e",`+nested(1000)+`]`)), TooDeep, nil},
		{"98 levels for @msgpack", good(Broadcast, func(m *Message) {
			m.Payload = []byte(`["e",{"_placeholder":true,"num":0},` + nested(98) + `]`)
			m.Attachments = [][]byte{{1}}
		}), TooDeep, []string{"notification", "entry"}},
		{"a member __proto__ for @msgpack", good(Broadcast, func(m *Message) {
			m.Payload = []byte(`["e",{"_placeholder":true,"num":0},{"__\u0070roto__" : 1}]`)
			m.Attachments = [][]byte{{1}}
		}), Key, []string{"notification", "entry"}},
		{"11 attachments", good(Broadcast, func(m *Message) { m.Attachments = make([][]byte, 11) }), TooManyParts, []string{"classic", "sharded", "notification", "entry"}},
		{"a placeholder of no attachment", good(Broadcast, func(m *Message) {
			m.Payload, m.Attachments = []byte(`["e",{"_placeholder":true,"num":1}]`), [][]byte{{1}}
		}), Placeholder, []string{"classic", "sharded", "notification", "entry"}},
		{"join of nothing", good(Join, func(m *Message) { m.Change = nil }), Shape, nil},
		{"leave of room \"\"", good(Leave, func(m *Message) { m.Change = []string{"a", ""} }), Shape, nil},
		{"fetch without request id", good(FetchSockets, func(m *Message) { m.Request = "" }), Shape, nil},
		{"count without request id", good(ClientCount, func(m *Message) { m.Request = "" }), Shape, nil},
		{"count negative", good(ClientCount, func(m *Message) { m.Count = -1 }), Shape, nil},
		{"ack of no JSON", good(Ack, data(`x`)), Text, []string{"classic", "sharded", "published", "notification"}},
		{"ack of 98 levels", good(Ack, data(nested(98))), TooDeep, []string{"published"}},
		{"server-side emit of a text", good(ServerSideEmit, data(`"e"`)), EventName, nil},
		{"server-side emit of nothing", good(ServerSideEmit, data(`[]`)), EventName, nil},
		{"server-side emit of connection", good(ServerSideEmit, data(`["connection"]`)), EventName, nil},
		{"server-side emit of new_namespace", good(ServerSideEmit, data(`["new_namespace"]`)), EventName, nil},
		{"server-side emit of error, which kills a server without listener", good(ServerSideEmit, data(`["error"]`)), EventName, nil},
		{"a socket without id", good(Sockets, func(m *Message) { m.Sockets = []Socket{{}} }), Shape, nil},
		{"a socket's handshake a text", good(Sockets, func(m *Message) { m.Sockets = []Socket{{ID: "s", Handshake: []byte(`"x"`)}} }), Shape, nil},
		{"a socket's data no JSON", good(Sockets, func(m *Message) { m.Sockets = []Socket{{ID: "s", Data: []byte(`x`)}} }), Text, []string{"classic", "sharded", "published", "notification"}},
		{"an entry that makes readers deaf", good(FetchSockets, nil), Medium, []string{"entry"}},
		{"an entry with acks", good(Broadcast, func(m *Message) { m.Request = "r" }), Medium, []string{"entry"}},
		{"a broadcast published beside the stream", good(Broadcast, nil), Medium, []string{"published"}},
		{"an old node's join as cluster message", good(Join, func(m *Message) { m.Old = "s" }), Medium, []string{"sharded", "entry", "notification"}},
		{"classic hello", good(Hello, nil), Medium, []string{"classic"}},
		{"an emitter that asks", good(FetchSockets, func(m *Message) { m.UID = Emitter }), Shape, []string{"sharded", "published", "notification"}},
		{"a heartbeat of an emitter", good(Heartbeat, func(m *Message) { m.UID = Emitter }), Shape, []string{"sharded", "published", "notification"}},
	}
	for _, tc := range rows {
		t.Run(tc.name, func(t *testing.T) {
			in := tc.in
			for name, write := range all {
				b, err := write([]byte("before"), &tc.m)
				if in != nil && !slices.Contains(in, name) {
					continue
				}
				medium := in == nil && errors.Is(err, Medium) // the form has no such kind
				if !errors.Is(err, tc.want) && !medium {
					t.Errorf("%s: %v, want %v", name, err, tc.want)
				}
				if string(b) != "before" {
					t.Errorf("%s wrote %q", name, b)
				}
			}
		})
	}
	for name, write := range all { // the message that the rows spoil
		for _, kind := range []Kind{Broadcast, Join, Leave, Disconnect, ServerSideEmit} {
			m := good(kind, nil)
			if name == "published" && Streamed(&m) || name == "entry" && !Streamed(&m) {
				continue
			}
			if _, err := write(nil, &m); err != nil {
				t.Errorf("%s: %v: %v", name, kind, err)
			}
		}
	}
	for _, name := range strict { // where JSON goes, depth does no harm
		m := good(Broadcast, data(`["e",`+nested(98)+`]`))
		if _, err := all[name](nil, &m); err != nil && name != "published" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFaultWords(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Faults() {
		if f.Reason() == "" || seen[f.Reason()] || !errors.Is(f, f) {
			t.Errorf("fault %d: %q", f, f.Reason())
		}
		seen[f.Reason()] = true
	}
	for k := Broadcast; k < kinds; k++ {
		if k.String() == "" {
			t.Errorf("kind %d has no word", k)
		}
	}
}
