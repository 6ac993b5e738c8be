package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"foyer/cmd/foyer/configfile"
)

// configOf writes a file of settings.
func configOf(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "foyer.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestFaultsOfAFile: whatever is wrong in a file is told with its line, all of it at once where that is possible, in
// words of ours; and the exit code is that of a wrong command line.
func TestFaultsOfAFile(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string // FILE is the file's name
	}{
		"unknown keys": {"edg: :1\nEDGE: :1\nmax_sessions: 1\n--admin: :1\nzebra-crossing: 1\n", []string{
			`FILE:1: there is no setting "edg"; do you mean edge?`,
			`FILE:2: there is no setting "EDGE"`,
			`FILE:3: there is no setting "max_sessions"; do you mean max-sessions?`,
			`FILE:4: there is no setting "--admin"; do you mean admin?`,
			`FILE:5: there is no setting "zebra-crossing"`,
		}},
		"a word left out": {"\n# a comment\nkey-file: x\n", []string{`FILE:3: there is no setting "key-file"; do you mean cluster-key-file?`}},
		"flags that are no settings": {"config: x\nhelp: true\noutput: json\n", []string{
			`FILE:1: config stands on the command line or in FOYER_CONFIG only: a file cannot name another one`,
			`FILE:2: there is no setting "help"; do you mean http?`,
			`FILE:3: there is no setting "output"`,
		}},
		"wrong types": {"max-sessions: many\nping-interval: 10\npprof: maybe\nqueue-bytes: [1, 2]\nmax-payload: {}\ntrusted-proxy: [10.0.0.0]\nlog-level: loud\n", []string{
			`FILE:1: max-sessions: "many" is not a whole number`,
			`FILE:2: ping-interval: "10" is not a time, such as 10s or 5m`,
			`FILE:3: pprof: "maybe" is not true or false`,
			`FILE:4: queue-bytes: it has one value, and this is a list`,
			`FILE:5: max-payload: it has a value, and no keys below it`,
			`FILE:6: trusted-proxy: "10.0.0.0" is not a network, such as 10.0.0.0/8 or fd00::/8`,
			`FILE:7: log-level: "loud" is none of debug, info, warn, error`,
		}},
		"wrong values with wrong types": {"max-sessions: 0\nping-interval: never\ncors-origin: [nonsense]\n", []string{
			`FILE:2: ping-interval: "never" is not a time, such as 10s or 5m`,
			`FILE:1: max-sessions: 0 is not above zero`,
			`FILE:3: cors-origin: origin "nonsense" is not of the form scheme://host[:port]`,
		}},
		"what follows from a fault is not told": {"api: 0.0.0.0:1\napi-token-fil: x\nedge-cert: x\nedge-key: [x]\n", []string{
			`FILE:2: there is no setting "api-token-fil"; do you mean api-token-file?`,
			`FILE:4: edge-key: it has one value, and this is a list`,
		}},
		"values that miss another": {"api: 0.0.0.0:1\nedge-cert: x\n", []string{
			`FILE:1: api: 0.0.0.0:1 is not a loopback address; that needs api-token-file, so that not everybody may call`,
			`FILE:2: edge-cert and edge-key go together: give both or none`,
		}},
		"keys below keys": {"cluster:\n  url: x\ncors:\n  origin: x\n", []string{`FILE:1: cluster: there are no keys below a key; write cluster-url`, `FILE:3: there is no setting "cors"; do you mean cors-origin?`}},
		"a colon":         {"edge: :1\npath: a: b\n", []string{`FILE:2: this is no YAML: there is a colon where none can be; is the line indented, or does the value need quotes?`}},
	} {
		t.Run(name, func(t *testing.T) {
			file := configOf(t, c.text)
			out, told, code := say(t, "config", "check", file)
			told = strings.ReplaceAll(strings.TrimSuffix(told, " (see foyer config check --help)\n"), file, "FILE")
			got := strings.Split(strings.ReplaceAll(strings.TrimSpace(told), "foyer: ", ""), "\n")
			if d := cmp.Diff(c.want, got); d != "" || out != "" || code != exitUsage {
				t.Errorf("code %d, on standard output %q; (-want +got):\n%s", code, out, d)
			}
			if word := foreign.FindString(told); word != "" {
				t.Errorf("%q has a library's word: %q", told, word)
			}
		})
	}
}

