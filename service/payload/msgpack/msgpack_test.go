package msgpack

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"
)

func TestAppendNumeral(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`0`, `00`},
		{`-0`, `00`},
		{`-0.0`, `00`},
		{`127`, `7f`},
		{`128`, `cc80`},
		{`-32`, `e0`},
		{`-33`, `d0df`},
		{`1.0`, `01`},
		{`1e3`, `cd03e8`},
		{`1.5`, `cb3ff8000000000000`},
		{`9223372036854775807`, `cf7fffffffffffffff`},
		{`18446744073709551615`, `cfffffffffffffffff`},
		{`-9223372036854775808`, `d38000000000000000`},
		{`18446744073709551616`, `cb43f0000000000000`},
		{`1e400`, `cb7ff0000000000000`},
		{`-1e400`, `cbfff0000000000000`},
		{`1e-400`, `00`},
		{`0.` + strings.Repeat("0", 400) + `1`, `00`},
	} {
		if got := hex.EncodeToString(AppendNumeral(nil, []byte(tc.text))); got != tc.want {
			t.Errorf("%.30s: got %s, want %s", tc.text, got, tc.want)
		}
	}
}

func TestReadIsTotal(t *testing.T) {
	for c := range 256 {
		b := append([]byte{byte(c)}, make([]byte, 16)...)
		for n := range b {
			if it, next, ok := Read(b[:n], 0); ok && (next > n || next < 1 || it.Num > math.MaxInt64 && it.Kind == Uint) {
				t.Errorf("%x of %d bytes: %+v, next %d", c, n, it, next)
			}
		}
	}
}

// Dates of notepack.io 3 and @msgpack/msgpack, and what Node.js makes of them in JSON.
func TestTimestamps(t *testing.T) {
	for _, tc := range []struct{ hex, want string }{
		{`d6ff00000001`, `"1970-01-01T00:00:01.000Z"`},
		{`d6ffffffffff`, `"2106-02-07T06:28:15.000Z"`},
		{`d7ff1d4ef580` + `65ae2f80`, `"2024-01-22T09:04:00.122Z"`},
		{`c70cff` + `3b023380` + `ffffffffffffffff`, `"1969-12-31T23:59:59.990Z"`},
		{`c70cff` + `00000000` + `7fffffffffffffff`, `null`},
		{`c708ff` + `00000000` + `00000002`, `"1970-01-01T00:00:02.000Z"`},
		{`d7000000018bcfe5687b`, `"2023-11-14T22:13:20.123Z"`},
	} {
		b, err := hex.DecodeString(tc.hex)
		if err != nil {
			t.Fatal(err)
		}
		text := Text{MaxBytes: 100, Timestamps: true}
		if f := text.Value(b, 0); f != 0 || string(text.Out) != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.hex, text.Out, f, tc.want)
		}
	}
	broken := Text{MaxBytes: 100, Timestamps: true}
	if f := broken.Value([]byte{0xd5, 0xff, 0, 0}, 0); f != Broken {
		t.Errorf("a timestamp of two bytes: %v", f)
	}
	old := Text{MaxBytes: 100}
	if f := old.Value([]byte{0xd6, 0xff, 0, 0, 0, 1}, 0); f != 0 || string(old.Out) != `[-1,{"_placeholder":true,"num":0}]` {
		t.Errorf("notepack.io 2: %s, %v", old.Out, f)
	}
}
