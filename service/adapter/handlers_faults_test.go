package adapter_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/membus"
)

// seeds is how many schedules of each kind are tried.
const seeds = 6

// faulty is a cluster with sockets and backends at all nodes, whose backends take note of the events that they are told
// and answer after a while, and come and go.
type faulty struct {
	*cluster
	*rand.Rand
	lossless bool // backends go when they have answered all
	sockets  []*service.Socket
	links    []*link
	owners   []service.NodeID
	sent     []int

	mu       sync.Mutex
	told     [][]int // of each socket, the events in the order in which backends were told of them
	backends int
	busy     sync.WaitGroup
}

func newFaulty(t *testing.T, seed uint64, lossless bool, lease time.Duration) *faulty {
	c := emptyCluster(t, seed)
	for _, name := range abc {
		c.start(name, service.Config{HandlerWait: 5 * time.Minute, HandlerPatience: 10 * time.Minute}, adapter.Config{Window: 16 << 10, MaxFrame: 4 << 10, Lease: lease})
	}
	c.settle()
	return &faulty{cluster: c, Rand: rand.New(rand.NewPCG(seed, 1)), lossless: lossless}
}

func (f *faulty) pick() service.NodeID { return abc[f.IntN(len(abc))] }

// backend attaches one for a while.
func (f *faulty) backend(at service.NodeID, life time.Duration) {
	f.mu.Lock()
	f.backends++
	id := fmt.Sprint("b", f.backends)
	slow := time.Duration(f.IntN(30)) * time.Millisecond
	sudden := f.IntN(2) == 0 // it goes at the moment at which it is told of an event: nobody can know yet that it was
	f.mu.Unlock()
	goes, event := make(chan struct{}), make(chan struct{}, 1)
	f.busy.Go(func() {
		var b *backend
		there := make(chan struct{}) // closed when b is known: it may be told of events before
		b, _, err := f.tryAttach(at, service.Registration{ID: id, MaxInFlight: 1 + len(id)%3}, func(n *service.Notice) bool {
			if n.Kind != service.NoticeEvent {
				return true
			}
			var socket, number int
			if _, err := fmt.Sscanf(string(n.Packet.Payload), `["e",%d,%d]`, &socket, &number); err != nil {
				f.Errorf("told %q", n.Packet.Payload)
			}
			f.mu.Lock()
			f.told[socket] = append(f.told[socket], number)
			f.mu.Unlock()
			select {
			case <-goes:
				poke(event)
			default:
			}
			call := n.CallID
			f.busy.Go(func() {
				time.Sleep(slow)
				<-there
				b.Reply(call, []byte(`["ok"]`), nil)
			})
			return false
		})
		if err != nil {
			f.Error(err)
			return
		}
		close(there)
		time.Sleep(life)
		if close(goes); sudden {
			select {
			case <-event:
			case <-time.After(2 * time.Second): // there is none
			}
		}
		b.Drain()
		if f.lossless {
			<-b.done
		} else {
			time.Sleep(slow)
		}
		b.leave()
	})
}

// begin lets all sockets come to a first backend, which goes soon, and another one come that stays.
func (f *faulty) begin() {
	f.backend(f.pick(), 2*time.Second)
	for range 8 {
		f.client()
	}
	f.backend(f.pick(), 4*time.Minute)
}

// client lets a socket come, which one of the backends gets that have the fewest: so newcomers have some, too.
func (f *faulty) client() {
	at := f.pick()
	s, l := f.connect(at, "/")
	f.sockets, f.links, f.owners, f.sent = append(f.sockets, s), append(f.links, l), append(f.owners, at), append(f.sent, 0)
	f.mu.Lock()
	f.told = append(f.told, nil)
	f.mu.Unlock()
}

func (f *faulty) event(i int) {
	f.send(f.owners[i], f.sockets[i], int64(f.sent[i]), fmt.Sprintf(`["e",%d,%d]`, i, f.sent[i]))
	f.sent[i]++
}

// live lets events, emits, backends and bad weather come for a while.
func (f *faulty) live(steps int, cut time.Duration) {
	for step := range steps {
		for range f.IntN(6) {
			f.event(f.IntN(len(f.sockets)))
		}
		if f.IntN(4) == 0 { // the windows fill
			for range f.IntN(100) {
				f.nodes[f.pick()].EmitBatch(f.Context(), []service.Emit{{
					Target: service.Target{Namespace: "/", All: true}, Packet: event(`["x","` + strings.Repeat("x", f.IntN(600)) + `"]`), Accepted: true,
				}})
			}
		}
		if f.IntN(3) == 0 {
			i := f.IntN(len(f.sockets))
			f.join(f.owners[i], f.sockets[i], fmt.Sprint("r", step, "-", i))
		}
		if f.IntN(4) == 0 && len(f.sockets) < 30 {
			f.client()
		}
		if f.IntN(8) == 0 {
			f.backend(f.pick(), time.Duration(f.IntN(4000))*time.Millisecond)
		}
		f.weather(cut)
		time.Sleep(time.Duration(f.IntN(150)) * time.Millisecond)
	}
	f.faults.Clear()
}