// TestFilesThatAreNone: a file that cannot be read is one line that names it, by the word by which it was named.
func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	large := configOf(t, "# "+strings.Repeat("x", configfile.MaxBytes))
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, want string }{
		{dir + "/none", "there is no file " + dir + "/none"},
		{dir, dir + " is a directory and not a file"},
		{pipe, pipe + " is a pipe or a device and not a file"},
		{large, large + " is too large; was another file meant?"},
	} {
		t.Setenv("FOYER_CONFIG", "")
		_, told, code := say(t, "serve", "--config", c.file)
		if want := "foyer: --config: " + c.want + " (see foyer serve --help)\n"; told != want || code != exitUsage {
			t.Errorf("--config: code %d, %q, want %q", code, told, want)
		}
		_, told, code = say(t, "config", "check", c.file)
		if want := "foyer: FILE: " + c.want + " (see foyer config check --help)\n"; told != want || code != exitUsage {
			t.Errorf("check: code %d, %q, want %q", code, told, want)
		}
		t.Setenv("FOYER_CONFIG", c.file)
		_, told, code = say(t, "config")
		if want := "foyer: FOYER_CONFIG: " + c.want + " (see foyer config show --help)\n"; told != want || code != exitUsage {
			t.Errorf("variable: code %d, %q, want %q", code, told, want)
		}
	}
	_ = os.Unsetenv("FOYER_CONFIG")
	if _, told, code := say(t, "config", "check"); code != exitUsage || !strings.Contains(told, "there is no file to check") {
		t.Errorf("no file: code %d, %q", code, told)
	}
}

