package engineio

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

type gotPacket struct {
	Type   string
	Binary bool
	Data   string
}

func decodeAll(body []byte) (got []gotPacket, failed bool) {
	for r := newPayloadReader(body); ; {
		p, ok, err := r.next()
		if err != nil {
			return got, true
		}
		if !ok {
			return got, false
		}
		got = append(got, gotPacket{string(p.typ), p.binary, string(p.data)})
	}
}

func TestPayload(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       []gotPacket
		failed     bool
	}{
		{"text, binary, euro", "4hello\x1ebAQIDBA==\x1e4€", []gotPacket{{"4", false, "hello"}, {"4", true, "\x01\x02\x03\x04"}, {"4", false, "€"}}, false},
		{"empty text", "4", []gotPacket{{"4", false, ""}}, false},
		{"empty binary", "b", []gotPacket{{"4", true, ""}}, false},
		{"heartbeat", "3", []gotPacket{{"3", false, ""}}, false},
		{"probe", "2probe", []gotPacket{{"2", false, "probe"}}, false},
		{"empty body", "", nil, true},
		{"leading separator", "\x1e4a", nil, true},
		{"trailing separator", "4a\x1e", []gotPacket{{"4", false, "a"}}, true},
		{"unknown type after a good one", "4a\x1e7b\x1e4c", []gotPacket{{"4", false, "a"}}, true},
		{"type over 6", "7", nil, true},
		{"letter", "abc", nil, true},
		{"no UTF-8", "4\xff", nil, true},
		{"no padding", "bAQIDBA", []gotPacket{{"4", true, "\x01\x02\x03\x04"}}, false},
		{"url alphabet", "b-_-_", []gotPacket{{"4", true, "\xfb\xff\xbf"}}, false},
		{"junk skipped", "bA!Q I\nDB A==", []gotPacket{{"4", true, "\x01\x02\x03\x04"}}, false},
		{"a lone letter", "bA", []gotPacket{{"4", true, ""}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, failed := decodeAll([]byte(tt.body))
			if diff := cmp.Diff(got, tt.want); diff != "" || failed != tt.failed {
				t.Errorf("failed %v, want %v; packets got - want +:\n%s", failed, tt.failed, diff)
			}
		})
	}
}

func TestMessageForms(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, tt := range []struct {
		name           string
		m              *Message
		plain, polling string
	}{
		{"text", NewMessage([]byte("hello"), nil), "\x81\x064hello", "4hello"},
		{"empty text", NewMessage(nil, nil), "\x81\x014", "4"},
		{"text and attachments", NewMessage([]byte("5"), [][]byte{{1, 2, 3, 4}, {}}), "\x81\x0245\x82\x04\x01\x02\x03\x04\x82\x00", "45\x1ebAQIDBA==\x1eb"},
		{"binary", NewBinary([]byte{1, 2, 3, 4}), "\x82\x04\x01\x02\x03\x04", "bAQIDBA=="},
		{"empty binary", NewBinary(nil), "\x82\x00", "b"},
		{"16 bit length", NewMessage([]byte(long), nil), "\x81\x7e\x00\xc94" + long, "4" + long},
		{"64 bit length", NewBinary(make([]byte, 1<<16)), "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + string(make([]byte, 1<<16)), "b" + base64.StdEncoding.EncodeToString(make([]byte, 1<<16))},
		{"control", pingMessage, "\x81\x012", "2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(tt.m.frames(eio4, false)); got != tt.plain {
				t.Errorf("frames %.80q, want %.80q", got, tt.plain)
			}
			if got := string(tt.m.payload()); got != tt.polling {
				t.Errorf("payload %.80q, want %.80q", got, tt.polling)
			}
			if a, b := tt.m.frames(eio4, false), tt.m.frames(eio4, true); len(a) < compressFrom && &a[0] != &b[0] {
				t.Error("a small message has a form of its own for deflate")
			}
		})
	}
}

func TestBatchJoinsAndSplits(t *testing.T) {
	small, large := NewMessage(bytes.Repeat([]byte("s"), 100), nil), NewBinary(make([]byte, joinBytes))
	b := batch{control: []byte{0x8a, 0}, items: []item{{msg: small}, {msg: small}, {msg: large}, {msg: small}}}
	var sizes []int
	var all []byte
	for c := b.chunk(); c != nil; c = b.chunk() {
		sizes = append(sizes, len(c))
		all = append(all, c...)
	}
	if diff := cmp.Diff(sizes, []int{2, 206, joinBytes + 4, 103}); diff != "" {
		t.Errorf("chunks got - want +:\n%s", diff)
	}
	want := bytes.Join([][]byte{{0x8a, 0}, small.frames(eio4, false), small.frames(eio4, false), large.frames(eio4, false), small.frames(eio4, false)}, nil)
	if !bytes.Equal(all, want) {
		t.Error("joined bytes differ")
	}
	if b.join != nil {
		t.Error("join buffer not given back")
	}
}

