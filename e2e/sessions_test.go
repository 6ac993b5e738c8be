//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service/adapter/freeport"
)

// startMembers starts nodes of one cluster, each with an embedded server, and waits until they know each other.
func startMembers(t testing.TB, names ...string) []*foyer {
	t.Helper()
	return startMembersWith(t, names)
}

func startMembersWith(t testing.TB, names []string, args ...string) []*foyer {
	t.Helper()
	var routes []string
	for range names {
		routes = append(routes, "127.0.0.1:"+freeport.New(t))
	}
	var nodes []*foyer
	for i, name := range names {
		nodes = append(nodes, startFoyer(t, append([]string{
			"--node-id=" + name, "--cluster=embedded", "--cluster-listen=" + routes[i], "--cluster-routes=" + strings.Join(routes, ","),
		}, args...)...))
	}
	knowEachOther(t, nodes)
	return nodes
}

// knowEachOther waits until all nodes know all.
func knowEachOther(t testing.TB, nodes []*foyer) {
	t.Helper()
	for _, n := range nodes {
		b := api(t, n.api)
		eventually(t, func() error {
			list, err := b.node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{})
			if err == nil && len(list.GetNodes()) != len(nodes) {
				err = fmt.Errorf("it knows %v", list.GetNodes())
			}
			return err
		})
	}
}

// counts are a node's own, by name.
func (f *foyer) counts(t testing.TB) map[string]int64 {
	t.Helper()
	info, err := api(t, f.api).node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return info.GetDropped()
}

// passedBy adds up what nodes have passed on to each other.
func passedBy(t testing.TB, nodes []*foyer) (requests, streams int64) {
	t.Helper()
	for _, n := range nodes {
		counts := n.counts(t)
		requests += counts["passing_requests"]
		streams += counts["passing_streams"]
	}
	return requests, streams
}

// roundRobin is a balancer that gives each request to the next node.
func roundRobin(t testing.TB, nodes []*foyer) string {
	t.Helper()
	var turn atomic.Int64
	s := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		n := nodes[int(turn.Add(1))%len(nodes)]
		r.SetURL(&url.URL{Scheme: "http", Host: n.edge})
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(s.CloseClientConnections) // those of clients that were not stopped
	return s.URL
}

// nginxWith runs nginx with these blocks in its http block, and returns where it listens.
func nginxWith(t testing.TB, blocks string) string {
	t.Helper()
	dir := t.TempDir()
	port := freeport.New(t)
	whole := "daemon off;\nuser root root;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		whole += kind + "_temp_path " + kind + ";\n"
	}
	writeFile(t, filepath.Join(dir, "nginx.conf"), whole+regexp.MustCompile(`listen .*;`).ReplaceAllString(blocks, "listen "+port+";")+"}\n")
	return serveBalancer(t, port, "nginx -p "+dir+" -c nginx.conf -e stderr")
}

// serveBalancer starts a balancer and waits until it takes connections.
func serveBalancer(t testing.TB, port, command string) string {
	t.Helper()
	job := openTerminal(t, t.TempDir()).start("export PATH=" + absolute(t, "../bin") + ":$PATH\n" + command)
	t.Cleanup(func() {
		job.stop()
		if t.Failed() {
			t.Logf("the balancer says:\n%s", job.tail(40))
		}
	})
	eventually(t, func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return "http://127.0.0.1:" + port
}

const passAll = `
	location / {
		proxy_pass http://foyer;
		proxy_http_version 1.1;
		proxy_set_header Upgrade $http_upgrade;
		proxy_set_header Connection "upgrade";
		proxy_set_header Host $http_host;
		proxy_buffering off;
		proxy_read_timeout 90s;
	}`

// TestSessionsOnAnyNode: behind a balancer that knows nothing of sessions, stock clients work whatever way they come
// in, and no session is lost.
func TestSessionsOnAnyNode(t *testing.T) {
	nodes := startMembersWith(t, []string{"AAAA", "BBBB", "CCCC"}, asOneLease)
	for _, n := range nodes {
		attach(t, n.api, &foyerv1.Register{Namespaces: []string{"/"}, Group: "e2e", Local: true}, nil)
	}
	upstream := "upstream foyer {\n"
	for _, n := range nodes {
		upstream += "server " + n.edge + ";\n"
	}
	fronts := map[string]string{"own": roundRobin(t, nodes), "nginx": nginxWith(t, upstream+"}\nserver {\nlisten 80;\n"+passAll+"\n}\n")}
	for name, front := range fronts {
		for _, transport := range transports {
			t.Run(name+"/"+transport.name, func(t *testing.T) {
				p := startPuppets(t)
				for i := range 3 {
					c, id := p.connect(t, front, "/", quick.with(transport.opts))
					if transport.name == "upgrade" {
						c.expect("upgrade")
					}
					for k := range 10 {
						if got := c.ask("echo", i, k); len(got) != 2 || got[0] != float64(i) || got[1] != float64(k) {
							t.Fatalf("got %v", got)
						}
					}
					large := strings.Repeat("x", 200_000)
					if got := c.ask("large", large); len(got) != 1 || got[0] != large {
						t.Errorf("a large one comes back changed")
					}
					owner := slices.IndexFunc(nodes, func(n *foyer) bool { return strings.HasPrefix(id, n.name(t)) })
					elsewhere := api(t, nodes[(owner+1)%len(nodes)].api)
					for k := range 10 {
						elsewhere.mustEmit(t, &foyerv1.Target{Rooms: []string{id}}, 1, "news", k)
					}
					for k := range 10 {
						if got := c.event("news"); len(got) != 1 || got[0] != float64(k) {
							t.Fatalf("got %v", got)
						}
					}
					if got := c.state().Transport; got != transport.ends {
						t.Errorf("it ends with %q, want %q", got, transport.ends)
					}
					if c.saw("disconnect") || c.saw("connect_error") {
						t.Error("it was disconnected meanwhile")
					}
				}
			})
		}
	}
	requests, streams := passedBy(t, nodes)
	if requests < 20 || streams == 0 {
		t.Errorf("%d requests and %d streams were passed", requests, streams)
	}
	for _, n := range nodes {
		for _, line := range n.log.all() {
			if strings.Contains(line, `"request refused"`) {
				t.Errorf("%s", line)
			}
		}
	}
}

// TestClientsOverNodes is what TestClients is, over three nodes: clients come to any of them with each request, and the
// backend is attached to one.
func TestClientsOverNodes(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			nodes := startMembersWith(t, []string{"AAAA", "BBBB", "CCCC"}, "--max-payload=100000", asOneLease)
			all := &foyer{process: nodes[1].process, edge: strings.TrimPrefix(roundRobin(t, nodes), "http://"), api: nodes[1].api, admin: nodes[1].admin}
			setStageAt(t, all).test(t, transport.name, transport.ends, quick.with(transport.opts))
		})
	}
}

