package bench

import (
	"context"
	"time"
)

// opened connects the clients and notes how long each took.
func (b *bench) opened(ctx context.Context) (*crowd, error) {
	b.say("connecting %d clients", b.o.Clients)
	cpu, err := b.server.cpu()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	c, err := gather(ctx, b.url, b.o.Clients, b.o.Parallel, b.o.Transport, b.tally.add)
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := b.server.cpu()
	if err != nil {
		c.close()
		return nil, err
	}
	b.result.took(b.tally, took, after-cpu)
	b.result.ConnectsPerSecond = b.result.PerSecond
	return c, nil
}

// connect is what it costs to open sessions and to connect them to "/".
func (b *bench) connect(ctx context.Context) error {
	c, err := b.opened(ctx)
	if err != nil {
		return err
	}
	c.close()
	return nil
}

// idle is what sessions cost that do nothing: their memory, after a rest, and what the rest took of the server's CPU.
func (b *bench) idle(ctx context.Context) error {
	empty, err := b.server.rss()
	if err != nil {
		return err
	}
	c, err := b.opened(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	c.listen(func(*client, []byte, time.Time) {})
	if err := b.watch(ctx, c, b.o.Duration, "resting"); err != nil {
		return err
	}
	full, err := b.server.rss()
	b.result.RSSPerSession = float64(full-empty) / float64(b.o.Clients)
	return err
}

// upgrade is what it costs to move sessions from polling to WebSocket.
func (b *bench) upgrade(ctx context.Context) error {
	b.say("connecting %d clients", b.o.Clients)
	c, err := gather(ctx, b.url, b.o.Clients, b.o.Parallel, transportPolling, func(int, time.Duration) {})
	if err != nil {
		return err
	}
	defer c.close()
	cpu, err := b.server.cpu()
	if err != nil {
		return err
	}
	b.say("upgrading them")
	began := time.Now()
	err = each(ctx, c.clients, b.o.Parallel, func(who *client) error {
		began := time.Now()
		if err := who.upgrade(ctx, b.url); err != nil {
			return err
		}
		b.tally.add(who.n, time.Since(began))
		return nil
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := b.server.cpu()
	b.result.took(b.tally, took, after-cpu)
	return err
}
