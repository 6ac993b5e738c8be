package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheck(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	mixed := func(n int) string { return strings.Repeat(`[{"a":`, n) + "1" + strings.Repeat("}]", n) }
	const hold = `{"_placeholder":true,"num":0}`
	for _, tc := range []struct {
		name        string
		text        string
		attachments int
		want        error // nil: right
	}{
		{"empty array", `[]`, 0, nil},
		{"spaces everywhere", " [ 1 , { \"a\" : [ ] , \"b\" : { } } , \"x\" ]\r\n\t", 0, nil},
		{"all kinds", `[1,-0,0.5,-1e9,1E+2,2e-2,true,false,null,"",{},[]]`, 0, nil},
		{"escapes", `["\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud800"]`, 0, nil},
		{"raw text of many lengths", `["é","日本語","😀","aaaaaaaaaaaaaaaa","1234567é","12345678\n"]`, 0, nil},
		{"a thousand deep", deep(1000), 0, nil},
		{"deeper", deep(1001), 0, Depth},
		{"mixed, a thousand deep", mixed(500), 0, nil},
		{"mixed, deeper", "[" + mixed(500) + "]", 0, Depth},

		{"object", `{"a":1}`, 0, NotArray},
		{"string", `"s"`, 0, NotArray},
		{"number", `-1`, 0, NotArray},
		{"null", `null`, 0, NotArray},
		{"nothing", ``, 0, Syntax},
		{"spaces only", "  ", 0, Syntax},
		{"junk", `x`, 0, Syntax},
		{"unfinished", `["a"`, 0, Syntax},
		{"junk after", `["a"]junk`, 0, Syntax},
		{"two values", `[][]`, 0, Syntax},
		{"comma first", `[,1]`, 0, Syntax},
		{"comma last", `[1,]`, 0, Syntax},
		{"no comma", `[1 2]`, 0, Syntax},
		{"wrong closing bracket", `[1}`, 0, Syntax},
		{"wrong closing brace", `[{"a":1]]`, 0, Syntax},
		{"key is no string", `[{1:2}]`, 0, Syntax},
		{"no colon", `[{"a" 1}]`, 0, Syntax},
		{"no value", `[{"a":}]`, 0, Syntax},
		{"comma before brace", `[{"a":1,}]`, 0, Syntax},
		{"only a key", `[{"a"}]`, 0, Syntax},
		{"leading zero", `[01]`, 0, Syntax},
		{"minus alone", `[-]`, 0, Syntax},
		{"no digit after point", `[1.]`, 0, Syntax},
		{"no digit before point", `[.5]`, 0, Syntax},
		{"no digit in exponent", `[1e+]`, 0, Syntax},
		{"plus", `[+1]`, 0, Syntax},
		{"NaN", `[NaN]`, 0, Syntax},
		{"word cut", `[tru]`, 0, Syntax},
		{"word joined", `[truee]`, 0, Syntax},
		{"upper case", `[TRUE]`, 0, Syntax},
		{"single quotes", `['a']`, 0, Syntax},
		{"raw newline", "[\"a\nb\"]", 0, Syntax},
		{"raw NUL", "[\"aaaaaaaaaaaaaaaa\x00\"]", 0, Syntax},
		{"unknown escape", `["\x"]`, 0, Syntax},
		{"bad hex", `["\u12g4"]`, 0, Syntax},
		{"cut escape", `["\u12`, 0, Syntax},
		{"backslash at the end", `["\`, 0, Syntax},
		{"byte order mark", "\ufeff[]", 0, Syntax},
		{"invalid UTF-8", "[\"a\xff\"]", 0, UTF8},
		{"cut UTF-8", "[\"\xe2\x82\"]", 0, UTF8},
		{"encoded surrogate", "[\"\xed\xa0\x80\"]", 0, UTF8},
		{"invalid UTF-8 in a key", "[{\"\xc0\xaf\":1}]", 0, UTF8},

		{"placeholder", `["x",` + hold + `]`, 1, nil},
		{"placeholder twice", `[` + hold + `,` + hold + `]`, 1, nil},
		{"attachment without placeholder", `["x"]`, 1, nil},
		{"placeholder out of range", `["x",{"_placeholder":true,"num":1}]`, 1, Placeholder},
		{"the last of ten", `["x",{"_placeholder":true,"num":9}]`, 10, nil},
		{"placeholder negative", `["x",{"_placeholder":true,"num":-1}]`, 1, Placeholder},
		{"placeholder between", `["x",{"_placeholder":true,"num":0.5}]`, 2, Placeholder},
		{"placeholder from a language of floats", `["x",{"_placeholder":true,"num":1.0}]`, 2, nil},
		{"placeholder, num no number", `["x",{"_placeholder":true,"num":"0"}]`, 1, Placeholder},
		{"placeholder, num an object", `["x",{"_placeholder":true,"num":{}}]`, 1, Placeholder},
		{"placeholder, num long", `["x",{"_placeholder":true,"num":0.00000000000000000000}]`, 1, Placeholder},
		{"placeholder without num", `["x",{"_placeholder":true}]`, 1, Placeholder},
		{"placeholder not true", `["x",{"_placeholder":1,"num":7}]`, 1, nil},
		{"placeholder an object", `["x",{"_placeholder":{"a":true},"num":7}]`, 1, nil},
		{"placeholder with other members", `["x",{"a":[1],"num":0,"b":{},"_placeholder":true}]`, 1, nil},
		{"placeholder deep", `["x",{"a":[{"b":{"num":3,"_placeholder":true}}]}]`, 1, Placeholder},
		{"placeholder in a placeholder", `[{"_placeholder":true,"num":0,"a":{"_placeholder":true,"num":3}}]`, 1, Placeholder},
		{"the later num counts", `[{"_placeholder":true,"num":0,"num":5}]`, 1, Placeholder},
		{"the later placeholder counts", `[{"_placeholder":true,"num":5,"_placeholder":false}]`, 1, nil},
		{"placeholder escaped", `[{"_pl\u0061ceholder":true,"n\u0075m":5}]`, 1, Placeholder},
		{"plain object without attachments", `["x",{"_placeholder":true,"num":5}]`, 0, nil},
		{"eleven attachments", `["x"]`, 11, Attachments},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Check([]byte(tc.text), tc.attachments, Options{})
			if !errors.Is(got, tc.want) || (got == nil) != (tc.want == nil) {
				t.Errorf("Check(%.60q, %d) = %v, want %v", tc.text, tc.attachments, got, tc.want)
			}
		})
	}
}

// TestCheckExact: what is emitted has a placeholder for each attachment and an attachment for each placeholder.
func TestCheckExact(t *testing.T) {
	const hold = `{"_placeholder":true,"num":0}`
	for _, tc := range []struct {
		name        string
		text        string
		attachments int
		want        error // nil: right
	}{
		{"neither", `["x",{"num":3},{"_placeholder":false}]`, 0, nil},
		{"one each", `["x",` + hold + `]`, 1, nil},
		{"one attachment at two places", `[` + hold + `,{"a":[` + hold + `]}]`, 1, nil},
		{"ten in disorder", `[` + strings.Join(holds(9, 1, 2, 3, 4, 5, 6, 7, 8, 0), ",") + `]`, 10, nil},
		{"placeholder without any attachment", `["x",` + hold + `]`, 0, Placeholder},
		{"placeholder deep without any attachment", `["x",{"a":[[` + hold + `]]}]`, 0, Placeholder},
		{"placeholder without num or attachment", `["x",{"_placeholder":true}]`, 0, Placeholder},
		{"placeholder of the next attachment", `[` + strings.Join(holds(0, 1), ",") + `]`, 1, Placeholder},
		{"attachment without placeholder", `["x"]`, 1, Unnamed},
		{"the last has no placeholder", `[` + strings.Join(holds(0, 1), ",") + `]`, 3, Unnamed},
		{"the first has no placeholder", `[` + strings.Join(holds(1, 2), ",") + `]`, 3, Unnamed},
		{"one in the place of another", `[` + strings.Join(holds(0, 0), ",") + `]`, 2, Unnamed},
		{"placeholder that is taken back", `[{"_placeholder":true,"num":0,"_placeholder":false}]`, 1, Unnamed},
		{"placeholder in a placeholder", `[{"_placeholder":true,"num":0,"a":[{"_placeholder":true,"num":1}]}]`, 2, Placeholder},
		{"syntax comes first", `[`, 1, Syntax},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Check([]byte(tc.text), tc.attachments, Options{Exact: true})
			if !errors.Is(got, tc.want) || (got == nil) != (tc.want == nil) {
				t.Errorf("Check(%.60q, %d) = %v, want %v", tc.text, tc.attachments, got, tc.want)
			}
		})
	}
}

func holds(nums ...int) []string {
	list := make([]string, len(nums))
	for i, n := range nums {
		list[i] = fmt.Sprintf(`{"_placeholder":true,"num":%d}`, n)
	}
	return list
}

// FuzzCheckExact holds the exact check against a decoder that does what a browser's does: it replaces placeholders, and
// none and no attachment is left.
func FuzzCheckExact(f *testing.F) {
	for _, s := range []string{
		`["x",{"_placeholder":true,"num":0}]`, `[{"_placeholder":true,"num":1},[{"num":0,"_placeholder":true}]]`, `[{"_placeholder":true}]`,
		`[{"_placeholder":true,"num":0,"a":{"_placeholder":true,"num":1}}]`, `[{"_placeholder":1,"num":0}]`, `[{"a":{"num":2e0}}]`,
	} {
		for n := range 3 {
			f.Add([]byte(s), n)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, attachments int) {
		if attachments < 0 || attachments > MaxAttachments || CheckValue(text, Options{}) != nil {
			return
		}
		var list []any
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		if dec.Decode(&list) != nil || list == nil || repeats(json.NewDecoder(bytes.NewReader(text))) {
			return // of two members with one name a decoder forgets the first with all that is in it
		}
		used, want := map[int]bool{}, true
		var replace func(v any)
		replace = func(v any) {
			switch v := v.(type) {
			case []any:
				for _, item := range v {
					replace(item)
				}
			case map[string]any:
				stands := v["_placeholder"] == true
				if stands {
					num, ok := v["num"].(json.Number)
					f, err := num.Float64()
					want = want && ok && err == nil && len(num) <= 16 && f >= 0 && f < float64(attachments) && f == float64(int(f))
					used[int(f)] = true
				}
				for _, member := range v {
					if stands {
						want = want && !holdsAny(member)
					} else {
						replace(member)
					}
				}
			}
		}
		replace(list)
		want = want && len(used) == attachments
		if err := Check(text, attachments, Options{Exact: true}); (err == nil) != want {
			t.Fatalf("Check(%q, %d) = %v, want right: %t", text, attachments, err, want)
		}
	})
}

// repeats says whether an object of the value that comes next has two members with one name.
func repeats(dec *json.Decoder) bool {
	token, err := dec.Token()
	open, ok := token.(json.Delim)
	if err != nil || !ok {
		return false
	}
	names, found := map[string]bool{}, false
	for dec.More() {
		if open == '{' {
			name, _ := dec.Token()
			found = found || names[name.(string)]
			names[name.(string)] = true
		}
		found = repeats(dec) || found
	}
	_, _ = dec.Token()
	return found
}

// holdsAny says whether a placeholder stands in v.
func holdsAny(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, holdsAny)
	case map[string]any:
		if v["_placeholder"] == true {
			return true
		}
		for _, member := range v {
			if holdsAny(member) {
				return true
			}
		}
	}
	return false
}

func TestCheckObjectAndValue(t *testing.T) {
	for _, tc := range []struct {
		text          string
		object, value error
	}{
		{`{}`, nil, nil},
		{` {"token":"123"} `, nil, nil},
		{`[]`, NotObject, nil},
		{`"s"`, NotObject, nil},
		{`null`, NotObject, nil},
		{`12`, NotObject, nil},
		{`nul`, NotObject, Syntax},
		{`{"a":1}x`, Syntax, Syntax},
		{``, Syntax, Syntax},
	} {
		if got := CheckObject([]byte(tc.text), Options{}); !errors.Is(got, tc.object) {
			t.Errorf("CheckObject(%q) = %v, want %v", tc.text, got, tc.object)
		}
		if got := CheckValue([]byte(tc.text), Options{}); !errors.Is(got, tc.value) {
			t.Errorf("CheckValue(%q) = %v, want %v", tc.text, got, tc.value)
		}
	}
}

func TestOptionsNarrow(t *testing.T) {
	if err := Check([]byte(`[[[]]]`), 0, Options{MaxDepth: 2}); !errors.Is(err, Depth) {
		t.Errorf("depth 3 of 2: %v", err)
	}
	if err := Check([]byte(`[[{}]]`), 0, Options{MaxDepth: 3}); err != nil {
		t.Errorf("depth 3 of 3: %v", err)
	}
}

func TestErrorTellsOffset(t *testing.T) {
	var e *Error
	if err := Check([]byte(`["abc",x]`), 0, Options{}); !errors.As(err, &e) || e.Offset != 7 {
		t.Errorf("got %v, want offset 7", err)
	}
}

func TestEventNameAndSplit(t *testing.T) {
	for _, tc := range []struct{ array, name, args string }{
		{`["hey"]`, "hey", `[]`},
		{` [ "hey" ] `, "hey", `[]`},
		{`["hey",1,"2",{"3":[true]}]`, "hey", `[1,"2",{"3":[true]}]`},
		{`[ "hey" , 1 ]`, "hey", `[ 1 ]`},
		{`["\u0068\"y\ud83d\ude00",[]]`, "h\"y😀", `[[]]`},
		{`["\ud800x"]`, "\uFFFDx", `[]`},
		{`["\ud800\u0041"]`, "\uFFFDA", `[]`},
		{`["\b\f\n\r\t\/\\"]`, "\b\f\n\r\t/\\", `[]`},
		{`[12,3]`, "12", `[3]`},
		{`[-1.50e3,3]`, "-1.50e3", `[3]`},
		{`["",3]`, "", `[3]`},
	} {
		name, args := Split([]byte(tc.array))
		if name != tc.name || string(args) != tc.args {
			t.Errorf("Split(%s) = %q, %s, want %q, %s", tc.array, name, args, tc.name, tc.args)
		}
	}
	for _, array := range []string{``, ` `, `[`, `[]`, `[null]`, `[{}]`, `[true]`, `["a`, `{}`, `[-]`} {
		if name, _, ok := EventName([]byte(array)); ok {
			t.Errorf("EventName(%s) = %q, want none", array, name)
		}
	}
}

func TestEvent(t *testing.T) {
	for _, tc := range []struct{ name, args, want string }{
		{"hey", ``, `["hey"]`},
		{"hey", `[]`, `["hey"]`},
		{"hey", " [ ] ", `["hey"] `},
		{"hey", `[1,[2]]`, `["hey",1,[2]]`},
		{"hey", ` [ 1 ]`, `["hey",1 ]`},
		{"q\"\\\x00\x1f\n\u2028é\xff", `[null]`, "[\"q\\\"\\\\\\u0000\\u001f\\n\u2028é\uFFFD\",null]"},
	} {
		if got := string(Event(tc.name, []byte(tc.args))); got != tc.want {
			t.Errorf("Event(%q, %s) = %s, want %s", tc.name, tc.args, got, tc.want)
		}
	}
}

func TestReserved(t *testing.T) {
	for _, name := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} {
		if !Reserved(name) {
			t.Errorf("%s is not reserved", name)
		}
	}
	for _, name := range []string{"", "connection", "error", "Connect", "message"} {
		if Reserved(name) {
			t.Errorf("%s is reserved", name)
		}
	}
}

func TestMeasure(t *testing.T) {
	for _, tc := range []struct {
		text        string
		attachments int
		want        Shape
	}{
		{`1`, 0, nil},
		{`[]`, 0, Shape{0}},
		{`["a",{"b":1,"c":[1,2,3]},{}]`, 0, Shape{3, 2, 3, 0}},
		{`["a",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0,"x":[{}]}]`, 2, Shape{3, -2, -1, 1, 0}},
		{`["a",{"_placeholder":true,"num":1}]`, 0, Shape{2, 2}},
	} {
		got, err := Measure([]byte(tc.text), tc.attachments, nil, Options{})
		if err != nil || fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("Measure(%s) = %v, %v, want %v", tc.text, got, err, tc.want)
		}
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	text := []byte(`["chat message",{"room":"lobby","text":"hello é \u00e9","n":[1,2.5,-3e7,true,null]},{"_placeholder":true,"num":0}]`)
	if n := testing.AllocsPerRun(100, func() {
		if Check(text, 1, Options{}) != nil {
			t.Fatal("refused")
		}
		if _, _, ok := Token(text); !ok {
			t.Fatal("no name")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// FuzzCheck holds the scanner against encoding/json, which knows everything but UTF-8 and our depth.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		`[]`, `{}`, `["hey",1,"2",{"3":[true]}]`, `[1.5e-7,-0,"\u00e9\\"]`, `["x",{"_placeholder":true,"num":0}]`, `[01]`, "[\"\xff\"]",
		`{"a":{"b":[null,false]}}`, ` [ 1 , 2 ] `, `["aaaaaaaaaaaaaaaaaaaaaaaaaaaaé"]`, `["\ud83d\ude00",""]`, `"s"`, `-1.0E+2`,
	} {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(func(t *testing.T, text []byte, attachments int) {
		if attachments < 0 || attachments > MaxAttachments {
			attachments = 0
		}
		err := CheckValue(text, Options{})
		want := json.Valid(text) && utf8.Valid(text)
		if errors.Is(err, Depth) {
			return
		}
		if (err == nil) != want {
			t.Fatalf("CheckValue = %v, encoding/json says %v", err, want)
		}
		shape, merr := Measure(text, attachments, nil, Options{})
		if err != nil {
			if merr == nil {
				t.Fatal("Measure is milder than CheckValue")
			}
			return
		}
		var v any
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("encoding/json cannot decode it: %v", err)
		}
		if merr != nil {
			if !errors.Is(merr, Placeholder) {
				t.Fatalf("Measure = %v", merr)
			}
			return
		}
		containers := 0
		inString := false
		for i := 0; i < len(text); i++ {
			switch c := text[i]; {
			case inString && c == '\\':
				i++
			case c == '"':
				inString = !inString
			case !inString && (c == '[' || c == '{'):
				containers++
			}
		}
		if containers != len(shape) {
			t.Fatalf("%d arrays and objects, shape %v", containers, shape)
		}
		list, ok := v.([]any)
		if (Check(text, 0, Options{}) == nil) != ok {
			t.Fatalf("Check disagrees on %T", v)
		}
		if _, ok := v.(map[string]any); (CheckObject(text, Options{}) == nil) != ok {
			t.Fatalf("CheckObject disagrees on %T", v)
		}
		if !ok {
			return
		}
		name, args := Split(text)
		if len(list) == 0 {
			return
		}
		switch first := list[0].(type) {
		case string:
			if name != first {
				t.Fatalf("name %q, want %q", name, first)
			}
			again := Event(name, args)
			var one, two any
			if json.Unmarshal(again, &one) == nil && json.Unmarshal(text, &two) == nil && fmt.Sprint(one) != fmt.Sprint(two) {
				t.Fatalf("Event(Split) = %s", again)
			}
			if err := Check(again, 0, Options{}); err != nil {
				t.Fatalf("Event(Split) = %s: %v", again, err)
			}
		case json.Number:
			if name != first.String() {
				t.Fatalf("name %q, want %q", name, first)
			}
		default:
			if name != "" || !bytes.Equal(args, text) {
				t.Fatalf("name %q of %T", name, first)
			}
		}
	})
}

// FuzzEventName: any text as a name comes back as itself.
func FuzzEventName(f *testing.F) {
	f.Add("hey")
	f.Add("\x00\"\\é\xff\u2028")
	f.Fuzz(func(t *testing.T, name string) {
		array := Event(name, nil)
		if !json.Valid(array) {
			t.Fatalf("%s is no JSON", array)
		}
		got, _, ok := EventName(array)
		if want := strings.ToValidUTF8(name, "\uFFFD"); !ok || (utf8.ValidString(name) && got != want) || !utf8.ValidString(got) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		text := []byte(`["message",{"from":"alice","n":12345,"text":"` + strings.Repeat("a", size) + `"}]`)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if Check(text, 0, Options{}) != nil {
					b.Fatal("refused")
				}
			}
		})
	}
}
