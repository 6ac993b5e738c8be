//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a condition may take that is normally there in milliseconds. It is long since machines are
// shared, and costs nothing while all is well.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if addr := os.Getenv(backendEnv); addr != "" {
		runBackendProcess(addr) // this is not the test but a backend that a test may kill
		return
	}
	skipTestsApart()
	code := m.Run()
	if sharing {
		os.RemoveAll(commonFolder())
	}
	os.Exit(code)
}

// commonFolder is a folder for what several tests use.
var (
	sharing      bool
	commonFolder = sync.OnceValue(func() string {
		dir, err := os.MkdirTemp("", "foyer-e2e-")
		if err != nil {
			panic(err)
		}
		sharing = true
		return dir
	})
)

func binary(t testing.TB) string {
	t.Helper()
	name := os.Getenv("FOYER_BIN")
	if name == "" {
		name = "../bin/foyer"
	}
	path, err := filepath.Abs(name)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("no binary to test: %v (make build)", err)
	}
	return path
}

// feed is a growing list that others wait on.
type feed[T any] struct {
	mu      sync.Mutex
	items   []T
	ended   bool
	changed chan struct{} // closed and made anew with each change
}

func newFeed[T any]() *feed[T] { return &feed[T]{changed: make(chan struct{})} }

func (f *feed[T]) add(items ...T) { f.change(func() { f.items = append(f.items, items...) }) }
func (f *feed[T]) end()           { f.change(func() { f.ended = true }) }

func (f *feed[T]) change(how func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feed[T]) all() []T {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.items[:len(f.items):len(f.items)]
}

// await returns the first item at or after from that is wanted, and its place.
func (f *feed[T]) await(from int, within time.Duration, wanted func(T) bool) (T, int, error) {
	timer := time.NewTimer(within)
	defer timer.Stop()
	var none T
	for {
		f.mu.Lock()
		items, ended, changed := f.items, f.ended, f.changed
		f.mu.Unlock()
		for ; from < len(items); from++ {
			if wanted(items[from]) {
				return items[from], from, nil
			}
		}
		if ended {
			return none, from, io.EOF
		}
		select {
		case <-changed:
		case <-timer.C:
			return none, from, context.DeadlineExceeded
		}
	}
}

// process is a child whose lines of output are kept, and which does not outlive its test.
type process struct {
	cmd   *exec.Cmd
	out   *feed[string] // stdout
	log   *feed[string] // stderr
	stdin io.WriteCloser
	done  chan struct{}
	err   error // why it ended; after done
}

func start(t testing.TB, name string, env []string, args ...string) *process {
	t.Helper()
	return startCommand(t, childOf(name, env, args...))
}

func childOf(name string, env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = slices.DeleteFunc(append(os.Environ(), env...), func(v string) bool { // what is no setting of the binary
		return strings.HasPrefix(v, "FOYER_BIN=") || strings.HasPrefix(v, "FOYER_NODES=")
	})
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // when the test binary is killed by its timeout
	return cmd
}

