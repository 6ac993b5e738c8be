package service

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestMeasures: what a node has and has done is counted by class, and stays counted when its namespaces and handlers
// go.
func TestMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "/shop", Connect: ConnectOpen}, {Pattern: "/table*", Connect: ConnectOpen}}})
		h := attach(t, n, Registration{Namespaces: []string{"/", "/named"}})
		var all []*Socket
		for range 3 {
			s, _ := connect(t, n, "/", "room")
			all = append(all, s)
		}
		shop, _ := connect(t, n, "/shop")
		connect(t, n, "/table5", "a", "b")
		connect(t, n, "/named")
		told(t, h)
		m := n.Measure()
		wantEqual(t, "classes", m.Classes, [Classes]ClassMeasures{{2, 4, 1}, {1, 1, 0}, {1, 1, 2}})
		wantEqual(t, "handlers", []int{m.Handlers.Attached, m.Handlers.Sockets, m.Handlers.Queued, m.Handlers.InFlight}, []int{1, 4, 0, 0})

		n.EmitBatch(t.Context(), []Emit{
			{Target: Target{Namespace: "/", All: true}, Packet: event("e")},
			{Target: Target{Namespace: "/", All: true}, Packet: event("e")},
			{Target: Target{Namespace: "/shop", All: true}, Packet: event("e")},
			{Target: Target{Namespace: "/", Rooms: []string{"nobody"}}, Packet: event("e")},
		})
		c, err := n.CollectAcks(t.Context(), Emit{Target: Target{Namespace: "/", All: true}, Packet: event("e")}, 0)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
		all[0].receive(&Packet{Kind: KindAck, AckID: c.id, Payload: []byte("[]")})
		all[1].leave(ReasonTransportClose, "", nil)
		c.Finish()
		all[0].emits("e")
		notices, _ := h.Next(t.Context(), nil)
		event := notices[len(notices)-1]
		wantEqual(t, "in flight", n.Measure().Handlers.InFlight, 1)
		time.Sleep(2 * time.Second)
		h.Reply(event.CallID, nil, nil)
		check := func(when string) {
			m := n.Measure()
			wantEqual(t, when+": emits and deliveries", []uint64{m.Emits, m.Deliveries}, []uint64{5, 10})
			wantEqual(t, when+": runs by size", []uint64{m.FanOut[0].Count, m.FanOut[1].Count, m.FanOut[2].Count}, []uint64{1, 1, 0}) // the first run of each namespace
			wantEqual(t, when+": acks", fmt.Sprint(m.Acks), fmt.Sprint([AckKinds]uint64{AckOK: 1, AckTimeout: 1, AckDisconnected: 1}))
			wantEqual(t, when+": ack latency", []any{m.AckLatency.Count, m.AckLatency.Sum, m.AckLatency.Buckets[timingBucket(20*time.Millisecond)]}, []any{uint64(1), 20 * time.Millisecond, uint64(1)})
			wantEqual(t, when+": reply", []any{m.Handlers.Reply.Count, m.Handlers.Reply.Sum, m.Handlers.Reply.Buckets[timingBucket(2*time.Second)]}, []any{uint64(1), 2 * time.Second, uint64(1)})
		}
		check("with all")
		h.Detach()
		for _, s := range []*Socket{all[0], all[2], shop} {
			s.leave(ReasonTransportClose, "", nil)
		}
		wantEqual(t, "one is gone", n.Measure().Classes[ClassConfigured].Sockets, 0)
		check("when they are gone")
	})
}

func TestTimingBuckets(t *testing.T) {
	for took, want := range map[time.Duration]float64{
		-time.Second: 1.0 / (1 << 17), 0: 1.0 / (1 << 17), time.Microsecond: 1.0 / (1 << 17), 7629 * time.Nanosecond: 1.0 / (1 << 17),
		250 * time.Millisecond: 0.25, 250*time.Millisecond + 1: 0.25 * math.Sqrt2, 353 * time.Millisecond: 0.25 * math.Sqrt2, 354 * time.Millisecond: 0.5,
		time.Second: 1, 128 * time.Second: 128, 129 * time.Second: 128 * math.Sqrt2, time.Hour: 128 * math.Sqrt2,
	} {
		bucket := timingBucket(took)
		wantEqual(t, fmt.Sprint(took), TimingBound(bucket), want)
		if seconds := took.Seconds(); bucket > 0 && seconds <= TimingBound(bucket-1) {
			t.Errorf("%v is in the bucket above that up to %v", took, TimingBound(bucket-1))
		}
	}
}

// TestMeasuresOfWatchers: the lag is that of the slowest one, and a watcher that has taken all has none.
func TestMeasuresOfWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{})
		var all []*Watcher
		next := func(w *Watcher) (step WatchStep) {
			step, err := w.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return step
		}
		for range 2 {
			w, err := n.Watch(t.Context(), Scope{Namespace: "/", All: true}, "")
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			if step := next(w); !step.Synced {
				t.Fatal(step)
			}
			all = append(all, w)
		}
		wantEqual(t, "lag when all is told", n.Measure().WatcherLag, 0)
		for range 3 {
			connect(t, n, "/")
		}
		next(all[0])
		connect(t, n, "/")
		wantEqual(t, "lag of the slowest", n.Measure().WatcherLag, 4)
		next(all[1])
		wantEqual(t, "lag of the other one", n.Measure().WatcherLag, 1)
	})
}

func TestFanOutClasses(t *testing.T) {
	for recipients, want := range map[int]string{
		0: "0-1", 1: "0-1", 2: "2-9", 9: "2-9", 10: "10-99", 99: "10-99", 100: "100-999", 1000: "1000-9999", 9999: "1000-9999", 10_000: "10000-", 1e8: "10000-",
	} {
		wantEqual(t, fmt.Sprint(recipients), FanOutName(fanOutOf(recipients)), want)
	}
}

// TestMeasuresOnlyGrow: while namespaces come and go amid emits to them, what was done is not forgotten.
func TestMeasuresOnlyGrow(t *testing.T) {
	n := newNode(t, Config{Namespaces: []NamespaceConfig{{Pattern: "/n*", Connect: ConnectOpen}}})
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprint("/n", i%2)
		busy.Go(func() {
			for ctx.Err() == nil {
				_, _ = n.Emit(t.Context(), Emit{Target: Target{Namespace: name, All: true}, Packet: event("e")})
			}
		})
		busy.Go(func() {
			for ctx.Err() == nil {
				c := newConn()
				n.Connect(c.request(name))
				for _, s := range c.sockets {
					s.leave(ReasonTransportClose, "", nil)
				}
			}
		})
	}
	var last Measures
	for deadline := time.Now().Add(time.Minute); last.Deliveries < 300 && time.Now().Before(deadline); {
		m := n.Measure()
		if m.Emits < last.Emits || m.Deliveries < last.Deliveries || m.FanOut[0].Count < last.FanOut[0].Count {
			t.Errorf("%d emits and %d deliveries, after %d and %d", m.Emits, m.Deliveries, last.Emits, last.Deliveries)
			break
		}
		last = m
	}
	stop()
	busy.Wait()
	if last.Deliveries < 300 {
		t.Errorf("%d emits and %d deliveries", last.Emits, last.Deliveries)
	}
	if m := n.Measure(); m.Classes[ClassPattern].Namespaces != 0 || len(n.retired) != 0 {
		t.Errorf("%d namespaces are there, and %d are kept", m.Classes[ClassPattern].Namespaces, len(n.retired))
	}
}
