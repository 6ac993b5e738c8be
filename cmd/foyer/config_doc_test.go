package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestConfigurationPage: the file that the page shows is good, its commands do what they say, and its faults are told
// in those words.
func TestConfigurationPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := map[string][]string{}
	for _, m := range regexp.MustCompile("(?s)```([a-z]*)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		blocks[m[1]] = append(blocks[m[1]], m[2])
	}
	t.Chdir(t.TempDir())
	run := func(line string) (out, told string, code int) {
		t.Helper()
		words := strings.Fields(line)
		for ; strings.Contains(words[0], "="); words = words[1:] {
			name, value, _ := strings.Cut(words[0], "=")
			t.Setenv(name, value)
		}
		if words[0] != "bin/foyer" {
			t.Fatalf("%q is no command of ours", line)
		}
		return say(t, words[1:]...)
	}
	write := func(text string) {
		if err := os.WriteFile("foyer.yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(blocks["yaml"][0])
	for _, command := range blocks["sh"] {
		if strings.HasPrefix(command, "kill ") { // TestConfigurationIsTakenUp sends the signal
			continue
		}
		if args, serves := strings.CutPrefix(command, "bin/foyer serve "); serves { // a node that runs is for other tests
			if _, err := parse(t, strings.Fields(args)...); err != nil {
				t.Errorf("%s: %v", command, err)
			}
			continue
		}
		if out, told, code := run(command); code != 0 || told != "" || out == "" {
			t.Errorf("%s: code %d, %q", command, code, told)
		}
	}
	write("edge: :1\nadmin: ''\nmax-sesions: 5\nping-interval: 20\n")
	_, told, code := run("bin/foyer config check foyer.yaml")
	dir, _ := os.Getwd()
	if got := strings.ReplaceAll(told, dir+"/", "/home/me/"); got != blocks[""][0] || code != exitUsage {
		t.Errorf("code %d, and it says\n%s, not\n%s", code, got, blocks[""][0])
	}
}