func startCommand(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, out: newFeed[string](), log: newFeed[string](), done: make(chan struct{})}
	var stdout io.Reader = strings.NewReader("") // it goes elsewhere
	if cmd.Stdout == nil {
		pipe, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout = pipe
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	follow := func(r io.Reader, to *feed[string]) {
		readers.Go(func() {
			defer to.end()
			lines := bufio.NewScanner(r)
			lines.Buffer(nil, 64<<20)
			for lines.Scan() {
				to.add(lines.Text())
			}
			io.Copy(io.Discard, r) // a line too long must not stop the child
		})
	}
	follow(stdout, p.out)
	follow(stderr, p.log)
	go func() {
		readers.Wait()
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// exit waits for the end and returns the exit code; -1 is a signal's doing.
func (p *process) exit(t testing.TB, within time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.cmd.Process.Signal(syscall.SIGQUIT) // a Go program says where each goroutine is
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			p.kill()
		}
		t.Errorf("%s did not end within %v:\n%s", filepath.Base(p.cmd.Path), within, p.tail(600))
		return -1
	}
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// tail is the end of what it logged, for a failure's report.
func (p *process) tail(lines int) string {
	all := p.log.all()
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// foyer is a running node.
type foyer struct {
	*process
	edge, api, admin string
	stopped          bool     // on purpose: how it ended has been looked at
	nodes            []*foyer // of a cluster that is looked at as one
	closeFront       func()   // of that
}

// url is where clients connect.
func (f *foyer) url() string { return "http://" + f.edge }

// startFoyer runs `foyer serve` (or what the first argument says, if that is a command) on free ports. When the test
// ends it is stopped, and has to end well.
func startFoyer(t testing.TB, args ...string) *foyer {
	t.Helper()
	if n := nodesOfOne(); n > 1 && (len(args) == 0 || strings.HasPrefix(args[0], "-")) && !slices.ContainsFunc(args, func(a string) bool {
		return strings.HasPrefix(a, "--cluster")
	}) {
		return startAsOne(t, n, args...)
	}
	return startFoyerOn(t, nil, args...)
}

// startFoyerOn is startFoyer with a terminal as its standard output, if that is not nil.
func startFoyerOn(t testing.TB, terminal *os.File, args ...string) *foyer {
	t.Helper()
	f := launchFoyer(t, terminal, args...)
	f.listens(t)
	return f
}

// launchFoyer is startFoyerOn that does not wait until the node listens.
func launchFoyer(t testing.TB, terminal *os.File, args ...string) *foyer {
	t.Helper()
	return launchBinary(t, binary(t), terminal, args...)
}

// launchBinary is launchFoyer of another build.
func launchBinary(t testing.TB, name string, terminal *os.File, args ...string) *foyer {
	t.Helper()
	return launchBy(t, []string{name}, terminal, args...)
}

// launchBy is launchFoyer of a build by words that end with its name: before it stands what becomes the node.
func launchBy(t testing.TB, words []string, terminal *os.File, args ...string) *foyer {
	t.Helper()
	command := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	args = append([]string{
		command, "--edge=127.0.0.1:0", "--api=127.0.0.1:0", "--admin=127.0.0.1:0", "--log-format=json", "--log-level=debug",
		"--drain-window=1s", // a test has no crowd to spread
	}, args...)
	words = slices.Concat(words, args)
	cmd := childOf(words[0], nil, words[1:]...)
	if terminal != nil {
		cmd.Stdout = terminal
	}
	f := &foyer{process: startCommand(t, cmd)}
	t.Cleanup(func() {
		if !f.stopped {
			f.stop(t)
		}
		for _, line := range f.log.all() {
			if strings.Contains(line, "WARNING: DATA RACE") || strings.HasPrefix(line, "panic: ") {
				t.Errorf("in the log of foyer: %s", line)
			}
		}
		if t.Failed() {
			t.Logf("foyer's log, its end:\n%s", f.tail(100))
		}
	})
	return f
}

// listens waits until it does.
func (f *foyer) listens(t testing.TB) {
	t.Helper()
	_, _, err := f.log.await(0, patience, func(line string) bool {
		var entry struct{ Msg, Edge, API, Admin string }
		if _, fields, console := strings.Cut(line, "\tlistening\t"); console {
			line, entry.Msg = fields, "listening"
		}
		if json.Unmarshal([]byte(line), &entry) != nil || entry.Msg != "listening" {
			return false
		}
		f.edge, f.api, f.admin = entry.Edge, entry.API, entry.Admin
		return true
	})
	if err != nil {
		t.Fatalf("foyer %q does not listen: %v\n%s", f.cmd.Args[1:], err, f.tail(20))
	}
}

// stop asks it to end, as an operator does, and fails the test unless it ends well and soon.
func (f *foyer) stop(t testing.TB) {
	t.Helper()
	for _, node := range f.each() {
		node.stopped = true
		node.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, node := range f.each() {
		if code := node.exit(t, patience); code != 0 {
			t.Errorf("foyer ended with code %d after SIGTERM, want 0\n%s", code, node.tail(50))
		}
	}
	f.endFront()
}

// crash ends it without a word.
func (f *foyer) crash() {
	for _, node := range f.each() {
		node.stopped = true
		node.kill()
	}
	f.endFront()
}

// endFront has nobody listen where clients connect, as when there is one node.
func (f *foyer) endFront() {
	if f.closeFront != nil {
		f.closeFront()
	}
}

// ---- stock clients

// puppets is a Node process with stock clients in it.
type puppets struct {
	*process
	seen *feed[sight]
	dead bool // killed on purpose
	acks int
	mu   sync.Mutex // guards stdin
}

// sight is something that a client saw; which fields it has depends on its kind, see js/puppet.js.
type sight struct {
	C         string `json:"c"`
	K         string `json:"k"`
	ID        string `json:"id,omitzero"`
	Transport string `json:"transport,omitzero"`
	Reason    string `json:"reason,omitzero"`
	Message   string `json:"message,omitzero"`
	Data      any    `json:"data,omitzero"`
	Active    bool   `json:"active,omitzero"`
	Connected bool   `json:"connected,omitzero"`
	Event     string `json:"event,omitzero"`
	Args      []any  `json:"args,omitzero"`
	WantsAck  bool   `json:"wants_ack,omitzero"`
	Ack       int    `json:"ack,omitzero"`
	Err       string `json:"err,omitzero"`
	Attempt   int    `json:"attempt,omitzero"`
}

func startPuppets(t testing.TB, env ...string) *puppets {
	t.Helper()
	p := &puppets{process: start(t, "node", env, "js/puppet.js"), seen: newFeed[sight]()}
	go func() {
		defer p.seen.end()
		for from := 0; ; from++ {
			line, _, err := p.out.await(from, time.Hour, func(string) bool { return true })
			if err != nil {
				return
			}
			var s sight
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				p.log.add(fmt.Sprintf("%v: %s", err, line))
				continue
			}
			p.seen.add(s)
		}
	}()
	t.Cleanup(func() {
		p.stdin.Close()
		if code := p.exit(t, patience); code != 0 && !p.dead || len(p.log.all()) > 0 {
			t.Errorf("node ended with code %d:\n%s", code, p.tail(30))
		}
		if t.Failed() {
			var last bytes.Buffer
			all := p.seen.all()
			for _, s := range all[max(0, len(all)-40):] {
				raw, _ := json.Marshal(s)
				fmt.Fprintf(&last, "%.300s\n", raw)
			}
			t.Logf("what clients saw last:\n%s", &last)
		}
	})
	return p
}

func (p *puppets) crash() {
	p.dead = true
	p.kill()
}

func (p *puppets) do(t testing.TB, command map[string]any) {
	t.Helper()
	line, err := json.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		t.Fatalf("node is gone: %v", err) // why, is told at the end
	}
}

// opts are options of io() in the browser's words.
type opts map[string]any

// with returns a copy of o and more.
func (o opts) with(more opts) opts {
	all := opts{}
	for _, from := range []opts{o, more} {
		for k, v := range from {
			all[k] = v
		}
	}
	return all
}

// client is one stock client, in one namespace.
type client struct {
	t    testing.TB
	p    *puppets
	name string
	read map[string]int // by kind, how far expect has read
}

// open makes a client and does not wait for it.
func (p *puppets) open(t testing.TB, url, nsp string, o opts) *client {
	t.Helper()
	c := p.newClient(t)
	p.do(t, map[string]any{"op": "open", "c": c.name, "url": url, "nsp": nsp, "opts": o})
	return c
}

func (p *puppets) newClient(t testing.TB) *client {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acks++
	return &client{t, p, fmt.Sprintf("c%d", p.acks), map[string]int{}}
}

// connect makes a client and waits until it is connected.
func (p *puppets) connect(t testing.TB, url, nsp string, o opts) (c *client, id string) {
	t.Helper()
	c = p.open(t, url, nsp, o)
	return c, c.connected()
}

// beside makes a client in another namespace on the same link.
func (c *client) beside(nsp string, o opts) *client {
	c.t.Helper()
	other := c.p.newClient(c.t)
	c.p.do(c.t, map[string]any{"op": "open", "c": other.name, "beside": c.name, "nsp": nsp, "opts": o})
	return other
}

// expect returns the next thing of a kind that this client sees or has seen.
func (c *client) expect(kind string) sight {
	c.t.Helper()
	return c.expectThat(kind, func(sight) bool { return true })
}

func (c *client) expectThat(kind string, wanted func(sight) bool) sight {
	c.t.Helper()
	s, at, err := c.p.seen.await(c.read[kind], patience, func(s sight) bool { return s.C == c.name && s.K == kind && wanted(s) })
	if err != nil {
		c.t.Fatalf("no %s: %v", kind, err)
	}
	c.read[kind] = at + 1
	return s
}

// connected waits for the next connect and returns the socket's id.
func (c *client) connected() string {
	c.t.Helper()
	id := c.expect("connect").ID
	if len(id) != 20 {
		c.t.Errorf("got the socket id %q, want 20 characters", id)
	}
	return id
}

// event waits for the next event of this name and returns its arguments.
func (c *client) event(name string) []any {
	c.t.Helper()
	return c.expectThat("event", func(s sight) bool { return s.Event == name }).Args
}

// count says how many events of this name it has seen so far.
func (c *client) count(name string) int {
	n := 0
	for _, s := range c.p.seen.all() {
		if s.C == c.name && s.K == "event" && s.Event == name {
			n++
		}
	}
	return n
}

// saw says whether it has seen something of this kind so far.
func (c *client) saw(kind string) bool {
	for _, s := range c.p.seen.all() {
		if s.C == c.name && s.K == kind {
			return true
		}
	}
	return false
}

func (c *client) emit(event string, args ...any) {
	c.t.Helper()
	c.emitWith(map[string]any{}, event, args...)
}

func (c *client) emitWith(how map[string]any, event string, args ...any) {
	c.t.Helper()
	if args == nil {
		args = []any{}
	}
	command := map[string]any{"op": "emit", "c": c.name, "event": event, "args": args}
	for k, v := range how {
		command[k] = v
	}
	c.p.do(c.t, command)
}

// ask emits and waits for the acknowledgement.
func (c *client) ask(event string, args ...any) []any {
	c.t.Helper()
	return c.askWith(map[string]any{}, event, args...).Args
}

func (c *client) askWith(how map[string]any, event string, args ...any) sight {
	c.t.Helper()
	ack := c.later(how, event, args...)
	return c.ackOf(ack)
}

// later emits with an acknowledgement that ackOf waits for.
func (c *client) later(how map[string]any, event string, args ...any) (ack int) {
	c.t.Helper()
	c.p.mu.Lock()
	c.p.acks++
	ack = c.p.acks
	c.p.mu.Unlock()
	with := map[string]any{"ack": ack}
	for k, v := range how {
		with[k] = v
	}
	c.emitWith(with, event, args...)
	return ack
}

func (c *client) ackOf(ack int) sight {
	c.t.Helper()
	s, _, err := c.p.seen.await(0, patience, func(s sight) bool { return s.K == "ack" && s.Ack == ack })
	if err != nil {
		c.t.Fatalf("no acknowledgement: %v", err)
	}
	return s
}

// settle returns when the client has seen all that was queued for it so far: an acknowledgement comes after it.
func (c *client) settle() {
	c.t.Helper()
	c.ask("settle")
}

// answers makes the client acknowledge an event with args, or, if that is nil, not at all.
func (c *client) answers(event string, args []any) {
	c.t.Helper()
	c.p.do(c.t, map[string]any{"op": "answer", "c": c.name, "event": event, "args": args})
	c.expect("ready")
}

func (c *client) op(op string) {
	c.t.Helper()
	c.p.do(c.t, map[string]any{"op": op, "c": c.name})
}

func (c *client) raw(data string) {
	c.t.Helper()
	c.p.do(c.t, map[string]any{"op": "raw", "c": c.name, "data": data})
}

func (c *client) state() sight {
	c.t.Helper()
	c.op("state")
	return c.expect("state")
}

// Values that JSON does not have, see js/puppet.js.

type bin []byte

func (b bin) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"$bin": base64.StdEncoding.EncodeToString(b)})
}

type date string

func (d date) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"$date": string(d)})
}

type undefined struct{}

func (undefined) MarshalJSON() ([]byte, error) { return []byte(`{"$undefined":true}`), nil }

// plain is a value as it comes back from Node.
func plain(t testing.TB, v any) any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually waits for something that nobody announces; what says why it is not there yet.
func eventually(t testing.TB, what func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := what()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}
