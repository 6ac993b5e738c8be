//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/adapter/freeport"
)

// longLease is that of tests which have to see a node silent before it is lost: for six seconds it is, on a machine
// that has other things to do as well.
const longLease = "10s"

// nodeNames are those of the nodes of a test, in their order.
var nodeNames = []string{"AAAA", "BBBB", "CCCC", "DDDD"}

// embedded are the flags of the nodes of a cluster that all know the same list of addresses, which has their own in it.
func embedded(t testing.TB, nodes int, more ...string) [][]string {
	t.Helper()
	var addresses []string
	for range nodes {
		addresses = append(addresses, "localhost:"+freeport.New(t))
	}
	var all [][]string
	for i, address := range addresses {
		all = append(all, append([]string{
			"--node-id=" + nodeNames[i], "--cluster=embedded", "--cluster-listen=" + strings.Replace(address, "localhost", "127.0.0.1", 1),
			"--cluster-routes=" + strings.Join(addresses, ","),
		}, more...))
	}
	return all
}

// startNodes starts nodes all at once and waits until each lists all as up.
func startNodes(t testing.TB, flags [][]string) []*foyer {
	t.Helper()
	var nodes []*foyer
	for _, args := range flags {
		nodes = append(nodes, launchFoyer(t, nil, args...))
	}
	for _, f := range nodes {
		f.listens(t)
	}
	awaitUp(t, nodes, nodeNames[:len(nodes)]...)
	return nodes
}

// awaitStates waits until a node lists the cluster so: each node as NAME=STATE.
func (f *foyer) awaitStates(t testing.TB, want ...string) {
	t.Helper()
	b := api(t, f.api)
	eventually(t, func() error {
		r, err := b.node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{})
		if err != nil {
			return err
		}
		var got []string
		for _, n := range r.GetNodes() {
			got = append(got, n.GetNodeId()+"="+strings.TrimPrefix(n.GetState().String(), "NODE_STATE_"))
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("the nodes are %q, want %q", got, want)
		}
		return nil
	})
}

func awaitUp(t testing.TB, nodes []*foyer, names ...string) {
	t.Helper()
	var want []string
	for _, name := range names {
		want = append(want, name+"=UP")
	}
	for _, f := range nodes {
		f.awaitStates(t, want...)
	}
}

// logs waits for a line of the log with this message about a node.
func (f *foyer) logs(t testing.TB, message, node string) {
	t.Helper()
	_, _, err := f.log.await(0, patience, func(line string) bool {
		return strings.Contains(line, `"msg":"`+message+`"`) && strings.Contains(line, `"node":"`+node+`"`)
	})
	if err != nil {
		t.Fatalf("no line %q of %s: %v\n%s", message, node, err, f.tail(20))
	}
}

// crosses emits at each node to a client of each other one.
func crosses(t testing.TB, nodes []*foyer) {
	t.Helper()
	p := startPuppets(t)
	for i, at := range nodes {
		c, id := p.connect(t, at.url(), "/", opts{})
		for j, from := range nodes {
			event := fmt.Sprintf("from %d to %d", j, i)
			eventually(t, func() error { // a node that is lost for a moment is sent nothing
				event += "."
				r, err := api(t, from.api).emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: []string{id}}, Payload: say(event)})
				switch {
				case err != nil:
					t.Fatal(err)
				case len(r.GetCoverage().GetUnreachable()) > 0:
					return fmt.Errorf("emit %s: %v", event, r)
				case r.GetMatched() != 1 || r.GetEnqueued() != 1:
					t.Errorf("emit %s: got %v", event, r)
				}
				return nil
			})
			c.event(event)
		}
	}
}

// natsBinary is the NATS server, of the version that Foyer embeds. It is built once for all tests, in a folder that
// TestMain removes.
var natsBinary = sync.OnceValues(func() (string, error) {
	name := filepath.Join(commonFolder(), "nats-server")
	out, err := exec.Command("go", "build", "-o", name, "github.com/nats-io/nats-server/v2").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return name, nil
})

// natsServer runs a NATS server at a port, with what else its configuration is to have.
func natsServer(t testing.TB, port, config string) *process {
	t.Helper()
	name, err := natsBinary()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	writeFile(t, file, "listen: 127.0.0.1:"+port+"\n"+config)
	p := start(t, name, nil, "-c", file)
	t.Cleanup(p.kill)
	if _, _, err := p.log.await(0, patience, func(line string) bool { return strings.Contains(line, "Server is ready") }); err != nil {
		t.Fatalf("no NATS server: %v\n%s", err, p.tail(20))
	}
	return p
}

