package membus

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"foyer/service"
	"foyer/service/adapter"
)

// Weather is what happens to frames on a way, which leads from one node to one other. Chances are from 0 to 1.
type Weather struct {
	Lose   float64       // the chance of a frame to be lost
	Repeat float64       // to come twice
	Delay  time.Duration // each frame takes up to that long; the order holds
	Stray  float64       // the chance of a frame to come up to Late later, so that what is sent after it may come before it
	Late   time.Duration
}

// Faults are the weather between the buses that it wraps, which may be of any kind. All frames carry the name of their
// sender between two wrapped buses, so that each way has its own weather, whether a frame was for one or for all. What
// happens to the n-th frame of a way is set by the seed, the way's names, n and the weather then, and by nothing else.
//
// A wrapped bus has one goroutine more, until Close.
type Faults struct {
	mu   sync.Mutex
	seed uint64
	all  Weather      // guarded by mu
	ways map[way]*sky // guarded by mu
}

type way struct{ from, to service.NodeID }

// sky is the state of a way. Guarded by Faults.mu.
type sky struct {
	own  *Weather // nil: that of all
	cut  bool
	rand *rand.Rand
	last time.Time // when the newest frame that keeps the order comes
}

// NewFaults begins with fair weather: all frames come, in order and at once.
func NewFaults(seed uint64) *Faults { return &Faults{seed: seed, ways: make(map[way]*sky)} }

// Set changes the weather of all ways that have none of their own.
func (f *Faults) Set(w Weather) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = w
}

// SetWay gives one way its own weather.
func (f *Faults) SetWay(from, to service.NodeID, w Weather) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skyLocked(way{from, to}).own = &w
}

// Cut loses all that one node sends another, what is on its way included, until Heal.
func (f *Faults) Cut(from, to service.NodeID) { f.setCut(from, to, true) }

// Heal ends a Cut.
func (f *Faults) Heal(from, to service.NodeID) { f.setCut(from, to, false) }

// Part cuts both ways between two nodes, until Join.
func (f *Faults) Part(a, b service.NodeID) {
	f.Cut(a, b)
	f.Cut(b, a)
}

// Join ends a Part.
func (f *Faults) Join(a, b service.NodeID) {
	f.Heal(a, b)
	f.Heal(b, a)
}

// Clear ends all bad weather and all cuts. What is on its way comes as it would have.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = Weather{}
	for _, sky := range f.ways {
		sky.own, sky.cut = nil, false
	}
}

func (f *Faults) setCut(from, to service.NodeID, cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skyLocked(way{from, to}).cut = cut
}

func (f *Faults) skyLocked(w way) *sky {
	s := f.ways[w]
	if s == nil {
		s = &sky{rand: rand.New(rand.NewPCG(f.seed, wayNumber(w)))}
		f.ways[w] = s
	}
	return s
}

// wayNumber is the same in each run. FNV-1a.
func wayNumber(w way) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range []byte(string(w.from) + ">" + string(w.to)) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// fate says when a frame that arrives now is to come: never, once or twice.
func (f *Faults) fate(w way, now time.Time) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.skyLocked(w)
	weather := f.all
	if s.own != nil {
		weather = *s.own
	}
	// All are drawn each time, so that a change of the weather leaves what is drawn later as it was.
	lose, repeat, stray := s.rand.Float64(), s.rand.Float64(), s.rand.Float64()
	delay, late := s.rand.Float64(), s.rand.Float64()
	if s.cut || lose < weather.Lose {
		return nil
	}
	due := now.Add(time.Duration(delay * float64(weather.Delay)))
	if due.Before(s.last) {
		due = s.last
	}
	again := due.Add(time.Duration(late * float64(weather.Late)))
	if stray < weather.Stray {
		due = again
	} else {
		s.last = due
	}
	if repeat < weather.Repeat {
		return []time.Time{due, again}
	}
	return []time.Time{due}
}

func (f *Faults) isCut(w way) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.skyLocked(w).cut
}

// tagLen is that of a node's name, before each frame between wrapped buses.
const tagLen = 4

// straysBytes are those that wait to come to one bus.
const straysBytes = 64 << 20

// Faulty is a bus with weather.
type Faulty struct {
	inner   adapter.Bus
	faults  *Faults
	name    service.NodeID
	changed chan struct{}
	filled  chan struct{} // has a value when a frame has been added
	done    chan struct{} // closed by Close
	once    sync.Once
	ended   sync.WaitGroup
	lost    atomic.Uint64
	down    atomic.Bool

	mu    sync.Mutex
	each  func([]byte) // guarded by mu
	due   strays       // guarded by mu
	bytes int          // guarded by mu; of due
	next  uint64       // guarded by mu
}

