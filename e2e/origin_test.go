//go:build e2e

package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	foyerv1 "foyer/gen/foyer/v1"
)

// TestOrigins: the page of docs/start.md is on another origin, in a real browser. It is let in where its origin is
// named, by polling and by websocket, and its cookies come along where it asks for that.
func TestOrigins(t *testing.T) {
	html := startPage(t)
	const options, address = `{ auth: { token: "secret" } }`, `http://localhost:3000`
	if strings.Count(html, options) != 1 || strings.Count(html, address) != 2 {
		t.Fatalf("this test looks for %s and %s in\n%s", options, address, html)
	}
	// Cookies belong to a host, whatever its port is. So the pages and the nodes are on one host, with two origins.
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "abc", Path: "/"})
		w.Header().Set("Content-Type", "text/html")
		query := r.URL.Query()
		_, _ = w.Write([]byte(strings.NewReplacer(options, query.Get("options"), address, query.Get("node")).Replace(html)))
	}))
	t.Cleanup(pages.Close)
	chrome := openBrowser(t)

	type node struct {
		*foyer
		told *backend
	}
	serve := func(args ...string) node {
		f := startFoyer(t, args...)
		return node{f, attach(t, f.api, &foyerv1.Register{
			Namespaces: []string{"/"}, Group: "origins", SocketView: foyerv1.SocketView_SOCKET_VIEW_FULL, DecideConnects: true,
		}, nil)}
	}
	closed := serve()
	listed := serve("--cors-origin="+pages.URL, "--handshake-headers=cookie,origin")
	open := serve("--cors-origin=*")

	for _, c := range []struct {
		name, options string
		node          node
		shows, cookie string
	}{
		{"not named, polling", `{}`, closed, "not connected: xhr poll error", ""},
		{"not named, websocket", `{transports:["websocket"]}`, closed, "not connected: websocket error", ""},
		{"named, polling", `{transports:["polling"]}`, listed, "connected as ", ""},
		{"named, websocket", `{transports:["websocket"]}`, listed, "connected as ", "session=abc"}, // browsers always send them there
		{"named, both", `{}`, listed, "connected as ", ""},
		{"named, with cookies", `{withCredentials:true}`, listed, "connected as ", "session=abc"},
		{"any", `{}`, open, "connected as ", ""},
		{"any, with cookies", `{withCredentials:true}`, open, "not connected: xhr poll error", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			heard := len(c.node.told.told.all())
			chrome.open(c.name, pages.URL+"/?node="+c.node.url()+"&options="+c.options)
			chrome.shows(c.name, c.shows)
			if c.node.foyer == closed.foyer { // as docs/proxy.md and docs/start.md say
				if _, _, err := closed.log.await(0, patience, func(line string) bool {
					return strings.Contains(line, "engineio_origin_refused") && strings.Contains(line, pages.URL)
				}); err != nil {
					t.Errorf("the log does not name the origin: %v", err)
				}
			}
			if c.shows != "connected as " || c.node.foyer != listed.foyer {
				return
			}
			m, _, err := c.node.told.told.await(heard, patience, func(m *foyerv1.AttachResponse) bool { return m.GetConnected() != nil })
			if err != nil {
				t.Fatal(err)
			}
			headers := m.GetConnected().GetSocket().GetHandshake().GetHeaders()
			if headers["cookie"] != c.cookie || headers["origin"] != pages.URL {
				t.Errorf("the backend is told the headers %v, want the cookie %q", headers, c.cookie)
			}
		})
	}
}
