package membus

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"foyer/service"
)

// sink is a wrapped bus and what has come over it.
type sink struct {
	*Faulty
	mu  sync.Mutex
	got []string // guarded by mu
}

func newSink(t *testing.T, f *Faults, network *Network, name service.NodeID) *sink {
	s := &sink{Faulty: f.Wrap(name, network.Open(name))}
	t.Cleanup(func() { s.Close() })
	if err := s.Receive(func(frame []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, string(frame))
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// taken waits until nothing more comes for a while, and returns what has come.
func (s *sink) taken(wait time.Duration) []string {
	time.Sleep(wait)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.got
	s.got = nil
	return got
}

func (s *sink) tell(t *testing.T, to service.NodeID, frames ...string) {
	t.Helper()
	for _, frame := range frames {
		if err := s.Send(to, []byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
}

func numbers(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func TestCuts(t *testing.T) { synctest.Test(t, testCuts) }

func testCuts(t *testing.T) {
	faults, network := NewFaults(1), New()
	a, b, c := newSink(t, faults, network, "AAAA"), newSink(t, faults, network, "BBBB"), newSink(t, faults, network, "CCCC")
	exchange := func(wantA, wantB, wantC []string) {
		t.Helper()
		a.tell(t, "BBBB", "a to b")
		b.tell(t, "AAAA", "b to a")
		if err := a.SendAll([]byte("a to all")); err != nil {
			t.Fatal(err)
		}
		for s, want := range map[*sink][]string{a: wantA, b: wantB, c: wantC} {
			if diff := cmp.Diff(s.taken(0), want); diff != "" {
				t.Errorf("%s: -got +want:\n%s", s.name, diff)
			}
		}
	}
	exchange([]string{"b to a"}, []string{"a to b", "a to all"}, []string{"a to all"})
	faults.Cut("AAAA", "BBBB")
	exchange([]string{"b to a"}, nil, []string{"a to all"})
	faults.Part("AAAA", "BBBB")
	exchange(nil, nil, []string{"a to all"})
	faults.Heal("BBBB", "AAAA")
	exchange([]string{"b to a"}, nil, []string{"a to all"})
	faults.Join("AAAA", "BBBB")
	exchange([]string{"b to a"}, []string{"a to b", "a to all"}, []string{"a to all"})

	faults.SetWay("AAAA", "BBBB", Weather{Delay: time.Second})
	a.tell(t, "BBBB", "cut on its way")
	faults.Cut("AAAA", "BBBB")
	if got := b.taken(time.Minute); got != nil {
		t.Errorf("through a cut came %q", got)
	}
	faults.Clear()
	exchange([]string{"b to a"}, []string{"a to b", "a to all"}, []string{"a to all"})
}

// What happens to the n-th frame of a way is the same in each run with one seed, and another with another.
func TestWeather(t *testing.T) { synctest.Test(t, testWeather) }

func testWeather(t *testing.T) {
	sent := numbers(400)
	run := func(seed uint64, weather Weather, others bool) []string {
		faults, network := NewFaults(seed), New()
		a, b, c := newSink(t, faults, network, "AAAA"), newSink(t, faults, network, "BBBB"), newSink(t, faults, network, "CCCC")
		faults.Set(weather)
		for _, frame := range sent {
			a.tell(t, "BBBB", frame)
			if others {
				c.tell(t, "BBBB", "from another")
				a.tell(t, "CCCC", "to another")
			}
			time.Sleep(time.Millisecond)
		}
		return slices.DeleteFunc(b.taken(time.Minute), func(s string) bool { return s == "from another" })
	}
	for _, test := range []struct {
		name    string
		weather Weather
		want    func(got []string) bool
	}{
		{"fair", Weather{}, func(got []string) bool { return slices.Equal(got, sent) }},
		{"slow", Weather{Delay: 50 * time.Millisecond}, func(got []string) bool { return slices.Equal(got, sent) }},
		{"lossy", Weather{Lose: 0.25}, func(got []string) bool {
			return len(got) > 250 && len(got) < 350 && len(once(got)) == len(got)
		}},
		{"repeats", Weather{Repeat: 0.25}, func(got []string) bool {
			return len(got) > 450 && len(got) < 550 && len(once(got)) == len(sent)
		}},
		{"strays", Weather{Stray: 0.25, Late: 50 * time.Millisecond}, func(got []string) bool {
			return !slices.Equal(got, sent) && len(got) == len(sent) && len(once(got)) == len(sent)
		}},
		{"hopeless", Weather{Lose: 1}, func(got []string) bool { return got == nil }},
	} {
		got := run(1, test.weather, false)
		if !test.want(got) {
			t.Errorf("%s: %d frames came: %q", test.name, len(got), got)
		}
		if diff := cmp.Diff(run(1, test.weather, true), got); diff != "" {
			t.Errorf("%s: the same seed gives something else: %s", test.name, diff)
		}
		if test.weather != (Weather{}) && test.weather.Lose < 1 && test.weather.Delay == 0 && slices.Equal(run(2, test.weather, false), got) {
			t.Errorf("%s: another seed gives the same", test.name)
		}
	}
}

func once(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
