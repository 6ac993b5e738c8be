package redistest

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"foyer/service/adapter/freeport"
)

// Cluster is a Redis Cluster of a test. Its first servers begin as masters, and the others as replicas of these, in
// turn.
type Cluster struct {
	Servers []*Server
	Admins  []*redis.Client // of each server
	tb      testing.TB
}

// Masters are how many masters a Cluster begins with.
const Masters = 3

// StartCluster runs a Redis Cluster of three masters, with so many replicas of each of them.
func StartCluster(tb testing.TB, replicas int) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb}
	for i := range Masters * (1 + replicas) {
		between := freeport.New(tb) // where its servers meet
		s := Start(tb, freeport.New(tb), "--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--cluster-port", between,
			"--repl-diskless-sync-delay", "0")
		admin := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, DisableIdentity: true})
		tb.Cleanup(func() { _ = admin.Close() })
		c.Servers, c.Admins = append(c.Servers, s), append(c.Admins, admin)
		if host, port, _ := net.SplitHostPort(s.Addr); i > 0 {
			c.Do(0, "CLUSTER", "MEET", host, port, between)
		}
	}
	for i := range Masters {
		c.Do(i, "CLUSTER", "ADDSLOTSRANGE", i*5462, min((i+1)*5462, 16384)-1)
	}
	for i := Masters; i < len(c.Servers); i++ {
		id := c.Admins[i%Masters].Do(tb.Context(), "CLUSTER", "MYID").Val()
		Await(tb, "a replica", func() bool { return c.Admins[i].Do(tb.Context(), "CLUSTER", "REPLICATE", id).Err() == nil })
	}
	c.Whole(len(c.Servers))
	return c
}

// Do has a server do something.
func (c *Cluster) Do(i int, words ...any) {
	c.tb.Helper()
	if err := c.Admins[i].Do(c.tb.Context(), words...).Err(); err != nil {
		c.tb.Fatal(err)
	}
}

// Whole awaits that so many servers live, and that each of them knows all others and that all slots are served.
func (c *Cluster) Whole(servers int) {
	c.tb.Helper()
	Await(c.tb, "a cluster that is whole", func() bool {
		lives := 0
		for _, a := range c.Admins {
			info, err := a.ClusterInfo(c.tb.Context()).Result()
			if err != nil {
				continue
			}
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", len(c.Servers))) {
				return false
			}
			lives++
		}
		return lives == servers
	})
}

// Master says which server has a key now, as the others see it.
func (c *Cluster) Master(key string) int {
	c.tb.Helper()
	slot := c.Admins[0].ClusterKeySlot(c.tb.Context(), key).Val()
	for _, a := range c.Admins {
		ranges, err := a.ClusterSlots(c.tb.Context()).Result() //nolint:staticcheck // what is newer says no more
		if err != nil {
			continue
		}
		for _, r := range ranges {
			if int(slot) < r.Start || int(slot) > r.End {
				continue
			}
			for i, s := range c.Servers {
				if s.Addr == r.Nodes[0].Addr {
					return i
				}
			}
		}
	}
	c.tb.Fatalf("nobody has the key %q", key)
	return 0
}

// ID is what servers call one of them.
func (c *Cluster) ID(i int) string {
	c.tb.Helper()
	return fmt.Sprint(c.Admins[i].Do(c.tb.Context(), "CLUSTER", "MYID").Val())
}

// Place is which one has an address.
func (c *Cluster) Place(address string) int {
	c.tb.Helper()
	for i, s := range c.Servers {
		if s.Addr == address {
			return i
		}
	}
	c.tb.Fatalf("no server at %s", address)
	return 0
}

// Failover makes a replica the master in the place of its own. A server gives up when that takes 5 s, as it can where
// other processes are busy: so it is asked again.
func (c *Cluster) Failover(i int) {
	c.tb.Helper()
	var asked time.Time
	Await(c.tb, "another master", func() bool {
		role, err := c.Admins[i].Do(c.tb.Context(), "ROLE").Slice()
		if err == nil && role[0] == "master" {
			return true
		}
		if time.Since(asked) > 6*time.Second {
			asked = time.Now()
			_ = c.Admins[i].Do(c.tb.Context(), "CLUSTER", "FAILOVER").Err() // refused where it has just become so
		}
		return false
	})
}

// Replicates awaits that a server is a replica that has all.
func (c *Cluster) Replicates(i int) {
	c.tb.Helper()
	Await(c.tb, "a replica that has all", func() bool {
		role, err := c.Admins[i].Do(c.tb.Context(), "ROLE").Slice()
		return err == nil && role[0] == "slave" && role[3] == "connected"
	})
}
