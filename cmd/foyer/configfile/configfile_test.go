package configfile

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// keys are some of each kind.
var keys = []Key{
	{Name: "edge"},
	{Name: "admin"},
	{Name: "node-id"},
	{Name: "path"},
	{Name: "max-sessions", Check: func(text string) error {
		if text == "many" {
			return errors.New("many is no number")
		}
		return nil
	}},
	{Name: "namespaces", Separator: ','},
	{Name: "connect", Separator: ','},
	{Name: "cors-origin", Separator: ','},
	{Name: "cluster"},
	{Name: "cluster-name"},
	{Name: "cluster-url"},
	{Name: "cluster-key-file", Path: true},
	{Name: "api-token-file", Path: true},
}

// TestValues: a good file has a value for each key as a command line has it, and the line of the key.
func TestValues(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want map[string]Value
	}{
		"nothing":       {"", map[string]Value{}},
		"comments":      {"# one\n\n# two\n", map[string]Value{}},
		"null":          {"~\n", map[string]Value{}},
		"plain":         {"edge: :1 # here\n\nmax-sessions: 5\n", map[string]Value{"edge": {1, ":1"}, "max-sessions": {3, "5"}}},
		"as written":    {"node-id: 0123\npath: 1_000\nadmin: yes\nedge: 2001-01-01\n", map[string]Value{"node-id": {1, "0123"}, "path": {2, "1_000"}, "admin": {3, "yes"}, "edge": {4, "2001-01-01"}}},
		"quoted":        {"admin: ''\n\"edge\": \"a: b\"\n", map[string]Value{"admin": {1, ""}, "edge": {2, "a: b"}}},
		"lists":         {"namespaces: [a, 'b,c']\nconnect: one\ncors-origin:\n  - x\n  - '*'\n", map[string]Value{"namespaces": {1, `a,b\,c`}, "connect": {2, "one"}, "cors-origin": {3, "x,*"}}},
		"an empty list": {"namespaces: []\n", map[string]Value{"namespaces": {1, ""}}},
		"files beside":  {"api-token-file: tokens\ncluster-key-file: ../key\n", map[string]Value{"api-token-file": {1, "/etc/foyer/tokens"}, "cluster-key-file": {2, "/etc/key"}}},
		"files of their own": {"api-token-file: /run/tokens\ncluster-key-file: ~/key\n", map[string]Value{
			"api-token-file": {1, "/run/tokens"}, "cluster-key-file": {2, "~/key"},
		}},
		"no file":      {"api-token-file: ''\n", map[string]Value{"api-token-file": {1, ""}}},
		"a byte order": {"\ufeffedge: :1\n", map[string]Value{"edge": {1, ":1"}}},
		"of a Windows": {"edge: :1\r\nadmin: :2\r\n", map[string]Value{"edge": {1, ":1"}, "admin": {2, ":2"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := Parse("/etc/foyer/foyer.yaml", []byte(c.text), keys)
			if d := cmp.Diff(c.want, f.Values); d != "" || f.Faults != nil {
				t.Errorf("faults %v; (-want +got):\n%s", f.Faults, d)
			}
		})
	}
}

