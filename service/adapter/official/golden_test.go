package official

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"foyer/service"
)

// wired is how a test's message is read from and written to one kind of channel.
type wired struct {
	read  func(nsp string, b []byte, maxBytes int) (*Message, Fault)
	write func(dst []byte, m *Message) ([]byte, error)
}

var (
	classicBroadcasts = wired{ReadClassicBroadcast, AppendClassic}
	classicRequestsOn = wired{ReadClassicRequest, AppendClassic}
	classicResponses  = wired{ReadClassicResponse, AppendClassic}
	sharded           = wired{ReadCluster, AppendSharded}
	streamsPublished  = wired{ReadCluster, AppendStreams}
	streamEntries     = wired{
		func(_ string, b []byte, maxBytes int) (*Message, Fault) {
			part := strings.SplitN(string(b), " ", 4)
			return ReadEntry(Entry{part[0], part[1], part[2], part[3]}, maxBytes)
		},
		func(dst []byte, m *Message) ([]byte, error) {
			e, err := NewEntry(m)
			if err != nil {
				return dst, err
			}
			return append(dst, strings.Join([]string{e.UID, e.NSP, e.Type, e.Data}, " ")...), nil
		},
	}
	notifications = wired{
		func(nsp string, b []byte, maxBytes int) (*Message, Fault) {
			m, _, _, f := ReadNotification(nsp, b, maxBytes)
			return m, f
		},
		func(dst []byte, m *Message) ([]byte, error) {
			text, _, err := NewNotification(m, 0)
			return append(dst, text...), err
		},
	}
	documents = wired{
		func(nsp string, b []byte, maxBytes int) (*Message, Fault) {
			m, _, f := ReadDocument(b, maxBytes)
			if m != nil && m.Namespace != nsp {
				return nil, Namespace
			}
			return m, f
		},
		func(dst []byte, m *Message) ([]byte, error) {
			return AppendDocument(dst, m, time.Time{}, ObjectID{1, 2, 3})
		},
	}
	rows = wired{ReadCluster, func(dst []byte, m *Message) ([]byte, error) {
		_, row, err := NewNotification(m, 0)
		return append(dst, row...), err
	}}
)

const maxTest = 1 << 20

// bytesOf is a golden's bytes: JSON or an entry as it stands, else hexadecimal digits.
func bytesOf(t testing.TB, s string) []byte {
	t.Helper()
	if b, err := hex.DecodeString(strings.ReplaceAll(s, " ", "")); err == nil {
		return b
	}
	return []byte(s)
}

// golden is an example of the reference. again says that writing the message gives the same bytes: emitters and old
// nodes write other orders and leave out more.
type golden struct {
	name  string
	on    wired
	nsp   string
	bytes string
	want  Message
	again bool
}

const (
	hold0   = `{"_placeholder":true,"num":0}`
	aHelloE = `["hello",1,"é"]`
)

