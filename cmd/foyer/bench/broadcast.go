package bench

import (
	"bytes"
	"context"
	"math/bits"
	"sync/atomic"
	"time"
)

// broadcast emits to rooms. With as many rooms as clients it is what one emit costs, with one room what one delivery does.
func (b *bench) broadcast(ctx context.Context) error {
	o, r := b.o, b.result
	r.Rooms, r.Window, r.Rate, r.Bytes = o.Rooms, o.Window, o.Rate, o.Bytes
	c, err := b.gather(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	s := newSender(b, len(c.clients))
	c.listen(func(who *client, packet []byte, at time.Time) {
		switch {
		case bytes.HasPrefix(packet, eventPrefix):
			s.landed(who, number(packet[len(eventPrefix):]), at)
		case len(packet) > 0 && packet[0] == '3':
			b.driver.acknowledged(packet)
		}
	})
	b.say("joining %d rooms", o.Rooms)
	if err := b.driver.join(ctx, c.clients, func(who *client) string { return roomOf(who.n % o.Rooms) }); err != nil {
		return err
	}

	sending, stop := context.WithCancelCause(ctx)
	sent := make(chan error, 1)
	go func() { sent <- s.send(sending) }()
	err = b.measure(ctx, c)
	stop(errOver)
	if sendErr := <-sent; err == nil {
		err = sendErr
	}
	if err != nil {
		return err
	}
	s.settle(ctx)
	c.close()
	for _, who := range c.clients {
		r.Duplicated += who.duplicated
		r.Lost += who.lost + s.rooms[who.n%o.Rooms].sent - who.last
	}
	return nil
}

// sender keeps a window of emits in flight.
type sender struct {
	b      *bench
	began  time.Time
	rooms  []sendRoom
	slots  uint64        // of a room's ring less one, a mask
	window chan struct{} // an item for each emit that may be sent
}

// sendRoom is a room with the emits that are in flight to it, in a ring by their number.
type sendRoom struct {
	size   int32 // clients
	sent   int64 // emits; owned by the sending goroutine, then by who waits for it
	flight []flight
}

type flight struct {
	at      atomic.Int64 // when it was sent, since the sender's beginning
	missing atomic.Int32 // clients that do not have it yet
}

func newSender(b *bench, clients int) *sender {
	s := &sender{b: b, began: time.Now(), rooms: make([]sendRoom, b.o.Rooms), window: make(chan struct{}, b.o.Window)}
	ring := uint64(1) << bits.Len(uint(b.o.Window)) // larger than the window
	s.slots = ring - 1
	for i := range s.rooms {
		s.rooms[i].flight = make([]flight, ring)
	}
	for i := range clients {
		s.rooms[i%b.o.Rooms].size++
	}
	for range b.o.Window {
		s.window <- struct{}{}
	}
	return s
}

// most emits that are handed to the driver at once.
const sendBatch = 256

// send emits whenever the window has room, to one room after the other, until ctx ends.
func (s *sender) send(ctx context.Context) error {
	o := s.b.o
	names := make([]string, o.Rooms)
	for i := range names {
		names[i] = roomOf(i)
	}
	rooms, numbers := make([]string, 0, sendBatch), make([]int64, 0, sendBatch)
	for emits, next := 0, 0; ; {
		due := sendBatch
		if o.Rate > 0 {
			if due = int(o.Rate*time.Since(s.began).Seconds()) - emits; due <= 0 {
				select {
				case <-time.After(min(time.Millisecond, time.Duration(float64(time.Second)/o.Rate))):
					continue
				case <-ctx.Done():
					return nil
				}
			}
		}
		select {
		case <-s.window:
		case <-ctx.Done():
			return nil
		}
		rooms, numbers = rooms[:0], numbers[:0]
		for now := int64(time.Since(s.began)); ; {
			r := &s.rooms[next]
			r.sent++
			f := &r.flight[uint64(r.sent)&s.slots]
			f.at.Store(now)
			f.missing.Store(r.size)
			rooms, numbers = append(rooms, names[next]), append(numbers, r.sent)
			next = (next + 1) % len(s.rooms)
			if len(rooms) == min(due, sendBatch) || !s.more() {
				break
			}
		}
		emits += len(rooms)
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

// landed notes a delivery.
func (s *sender) landed(who *client, seq int64, at time.Time) {
	if seq <= 0 {
		return
	}
	f := &s.rooms[who.n%len(s.rooms)].flight[uint64(seq)&s.slots]
	who.heard(seq)
	s.b.tally.add(who.n, at.Sub(s.began)-time.Duration(f.at.Load()))
	if f.missing.Add(-1) == 0 {
		select {
		case s.window <- struct{}{}:
		default: // a duplicate has made one land twice
		}
	}
}

// settle waits until everything has landed, or nothing has for a while.
func (s *sender) settle(ctx context.Context) {
	for seen, since := int64(-1), time.Now(); len(s.window) < cap(s.window) && time.Since(since) < patience && ctx.Err() == nil; {
		if total := s.b.tally.total(); total != seen {
			seen, since = total, time.Now()
		}
		time.Sleep(time.Millisecond)
	}
}
