package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"foyer/cmd/foyer/bench"
)

// benchCommand measures any server that speaks Engine.IO v4 and Socket.IO v5.
type benchCommand struct {
	Idle      benchIdle      `cmd:"" help:"What sessions cost that do nothing: memory of each, after a rest."`
	Connect   benchConnect   `cmd:"" help:"How many sessions can be opened and connected in a second."`
	Upgrade   benchUpgrade   `cmd:"" help:"What it costs to move a session from polling to websocket."`
	Broadcast benchBroadcast `cmd:"" help:"What a delivery costs, when a room is emitted to; with --rooms as many as --clients, what an emit costs."`
	Polling   benchPolling   `cmd:"" help:"The same to clients that poll."`
	Echo      benchEcho      `cmd:"" help:"What a client's event and its acknowledgement cost, through a backend where there is an API."`
	Churn     benchChurn     `cmd:"" help:"What it costs to join a room and to leave it."`
}

// benchFlags are those of all scenarios.
type benchFlags struct {
	URL       string `name:"url" default:"http://127.0.0.1:3000" placeholder:"URL" help:"The server, with the path of its protocol when that is not /socket.io/. Default ${default}."`
	Clients   int    `default:"1000" placeholder:"N" help:"How many. Default ${default}."`
	Parallel  int    `default:"64" placeholder:"N" help:"Most connects at once. Default ${default}."`
	ServerPID int    `name:"server-pid" placeholder:"PID" help:"The server's process on this machine: adds its CPU and memory."`
	Output    string `short:"o" default:"table" enum:"table,json" placeholder:"FORMAT" help:"table or json. Default ${default}."`
}

// benchTransport is for scenarios that can poll too.
type benchTransport struct {
	Transport string `default:"websocket" enum:"websocket,polling" placeholder:"NAME" help:"websocket or polling. Default ${default}."`
}

// benchDriven is for scenarios that need the server's help.
type benchDriven struct {
	API          string        `name:"api" placeholder:"ADDR" help:"Foyer's gRPC API. Without it the server's application has to serve the events bench:join, bench:leave, bench:emit and bench:echo."`
	APITokenFile string        `name:"api-token-file" type:"path" placeholder:"FILE" help:"Bearer tokens of the API, of which the first is used."`
	Bytes        int           `default:"100" placeholder:"N" help:"Size of a message. Default ${default}."`
	Warmup       time.Duration `default:"2s" placeholder:"TIME" help:"How long it runs before it is measured. Default ${default}."`
	Seconds      float64       `default:"10" placeholder:"N" help:"How long it is measured. Default ${default}."`
}

type benchIdle struct {
	benchFlags
	benchTransport
	Seconds float64 `default:"5" placeholder:"N" help:"How long the sessions rest. Default ${default}."`
}

// Run measures.
func (c *benchIdle) Run(ctx context.Context) error {
	o := c.options(c.Transport)
	o.Duration = seconds(c.Seconds)
	return c.bench(ctx, "idle", &o)
}

type benchConnect struct {
	benchFlags
	benchTransport
}

// Run measures.
func (c *benchConnect) Run(ctx context.Context) error {
	o := c.options(c.Transport)
	return c.bench(ctx, "connect", &o)
}

type benchUpgrade struct{ benchFlags }

// Run measures.
func (c *benchUpgrade) Run(ctx context.Context) error {
	o := c.options("polling")
	return c.bench(ctx, "upgrade", &o)
}

// benchRooms is how much is emitted, and to what.
type benchRooms struct {
	Rooms  int     `default:"1" placeholder:"N" help:"Over how many rooms the clients are divided. Default ${default}."`
	Window int     `default:"1" placeholder:"N" help:"Most emits in flight: one has landed when all have it. Default ${default}."`
	Rate   float64 `placeholder:"N" help:"Emits a second, with a window that is large enough. Default: as fast as they land."`
}

func (r *benchRooms) fill(o *bench.Options) {
	o.Rooms, o.Window, o.Rate = r.Rooms, r.Window, r.Rate
}

type benchBroadcast struct {
	benchFlags
	benchTransport
	benchDriven
	benchRooms
}

// Run measures.
func (c *benchBroadcast) Run(ctx context.Context) error {
	return c.driven(ctx, "broadcast", c.Transport, &c.benchDriven, c.fill)
}

type benchPolling struct {
	benchFlags
	benchDriven
	benchRooms
}

// Run measures.
func (c *benchPolling) Run(ctx context.Context) error {
	return c.driven(ctx, "broadcast", "polling", &c.benchDriven, c.fill)
}

type benchEcho struct {
	benchFlags
	benchTransport
	benchDriven
}

// Run measures.
func (c *benchEcho) Run(ctx context.Context) error {
	return c.driven(ctx, "echo", c.Transport, &c.benchDriven, func(*bench.Options) {})
}

type benchChurn struct {
	benchFlags
	benchDriven
	Rooms  int `default:"1000" placeholder:"N" help:"How many rooms there are. Default ${default}."`
	Window int `default:"16" placeholder:"N" help:"Calls at once. Default ${default}."`
}

// Run measures.
func (c *benchChurn) Run(ctx context.Context) error {
	return c.driven(ctx, "churn", "websocket", &c.benchDriven, func(o *bench.Options) { o.Rooms, o.Window = c.Rooms, c.Window })
}

// Validate is called by kong.
func (f *benchFlags) Validate() error {
	if f.Clients < 1 || f.Parallel < 1 {
		return errors.New("--clients and --parallel are at least 1")
	}
	return nil
}

func (f *benchFlags) options(transport string) bench.Options {
	o := bench.Options{URL: f.URL, Transport: transport, Clients: f.Clients, Parallel: f.Parallel, ServerPID: f.ServerPID}
	if isTerminal(os.Stderr) {
		o.Progress = os.Stderr
	}
	return o
}

func (f *benchFlags) driven(ctx context.Context, scenario, transport string, d *benchDriven, fill func(*bench.Options)) error {
	o := f.options(transport)
	o.API, o.Bytes, o.Warmup, o.Duration = d.API, d.Bytes, d.Warmup, seconds(d.Seconds)
	if d.APITokenFile != "" {
		tokens, err := readTokens(d.APITokenFile)
		if err != nil {
			return err
		}
		o.Token = tokens[0]
	}
	fill(&o)
	return f.bench(ctx, scenario, &o)
}

// bench runs a scenario and prints what it found. That messages were lost is an error after that.
func (f *benchFlags) bench(ctx context.Context, scenario string, o *bench.Options) error {
	r, err := bench.Run(ctx, scenario, *o)
	if err != nil {
		return fmt.Errorf("bench %s: %w", scenario, err)
	}
	write := r.WriteTable
	if f.Output == "json" {
		write = r.WriteJSON
	}
	return errors.Join(write(os.Stdout), r.Err())
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