var goldens = []golden{
	// Section 2, broadcasts.
	{
		"classic emitter to all", classicBroadcasts, "/",
		`93a7656d697474657283a47479706502a46461746193a568656c6c6f01a2c3a9a36e7370a12f83a5726f6f6d7390a5666c61677380a665786365707490`,
		Message{Kind: Broadcast, UID: Emitter, Payload: []byte(aHelloE), Event: "hello"},
		false,
	},
	{
		"classic emitter to a room", classicBroadcasts, "/",
		`93a7656d697474657283a47479706502a46461746191a3666f6fa36e7370a12f83a5726f6f6d7391a27231a5666c61677380a665786365707490`,
		Message{Kind: Broadcast, UID: Emitter, Rooms: []string{"r1"}, Payload: []byte(`["foo"]`), Event: "foo"},
		false,
	},
	{
		"classic emitter with binary and flags", classicBroadcasts, "/",
		`93a7656d697474657283a47479706502a46461746192a362696ec403010203a36e7370a12f83a5726f6f6d7392a27231a27232a5666c61677382a8766f6c6174696c65c3a8636f6d7072657373c2a665786365707491a27233`,
		Message{
			Kind: Broadcast, UID: Emitter, Rooms: []string{"r1", "r2"}, Except: []string{"r3"}, Flags: service.Volatile | service.NoCompress,
			Payload: []byte(`["bin",` + hold0 + `]`), Attachments: [][]byte{{1, 2, 3}}, Event: "bin",
		},
		false,
	},
	{
		"classic node to a room", classicBroadcasts, "/",
		`93a652676975735183a47479706502a46461746192a2686901a36e7370a12f83a5726f6f6d7391a5726f6f6d42a665786365707490a5666c61677380`,
		Message{Kind: Broadcast, UID: "RgiusQ", Rooms: []string{"roomB"}, Payload: []byte(`["hi",1]`), Event: "hi"},
		true,
	},
	// Section 2, requests.
	{
		"classic 0", classicRequestsOn, "/", `{"uid":"u","requestId":"r","type":0,"rooms":[]}`,
		Message{Kind: FetchIDs, UID: "u", Request: "r"},
		true,
	},
	{
		"classic 1", classicRequestsOn, "/", `{"uid":"RgiusQ","requestId":"8X5SnE","type":1}`,
		Message{Kind: FetchRooms, UID: "RgiusQ", Request: "8X5SnE"},
		true,
	},
	{
		"classic 2", classicRequestsOn, "/", `{"uid":"RgiusQ","type":2,"opts":{"rooms":["roomB"],"except":[]},"rooms":["j1"]}`,
		Message{Kind: Join, UID: "RgiusQ", Rooms: []string{"roomB"}, Change: []string{"j1"}},
		true,
	},
	{
		"classic 3", classicRequestsOn, "/", `{"uid":"RgiusQ","type":3,"opts":{"rooms":["roomB"],"except":[]},"rooms":["j1"]}`,
		Message{Kind: Leave, UID: "RgiusQ", Rooms: []string{"roomB"}, Change: []string{"j1"}},
		true,
	},
	{
		"classic 4", classicRequestsOn, "/", `{"uid":"RgiusQ","type":4,"opts":{"rooms":["roomB"],"except":["x"]},"close":true}`,
		Message{Kind: Disconnect, UID: "RgiusQ", Rooms: []string{"roomB"}, Except: []string{"x"}, Close: true},
		true,
	},
	{
		"classic 5", classicRequestsOn, "/", `{"uid":"RgiusQ","requestId":"9JyjwC","type":5,"opts":{"rooms":[],"except":[]}}`,
		Message{Kind: FetchSockets, UID: "RgiusQ", Request: "9JyjwC"},
		true,
	},
	{
		"classic 6", classicRequestsOn, "/", `{"uid":"RgiusQ","type":6,"data":["sse",1]}`,
		Message{Kind: ServerSideEmit, UID: "RgiusQ", Payload: []byte(`["sse",1]`), Event: "sse"},
		true,
	},
	{
		"classic 6 with reply", classicRequestsOn, "/", `{"uid":"RgiusQ","requestId":"GiMwGA","type":6,"data":["sse",1]}`,
		Message{Kind: ServerSideEmit, UID: "RgiusQ", Request: "GiMwGA", Payload: []byte(`["sse",1]`), Event: "sse"},
		true,
	},
	{
		"classic 7", classicRequestsOn, "/",
		`85a3756964a6526769757351a9726571756573744964a6774c4c57434ca47479706507a67061636b657483a47479706502a46461746192a17107a36e7370a12fa46f70747383a5726f6f6d7390a665786365707490a5666c61677381a774696d656f7574cd012c`,
		Message{Kind: Broadcast, UID: "RgiusQ", Request: "wLLWCL", Payload: []byte(`["q",7]`), Event: "q", Timeout: 300 * time.Millisecond},
		true,
	},
	{
		"classic 2, old form", classicRequestsOn, "/", `{"uid":"u","requestId":"r","type":2,"sid":"s1","room":"j1"}`,
		Message{Kind: Join, UID: "u", Request: "r", Old: "s1", Change: []string{"j1"}},
		true,
	},
	{
		"classic 3, old form", classicRequestsOn, "/", `{"requestId":"r","type":3,"sid":"s1","room":"j1"}`,
		Message{Kind: Leave, Request: "r", Old: "s1", Change: []string{"j1"}},
		true,
	},
	{
		"classic 4, old form", classicRequestsOn, "/", `{"requestId":"r","type":4,"sid":"s1","close":false}`,
		Message{Kind: Disconnect, Request: "r", Old: "s1"},
		true,
	},
	{
		"classic emitter 2", classicRequestsOn, "/", `{"type":2,"opts":{"rooms":["r1"],"except":[]},"rooms":["a","b"]}`,
		Message{Kind: Join, Rooms: []string{"r1"}, Change: []string{"a", "b"}},
		true,
	},
	{
		"classic emitter 3", classicRequestsOn, "/", `{"type":3,"opts":{"rooms":[],"except":["r"]},"rooms":["a"]}`,
		Message{Kind: Leave, Except: []string{"r"}, Change: []string{"a"}},
		true,
	},
	{
		"classic emitter 4", classicRequestsOn, "/", `{"type":4,"opts":{"rooms":["r1"],"except":[]},"close":true}`,
		Message{Kind: Disconnect, Rooms: []string{"r1"}, Close: true},
		true,
	},
	{
		"classic emitter 6", classicRequestsOn, "/", `{"uid":"emitter","type":6,"data":["ping",1,{"a":2}]}`,
		Message{Kind: ServerSideEmit, UID: Emitter, Payload: []byte(`["ping",1,{"a":2}]`), Event: "ping"},
		true,
	},
	// Section 2, responses.
	{
		"classic answer to 0", classicResponses, "/", `{"requestId":"r","sockets":["s1","s2"]}`,
		Message{Kind: IDs, Request: "r", Names: []string{"s1", "s2"}},
		true,
	},
	{
		"classic answer to 1", classicResponses, "/", `{"requestId":"8X5SnE","rooms":["2Zqcz","roomB"]}`,
		Message{Kind: Rooms, Request: "8X5SnE", Names: []string{"2Zqcz", "roomB"}},
		true,
	},
	{
		"classic answer to 5", classicResponses, "/", `{"requestId":"9JyjwC","sockets":[{"id":"s1","handshake":{"url":"/x"},"rooms":["s1","r"],"data":{"a":1}}]}`,
		Message{Kind: Sockets, Request: "9JyjwC", Sockets: []Socket{{"s1", []byte(`{"url":"/x"}`), []string{"s1", "r"}, []byte(`{"a":1}`)}}},
		true,
	},
	{
		"classic answer to 5, nobody", classicResponses, "/", `{"requestId":"9JyjwC","sockets":[]}`,
		Message{Kind: Sockets, Request: "9JyjwC"},
		true,
	},
	{
		"classic answer to 6", classicResponses, "/", `{"type":6,"requestId":"GiMwGA","data":"resp"}`,
		Message{Kind: Reply, Request: "GiMwGA", Payload: []byte(`"resp"`)},
		true,
	},
	{
		"classic answer to 6 without value", classicResponses, "/", `{"type":6,"requestId":"GiMwGA"}`,
		Message{Kind: Reply, Request: "GiMwGA"},
		true,
	},
	{
		"classic 8", classicResponses, "/", `{"type":8,"requestId":"wLLWCL","clientCount":1}`,
		Message{Kind: ClientCount, Request: "wLLWCL", Count: 1},
		true,
	},
	{
		"classic 9", classicResponses, "/", `83a47479706509a9726571756573744964a6774c4c57434ca67061636b6574a566726f6d42`,
		Message{Kind: Ack, Request: "wLLWCL", Payload: []byte(`"fromB"`)},
		true,
	},
	{
		"classic 9 without argument", classicResponses, "/", `82a47479706509a9726571756573744964a6774c4c57434c`,
		Message{Kind: Ack, Request: "wLLWCL"},
		true,
	},
	{
		"classic answer to old 2", classicResponses, "/", `{"requestId":"r"}`, Message{Kind: Done, Request: "r"}, true,
	},
	// Section 4.
	{
		"sharded broadcast", sharded, "/",
		`{"type":3,"data":{"packet":{"type":2,"data":["hi"]},"opts":{"rooms":["roomB"],"except":[],"flags":{}}},"uid":"e8cda10cc767b228","nsp":"/"}`,
		Message{Kind: Broadcast, UID: "e8cda10cc767b228", Rooms: []string{"roomB"}, Payload: []byte(`["hi"]`), Event: "hi"},
		true,
	},
	{
		"sharded broadcast with acks", sharded, "/",
		`{"type":3,"data":{"packet":{"type":2,"data":["q",7]},"requestId":"c327242250ba16ce","opts":{"rooms":[],"except":[],"flags":{"timeout":300}}},"uid":"e8cda10cc767b228","nsp":"/"}`,
		Message{Kind: Broadcast, UID: "e8cda10cc767b228", Request: "c327242250ba16ce", Payload: []byte(`["q",7]`), Event: "q", Timeout: 300 * time.Millisecond},
		true,
	},
	{
		"sharded count", sharded, "/", `{"type":11,"data":{"requestId":"c327242250ba16ce","clientCount":1},"uid":"f0491022611117bf","nsp":"/"}`,
		Message{Kind: ClientCount, UID: "f0491022611117bf", Request: "c327242250ba16ce", Count: 1},
		true,
	},
	{
		"sharded ack", sharded, "/", `{"type":12,"data":{"requestId":"c327242250ba16ce","packet":"fromB"},"uid":"f0491022611117bf","nsp":"/"}`,
		Message{Kind: Ack, UID: "f0491022611117bf", Request: "c327242250ba16ce", Payload: []byte(`"fromB"`)},
		true,
	},
	{
		"sharded ack without argument", sharded, "/", `{"type":12,"data":{"requestId":"c327242250ba16ce"},"uid":"f0491022611117bf","nsp":"/"}`,
		Message{Kind: Ack, UID: "f0491022611117bf", Request: "c327242250ba16ce"},
		true,
	},
	{
		"sharded fetch", sharded, "/", `{"type":7,"data":{"opts":{"rooms":[],"except":[],"flags":{}},"requestId":"6d461cc044489d03"},"uid":"e8cda10cc767b228","nsp":"/"}`,
		Message{Kind: FetchSockets, UID: "e8cda10cc767b228", Request: "6d461cc044489d03"},
		true,
	},
	{
		"sharded disconnect", sharded, "/", `{"type":6,"data":{"opts":{"rooms":["roomB"],"except":[],"flags":{}},"close":true},"uid":"e8cda10cc767b228","nsp":"/"}`,
		Message{Kind: Disconnect, UID: "e8cda10cc767b228", Rooms: []string{"roomB"}, Close: true},
		true,
	},
	{
		"sharded binary broadcast", sharded, "/",
		`84a47479706503a46461746182a67061636b657482a47479706502a46461746192a162c4020102a46f70747383a5726f6f6d7390a665786365707490a5666c61677380a3756964b065386364613130636337363762323238a36e7370a12f`,
		Message{Kind: Broadcast, UID: "e8cda10cc767b228", Payload: []byte(`["b",` + hold0 + `]`), Attachments: [][]byte{{1, 2}}, Event: "b"},
		true,
	},
	// Section 5.
	{
		"streams broadcast", streamEntries, "/", `128f78e3efd33916 / 3 {"packet":{"type":2,"data":["hi",1]},"opts":{"rooms":[],"except":[],"flags":{}}}`,
		Message{Kind: Broadcast, UID: "128f78e3efd33916", Payload: []byte(`["hi",1]`), Event: "hi"},
		true,
	},
	{
		"streams binary broadcast", streamEntries, "/", `128f78e3efd33916 / 3 gqZwYWNrZXSCpHR5cGUCpGRhdGGSoWLEAgECpG9wdHODpXJvb21zkKZleGNlcHSQpWZsYWdzgA==`,
		Message{Kind: Broadcast, UID: "128f78e3efd33916", Payload: []byte(`["b",` + hold0 + `]`), Attachments: [][]byte{{1, 2}}, Event: "b"},
		true,
	},
	{
		"streams join", streamEntries, "/", `20ab20f45c1f770c / 4 {"opts":{"rooms":["4tyG81fiVuJ7uCBuAAAC"],"except":[],"flags":{}},"rooms":["roomB"]}`,
		Message{Kind: Join, UID: "20ab20f45c1f770c", Rooms: []string{"4tyG81fiVuJ7uCBuAAAC"}, Change: []string{"roomB"}},
		true,
	},
	{
		"streams count", streamsPublished, "/",
		`84a4747970650ba46461746182a9726571756573744964b030663938376234303164653236373231ab636c69656e74436f756e7401a3756964b032306162323066343563316637373063a36e7370a12f`,
		Message{Kind: ClientCount, UID: "20ab20f45c1f770c", Request: "0f987b401de26721", Count: 1},
		true,
	},
	{
		"streams emitter broadcast", streamEntries, "/", `emitter / 3 {"packet":{"type":2,"data":["hi",1],"nsp":"/"},"opts":{"rooms":[],"flags":{},"except":[]}}`,
		Message{Kind: Broadcast, UID: Emitter, Payload: []byte(`["hi",1]`), Event: "hi"},
		false,
	},
	{
		"streams emitter join", streamEntries, "/", `emitter / 4 {"opts":{"rooms":["r1"],"except":[],"flags":{}},"rooms":["a"]}`,
		Message{Kind: Join, UID: Emitter, Rooms: []string{"r1"}, Change: []string{"a"}},
		true,
	},
	{
		"streams emitter server-side emit", streamEntries, "/", `emitter / 9 {"packet":["p",1]}`,
		Message{Kind: ServerSideEmit, UID: Emitter, Payload: []byte(`["p",1]`), Event: "p"},
		false,
	},
	// Section 6.
	{
		"postgres hello", notifications, "/", `{"type":1,"uid":"839acc8a9baabd25","nsp":"/"}`,
		Message{Kind: Hello, UID: "839acc8a9baabd25"},
		true,
	},
	{
		"postgres goodbye", notifications, "/", `{"type":13,"uid":"839acc8a9baabd25","nsp":"/"}`,
		Message{Kind: Goodbye, UID: "839acc8a9baabd25"},
		true,
	},
	{
		"postgres broadcast", notifications, "/", `{"type":3,"data":{"packet":{"type":2,"data":["hi"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"7eff151d54287c3a","nsp":"/"}`,
		Message{Kind: Broadcast, UID: "7eff151d54287c3a", Payload: []byte(`["hi"]`), Event: "hi"},
		true,
	},
	{
		"postgres count", notifications, "/", `{"type":11,"data":{"requestId":"feeb1c7bc43866df","clientCount":1},"uid":"839acc8a9baabd25","nsp":"/"}`,
		Message{Kind: ClientCount, UID: "839acc8a9baabd25", Request: "feeb1c7bc43866df", Count: 1},
		true,
	},
	{
		"postgres row", rows, "/",
		`84a47479706503a46461746182a67061636b657482a47479706502a46461746192a162c40109a46f70747383a5726f6f6d7390a665786365707490a5666c61677380a3756964b037656666313531643534323837633361a36e7370a12f`,
		Message{Kind: Broadcast, UID: "7eff151d54287c3a", Payload: []byte(`["b",` + hold0 + `]`), Attachments: [][]byte{{9}}, Event: "b"},
		true,
	},
	{
		"postgres emitter broadcast", notifications, "/admin",
		`{"type":3,"data":{"packet":{"type":2,"data":["hi",1],"nsp":"/"},"opts":{"rooms":[],"flags":{},"except":[]}},"uid":"emitter"}`,
		Message{Kind: Broadcast, UID: Emitter, Payload: []byte(`["hi",1]`), Event: "hi"},
		false,
	},
	{
		"postgres emitter join", notifications, "/", `{"type":4,"data":{"opts":{"rooms":["r1"],"except":[]},"rooms":["a"]},"uid":"emitter"}`,
		Message{Kind: Join, UID: Emitter, Rooms: []string{"r1"}, Change: []string{"a"}},
		false,
	},
	{
		"postgres emitter server-side emit", notifications, "/", `{"type":9,"data":{"packet":["e",1]},"uid":"emitter"}`,
		Message{Kind: ServerSideEmit, UID: Emitter, Payload: []byte(`["e",1]`), Event: "e"},
		false,
	},
	{
		"postgres node of a primary process", notifications, "/", `{"type":2,"uid":"839acc8a9baabd25","nsp":"/","nodeId":"x"}`,
		Message{Kind: Heartbeat, UID: "839acc8a9baabd25"},
		false,
	},
}

