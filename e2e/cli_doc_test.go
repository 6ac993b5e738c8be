//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
)

// TestCommandLinePage does what docs/cli.md says, with a stock client, which hears and answers what is emitted, and
// whose events and leaving are told.
func TestCommandLinePage(t *testing.T) {
	d := openDocument(t, "docs/cli.md")
	term := openTerminal(t, t.TempDir())
	term.env = append(term.env, "XDG_CONFIG_HOME="+term.dir)
	term.run("mkdir bin && ln -s " + binary(t) + " bin/foyer")
	node := term.serve(d.next("sh", "bin/foyer serve"))
	ann, id := startPuppets(t).connect(t, term.url("http://127.0.0.1:3000"), "/", opts{"transports": []string{"websocket"}})
	ann.answers("ask", []any{"yes"})
	prints := func(text string, wanted ...string) {
		t.Helper()
		out := term.run(text)
		for _, want := range wanted {
			if !strings.Contains(out, want) {
				t.Errorf("it lacks %q:\n%s\n%s", want, text, out)
			}
		}
	}
	// On a busy machine a command may get no answer in the time that the page gives it. Then the second text runs.
	printsOrElse := func(text, second string, wanted ...string) {
		t.Helper()
		out, code := term.start(text).ends(t)
		if code != 0 || slices.ContainsFunc(wanted, func(want string) bool { return !strings.Contains(out, want) }) {
			prints(second, wanted...)
		}
	}
	term.run("bin/foyer join --all lobby")
	prints(d.next("sh", "foyer sockets"), "SOCKET  ", id, "websocket", "SOCKETS   ROOM\n      1   lobby")
	join := d.next("sh", "foyer join")
	printsOrElse(join, join, "1 socket joined news.", "It went to 1 socket.", id, `["yes"]`, "1 of 1 socket answered, within 5.0s.")
	if got := ann.event("chat"); len(got) != 2 || got[0] != "hello" {
		t.Errorf("the client heard %v", got)
	}

	// Commands that people leave running.
	live := func(text, until string) *job {
		j := term.start("exec " + text)
		j.prints(t, until)
		return j
	}
	watch := live("bin/foyer watch --room news", id)
	tail := live("bin/foyer tail --payloads", "TIME")
	ann.emit("typing", "secret")
	tail.prints(t, `["secret"]`)
	prints(d.next("sh", "foyer explain"), "1 of 1 socket that the target means would get it.")
	ends := d.next("sh", "foyer watch")
	printsOrElse(ends, strings.ReplaceAll(ends, "--for 1s", "--for 15s"), "here           "+id, "TIME  ")
	prints(d.next("sh", "-o json"), `{"id":"`+id+`"`)
	prints(d.next("sh", "foyer context"), "*   here      "+term.url("127.0.0.1:50051"), "news")
	prints(d.next("sh", "completion bash")+"\ncomplete -p foyer", "_foyer")
	term.run("bin/foyer leave --room " + id + " lobby news")
	watch.prints(t, "left           "+id)
	watch.stop()
	tail.stop()
	prints(d.next("sh", "foyer drain"), "The node is empty: 1 session closed.")
	for _, row := range d.table("| exit code | |") {
		if len(row) != 2 {
			t.Errorf("%q", row)
		}
	}
	node.stop()
}
