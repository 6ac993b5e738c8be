//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

// Readers that stop. A link is slow when its queue is full and its peer has taken nothing for --slow-after.

// freeze keeps a reader's share of the kernel's memory small, so that what it does not read stays with the node.
func freeze(t testing.TB, s *rawSocket) *rawSocket {
	t.Helper()
	if tcp, ok := s.Conn.(*net.TCPConn); ok {
		if err := tcp.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// joinHall lets a backend put all that come into a room.
func joinHall(t testing.TB, f *foyer) *backend {
	t.Helper()
	return attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}, Group: "hall", DecideConnects: true}, func(b *backend) {
		b.decide = func(*foyerv1.Connect) *foyerv1.ConnectReply { return accept("hall") }
	})
}

// numbers counts the events "down" of a reader, which must come as 0, 1, 2 and so on.
func numbers(s *rawSocket, count func(n int)) error {
	n := 0
	var odd error
	err := s.read(func(args string) {
		if want := fmt.Sprintf(`["down",%d,`, n); !strings.HasPrefix(args, want) && odd == nil {
			odd = fmt.Errorf("%.30q came, want %q", args, want)
		}
		n++
		count(n)
	})
	if odd != nil {
		return odd
	}
	return err
}

// TestReaderPauses: a client that takes nothing for less than --slow-after gets all that is emitted to it meanwhile,
// once and in order; its emitter is held.
func TestReaderPauses(t *testing.T) {
	f := startFoyer(t, "--log-level=info", "--slow-after=30s")
	b := joinHall(t, f)
	s := mustJoin(t, "", f.edge)
	const n, size = 1000, 10_000 // more than the kernel holds
	got := make(chan error, 1)
	var taken atomic.Int64
	go func() {
		<-time.After(2 * time.Second) // so long it pauses
		done := fmt.Errorf("all is there")
		err := numbers(s, func(n int) {
			if taken.Store(int64(n)); n == 1000 {
				got <- done
			}
		})
		got <- err
	}()
	wantDelivered(t, emitStream(t, b, &foyerv1.Target{Rooms: []string{s.id}}, n, 10, func(i int) *foyerv1.Payload { return downPayload(i, size, false) }))
	select {
	case err := <-got:
		if taken.Load() != n {
			t.Errorf("%d of %d came: %v", taken.Load(), n, err)
		}
	case <-time.After(patience):
		t.Errorf("%d of %d came", taken.Load(), n)
	}
}

// TestSlowReader: a client that takes little all the time is not slow, however much waits for it.
func TestSlowReader(t *testing.T) {
	const slowAfter = 4 * time.Second
	f := startFoyer(t, "--log-level=info", "--slow-after="+slowAfter.String(), "--queue-bytes=100000")
	b := joinHall(t, f)
	s := freeze(t, mustJoin(t, "", f.edge))
	ctx, cancel := context.WithCancel(t.Context())
	stop := during(func(context.Context) {
		for i := 0; ; i++ {
			if _, err := b.emits.Emit(ctx, &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: []string{s.id}}, Payload: downPayload(i, 10_000, false)}); err != nil {
				return
			}
		}
	})
	defer stop()
	defer cancel()
	piece, taken := make([]byte, 2000), 0
	for began := time.Now(); time.Since(began) < 4*slowAfter; {
		_ = s.SetReadDeadline(time.Now().Add(patience))
		n, err := s.Read(piece)
		if taken += n; err != nil {
			t.Fatalf("after %v and %d bytes: %v", time.Since(began), taken, err)
		}
		<-time.After(20 * time.Millisecond)
	}
	if n := connectedSockets(t, b); n != 1 {
		t.Errorf("%d sockets are left", n)
	}
	t.Logf("it took %d bytes", taken)
}

