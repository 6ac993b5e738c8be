package beats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"foyer/service/adapter/official"
)

// stage is a medium of which the test is all the others.
type stage struct {
	*testing.T
	*Beats
	mute bool // this node's own words do not come back

	mu   sync.Mutex
	said []string
}

func inBubble(t *testing.T, test func(s *stage)) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{T: t}
		s.Beats = New(Config{Self: "ours:AAAA", Ours: "ours:", Say: s.say})
		ctx, stop := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { s.Beats.Run(ctx) })
		test(s)
		stop()
		ended.Wait()
	})
}

func (s *stage) say(namespace string, kind official.Kind) {
	s.mu.Lock()
	s.said = append(s.said, namespace+" "+kind.String())
	s.mu.Unlock()
	if !s.mute {
		s.Heard(namespace, "ours:AAAA", kind)
	}
}

// wantSaid holds what this node has said since the last call.
func (s *stage) wantSaid(want ...string) {
	s.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.said)
	if !slices.Equal(s.said, want) {
		s.Errorf("it has said %q, want %q", s.said, want)
	}
	s.said = nil
}

// wantPeers holds how many there are, and that this is known at once.
func (s *stage) wantPeers(namespace string, want int) {
	s.Helper()
	began := time.Now()
	n, err := s.Peers(s.Context(), namespace)
	if n != want || err != nil || time.Since(began) > 0 {
		s.Errorf("%d peers, %v, after %v; want %d at once", n, err, time.Since(began), want)
	}
}

// TestNobodyIsCountedBeforeAllCanHaveAnswered: a count is there when this node's own Hello has come back and those that
// are there have had time to answer it.
func TestNobodyIsCountedBeforeAllCanHaveAnswered(t *testing.T) {
	inBubble(t, func(s *stage) {
		if _, err := s.Peers(s.Context(), "/"); !errors.Is(err, ErrUnheard) {
			s.Errorf("of a namespace that is not heard: %v", err)
		}
		s.Begin("/")
		s.wantSaid("/ hello")
		ctx, stop := context.WithTimeout(s.Context(), Settle/2)
		defer stop()
		if n, err := s.Peers(ctx, "/"); !errors.Is(err, context.DeadlineExceeded) {
			s.Errorf("%d, %v, before anybody can have answered", n, err)
		}
		s.Heard("/", "peer1", official.Heartbeat)
		s.Heard("/", "peer2", official.Broadcast)
		s.Heard("/", "peer2", official.Heartbeat)
		s.Heard("/", "ours:BBBB", official.Heartbeat)
		s.Heard("/", official.Emitter, official.Broadcast)
		s.Heard("/", "", official.Broadcast)
		s.Heard("/chat", "peer3", official.Heartbeat)
		if n, err := s.Peers(s.Context(), "/"); n != 2 || err != nil {
			s.Errorf("%d peers, %v, want 2", n, err)
		}
		s.wantPeers("/", 2)
	})
}

// TestHelloIsSaidUntilItComesBack: what is lost is said again, and nobody is counted meanwhile.
func TestHelloIsSaidUntilItComesBack(t *testing.T) {
	inBubble(t, func(s *stage) {
		s.mute = true
		s.Begin("/")
		s.Heard("/", "peer", official.Heartbeat)
		time.Sleep(3*tick + tick/2)
		s.wantSaid("/ hello", "/ hello", "/ hello", "/ hello")
		ctx, stop := context.WithTimeout(s.Context(), 10*Settle)
		defer stop()
		if n, err := s.Peers(ctx, "/"); !errors.Is(err, context.DeadlineExceeded) {
			s.Errorf("%d, %v, while nothing comes back", n, err)
		}
		s.Heard("/", "peer", official.Heartbeat)
		s.Heard("/", "ours:AAAA", official.Hello)
		if n, err := s.Peers(s.Context(), "/"); n != 1 || err != nil {
			s.Errorf("%d, %v", n, err)
		}
	})
}

