package lives

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// splitAfter is how long nothing of its own may come back to a life. It is longer than servers have for an answer,
// since what comes back waits behind what is sent.
const splitAfter = 15 * time.Second

// Course is how a life goes: loops run until the first of them ends, and what the life says comes back to it.
type Course struct {
	Context context.Context // ends with the life

	cancel context.CancelFunc
	breaks func(why error)
	split  error
	over   chan struct{} // closed by End
	once   sync.Once
	err    error // set before over is closed
	ended  sync.WaitGroup

	missing uint8         // owned by the caller of Echo: ways by which nothing has come back yet
	whole   chan struct{} // closed when none is left
	echoed  atomic.Int64  // when something came back last, in nanoseconds since the epoch
}

// Begin is called first. breaks breaks what the loops wait for, so that they end; it is called once. split is why a
// life ends to which nothing comes back by each of so many ways.
func (c *Course) Begin(ctx context.Context, ways int, split error, breaks func(why error)) {
	c.Context, c.cancel = context.WithCancel(ctx)
	c.missing, c.split, c.breaks = 1<<ways-1, split, breaks
	c.over, c.whole = make(chan struct{}), make(chan struct{})
	c.echoed.Store(time.Now().UnixNano())
}

// Run runs loops until the life is over.
func (c *Course) Run(loops ...func() error) {
	for _, run := range loops {
		c.ended.Go(func() { c.End(run()) })
	}
}

// Over implements Life.
func (c *Course) Over() <-chan struct{} { return c.over }

// End implements Life.
func (c *Course) End(why error) {
	c.once.Do(func() {
		c.err = why
		close(c.over)
		c.breaks(why)
		c.cancel()
	})
}

// Bury implements Life.
func (c *Course) Bury() error {
	<-c.over
	c.once.Do(func() {}) // End may be called by somebody else than a loop
	c.ended.Wait()
	return c.err
}

// Echo notes that something of this life's own has come back by one of its ways. It is called by one goroutine.
func (c *Course) Echo(way int) {
	c.echoed.Store(time.Now().UnixNano())
	if c.missing &^= 1 << way; c.missing == 0 {
		select {
		case <-c.whole:
		default:
			close(c.whole)
		}
	}
}

// Whole waits until something has come back by each way. When that is not so in time it ends the life, and returns why
// it ended; it does not bury it.
func (c *Course) Whole(most time.Duration) error {
	wait := time.NewTimer(most)
	defer wait.Stop()
	select {
	case <-c.whole:
		return nil
	case <-c.Context.Done():
		c.End(c.Context.Err())
	case <-wait.C:
		c.End(c.split)
	case <-c.over:
	}
	return c.err
}

// Probe is a loop that asks again and again, and ends when nothing comes back. ask is told for how long nothing has.
func (c *Course) Probe(every time.Duration, ask func(silent time.Duration) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-c.over:
			return nil
		case <-tick.C:
		}
		silent := time.Since(time.Unix(0, c.echoed.Load()))
		if silent > splitAfter {
			return c.split
		}
		if err := ask(silent); err != nil {
			return err
		}
	}
}