// TestFrozenReaders: members of a room that read nothing are closed as slow, and cost no more than their queues until
// then. The others get all, in order, and nobody else is closed.
func TestFrozenReaders(t *testing.T) {
	frozen := 200
	if byHand() {
		frozen = 1000
	}
	healthy := frozen
	needFiles(t, 2*(frozen+healthy))
	const queue, size = 64 << 10, 10_000
	f := startFoyer(t, "--log-level=info", "--slow-after=2s", fmt.Sprintf("--queue-bytes=%d", queue))
	b := joinHall(t, f)
	open := func() *rawSocket {
		s, err := rawJoin("", f.edge)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	for range frozen {
		freeze(t, open())
	}
	// Of each emit the next waits until all who read have it: so no queue of theirs is ever full.
	var taken atomic.Int64
	news := make(chan struct{}, 1)
	var readers sync.WaitGroup
	defer readers.Wait()
	for range healthy {
		s := open()
		defer s.Close()
		readers.Go(func() {
			err := numbers(s, func(int) {
				if taken.Add(1)%int64(healthy) == 0 {
					news <- struct{}{}
				}
			})
			if !strings.Contains(err.Error(), "use of closed") {
				t.Errorf("a reader: %v", err)
			}
		})
	}
	f.resetPeak(t)
	before := f.resident(t)
	all := &foyerv1.Target{Rooms: []string{"hall"}}
	emits, dropped := 0, 0
	for deadline := time.Now().Add(time.Minute); connectedSockets(t, b) > healthy; emits++ {
		if time.Now().After(deadline) {
			t.Fatalf("after %d emits %d frozen readers are still there", emits, connectedSockets(t, b)-healthy)
		}
		r, err := b.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: all, Payload: downPayload(emits, size, false)})
		if err != nil {
			t.Fatal(err)
		}
		dropped += int(r.GetDroppedSlow())
		select {
		case <-news:
		case <-time.After(patience):
			t.Fatalf("%d of %d who read have emit %d", taken.Load()-int64(emits*healthy), healthy, emits)
		}
	}
	rose := f.peak(t) - before
	t.Logf("%d emits until all %d were closed, %d copies dropped; the node grew by %d KiB, %d a frozen reader", emits, frozen, dropped, rose>>10, rose/frozen>>10)
	// A queue each, and what a broadcast to so many needs for the moment.
	if most := frozen*2*queue + 64<<20; rose > most {
		t.Errorf("the node grew by %d KiB, want at most %d", rose>>10, most>>10)
	}
	reasons := map[foyerv1.DisconnectReason]int{}
	eventually(t, func() error {
		clear(reasons)
		n := 0
		for _, m := range b.told.all() {
			if d := m.GetDisconnected(); d != nil {
				reasons[d.GetReason()]++
				n++
			}
		}
		if n < frozen {
			return fmt.Errorf("the backend heard of %d", n)
		}
		return nil
	})
	if reasons[foyerv1.DisconnectReason_DISCONNECT_REASON_SLOW] != frozen {
		t.Errorf("they ended as %v, want %d as slow", reasons, frozen)
	}
}

// TestStorm: a crowd is cut off and comes back all at once. All are in again, and nothing of their old links is left.
func TestStorm(t *testing.T) {
	crowd := 1000
	if byHand() {
		crowd = 5000
	}
	needFiles(t, crowd+500)
	f := startFoyer(t, "--log-level=info")
	b := joinHall(t, f)
	before := f.descriptors(t)
	come := func(old []*rawSocket) []*rawSocket {
		now := make([]*rawSocket, crowd)
		var all sync.WaitGroup
		for worker := range 100 {
			all.Go(func() {
				for i := worker; i < crowd; i += 100 {
					if old != nil {
						cut(old[i].Conn)
					}
					s, err := rawJoin("", f.edge)
					if err != nil {
						t.Errorf("client %d: %v", i, err)
						return
					}
					now[i] = s
				}
			})
		}
		all.Wait()
		return now
	}
	clients := come(nil)
	for range 2 {
		if t.Failed() {
			return
		}
		began := time.Now()
		clients = come(clients)
		t.Logf("%d are back after %v", crowd, time.Since(began))
	}
	if t.Failed() {
		return
	}
	eventually(t, func() error {
		if n, files := connectedSockets(t, b), f.descriptors(t); n != crowd || files > before+crowd+20 {
			return fmt.Errorf("%d sockets and %d descriptors, want %d and at most %d", n, files, crowd, before+crowd+20)
		}
		return nil
	})
	r, err := b.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: []string{"hall"}}, Payload: downPayload(0, 10, false)})
	if err != nil || int(r.GetEnqueued()) != crowd {
		t.Errorf("got %v, %v", r, err)
	}
	for _, s := range clients {
		_ = s.SetReadDeadline(time.Now().Add(patience))
		if got, err := s.next(); err != nil || !strings.HasPrefix(got, `42["down",0`) {
			t.Fatalf("%s heard %.40q, %v", s.id, got, err)
		}
		s.Close()
	}
}
