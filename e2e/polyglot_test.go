//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// The tests in other languages, see polyglot/: backends on Node and Python that know nothing of each other or of this
// package, stock clients on Node, Python and Java, and grpcurl. polyglot/setup.sh installs what they need.

// languages are those in which there is a backend.
var languages = []string{"node", "python"}

// foreign is a backend in another language.
type foreign struct {
	*process
	told *feed[note]
	dead bool // killed on purpose
}

// note is one line of what such a backend is told.
type note struct {
	K         string
	Handler   string
	ID        string
	Namespace string
	Rooms     []string
	Reason    string
	Detail    string
	Event     string
	Args      []any
	WantsAck  bool `json:"wants_ack"`
}

// installed is a file that setup.sh has brought.
func installed(t testing.TB, path string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("polyglot", path))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v (sh e2e/polyglot/setup.sh)", err)
	}
	return path
}

// stubs generates Python from proto/, anew for each test: so they are never of yesterday's proto/.
func stubs(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	protos, err := filepath.Glob("../proto/foyer/v1/*.proto")
	if err != nil || len(protos) == 0 {
		t.Fatalf("no proto files: %v", err)
	}
	// google/rpc comes with a package of its own.
	args := append([]string{"-m", "grpc_tools.protoc", "-I../proto", "--python_out=" + dir, "--grpc_python_out=" + dir}, protos...)
	if out, err := exec.CommandContext(t.Context(), installed(t, "python/.venv/bin/python"), args...).CombinedOutput(); err != nil {
		t.Fatalf("grpc_tools.protoc: %v\n%s", err, out)
	}
	return dir
}

// startForeign starts a backend and waits until it is attached.
func startForeign(t testing.TB, language, api, handlerID string) *foreign {
	t.Helper()
	b := &foreign{told: newFeed[note]()}
	switch language {
	case "node":
		installed(t, "node/node_modules/.stamp")
		b.process = start(t, "node", nil, "polyglot/node/backend.js", api, handlerID)
	case "python":
		env := []string{"PYTHONPATH=" + stubs(t)}
		b.process = start(t, installed(t, "python/.venv/bin/python"), env, "polyglot/python/backend.py", api, handlerID)
	}
	followLines(b.process, b.told)
	t.Cleanup(func() {
		b.stdin.Close() // it drains
		if code := b.exit(t, patience); code != 0 && !b.dead || len(b.log.all()) > 0 {
			t.Errorf("the backend on %s ended with code %d:\n%s", language, code, b.tail(40))
		}
	})
	if _, _, err := b.told.await(0, patience, func(n note) bool { return n.K == "attached" }); err != nil {
		t.Fatalf("the backend on %s does not attach: %v\n%s", language, err, b.tail(40))
	}
	return b
}

// crash ends it without a word.
func (b *foreign) crash() {
	b.dead = true
	b.kill()
}

func (b *foreign) await(t testing.TB, what string, wanted func(note) bool) note {
	t.Helper()
	n, _, err := b.told.await(0, patience, wanted)
	if err != nil {
		t.Fatalf("the backend is not told: %s: %v", what, err)
	}
	return n
}

// about waits for a note of this kind about a socket.
func (b *foreign) about(t testing.TB, kind, id string) note {
	t.Helper()
	return b.await(t, kind+" "+id, func(n note) bool { return n.K == kind && n.ID == id })
}

func (b *foreign) event(t testing.TB, name string) note {
	t.Helper()
	return b.await(t, "event "+name, func(n note) bool { return n.K == "event" && n.Event == name })
}

// followLines reads a process's stdout as one JSON object a line; what is none of that goes to its log.
func followLines[T any](p *process, to *feed[T]) {
	go func() {
		defer to.end()
		for from := 0; ; from++ {
			line, _, err := p.out.await(from, time.Hour, func(string) bool { return true })
			if err != nil {
				return
			}
			var item T
			if err := json.Unmarshal([]byte(line), &item); err != nil {
				p.log.add(fmt.Sprintf("%v: %s", err, line))
				continue
			}
			to.add(item)
		}
	}()
}

// ---- stock clients of other languages

// conversation is what every stock client does with a backend.
var conversation = []string{
	"connect with auth and query", "refused with data", "an event and its acknowledgement",
	"an event from the backend and before the acknowledgement", "acknowledged to the backend", "binary", "namespaces on one link",
	"timeout", "two hundred in order", "disconnected by the backend", "disconnected by itself", "reconnects", "the transport",
}

// stockClients are the clients of three languages. A client's checks are those of conversation, and what else its
// language has.
var stockClients = []struct {
	name    string
	more    []string // checks of its own
	command func(t testing.TB) []string
}{
	{"node", []string{"auth by a function", "dates", "retries", "volatile"}, func(t testing.TB) []string {
		installed(t, "node/node_modules/.stamp")
		return []string{"node", "polyglot/node/client.js"}
	}},
	{"python", nil, func(t testing.TB) []string {
		return []string{installed(t, "python/.venv/bin/python"), "polyglot/python/client.py"}
	}},
	{"java", nil, func(t testing.TB) []string {
		// The second compiler of a virtual machine is of no use to one that lives for two seconds.
		classes := installed(t, "java/target/classes") + ":" + installed(t, "java/target/lib") + "/*"
		return []string{"java", "-XX:TieredStopAtLevel=1", "-cp", classes, "Client"}
	}},
}

