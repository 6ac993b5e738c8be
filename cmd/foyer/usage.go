package main

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"foyer/cmd/foyer/client"
	"foyer/cmd/foyer/near"
)

// newParser reads command lines, variables and the configuration file. What it says of wrong ones is to be put into
// words by explain.
func newParser(c any, options ...kong.Option) *parser {
	all := kong.NewRegistry().RegisterDefaults()
	kind := func(k reflect.Kind, v any, is string) kong.Option {
		return kong.KindMapper(k, worded{all.ForType(reflect.TypeOf(v)), is})
	}
	source := &fileSource{}
	p := &parser{kong.Must(c, append([]kong.Option{
		kong.Name("foyer"),
		kong.Description("Realtime message router: Socket.IO for browsers, gRPC for backends. A flag whose help names a variable, such as $FOYER_API, can be given by that; a setting of a node also by the file that --config names.\n\n" + client.ExitCodes),
		kong.DefaultEnvars("FOYER"),
		kind(reflect.Int, 0, "a whole number"),
		kind(reflect.Float64, 0.0, "a number"),
		kind(reflect.Bool, false, "true or false"),
		kind(reflect.String, "", "text"),
		kong.TypeMapper(reflect.TypeFor[time.Duration](), worded{all.ForType(reflect.TypeFor[time.Duration]()), "a time, such as 10s or 5m"}),
		kong.TypeMapper(reflect.TypeFor[netip.Prefix](), worded{all.ForType(reflect.TypeFor[netip.Prefix]()), "a network, such as 10.0.0.0/8 or fd00::/8"}),
		kong.NamedMapper("path", worded{all.ForNamedType("path", reflect.TypeFor[string]()), "the name of a file"}),
		kong.Resolvers(source),
	}, options...)...), source}
	p.Model.HelpFlag.Help = "Say what there is, and what each flag does."
	return p
}

// worded is a mapper of kong's that says in our words what is wrong with a value.
type worded struct {
	kong.Mapper
	is string // what a value is
}

// Decode is called by kong.
func (w worded) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	token := ctx.Scan.Peek()
	if target.Kind() != reflect.Bool && !token.IsValue() {
		if text := token.String(); strings.HasPrefix(text, "-") && !strings.HasPrefix(text, "--") {
			return fmt.Errorf("the value is missing; one that begins with a dash is written with =, as in --%s=%s", ctx.Value.Name, text)
		}
		return errors.New("the value is missing")
	}
	if err := w.Mapper.Decode(ctx, target); err != nil {
		return fmt.Errorf("%q is not %s", token.String(), w.is)
	}
	return nil
}

// Phrases of kong that are not ours. The test of command lines holds them.
var (
	fromEnv       = regexp.MustCompile(` \(from envar [A-Z0-9_]+=".*"\)$`)
	unknownFlag   = regexp.MustCompile(`^unknown flag (\S+?)(, did you mean .*)?$`)
	unexpected    = regexp.MustCompile(`^unexpected argument (.*?)(, did you mean .*)?$`)
	unwanted      = regexp.MustCompile(`^unexpected flag argument (.*)$`)
	noneOf        = regexp.MustCompile(`^(--\S+|<[a-z]+>) must be one of (.*) but got (".*")$`)
	missingValues = regexp.MustCompile(`(missing value, expecting|expected \S+ value but got) .*$`)
	lacks         = regexp.MustCompile(`^expected "(.*)"$`)
	lackingFlags  = regexp.MustCompile(`^missing flags: (--[a-z-]+)`)
	argument      = regexp.MustCompile(`<([a-z]+)>`)
	leadingFlag   = regexp.MustCompile(`^--([a-z0-9-]+)`)
)

// phrase puts a line of kong's into our words.
func phrase(at *kong.Node, line string) string {
	line = fromEnv.ReplaceAllString(line, "")
	line = missingValues.ReplaceAllString(line, "the value is missing")
	if m := unknownFlag.FindStringSubmatch(line); m != nil {
		for _, c := range at.Children {
			if "--"+c.Name == m[1] {
				return fmt.Sprintf("there is no flag %s; do you mean %s?", m[1], c.FullPath())
			}
		}
		meant := near.Name(strings.TrimLeft(m[1], "-"), flagsOf(at))
		if meant != "" {
			meant = "--" + meant
		}
		return "there is no flag " + m[1] + near.Question(meant)
	}
	if m := unexpected.FindStringSubmatch(line); m != nil {
		if p := at.Parent; p != nil && p.DefaultCmd == at { // its name was left out, as that of another one may be meant
			if meant := near.Name(m[1], namesOf(p.Children)); meant != "" {
				return fmt.Sprintf("there is no command %q%s", m[1], near.Question(meant))
			}
		}
		if len(at.Children) == 0 {
			takes := "flags only"
			if len(at.Positional) > 0 {
				takes = positionals(at) + " and flags only"
			}
			return fmt.Sprintf("%q is not understood: %s takes %s", m[1], at.FullPath(), takes)
		}
		names := namesOf(at.Children)
		if meant := near.Name(m[1], names); meant != "" {
			return fmt.Sprintf("there is no command %q%s", m[1], near.Question(meant))
		}
		return fmt.Sprintf("there is no command %q: there are %s", m[1], strings.Join(names, ", "))
	}
	if m := lacks.FindStringSubmatch(line); m != nil && len(at.Positional) > 0 {
		return fmt.Sprintf("%s is missing: %s takes %s", strings.TrimSuffix(argumentNames(m[1]), "..."), at.FullPath(), positionals(at))
	}
	if m := lackingFlags.FindStringSubmatch(line); m != nil {
		return m[1] + ": the value is missing"
	}
	if m := unwanted.FindStringSubmatch(line); m != nil {
		return m[1] + " follows a flag that takes no value"
	}
	if m := noneOf.FindStringSubmatch(line); m != nil {
		return fmt.Sprintf("%s: %s is none of %s", argumentNames(m[1]), m[3], strings.ReplaceAll(strings.ReplaceAll(m[2], `"`, ""), ",", ", "))
	}
	return line
}

// positionals are the arguments of a command, as EVENT [ARGS].
func positionals(at *kong.Node) string {
	names := make([]string, len(at.Positional))
	for i, p := range at.Positional {
		names[i] = p.Summary()
	}
	return argumentNames(strings.Join(names, " "))
}

// argumentNames has arguments in capitals in place of angle brackets.
func argumentNames(text string) string {
	text = strings.ReplaceAll(text, " ...", "...")
	return argument.ReplaceAllStringFunc(text, func(name string) string { return strings.ToUpper(name[1 : len(name)-1]) })
}

func allFlags(at *kong.Node) (flags []*kong.Flag) {
	for _, group := range at.AllFlags(false) {
		flags = append(flags, group...)
	}
	return flags
}

func namesOf(commands []*kong.Node) (names []string) {
	for _, c := range commands {
		names = append(names, c.Name)
	}
	return names
}

func flagsOf(at *kong.Node) (names []string) {
	for _, f := range allFlags(at) {
		names = append(names, f.Name)
	}
	return names
}
