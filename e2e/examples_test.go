//go:build e2e

package e2e

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// The examples, see ../examples: the same backend in each language. Every step of what it says it does is tried here,
// by the stock client; examples/build.sh has built them.

type exampleProgram struct {
	language string
	command  []string
}

var examples = []exampleProgram{
	{"go", []string{"../examples/go/bin/example"}},
	{"java", []string{
		// The second compiler of a virtual machine is of no use to one that lives for some seconds.
		"java", "-XX:TieredStopAtLevel=1", "-cp", "../examples/java/target/classes:../examples/java/target/lib/*", "dev.foyer.example.Main",
	}},
	{"node", []string{"node", "../examples/node/main.js"}},
	{"python", []string{"../examples/python/.venv/bin/python", "../examples/python/main.py"}},
	{"rust", []string{"../examples/rust/bin/foyer-example"}},
}

const exampleToken = "the-token-of-the-example"

// exampleFoyer is a node that asks for the token, and lets nobody in whom no backend has decided on.
func exampleFoyer(t testing.TB, args ...string) *foyer {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte(exampleToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own := []string{"--api-token-file=" + file, "--namespaces=/example", "--connect=/example=handler"}
	own = append(own, "--handler-wait=60s") // a busy machine may start a JVM in more than the default
	return startFoyer(t, append(own, args...)...)
}

// example is one that runs.
type example struct {
	*process
	t    testing.TB
	read int // of what it printed
}

func startExample(t testing.TB, command []string, api, token string) *example {
	t.Helper()
	for _, path := range strings.Split(strings.Join(command, ":"), ":") {
		if _, err := os.Stat(strings.TrimSuffix(path, "/*")); err != nil && strings.HasPrefix(path, "../") {
			t.Fatalf("%v (make examples)", err)
		}
	}
	env := []string{"FOYER_API=" + api, "FOYER_TOKEN=" + token}
	e := &example{process: start(t, command[0], env, command[1:]...), t: t}
	t.Cleanup(func() {
		e.kill()
		if t.Failed() {
			t.Logf("the example printed:\n%s\n%s", strings.Join(e.out.all(), "\n"), e.tail(40))
		}
	})
	return e
}

// prints waits for a line that begins so, behind those that were waited for before.
func (e *example) prints(beginning string) string {
	e.t.Helper()
	line, at, err := e.out.await(e.read, patience, func(line string) bool { return strings.HasPrefix(line, beginning) })
	if err != nil {
		e.t.Fatalf("it does not print %q: %v", beginning, err)
	}
	e.read = at + 1
	return line
}

// ends asks it to end, and wants it to do so well, without a word of complaint.
func (e *example) ends() {
	e.t.Helper()
	e.cmd.Process.Signal(syscall.SIGTERM)
	e.ended()
}

// ended waits for an end that was asked for.
func (e *example) ended() {
	e.t.Helper()
	if code := e.exit(e.t, patience); code != 0 || len(e.log.all()) > 0 {
		e.t.Errorf("it ended with code %d after SIGTERM, want 0 and nothing on stderr:\n%s", code, e.tail(40))
	}
}

func TestExamples(t *testing.T) {
	for _, x := range examples {
		t.Run(x.language, func(t *testing.T) {
			// At addresses that nobody else takes while Foyer is away.
			at := freePorts(t, 2)
			first := exampleFoyer(t, "--edge="+at[0], "--api="+at[1])
			p := startPuppets(t)
			e := startExample(t, x.command, first.api, exampleToken)
			e.prints("attached to node ")
			who := func(t *testing.T, token string) *client {
				return p.open(t, first.url(), "/example", quick.with(opts{"auth": map[string]any{"token": token}}))
			}
			step := func(what string, wanted, got any) {
				t.Helper()
				if diff := gocmp.Diff(plain(t, wanted), got); diff != "" {
					t.Errorf("%s: want -, got +:\n%s", what, diff)
				}
			}

			// Only those with a token come in; the others hear why.
			for _, o := range []opts{quick, quick.with(opts{"auth": map[string]any{"token": "guess"}}), quick.with(opts{"auth": map[string]any{"token": 7}})} {
				refused := p.open(t, first.url(), "/example", o).expect("connect_error")
				step("refused", []any{"not authorized", map[string]any{"code": 401, "hint": "log in first"}}, []any{refused.Message, refused.Data})
				e.prints("turned a client away")
			}
			ann, bob := who(t, "ann's secret"), who(t, "bob's secret")
			ann.connected()
			bob.connected()
			e.prints("ann connected")

			step("an event with an acknowledgement", []any{"hello, ann"}, ann.ask("greet"))
			unknown := []any{map[string]any{"error": "no such event"}}
			step("an event that it does not know", unknown, ann.ask("something else", 1))
			for _, args := range [][]any{{}, {nil}, {7, 7}, {map[string]any{"_placeholder": true, "num": 0}}, {bin("x")}} { // whatever a browser sends
				for _, event := range []string{"say", "ask", "photo"} {
					step("wrong arguments", unknown, ann.ask(event, args...))
				}
			}

			step("emit to a room", []any{map[string]any{"told": 1}}, ann.ask("say", "hi \"all\" \u2028 <b>"))
			step("what the room hears", []any{"ann", "hi \"all\" \u2028 <b>"}, bob.event("said"))
			if ann.saw("event") {
				t.Error("the sender has heard it too")
			}

			// What a browser may send, the others may be sent, whatever it is made of.
			long := strings.Repeat("<é𝄞\x01", 70_000)
			step("a long event", []any{map[string]any{"told": 1}}, ann.ask("say", long))
			step("what the room hears", []any{"ann", long}, bob.event("said"))

			bob.answers("question", []any{map[string]any{"deep": []any{nil, 1.5, "é"}}, 2})
			step("emit with ack", []any{map[string]any{"answers": []any{map[string]any{"deep": []any{nil, 1.5, "é"}}}, "silent": 0}}, ann.ask("ask", "ready?"))
			step("what is asked", []any{"ready?"}, bob.event("question"))

			photo := bin{0, 1, 0xfe, 0xff, '"', '\\'}
			step("binary in and out", []any{map[string]any{"size": 6, "start": photo[:4]}}, ann.ask("photo", "cat.png", photo))
			step("binary to the room", []any{"cat.png", photo}, bob.event("photo"))

			list, _ := ann.ask("who")[0].([]any)
			slices.SortFunc(list, func(a, b any) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			step("list sockets", []any{
				map[string]any{"user": "ann", "name": "ANN", "rooms": []any{"lobby"}},
				map[string]any{"user": "bob", "name": "BOB", "rooms": []any{"lobby"}},
			}, list)

			told := fmt.Sprint(ann.ask("oops"))
			if !strings.Contains(told, "must not be empty") {
				t.Errorf("a call that fails: the browser is told %s", told)
			}
			printed := e.prints("oops: ")
			for _, word := range []string{"INVALID_TARGET", "target.rooms", "must not be empty"} {
				if !strings.Contains(printed, word) {
					t.Errorf("it prints of an error %q, which does not tell %q", printed, word)
				}
			}

			// More events than it takes at once, of many sizes: each is acknowledged, and the room hears them in their order.
			const burst = 300
			acks := make([]int, burst)
			for i := range acks {
				acks[i] = ann.later(nil, "say", fmt.Sprint(i, strings.Repeat(" ", i*7919%10_000)))
			}
			heard, wanted := make([]string, burst), make([]string, burst)
			for i, ack := range acks {
				step("one of many", []any{map[string]any{"told": 1}}, ann.ackOf(ack).Args)
				heard[i] = strings.TrimSpace(fmt.Sprint(bob.event("said")[1]))
				wanted[i] = fmt.Sprint(i)
			}
			step("what the room hears of many", wanted, plain(t, heard))

			// Foyer dies amid an answer, and is there again.
			bob.answers("question", nil)
			ann.later(nil, "ask", "anybody?")
			bob.event("question")
			first.crash()
			e.prints("detached")
			second := exampleFoyer(t, "--edge="+first.edge, "--api="+first.api)
			e.prints("attached to node ")
			ann.connected()
			bob.connected()
			step("after Foyer was away", []any{"hello, ann"}, ann.ask("greet"))
			bob.op("disconnect")
			e.prints("bob disconnected")

			// It is asked to end, and finishes what it has begun; the next one takes over who is there.
			bob = who(t, "bob's secret")
			bob.connected()
			bob.answers("question", nil)
			slow := ann.later(nil, "ask", "anybody?")
			bob.event("question")
			e.ends()
			step("what was begun", []any{map[string]any{"answers": []any{}, "silent": 1}}, ann.ackOf(slow).Args)
			e = startExample(t, x.command, second.api, exampleToken)
			step("by the next one", []any{"hello, ann"}, ann.ask("greet"))
			if ann.count("connect_error") > 0 || ann.saw("thrown") {
				t.Error("a client has seen an error")
			}

			// Foyer is asked to end, and does not have to wait for it.
			ann.op("disconnect")
			bob.op("disconnect")
			second.stop(t)
			e.prints("detached")
			e.ends()
		})
	}
}

// TestExamplesWithoutFoyer: an example that Foyer refuses ends with an error that tells why. One that waits for Foyer
// can be ended.
func TestExamplesWithoutFoyer(t *testing.T) {
	f := exampleFoyer(t)
	for _, x := range examples {
		t.Run(x.language+"/wrong token", func(t *testing.T) {
			e := startExample(t, x.command, f.api, "guess")
			if code := e.exit(t, patience); code != 1 || !strings.Contains(e.tail(3), "UNAUTHENTICATED") {
				t.Errorf("it ended with code %d, want 1 and the reason:\n%s", code, e.tail(3))
			}
		})
		t.Run(x.language+"/nobody listens", func(t *testing.T) {
			e := startExample(t, x.command, "127.0.0.1:1", exampleToken)
			e.prints("detached")
			e.prints("detached")
			e.ends()
		})
	}
}

// TestExamplesEndWhileTheyConnect: an example that is asked to end while Foyer is away ends well, also amid an attempt
// to reach it that fails then.
func TestExamplesEndWhileTheyConnect(t *testing.T) { //nolint:tparallel // other tests run alone, since they measure
	for _, x := range examples {
		t.Run(x.language, func(t *testing.T) {
			t.Parallel() // each of them waits
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			e := startExample(t, x.command, l.Addr().String(), exampleToken)
			conn, err := l.Accept() // it hears nothing from us
			if err != nil {
				t.Fatal(err)
			}
			e.cmd.Process.Signal(syscall.SIGTERM)
			<-time.After(time.Second) // so that it has heard that
			l.Close()
			conn.Close()
			e.ended()
		})
	}
}

// TestExampleForPython: the stock client of Python with the example in Python.
func TestExampleForPython(t *testing.T) {
	f := exampleFoyer(t)
	python := installed(t, "python/.venv/bin/python")
	i := slices.IndexFunc(examples, func(x exampleProgram) bool { return x.language == "python" })
	startExample(t, examples[i].command, f.api, exampleToken).prints("attached to node ")
	visitor := start(t, python, nil, "polyglot/python/visitor.py", f.url())
	if code := visitor.exit(t, 3*patience); code != 0 {
		t.Fatalf("the visitor ended with code %d:\n%s", code, visitor.tail(20))
	}
	seen := strings.Join(visitor.out.all(), "\n")
	for _, want := range []string{`"not authorized"`, `"hint": "log in first"`, `"refused"`, `"hello, ann"`, `{"size": 6, "start": {"$bin": "00010203"}}`} {
		if !strings.Contains(seen, want) {
			t.Errorf("it sees %s, without %s", seen, want)
		}
	}
}
