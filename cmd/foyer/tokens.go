package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// maxToken is the longest token in bytes: it has to fit into a call's headers beside others.
const maxToken = 4096

// tokens are those of the API, which others may follow. Safe for concurrent use.
type tokens struct {
	now atomic.Pointer[[]string]
	use func([]string) error // has the API know them
}

// list is the tokens in use; none: the API is everybody's.
func (t *tokens) list() []string {
	if now := t.now.Load(); now != nil {
		return *now
	}
	return nil
}

// take reads the content of a token file and puts its tokens to use. It says how many there are and how many come and
// go. An error changes nothing.
func (t *tokens) take(contents [][]byte) (string, error) {
	before := t.list()
	now, err := parseTokens(contents[0])
	if err != nil {
		return "", &contentError{0, err}
	}
	t.now.Store(&now) // first: the chat's backend, sent away by what follows, comes back with one of them
	if t.use != nil {
		if err := t.use(now); err != nil {
			t.now.Store(&before)
			return "", &contentError{0, err}
		}
	}
	return fmt.Sprintf("%d of them, %d new, %d removed", len(now), count(now, before), count(before, now)), nil
}

// count says how many of those are not among others.
func count(those, others []string) (n int) {
	for _, t := range those {
		if !slices.Contains(others, t) {
			n++
		}
	}
	return n
}

// parseTokens reads bearer tokens, one a line; empty lines and those that begin with # are left out. Errors name the
// line and not what is in it.
func parseTokens(text []byte) ([]string, error) {
	var list []string
	number := 0
	for line := range bytes.Lines(bytes.TrimPrefix(text, []byte("\ufeff"))) { // some editors begin a file with that
		number++
		t := string(bytes.TrimSpace(line))
		switch {
		case t == "" || strings.HasPrefix(t, "#"):
			continue
		case len(t) > maxToken:
			return nil, fmt.Errorf("line %d is longer than %d bytes", number, maxToken)
		case strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }):
			return nil, fmt.Errorf("line %d is no token: a token is ASCII without spaces, one a line", number)
		}
		if !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("there is no token in it: write one a line")
	}
	return list, nil
}

// readTokens is the tokens of a file that is read once.
func readTokens(flag, file string) ([]string, error) {
	var t tokens
	r := reloadable{name: "tokens", files: []source{{flag, file}}, take: t.take}
	if _, err := r.load(); err != nil {
		return nil, err
	}
	return t.list(), nil
}
