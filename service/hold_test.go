package service

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// to is an emit for one socket.
func to(s *Socket, values ...any) Emit {
	return Emit{Target: Target{Namespace: "/", Rooms: []string{string(s.ID())}}, Packet: event("e", values...)}
}

func numbered(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprintf(`event ["e",%d]`, i)
	}
	return texts
}

// TestFullLinkIsOfferedItsBytesFirst: what is queued goes to the transport before anything counts as too much.
func TestFullLinkIsOfferedItsBytesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, size := range map[string]int{"one reader": 1, "a room of two": 2} {
			n := newNode(t, Config{})
			var conns []*flushConn
			for range size {
				c := &flushConn{fakeConn: newConn()}
				r := c.request("/")
				r.Conn = c
				n.Connect(r)
				c.take()
				c.full(0)
				conns = append(conns, c)
			}
			var batch []Emit
			for i := range 12 {
				batch = append(batch, Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e", i), Flags: Flags(i%2) * NoCompress})
			}
			start := time.Now()
			for i, r := range n.EmitBatch(t.Context(), batch) {
				wantEqual(t, fmt.Sprint(name, ": receipt ", i), r, Receipt{Matched: size, Enqueued: size})
			}
			for _, c := range conns {
				wantEqual(t, name+": frames", c.take(), numbered(12))
			}
			wantEqual(t, name+": waited", time.Since(start), time.Duration(0))
		}
	})
}

// flushConn is a link whose transport takes one frame at a time.
type flushConn struct{ *fakeConn }

func (c *flushConn) Flush() {
	c.fakeConn.Flush()
	c.mu.Lock()
	c.space = 16
	c.mu.Unlock()
}

// TestEmitForOneWaitsForRoom: the caller is held, and nobody else; what it emits afterwards arrives afterwards, once.
func TestEmitForOneWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		slow, slowConn := connect(t, n, "/", "r")
		other, otherConn := connect(t, n, "/", "r")
		slowConn.full(0)
		var batch []Emit
		for i := range 6 {
			s := slow
			if i%2 == 1 {
				s = other
			}
			batch = append(batch, to(s, i))
		}
		done := make(chan []Receipt)
		go func() { done <- n.EmitBatch(t.Context(), batch) }()
		synctest.Wait()
		wantEqual(t, "behind the one that waits", len(otherConn.take()), 0)
		n.Emit(t.Context(), to(other, "other"))
		wantEqual(t, "of another caller", otherConn.take(), []string{`event ["e","other"]`})
		for _, c := range []*fakeConn{slowConn, slowConn, slowConn} {
			time.Sleep(3 * time.Second)
			c.give(16)
		}
		for i, r := range <-done {
			wantEqual(t, fmt.Sprint("receipt ", i), r, Receipt{Matched: 1, Enqueued: 1})
		}
		wantEqual(t, "slow", slowConn.take(), []string{`event ["e",0]`, `event ["e",2]`, `event ["e",4]`})
		wantEqual(t, "other", otherConn.take(), []string{`event ["e",1]`, `event ["e",3]`, `event ["e",5]`})
		wantEqual(t, "dropped", n.Info().Dropped, map[string]int64{})
	})
}

// TestAnotherHold: how long an emit on a stream waits for a link may change while the node runs.
func TestAnotherHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		for _, hold := range []time.Duration{10 * time.Second, 2 * time.Second, 15 * time.Second} {
			s, conn := connect(t, n, "/", "r")
			conn.full(0)
			if hold != n.HoldStream() { // the first is the default
				n.SetHoldStream(hold)
			}
			start := time.Now()
			n.EmitBatch(t.Context(), []Emit{to(s, "first"), to(s, "second")})
			wantEqual(t, "waited", time.Since(start), hold)
		}
	})
}

// TestEmitForManyWaitsForNobody: the healthy hear it at once, the full do not, and it says so.
func TestEmitForManyWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		_, frozen := connect(t, n, "/", "r")
		_, healthy := connect(t, n, "/", "r")
		frozen.full(0)
		start := time.Now()
		for i := range 5 {
			r, err := n.Emit(t.Context(), Emit{Target: Target{Namespace: "/", Rooms: []string{"r"}}, Packet: event("e", i)})
			wantEqual(t, "receipt", r, Receipt{Matched: 2, Enqueued: 1, DroppedSlow: 1})
			wantEqual(t, "error", err, nil)
		}
		wantEqual(t, "waited", time.Since(start), time.Duration(0))
		wantEqual(t, "healthy", healthy.take(), numbered(5))
		wantEqual(t, "frozen", len(frozen.take()), 0)
		wantEqual(t, "dropped", n.Info().Dropped, map[string]int64{"slow": 5})
	})
}

