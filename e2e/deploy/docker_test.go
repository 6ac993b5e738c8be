package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// TestDockerfileLint: hadolint has nothing to say.
func TestDockerfileLint(t *testing.T) {
	if out := output(t, "hadolint", "--failure-threshold", "style", root+"/deploy/Dockerfile"); out != "" {
		t.Error(out)
	}
}

// stage is a stage of a Dockerfile.
type stage struct {
	from  string
	lines []instruction
}

type instruction struct{ name, rest string }

// stages reads a Dockerfile.
func stages(t *testing.T) (all []stage) {
	t.Helper()
	text := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(read(t, "deploy/Dockerfile"), "")
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case name == "FROM":
			all = append(all, stage{from: rest})
		case name != "":
			last := &all[len(all)-1]
			last.lines = append(last.lines, instruction{name, rest})
		}
	}
	return all
}

// all are what the instructions of this name say.
func (s stage) all(name string) (rest []string) {
	for _, i := range s.lines {
		if i.name == name {
			rest = append(rest, i.rest)
		}
	}
	return rest
}

// TestImage: what is in the image, and who it runs as.
func TestImage(t *testing.T) {
	all := stages(t)
	pinned := regexp.MustCompile(`:\d+\.\d+\.\d+-\S+ AS \w+$`)
	for _, s := range all[:len(all)-1] {
		if !pinned.MatchString(s.from) {
			t.Errorf("FROM %s names no one version", s.from)
		}
	}
	_, version, _ := strings.Cut(read(t, "go.mod"), "\ngo ")
	version, _, _ = strings.Cut(version, "\n")
	if from := all[1].from; !strings.Contains(from, " golang:"+version+"-") {
		t.Errorf("FROM %s, and go.mod wants Go %s", from, version)
	}
	// The files that npm reads, beside the script that fetches the client.
	for name := range strings.Lines(output(t, "git", "-C", root, "ls-files", "cmd/foyer/web/.npmrc", "cmd/foyer/web/package*.json", "cmd/foyer/web/*.sh")) {
		if name = strings.TrimSpace(name); !slices.Contains(strings.Fields(all[0].all("COPY")[0]), name) {
			t.Errorf("the stage %s has no %s", all[0].from, name)
		}
	}
	last := all[len(all)-1]
	for name, want := range map[string][]string{
		"USER":       {"65532:65532"},
		"STOPSIGNAL": {"SIGTERM"},
		"ENTRYPOINT": {`["/foyer"]`},
		"CMD":        {`["serve"]`},
		"RUN":        nil, // there is nothing that could run it
		"COPY": {
			"--from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/", "--from=build /src/LICENSE /LICENSE", "--from=build /out/foyer /foyer",
		},
		"HEALTHCHECK": {`--interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["/foyer", "healthcheck"]`},
		"EXPOSE":      {"3000 50051 9090 6222 7222"},
	} {
		if got := last.all(name); !slices.Equal(got, want) {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	if last.from != "scratch" {
		t.Errorf("FROM %s, want scratch", last.from)
	}
}

// TestImageBinary builds as the Dockerfile does, in another folder and from nothing but what .dockerignore lets in: the
// binary is the same as that of make, byte by byte.
func TestImageBinary(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("an image has a binary for Linux")
	}
	src, out := t.TempDir(), filepath.Join(t.TempDir(), "foyer")
	copyContext(t, src)
	// The files that the stage web makes, by the same script.
	npm := "cmd/foyer/web/npm"
	if err := os.RemoveAll(filepath.Join(src, npm)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(src, npm), os.DirFS(filepath.Join(root, npm))); err != nil {
		t.Fatal(err)
	}
	build := stages(t)[1]
	runs := build.all("RUN")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(runs[len(runs)-1], "/out/foyer", out))
	cmd.Dir = src
	version, err := exec.CommandContext(t.Context(), binary(t), "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), strings.Fields(build.all("ENV")[0])...)
	cmd.Env = append(cmd.Env, "VERSION="+strings.Fields(string(version))[1], "TARGETOS="+runtime.GOOS, "TARGETARCH="+runtime.GOARCH)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, said)
	}
	one, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if string(one) != string(other) {
		t.Errorf("the binary of the image has %d bytes, that of make %d, and they are not the same", len(other), len(one))
	}
}

// copyContext copies what the builder of an image is sent.
func copyContext(t *testing.T, to string) {
	t.Helper()
	patterns, err := ignorefile.ReadAll(strings.NewReader(read(t, "deploy/Dockerfile.dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	copied := 0
	for name := range strings.Lines(output(t, "git", "-C", root, "ls-files", "-co", "--exclude-standard")) {
		name = strings.TrimSpace(name)
		if skip, err := ignored.MatchesOrParentMatches(name); err != nil {
			t.Fatal(err)
		} else if skip {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) { // Git still knows of it
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
		copied++
	}
	for _, name := range []string{"README.md", "e2e", "deploy", "cmd/foyer/config_test.go"} {
		if _, err := os.Stat(filepath.Join(to, name)); err == nil {
			t.Errorf("%s is sent to the builder, which has no use for it", name)
		}
	}
	if copied < 100 {
		t.Errorf("%d files are sent to the builder", copied)
	}
}
