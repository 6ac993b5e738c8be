//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	// frozenLease leaves the time to fill a window after a node was frozen and before it is lost.
	frozenLease = 8 * time.Second
	// heavyBytes is the size of one emit to the node that is frozen, and heavyRate how many bytes of them there are a
	// second, where the machine carries so much.
	heavyBytes = 60 << 10
	heavyRate  = 20 << 20
	// frozenWindow is the --cluster-window: less than the default, since a busy machine is slower than heavyRate.
	frozenWindow = 4 << 20
)

// light is a stream of emits from one node to a socket of another one, each of which waits for the answer to the last.
type light struct {
	emits foyerv1.EmitServiceClient
	both  func() bool // every tenth goes to the frozen node, too
	next  int
}

// lightEmit is one of them.
type lightEmit struct {
	both    bool
	rounds  int64 // of the measure, while it was on its way
	took    time.Duration
	receipt *foyerv1.EmitResponse
}

// measure does small things at two nodes, one after the other, which no third node has a part in: so its rounds are a
// clock that goes as slow as the machine does.
type measure struct{ rounds atomic.Int64 }

func (m *measure) run(ctx context.Context, t *testing.T, at ...*foyer) {
	var nodes []foyerv1.EmitServiceClient
	for _, f := range at {
		nodes = append(nodes, api(t, f.api).emits)
	}
	for ctx.Err() == nil {
		for _, emits := range nodes {
			_, err := emits.Emit(ctx, &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: []string{"nobody"}, Local: true}, Payload: say("round")})
			if err != nil && ctx.Err() == nil {
				t.Errorf("a local emit: %v", err)
				return
			}
		}
		m.rounds.Add(1)
	}
}

// emit emits until enough says that it is.
func (l *light) emit(t *testing.T, m *measure, enough func(n int) bool) (list []lightEmit) {
	t.Helper()
	for !enough(len(list)) {
		to, both := "light", l.next%10 == 0 && l.both()
		if both {
			to = "both"
		}
		began, rounds := time.Now(), m.rounds.Load()
		r, err := l.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Rooms: []string{to}}, Payload: say("light", l.next)})
		if err != nil {
			t.Fatalf("emit %d: %v", l.next, err)
		}
		l.next++
		list = append(list, lightEmit{both, m.rounds.Load() - rounds, time.Since(began), r})
	}
	return list
}

// heavy is what fills the window to a node.
type heavy struct {
	sent, refused atomic.Int64 // refused: the node was named
}

// run emits at a rate that does not depend on the answers.
func (h *heavy) run(ctx context.Context, t *testing.T, at *foyer, to, node string) {
	emits := api(t, at.api).emits
	const step = 10 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	fill := strings.Repeat("x", heavyBytes)
	for n, due := 0, 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C: // one that is late is not made up for
		}
		for due += heavyRate / int(time.Second/step); due >= heavyBytes; due -= heavyBytes {
			r, err := emits.Emit(ctx, &foyerv1.EmitRequest{
				Target: &foyerv1.Target{Rooms: []string{to}}, Payload: say("heavy", n, fill), Receipt: foyerv1.Receipt_RECEIPT_ACCEPTED,
			})
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				t.Errorf("a heavy emit: %v", err)
				return
			case slices.Contains(r.GetCoverage().GetUnreachable(), node):
				h.refused.Add(1)
			default:
				h.sent.Add(1)
			}
			n++
		}
	}
}

// heap is what a node keeps in its heap, in bytes: after its garbage was collected twice, as what the first collection
// finds may go with the second only.
func (f *foyer) heap(t testing.TB) (kept int) {
	t.Helper()
	for range 2 {
		r, err := http.Get("http://" + f.admin + "/debug/pprof/heap?gc=1&debug=1")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		r.Body.Close()
		_, rest, found := strings.Cut(string(text), "\n# HeapAlloc = ")
		if _, scan := fmt.Sscan(rest, &kept); err != nil || !found || scan != nil {
			t.Fatalf("no heap: %v, %v, %.200q", err, scan, text)
		}
	}
	return kept
}

