//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// TestNodePage does what docs/node.md says, in its order, with a page at each of the three servers: what one of them
// says, each of the others shows once.
func TestNodePage(t *testing.T) {
	d := openDocument(t, "docs/node.md")
	term := openTerminal(t, builtCopy(t))
	chrome := openBrowser(t)
	term.run(d.next("sh", "npm ci"))

	// Four commands
	term.start(d.next("sh", "bin/redis-server"))
	awaitPort(t, term.ports["6379"])
	server := term.start(d.next("sh", "node-server/server.js"))
	server.prints(t, "listening")
	term.serve(d.next("sh", "--cluster-prefix"))
	startSecond := d.next("sh", "--edge 127.0.0.1:3001")
	second := term.serve(startSecond)
	pages := map[string]string{}
	for _, row := range d.table("| page | served by |") {
		pages[row[1]] = row[0]
	}
	windows := []string{"the server on Node", "the first Foyer node", "the second Foyer node"}
	connected := "document.getElementById('status').textContent.toLowerCase().startsWith('connected')"
	for _, window := range windows {
		if pages[window] == "" {
			t.Fatalf("the page lists no address of %s", window)
		}
		chrome.open(window, term.url(pages[window]))
		chrome.until(window, connected)
	}
	said := 0
	says := func(window string, seen ...string) {
		t.Helper()
		said++
		text := fmt.Sprintf("number %d, by %s", said, window)
		chrome.run(window, fmt.Sprintf(`{
			const input = document.getElementById("message-input");
			input.value = %q;
			input.dispatchEvent(new Event("input"));
			document.getElementById("send").click();
		}`, text))
		for _, other := range seen {
			chrome.shows(other, text)
			chrome.until(other, fmt.Sprintf("document.getElementById('log').textContent.split(%q).length === 2", text))
		}
	}
	for _, window := range windows {
		says(window, windows...)
	}
	chrome.run(windows[1], `{
		document.getElementById("nickname").value = "Ann";
		document.getElementById("rename").click();
	}`)
	named := `[...document.querySelectorAll("#who [data-name]")].some((e) => e.textContent === "Ann")`
	chrome.until(windows[2], named)
	chrome.open(windows[2], term.url(pages[windows[2]])) // the chat of one node calls people as that of the other does
	chrome.until(windows[2], named)

	// An official emitter
	term.run(d.next("sh", "emit.js"))
	for _, window := range windows {
		chrome.shows(window, "hello from an emitter")
	}

	// A node dies. Not by the commands: another test on this machine may have such a process.
	crash := func(j *job) {
		t.Helper()
		if kill := d.next("sh", "pkill"); !strings.HasPrefix(kill, "pkill -9 -f ") {
			t.Errorf("%s does not kill", kill)
		}
		j.crash()
	}
	crash(second)
	chrome.until(windows[2], "document.getElementById('status').dataset.state === 'reconnecting'")
	says(windows[0], windows[:2]...)
	says(windows[1], windows[:2]...)
	term.serve(startSecond)
	chrome.until(windows[2], connected)
	says(windows[2], windows...)
	says(windows[0], windows...)

	// The last server moves
	chrome.until(windows[1], named+` && !document.getElementById("log").textContent.includes("now called guest")`)
	crash(server)
	chrome.until(windows[0], "!("+connected+")")
	term.serve(d.next("sh", "--edge 127.0.0.1:3002"))
	chrome.until(windows[0], connected)
	for _, window := range windows {
		says(window, windows...)
	}
}
