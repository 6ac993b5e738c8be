package socketio

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foyer/service"
)

// The lines of the reference, "Packet types and grammar" and "Server-side validation", without Engine.IO's 4.
func TestDecodeText(t *testing.T) {
	const (
		connect    = service.KindConnect
		disconnect = service.KindDisconnect
		event      = service.KindEvent
		ack        = service.KindAck
		none       = service.NoAck
		hold0      = `{"_placeholder":true,"num":0}`
		hold1      = `{"_placeholder":true,"num":1}`
	)
	deep := `2["x",` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + `]`
	for _, tc := range []struct {
		text string
		want decoded
		f    fault
	}{
		{`0`, decoded{Kind: connect, Namespace: "/", ID: none}, 0},
		{`0{"token":"123"}`, decoded{Kind: connect, Namespace: "/", ID: none, Payload: `{"token":"123"}`}, 0},
		{`0{"sid":"ZSK5KgbH4F-1ejVLAAAA"}`, decoded{Kind: connect, Namespace: "/", ID: none, Payload: `{"sid":"ZSK5KgbH4F-1ejVLAAAA"}`}, 0},
		{`0/admin,{"sid":"…"}`, decoded{Kind: connect, Namespace: "/admin", ID: none, Payload: `{"sid":"…"}`}, 0},
		{`0/admin`, decoded{Kind: connect, Namespace: "/admin", ID: none}, 0},
		{`0/admin,`, decoded{Kind: connect, Namespace: "/admin", ID: none}, 0},
		{`0/`, decoded{Kind: connect, Namespace: "/", ID: none}, 0},
		{`0/,`, decoded{Kind: connect, Namespace: "/", ID: none}, 0},
		{`0/b?x=1`, decoded{Kind: connect, Namespace: "/b?x=1", ID: none}, 0},
		{`0/b?x=1&y={"a":[1]},{}`, decoded{Kind: connect, Namespace: `/b?x=1&y={"a":[1]}`, ID: none, Payload: `{}`}, 0},
		{`2["hey",1,"2",{"3":[true]}]`, decoded{Kind: event, Namespace: "/", ID: none, Payload: `["hey",1,"2",{"3":[true]}]`, Name: `"hey"`}, 0},
		{`21["hey"]`, decoded{Kind: event, Namespace: "/", ID: 1, Payload: `["hey"]`, Name: `"hey"`}, 0},
		{`2007["hey"]`, decoded{Kind: event, Namespace: "/", ID: 7, Payload: `["hey"]`, Name: `"hey"`}, 0},
		{`29223372036854775807["hey"]`, decoded{Kind: event, Namespace: "/", ID: 9223372036854775807, Payload: `["hey"]`, Name: `"hey"`}, 0},
		{`31["ok"]`, decoded{Kind: ack, Namespace: "/", ID: 1, Payload: `["ok"]`}, 0},
		{`2/admin,12["hey"]`, decoded{Kind: event, Namespace: "/admin", ID: 12, Payload: `["hey"]`, Name: `"hey"`}, 0},
		{`3/admin,12[]`, decoded{Kind: ack, Namespace: "/admin", ID: 12, Payload: `[]`}, 0},
		{`1`, decoded{Kind: disconnect, Namespace: "/", ID: none}, 0},
		{`1/admin,`, decoded{Kind: disconnect, Namespace: "/admin", ID: none}, 0},
		{`51-["hey",` + hold0 + `]`, decoded{Kind: event, Await: 1, Namespace: "/", ID: none, Payload: `["hey",` + hold0 + `]`, Name: `"hey"`}, 0},
		{
			`52-/admin,789["x",` + hold0 + `,` + hold1 + `]`,
			decoded{Kind: event, Await: 2, Namespace: "/admin", ID: 789, Payload: `["x",` + hold0 + `,` + hold1 + `]`, Name: `"x"`},
			0,
		},
		{`61-7["x",` + hold0 + `]`, decoded{Kind: ack, Await: 1, Namespace: "/", ID: 7, Payload: `["x",` + hold0 + `]`}, 0},
		{`510-["x"]`, decoded{Kind: event, Await: 10, Namespace: "/", ID: none, Payload: `["x"]`, Name: `"x"`}, 0},
		{`51-["x",` + hold0 + `,` + hold0 + `]`, decoded{Kind: event, Await: 1, Namespace: "/", ID: none, Payload: `["x",` + hold0 + `,` + hold0 + `]`, Name: `"x"`}, 0},
		{`2["x",` + hold1 + `]`, decoded{Kind: event, Namespace: "/", ID: none, Payload: `["x",` + hold1 + `]`, Name: `"x"`}, 0},
		{`2 ["x"] `, decoded{Kind: event, Namespace: "/", ID: none, Payload: `["x"]`, Name: `"x"`}, 0},
		{deep, decoded{Kind: event, Namespace: "/", ID: none, Payload: deep[1:], Name: `"x"`}, 0},

		// accepted
		{`2["error","x"]`, decoded{Kind: event, Namespace: "/", ID: none, Payload: `["error","x"]`, Name: `"error"`}, 0},
		{`2["connection"]`, decoded{Kind: event, Namespace: "/", ID: none, Payload: `["connection"]`, Name: `"connection"`}, 0},
		{`2[1,2]`, decoded{Kind: event, Namespace: "/", ID: none, Payload: `[1,2]`, Name: `1`}, 0},
		{`2[""]`, decoded{Kind: event, Namespace: "/", ID: none, Payload: `[""]`, Name: `""`}, 0},
		{`2`, decoded{Kind: event, Namespace: "/", ID: none}, 0},
		{`21`, decoded{Kind: event, Namespace: "/", ID: 1}, 0},
		{`51-`, decoded{Kind: event, Await: 1, Namespace: "/", ID: none}, 0},
		{`3`, decoded{Kind: ack, Namespace: "/", ID: none}, 0},
		{`3[]`, decoded{Kind: ack, Namespace: "/", ID: none, Payload: `[]`}, 0},
		{`399["x"]`, decoded{Kind: ack, Namespace: "/", ID: 99, Payload: `["x"]`}, 0},
		{`10`, decoded{Kind: disconnect, Namespace: "/", ID: 0}, 0},

		// fatal
		{text: ``, f: faultType},
		{text: `7`, f: faultType},
		{text: `8["x"]`, f: faultType},
		{text: `abc`, f: faultType},
		{text: ` 2["x"]`, f: faultType},
		{text: `2[]`, f: faultEventName},
		{text: `2[null]`, f: faultEventName},
		{text: `2[{}]`, f: faultEventName},
		{text: `2[true]`, f: faultEventName},
		{text: `2[["x"]]`, f: faultEventName},
		{text: `2{"a":1}`, f: faultPayload},
		{text: `2"s"`, f: faultPayload},
		{text: `2null`, f: faultPayload},
		{text: `2["a"`, f: faultPayload},
		{text: `2["a"]junk`, f: faultPayload},
		{text: `2 `, f: faultPayload},
		{text: "2[\"a\nb\"]", f: faultPayload},
		{text: "2[\"\xff\"]", f: faultPayload},
		{text: `2["x",` + deep[1:] + `]`, f: faultDepth},
		{text: `2["connect"]`, f: faultEventName},
		{text: `2["connect_error"]`, f: faultEventName},
		{text: `2["disconnect"]`, f: faultEventName},
		{text: `2["disconnecting"]`, f: faultEventName},
		{text: `2["newListener"]`, f: faultEventName},
		{text: `2["removeListener",1]`, f: faultEventName},
		{text: `2["\u0063onnec\u0074"]`, f: faultEventName},
		{text: `2["\u0072\u0065\u006d\u006f\u0076\u0065\u004c\u0069\u0073\u0074\u0065\u006e\u0065\u0072"]`, f: faultEventName},
		{text: `2-1["x"]`, f: faultPayload},
		{text: `21.5["x"]`, f: faultPayload},
		{text: `2abc["x"]`, f: faultPayload},
		{text: `2+1["x"]`, f: faultPayload},
		{text: `29223372036854775808["x"]`, f: faultAckID},
		{text: `3{}`, f: faultPayload},
		{text: `37{}`, f: faultPayload},
		{text: `1{}`, f: faultPayload},
		{text: `1/admin,[]`, f: faultPayload},
		{text: `0"s"`, f: faultPayload},
		{text: `0[]`, f: faultPayload},
		{text: `0null`, f: faultPayload},
		{text: `0{`, f: faultPayload},
		{text: `4{"message":"x"}`, f: faultDirection},
		{text: `4`, f: faultDirection},
		{text: `50-["x"]`, f: faultAttachments},
		{text: `51["x"]`, f: faultAttachments},
		{text: `511-["x"]`, f: faultAttachments},
		{text: `5-["x"]`, f: faultAttachments},
		{text: `5`, f: faultAttachments},
		{text: `51`, f: faultAttachments},
		{text: `5-1-["x"]`, f: faultAttachments},
		{text: `51.5-["x"]`, f: faultAttachments},
		{text: `5 1-["x"]`, f: faultAttachments},
		{text: `60-1["x"]`, f: faultAttachments},
		{text: `51-["x",` + hold1 + `]`, f: faultPlaceholder},
		{text: `51-["x",{"_placeholder":true,"num":-1}]`, f: faultPlaceholder},
		{text: `51-["x",{"_placeholder":true}]`, f: faultPlaceholder},
		{text: `51-["disconnect"]`, f: faultEventName},
		{text: "0/a\x1eb", f: faultNamespace},
		{text: "0/\xff,", f: faultNamespace},
	} {
		in, f := decodeText([]byte(tc.text))
		if f != tc.f {
			t.Errorf("decodeText(%.60q): %v, want %v", tc.text, f, tc.f)
		}
		if f == 0 {
			if diff := cmp.Diff(show(in), tc.want); diff != "" {
				t.Errorf("decodeText(%.60q)\n%s", tc.text, diff)
			}
		}
	}
}

