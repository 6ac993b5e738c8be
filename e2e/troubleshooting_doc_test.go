//go:build e2e

package e2e

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTroubleshooting pastes the commands of docs/troubleshooting.md, and looks up each piece of code in its text: a
// line of the log, a reason, a flag, a metric, what a client shows. It has to stand in the code, or the page would send
// people to look for what is not there.
func TestTroubleshooting(t *testing.T) {
	d := openDocument(t, "docs/troubleshooting.md")
	term := openTerminal(t, t.TempDir())
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	term.serve("bin/foyer serve --cluster embedded --cluster-listen 127.0.0.1:6222")
	resp, err := http.Get(term.url("http://127.0.0.1:3000/socket.io/?EIO=3&transport=polling"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if out := term.run(d.next("sh", "foyer_dropped_total")); out != `foyer_dropped_total{reason="engineio_handshake_bad_version"} 1` {
		t.Errorf("got %s", out)
	}
	if out := term.run(d.next("sh", "readyz")); out != "ok" {
		t.Errorf("got %s", out)
	}
	if out := term.run(d.next("sh", "foyer nodes")); !strings.HasPrefix(out, "NODE   STATE") {
		t.Errorf("got %s", out)
	}
	for _, c := range [][2]string{{"foyer explain", "0 of 0 sockets that the target means"}, {"foyer sockets", "SOCKET   NODE"}, {"foyer handlers", "NODE   GROUP"}} {
		if out := term.run(strings.TrimSpace(d.next("sh", c[0])) + " || test $? = 3"); !strings.HasPrefix(out, c[1]) { // there is nobody
			t.Errorf("got %s", out)
		}
	}

	known := texts(t, "../cmd/foyer", ".go") + texts(t, "../service", ".go") + texts(t, "../transport", ".go") + texts(t, "../proto/foyer", ".proto") +
		texts(t, "../cmd/foyer/web/npm", "socket.io.js") + term.run("curl -s http://127.0.0.1:9090/metrics") + term.run("bin/foyer serve --help")
	known += "ENHANCE_YOUR_CALM: too_many_pings UNAUTHENTICATED UNAVAILABLE RESOURCE_EXHAUSTED" // gRPC's words
	for _, state := range []string{"silent", "lost", "incompatible"} {                          // these two words are put together
		known += "member " + state
	}
	spans := regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(regexp.MustCompile("(?s)```.*?```").ReplaceAllString(d.text, ""), -1)
	looked := 0
	for _, span := range spans {
		words := span[1]
		switch {
		case strings.HasPrefix(words, "--"):
			words, _, _ = strings.Cut(words, " ") // TestLinks knows each flag
		case strings.HasPrefix(words, "bin/foyer "), words == "ulimit -n", words == "*", words == "/readyz", strings.HasPrefix(words, `"`):
			continue
		}
		if looked++; !strings.Contains(known, words) {
			t.Errorf("docs/troubleshooting.md has %q, which stands nowhere in the code", words)
		}
	}
	if looked < 150 {
		t.Errorf("%d pieces were looked up", looked)
	}
}

// texts are the files below a folder with this end of their names, but for tests.
func texts(t testing.TB, folder, end string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, end) || strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		all.Write(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
