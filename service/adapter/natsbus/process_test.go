package natsbus

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/adaptertest"
)

// child says in its environment what node a process of this test is, and which other one it knows.
const child = "NATSBUS_CHILD"

// TestChild is no test: it is a node in a process of its own, which sends back to PARE what it hears, until its input
// ends.
func TestChild(t *testing.T) {
	name, route, ok := strings.Cut(os.Getenv(child), " ")
	if !ok {
		t.Skip("only for processes of other tests")
	}
	c := meshConfig(service.NodeID(name), route)
	c.patience = patience // a busy parent is not given up
	b := embed(t, c)
	if err := b.Receive(func(frame []byte) {
		if len(frame) < 100 {
			_ = b.Send("PARE", append([]byte(name+" "), frame...))
		}
	}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// process is one that a test has started.
type process struct {
	*exec.Cmd
	input io.Closer
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, input}
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

func startChild(t *testing.T, name string, route net.Addr) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), child+"="+name+" "+route.String())
	return start(t, cmd)
}

// echoes waits until nodes in other processes have answered, and says how long it took. What may be lost is sent again.
func echoes(t *testing.T, e *ear, names ...string) time.Duration {
	t.Helper()
	round, began := random()[:8], time.Now()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for send := true; ; {
		missing := 0
		for _, name := range names {
			if !e.has(name + " " + round) {
				missing++
				if send {
					_ = e.Send(service.NodeID(name), []byte(round))
				}
			}
		}
		if missing == 0 {
			return time.Since(began)
		}
		if time.Since(began) > patience {
			t.Fatalf("%q do not answer", names)
		}
		select {
		case <-e.arrived:
			send = false
		case <-again.C:
			send = true
		}
	}
}

// A node that is frozen slows nobody else, however much is for it; it hears again when it goes on, and so does one that
// was killed and started anew.
func TestFrozen(t *testing.T) {
	e := listen(t, embed(t, meshConfig("PARE")))
	frozen, other := startChild(t, "FROZ", e.RouteAddr()), startChild(t, "GOOD", e.RouteAddr())
	echoes(t, e, "FROZ", "GOOD")

	rounds := func(what string) {
		var total, slowest time.Duration
		for range 300 {
			took := echoes(t, e, "GOOD")
			total, slowest = total+took, max(slowest, took)
		}
		t.Logf("%s: a frame and its answer took %v, at most %v", what, total/300, slowest)
	}
	rounds("at rest")
	stop := make(chan struct{})
	flooded := make(chan struct{})
	var sent, refused atomic.Int64
	go func() {
		defer close(flooded)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		large := make([]byte, adapter.MinFrame)
		for {
			select {
			case <-stop:
				return
			case <-tick.C: // 20 MB/s
				for range 3 {
					if e.Send("FROZ", large) != nil {
						refused.Add(1)
					}
					sent.Add(int64(len(large)))
				}
			}
		}
	}()
	await(t, "a flood", func() bool { return sent.Load() > 10<<20 })
	rounds("under load")
	if err := frozen.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	slowest := time.Duration(0)
	for sent.Load() < 110<<20 { // more than the server keeps for it
		slowest = max(slowest, echoes(t, e, "GOOD"))
	}
	t.Logf("beside a frozen node: a frame and its answer took at most %v", slowest)
	close(stop)
	<-flooded
	t.Logf("%d MB were for the frozen node, %d frames were refused", sent.Load()>>20, refused.Load())
	if slowest > 30*time.Second { // a busy machine itself may hold one up for seconds
		t.Errorf("a frozen node held up another for %v", slowest)
	}
	if err := frozen.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	t.Logf("the frozen node answers after %v", echoes(t, e, "FROZ", "GOOD"))

	frozen.kill()
	startChild(t, "FROZ", e.RouteAddr())
	t.Logf("a killed and restarted node answers after %v", echoes(t, e, "FROZ", "GOOD"))
	other.kill()
}

// A server in a process of its own is killed and started anew: the bus says that it is down, and is up again by itself.
func TestServerRestarts(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "nats-server")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/nats-io/nats-server/v2").CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v\n%s", err, out)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	run := func() *process {
		cmd := exec.CommandContext(t.Context(), binary, "-a", "127.0.0.1", "-p", port)
		out, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		p := start(t, cmd)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "Server is ready") {
				go func() { _, _ = io.Copy(io.Discard, out) }() // it ends with the process
				return p
			}
		}
		t.Fatal("nats-server does not get ready")
		return nil
	}
	s := run()
	url := "nats://127.0.0.1:" + port
	a, b := listen(t, connect(t, External{Node: "AAAA", URL: url})), listen(t, connect(t, External{Node: "BBBB", URL: url}))
	whole(t, a, b)
	for range 2 {
		s.kill()
		await(t, "the end of the bus", func() bool { return !a.Up() && !b.Up() })
		s = run()
		await(t, "the bus", func() bool { return a.Up() && b.Up() })
		t.Logf("whole again after %v", whole(t, a, b))
	}
	// One that is frozen is found out by pings, and Send does not wait meanwhile.
	if err := s.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	adaptertest.Frozen(t, "BBBB", a, b)
	if err := s.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	whole(t, a, b)
}
