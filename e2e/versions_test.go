//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// wireBounds are the lines of the adapter that say which versions of the wire a build speaks.
var wireBounds = regexp.MustCompile(`(?m)^(\t(wireFrom|wireTo) +uint64 = )(\d+)$`)

// buildOfWire builds Foyer as the release that speaks these versions of the wire between nodes. Only the two lines of
// the source are others: that a node of version 1 is told nothing that one of that time could not read is held by
// adapter.TestANodeOfTheFirstVersion.
func buildOfWire(t testing.TB, from, to string) string {
	t.Helper()
	dir := filepath.Join(commonFolder(), "wire-"+from+"-"+to)
	name := filepath.Join(dir, "foyer")
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("../service/adapter/envelope.go")
	if err != nil {
		t.Fatal(err)
	}
	text := openText(t, "service/adapter/envelope.go")
	if found := wireBounds.FindAllStringSubmatch(text, -1); len(found) != 2 || found[0][3] != "1" || found[1][3] != "2" {
		t.Fatalf("%s says that this build speaks %q; the tests are about one that speaks versions 1 and 2", source, found)
	}
	text = wireBounds.ReplaceAllStringFunc(text, func(line string) string {
		part := wireBounds.FindStringSubmatch(line)
		return part[1] + map[string]string{"wireFrom": from, "wireTo": to}[part[2]]
	})
	writeFile(t, filepath.Join(dir, "envelope.go"), text)
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: filepath.Join(dir, "envelope.go")}})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "overlay.json"), string(overlay))
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=wire-"+from+"-"+to,
		"-overlay", filepath.Join(dir, "overlay.json"), "-o", name, "./cmd/foyer")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return name
}

// TestRollingUpgrade: nodes of the previous version of the wire are exchanged one after the other for those of the next
// one, and nobody notices more than of a restart.
func TestRollingUpgrade(t *testing.T) {
	r := startRolling(t, buildOfWire(t, "1", "1"))
	next := binary(t)
	r.under(60, 50, func() {
		for i := range r.nodes {
			r.restart(i, next)
		}
	})
	understood(t, r.nodes)
	for i := range r.nodes {
		list, err := api(t, r.addr[i].api).node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range list.GetNodes() {
			if n.GetVersion() == "wire-1-1" {
				t.Errorf("at %s: %v", r.addr[i].name, n)
			}
		}
	}
}

// TestChaosOfVersions: what TestChaos holds is so between nodes of two versions of the wire that follow each other.
func TestChaosOfVersions(t *testing.T) {
	next := binary(t)
	c := &chaos{mesh: &mesh{t: t, names: []string{"A000", "B000", "C000"}}, began: time.Now()}
	listen := freePorts(t, 3)
	var nodes []*foyer
	for i, build := range []string{buildOfWire(t, "1", "1"), next, next} {
		nodes = append(nodes, launchBinary(t, build, nil, "--node-id="+c.names[i], "--cluster=embedded", "--cluster-listen="+listen[i],
			"--cluster-routes="+strings.Join(listen, ","), "--cluster-lease="+longLease, "--log-level=info"))
	}
	for i, f := range nodes {
		f.listens(t)
		c.add(i, f, c.names[i])
	}
	c.settle()
	c.reach(4)
	c.run(func() {
		time.Sleep(chaosTime(t) / 6)
		c.nodes[0].freeze() // frames wait, and are sent again, between the two versions
		time.Sleep(time.Second)
		c.nodes[0].thaw()
		time.Sleep(chaosTime(t) / 6)
	}, nil, nil)
	c.whole()
	understood(t, nodes)
}

// understood looks whether a node has been told something under a version that it does not speak, or that it could not
// read.
func understood(t testing.TB, nodes []*foyer) {
	t.Helper()
	for _, f := range nodes {
		info, err := api(t, f.api).node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
		for _, reason := range []string{"cluster_frame_version", "cluster_frame_unreadable", "cluster_item_unknown", "cluster_item_unreadable"} {
			if n := info.GetDropped()[reason]; err != nil || n > 0 {
				t.Errorf("%s has counted %d of %s (%v)", f.name(t), n, reason, err)
			}
		}
	}
}

