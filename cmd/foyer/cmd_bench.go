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
	Idle      benchIdle      `cmd:"" help:"What sessions cost that do nothing: memory of each, after a rest. For a server that has just started: one that had clients before grows less."`
	Connect   benchConnect   `cmd:"" help:"How many sessions can be opened and connected in a second."`
	Upgrade   benchUpgrade   `cmd:"" help:"What it costs to move a session from polling to websocket."`
	Broadcast benchBroadcast `cmd:"" help:"What a delivery costs, when a room is emitted to; with --rooms as many as --clients, what an emit costs."`
	Polling   benchPolling   `cmd:"" help:"The same to clients that poll."`
	Echo      benchEcho      `cmd:"" help:"What a client's event and its acknowledgement cost, through a backend where there is an API."`
	Churn     benchChurn     `cmd:"" help:"What it costs to join a room and to leave it."`
}

// benchFlags are those of all scenarios.
type benchFlags struct {
	URL       string        `name:"url" default:"http://127.0.0.1:3000" placeholder:"URL" help:"The server, with the path of its protocol when that is not /socket.io/. Default ${default}."`
	Insecure  bool          `help:"Take any certificate, the server's and the API's."`
	Clients   int           `default:"1000" placeholder:"N" help:"How many. Default ${default}."`
	Parallel  int           `default:"64" placeholder:"N" help:"Most connects at once. Default ${default}."`
	Patience  time.Duration `default:"15s" placeholder:"TIME" help:"How long the server may take for any one step, and to be there at all; what has not come by then is lost. Default ${default}."`
	ServerPID []int         `name:"server-pid" placeholder:"PID,..." help:"The server's process on this machine, or those of a cluster: adds its CPU and memory."`
	Output    string        `short:"o" default:"table" enum:"table,json" placeholder:"FORMAT" help:"table or json. Default ${default}."`
}

// benchTransport is for scenarios that can poll too.
type benchTransport struct {
	Transport string `default:"websocket" enum:"websocket,polling" placeholder:"NAME" help:"websocket or polling. Default ${default}."`
}

// benchDriven is for scenarios that need the server's help.
type benchDriven struct {
	API          string        `name:"api" placeholder:"ADDR" help:"Foyer's gRPC API. Without it the server's application has to serve the events bench:join, bench:leave, bench:emit and bench:echo."`
	APITLS       bool          `name:"api-tls" help:"The API is served by TLS."`
	APITokenFile string        `name:"api-token-file" type:"path" placeholder:"FILE" help:"Bearer tokens of the API, of which the first is used."`
	Warmup       time.Duration `default:"2s" placeholder:"TIME" help:"How long it runs before it is measured. Default ${default}."`
	Seconds      float64       `default:"10" placeholder:"N" help:"How long it is measured. Default ${default}."`
}

// benchSize is for scenarios with messages.
type benchSize struct {
	Bytes int `default:"100" placeholder:"N" help:"Size of a message. Default ${default}."`
}

type benchIdle struct {
	benchFlags
	benchTransport
	Seconds float64 `default:"5" placeholder:"N" help:"How long the sessions rest. Default ${default}."`
	Collect string  `placeholder:"URL" help:"What has the server collect its garbage before its memory is read: of Foyer with --pprof, http://ADMIN/debug/pprof/heap?gc=1. Default: it does when it likes, and two runs differ."`
}

func (c *benchIdle) options() *bench.Options {
	o := c.benchFlags.options("idle", c.Transport)
	o.Duration, o.Collect = seconds(c.Seconds), c.Collect
	return o
}

// Validate is called by kong, as that of the others.
func (c *benchIdle) Validate() error { return c.options().Validate() }

// Run measures, as that of the others.
func (c *benchIdle) Run(ctx context.Context) error { return c.measure(ctx, c.options()) }

type benchConnect struct {
	benchFlags
	benchTransport
}

func (c *benchConnect) options() *bench.Options { return c.benchFlags.options("connect", c.Transport) }

func (c *benchConnect) Validate() error               { return c.options().Validate() }
func (c *benchConnect) Run(ctx context.Context) error { return c.measure(ctx, c.options()) }

type benchUpgrade struct{ benchFlags }

func (c *benchUpgrade) options() *bench.Options { return c.benchFlags.options("upgrade", "polling") }

func (c *benchUpgrade) Validate() error               { return c.options().Validate() }
func (c *benchUpgrade) Run(ctx context.Context) error { return c.measure(ctx, c.options()) }

