package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// broadcast emits to rooms. With as many rooms as clients it is what one emit costs, with one room what one delivery
// does.
func (b *bench) broadcast(ctx context.Context) error {
	o, r := b.o, b.result
	r.Rooms, r.Window, r.Rate, r.Bytes = o.Rooms, o.Window, o.Rate, o.Bytes
	s := newSender(b)
	c, err := b.gather(ctx, s.hear, b.untold)
	if err != nil {
		return err
	}
	defer c.close()
	b.say("joining %s", rooms(o.Rooms))
	if err := b.driver.join(ctx, c.clients, func(who *client) string { return s.roomOf(who).name }); err != nil {
		return err
	}

	sending, stop := context.WithCancelCause(ctx)
	var sent sync.WaitGroup
	sent.Go(func() {
		if err := s.send(sending); err != nil {
			b.fail(err)
		}
	})
	stuck := b.measure(ctx)
	stop(errOver)
	late := b.soon("an emit") // a server that has stopped reading holds the last one
	sent.Wait()
	late.Stop()
	switch {
	case stuck == nil:
		if err := b.settle(ctx, s.allLanded); err != nil {
			return err
		}
	case !errors.Is(stuck, errStuck):
		return stuck
	}
	switch {
	case s.emits == 0:
		return errors.New("the time was over before the first emit was due")
	case b.tally.ever() == 0:
		return b.errNothing("bench:emit")
	}
	c.close()
	for _, who := range c.clients {
		r.Duplicated += who.duplicated
		r.Lost += who.lost + s.roomOf(who).sent.Load() - who.last
	}
	return nil
}

// untold is for a gather whose times nobody wants.
func (b *bench) untold(int, time.Duration) {}

// sender keeps a window of emits in flight.
type sender struct {
	b      *bench
	began  time.Time
	rooms  []sendRoom
	slots  uint64        // of a room's ring less one, a mask
	window chan struct{} // an item for each emit that may be sent
	emits  int           // owned by the sending goroutine, then by the goroutine that waits for it
}

// sendRoom is a room with the emits that are in flight to it, in a ring by their number.
type sendRoom struct {
	name   string
	size   int32        // clients
	sent   atomic.Int64 // emits
	flight []flight
}

type flight struct {
	at      atomic.Int64 // when it was sent, or was due to be, since the sender's beginning
	missing atomic.Int32 // clients that do not have it yet
}

func newSender(b *bench) *sender {
	s := &sender{b: b, began: time.Now(), rooms: make([]sendRoom, b.o.Rooms), window: make(chan struct{}, b.o.Window)}
	ring := uint64(1) << bits.Len(uint(b.o.Window)) // larger than the window
	s.slots = ring - 1
	names := roomNames(b.o.Rooms)
	for i := range s.rooms {
		s.rooms[i].name = names[i]
		s.rooms[i].flight = make([]flight, ring)
	}
	for i := range b.o.Clients {
		s.rooms[i%b.o.Rooms].size++
	}
	for range b.o.Window {
		s.window <- struct{}{}
	}
	return s
}

func (s *sender) roomOf(who *client) *sendRoom { return &s.rooms[who.n%len(s.rooms)] }

func (s *sender) allLanded() bool { return len(s.window) == cap(s.window) }

// most emits that are handed to the driver at once.
const sendBatch = 256

// send emits whenever the window has room, to one room after the other, until ctx ends.
func (s *sender) send(ctx context.Context) error {
	rate, start := s.b.o.Rate, time.Since(s.began)
	// due is when an emit is, by its number; that it waits for the window then is part of its latency.
	due := func(n int) time.Duration { return start + time.Duration(float64(n)/rate*float64(time.Second)) }
	rooms, numbers := make([]string, 0, sendBatch), make([]int64, 0, sendBatch)
	for next := 0; ; {
		batch := sendBatch
		if rate > 0 {
			now := time.Since(s.began)
			if wait := due(s.emits+1) - now; wait > 0 {
				select {
				case <-time.After(wait):
					continue
				case <-ctx.Done():
					return nil
				}
			}
			batch = min(batch, max(1, int(rate*(now-start).Seconds())-s.emits))
		}
		select {
		case <-s.window:
		case <-ctx.Done():
			return nil
		}
		rooms, numbers = rooms[:0], numbers[:0]
		for at := time.Since(s.began); ; {
			s.emits++
			if rate > 0 {
				at = due(s.emits)
			}
			r := &s.rooms[next]
			n := r.sent.Load() + 1
			f := &r.flight[uint64(n)&s.slots]
			f.at.Store(int64(at))
			f.missing.Store(r.size)
			r.sent.Store(n)
			rooms, numbers = append(rooms, r.name), append(numbers, firstNumber+n)
			next = (next + 1) % len(s.rooms)
			if len(rooms) == batch || !s.more() {
				break
			}
		}
		if err := s.b.driver.emit(rooms, numbers); err != nil {
			return err
		}
	}
}

// more takes one more place of the window, if there is one.
func (s *sender) more() bool {
	select {
	case <-s.window:
		return true
	default:
		return false
	}
}

// hear takes a packet that a client has heard.
func (s *sender) hear(who *client, packet []byte, at time.Time) {
	switch {
	case bytes.HasPrefix(packet, eventPrefix):
		s.landed(who, packet[len(eventPrefix):], at)
	case len(packet) > 0 && packet[0] == '3':
		s.b.driver.acknowledged(packet)
	}
}

// landed notes a delivery and what is missing before it: that will not come any more, since order is kept.
func (s *sender) landed(who *client, args []byte, at time.Time) {
	r, seq := s.roomOf(who), number(args)-firstNumber
	switch {
	case seq < 1 || seq > r.sent.Load():
		s.b.fail(fmt.Errorf("client %d hears %.40q, which was never emitted to it", who.n+1, args))
		return
	case seq <= who.last:
		who.duplicated++
		return
	}
	for ; who.last+1 < seq; who.last++ {
		who.lost++
		s.settled(r, who.last+1)
	}
	who.last = seq
	took := at.Sub(s.began) - time.Duration(r.flight[uint64(seq)&s.slots].at.Load())
	s.b.tally.add(who.n, took)
	if who.n%len(s.b.servers) > 0 {
		s.b.far.add(who.n, took)
	}
	s.settled(r, seq)
}

// settled notes that an emit is through with one of its clients.
func (s *sender) settled(r *sendRoom, seq int64) {
	if r.flight[uint64(seq)&s.slots].missing.Add(-1) == 0 {
		s.window <- struct{}{} // whose place it has had: this does not block
	}
}
