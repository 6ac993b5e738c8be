//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestAdminUIPage does what docs/admin-ui.md says, and then what an operator does on the page, in a real browser. The
// steps are in js/admin_ui.js.
func TestAdminUIPage(t *testing.T) {
	d := openDocument(t, "docs/admin-ui.md")
	term := openTerminal(t, t.TempDir())
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	text := d.next("sh", "--ui-password-file")
	term.serve(strings.Replace(text, "foyer serve", "foyer demo", 1)) // the chat lets its clients join a room
	runPage(t, "admin_ui", map[string]string{"url": term.url("http://127.0.0.1:9090"), "edge": term.url("http://127.0.0.1:3000")})
}