// redisServer runs a Redis server at a port, with what more its command is to have.
func redisServer(t testing.TB, port string, more ...string) *process {
	t.Helper()
	args := append([]string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", t.TempDir()}, more...)
	p := start(t, "redis-server", nil, args...)
	t.Cleanup(p.kill)
	if _, _, err := p.out.await(0, patience, func(line string) bool { return strings.Contains(line, "eady to accept connections") }); err != nil {
		t.Fatalf("no Redis server: %v\n%s", err, p.tail(20))
	}
	return p
}

// Nodes that start at the same moment, each with the same list of addresses, become one cluster.
func TestClusterStartsInAnyOrder(t *testing.T) {
	nodes := startNodes(t, embedded(t, 3))
	crosses(t, nodes)

	// One goes in good order, and the others hear so at once; it comes back as another run.
	nodes[1].stop(t)
	nodes[0].logs(t, "member leaving", "BBBB")
	for _, f := range []*foyer{nodes[0], nodes[2]} {
		f.awaitStates(t, "AAAA=UP", "CCCC=UP")
	}
}

// Nodes whose NATS server is not there yet serve alone, and are a cluster once it is; so they do when it was away.
func TestClusterByNATS(t *testing.T) {
	port := freeport.New(t)
	flags := func(name string) []string {
		return []string{"--node-id=" + name, "--cluster=nats", "--cluster-url=nats://127.0.0.1:" + port, "--cluster-lease=2s"}
	}
	nodes := []*foyer{launchFoyer(t, nil, flags("AAAA")...), launchFoyer(t, nil, flags("BBBB")...)}
	for i, f := range nodes {
		f.listens(t)
		f.awaitStates(t, nodeNames[i]+"=UP")
	}
	server := natsServer(t, port, "")
	awaitUp(t, nodes, "AAAA", "BBBB")
	nodes = append(nodes, startFoyer(t, flags("CCCC")...))
	awaitUp(t, nodes, nodeNames[:3]...)
	crosses(t, nodes)

	server.kill()
	nodes[0].awaitStates(t, "AAAA=UP", "BBBB=LOST", "CCCC=LOST")
	natsServer(t, port, "")
	awaitUp(t, nodes, nodeNames[:3]...)
	crosses(t, nodes)
}

// Three nodes on one Redis server are one cluster: two that were there before it, and again when it was away.
func TestClusterByRedis(t *testing.T) {
	port := freeport.New(t)
	flags := func(name string) []string {
		return []string{"--node-id=" + name, "--cluster=redis", "--cluster-url=redis://127.0.0.1:" + port, "--cluster-lease=2s"}
	}
	nodes := []*foyer{launchFoyer(t, nil, flags("AAAA")...), launchFoyer(t, nil, flags("BBBB")...)}
	for i, f := range nodes {
		f.listens(t)
		f.awaitStates(t, nodeNames[i]+"=UP")
	}
	server := redisServer(t, port)
	awaitUp(t, nodes, "AAAA", "BBBB")
	nodes = append(nodes, startFoyer(t, flags("CCCC")...))
	awaitUp(t, nodes, nodeNames[:3]...)
	crosses(t, nodes)

	server.kill()
	nodes[0].awaitStates(t, "AAAA=UP", "BBBB=LOST", "CCCC=LOST")
	redisServer(t, port)
	awaitUp(t, nodes, nodeNames[:3]...)
	crosses(t, nodes)
}

// A node that is killed is silent, then lost, at each other one; its next run takes its place.
func TestClusterLosesANode(t *testing.T) {
	flags := embedded(t, 3, "--cluster-lease="+longLease)
	nodes := startNodes(t, flags)
	nodes[1].crash()
	for _, f := range []*foyer{nodes[0], nodes[2]} {
		f.awaitStates(t, "AAAA=UP", "BBBB=SILENT", "CCCC=UP")
	}
	for _, f := range []*foyer{nodes[0], nodes[2]} {
		f.awaitStates(t, "AAAA=UP", "BBBB=LOST", "CCCC=UP")
		f.logs(t, "member silent", "BBBB")
		f.logs(t, "member lost", "BBBB")
	}
	out, err := exec.CommandContext(t.Context(), binary(t), "nodes", "--api", nodes[0].api).Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"NODE ", "AAAA   up ", "BBBB   lost ", "CCCC   up "} {
		if lines := strings.Split(string(out), "\n"); len(lines) != 5 || !strings.HasPrefix(lines[i], want) {
			t.Errorf("foyer nodes prints\n%s\nwant %q in line %d", out, want, i+1)
		}
	}
	nodes[1] = startFoyer(t, flags[1]...)
	awaitUp(t, nodes, nodeNames[:3]...)
	crosses(t, nodes)
}

