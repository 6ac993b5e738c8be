package client

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// TestComplete: commands, flags, values of enums and names of contexts are told where they may stand, and nothing else.
func TestComplete(t *testing.T) {
	sys := &System{Contexts: put(t, "contexts.yaml", "contexts:\n  prod: {api: 'p:1'}\n  pre: {api: 'q:1'}\n  home: {api: 'h:1'}\n")}
	parser := kong.Must(&Commands{}, kong.Name("foyer"))
	for _, c := range []struct{ line, want string }{
		{"roo", "rooms"},
		{"so", "sockets socket"},
		{"context ", "list set use rm"},
		{"context use p", "pre prod"},
		{"context rm h", "home"},
		{"context --out", "--output"},
		{"emit --names", "--namespace"},
		{"emit --all --output ", "table json"},
		{"emit --all -o j", "json"},
		{"emit --output=t", "--output=table"},
		{"emit --room --all --no", "--no-compress"},
		{"emit -- --no", ""},
		{"rooms --context pr", "pre prod"},
		{"rooms --context=h", "--context=home"},
		{"rooms --api-ca ", ":files"},
		{"rooms --nothing=", ""},
		{"disconnect --mode ", "namespace connection transport"},
		{"completion z", "zsh"},
		{"emit hi ", ""},
		{"watch -h", ""},
	} {
		var b bytes.Buffer
		sys.Out = &b
		Complete(parser.Model, sys, strings.Split(c.line, " "))
		var got []string
		for line := range strings.Lines(b.String()) {
			text, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, text)
		}
		if d := cmp.Diff(c.want, strings.Join(got, " ")); d != "" {
			t.Errorf("%q (-want +got):\n%s", c.line, d)
		}
	}
}

// shellDrivers complete a line as a person does who presses Tab at its end, and print what may stand there.
var shellDrivers = map[string]string{
	"bash": `source "$SCRIPT"
COMP_LINE=$1 COMP_POINT=${#1}
read -ra COMP_WORDS <<< "${1//=/ = }"
[[ $1 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_foyer
printf '%s\n' "${COMPREPLY[@]}"`,
	"fish": `source $SCRIPT; complete -C"$argv[1]" | string split -f1 \t; true`,
}

// TestCompletionInShells: the scripts work in the shells themselves. Bash is everywhere; `make test` installs the
// others.
func TestCompletionInShells(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	sys := &System{Contexts: filepath.Join(dir, "foyer", "contexts.yaml")}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "foyer")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	if err := sys.writeContexts(&contexts{Contexts: map[string]*storedContext{"prod": {API: "p:1"}}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cert file.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for shell, script := range scripts {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil && shell != "bash" && os.Getenv("CI") == "" {
				t.Skipf("there is no %s on this machine", shell)
			} else if err != nil {
				t.Fatal(err)
			}
			file := put(t, "script", script)
			t.Setenv("SCRIPT", file)
			if out, err := exec.CommandContext(t.Context(), path, "-n", file).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v: %s", err, out)
			}
			driver, ok := shellDrivers[shell]
			if !ok {
				return // zsh completes on a terminal only
			}
			for line, want := range map[string]string{
				"foyer ro":                           "rooms",
				"foyer emit --all -o ":               "json table",
				"foyer emit --output=j":              "json",
				"foyer rooms --context ":             "prod",
				"foyer rooms --api-ca " + dir + "/c": dir + "/cert file.pem",
				"foyer completion b":                 "bash",
			} {
				args := []string{"-c", driver, "driver", line}
				if shell == "fish" {
					args = []string{"-c", driver, line}
				}
				out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
				got := strings.Join(strings.Split(strings.TrimSpace(string(out)), "\n"), " ")
				for _, w := range strings.Split(want, " ") {
					if err != nil || !strings.Contains(got, w) {
						t.Errorf("%q: %v, %q, want %s", line, err, got, want)
					}
				}
				if n := strings.Count(strings.TrimSpace(string(out)), "\n") + 1; want != "json table" && n != 1 {
					t.Errorf("%q: %q, want %s alone", line, out, want)
				}
			}
		})
	}
}
