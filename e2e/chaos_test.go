//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	foyerv1 "foyer/gen/foyer/v1"
)

// chaosTime is how long each kind of fault goes on: CHAOSTIME, which `make chaos` sets, or what CI can afford.
func chaosTime(t testing.TB) time.Duration {
	t.Helper()
	word := os.Getenv("CHAOSTIME")
	if word == "" {
		return 12 * time.Second
	}
	d, err := time.ParseDuration(word)
	if err != nil {
		t.Fatalf("CHAOSTIME: %v", err)
	}
	return d
}

// chaosClient is a client that stays where it is as long as it can.
type chaosClient struct {
	node int
	id   string
	*rawSocket

	mu    sync.Mutex
	got   []string    // payloads, in their order
	gone  bool        // its link ended before the test did
	said  int         // how many events it has emitted
	acked map[int]int // how often each of those was acknowledged
	heard time.Time   // when one was last
}

func (c *chaosClient) isGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// read keeps what comes until the link ends, and answers pings.
func (c *chaosClient) read() {
	for {
		text, err := c.next()
		if err != nil {
			c.mu.Lock()
			c.gone = true
			c.mu.Unlock()
			return
		}
		switch {
		case text == "2":
			_ = c.send("3")
		case strings.HasPrefix(text, "42"):
			c.mu.Lock()
			c.got = append(c.got, strings.TrimPrefix(text, "42"))
			c.mu.Unlock()
		case strings.HasPrefix(text, "43"):
			c.takeAck(text)
		}
	}
}

// chaosEmit is one emit of a stream, with its answer.
type chaosEmit struct {
	at, stream, seq int
	room            string
	call, back      int64 // when it was made and answered, for the history
	receipt         *foyerv1.EmitResponse
	err             error
}

func (e *chaosEmit) text() string { return fmt.Sprintf(`["chaos",%d,%d]`, e.stream, e.seq) }

// doubts says whether the receipt does not speak for a node.
func (e *chaosEmit) doubts(node string) bool {
	return e.err != nil || slices.Contains(e.receipt.GetCoverage().GetUnreachable(), node)
}

// chaosChange is a join or a leave of one socket and room.
type chaosChange struct {
	room, socket string
	in           bool
	call, back   int64
	sure         bool     // it was answered, for all nodes
	named        []string // the nodes that its answer does not speak for; nil when it is not sure: all
}

// unheard says whether a node, other than the socket's own, may not have heard of a join that was answered.
func (x *chaosChange) unheard(node, owner string) bool {
	return x.in && !x.sure && (len(x.named) == 0 || slices.Contains(x.named, owner) || slices.Contains(x.named, node))
}

// chaos is the history of one run.
type chaos struct {
	*mesh
	began    time.Time
	clients  []*chaosClient
	watchers []*chaosWatcher
	loses    [][2]int // who is to take whom for lost
	handlers [2]int   // the nodes that backends are attached to
	had      traces   // the most that a node had before there were clients

	mu      sync.Mutex
	emits   []*chaosEmit
	changes []*chaosChange
	guests  []*chaosGuest
	handled []chaosHandled
}

func (c *chaos) now() int64 { return int64(time.Since(c.began)) }

// reach makes clients, of which each is in the room "all" and every second one in "some".
func (c *chaos) reach(each int) {
	for i, n := range c.nodes {
		for k := range each {
			s := mustJoin(c.t, "", n.edge)
			client := &chaosClient{node: i, id: s.id, rawSocket: s}
			c.clients = append(c.clients, client)
			rooms := []string{"all"}
			if k%2 == 0 {
				rooms = append(rooms, "some")
			}
			eventually(c.t, func() error {
				r, err := foyerv1.NewRoomServiceClient(n.conn).JoinRooms(c.t.Context(), &foyerv1.JoinRoomsRequest{
					Target: &foyerv1.Target{Rooms: []string{s.id}}, Rooms: rooms,
				})
				if err != nil || r.GetMatched() != 1 {
					c.t.Fatalf("join: %v, %v", r, err)
				}
				if missing := r.GetCoverage().GetUnreachable(); len(missing) > 0 { // a busy node may be late
					return fmt.Errorf("%v have not heard of it", missing)
				}
				return nil
			})
			go client.read()
		}
	}
}

