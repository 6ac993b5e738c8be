//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"
)

// TestExamplesDoc pastes the blocks of examples/README.md, with the example in Go as the backend: its page is greeted.
func TestExamplesDoc(t *testing.T) {
	d := openDocument(t, "examples/README.md")
	term := openTerminal(t, t.TempDir())
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	term.serve(d.next("sh", "--connect /example=handler"))
	term.run("cd " + absolute(t, "../examples/go") + " && go build -o " + term.dir + "/example .")
	backend := term.start("FOYER_API=127.0.0.1:50051 ./example")
	backend.prints(t, "attached")
	script := "const { io } = require('socket.io-client');\n" + term.here(d.next("js", "/example"))
	writeFile(t, filepath.Join(term.dir, "page.js"), script)
	page := term.start("NODE_PATH=" + absolute(t, "node_modules") + " node page.js")
	page.prints(t, "hello, ann")
}
