package redisbus

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	readBuffer = 32 << 10 // no line of a server is longer
	maxWord    = 1 << 10  // longest text that is looked at: words and names of channels
	maxPush    = 4        // parts of what a subscriber is told
	maxParts   = 1 << 10  // of an answer that is passed over
)

var errProtocol = errors.New("what answers there does not speak as Redis does; a server that wants TLS has rediss://")

// serverError is what a server has answered in place of what it was asked for.
type serverError string

func (e serverError) Error() string { return string(e) }

// word is the first one, by which errors of Redis are known.
func (e serverError) word() string {
	word, _, _ := strings.Cut(string(e), " ")
	return word
}

// reader reads RESP, version 2: the little of it that Pub/Sub needs. What it keeps is bounded, whatever comes.
type reader struct{ *bufio.Reader }

func newReader(r io.Reader) reader { return reader{bufio.NewReaderSize(r, readBuffer)} }

// line returns the next line without its end. It is good until the next read.
func (r reader) line() ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errProtocol
	case err != nil:
		return nil, err
	case len(line) < 3 || line[len(line)-2] != '\r':
		return nil, errProtocol
	}
	return line[:len(line)-2], nil
}

// header reads the line that begins something of a kind, and returns its number.
func (r reader) header(kind byte) (int, error) {
	line, err := r.line()
	switch {
	case err != nil:
		return 0, err
	case line[0] == '-':
		return 0, answered(line)
	case line[0] != kind:
		return 0, errProtocol
	}
	return number(line)
}

// number reads what stands behind the kind in a line: a length, or -1.
func number(line []byte) (int, error) {
	n, err := strconv.ParseInt(string(line[1:]), 10, 32) // lengths are below 2^30
	if err != nil || n < -1 {
		return 0, errProtocol
	}
	return int(n), nil
}

// answered is an error in a server's words, of which only so many are kept.
func answered(line []byte) error {
	return serverError(strings.ToValidUTF8(fmt.Sprintf("%.300s", line[1:]), "?"))
}

// word reads a short text. It is good until the next read.
func (r reader) word() ([]byte, error) {
	n, err := r.header('$')
	if err != nil {
		return nil, err
	}
	if n < 0 || n > maxWord {
		return nil, errProtocol
	}
	text, err := r.Peek(n + 2)
	if err != nil {
		return nil, err
	}
	_, err = r.Discard(n + 2)
	return text[:n], err
}

// push reads how a subscriber is told something: the number of parts, of which the first is read, and says its kind.
func (r reader) push() (parts int, kind []byte, err error) {
	if parts, err = r.header('*'); err != nil {
		return 0, nil, err
	}
	if parts < 1 || parts > maxPush {
		return 0, nil, errProtocol
	}
	kind, err = r.word()
	return parts, kind, err
}

// pass reads over n bytes of a text and its end.
func (r reader) pass(n int) error {
	_, err := r.Discard(n + 2)
	return err
}

// skip reads over answers, with all that is in them.
func (r reader) skip(answers int) error {
	for left, seen := answers, 0; left > 0; left-- {
		line, err := r.line()
		if err != nil {
			return err
		}
		n, kind := 0, line[0] // the line does not outlive the next read
		switch kind {
		case '$', '*':
			n, err = number(line)
		case '+', '-', ':':
		default:
			err = errProtocol
		}
		switch {
		case err != nil:
			return err
		case kind == '$' && n >= 0:
			err = r.pass(n)
		case kind == '*' && n > 0:
			left += n
		}
		if seen++; err == nil && seen+left > maxParts {
			err = errProtocol
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ok reads an answer that says only whether something was done.
func (r reader) ok() error {
	first, err := r.Peek(1)
	if err != nil {
		return err
	}
	if first[0] != '-' {
		return r.skip(1)
	}
	line, err := r.line()
	if err != nil {
		return err
	}
	return answered(line)
}

// appendCommand appends a command as servers read it.
func appendCommand(b []byte, words ...string) []byte {
	b = appendLength(b, '*', len(words))
	for _, word := range words {
		b = append(appendLength(b, '$', len(word)), word...)
		b = append(b, "\r\n"...)
	}
	return b
}

func appendLength(b []byte, kind byte, n int) []byte {
	b = strconv.AppendInt(append(b, kind), int64(n), 10)
	return append(b, "\r\n"...)
}

// full fills a buffer.
func (r reader) full(p []byte) error {
	_, err := io.ReadFull(r, p)
	return err
}
