//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/adapter/freeport"
)

// sharded is Redis with the sharded adapter, in a mode, with a library on Node.
func sharded(mode, library string) *medium {
	return &medium{
		name:    "redis-sharded",
		options: fmt.Sprintf(`{"subscriptionMode":%q,"library":%q}`, mode, library),
		serve: func(t testing.TB) string {
			port := freeport.New(t)
			redisServer(t, port)
			return "redis://127.0.0.1:" + port
		},
		flags: func(url string) []string {
			return []string{"--cluster=redis-sharded", "--cluster-url=" + url, "--cluster-sharded-mode=" + mode}
		},
		joined: func(t testing.TB, url, nsp, room string, servers int64) {
			if mode != "static" {
				awaitShardChannel(t, url, "socket.io#"+nsp+"#"+room+"#", servers)
			}
		},
	}
}

// awaitShardChannel waits until a channel has so many subscribers, at all servers of the URL together.
func awaitShardChannel(t testing.TB, url, channel string, want int64) {
	t.Helper()
	eventually(t, func() error {
		got := int64(0)
		for address := range strings.SplitSeq(strings.TrimPrefix(url, "redis://"), ",") {
			c := redis.NewClient(&redis.Options{Addr: address, DisableIdentity: true})
			counts, err := c.PubSubShardNumSub(t.Context(), channel).Result()
			_ = c.Close()
			if err != nil {
				return err
			}
			got += counts[channel]
		}
		if got != want {
			return fmt.Errorf("%s has %d subscribers, want %d", channel, got, want)
		}
		return nil
	})
}

// TestPeersSharded: servers on Node with the sharded Redis adapter and nodes of Foyer are one.
func TestPeersSharded(t *testing.T) { testPeers(t, sharded("dynamic", "redis")) }

// TestPeersShardedModes: the same in the other modes, one of them with the other library, in a shorter walk.
func TestPeersShardedModes(t *testing.T) {
	for _, on := range []struct {
		name string
		*medium
	}{
		{"static, redis", sharded("static", "redis")},
		{"dynamic-private, ioredis", sharded("dynamic-private", "ioredis")},
	} {
		t.Run(on.name, func(t *testing.T) { startMixed(t, on.medium).walk("/chat") })
	}
}

// TestPeersShardedCluster: the same at a Redis Cluster, where the channels of rooms are at several servers.
func TestPeersShardedCluster(t *testing.T) {
	on := sharded("dynamic", "redis")
	on.serve = redisCluster
	startMixed(t, on).walk("/")
}

// TestPeersShardedAreLost: what TestPeersAreLost says, with the sharded adapter.
func TestPeersShardedAreLost(t *testing.T) { testPeersLost(t, sharded("dynamic", "redis")) }

// TestPeersShardedLive: what TestPeersLive says, with the sharded adapter and the library that hides no fault.
func TestPeersShardedLive(t *testing.T) { testServersLive(t, sharded("dynamic", "ioredis")) }

// walk has each side reach the other by each kind of channel: that of the namespace, of a room, of a socket and of
// answers.
func (m *mixed) walk(nsp string) {
	t, near := m.t, m.apis[0]
	all, ids := m.clients(nsp, opts{})
	node := func(code string, args ...any) string {
		t.Helper()
		return m.peer.run(fmt.Sprintf(`((io) => %s)(io.of(%q))`, fmt.Sprintf(code, args...), nsp))
	}
	emit := func(event string, rooms ...string) {
		t.Helper()
		to := &foyerv1.Target{Namespace: nsp, Rooms: rooms, All: len(rooms) == 0}
		if _, err := near.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: to, Payload: say(event)}); err != nil {
			t.Fatal(err)
		}
	}
	node(`io.emit("all of Node")`)
	m.exactly(all, "all of Node", 0, 1, 2)
	emit("all of Foyer")
	m.exactly(all, "all of Foyer", 0, 1, 2)
	for i := range 8 { // channels of which some are at each server of a cluster
		room := fmt.Sprint("room ", i)
		join := &foyerv1.JoinRoomsRequest{Target: &foyerv1.Target{Namespace: nsp, Rooms: []string{ids[0], ids[2]}}, Rooms: []string{room}}
		if _, err := near.rooms.JoinRooms(t.Context(), join); err != nil {
			t.Fatal(err)
		}
		emit("joined "+room, room) // the server on Node may not have subscribed yet
		m.exactly(all, "joined "+room, 0, 2)
		m.joined(t, m.url, nsp, room, 2)
		node(`io.to(%q).emit(%q)`, room, "Node to "+room)
		m.exactly(all, "Node to "+room, 0, 2)
	}
	for i, id := range ids {
		emit(fmt.Sprint("to ", i), id)
		m.exactly(all, fmt.Sprint("to ", i), i)
		node(`io.to(%q).emit("Node to %d")`, id, i)
		m.exactly(all, fmt.Sprint("Node to ", i), i)
		all[i].answers("question", []any{fmt.Sprint("from ", i)})
	}
	if got := node(`io.timeout(20000).emitWithAck("question").then((all) => all.sort())`); got != `["from 0","from 1","from 2"]` {
		t.Errorf("Node gets the answers %s", got)
	}
	acks, err := near.emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
		Target: &foyerv1.Target{Namespace: nsp, All: true}, Payload: say("question"), Timeout: durationpb.New(patience),
	})
	if err != nil || acks.GetSummary().GetAcked() != 3 {
		t.Errorf("Foyer gets the answers %v, %v", acks, err)
	}
	if got := node(`io.fetchSockets().then((all) => all.map((s) => s.id).sort())`); got != sorted(ids) {
		t.Errorf("Node sees the sockets %s, want %s", got, sorted(ids))
	}
	page, err := near.sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{Namespace: nsp, All: true}})
	if err != nil || len(page.GetSockets()) != 3 {
		t.Errorf("Foyer lists %v, %v", page, err)
	}
	node(`io.in(%q).disconnectSockets()`, ids[2])
	all[2].expect("disconnect")
}

