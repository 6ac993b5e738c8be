//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestStart does what docs/start.md says from its top to its end.
func TestStart(t *testing.T) {
	d := openDocument(t, "docs/start.md")
	clone := builtCopy(t)
	term := openTerminal(t, clone)
	chrome := openBrowser(t)

	// A chat in one command
	chat := term.serve(d.next("sh", "make run"))
	for _, window := range []string{"one", "two"} {
		chrome.open(window, term.url("http://localhost:3000/"))
		chrome.until(window, connectedToChat)
	}
	greet := d.next("sh", "hello from grpcurl")
	if !strings.Contains(openText(t, "README.md"), greet) {
		t.Errorf("the README greets in another way than by\n%s", greet)
	}
	wantMatched(t, term.run(greet), 2)
	chrome.shows("one", "hello from grpcurl")

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
	term.serve(d.next("sh", "--cors-origin"))
	pages, _ := servePage(t, term, page, d.next("sh", "http.server"))
	chrome.open("news", pages)
	chrome.shows("news", "connected as")

	// In a service of yours
	if out := term.run(d.next("sh", "hello from curl")); !strings.Contains(out, `"matched":`) {
		t.Errorf("got %s", out)
	}
	chrome.shows("news", "hello from curl")
	term.run(d.next("sh", "go work init"))
	hello := filepath.Join(filepath.Dir(clone), "hello")
	writeFile(t, filepath.Join(hello, "main.go"), term.here(program(t, d.next("go", "it works"))))
	term.run("cd ../hello && go run .")
	chrome.shows("news", "it works")
	answers := buildGo(t, map[string]string{"answers": term.here(program(t, d.next("go", `"fine"`)))})["answers"]
	handler := start(t, answers, nil)
	chrome.open("news", pages)
	chrome.shows("news", "fine")
	handler.kill()

	// What the page has installed in other words: links to what the tests have installed.
	term.run("ln -s " + installed(t, "node/node_modules") + " ../hello/node_modules && ln -s " + absolute(t, "../examples/java/target") + " examples/java/target")
	term.env = append(term.env, "PATH="+filepath.Dir(installed(t, "python/.venv/bin/python"))+":"+os.Getenv("PATH"))
	for _, c := range []struct{ language, fence, file, command string }{
		{"Node", "js", "hello.js", "node hello.js"},
		{"Python", "python", "hello.py", "python3 hello.py"},
		{"Java", "java", "Hello.java", ""},
	} {
		if c.language == "Python" {
			term.run(d.next("sh", "grpc_tools.protoc"))
		}
		writeFile(t, filepath.Join(hello, c.file), term.here(d.next(c.fence, "hello from "+c.language)))
		command := "cd ../hello && exec " + c.command
		if c.command == "" {
			command = d.next("sh", c.file)
		} else if !strings.Contains(d.text, "`"+c.command+"`") {
			t.Errorf("the page does not start it by %s", c.command)
		}
		job := term.start(command)
		chrome.shows("news", "hello from "+c.language)
		chrome.open("news", pages)
		chrome.shows("news", "fine, says "+c.language)
		job.stop()
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