// emit emits at one node, one after the other, until ctx ends.
func (c *chaos) emit(ctx context.Context, at, stream int, rooms ...string) {
	for seq := 0; ctx.Err() == nil; seq++ {
		e := &chaosEmit{at: at, stream: stream, seq: seq, room: rooms[seq%len(rooms)], call: c.now()}
		within, stop := context.WithTimeout(context.Background(), 5*time.Second)
		e.receipt, e.err = foyerv1.NewEmitServiceClient(c.node(at).conn).Emit(within, &foyerv1.EmitRequest{
			Target: &foyerv1.Target{Rooms: []string{e.room}}, Payload: &foyerv1.Payload{Event: "chaos", Args: &foyerv1.Payload_Json{Json: fmt.Sprintf("[%d,%d]", stream, seq)}},
		})
		stop()
		e.back = c.now()
		c.mu.Lock()
		c.emits = append(c.emits, e)
		c.mu.Unlock()
		select {
		case <-time.After(time.Duration(rand.IntN(8)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// move has clients join and leave a room of their own kind, each change made at some node.
func (c *chaos) move(ctx context.Context, client *chaosClient, room string) {
	for in := true; ctx.Err() == nil; in = !in {
		rooms := foyerv1.NewRoomServiceClient(c.node(rand.IntN(len(c.nodes))).conn)
		x := &chaosChange{room: room, socket: client.id, in: in, call: c.now()}
		within, stop := context.WithTimeout(context.Background(), 5*time.Second)
		target := &foyerv1.Target{Rooms: []string{client.id}}
		if in {
			r, err := rooms.JoinRooms(within, &foyerv1.JoinRoomsRequest{Target: target, Rooms: []string{room}})
			x.named = r.GetCoverage().GetUnreachable()
			x.sure = err == nil && r.GetMatched() == 1 && len(x.named) == 0
		} else {
			r, err := rooms.LeaveRooms(within, &foyerv1.LeaveRoomsRequest{Target: target, Rooms: []string{room}})
			x.sure = err == nil && r.GetMatched() == 1 && len(r.GetCoverage().GetUnreachable()) == 0
		}
		stop()
		x.back = c.now()
		c.mu.Lock()
		c.changes = append(c.changes, x)
		c.mu.Unlock()
		select {
		case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// run has all of them at work while do does its worst, and looks at the history.
func (c *chaos) run(do func(), dead, frozen []int) {
	t := c.t
	ctx, stop := context.WithCancel(t.Context())
	var work, watching sync.WaitGroup
	watch, unwatch := context.WithCancel(t.Context())
	defer watching.Wait()
	defer unwatch()
	defer work.Wait()
	defer stop()
	c.watch(watch, &watching)
	c.handle(watch, &watching)
	for _, client := range c.clients {
		work.Go(func() { client.say(ctx) })
	}
	for i := range c.nodes {
		work.Go(func() { c.visit(ctx, i) })
		work.Go(func() { c.emit(ctx, i, 2*i, "all", "some") })
		work.Go(func() { c.emit(ctx, i, 2*i+1, "moving0", "moving1", "moving2") })
	}
	for i, client := range c.clients {
		if i%4 == 0 { // at each node
			work.Go(func() { c.move(ctx, client, fmt.Sprint("moving", client.node)) })
		}
	}
	do()
	stop()
	work.Wait()
	c.last(dead)
	c.lastAck(dead)
	c.agree()
	unwatch()
	watching.Wait()
	c.check(dead, frozen)
	c.checkWatchers(dead)
	c.checkHandled(dead)
}

// lastWord is the text of what each client is sent last.
const lastWord = `["last"]`

// last waits until each client has all that stood in the queue of its link: what was counted stands before what its
// own node sends it now.
func (c *chaos) last(dead []int) {
	for _, client := range c.clients {
		if slices.Contains(dead, client.node) {
			continue
		}
		r, err := foyerv1.NewEmitServiceClient(c.nodes[client.node].conn).Emit(c.t.Context(), &foyerv1.EmitRequest{
			Target: &foyerv1.Target{Rooms: []string{client.id}}, Payload: &foyerv1.Payload{Event: "last"},
		})
		if err != nil || r.GetEnqueued() != 1 {
			c.t.Errorf("the last word to a client of %s: %v, %v", c.names[client.node], r, err)
			continue
		}
		eventually(c.t, func() error {
			client.mu.Lock()
			defer client.mu.Unlock()
			if !slices.Contains(client.got, lastWord) {
				return fmt.Errorf("a client of %s has no last word", c.names[client.node])
			}
			return nil
		})
	}
}

// check holds what was seen against what was promised. Clients at a dead node promise nothing, and a frozen one may not
// answer in time.
func (c *chaos) check(dead, frozen []int) {
	t := c.t
	got := map[*chaosClient]map[string]bool{}
	sent := map[string]*chaosEmit{}
	for _, e := range c.emits {
		sent[e.text()] = e
	}
	for _, client := range c.clients {
		client.mu.Lock()
		list, gone := client.got, client.gone
		client.mu.Unlock()
		if gone && !slices.Contains(dead, client.node) {
			t.Errorf("a client of %s is gone", c.names[client.node])
		}
		got[client] = map[string]bool{}
		last := map[int]int{}
		for _, text := range list {
			e := sent[text]
			switch {
			case text == lastWord:
				continue
			case e == nil:
				t.Errorf("a client of %s got %s, which nobody sent", c.names[client.node], text)
				continue
			case got[client][text]:
				t.Errorf("a client of %s got %s twice", c.names[client.node], text)
			}
			got[client][text] = true
			if e.err != nil { // nobody waited for it any more, so the next one may have overtaken it
				continue
			}
			if before, some := last[e.stream]; some && before >= e.seq {
				t.Errorf("a client of %s got %s after number %d", c.names[client.node], text, before)
			}
			last[e.stream] = e.seq
		}
	}
	counted, doubted, failed := 0, 0, 0
	for _, e := range c.emits {
		switch {
		case e.err != nil:
			failed++
			if !slices.Contains(dead, e.at) && !slices.Contains(frozen, e.at) {
				t.Errorf("an emit at %s failed: %v", c.names[e.at], e.err)
			}
			continue
		case len(e.receipt.GetCoverage().GetUnreachable()) > 0:
			doubted++
		default:
			counted++
		}
		if e.room != "all" && e.room != "some" {
			continue
		}
		members := 0
		for i, client := range c.clients {
			if e.room == "some" && (i%c.each())%2 != 0 {
				continue
			}
			if got[client][e.text()] {
				members++
			} else if !slices.Contains(dead, client.node) && !e.doubts(c.names[client.node]) {
				t.Errorf("emit %s to %s at %s, answered by %v, did not reach a client of %s", e.text(), e.room, c.names[e.at], e.receipt, c.names[client.node])
			}
		}
		if n := int(e.receipt.GetEnqueued()); n > members && len(dead) == 0 {
			t.Errorf("emit %s to %s at %s counted %d, and %d got it", e.text(), e.room, c.names[e.at], n, members)
		}
	}
	t.Logf("%d emits, of which %d named a node and %d failed; %d joins and leaves", counted+doubted+failed, doubted, failed, len(c.changes))
	if counted == 0 || len(c.changes) == 0 {
		t.Error("nothing has happened")
	}
	c.checkRooms(got, dead)
}

// each is how many clients each node has.
func (c *chaos) each() int { return len(c.clients) / len(c.nodes) }

// checkRooms holds the joins and leaves of each socket, which come one after the other, and the emits that speak for
// its node, to be linearizable: they have an order in which a call that was answered stands before each call that began
// later, and in which an emit reached the socket if, and only if, it was in the room. A change that ended with an
// error, or that named a node, may have been done at any time from its call on, or never. An emit at a node that may
// not have heard of the last join, as its answer says, holds only when it reached the socket.
func (c *chaos) checkRooms(got map[*chaosClient]map[string]bool, dead []int) {
	for i, client := range c.clients {
		if slices.Contains(dead, client.node) {
			continue
		}
		var history []porcupine.Operation
		room := ""
		for _, x := range c.changes {
			if x.socket == client.id {
				room = x.room
				history = append(history, porcupine.Operation{ClientId: i, Input: roomStep{write: true, in: x.in}, Call: x.call, Return: x.back})
				if !x.sure {
					history[len(history)-1].Return = math.MaxInt64
				}
			}
		}
		if len(history) == 0 {
			continue
		}
		changes := len(history)
		for _, e := range c.emits {
			in := got[client][e.text()]
			if e.room == room && !e.doubts(c.names[client.node]) && (in || e.at == client.node || c.hasHeard(e, client)) {
				history = append(history, porcupine.Operation{ClientId: len(c.clients) + e.stream, Input: roomStep{in: in}, Call: e.call, Return: e.back})
			}
		}
		switch result, info := porcupine.CheckOperationsVerbose(roomModel, history, time.Minute); result {
		case porcupine.Illegal:
			c.t.Errorf("%s at %s: %d joins and leaves and %d emits have no order", room, c.names[client.node], changes, len(history)-changes)
			name := filepath.Join(os.TempDir(), fmt.Sprintf("foyer-history-%s-%d.html", room, os.Getpid()))
			if err := porcupine.VisualizePath(roomModel, info, name); err == nil {
				c.t.Logf("the history is in %s", name)
			}
		case porcupine.Unknown:
			c.t.Logf("%s at %s: whether there is an order was not found out in a minute", room, c.names[client.node])
		}
		c.t.Logf("%s at %s: %d joins and leaves, %d emits", room, c.names[client.node], changes, len(history)-changes)
	}
}

// hasHeard says whether the node of an emit has to know of all joins of a socket when the emit begins: since the last
// one that it may not have heard of there was one that all have heard of.
func (c *chaos) hasHeard(e *chaosEmit, client *chaosClient) bool {
	heard := true
	for _, x := range c.changes {
		switch {
		case x.socket != client.id || x.call > e.back:
		case x.unheard(c.names[e.at], c.names[client.node]):
			heard = false
		case x.in && x.sure && x.back < e.call:
			heard = true
		}
	}
	return heard
}

// roomStep is a join or leave, or an emit that reached the socket or did not.
type roomStep struct{ write, in bool }

// roomModel is one socket and one room.
var roomModel = porcupine.Model{
	Init: func() any { return false },
	Step: func(state, input, _ any) (bool, any) {
		step := input.(roomStep)
		if step.write {
			return true, step.in
		}
		return step.in == state.(bool), state
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
}

// TestChaos: whatever happens between nodes, nobody hears a thing twice or out of order, what was counted arrived, who
// is in doubt is named, and emits reach who is in a room; watchers know in the end what is so, what clients say is
// handled once, and nothing is left of it all.
func TestChaos(t *testing.T) {
	rest := func() { time.Sleep(chaosTime(t) / 6) }
	for _, test := range []struct {
		name         string
		do           func(c *chaos)
		dead, frozen []int
		loses        [][2]int
		handlers     [2]int // {0, 0}: at the first and at the last node
	}{
		{name: "nothing", do: func(*chaos) { rest() }},
		{name: "connections are reset", do: func(c *chaos) {
			for range 4 {
				rest()
				c.reset(0, 1)
			}
			rest()
		}},
		{name: "a node is frozen for less than the lease", handlers: [2]int{1, 2}, do: func(c *chaos) {
			rest()
			c.nodes[1].freeze()
			time.Sleep(2 * time.Second)
			c.nodes[1].thaw()
			rest()
		}},
		{name: "a node is frozen for more than the lease", frozen: []int{1}, loses: [][2]int{{0, 1}, {2, 1}}, handlers: [2]int{1, 2}, do: func(c *chaos) {
			rest()
			c.nodes[1].freeze()
			time.Sleep(8 * time.Second)
			c.nodes[1].thaw()
			rest()
			c.settle()
		}},
		{name: "one way is cut", do: func(c *chaos) {
			rest()
			c.cut(0, 1, true)
			time.Sleep(2 * time.Second)
			c.cut(0, 1, false)
			rest()
			c.settle()
		}},
		{name: "one way is cut for longer than the lease", loses: [][2]int{{1, 0}}, do: func(c *chaos) {
			rest()
			c.cut(0, 1, true)
			time.Sleep(8 * time.Second)
			c.cut(0, 1, false)
			rest()
			c.settle()
		}},
		{name: "both ways are cut for longer than the lease", loses: [][2]int{{0, 1}, {1, 0}}, do: func(c *chaos) {
			rest()
			c.part(0, 1, true)
			time.Sleep(8 * time.Second)
			c.part(0, 1, false)
			rest()
			c.settle()
		}},
		{name: "a node is killed and comes back", dead: []int{2}, loses: [][2]int{{0, 2}, {1, 2}}, do: func(c *chaos) {
			rest()
			c.nodes[2].crash()
			rest()
			c.start(2)
			c.settle()
			rest()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &chaos{mesh: startMesh(t, 3, "--cluster-lease=3s", "--ping-interval=5s", "--ping-timeout=20s"), began: time.Now(), loses: test.loses, handlers: test.handlers}
			c.before()
			c.reach(4)
			c.run(func() { test.do(c) }, test.dead, test.frozen)
			c.left()
		})
	}
}
