package client

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"foyer/cmd/foyer/near"
)

// contexts are places of nodes by name, as their file has them. A token is not in it, only the name of its file.
type contexts struct {
	Use      string                    `yaml:"use,omitempty"`
	Contexts map[string]*storedContext `yaml:"contexts"`
}

// storedContext is one context.
type storedContext struct {
	API       string `yaml:"api" json:"api"`
	TLS       bool   `yaml:"api-tls,omitempty" json:"apiTls,omitempty"`
	CA        string `yaml:"api-ca,omitempty" json:"apiCa,omitempty"`
	TokenFile string `yaml:"api-token-file,omitempty" json:"apiTokenFile,omitempty"`
}

type namedContext struct {
	name string
	*storedContext
}

// context is the one of this name, or, without a name, the one in use; nil: there is none in use.
func (s *System) context(name string) (*namedContext, error) {
	all, err := s.readContexts()
	if err != nil {
		return nil, err
	}
	where := "--context"
	if name == "" {
		name, where = all.Use, "contexts: "+s.Contexts+": use"
	}
	if name == "" {
		return nil, nil //nolint:nilnil // there does not have to be one
	}
	one, err := all.find(where, name)
	if err != nil {
		return nil, err
	}
	return &namedContext{name, one}, nil
}

func (c *contexts) names() []string { return slices.Sorted(maps.Keys(c.Contexts)) }

// find is the context of a name that stands somewhere.
func (c *contexts) find(where, name string) (*storedContext, error) {
	if one := c.Contexts[name]; one != nil {
		return one, nil
	}
	more := ": there is none yet; foyer context set makes one"
	if names := c.names(); len(names) > 0 {
		more = "; foyer context lists those that there are"
		if n := near.Name(name, names); n != "" {
			more = near.Question(n)
		}
	}
	return nil, failure(Usage, "%s: there is no context %q%s", where, name, more)
}

var (
	contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	noSuchKey   = regexp.MustCompile(`line (\d+): field (.*) not found in type`)
	yamlLine    = regexp.MustCompile(`line (\d+): (.*)`)
)

// readContexts reads the file; none is an empty one.
func (s *System) readContexts() (*contexts, error) {
	all := &contexts{Contexts: map[string]*storedContext{}}
	if s.Contexts == "" {
		return all, nil
	}
	if _, err := os.Stat(s.Contexts); errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	text, err := readFile("contexts", s.Contexts)
	if err != nil {
		return nil, failure(Usage, "%v", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	switch err := decoder.Decode(all); {
	case err == nil:
	case err.Error() == "EOF": // nothing is in it
	default:
		return nil, failure(Usage, "contexts: %s: %s", s.Contexts, inYAML(err))
	}
	if all.Contexts == nil { // there is the key, and nothing below it
		all.Contexts = map[string]*storedContext{}
	}
	for _, name := range all.names() {
		if one := all.Contexts[name]; one == nil || one.API == "" {
			return nil, failure(Usage, "contexts: %s: context %q has no api", s.Contexts, name)
		}
	}
	return all, nil
}

// inYAML says in one line what is wrong with the file.
func inYAML(err error) string {
	if m := noSuchKey.FindStringSubmatch(err.Error()); m != nil {
		text := fmt.Sprintf("line %s: there is no key %q", m[1], m[2])
		return text + near.Question(near.Name(m[2], []string{"use", "contexts", "api", "api-tls", "api-ca", "api-token-file"}))
	}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		return "line " + m[1] + ": " + m[2]
	}
	return err.Error()
}

// writeContexts puts a new file in place of the old one in one step: a program that reads meanwhile has one or the
// other.
func (s *System) writeContexts(all *contexts) error {
	if s.Contexts == "" {
		return failure(Failed, "contexts: there is no place for them: neither HOME nor XDG_CONFIG_HOME is set")
	}
	path := s.Contexts
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to // the link stays
	}
	text, err := yaml.Marshal(all)
	if err != nil {
		return err
	}
	if err := replaceFile(path, text); err != nil {
		return failure(Failed, "contexts: %v", err)
	}
	return nil
}

func replaceFile(path string, text []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".contexts-*") // for its owner alone
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	return err
}
