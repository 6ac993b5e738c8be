package sharded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"foyer/service/adapter/freeport"
	"foyer/service/adapter/redistest"
)

// crowd is a Redis Cluster with two nodes and rooms whose channels are at all servers.
type crowd struct {
	*redistest.Cluster
	t     *testing.T
	nodes []*node
	rooms []string
}

// whole awaits that both nodes hear the namespace, each room and each other's answers, from a server on Node that has
// just looked where the slots are, that they are each counted once, and that this server hears both.
func (c *crowd) whole(what string) {
	c.t.Helper()
	began := time.Now()
	main := "socket.io#/#"
	var p *redis.ClusterClient
	var sub *redis.PubSub
	redistest.Await(c.t, "the server's own subscription when "+what, func() bool {
		p = redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.addresses(), DisableIdentity: true, MaxRetries: -1, DialerRetries: 1})
		sub = p.SSubscribe(c.t.Context(), main)
		if _, err := sub.ReceiveTimeout(c.t.Context(), time.Second); err != nil {
			_ = errors.Join(sub.Close(), p.Close())
			return false
		}
		return true
	})
	defer p.Close()
	defer sub.Close()
	for i, n := range c.nodes {
		tries := 0
		until := func(event string, ready func(text string)) {
			c.t.Helper()
			redistest.Await(c.t, event, func() bool {
				tries++
				once := fmt.Sprintf("%s, try %d", event, tries)
				ready(once)
				late := time.After(100 * time.Millisecond)
				for {
					select {
					case m := <-n.heard:
						if m.Event == once || m.Request == once {
							return true
						}
					case <-late:
						return false
					}
				}
			})
		}
		until(what+" on the namespace's channel", func(event string) { p.SPublish(c.t.Context(), main, text(c.t, event)) })
		for _, room := range c.rooms {
			until(what+" on that of "+room, func(event string) {
				p.SPublish(c.t.Context(), "socket.io#/#"+room+"#", text(c.t, event, room))
			})
		}
		until(what+" on that of answers", func(request string) {
			answer := fmt.Sprintf(`{"type":11,"data":{"requestId":%q,"clientCount":1},"uid":"x","nsp":"/"}`, request)
			p.SPublish(c.t.Context(), "socket.io#/#"+n.cfg.UID+"#", answer)
		})
		mine := fmt.Sprintf("%s from node %d", what, i)
		n.publish(broadcast(mine), "")
		for heard := false; !heard; {
			got, err := sub.ReceiveTimeout(c.t.Context(), redistest.Patience)
			if err != nil {
				c.t.Fatalf("%s is not heard: %v", mine, err)
			}
			message, ok := got.(*redis.Message)
			heard = ok && strings.Contains(message.Payload, mine)
		}
		n.wantPeers(1)
	}
	channels := len(c.rooms) + 1 + 1 + 2 // rooms, namespace, marker, answers
	redistest.Await(c.t, "nothing that is subscribed to twice "+what, func() bool {
		ctx, stop := context.WithTimeout(c.t.Context(), time.Second)
		defer stop()
		sum := 0
		err := p.ForEachShard(ctx, func(ctx context.Context, s *redis.Client) error {
			found, err := s.PubSubShardChannels(ctx, "*").Result()
			for _, count := range s.PubSubShardNumSub(ctx, found...).Val() {
				c.nodes[0].mu.Lock()
				sum += int(count)
				c.nodes[0].mu.Unlock()
			}
			return err
		})
		return err == nil && sum == 2*channels-2+1
	})
	c.t.Logf("whole %v: %s", time.Since(began).Round(time.Millisecond), what)
}

func (c *crowd) addresses() (list []string) {
	for _, s := range c.Servers {
		list = append(list, s.Addr)
	}
	return list
}

