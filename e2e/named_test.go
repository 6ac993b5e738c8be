package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namedTest is how a page names a test: its package, its name, and perhaps a part of it.
var namedTest = regexp.MustCompile("`([a-z0-9]+)\\.(Test\\w+)(?:/[^`]*)?`")

// TestNamedTests: each test that docs/guarantees.md and docs/protocol.md name is there and is never skipped, and each
// promise names one.
func TestNamedTests(t *testing.T) {
	folders := map[string]string{
		"adapter": "../service/adapter", "adminui": "../cmd/foyer/adminui", "e2e": ".", "engineio": "../transport/engineio",
		"foyer": "../cmd/foyer", "grpcapi": "../transport/grpcapi", "metrics": "../transport/metrics", "passing": "../transport/passing", "service": "../service", "socketio": "../transport/socketio",
	}
	packages := map[string]map[string]*ast.FuncDecl{}
	for _, page := range []string{"guarantees.md", "protocol.md"} {
		raw, err := os.ReadFile("../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		named := namedTest.FindAllStringSubmatch(string(raw), -1)
		if len(named) < 20 {
			t.Errorf("%s names %d tests", page, len(named))
		}
		for _, m := range named {
			folder := folders[m[1]]
			if folder == "" {
				t.Errorf("%s: %s is no package that this test knows", page, m[1])
				continue
			}
			if packages[folder] == nil {
				packages[folder] = testsIn(t, folder)
			}
			switch f := packages[folder][m[2]]; {
			case f == nil:
				t.Errorf("%s names %s.%s, and there is no such test", page, m[1], m[2])
			case skips(f):
				t.Errorf("%s names %s.%s, which may skip itself", page, m[1], m[2])
			}
		}
		if page != "guarantees.md" {
			continue
		}
		promises, _, _ := strings.Cut(string(raw), "\n## What is not promised")
		for _, promise := range strings.Split(promises, "\n- ")[1:] {
			promise, _, _ = strings.Cut(promise, "\n\n")
			if !namedTest.MatchString(promise) {
				t.Errorf("no test holds this promise: %s", promise)
			}
		}
	}
}

// TestClientsAsTried: the versions of clients that docs/protocol.md names are those that the tests install.
func TestClientsAsTried(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| client | version | how |")
	rows := regexp.MustCompile(`(?m)^\| ([^|]+) \| ([0-9.]+) \|`).FindAllStringSubmatch(table, -1)
	installs := map[string]string{
		"socket.io-client": `package.json "socket.io-client": "VERSION"`, "socket.io-msgpack-parser": `package.json "socket.io-msgpack-parser": "VERSION"`,
		"socket.io-client, v2": `package.json socket.io-client@VERSION`, "python-socketio": `polyglot/python/requirements.txt python-socketio==VERSION`,
		"io.socket:socket.io-client (Java)": `polyglot/java/pom.xml <version>VERSION</version>`,
	}
	if len(rows) != len(installs) {
		t.Errorf("the table names %d clients, and this test knows %d", len(rows), len(installs))
	}
	for _, row := range rows {
		name, text, _ := strings.Cut(installs[row[1]], " ")
		file, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%s: %v", row[1], err)
		} else if want := strings.ReplaceAll(text, "VERSION", row[2]); !strings.Contains(string(file), want) {
			t.Errorf("%s does not install %s", name, want)
		}
	}
}

// testsIn are the tests of a folder by their names.
func testsIn(t *testing.T, folder string) map[string]*ast.FuncDecl {
	t.Helper()
	files, err := filepath.Glob(folder + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]*ast.FuncDecl{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				tests[f.Name.Name] = f
			}
		}
	}
	return tests
}

// skips says whether a test has a call of Skip, Skipf or SkipNow.
func skips(f *ast.FuncDecl) bool {
	found := false
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(call.Sel.Name, "Skip") {
			of, _ := call.X.(*ast.Ident)
			found = of != nil && of.Name == "t" // a schedule that is made at random leaves steps out by its own Skip
		}
		return !found
	})
	return found
}
