//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// runPage runs a script of js/ on the chat page. Its pictures are left in a folder of its name.
func runPage(t *testing.T, script string, settings map[string]string) {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join(shots, script))
	if err != nil {
		t.Fatal(err)
	}
	settings["shots"] = dir
	raw, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "node", nil, "js/"+script+".js", string(raw))
	t.Cleanup(p.kill)
	if code := p.exit(t, 3*time.Minute); code != 0 {
		t.Errorf("the page's test ended with code %d after %q:\n%s", code, p.out.all(), p.tail(50))
	}
}

// TestPageRooms: each message belongs to its room, also when the connection was away. The steps are in
// js/page_rooms.js.
func TestPageRooms(t *testing.T) {
	f := startFoyer(t, "demo")
	runPage(t, "page_rooms", map[string]string{"url": f.url(), "api": f.api})
}

// The keyboard, screen readers, forced colours, large text and small screens. The steps are in js/page_access.js.
func TestPageAccess(t *testing.T) {
	f := startFoyer(t, "demo")
	runPage(t, "page_access", map[string]string{"url": f.url(), "api": f.api})
}

// The page works at a path of the operator's choice, behind a proxy that serves it below a path, and shows the command
// for an API that has TLS and tokens.
func TestPageFindsItsNode(t *testing.T) {
	cert, key, _ := selfSigned(t)
	tokens := filepath.Join(t.TempDir(), "tokens")
	const token = "a-token-of-sixteen-or-more"
	if err := os.WriteFile(tokens, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := startFoyer(t, "demo", "--path=/live/chat", "--api-cert="+cert, "--api-key="+key, "--api-token-file="+tokens)
	t.Run("directly", func(t *testing.T) {
		runPage(t, "page_found", map[string]string{"url": f.url(), "token": token})
	})
	t.Run("behind a proxy", func(t *testing.T) {
		node, err := url.Parse(f.url())
		if err != nil {
			t.Fatal(err)
		}
		proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(node)
			r.Out.Host = r.In.Host // as the origin has it
		}}
		server := httptest.NewServer(http.StripPrefix("/below", proxy))
		t.Cleanup(server.Close)
		runPage(t, "page_found", map[string]string{"url": server.URL + "/below", "token": token})
	})
}
