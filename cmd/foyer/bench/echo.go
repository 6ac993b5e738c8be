package bench

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// echo has every client ask and wait for its acknowledgement, one question of each in flight.
func (b *bench) echo(ctx context.Context) error {
	o, r := b.o, b.result
	r.Window, r.Bytes = o.Clients, o.Bytes
	if err := b.driver.echo(ctx); err != nil {
		return err
	}
	c, err := b.gather(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	text := echoPrefix + `"` + strings.Repeat("x", max(o.Bytes-len("421000")-len(echoPrefix)-len(`""]`), 0)) + `"]`
	asks := make([]ask, o.Clients)
	var stopped atomic.Bool
	var talking sync.WaitGroup
	put := func(who *client) error {
		a := &asks[who.n]
		a.id++
		a.at, a.answered = time.Now(), false
		return who.link.send(`42` + strconv.FormatInt(a.id, 10) + text)
	}
	for _, who := range c.clients {
		talking.Add(1)
		if err := put(who); err != nil {
			return err
		}
	}
	// The next question is asked by who hears the answer to the last one: its goroutine owns asks[who.n].
	c.listen(func(who *client, packet []byte, at time.Time) {
		if len(packet) == 0 || packet[0] != '3' {
			return
		}
		a := &asks[who.n]
		switch id := number(packet[1:]); {
		case id < a.id || a.answered:
			who.duplicated++
			return
		case id > a.id:
			who.lost++ // an answer to what was never asked
			return
		}
		a.answered = true
		b.tally.add(who.n, at.Sub(a.at))
		if stopped.Load() {
			talking.Done()
			return
		}
		if put(who) != nil {
			a.answered = true // the reader finds out why
			talking.Done()
		}
	})
	if err := b.measure(ctx, c); err != nil {
		return err
	}
	stopped.Store(true)
	quiet := make(chan struct{})
	go func() {
		defer close(quiet)
		talking.Wait()
	}()
	select {
	case <-quiet:
	case <-time.After(patience):
	}
	c.close()
	for i, who := range c.clients {
		r.Lost += who.lost
		r.Duplicated += who.duplicated
		if !asks[i].answered {
			r.Lost++
			talking.Done()
		}
	}
	<-quiet
	if r.Deliveries == 0 {
		return errors.Join(b.driver.err(), errors.New("nothing was acknowledged: does the server's application serve bench:echo?"))
	}
	return nil
}

// ask is one client's question.
type ask struct {
	id       int64
	at       time.Time
	answered bool
}
