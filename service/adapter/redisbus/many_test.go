package redisbus

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"foyer/service"
	"foyer/service/adapter/freeport"
)

// Nodes at different servers of one Redis Cluster hear each other; when one server is killed, they go to another.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	var servers []*process
	var admins []*client
	var addresses []string
	for i := range 3 {
		between := freeport.New(t) // where its servers meet
		s := startServer(t, freeport.New(t), "--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--cluster-port", between)
		servers, admins, addresses = append(servers, s), append(admins, dialClient(t, s.Addr)), append(addresses, s.Addr)
		if host, port, _ := strings.Cut(s.Addr, ":"); i > 0 {
			admins[0].do("CLUSTER", "MEET", host, port, between)
		}
	}
	// Each has its slots; the bus needs none, but a cluster without some is not whole.
	for i, a := range admins {
		a.do("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*5462), fmt.Sprint(min((i+1)*5462, 16384)-1))
	}
	// Each bus is told of one server, so that they are apart.
	var all []*ear
	for i, s := range servers {
		all = append(all, newEar(t, connect(t, Config{Node: names[i], URL: "redis://" + s.Addr})))
	}
	every := newEar(t, connect(t, Config{Node: "EVRY", URL: "redis://" + strings.Join(addresses, ",")}))
	all = append(all, every)
	for i, from := range all {
		for j, to := range all {
			if i != j {
				to.hears(t, from.Bus, fmt.Sprintf("from %d to %d", i, j))
			}
		}
	}
	ordered(t, all[0].Bus, connect(t, Config{Node: "ORDR", URL: "redis://" + servers[1].Addr}))

	at := every.now.Load().address
	for i, s := range servers {
		if s.Addr == at {
			s.Kill()
			await(t, "another server", func() bool { return every.Up() && every.now.Load().address != at })
			other := all[(i+1)%3]
			every.hears(t, other.Bus, "after a server was killed")
			other.hears(t, every.Bus, "and back")
		}
	}
}

var names = []service.NodeID{"AAAA", "BBBB", "CCCC"}

