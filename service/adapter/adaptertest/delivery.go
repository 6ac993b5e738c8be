package adaptertest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"foyer/service"
	"foyer/service/adapter"
)

// fence waits until something that each node sends now has come to each other one. What was sent before has come then,
// where the bus keeps the order.
func fence(c Cluster, nodes ...*node) {
	for i, from := range nodes {
		frame := fmt.Appendf(nil, "fence %d %d", i, rand.Uint64())
		send := func() error { return from.bus.SendAll(frame) }
		mustSend(from.tb, send)
		for _, to := range nodes {
			if to != from {
				to.awaitFrame(c, frame, send)
			}
		}
	}
}

// count says how often a frame has come to a node.
func (n *node) count(frame []byte) int {
	times := 0
	for _, got := range n.frames() {
		if bytes.Equal(got, frame) {
			times++
		}
	}
	return times
}

// wantCounts holds that a frame has come to some and not to others; more than once only where the bus may repeat.
func wantCounts(t *testing.T, c Cluster, frame []byte, want map[*node]bool) {
	t.Helper()
	for n, wanted := range want {
		times := n.count(frame)
		if wanted && (times == 0 || c.Ordered && times > 1) || !wanted && times > 0 {
			t.Errorf("frame %.20q came to %s %d times, want it there: %v", frame, n.name, times, wanted)
		}
	}
}

func testToOne(t *testing.T, c Cluster) {
	nodes := open(t, c, "AAAA", "BBBB", "CCCC")
	a, b, other := nodes[0], nodes[1], nodes[2]
	frame, own, nobody := []byte("for B"), []byte("for myself"), []byte("for nobody")
	b.pass(c, frame, func() error { return a.bus.Send("BBBB", frame) })
	mustSend(t, func() error { return a.bus.Send("AAAA", own) })
	mustSend(t, func() error { return a.bus.Send("ZZZZ", nobody) })
	fence(c, nodes...)
	wantCounts(t, c, frame, map[*node]bool{a: false, b: true, other: false})
	wantCounts(t, c, own, map[*node]bool{a: false, b: false, other: false})
	wantCounts(t, c, nobody, map[*node]bool{a: false, b: false, other: false})
}

func testToAll(t *testing.T, c Cluster) {
	nodes := open(t, c, "AAAA", "BBBB", "CCCC")
	for _, from := range nodes {
		frame := []byte("for all of " + from.name)
		send := func() error { return from.bus.SendAll(frame) }
		mustSend(t, send)
		want := make(map[*node]bool)
		for _, to := range nodes {
			want[to] = to != from
			if to != from {
				to.awaitFrame(c, frame, send)
			}
		}
		fence(c, nodes...)
		wantCounts(t, c, frame, want)
	}
}

// Two nodes of one name are a mistake that they have to find out, so they must hear each other.
func testNamesakes(t *testing.T, c Cluster) {
	nodes := open(t, c, "AAAA", "AAAA", "BBBB")
	one, two, b := nodes[0], nodes[1], nodes[2]
	frame, other := []byte("for A, from B"), []byte("for A, from A")
	send := func() error { return b.bus.Send("AAAA", frame) }
	one.pass(c, frame, send)
	two.awaitFrame(c, frame, send)
	two.pass(c, other, func() error { return one.bus.Send("AAAA", other) })
	fence(c, nodes...)
	wantCounts(t, c, other, map[*node]bool{one: false, two: true, b: false})
}

