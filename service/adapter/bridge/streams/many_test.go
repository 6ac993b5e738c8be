package streams

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"foyer/service/adapter/freeport"
	"foyer/service/adapter/official"
	"foyer/service/adapter/redistest"
)

// TestRedisCluster: at a Redis Cluster each stream is read and written where it is, also after its master was killed or
// has changed places with its replica; a node is counted once, at a master, and what is published reaches all.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 1)
	all := Config{Count: 3}
	for _, s := range c.Servers[:3] {
		all.Addresses = append(all.Addresses, s.Addr)
	}
	one := all // it finds out that there are others
	one.Addresses = []string{c.Servers[4].Addr}
	a, b, peer := open(t, "AAAA", all), open(t, "BBBB", one), open(t, "other.PEER", all)
	names := []string{"/", "/chat", "/socket.io", "/a"}
	keys := map[string]bool{}
	for _, name := range names {
		for _, e := range []*ear{a, b, peer} {
			e.follow(name)
		}
		keys[a.stream(name)] = true
	}
	if len(keys) != 4 {
		t.Errorf("the streams are %v", keys)
	}
	rounds := 0
	works := func(what string) {
		t.Helper()
		rounds++
		own := redis.NewClusterClient(&redis.ClusterOptions{Addrs: slices.Clone(all.Addresses)}) // it looks where what is
		defer own.Close()
		for _, e := range []*ear{a, b} {
			redistest.Await(t, what+": a count", func() bool { n, err := e.Peers(t.Context(), "/"); return err == nil && n == 1 })
		}
		redistest.Await(t, what+": a count at masters", func() bool {
			masters, replicas := int64(0), int64(0)
			for _, admin := range c.Admins {
				role, err := admin.Do(t.Context(), "ROLE").Slice()
				n := admin.PubSubNumSub(t.Context(), "socket.io#/#").Val()["socket.io#/#"]
				if err == nil && role[0] == "master" {
					masters += n
				} else {
					replicas += n
				}
			}
			return masters == 3 && replicas == 0
		})
		const most = 50
		for i := range most {
			for _, name := range names {
				for _, e := range []*ear{a, b} {
					m := emit(fmt.Sprint(rounds, ".", i))
					m.Namespace = name
					e.say(m)
				}
			}
		}
		last := map[string]string{}
		for range most * 2 * len(names) {
			m := peer.next()
			who := m.UID + m.Namespace
			if l := last[who]; l != "" && compare(l, m.Event) >= 0 {
				t.Errorf("%s: %s says %s behind %s", what, who, m.Event, l)
			}
			last[who] = m.Event
		}
		for who, l := range last {
			if want := fmt.Sprint(rounds, ".", most-1); l != want {
				t.Errorf("%s: %s says %s last, want %s", what, who, l, want)
			}
		}
		b.say(official.Message{Kind: official.FetchSockets, Namespace: "/chat", Request: "q" + what})
		q := peer.next()
		if err := peer.Publish(&official.Message{Kind: official.Sockets, UID: peer.cfg.UID, Namespace: "/chat", Request: q.Request}, q.UID); err != nil {
			t.Fatal(err)
		}
		redistest.Await(t, what+": an answer", func() bool { m := b.next(); return m.Kind == official.Sockets && m.Request == "q"+what })
		for i, name := range names {
			write(t, own, a.stream(name), "uid", "emitter", "nsp", name, "type", "3", "data", emitData(fmt.Sprint(what, i)))
		}
		heard := map[string]bool{}
		redistest.Await(t, what+": emits", func() bool {
			m := a.next()
			heard[m.Event] = true
			n := 0
			for i := range names {
				if heard[fmt.Sprint(what, i)] {
					n++
				}
			}
			return n == len(names)
		})
		for range names {
			peer.next()
		}
	}
	works("at first")

	at := c.Master(a.stream("/"))
	c.Failover((at + 3) % 6)
	redistest.Await(t, "another master", func() bool { return c.Master(a.stream("/")) == (at+3)%6 })
	c.Whole(6)
	works("after a change")

	redistest.Await(t, "a replica that has all", func() bool {
		role, err := c.Admins[at].Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "slave" && role[3] == "connected"
	})
	c.Servers[(at+3)%6].Kill()
	redistest.Await(t, "another master", func() bool { return c.Master(a.stream("/")) == at })
	c.Whole(5)
	works("after a master was killed")
}

// TestSentinel: by a sentinel a node is at the master, and goes on at the next one: entries that this has are not read
// again.
func TestSentinel(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, freeport.New(t), "--requirepass", "secret", "--masterauth", "secret")
	host, port, _ := strings.Cut(master.Addr, ":")
	replica := redistest.Start(t, freeport.New(t), "--requirepass", "secret", "--masterauth", "secret", "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor mymaster %s %s 1\nsentinel auth-pass mymaster secret\nsentinel down-after-milliseconds mymaster 60000\nsentinel failover-timeout mymaster 3000\n", host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := redistest.StartSentinel(t, freeport.New(t), file)
	at := func(s *redistest.Server) *redis.Client {
		c := redis.NewClient(&redis.Options{Addr: s.Addr, Password: "secret", MaxRetries: -1, DisableIdentity: true})
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	redistest.Await(t, "a replica that is known", func() bool {
		list, err := stranger(t, sentinel.Addr).Do(t.Context(), "SENTINEL", "replicas", "mymaster").Slice()
		role, err2 := at(replica).Do(t.Context(), "ROLE").Slice()
		return err == nil && len(list) == 1 && err2 == nil && role[0] == "slave" && role[3] == "connected"
	})
	c := Config{Addresses: []string{sentinel.Addr}, Master: "mymaster", Password: "secret"}
	a, peer := open(t, "AAAA", c), open(t, "other.PEER", c)
	a.follow("/")
	peer.follow("/")
	a.say(emit("first"))
	peer.hears("first")
	redistest.Await(t, "the first entry at the replica", func() bool { return at(replica).XLen(t.Context(), "socket.io").Val() == 1 })
	// Until now a busy master was not to be left.
	if err := stranger(t, sentinel.Addr).Do(t.Context(), "SENTINEL", "SET", "mymaster", "down-after-milliseconds", "1000").Err(); err != nil {
		t.Fatal(err)
	}
	master.Kill()
	redistest.Await(t, "the next master", func() bool {
		role, err := at(replica).Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "master"
	})
	redistest.Await(t, "the count of peers", func() bool { n, err := a.Peers(t.Context(), "/"); return n == 1 && err == nil })
	a.say(emit("second"))
	peer.hears("second")
	peer.say(official.Message{Kind: official.FetchSockets, Request: "q"})
	if m := a.next(); m.Request != "q" {
		t.Errorf("heard %+v", m)
	}
	if n := peer.Dropped()["trimmed"]; n != 0 {
		t.Errorf("%d are missed: %v", n, peer.logged.FilterMessageSnippet("missed").All())
	}
}
