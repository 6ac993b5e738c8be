package main

import (
	"strings"
	"testing"
)

// TestNodesCommand asks a node of a cluster, and one that wants a token.
func TestNodesCommand(t *testing.T) {
	f := listening(t, "--node-id", "AAAA")
	defer f.close()
	if err := f.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, told, code := say(t, "nodes", "--api", f.apiListener.Addr().String())
	if code != 0 || told != "" || !strings.Contains(out, "\nAAAA   up ") || !strings.Contains(out, f.peerAddress()) {
		t.Errorf("code %d, %q, %q", code, out, told)
	}
	out, told, code = say(t, "nodes", "--api", f.apiListener.Addr().String(), "-o", "json")
	if code != 0 || told != "" || !strings.Contains(strings.ReplaceAll(out, " ", ""), `"state":"NODE_STATE_UP"`) {
		t.Errorf("code %d, %q, %q", code, out, told)
	}

	tokens := t.TempDir() + "/tokens"
	put(t, tokens, "secret\n")
	guarded := listening(t, "--node-id", "BBBB", "--api-token-file", tokens)
	defer guarded.close()
	at := guarded.apiListener.Addr().String()
	if _, told, code := say(t, "nodes", "--api", at); code != exitFailure || told != "foyer: --api-token-file: the node at "+at+" wants a token, and this names no file that has one\n" {
		t.Errorf("without a token: code %d, %q", code, told)
	}
	if out, told, code := say(t, "nodes", "--api", at, "--api-token-file", tokens); code != 0 || !strings.Contains(out, "\nBBBB   joining ") {
		t.Errorf("code %d, %q, %q", code, out, told)
	}
}
