//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/adapter/pgdial/pgtest"
)

// onPostgres is PostgreSQL. Its adapter does not hear its own emitter, see TestPostgresGoes.
var onPostgres = &medium{
	name: "postgres", beats: true,
	serve: func(t testing.TB) string { return pgtest.New(t).URL("postgres", "") },
	flags: func(url string) []string {
		return []string{"--cluster=postgres", "--cluster-url=" + url, "--cluster-prefix=socket.io"}
	},
}

// TestPeersOnPostgres: servers on Node with the PostgreSQL adapter and nodes of Foyer are one.
func TestPeersOnPostgres(t *testing.T) { testPeers(t, onPostgres) }

// TestPeersAreLostOnPostgres: a server on Node that is killed or frozen amid a call is told by number.
func TestPeersAreLostOnPostgres(t *testing.T) { testPeersLost(t, onPostgres) }

// TestPostgresGoes: nodes go on when their server goes, and are one cluster again, with servers on Node, when it comes
// back. The official emitter reaches them. What is wrong with their settings is told in one line.
func TestPostgresGoes(t *testing.T) {
	server := pgtest.New(t)
	server.Do("CREATE ROLE app LOGIN PASSWORD 'p'")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"another password":        {onPostgres.flags(server.URL("app", "wrong")), "foyer: --cluster-url: the user and password of the URL are not taken: "},
		"no table that it can do": {onPostgres.flags(server.URL("app", "p")), "foyer: --cluster-table: the table socket_io_attachments is not there, and this user cannot make it: "},
	} {
		args := append([]string{"serve", "--edge=127.0.0.1:0", "--api=127.0.0.1:0", "--admin=127.0.0.1:0"}, c.args...)
		out, err := exec.CommandContext(t.Context(), binary(t), args...).CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err == nil || !strings.HasPrefix(lines[len(lines)-1], c.want) || strings.Contains(string(out), "wrong@") {
			t.Errorf("%s: %v\n%s\nwant a last line that begins with %q", name, err, out, c.want)
		}
	}

	m := &mixed{medium: onPostgres, t: t, url: server.URL("postgres", ""), puppets: startPuppets(t)}
	for _, name := range nodeNames[1:3] {
		f := startFoyer(t, append([]string{"--node-id=" + name, "--cluster-lease=2s"}, m.flags(m.url)...)...)
		m.nodes, m.apis = append(m.nodes, f), append(m.apis, api(t, f.api))
	}
	awaitUp(t, m.nodes, nodeNames[1:3]...)
	attach(t, m.nodes[1].api, &foyerv1.Register{Namespaces: []string{"/"}}, nil) // clients settle by it
	m.peer = startPeer(t, m.medium, m.url)
	all, _ := m.clients("/", opts{})
	m.peer.run(`emitter.emit("emitted", { a: 1 }, Buffer.from([1, 2]))`)
	for _, c := range all[1:] {
		got := plain(t, c.expectThat("event", func(s sight) bool { return s.Event == "emitted" }).Args)
		if want := plain(t, []any{map[string]any{"a": 1}, bin{1, 2}}); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}

	emit := func(event string) *foyerv1.EmitResponse {
		t.Helper()
		r, err := m.apis[0].emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: say(event)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	server.Kill()
	eventually(t, func() error {
		c := emit("alone").GetCoverage()
		if !slices.Equal(c.GetUnreachable(), []string{"CCCC"}) || c.GetUncountedNodes()+c.GetUnreachableUnnamed() == 0 {
			return fmt.Errorf("the coverage is %v, want the other node, and servers on Node that may be there", c)
		}
		return nil
	})
	all[1].event("alone")
	server.Run()
	awaitUp(t, m.nodes, nodeNames[1:3]...)
	m.peer = startPeer(t, m.medium, m.url)
	all = append(all, nil)
	all[3], _ = m.puppets.connect(t, m.peer.url, "/", opts{})
	eventually(t, func() error {
		if c := emit("counted").GetCoverage(); c.GetUncountedNodes() != 1 || len(c.GetUnreachable()) > 0 {
			return fmt.Errorf("the coverage is %v, want one server on Node", c)
		}
		return nil
	})
	emit("together")
	m.exactly(all[1:], "together", 0, 1, 2)
	m.peer.run(`io.emit("together again")`)
	m.exactly(all[1:], "together again", 0, 1, 2)
}

// TestPeersLiveOnPostgres: nothing that a backend can ask of Foyer becomes a notification that ends a server on Node.
func TestPeersLiveOnPostgres(t *testing.T) { testServersLive(t, onPostgres) }
