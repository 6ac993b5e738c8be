//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"foyer/service/adapter/freeport"
)

// terminal is a folder with the ports that a text names exchanged for free ones, in which commands are pasted.
type terminal struct {
	t     testing.TB
	dir   string
	env   []string
	ports map[string]string
}

// portsOf are those that the documents name: the edge, the API and the admin address of up to three nodes, a server for
// a page, what nodes of a cluster listen at, servers of NATS,
// Redis and MongoDB, and the API over HTTP.
var portsOf = []string{"3000", "50051", "9090", "8000", "3001", "50052", "9091", "3002", "50053", "9092", "6222", "6223", "6224", "4222", "6379", "27017", "8080"}

func openTerminal(t testing.TB, dir string) *terminal {
	t.Helper()
	term := &terminal{t: t, dir: dir, ports: map[string]string{}}
	for _, port := range portsOf {
		term.ports[port] = freeport.New(t)
	}
	term.env = append(os.Environ(), "FOYER_EDGE=:"+term.ports["3000"], "FOYER_API=127.0.0.1:"+term.ports["50051"], "FOYER_ADMIN=127.0.0.1:"+term.ports["9090"],
		"FOYER_CLUSTER_LEASE="+longLease, "FOYER_LOG_FORMAT=json", "FOYER_DRAIN_WINDOW=1s", "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	return term
}

// here exchanges the ports in a text.
func (term *terminal) here(text string) string {
	for _, port := range portsOf {
		text = regexp.MustCompile(`\b(localhost|127\.0\.0\.1):`+port+`\b`).ReplaceAllString(text, "${1}:"+term.ports[port])
	}
	for before, port := range map[string]string{"http.server ": "8000", "redis-server --port ": "6379"} {
		text = strings.ReplaceAll(text, before+port, before+term.ports[port])
	}
	return text
}

// start pastes commands that go on until stop.
func (term *terminal) start(text string) *job {
	term.t.Helper()
	cmd := exec.Command("bash", "-eu", "-c", term.here(text))
	cmd.Dir, cmd.Env = term.dir, term.env
	// A group of its own, so that what a shell starts ends with it; none outlives the test binary.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	j := &job{startCommand(term.t, cmd)}
	term.t.Cleanup(j.stop)
	return j
}

// run pastes commands and waits for their end, which has to be a good one. It returns what they print.
func (term *terminal) run(text string) string {
	term.t.Helper()
	j := term.start(text)
	out, code := j.ends(term.t)
	if code != 0 {
		term.t.Fatalf("code %d of\n%s\n%s\n%s", code, text, out, j.tail(30))
	}
	return out
}

// serve pastes commands that start a node, and waits until it listens. In a fresh copy it is fetched for and built
// before.
func (term *terminal) serve(text string) *job {
	term.t.Helper()
	j := term.start(text)
	term.t.Cleanup(func() {
		if term.t.Failed() {
			term.t.Logf("the end of the log of\n%s\n%s", text, j.tail(40))
		}
	})
	if _, _, err := j.log.await(0, 20*patience, isListening); err != nil {
		term.t.Fatalf("%v: no node listens after\n%s\n%s", err, text, j.tail(30))
	}
	return j
}

func isListening(line string) bool {
	var entry struct{ Msg string }
	return json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening"
}

// url is an address that a text names, as it is here.
func (term *terminal) url(text string) string { return term.here(text) }

// job is a command with all that it started.
type job struct{ *process }

// stop ends all of it. Not by Ctrl-C's SIGINT, which a script's background commands ignore.
func (j *job) stop() {
	_ = syscall.Kill(-j.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-j.done:
	case <-time.After(patience):
		_ = syscall.Kill(-j.cmd.Process.Pid, syscall.SIGKILL)
		<-j.done
	}
}

// ends waits for its end, and returns what it has printed and its exit code.
func (j *job) ends(t testing.TB) (out string, code int) {
	t.Helper()
	code = j.exit(t, 8*patience)
	return strings.Join(j.out.all(), "\n"), code
}

// crash ends all of it without a word.
func (j *job) crash() {
	_ = syscall.Kill(-j.cmd.Process.Pid, syscall.SIGKILL)
	<-j.done
}

// prints waits for a line with this in it.
func (j *job) prints(t testing.TB, text string) {
	t.Helper()
	if _, _, err := j.out.await(0, 2*patience, func(line string) bool { return strings.Contains(line, text) }); err != nil {
		t.Fatalf("it does not print %q: %v\n%q\n%s", text, err, j.out.all(), j.tail(20))
	}
}

// freshCopy is what a clone of this repository has in it, in a folder called foyer, with nothing built.
func freshCopy(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "foyer")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `cd .. && git ls-files -z | xargs -0 cp --parents -t "$1"`, "sh", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// ---- a browser

// browser is headless Chromium, see js/chromium.js.
type browser struct {
	*process
	t    testing.TB
	read int
}

func openBrowser(t testing.TB, args ...string) *browser {
	t.Helper()
	b := &browser{process: start(t, "node", nil, append([]string{"js/chromium.js"}, args...)...), t: t}
	t.Cleanup(func() {
		b.stdin.Close()
		if code := b.exit(t, 2*patience); code != 0 {
			t.Errorf("the browser ended with code %d:\n%s", code, b.tail(30))
		}
		if t.Failed() {
			t.Logf("what the browser says:\n%s", strings.Join(b.out.all(), "\n"))
		}
	})
	return b
}

// do sends a command and waits for its answer.
func (b *browser) do(command map[string]string) {
	b.t.Helper()
	line, err := json.Marshal(command)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.stdin.Write(append(line, '\n')); err != nil {
		b.t.Fatalf("the browser is gone: %v\n%s", err, b.tail(20))
	}
	answer, at, err := b.out.await(b.read, 8*patience, func(line string) bool { return strings.HasPrefix(line, "done") || strings.HasPrefix(line, "failed") })
	if b.read = at + 1; err != nil || answer != "done" {
		b.t.Fatalf("%s: %s, %v\n%s", line, answer, err, b.tail(20))
	}
}

// open shows an address in a page of this name, a new one or one that is there.
func (b *browser) open(page, url string) {
	b.t.Helper()
	b.do(map[string]string{"op": "open", "page": page, "url": url})
}

// run evaluates a script in a page.
func (b *browser) run(page, script string) {
	b.t.Helper()
	b.do(map[string]string{"op": "run", "page": page, "expression": script})
}

// until waits until an expression is true in a page.
func (b *browser) until(page, expression string) {
	b.t.Helper()
	b.do(map[string]string{"op": "until", "page": page, "expression": expression})
}

// shows waits until a page has this text.
func (b *browser) shows(page, text string) {
	b.t.Helper()
	b.until(page, fmt.Sprintf("document.body.textContent.includes(%q)", text))
}

// awaitPort waits until somebody listens.
func awaitPort(t testing.TB, port string) {
	t.Helper()
	eventually(t, func() error {
		conn, err := net.Dial("tcp", "localhost:"+port)
		if err == nil {
			conn.Close()
		}
		return err
	})
}
