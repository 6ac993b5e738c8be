package adapter

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"foyer/service"
)

func (n *simNode) everywhere() service.Target { return service.Target{Namespace: "/", All: true} }

// publish gives an event of a size to all who have sockets in the namespace.
func (n *simNode) publish(size int) (unreached []service.NodeID) {
	t := n.everywhere()
	n.emits++
	e := &Emit{Target: t, Call: n.emits, Packets: []*service.Packet{{Payload: slices.Concat([]byte(`["e","`), bytes.Repeat([]byte("x"), size), []byte(`"]`))}}}
	n.p.tellRooms(n.now)
	to := n.p.Publish(n.now, &t, false, func(uint64) []byte { return AppendEmit(nil, e) })
	unreached = append(to.Missed, to.Silent...)
	for _, m := range n.p.members {
		if !slices.Contains(unreached, m.Node) {
			way := simWay{n.id, m.Incarnation}
			n.sends[way] = append(n.sends[way], simEmit{n.emits, m.out.epoch})
		}
	}
	return unreached
}

// pair is two nodes that are up, of which the second has sockets.
func pair(t *testing.T) (s *sim, a, b *simNode) {
	t.Helper()
	s = begun(t, "AAAA", "BBBB")
	a, b = s.nodes[0], s.nodes[1]
	b.p.Edge(s.now, "/", "", true)
	b.p.Flush(s.now)
	b.done()
	s.run(s.now + 100*time.Millisecond)
	if a.wantState(t, "BBBB", Up); len(a.p.member("BBBB").rooms) != 1 {
		t.Fatal("the room is not known")
	}
	return s, a, b
}

// TestWhatWaitsGoesInOneFrame, and what finds the trunk idle goes at once.
func TestWhatWaitsGoesInOneFrame(t *testing.T) {
	s, a, _ := pair(t)
	for _, n := range []int{1, 4} {
		for range n {
			a.publish(10)
		}
		a.p.Flush(s.now)
		out := a.p.Take()
		if len(out) != 1 || out[0].To != "BBBB" {
			t.Fatalf("%d emits are %d frames", n, len(out))
		}
		if f, drop := a.p.keys.readFrame(out[0].Frame); drop != 0 || len(f.items) != n {
			t.Errorf("%d items, want %d; %v", len(f.items), n, drop)
		}
	}
}

// TestAGapIsRepaired: the first frames of many are lost. The rest are not heard before these, and all are within 200 ms
// and a bit.
func TestAGapIsRepaired(t *testing.T) {
	for lost := range 5 {
		s, a, b := pair(t)
		for i := range 8 {
			a.publish(10)
			a.p.Flush(s.now)
			if i < lost {
				a.p.Take()
			}
			a.done()
		}
		s.run(s.now + 10*time.Millisecond)
		if want := 8 * min(1, max(0, 1-lost)); len(b.got) != want && lost == 0 {
			t.Errorf("%d lost: %d heard at once", lost, len(b.got))
		}
		s.run(s.now + 240*time.Millisecond)
		if len(b.got) != 8 {
			t.Errorf("%d lost: %d heard", lost, len(b.got))
		}
	}
}

// TestOnlyFramesWithItemsAreAnswered: whatever is wrong with one without items, nothing is said to it; and complaints
// have 200 ms between them.
func TestOnlyFramesWithItemsAreAnswered(t *testing.T) {
	s, a, b := pair(t)
	m := a.p.member("BBBB")
	for _, h := range []header{{epoch: m.out.epoch, last: 99}, {epoch: m.out.epoch + 5, last: 99, ackEpoch: 99}, {over: true}} {
		h.version, h.from, h.to = wireTo, a.id, b.id
		b.p.Receive(s.now, a.p.keys.appendFrame(nil, &h, nil))
		if out := b.p.Take(); len(out) != 0 {
			t.Errorf("%+v is answered", h)
		}
	}
	answers := 0
	from := s.now
	for ; s.now < from+time.Second; s.now += time.Millisecond { // a gap that is not repaired
		h := header{version: wireTo, from: a.id, to: b.id, epoch: m.out.epoch, seq: 50, last: 50}
		b.p.Receive(s.now, a.p.keys.appendFrame(nil, &h, [][]byte{toldItem}))
		answers += len(b.p.Take())
	}
	if answers < 4 || answers > 6 {
		t.Errorf("%d answers in a second", answers)
	}
}

