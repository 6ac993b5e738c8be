package client

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// clean makes a string of anybody's safe for a terminal: what is not to be seen is written as an escape, as \x1b or
// \u202e. That is control characters, those that turn or hide text, line ends, and what is no UTF-8.
func clean(text string) string {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' {
			return cleaned(text)
		}
	}
	return text
}

func cleaned(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// brief is a text of so many characters at most.
func brief(text string, most int) string {
	n := 0
	for i := range text {
		if n++; n > most {
			return text[:i] + "…"
		}
	}
	return text
}
