package socketio

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foyer/service"
	"foyer/service/payload"
	"foyer/service/payload/msgpack"
)

// The examples of the reference, "msgpack parser".
func TestMsgpackExamples(t *testing.T) {
	twenty := strings.Repeat("61", 20)
	for _, tc := range []struct {
		name, bytes string
		want        decoded
	}{
		{
			"connect, no auth", `83 a474797065 00 a464617461 d40000 a36e7370 a12f`,
			decoded{Kind: service.KindConnect, Namespace: "/", ID: service.NoAck},
		},
		{
			"connected", `83 a474797065 00 a464617461 82 a3736964 b4` + twenty + ` a3706964 d40000 a36e7370 a12f`,
			decoded{Kind: service.KindConnect, Namespace: "/", ID: service.NoAck, Payload: `{"sid":"aaaaaaaaaaaaaaaaaaaa"}`},
		},
		{
			"emit", `85 a474797065 02 a464617461 92 a26869 a178 a76f7074696f6e73 81 a8636f6d7072657373 c3 a26964 00 a36e7370 a12f`,
			decoded{Kind: service.KindEvent, Namespace: "/", ID: 0, Payload: `["hi","x"]`, Name: `"hi"`},
		},
		{
			"ack", `84 a26964 00 a474797065 03 a464617461 92 a26f6b c4020102 a36e7370 a12f`,
			decoded{Kind: service.KindAck, Namespace: "/", ID: 0, Payload: `["ok",{"_placeholder":true,"num":0}]`, Attachments: []string{"0102"}},
		},
		{"disconnect", `82 a474797065 01 a36e7370 a12f`, decoded{Kind: service.KindDisconnect, Namespace: "/", ID: service.NoAck}},
	} {
		in, f := decodeMsgpack(unhex(t, tc.bytes), 1000)
		if diff := cmp.Diff(show(in), tc.want); f != 0 || diff != "" {
			t.Errorf("%s: %v\n%s", tc.name, f, diff)
		}
	}
	for _, tc := range []struct {
		packet service.Packet
		want   string
	}{
		{
			service.Packet{Kind: service.KindConnect, Namespace: "/", AckID: service.NoAck, Payload: []byte(`{"sid":"aaaaaaaaaaaaaaaaaaaa"}`)},
			`83 a474797065 00 a464617461 81 a3736964 b4` + twenty + ` a36e7370 a12f`,
		},
		{
			service.Packet{Kind: service.KindAck, Namespace: "/", AckID: 0, Payload: []byte(`["ok",{"_placeholder":true,"num":0}]`), Attachments: [][]byte{{1, 2}}},
			`84 a26964 00 a474797065 03 a464617461 92 a26f6b c4020102 a36e7370 a12f`,
		},
		{
			service.Packet{Kind: service.KindConnectError, Namespace: "/nope", AckID: service.NoAck, Payload: []byte(`{"message":"Invalid namespace"}`)},
			`83 a474797065 04 a36e7370 a52f6e6f7065 a464617461 81 a76d657373616765 b1` + hex.EncodeToString([]byte("Invalid namespace")),
		},
		{service.Packet{Kind: service.KindDisconnect, Namespace: "/", AckID: service.NoAck}, `82 a474797065 01 a36e7370 a12f`},
		{service.Packet{Kind: service.KindAck, Namespace: "/", AckID: 0}, `84 a26964 00 a474797065 03 a464617461 90 a36e7370 a12f`},
	} {
		f, err := Msgpack.Encode(&tc.packet)
		if err != nil {
			t.Errorf("%s: %v", tc.want, err)
			continue
		}
		if text, parts := wire(t, f); text != "" || len(parts) != 1 || !bytes.Equal(parts[0], unhex(t, tc.want)) {
			t.Errorf("got %x, want %s", parts, tc.want)
		}
	}
}

// packed wraps the hex of one argument into an event "e".
func packed(arg string) string {
	return `83 a474797065 02 a36e7370 a12f a464617461 92 a165 ` + arg
}

