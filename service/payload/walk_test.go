package payload

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWalk(t *testing.T) {
	var keys, values []string
	Members([]byte(" { \"a\" : [1, {\"x]\":\"}\"}] ,\"b\\\"\\\\\":\"\\\\\" , \"c\":-1.5e3,\"\":null} "), func(key, value []byte) bool {
		keys, values = append(keys, string(key)), append(values, string(value))
		return true
	})
	if diff := cmp.Diff(keys, []string{`"a"`, `"b\"\\"`, `"c"`, `""`}); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(values, []string{`[1, {"x]":"}"}]`, `"\\"`, `-1.5e3`, `null`}); diff != "" {
		t.Error(diff)
	}
	var items []string
	Items([]byte("[ true,[ ] ,{}, \"é\\\"\" ,0 ]"), func(item []byte) bool {
		items = append(items, string(item))
		return len(items) < 4
	})
	if diff := cmp.Diff(items, []string{`true`, `[ ]`, `{}`, `"é\""`}); diff != "" {
		t.Error(diff)
	}
	Members([]byte(`{ }`), func(_, _ []byte) bool { t.Error("a member of none"); return true })
	Items([]byte(`[]`), func([]byte) bool { t.Error("an item of none"); return true })
}

// FuzzWalk: what a walk takes a text apart into makes the text again.
func FuzzWalk(f *testing.F) {
	for _, s := range []string{`{"a":[1,{"b":"c"}],"d\"":null}`, `[[],{}," ] ",-1e5]`, ` [ "\\" , { "" : 0 } ] `} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if CheckValue(text, Options{}) != nil {
			return
		}
		i := space(text, 0)
		again := rebuild(nil, text[i:End(text, i)])
		var want bytes.Buffer
		if err := json.Compact(&want, text); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, want.Bytes()) {
			t.Fatalf("%s became %s", text, again)
		}
	})
}

func rebuild(dst, value []byte) []byte {
	open := len(dst) + 1
	comma := func() {
		if len(dst) > open {
			dst = append(dst, ',')
		}
	}
	switch value[0] {
	case '[':
		dst = append(dst, '[')
		Items(value, func(item []byte) bool {
			comma()
			dst = rebuild(dst, item)
			return true
		})
		return append(dst, ']')
	case '{':
		dst = append(dst, '{')
		Members(value, func(key, item []byte) bool {
			comma()
			dst = rebuild(append(append(dst, key...), ':'), item)
			return true
		})
		return append(dst, '}')
	default:
		return append(dst, value...)
	}
}