// TestFaults: whatever is wrong is told with its line, all of it at once where that is possible, in words of ours; and
// what is wrong is not among the values.
func TestFaults(t *testing.T) {
	deep := strings.Repeat("[", 20_000)
	for name, c := range map[string]struct {
		text string
		want []string // FILE is the file's name
	}{
		"a wrong value": {"edge: :1\nmax-sessions: many\n", []string{`FILE:2: max-sessions: many is no number`}},
		"unknown keys": {"edg: :1\nEDGE: :1\nmax_sessions: 1\n--admin: :1\nzebra-crossing: 1\nconfig: x\nkey-file: x\n", []string{
			`FILE:1: there is no setting "edg"; do you mean edge?`,
			`FILE:2: there is no setting "EDGE"`,
			`FILE:3: there is no setting "max_sessions"; do you mean max-sessions?`,
			`FILE:4: there is no setting "--admin"; do you mean admin?`,
			`FILE:5: there is no setting "zebra-crossing"`,
			`FILE:6: config stands on the command line or in FOYER_CONFIG only: a file cannot name another one`,
			`FILE:7: there is no setting "key-file"; do you mean cluster-key-file?`,
		}},
		"twice": {"edge: :1\nadmin: :2\nedge: :3\n", []string{`FILE:3: "edge" is set for a second time, after line 1`}},
		"missing": {"edge:\nnode-id: ~\nnamespaces: [a, ~]\ncors-origin:\n  - ''\n", []string{
			`FILE:1: edge: the value is missing`,
			`FILE:2: node-id: the value is missing`,
			`FILE:3: namespaces: it is a list of plain values, and none of them is empty`,
			`FILE:4: cors-origin: it is a list of plain values, and none of them is empty`,
		}},
		"keys below keys":      {"cluster:\n  url: x\ncors:\n  origin: x\n", []string{`FILE:1: cluster: there are no keys below a key; write cluster-url`, `FILE:3: there is no setting "cors"; do you mean cors-origin?`}},
		"an alias":             {"cluster-name: &a x\nnode-id: *a\n", []string{`FILE:1: cluster-name: anchors and aliases (&x and *x) are not taken; write the value out`, `FILE:2: node-id: anchors and aliases (&x and *x) are not taken; write the value out`}},
		"a bomb":               {"namespaces: &a [x, x, x, x, x, x, x, x]\nconnect: [*a, *a, *a, *a, *a, *a, *a, *a]\n", []string{`FILE:1: namespaces: anchors and aliases (&x and *x) are not taken; write the value out`, `FILE:2: connect: anchors and aliases (&x and *x) are not taken; write the value out`}},
		"an alias of none":     {"edge: :1\nnode-id: *a\n", []string{`FILE:1: this is no YAML: anchors and aliases (&x and *x) are not taken; write the value out`}},
		"a merge":              {"<<: {edge: x}\n", []string{`FILE:1: a key is the plain name of a setting`}},
		"a tag":                {"node-id: !!binary eA==\nedge: !x y\n", []string{`FILE:1: node-id: a tag (!x) is not taken; write the value alone`, `FILE:2: edge: a tag (!x) is not taken; write the value alone`}},
		"a key of keys":        {"? [a]\n: b\n", []string{`FILE:1: a key is the plain name of a setting`}},
		"a word":               {"\nedge\n", []string{`FILE:2: settings are written as KEY: VALUE, one a line`}},
		"two documents":        {"edge: :1\n---\nedge: :2\n", []string{`FILE:2: a second document begins here; a file has one`}},
		"a tab":                {"edge: :1\nnamespaces:\n\t- x\n", []string{`FILE:3: this is no YAML: no value begins like this; a tab does not indent, and a value that begins with @, ` + "`" + ` or % needs quotes`}},
		"a colon":              {"edge: :1\npath: a: b\n", []string{`FILE:2: this is no YAML: there is a colon where none can be; is the line indented, or does the value need quotes?`}},
		"an open bracket":      {"edge: [x\n", []string{`FILE:1: this is no YAML: a bracket is not closed`}},
		"an open quote":        {"edge: 'x\n", []string{`FILE:2: this is no YAML: a quote is not closed`}},
		"no text":              {"edge: :1\n\x00\x01", []string{`FILE:2: it is not a text in UTF-8`}},
		"another encoding":     {"edge: :1\nnode-id: \xe4\n", []string{`FILE:2: it is not a text in UTF-8`}},
		"depth":                {"edge: " + deep, []string{`FILE:1: this is no YAML`}},
		"a long key":           {strings.Repeat("k", 1000) + ": 1\n", []string{`FILE:1: there is no setting "` + strings.Repeat("k", 64) + `…"`}},
		"signs for a terminal": {"\"\\e[31mred\": 1\n", []string{`FILE:1: there is no setting "\x1b[31mred"`}},
		"a list":               {"- edge\n", []string{`FILE:1: settings are written as KEY: VALUE, one a line`}},
		"a list of lists":      {"edge: [a]\nnamespaces: [[a]]\n", []string{`FILE:1: edge: it has one value, and this is a list`, `FILE:2: namespaces: it is a list of plain values, and none of them is empty`}},
	} {
		t.Run(name, func(t *testing.T) {
			f := Parse("FILE", []byte(c.text), keys)
			var got []string
			for _, fault := range f.Faults {
				got = append(got, fault.Error())
				for _, key := range fault.Keys {
					if v, ok := f.Values[key]; ok && !strings.Contains(fault.Error(), "second time") && !strings.Contains(fault.Error(), "do you mean") {
						t.Errorf("%s has the value %q, and the fault %q", key, v.Text, fault.Error())
					}
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// FuzzParse: whatever a file has in it, the answer is values of keys that there are, on lines that there are, or faults
// of one line each that a terminal can show.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"edge: :1\n", "a: [b, {c: d}]\n", "? x\n", "a: &b c\nd: *b\n", "%YAML 1.1\n---\n", "namespaces: [a, b]\n", "path: |\n y\n", "api-token-file: x\n"} {
		f.Add([]byte(text))
	}
	names := map[string]bool{}
	for _, k := range keys {
		names[k.Name] = true
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 {
			return
		}
		got := Parse("f", text, keys)
		lines := 1 // as YAML counts them
		for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
			lines += bytes.Count(text, []byte(end))
		}
		for name, v := range got.Values {
			if v.Line < 1 || v.Line > lines || !names[name] {
				t.Errorf("%s stands on line %d of %d", name, v.Line, lines)
			}
		}
		for _, fault := range got.Faults {
			if strings.ContainsAny(fault.Error(), "\n\x1b") || fault.line < 1 || fault.line > lines {
				t.Errorf("a fault is %q", fault.Error())
			}
		}
	})
}
