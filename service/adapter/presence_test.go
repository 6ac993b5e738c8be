package adapter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"foyer/service"
	"foyer/service/adapter"
)

var all = service.Scope{Namespace: "/", All: true}

// view is what a watcher was told, as a client keeps it.
type view struct {
	*service.Watcher
	cluster     *cluster
	rooms       map[service.SocketID][]string
	generations map[service.SocketID]uint64
	heard       []string // the changes in their order
	coverage    []string
	resets      []int
	token       string
}

func (c *cluster) watch(at service.NodeID, token string) *view {
	c.Helper()
	v := &view{cluster: c, token: token}
	v.resume(at)
	if token == "" {
		v.reset()
	}
	return v
}

func (v *view) reset() {
	v.rooms, v.generations = map[service.SocketID][]string{}, map[service.SocketID]uint64{}
}

// resume goes on at a node.
func (v *view) resume(at service.NodeID) {
	v.cluster.Helper()
	w, err := v.cluster.nodes[at].Watch(v.cluster.Context(), all, v.token)
	if err != nil {
		v.cluster.Fatal(err)
	}
	if v.Watcher != nil {
		v.Close()
	}
	v.Watcher = w
}

// take takes all that there is after a moment, and returns the changes since the last time.
func (v *view) take() []string {
	v.cluster.Helper()
	time.Sleep(time.Second)
	synctest.Wait()
	ctx, stop := context.WithCancel(context.Background())
	stop()
	for {
		step, err := v.Next(ctx)
		if errors.Is(err, context.Canceled) {
			heard := v.heard
			v.heard = nil
			return heard
		}
		if err != nil {
			v.cluster.Fatal(err)
		}
		if step.Token != "" {
			v.token = step.Token
		}
		if step.Reset != service.ResetNone {
			v.resets = append(v.resets, int(step.Reset))
			v.reset()
		}
		if step.Synced {
			v.coverage = step.Coverage.Unreachable
		}
		for _, s := range step.Snapshot {
			v.rooms[s.ID], v.generations[s.ID] = s.Rooms, s.Generation
		}
		for _, e := range step.Events {
			v.note(&e)
		}
	}
}

func (v *view) note(e *service.PresenceEvent) {
	words := []string{"", "connected", "joined", "left", "updated", "disconnected"}
	_, there := v.rooms[e.Socket.ID]
	lost := e.Reason == service.ReasonNodeLost || e.Reason == service.ReasonShutdown
	if there == (e.Kind == service.PresenceConnected) || e.Socket.Generation <= v.generations[e.Socket.ID] && !lost {
		v.cluster.Errorf("%s of %s in generation %x after %x", words[e.Kind], e.Socket.ID, e.Socket.Generation, v.generations[e.Socket.ID])
	}
	v.heard = append(v.heard, fmt.Sprint(e.Socket.NodeID, " ", words[e.Kind], " ", e.Rooms, " ", e.Reason))
	v.rooms[e.Socket.ID], v.generations[e.Socket.ID] = e.Socket.Rooms, e.Socket.Generation
	if e.Kind == service.PresenceDisconnected {
		delete(v.rooms, e.Socket.ID)
	}
}

func of(s *service.Socket) service.Target {
	return service.Target{Namespace: "/", Rooms: []string{string(s.ID())}}
}

// TestWatchCoversTheCluster: at one node it tells what is on all of them and what changes there, in the order of each;
// and it goes on at another node, where nobody has watched before, without a gap and with nothing twice.
func TestWatchCoversTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "AAAA", "BBBB", "CCCC")
		c.connect("AAAA", "/", "a")
		b, _ := c.connect("BBBB", "/", "b")
		s, _ := c.connect("CCCC", "/", "c")
		v := c.watch("AAAA", "")
		defer func() { v.Close() }()
		want(t, "changes", v.take(), nil)
		want(t, "rooms", fmt.Sprint(len(v.rooms), v.rooms[b.ID()], v.rooms[s.ID()], v.coverage), "3 [b] [c] []")
		for i := range 3 {
			_, _, _ = c.nodes["AAAA"].Join(t.Context(), of(s), []string{fmt.Sprint(i)})
		}
		c.nodes["CCCC"].End(s, service.ReasonTransportClose, "")
		c.nodes["BBBB"].Leave(t.Context(), of(b), []string{"b"})
		got := v.take()
		want(t, "changes of C", fmt.Sprint(len(got), only(got, "CCCC")), "5 [CCCC joined [0]  CCCC joined [1]  CCCC joined [2]  CCCC disconnected [0 1 2 c] transport close]")

		_, _, _ = c.nodes["AAAA"].Join(t.Context(), of(b), []string{"late"})
		v.resume("BBBB")
		want(t, "goes on at B", v.take(), []string{"BBBB joined [late] "})
		_, _, _ = c.nodes["AAAA"].Join(t.Context(), of(b), []string{"later"})
		c.connect("AAAA", "/")
		v.resume("CCCC")
		want(t, "goes on at C", fmt.Sprint(sorted(v.take()), v.resets), "[AAAA connected []  BBBB joined [later] ] []")
		want(t, "all that there is", fmt.Sprint(len(v.rooms), v.rooms[b.ID()]), "3 [late later]")
	})
}

// sorted puts changes into an order, as those of two nodes have none.
func sorted(changes []string) []string {
	slices.Sort(changes)
	return changes
}

// only are the changes of a node.
func only(changes []string, node string) (list []string) {
	for _, s := range changes {
		if s[:4] == node {
			list = append(list, s)
		}
	}
	return list
}