// TestHeldEmitEnds: with its caller's time, with its link, and on a stream with the time of the link. Whatever follows
// in its batch comes after it.
func TestHeldEmitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dropped := Receipt{Matched: 1, DroppedSlow: 1}
		for _, tt := range []struct {
			name    string
			timeout time.Duration
			stream  bool
			closes  time.Duration
			before  time.Duration // how long it was full already
			want    Receipt
			after   time.Duration
		}{
			{"deadline", 3 * time.Second, false, 0, 0, dropped, 2900 * time.Millisecond},
			{"deadline of a moment", 50 * time.Millisecond, false, 0, 0, dropped, 0},
			{"no deadline", 0, false, 0, 0, dropped, time.Minute},
			{"closed", 0, false, 4 * time.Second, 0, Receipt{}, 4 * time.Second},
			{"stream", 0, true, 0, 0, dropped, 10 * time.Second},
			{"stream, full for some time", 0, true, 0, 7 * time.Second, dropped, 3 * time.Second},
			{"stream, full for long", 0, true, 0, time.Hour, dropped, 0},
			{"stream that ends", time.Second, true, 0, 0, dropped, 900 * time.Millisecond},
		} {
			n := newNode(t, Config{})
			s, c := connect(t, n, "/")
			_, healthy := connect(t, n, "/", "h")
			c.full(0)
			time.Sleep(tt.before)
			if tt.closes > 0 {
				time.AfterFunc(tt.closes, func() { c.Close(ReasonSlow) })
			}
			ctx := t.Context()
			if tt.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, tt.timeout)
				defer cancel()
			}
			start := time.Now()
			var got Receipt
			if tt.stream {
				behind := Emit{Target: Target{Namespace: "/", Rooms: []string{"h"}}, Packet: event("e", 0)}
				both := n.EmitBatch(ctx, []Emit{to(s), behind})
				got = both[0]
				wantEqual(t, tt.name+": behind", both[1], Receipt{Matched: 1, Enqueued: 1})
				wantEqual(t, tt.name+": behind", healthy.take(), numbered(1))
			} else {
				got, _ = n.Emit(ctx, to(s))
			}
			wantEqual(t, tt.name, got, tt.want)
			if d := time.Since(start); d != tt.after && (tt.timeout == 0 || !tt.stream) {
				t.Errorf("%s: after %v, want %v", tt.name, d, tt.after)
			}
			wantEqual(t, tt.name+": counted", n.Info().Dropped["slow"], int64(tt.want.DroppedSlow))
		}
	})
}

// TestJoinedRunAtAFullLink: of emits that go as one, those are queued that would have fitted by themselves.
func TestJoinedRunAtAFullLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for size, want := range map[int]Receipt{1: {Matched: 1, DroppedSlow: 1}, 2: {Matched: 2, Enqueued: 1, DroppedSlow: 1}} {
			n := newNode(t, Config{})
			_, c := connect(t, n, "/", "r")
			for range size - 1 {
				connect(t, n, "/", "r")
			}
			c.full(3 * 14)
			var batch []Emit
			for i := range 5 {
				batch = append(batch, Emit{Target: Target{Namespace: "/", Rooms: []string{"r"}}, Packet: event("e", i)})
			}
			for i, r := range n.EmitBatch(t.Context(), batch) {
				w := Receipt{Matched: size, Enqueued: size}
				if i >= 3 {
					w = want
				}
				wantEqual(t, fmt.Sprintf("%d recipients, receipt %d", size, i), r, w)
			}
			wantEqual(t, "frames", c.take(), numbered(3))
		}
	})
}

// TestAcksOfAFullLink: one recipient is waited for within the time for acknowledgements, one of several is not.
func TestAcksOfAFullLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		s, c := connect(t, n, "/")
		ns := n.namespace("/")
		one := Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e")}
		c.full(0)
		go func() {
			time.Sleep(2 * time.Second)
			c.give(100)
			synctest.Wait()
			wantEqual(t, "asked", c.take(), []string{`event 2 ["e"]`}) // the first try took a number
			s.receive(&Packet{Kind: KindAck, AckID: 2, Payload: []byte("[]")})
		}()
		_, outcomes, err := emitWithAck(t, n, one, 5*time.Second, 0)
		if err != nil || len(outcomes) != 1 || outcomes[0].Failure != AckOK {
			t.Fatal(outcomes, err)
		}
		c.full(0)
		start := time.Now()
		_, outcomes, err = emitWithAck(t, n, one, 5*time.Second, 0)
		if err != nil || len(outcomes) != 1 || outcomes[0].Failure != AckQueueFull {
			t.Error(outcomes, err)
		}
		wantEqual(t, "waited", time.Since(start), 4900*time.Millisecond)
		go func() { time.Sleep(time.Second); c.Close(ReasonSlow) }()
		matched, outcomes, err := emitWithAck(t, n, one, 5*time.Second, 0)
		if err != nil || matched != 0 || len(outcomes) != 0 {
			t.Error(matched, outcomes, err)
		}
		if len(ns.acks.collects) != 0 || len(s.acks) != 0 {
			t.Error("something is still waited for")
		}
	})
}

// TestFewDoNotWaitForTheWritesOfMany: an emit to one socket goes beside the writes of a large fan-out, and so does one
// that was there before these began.
func TestFewDoNotWaitForTheWritesOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		gate := make(chan struct{})
		for range 3 * flushChunk {
			c := &gatedConn{fakeConn: newConn()}
			r := c.request("/")
			r.Conn = c
			n.Connect(r)
			c.gate = gate
		}
		s, c := connect(t, n, "/", "r")
		var wg sync.WaitGroup
		all := Target{Namespace: "/", All: true}
		wg.Go(func() { n.Emit(t.Context(), Emit{Target: all, Packet: event("e", "all")}) })
		synctest.Wait()
		wide := false
		wg.Go(func() { n.Emit(t.Context(), Emit{Target: all, Packet: event("e", "next")}); wide = true })
		synctest.Wait()
		n.Emit(t.Context(), to(s, 1))
		n.Emit(t.Context(), Emit{Target: Target{Namespace: "/", Rooms: []string{"r"}}, Packet: event("e", 2)})
		wantEqual(t, "frames", c.take(), []string{`event ["e","all"]`, `event ["e",1]`, `event ["e",2]`})
		wantEqual(t, "another wide one has gone", wide, false)
		close(gate)
		wg.Wait()
		wantEqual(t, "frames", c.take(), []string{`event ["e","next"]`})
	})
}

// gatedConn is a link whose writes wait.
type gatedConn struct {
	*fakeConn
	gate chan struct{}
}

func (c *gatedConn) Flush() {
	if c.gate != nil {
		<-c.gate
	}
}
