package grpcapi

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"foyer/service/payload"
)

func TestAppendValue(t *testing.T) {
	list := func(v ...any) *structpb.Value {
		l, err := structpb.NewList(v)
		if err != nil {
			t.Fatal(err)
		}
		return structpb.NewListValue(l)
	}
	for _, c := range []struct {
		name string
		in   *structpb.Value
		want string
	}{
		{"null", structpb.NewNullValue(), `null`},
		{"bool", structpb.NewBoolValue(true), `true`},
		{"whole", structpb.NewNumberValue(5), `5`},
		{"negative", structpb.NewNumberValue(-12), `-12`},
		{"negative zero", structpb.NewNumberValue(math.Copysign(0, -1)), `0`},
		{"million", structpb.NewNumberValue(1e6), `1000000`},
		{"largest exact", structpb.NewNumberValue(1 << 53), `9007199254740992`},
		{"1e20", structpb.NewNumberValue(1e20), `100000000000000000000`},
		{"1e21", structpb.NewNumberValue(1e21), `1e+21`},
		{"fraction", structpb.NewNumberValue(0.1), `0.1`},
		{"small", structpb.NewNumberValue(1e-6), `0.000001`},
		{"smaller", structpb.NewNumberValue(1e-7), `1e-7`},
		{"smallest", structpb.NewNumberValue(5e-324), `5e-324`},
		{"largest", structpb.NewNumberValue(math.MaxFloat64), `1.7976931348623157e+308`},
		{"string", structpb.NewStringValue("a\"\n<é\u2028"), "\"a\\\"\\n<é\u2028\""},
		{"list", list(1, "a", nil, map[string]any{"b": 1, "a": []any{}}), `[1,"a",null,{"a":[],"b":1}]`},
		{"NaN", structpb.NewNumberValue(math.NaN()), `error: ` + errNumber.Error()},
		{"infinite", structpb.NewNumberValue(math.Inf(-1)), `error: ` + errNumber.Error()},
		{"no kind", &structpb.Value{}, `error: ` + errKind.Error()},
		{"nil", nil, `error: ` + errKind.Error()},
		{"nil in list", structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{nil}}), `error: [0]: ` + errKind.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := appendValue(nil, c.in, 1)
			if err != nil {
				got = []byte("error: " + err.Error())
			}
			if string(got) != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if err == nil && !json.Valid(got) {
				t.Errorf("%s is not JSON", got)
			}
		})
	}
}

func TestAppendValueDepth(t *testing.T) {
	nest := func(n int) *structpb.ListValue {
		l := &structpb.ListValue{}
		for range n - 1 {
			l = &structpb.ListValue{Values: []*structpb.Value{structpb.NewListValue(l)}}
		}
		return l
	}
	if _, err := appendList(nil, nest(payload.MaxDepth), 1); err != nil {
		t.Errorf("depth %d: got %v, want none", payload.MaxDepth, err)
	}
	if _, err := appendList(nil, nest(payload.MaxDepth+1), 1); !errors.Is(err, errDepth) {
		t.Errorf("depth %d: got %v, want %v", payload.MaxDepth+1, err, errDepth)
	}
}

func TestStructOf(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for _, c := range []struct {
		name, in string
		ok       bool
	}{
		{"empty", `{}`, true},
		{"some", `{"token":"x","n":1.5,"l":[null,true,{"a":{}}]}`, true},
		{"repeated name", `{"a":1,"a":2}`, true},
		{"half a pair", `{"a":"\ud800"}`, true},
		{"as deep as may be", nested(maxStructDepth), true},
		{"deeper", nested(maxStructDepth + 1), false},
		{"a number that is no double", `{"a":1e999}`, false},
		{"no object", `[]`, false},
		{"no JSON", `{`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := structOf([]byte(c.in))
			if (err == nil) != c.ok {
				t.Fatalf("got %v, want ok %t", err, c.ok)
			}
			if err != nil {
				return
			}
			if size := proto.Size(s); size > payload.Unpacked([]byte(c.in)) {
				t.Errorf("estimated %d bytes, has %d", payload.Unpacked([]byte(c.in)), size)
			}
			wire, err := proto.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			// What other languages' protobuf reads: a hundred levels, of which the messages around it take a few.
			if err := (proto.UnmarshalOptions{RecursionLimit: 94}).Unmarshal(wire, &structpb.Struct{}); err != nil {
				t.Errorf("nested too deep for others: %v", err)
			}
		})
	}
	if s, err := structOf(nil); s != nil || err != nil {
		t.Errorf("nil: got %v, %v, want nil", s, err)
	}
}
