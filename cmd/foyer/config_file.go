package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// maxConfigBytes bounds a configuration file: all settings at their longest are a tenth of that.
const maxConfigBytes = 256 << 10

// configFile is what a configuration file says: a value for each of its keys, which are the names of flags.
type configFile struct {
	name   string
	values map[string]fileValue
	faults []fault
}

// fileValue is a value as the flag would have it on a command line.
type fileValue struct {
	line int
	text string
}

// fault is one thing that is wrong in a file. Flags are those that it is about.
type fault struct {
	file  string
	line  int
	text  string
	flags []string
}

// Error names the place.
func (f fault) Error() string { return place(f.file, f.line) + ": " + f.text }

func place(file string, line int) string { return file + ":" + strconv.Itoa(line) }

// parseConfig reads the text of a configuration file for commands that have these flags. Values that are wrong are told
// among the faults and left out.
func parseConfig(name string, text []byte, flags []*kong.Flag) *configFile {
	c := &configFile{name: name, values: map[string]fileValue{}}
	root, at, problem := readYAML(text)
	switch {
	case problem != "":
		c.fault(at, problem)
		return c
	case root == nil: // it is empty, or has comments only
		return c
	case root.Kind != yaml.MappingNode:
		c.fault(root.Line, "settings are written as KEY: VALUE, one a line")
		return c
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		switch before, again := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode || key.Anchor != "" || strange(key.Tag) || key.Tag == "!!merge":
			c.fault(key.Line, "a key is the plain name of a setting")
			continue
		case again:
			c.fault(key.Line, fmt.Sprintf("%s is set for a second time, after line %d", shown(key.Value), before), key.Value)
			continue
		}
		seen[key.Value] = key.Line
		c.take(key, value, flags)
	}
	return c
}

func (c *configFile) fault(line int, text string, flags ...string) {
	c.faults = append(c.faults, fault{c.name, line, text, flags})
}

// take notes what one line says.
func (c *configFile) take(key, value *yaml.Node, flags []*kong.Flag) {
	name := key.Value
	i := slices.IndexFunc(flags, func(f *kong.Flag) bool { return f.Name == name })
	if i < 0 {
		known := make([]string, 0, len(flags))
		for _, f := range flags {
			known = append(known, f.Name)
		}
		plain := strings.ReplaceAll(strings.TrimLeft(name, "-"), "_", "-")
		near := nearest(plain, known)
		switch {
		case name == "config":
			c.fault(key.Line, "config stands on the command line or in FOYER_CONFIG only: a file can not name another one", name)
		case len(name) > 64 || near == "":
			c.fault(key.Line, "there is no setting "+shown(name))
		default:
			c.fault(key.Line, "there is no setting "+shown(name)+did(near, ""), near)
		}
		return
	}
	text, err := valueText(flags[i], value, flags)
	if err == nil {
		err = try(flags[i], text)
	}
	if err != nil {
		c.fault(key.Line, name+": "+err.Error(), name)
		return
	}
	if flags[i].Tag.Type == "path" && text != "" && !filepath.IsAbs(text) && !strings.HasPrefix(text, "~") {
		text = filepath.Join(filepath.Dir(c.name), text)
	}
	c.values[name] = fileValue{key.Line, text}
}

