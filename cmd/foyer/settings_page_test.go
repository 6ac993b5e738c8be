package main

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write docs/settings.md instead of comparing it")

const settingsPageFile = "../../docs/settings.md"

// TestSettingsPage: the page of all settings is what their declaration says. `make settings` writes it.
func TestSettingsPage(t *testing.T) {
	flags := settingFlags(shared().parser.Model)
	want := settingsPage(flags)
	if *update {
		if err := os.WriteFile(settingsPageFile, []byte(want), 0o644); err != nil { //nolint:gosec // a page is for everybody
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(settingsPageFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/settings.md is not what the settings say: run make settings")
	}
	for _, f := range flags {
		if f.Help == "" {
			t.Errorf("%s has no help", f.Name)
		}
	}
}

// ownDefault is what a help says of its default, which the page has in a column.
var ownDefault = regexp.MustCompile(`\s*Default:? ([^;]*?)\.$`)

// settingsPage is docs/settings.md.
func settingsPage(flags []*kong.Flag) string {
	var page strings.Builder
	page.WriteString(`# All settings

Each setting of a node, as ` + "`foyer serve --help`" + ` has them: its key in [the file](configuration.md), where it is also a flag with two dashes
before it, its variable, its default and what it is. The third column says what a running node takes up when the file changes: the
setting (yes), what is in the file that it names (content), or nothing until a restart (no). This page is generated from the
declaration of the settings by ` + "`make settings`" + `.

| key and flag, variable | default | taken up | |
| --- | --- | --- | --- |
`)
	for _, f := range flags {
		help, def := f.Help, f.Default
		if m := ownDefault.FindStringSubmatchIndex(help); m != nil {
			def, help = help[m[2]:m[3]], help[:m[0]]
		}
		up := "no"
		if f.Tag.Has(reloadTag) {
			up = "yes"
			if !taken(f) {
				up = ofContent
			}
		}
		if def == "" {
			def = "none"
			if f.Target.Kind() == reflect.Bool {
				def = "off"
			}
		}
		fmt.Fprintf(&page, "| `%s` `--%s`<br>`%s` | %s | %s | %s |\n", f.Name, f.Name, strings.Join(f.Envs, "` `"), cell(def), up, cell(help))
	}
	return page.String()
}

// cell is a text in a table of Markdown.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", "*", `\*`, "\n", " ").Replace(text)
}
