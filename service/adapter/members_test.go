package adapter

import (
	"slices"
	"testing"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// begun is a simulation without faults, of nodes that have begun and had some time.
func begun(t *testing.T, names ...service.NodeID) *sim {
	t.Helper()
	s := newSim(1)
	t.Cleanup(func() {
		if s.fault != "" || t.Failed() {
			for _, line := range s.log {
				t.Log(line)
			}
		}
		if s.fault != "" {
			t.Error(s.fault)
		}
	})
	for _, name := range names {
		s.begin(s.node(name), 100)
	}
	s.run(300 * time.Millisecond)
	return s
}

func (n *simNode) wantState(t *testing.T, name service.NodeID, want State) *member {
	t.Helper()
	m := n.p.member(name)
	if m == nil {
		t.Fatalf("%.3f: %s does not know %s", n.now.Seconds(), n.id.Node, name)
	}
	if m.State != want {
		t.Fatalf("%.3f: %s is %v at %s, want %v", n.now.Seconds(), name, m.State, n.id.Node, want)
	}
	return m
}

func (s *sim) cutBoth(a, b *simNode, cut bool) {
	s.cut[a.place][b.place], s.cut[b.place][a.place] = cut, cut
}

func TestNodesThatAnswerAreUpBeforeReady(t *testing.T) {
	s := begun(t, "AAAA", "BBBB", "CCCC")
	for _, n := range s.nodes {
		for _, o := range s.nodes {
			if o != n {
				n.wantState(t, o.id.Node, Up)
			}
		}
		if !n.ready {
			t.Errorf("%s is not ready", n.id.Node)
		}
	}
	d := s.node("DDDD")
	s.cutBoth(d, s.nodes[2], true)
	s.begin(d, 1)
	s.run(s.now + 1900*time.Millisecond)
	if d.wantState(t, "CCCC", Hearsay); d.ready {
		t.Error("it is ready without one that others know")
	}
	s.run(s.now + 200*time.Millisecond)
	if !d.ready {
		t.Error("it is not ready after 2 s")
	}
}

func TestOneThatIsAloneIsReadySoon(t *testing.T) {
	s := begun(t, "AAAA")
	if !s.nodes[0].ready {
		t.Error("not ready")
	}
}

// TestLostComesBackUnderAHigherTerm: both ends of a cut that is longer than the lease lose each other, and come back;
// also when they were forgotten meanwhile.
func TestLostComesBackUnderAHigherTerm(t *testing.T) {
	for _, d := range []time.Duration{12 * time.Second, 90 * time.Second} {
		s := begun(t, "AAAA", "BBBB", "CCCC")
		a, b := s.nodes[0], s.nodes[1]
		s.cutBoth(a, b, true)
		s.run(s.now + 3500*time.Millisecond)
		a.wantState(t, "BBBB", Silent)
		s.run(s.now + 3*time.Second)
		a.wantState(t, "BBBB", Lost)
		b.wantState(t, "AAAA", Lost)
		a.wantState(t, "CCCC", Up)
		s.run(s.now + d)
		s.cutBoth(a, b, false)
		s.run(s.now + 3*time.Second)
		if m := a.wantState(t, "BBBB", Up); m.Term != 1 {
			t.Errorf("after %v: term %d, want 1", d, m.Term)
		}
		b.wantState(t, "AAAA", Up)
		if m := s.nodes[2].wantState(t, "AAAA", Up); m.Term != 1 {
			t.Errorf("a third one knows term %d", m.Term)
		}
	}
}

// TestLostIsNamedForAMinute and then forgotten.
func TestLostIsNamedForAMinute(t *testing.T) {
	s := begun(t, "AAAA", "BBBB")
	a := s.nodes[0]
	s.nodes[1].alive = false
	s.run(s.now + 60*time.Second)
	a.wantState(t, "BBBB", Lost)
	s.run(s.now + 6*time.Second)
	a.wantState(t, "BBBB", Gone)
	if len(a.p.Members()) != 0 {
		t.Errorf("members are %v", a.p.Members())
	}
}

// TestASleeperGivesTheOthersTime: a node that was frozen loses nobody when it wakes, and hears that it was lost.
func TestASleeperGivesTheOthersTime(t *testing.T) {
	for range 8 { // frames that waited come before or after the late tick
		s := begun(t, "AAAA", "BBBB")
		a, b := s.nodes[0], s.nodes[1]
		a.freeze()
		a.seen = nil
		s.run(s.now + 12*time.Second)
		b.wantState(t, "AAAA", Lost)
		a.thaw()
		s.run(s.now + 2*time.Second)
		a.wantState(t, "BBBB", Up)
		if m := b.wantState(t, "AAAA", Up); m.Term != 1 {
			t.Errorf("term %d, want 1", m.Term)
		}
		if slices.Contains(a.seen, Lost) {
			t.Errorf("it saw %v", a.seen)
		}
	}
}

func TestGoodbye(t *testing.T) {
	s := begun(t, "AAAA", "BBBB")
	a, b := s.nodes[0], s.nodes[1]
	late := a.p.keys.helloFrame(&header{from: a.id}, a.p.hello(""))
	a.p.Leave(s.now)
	a.done()
	s.run(s.now + 100*time.Millisecond)
	b.wantState(t, "AAAA", Leaving)
	a.p.Goodbye(s.now)
	a.done()
	a.alive = false
	s.run(s.now + 100*time.Millisecond)
	if b.wantState(t, "AAAA", Gone); len(b.p.Members()) != 0 {
		t.Errorf("members are %v", b.p.Members())
	}
	b.receive(late)
	b.wantState(t, "AAAA", Gone)
	if b.p.Dropped(DropRun) != 1 {
		t.Error("what came late is not counted")
	}
	s.begin(a, 101)
	s.run(s.now + time.Second)
	b.wantState(t, "AAAA", Up)
}

// TestTwoOfOneName: the later one is refused, and the first stays.
func TestTwoOfOneName(t *testing.T) {
	s := begun(t, "AAAA", "BBBB")
	twin := s.node("AAAA")
	twin.refused = "nobody"
	twin.config = func(c *Config) { c.Address = "at the twin" }
	s.begin(twin, 200)
	s.run(s.now + 3*time.Second)
	if twin.refused != "at AAAA" || twin.ready {
		t.Errorf("refused by %q, ready: %t", twin.refused, twin.ready)
	}
	if m := s.nodes[1].wantState(t, "AAAA", Up); m.Run != 100 {
		t.Errorf("run %d, want 100", m.Run)
	}
}

// TestANameWaitsForTheLease of its earlier run, whichever of the two has the larger number.
func TestANameWaitsForTheLease(t *testing.T) {
	for _, run := range []uint64{200, 50} {
		s := begun(t, "AAAA", "BBBB")
		a := s.nodes[0]
		a.alive = false
		s.run(s.now + 500*time.Millisecond)
		s.begin(a, run)
		s.run(s.now + 3*time.Second)
		if m := s.nodes[1].wantState(t, "AAAA", Silent); m.Run != 100 || a.ready {
			t.Errorf("run %d is believed, ready: %t", m.Run, a.ready)
		}
		s.run(s.now + 5*time.Second)
		if m := s.nodes[1].wantState(t, "AAAA", Up); m.Run != max(run, 151) || !a.ready {
			t.Errorf("run %d is believed, want %d, ready: %t", m.Run, max(run, 151), a.ready)
		}
	}
}

// TestASleeperWhoseNameWasTaken is refused when it wakes.
func TestASleeperWhoseNameWasTaken(t *testing.T) {
	s := begun(t, "AAAA", "BBBB")
	a := s.nodes[0]
	a.freeze()
	a.refused = "nobody"
	s.run(s.now + 7*time.Second)
	twin := s.node("AAAA")
	s.begin(twin, 200)
	s.run(s.now + 3*time.Second)
	a.thaw()
	s.run(s.now + 3*time.Second)
	if m := s.nodes[1].wantState(t, "AAAA", Up); m.Run != 200 || !a.p.over {
		t.Errorf("run %d, refused: %t", m.Run, a.p.over)
	}
}

func TestVersions(t *testing.T) {
	for _, c := range []struct {
		from, to uint64
		want     State
		wire     uint64
	}{{1, 1, Incompatible, 0}, {1, 2, Up, 2}, {2, 4, Up, 3}, {4, 5, Incompatible, 0}} {
		s := begun(t)
		wireTest := func(from, to uint64) func(*Config) { return func(c *Config) { c.wireFrom, c.wireTo = from, to } }
		a, b := s.node("AAAA"), s.node("BBBB")
		a.config, b.config = wireTest(2, 3), wireTest(c.from, c.to)
		s.begin(a, 1)
		s.begin(b, 1)
		s.run(s.now + time.Second)
		m := a.wantState(t, "BBBB", c.want)
		if b.wantState(t, "AAAA", c.want); c.want == Up && m.wire != c.wire {
			t.Errorf("they speak %d, want %d", m.wire, c.wire)
		}
		if to := a.p.Publish(s.now, &service.Target{Namespace: "/", All: true}, false, func(uint64) []byte { return []byte{5<<3 | 2, 0} }); (len(to.Missed)+len(to.Silent) == 1) != (c.want == Incompatible) {
			t.Errorf("handed: %+v", to)
		}
	}
}

// TestWhoIsOfAnotherCluster is no member.
func TestWhoIsOfAnotherCluster(t *testing.T) {
	for _, change := range []func(*Config){func(c *Config) { c.Cluster = "other" }, func(c *Config) { c.Key = []byte("other") }} {
		s := begun(t, "AAAA")
		b := s.node("BBBB")
		b.config = change
		s.begin(b, 1)
		s.run(s.now + time.Second)
		if a := s.nodes[0]; len(a.p.Members()) != 0 || a.p.Dropped(DropCluster)+a.p.Dropped(DropCheck) == 0 {
			t.Errorf("members are %v", a.p.Members())
		}
	}
}

// TestBothClocksGoBack: two nodes start again with clocks that went back, and each hears a late frame of the other's
// run before: each learns from the other that its name has had a later run, though it takes the other for an earlier
// one.
func TestBothClocksGoBack(t *testing.T) {
	s := begun(t, "AAAA", "BBBB")
	a, b := s.nodes[0], s.nodes[1]
	late := map[*simNode][]byte{}
	for _, n := range s.nodes {
		n.p.Take()
		n.p.beat(s.now)
		late[n] = n.p.Take()[0].Frame
		n.alive = false
	}
	s.run(s.now + time.Second)
	s.begin(a, 50)
	s.begin(b, 50)
	a.p.Receive(s.now, late[b])
	a.done()
	b.p.Receive(s.now, late[a])
	b.done()
	s.run(s.now + 30*time.Second)
	a.wantState(t, "BBBB", Up)
	b.wantState(t, "AAAA", Up)
}

// TestAnAnswerIsNotAnswered: two nodes that have each come back, and hold each other's name for the run before, tell
// each other so when one says hello to all, and not for ever.
func TestAnAnswerIsNotAnswered(t *testing.T) {
	s := begun(t)
	a, b := s.node("AAAA"), s.node("BBBB")
	s.begin(a, 5)
	s.begin(b, 5)
	for n, other := range map[*simNode]service.NodeID{a: "BBBB", b: "AAAA"} {
		n.p.change(n.p.meet(service.Incarnation{Node: other, Run: 1}, Hearsay, s.now), Joining, s.now)
	}
	s.run(s.now + time.Second)
	if s.frames > 100 {
		t.Errorf("they sent %d frames in a second", s.frames)
	}
	s.run(s.now + 10*time.Second) // the earlier runs are lost by then
	a.wantState(t, "BBBB", Up)
	b.wantState(t, "AAAA", Up)
}

// refusals counts how often a node is told that another one has its name.
type refusals struct {
	deaf
	n int
}

func (r *refusals) Refused(string) { r.n++ }

// TestANodeIsRefusedOnce, however often one frame says that another one has its name.
func TestANodeIsRefusedOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		stage clusterv1.Stage // of the node
		from  service.Incarnation
		hello *clusterv1.Hello
	}{
		{"two later runs in one hello", clusterv1.Stage_STAGE_UP, service.Incarnation{Node: "BBBB", Run: 1}, &clusterv1.Hello{
			Members: []*clusterv1.Known{{Name: "AAAA", Run: 200}, {Name: "AAAA", Run: 300}},
		}},
		{"a joiner that slept hears its namesake's answer", clusterv1.Stage_STAGE_JOINING, service.Incarnation{Node: "AAAA", Run: 50}, &clusterv1.Hello{
			Stage: clusterv1.Stage_STAGE_UP, Members: []*clusterv1.Known{{Name: "AAAA", Run: 100}},
		}},
	} {
		upper := &refusals{}
		p, err := New(Config{Self: service.Incarnation{Node: "AAAA", Run: 100}}, upper)
		if err != nil {
			t.Fatal(err)
		}
		p.Start(0)
		p.stage = c.stage
		c.hello.Cluster, c.hello.Count, c.hello.WireFrom, c.hello.WireTo = "foyer", 1, uint32(wireFrom), uint32(wireTo)
		if p.Receive(3*p.cfg.Lease, p.keys.helloFrame(&header{from: c.from}, c.hello)); upper.n != 1 {
			t.Errorf("%s: it is refused %d times", c.name, upper.n)
		}
	}
}