// TestStockClients: the stock clients of three languages, by each transport, against a backend of each language.
func TestStockClients(t *testing.T) {
	for _, language := range languages {
		t.Run("backend on "+language, func(t *testing.T) {
			// Java's client stops reading at the server's close frame and hears of the end by its heartbeat only, as it does
			// from the official server. So pings come often, and a busy machine has 6 s to answer.
			f := startFoyer(t, "--ping-interval=500ms", "--ping-timeout=6s")
			startForeign(t, language, f.api, "")
			for _, client := range stockClients {
				for _, transport := range transports {
					t.Run(client.name+"/"+transport.name, func(t *testing.T) {
						command := client.command(t)
						converse(t, slices.Concat(conversation, client.more), append(command, f.url(), transport.name)...)
					})
				}
			}
		})
	}
}

// converse runs a client and makes a test of each of its checks.
func converse(t *testing.T, checks []string, command ...string) {
	t.Helper()
	p := start(t, command[0], nil, command[1:]...)
	t.Cleanup(func() { p.kill() })
	type outcome struct{ Check, Error string }
	outcomes := newFeed[outcome]()
	followLines(p, outcomes)
	if code := p.exit(t, 60*time.Second); code != 0 {
		t.Errorf("%s ended with code %d:\n%s", command[0], code, p.tail(40))
	}
	_, _, _ = outcomes.await(0, patience, func(outcome) bool { return false }) // until it ends
	got := map[string]outcome{}
	for _, o := range outcomes.all() {
		got[o.Check] = o
		if !slices.Contains(checks, o.Check) {
			t.Errorf("a check that is not expected: %q", o.Check)
		}
	}
	for _, check := range checks {
		t.Run(check, func(t *testing.T) {
			switch o, ran := got[check]; {
			case !ran:
				t.Error("it did not run")
			case o.Error != "":
				t.Error(o.Error)
			}
		})
	}
	if t.Failed() {
		t.Logf("its log:\n%s", p.tail(40))
	}
}

// ---- backends of two languages at once

// TestBackendsOfTwoLanguages: they share the sockets of a group, each socket with one of them, and when one of them
// dies, the other has its sockets; no client notices.
func TestBackendsOfTwoLanguages(t *testing.T) {
	f := startFoyer(t, "--handler-wait=10s")
	p := startPuppets(t)
	running := map[string]*foreign{}
	for _, language := range languages {
		running[language] = startForeign(t, language, f.api, language)
	}
	const n, each = 8, 20
	clients, owner := map[string]*client{}, map[string]string{}
	for range n {
		c, id := p.connect(t, f.url(), "/", quick)
		clients[id] = c
		for i := range each {
			c.emit("share", i)
		}
		c.settle()
	}
	// A backend's own words come by its standard output, maybe behind what its clients have seen.
	eventually(t, func() error {
		heard := 0
		for _, b := range running {
			for _, note := range b.told.all() {
				if note.K == "event" && note.Event == "share" {
					heard++
				}
			}
		}
		if heard < n*each {
			return fmt.Errorf("%d events of %d", heard, n*each)
		}
		return nil
	})
	for id := range clients {
		for language, b := range running {
			var got []any
			for _, note := range b.told.all() {
				if note.K == "event" && note.ID == id && note.Event == "share" {
					got = append(got, note.Args[0])
				}
			}
			if len(got) == 0 {
				continue
			}
			if owner[id] != "" {
				t.Errorf("%s had events of %s, and so had %s", language, id, owner[id])
			}
			owner[id] = language
			for i := range got {
				if got[i] != float64(i) || len(got) != each {
					t.Errorf("%s got %v, want 0 to %d in order", language, got, each-1)
					break
				}
			}
		}
	}
	count := map[string]int{}
	for _, language := range owner {
		count[language]++
	}
	if count["node"] == 0 || count["python"] == 0 || count["node"]+count["python"] != n {
		t.Errorf("got %v sockets, want each of them to have some of %d", count, n)
	}

	other := map[string]string{"node": "python", "python": "node"}
	for _, dies := range languages { // one after the other, so that both have been the survivor
		if t.Failed() {
			return
		}
		running[dies].crash()
		t.Run(dies+" dies", func(t *testing.T) {
			for id, c := range clients {
				c.t = t
				if owner[id] == dies {
					if got := running[other[dies]].about(t, "assigned", id).Reason; got != "CAUSE_FAILOVER" {
						t.Errorf("got %s", got)
					}
				}
				if got := c.ask("still here", id); len(got) != 1 || got[0] != id {
					t.Errorf("got %v", got)
				}
				owner[id] = other[dies]
			}
		})
		running[dies] = startForeign(t, dies, f.api, dies)
	}
	t.Run("nobody is there for a while", func(t *testing.T) {
		for _, b := range running {
			b.crash()
		}
		// An event that a backend has taken and cannot answer any more is lost, and counted. Nobody is there once the node
		// knows.
		node := api(t, f.api).node
		eventually(t, func() error {
			info, err := node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
			if err == nil && info.GetHandlers() > 0 {
				err = fmt.Errorf("%d handlers are attached", info.GetHandlers())
			}
			return err
		})
		acks := map[string]int{}
		for id, c := range clients {
			c.t = t
			acks[id] = c.later(nil, "waits", id)
		}
		late := p.open(t, f.url(), "/", quick.with(opts{"auth": map[string]any{"user": "late"}}))
		startForeign(t, "python", f.api, "")
		for id, c := range clients {
			if got := c.ackOf(acks[id]).Args; len(got) != 1 || got[0] != id {
				t.Errorf("got %v", got)
			}
			if c.saw("disconnect") || c.saw("connect_error") {
				t.Error("the client noticed")
			}
		}
		late.connected()
		late.settle()
	})
}
