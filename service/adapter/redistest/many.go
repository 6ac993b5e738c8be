package redistest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Many is a Redis Cluster of three masters, each with a replica: that of Servers[i] is Servers[i+3].
type Many struct {
	Servers []*Server
	Admins  []*redis.Client // of each server
	tb      testing.TB
}

// StartMany runs one until the test ends.
func StartMany(tb testing.TB) *Many {
	tb.Helper()
	c := &Many{tb: tb}
	for i := range 6 {
		between := FreePort(tb) // where its servers meet
		s := Start(tb, FreePort(tb), "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", between, "--repl-diskless-sync-delay", "0")
		admin := redis.NewClient(&redis.Options{Addr: s.Addr, DisableIdentity: true, MaxRetries: -1})
		tb.Cleanup(func() { _ = admin.Close() })
		c.Servers, c.Admins = append(c.Servers, s), append(c.Admins, admin)
		if host, port, _ := strings.Cut(s.Addr, ":"); i > 0 {
			c.Do(0, "CLUSTER", "MEET", host, port, between)
		}
	}
	for i := range 3 {
		c.Do(i, "CLUSTER", "ADDSLOTSRANGE", i*5462, min((i+1)*5462, 16384)-1)
	}
	for i := range 3 {
		id := c.ID(i)
		Await(tb, "a replica", func() bool { return c.Admins[3+i].Do(tb.Context(), "CLUSTER", "REPLICATE", id).Err() == nil })
	}
	c.Whole(6)
	return c
}

// Do has a server do something.
func (c *Many) Do(i int, words ...any) {
	c.tb.Helper()
	if err := c.Admins[i].Do(c.tb.Context(), words...).Err(); err != nil {
		c.tb.Fatalf("%v: %v", words, err)
	}
}

// ID is what servers call one of them.
func (c *Many) ID(i int) string {
	c.tb.Helper()
	return fmt.Sprint(c.Admins[i].Do(c.tb.Context(), "CLUSTER", "MYID").Val())
}

// Place is which one has an address.
func (c *Many) Place(address string) int {
	c.tb.Helper()
	for i, s := range c.Servers {
		if s.Addr == address {
			return i
		}
	}
	c.tb.Fatalf("no server at %s", address)
	return 0
}

// Whole awaits that so many servers live, which know that all slots are served, and each other.
func (c *Many) Whole(servers int) {
	c.tb.Helper()
	Await(c.tb, "a cluster that is whole", func() bool {
		lives := 0
		for _, a := range c.Admins {
			info, err := a.ClusterInfo(c.tb.Context()).Result()
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

// Replicates awaits that a server is a replica that has all.
func (c *Many) Replicates(i int) {
	c.tb.Helper()
	Await(c.tb, "a replica that has all", func() bool {
		role, err := c.Admins[i].Do(c.tb.Context(), "ROLE").Slice()
		return err == nil && role[0] == "slave" && role[3] == "connected"
	})
}