func TestMsgpackValues(t *testing.T) {
	hold := `{"_placeholder":true,"num":0}`
	for _, tc := range []struct {
		arg, want   string
		attachments []string
	}{
		{`c0`, `null`, nil},
		{`c2`, `false`, nil},
		{`c3`, `true`, nil},
		{`00`, `0`, nil},
		{`7f`, `127`, nil},
		{`ff`, `-1`, nil},
		{`e0`, `-32`, nil},
		{`ccff`, `255`, nil},
		{`cdffff`, `65535`, nil},
		{`ceffffffff`, `4294967295`, nil},
		{`cf0020000000000000`, `9007199254740992`, nil},
		{`cfffffffffffffffff`, `18446744073709551615`, nil},
		{`d080`, `-128`, nil},
		{`d18000`, `-32768`, nil},
		{`d280000000`, `-2147483648`, nil},
		{`d38000000000000000`, `-9223372036854775808`, nil},
		{`d30000000000000001`, `1`, nil},
		{`ca3dcccccd`, `0.10000000149011612`, nil},
		{`ca7f800000`, `null`, nil},
		{`cb3fb999999999999a`, `0.1`, nil},
		{`cb8000000000000000`, `0`, nil},
		{`cb7ff8000000000000`, `null`, nil},
		{`cbfff0000000000000`, `null`, nil},
		{`cb444b1ae4d6e2ef50`, `1e+21`, nil},
		{`cb3e7ad7f29abcaf48`, `1e-7`, nil},
		{`d40000`, `null`, nil},
		{`d4007f`, `null`, nil},
		{`d700 0000018bcfe5687b`, `"2023-11-14T22:13:20.123Z"`, nil},
		{`d700 ffffffffffffffff`, `"1969-12-31T23:59:59.999Z"`, nil},
		{`d700 001eb208c2dc0000`, `"+275760-09-13T00:00:00.000Z"`, nil},
		{`d700 ffe14df73d240000`, `"-271821-04-20T00:00:00.000Z"`, nil},
		{`d700 7fffffffffffffff`, `null`, nil},
		{`a0`, `""`, nil},
		{`d90161`, `"a"`, nil},
		{`da000161`, `"a"`, nil},
		{`db0000000161`, `"a"`, nil},
		{`a3225c0a`, `"\"\\\n"`, nil},
		{`a2ff61`, `"` + "\uFFFD" + `a"`, nil},
		{`c40102`, hold, []string{"02"}},
		{`c5000102`, hold, []string{"02"}},
		{`c60000000102`, hold, []string{"02"}},
		{`c7010002`, hold, []string{"02"}},
		{`c800010002`, hold, []string{"02"}},
		{`c9000000010002`, hold, []string{"02"}},
		{`c70000`, hold, []string{""}},
		{`d40502`, `[5,` + hold + `]`, []string{"02"}},
		{`d6ff01020304`, `[-1,` + hold + `]`, []string{"01020304"}},
		{`d5000102`, `[0,` + hold + `]`, []string{"0102"}},
		{`c7010502`, `[5,` + hold + `]`, []string{"02"}},
		{`90`, `[]`, nil},
		{`dc000101`, `[1]`, nil},
		{`dd0000000101`, `[1]`, nil},
		{`80`, `{}`, nil},
		{`81a16101`, `{"a":1}`, nil},
		{`de0001a16101`, `{"a":1}`, nil},
		{`df00000001a16101`, `{"a":1}`, nil},
		{`82a161d40000a16201`, `{"b":1}`, nil},
		{`82a16101a162d40000`, `{"a":1}`, nil},
		{`93d4000001d40000`, `[null,1,null]`, nil},
		{`810501`, `{"5":1}`, nil},
		{`81c001`, `{"null":1}`, nil},
		{`81c301`, `{"true":1}`, nil},
		{`81cb3fe000000000000001`, `{"0.5":1}`, nil},
		{`9291c401019181a161c40102`, `[[` + hold + `],[{"a":{"_placeholder":true,"num":1}}]]`, []string{"01", "02"}},
		{`82ac5f706c616365686f6c646572c3a36e756d09`, `{"_placeholder":true,"num":9}`, nil},
	} {
		in, f := decodeMsgpack(unhex(t, packed(tc.arg)), 1000)
		want := decoded{Kind: service.KindEvent, Namespace: "/", ID: service.NoAck, Payload: `["e",` + tc.want + `]`, Name: `"e"`, Attachments: tc.attachments}
		if diff := cmp.Diff(show(in), want); f != 0 || diff != "" {
			t.Errorf("%s: %v\n%s", tc.arg, f, diff)
		}
	}
}

