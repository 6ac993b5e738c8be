//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestPerformancePage makes the measurements of docs/performance.md, shortened, of Foyer and of a server on Node with
// the handlers that the page has for it.
func TestPerformancePage(t *testing.T) {
	d := openDocument(t, "docs/performance.md")
	term := openTerminal(t, t.TempDir())
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")

	// Measure it
	bench := term.start(shortened(d.next("sh", "bench broadcast")))
	bench.prints(t, "lost")
	bench.stop()
	js := d.next("js", "bench:join")
	writeFile(t, filepath.Join(term.dir, "app.js"), term.here("const { Server } = require('socket.io');\nconst io = new Server();\n"+js+"\nio.listen("+term.ports["3000"]+");\n"))
	app := term.start("NODE_PATH=" + absolute(t, "node_modules") + " node app.js")
	awaitPort(t, term.ports["3000"])
	for _, scenario := range []string{"broadcast", "echo", "churn"} {
		out := term.run(shortened("FOYER_API= bin/foyer bench " + scenario + " --url http://127.0.0.1:3000 --clients 10 --seconds 10 -o json"))
		if !strings.Contains(out, `"lost":0,`) {
			t.Errorf("%s: %s", scenario, out)
		}
	}
	app.stop()
}

// shortened is a measurement that is over soon.
func shortened(text string) string {
	return strings.ReplaceAll(text, "--seconds 10", "--seconds 0.3 --warmup 0.1s")
}
