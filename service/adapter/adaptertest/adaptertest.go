// Package adaptertest is the suite that every bus has to pass: it holds the contract of adapter.Bus, method by method.
package adaptertest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"foyer/service"
	"foyer/service/adapter"
)

// Cluster is where a test opens its buses, and what the bus promises beyond the contract.
type Cluster struct {
	// Open brings a node to the cluster; the suite closes its bus. Two may have the same name.
	Open func(name service.NodeID) adapter.Bus
	// Lone brings a node to a cluster of its own, so that what it leaves behind can be counted: others may go on to look
	// for one that has gone. nil: Open does, since they do not.
	Lone func(name service.NodeID) adapter.Bus
	// Ordered says that what one goroutine sends, to one and to all, comes to each node in that order, none twice.
	Ordered bool
	// Whole says that nothing is lost while receivers keep up and nothing breaks.
	Whole bool
	// Break takes the bus from a node until mend is called. nil: it cannot be taken away.
	Break func(bus adapter.Bus) (mend func())
	// Stranger opens a bus in another cluster that uses the same servers. nil: there are no servers.
	Stranger func(name service.NodeID) adapter.Bus
	// Forge has somebody who is no node send any bytes to the subject of a node, or of all with "". nil: nobody can.
	Forge func(to service.NodeID, frame []byte)
	// Guarded says that the servers themselves take nothing that is larger than a frame.
	Guarded bool
	// Flood is how many bytes are sent to a receiver that does not return; 0: 48 MiB. Servers of tests can be slow.
	Flood int
}

// Run gives each test of the suite a cluster of its own. A test may clean up by testing.TB.Cleanup.
func Run(t *testing.T, open func(t *testing.T) Cluster) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, c Cluster)
	}{
		{"ToOne", testToOne},
		{"ToAll", testToAll},
		{"Namesakes", testNamesakes},
		{"NotKept", testNotKept},
		{"Sizes", testSizes},
		{"Names", testNames},
		{"Strangers", testStrangers},
		{"Order", testOrder},
		{"ManySenders", testManySenders},
		{"BlockedReceiver", testBlockedReceiver},
		{"Up", testUp},
		{"Restart", testRestart},
		{"Close", testClose},
		{"CloseAmidSenders", testCloseAmidSenders},
		{"NothingLeft", testNothingLeft},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

// patience is for a machine that is busy with something else.
const patience = 60 * time.Second

// again is how long to wait before what may be lost is sent once more.
const again = 20 * time.Millisecond

// hello begins the frames by which nodes find out that they hear each other. Tests do not see them.
var hello = []byte("hello ")

// node is a bus and what has come over it.
type node struct {
	tb   testing.TB
	name service.NodeID
	bus  adapter.Bus
	on   func(frame []byte) // called for each frame of a test, in place of keeping it; nil: it is kept

	mu      sync.Mutex
	inside  int             // guarded by mu; calls of receive that have not returned
	hellos  map[string]bool // guarded by mu
	got     [][]byte        // guarded by mu
	arrived chan struct{}   // has a value after something has come
}

// open brings nodes to the cluster, each with a function for its frames or nil, and waits until they hear each other.
func open(t *testing.T, c Cluster, names ...service.NodeID) []*node {
	t.Helper()
	nodes := make([]*node, len(names))
	for i, name := range names {
		nodes[i] = openOne(t, c, name, nil)
	}
	meet(t, nodes...)
	return nodes
}

func openOne(t *testing.T, c Cluster, name service.NodeID, on func(frame []byte)) *node {
	t.Helper()
	n := &node{tb: t, name: name, on: on, bus: c.Open(name), hellos: make(map[string]bool), arrived: make(chan struct{}, 1)}
	t.Cleanup(func() { n.bus.Close() })
	if err := n.bus.Receive(n.receive); err != nil {
		t.Fatalf("Receive: %v", err)
	}
	return n
}

func (n *node) receive(frame []byte) {
	n.mu.Lock()
	n.inside++
	if n.inside > 1 {
		n.tb.Errorf("%s is given two frames at once", n.name)
	}
	isHello := bytes.HasPrefix(frame, hello)
	switch {
	case isHello:
		n.hellos[string(frame)] = true
	case n.on == nil:
		n.got = append(n.got, frame)
	}
	n.mu.Unlock()

	if n.on != nil && !isHello {
		n.on(frame)
	}

	n.mu.Lock()
	n.inside--
	n.mu.Unlock()
	select {
	case n.arrived <- struct{}{}:
	default:
	}
}

// meet waits until each node hears each other one, both by what is for one and by what is for all: a bus has no signal
// for that.
func meet(t *testing.T, nodes ...*node) {
	t.Helper()
	deadline, tick := time.After(patience), time.NewTicker(again)
	defer tick.Stop()
	for {
		missing := ""
		for i, from := range nodes {
			for j, to := range nodes {
				one, all := fmt.Sprintf("%s%d to %d", hello, i, j), fmt.Sprintf("%s%d to all", hello, i)
				if i != j && !to.met(one, all) {
					missing += fmt.Sprintf(" %s(%d)>%s(%d)", from.name, i, to.name, j)
					_ = from.bus.Send(to.name, []byte(one)) // it may be down yet
					_ = from.bus.SendAll([]byte(all))
				}
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("these did not hear each other:%s", missing)
		}
	}
}

func (n *node) met(hellos ...string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range hellos {
		if !n.hellos[h] {
			return false
		}
	}
	return true
}

// forget makes a node wait for hellos anew.
func (n *node) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.hellos)
}

// frames returns what has come so far.
func (n *node) frames() [][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([][]byte(nil), n.got...)
}

func (n *node) has(frame []byte) bool {
	for _, got := range n.frames() {
		if bytes.Equal(got, frame) {
			return true
		}
	}
	return false
}

// awaitFrame waits for a frame that was sent; where the bus may lose frames it is sent again until it comes.
func (n *node) awaitFrame(c Cluster, frame []byte, send func() error) {
	n.tb.Helper()
	deadline, tick := time.After(patience), time.NewTicker(again)
	defer tick.Stop()
	for !n.has(frame) {
		select {
		case <-n.arrived:
		case <-tick.C:
			if !c.Whole {
				mustSend(n.tb, send)
			}
		case <-deadline:
			n.tb.Fatalf("%s waits for a frame of %d bytes in vain", n.name, len(frame))
		}
	}
}

// pass sends a frame until it has come to a node.
func (n *node) pass(c Cluster, frame []byte, send func() error) {
	n.tb.Helper()
	mustSend(n.tb, send)
	n.awaitFrame(c, frame, send)
}

// mustSend sends when there is room. Safe for any goroutine.
func mustSend(tb testing.TB, send func() error) {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(time.Millisecond) {
		err := send()
		if err == nil {
			return
		}
		if !errors.Is(err, adapter.ErrFull) || time.Now().After(deadline) {
			tb.Errorf("a frame is not taken: %v", err)
			return
		}
	}
}