func TestMsgpackFaults(t *testing.T) {
	ten := strings.Repeat("c400", 10)
	for _, tc := range []struct {
		name, bytes string
		want        fault
	}{
		{"nothing", ``, faultPayload},
		{"no map", `90`, faultPayload},
		{"map cut", `82 a474797065 01`, faultPayload},
		{"trailing byte", `82 a474797065 01 a36e7370 a12f 00`, faultPayload},
		{"no type", `81 a36e7370 a12f`, faultType},
		{"type 5", `82 a474797065 05 a36e7370 a12f`, faultType},
		{"type -1", `82 a474797065 ff a36e7370 a12f`, faultType},
		{"type 1.5", `82 a474797065 cb3ff8000000000000 a36e7370 a12f`, faultType},
		{"type a string", `82 a474797065 a131 a36e7370 a12f`, faultType},
		{"type 4", `83 a474797065 04 a36e7370 a12f a464617461 80`, faultDirection},
		{"no nsp", `81 a474797065 01`, faultNamespace},
		{"nsp a number", `82 a474797065 01 a36e7370 01`, faultNamespace},
		{"nsp no UTF-8", `82 a474797065 01 a36e7370 a22fff`, faultNamespace},
		{"id null", `83 a474797065 01 a36e7370 a12f a26964 c0`, faultAckID},
		{"id a string", `83 a474797065 01 a36e7370 a12f a26964 a131`, faultAckID},
		{"id 0.5", `83 a474797065 01 a36e7370 a12f a26964 cb3fe0000000000000`, faultAckID},
		{"id negative", `83 a474797065 01 a36e7370 a12f a26964 ff`, faultAckID},
		{"id over int64", `83 a474797065 01 a36e7370 a12f a26964 cf8000000000000000`, faultAckID},
		{"event without data", `82 a474797065 02 a36e7370 a12f`, faultPayload},
		{"event, data undefined", `83 a474797065 02 a36e7370 a12f a464617461 d40000`, faultPayload},
		{"event, data a map", `83 a474797065 02 a36e7370 a12f a464617461 80`, faultPayload},
		{"ack, data null", `83 a474797065 03 a36e7370 a12f a464617461 c0`, faultPayload},
		{"connect, data null", `83 a474797065 00 a36e7370 a12f a464617461 c0`, faultPayload},
		{"connect, data an array", `83 a474797065 00 a36e7370 a12f a464617461 90`, faultPayload},
		{"connect, data a date", `83 a474797065 00 a36e7370 a12f a464617461 d7000000000000000000`, faultPayload},
		{"disconnect, data null", `83 a474797065 01 a36e7370 a12f a464617461 c0`, faultPayload},
		{"the byte that is never used", packed(`c1`), faultPayload},
		{"string cut", packed(`a261`), faultPayload},
		{"long string cut", packed(`dbffffffff61`), faultPayload},
		{"array longer than the message", packed(`ddffffffff`), faultPayload},
		{"map longer than the message", packed(`dfffffffff`), faultPayload},
		{"nested arrays longer than the message", packed(`dd00000003 dd00000003 dd00000003`), faultPayload},
		{"ext cut", packed(`d700000000`), faultPayload},
		{"a map as a key", packed(`818001`), faultPayload},
		{"bytes as a key", packed(`81c4016101`), faultPayload},
		{"NaN as a key", packed(`81cb7ff800000000000001`), faultPayload},
		{"eleven binaries", packed(`9b` + ten + `c400`), faultAttachments},
		{"too large as JSON", packed(`da0200` + strings.Repeat("00", 512)), faultTooLarge},
		{"too large with its binaries", packed(`92c501f0` + strings.Repeat("00", 496) + `c501f0` + strings.Repeat("00", 496)), faultTooLarge},
		{"a literal placeholder next to a binary", packed(`92c40082ac5f706c616365686f6c646572c3a36e756d09`), faultPlaceholder},
	} {
		if _, f := decodeMsgpack(unhex(t, tc.bytes), 1000); f != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, f, tc.want)
		}
	}
	if _, f := decodeMsgpack(unhex(t, packed(strings.Repeat("91", 999)+"90")), 10_000); f != faultDepth {
		t.Errorf("depth 1001: %v", f)
	}
	if _, f := decodeMsgpack(unhex(t, packed(strings.Repeat("91", 998)+"90")), 10_000); f != 0 {
		t.Errorf("depth 1000: %v", f)
	}
}

// Names that the reference's msgpack parser takes although nobody listens for them: no fault, but no name either.
func TestMsgpackNameless(t *testing.T) {
	for _, data := range []string{`90`, `91c0`, `9180`, `91a7636f6e6e656374`, `91c400`} {
		in, f := decodeMsgpack(unhex(t, `83 a474797065 02 a36e7370 a12f a464617461 `+data), 1000)
		if f != 0 || in.name != nil {
			t.Errorf("%s: fault %v, name %q", data, f, in.name)
		}
	}
}

func TestMsgpackAuthWithBinary(t *testing.T) {
	in, f := decodeMsgpack(unhex(t, `83 a474797065 00 a36e7370 a12f a464617461 81 a16b c40201ff`), 1000)
	if want := `{"k":{"type":"Buffer","data":[1,255]}}`; f != 0 || string(in.payload) != want || in.attachments != nil {
		t.Errorf("got %s, %v, want %s", in.payload, f, want)
	}
}

