//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/adapter/freeport"
)

// mesh is a few nodes of one cluster as processes, between which every connection goes through a relay of the test, one
// for each ordered pair, so that ways can be cut.
type mesh struct {
	t      testing.TB
	names  []string
	ports  []string // where each listens for the others
	relays map[[2]int]*relay
	flags  []string

	mu    sync.Mutex
	nodes []*meshNode // changed under mu, by the test itself; others than that ask node
}

// node is the node that runs under a name now, for a test that goes on while nodes are killed and started again.
func (m *mesh) node(i int) *meshNode {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[i]
}

type meshNode struct {
	*foyer
	name string
	conn *grpc.ClientConn
	node foyerv1.NodeServiceClient
}

// startMesh starts nodes named A000, B000 and so on, and waits until each knows all others.
func startMesh(t testing.TB, n int, flags ...string) *mesh {
	t.Helper()
	m := &mesh{t: t, relays: map[[2]int]*relay{}, nodes: make([]*meshNode, n)}
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a secret of the test's own"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.flags = append([]string{"--cluster=embedded", "--cluster-key-file=" + key, "--log-level=info", "--pprof"}, flags...)
	for i := range n {
		m.names = append(m.names, string(rune('A'+i))+"000")
	}
	m.ports = freePorts(t, n)
	for i := range n {
		for j := range n {
			if i != j {
				m.relays[[2]int{i, j}] = startRelay(t, m.ports[j])
			}
		}
	}
	for i := range n {
		m.start(i)
	}
	m.settle()
	return m
}

// freePorts are addresses that nobody listens at. Their host is this process's own, so that what else runs on this
// machine does not take them meanwhile; nor do the other listeners of a node there, to which the kernel gives ports.
func freePorts(t testing.TB, n int) (list []string) {
	t.Helper()
	pid := os.Getpid()
	host := net.IPv4(127, byte(1+pid>>16), byte(pid>>8), byte(pid)).String()
	for len(list) < n {
		if address := net.JoinHostPort(host, freeport.New(t)); !slices.Contains(list, address) {
			list = append(list, address)
		}
	}
	return list
}

// start starts a node, which may have been there before.
func (m *mesh) start(i int) {
	m.t.Helper()
	var routes []string
	for j := range m.names {
		if j != i {
			routes = append(routes, m.relays[[2]int{i, j}].address)
		}
	}
	f := startFoyer(m.t, append([]string{
		"--node-id=" + m.names[i], "--cluster-listen=" + m.ports[i], "--cluster-routes=" + strings.Join(routes, ","),
		"--cluster-advertise=127.0.0.1:9", // whoever is told of it has no other way than the relay
	}, m.flags...)...)
	m.add(i, f, m.names[i])
}

// add makes a process a node of the mesh.
func (m *mesh) add(i int, f *foyer, name string) {
	m.t.Helper()
	conn, err := dial(f.api, insecure.NewCredentials())
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { conn.Close() })
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.nodes) <= i {
		m.nodes = append(m.nodes, nil)
	}
	m.nodes[i] = &meshNode{f, name, conn, foyerv1.NewNodeServiceClient(conn)}
}

// settle waits until every node that runs says that all are up.
func (m *mesh) settle() {
	m.t.Helper()
	eventually(m.t, func() error {
		for _, n := range m.nodes {
			if n.stopped {
				continue
			}
			ctx, stop := context.WithTimeout(context.Background(), patience)
			r, err := n.node.ListNodes(ctx, &foyerv1.ListNodesRequest{})
			stop()
			if err != nil {
				return err
			}
			for _, other := range m.nodes {
				if !other.stopped && !slices.ContainsFunc(r.GetNodes(), func(o *foyerv1.Node) bool {
					return o.GetNodeId() == other.name && o.GetState() == foyerv1.NodeState_NODE_STATE_UP
				}) {
					return fmt.Errorf("at %s, %s is not up: %v", n.name, other.name, r.GetNodes())
				}
			}
		}
		return nil
	})
}

// cut has nothing pass from one node to another, or again; connections stay, as in a network that drops.
func (m *mesh) cut(i, j int, on bool) {
	// Either may have made the connection between them.
	m.relays[[2]int{i, j}].hold(true, on)
	m.relays[[2]int{j, i}].hold(false, on)
}

// part cuts both ways.
func (m *mesh) part(i, j int, on bool) { m.cut(i, j, on); m.cut(j, i, on) }

// reset breaks the connections between two nodes.
func (m *mesh) reset(i, j int) {
	m.relays[[2]int{i, j}].reset()
	m.relays[[2]int{j, i}].reset()
}

func (n *meshNode) freeze() { _ = n.cmd.Process.Signal(syscall.SIGSTOP) }
func (n *meshNode) thaw()   { _ = n.cmd.Process.Signal(syscall.SIGCONT) }

// relay passes connections on to an address, as long as it is let.
type relay struct {
	address, to string

	mu      sync.Mutex
	free    *sync.Cond
	held    [2]bool // what connections say to the address, and what it says to them
	closed  bool
	current map[net.Conn]struct{}
}

func startRelay(t testing.TB, to string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: l.Addr().String(), to: to, current: map[net.Conn]struct{}{}}
	r.free = sync.NewCond(&r.mu)
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() { r.pass(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		r.closed = true
		r.mu.Unlock()
		r.reset()
		done.Wait()
	})
	return r
}

func (r *relay) pass(from net.Conn) {
	defer from.Close()
	r.wait(0) // a black hole takes no connection
	r.keep(from, true)
	defer r.keep(from, false)
	to := r.dial()
	if to == nil {
		return
	}
	defer to.Close()
	r.keep(to, true)
	defer r.keep(to, false)
	var both sync.WaitGroup
	for way, pair := range [2][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			defer from.Close()
			defer to.Close()
			buf := make([]byte, 32<<10)
			for {
				n, err := pair[0].Read(buf)
				if n > 0 {
					r.wait(way)
					if _, err := pair[1].Write(buf[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		})
	}
	both.Wait()
}

// dial connects to the address, and waits until somebody listens there. A node whose connection is taken and then
// closed without a word would think that it is refused.
func (r *relay) dial() net.Conn {
	for {
		to, err := net.Dial("tcp", r.to)
		if err == nil {
			return to
		}
		r.mu.Lock()
		closed := r.closed
		r.mu.Unlock()
		if closed {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// keep notes a connection that a reset breaks, until it is over.
func (r *relay) keep(c net.Conn, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on {
		r.current[c] = struct{}{}
	} else {
		delete(r.current, c)
	}
}

// wait returns when a way is free.
func (r *relay) wait(way int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.held[way] && !r.closed {
		r.free.Wait()
	}
}

// hold stops what goes to the address, or what comes from it, or lets it go on.
func (r *relay) hold(to, on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	way := 1
	if to {
		way = 0
	}
	r.held[way] = on
	r.free.Broadcast()
}

func (r *relay) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.current {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
	r.free.Broadcast()
}
