package client

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestVariables: variables say where a node is and how to print, and never what a command does to whom. Each command
// that asks a node tells its exit codes.
func TestVariables(t *testing.T) {
	parser := kong.Must(&Commands{}, kong.Name("foyer"), kong.DefaultEnvars("FOYER"))
	want := []string{
		"FOYER_API", "FOYER_API_CA", "FOYER_API_TLS", "FOYER_API_TOKEN_FILE", "FOYER_CONTEXT", "FOYER_INSECURE", "FOYER_OUTPUT", "FOYER_PATIENCE",
	}
	var got []string
	for _, leaf := range parser.Model.Leaves(true) {
		asks := false
		for _, f := range leaf.Flags {
			got = append(got, f.Envs...)
			asks = asks || f.Name == "patience"
		}
		if told := strings.Contains(leaf.Detail, ExitCodes); told != asks {
			t.Errorf("%s: asks a node: %v, tells exit codes: %v", leaf.Path(), asks, told)
		}
	}
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestMachine: contexts are where the user's settings are, and colours and what shows that a command waits only where
// they are wanted.
func TestMachine(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", "/config")
	if s := Machine(); s.Contexts != "/config/foyer/contexts.yaml" {
		t.Errorf("%+v", s)
	}
	if terminalColour("", "xterm") != true || terminalColour("1", "xterm") || terminalColour("", "dumb") {
		t.Error("the variables do not rule colours")
	}
	s := &System{Out: io.Discard, Err: io.Discard}
	s.wait(func() string { t.Error("it shows that it waits, and this is no terminal"); return "" })()
}
