package classic

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"foyer/service/adapter/redistest"
)

// many is a Redis Cluster of 3 masters and 3 replicas.
type many struct {
	t       *testing.T
	servers []*redistest.Server
	admins  []*server
}

func startMany(t *testing.T) *many {
	t.Helper()
	c := &many{t: t}
	for i := range 6 {
		between := redistest.FreePort(t) // where its servers meet
		s := redistest.Start(t, redistest.FreePort(t), "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", between)
		c.servers, c.admins = append(c.servers, s), append(c.admins, dialServer(t, s.Addr))
		if host, port, _ := strings.Cut(s.Addr, ":"); i > 0 {
			c.do(0, "CLUSTER", "MEET", host, port, between)
		}
	}
	for i := range 3 {
		c.do(i, "CLUSTER", "ADDSLOTSRANGE", i*5462, min((i+1)*5462, 16384)-1)
	}
	for i := range 3 {
		id := c.admins[i].Do(t.Context(), "CLUSTER", "MYID").Val()
		redistest.Await(t, "a replica", func() bool { return c.admins[3+i].Do(t.Context(), "CLUSTER", "REPLICATE", id).Err() == nil })
	}
	c.whole(6)
	return c
}

func (c *many) do(i int, words ...any) {
	c.t.Helper()
	if err := c.admins[i].Do(c.t.Context(), words...).Err(); err != nil {
		c.t.Fatal(err)
	}
}

// whole awaits that all servers that live know that all slots are served, and each other.
func (c *many) whole(servers int) {
	c.t.Helper()
	redistest.Await(c.t, "a cluster that is whole", func() bool {
		lives := 0
		for _, a := range c.admins {
			info, err := a.ClusterInfo(c.t.Context()).Result()
			if err != nil {
				continue
			}
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6") {
				return false
			}
			lives++
		}
		return lives == servers
	})
}

// counted are how many subscribe to the requests of / at masters, as the official servers count, and at replicas.
func (c *many) counted() (masters, replicas int64) {
	c.t.Helper()
	for _, a := range c.admins {
		counts, err := a.PubSubNumSub(c.t.Context(), "socket.io-request#/#").Result()
		role, err2 := a.Do(c.t.Context(), "ROLE").Slice()
		switch {
		case err != nil || err2 != nil:
		case role[0] == "master":
			masters += counts["socket.io-request#/#"]
		default:
			replicas += counts["socket.io-request#/#"]
		}
	}
	return masters, replicas
}

// TestRedisCluster: at a Redis Cluster a node is counted once, at a master, also after its master was killed or has changed
// places with its replica. What is published comes in order, and from and to any server.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	c := startMany(t)
	addresses := []string{c.servers[0].Addr, c.servers[1].Addr, c.servers[2].Addr}
	n := open(t, config("AAAA", addresses...))
	other := open(t, config("BBBB", c.servers[4].Addr)) // it finds out that there are others
	follow(t, n, "/")
	follow(t, other, "/")
	peer := &server{Client: c.admins[1].Client, t: t}
	counts := func(want int64) {
		t.Helper()
		redistest.Await(t, fmt.Sprintf("a count of %d at masters", want), func() bool {
			masters, replicas := c.counted()
			return masters == want && replicas == 0
		})
	}
	counts(2)
	peer.serve("/")
	counts(3)
	whole(t, "first", n, other, peer)

	// The master of the nodes' channel changes places with its replica: who is there is counted by nobody.
	at, _ := n.where(t.Context())
	place := func(address string) int {
		for i, s := range c.servers {
			if s.Addr == address {
				return i
			}
		}
		t.Fatalf("no server at %s", address)
		return 0
	}
	first := place(at)
	c.do((first+3)%6, "CLUSTER", "FAILOVER")
	began := time.Now()
	redistest.Await(t, "another master", func() bool { now, err := n.where(t.Context()); return err == nil && now != at })
	if first == 1 { // the server on Node looks after itself
		peer = dialServer(t, c.servers[4].Addr)
		peer.serve("/")
		counts(3)
	} else {
		counts(3)
	}
	t.Logf("counted %v after the change", time.Since(began))
	whole(t, "after a change", n, other, peer)

	// It is killed, and the old one is the master again.
	redistest.Await(t, "a replica that has all", func() bool {
		role, err := c.admins[first].Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "slave" && role[3] == "connected"
	})
	c.whole(6)
	began = time.Now()
	c.servers[(first+3)%6].Kill()
	redistest.Await(t, "another master", func() bool { now, err := n.where(t.Context()); return err == nil && now == at })
	t.Logf("another master %v after one was killed", time.Since(began))
	if first == 1 {
		peer = dialServer(t, c.servers[2].Addr)
		peer.serve("/")
	}
	counts(3)
	t.Logf("counted %v after a master was killed", time.Since(began))
	whole(t, "after a master was killed", n, other, peer)
	t.Logf("whole %v after a master was killed", time.Since(began))
	none(t, peer)
}
