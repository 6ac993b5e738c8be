package bench

import (
	"context"
	"sync"
	"time"
)

// churn lets clients join rooms and leave them again, Window calls at a time. A pair of join and leave is one operation.
func (b *bench) churn(ctx context.Context) error {
	o, r := b.o, b.result
	r.Rooms, r.Window = o.Rooms, o.Window
	c, err := b.gather(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	c.listen(func(_ *client, packet []byte, _ time.Time) {
		if len(packet) > 0 && packet[0] == '3' {
			b.driver.acknowledged(packet)
		}
	})
	moving, stop := context.WithCancelCause(ctx)
	defer stop(errOver)
	var movers sync.WaitGroup
	failed := make(chan error, 1)
	for i := range min(o.Window, o.Clients) {
		movers.Go(func() {
			for n := i; moving.Err() == nil; n += o.Window {
				began := time.Now()
				if err := b.driver.toggle(moving, c.clients[n%o.Clients], roomOf(n%o.Rooms)); err != nil {
					if moving.Err() == nil {
						stop(err)
						select {
						case failed <- err:
						default:
						}
					}
					return
				}
				b.tally.add(i, time.Since(began))
			}
		})
	}
	err = b.measure(ctx, c)
	stop(errOver)
	movers.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return err
	}
}
