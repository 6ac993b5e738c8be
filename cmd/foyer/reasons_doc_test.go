package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/transport/passing"
)

// TestReasonsPage: docs/reasons.md explains each reason that a node of a cluster may have, once, and no other.
func TestReasonsPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/reasons.md")
	if err != nil {
		t.Fatal(err)
	}
	f := startNode(t, nil, "--cluster", "embedded", "--cluster-listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	reasons := slices.Concat(service.DropReasons(), adapter.DropReasons(), passing.DoneReasons())
	for reason := range f.measured().Dropped() {
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	reasons = slices.Compact(reasons)
	var explained []string
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cells[1], -1) {
				explained = append(explained, m[1])
			}
		}
	}
	slices.Sort(explained)
	for _, reason := range reasons {
		if !slices.Contains(explained, reason) {
			t.Errorf("docs/reasons.md has no row for the reason %s", reason)
		}
	}
	for i, reason := range explained {
		switch {
		case !slices.Contains(reasons, reason):
			t.Errorf("docs/reasons.md explains %s, which no node says", reason)
		case i > 0 && explained[i-1] == reason:
			t.Errorf("docs/reasons.md explains %s twice", reason)
		}
	}
}