// name is the node's.
func (f *foyer) name(t testing.TB) string {
	for _, arg := range f.cmd.Args {
		if name, ok := strings.CutPrefix(arg, "--node-id="); ok {
			return name
		}
	}
	t.Fatal("it has no name of its own")
	return ""
}

// firstAt is a balancer that gives handshakes to one node, and all else to another.
func firstAt(t testing.TB, first, then *foyer) string {
	t.Helper()
	s := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		to := then
		if r.In.URL.Query().Get("sid") == "" {
			to = first
		}
		r.SetURL(&url.URL{Scheme: "http", Host: to.edge})
	}})
	t.Cleanup(s.CloseClientConnections)
	return s.URL
}

// TestPassingNodeLeaves: when a node stops that passes streams, it closes them as it closes links of its own, so that
// their clients come back; and it ends well.
func TestPassingNodeLeaves(t *testing.T) {
	nodes := startMembers(t, "AAAA", "BBBB")
	owner, other := nodes[0], nodes[1]
	p := startPuppets(t)
	var clients []*client
	for range 5 {
		c, id := p.connect(t, firstAt(t, owner, other), "/", quick.with(opts{"reconnection": false}))
		if !strings.HasPrefix(id, "AAAA") {
			t.Fatalf("it is at %s", id)
		}
		c.expect("upgrade")
		clients = append(clients, c)
	}
	other.stop(t)
	for _, c := range clients {
		if reason := c.expect("disconnect").Reason; reason != "transport close" {
			t.Errorf("it was disconnected by %q", reason)
		}
	}
	b := api(t, owner.api)
	eventually(t, func() error {
		list, err := b.sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{All: true}})
		if err == nil && len(list.GetSockets()) > 0 {
			err = fmt.Errorf("%d sockets are left", len(list.GetSockets()))
		}
		return err
	})
}

// TestOwnerGone: clients whose node is killed, or stopped for longer than its lease, hear it from the others and come
// back elsewhere.
func TestOwnerGone(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "frozen": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			nodes := startMembers(t, "AAAA", "BBBB")
			gone, left := nodes[0], nodes[1]
			p := startPuppets(t)
			clients := map[string]*client{}
			for _, transport := range transports {
				if transport.name == "websocket" {
					continue // it is at its node, and nobody else's
				}
				first := firstAt(t, gone, left)
				c, id := p.connect(t, first, "/", quick.with(transport.opts).with(opts{"reconnection": false}))
				if !strings.HasPrefix(id, "AAAA") {
					t.Fatalf("it is at %s", id)
				}
				if transport.name == "upgrade" {
					c.expect("upgrade")
				}
				clients[transport.name] = c
			}
			began := time.Now()
			if err := gone.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if signal == syscall.SIGSTOP {
				t.Cleanup(func() { _ = gone.cmd.Process.Signal(syscall.SIGCONT) })
			} else {
				gone.crash()
			}
			clients["polling"].emit("anything") // a POST, which nobody answers
			for name, c := range clients {
				s := c.expect("disconnect")
				t.Logf("%s: %q after %v", name, s.Reason, time.Since(began).Round(10*time.Millisecond))
				if s.Reason != "transport error" && s.Reason != "transport close" {
					t.Errorf("%s: %q", name, s.Reason)
				}
			}
			c, id := p.connect(t, left.url(), "/", quick)
			if !strings.HasPrefix(id, "BBBB") {
				t.Errorf("it is at %s", id)
			}
			c.op("disconnect")
			if n := left.counts(t); n["passing_node_failed"]+n["passing_node_gone"]+n["passing_node_silent"] == 0 {
				t.Errorf("counted: %v", n)
			}
		})
	}
}