// TestAFullWindow: it takes no emits until half of it is free, and holds no more than it may; others are not concerned.
func TestAFullWindow(t *testing.T) {
	s, a, b := pair(t)
	c := s.node("CCCC")
	s.begin(c, 1)
	c.p.Edge(s.now, "/", "", true)
	s.run(s.now + time.Second)
	s.cut[a.place][b.place] = true
	full := false
	for range 400 {
		unreached := a.publish(100)
		a.p.Flush(s.now)
		a.done()
		s.run(s.now + 2*time.Millisecond)
		if slices.Contains(unreached, "CCCC") {
			t.Fatal("another one is not reached")
		}
		was := full
		if full = slices.Contains(unreached, "BBBB"); was && !full {
			t.Fatal("it takes emits before any is heard")
		}
	}
	if !full {
		t.Fatal("it takes more than the window")
	}
	s.cut[a.place][b.place] = false
	s.run(s.now + 2*time.Second)
	if unreached := a.publish(100); len(unreached) > 0 || a.p.member("BBBB").out.epoch != 1 {
		t.Errorf("afterwards %v is not reached, epoch %d", unreached, a.p.member("BBBB").out.epoch)
	}
}

// TestNewsEndsTheEpochOfAFullWindow: it is told with the state of the next one.
func TestNewsEndsTheEpochOfAFullWindow(t *testing.T) {
	s, a, b := pair(t)
	s.cut[a.place][b.place] = true
	for len(a.publish(100)) == 0 {
		a.p.Flush(s.now)
	}
	for i := range 20 {
		a.edge(simRoom(i))
		a.p.Flush(s.now)
	}
	a.done()
	if o := &a.p.member("BBBB").out; o.stage != outOpening || !o.full || len(a.publish(1)) == 0 {
		t.Errorf("stage %d, full: %t", o.stage, o.full)
	}
	s.run(s.now + 3*time.Second)
	s.cut[a.place][b.place] = false
	s.run(s.now + 2*time.Second)
	if m := b.wantState(t, "AAAA", Up); len(m.rooms) != 20 || len(a.publish(1)) != 0 {
		t.Errorf("%d rooms are known, want 20", len(m.rooms))
	}
}

// TestWhatIsToldOnceIsKept, also when what outlives the epoch fills the window by itself.
func TestWhatIsToldOnceIsKept(t *testing.T) {
	s, a, b := pair(t)
	for given := true; given; {
		given, _ = a.p.Fact(b.id, make([]byte, 500))
	}
	item := make([]byte, 501)
	told := a.p.Tell(s.now, "", item)
	kept := slices.ContainsFunc(a.p.member("BBBB").out.waiting, func(it outItem) bool { return bytes.Equal(it.fact, item) })
	if epoch := a.p.member("BBBB").out.epoch; !told || !kept || epoch != 2 {
		t.Errorf("told: %t, kept: %t, in epoch %d", told, kept, epoch)
	}
}

// TestWhatIsHeardEndsTheEpochOfItsAck: a frame that begins an epoch is answered with news. Where that finds a full
// window, the epoch ends that the frame has an ack of, and the ack says nothing of the next one.
func TestWhatIsHeardEndsTheEpochOfItsAck(t *testing.T) {
	s, a, b := pair(t)
	if !a.presence.follows {
		a.watch()
		a.done()
	}
	s.run(s.now + 100*time.Millisecond)
	s.cut[b.place][a.place] = true
	for len(a.publish(100)) == 0 {
		a.p.Flush(s.now)
		a.done()
	}
	s.run(s.now + 10*time.Millisecond) // all of it is heard, and no ack comes
	s.cut[b.place][a.place] = false
	epoch := a.p.member("BBBB").out.epoch
	b.p.reopen(b.p.member("AAAA"), EndFull, s.now)
	b.done()
	s.run(s.now + 2*time.Second)
	if m := a.wantState(t, "BBBB", Up); m.out.epoch != epoch+1 || m.out.bytes != 0 || m.follows[simSpace] == nil {
		t.Errorf("epoch %d after %d, %d bytes are left, follows %v", m.out.epoch, epoch, m.out.bytes, m.follows)
	}
}