// TestLaterWins: the file, then variables, then flags; and each value's place is told.
func TestLaterWins(t *testing.T) {
	file := configOf(t, `
edge: :1
ping-interval: 1s
ping-timeout: 1s
upgrade-timeout: 1s
handshake-headers: [a, "b,c"]
connect: handler
compression: true
api-token-file: tokens
admin: ""
max-payload: 64KiB
trusted-proxy:
  - 10.0.0.0/8
`)
	t.Setenv("FOYER_PING_TIMEOUT", "2s")
	t.Setenv("FOYER_UPGRADE_TIMEOUT", "2s")
	t.Setenv("FOYER_CONFIG", file)
	rows := rowsOf(t, "--upgrade-timeout", "3s", "--handshake-rate", "5")
	place := func(line int) origin { return origin{"file", configfile.Place(file, line)} }
	for name, want := range map[string]settingRow{
		"edge":              {from: place(2), value: ":1"},
		"ping-interval":     {from: place(3), value: "1s"},
		"ping-timeout":      {from: origin{"variable", "FOYER_PING_TIMEOUT"}, value: "2s"},
		"upgrade-timeout":   {from: origin{"flag", "--upgrade-timeout"}, value: "3s"},
		"handshake-rate":    {from: origin{"flag", "--handshake-rate"}, value: 5},
		"handshake-headers": {from: place(6), value: []string{"a", "b,c"}},
		"connect":           {from: place(7), value: []string{"handler"}},
		"compression":       {from: place(8), value: true},
		"api-token-file":    {from: place(9), value: filepath.Join(filepath.Dir(file), "tokens")},
		"admin":             {from: place(10), value: ""},
		"max-payload":       {from: place(11), value: "64KiB"},
		"trusted-proxy":     {from: place(12), value: []string{"10.0.0.0/8"}},
		"path":              {from: origin{kind: "default"}, value: "/socket.io/"},
		"max-packet":        {from: origin{kind: "default"}},
	} {
		got := rows[name]
		got.flag = nil
		if d := cmp.Diff(want, got, cmp.AllowUnexported(settingRow{}, origin{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// rowsOf are the settings that hold with these flags, by name.
func rowsOf(t *testing.T, args ...string) map[string]settingRow {
	t.Helper()
	p := shared().parser
	command, err := p.Parse(append([]string{"config"}, args...))
	if err != nil {
		t.Fatal(explain(p, err))
	}
	rows := map[string]settingRow{}
	for _, r := range settingRows(p, command) {
		rows[r.flag.Name] = r
	}
	return rows
}

// TestBlameNamesThePlace: a fault that shows only when the node starts, and one of a variable, are told by where the
// value is from.
func TestBlameNamesThePlace(t *testing.T) {
	file := configOf(t, "api-token-file: none\nadmin: ''\nedge: 127.0.0.1:0\napi: 127.0.0.1:0\nmax-sessions: 5\n")
	_, told, code := say(t, "serve", "--config", file)
	want := "foyer: " + file + ":1: api-token-file: there is no file " + filepath.Dir(file) + "/none\n"
	if told != want || code != exitFailure {
		t.Errorf("code %d, %q, want %q", code, told, want)
	}
	t.Setenv("FOYER_MAX_SESSIONS", "0")
	_, told, _ = say(t, "config", "check", file)
	if want := "foyer: FOYER_MAX_SESSIONS: 0 is not above zero (see foyer config check --help)\n"; told != want {
		t.Errorf("%q, want %q", told, want)
	}
	_, told, _ = say(t, "config", "check", file, "--max-sessions=-1")
	if want := "foyer: --max-sessions: -1 is not above zero (see foyer config check --help)\n"; told != want {
		t.Errorf("%q, want %q", told, want)
	}
}

// TestConfigIsPrinted: as a table, as objects and as a file that says the same, in whatever form the settings came.
func TestConfigIsPrinted(t *testing.T) {
	file := configOf(t, "edge: :1\ncors-origin: ['https://a.example', '*']\nnode-id: '0123'\nmax-sessions: 7\npprof: true\nhandshake-headers: ['*']\n"+
		"cluster: nats\ncluster-url: nats://me:pa@ss@h:4222\npath: \"/a #b: c/\"\npeer: ''\n")
	out, told, code := say(t, "config", "--config", file, "--log-level", "debug")
	if code != 0 || told != "" {
		t.Fatalf("code %d, %q", code, told)
	}
	lines := strings.Split(out, "\n")
	for _, want := range []string{
		"SETTING VALUE FROM", "edge :1 " + file + ":1", "cors-origin https://a.example,* " + file + ":2", "log-level debug --log-level",
		"cluster-url nats://***@h:4222 " + file + ":8", "max-packet - default",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("the table has no %q:\n%s", want, out)
		}
	}
	if at := strings.Index(lines[0], "FROM"); strings.Index(lines[1], file) != at {
		t.Errorf("the columns are not lined up:\n%s", out)
	}

	out, _, _ = say(t, "config", "--config", file, "-o", "json")
	decoder, n := json.NewDecoder(strings.NewReader(out)), 0
	for ; decoder.More(); n++ {
		var row map[string]any
		if err := decoder.Decode(&row); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"setting": "max-sessions", "value": 7.0, "from": "file", "place": file + ":4"}
		if row["setting"] == "max-sessions" && !cmp.Equal(want, row) {
			t.Errorf("%v, want %v", row, want)
		}
	}
	if all := reflect.TypeFor[settings](); n < all.NumField() || strings.Count(out, "\n") != n {
		t.Errorf("%d objects on %d lines", n, strings.Count(out, "\n"))
	}

	out, _, _ = say(t, "config", "--config", file, "-o", "yaml")
	again := configOf(t, out)
	before, after := rowsOf(t, "--config", file), rowsOf(t, "--config", again, "--cluster-url", "nats://me:pa@ss@h:4222")
	for name, row := range before {
		if d := cmp.Diff(row.value, after[name].value); d != "" {
			t.Errorf("%s (-before +after):\n%s", name, d)
		}
		if row.from.kind == "default" && after[name].from.kind != "default" {
			t.Errorf("%s is no default any more", name)
		}
	}
	if strings.Contains(out, "pa@") {
		t.Error("the file has the password in it")
	}
}

// TestSecretsAreHidden: whatever a password may be made of.
func TestSecretsAreHidden(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"nats://h:4222":                  "nats://h:4222",
		"nats://u:p@h:4222":              "nats://***@h:4222",
		"nats://token@h:4222":            "nats://***@h:4222",
		"nats://a:b@h,nats://c:d@i":      "nats://***@i",
		"redis://u:a@b/c:d@h":            "redis://***@h",
		"postgres://h/d?password=x&a=b":  "postgres://h/d?password=***&a=b",
		"mongodb://h/d?sslKeyPassword=x": "mongodb://h/d?sslKeyPassword=***",
		"host=h password=x":              "***",
	} {
		if got := hide(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	secret := regexp.MustCompile(`url|password|secret|token|hash|credential`)
	for _, f := range settingFlags(shared().parser.Model) {
		if secret.MatchString(f.Name) && f.Tag.Type != "path" && !f.Tag.Has(secretTag) && !f.IsBool() {
			t.Errorf("%s may be a secret, and is not declared one", f.Name)
		}
	}
}
