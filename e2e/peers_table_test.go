package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPeersTable: each test that docs/cluster.md names for a feature on a bus is there, with the part that it names.
func TestPeersTable(t *testing.T) {
	raw, err := os.ReadFile("../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(raw), "### What was tried")
	if !found {
		t.Fatal("there is no table")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	tests := func(pattern string) string {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
		return all.String()
	}
	cells := regexp.MustCompile("`([a-z]+\\.)?(Test\\w+)(/[^`]+)?`").FindAllStringSubmatch(table, -1)
	for _, cell := range cells {
		pattern := "*_test.go"
		if folder, ok := strings.CutSuffix(cell[1], "."); ok {
			pattern = "../service/adapter/bridge/" + folder + "/*_test.go"
		}
		text := tests(pattern)
		if !strings.Contains(text, "\nfunc "+cell[2]+"(t *testing.T)") {
			t.Errorf("there is no test %s%s", cell[1], cell[2])
		}
		part := strings.TrimPrefix(cell[3], "/")
		named := func(before, after string) bool { return strings.Contains(text, before+`"`+part+`"`+after) }
		if part != "" && !named(".part(", "") && !named(".Run(", "") && !named("", ": test") && !named("{", ", ") {
			t.Errorf("%s has no part %q", cell[2], part)
		}
	}
	if len(cells) < 40 {
		t.Errorf("the table names %d tests", len(cells))
	}
}
