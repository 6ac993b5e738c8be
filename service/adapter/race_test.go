package adapter_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"foyer/service"
)

// realCluster is a cluster in real time.
func realCluster(t testing.TB, names ...service.NodeID) *cluster {
	c := newCluster(t, names...)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		missing := c.unsettled()
		if missing == "" {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatal(missing)
		}
	}
}

// TestJoinRace: an emit that begins at any node after a join was answered reaches the socket, or names its node; at
// rest and while others emit, join and leave.
func TestJoinRace(t *testing.T) {
	const joins = 10_000
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprint("busy ", busy), func(t *testing.T) {
			c := realCluster(t, abc...)
			s, l := c.enter("AAAA")
			me := service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}
			ctx, stop := context.WithCancel(t.Context())
			var others sync.WaitGroup
			if busy {
				for i, at := range abc {
					o, _ := c.enter(at)
					own := service.Target{Namespace: "/", Rooms: []string{string(o.ID())}}
					others.Go(func() {
						for n := 0; ctx.Err() == nil; n++ {
							room := fmt.Sprint("load", i, n%100)
							_, _, _ = c.nodes[abc[(i+1)%3]].Join(ctx, own, []string{room})
							_, _ = c.nodes[abc[(i+2)%3]].Emit(ctx, service.Emit{Target: service.Target{Namespace: "/", Rooms: []string{room}}, Packet: event(`["load"]`)})
							_, _, _ = c.nodes[at].Leave(ctx, own, []string{room})
						}
					})
				}
			}
			named, unheard := 0, 0
			for i := range joins {
				room := fmt.Sprint("room", i)
				if i%4 == 3 {
					room = fmt.Sprint("room", i-2) // it was left lately
				}
				at, from := abc[i%3], abc[(i/3)%3]
				n, coverage, err := c.nodes[at].Join(t.Context(), me, []string{room})
				if n != 1 || err != nil {
					if len(coverage.Unreachable) == 0 {
						t.Fatalf("join %d: %d, %v, %v", i, n, coverage, err)
					}
					continue
				}
				if len(coverage.Unreachable) > 0 { // the machine was asleep for a second
					unheard++
				}
				r, err := c.nodes[from].Emit(t.Context(), service.Emit{Target: service.Target{Namespace: "/", Rooms: []string{room}}, Packet: event(`["x"]`)})
				switch {
				case err != nil:
					t.Fatal(err)
				case len(r.Coverage.Unreachable) > 0:
					named++
				case r.Enqueued != 1 && len(coverage.Unreachable) == 0:
					t.Fatalf("join %d at %s, emit at %s: %+v", i, at, from, r)
				}
				if i%4 != 1 {
					_, _, _ = c.nodes[from].Leave(t.Context(), me, []string{room})
				}
				l.take()
			}
			stop()
			others.Wait()
			if named+unheard > joins/100 {
				t.Errorf("%d emits and %d joins of %d named nodes that were well", named, unheard, joins)
			}
		})
	}
}

// BenchmarkEmitToOne is an emit to one socket, here and at another node, over a bus in memory.
func BenchmarkEmitToOne(b *testing.B) {
	for _, at := range []service.NodeID{"AAAA", "BBBB"} {
		b.Run("at "+string(at), func(b *testing.B) {
			c := realCluster(b, "AAAA", "BBBB")
			s, l := c.enter(at)
			e := service.Emit{Target: service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}, Packet: event(`["x"]`)}
			b.ReportAllocs()
			for b.Loop() {
				r, err := c.nodes["AAAA"].Emit(b.Context(), e)
				if err != nil || r.Enqueued != 1 {
					b.Fatal(r, err)
				}
				l.take()
			}
		})
	}
}

// BenchmarkEmitsThere is emits to rooms of one at another node, many at a time and with nobody who waits for counts,
// over a bus in memory.
func BenchmarkEmitsThere(b *testing.B) {
	const together = 64
	c := realCluster(b, "AAAA", "BBBB")
	links := make([]*link, together)
	emits := make([]service.Emit, together)
	for i := range links {
		var s *service.Socket
		s, links[i] = c.enter("BBBB")
		emits[i] = service.Emit{
			Target: service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}, Accepted: true,
			Packet: event(`["e","` + strings.Repeat("x", 100) + `"]`),
		}
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += together {
		for _, r := range c.nodes["AAAA"].EmitBatch(b.Context(), emits) {
			if r.Err != nil {
				b.Fatal(r.Err)
			}
		}
		for _, l := range links {
			for len(l.take()) == 0 {
				runtime.Gosched()
			}
		}
	}
}