// TestGolden: every example of the reference is read as what it means, and written with the same bytes.
func TestGolden(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			b := bytesOf(t, g.bytes)
			got, f := g.on.read(g.nsp, b, maxTest)
			if f != 0 {
				t.Fatal(f)
			}
			want := g.want
			want.Namespace = g.nsp
			if diff := cmp.Diff(got, &want); diff != "" {
				t.Error(diff)
			}
			if !g.again {
				return
			}
			again, err := g.on.write([]byte("x"), &want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(again[1:]), string(bytesOf(t, g.bytes))); again[0] != 'x' || diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestReadBack: what is written of every example is read as the same message, in each form that has the kind.
func TestReadBack(t *testing.T) {
	forms := map[string]wired{
		"broadcast": classicBroadcasts, "request": classicRequestsOn, "response": classicResponses, "sharded": sharded,
		"entry": streamEntries, "published": streamsPublished, "notification": notifications, "row": rows, "document": documents,
	}
	written := map[Kind]int{}
	for _, g := range goldens {
		m := g.want
		m.Namespace = "/"
		if m.UID == "" {
			m.UID = "a"
		}
		for name, form := range forms {
			b, err := form.write(nil, &m)
			if err != nil || len(b) == 0 { // not carried there
				continue
			}
			got, f := form.read("/", b, maxTest)
			want := m
			switch name {
			case "broadcast", "request", "response": // of which one is meant by the kind
				if f != 0 {
					continue
				}
				if m.Kind.Answer() {
					want.UID = ""
				}
				if got.Kind != m.Kind { // an answer taken for a request
					continue
				}
				want.Timeout = got.Timeout
			case "published", "document":
				if want.Payload == nil && (want.Kind == Ack || want.Kind == Reply) {
					want.Payload = []byte("null")
				}
			}
			if f != 0 {
				t.Errorf("%s: %s: %v", g.name, name, f)
				continue
			}
			if diff := cmp.Diff(got, &want); diff != "" {
				t.Errorf("%s: %s: %s\n%s", g.name, name, b, diff)
			}
			written[m.Kind]++
		}
	}
	for k := Broadcast; k < kinds; k++ {
		if written[k] == 0 && k != Done {
			t.Errorf("no form was seen to carry %v", k)
		}
	}
}

func diffMessages(got, want *Message) string { return cmp.Diff(got, want, cmpopts.EquateEmpty()) }
