package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// driver lets the server do what clients by themselves can not ask for.
type driver interface {
	// join puts each client into the room that room names for it.
	join(ctx context.Context, clients []*client, room func(who *client) string) error
	// toggle lets a client join a room and leave it again.
	toggle(ctx context.Context, who *client, room string) error
	// emit has events sent: one to each room, with the number of the same place. It may return before they are.
	emit(rooms []string, numbers []int64) error
	// echo has the clients' "bench:echo" acknowledged.
	echo(ctx context.Context) error
	// acknowledged takes an ACK packet that a client of the crowd has heard.
	acknowledged(packet []byte)
	// err is why the driver can not go on; nil while it can.
	err() error
	close()
}

// eventDriver asks the server's own application by events; see the package comment. Joins go by the clients' own links,
// which must be listening by then.
type eventDriver struct {
	control *client
	pad     string
	failed  atomic.Pointer[error]
	reading sync.WaitGroup
	acks    ackTable
}

func newEventDriver(ctx context.Context, u *url.URL, bytes int) (*eventDriver, error) {
	control, err := connect(ctx, 0, u, transportWebSocket)
	if err != nil {
		return nil, err
	}
	d := &eventDriver{control: control, pad: pad(bytes)}
	d.reading.Go(func() {
		if err := control.read(func([]byte, time.Time) {}); err != nil {
			d.failed.CompareAndSwap(nil, &err)
		}
	})
	return d, nil
}

func (d *eventDriver) join(ctx context.Context, clients []*client, room func(who *client) string) error {
	return each(ctx, clients, 64, func(who *client) error { return d.ask(ctx, who, "bench:join", room(who)) })
}

func (d *eventDriver) toggle(ctx context.Context, who *client, room string) error {
	if err := d.ask(ctx, who, "bench:join", room); err != nil {
		return err
	}
	return d.ask(ctx, who, "bench:leave", room)
}

func (d *eventDriver) ask(ctx context.Context, who *client, event, room string) error {
	id, came := d.acks.begin()
	if err := who.link.send(`42` + strconv.FormatInt(id, 10) + `["` + event + `","` + room + `"]`); err != nil {
		return err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-came:
		return nil
	case <-timer.C:
		return fmt.Errorf("%s is not acknowledged: does the server's application serve it?", event)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (d *eventDriver) acknowledged(packet []byte) { d.acks.end(number(packet[1:])) }

func (d *eventDriver) emit(rooms []string, numbers []int64) error {
	packets := make([]string, len(rooms))
	for i := range rooms {
		packets[i] = `42["bench:emit","` + rooms[i] + `",` + strconv.FormatInt(numbers[i], 10) + `,"` + d.pad + `"]`
	}
	return d.control.link.send(packets...)
}

func (d *eventDriver) echo(context.Context) error { return nil }

func (d *eventDriver) err() error {
	if err := d.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (d *eventDriver) close() {
	d.control.link.close()
	d.reading.Wait()
}

// ackTable finds who waits for an acknowledgement by its id.
type ackTable struct {
	mu      sync.Mutex
	last    int64
	waiting map[int64]chan struct{}
}

func (t *ackTable) begin() (id int64, came <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting == nil {
		t.waiting = map[int64]chan struct{}{}
	}
	t.last++
	c := make(chan struct{})
	t.waiting[t.last] = c
	return t.last, c
}

func (t *ackTable) end(id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.waiting[id]; c != nil {
		close(c)
		delete(t.waiting, id)
	}
}

// each calls do for every client, at most parallel at a time, and returns the first error.
func each(ctx context.Context, clients []*client, parallel int, do func(*client) error) error {
	var (
		next    atomic.Int64
		workers sync.WaitGroup
		once    sync.Once
		failed  error
	)
	for range min(parallel, len(clients)) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(clients) || ctx.Err() != nil {
					return
				}
				if err := do(clients[i]); err != nil {
					once.Do(func() { failed = err })
					next.Store(int64(len(clients)))
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(failed, context.Cause(ctx))
}

// roomOf is a room of which there are many.
func roomOf(i int) string { return "bench-" + strconv.Itoa(i) }
