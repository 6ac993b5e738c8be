//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestFromNodePage runs the chat of docs/from-node.md before and after the move, with the same stock clients: they see
// the same.
func TestFromNodePage(t *testing.T) {
	d := openDocument(t, "docs/from-node.md")
	term := openTerminal(t, filepath.Join(t.TempDir(), "foyer"))
	writeFile(t, filepath.Join(term.dir, "server.js"), strings.ReplaceAll(d.next("js", "new Server(3000)"), "(3000)", "("+term.ports["3000"]+")"))
	term.run("mkdir bin ../chat && ln -s " + binary(t) + " bin/foyer && ln -s " + absolute(t, "../proto") + " proto")
	p := startPuppets(t)
	chat := func() {
		t.Helper()
		come := func(token string) *client {
			return p.open(t, term.url("http://127.0.0.1:3000"), "/", quick.with(opts{"auth": map[string]any{"token": token}}))
		}
		if got := come("guess").expect("connect_error"); got.Message != "not authorized" || got.Active {
			t.Errorf("got %+v", got)
		}
		if got := p.open(t, term.url("http://127.0.0.1:3000"), "/", quick).expect("connect_error"); got.Message != "not authorized" {
			t.Errorf("got %+v", got)
		}
		ann, bob := come("ann's secret"), come("bob's secret")
		ann.connected()
		bob.connected()
		if got := ann.ask("say", "hi"); len(got) != 1 || got[0] != "ok" {
			t.Errorf("the acknowledgement is %v", got)
		}
		if got := bob.event("said"); len(got) != 2 || got[0] != "ann" || got[1] != "hi" {
			t.Errorf("bob hears %v", got)
		}
		bob.op("disconnect")
		if got := ann.event("left"); len(got) != 1 || got[0] != "bob" {
			t.Errorf("ann hears %v", got)
		}
		if ann.count("said") != 0 {
			t.Error("ann hears herself")
		}
		ann.op("disconnect")
	}

	before := term.start("NODE_PATH=" + absolute(t, "node_modules") + " node server.js")
	awaitPort(t, term.ports["3000"])
	chat()
	before.stop()

	term.serve(d.next("sh", "--connect handler"))
	writeFile(t, filepath.Join(term.dir, "..", "chat", "backend.js"), term.here(d.next("js", "decideConnects")))
	term.start("cd ../chat && NODE_PATH=" + installed(t, "node/node_modules") + " node backend.js")
	chat() // connects wait for the backend
}
