package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"foyer/cmd/foyer/configfile"
)

// fileSetting is the flag that names the configuration file. Commands without it have no such file.
const fileSetting = "config"

// parser reads command lines, variables and, for commands that have a configuration file, that file. Later wins: the
// file, then variables, then the command line.
type parser struct {
	*kong.Kong
	source *fileSource
}

// Parse reads a command line. The error tells all that is wrong, with the file as well; explain puts it into words. It
// may be called again, and overwrites then what was filled in before.
func (p *parser) Parse(args []string) (*kong.Context, error) {
	*p.source = fileSource{content: p.source.content}
	p.forget()
	ctx, err := p.Kong.Parse(args)
	if s := p.source; s.unread != nil || s.file != nil && len(s.file.Faults) > 0 {
		return ctx, &wrongFile{s, ctx, err}
	}
	return ctx, err
}

// forget has the model as it was before a command line was read: kong leaves marks of that in it.
func (p *parser) forget() {
	_ = kong.Visit(p.Model, func(at kong.Visitable, next kong.Next) error {
		switch at := at.(type) {
		case *kong.Application:
			at.Active = false
		case *kong.Node:
			at.Active = false
		case *kong.Value:
			at.Active, at.Set = false, false
		}
		return next(nil)
	})
}

// wrongFile is an error that a configuration file has caused, with whatever else is wrong.
type wrongFile struct {
	source *fileSource
	at     *kong.Context
	rest   error // nil: nothing
}

func (e *wrongFile) Error() string { return "the configuration file is wrong" }
func (e *wrongFile) Unwrap() error { return e.rest }

// fileSource is the resolver of kong's that takes values from a configuration file.
type fileSource struct {
	content []byte // what the file says; nil: it is read

	looked bool
	text   []byte           // what was read
	unread error            // why it could not be read
	file   *configfile.File // nil: there is none
}

// Validate is called by kong.
func (s *fileSource) Validate(*kong.Application) error { return nil }

// Resolve is called by kong for each flag that is not on the command line, once variables and defaults are in place.
func (s *fileSource) Resolve(c *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
	if !s.looked {
		s.looked = true
		s.look(c)
	}
	if s.file == nil || fromVariable(f) != "" {
		return nil, nil
	}
	if v, ok := s.file.Values[f.Name]; ok {
		return v.Text, nil
	}
	return nil, nil
}

// look reads the file that the command line or a variable names.
func (s *fileSource) look(c *kong.Context) {
	name, flag := nameOfFile(c)
	if name == "" {
		return
	}
	text := s.content
	if text == nil {
		var err error
		if text, err = readBounded(name, configfile.MaxBytes); err != nil {
			s.unread = fileError(source{flag, name}, err)
			return
		}
	}
	s.text = text
	s.file = configfile.Parse(name, text, keysOf(settingFlags(c.Model)))
}