// valueText is a value of the file as a command line has it.
func valueText(f *kong.Flag, value *yaml.Node, flags []*kong.Flag) (string, error) {
	if err := plain(value); err != nil {
		return "", err
	}
	switch value.Kind {
	case yaml.ScalarNode:
		if value.Tag == "!!null" {
			return "", errors.New("the value is missing")
		}
		return value.Value, nil
	case yaml.SequenceNode:
		if !f.IsSlice() {
			return "", errors.New("it has one value, and this is a list")
		}
		items := make([]string, 0, len(value.Content))
		for _, item := range value.Content {
			if err := plain(item); err != nil {
				return "", err
			}
			if item.Kind != yaml.ScalarNode || item.Tag == "!!null" || item.Value == "" {
				return "", errors.New("it is a list of plain values, and none of them is empty")
			}
			items = append(items, item.Value)
		}
		return kong.JoinEscaped(items, f.Tag.Sep), nil
	}
	for i := 0; i < len(value.Content); i += 2 {
		whole := f.Name + "-" + value.Content[i].Value
		if slices.ContainsFunc(flags, func(f *kong.Flag) bool { return f.Name == whole }) {
			return "", fmt.Errorf("there are no keys below a key; write %s", whole)
		}
	}
	return "", errors.New("it has a value, and no keys below it")
}

// plain says what is wrong with a node that is more than what it shows.
func plain(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return errors.New("anchors and aliases (&x and *x) are not taken; write the value out")
	case strange(n.Tag):
		return errors.New("a tag (!x) is not taken; write the value alone")
	}
	return nil
}

// strange says whether a tag is none of those that a plain value has by itself.
func strange(tag string) bool {
	return !slices.Contains([]string{"", "!!str", "!!int", "!!float", "!!bool", "!!null", "!!timestamp", "!!seq", "!!map", "!!merge"}, tag)
}

// try says what is wrong with a value of a flag, in the words of a command line.
func try(f *kong.Flag, text string) error {
	target := reflect.New(f.Target.Type()).Elem()
	if err := f.Parse(kong.Scan().PushTyped(text, kong.FlagValueToken), target); err != nil {
		said := strings.TrimPrefix(err.Error(), f.ShortSummary()+": ")
		return errors.New(missingValues.ReplaceAllString(said, "the value is missing"))
	}
	if options := strings.Split(f.Enum, ","); f.Enum != "" && !slices.Contains(options, text) {
		return fmt.Errorf("%q is none of %s", text, strings.Join(options, ", "))
	}
	return nil
}

// shown is a text of the file as it may be told: bounded, and with nothing in it that a terminal obeys.
func shown(text string) string {
	if len(text) > 64 {
		text = strings.ToValidUTF8(text[:64], "") + "…"
	}
	return strconv.Quote(text)
}

// yamlLine is how the library tells where a text is no YAML; it leaves the first line out.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// yamlFaults are the words of the library that people meet, and ours for them.
var yamlFaults = []struct{ theirs, ours string }{
	{"mapping values are not allowed", "there is a colon where none can be; is the line indented, or does the value need quotes?"},
	{"cannot start any token", "no value begins like this; a tab does not indent, and a value that begins with @, ` or % needs quotes"},
	{"could not find expected ':'", "the colon behind the key is missing"},
	{"did not find expected ',' or", "a bracket is not closed"},
	{"unexpected end of stream", "a quote is not closed"},
	{"unknown anchor", "anchors and aliases (&x and *x) are not taken; write the value out"},
}

// readYAML parses a text that has one document: its root, nil if there is none, or what is wrong and where.
func readYAML(text []byte) (root *yaml.Node, line int, problem string) {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 || r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f {
			return nil, 1 + bytes.Count(text[:i], []byte("\n")), "it is not a text in UTF-8"
		}
		i += size
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	err := decoder.Decode(&document)
	if err == nil {
		var second yaml.Node
		if err = decoder.Decode(&second); err == nil && len(second.Content) > 0 {
			return nil, second.Content[0].Line, "a second document begins here; a file has one"
		}
	}
	if err == nil || errors.Is(err, io.EOF) {
		if len(document.Content) == 0 {
			return nil, 0, ""
		}
		root = document.Content[0]
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
			return nil, 0, ""
		}
		return root, 0, ""
	}
	line, problem = 1, "this is no YAML"
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
		for _, f := range yamlFaults {
			if strings.Contains(m[2], f.theirs) {
				problem += ": " + f.ours
				break
			}
		}
	}
	return nil, line, problem
}
