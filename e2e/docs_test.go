//go:build e2e

package e2e

import (
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// document is a Markdown file whose code blocks a test pastes in their order, as a newcomer does. A block that no test
// pastes is an error: there is none that only looks right.
type document struct {
	t      testing.TB
	name   string // from the root of the repository
	text   string
	blocks []block
	taken  int
}

type block struct {
	lang, text string
	line       int
}

func openDocument(t testing.TB, name string) *document {
	t.Helper()
	text := openText(t, name)
	d := &document{t: t, name: name, text: text, blocks: blocksOf(text)}
	t.Cleanup(func() {
		if d.taken < len(d.blocks) && !t.Failed() {
			b := d.blocks[d.taken]
			t.Errorf("%s:%d: no test pastes this block and those after it:\n%s", d.name, b.line, b.text)
		}
	})
	return d
}

func openText(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// next is the next block, which has to be in this language and to have this text in it.
func (d *document) next(lang, with string) string {
	d.t.Helper()
	if d.taken == len(d.blocks) {
		d.t.Fatalf("%s has no more blocks; the test wants one in %s with %q", d.name, lang, with)
	}
	b := d.blocks[d.taken]
	d.taken++
	if b.lang != lang || !strings.Contains(b.text, with) {
		d.t.Fatalf("%s:%d: the test wants a block in %s with %q here; this is in %s:\n%s", d.name, b.line, lang, with, b.lang, b.text)
	}
	return b.text
}

// table returns the cells of the rows of the table with this heading, without the heading.
func (d *document) table(heading string) [][]string {
	d.t.Helper()
	_, rest, ok := strings.Cut(d.text, "\n"+heading+"\n")
	if !ok {
		d.t.Fatalf("%s has no table %q", d.name, heading)
	}
	var rows [][]string
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells, code := []string{""}, false
		for _, c := range strings.TrimSuffix(line[1:], "|") {
			switch {
			case c == '|' && !code:
				cells = append(cells, "")
				continue
			case c == '`':
				code = !code
			}
			cells[len(cells)-1] += string(c)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows[1:] // the line below the heading
}

var fence = regexp.MustCompile("^ {0,3}(```+|~~~+) *([a-z]*)")

// blocksOf are the fenced code blocks of a Markdown text.
func blocksOf(markdown string) []block {
	var blocks []block
	end, n := "", 0
	for line := range strings.Lines(markdown) {
		n++
		switch m := fence.FindStringSubmatch(line); {
		case end != "" && strings.TrimSpace(line) == end:
			end = ""
		case end != "":
			blocks[len(blocks)-1].text += line
		case m != nil:
			end = m[1]
			blocks = append(blocks, block{lang: m[2], line: n})
		}
	}
	return slices.DeleteFunc(blocks, func(b block) bool { return b.lang == "" }) // pictures made of letters
}

// TestLinks: what a document points at in this repository is there, and so is every flag that it names.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	flag := regexp.MustCompile(`--[a-z][a-z0-9-]+`)
	others := regexp.MustCompile(`(?m)^((bin/)?redis-server|docker|export|helm|kubectl|sudo|python3 -m grpc_tools.protoc) (.*\\\n)*.*$`) // programs with flags of their own
	var known []string
	for _, command := range []string{"serve", "healthcheck", "bench idle", "bench broadcast", "bench echo", "emit", "disconnect", "watch", "tail", "explain", "drain", "context set"} {
		out, err := exec.CommandContext(t.Context(), binary(t), append(strings.Fields(command), "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		known = append(known, flag.FindAllString(strings.ReplaceAll(string(out), "--[no-]", "--"), -1)...)
	}
	for _, name := range documents(t) {
		text := openText(t, name)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			path, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := filepath.Join("..", filepath.Dir(name), path)
			if path == "" {
				target = filepath.Join("..", name)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", name, err)
			} else if anchor != "" && !slices.Contains(anchors(t, target), anchor) {
				t.Errorf("%s: %s has no heading for #%s", name, target, anchor)
			}
		}
		for _, f := range flag.FindAllString(others.ReplaceAllString(text, ""), -1) {
			if !slices.Contains(known, f) {
				t.Errorf("%s names the flag %s, which foyer does not have", name, f)
			}
		}
	}
}

// TestReadmeListsEveryPage: a page that the README does not list is found by nobody. Each has one line, and a line one
// page.
func TestReadmeListsEveryPage(t *testing.T) {
	raw, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(raw), "\n## Where to go\n")
	list, _, _ = strings.Cut(list, "\n## ")
	for _, name := range documents(t) {
		if n := strings.Count(list, "]("+name+")"); n != 1 && name != "README.md" {
			t.Errorf("%s is listed %d times", name, n)
		}
	}
	for line := range strings.Lines(list) {
		if strings.HasPrefix(line, "- ") && strings.Count(line, "](") != 1 {
			t.Errorf("not one page: %s", line)
		}
	}
}

// documents are the texts for people who run Foyer or write against it.
func documents(t testing.TB) []string {
	t.Helper()
	found, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"README.md", "examples/README.md"}
	for _, file := range found {
		names = append(names, filepath.Join("docs", filepath.Base(file)))
	}
	return names
}

// anchors are the ends of links to the headings of a Markdown file.
func anchors(t testing.TB, file string) []string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(raw), -1) {
		plain := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(plain, " ", "-"))
	}
	return all
}

// imports are what pieces of Go in a document may use. A reader who pastes them has an editor that adds these lines.
var imports = map[string]string{
	"codes": "google.golang.org/grpc/codes", "context": "context", "durationpb": "google.golang.org/protobuf/types/known/durationpb", "errors": "errors",
	"fmt": "fmt", "foyerv1": "foyer/gen/foyer/v1", "grpc": "google.golang.org/grpc", "insecure": "google.golang.org/grpc/credentials/insecure",
	"keepalive": "google.golang.org/grpc/keepalive", "log": "log", "os": "os", "proto": "google.golang.org/protobuf/proto",
	"status": "google.golang.org/grpc/status", "structpb": "google.golang.org/protobuf/types/known/structpb", "time": "time",
}

// connection is what a piece that has no connection of its own finds before it.
const connection = `conn, err := grpc.NewClient("127.0.0.1:50051", grpc.WithTransportCredentials(insecure.NewCredentials()))
if err != nil {
	log.Fatal(err)
}
`

// program makes a whole program of a piece of Go; one that is whole stays as it is.
func program(t testing.TB, piece string) string {
	t.Helper()
	if strings.HasPrefix(piece, "package ") {
		return piece
	}
	body := "ctx := context.Background()\n_ = ctx\n"
	if regexp.MustCompile(`\bconn\b`).MatchString(piece) && !strings.Contains(piece, "conn, err := ") {
		body += connection
	}
	body += piece
	text := "package main\n\nimport (\n"
	for name, path := range imports {
		if regexp.MustCompile(`\b` + name + `\.`).MatchString(body) {
			text += fmt.Sprintf("%s %q\n", name, path)
		}
	}
	out, err := format.Source([]byte(text + ")\n\nfunc main() {\n" + body + "}\n"))
	if err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return string(out)
}

// buildGo builds programs in a module of its own that uses this one by a workspace, and returns their files.
func buildGo(t testing.TB, sources map[string]string) map[string]string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir, built := t.TempDir(), map[string]string{}
	for name, text := range sources {
		writeFile(t, filepath.Join(dir, name, "main.go"), text)
		built[name] = filepath.Join(dir, "bin", name)
	}
	script := "go mod init hello && go work init . " + root + " && mkdir bin && go build -o bin/ ./..."
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return built
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
