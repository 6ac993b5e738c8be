package deploy

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// root is the root of the repository.
const root = "../.."

func binary(t testing.TB) string {
	t.Helper()
	name, err := filepath.Abs(os.Getenv("FOYER_BIN"))
	if err != nil || os.Getenv("FOYER_BIN") == "" {
		t.Fatalf("FOYER_BIN names no binary: run make test-deploy (%v)", err)
	}
	return name
}

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// output runs a command and is what it says; it fails the test when the command fails.
func output(t testing.TB, command string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), command, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", command, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// secretFiles are where files are that only a real deployment has.
var secretFiles = regexp.MustCompile(`/(etc/foyer|run/secrets)/`)

// wantStart starts a node as a deployment does, with its flags and settings, and wants it to get as far as the first of
// its secret files, none of which is there: its flags and settings are all known, their values are well formed and fit
// together.
func wantStart(t testing.TB, args []string, env map[string]string) {
	t.Helper()
	nowhere := t.TempDir() + "/nowhere/"
	cmd := exec.CommandContext(t.Context(), binary(t))
	for _, a := range args {
		cmd.Args = append(cmd.Args, secretFiles.ReplaceAllString(a, nowhere))
	}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+secretFiles.ReplaceAllString(value, nowhere))
	}
	out, err := cmd.CombinedOutput()
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch said := string(out); {
	case !failed || exit.ExitCode() != 1 || !strings.Contains(said, "there is no file "+nowhere):
		t.Errorf("foyer %q with %q: %v, want it to miss a file of %s:\n%s", args, env, err, nowhere, out)
	case strings.Contains(said, "is not a setting"):
		t.Errorf("foyer %q with %q:\n%s", args, env, out)
	}
}

// endOfDrain is how long a drain lasts at most beyond its notice and its window: cmd/foyer/run.go has lastPoll and end.
const endOfDrain = 7 * time.Second

// wantTimeToStop wants a node of these settings to be given the time that its drain takes, and some seconds more.
func wantTimeToStop(t testing.TB, given time.Duration, env map[string]string) {
	t.Helper()
	drain := duration(t, env["FOYER_DRAIN_NOTICE"]) + duration(t, env["FOYER_DRAIN_WINDOW"]) + endOfDrain
	if given < drain+5*time.Second || given > drain+30*time.Second {
		t.Errorf("a node has %v to stop, and its drain lasts %v", given, drain)
	}
}

func duration(t testing.TB, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