// TestAnAckIsOfAnEpochThatWas: a frame that makes this node open an epoch may carry an ack of that very epoch, which
// nobody can have heard. It has no effect.
func TestAnAckIsOfAnEpochThatWas(t *testing.T) {
	s, a, b := pair(t)
	m := a.p.member("BBBB")
	h := header{
		version: wireTo, from: b.id, to: a.id, epoch: b.p.member("AAAA").out.epoch + 1, seq: 1, last: 1, ackEpoch: a.p.epochs + 1, ack: 2,
	}
	s.strays = s.now // so that the simulator allows an epoch which nobody has forgotten to end
	a.p.Receive(s.now, a.p.keys.appendFrame(nil, &h, [][]byte{openItem}))
	if m.out.epoch != h.ackEpoch || m.out.stage != outOpening || m.out.base != 0 {
		t.Errorf("epoch %d, stage %d, %d frames are heard", m.out.epoch, m.out.stage, m.out.base)
	}
}

// TestALargeItemGoesInParts, also with others around it.
func TestALargeItemGoesInParts(t *testing.T) {
	s, a, b := pair(t)
	for _, size := range []int{10, 5000, 10, simFrame - frameOverhead, simFrame, 330, 340, 350} {
		if len(a.publish(size)) > 0 {
			a.p.Flush(s.now)
			a.done()
			s.run(s.now + time.Second)
			a.emits--
			if len(a.publish(size)) > 0 {
				t.Fatalf("%d bytes find no room", size)
			}
		}
	}
	a.p.Flush(s.now)
	for _, o := range a.p.outbox {
		if len(o.Frame) > simFrame {
			t.Errorf("a frame has %d bytes", len(o.Frame))
		}
	}
	a.done()
	s.run(s.now + time.Second)
	if len(b.got) != 8 {
		t.Errorf("%d are heard", len(b.got))
	}
}

// TestAnItemLargerThanTheWindowGoesAlone, whatever it is: when nothing else is on its way.
func TestAnItemLargerThanTheWindowGoesAlone(t *testing.T) {
	for name, give := range map[string]func(*out, []byte) bool{"emit": (*out).emit, "news": (*out).news, "fact": (*out).fact, "feed": (*out).feed} {
		o := out{window: simWindow, maxItem: simFrame - frameOverhead - itemHead}
		heard := func() {
			for {
				f, seq, _ := o.next(0, func(*out) []byte { return nil })
				if f == nil {
					return
				}
				o.acked(seq, false, 0)
			}
		}
		o.open(1, 0)
		heard()
		large := make([]byte, 2*simWindow)
		first, second := give(&o, large), give(&o, large)
		heard()
		if third := give(&o, large); !first || second || !third {
			t.Errorf("%s: it goes: %t, with another one before it: %t, behind that: %t", name, first, second, third)
		}
	}
}

// TestRoomsAreTold: a plus at once; a minus within a second, and not when the room is back.
func TestRoomsAreTold(t *testing.T) {
	s, a, b := pair(t)
	knows := func() bool { return a.p.member("BBBB").rooms.wants([]uint64{a.p.keys.room("/", "x")}) }
	edge := func(on bool) {
		b.p.Edge(s.now, "/", "x", on)
		b.p.Flush(s.now)
		b.done()
		s.run(s.now + 5*time.Millisecond)
	}
	if edge(true); !knows() {
		t.Error("a plus is not heard at once")
	}
	frames := s.frames
	edge(false)
	if edge(true); s.frames != frames {
		t.Error("a room that came back was told")
	}
	s.run(s.now + 2*time.Second)
	if !knows() {
		t.Error("a room that came back is told to be gone")
	}
	edge(false)
	if s.run(s.now + time.Second); knows() {
		t.Error("a minus is not heard within a second")
	}
}