// TestLostNodeComesBack: a node that is cut off for longer than the lease: each side tells that the other's sockets are
// gone, once and in time, and that they are there again under a higher generation when all is healed.
func TestLostNodeComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "AAAA", "BBBB", "CCCC")
		c.connect("AAAA", "/", "a")
		b, _ := c.connect("BBBB", "/", "b")
		atA, atB, atC := c.watch("AAAA", ""), c.watch("BBBB", ""), c.watch("CCCC", "")
		for _, v := range []*view{atA, atB, atC} {
			defer v.Close()
			v.take()
		}
		c.faults.Part("AAAA", "BBBB")
		time.Sleep(2 * time.Second)
		want(t, "silent", fmt.Sprint(atA.take(), coverageAt(c, "AAAA")), "[] [BBBB]")
		time.Sleep(3 * time.Second)
		_, _, _ = c.nodes["BBBB"].Node.Join(t.Context(), of(b), []string{"meanwhile"})
		want(t, "at A", fmt.Sprint(atA.take()), "[BBBB disconnected [b] node lost]")
		want(t, "at B", fmt.Sprint(sorted(atB.take())), "[AAAA disconnected [a] node lost BBBB joined [meanwhile] ]")
		want(t, "at C", fmt.Sprint(atC.take()), "[BBBB joined [meanwhile] ]")
		c.faults.Clear()
		time.Sleep(3 * time.Second)
		want(t, "at A again", fmt.Sprint(atA.take()), "[BBBB connected [b meanwhile] ]")
		want(t, "at B again", fmt.Sprint(atB.take()), "[AAAA connected [a] ]")
		want(t, "at C all the same", fmt.Sprint(atC.take()), "[]")
		want(t, "term", []uint64{atA.generations[b.ID()] >> 40}, []uint64{1})
		want(t, "coverage", len(coverageAt(c, "AAAA")), 0)
		_, _, _ = c.nodes["CCCC"].Leave(t.Context(), of(b), []string{"b"})
		for _, v := range []*view{atA, atB, atC} {
			want(t, "goes on", fmt.Sprint(v.take(), v.resets), "[BBBB left [b] ] []")
		}
	})
}

// coverageAt is whom a new watch at a node does not speak for.
func coverageAt(c *cluster, at service.NodeID) []string {
	v := c.watch(at, "")
	defer v.Close()
	v.take()
	return v.coverage
}

// TestNodeDiesAndAnotherRunComes: its sockets leave once; those of the next run are others. A token that speaks of the
// dead run is worth a snapshot, and says why. A node that says goodbye is told so.
func TestNodeDiesAndAnotherRunComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "AAAA", "BBBB")
		c.connect("BBBB", "/", "b")
		v, old := c.watch("AAAA", ""), c.watch("AAAA", "")
		defer func() { v.Close(); old.Close() }()
		v.take()
		old.take()
		c.faults.Part("AAAA", "BBBB")
		died := time.Now()
		c.stop("BBBB")
		for len(v.rooms) > 0 {
			v.take()
		}
		if took := time.Since(died); took > 7*time.Second {
			t.Errorf("that it was lost was told after %v", took)
		}
		c.faults.Clear()
		c.start("BBBB", service.Config{}, adapter.Config{})
		c.settle()
		c.connect("BBBB", "/", "new")
		want(t, "another run", fmt.Sprint(v.take()), "[BBBB connected []  BBBB joined [new] ]")
		old.resume("AAAA")
		old.take()
		want(t, "an old token", fmt.Sprint(old.resets, len(old.rooms)), fmt.Sprint([]int{int(service.ResetNodeLost)}, 1))
		c.stop("BBBB")
		want(t, "goodbye", fmt.Sprint(v.take()), "[BBBB disconnected [new] server shutting down]")
	})
}

// TestShortCutLosesNothing: shorter than the lease, over a bus that also loses and repeats.
func TestShortCutLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "AAAA", "BBBB")
		b, _ := c.connect("BBBB", "/")
		v := c.watch("AAAA", "")
		defer v.Close()
		v.take()
		c.faults.Part("AAAA", "BBBB")
		for i := range 500 {
			_, _, _ = c.nodes["BBBB"].Node.Join(t.Context(), of(b), []string{fmt.Sprint(i)})
		}
		time.Sleep(3 * time.Second)
		c.faults.Clear()
		time.Sleep(2 * time.Second)
		want(t, "told", fmt.Sprint(len(v.take()), len(v.rooms[b.ID()]), v.resets), "500 500 []")
	})
}

// TestFollowerIsToldAtThePaceOfItsWindow: sockets that are many times what the window holds are told all the same, in
// one epoch, and what happens while they are told comes behind them.
func TestFollowerIsToldAtThePaceOfItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := emptyCluster(t, 7)
		for _, name := range []service.NodeID{"AAAA", "BBBB"} {
			c.start(name, service.Config{}, adapter.Config{Window: 256 << 10})
		}
		c.settle()
		const sockets = 5000
		var last *service.Socket
		for range sockets {
			l := &link{}
			c.nodes["BBBB"].Connect(service.Connect{Conn: l, Namespace: "/", Bind: func(s *service.Socket) bool { last = s; return true }, Refuse: func(service.Refusal) {}})
		}
		time.Sleep(time.Second)
		v := c.watch("AAAA", "")
		defer v.Close()
		_, _, _ = c.nodes["BBBB"].Node.Join(t.Context(), of(last), []string{"meanwhile"})
		v.take()
		want(t, "known", fmt.Sprint(len(v.rooms), v.rooms[last.ID()], v.resets), fmt.Sprint(sockets, " [meanwhile] []"))
		if ended := c.nodes["BBBB"].Members(); len(ended) != 1 || ended[0].State != adapter.Up {
			t.Errorf("members: %v", ended)
		}
	})
}
