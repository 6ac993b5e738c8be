//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// TestReadme does what the README says, in a fresh copy of the repository, as somebody does who has never seen it. Only
// ports are exchanged for free ones. The pages of docs/ have tests of their own, with the binary that is here already.
func TestReadme(t *testing.T) {
	d := openDocument(t, "README.md")
	term := openTerminal(t, freshCopy(t))
	chrome := openBrowser(t)

	// Start
	term.serve(d.next("sh", "make run"))
	for _, window := range []string{"one", "two"} {
		chrome.open(window, term.url("http://localhost:3000/"))
		chrome.until(window, connectedToChat)
	}
	hello := d.next("sh", "hello from grpcurl")
	chrome.until("one", fmt.Sprintf("%q.trim().endsWith('\\n' + document.querySelector('#hint-command').textContent)", term.here(hello))) // the page shows the same
	wantMatched(t, term.run(hello), 2)
	chrome.shows("one", "hello from grpcurl")
	chrome.shows("two", "hello from grpcurl")

	// Building and tests: these take long, and are what CI runs. Their names and all that they are made of exist.
	term.run(regexp.MustCompile(`(?m)^make `).ReplaceAllString(d.next("sh", "make soak"), "make -n "))
}

// connectedToChat is true in a page of the chat that is connected.
const connectedToChat = "document.querySelector('#status[data-state=connected]')"

// builtCopy is a fresh copy of the repository in which the binary is built already: that make builds one there,
// TestReadme holds.
func builtCopy(t testing.TB) string {
	t.Helper()
	dir := freshCopy(t)
	script := "mkdir bin && cp -r " + absolute(t, "../cmd/foyer/web/npm") + " cmd/foyer/web/ && cp " + binary(t) + " bin/foyer"
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func absolute(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// wantMatched wants an answer to tell of so many sockets.
func wantMatched(t testing.TB, out string, sockets int) {
	t.Helper()
	m := regexp.MustCompile(`"matched": (\d+)`).FindStringSubmatch(out)
	if m == nil || m[1] != string(rune('0'+sockets)) {
		t.Errorf("got %s, want %d matched", out, sockets)
	}
}
