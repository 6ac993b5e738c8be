// Package configfile reads the text of a configuration file: YAML with a value for each key, and what is wrong with it,
// each fault with its line. It knows neither what the settings are nor where files are. The caller says which keys
// there are.
package configfile

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"foyer/cmd/foyer/near"
)

// MaxBytes bounds a configuration file: all settings at their longest are a tenth of that. Parse takes any text; the
// code that reads the file holds the bound.
const MaxBytes = 256 << 10

// Key is a setting that a file may have.
type Key struct {
	Name      string
	Separator rune                    // what stands between its values on a command line; below 1: it has one value
	Path      bool                    // it names a file, which is looked for where the configuration file is
	Check     func(text string) error // says what is wrong with a value, as it is on a command line; nil: nothing can be
}

// File is what a file says. A value that is wrong is told among the faults and is not among the values.
type File struct {
	Name   string
	Values map[string]Value // by key
	Faults []Fault          // in the order of the file; nil: it is good
}

// Value is a value as it would be on a command line.
type Value struct {
	Line int // from 1
	Text string
}

// Fault is one thing that is wrong in a file.
type Fault struct {
	file string
	line int
	text string
	Keys []string // those that it is about; none: what the file would have set is not known
}

// Error is one line that names the place.
func (f Fault) Error() string { return Place(f.file, f.line) + ": " + f.text }

// Place is a line of a file, as FILE:LINE.
func Place(file string, line int) string { return file + ":" + strconv.Itoa(line) }

// Parse reads the text of the file of that name. It opens no file.
func Parse(name string, text []byte, keys []Key) *File {
	f := &File{Name: name, Values: map[string]Value{}}
	root, at, problem := readYAML(text)
	switch {
	case problem != "":
		f.fault(at, problem)
		return f
	case root == nil: // it is empty, or has comments only
		return f
	case root.Kind != yaml.MappingNode:
		f.fault(root.Line, "settings are written as KEY: VALUE, one a line")
		return f
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		switch before, again := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode || key.Anchor != "" || strange(key.Tag) || key.Tag == "!!merge":
			f.fault(key.Line, "a key is the plain name of a setting")
			continue
		case again:
			f.fault(key.Line, fmt.Sprintf("%s is set for a second time, after line %d", shown(key.Value), before), key.Value)
			continue
		}
		seen[key.Value] = key.Line
		f.take(key, value, keys)
	}
	return f
}

func (f *File) fault(line int, text string, keys ...string) {
	f.Faults = append(f.Faults, Fault{f.Name, line, text, keys})
}

// take notes what one line says.
func (f *File) take(key, value *yaml.Node, keys []Key) {
	name := key.Value
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		f.unknown(key.Line, name, keys)
		return
	}
	text, err := valueText(keys[i], value, keys)
	if err == nil && keys[i].Check != nil {
		err = keys[i].Check(text)
	}
	if err != nil {
		f.fault(key.Line, name+": "+err.Error(), name)
		return
	}
	if keys[i].Path && text != "" && !filepath.IsAbs(text) && !strings.HasPrefix(text, "~") {
		text = filepath.Join(filepath.Dir(f.Name), text)
	}
	f.Values[name] = Value{key.Line, text}
}

// unknown tells of a key that there is not, and which one may be meant.
func (f *File) unknown(line int, name string, keys []Key) {
	known := make([]string, 0, len(keys))
	for _, k := range keys {
		known = append(known, k.Name)
	}
	meant := near.Name(strings.ReplaceAll(strings.TrimLeft(name, "-"), "_", "-"), known)
	switch {
	case name == "config":
		f.fault(line, "config stands on the command line or in FOYER_CONFIG only: a file cannot name another one", name)
	case len(name) > 64 || meant == "":
		f.fault(line, "there is no setting "+shown(name))
	default:
		f.fault(line, "there is no setting "+shown(name)+near.Question(meant), meant)
	}
}

// valueText is a value of the file as a command line has it.
func valueText(k Key, value *yaml.Node, keys []Key) (string, error) {
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
		return listText(k, value.Content)
	}
	for i := 0; i < len(value.Content); i += 2 {
		whole := k.Name + "-" + value.Content[i].Value
		if slices.ContainsFunc(keys, func(k Key) bool { return k.Name == whole }) {
			return "", fmt.Errorf("there are no keys below a key; write %s", whole)
		}
	}
	return "", errors.New("it has a value, and no keys below it")
}

// listText is a list with what separates its values between them, and a backslash before the separators in them.
func listText(k Key, list []*yaml.Node) (string, error) {
	if k.Separator < 1 {
		return "", errors.New("it has one value, and this is a list")
	}
	separator := string(k.Separator)
	items := make([]string, 0, len(list))
	for _, item := range list {
		if err := plain(item); err != nil {
			return "", err
		}
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" || item.Value == "" {
			return "", errors.New("it is a list of plain values, and none of them is empty")
		}
		items = append(items, strings.ReplaceAll(item.Value, separator, `\`+separator))
	}
	return strings.Join(items, separator), nil
}

// shown is a text of the file as it may be told: bounded, and with nothing in it that a terminal obeys.
func shown(text string) string {
	if len(text) > 64 {
		text = strings.ToValidUTF8(text[:64], "") + "…"
	}
	return strconv.Quote(text)
}