// A frame is the sender's again when Send returns, and the receiver's when it comes: nobody sees what the other does to
// it.
func testNotKept(t *testing.T, c Cluster) {
	const frames = 200
	want := func(i int) []byte { return bytes.Repeat([]byte{'a' + byte(i%20)}, 100+i) }
	a := openOne(t, c, "AAAA", nil)
	var mu sync.Mutex
	seen := make(map[service.NodeID]map[int]bool)
	arrived := make(chan struct{}, 1)
	spoil := func(name service.NodeID) func([]byte) {
		seen[name] = make(map[int]bool)
		return func(frame []byte) {
			mu.Lock()
			defer mu.Unlock()
			if i := len(frame) - 100; i < 0 || i >= frames || !bytes.Equal(frame, want(i)) {
				t.Errorf("%s got %.40q", name, frame)
			} else {
				seen[name][i] = true
			}
			for i := range frame {
				frame[i] = '!'
			}
			_ = append(frame, "beyond its end"...)
			select {
			case arrived <- struct{}{}:
			default:
			}
		}
	}
	b, other := openOne(t, c, "BBBB", spoil("BBBB")), openOne(t, c, "CCCC", spoil("CCCC"))
	meet(t, a, b, other)

	missing := func(name service.NodeID) (list []int) {
		mu.Lock()
		defer mu.Unlock()
		for i := range frames {
			if !seen[name][i] {
				list = append(list, i)
			}
		}
		return list
	}
	buf := make([]byte, 0, 100+frames)
	send := func(i int) {
		buf = append(buf[:0], want(i)...)
		mustSend(t, func() error { return a.bus.SendAll(buf) })
		for i := range buf {
			buf[i] = '?'
		}
	}
	for i := range frames {
		send(i)
	}
	deadline, tick := time.After(patience), time.NewTicker(again)
	defer tick.Stop()
	for {
		lacking := append(missing("BBBB"), missing("CCCC")...)
		if len(lacking) == 0 {
			return
		}
		select {
		case <-arrived:
		case <-tick.C:
			if !c.Whole {
				send(lacking[0])
			}
		case <-deadline:
			t.Fatalf("%d frames did not come", len(lacking))
		}
	}
}

func testSizes(t *testing.T, c Cluster) {
	nodes := open(t, c, "AAAA", "BBBB")
	a, b := nodes[0], nodes[1]
	largest := a.bus.MaxFrame()
	if largest < adapter.MinFrame {
		t.Errorf("MaxFrame is %d, want at least %d", largest, adapter.MinFrame)
	}
	noise := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{1, 2, 511, 4096, 32 << 10, 64 << 10, adapter.MinFrame, largest - 1, largest} {
		frame := make([]byte, size)
		_, _ = noise.Read(frame)
		b.pass(c, frame, func() error { return a.bus.Send("BBBB", frame) })
		frame = append([]byte(nil), frame...)
		frame[0] ^= 1
		b.pass(c, frame, func() error { return a.bus.SendAll(frame) })
	}
	for _, err := range []error{a.bus.Send("BBBB", nil), a.bus.SendAll([]byte{})} {
		if err != nil {
			t.Errorf("a frame without bytes: got %v", err)
		}
	}
	for _, size := range []int{largest + 1, largest + 4096, 64 << 20} {
		if err := a.bus.Send("BBBB", make([]byte, size)); !errors.Is(err, adapter.ErrTooLarge) {
			t.Errorf("a frame of %d bytes for one: got %v, want ErrTooLarge", size, err)
		}
		if err := a.bus.SendAll(make([]byte, size)); !errors.Is(err, adapter.ErrTooLarge) {
			t.Errorf("a frame of %d bytes for all: got %v, want ErrTooLarge", size, err)
		}
	}
	fence(c, nodes...)
	for _, got := range b.frames() {
		if len(got) > largest || len(got) == 0 {
			t.Errorf("a frame of %d bytes came", len(got))
		}
	}
}

// A name comes from other nodes' frames, so it may be anything. The bus must not make a wildcard or a command of it.
func testNames(t *testing.T, c Cluster) {
	nodes := open(t, c, "AAAA", "BBBB", "CCCC")
	frame := []byte("for a name that is none")
	for _, name := range []service.NodeID{
		"", "*", ">", ".", "B", "BBB", "BBBBB", "BBB.", "*BBB", "BBB*", "BBB>", "B BB", "B\nBB", "B\r\nB", "B\x00BB", "B/BB", "Bö B", "BBBB.BBBB",
		"BBBB 1\r\nx\r\nPUB a", "all", service.NodeID(strings.Repeat("B", 70_000)),
	} {
		if err := nodes[0].bus.Send(name, frame); !errors.Is(err, adapter.ErrName) {
			t.Errorf("name %.20q: got %v, want ErrName", name, err)
		}
	}
	fence(c, nodes...)
	wantCounts(t, c, frame, map[*node]bool{nodes[0]: false, nodes[1]: false, nodes[2]: false})
}

