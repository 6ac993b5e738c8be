//go:build !race

// The race detector empties pools at random, so that it sees allocations which are not there.

package service

import (
	"testing"
)

// TestDeliverAllocatesNothingPerRecipient: a broadcast costs the same objects whether one hears it or ten thousand.
func TestDeliverAllocatesNothingPerRecipient(t *testing.T) {
	var counts []float64
	for _, size := range []int{1, 100, 10_000} {
		n := newNode(t, Config{})
		crowd(t, n, size, func(i int) []string { return []string{"r", "half"}[:1+i%2] })
		for _, target := range []Target{{All: true}, {Rooms: []string{"r"}}, {Rooms: []string{"half", "r"}, ExceptRooms: []string{"x"}}} {
			target.Namespace = "/"
			e := Emit{Target: target, Packet: event("e")}
			allocs := testing.AllocsPerRun(20, func() { _, _ = n.Emit(t.Context(), e) })
			if allocs > 12 {
				t.Errorf("%d recipients of %+v: %v objects", size, target, allocs)
			}
			counts = append(counts, allocs)
		}
	}
	t.Log("objects per broadcast:", counts)
}

// TestEventsAllocateTheirAcksOnly: on its way to its handler an event makes nothing, and its reply the packet of the
// ack.
func TestEventsAllocateTheirAcksOnly(t *testing.T) {
	n := newNode(t, Config{})
	h := attach(t, n, Registration{})
	c := &nullConn{codec: nullCodec{}}
	r := c.request("/")
	r.Conn = c
	n.Connect(r)
	p := event("e", "x")
	p.AckID = 1
	buf := make([]Notice, 0, 256)
	round := func() {
		for range 100 {
			c.sockets[0].receive(p)
		}
		for answered := 0; answered < 100; {
			notices, err := h.Next(t.Context(), buf)
			if err != nil {
				t.Fatal(err)
			}
			for i := range notices {
				if notices[i].Kind == NoticeEvent {
					h.Reply(notices[i].CallID, p.Payload, nil)
					answered++
				}
			}
		}
	}
	if got := testing.AllocsPerRun(20, round) / 100; got > 1 {
		t.Errorf("%v objects for an event and its ack", got)
	}
}

// TestPagesOfALargeCrowd: 200,000 sockets, page by page, while others come and go. A socket that is there throughout is
// listed once.
func TestPagesOfALargeCrowd(t *testing.T) {
	const size, page = 200_000, 1000
	n := newNode(t, Config{})
	crowd(t, n, size, nil)
	ns := n.namespace("/")
	rng := newRand(4)
	left := map[SocketID]bool{}
	leave := func() {
		i := rng.IntN(len(ns.order.entries))
		if s := ns.order.entries[i].socket; s != nil && s.seq <= size {
			left[s.id] = true
			s.leave(ReasonTransportClose, "", nil)
		}
	}
	listed := map[SocketID]int{}
	looked := 0
	for place, first := (Place{}), true; place != (Place{}) || first; first = false {
		before := sessionsAsked.Load()
		p, err := n.Sockets(t.Context(), Target{Namespace: "/", All: true}, PageRequest{Place: place, Limit: page})
		if err != nil {
			t.Fatal(err)
		}
		looked = max(looked, int(sessionsAsked.Load()-before))
		for i := range p.Sockets {
			listed[p.Sockets[i].ID]++
		}
		for range 20 {
			leave()
			connect(t, n, "/")
		}
		place = p.Next
	}
	if looked > page {
		t.Errorf("a page looked at %d sockets", looked)
	}
	present := 0
	for _, e := range ns.order.entries {
		if e.socket != nil && e.seq <= size {
			present++
			if listed[e.socket.id] != 1 {
				t.Fatalf("a socket that was there throughout is listed %d times", listed[e.socket.id])
			}
		}
	}
	for id, times := range listed {
		if times > 1 {
			t.Fatalf("%s is listed %d times", id, times)
		}
	}
	if present+len(left) != size {
		t.Errorf("%d stayed and %d left of %d", present, len(left), size)
	}
}
