package deploy

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"helm.sh/helm/v3/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// TestDeployPage: the commands of docs/deploy.md are of files, services, settings and targets that there are.
func TestDeployPage(t *testing.T) {
	page := read(t, "docs/deploy.md")
	makefile, p := read(t, "Makefile"), project(t, types.Mapping{})
	there := func(name string) {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	seen := map[string]int{}
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page, -1) {
		for line := range strings.Lines(strings.ReplaceAll(block[1], "\\\n", "")) {
			words := strings.Fields(line)
			what := words[0]
			if what == "sudo" {
				words = words[1:]
				what = words[0]
			}
			seen[what]++
			switch what {
			case "make":
				if !strings.Contains(makefile, "\n"+words[1]+":") {
					t.Errorf("there is no target of %s", line)
				}
			case "export":
				if !strings.Contains(makefile, "\nVERSION          := $(shell "+strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), `export VERSION="$(`), `)"`)+" ") {
					t.Errorf("make has another version than %s", line)
				}
			case "sh":
				there(words[1])
			case "bin/foyer":
				output(t, binary(t), "healthcheck", "--help")
				if words[1] != "healthcheck" || words[2] != "--ready" {
					t.Errorf("no test runs %s", line)
				}
			case "install":
				if file := words[len(words)-2]; !strings.HasPrefix(file, "bin/") && file != "foyer-files" {
					there(file)
				}
			case "docker":
				for i, w := range words {
					if w == "-f" {
						there(words[i+1])
					}
				}
				if words[1] == "run" {
					wantPublished(t, words)
				}
				if last := words[len(words)-1]; strings.Contains(line, "--no-deps") && p.Services[last].Image == "" {
					t.Errorf("there is no service of %s", line)
				}
			case "helm":
				renderLine(t, line)
			case "kubectl", "systemctl", "systemd-sysusers":
			default:
				t.Errorf("no test knows %s", line)
			}
		}
	}
	if seen["helm"] != 7 || seen["docker"] != 7 || seen["install"] != 6 {
		t.Errorf("commands %v", seen)
	}
	// What the files themselves say is the same.
	for _, name := range []string{"deploy/compose.yaml", "deploy/Dockerfile"} {
		for _, command := range regexp.MustCompile(`(?m)^#   (.*)$`).FindAllStringSubmatch(read(t, name), -1) {
			if !strings.Contains(page, "\n"+command[1]+"\n") {
				t.Errorf("%s says %s, and the page does not", name, command[1])
			}
		}
	}
	if tag := regexp.MustCompile(`(?m)^appVersion: (\S+)$`).FindStringSubmatch(read(t, "deploy/chart/Chart.yaml")); !strings.Contains(page, " image.tag="+tag[1]+"\n") {
		t.Errorf("the chart takes %s by itself, and the page another one", tag[1])
	}
	for _, file := range regexp.MustCompile(`(?m)^Documentation=file://(\S+)$`).FindAllStringSubmatch(read(t, "deploy/systemd/foyer.service"), -1) {
		if !strings.Contains(page, " "+file[1]+"\n") {
			t.Errorf("the unit names %s, which no command installs", file[1])
		}
	}
	for _, port := range stages(t)[2].all("EXPOSE") {
		for number := range strings.FieldsSeq(port) {
			if !strings.Contains(page, "| "+number+" | `--") {
				t.Errorf("the page does not say what port %s is", number)
			}
		}
	}
}

// wantPublished wants a node in a container to listen at each port that is published, and to take the settings that it
// is given.
func wantPublished(t *testing.T, words []string) {
	t.Helper()
	env, ports := map[string]string{"FOYER_EDGE": ":3000"}, []string{}
	for i, w := range words[1:] {
		switch words[i] {
		case "-e":
			name, value, _ := strings.Cut(w, "=")
			env[name] = value
		case "-p":
			ports = append(ports, w[strings.LastIndex(w, ":"):])
		}
	}
	wantStart(t, []string{"serve"}, env)
	for _, port := range ports {
		if !slices.Contains(slices.Collect(maps.Values(env)), port) {
			t.Errorf("nobody listens at %s of the container: %v", port, env)
		}
	}
}

// renderLine renders the chart with the values of a command line of Helm.
func renderLine(t *testing.T, line string) {
	t.Helper()
	values := map[string]any{}
	for _, m := range regexp.MustCompile(`--(set|set-string) (\S+)`).FindAllStringSubmatch(line, -1) {
		parse := strvals.ParseInto
		if m[1] == "set-string" {
			parse = strvals.ParseIntoString
		}
		if err := parse(m[2], values); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	text, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := render(t, string(text))
	if err != nil || objects["StatefulSet/foyer"] == nil || !strings.Contains(line, " deploy/chart ") {
		t.Errorf("%s: %v", line, err)
	}
	wantReached(t, objects, objects["StatefulSet/foyer"])
}
