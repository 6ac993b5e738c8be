package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// crowd is a number of clients, each with its reader.
type crowd struct {
	clients []*client
	readers sync.WaitGroup
	stop    func() bool // of the cutting when the run fails
	closing atomic.Bool // and no end of a client is of interest
}

// handler takes a Socket.IO packet that a client has heard, from its type digit on, and when its bytes arrived. It is
// called on the client's own goroutine, and the packet is its only for the call.
type handler func(who *client, packet []byte, at time.Time)

func ignore(*client, []byte, time.Time) {}

// gather connects the clients, of which took is told how long each has taken. Each listens as soon as it is there,
// since those that come later may take longer than a heartbeat; a client that is lost fails the run. Without handle
// none listens.
func (b *bench) gather(ctx context.Context, handle handler, took func(who int, d time.Duration)) (*crowd, error) {
	n := b.o.Clients
	b.say("connecting %d clients", n)
	c := &crowd{clients: make([]*client, n), stop: func() bool { return true }}
	err := each(ctx, n, b.o.Parallel, func(ctx context.Context, i int) error {
		began := time.Now()
		one, err := connect(ctx, i, b.servers[i%len(b.servers)], b.o.Transport)
		if err != nil {
			return fmt.Errorf("client %d of %d: %w", i+1, n, err)
		}
		took(i, time.Since(began))
		c.clients[i] = one
		if handle != nil {
			c.readers.Go(func() {
				err := one.read(func(packet []byte, at time.Time) { handle(one, packet, at) })
				if !c.closing.Load() {
					b.fail(fmt.Errorf("client %d of %d: %w", i+1, n, err))
				}
			})
		}
		return nil
	})
	if err != nil {
		c.close()
		return nil, err
	}
	if handle != nil {
		c.stop = context.AfterFunc(ctx, c.cut) // a goroutine that waits in a write of a client hears of it
	}
	return c, nil
}

func (c *crowd) cut() {
	for _, one := range c.clients {
		if one != nil {
			one.link.close()
		}
	}
}

// close ends all clients and returns when their readers have ended.
func (c *crowd) close() {
	c.closing.Store(true)
	c.stop()
	c.cut()
	c.readers.Wait()
}

// each calls do for 0 to n-1, at most parallel at a time, and returns the first error, which ends the context of the
// others.
func each(ctx context.Context, n, parallel int, do func(ctx context.Context, i int) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(parallel, n) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				if err := do(ctx, i); err != nil {
					fail(err)
					return
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}
