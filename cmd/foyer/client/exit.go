package client

import (
	"errors"
	"fmt"
	"strings"

	foyerv1 "foyer/gen/foyer/v1"
)

// Exit codes, which the help tells. Programs may rely on them.
const (
	Done       = 0 // all of it
	Failed     = 1 // the node refused, or something else went wrong
	Usage      = 2 // the command line, a setting or a context is wrong
	Nobody     = 3 // the target reached nobody, or what was asked for is not there
	Partial    = 4 // done, but not all of it is known or was reached
	Unanswered = 5 // the node does not answer, or takes no calls at this time
)

// ExitCodes tells them to people.
const ExitCodes = `Exit codes: 0 done. 1 it failed. 2 the command line, a setting or a context is wrong. 3 the target reached nobody, or what was asked for is not there. 4 done in part: a node did not answer, a copy was dropped or an acknowledgement did not come. 5 the node does not answer, or takes no calls at this time.`

// Error is why a command did not end with Done. Its text is safe for a terminal.
type Error struct {
	Code int
	Text string
}

func (e *Error) Error() string { return e.Text }

func failure(code int, format string, args ...any) error {
	return &Error{code, clean(fmt.Sprintf(format, args...))}
}

// CodeOf is the exit code for the error of a command.
func CodeOf(err error) int {
	if err == nil {
		return Done
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Failed
}

// missing says which nodes an answer does not speak for; "": it speaks for all that can be asked.
func missing(c *foyerv1.Coverage) string {
	names, unnamed := c.GetUnreachable(), c.GetUnreachableUnnamed()
	switch n := len(names) + int(unnamed); {
	case n == 0:
		return ""
	case unnamed == 0:
		return fmt.Sprintf("%s did not answer: %s", count(n, "node"), strings.Join(names, ", "))
	case len(names) == 0:
		return count(n, "node") + " did not answer"
	default:
		return fmt.Sprintf("%s did not answer: %s and %d more", count(n, "node"), strings.Join(names, ", "), unnamed)
	}
}

// uncounted tells of servers that take part and cannot count.
func uncounted(c *foyerv1.Coverage) string {
	if n := c.GetUncountedNodes(); n > 0 {
		return count(int(n), "Socket.IO server") + " on Node took part without being counted"
	}
	return ""
}

// verdict is how an answer about a target ends: with what is not known, or that there was nobody.
func (c *caller) verdict(matched int32, coverage *foyerv1.Coverage, also ...string) error {
	var parts []string
	if m := missing(coverage); m != "" {
		parts = append(parts, "the answer is only partial: "+m)
	}
	for _, text := range also {
		if text != "" {
			parts = append(parts, text)
		}
	}
	more := uncounted(coverage)
	switch {
	case len(parts) > 0:
		if more != "" {
			parts = append(parts, more)
		}
		return failure(Partial, "%s", strings.Join(parts, "; "))
	case more != "":
		c.sys.note(more)
	case matched == 0:
		return failure(Nobody, "the target reached nobody")
	}
	return nil
}

// count is a number with its word.
func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}
