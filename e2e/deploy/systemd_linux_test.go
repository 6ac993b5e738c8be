package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// unit is the service's file with the binary that there is in place of the one that is installed.
func unit(t *testing.T) string {
	t.Helper()
	text := read(t, "deploy/systemd/foyer.service")
	if strings.Count(text, "/usr/local/bin/foyer ") != 2 {
		t.Fatal("the unit runs another binary than /usr/local/bin/foyer")
	}
	file := filepath.Join(t.TempDir(), "foyer.service")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/usr/local/bin/foyer ", binary(t)+" ")), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestUnit: systemd understands every line of the unit, and finds it well enclosed.
func TestUnit(t *testing.T) {
	file := unit(t)
	if said := output(t, "systemd-analyze", "verify", "--man=no", file); said != "" {
		t.Error(said)
	}
	// In tenths: 1.2 of 10. What is left is what a server cannot do without.
	if said := output(t, "systemd-analyze", "security", "--offline=true", "--threshold=12", "--no-pager", file); !strings.Contains(said, "Overall exposure level") {
		t.Error(said)
	}
	users, err := filepath.Abs(root + "/deploy/systemd/foyer.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	output(t, "systemd-sysusers", "--dry-run", users)
}

// environment reads a file of the form that systemd reads.
func environment(t *testing.T, text string) map[string]string {
	t.Helper()
	env := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !regexp.MustCompile(`^[A-Z_]+$`).MatchString(name) || strings.ContainsAny(value, "\"' ") {
			t.Errorf("%q is not plain", line)
		}
		env[name] = value
	}
	return env
}

// TestUnitSettings: the settings are known, those that are commented out also, and the unit's times fit them.
func TestUnitSettings(t *testing.T) {
	text := read(t, "deploy/systemd/foyer.env")
	env := environment(t, text)
	all := environment(t, regexp.MustCompile(`(?m)^#(\w+=)`).ReplaceAllString(text, "$1"))
	if len(all) < len(env)+6 {
		t.Fatalf("%d settings, %d of them commented out", len(all), len(all)-len(env))
	}
	unit := read(t, "deploy/systemd/foyer.service")
	line := regexp.MustCompile(`(?m)^ExecStart=\S+ (.*)$`).FindStringSubmatch(unit)
	wantStart(t, strings.Fields(line[1]), all)

	value := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return m[1]
	}
	wantTimeToStop(t, duration(t, value("TimeoutStopSec")), env)
	memory := map[string]int{"2G": 2048}[value("MemoryMax")]
	if env["GOMEMLIMIT"] != "1536MiB" || memory*3/4 != 1536 {
		t.Errorf("GOMEMLIMIT %s is not three quarters of MemoryMax %s", env["GOMEMLIMIT"], value("MemoryMax"))
	}
	waits := regexp.MustCompile(`(?m)^ExecStartPost=.* --patience (\S+)$`).FindStringSubmatch(unit)
	if duration(t, waits[1]) >= duration(t, value("TimeoutStartSec")) {
		t.Error("the start is given up before the node is")
	}
}
