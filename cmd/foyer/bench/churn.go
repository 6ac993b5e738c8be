package bench

import (
	"context"
	"errors"
	"sync"
	"time"
)

// churn lets clients join rooms and leave them again, Window calls at a time. A pair of join and leave is one
// operation.
func (b *bench) churn(ctx context.Context) error {
	o, r := b.o, b.result
	r.Rooms, r.Window = o.Rooms, o.Window
	c, err := b.gather(ctx, func(_ *client, packet []byte, _ time.Time) {
		if len(packet) > 0 && packet[0] == '3' {
			b.driver.acknowledged(packet)
		}
	}, b.untold)
	if err != nil {
		return err
	}
	defer c.close()
	moving, stop := context.WithCancelCause(ctx)
	defer stop(errOver)
	rooms := roomNames(o.Rooms)
	var movers sync.WaitGroup
	for i := range min(o.Window, o.Clients) {
		movers.Go(func() {
			for n := i; moving.Err() == nil; n += o.Window {
				began := time.Now()
				if err := b.driver.toggle(ctx, c.clients[n%o.Clients], rooms[n%o.Rooms]); err != nil { // to its end, also when the time is over
					b.fail(err)
					return
				}
				b.tally.add(i, time.Since(began))
			}
		})
	}
	err = b.measure(ctx)
	stop(errOver)
	movers.Wait()
	if errors.Is(err, errStuck) {
		return b.errNothing("bench:join and bench:leave")
	}
	return because(ctx, err)
}
