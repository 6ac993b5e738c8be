//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
)

// TestReadme does what the README says from its top to its end, in a fresh copy of the repository, as somebody does who
// has never seen it. Only ports are exchanged for free ones, and a measurement is shortened.
func TestReadme(t *testing.T) {
	d := openDocument(t, "README.md")
	clone := freshCopy(t)
	term := openTerminal(t, clone)
	chrome := openBrowser(t)

	// Start
	chat := term.serve(d.next("sh", "make run"))
	for _, window := range []string{"one", "two"} {
		chrome.open(window, term.url("http://localhost:3000/"))
		chrome.until(window, "document.querySelector('#status[data-state=connected]')")
	}
	wantMatched(t, term.run(d.next("sh", "hello from grpcurl")), 2)
	chrome.shows("one", "hello from grpcurl")
	chrome.shows("two", "hello from grpcurl")

	// Ask it by hand
	if out := term.run(d.next("sh", "describe")); !strings.Contains(out, "foyer.v1.EmitService\n") || !strings.Contains(out, "rpc EmitWithAck") {
		t.Errorf("got %s", out)
	}
	wantMatched(t, term.run(d.next("sh", "JoinRooms")), 2)
	if out := term.run(d.next("sh", "roll call")); strings.Count(out, `"args"`) != 2 {
		t.Errorf("got %s, want two answers", out)
	}
	watch := term.start(d.next("sh", "PresenceService/Watch"))
	watch.prints(t, `"synced"`)
	watch.stop()

	// In the browser
	page := d.next("html", "socket.io.js")
	chat.stop()
	node := term.serve(d.next("sh", "--cors-origin"))
	pages, folder := servePage(t, term, page, d.next("sh", "http.server"))
	chrome.open("news", pages)
	chrome.shows("news", "connected as")

	// In a Go service
	term.run(d.next("sh", "go work init"))
	hello := filepath.Join(filepath.Dir(clone), "hello")
	writeFile(t, filepath.Join(hello, "main.go"), term.here(program(t, d.next("go", "it works"))))
	term.run("cd ../hello && go run .")
	chrome.shows("news", "it works")
	answers := buildGo(t, map[string]string{"answers": term.here(program(t, d.next("go", `"fine"`)))})["answers"]
	start(t, answers, nil)
	chrome.open("news", pages)
	chrome.shows("news", "fine")

	t.Run("sheet", func(t *testing.T) { testSheetCells(t, d, term) })
	node.stop()

	// Many nodes
	first := term.serve(d.next("sh", "node-id AAAA"))
	second := term.serve(d.next("sh", "node-id BBBB"))
	third := term.serve(d.next("sh", "node-id CCCC"))
	term.run("cd " + folder + "\n" + d.next("sh", "second.html"))
	chrome.open("news", pages) // anew: what it shows from before says nothing of this node
	chrome.open("second", pages+"second.html")
	for _, window := range []string{"news", "second"} {
		chrome.shows(window, "connected as")
	}
	cross := d.next("sh", "it crosses") // it counts the pages of the chat too, when these are back
	eventually(t, func() error {
		out := term.run(cross)
		t.Log(out)
		if strings.Contains(out, `"unreachable"`) { // on a busy machine a node is ready before the others have told it all
			return errors.New("the answer does not speak for all nodes")
		}
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
	first.stop()
	third.stop()

	// How fast it is
	bench := term.start(shortened(d.next("sh", "bench broadcast")))
	bench.prints(t, "lost")
	bench.stop()
	js := d.next("js", "bench:join")
	writeFile(t, filepath.Join(clone, "e2e", "app.js"), term.here("const { Server } = require('socket.io');\nconst io = new Server();\n"+js+"\nio.listen("+term.ports["3000"]+");\n"))
	app := term.start("NODE_PATH=" + absolute(t, "node_modules") + " node e2e/app.js")
	awaitPort(t, term.ports["3000"])
	for _, scenario := range []string{"broadcast", "echo", "churn"} {
		out := term.run(shortened("FOYER_API= bin/foyer bench " + scenario + " --url http://127.0.0.1:3000 --clients 10 --seconds 10 -o json"))
		if !strings.Contains(out, `"lost":0,`) {
			t.Errorf("%s: %s", scenario, out)
		}
	}
	app.stop()

	// Building on it: these take long, and are what CI runs. Their names and all that they are made of exist.
	term.run(regexp.MustCompile(`(?m)^make `).ReplaceAllString(d.next("sh", "make soak"), "make -n "))
}

func absolute(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// shortened is a measurement that is over soon.
func shortened(text string) string {
	return strings.ReplaceAll(text, "--seconds 10", "--seconds 0.3 --warmup 0.1s")
}

// wantMatched wants an answer to tell of so many sockets.
func wantMatched(t testing.TB, out string, sockets int) {
	t.Helper()
	m := regexp.MustCompile(`"matched": (\d+)`).FindStringSubmatch(out)
	if m == nil || m[1] != string(rune('0'+sockets)) {
		t.Errorf("got %s, want %d matched", out, sockets)
	}
}

// servePage serves a page by the command that the text has for it, and returns its address and its folder.
func servePage(t testing.TB, term *terminal, page, command string) (url, dir string) {
	t.Helper()
	dir = t.TempDir()
	writeFile(t, filepath.Join(dir, "index.html"), term.here(page))
	term.start("cd " + dir + "\n" + command)
	url = term.url("http://localhost:8000/")
	awaitPort(t, term.ports["8000"])
	return url, dir
}

// TestToday holds what the README says there is today: without --cluster a node is alone, and two of them know nothing of
// each other.
func TestToday(t *testing.T) {
	if text := openText(t, "README.md"); !strings.Contains(text, "a second one is a second hall") {
		t.Fatal("the README says something else about nodes that are alone; say it here too")
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
