package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// listening is a node of a cluster that listens and has not joined yet.
func listening(t *testing.T, args ...string) *foyer {
	t.Helper()
	s, err := parse(t, append([]string{
		"--edge", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "error",
		"--cluster", "embedded", "--cluster-listen", "127.0.0.1:0",
	}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	log, _, err := newLogger(s)
	if err != nil {
		t.Fatal(err)
	}
	f := newFoyer(s, false, log)
	if err := f.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.serve()
	return f
}

func (f *foyer) asks(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+f.apiListener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestNotReadyBeforeItHasJoined: a caller that asks hears that a node is joining, and its clients are sent elsewhere,
// until it has joined; when it is told to go, the other nodes hear so before its clients do.
func TestNotReadyBeforeItHasJoined(t *testing.T) {
	first := listening(t, "--node-id", "AAAA")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	status := func(url string) (int, string) {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text := new(strings.Builder)
		if _, err := io.Copy(text, resp.Body); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, text.String()
	}
	ready := func() (int, string) { return status("http://" + first.adminListener.Addr().String() + "/readyz") }
	edge := func() int {
		code, _ := status("http://" + first.edgeListener.Addr().String() + "/socket.io/?EIO=4&transport=polling")
		return code
	}
	health := func() healthpb.HealthCheckResponse_ServingStatus {
		r, err := healthpb.NewHealthClient(first.asks(t)).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetStatus()
	}
	if code, text := ready(); code != http.StatusServiceUnavailable || !strings.HasPrefix(text, "joining") {
		t.Errorf("readyz: %d %q", code, text)
	}
	if code := edge(); code != http.StatusServiceUnavailable {
		t.Errorf("a client is answered with %d", code)
	}
	if s := health(); s != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health: %v", s)
	}
	if err := first.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, text := ready(); code != http.StatusOK {
		t.Errorf("readyz: %d %q", code, text)
	}
	if code := edge(); code != http.StatusOK {
		t.Errorf("a client is answered with %d", code)
	}
	if s := health(); s != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v", s)
	}

	second := listening(t, "--node-id", "BBBB", "--cluster-routes", first.clusterAddr)
	if err := second.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	stateOf := func(name service.NodeID) string {
		nodes := second.cluster.Nodes()
		i := slices.IndexFunc(nodes, func(n service.NodeStatus) bool { return n.Node == name })
		if i < 0 {
			return "none"
		}
		return [...]string{"up", "joining", "silent", "draining", "lost", "incompatible"}[nodes[i].State]
	}
	eventually(t, "the first node is up", func() bool { return stateOf("AAAA") == "up" })
	empty, cancel := context.WithCancel(t.Context())
	cancel()
	first.empty(empty, 0, 0)
	eventually(t, "the first node drains", func() bool { return stateOf("AAAA") == "draining" })
	first.drain()
	eventually(t, "the first node is gone", func() bool { return stateOf("AAAA") == "none" })

	nodes, err := foyerv1.NewNodeServiceClient(second.asks(t)).ListNodes(t.Context(), &foyerv1.ListNodesRequest{})
	if err != nil || len(nodes.GetNodes()) != 1 || nodes.GetNodes()[0].GetState() != foyerv1.NodeState_NODE_STATE_UP {
		t.Errorf("nodes: %v, %v", nodes, err)
	}
	second.drain()
}

// joinsLate is how often a test starts anew when a node has joined that should be refused. On a busy machine the first
// node may answer too late, so that the new one does not see it.
const joinsLate = 5

// TestSecondOfAName: it does not start, and says where the first one is.
func TestSecondOfAName(t *testing.T) {
	var first, second *foyer
	var err error
	for tries := 0; tries == 0 || err == nil && tries <= joinsLate; tries++ {
		first = listening(t, "--node-id", "AAAA")
		defer first.close()
		if err := first.join(t.Context()); err != nil {
			t.Fatal(err)
		}
		second = listening(t, "--node-id", "AAAA", "--cluster-routes", first.clusterAddr)
		defer second.close()
		err = second.join(t.Context())
	}
	if err == nil || !strings.HasPrefix(err.Error(), "--node-id: the name AAAA is taken") || !strings.Contains(err.Error(), first.peerAddress()) {
		t.Errorf("the second says %v; the first is at %s", err, first.peerAddress())
	}
	if second.joined.Load() {
		t.Error("it has joined")
	}
}

// TestRefusedByOthers: a node that no other node takes does not start, and says which setting differs.
func TestRefusedByOthers(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/key", "the secret of the cluster\n")
	put(t, dir+"/other", "another secret altogether\n")
	first := listening(t, "--node-id", "AAAA", "--cluster-key-file", dir+"/key")
	defer first.close()
	if err := first.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"--cluster-key-file: ": {"--cluster-key-file", dir + "/other"},
		"--cluster-name: ":     {"--cluster-key-file", dir + "/key", "--cluster-name", "other"},
	} {
		var err error
		for tries := 0; tries == 0 || err == nil && tries <= joinsLate; tries++ {
			f := listening(t, append(args, "--node-id", "BBBB", "--cluster-routes", first.clusterAddr)...)
			err = f.join(t.Context())
			f.close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), first.clusterAddr) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// TestPeerAdvertise: the others are told of the address that is given for them, else of one by which they reach it.
func TestPeerAdvertise(t *testing.T) {
	key := t.TempDir() + "/key"
	put(t, key, "the secret of the cluster\n")
	for args, want := range map[string]string{
		"--peer-advertise foyer.example:7000": `^foyer\.example:7000$`,
		"":                                    `^127\.0\.0\.1:[1-9][0-9]*$`,
		"--peer= ":                            `^$`,
		"--peer :0 --cluster-key-file " + key: `^[^:].*:[1-9][0-9]*$`,
	} {
		f := listening(t, strings.Fields(args)...)
		got := f.peerAddress()
		if host, _, _ := net.SplitHostPort(got); !regexp.MustCompile(want).MatchString(got) || net.ParseIP(host).IsUnspecified() {
			t.Errorf("%q: it tells %q", args, got)
		}
		f.close()
	}
}

// TestStopWhileJoining: a signal to a node that has not joined yet ends it, and that is no failure.
func TestStopWhileJoining(t *testing.T) {
	s, err := parse(t, "--edge", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "", "--log-level", "error", "--cluster", "embedded", "--cluster-listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, s, false, launch{}); err != nil {
		t.Errorf("it fails with %v", err)
	}
}

// TestFilesOfACluster: what nodes pass to each other has a part of the descriptors, and the edge the rest.
func TestFilesOfACluster(t *testing.T) {
	alone := sharedFiles(1024, 64)
	got := alone.withPeers(100_000)
	if sum := got.edge + got.peer + got.passed; sum != alone.edge || got.peer < alone.edge/10 || got.passed < alone.edge/10 || got.api != alone.api || got.admin != alone.admin {
		t.Errorf("of %+v there are %+v", alone, got)
	}
	if got := sharedFiles(1<<20, 64).withPeers(1000); got.peer != 1000 || got.passed != 1000 {
		t.Errorf("more than there may be sessions: %+v", got)
	}
	if got := sharedFiles(0, 64).withPeers(100_000); got.edge != 0 || got.peer != 0 {
		t.Errorf("without a limit: %+v", got)
	}
	if got := sharedFiles(8, 64).withPeers(100_000); got.edge < 1 || got.peer < 1 || got.passed < 1 {
		t.Errorf("of few: %+v", got)
	}
}

// TestAnyNodeServesASession: a client that polls may be sent to any node with each request, also where the nodes know
// each other by certificates.
func TestAnyNodeServesASession(t *testing.T) {
	ca := newAuthority(t)
	certificates := func() []string {
		files := ca.member(t)
		dir := t.TempDir()
		put(t, dir+"/cert", string(files[0]))
		put(t, dir+"/key", string(files[1]))
		return []string{"--cluster-tls-cert", dir + "/cert", "--cluster-tls-key", dir + "/key", "--cluster-tls-ca", ca.file}
	}
	for name, args := range map[string]func() []string{"plain": func() []string { return nil }, "certificates": certificates} {
		t.Run(name, func(t *testing.T) {
			first := listening(t, append(args(), "--node-id", "AAAA")...)
			second := listening(t, append(args(), "--node-id", "BBBB", "--cluster-routes", first.clusterAddr)...)
			for _, f := range []*foyer{first, second} {
				if err := f.join(t.Context()); err != nil {
					t.Fatal(err)
				}
				defer f.close()
			}
			eventually(t, "the nodes know each other", func() bool {
				_, there := first.cluster.Member("BBBB")
				_, here := second.cluster.Member("AAAA")
				return there && here
			})
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			do := func(f *foyer, method, query, body string) string {
				t.Helper()
				url := "http://" + f.edgeListener.Addr().String() + "/socket.io/?EIO=4&transport=polling" + query
				req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
			open := do(first, http.MethodGet, "", "")
			sid, _, _ := strings.Cut(strings.TrimPrefix(open, `0{"sid":"`), `"`)
			if !strings.HasPrefix(sid, "AAAA") {
				t.Fatalf("the handshake is %q", open)
			}
			if got := do(second, http.MethodPost, "&sid="+sid, "40"); got != "ok" {
				t.Errorf("what is posted to the other node is answered with %q", got)
			}
			if got := do(second, http.MethodGet, "&sid="+sid, ""); !strings.HasPrefix(got, "40{") {
				t.Errorf("a poll at the other node is answered with %q", got)
			}
			if got := do(second, http.MethodGet, "&sid="+sid[:40]+"AAAA", ""); !strings.Contains(got, "Session ID unknown") {
				t.Errorf("a forged sid is answered with %q", got)
			}
		})
	}
}
