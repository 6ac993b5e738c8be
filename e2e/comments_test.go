//go:build e2e

package e2e

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestCommentsInOtherLanguages: the JSON of the API's comments is what Python's json_format takes, and what they say of
// Node's proto-loader is so.
func TestCommentsInOtherLanguages(t *testing.T) {
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	taken := run(installed(t, "python/.venv/bin/python"), "polyglot/python/comments.py", "../transport/grpcapi/api.binpb")
	if n, err := strconv.Atoi(taken); err != nil || n < 40 {
		t.Errorf("Python took %q documents", taken)
	}
	installed(t, "node/node_modules/.stamp")
	run("node", "polyglot/node/comments.js")
}