// What is of another cluster, or for another node, does not come. What anybody else sends to a node's subject comes as
// it is, unless it is too large, and the bus lives on.
func testStrangers(t *testing.T, c Cluster) {
	if c.Stranger == nil && c.Forge == nil {
		t.Skip("this bus has no strangers")
	}
	nodes := open(t, c, "AAAA", "BBBB")
	a, b := nodes[0], nodes[1]
	if c.Stranger != nil {
		strange := c.Stranger("BBBB")
		t.Cleanup(func() { strange.Close() })
		if err := strange.Receive(func(frame []byte) { t.Errorf("another cluster has got %q", frame) }); err != nil {
			t.Fatal(err)
		}
		awaitUp(t, strange, true)
		foreign := []byte("of another cluster")
		mustSend(t, func() error { return a.bus.Send("BBBB", []byte("for B")) })
		mustSend(t, func() error { return strange.Send("AAAA", foreign) })
		mustSend(t, func() error { return strange.SendAll(foreign) })
		fence(c, nodes...)
		wantCounts(t, c, foreign, map[*node]bool{a: false, b: false})
	}
	if c.Forge != nil {
		lost := b.bus.Lost()
		if !c.Guarded {
			c.Forge("BBBB", make([]byte, b.bus.MaxFrame()+1))
			c.Forge("", make([]byte, b.bus.MaxFrame()+1))
		}
		c.Forge("BBBB", nil)
		c.Forge("ZZZZ", []byte("for somebody else"))
		for _, frame := range [][]byte{{0}, bytes.Repeat([]byte{0xff}, 1000)} {
			b.pass(c, frame, func() error { c.Forge("BBBB", frame); return nil })
		}
		fence(c, nodes...)
		wantCounts(t, c, []byte("for somebody else"), map[*node]bool{a: false, b: false})
		for _, got := range b.frames() {
			if len(got) > b.bus.MaxFrame() || len(got) == 0 {
				t.Errorf("a frame of %d bytes came", len(got))
			}
		}
		if got := b.bus.Lost(); got < lost+2 && c.Whole && !c.Guarded {
			t.Errorf("Lost went from %d to %d over two frames that were too large", lost, got)
		}
	}
}

// numbered is a frame with a sender and a number.
func numbered(sender, n int) []byte {
	frame := make([]byte, 12, 12+n%700)
	binary.BigEndian.PutUint32(frame, uint32(sender))
	binary.BigEndian.PutUint64(frame[4:], uint64(n))
	return frame[:cap(frame)]
}

func number(frame []byte) (sender, n int) {
	return int(binary.BigEndian.Uint32(frame)), int(binary.BigEndian.Uint64(frame[4:]))
}

// tally holds the order of numbered frames, and that none is missing.
type tally struct {
	c    Cluster
	tb   testing.TB
	want int // frames of each sender

	mu   sync.Mutex
	seen map[int]map[int]bool // guarded by mu; by sender
	last map[int]int          // guarded by mu; the number that came last
	all  chan struct{}        // closed when all have come
	left int                  // guarded by mu
}

func newTally(tb testing.TB, c Cluster, senders, want int) *tally {
	return &tally{c: c, tb: tb, want: want, seen: make(map[int]map[int]bool), last: make(map[int]int), all: make(chan struct{}), left: senders * want}
}

func (y *tally) add(frame []byte) {
	sender, n := number(frame)
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.seen[sender] == nil {
		y.seen[sender], y.last[sender] = make(map[int]bool), -1
	}
	if y.c.Ordered && n <= y.last[sender] {
		y.tb.Errorf("frame %d of sender %d came after %d", n, sender, y.last[sender])
	}
	if y.c.Whole && n != y.last[sender]+1 {
		y.tb.Errorf("frame %d of sender %d came next to %d", n, sender, y.last[sender])
	}
	y.last[sender] = n
	if !y.seen[sender][n] {
		y.seen[sender][n] = true
		if y.left--; y.left == 0 {
			close(y.all)
		}
	}
}

// wait waits for all frames, where none may be lost.
func (y *tally) wait() {
	y.tb.Helper()
	if !y.c.Whole {
		return
	}
	select {
	case <-y.all:
	case <-time.After(patience):
		y.mu.Lock()
		defer y.mu.Unlock()
		y.tb.Fatalf("%d frames did not come", y.left)
	}
}

// burst is how many frames a test has on their way at once: where nothing may be lost, receivers have to keep up.
const burst = 1000

