// Release makes of binaries what people download: an archive for each platform, a bill of materials beside it, and the
// sums of all. The same binaries give the same bytes, whoever makes them, wherever and whenever. `make release` runs
// it.
package main

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// beside are the files that an archive has beside its binary, from the root of the repository.
var beside = []string{"LICENSE", "README.md", "deploy/systemd/foyer.service", "deploy/systemd/foyer.env", "deploy/systemd/foyer.sysusers"}

func main() {
	var r release
	flag.StringVar(&r.root, "root", ".", "root of the repository")
	flag.StringVar(&r.version, "version", "", "version of the binaries")
	flag.StringVar(&r.binaries, "binaries", "", "folder with OS_ARCH/foyer for each platform")
	flag.StringVar(&r.out, "out", "", "folder for what is made")
	seconds := flag.Int64("time", 0, "time of what is in the archives, in seconds since 1970: that of the commit")
	flag.Parse()
	r.time = time.Unix(*seconds, 0).UTC()
	if err := r.make(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

type release struct {
	root, version, binaries, out string
	time                         time.Time
}

// make fills the folder out, which is made when it is missing.
func (r *release) make() error {
	if r.version == "" || strings.ContainsAny(r.version, "/\\ ") {
		return fmt.Errorf("%q is no version", r.version)
	}
	binaries, err := filepath.Glob(filepath.Join(r.binaries, "*_*", "foyer"))
	if err != nil {
		return err
	}
	if len(binaries) == 0 {
		return fmt.Errorf("there is no binary in %s", r.binaries)
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	var made []string
	for _, binary := range binaries {
		platform := filepath.Base(filepath.Dir(binary))
		name := fmt.Sprintf("foyer_%s_%s", r.version, platform)
		if err := r.pack(name, binary); err != nil {
			return fmt.Errorf("%s: %w", platform, err)
		}
		made = append(made, name+".tar.gz", name+".cdx.json")
	}
	return r.sum(made)
}

// pack makes the archive and the bill of materials of one binary.
func (r *release) pack(name, binary string) error {
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	entries := []entry{{name: name + "/foyer", mode: 0o755, content: program}}
	for _, file := range beside {
		content, err := os.ReadFile(filepath.Join(r.root, file))
		if err != nil {
			return err
		}
		entries = append(entries, entry{name: name + "/" + filepath.Base(file), mode: 0o644, content: content})
	}
	if err := write(filepath.Join(r.out, name+".tar.gz"), archive{entries, r.time}.writeTo); err != nil {
		return err
	}
	lock, err := os.ReadFile(filepath.Join(r.root, "cmd/foyer/web/package-lock.json"))
	if err != nil {
		return err
	}
	bom, err := billOf(program, r.version, lock)
	if err != nil {
		return err
	}
	return write(filepath.Join(r.out, name+".cdx.json"), bom.writeTo)
}

// sum writes SHA256SUMS, for `sha256sum -c`.
func (r *release) sum(names []string) error {
	slices.Sort(names)
	var text strings.Builder
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(r.out, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%x  %s\n", sha256.Sum256(content), name)
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(text.String()), 0o644)
}