// Wrap puts a bus into the weather. All buses of a cluster have to be wrapped by the same Faults. The bus is the
// wrapper's from then on. Its name has to be valid.
func (f *Faults) Wrap(name service.NodeID, bus adapter.Bus) *Faulty {
	b := &Faulty{
		inner: bus, faults: f, name: name,
		changed: make(chan struct{}, 1), filled: make(chan struct{}, 1), done: make(chan struct{}),
	}
	b.ended.Go(b.run)
	return b
}

// SetUp takes the bus away from its node, or gives it back. While it is away nothing goes out or comes in.
func (b *Faulty) SetUp(up bool) {
	b.down.Store(!up)
	poke(b.changed)
}

// Send implements adapter.Bus.
func (b *Faulty) Send(to service.NodeID, frame []byte) error {
	tagged, err := b.tag(frame)
	if tagged == nil {
		return err
	}
	return b.inner.Send(to, tagged)
}

// SendAll implements adapter.Bus.
func (b *Faulty) SendAll(frame []byte) error {
	tagged, err := b.tag(frame)
	if tagged == nil {
		return err
	}
	return b.inner.SendAll(tagged)
}

func (b *Faulty) tag(frame []byte) ([]byte, error) {
	switch {
	case len(frame) > b.MaxFrame():
		return nil, adapter.ErrTooLarge
	case b.down.Load():
		return nil, adapter.ErrDown
	case len(frame) == 0:
		return nil, nil
	}
	return append([]byte(b.name), frame...), nil
}

// Receive implements adapter.Bus.
func (b *Faulty) Receive(each func(frame []byte)) error {
	b.mu.Lock()
	b.each = each
	b.mu.Unlock()
	return b.inner.Receive(b.arrive)
}

func (b *Faulty) arrive(tagged []byte) {
	if len(tagged) < tagLen || b.down.Load() {
		b.lost.Add(1)
		return
	}
	w := way{service.NodeID(tagged[:tagLen]), b.name}
	frame := tagged[tagLen:]
	times := b.faults.fate(w, time.Now())

	b.mu.Lock()
	defer b.mu.Unlock()
	for i, at := range times {
		if b.bytes+len(frame) > straysBytes {
			b.lost.Add(1)
			return
		}
		if i > 0 {
			frame = append([]byte(nil), frame...) // each is its receiver's
		}
		heap.Push(&b.due, stray{at, b.next, w, frame})
		b.next++
		b.bytes += len(frame)
	}
	poke(b.filled)
}

// run hands over what is due.
func (b *Faulty) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-b.done:
			return
		case <-b.inner.Changed():
			poke(b.changed)
		case <-b.filled:
		case <-timer.C:
		}
		for {
			s, each, wait := b.take(time.Now())
			if wait != 0 {
				timer.Reset(wait)
				break
			}
			if b.faults.isCut(s.way) || b.down.Load() {
				b.lost.Add(1)
				continue
			}
			each(s.frame)
		}
	}
}

// take returns the next frame that is due, or how long to wait for one.
func (b *Faulty) take(now time.Time) (s stray, each func([]byte), wait time.Duration) {
	select {
	case <-b.done:
		return stray{}, nil, time.Hour
	default:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.due) == 0 {
		return stray{}, nil, time.Hour
	}
	if wait = b.due[0].at.Sub(now); wait > 0 {
		return stray{}, nil, wait
	}
	s, _ = heap.Pop(&b.due).(stray)
	b.bytes -= len(s.frame)
	return s, b.each, 0
}

// MaxFrame implements adapter.Bus.
func (b *Faulty) MaxFrame() int { return b.inner.MaxFrame() - tagLen }

// Up implements adapter.Bus.
func (b *Faulty) Up() bool { return !b.down.Load() && b.inner.Up() }

// Changed implements adapter.Bus.
func (b *Faulty) Changed() <-chan struct{} { return b.changed }

// Lost implements adapter.Bus.
func (b *Faulty) Lost() uint64 { return b.lost.Load() + b.inner.Lost() }

// Close implements adapter.Bus.
func (b *Faulty) Close() error {
	err := b.inner.Close()
	b.once.Do(func() {
		close(b.done)
		b.ended.Wait()
		poke(b.changed)
	})
	return err
}

// stray is a frame on its way.
type stray struct {
	at    time.Time
	n     uint64 // those of one moment come in the order in which they arrived
	way   way
	frame []byte
}

// strays is a heap by time.
type strays []stray

func (h strays) Len() int { return len(h) }
func (h strays) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].n < h[j].n
}
func (h strays) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *strays) Push(x any) {
	s, _ := x.(stray)
	*h = append(*h, s)
}

func (h *strays) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = stray{}
	*h = old[:len(old)-1]
	return last
}
