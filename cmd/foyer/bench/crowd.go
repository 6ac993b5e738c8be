package bench

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// crowd is a number of clients, each with its reader.
type crowd struct {
	clients []*client
	readers sync.WaitGroup
	closing atomic.Bool
	ended   chan error // 1: the first client whose connection ended by itself
}

// gather connects n clients, at most parallel at a time. took is told how long each has taken.
func gather(ctx context.Context, u *url.URL, n, parallel int, transport string, took func(who int, d time.Duration)) (*crowd, error) {
	c := &crowd{clients: make([]*client, n), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(parallel, n) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				began := time.Now()
				one, err := connect(ctx, i, u, transport)
				if err != nil {
					cancel(fmt.Errorf("client %d of %d: %w", i+1, n, err))
					return
				}
				took(i, time.Since(began))
				c.clients[i] = one
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// listen makes every client read; handle is called on the client's own goroutine.
func (c *crowd) listen(handle func(who *client, packet []byte, at time.Time)) {
	for _, one := range c.clients {
		c.readers.Go(func() {
			err := one.read(func(packet []byte, at time.Time) { handle(one, packet, at) })
			if !c.closing.Load() {
				select {
				case c.ended <- fmt.Errorf("client %d: %w", one.n+1, err):
				default:
				}
			}
		})
	}
}

// close ends all clients and returns when their readers have ended.
func (c *crowd) close() {
	c.closing.Store(true)
	for _, one := range c.clients {
		if one != nil {
			one.link.close()
		}
	}
	c.readers.Wait()
}

// wait passes d, unless ctx or a client ends before.
func (c *crowd) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case err := <-c.ended:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
