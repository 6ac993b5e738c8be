//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// TestSecurityPage does what docs/security.md says: with a token and the certificate a call is served, and without
// either it is not.
func TestSecurityPage(t *testing.T) {
	d := openDocument(t, "docs/security.md")
	term := openTerminal(t, t.TempDir())
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	term.run(d.next("sh", "openssl"))
	node := term.serve(d.next("sh", "--api-token-file"))
	call := strings.TrimSpace(d.next("sh", "Bearer"))
	if out := term.run(call); !strings.Contains(out, `"NODE_STATE_UP"`) {
		t.Errorf("got %s", out)
	}
	wrong := strings.Replace(call, "$(cat api.tokens)", "guess", 1)
	if out := term.run("! " + wrong + " 2>&1"); !strings.Contains(out, "Unauthenticated") {
		t.Errorf("with another token: %s", out)
	}
	if out := term.run("! " + strings.Replace(call, "-cacert api.crt", "-plaintext", 1) + " 2>&1"); out == "" {
		t.Error("a call without TLS is served")
	}
	token := term.run("cat api.tokens")
	for _, line := range node.log.all() {
		if strings.Contains(line, token) {
			t.Errorf("the log has the token: %s", line)
		}
	}
}
