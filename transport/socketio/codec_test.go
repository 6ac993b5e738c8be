package socketio

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foyer/service"
	"foyer/transport/engineio"
)

// wire returns the parts of a frame. A message has no accessors, as only its session has to look into it.
func wire(t testing.TB, f service.Frame) (text string, binaries [][]byte) {
	t.Helper()
	v := reflect.ValueOf(f.(*engineio.Message)).Elem()
	for i := range v.FieldByName("attachments").Len() {
		binaries = append(binaries, v.FieldByName("attachments").Index(i).Bytes())
	}
	return string(v.FieldByName("text").Bytes()), binaries
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decoded is an incoming for comparing.
type decoded struct {
	Kind        service.Kind
	Await       int
	Namespace   string
	ID          int64
	Payload     string
	Name        string
	Attachments []string
}

func show(in incoming) decoded {
	d := decoded{in.kind, in.await, string(in.namespace), in.id, string(in.payload), string(in.name), nil}
	for _, a := range in.attachments {
		d.Attachments = append(d.Attachments, hex.EncodeToString(a))
	}
	if in.namespace == nil {
		d.Namespace = "/"
	}
	return d
}

type npmPacket struct {
	JSON    []string
	Msgpack string
	Again   string
	Packet  struct {
		Type        int
		Nsp         string
		ID          *int64
		Payload     string
		Attachments []string
	}
}

func npmPackets(t testing.TB) []npmPacket {
	t.Helper()
	file, err := os.Open("testdata/npm.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var list []npmPacket
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var p npmPacket
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 200 || lines.Err() != nil {
		t.Fatalf("%d packets, %v", len(list), lines.Err())
	}
	return list
}

// TestOfficialParsers decodes what the official parsers wrote, and writes the same as they do (testdata/npm.cjs).
func TestOfficialParsers(t *testing.T) {
	for i, p := range npmPackets(t) {
		want := decoded{Namespace: p.Packet.Nsp, ID: service.NoAck, Payload: p.Packet.Payload, Kind: service.Kind(p.Packet.Type)}
		want.Attachments = append(want.Attachments, p.Packet.Attachments...)
		packet := &service.Packet{Namespace: p.Packet.Nsp, AckID: service.NoAck, Payload: []byte(p.Packet.Payload)}
		for _, a := range want.Attachments {
			packet.Attachments = append(packet.Attachments, unhex(t, a))
		}
		if n := len(want.Attachments); n > 0 && want.Kind > service.KindConnectError {
			want.Kind -= 3
		}
		packet.Kind = want.Kind
		if p.Packet.ID != nil {
			want.ID, packet.AckID = *p.Packet.ID, *p.Packet.ID
		}

		in, f := decodeMsgpack(unhex(t, p.Msgpack), 1<<20)
		got := show(in)
		got.Name = ""
		if diff := cmp.Diff(got, want); f != 0 || diff != "" {
			t.Errorf("%d: decodeMsgpack: %v\n%s", i, f, diff)
		}
		in, f = decodeText([]byte(p.JSON[0]))
		got = show(in)
		want.Await, want.Attachments = len(want.Attachments), nil
		got.Name = ""
		if diff := cmp.Diff(got, want); f != 0 || diff != "" {
			t.Errorf("%d: decodeText: %v\n%s", i, f, diff)
		}
		frame, err := JSON.Encode(packet)
		if err != nil {
			t.Fatal(err)
		}
		if text, binaries := wire(t, frame); text != p.JSON[0] || len(binaries) != len(p.JSON)-1 {
			t.Errorf("%d: JSON\n got %s\nwant %s", i, text, p.JSON[0])
		}
		frame, err = Msgpack.Encode(packet)
		if err != nil {
			t.Fatal(err)
		}
		if _, binaries := wire(t, frame); !bytes.Equal(binaries[0], unhex(t, p.Again)) {
			t.Errorf("%d: msgpack of %s\n got %x\nwant %s", i, p.Packet.Payload, binaries[0], p.Again)
		}
	}
}

func TestCodecsAreComparable(t *testing.T) {
	if JSON == Msgpack || JSON == JSONv2 || JSON != service.Codec(jsonCodec{}) || Msgpack != service.Codec(msgpackCodec{}) || JSONv2 != service.Codec(jsonV2Codec{}) {
		t.Error("codecs do not compare as they should")
	}
}

func TestEncodeRefuses(t *testing.T) {
	eleven := make([][]byte, 11)
	for _, tc := range []struct {
		name   string
		packet service.Packet
		codecs []service.Codec
	}{
		{"unknown kind", service.Packet{Kind: 9, Namespace: "/"}, []service.Codec{JSON, JSONv2, Msgpack}},
		{"event without payload", service.Packet{Kind: service.KindEvent, Namespace: "/"}, []service.Codec{JSON, Msgpack}},
		{"too many attachments", service.Packet{Kind: service.KindEvent, Namespace: "/", Payload: []byte(`["x"]`), Attachments: eleven}, []service.Codec{JSON, Msgpack}},
		{"attachments of a connect", service.Packet{Kind: service.KindConnect, Namespace: "/", Attachments: eleven[:1]}, []service.Codec{JSON, Msgpack}},
		{"comma in a namespace", service.Packet{Kind: service.KindDisconnect, Namespace: "/a,b"}, []service.Codec{JSON}},
		{"no JSON", service.Packet{Kind: service.KindEvent, Namespace: "/", Payload: []byte(`["x"`)}, []service.Codec{Msgpack}},
		{"placeholder out of range", service.Packet{
			Kind: service.KindEvent, Namespace: "/", Payload: []byte(`[{"_placeholder":true,"num":1}]`), Attachments: eleven[:1],
		}, []service.Codec{Msgpack}},
	} {
		for _, c := range tc.codecs {
			if f, err := c.Encode(&tc.packet); err == nil || f != nil {
				t.Errorf("%s: %T.Encode = %v, %v, want an error", tc.name, c, f, err)
			}
		}
	}
}
