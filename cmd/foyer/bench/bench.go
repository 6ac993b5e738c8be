package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// bench is one run. Whatever goes wrong in it, wherever, fails its context: that is the only thing that its parts wait
// for besides their own.
type bench struct {
	o       *Options
	server  *server
	servers []*server // it and the others of its cluster
	process processes
	driver  driver // nil for scenarios without
	result  *Result
	tally   *tally
	far     *tally                  // of clients at other servers than the one that is asked for emits
	fail    context.CancelCauseFunc // the first reason counts
}

// scenario is what a run does between its beginning and its result.
type scenario struct {
	name   string
	driven bool // needs a driver
	timed  bool // goes on for a time
	sized  bool // has messages
	rooms  bool // has rooms, and a window
	run    func(*bench, context.Context) error
}

func scenarioOf(name string) *scenario {
	for _, s := range []scenario{
		{name: "idle", timed: true, run: (*bench).idle},
		{name: "connect", run: (*bench).connect},
		{name: "upgrade", run: (*bench).upgrade},
		{name: "broadcast", driven: true, timed: true, sized: true, rooms: true, run: (*bench).broadcast},
		{name: "echo", driven: true, timed: true, sized: true, run: (*bench).echo},
		{name: "churn", driven: true, timed: true, rooms: true, run: (*bench).churn},
	} {
		if s.name == name {
			return &s
		}
	}
	return nil
}

// Run runs a scenario. It returns what was found also when that is an error for Result.Err. It blocks until the
// scenario is over or ctx ends, and nothing of it is left then. A server that does not answer is no reason to go on for
// ever: see Options.Patience.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	var servers []*server
	for _, address := range append([]string{o.URL}, o.Others...) {
		to, err := newServer(&o, address)
		if err != nil {
			return nil, err
		}
		servers = append(servers, to)
	}
	b := &bench{
		o: &o, server: servers[0], servers: servers, process: processes(o.ServerPID), tally: newTally(), far: newTally(),
		result: &Result{Scenario: o.Scenario, URL: o.URL, Transport: o.Transport, Clients: o.Clients},
	}
	if _, err := b.process.usage(); err != nil { // better told now than after the crowd has come
		return nil, err
	}
	ctx, b.fail = context.WithCancelCause(ctx)
	defer b.fail(errOver)
	if err := b.await(ctx); err != nil {
		return nil, because(ctx, err)
	}
	s := scenarioOf(o.Scenario)
	if s.driven {
		var err error
		if o.API != "" {
			b.driver, err = newFoyerDriver(ctx, b)
		} else {
			b.driver, err = newEventDriver(ctx, b)
		}
		if err != nil {
			return nil, because(ctx, err)
		}
		defer b.driver.close()
	}
	if err := s.run(b, ctx); err != nil {
		return nil, because(ctx, err)
	}
	return b.result, nil
}

// measure lets what runs go on for the warm-up and then for the time that is measured, and puts what the tally has
// counted in that time into the result. It ends early with errStuck when nothing comes any more: what has not come then
// is lost.
func (b *bench) measure(ctx context.Context) error {
	if err := b.watch(ctx, b.o.Warmup, "warming up"); err != nil {
		return err
	}
	before, err := b.process.usage()
	if err != nil {
		return err
	}
	b.tally.reset()
	b.far.reset()
	began := time.Now()
	stuck := b.watch(ctx, b.o.Duration, "measuring")
	if stuck != nil && !errors.Is(stuck, errStuck) {
		return stuck
	}
	took := time.Since(began)
	after, err := b.process.usage()
	if err != nil {
		return err
	}
	b.result.took(b.tally, took, before, after)
	b.result.tookFar(b.far)
	return stuck
}

// watch passes a time and tells how it goes.
func (b *bench) watch(ctx context.Context, d time.Duration, what string) error {
	began := time.Now()
	seen, came := b.tally.total(), began
	for {
		left := d - time.Since(began)
		if left <= 0 {
			return nil
		}
		step := min(left, time.Second)
		select {
		case <-time.After(step):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		total := b.tally.total()
		switch {
		case total != seen:
			came = time.Now()
		case b.driver != nil && time.Since(came) > b.longestGap():
			return errStuck
		}
		rate := ""
		if b.driver != nil {
			rate = fmt.Sprintf(": %.0f a second", float64(total-seen)/step.Seconds())
		}
		b.say("%s, %.0f s left%s", what, max(0, d-time.Since(began)).Seconds(), rate)
		seen = total
	}
}

// longestGap is how long nothing may come.
func (b *bench) longestGap() time.Duration {
	d := b.server.patience
	if b.o.Rate > 0 {
		d += time.Duration(float64(time.Second) / b.o.Rate)
	}
	return d
}

// settle waits until all that was sent has come, or nothing has for a while.
func (b *bench) settle(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for seen, came := int64(-1), time.Now(); !done() && time.Since(came) < b.server.patience; {
		if total := b.tally.total(); total != seen {
			seen, came = total, time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// soon fails the run unless it is stopped before the server's time for a step is over.
func (b *bench) soon(what string) *time.Timer {
	return time.AfterFunc(b.server.patience, func() { b.fail(fmt.Errorf("%s: %w", what, b.server.errLate())) })
}

func (b *bench) say(format string, args ...any) {
	if b.o.Progress != nil {
		fmt.Fprintf(b.o.Progress, format+"\n", args...)
	}
}

func (b *bench) note(format string, args ...any) {
	if b.o.Notes != nil {
		fmt.Fprintf(b.o.Notes, format+"\n", args...)
	}
}

var (
	// errOver ends what runs beside the measuring.
	errOver = errors.New("the run is over")
	// errStuck ends a measuring to which nothing comes any more.
	errStuck = errors.New("nothing comes any more")
)

// errNothing is the error of a run in which nothing came at all.
func (b *bench) errNothing(event string) error {
	if b.o.API != "" {
		return fmt.Errorf("nothing has come: is the API at %s that of the same node?", b.o.API)
	}
	return fmt.Errorf("nothing has come: does the server's application serve %s?%s", event, forFoyer)
}

// forFoyer ends the errors of an application that does not serve the events.
const forFoyer = " For Foyer name its --api"
