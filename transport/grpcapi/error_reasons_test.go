package grpcapi

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	foyerv1 "foyer/gen/foyer/v1"
)

// TestReasonsOfTheServiceAreOfTheAPI: whatever reason the service gives an error has a name in the API; one that has
// none would be told as a fault of the node.
func TestReasonsOfTheServiceAreOfTheAPI(t *testing.T) {
	word := regexp.MustCompile(`Reason:\s+"([A-Z_]+)"`)
	found := 0
	err := filepath.WalkDir("../../service", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range word.FindAllSubmatch(text, -1) {
			found++
			if _, ok := foyerv1.ErrorReason_value[reasonPrefix+string(m[1])]; !ok {
				t.Errorf("%s: ErrorReason has no %s", path, m[1])
			}
		}
		return err
	})
	if err != nil || found < 10 {
		t.Errorf("%d reasons were found, %v", found, err)
	}
}
