package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// configCommand is about the settings of a node that is not started.
type configCommand struct {
	Show  configShowCommand  `cmd:"" default:"withargs" help:"Print every setting that holds and where its value comes from. It takes the flags of serve, and is what config without more does."`
	Check configCheckCommand `cmd:"" help:"Say all that is wrong with a file of settings. The exit code is 0 when nothing is, and 2 otherwise."`
}

type configShowCommand struct {
	settings
	Output string `short:"o" default:"table" enum:"table,json,yaml" placeholder:"FORMAT" help:"table; json, one setting a line; or yaml, a file for --config, in which defaults and secrets are comments. Default ${default}."`
}

// Run prints the settings.
func (c *configShowCommand) Run(p *parser, command *kong.Context) error {
	rows := settingRows(p, command)
	switch c.Output {
	case "json":
		return writeSettingsJSON(os.Stdout, rows)
	case "yaml":
		return writeSettingsYAML(os.Stdout, rows)
	}
	return writeSettings(os.Stdout, rows)
}

type configCheckCommand struct {
	settings
	File string `arg:"" optional:"" type:"path" help:"The file. Variables and flags are looked at with it, as serve would; the files that it names are not."`
}

// Validate is called by kong.
func (c *configCheckCommand) Validate() error {
	if c.File == "" && c.Config == "" {
		return errors.New("there is no file to check: name it, as in foyer config check foyer.yaml")
	}
	return c.settings.Validate()
}

// Run says that there is no fault: with one, the command line would not have been understood.
func (c *configCheckCommand) Run(p *parser) error {
	n := len(p.source.file.Values)
	_, err := fmt.Fprintf(os.Stdout, "%s is good: it has %d %s\n", p.source.file.Name, n, plural("setting", n))
	return err
}

func plural(what string, n int) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

// settingRow is a setting that holds.
type settingRow struct {
	flag   *kong.Flag
	from   origin
	value  any  // as a file would have it: text, a number, true or false, or texts; nil: the node works it out
	hidden bool // a secret was left out of value
}

// settingRows are those of a command, in the order of their declaration.
func settingRows(p *parser, command *kong.Context) (rows []settingRow) {
	own := map[string]*kong.Flag{}
	for _, f := range allFlags(command.Selected()) {
		own[f.Name] = f
	}
	o := originsOf(command.Selected(), command, p.source)
	for _, declared := range settingFlags(p.Model) {
		f := own[declared.Name]
		row := rowOf(f, f.Target)
		row.from = o.of(f)
		rows = append(rows, row)
	}
	return rows
}

// rowOf is a value of a flag, without secrets.
func rowOf(f *kong.Flag, value reflect.Value) settingRow {
	row := settingRow{flag: f, value: valueOf(value)}
	if text, ok := row.value.(string); ok && f.Tag.Has(secretTag) {
		row.value = hide(text)
		row.hidden = row.value != text
	}
	return row
}

// secretTag marks settings that may have a password in them.
const secretTag = "secret"

// Parts of texts that are secrets: all between the slashes and the last @ of URLs, since a password may have any sign
// in it, and values of passwords in queries.
var (
	userinfo  = regexp.MustCompile(`://.*@`)
	passwords = regexp.MustCompile(`(?i)((?:pass|secret|token|pwd|key)[a-z_-]*=)[^&,\s]*`)
)

// hide is a text without its secrets. A text that is no URL is a secret as a whole.
func hide(text string) string {
	if text == "" {
		return ""
	}
	if !strings.Contains(text, "://") {
		return hiddenText
	}
	return passwords.ReplaceAllString(userinfo.ReplaceAllString(text, "://"+hiddenText+"@"), "${1}"+hiddenText)
}

const hiddenText = "***"

// valueOf is a setting as a file would have it; nil: it is not set, and the node works it out.
func valueOf(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case bool:
		return x
	case string:
		return x
	case byteSize:
		if x == 0 {
			return nil
		}
		return sizeOf(int64(x))
	case memorySize:
		if x == 0 {
			return nil
		}
		return sizeOf(int64(x))
	case int:
		if x == 0 {
			return nil
		}
		return x
	case fmt.Stringer:
		return x.String()
	}
	if v.Kind() == reflect.Slice {
		texts := make([]string, v.Len())
		for i := range texts {
			texts[i] = fmt.Sprint(v.Index(i).Interface())
		}
		return texts
	}
	return v.Interface()
}

// sizeOf is a size in its largest whole unit.
func sizeOf(n int64) any {
	for _, u := range byteUnits {
		if bytes := int64(u.factor); strings.HasSuffix(u.suffix, "iB") && n%bytes == 0 && n/bytes < 1<<10 {
			return fmt.Sprintf("%d%s", n/bytes, u.suffix)
		}
	}
	return n
}

// text is the value for people.
func (r settingRow) text() string {
	switch v := r.value.(type) {
	case nil:
		return "-"
	case []string:
		if len(v) == 0 {
			return "-"
		}
		return strings.Join(v, ",")
	case string:
		if v == "" {
			return "-"
		}
		if strings.ContainsFunc(v, unicode.IsControl) {
			return strconv.Quote(v)
		}
		return v
	default:
		return fmt.Sprint(v)
	}
}

// source is where the value comes from, for people.
func (r settingRow) source() string {
	if r.from.place != "" {
		return r.from.place
	}
	return r.from.kind
}

// writeSettings writes a table.
func writeSettings(w io.Writer, rows []settingRow) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "SETTING\tVALUE\tFROM")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\n", r.flag.Name, r.text(), r.source())
	}
	return table.Flush()
}

// writeSettingsJSON writes an object a line.
func writeSettingsJSON(w io.Writer, rows []settingRow) error {
	encoder := json.NewEncoder(w)
	for _, r := range rows {
		if err := encoder.Encode(struct {
			Setting string `json:"setting"`
			Value   any    `json:"value"`
			From    string `json:"from"`
			Place   string `json:"place,omitempty"`
			Hidden  bool   `json:"hidden,omitempty"`
		}{r.flag.Name, r.value, r.from.kind, r.from.place, r.hidden}); err != nil {
			return err
		}
	}
	return nil
}

// writeSettingsYAML writes a file that says the same as all that the settings come from. Defaults are comments, so that
// a newer version may have better ones.
func writeSettingsYAML(w io.Writer, rows []settingRow) error {
	for _, r := range rows {
		line, err := yamlSetting(r)
		if err != nil {
			return err
		}
		if r.from.kind == "default" || r.value == nil || r.hidden {
			line = "# " + line
		}
		note := r.source()
		if r.hidden {
			note += "; it has a secret, which is not shown"
		}
		if _, err := fmt.Fprintf(w, "%s # %s\n", line, note); err != nil {
			return err
		}
	}
	return nil
}

// yamlSetting is a row as one line of a file.
func yamlSetting(r settingRow) (string, error) {
	if r.value == nil {
		return r.flag.Name + ":", nil
	}
	var value yaml.Node
	if err := value.Encode(r.value); err != nil {
		return "", err
	}
	value.Style |= yaml.FlowStyle
	if text, ok := r.value.(string); ok && strings.ContainsAny(text, "\n\r") {
		value.Style = yaml.DoubleQuotedStyle // a value of several lines would not be one line
	}
	text, err := yaml.Marshal(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: r.flag.Name}, &value}})
	return strings.TrimSpace(string(text)), err
}