func TestEncodeText(t *testing.T) {
	for _, tc := range []struct {
		packet service.Packet
		want   string
	}{
		{service.Packet{Kind: service.KindConnect, Namespace: "/", AckID: service.NoAck, Payload: []byte(`{"sid":"ZSK5KgbH4F-1ejVLAAAA"}`)}, `0{"sid":"ZSK5KgbH4F-1ejVLAAAA"}`},
		{service.Packet{Kind: service.KindConnect, Namespace: "/admin", AckID: service.NoAck, Payload: []byte(`{"sid":"…"}`)}, `0/admin,{"sid":"…"}`},
		{service.Packet{Kind: service.KindConnectError, Namespace: "/nope", AckID: service.NoAck, Payload: []byte(`{"message":"Invalid namespace"}`)}, `4/nope,{"message":"Invalid namespace"}`},
		{service.Packet{Kind: service.KindDisconnect, Namespace: "/", AckID: service.NoAck}, `1`},
		{service.Packet{Kind: service.KindDisconnect, Namespace: "/admin", AckID: service.NoAck}, `1/admin,`},
		{service.Packet{Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Payload: []byte(`["hey",1]`)}, `2["hey",1]`},
		{service.Packet{Kind: service.KindEvent, Namespace: "/admin", AckID: 0, Payload: []byte(`["hey"]`)}, `2/admin,0["hey"]`},
		{service.Packet{Kind: service.KindAck, Namespace: "/", AckID: 1, Payload: []byte(`["ok"]`)}, `31["ok"]`},
		{service.Packet{Kind: service.KindAck, Namespace: "/admin", AckID: 12}, `3/admin,12[]`},
		{service.Packet{
			Kind: service.KindEvent, Namespace: "/admin", AckID: 789, Payload: []byte(`["x",{"_placeholder":true,"num":0}]`),
			Attachments: [][]byte{{1}, {2}},
		}, `52-/admin,789["x",{"_placeholder":true,"num":0}]`},
		{service.Packet{
			Kind: service.KindAck, Namespace: "/", AckID: 7, Payload: []byte(`[{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{1}},
		}, `61-7[{"_placeholder":true,"num":0}]`},
	} {
		f, err := JSON.Encode(&tc.packet)
		if err != nil {
			t.Errorf("%s: %v", tc.want, err)
			continue
		}
		text, binaries := wire(t, f)
		if text != tc.want || len(binaries) != len(tc.packet.Attachments) {
			t.Errorf("got %s with %d binaries, want %s", text, len(binaries), tc.want)
		}
		if n := len(tc.want) + 1 + len(tc.packet.Attachments); f.Len() != n {
			t.Errorf("%s: Len = %d, want %d", tc.want, f.Len(), n)
		}
	}
}

// FuzzDecodeText: what is taken can be written again and read the same.
func FuzzDecodeText(f *testing.F) {
	for _, s := range []string{
		`0{"token":"123"}`, `0/admin,`, `2["hey",1,"2",{"3":[true]}]`, `2/admin,12["hey"]`, `3/admin,12[]`, `1/admin`, `10`, `42["x"]`,
		`52-/admin,789["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, `61-7[]`, `2["\u0063onnect"]`, `2 [1.0] `,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		in, fault := decodeText(text)
		if !bytes.Equal(before, text) {
			t.Fatal("the text was changed")
		}
		if fault != 0 {
			if fault >= faults {
				t.Fatalf("fault %d", fault)
			}
			return
		}
		if in.payload != nil && !json.Valid(in.payload) && !bytes.Contains(in.payload, []byte("[[[[[[[[")) {
			t.Fatalf("payload %q is no JSON", in.payload)
		}
		if in.payload == nil && in.kind == service.KindEvent {
			return
		}
		p := service.Packet{Kind: in.kind, Namespace: show(in).Namespace, AckID: in.id, Payload: in.payload, Attachments: make([][]byte, in.await)}
		again := encodeText(&p)
		back, fault := decodeText(again)
		if fault != 0 {
			t.Fatalf("%q became %q: %v", text, again, fault)
		}
		want := show(in)
		if want.Kind != service.KindEvent && want.Kind != service.KindAck {
			want.ID = service.NoAck
		}
		if want.Kind == service.KindAck && want.Payload == "" {
			want.Payload = "[]"
		}
		if diff := cmp.Diff(show(back), want); diff != "" {
			t.Fatalf("%q became %q\n%s", text, again, diff)
		}
	})
}

func TestDecodeTextAllocatesNothing(t *testing.T) {
	text := []byte(`52-/admin,789["message",{"text":"hello é","n":[1,2.5]},{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
	if n := testing.AllocsPerRun(100, func() {
		if _, f := decodeText(text); f != 0 {
			t.Fatal(f)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func benchPacket() *service.Packet {
	return &service.Packet{
		Kind: service.KindEvent, Namespace: "/", AckID: 12,
		Payload: []byte(`["message",{"from":"alice","n":12345,"text":"` + strings.Repeat("a", 60) + `"}]`),
	}
}

func BenchmarkDecodeJSON(b *testing.B) {
	text := encodeText(benchPacket())
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, f := decodeText(text); f != 0 {
			b.Fatal(f)
		}
	}
}

func BenchmarkEncodeJSON(b *testing.B) {
	p := benchPacket()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := JSON.Encode(p); err != nil {
			b.Fatal(err)
		}
	}
}