// What is wrong with a node's settings is told in one line, and it does not start.
func TestClusterRefuses(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "key"), "the secret of this cluster\n")
	writeFile(t, filepath.Join(dir, "other"), "the secret of another one\n")
	flags := embedded(t, 2, "--cluster-key-file="+filepath.Join(dir, "key"))
	whole := t
	node := startFoyer(whole, flags[0]...)
	small := freeport.New(t)
	natsServer(t, small, "max_payload: 65536\n")
	closed := freeport.New(t)
	redisServer(t, closed, "--requirepass", "secret")
	with := func(args []string, more ...string) []string { return append(slices.Clone(args), more...) }
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a second one of a name": {with(flags[1], "--node-id=AAAA"), "foyer: --node-id: the name AAAA is taken"},
		"another key":            {with(flags[1], "--cluster-key-file="+filepath.Join(dir, "other")), "foyer: --cluster-key-file: the node at "},
		"another name":           {with(flags[1], "--cluster-name=other"), "foyer: --cluster-name: the node at "},
		"a taken port":           {with(flags[1], flags[0][2]), "foyer: --cluster-listen: the address "},
		"a small NATS server":    {[]string{"--cluster=nats", "--cluster-url=nats://127.0.0.1:" + small}, "foyer: --cluster-url: the NATS server takes messages of 65536 bytes (max_payload)"},
		"a Redis that wants a password": {
			[]string{"--cluster=redis", "--cluster-url=redis://127.0.0.1:" + closed}, "foyer: --cluster-url: 127.0.0.1:" + closed + ": the URL has no password",
		},
		"another password of Redis": {
			[]string{"--cluster=redis", "--cluster-url=redis://:wrong@127.0.0.1:" + closed}, "foyer: --cluster-url: 127.0.0.1:" + closed + ": the user and password of the URL are not taken",
		},
		"a server that is no Redis": {
			[]string{"--cluster=redis", "--cluster-url=redis://127.0.0.1:" + small}, "foyer: --cluster-url: 127.0.0.1:" + small + ": what answers there does not speak as Redis does",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := launchFoyer(t, nil, c.args...)
			for range 5 {
				_, _, err := f.log.await(0, patience, func(line string) bool { return strings.Contains(line, `"msg":"joined`) })
				if err != nil {
					break
				}
				// The running node answered too late, as on a busy machine. So the new one did not see it, and
				// joined. It may hold the name now, so both start again.
				f.crash()
				node.crash()
				node = startFoyer(whole, flags[0]...)
				f = launchFoyer(t, nil, c.args...)
			}
			f.stopped = true
			if code := f.exit(t, patience); code != 1 {
				t.Errorf("it ends with code %d, want 1\n%s", code, f.tail(20))
			}
			told := slices.DeleteFunc(f.log.all(), func(line string) bool { return strings.HasPrefix(line, "{") })
			if len(told) != 1 || !strings.HasPrefix(told[0], c.want) {
				t.Errorf("it says %q, want one line that begins with %q", told, c.want)
			}
		})
	}
	node.awaitStates(t, "AAAA=UP")
}

// Two nodes of one name that could not know of each other, and meet later, do not both stay: the one that started first
// drains and says why, so that its operator starts it with another name.
func TestClusterNamesakesMeet(t *testing.T) {
	flags := embedded(t, 3)
	alone := func(args []string) []string {
		return slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return strings.HasPrefix(arg, "--cluster-routes=") })
	}
	first := startFoyer(t, alone(flags[0])...)
	second := startFoyer(t, append(alone(flags[1]), "--node-id=AAAA")...)
	first.stopped = true
	third := startFoyer(t, flags[2]...) // it knows both
	if code := first.exit(t, patience); code != 1 {
		t.Errorf("the first one ends with code %d, want 1", code)
	}
	told := first.log.all()
	if last := told[len(told)-1]; !strings.HasPrefix(last, "foyer: another node has taken the name AAAA") {
		t.Errorf("the first one says %q", last)
	}
	awaitUp(t, []*foyer{second, third}, "AAAA", "CCCC")
	crosses(t, []*foyer{second, third})
}

// TestClusterAtRest tells what a node of a cluster costs that does nothing: its memory, and its time to ready.
func TestClusterAtRest(t *testing.T) {
	const rounds = 3
	flags := map[string][]string{"alone": nil, "embedded": embedded(t, 1)[0]}
	memory, ready := map[string][]int{}, map[string][]time.Duration{}
	for range rounds {
		for name, args := range flags {
			began := time.Now()
			f := startFoyer(t, args...)
			ready[name] = append(ready[name], time.Since(began))
			memory[name] = append(memory[name], f.resident(t))
			f.stop(t)
		}
	}
	for name := range flags {
		slices.Sort(memory[name])
		slices.Sort(ready[name])
		t.Logf("%s: %d KiB, ready after %v", name, memory[name][rounds/2]>>10, ready[name][rounds/2])
	}
	if more := memory["embedded"][rounds/2] - memory["alone"][rounds/2]; more > 8<<20 {
		t.Errorf("an embedded server takes %d KiB, at most 8 MiB were meant", more>>10)
	}
}