// TestSilentIsNamed: a node that is not heard may have got sockets for any target, but for the sockets of others. It is
// named, and is given only what is for rooms that it has told.
func TestSilentIsNamed(t *testing.T) {
	s, a, b := pair(t)
	target := func(rooms ...string) *service.Target { return &service.Target{Namespace: "/", Rooms: rooms} }
	for _, state := range []State{Up, Silent, Up} {
		s.cutBoth(a, b, state == Silent)
		s.run(s.now + 3500*time.Millisecond)
		a.wantState(t, "BBBB", state)
		silent := state == Silent
		for _, c := range []struct {
			to            *service.Target
			missed, given bool // while it is silent
		}{
			{&service.Target{Namespace: "/", All: true}, false, true}, // told
			{&service.Target{Namespace: "/other", All: true}, true, false},
			{target("new"), true, false},
			{target("new", "AAAA3456789012345678"), true, false},
			{target("BBBB3456789012345678"), false, true},
			{target("AAAA3456789012345678"), false, false},
			{target("CCCC3456789012345678"), true, false}, // CCCC is no node, so this is a room
		} {
			to := a.p.Publish(s.now, c.to, false, func(uint64) []byte { return AppendEmit(nil, &Emit{Target: *c.to}) })
			wanted := slices.ContainsFunc(a.p.Wanting(c.to), func(m Member) bool { return m.Node == "BBBB" })
			missed, held, given := len(to.Missed) == 1, len(to.Silent) == 1, len(to.Given) == 1
			if missed != (silent && c.missed) || held != (silent && c.given) || given != (!silent && c.given) {
				t.Errorf("%v, to %+v: %+v", state, c.to, to)
			}
			if wanted != (missed || held || given) {
				t.Errorf("%v, to %+v: wanted: %v", state, c.to, wanted)
			}
		}
	}
}

// TestMarksAreHeard: a join is waited for until its news is heard; without news nobody waits.
func TestMarksAreHeard(t *testing.T) {
	s, a, b := pair(t)
	a.p.Edge(s.now, "/", "x", true)
	marks := a.p.Marks(s.now)
	if len(marks) != 1 || len(a.p.Unheard(marks)) != 1 {
		t.Fatalf("marks are %v", marks)
	}
	marks = a.p.Marks(s.now)
	a.p.Flush(s.now)
	a.done()
	s.run(s.now + 5*time.Millisecond)
	if rest := a.p.Unheard(marks); len(rest) != 0 {
		t.Error("the news is not heard")
	}
	a.p.Edge(s.now, "/", "x", true)
	if rest := a.p.Unheard(a.p.Marks(s.now)); len(rest) != 0 {
		t.Error("what is known is waited for")
	}
	s.cutBoth(a, b, true)
	a.p.Edge(s.now, "/", "y", true)
	marks = a.p.Marks(s.now)
	a.p.Flush(s.now)
	if s.run(s.now + 7*time.Second); len(a.p.Unheard(marks)) != 0 {
		t.Error("a lost one is waited for")
	}
}

// TestManyRooms: a table of many rooms is told whole, through a window that is smaller than it.
func TestManyRooms(t *testing.T) {
	s := begun(t)
	a, b := s.node("AAAA"), s.node("BBBB")
	s.begin(a, 1)
	for i := range 20_000 {
		a.p.Edge(s.now, "/", simRoom(i), true)
	}
	s.run(s.now + time.Second)
	s.begin(b, 1)
	s.run(s.now + 5*time.Second)
	if m := b.wantState(t, "AAAA", Up); len(m.rooms) != 20_000 {
		t.Errorf("%d rooms are known", len(m.rooms))
	}
}
