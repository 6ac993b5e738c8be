package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// driver lets the server do what clients by themselves cannot ask for. When it cannot go on it fails the run; each of
// its methods ends when the run fails, or when the server takes too long.
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
	close()
}

// eventDriver asks the server's own application by events; see the package comment. Joins go by the clients' own links,
// which must be listening by then.
type eventDriver struct {
	b       *bench
	control *client
	pad     string
	stop    func() bool // of the cutting when the run fails
	reading sync.WaitGroup
	acks    ackTable
}

func newEventDriver(ctx context.Context, b *bench) (*eventDriver, error) {
	control, err := connect(ctx, 0, b.server, transportWebSocket)
	if err != nil {
		return nil, err
	}
	d := &eventDriver{b: b, control: control, pad: pad(b.o.Bytes)}
	d.stop = context.AfterFunc(ctx, control.link.close)
	d.reading.Go(func() {
		err := control.read(func([]byte, time.Time) {})
		b.fail(fmt.Errorf("the client that asks for emits: %w", err))
	})
	return d, nil
}

func (d *eventDriver) join(ctx context.Context, clients []*client, room func(who *client) string) error {
	return each(ctx, len(clients), d.b.o.Parallel, func(ctx context.Context, i int) error {
		return d.ask(ctx, clients[i], "bench:join", room(clients[i]))
	})
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
	timer := time.NewTimer(d.b.server.patience)
	defer timer.Stop()
	select {
	case <-came:
		return nil
	case <-timer.C:
		return fmt.Errorf("%s is not acknowledged: does the server's application serve it?%s", event, forFoyer)
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

func (d *eventDriver) close() {
	d.stop()
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

// roomNames are names that no other run has, also on the same server.
func roomNames(n int) []string {
	names, run := make([]string, n), rand.Text()[:8]
	for i := range names {
		names[i] = "bench-" + run + "-" + strconv.Itoa(i)
	}
	return names
}