// enter waits until fewer than a burst are on their way. Safe for any goroutine.
func enter(t *testing.T, room chan struct{}) {
	select {
	case room <- struct{}{}:
	case <-time.After(patience):
		t.Error("frames do not come")
	}
}

// What is for one and what is for all keeps one order.
func testOrder(t *testing.T, c Cluster) {
	const frames = 5 * burst
	y := newTally(t, c, 1, frames)
	room := make(chan struct{}, burst)
	a := openOne(t, c, "AAAA", nil)
	b := openOne(t, c, "BBBB", func(frame []byte) {
		y.add(frame)
		drain(room)
	})
	meet(t, a, b)
	for i := range frames {
		if c.Whole {
			enter(t, room)
		}
		mustSend(t, func() error {
			if i%3 == 0 {
				return a.bus.SendAll(numbered(0, i))
			}
			return a.bus.Send("BBBB", numbered(0, i))
		})
	}
	y.wait()
}

func testManySenders(t *testing.T, c Cluster) {
	const senders, frames = 16, 300
	tallies := map[service.NodeID]*tally{"BBBB": newTally(t, c, 2*senders, frames), "CCCC": newTally(t, c, 2*senders, frames)}
	room := make(chan struct{}, 2*burst) // two come of each
	receive := func(y *tally) func([]byte) {
		return func(frame []byte) {
			y.add(frame)
			drain(room)
		}
	}
	nodes := []*node{
		openOne(t, c, "AAAA", nil), openOne(t, c, "DDDD", nil),
		openOne(t, c, "BBBB", receive(tallies["BBBB"])), openOne(t, c, "CCCC", receive(tallies["CCCC"])),
	}
	meet(t, nodes...)
	var sending sync.WaitGroup
	for s := range 2 * senders {
		from := nodes[0]
		if s >= senders {
			from = nodes[1]
		}
		sending.Go(func() {
			for i := range frames {
				if c.Whole {
					enter(t, room)
					enter(t, room)
				}
				if s%2 == 0 {
					mustSend(t, func() error { return from.bus.SendAll(numbered(s, i)) })
					continue
				}
				mustSend(t, func() error { return from.bus.Send("BBBB", numbered(s, i)) })
				mustSend(t, func() error { return from.bus.Send("CCCC", numbered(s, i)) })
			}
		})
	}
	sending.Wait()
	for _, y := range tallies {
		y.wait()
	}
}

// A node whose receiver does not return loses what comes meanwhile, within a bound, and hears again afterwards. Others
// do not feel it.
func testBlockedReceiver(t *testing.T, c Cluster) {
	flood := cmp.Or(c.Flood, 48<<20)
	blocked, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var revived atomic.Bool
	a := openOne(t, c, "AAAA", nil)
	b := openOne(t, c, "BBBB", func(frame []byte) {
		if string(frame) == "and again" {
			revived.Store(true)
		}
		once.Do(func() { close(blocked); <-release })
	})
	var freed sync.Once
	free := func() { freed.Do(func() { close(release) }) }
	t.Cleanup(free) // before the bus is closed, also when the test fails
	var echo *node
	echo = openOne(t, c, "CCCC", func(frame []byte) { _ = echo.bus.Send("AAAA", frame) })
	meet(t, a, b, echo)

	mustSend(t, func() error { return a.bus.Send("BBBB", []byte("block")) })
	for stuck := false; !stuck; {
		select {
		case <-blocked:
			stuck = true
		case <-time.After(time.Second):
			mustSend(t, func() error { return a.bus.Send("BBBB", []byte("block")) })
		}
	}
	large := make([]byte, adapter.MinFrame)
	for sent, turn := 0, 0; sent < flood; turn++ {
		for range 8 {
			_ = a.bus.Send("BBBB", large) // it may be full
			sent += len(large)
		}
		ping := fmt.Appendf(nil, "ping %d", turn)
		a.pass(Cluster{}, ping, func() error { return a.bus.Send("CCCC", ping) })
	}
	free()
	deadline, tick := time.After(patience), time.NewTicker(again)
	defer tick.Stop()
	for !revived.Load() {
		select {
		case <-tick.C:
			_ = a.bus.Send("BBBB", []byte("and again"))
		case <-deadline:
			t.Fatal("the node does not hear again")
		}
	}
}
