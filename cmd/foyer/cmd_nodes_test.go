package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

func TestNodesTable(t *testing.T) {
	age := func(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
	var b strings.Builder
	err := writeNodes(&b, []*foyerv1.Node{
		{NodeId: "AAAA", State: foyerv1.NodeState_NODE_STATE_UP, Version: "v1", StateAge: age(90 * time.Minute), PeerAddress: "10.0.0.1:7000", Answers: true},
		{NodeId: "BBBB", State: foyerv1.NodeState_NODE_STATE_SILENT, Version: "v1", StateAge: age(1200 * time.Millisecond), HeardAge: age(3 * time.Second)},
		{NodeId: "CCCC", State: foyerv1.NodeState_NODE_STATE_LOST, StateAge: age(50 * time.Millisecond)},
	})
	want := strings.Join([]string{
		"NODE   STATE    FOR    HEARD        VERSION   PEER ADDRESS",
		"AAAA   up       90m    it answers   v1        10.0.0.1:7000",
		"BBBB   silent   1s     3s ago       v1        -",
		"CCCC   lost     50ms   never        -         -",
		"",
	}, "\n")
	if d := cmp.Diff(want, b.String()); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	for d, want := range map[time.Duration]string{
		0: "0ms", 119 * time.Second: "119s", 2 * time.Minute: "2m", 47 * time.Hour: "47h", 49 * time.Hour: "2d",
	} {
		if got := ageText(age(d)); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	if got := ageText(nil); got != "-" {
		t.Errorf("of no time: %s", got)
	}
}

// TestNodesCommand asks a node of a cluster, and one that wants a token.
func TestNodesCommand(t *testing.T) {
	f := listening(t, "--node-id", "AAAA")
	defer f.close()
	if err := f.join(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, told, code := say(t, "nodes", "--api", f.apiListener.Addr().String())
	if code != 0 || told != "" || !strings.Contains(out, "\nAAAA   up ") || !strings.Contains(out, f.peerAddress()) {
		t.Errorf("code %d, %q, %q", code, out, told)
	}
	out, told, code = say(t, "nodes", "--api", f.apiListener.Addr().String(), "-o", "json")
	if code != 0 || told != "" || !strings.Contains(strings.ReplaceAll(out, " ", ""), `"state":"NODE_STATE_UP"`) {
		t.Errorf("code %d, %q, %q", code, out, told)
	}

	tokens := t.TempDir() + "/tokens"
	put(t, tokens, "secret\n")
	guarded := listening(t, "--node-id", "BBBB", "--api-token-file", tokens)
	defer guarded.close()
	at := guarded.apiListener.Addr().String()
	if _, told, code := say(t, "nodes", "--api", at); code != exitFailure || told != "foyer: --api-token-file: the node at "+at+" knows no such token\n" {
		t.Errorf("without a token: code %d, %q", code, told)
	}
	if out, told, code := say(t, "nodes", "--api", at, "--api-token-file", tokens); code != 0 || !strings.Contains(out, "\nBBBB   joining ") {
		t.Errorf("code %d, %q, %q", code, out, told)
	}
}
