//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestExplainPage does what docs/explain.md says, at the chat that it starts. That the page shows what is printed, but
// for ids and times, a test of the command holds; here it is what the chat makes of it.
func TestExplainPage(t *testing.T) {
	d := openDocument(t, "docs/explain.md")
	term := openTerminal(t, builtCopy(t))
	chrome := openBrowser(t)
	term.serve("make run")
	visit := func(name string) {
		t.Helper()
		chrome.open(name, term.url("http://localhost:3000/"))
		chrome.until(name, connectedToChat)
		chrome.run(name, fmt.Sprintf("document.querySelector('#nickname').value = %q; document.querySelector('#rename').click()", name))
		chrome.until(name, fmt.Sprintf("document.querySelector('#who [data-own=true] [data-name]')?.textContent === %q", name))
	}
	id := regexp.MustCompile(`(?m)^\S{20}   \S{4} `)
	ago := regexp.MustCompile(`it went \S+ ago`)
	prints := func(command, shown string, code int) {
		t.Helper()
		plainly := func(text string) string {
			return ago.ReplaceAllString(id.ReplaceAllString(strings.TrimSpace(text), "SOCKET AND NODE "), "it went some time ago")
		}
		out := term.run(fmt.Sprintf("%s || test $? = %d", strings.TrimSpace(command), code))
		if got, want := plainly(out), plainly(shown); got != want {
			t.Errorf("%s prints\n%s\nand the page says\n%s", command, got, want)
		}
	}
	shown := regexp.MustCompile("(?s)\n```\n(SOCKET .*?)```").FindAllStringSubmatch(d.text, -1)
	if len(shown) != 2 {
		t.Fatalf("%d answers are shown", len(shown))
	}

	visit("ann")
	term.run(d.next("sh", "foyer join"))
	visit("bob")
	prints(d.next("sh", "--user ann"), shown[0][1], 3)
	chrome.open("bob", "about:blank")
	eventually(t, func() error {
		if out := term.run("bin/foyer sockets"); strings.Contains(out, "bob") {
			return fmt.Errorf("bob is still there: %s", out)
		}
		return nil
	})
	prints(d.next("sh", "--user bob"), shown[1][1], 3)
	if out := term.run(d.next("sh", "foyer handlers")); !strings.Contains(out, "   chat    ") {
		t.Errorf("the backend of the chat is not listed:\n%s", out)
	}
	out := regexp.MustCompile(`\s+`).ReplaceAllString(term.run(d.next("sh", "grpcurl")), " ")
	d.next("json", `"matched": 0`)
	for _, want := range []string{`"verdict": "VERDICT_EXCEPTED", "rooms": [ "lobby" ], "exceptRooms": [ "muted" ]`, `"matched": 0, "reached": 0, "verdicts": [ { "verdict": "VERDICT_EXCEPTED", "count": 1 } ]`} {
		if !strings.Contains(out, want) {
			t.Errorf("it lacks %s: %s", want, out)
		}
	}
}