// redisCluster runs a Redis Cluster of three masters, and returns the URL of all of them.
func redisCluster(t testing.TB) string {
	t.Helper()
	var addresses []string
	var admins []*redis.Client
	for i := range 3 {
		port, between := freeport.New(t), freeport.New(t)
		redisServer(t, port, "--cluster-enabled", "yes", "--cluster-port", between)
		admin := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, DisableIdentity: true})
		t.Cleanup(func() { _ = admin.Close() })
		addresses, admins = append(addresses, "127.0.0.1:"+port), append(admins, admin)
		if err := admin.ClusterAddSlotsRange(t.Context(), i*5462, min((i+1)*5462, 16384)-1).Err(); err != nil {
			t.Fatal(err)
		}
		if err := admins[0].Do(t.Context(), "CLUSTER", "MEET", "127.0.0.1", port, between).Err(); err != nil && i > 0 {
			t.Fatal(err)
		}
	}
	eventually(t, func() error {
		for _, admin := range admins {
			if slots, err := admin.ClusterShards(t.Context()).Result(); err != nil || len(slots) != 3 {
				return fmt.Errorf("a server knows %d servers with slots, %w", len(slots), err)
			}
			if info, err := admin.ClusterInfo(t.Context()).Result(); err != nil || !strings.Contains(info, "cluster_state:ok") {
				return fmt.Errorf("the cluster is not whole: %s, %w", info, err)
			}
		}
		return nil
	})
	return "redis://" + strings.Join(addresses, ",")
}

// TestPeersShardedFaults: a server on Node that is frozen when its client is put into a room misses nothing of what the
// room is told at once; and when Redis was away, each side hears the other again, in the namespace and in rooms, and
// calls are whole. Meanwhile each server has its own clients.
func TestPeersShardedFaults(t *testing.T) {
	on := sharded("dynamic", "redis")
	port := freeport.New(t)
	var server *process
	on.serve = func(t testing.TB) string {
		server = redisServer(t, port)
		return "redis://127.0.0.1:" + port
	}
	m := startMixed(t, on)
	near := m.apis[0]
	all, ids := m.clients("/", opts{})
	emit := func(event string, rooms ...string) {
		t.Helper()
		to := &foyerv1.Target{Rooms: rooms, All: len(rooms) == 0}
		if _, err := near.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: to, Payload: say(event)}); err != nil {
			t.Fatal(err)
		}
	}

	_ = m.peer.cmd.Process.Signal(syscall.SIGSTOP)
	join := &foyerv1.JoinRoomsRequest{Target: &foyerv1.Target{Rooms: ids}, Rooms: []string{"late"}}
	if _, err := near.rooms.JoinRooms(t.Context(), join); err != nil {
		t.Fatal(err)
	}
	emit("first", "late")
	emit("second", "late")
	_ = m.peer.cmd.Process.Signal(syscall.SIGCONT)
	m.exactly(all, "first", 0, 1, 2)
	m.exactly(all, "second", 0, 1, 2)

	server.kill()
	emit("alone")
	all[1].event("alone")
	m.peer.run(`io.local.emit("alone on Node")`)
	all[0].event("alone on Node")
	began := time.Now()
	redisServer(t, port)
	heard := func(event string, say func()) {
		t.Helper()
		eventually(t, func() error {
			say()
			for i, c := range all {
				if c.count(event) == 0 {
					return fmt.Errorf("client %d does not hear %q", i, event)
				}
			}
			return nil
		})
	}
	heard("Node to all", func() { m.peer.run(`io.emit("Node to all")`) })
	heard("Node to a room", func() { m.peer.run(`io.to("late").emit("Node to a room")`) })
	heard("Foyer to all", func() { emit("Foyer to all") })
	heard("Foyer to a room", func() { emit("Foyer to a room", "late") })
	t.Logf("each hears the other %v after Redis has come", time.Since(began).Round(time.Millisecond))
	eventually(t, func() error {
		page, err := near.sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{All: true}})
		if c := page.GetCoverage(); err == nil && (len(page.GetSockets()) != 3 || c.GetUnreachableUnnamed()+c.GetUncountedNodes() != 0) {
			err = fmt.Errorf("Foyer lists %v", page)
		}
		return err
	})
	if got := m.peer.run(`io.fetchSockets().then((all) => all.map((s) => s.id).sort())`); got != sorted(ids) {
		t.Errorf("Node sees the sockets %s, want %s", got, sorted(ids))
	}
	t.Logf("calls are whole %v after Redis has come", time.Since(began).Round(time.Millisecond))
}
