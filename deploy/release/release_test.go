package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// program is this command itself, which is small and has modules. To pack the test would take minutes when it detects
// races.
var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "release")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", dir+"/program", ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if said, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	return os.ReadFile(dir + "/program")
})

// made makes a release of that program for two platforms, from folders that are new each time.
func made(t *testing.T) (dir string, files map[string][]byte) {
	t.Helper()
	program, err := program()
	if err != nil {
		t.Fatal(err)
	}
	binaries, out := t.TempDir(), t.TempDir()
	for _, platform := range []string{"plan9_amd64", "linux_amd64"} {
		if err := os.MkdirAll(filepath.Join(binaries, platform), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(binaries, platform, "foyer"), program, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := release{root: "../..", version: "v1.2.3", binaries: binaries, out: out, time: time.Unix(1_700_000_000, 0)}
	if err := r.make(); err != nil {
		t.Fatal(err)
	}
	files = map[string][]byte{}
	list, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		if files[f.Name()], err = os.ReadFile(filepath.Join(out, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out, files
}

// TestRelease: two releases are the same bytes, sha256sum agrees with the sums, and an archive has names, times and
// owners that say nothing of who has made it.
func TestRelease(t *testing.T) {
	dir, one := made(t)
	_, other := made(t)
	var names []string
	for name, content := range one {
		names = append(names, name)
		if !bytes.Equal(content, other[name]) {
			t.Errorf("%s is not the same the second time", name)
		}
	}
	t.Run("bill", func(t *testing.T) { testBill(t, one) })
	slices.Sort(names)
	if want := "SHA256SUMS foyer_v1.2.3_linux_amd64.cdx.json foyer_v1.2.3_linux_amd64.tar.gz foyer_v1.2.3_plan9_amd64.cdx.json foyer_v1.2.3_plan9_amd64.tar.gz"; strings.Join(names, " ") != want {
		t.Errorf("files %q, want %q", names, want)
	}
	sums := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
	sums.Dir = dir
	if said, err := sums.CombinedOutput(); err != nil || strings.Count(string(said), ": OK\n") != 4 {
		t.Errorf("%v\n%s", err, said)
	}

	unpacked, err := gzip.NewReader(bytes.NewReader(one["foyer_v1.2.3_linux_amd64.tar.gz"]))
	if err != nil {
		t.Fatal(err)
	}
	if h := unpacked.Header; !h.ModTime.IsZero() || h.Name != "" || h.Comment != "" || len(h.Extra) > 0 {
		t.Errorf("the header of gzip says %+v", h)
	}
	var entries []string
	for tape := tar.NewReader(unpacked); ; {
		h, err := tape.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, fmt.Sprintf("%s %o", strings.TrimPrefix(h.Name, "foyer_v1.2.3_linux_amd64/"), h.Mode))
		if h.ModTime.Unix() != 1_700_000_000 || h.Uid != 0 || h.Gid != 0 || h.Uname != "root" || h.Gname != "root" || len(h.PAXRecords) > 0 {
			t.Errorf("entry %+v", h)
		}
	}
	if want := "LICENSE 644, README.md 644, foyer 755, foyer.env 644, foyer.service 644, foyer.sysusers 644"; strings.Join(entries, ", ") != want {
		t.Errorf("entries %q, want %q", entries, want)
	}
}

// TestReleaseRefuses: what would make a release that nobody can rely on is an error.
func TestReleaseRefuses(t *testing.T) {
	text := t.TempDir()
	if err := errors.Join(os.Mkdir(text+"/linux_amd64", 0o700), os.WriteFile(text+"/linux_amd64/foyer", []byte("no program"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, r := range []release{
		{root: "../..", binaries: text, out: t.TempDir()},
		{root: "../..", version: "a/b", binaries: text, out: t.TempDir()},
		{root: "../..", version: "v1", binaries: t.TempDir(), out: t.TempDir()},
		{root: "../..", version: "v1", binaries: text, out: t.TempDir()},
	} {
		if err := r.make(); err == nil {
			t.Errorf("%+v: no error", r)
		}
	}
}

// testBill: a bill names the modules of a program with their sums, Go, and the packages of the client.
func testBill(t *testing.T, files map[string][]byte) {
	t.Helper()
	program, err := program()
	if err != nil {
		t.Fatal(err)
	}
	var bom cyclonedx.BOM
	text := files["foyer_v1.2.3_linux_amd64.cdx.json"]
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(text), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.SerialNumber != "" || bom.Metadata.Timestamp != "" {
		t.Errorf("serial number %q, time %q: the next one would differ", bom.SerialNumber, bom.Metadata.Timestamp)
	}
	if sum := fmt.Sprintf("%x", sha256.Sum256(program)); bom.Metadata.Component.Version != "v1.2.3" || (*bom.Metadata.Component.Hashes)[0].Value != sum {
		t.Errorf("it is the bill of %+v", bom.Metadata.Component)
	}
	missing := []string{"pkg:golang/std@1.", "pkg:golang/github.com/cyclonedx/cyclonedx-go@v", "pkg:npm/socket.io-client@4.", "pkg:npm/%40socket.io/component-emitter@"}
	for _, c := range *bom.Components {
		missing = slices.DeleteFunc(missing, func(prefix string) bool { return strings.HasPrefix(c.PackageURL, prefix) })
		if c.Version == "" || c.Hashes == nil && c.Name != "std" {
			t.Errorf("component %+v", c)
		}
	}
	if len(missing) > 0 || len(*(*bom.Dependencies)[0].Dependencies) != len(*bom.Components) {
		t.Errorf("it misses %q of %d components", missing, len(*bom.Components))
	}
}