// TestSilenceAndGoodbyeEndAPeer: a peer that says Goodbye is gone at once, and one that says nothing is gone after
// Timeout.
func TestSilenceAndGoodbyeEndAPeer(t *testing.T) {
	inBubble(t, func(s *stage) {
		s.Begin("/")
		time.Sleep(Settle)
		for _, uid := range []string{"a", "b", "c"} {
			s.Heard("/", uid, official.Heartbeat)
		}
		s.Heard("/", "a", official.Goodbye)
		s.wantPeers("/", 2)
		time.Sleep(Timeout - time.Second)
		s.Heard("/", "b", official.Broadcast) // anything is a sign of life
		s.wantPeers("/", 2)
		time.Sleep(3 * tick)
		s.wantPeers("/", 1)
		if gone, err := s.Gone(s.Context(), "/", []string{"a", "b", "c", "d"}); !slices.Equal(gone, []string{"a", "c", "d"}) || err != nil {
			s.Errorf("%q are gone, %v", gone, err)
		}
		if gone, err := s.Gone(s.Context(), "/other", []string{"a"}); !errors.Is(err, ErrUnheard) {
			s.Errorf("where nobody is heard %q are gone, %v", gone, err)
		}
		time.Sleep(Timeout)
		s.wantPeers("/", 0)
	})
}

// TestHeartbeats: one in each interval and namespace, and one for all that say Hello at the same time.
func TestHeartbeats(t *testing.T) {
	inBubble(t, func(s *stage) {
		s.Begin("/")
		s.Begin("/chat")
		s.wantSaid("/ hello", "/chat hello")
		time.Sleep(Interval)
		s.wantSaid("/ heartbeat", "/chat heartbeat")
		time.Sleep(Interval)
		s.wantSaid("/ heartbeat", "/chat heartbeat")
		s.Heard("/chat", "a", official.Hello)
		s.wantSaid("/chat heartbeat")
		time.Sleep(answerWait / 2)
		s.Heard("/chat", "b", official.Hello)
		s.Heard("/chat", "c", official.Hello)
		s.Heard("/chat", "ours:BBBB", official.Hello) // nodes know of each other otherwise
		s.wantSaid()
		time.Sleep(answerWait / 2)
		s.wantSaid("/chat heartbeat")
		s.End("/chat")
		s.wantSaid("/chat goodbye")
		s.Heard("/chat", "d", official.Hello)
		time.Sleep(Interval)
		s.wantSaid("/ heartbeat")
		s.EndAll()
		s.wantSaid("/ goodbye")
	})
}

// TestPause: while the medium is away nobody is known and nothing is said; afterwards those count that were not silent
// for too long.
func TestPause(t *testing.T) {
	inBubble(t, func(s *stage) {
		s.Begin("/")
		time.Sleep(Settle)
		s.Heard("/", "a", official.Heartbeat)
		s.wantSaid("/ hello")
		s.Pause()
		if _, err := s.Peers(s.Context(), "/"); !errors.Is(err, ErrUnheard) {
			s.Errorf("while the medium is away: %v", err)
		}
		time.Sleep(Timeout / 2)
		s.wantSaid()
		s.Begin("/")
		waits := make(chan error)
		go func() {
			_, err := s.Peers(s.Context(), "/")
			waits <- err
		}()
		synctest.Wait()
		s.Pause()
		if err := <-waits; !errors.Is(err, ErrUnheard) {
			s.Errorf("who waits is told %v when the medium goes", err)
		}
		s.Begin("/")
		time.Sleep(Settle)
		s.wantPeers("/", 1)
		time.Sleep(Timeout/2 + tick)
		s.wantPeers("/", 0)
	})
}

// TestCrowd: UIDs without end take no room without end, and nobody believes a count that some are missing from.
func TestCrowd(t *testing.T) {
	inBubble(t, func(s *stage) {
		s.Begin("/")
		time.Sleep(Settle)
		for i := range 10 * maxPeers {
			s.Heard("/", fmt.Sprint("forged", i), official.Broadcast)
		}
		if n, err := s.Peers(s.Context(), "/"); !errors.Is(err, ErrCrowd) {
			s.Errorf("%d, %v", n, err)
		}
		s.Beats.mu.Lock()
		n := len(s.hearings["/"].heard)
		s.Beats.mu.Unlock()
		if n > maxPeers {
			s.Errorf("%d are kept", n)
		}
		time.Sleep(Timeout + 2*tick)
		s.wantPeers("/", 0)
	})
}

// TestSleeperBlamesNobody: a node that was stopped for a while gives the others that time.
func TestSleeperBlamesNobody(t *testing.T) {
	inBubble(t, func(s *stage) {
		s.Begin("/")
		time.Sleep(Settle)
		s.Heard("/", "a", official.Heartbeat)
		s.mu.Lock() // the node sleeps: what it would say cannot be said
		s.Beats.mu.Lock()
		for uid, at := range s.hearings["/"].heard {
			s.hearings["/"].heard[uid] = at.Add(-time.Hour)
		}
		s.late = s.late.Add(-time.Hour)
		s.Beats.mu.Unlock()
		s.mu.Unlock()
		time.Sleep(tick)
		s.wantPeers("/", 1)
	})
}
