//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	foyerv1 "foyer/gen/foyer/v1"
)

// TestHTTPPage does what docs/http.md says, in its order, and then what a page of another site may try.
func TestHTTPPage(t *testing.T) {
	d := openDocument(t, "docs/http.md")
	dir := t.TempDir()
	term := openTerminal(t, dir)
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	node := term.serve(d.next("sh", "--http"))
	emit := d.next("sh", "/foyer.v1.EmitService/Emit")
	if got, want := term.run(emit), strings.TrimSpace(d.next("json", "matched")); got != want {
		t.Errorf("%s prints %s, and the page says %s", emit, got, want)
	}
	if got := term.run(d.next("sh", "ListNodes")); !strings.Contains(got, `"state":"NODE_STATE_UP"`) {
		t.Errorf("the list of nodes: %s", got)
	}
	if got := term.run(d.next("sh", "openapi.yaml")); !strings.Contains(got, "/foyer.v1.EmitService/Emit:") {
		t.Errorf("the description of the API: %.300s", got)
	}
	watch := term.start(d.next("sh", "Watch"))
	watch.prints(t, `{"result":{"synced":`)
	_, id := startPuppets(t).connect(t, term.url("http://127.0.0.1:3000"), "/", opts{})
	watch.prints(t, id)
	watch.stop()
	wrong := term.run(`curl -s -d '{"target":{"all":true},"payload":{}}' http://127.0.0.1:8080/foyer.v1.EmitService/Emit`)
	wrong = regexp.MustCompile(`"value":"[^"]*"`).ReplaceAllString(wrong, `"value":"…"`)
	if want, _, _ := strings.Cut(strings.TrimSpace(d.next("json", "invalid_argument")), "}}]}"); !strings.HasPrefix(wrong, want) {
		t.Errorf("an error is %s, and the page says %s", wrong, want)
	}
	for what, want := range map[string]string{"-d '{}' http://127.0.0.1:8080/nothing": "404 ", "http://127.0.0.1:8080/foyer.v1.EmitService/Emit": "405 POST"} {
		if got := term.run(`curl -s -o /dev/null -w '%{http_code} %header{allow}' ` + what); strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("curl %s is answered %s, want %s", what, got, want)
		}
	}
	if got := term.run(d.next("sh", "Authorization")); !strings.Contains(got, `"features"`) {
		t.Errorf("with a token that nobody wants: %s", got)
	}
	t.Run("a page of another site", func(t *testing.T) { testForeignPage(t, term) })
	node.stop()
	term.serve(d.next("sh", "--http-origin")).stop()
}

// testForeignPage has a real browser send what a page may send without asking.
func testForeignPage(t *testing.T, term *terminal) {
	b := api(t, "127.0.0.1:"+term.ports["50051"])
	refused := func() int64 {
		info, err := b.node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return info.GetDropped()["http_origin_refused"]
	}
	call := term.url("http://127.0.0.1:8080") + "/foyer.v1.EmitService/Emit"
	page := `<!doctype html><title>evil</title><form method="post" enctype="text/plain" action="` + call + `" target="answer">
<input name='{"target":{"all":true},"payload":{"event":"evil","values":["' value='"]}}'></form><iframe name="answer"></iframe>`
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(page))
	}))
	defer site.Close()
	c, _ := startPuppets(t).connect(t, term.url("http://127.0.0.1:3000"), "/", opts{})
	browser := openBrowser(t)
	browser.open("evil", site.URL)
	before := refused()
	browser.run("evil", "document.forms[0].submit()")
	for _, how := range []string{"no-cors", "cors"} {
		browser.run("evil", `fetch("`+call+`", { method: "POST", mode: "`+how+`", body: '{"target":{"all":true},"payload":{"event":"evil"}}' }).then(() => {}, () => {})`)
	}
	eventually(t, func() error {
		if n := refused() - before; n != 3 {
			return fmt.Errorf("%d of 3 requests of a page were refused", n)
		}
		return nil
	})
	b.mustEmit(t, &foyerv1.Target{All: true}, 2, "last") // the one that the watch has seen is there too
	c.event("last")
	if n := c.count("evil"); n != 0 {
		t.Errorf("%d events of a page came through", n)
	}
}
