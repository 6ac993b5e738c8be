package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	e := newEcho(b)
	c, err := b.gather(ctx, e.hear, b.untold)
	if err != nil {
		return err
	}
	defer c.close()
	err = each(ctx, o.Clients, o.Parallel, func(_ context.Context, i int) error { return e.ask(c.clients[i]) })
	if err != nil {
		return err
	}
	stuck := b.measure(ctx)
	e.over.Store(true)
	switch {
	case stuck == nil:
		if err := b.settle(ctx, func() bool { return e.open.Load() == 0 }); err != nil {
			return err
		}
	case !errors.Is(stuck, errStuck):
		return stuck
	}
	if b.tally.ever() == 0 {
		return b.errNothing("bench:echo")
	}
	c.close()
	r.Lost = e.open.Load()
	for _, who := range c.clients {
		r.Duplicated += who.duplicated
	}
	return nil
}

// echo is what the clients of an echo run share.
type echo struct {
	b         *bench
	question  string // behind its id
	answer    []byte // the same
	questions []question
	open      atomic.Int64 // questions without an answer
	over      atomic.Bool  // no more are asked
}

// question is one client's, the one that was asked last. The code that hears its answer asks the next one.
type question struct {
	mu   sync.Mutex // of the asking before the first answer, and of a server that answers before it is asked
	id   int64
	at   time.Time
	open bool
}

func newEcho(b *bench) *echo {
	text := `"` + strings.Repeat("x", b.o.Bytes-len("421000000")-len(echoPrefix)-len(`""]`)) + `"]`
	return &echo{b: b, question: echoPrefix + text, answer: []byte("[" + text), questions: make([]question, b.o.Clients)}
}

func (e *echo) ask(who *client) error {
	q := &e.questions[who.n]
	q.mu.Lock()
	q.id = max(q.id, firstNumber) + 1
	q.at, q.open = time.Now(), true
	id := q.id
	q.mu.Unlock()
	e.open.Add(1)
	return who.link.send(`42` + strconv.FormatInt(id, 10) + e.question)
}

func (e *echo) hear(who *client, packet []byte, at time.Time) {
	if len(packet) == 0 || packet[0] != '3' {
		return
	}
	q := &e.questions[who.n]
	q.mu.Lock()
	asked, expected := q.at, q.open && number(packet[1:]) == q.id
	if expected {
		q.open = false
	}
	q.mu.Unlock()
	if !expected {
		who.duplicated++
		return
	}
	if !bytes.HasSuffix(packet, e.answer) {
		e.b.fail(fmt.Errorf("an echo is answered %.40q", packet))
		return
	}
	e.open.Add(-1)
	e.b.tally.add(who.n, at.Sub(asked))
	if !e.over.Load() {
		if err := e.ask(who); err != nil {
			e.b.fail(err)
		}
	}
}