// TestVersionsApart: nodes without a common version of the wire list each other as incompatible and say so once.
// Nothing passes between them, and each serves its own.
func TestVersionsApart(t *testing.T) {
	flags := embedded(t, 3, "--cluster-lease="+longLease, "--log-level=info")
	builds := []string{buildOfWire(t, "1", "1"), buildOfWire(t, "1", "1"), buildOfWire(t, "2", "2")}
	var nodes []*foyer
	for i, build := range builds {
		nodes = append(nodes, launchBinary(t, build, nil, flags[i]...))
	}
	for _, f := range nodes {
		f.listens(t)
		eventually(t, func() error { return ready(t.Context(), f.admin) })
	}
	nodes[0].awaitStates(t, "AAAA=UP", "BBBB=UP", "CCCC=INCOMPATIBLE")
	nodes[1].awaitStates(t, "AAAA=UP", "BBBB=UP", "CCCC=INCOMPATIBLE")
	nodes[2].awaitStates(t, "AAAA=INCOMPATIBLE", "BBBB=INCOMPATIBLE", "CCCC=UP")
	if r, err := api(t, nodes[0].api).node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{}); err != nil || r.GetNodes()[2].GetVersion() != "wire-2-2" {
		t.Errorf("it is listed as %v, %v", r.GetNodes(), err)
	}

	var sockets []*rawSocket
	for _, f := range nodes {
		sockets = append(sockets, mustJoin(t, "", f.edge))
	}
	for i, f := range nodes {
		names, here := []string{"CCCC"}, 2
		if i == 2 {
			names, here = []string{"AAAA", "BBBB"}, 1
		}
		r, err := api(t, f.api).emits.Emit(t.Context(), &foyerv1.EmitRequest{
			Target: &foyerv1.Target{All: true}, Payload: &foyerv1.Payload{Event: "from " + nodeNames[i]},
		})
		if err != nil || int(r.GetEnqueued()) != here || !slices.Equal(r.GetCoverage().GetUnreachable(), names) {
			t.Errorf("an emit at %s is answered by %v, %v", nodeNames[i], r, err)
		}
		list, err := api(t, f.api).sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{All: true}})
		if err != nil || len(list.GetSockets()) != here || !slices.Equal(list.GetCoverage().GetUnreachable(), names) {
			t.Errorf("sockets at %s are listed as %v, %v", nodeNames[i], list, err)
		}
	}
	for i, s := range sockets {
		r, err := api(t, nodes[i].api).emits.Emit(t.Context(), &foyerv1.EmitRequest{
			Target: &foyerv1.Target{Rooms: []string{s.id}}, Payload: &foyerv1.Payload{Event: "last"},
		})
		if err != nil || r.GetEnqueued() != 1 {
			t.Errorf("%v, %v", r, err)
		}
		var got []string
		for !slices.Contains(got, lastWord) {
			text, err := s.next()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(text, "42") {
				got = append(got, text[2:])
			}
		}
		want := []string{`["from AAAA"]`, `["from BBBB"]`, lastWord}
		if i == 2 {
			want = []string{`["from CCCC"]`, lastWord}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("the client of %s got %q", nodeNames[i], got)
		}
	}
	poller := openRawPoller(t, nodes[0].edge, "")
	response, err := http.Get(nodes[2].url() + "/socket.io/?EIO=4&transport=polling&sid=" + poller.sid)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("a request for a session there is answered %s", response.Status)
	}

	understood(t, nodes)

	// One that speaks both versions takes its place.
	nodes[2].stop(t)
	for i, want := range [][]string{{"CCCC"}, {"CCCC"}, {"AAAA", "BBBB"}} {
		var told []string
		for _, l := range nodes[i].lines(t) {
			if l.Msg == "member incompatible" {
				told = append(told, fmt.Sprint(l.Level, " ", l.Node))
			}
		}
		slices.Sort(told)
		for k := range want {
			want[k] = "warn " + want[k]
		}
		if !slices.Equal(told, want) {
			t.Errorf("%s says %q", nodeNames[i], told)
		}
	}
	nodes[2] = launchBinary(t, binary(t), nil, flags[2]...)
	nodes[2].listens(t)
	awaitUp(t, nodes, nodeNames[:3]...)
	crosses(t, nodes)
}