func TestDeflateOffers(t *testing.T) {
	for offer, want := range map[string]bool{
		"permessage-deflate":                                                true,
		"permessage-deflate; client_max_window_bits":                        true,
		"permessage-deflate; server_max_window_bits=15":                     true,
		"permessage-deflate; server_max_window_bits=10":                     false,
		"permessage-deflate; server_max_window_bits=10, permessage-deflate": true,
		"permessage-deflate; unknown":                                       false,
		"x-webkit-deflate-frame":                                            false,
		"":                                                                  false,
	} {
		if got := offersDeflate(map[string][]string{"Sec-Websocket-Extensions": {offer}}); got != want {
			t.Errorf("%q: %v, want %v", offer, got, want)
		}
	}
}

func TestAcceptsGzip(t *testing.T) {
	for accept, want := range map[string]bool{
		"gzip": true, "gzip, deflate, br": true, "br;q=1, GZIP; q=0.5": true, "*": true, "gzip;q=0": false, "br": false, "": false, "gzip;q=x": false,
	} {
		if got := acceptsGzip(map[string][]string{"Accept-Encoding": {accept}}); got != want {
			t.Errorf("%q: %v, want %v", accept, got, want)
		}
	}
}

func TestParseQuery(t *testing.T) {
	got := parseQuery("EIO=3&EIO=4&a=%41+b&bad=%zz&flag&=x&u=%ff&s=1;2")
	want := map[string]string{"EIO": "4", "a": "A b", "bad": "%zz", "flag": "", "": "x", "u": "\uFFFD", "s": "1;2"}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got - want +:\n%s", diff)
	}
}

func TestValidate(t *testing.T) {
	bad := Config{Path: "x", PingInterval: -1, MaxPayload: -1, QueueBytes: -1, Origins: []string{"example.com", "*", "https://ok.example"}, HandshakeHeaders: []string{"Cookie"}}
	err := bad.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	if n := len(strings.Split(err.Error(), "\n")); n != 6 {
		t.Errorf("%d complaints, want 6: %v", n, err)
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("zero: %v", err)
	}
}

func FuzzPayload(f *testing.F) {
	for _, s := range []string{"4hello\x1ebAQIDBA==\x1e4€", "", "\x1e", "b", "2probe", "b-_=", "1\x1e4"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		packets, failed := decodeAll(body)
		if failed {
			return
		}
		if !utf8.Valid(body) {
			t.Fatal("accepted what is no UTF-8")
		}
		var parts []string // encoding what was decoded decodes to the same
		for _, p := range packets {
			switch {
			case p.Binary:
				parts = append(parts, string(NewBinary([]byte(p.Data)).payload()))
			case p.Type == "4":
				parts = append(parts, string(NewMessage([]byte(p.Data), nil).payload()))
			default:
				parts = append(parts, p.Type+p.Data)
			}
		}
		again, failed := decodeAll([]byte(strings.Join(parts, "\x1e")))
		if diff := cmp.Diff(again, packets); failed || diff != "" {
			t.Fatalf("round trip: failed %v\n%s", failed, diff)
		}
	})
}

func FuzzPacket(f *testing.F) {
	for _, s := range []string{"4a", "", "b", "bA", "7", "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePacket(b)
		if err == nil && (p.typ < packetOpen || p.typ > packetNoop) {
			t.Fatalf("type %q", p.typ)
		}
	})
}

func FuzzBase64(f *testing.F) {
	f.Add([]byte("hello"), "!")
	f.Fuzz(func(t *testing.T, data []byte, junk string) {
		_ = decodeBase64([]byte(junk))
		if got := decodeBase64([]byte(base64.StdEncoding.EncodeToString(data))); !bytes.Equal(got, data) {
			t.Fatalf("%q, want %q", got, data)
		}
		if got := decodeBase64([]byte(base64.RawURLEncoding.EncodeToString(data))); !bytes.Equal(got, data) {
			t.Fatalf("%q, want %q", got, data)
		}
	})
}