// owner is which server has the slot of a channel, once all know that.
func (c *crowd) owner(channel string) (owner int) {
	c.t.Helper()
	slot := c.Admins[0].ClusterKeySlot(c.t.Context(), channel).Val()
	redistest.Await(c.t, "one owner of a slot", func() bool {
		owner = -1
		for _, a := range c.Admins {
			shards, err := a.ClusterShards(c.t.Context()).Result()
			if err != nil {
				continue
			}
			at := -1
			for _, shard := range shards {
				has := slices.ContainsFunc(shard.Slots, func(r redis.SlotRange) bool { return r.Start <= slot && slot <= r.End })
				for _, server := range shard.Nodes {
					if has && server.Role == "master" && server.Health == "online" {
						at = c.Place(fmt.Sprintf("127.0.0.1:%d", server.Port))
					}
				}
			}
			if at < 0 || owner >= 0 && owner != at {
				return false
			}
			owner = at
		}
		return owner >= 0
	})
	return owner
}

// move gives the slot of a channel to another server.
func (c *crowd) move(channel string) {
	c.t.Helper()
	from := c.owner(channel)
	to := (from + 1) % 3
	slot := c.Admins[from].ClusterKeySlot(c.t.Context(), channel).Val()
	c.Do(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ID(from))
	c.Do(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ID(to))
	for _, i := range []int{to, from} {
		c.Do(i, "CLUSTER", "SETSLOT", slot, "NODE", c.ID(to))
	}
}

// moveUnderLoad moves a slot while a node says much on its channel: each message is published, and once.
func (c *crowd) moveUnderLoad(channel string) {
	c.t.Helper()
	const messages = 600
	published := func() (n int) {
		for _, a := range c.Admins {
			_, rest, _ := strings.Cut(a.Info(c.t.Context(), "commandstats").Val(), "cmdstat_spublish:calls=")
			calls, _, _ := strings.Cut(rest, ",")
			more, _ := strconv.Atoi(calls) // none has been there
			n += more
		}
		return n
	}
	before := published()
	for i := range messages {
		c.nodes[0].publish(broadcast(fmt.Sprint(i)), "")
		if i%(messages/2) == messages/4 {
			c.move(channel)
		}
	}
	redistest.Await(c.t, "that all was published", func() bool { return published() >= before+messages })
	if got := published() - before; got != messages || c.nodes[0].Dropped()["lost"] != 0 {
		c.t.Errorf("%d of %d messages were published, %v dropped", got, messages, c.nodes[0].Dropped())
	}
}

// TestRedisCluster: at a Redis Cluster each channel is heard at the server of its slot, also after slots have moved, a
// master was killed, and another has changed places with its replica.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	c := &crowd{Cluster: redistest.StartCluster(t, 1), t: t}
	for i := range 12 {
		c.rooms = append(c.rooms, fmt.Sprint("room ", i))
	}
	for i, addresses := range [][]string{c.addresses()[:3], {c.Servers[1].Addr}} { // one is told of one server only
		n := startNode(t, nodeNames[i], Config{Addresses: addresses})
		n.follow("/")
		for _, room := range c.rooms {
			n.Room("/", room, true)
		}
		c.nodes = append(c.nodes, n)
	}
	c.whole("all have started")
	c.ordered()

	c.move("socket.io#/#room 0#")
	c.whole("a room's slot has moved")
	c.moveUnderLoad("socket.io#/#")
	c.whole("the namespace's slot has moved")

	at := c.owner("socket.io#/#")
	c.Replicates(at + 3)
	c.Servers[at].Kill()
	c.whole("a master was killed")

	other := (at + 1) % 3 // which has channels of rooms at least
	c.Replicates(other + 3)
	c.Failover(other + 3)
	redistest.Await(t, "another master", func() bool {
		role, err := c.Admins[other].Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "slave"
	})
	c.whole("a master has become a replica")
}

var nodeNames = []string{"AAAA", "BBBB"}

