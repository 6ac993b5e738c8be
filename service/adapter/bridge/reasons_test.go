package bridge

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDropReasons: the words that stand where something is dropped are those of DropReasons.
func TestDropReasons(t *testing.T) {
	var found []string
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?:\.drop\(|\.count\(|dropped\[|reason :?= )"([a-z_]+)"`).FindAllStringSubmatch(string(raw), -1) {
			found = append(found, m[1])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(found)
	if found = slices.Compact(found); !slices.Equal(found, dropWords) {
		t.Errorf("messages are dropped for %q, and the list has %q", found, dropWords)
	}
	all := DropReasons()
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); n != len(all) || n < 30 {
		t.Errorf("%d reasons of %d are different", n, len(all))
	}
}
