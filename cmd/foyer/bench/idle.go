package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// opened connects the clients and notes how long each took.
func (b *bench) opened(ctx context.Context) (*crowd, error) {
	before, err := b.process.usage()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	c, err := b.gather(ctx, ignore, b.tally.add)
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	after, err := b.process.usage()
	if err == nil {
		err = context.Cause(ctx) // one of them may be gone again
	}
	if err != nil {
		c.close()
		return nil, err
	}
	b.result.took(b.tally, took, before, after)
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

// idle is what the memory of sessions is that do nothing, after a rest. All else is as with connect.
//
// What a server that collects its garbage has in memory is up to twice what it keeps, as its last collection fell: two
// runs of the same server differ by a tenth. With Options.Collect both readings follow a collection.
func (b *bench) idle(ctx context.Context) error {
	if err := b.collect(ctx); err != nil {
		return err
	}
	empty, err := b.process.usage()
	if err != nil {
		return err
	}
	c, err := b.opened(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	if err := b.collect(ctx); err != nil {
		return err
	}
	if err := b.watch(ctx, b.o.Duration, "resting"); err != nil {
		return err
	}
	full, err := b.process.usage()
	if err != nil {
		return err
	}
	b.result.ServerRSS = full.rss
	if len(b.o.ServerPID) > 0 {
		perSession := float64(full.rss-empty.rss) / float64(b.o.Clients)
		b.result.RSSPerSession = &perSession
	}
	return nil
}

// collect has the server collect its garbage: twice, as what the first collection finds may go with the second only.
func (b *bench) collect(ctx context.Context) error {
	if b.o.Collect == "" {
		return nil
	}
	client := &http.Client{Transport: &http.Transport{DialContext: b.server.dialer, DisableKeepAlives: true}}
	for range 2 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.o.Collect, nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err != nil {
			return fmt.Errorf("--collect: %w", err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("--collect: %s answers %s", b.o.Collect, answer.Status)
		}
	}
	return nil
}

// upgrade is what it costs to move sessions from polling to WebSocket.
func (b *bench) upgrade(ctx context.Context) error {
	c, err := b.gather(ctx, nil, b.untold)
	if err != nil {
		return err
	}
	defer c.close()
	before, err := b.process.usage()
	if err != nil {
		return err
	}
	b.say("upgrading them")
	began := time.Now()
	err = each(ctx, len(c.clients), b.o.Parallel, func(ctx context.Context, i int) error {
		began := time.Now()
		if err := c.clients[i].upgrade(ctx, b.server); err != nil {
			return fmt.Errorf("upgrade of client %d: %w", i+1, err)
		}
		b.tally.add(i, time.Since(began))
		return nil
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := b.process.usage()
	b.result.took(b.tally, took, before, after)
	return err
}
