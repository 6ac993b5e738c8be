//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/adapter/freeport"
)

// TestBalancers runs real balancers with the blocks of docs/balancer.md, which are changed in their addresses: clients
// work with each transport, and nothing is passed on from node to node.
func TestBalancers(t *testing.T) {
	d := openDocument(t, "docs/balancer.md")
	client := d.next("js", "tryAllTransports")
	nginx := d.next("nginx", "$arg_sid")
	haproxy := d.next("haproxy", "url_param(sid)")

	nodes := startMembers(t, "fy-1", "fy-2")
	for _, n := range nodes {
		attach(t, n.api, &foyerv1.Register{Namespaces: []string{"/"}, Group: "e2e", Local: true}, nil)
	}
	here := func(config string) string {
		for i, n := range nodes {
			at := fmt.Sprintf("10.0.0.%d:3000", i+1)
			config = strings.ReplaceAll(config, at+" check port 9090", n.edge+" check port "+n.admin[strings.LastIndex(n.admin, ":")+1:])
			config = strings.ReplaceAll(config, at, n.edge)
		}
		return config
	}
	for name, front := range map[string]func(t *testing.T) string{
		"nginx": func(t *testing.T) string { return nginxWith(t, here(nginx)) },
		"haproxy": func(t *testing.T) string {
			file, port := filepath.Join(t.TempDir(), "haproxy.cfg"), freeport.New(t)
			writeFile(t, file, strings.Replace(here(haproxy), "bind :80", "bind 127.0.0.1:"+port, 1))
			return serveBalancer(t, port, "haproxy -db -f "+file)
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := front(t)
			p := startPuppets(t)
			before := served(t, nodes)
			at := map[string]bool{}
			for _, transport := range transports {
				for range 4 { // of which half begin at each node
					c, id := p.connect(t, url, "/", quick.with(transport.opts))
					at[id[:4]] = true
					if transport.name == "upgrade" {
						c.expect("upgrade")
					}
					for k := range 5 {
						if got := c.ask("echo", k); len(got) != 1 || got[0] != float64(k) {
							t.Fatalf("got %v", got)
						}
					}
					if c.saw("disconnect") {
						t.Error("it was disconnected meanwhile")
					}
				}
			}
			if len(at) != len(nodes) {
				t.Errorf("the sessions are at %v", at)
			}
			if n := served(t, nodes) - before; n != 0 {
				t.Errorf("%d requests were passed on", n)
			}
		})
	}

	t.Run("client", func(t *testing.T) {
		script := "const { io } = require('socket.io-client');\n" + strings.Replace(client, "https://chat.example.com", roundRobin(t, nodes), 1) +
			"socket.on('connect', () => { console.log('by', socket.io.engine.transport.name, 'at', socket.id.slice(0, 4)); socket.close(); });\n"
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "page.js"), script)
		before := served(t, nodes)
		for range 3 {
			out := openTerminal(t, dir).run("NODE_PATH=" + absolute(t, "node_modules") + " node page.js")
			if !regexp.MustCompile(`^by websocket at fy-[12]$`).MatchString(strings.TrimSpace(out)) {
				t.Errorf("it prints %q", out)
			}
		}
		if n := served(t, nodes) - before; n != 0 {
			t.Errorf("%d requests were passed on", n)
		}
	})
}

// served is how many requests nodes were passed.
func served(t testing.TB, nodes []*foyer) (n int64) {
	t.Helper()
	for _, node := range nodes {
		n += node.counts(t)["passing_served"]
	}
	return n
}
