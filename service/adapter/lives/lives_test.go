package lives_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/lives"
)

var (
	errAway    = errors.New("away")
	errRefused = errors.New("refused")
	errSplit   = errors.New("split")
)

// server is what lives are made at.
type server struct {
	fault atomic.Pointer[error] // why no life can begin
	tries atomic.Int64
	deaf  atomic.Bool // nothing comes back
	slow  bool        // what was sent is never with it
	last  atomic.Pointer[life]
}

type life struct {
	lives.Course
	server *server
	in     *lives.Inbox
	buried atomic.Bool
}

func (l *life) Bury() error { l.buried.Store(true); return l.Course.Bury() }

func (l *life) Drained() <-chan struct{} {
	drained := make(chan struct{})
	if !l.server.slow {
		close(drained)
	}
	return drained
}

func (s *server) open(ctx context.Context, in *lives.Inbox) (lives.Life, error) {
	s.tries.Add(1)
	if fault := s.fault.Load(); fault != nil {
		return nil, *fault
	}
	l := &life{server: s, in: in}
	s.last.Store(l)
	l.Begin(ctx, 2, errSplit, func(error) { in.Lose(1) })
	l.Run(func() error {
		return l.Probe(time.Second, func(time.Duration) error {
			if !s.deaf.Load() {
				l.Echo(0)
				l.Echo(1)
			}
			return nil
		})
	}, func() error { <-l.Over(); return nil })
	if err := l.Whole(5 * time.Second); err != nil {
		return nil, l.Bury()
	}
	return l, nil
}

func connect(s *server) (*lives.Bus, error) {
	return lives.Connect(lives.Config{
		Open: s.open, Refused: func(err error) bool { return errors.Is(err, errRefused) },
		Send: func(service.NodeID, []byte) error { return nil },
	})
}

// TestLives: a bus is up while there is a life, and makes the next one when one has ended.
func TestLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		b, err := connect(s)
		if err != nil || !b.Up() {
			t.Fatal(err, b.Up())
		}
		<-b.Changed()
		first := s.last.Load()
		first.End(errAway)
		<-b.Changed()
		if err := b.SendAll([]byte("x")); b.Up() || !errors.Is(err, adapter.ErrDown) {
			t.Errorf("without a life: up %v, %v", b.Up(), err)
		}
		<-b.Changed()
		if !b.Up() || s.last.Load() == first || !first.buried.Load() || b.Lost() != 1 {
			t.Errorf("with the next one: up %v, the first buried %v, %d lost", b.Up(), first.buried.Load(), b.Lost())
		}
		b.Close()
		if err := b.SendAll([]byte("x")); b.Up() || !s.last.Load().buried.Load() || !errors.Is(err, adapter.ErrClosed) {
			t.Errorf("closed: up %v, buried %v, %v", b.Up(), s.last.Load().buried.Load(), err)
		}
	})
}

// TestDeafLife: a life to which nothing comes back is none, and one that grows deaf ends.
func TestDeafLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.deaf.Store(true)
		began := time.Now()
		b, err := connect(s)
		if took := time.Since(began); err != nil || b.Up() || took != 5*time.Second || !errors.Is(s.last.Load().Bury(), errSplit) {
			t.Fatal(err, b.Up(), took)
		}
		s.deaf.Store(false)
		<-b.Changed()
		s.deaf.Store(true)
		began = time.Now()
		<-b.Changed()
		if took := time.Since(began); b.Up() || took < 15*time.Second || took > 17*time.Second {
			t.Errorf("up %v after %v", b.Up(), took)
		}
		b.Close()
	})
}

// TestServerThatIsAway: it is tried again with pauses that grow up to a bound, and one that refuses the node less
// often; at the beginning that is an error.
func TestServerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		s.fault.Store(&errAway)
		b, err := connect(s)
		if err != nil || b.Up() {
			t.Fatal(err)
		}
		tries := func() int64 {
			before := s.tries.Load()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			return s.tries.Load() - before
		}
		if n := tries(); n < 200 || n > 600 {
			t.Errorf("away: %d tries in ten minutes", n)
		}
		s.fault.Store(&errRefused)
		if n := tries(); n < 80 || n > 240 {
			t.Errorf("refused: %d tries in ten minutes", n)
		}
		s.fault.Store(nil)
		<-b.Changed()
		if !b.Up() {
			t.Error("it is back, and the bus is down")
		}
		b.Close()

		s.fault.Store(&errRefused)
		if _, err := connect(s); !errors.Is(err, errRefused) {
			t.Errorf("refused at the beginning: %v", err)
		}
	})
}

// TestCloseWaits: Close waits for a moment until all is with the server, and no longer.
func TestCloseWaits(t *testing.T) {
	for slow, why := range map[bool]error{false: lives.ErrClosed, true: errors.New("closed before the server had all that was sent")} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{slow: slow}
			b, _ := connect(s)
			began := time.Now()
			b.Close()
			if took := time.Since(began); took > time.Second || slow != (took == time.Second) || s.last.Load().Bury().Error() != why.Error() {
				t.Errorf("slow %v: it took %v, and ended: %v", slow, took, s.last.Load().Bury())
			}
		})
	}
}

// TestInbox: what waits for a receiver is bounded by number and by bytes, and what comes too much or is too large is
// lost.
func TestInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{}
		b, _ := connect(s)
		defer b.Close()
		put := func(size, times int) (kept int) {
			for range times {
				if s.last.Load().in.Wants(size) {
					s.last.Load().in.Put(make([]byte, size))
					kept++
				}
			}
			return kept
		}
		if n := put(10, 5); n != 0 || b.Lost() != 0 {
			t.Errorf("without a receiver: %d kept, %d lost", n, b.Lost())
		}
		goOn := make(chan struct{})
		var got []int
		if err := b.Receive(func(frame []byte) { got = append(got, len(frame)); <-goOn }); err != nil {
			t.Fatal(err)
		}
		put(1, 1)
		synctest.Wait() // the receiver has it, and does not return
		kept := []int{put(lives.MaxFrame+1, 3), put(lives.MaxFrame, 1000), put(1, 20_000)}
		if !slices.Equal(kept, []int{0, 512, 0}) || b.Lost() != 3+488+20_000 {
			t.Errorf("kept %v, %d lost", kept, b.Lost())
		}
		close(goOn)
		synctest.Wait()
		if len(got) != 513 {
			t.Errorf("the receiver got %d", len(got))
		}
		goOn = make(chan struct{})
		put(1, 1)
		synctest.Wait()
		if n := put(1, 20_000); n != 8192 {
			t.Errorf("kept %d small frames", n)
		}
		close(goOn)
		if err := b.Receive(func([]byte) {}); err == nil {
			t.Error("there are two receivers")
		}
	})
}
