// Foyer is the front hall of an application's realtime traffic: browsers come in with the stock Socket.IO client,
// backends reach them through one gRPC API.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"

	"foyer/cmd/foyer/client"
)

// version is set by the build; a plain `go build` tells what it knows.
var version = ""

// Exit codes of all commands: a wrong command line or setting, and everything else. Those that ask a node have more.
const (
	exitFailure = client.Failed
	exitUsage   = client.Usage
)

type commands struct {
	Serve  serveCommand  `cmd:"" help:"Run a node."`
	Demo   demoCommand   `cmd:"" help:"Run a node with the chat: its page at /, its backend in the same process."`
	Config configCommand `cmd:"" help:"Print the settings of a node and where each comes from, or check a file of them."`
	Bench  benchCommand  `cmd:"" help:"Measure a Socket.IO server, this one or another."`

	Healthcheck healthcheckCommand `cmd:"" help:"Ask the node of this machine how it is: exit code 0, or 1 and why not."`

	Version versionCommand `cmd:"" help:"Print the version."`

	client.Commands
}

func main() { os.Exit(newCommandLine().start(os.Args[1:])) }

// commandLine is the parser of all commands and what it fills in. To make one takes far longer than to read with it.
type commandLine struct {
	commands commands
	parser   *parser
	exited   int // the exit code of --help; -1: that was not asked for
}

func newCommandLine() *commandLine {
	l := &commandLine{}
	l.parser = newParser(&l.commands, kong.Exit(func(code int) { l.exited = code }))
	return l
}

// start runs a command and returns the exit code.
func (l *commandLine) start(args []string) int {
	parser := l.parser
	l.exited = -1
	if len(args) > 0 && args[0] == client.CompleteCommand {
		client.Complete(parser.Model, client.Machine(), args[1:])
		return 0
	}
	switch {
	case len(args) == 0 || len(args) == 1 && args[0] == "bench": // nothing is asked for: say what there is
		args = append(args, "--help")
	case args[0] == "help": // as other programs have it
		args = append(slices.Clone(args[1:]), "--help")
	}
	command, err := parser.Parse(args)
	switch {
	case l.exited >= 0: // --help
		return l.exited
	case err != nil:
		fmt.Fprintln(os.Stderr, explain(parser, err))
		return exitUsage
	}
	unknown := straysOf(parser.Model, os.Environ())
	if name := command.Command(); name != "serve" && name != "demo" { // a node has a log for them
		for _, text := range unknown {
			fmt.Fprintf(os.Stderr, "foyer: %s\n", text)
		}
	}
	command.Bind(parser.launch(args, unknown))
	command.Bind(parser)
	// The first signal begins the drain; by then its catching has ended, so that a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	defer stop()
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(client.Machine())
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, explainFailure(parser, command, err))
		return client.CodeOf(err)
	}
	return 0
}

type serveCommand struct{ settings }

// Run runs a node, as that of the demo.
func (c *serveCommand) Run(ctx context.Context, l launch) error {
	return run(ctx, &c.settings, false, l)
}

type demoCommand struct{ settings }

func (c *demoCommand) Run(ctx context.Context, l launch) error {
	return run(ctx, &c.settings, true, l)
}

type versionCommand struct{}

func (versionCommand) Run() error {
	_, err := fmt.Printf("foyer %s %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
