package configfile

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

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
			return nil, second.Line, "a second document begins here; a file has one"
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