// ordered holds that frames come in the order in which they were sent, and that none is lost.
func ordered(t *testing.T, from, to *Bus) {
	t.Helper()
	const frames = 2000
	came := make(chan string, frames+100)
	if err := to.Receive(func(frame []byte) { came <- string(frame) }); err != nil {
		t.Fatal(err)
	}
	for met := false; !met; {
		_ = from.Send(to.self, []byte("hello"))
		select {
		case <-came:
			met = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	for i := range frames {
		if err := from.Send(to.self, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < frames; {
		select {
		case got := <-came:
			if got == "hello" {
				continue
			}
			if got != fmt.Sprint(i) {
				t.Fatalf("frame %q came in place of %d", got, i)
			}
			i++
		case <-time.After(patience):
			t.Fatalf("frame %d does not come", i)
		}
	}
}

// Several servers that are no Redis Cluster are refused: nodes at them would be apart.
func TestNoRedisCluster(t *testing.T) {
	one, other := startServer(t, freeport.New(t)), startServer(t, freeport.New(t))
	_, err := Connect(Config{Node: "AAAA", URL: "redis://" + one.Addr + "," + other.Addr, callTimeout: callTimeout})
	if err == nil || !strings.Contains(err.Error(), "this one is of no Redis Cluster") {
		t.Errorf("got %v, want that these are no Redis Cluster", err)
	}
}

// Sentinels lead to the master. When it is lost, they lead to the next one.
func TestSentinel(t *testing.T) {
	t.Parallel()
	login := []string{"--requirepass", "secret", "--masterauth", "secret"}
	master := startServer(t, freeport.New(t), login...)
	host, port, _ := strings.Cut(master.Addr, ":")
	replica := startServer(t, freeport.New(t), append(login, "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")...)
	var sentinels []string
	for i := range 3 {
		file := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("sentinel monitor mymaster %s %s 2\nsentinel auth-pass mymaster secret\nsentinel down-after-milliseconds mymaster 60000\nsentinel failover-timeout mymaster 3000\n", host, port)
		if i == 2 { // it wants a password itself
			text += "requirepass secret\nsentinel sentinel-pass secret\n"
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		sentinels = append(sentinels, startSentinel(t, freeport.New(t), file).Addr)
	}
	if _, err := Connect(Config{Node: "AAAA", URL: "redis+sentinel://" + sentinels[0] + "/other", callTimeout: callTimeout}); err == nil || !strings.Contains(err.Error(), `it knows no master of the name "other"`) {
		t.Errorf("got %v, want that the name is not known", err)
	}
	if _, err := Connect(Config{Node: "AAAA", URL: "redis+sentinel://" + master.Addr + "/mymaster", callTimeout: callTimeout}); !errors.As(err, new(*refusal)) {
		t.Errorf("got %v, want that this is no sentinel", err)
	}
	url := "redis+sentinel://:secret@" + strings.Join(sentinels, ",") + "/mymaster"
	a, b := newEar(t, connect(t, Config{Node: "AAAA", URL: url})), newEar(t, connect(t, Config{Node: "BBBB", URL: url}))
	only := newEar(t, connect(t, Config{Node: "CCCC", URL: "redis+sentinel://:secret@" + sentinels[2] + "/mymaster"}))
	a.hears(t, b.Bus, "first")
	b.hears(t, a.Bus, "first")
	only.hears(t, a.Bus, "first")
	if at := a.now.Load().address; at != master.Addr {
		t.Errorf("the server is %s, want the master %s", at, master.Addr)
	}
	// Sentinels find each other, and the replica, by themselves.
	admin := dialClient(t, sentinels[0])
	await(t, "the sentinels' knowledge of each other", func() bool {
		_, err := admin.Write(appendCommand(nil, "SENTINEL", "ckquorum", "mymaster"))
		return err == nil && admin.ok() == nil && asked(t, admin, "SENTINEL", "replicas", "mymaster") > 0
	})
	for i, at := range sentinels { // until now a busy master was not to be left
		admin := dialClient(t, at)
		if i == 2 {
			admin.do("AUTH", "secret")
		}
		admin.do("SENTINEL", "SET", "mymaster", "down-after-milliseconds", "1000")
	}
	began := time.Now()
	master.Kill()
	await(t, "the next master", func() bool {
		l := a.now.Load()
		return a.Up() && b.Up() && l.address == replica.Addr && b.now.Load().address == replica.Addr
	})
	a.hears(t, b.Bus, "second")
	b.hears(t, a.Bus, "second")
	t.Logf("whole %v after the master was killed", time.Since(began))
}

// asked returns how many parts the answer to a command has.
func asked(t *testing.T, c *client, words ...string) int {
	t.Helper()
	if _, err := c.Write(appendCommand(nil, words...)); err != nil {
		t.Fatal(err)
	}
	first, err := c.Peek(1)
	if err != nil {
		t.Fatal(err)
	}
	if first[0] != '*' {
		_ = c.ok()
		return 0
	}
	parts, err := c.header('*')
	if err == nil {
		err = c.skip(parts)
	}
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

// A master that sentinels do not name any more is left, although it answers.
func TestMasterMoves(t *testing.T) {
	t.Parallel()
	servers := []*process{startServer(t, freeport.New(t)), startServer(t, freeport.New(t))}
	var now atomic.Int64
	sentinel := listen(t, func(c net.Conn) {
		r := newReader(c)
		for {
			if _, err := r.header('*'); err != nil || r.skip(3) != nil {
				return
			}
			host, port, _ := strings.Cut(servers[now.Load()].Addr, ":")
			_, _ = c.Write(appendCommand(nil, host, port))
		}
	})
	b := connect(t, Config{Node: "AAAA", URL: "redis+sentinel://" + sentinel + "/mymaster"})
	for _, to := range []int64{0, 1} {
		now.Store(to)
		await(t, "the master", func() bool { return b.Up() && b.now.Load().address == servers[to].Addr })
	}
}