// A packet must not hold a message in memory of which it is a small part: queues count what packets weigh.
func TestSmallPacketsHoldNoLargeMessage(t *testing.T) {
	junk := strings.Repeat("00", 60_000)
	in, f := decodeMsgpack(unhex(t, `84 a474797065 02 a36e7370 a12f a464617461 92 a165 c40101 a178 c5ea60`+junk), 1<<20)
	if f != 0 || cap(in.attachments[0]) > 64 {
		t.Errorf("msgpack: %v, attachment of capacity %d", f, cap(in.attachments[0]))
	}
	h, l, _ := joinedLink(t, Config{})
	l.Message([]byte(`2["x"]`+strings.Repeat(" ", 60_000)), false)
	if p := h.received[0]; string(p.Payload) != `["x"]` || cap(p.Payload) > 64 {
		t.Errorf("text: payload %s of capacity %d", p.Payload, cap(p.Payload))
	}
}

// FuzzDecodeMsgpack: whatever is taken is right JSON, which the encoder takes, and decodes to itself.
func FuzzDecodeMsgpack(f *testing.F) {
	for _, p := range npmPackets(f)[:60] {
		b, _ := hex.DecodeString(p.Msgpack)
		f.Add(b)
	}
	for _, arg := range []string{`810501`, `d40502`, `82a161d40000a16201`, `cb3e7ad7f29abcaf48`, `9291c401019181a161c40102`, `a2ff61`, `d7000000018bcfe5687b`} {
		b, _ := hex.DecodeString(strings.ReplaceAll(packed(arg), " ", ""))
		f.Add(b)
	}
	const maxBytes = 1 << 16
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		in, fault := decodeMsgpack(b, maxBytes)
		if !bytes.Equal(b, before) {
			t.Fatal("the message was changed")
		}
		if fault != 0 {
			return
		}
		if in.payload != nil {
			if err := payload.CheckValue(in.payload, payload.Options{}); err != nil {
				t.Fatalf("payload %q: %v", in.payload, err)
			}
			if in.kind != service.KindConnect {
				if err := payload.Check(in.payload, len(in.attachments), payload.Options{}); err != nil {
					t.Fatalf("payload %q with %d attachments: %v", in.payload, len(in.attachments), err)
				}
			}
		}
		p := service.Packet{Kind: in.kind, Namespace: string(in.namespace), AckID: in.id, Payload: in.payload, Attachments: in.attachments}
		again, err := appendMsgpack(nil, &p)
		if err != nil {
			t.Fatal(err)
		}
		back, fault := decodeMsgpack(again, 2*maxBytes)
		if fault != 0 {
			t.Fatalf("%s became %x: %v", in.payload, again, fault)
		}
		want := show(in)
		if in.kind == service.KindConnect || in.kind == service.KindDisconnect {
			want.ID = service.NoAck
		}
		if diff := cmp.Diff(show(back), want); diff != "" && !bytes.ContainsAny(in.payload, ".e") { // 2^64 as a float64 is written in full
			t.Fatalf("%s became %x\n%s", in.payload, again, diff)
		}
	})
}

// FuzzEncodeMsgpack: JSON that went through msgpack means the same.
func FuzzEncodeMsgpack(f *testing.F) {
	for _, s := range []string{`["hey",1,"2",{"3":[true]}]`, `["\u00e9\n",-0.5,1e300,18446744073709551615]`, ` [ "x" , { "a" : {} } ] `, `["x",{"_placeholder":true,"num":1}]`} {
		f.Add([]byte(s), []byte("binary"))
	}
	f.Fuzz(func(t *testing.T, text, attachment []byte) {
		p := service.Packet{Kind: service.KindEvent, Namespace: "/", AckID: service.NoAck, Payload: text}
		b, err := appendMsgpack(nil, &p)
		if err != nil {
			if json.Valid(text) && payload.CheckValue(text, payload.Options{}) == nil {
				t.Fatalf("%s: %v", text, err)
			}
			return
		}
		if in, fault := decodeMsgpack(b, 1<<24); fault == 0 {
			var one, two any
			err1, err2 := json.Unmarshal(text, &one), json.Unmarshal(in.payload, &two)
			if err1 != nil { // a number that float64 cannot hold
				return
			}
			if diff := cmp.Diff(one, two); err2 != nil || diff != "" {
				t.Fatalf("%s became %s: %v\n%s", text, in.payload, err2, diff)
			}
		} else if payload.Check(text, 0, payload.Options{}) == nil {
			t.Fatalf("%s became %x: %v", text, b, fault)
		}
		p.Attachments = [][]byte{attachment, nil}
		if b, err = appendMsgpack(nil, &p); err == nil {
			if _, ok := msgpack.Skip(b, 0); !ok {
				t.Fatalf("%s became %x, which is no msgpack", text, b)
			}
		}
	})
}

func BenchmarkDecodeMsgpack(b *testing.B) {
	data, err := appendMsgpack(nil, benchPacket())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, f := decodeMsgpack(data, 1<<20); f != 0 {
			b.Fatal(f)
		}
	}
}

func BenchmarkEncodeMsgpack(b *testing.B) {
	p := benchPacket()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Msgpack.Encode(p); err != nil {
			b.Fatal(err)
		}
	}
}
