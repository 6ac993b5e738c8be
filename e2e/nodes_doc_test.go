//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
)

// TestNodesPage does what docs/nodes.md says from its top to its end.
func TestNodesPage(t *testing.T) {
	d := openDocument(t, "docs/nodes.md")
	term := openTerminal(t, t.TempDir())
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	chrome := openBrowser(t)
	pages, folder := servePage(t, term, startPage(t), "python3 -m http.server 8000")

	term.serve(d.next("sh", "node-id AAAA"))
	second := term.serve(d.next("sh", "node-id BBBB"))
	term.serve(d.next("sh", "node-id CCCC"))
	term.run("cd " + folder + "\n" + d.next("sh", "second.html"))
	chrome.open("news", pages)
	chrome.open("second", pages+"second.html")
	for _, window := range []string{"news", "second"} {
		chrome.shows(window, "connected as")
	}
	cross := d.next("sh", "it crosses")
	eventually(t, func() error {
		out := term.run(cross)
		t.Log(out)
		if strings.Contains(out, `"unreachable"`) { // on a busy machine a node is ready before the others have told it all
			return errors.New("the answer does not speak for all nodes")
		}
		wantMatched(t, out, 2)
		return nil
	})
	chrome.shows("news", "it crosses")
	chrome.shows("second", "it crosses")
	// Not by that command: another test on this machine may have a node of this name.
	if kill := d.next("sh", "pkill"); !strings.Contains(kill, "-9") {
		t.Errorf("%s does not kill", kill)
	}
	second.crash()
	list := d.next("sh", "foyer nodes")
	for _, state := range []string{"silent", "lost"} {
		eventually(t, func() error {
			out := term.run(list)
			lines := strings.Split(out, "\n")
			if len(lines) != 4 || !strings.HasPrefix(lines[0], "NODE   STATE") || !strings.HasPrefix(lines[1], "AAAA   up ") ||
				!strings.HasPrefix(lines[2], "BBBB   "+state+" ") || !strings.HasPrefix(lines[3], "CCCC   up ") {
				return fmt.Errorf("the second node is not %s:\n%s", state, out)
			}
			return nil
		})
	}
}

// startPage is the page of docs/start.md.
func startPage(t testing.TB) string {
	t.Helper()
	for _, b := range blocksOf(openText(t, "docs/start.md")) {
		if b.lang == "html" {
			return b.text
		}
	}
	t.Fatal("docs/start.md has no page")
	return ""
}

// TestToday holds what docs/nodes.md says: without --cluster a node is alone, and two of them know nothing of
// each other.
func TestToday(t *testing.T) {
	if text := openText(t, "docs/nodes.md"); !strings.Contains(text, "a second one is a second hall") {
		t.Fatal("docs/nodes.md says something else about nodes that are alone; say it here too")
	}
	here, there := startFoyer(t), startFoyer(t)
	c, id := startPuppets(t).connect(t, here.url(), "/", opts{})
	near, far := api(t, here.api), api(t, there.api)
	near.mustEmit(t, &foyerv1.Target{All: true}, 1, "hello")
	near.mustEmit(t, &foyerv1.Target{All: true, Local: true}, 1, "hello")
	c.event("hello")
	far.mustEmit(t, &foyerv1.Target{All: true}, 0, "hello")
	if _, err := far.sockets.GetSocket(t.Context(), &foyerv1.GetSocketRequest{SocketId: id}); status.Code(err) != codes.NotFound {
		t.Errorf("the other node's answer about its socket is %v", err)
	}
	for _, b := range []*backend{near, far} {
		nodes, err := b.node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{})
		if err != nil || len(nodes.GetNodes()) != 1 || proto.Size(nodes.GetCoverage()) > 0 {
			t.Errorf("got the nodes %v, %v", nodes, err)
		}
	}
	p := &poller{t: t, url: here.url(), client: http.DefaultClient}
	p.connect("", "")
	p.url = there.url()
	if got := p.request(http.MethodPost, "41"); !strings.HasPrefix(got, "400") {
		t.Errorf("the other node answers a session of this one with %q", got)
	}
}