// benchRooms is how much is emitted, and to what.
type benchRooms struct {
	Rooms  int     `default:"1" placeholder:"N" help:"Over how many rooms the clients are divided. Default ${default}."`
	Window int     `default:"1" placeholder:"N" help:"Most emits in flight: one has landed when all have it. Default ${default}."`
	Rate   float64 `placeholder:"N" help:"Emits a second, with a window that is large enough. Default: as fast as they land."`
}

func (r *benchRooms) fill(o *bench.Options) { o.Rooms, o.Window, o.Rate = r.Rooms, r.Window, r.Rate }

type benchBroadcast struct {
	benchFlags
	benchTransport
	benchDriven
	benchSize
	benchRooms
	Others []string `placeholder:"URL,..." help:"Further servers of its cluster: the clients are divided over all, and the first one is asked for the emits. How long deliveries to the others take is told apart."`
}

func (c *benchBroadcast) options() *bench.Options {
	o := c.benchFlags.options("broadcast", c.Transport)
	c.benchDriven.fill(o)
	c.benchRooms.fill(o)
	o.Bytes, o.Others = c.Bytes, c.Others
	return o
}

func (c *benchBroadcast) Validate() error { return c.options().Validate() }

func (c *benchBroadcast) Run(ctx context.Context) error {
	return c.drive(ctx, &c.benchFlags, c.options())
}

type benchPolling struct {
	benchFlags
	benchDriven
	benchSize
	benchRooms
}

func (c *benchPolling) options() *bench.Options {
	o := c.benchFlags.options("broadcast", "polling")
	c.benchDriven.fill(o)
	c.benchRooms.fill(o)
	o.Bytes = c.Bytes
	return o
}

func (c *benchPolling) Validate() error { return c.options().Validate() }

func (c *benchPolling) Run(ctx context.Context) error {
	return c.drive(ctx, &c.benchFlags, c.options())
}

type benchEcho struct {
	benchFlags
	benchTransport
	benchDriven
	benchSize
}

func (c *benchEcho) options() *bench.Options {
	o := c.benchFlags.options("echo", c.Transport)
	c.fill(o)
	o.Bytes = c.Bytes
	return o
}

func (c *benchEcho) Validate() error               { return c.options().Validate() }
func (c *benchEcho) Run(ctx context.Context) error { return c.drive(ctx, &c.benchFlags, c.options()) }

type benchChurn struct {
	benchFlags
	benchDriven
	Rooms  int `default:"1000" placeholder:"N" help:"How many rooms there are. Default ${default}."`
	Window int `default:"16" placeholder:"N" help:"Calls at once. Default ${default}."`
}

func (c *benchChurn) options() *bench.Options {
	o := c.benchFlags.options("churn", "websocket")
	c.fill(o)
	o.Rooms, o.Window = c.Rooms, c.Window
	return o
}

func (c *benchChurn) Validate() error               { return c.options().Validate() }
func (c *benchChurn) Run(ctx context.Context) error { return c.drive(ctx, &c.benchFlags, c.options()) }

func (f *benchFlags) options(scenario, transport string) *bench.Options {
	o := &bench.Options{
		Scenario: scenario, URL: f.URL, Insecure: f.Insecure, Transport: transport, Clients: f.Clients, Parallel: f.Parallel,
		Patience: f.Patience, ServerPID: f.ServerPID, Notes: os.Stderr,
	}
	if isTerminal(os.Stderr) {
		o.Progress = os.Stderr
	}
	return o
}

func (d *benchDriven) fill(o *bench.Options) {
	o.API, o.APITLS, o.Warmup, o.Duration = d.API, d.APITLS, d.Warmup, seconds(d.Seconds)
}

// drive measures with the API's token.
func (d *benchDriven) drive(ctx context.Context, f *benchFlags, o *bench.Options) error {
	if d.APITokenFile != "" {
		tokens, err := readTokens("--api-token-file", d.APITokenFile)
		if err != nil {
			return err
		}
		o.Token = tokens[0]
	}
	return f.measure(ctx, o)
}

// measure runs a scenario and prints what it found. That messages were lost is an error after that.
func (f *benchFlags) measure(ctx context.Context, o *bench.Options) error {
	r, err := bench.Run(ctx, *o)
	if err != nil {
		return fmt.Errorf("bench %s: %w", o.Scenario, err)
	}
	write := r.WriteTable
	if f.Output == "json" {
		write = r.WriteJSON
	}
	return errors.Join(write(os.Stdout), r.Err())
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