func (f *faulty) weather(cut time.Duration) {
	switch a, b := f.pick(), f.pick(); f.IntN(12) {
	case 0:
		f.faults.Cut(a, b)
		time.AfterFunc(time.Duration(f.Int64N(int64(cut))), func() { f.faults.Heal(a, b) })
	case 1:
		f.faults.Part(a, b)
		time.AfterFunc(time.Duration(f.Int64N(int64(cut))), func() { f.faults.Join(a, b) })
	case 2:
		f.faults.Set(membus.Weather{Lose: 0.2 * f.Float64(), Repeat: 0.2, Delay: 5 * time.Millisecond, Stray: 0.1, Late: 100 * time.Millisecond})
	case 3:
		f.faults.Set(membus.Weather{})
	}
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// TestEventsAreHandledOnce: as long as no node is lost to another, each event is told to one backend, once and in its
// order, and acknowledged, however the ways between nodes are, and backends come and go.
func TestEventsAreHandledOnce(t *testing.T) {
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			f := newFaulty(t, seed, true, 30*time.Second)
			f.begin()
			f.live(150, 2*time.Second)
			time.Sleep(time.Minute)
			synctest.Wait()
			acks := 0
			for i, list := range f.told {
				if len(list) != f.sent[i] {
					t.Errorf("seed %d: socket %d has sent %d, and %d were told", seed, i, f.sent[i], len(list))
				}
				for k, number := range list {
					if number != k {
						t.Fatalf("seed %d: socket %d: event %d comes at place %d of %v", seed, i, number, k, list)
					}
				}
				for _, line := range f.links[i].take() {
					if strings.HasSuffix(line, `["ok"]`) {
						acks++
					}
				}
			}
			sum := 0
			for _, n := range f.sent {
				sum += n
			}
			lost := int64(0)
			for _, name := range abc {
				lost += f.nodes[name].Info().Dropped["handler_lost"]
			}
			want(t, fmt.Sprint("seed ", seed, ": acks, lost"), fmt.Sprint(acks, lost), fmt.Sprint(sum, 0))
			f.end(seed)
		})
	}
}

// TestHandlersSettleAfterAnyFaults: nodes are lost to each other, one way or both, and backends end with events in
// flight. When all is well again each socket has one handler, what waited was told in order, and nothing is owed to
// anybody.
func TestHandlersSettleAfterAnyFaults(t *testing.T) {
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) {
			f := newFaulty(t, seed, false, 5*time.Second)
			f.begin()
			f.live(150, 15*time.Second)
			time.Sleep(90 * time.Second)
			synctest.Wait()
			for i, list := range f.told {
				last := -1
				for k, number := range list {
					// A node that is lost may have told its backend what it could not say that it did.
					if number < last-3 {
						t.Fatalf("seed %d: socket %d: event %d comes at place %d of %v", seed, i, number, k, list)
					}
					last = max(last, number)
				}
				if last != f.sent[i]-1 {
					t.Errorf("seed %d: socket %d: the last of %d that was told is %d", seed, i, f.sent[i], last)
				}
				f.links[i].take()
			}
			for round := range 3 {
				before := make([]int, len(f.told))
				for i := range f.sockets {
					before[i] = len(f.told[i])
					f.event(i)
				}
				f.pass(time.Second)
				for i := range f.sockets {
					got := f.told[i][before[i]:]
					want(t, fmt.Sprint("seed ", seed, ", round ", round, ", socket ", i), fmt.Sprint(got, f.links[i].take()),
						fmt.Sprintf(`[%d] [%d["ok"]]`, f.sent[i]-1, f.sent[i]-1))
				}
			}
			f.end(seed)
		})
	}
}

// end looks whether the last backend owes nothing, by its drain.
func (f *faulty) end(seed uint64) {
	f.Helper()
	time.Sleep(2 * 4 * time.Minute)
	synctest.Wait()
	done := make(chan struct{})
	go func() { f.busy.Wait(); close(done) }()
	synctest.Wait()
	select {
	case <-done:
	default:
		f.Fatalf("seed %d: a backend that drains is never done", seed)
	}
}
