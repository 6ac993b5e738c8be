//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// netspace is a network of its own, in which a process runs. It has no name and no file: it is gone when its last
// process is, so that nothing of it is left however a test ends, and two tests on one machine have nothing in common.
type netspace struct {
	holder  *process
	address string
}

// newNetspace makes one, or says why that cannot be.
func newNetspace(t testing.TB) (*netspace, error) {
	t.Helper()
	if out, err := exec.Command("unshare", "--net", "true").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("unshare: %w: %s", err, out)
	}
	// The shell says that it is there, and waits for the end of its input.
	s := &netspace{holder: start(t, "unshare", nil, "--net", "sh", "-c", "echo there; read line")}
	t.Cleanup(s.holder.kill)
	if _, _, err := s.holder.out.await(0, patience, func(string) bool { return true }); err != nil {
		t.Fatalf("no process in a network of its own: %v\n%s", err, s.holder.tail(5))
	}
	return s, nil
}

func (s *netspace) pid() string { return strconv.Itoa(s.holder.cmd.Process.Pid) }

// enter is a command that becomes another one, which runs in the network.
func (s *netspace) enter() []string { return []string{"nsenter", "--net=/proc/" + s.pid() + "/ns/net"} }

// ip runs commands of ip(8) in the network, one a line.
func (s *netspace) ip(lines ...string) error {
	for _, line := range lines {
		words := append(append(s.enter(), "ip"), strings.Fields(line)...)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

// dial connects to an address in the network.
func (s *netspace) dial(address string) (conn net.Conn, err error) {
	runtime.LockOSThread() // a network is a thread's
	mine, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		defer mine.Close()
		var its *os.File
		if its, err = os.Open("/proc/" + s.pid() + "/ns/net"); err == nil {
			defer its.Close()
			err = unix.Setns(int(its.Fd()), unix.CLONE_NEWNET)
		}
	}
	if err == nil {
		conn, err = net.DialTimeout("tcp", address, patience) // an address without a name is dialled by this goroutine
		if back := unix.Setns(int(mine.Fd()), unix.CLONE_NEWNET); back != nil {
			panic(back) // the thread is of no use to anybody
		}
	}
	runtime.UnlockOSThread()
	return conn, err
}

// expose gives an address in the network one that this process and its children reach.
func (s *netspace) expose(t testing.TB, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	keep := func(c net.Conn, on bool) {
		mu.Lock()
		defer mu.Unlock()
		if on {
			open[c] = true
		} else {
			delete(open, c)
			c.Close()
		}
	}
	var work sync.WaitGroup
	pass := func(from net.Conn) {
		keep(from, true)
		defer keep(from, false)
		to, err := s.dial(address)
		if err != nil {
			return
		}
		keep(to, true)
		defer keep(to, false)
		var both sync.WaitGroup
		for _, pair := range [2][2]net.Conn{{from, to}, {to, from}} {
			both.Go(func() {
				defer from.Close()
				defer to.Close()
				_, _ = io.Copy(pair[1], pair[0])
			})
		}
		both.Wait()
	}
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { pass(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		work.Wait()
	})
	return l.Addr().String()
}

// wired is a mesh of nodes that each have a network of their own, which a bridge connects.
type wired struct {
	*mesh
	spaces []*netspace
}

// startWired starts nodes as startMesh does; nil: such networks cannot be made here.
func startWired(t testing.TB, n int, flags ...string) *wired {
	t.Helper()
	hub, err := newNetspace(t)
	if err == nil {
		err = hub.ip("link add hub type bridge", "link set hub up")
	}
	if err != nil {
		t.Logf("no networks can be made here, so nothing is tried: %v", err)
		return nil
	}
	w := &wired{mesh: &mesh{t: t}}
	for i := range n {
		s, err := newNetspace(t)
		if err == nil {
			port := fmt.Sprint("port", i)
			s.address = fmt.Sprint("10.0.0.", i+1)
			err = hub.ip("link add "+port+" type veth peer name eth0 netns "+s.pid(), "link set "+port+" master hub up")
		}
		if err == nil {
			err = s.ip("link set lo up", "addr add "+s.address+"/24 dev eth0", "link set eth0 up")
		}
		if err != nil {
			t.Fatal(err)
		}
		w.spaces = append(w.spaces, s)
	}
	key := filepath.Join(t.TempDir(), "key")
	writeFile(t, key, "a secret of the test's own")
	for i, s := range w.spaces {
		var routes []string
		for _, o := range w.spaces {
			if o != s {
				routes = append(routes, o.address+":7000")
			}
		}
		w.names = append(w.names, string(rune('A'+i))+"000")
		f := launchBy(t, append(s.enter(), binary(t)), nil, append([]string{
			"--node-id=" + w.names[i], "--cluster=embedded", "--cluster-key-file=" + key, "--log-level=info",
			"--cluster-listen=" + s.address + ":7000", "--cluster-routes=" + strings.Join(routes, ","),
		}, flags...)...)
		f.listens(t)
		f.edge, f.api, f.admin = s.expose(t, f.edge), s.expose(t, f.api), s.expose(t, f.admin)
		w.add(i, f, w.names[i])
	}
	w.settle()
	return w
}

// lose has what one node sends to another one vanish, or no more. No connection ends by that alone. What the other one
// sends arrives, but the acks of it do not, so soon it sends nothing new either.
func (w *wired) lose(from, to int, on bool) {
	w.t.Helper()
	what := "del"
	if on {
		what = "add"
	}
	if err := w.spaces[from].ip("route " + what + " blackhole " + w.spaces[to].address + "/32"); err != nil {
		w.t.Fatal(err)
	}
}

// TestChaosOfPackets: what TestChaos holds is so too where it is the packets between two nodes that are lost, so that
// connections stand still, send again, and end when they or nodes lose patience.
func TestChaosOfPackets(t *testing.T) {
	w := startWired(t, 3, "--cluster-lease=3s", "--ping-interval=5s", "--ping-timeout=20s")
	if w == nil {
		return
	}
	long := chaosTime(t) > 30*time.Second
	c := &chaos{mesh: w.mesh, began: time.Now()}
	c.reach(4)
	c.run(func() {
		for _, cut := range []struct {
			both bool
			long bool // not for CI
			last time.Duration
		}{
			{both: false, last: 2 * time.Second},
			{both: true, last: 2 * time.Second},
			{both: false, last: 6 * time.Second},
			{both: true, last: 6 * time.Second},
			{both: false, last: 20 * time.Second, long: true},
			{both: true, last: 20 * time.Second, long: true},
		} {
			if cut.long && !long {
				continue
			}
			time.Sleep(chaosTime(t) / 12)
			w.lose(0, 1, true)
			if cut.both {
				w.lose(1, 0, true)
			}
			time.Sleep(cut.last)
			w.lose(0, 1, false)
			if cut.both {
				w.lose(1, 0, false)
			}
			c.settle()
		}
		time.Sleep(chaosTime(t) / 12)
	}, nil, nil)
	for _, n := range c.nodes[:2] {
		if !slices.ContainsFunc(n.log.all(), func(line string) bool { return strings.Contains(line, `"msg":"member lost"`) }) {
			t.Errorf("%s has lost nobody, so nothing was cut for longer than the lease", n.name)
		}
	}
}