// story is what a client got, in its order.
type story struct {
	*rawSocket
	done sync.WaitGroup
	got  *feed[string] // the first bytes of each
}

func follow(t *testing.T, f *foyer) *story {
	t.Helper()
	s := &story{rawSocket: mustJoin(t, "", f.edge), got: newFeed[string]()}
	s.done.Go(func() {
		defer s.got.end()
		_ = s.read(func(args string) { s.got.add(args[:min(40, len(args))]) })
	})
	t.Cleanup(func() { s.Close(); s.done.Wait() })
	return s
}

// numbered are the numbers of the events of a name that came; each may come once, in the order of the numbers.
func (s *story) numbered(t *testing.T, event string) (list []int) {
	t.Helper()
	for _, args := range s.got.all() {
		rest, ok := strings.CutPrefix(args, `["`+event+`",`)
		n := 0
		if _, err := fmt.Sscan(strings.TrimRight(strings.SplitN(rest, ",", 2)[0], "]"), &n); !ok || err != nil {
			continue
		}
		if k := len(list); k > 0 && list[k-1] >= n {
			t.Fatalf("%s %d came after %d", event, n, list[k-1])
		}
		list = append(list, n)
	}
	return list
}

// stateOf is how the node that is asked lists another one.
func (b *backend) stateOf(t testing.TB, node string) foyerv1.NodeState {
	t.Helper()
	r, err := b.node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range r.GetNodes() {
		if n.GetNodeId() == node {
			return n.GetState()
		}
	}
	return foyerv1.NodeState_NODE_STATE_UNSPECIFIED
}

// mean is how many rounds of the measure one emit took, and the most that one did.
func mean(list []lightEmit) (each float64, most int64) {
	sum := int64(0)
	for _, e := range list {
		sum += e.rounds
		most = max(most, e.rounds)
	}
	return float64(sum) / float64(len(list)), most
}

// p99 is the time that all but a hundredth took less than; rate is how many there were in a second.
func p99(list []lightEmit) (p99 time.Duration, rate float64) {
	var took []time.Duration
	sum := time.Duration(0)
	for _, e := range list {
		took = append(took, e.took)
		sum += e.took
	}
	slices.Sort(took)
	return took[len(took)*99/100], float64(len(list)) / sum.Seconds()
}

