package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// Options say what is measured and how. Every field has to be set where its comment names no default.
type Options struct {
	URL   string // of the server, with the path of the protocol: "/socket.io/" when it has none
	API   string // host:port of Foyer's gRPC API; "": the server's application serves events, see the package comment
	Token string // bearer token of the API; default none

	Transport string // "websocket" or "polling"
	Clients   int
	Parallel  int           // most connects at once
	Rooms     int           // broadcast: over which the clients are divided; churn: which they join and leave
	Window    int           // broadcast: most emits in flight; one has landed when all have it. churn: calls at once
	Rate      float64       // broadcast: emits a second, Window still being the most in flight; 0: as fast as they land
	Bytes     int           // of a message, that is of one Engine.IO packet
	Warmup    time.Duration // runs before it is measured
	Duration  time.Duration // measured; for idle how long the crowd rests before its memory is read

	ServerPID int       // for the server's CPU and memory; 0: not told
	Progress  io.Writer // gets a line a second; nil: none
}

// bench is one run.
type bench struct {
	o      *Options
	url    *url.URL
	server process
	driver driver // nil for scenarios without
	result *Result
	tally  *tally
}

// scenario is what a run does between its beginning and its result.
type scenario struct {
	name   string
	driven bool // needs a driver
	run    func(*bench, context.Context) error
}

// Run runs a scenario by name: one of Scenarios. It returns what was found also when that is an error for Result.Err. It
// blocks until the scenario is over or ctx ends, and nothing of it is left then.
func Run(ctx context.Context, name string, o Options) (*Result, error) {
	b := &bench{o: &o, server: process{o.ServerPID}, tally: newTally()}
	for _, s := range scenarios {
		if s.name != name {
			continue
		}
		var err error
		if b.url, err = serverURL(o.URL); err != nil {
			return nil, err
		}
		b.result = &Result{Scenario: name, URL: o.URL, Transport: o.Transport, Clients: o.Clients}
		if s.driven {
			if o.API != "" {
				b.driver, err = newFoyerDriver(ctx, o.API, o.Token, o.Bytes)
			} else {
				b.driver, err = newEventDriver(ctx, b.url, o.Bytes)
			}
			if err != nil {
				return nil, err
			}
			defer b.driver.close()
		}
		if err := s.run(b, ctx); err != nil {
			return nil, err
		}
		b.result.ServerRSS, err = b.server.rss()
		return b.result, err
	}
	return nil, fmt.Errorf("there is no scenario %q", name)
}

var scenarios = []scenario{
	{"idle", false, (*bench).idle},
	{"connect", false, (*bench).connect},
	{"upgrade", false, (*bench).upgrade},
	{"broadcast", true, (*bench).broadcast},
	{"echo", true, (*bench).echo},
	{"churn", true, (*bench).churn},
}

func serverURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL of the form http://host:port", s)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/socket.io/"
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	return u, nil
}

// gather connects the clients.
func (b *bench) gather(ctx context.Context) (*crowd, error) {
	b.say("connecting %d clients", b.o.Clients)
	return gather(ctx, b.url, b.o.Clients, b.o.Parallel, b.o.Transport, func(int, time.Duration) {})
}

// measure lets what runs go on for the warm-up and then for the time that is measured, and puts what the tally has counted
// in that time into the result.
func (b *bench) measure(ctx context.Context, c *crowd) error {
	if err := b.watch(ctx, c, b.o.Warmup, "warming up"); err != nil {
		return err
	}
	cpu, err := b.server.cpu()
	if err != nil {
		return err
	}
	b.tally.reset()
	began := time.Now()
	if err := b.watch(ctx, c, b.o.Duration, "measuring"); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := b.server.cpu()
	if err != nil {
		return err
	}
	b.result.took(b.tally, took, after-cpu)
	return nil
}

// watch passes a time, tells how it goes, and ends early when something has gone wrong.
func (b *bench) watch(ctx context.Context, c *crowd, d time.Duration, what string) error {
	seen := b.tally.total()
	for began := time.Now(); ; {
		left := d - time.Since(began)
		if left <= 0 {
			return nil
		}
		step := min(left, time.Second)
		if err := c.wait(ctx, step); err != nil {
			return err
		}
		if b.driver != nil {
			if err := b.driver.err(); err != nil {
				return err
			}
		}
		total := b.tally.total()
		b.say("%s, %.0f s left: %.0f a second", what, (d - time.Since(began)).Seconds(), float64(total-seen)/step.Seconds())
		seen = total
	}
}

func (b *bench) say(format string, args ...any) {
	if b.o.Progress != nil {
		fmt.Fprintf(b.o.Progress, format+"\n", args...)
	}
}

// errOver ends what runs beside the measuring.
var errOver = errors.New("the run is over")
