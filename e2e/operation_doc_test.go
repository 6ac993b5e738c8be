//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestOperationPage does what docs/operation.md says, in its order.
func TestOperationPage(t *testing.T) {
	d := openDocument(t, "docs/operation.md")
	term := openTerminal(t, t.TempDir())
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	node := term.serve(d.next("sh", "bin/foyer serve"))
	health := d.next("sh", "readyz")
	if out := term.run(health); out != "ok\nok" {
		t.Errorf("it says %q", out)
	}
	if out := term.run(d.next("sh", "GetInfo")); !strings.Contains(out, `"maxPayloadBytes": 1000000`) {
		t.Errorf("got %s", out)
	}
	if out := term.run(d.next("sh", "Drain")); !strings.Contains(out, `"done": true`) {
		t.Errorf("got %s", out)
	}
	if out := term.run(health); out != "ok\ndraining" {
		t.Errorf("it says %q", out)
	}
	node.stop()
	if len(d.table("| limit | default | when it is reached |")) < 20 {
		t.Error("the table of limits has lost rows")
	}
}
