package official

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foyer/service/payload"
)

var fuzzForms = []wired{
	classicBroadcasts, classicRequestsOn, classicResponses, sharded, streamEntries, streamsPublished, notifications, rows, documents,
}

// sameJSON says whether two texts mean the same to a decoder; it is not asked of numbers beyond float64.
func sameJSON(t *testing.T, a, b []byte) {
	t.Helper()
	var one, two any
	if json.Unmarshal(a, &one) != nil {
		return
	}
	if err := json.Unmarshal(b, &two); err != nil || !cmp.Equal(one, two) {
		t.Fatalf("%s became %s", a, b)
	}
}

// refusals are what a message that was read may not be written for: it came in another form, by another dialect, from
// an old emitter that says less, or is a server-side event that Foyer does not send.
var refusals = []error{Medium, Key, TooDeep, Shape, EventName}

// FuzzRead: no bytes make a reader panic or keep more than its bound; what is taken is right, and means the same when
// it was written and read again.
func FuzzRead(f *testing.F) {
	for _, g := range goldens {
		for form := range fuzzForms {
			f.Add(uint8(form), bytesOf(f, g.bytes))
		}
	}
	f.Add(uint8(4), []byte("u / 3 "))
	for _, text := range mongoGoldens {
		f.Add(uint8(8), bytesOf(f, text))
	}
	const maxBytes = 1 << 16
	f.Fuzz(func(t *testing.T, n uint8, b []byte) {
		form := fuzzForms[int(n)%len(fuzzForms)]
		if int(n)%len(fuzzForms) == 4 && countSpaces(b) < 3 {
			return // the test's own form of an entry
		}
		m, fault := form.read("/", b, maxBytes)
		if (m == nil) == (fault == 0) {
			if _, _, row, _ := ReadNotification("/", b, maxBytes); row == 0 {
				t.Fatalf("%+v, %v", m, fault)
			}
		}
		if m == nil {
			return
		}
		checkRead(t, m, maxBytes)
		again, err := form.write(nil, m)
		if err != nil {
			if !slices.ContainsFunc(refusals, func(r error) bool { return errors.Is(err, r) }) {
				t.Fatalf("%+v: %v", m, err)
			}
			return
		}
		if len(again) == 0 { // a row instead of a notification, or the reverse
			return
		}
		two, fault := form.read("/", again, 8*maxBytes)
		if fault != 0 {
			t.Fatalf("%+v became %q: %v", m, again, fault)
		}
		if m.Payload != nil {
			sameJSON(t, m.Payload, two.Payload)
		} else if two.Payload != nil && string(two.Payload) != "null" { // no argument is nil for @msgpack/msgpack
			t.Fatalf("%+v became %q", m, again)
		}
		m.Payload, two.Payload = nil, nil
		if m.Kind.Answer() && m.UID != "" && two.UID == "" { // the classic form does not say
			m.UID = ""
		}
		for i := range m.Sockets {
			m.Sockets[i].Data, m.Sockets[i].Handshake = nil, nil
			two.Sockets[i].Data, two.Sockets[i].Handshake = nil, nil
		}
		switch m.Kind { // classic requests have no flags
		case Join, Leave, Disconnect, FetchSockets:
			m.Flags, m.Timeout, m.SingleResponse = two.Flags, two.Timeout, two.SingleResponse
		}
		if m.Kind == Sockets && len(m.Sockets) == 0 || m.Kind == Join || m.Kind == Leave || m.Kind == Disconnect {
			m.Request = two.Request // not written where nobody answers
		}
		if diff := diffMessages(two, m); diff != "" {
			t.Fatalf("%q became %q\n%s", b, again, diff)
		}
	})
}

func countSpaces(b []byte) (n int) {
	for _, c := range b {
		if c == ' ' {
			n++
		}
	}
	return n
}

