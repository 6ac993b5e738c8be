package redisbus

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// What a server says is read within bounds, and what Redis would not say is told apart from what it would.
func TestReader(t *testing.T) {
	word := func(r reader) error { _, err := r.word(); return err }
	push := func(r reader) error { _, _, err := r.push(); return err }
	for _, test := range []struct {
		name, text string
		read       func(r reader) error
		want       error
	}{
		{"a word", "$3\r\nabc\r\n", word, nil},
		{"an empty word", "$0\r\n\r\n", word, nil},
		{"no word", "$-1\r\n", word, errProtocol},
		{"a negative length", "$-5\r\n", word, errProtocol},
		{"a length that is none", "$1e3\r\n", word, errProtocol},
		{"a length beyond bounds", "$1025\r\n", word, errProtocol},
		{"a length of 4 GiB", "$4294967296\r\n", word, errProtocol},
		{"a length without end", "$" + strings.Repeat("0", readBuffer), word, errProtocol},
		{"a word that breaks off", "$3\r\nab", word, io.EOF},
		{"a line without a return", "$3\nabc\r\n", word, errProtocol},
		{"nothing in a line", "\r\n", word, errProtocol},
		{"another kind", ":3\r\n", word, errProtocol},
		{"an error", "-NOPERM no\r\n", word, serverError("NOPERM no")},
		{"a push of no parts", "*0\r\n", push, errProtocol},
		{"a push of many parts", "*5\r\n", push, errProtocol},
		{"a push that is a text", "$3\r\nabc\r\n", push, errProtocol},
		{"done", "+OK\r\n", reader.ok, nil},
		{"a number", ":17\r\n", reader.ok, nil},
		{"a list", "*3\r\n$1\r\na\r\n*2\r\n:1\r\n*0\r\n$-1\r\n", reader.ok, nil},
		{"a list that is none", "*-1\r\n", reader.ok, nil},
		{"not done", "-ERR no\r\n", reader.ok, serverError("ERR no")},
		{"an error as long as a book", "-" + strings.Repeat("x", 5000) + "\r\n", reader.ok, serverError(strings.Repeat("x", 300))},
		{"a long list", "*1024\r\n", reader.ok, errProtocol},
		{"a list of 2^31", "*2147483648\r\n", reader.ok, errProtocol},
		{"lists in lists", strings.Repeat("*2\r\n", 2000), reader.ok, errProtocol},
		{"a text of 2 GiB that breaks off", "$2147483647\r\nx", reader.ok, io.EOF},
		{"another version", "%1\r\n", reader.ok, errProtocol},
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n", reader.ok, errProtocol},
	} {
		r := newReader(strings.NewReader(test.text))
		if err := test.read(r); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		} else if rest := r.Buffered(); err == nil && rest > 0 {
			t.Errorf("%s: %d bytes are left", test.name, rest)
		}
	}
}
