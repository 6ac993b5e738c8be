package service

import (
	"strings"
	"testing"
)

// TestNodeIDAlphabet: a node's name begins ids, which stand in URLs, topics and rooms: no byte beside the alphabet
// passes.
func TestNodeIDAlphabet(t *testing.T) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for c := range 256 {
		for at := range nodeIDLen {
			id := []byte("aaaa")
			id[at] = byte(c)
			err := (&Config{NodeID: string(id)}).Validate()
			if want := strings.IndexByte(alphabet, byte(c)) >= 0; (err == nil) != want {
				t.Errorf("%q: %v", id, err)
			}
			if err != nil && !strings.Contains(err.Error(), "A-Z a-z 0-9 - _") {
				t.Errorf("%q: the error does not say what is right: %v", id, err)
			}
		}
	}
	for _, id := range []string{"abc", "abcde", "é12"} {
		if (&Config{NodeID: id}).Validate() == nil {
			t.Errorf("%q is taken", id)
		}
	}
}
