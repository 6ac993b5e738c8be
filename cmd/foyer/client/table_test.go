package client

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

func TestNodesTable(t *testing.T) {
	ago := func(d time.Duration) *durationpb.Duration { return durationpb.New(d) }
	var b bytes.Buffer
	err := printNodes(&System{Out: &b}, []*foyerv1.Node{
		{NodeId: "AAAA", State: foyerv1.NodeState_NODE_STATE_UP, Version: "v1", StateAge: ago(90 * time.Minute), PeerAddress: "10.0.0.1:7000", Answers: true},
		{NodeId: "BBBB", State: foyerv1.NodeState_NODE_STATE_SILENT, Version: "v1", StateAge: ago(1200 * time.Millisecond), HeardAge: ago(3 * time.Second)},
		{NodeId: "CCCC", State: foyerv1.NodeState_NODE_STATE_LOST, StateAge: ago(50 * time.Millisecond)},
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
		if got := age(ago(d)); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	if got := age(nil); got != "-" {
		t.Errorf("of no time: %s", got)
	}
}

// TestClean: nothing that a terminal obeys comes through, and whatever is plain to read does.
func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"plain ~ text": "plain ~ text", "Grüße 東京 🙂": "Grüße 東京 🙂", "a\x1b[31mb": `a\x1b[31mb`, "a\nb\r\t\x00": `a\x0ab\x0d\x09\x00`, "\x7f": `\x7f`,
		"\u009b31m": `\u009b31m`, "\u202eabc": `\u202eabc`, "\u2028": `\u2028`, "a\xff\xc3": `a\xff\xc3`, "\U000e0041": `\U000e0041`, "\ufffd": "\ufffd",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := brief("äbcdef", 3); got != "äbc…" {
		t.Error(got)
	}
	if got, want := string(plainJSON([]byte("{\"a\":\"\u009bx\u202e\x7fä\"}"))), `{"a":"\u009bx\u202e\u007fä"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestTable: columns line up by what letters take on a terminal, also with colours, and grow from one page to the next.
func TestTable(t *testing.T) {
	var b bytes.Buffer
	table := (&System{Out: &b, Colour: true}).table("A", "N", "B").numbers(1)
	_ = table.add(cell{"東京", red}, cell{"5", ""}, cell{"x", ""})
	_ = table.add(cells("a", "12", "")...)
	_ = table.flush()
	_ = table.add(cells("longer", "1", "y")...)
	_ = table.flush()
	want := strings.Join([]string{
		"A       N   B",
		"\x1b[31m東京\x1b[0m    5   x",
		"a      12   -",
		"longer    1   y",
		"",
	}, "\n")
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