// keysOf are flags as keys of a file.
func keysOf(flags []*kong.Flag) []configfile.Key {
	keys := make([]configfile.Key, len(flags))
	for i, f := range flags {
		keys[i] = configfile.Key{Name: f.Name, Path: f.Tag.Type == "path", Check: func(text string) error { return try(f, text) }}
		if f.IsSlice() {
			keys[i].Separator = f.Tag.Sep
		}
	}
	return keys
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

// nameOfFile is the configuration file of a command, and by which word of the command line it is named; "": none.
func nameOfFile(c *kong.Context) (name, word string) {
	var argument string
	for _, p := range c.Path {
		if p.Positional != nil && p.Positional.Name == "file" {
			argument, _ = c.Value(p).Interface().(string)
		}
		for _, f := range p.Flags {
			if v, ok := c.FlagValue(f).(string); ok && f.Name == fileSetting {
				name, word = v, "--"+fileSetting
			}
		}
	}
	if word != "" && argument != "" {
		return argument, "FILE"
	}
	return name, word
}

// settingFlags are the settings of a node, which are the keys of a configuration file.
func settingFlags(model *kong.Application) []*kong.Flag {
	for _, command := range model.Children {
		if command.Name == "serve" {
			return slices.DeleteFunc(slices.Clone(command.Flags), func(f *kong.Flag) bool { return f.Name == fileSetting || f.Name == "help" })
		}
	}
	return nil
}

// origin says where a value comes from.
type origin struct {
	kind  string // flag, variable, file or default
	place string // --edge, FOYER_EDGE or FILE:LINE; "" for a default
}

// origins knows where the values of a command's flags come from. A nil context: the command line was not understood.
type origins struct {
	node  *kong.Node
	given map[string]bool
	file  *configfile.File // nil: none
}

func originsOf(at *kong.Node, c *kong.Context, s *fileSource) origins {
	o := origins{node: at, given: map[string]bool{}, file: s.file}
	if c == nil {
		return o
	}
	for _, p := range c.Path {
		if p.Flag != nil && !p.Resolved {
			o.given[p.Flag.Name] = true
		}
	}
	return o
}

func (o origins) of(f *kong.Flag) origin {
	if o.given[f.Name] {
		return origin{"flag", "--" + f.Name}
	}
	if name := fromVariable(f); name != "" {
		return origin{"variable", name}
	}
	if o.file != nil {
		if v, ok := o.file.Values[f.Name]; ok {
			return origin{"file", configfile.Place(o.file.Name, v.Line)}
		}
	}
	return origin{kind: "default"}
}

// fromVariable is the variable that sets a flag; "": none does.
func fromVariable(f *kong.Flag) string {
	for _, name := range f.Envs {
		if _, ok := os.LookupEnv(name); ok {
			return name
		}
	}
	return ""
}

// anyFlag is a flag within a text.
var anyFlag = regexp.MustCompile(`--[a-z0-9]+(-[a-z0-9]+)*`)

// blame names the variable or the line of the file in place of the flag where that is what was set.
func (o origins) blame(line string) string {
	m := leadingFlag.FindStringSubmatch(line)
	if m == nil {
		return line
	}
	flags := allFlags(o.node)
	i := slices.IndexFunc(flags, func(f *kong.Flag) bool { return f.Name == m[1] })
	if i < 0 {
		return line
	}
	switch from := o.of(flags[i]); from.kind {
	case "variable":
		return from.place + strings.TrimPrefix(line, m[0])
	case "file":
		return from.place + ": " + anyFlag.ReplaceAllStringFunc(line, func(flag string) string { return flag[2:] })
	}
	return line
}

// told are the lines that say what is wrong with a command line, its variables and its file.
func (p *parser) told(err error) (lines []string, at *kong.Node) {
	var c *kong.Context
	wrong, inFile := errors.AsType[*wrongFile](err)
	if inFile {
		c, err = wrong.at, wrong.rest
	}
	if e, ok := errors.AsType[*kong.ParseError](err); ok {
		c = e.Context
	}
	if c != nil {
		at = c.Selected()
	}
	if at == nil {
		at = p.Model.Node
	}
	o := originsOf(at, c, p.source)
	var about []string
	if inFile {
		if wrong.source.unread != nil {
			return []string{o.blame(wrong.source.unread.Error())}, at
		}
		for _, f := range wrong.source.file.Faults {
			if lines = append(lines, f.Error()); len(f.Keys) == 0 {
				err = nil // nobody knows what it would have set, and so what is wrong without it
			}
			about = append(about, f.Keys...)
		}
	}
	if err == nil {
		return lines, at
	}
	text := err.Error()
	if at.Parent != nil {
		text = strings.TrimPrefix(text, at.Path()+": ")
	}
	for line := range strings.SplitSeq(text, "\n") {
		// A value that is left out because it is wrong can make another one look wrong.
		if !slices.ContainsFunc(anyFlag.FindAllString(line, -1), func(flag string) bool { return slices.Contains(about, flag[2:]) }) {
			lines = append(lines, o.blame(phrase(at, line)))
			if p := at.Parent; strings.HasPrefix(lines[len(lines)-1], "there is no command") && p != nil && p.DefaultCmd == at {
				at = p // whose name it was not that was given
			}
		}
	}
	return lines, at
}

// explain says what is wrong with a command line: each fault by its flag, its variable or its line, and at the end
// where help is.
func explain(p *parser, err error) string {
	lines, at := p.told(err)
	text := "foyer: " + strings.Join(lines, "\nfoyer: ")
	if wrong, ok := errors.AsType[*wrongFile](err); ok && wrong.rest == nil && wrong.source.unread == nil {
		return text // each line has its place
	}
	return text + " (see " + at.FullPath() + " --help)"
}

// explainFailure says why a command that was understood has failed.
func explainFailure(p *parser, command *kong.Context, err error) string {
	return "foyer: " + originsOf(command.Selected(), command, p.source).blame(err.Error())
}
