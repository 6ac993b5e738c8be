package grpcapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/payload"
)

// This file turns JSON into google.protobuf.Struct and back. protojson will not do: it refuses what browsers may send
// (repeated names), and its output is not stable on purpose.

var (
	errNumber = errors.New("is a number that JSON does not have: NaN or an infinity")
	errKind   = errors.New("is a value without a kind: one of null_value, number_value, string_value, bool_value, struct_value and list_value is required")
	errDepth  = fmt.Errorf("is nested deeper than %d levels", payload.MaxDepth)
)

// valueError is what is wrong with a value, and where it stands: [2].price.
type valueError struct {
	path  string
	fault error
}

func (e *valueError) Error() string { return e.path + ": " + e.fault.Error() }

func (e *valueError) Unwrap() error { return e.fault }

// maxValuePath is how much is told of a path: names are the caller's, and may be as long as the caller likes.
const maxValuePath = 200

// inside says that err is of what stands at step.
func inside(step string, err error) error {
	if errors.Is(err, errDepth) { // a path of a thousand steps says no more
		return err
	}
	e, ok := errors.AsType[*valueError](err)
	if !ok {
		e = &valueError{fault: err}
	}
	if e.path = step + e.path; len(e.path) > maxValuePath {
		e.path = strings.ToValidUTF8(e.path[:maxValuePath], "") + "\u2026"
	}
	return e
}

// argsForm says which form the arguments of a Payload or Args have; neither: no arguments.
func argsForm(m argsMessage) (list *structpb.ListValue, isList, isJSON bool) {
	switch m := m.(type) {
	case *foyerv1.Payload:
		switch a := m.GetArgs().(type) {
		case *foyerv1.Payload_Json:
			return nil, false, true
		case *foyerv1.Payload_Values:
			return a.Values, true, false
		}
	case *foyerv1.Args:
		switch a := m.GetArgs().(type) {
		case *foyerv1.Args_Json:
			return nil, false, true
		case *foyerv1.Args_Values:
			return a.Values, true, false
		}
	}
	return nil, false, false
}

// appendValue appends v as JSON. depth is how deep v stands itself if it is a list or an object.
func appendValue(dst []byte, v *structpb.Value, depth int) ([]byte, error) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_NullValue:
		return append(dst, "null"...), nil
	case *structpb.Value_BoolValue:
		return strconv.AppendBool(dst, k.BoolValue), nil
	case *structpb.Value_NumberValue:
		return appendNumber(dst, k.NumberValue)
	case *structpb.Value_StringValue:
		return payload.AppendQuoted(dst, k.StringValue), nil
	case *structpb.Value_ListValue:
		return appendList(dst, k.ListValue, depth)
	case *structpb.Value_StructValue:
		return appendObject(dst, k.StructValue, depth)
	}
	return nil, errKind
}

func appendList(dst []byte, l *structpb.ListValue, depth int) ([]byte, error) {
	if depth > payload.MaxDepth {
		return nil, errDepth
	}
	dst = append(dst, '[')
	for i, v := range l.GetValues() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendValue(dst, v, depth+1); err != nil {
			return nil, inside(fmt.Sprintf("[%d]", i), err)
		}
	}
	return append(dst, ']'), nil
}

// appendObject writes the members by name, so that the same object always gives the same bytes.
func appendObject(dst []byte, s *structpb.Struct, depth int) ([]byte, error) {
	if depth > payload.MaxDepth {
		return nil, errDepth
	}
	names := make([]string, 0, len(s.GetFields()))
	for name := range s.GetFields() {
		names = append(names, name)
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(payload.AppendQuoted(dst, name), ':')
		var err error
		if dst, err = appendValue(dst, s.GetFields()[name], depth+1); err != nil {
			return nil, inside("."+name, err)
		}
	}
	return append(dst, '}'), nil
}

// appendNumber writes a number as a browser would (ECMAScript, Number::toString): whole numbers without point or
// exponent up to 1e21, no negative zero. What came in as 5 is not to arrive as 5e+00.
func appendNumber(dst []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, errNumber
	}
	if f == 0 {
		return append(dst, '0'), nil
	}
	if abs := math.Abs(f); abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64), nil
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if n := len(dst); dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' { // Go pads the exponent to two digits: 1e-07
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst, nil
}

// objectJSON is a Struct as JSON; nil for nil.
func objectJSON(s *structpb.Struct) ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	return appendObject(nil, s, 1)
}

// maxStructDepth is how deep JSON of a client may be to become a Struct. Each level is three messages deep, and
// protobuf in several languages reads a hundred at most: a deeper one would end the stream of every handler that is
// told of it.
const maxStructDepth = 28

// structOf is a JSON object as a Struct; nil for nil.
func structOf(object []byte) (*structpb.Struct, error) {
	if object == nil {
		return nil, nil
	}
	if err := payload.CheckObject(object, payload.Options{MaxDepth: maxStructDepth}); err != nil {
		return nil, err
	}
	var fields map[string]any
	if err := json.Unmarshal(object, &fields); err != nil { // a number beyond a double
		return nil, err
	}
	return structpb.NewStruct(fields)
}

// text is s fit for a message: protobuf refuses to send what is not UTF-8, and what a client has in its URL must not
// end a backend's stream.
func text(s string) string {
	if utf8.ValidString(s) { // eight bytes at a time, where ToValidUTF8 takes one
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func textMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[text(k)] = text(v)
	}
	return out
}
