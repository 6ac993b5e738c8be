package official

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPostgresThreshold: what PostgreSQL would refuse goes into the table, by the byte.
func TestPostgresThreshold(t *testing.T) {
	sized := func(n int) *Message {
		m := &Message{Kind: Broadcast, UID: "u", Namespace: "/", Payload: []byte(`["e",""]`)}
		text, _, err := NewNotification(m, 0)
		if err != nil {
			t.Fatal(err)
		}
		m.Payload = []byte(`["e","` + strings.Repeat("é", (n-len(text))/2) + strings.Repeat("x", (n-len(text))%2) + `"]`)
		return m
	}
	for _, tc := range []struct {
		size, threshold int
		row             bool
	}{{7999, 0, false}, {8000, 0, true}, {7999, 8000, false}, {8000, 8000, true}, {500, 499, true}, {500, 500, false}} {
		text, row, err := NewNotification(sized(tc.size), tc.threshold)
		if err != nil || (row != nil) != tc.row || (text == nil) != tc.row || text != nil && len(text) != tc.size {
			t.Errorf("%+v: text of %d bytes, row of %d, %v", tc, len(text), len(row), err)
		}
	}
	deep := sized(8000)
	deep.Payload = append(deep.Payload[:len(deep.Payload)-1], ","+nested(98)+"]"...)
	if text, row, err := NewNotification(deep, 0); err == nil || text != nil || row != nil {
		t.Errorf("98 levels in a row: %v", err)
	}
}

// TestPostgresAttached: the header of section 6, both ways.
func TestPostgresAttached(t *testing.T) {
	m := Message{Kind: Broadcast, UID: "7eff151d54287c3a", Namespace: "/"}
	const want = `{"uid":"7eff151d54287c3a","type":3,"attachmentId":"3"}`
	if got := string(AppendAttached([]byte("x"), &m, 3)); got != "x"+want {
		t.Error(got)
	}
	for text, id := range map[string]int64{want: 3, `{"uid":"emitter","type":3,"attachmentId":"1"}`: 1, `{"uid":"u","type":3,"attachmentId":12}`: 12} {
		m, uid, row, f := ReadNotification("/", []byte(text), maxTest)
		if m != nil || uid == "" || row != id || f != 0 {
			t.Errorf("%s: %+v, %q, %d, %v", text, m, uid, row, f)
		}
	}
}

// TestBuffers: in a medium of JSON a binary stands as Node.js writes it, and so does one in the data of a socket.
func TestBuffers(t *testing.T) {
	m := Message{
		Kind: Reply, Namespace: "/", Request: "r",
		Payload: []byte(`{"a":{"_placeholder":true,"num":0},"b":[{"_placeholder":true,"num":1}],"c":"é\u0001"}`), Attachments: [][]byte{{1, 255}, {}},
	}
	b, err := AppendClassic(nil, &m)
	const want = `{"type":6,"requestId":"r","data":{"a":{"type":"Buffer","data":[1,255]},"b":[{"type":"Buffer","data":[]}],"c":"é\u0001"}}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
	packed := packedJSON(t, clusterOf(8, `{"requestId":"r","sockets":[{"id":"s","handshake":{},"rooms":[],"data":{"x":{"_placeholder":true,"num":0}}}]}`), []byte{7})
	got, f := ReadCluster("/", packed, maxTest)
	if f != 0 || string(got.Sockets[0].Data) != `{"x":{"type":"Buffer","data":[7]}}` {
		t.Errorf("%+v, %v", got, f)
	}
}

func TestHandshake(t *testing.T) {
	h := Handshake{
		Address: "10.0.0.7", Time: time.UnixMilli(1795378423075).UTC(), URL: "/socket.io/?EIO=4&transport=websocket",
		Query: map[string]string{"transport": "websocket", "EIO": "4"}, Headers: map[string]string{"host": "…"}, Auth: []byte(`{"token":"123"}`),
	}
	const want = `{"headers":{"host":"…"},"time":"Sun Nov 22 2026 20:13:43 GMT+0000 (Coordinated Universal Time)","address":"10.0.0.7",` +
		`"xdomain":false,"secure":false,"issued":1795378423075,"url":"/socket.io/?EIO=4&transport=websocket","query":{"EIO":"4","transport":"websocket"},"auth":{"token":"123"}}`
	b, err := h.Append(nil)
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
	if diff := cmp.Diff(ReadHandshake(b), h); diff != "" {
		t.Error(diff)
	}
	got := ReadHandshake([]byte(`{"headers":{"a":["x","y"],"b":{},"c":5},"query":7,"issued":1e300,"address":[],"url":null,"auth":"x"}`))
	if diff := cmp.Diff(got.Headers, map[string]string{"a": "x", "c": "5"}); diff != "" || got.Address != "" || got.URL != "" || got.Auth != nil || got.Query != nil {
		t.Errorf("%+v %s", got, diff)
	}
	if ReadHandshake([]byte(`["x"]`)).Address != "" {
		t.Error("a list was read as a handshake")
	}
	bad := Handshake{Address: "\xff"}
	if b, err := bad.Append([]byte("x")); err == nil || string(b) != "x" {
		t.Errorf("%s, %v", b, err)
	}
}