func checkRead(t *testing.T, m *Message, maxBytes int) {
	t.Helper()
	const widened = 3 // what JSON that is not UTF-8 may grow by
	size := len(m.Payload)
	for _, a := range m.Attachments {
		size += len(a)
	}
	if size > widened*maxBytes || len(m.Rooms) > maxNames || len(m.Except) > maxNames || len(m.Attachments) > payload.MaxAttachments {
		t.Fatalf("%d bytes, %d rooms, %d excepted", size, len(m.Rooms), len(m.Except))
	}
	switch m.Kind {
	case Broadcast, ServerSideEmit:
		if err := payload.Check(m.Payload, len(m.Attachments), payload.Options{}); err != nil {
			t.Fatal(err)
		}
		if m.Event == "" || m.Kind == Broadcast && payload.Reserved(m.Event) {
			t.Fatalf("event %q", m.Event)
		}
	case Reply, Ack:
		if m.Payload != nil {
			if err := payload.CheckValue(m.Payload, payload.Options{}); err != nil {
				t.Fatal(err)
			}
		}
	case Join, Leave:
		if len(m.Change) == 0 || slices.Contains(m.Change, "") {
			t.Fatalf("change %q", m.Change)
		}
	}
	for _, s := range m.Sockets {
		if s.Handshake != nil && payload.CheckObject(s.Handshake, payload.Options{}) != nil || s.Data != nil && payload.CheckValue(s.Data, payload.Options{}) != nil {
			t.Fatalf("%+v", s)
		}
		ReadHandshake(s.Handshake)
	}
}

// FuzzWrite: whatever a message holds, what is written of it passes the reader, which refuses all that an official
// server dies of.
func FuzzWrite(f *testing.F) {
	f.Add(uint8(1), "u", "/", "r", "room", `["e",{"_placeholder":true,"num":0}]`, []byte{1}, int32(1), false)
	f.Add(uint8(4), "emitter", "/admin", "", "", `["a"]`, []byte{}, int32(0), true)
	f.Add(uint8(15), "u", "/", "r", "x", `"v"`, []byte(nil), int32(7), false)
	f.Fuzz(func(t *testing.T, kind uint8, uid, nsp, request, room, text string, attachment []byte, count int32, bare bool) {
		m := Message{
			Kind: Kind(kind % uint8(kinds+1)), UID: uid, Namespace: nsp, Request: request, Rooms: []string{room}, Except: []string{uid}, Change: []string{room},
			Payload: []byte(text), Attachments: [][]byte{attachment}, Names: []string{room}, Count: int(count), Timeout: 1000 * 1000 * 1000,
			Sockets: []Socket{{ID: room, Data: []byte(text), Rooms: []string{uid}}},
		}
		if bare {
			m.Attachments, m.Sockets, m.Rooms, m.Except = nil, nil, nil, nil
		}
		const most = 1 << 24
		for i, form := range fuzzForms {
			b, err := form.write(nil, &m)
			if err != nil || len(b) == 0 || i == 4 && countSpaces([]byte(uid+nsp)) > 0 {
				continue
			}
			if i < 3 { // one encoder, three channels
				_, f0 := ReadClassicBroadcast(nsp, b, most)
				_, f1 := ReadClassicRequest(nsp, b, most)
				_, f2 := ReadClassicResponse(nsp, b, most)
				if f0 != 0 && f1 != 0 && f2 != 0 {
					t.Fatalf("%q: %v, %v, %v", b, f0, f1, f2)
				}
				continue
			}
			if _, fault := form.read(nsp, b, most); fault != 0 {
				t.Fatalf("form %d: %q: %v", i, b, fault)
			}
		}
	})
}

func hundred() *Message {
	return &Message{
		Kind: Broadcast, UID: "RgiusQ", Namespace: "/", Rooms: []string{"room"},
		Payload: []byte(`["message",{"from":"someone","text":"a text of the usual length, as people write it to each other here"}]`), Event: "message",
	}
}

func BenchmarkAppendClassic(b *testing.B) {
	m, buf := hundred(), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendClassic(buf, m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadClassic(b *testing.B) {
	text, err := AppendClassic(nil, hundred())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, f := ReadClassicBroadcast("/", text, maxTest); f != 0 {
			b.Fatal(f)
		}
	}
}

func BenchmarkAppendSharded(b *testing.B) {
	m, buf := hundred(), make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := AppendSharded(buf, m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadSharded(b *testing.B) {
	text, err := AppendSharded(nil, hundred())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, f := ReadCluster("/", text, maxTest); f != 0 {
			b.Fatal(f)
		}
	}
}
