package classic

import (
	"fmt"
	"testing"
	"time"

	"foyer/service/adapter/redistest"
)

// many is a Redis Cluster of 3 masters and 3 replicas.
type many struct {
	*redistest.Cluster
	t *testing.T
}

// counted are how many subscribe to the requests of / at masters, as the official servers count, and at replicas.
func (c *many) counted() (masters, replicas int64) {
	c.t.Helper()
	for _, a := range c.Admins {
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

// TestRedisCluster: at a Redis Cluster a node is counted once, at a master, also after its master was killed or has
// changed places with its replica. What is published comes in order, and from and to any server.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	c := &many{redistest.StartCluster(t, 1), t}
	addresses := []string{c.Servers[0].Addr, c.Servers[1].Addr, c.Servers[2].Addr}
	n := open(t, config("AAAA", addresses...))
	other := open(t, config("BBBB", c.Servers[4].Addr)) // it finds out that there are others
	follow(t, n, "/")
	follow(t, other, "/")
	peer := &server{Client: c.Admins[1], t: t}
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
	first := c.Place(at)
	began := time.Now()
	c.Failover((first + 3) % 6)
	redistest.Await(t, "another master", func() bool { now, err := n.where(t.Context()); return err == nil && now != at })
	if first == 1 { // the server on Node looks after itself
		peer = dialServer(t, c.Servers[4].Addr)
		peer.serve("/")
		counts(3)
	} else {
		counts(3)
	}
	t.Logf("counted %v after the change", time.Since(began))
	whole(t, "after a change", n, other, peer)

	// It is killed, and the old one is the master again.
	c.Replicates(first)
	c.Whole(6)
	began = time.Now()
	c.Servers[(first+3)%6].Kill()
	redistest.Await(t, "another master", func() bool { now, err := n.where(t.Context()); return err == nil && now == at })
	t.Logf("another master %v after one was killed", time.Since(began))
	if first == 1 {
		peer = dialServer(t, c.Servers[2].Addr)
		peer.serve("/")
	}
	counts(3)
	t.Logf("counted %v after a master was killed", time.Since(began))
	whole(t, "after a master was killed", n, other, peer)
	t.Logf("whole %v after a master was killed", time.Since(began))
	none(t, peer)
}