// TestFrozenPeerSlowsNobody: while a node is frozen, and more is sent to it than its window holds, what goes to a third
// one is not held up, what is kept for the frozen one stays within the window, and every receipt names it or speaks for
// it. Once it goes on, all goes on, and nothing has come twice.
func TestFrozenPeerSlowsNobody(t *testing.T) {
	nodes := startNodes(t, embedded(t, 3, "--log-level=info", "--pprof", "--cluster-lease="+frozenLease.String(), fmt.Sprint("--cluster-window=", frozenWindow), "--ping-timeout=60s", "--slow-after=60s"))
	a, b, c := nodes[0], nodes[1], nodes[2]
	here, there := follow(t, b), follow(t, c)
	caller := api(t, a.api)
	caller.join(t, "/", here.id, "heavy", "both")
	caller.join(t, "/", there.id, "light", "both")

	var clock measure
	var load heavy
	defer during(func(ctx context.Context) { clock.run(ctx, t, a, c) })()
	stopLoad := during(func(ctx context.Context) { load.run(ctx, t, a, "heavy", "BBBB") })
	defer func() { stopLoad() }()
	full := false
	stream := &light{emits: caller.emits, both: func() bool { return full }}
	const enough = 600
	before := stream.emit(t, &clock, func(n int) bool { return n >= enough && load.sent.Load() >= 100 })
	small, sent, refused := a.heap(t), load.sent.Load(), load.refused.Load()
	if refused > 0 {
		t.Logf("%d of %d heavy emits found no room while all was well", refused, sent+refused)
	}

	// BBBB stands still until it is lost, and the emits to CCCC go on.
	_ = b.cmd.Process.Signal(syscall.SIGSTOP)
	defer func() { _ = b.cmd.Process.Signal(syscall.SIGCONT) }()
	frozen := stream.emit(t, &clock, func(n int) bool {
		lost := n%50 == 0 && caller.stateOf(t, "BBBB") == foyerv1.NodeState_NODE_STATE_LOST
		if !full && !lost && load.refused.Load() > refused+50 {
			full = true // the window is, and what it has no room for is refused
			kept := a.heap(t)
			t.Logf("after %d emits the window is full: AAAA keeps %d KiB, %d more than before", n, kept>>10, (kept-small)>>10)
			if kept > small+2*frozenWindow+8<<20 { // the window, what NATS has of it, and what is in hand
				t.Errorf("AAAA keeps %d KiB more for a frozen node than before, with a window of %d", (kept-small)>>10, frozenWindow>>10)
			}
		}
		return n >= enough && lost
	})
	if !full {
		t.Errorf("%d heavy emits were taken and %d refused, and the window was not full before BBBB was lost", load.sent.Load()-sent, load.refused.Load()-refused)
	}
	for i, e := range frozen {
		named := e.receipt.GetCoverage().GetUnreachable()
		if e.took >= 2*time.Second && slices.Contains(named, "CCCC") { // a busy node was late; the measure tells why
			continue
		}
		if e.receipt.GetEnqueued() != 1 || slices.Contains(named, "CCCC") || e.both && !slices.Equal(named, []string{"BBBB"}) {
			t.Errorf("emit %d while BBBB is frozen, to it too: %t, is answered %v after %d rounds of the measure", i, e.both, e.receipt, e.rounds)
		}
	}
	was, most := mean(before)
	is, longest := mean(frozen)
	p99Before, rateBefore := p99(before)
	p99Frozen, rateFrozen := p99(frozen)
	t.Logf("%d emits before, %.0f a second, p99 %v; %d while BBBB was frozen, %.0f a second, p99 %v: rate ratio %.2f, p99 ratio %.2f",
		len(before), rateBefore, p99Before, len(frozen), rateFrozen, p99Frozen, rateBefore/rateFrozen, float64(p99Frozen)/float64(p99Before))
	t.Logf("rounds of the measure for an emit: %.2f before, at most %d; %.2f while frozen, at most %d", was, most, is, longest)
	if is > 3*max(was, 1) {
		t.Errorf("an emit to CCCC takes %.2f rounds while BBBB is frozen, and %.2f before", is, was)
	}
	if longest > 1000+10*most { // what stalls for a frozen node does so for seconds
		t.Errorf("an emit to CCCC was held up for %d rounds while BBBB was frozen, and %d at most before", longest, most)
	}

	// All goes on, and each has what was promised.
	stopLoad()
	stopLoad = func() {}
	_ = b.cmd.Process.Signal(syscall.SIGCONT)
	awaitUp(t, nodes, nodeNames[:3]...)
	caller.mustEmit(t, &foyerv1.Target{Rooms: []string{"both"}}, 2, "last")
	for _, s := range []*story{here, there} {
		if _, _, err := s.got.await(0, patience, func(args string) bool { return strings.HasPrefix(args, `["last"`) }); err != nil {
			t.Fatalf("no last word: %v", err)
		}
	}
	if got := there.numbered(t, "light"); len(got) != stream.next {
		t.Errorf("the client of CCCC got %d of %d", len(got), stream.next)
	}
	got := here.numbered(t, "heavy")
	t.Logf("BBBB's client got %d of %d heavy emits that were taken", len(got), load.sent.Load())
	if len(got) == 0 || int64(len(got)) > load.sent.Load() {
		t.Errorf("BBBB's client got %d of %d heavy emits", len(got), load.sent.Load())
	}
}
