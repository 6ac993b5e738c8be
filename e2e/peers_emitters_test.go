//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/tinylib/msgp/msgp"

	foyerv1 "foyer/gen/foyer/v1"
)

// TestPeersEmitters: what emitters say is heard, whatever their language and their time, once by each client that
// is meant; and what cannot be understood is told in one line, where it is recognised.
func TestPeersEmitters(t *testing.T) {
	m := startMixed(t, classic)
	all, ids := m.clients("/", opts{})
	chat, _ := m.clients("/chat", opts{})
	join := func(room string, who ...string) {
		if _, err := m.apis[0].rooms.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: &foyerv1.Target{Rooms: who}, Rooms: []string{room}}); err != nil {
			t.Fatal(err)
		}
	}
	join("r", ids[1], ids[2]) // the first is on Node, and of no concern here
	join("s", ids[1])
	at, err := url.Parse(m.url)
	if err != nil {
		t.Fatal(err)
	}
	server := redis.NewClient(&redis.Options{Addr: at.Host, DisableIdentity: true})
	t.Cleanup(func() { server.Close() })

	// heard wants each of the two clients at Foyer to get an event so often; more says which ones come behind it as often.
	heard := func(t *testing.T, clients []*client, event string, times []int, more ...string) {
		t.Helper()
		events := append([]string{event}, more...)
		for i, want := range times {
			for _, event := range events {
				if want > 0 {
					clients[1+i].event(event)
				}
			}
		}
		for _, nsp := range []string{"/", "/chat"} {
			publish(t, server, "socket.io#"+nsp+"#", message(map[string]any{"type": 2, "data": []any{"after " + event}, "nsp": nsp}, nil))
		}
		for i, want := range times {
			c := clients[1+i]
			c.event("after " + event)
			for _, event := range events {
				if got := c.count(event); got != want {
					t.Errorf("client %d got %q %d times, want %d", 1+i, event, got, want)
				}
			}
		}
	}
	run := func(t *testing.T, code string) { m.t, m.peer.t = t, t; m.peer.run(code) }
	packet := func(event, nsp string) map[string]any {
		return map[string]any{"type": 2, "data": []any{event, 1}, "nsp": nsp}
	}
	everybody := map[string]any{"rooms": []any{}, "except": []any{}, "flags": map[string]any{}}

	t.Run("npm redis-emitter 5.1.0", func(t *testing.T) {
		run(t, `emitter.emit("new all", Buffer.from([1]), new Date(0))`)
		heard(t, all, "new all", []int{1, 1})
		run(t, `emitter.to("r").except("s").volatile.compress(false).emit("new room")`)
		heard(t, all, "new room", []int{0, 1})
		run(t, `emitter.to(["r", "s"]).emit("new rooms")`)
		heard(t, all, "new rooms", []int{1, 1})
		run(t, `emitter.of("chat").emit("new chat")`)
		heard(t, chat, "new chat", []int{1, 1})
		run(t, `emitter.in("s").socketsJoin(["joined", "5"])`)
		run(t, `emitter.to("joined").emit("new joined")`)
		heard(t, all, "new joined", []int{1, 0})
		run(t, `emitter.to(5).emit("new number")`)
		heard(t, all, "new number", []int{1, 0})
		run(t, `emitter.in("s").socketsLeave("joined")`)
		run(t, `emitter.to("joined").emit("new left")`)
		heard(t, all, "new left", []int{0, 0})
		run(t, `emitter.serverSideEmit("new server", 1)`)
		if got := m.hears(); got != "new server[1]" {
			t.Errorf("the backend heard %s", got)
		}
	})
	t.Run("npm socket.io-emitter 3.2.0", func(t *testing.T) {
		old := func(code string) {
			run(t, `((e) => e`+code+`)(process.mainModule.require("socket.io-emitter")({ hset: 1, publish: (channel, message) => emitter.redisClient.publish(channel, message) })).redis && 1`)
		}
		old(`.json.emit("old all", new Date(0), Buffer.from([1]))`)
		heard(t, all, "old all", []int{1, 1})
		old(`.in("s").emit("old room")`)
		heard(t, all, "old room", []int{1, 0})
		old(`.to("r").to("s").emit("old rooms")`)
		heard(t, all, "old rooms", []int{1, 1})
		old(`.of("/chat").emit("old chat")`)
		heard(t, chat, "old chat", []int{1, 1})
	})
	t.Run("PyPI socket.io-emitter 0.1.5.1", func(t *testing.T) {
		out, err := exec.CommandContext(t.Context(), installed(t, "python/.venv/bin/python"), "polyglot/python/emitter.py", at.Port()).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		heard(t, all, "python all", []int{1, 1}, "python room", "python rooms") // the last comes twice at a server on Node that has both
		heard(t, chat, "python chat", []int{1, 1})
	})
	t.Run("PyPI socket-io-redis-emitter 0.0.3", func(t *testing.T) {
		publish(t, server, "socket.io#/", message(packet("unfinished all", "/"), everybody))
		heard(t, all, "unfinished all", []int{1, 1})
		publish(t, server, "socket.io#/#s", message(packet("unfinished room", "/"), map[string]any{"rooms": []any{"s"}, "except": []any{}, "flags": map[string]any{}}))
		heard(t, all, "unfinished room", []int{1, 0})
		publish(t, server, "socket.io-request#/", []byte(`{"type":2,"opts":{"rooms":["s"],"except":[]},"rooms":["unfinished"]}`))
		publish(t, server, "socket.io#/", message(packet("unfinished joined", "/"), map[string]any{"rooms": []any{"unfinished"}, "except": []any{}, "flags": map[string]any{}}))
		heard(t, all, "unfinished joined", []int{1, 0})
	})
	t.Run("crate socketio-rust-emitter", func(t *testing.T) {
		publish(t, server, "socket.io#/#r", message(packet("rust room", "/"), map[string]any{"rooms": []any{"r"}, "except": []any{"s"}, "flags": map[string]any{}}))
		heard(t, all, "rust room", []int{0, 1})
	})
	t.Run("packets of type 5", func(t *testing.T) {
		binary := packet("marked", "/")
		binary["type"], binary["data"] = 5, []any{"marked", []byte{1, 2}}
		publish(t, server, "socket.io#/#s#", message(binary, map[string]any{"rooms": []any{"s"}}))
		heard(t, all, "marked", []int{1, 0})
		binary["data"] = []any{"marked, too", []byte{1, 2}}
		publish(t, server, "socket.io#/#s#", message(binary, map[string]any{"rooms": []any{"s"}}))
		if got := fmt.Sprint(plain(t, all[1].event("marked, too"))); got != fmt.Sprint(plain(t, []any{bin{1, 2}})) {
			t.Errorf("it came as %s", got)
		}
	})
	t.Run("emitters of the time of Socket.IO 1.0", func(t *testing.T) {
		text, _ := msgp.AppendIntf(nil, []any{packet("oldest", "/"), map[string]any{"rooms": []any{}}})
		publish(t, server, "socket.io#emitter", text)
		heard(t, all, "oldest", []int{0, 0})
		for _, f := range m.nodes {
			if _, _, err := f.log.await(0, patience, func(line string) bool { return strings.Contains(line, "emitter of another time") }); err != nil {
				t.Errorf("the log says nothing of it: %v", err)
			}
		}
	})
	t.Run("python-socketio's manager", func(t *testing.T) {
		publish(t, server, "socketio", []byte(`{"method":"emit","event":"manager","data":[1],"binary":false,"namespace":"/","room":null,"skip_sid":null,"callback":null,"host_id":"0123456789abcdef0123456789abcdef"}`))
		heard(t, all, "manager", []int{0, 0}) // docs/cluster.md says so
	})
}

// message is a broadcast of an emitter; without options there are none.
func message(packet, options map[string]any) []byte {
	parts := []any{"emitter", packet, options}
	if options == nil {
		parts[2] = map[string]any{}
	}
	text, err := msgp.AppendIntf(nil, parts)
	if err != nil {
		panic(err)
	}
	return text
}

func publish(t testing.TB, server *redis.Client, channel string, text []byte) {
	t.Helper()
	if err := server.Publish(t.Context(), channel, bytes.Clone(text)).Err(); err != nil {
		t.Fatal(err)
	}
}
