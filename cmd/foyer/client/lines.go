package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// line is a message in protobuf's JSON form, as one line. The same message always makes the same line.
func line(m proto.Message) ([]byte, error) {
	text, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil { // protojson puts in spaces by chance
		return nil, err
	}
	b.WriteByte('\n')
	return plainJSON(b.Bytes()), nil
}

// plainJSON escapes what JSON lets stand in a string and a terminal would obey: the controls from 0x7f to 0x9f, and
// those that turn text around.
func plainJSON(text []byte) []byte {
	var b []byte // a copy, once there is something to escape
	done := 0
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r >= 0x7f && r <= 0x9f || r >= 0x200e && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			b = fmt.Appendf(append(b, text[done:i]...), `\u%04x`, r)
			done = i + size
		}
		i += size
	}
	if b == nil {
		return text
	}
	return append(b, text[done:]...)
}

// printLines prints messages, one a line.
func printLines[M proto.Message](s *System, all ...M) error {
	var b []byte
	for _, m := range all {
		text, err := line(m)
		if err != nil {
			return err
		}
		b = append(b, text...)
	}
	if len(b) == 0 {
		return nil
	}
	return s.print(b)
}