// ordered holds that a server on Node hears what a node says in the order in which it is said, to rooms and to all.
func (c *crowd) ordered() {
	c.t.Helper()
	const messages = 600
	main := c.owner("socket.io#/#")
	p := startPeer(c.t, c.Servers[main].Addr, "socket.io#/#")
	others := 0
	for _, room := range c.rooms {
		channel := "socket.io#/#" + room + "#"
		if at := c.owner(channel); at == main {
			if err := p.sub.SSubscribe(c.t.Context(), channel); err != nil {
				c.t.Fatal(err)
			}
			redistest.Await(c.t, "the server's subscription", func() bool {
				return c.Admins[main].PubSubShardNumSub(c.t.Context(), channel).Val()[channel] == 3
			})
		} else {
			others++
		}
	}
	if others == 0 || others == len(c.rooms) {
		c.t.Fatalf("%d of %d rooms are at other servers: the test does not tell", others, len(c.rooms))
	}
	for i := range messages {
		if room := i % (len(c.rooms) + 1); room < len(c.rooms) {
			c.nodes[0].publish(broadcast(fmt.Sprint(i), c.rooms[room]), "")
		} else {
			c.nodes[0].publish(broadcast(fmt.Sprint(i)), "")
		}
	}
	byRoom := 0
	for i := range messages {
		got := p.hears()
		if !strings.Contains(got, fmt.Sprintf(`["%d"]`, i)) {
			c.t.Fatalf("message %d is %s", i, got)
		}
		if !strings.HasPrefix(got, "socket.io#/# ") {
			byRoom++
		}
	}
	if byRoom == 0 {
		c.t.Error("no message went by the channel of its room")
	}
	_ = p.sub.Close()
	redistest.Await(c.t, "that the server has gone", func() bool {
		return c.Admins[main].PubSubShardNumSub(c.t.Context(), "socket.io#/#").Val()["socket.io#/#"] == 2
	})
}

// TestSentinel: sentinels lead to the master, and to the next one when it is lost.
func TestSentinel(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, freeport.New(t))
	host, port, _ := strings.Cut(master.Addr, ":")
	replica := redistest.Start(t, freeport.New(t), "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	var sentinels []string
	for range 3 {
		file := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("sentinel monitor mymaster %s %s 2\nsentinel down-after-milliseconds mymaster 60000\nsentinel failover-timeout mymaster 3000\n", host, port)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		sentinels = append(sentinels, redistest.StartSentinel(t, freeport.New(t), file).Addr)
	}
	n := startNode(t, "AAAA", Config{Addresses: sentinels, Master: "mymaster"})
	n.follow("/")
	n.room("/", "r")
	p := startPeer(t, master.Addr, "socket.io#/#")
	n.wantPeers(1)
	p.says("socket.io#/#r#", "first", "r")
	n.hears("first")
	n.publish(broadcast("first"), "")
	p.hears()
	admin := redis.NewSentinelClient(&redis.Options{Addr: sentinels[0], DisableIdentity: true})
	defer admin.Close()
	redistest.Await(t, "the sentinels' knowledge of each other", func() bool {
		replicas, err := admin.Replicas(t.Context(), "mymaster").Result()
		return err == nil && len(replicas) == 1 && admin.CkQuorum(t.Context(), "mymaster").Err() == nil
	})

	for _, at := range sentinels { // until now a busy master was not to be left
		admin := redis.NewClient(&redis.Options{Addr: at, DisableIdentity: true})
		if err := admin.Do(t.Context(), "SENTINEL", "SET", "mymaster", "down-after-milliseconds", "1000").Err(); err != nil {
			t.Fatal(err)
		}
		_ = admin.Close()
	}
	began := time.Now()
	master.Kill()
	redistest.Await(t, "the room at the next master", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		p := n.places["socket.io#/#r#"]
		return p.stands && p.at.server.Options().Addr == replica.Addr
	})
	next := startPeer(t, replica.Addr, "socket.io#/#") // an earlier one was cut off as that became the master
	next.says("socket.io#/#r#", "second", "r")
	n.hears("second")
	n.publish(broadcast("second"), "")
	if got := next.hears(); !strings.Contains(got, "second") {
		t.Error(got)
	}
	t.Logf("whole %v after the master was killed", time.Since(began))
}
