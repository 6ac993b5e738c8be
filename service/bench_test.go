package service

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// nullConn takes everything at once.
type nullConn struct {
	fakeConn
	codec Codec
	held  atomic.Int64 // pauses without their resume
}

type nullCodec struct{}

type nullFrame struct{}

func (nullFrame) Len() int { return 1 }

func (nullCodec) Encode(*Packet) (Frame, error) { return nullFrame{}, nil }
func (nullCodec) Join([]Frame) Frame            { return nullFrame{} }

// sessionsAsked counts how often a nullConn was looked at.
var sessionsAsked atomic.Int64

func (c *nullConn) SessionID() string {
	sessionsAsked.Add(1)
	return "session"
}

func (c *nullConn) Codec() Codec                          { return c.codec }
func (c *nullConn) Send(Frame, Flags) Outcome             { return QueuedFlush }
func (c *nullConn) Flush()                                {}
func (c *nullConn) Room(int) (<-chan struct{}, time.Time) { return nil, time.Time{} }
func (c *nullConn) Probe(int, Flags) (Outcome, LinkState) { return QueuedFlush, LinkState{} }
func (c *nullConn) Pause()                                {}
func (c *nullConn) Resume()                               {}

func crowd(tb testing.TB, n *Node, size int, rooms func(i int) []string) {
	tb.Helper()
	for i := range size {
		c := &nullConn{codec: nullCodec{}}
		r := c.request("/")
		r.Conn = c
		n.Connect(r)
		if rooms != nil {
			join(tb, n, c.sockets[0], rooms(i)...)
		}
	}
}

func BenchmarkDeliver(b *testing.B) {
	for _, size := range []int{1, 100, 1000, 10_000} {
		for name, target := range map[string]Target{
			"all":   {Namespace: "/", All: true},
			"room":  {Namespace: "/", Rooms: []string{"r"}},
			"union": {Namespace: "/", Rooms: []string{"r", "half"}},
		} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				n := newNode(b, Config{})
				crowd(b, n, size, func(i int) []string { return []string{"r", "half"}[:1+i%2] })
				e := Emit{Target: target, Packet: event("e", "some text of a usual length")}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := n.Emit(b.Context(), e); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/recipient")
			})
		}
	}
}

// BenchmarkJoinLeave: the cost of a join is that of the socket's own rooms, however many rooms there are.
func BenchmarkJoinLeave(b *testing.B) {
	for _, rooms := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprint(rooms), func(b *testing.B) {
			n := newNode(b, Config{})
			crowd(b, n, rooms, func(i int) []string { return []string{fmt.Sprint("room", i)} })
			s, _ := connect(b, n, "/")
			target := Target{Namespace: "/", Rooms: []string{string(s.ID())}}
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = n.Join(b.Context(), target, []string{"room5"})
				_, _, _ = n.Leave(b.Context(), target, []string{"room5"})
			}
		})
	}
}

// BenchmarkMatch: an emit to a room of two, and to a union of it with another, costs the same however many rooms there
// are.
func BenchmarkMatch(b *testing.B) {
	for _, rooms := range []int{10, 1000, 100_000} {
		n := newNode(b, Config{})
		crowd(b, n, 2*rooms, func(i int) []string { return []string{fmt.Sprint("room", i/2)} })
		for name, target := range map[string]Target{
			"room":   {Namespace: "/", Rooms: []string{"room5"}},
			"union":  {Namespace: "/", Rooms: []string{"room5", "room6"}},
			"except": {Namespace: "/", Rooms: []string{"room5", "room6"}, ExceptRooms: []string{"room6"}},
		} {
			b.Run(fmt.Sprintf("%s/%d", name, rooms), func(b *testing.B) {
				e := Emit{Target: target, Packet: event("e", "x")}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := n.Emit(b.Context(), e); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkEventToHandler(b *testing.B) {
	n := newNode(b, Config{})
	h := attach(b, n, Registration{MaxInFlight: 1 << 20})
	s, _ := connect(b, n, "/")
	p := event("e", "x")
	buf := make([]Notice, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		s.receive(p)
		notices, err := h.Next(b.Context(), buf)
		if err != nil {
			b.Fatal(err)
		}
		h.Handled(notices[len(notices)-1].CallID)
	}
}

// BenchmarkAttachAndDetach: beside a crowd of 100,000 that comes over each time, and for whoever waits for the lock
// meanwhile.
func BenchmarkAttachAndDetach(b *testing.B) {
	n := newNode(b, Config{MaxNoticeBytes: 1 << 30})
	crowd(b, n, 100_000, nil)
	ns := n.namespace("/")
	stop := make(chan struct{})
	longest := make(chan time.Duration)
	go func() {
		var most time.Duration
		for {
			select {
			case <-stop:
				longest <- most
				return
			default:
				start := time.Now()
				ns.assigning.Lock()
				most = max(most, time.Since(start))
				ns.assigning.Unlock()
			}
		}
	}()
	for b.Loop() {
		h, _, err := n.Attach(b.Context(), Registration{Namespaces: []string{"/"}})
		if err != nil {
			b.Fatal(err)
		}
		h.Detach()
	}
	close(stop)
	b.ReportMetric(float64((<-longest).Microseconds())/1000, "longest-ms")
}

// BenchmarkConnectBesideHandlers: 500 groups that name 1,000 namespaces, of which one is the connect's.
func BenchmarkConnectBesideHandlers(b *testing.B) {
	for _, groups := range []int{1, 500} {
		b.Run(fmt.Sprint(groups), func(b *testing.B) {
			n := newNode(b, Config{})
			attach(b, n, Registration{Group: "own", Observer: true})
			for i := range groups {
				r := Registration{Group: fmt.Sprint(i), Observer: i%2 == 0, DecideConnects: true}
				for j := range 1000 {
					r.Namespaces = append(r.Namespaces, fmt.Sprintf("/n%d", (i/2*1000+j)%9000))
				}
				if i%2 == 1 {
					r.Events = []string{fmt.Sprint(i)}
					r.DecideConnects = i < 18
				}
				attach(b, n, r)
			}
			c := &nullConn{codec: nullCodec{}}
			r := c.request("/")
			r.Conn = c
			b.ReportAllocs()
			for b.Loop() {
				c.sockets = c.sockets[:0]
				n.Connect(r)
				c.sockets[0].leave(ReasonTransportClose, "", nil)
			}
		})
	}
}

// BenchmarkPage: a page costs what it holds, wherever it is in a crowd of 200,000.
func BenchmarkPage(b *testing.B) {
	n := newNode(b, Config{})
	crowd(b, n, 200_000, nil)
	for name, seq := range map[string]uint64{"first": 0, "middle": 100_000, "last": 199_000} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, err := n.Sockets(b.Context(), Target{Namespace: "/", All: true}, PageRequest{Place: Place{n.self, seq}, Limit: 1000})
				if err != nil || len(p.Sockets) != 1000 {
					b.Fatal(len(p.Sockets), err)
				}
			}
		})
	}
}
