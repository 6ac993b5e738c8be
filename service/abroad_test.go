package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// handlersRemote writes down what it is told of handlers, and has others agree to what is claimed as claim says.
type handlersRemote struct {
	fakeRemote
	claim func(ctx context.Context, h *Handler) (Coverage, error)

	lines struct {
		sync.Mutex
		list []string
	}
}

func (r *handlersRemote) write(format string, args ...any) {
	r.lines.Lock()
	defer r.lines.Unlock()
	r.lines.list = append(r.lines.list, fmt.Sprintf(format, args...))
}

func (r *handlersRemote) took() []string {
	r.lines.Lock()
	defer r.lines.Unlock()
	list := r.lines.list
	r.lines.list = nil
	return list
}

func (r *handlersRemote) Claim(ctx context.Context, h *Handler) (Coverage, error) {
	r.write("claim %s", h.ID())
	if r.claim == nil {
		return Coverage{}, nil
	}
	return r.claim(ctx, h)
}
func (r *handlersRemote) Unclaimed(h *Handler) { r.write("unclaimed %s", h.ID()) }
func (r *handlersRemote) Registered(h *Handler, replaces []*Handler) {
	line := "registered " + h.ID()
	for _, o := range replaces {
		line += " for the one at " + string(o.At())
	}
	r.write("%s", line)
}
func (r *handlersRemote) Leaves(h *Handler) { r.write("leaves %s", h.ID()) }
func (r *handlersRemote) Gone(h *Handler)   { r.write("gone %s", h.ID()) }
func (r *handlersRemote) Stalls(h *Handler) { r.write("stalls %s", h.ID()) }
func (r *handlersRemote) Learned(pattern string, decides bool) {
	r.write("learned %s %v", pattern, decides)
}

// TestOthersHearOfRegistrations: when they are claimed, made, replaced and gone; of local ones nothing.
func TestOthersHearOfRegistrations(t *testing.T) {
	remote := &handlersRemote{claim: func(context.Context, *Handler) (Coverage, error) {
		return Coverage{Unreachable: []string{"slow"}}, nil
	}}
	n := newNode(t, Config{NodeID: "here", Remote: remote})
	h, coverage, err := n.Attach(t.Context(), Registration{ID: "one", Namespaces: []string{"/a*"}, DecideConnects: true})
	wantEqual(t, "coverage", coverage, Coverage{Unreachable: []string{"slow"}})
	wantEqual(t, "attached", []any{err, remote.took()}, []any{nil, []string{"claim one", "registered one", "learned /a* true"}})
	attach(t, n, Registration{ID: "two", Namespaces: []string{"/a*"}, DecideConnects: true, Local: true})
	wantEqual(t, "of a local one", remote.took(), []string(nil))
	far, err := n.AttachElsewhere(Registration{ID: "three", Group: "default", Namespaces: []string{"/a*"}, DecideConnects: true, MaxInFlight: 1}, "far0")
	if err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "of one elsewhere", remote.took(), []string{"learned /a* true"})
	attach(t, n, Registration{ID: "three", Namespaces: []string{"/a*"}, DecideConnects: true})
	attach(t, n, Registration{ID: "one", Namespaces: []string{"/a*"}, DecideConnects: true})
	wantEqual(t, "replaced", remote.took(), []string{
		"claim three", "registered three for the one at far0", "learned /a* true", "claim one", "registered one", "leaves one", "learned /a* true",
	})
	h.Detach()
	far.Drain()
	far.Detach()
	wantEqual(t, "gone", remote.took(), []string{"gone one"})
}

// TestClaimIsRefused: by another node, by the end of the call, while another one of this node claims the same, and by a
// verdict that comes while it is claimed.
func TestClaimIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remote := &handlersRemote{}
		n := newNode(t, Config{NodeID: "bbbb", Remote: remote})
		reg := func(group string) Registration {
			return Registration{ID: group, Group: group, Namespaces: []string{"/"}}
		}
		refusal := claimed("events", "another node has it")
		remote.claim = func(context.Context, *Handler) (Coverage, error) { return Coverage{}, refusal }
		_, _, err := n.Attach(t.Context(), reg("a"))
		wantEqual(t, "by another node", []any{errors.Is(err, refusal), remote.took()}, []any{true, []string{"claim a", "unclaimed a"}})

		remote.claim = func(ctx context.Context, h *Handler) (Coverage, error) {
			select {
			case <-ctx.Done():
			case <-h.Done():
			}
			return Coverage{}, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		result := make(chan error, 1)
		go func() { _, _, err := n.Attach(ctx, reg("a")); result <- err }()
		synctest.Wait()
		_, _, err = n.Attach(t.Context(), reg("b"))
		wantEqual(t, "while another one claims", errors.Is(err, refusal), true)
		wantEqual(t, "at the end of the call", errors.Is(<-result, context.DeadlineExceeded), true)

		go func() { _, _, err := n.Attach(t.Context(), reg("a")); result <- err }()
		time.Sleep(time.Second)
		synctest.Wait()
		rival := reg("c")
		verdict, err := n.Consider(&rival, "cccc", 2*time.Second, false)
		wantEqual(t, "theirs was earlier", []any{verdict, err, errors.Is(<-result, refusal)}, []any{Agreed, nil, true})
		wantEqual(t, "nothing is left", []int{len(n.handlers.claiming), len(n.handlers.attached), len(n.handlers.groups)}, []int{0, 0, 0})
	})
}

// TestVerdicts: of rival registrations at two nodes the one with the smaller name judges, by the time for which they
// were claimed, and one of the two ends.
func TestVerdicts(t *testing.T) {
	catchAll := Registration{Group: "rival", ID: "x", Namespaces: []string{"/a"}}
	for name, c := range map[string]struct {
		own        string // id of the handler here, in group "mine" unless it is "x"
		theirs     Registration
		of         NodeID
		age        time.Duration
		registered bool
		want       Verdict
		stays      bool
	}{
		"ours is earlier":                      {"m", catchAll, "zzzz", time.Second, false, Held, true},
		"ours is later":                        {"m", catchAll, "zzzz", time.Minute, false, Agreed, false},
		"at the same time the smaller name":    {"m", catchAll, "zzzz", 10 * time.Second, false, Held, true},
		"the other node judges":                {"m", catchAll, "aaaa", time.Second, false, Open, true},
		"the other node judges a later one":    {"m", catchAll, "aaaa", time.Minute, true, Open, true},
		"no rival":                             {"m", Registration{Group: "rival", ID: "x", Namespaces: []string{"/b"}}, "zzzz", time.Second, true, Agreed, true},
		"another of the group":                 {"x", Registration{Group: "rival", ID: "y", Namespaces: []string{"/a"}}, "zzzz", time.Second, true, Agreed, true},
		"another of the group, unlike":         {"x", Registration{Group: "rival", ID: "y", Namespaces: []string{"/b"}}, "zzzz", time.Second, true, Held, true},
		"another of the group, unlike, before": {"x", Registration{Group: "rival", ID: "y", Namespaces: []string{"/b"}}, "zzzz", time.Minute, true, Agreed, false},
		"the same id, claimed":                 {"x", catchAll, "zzzz", time.Second, false, Agreed, true},
		"the same id, registered later":        {"x", catchAll, "zzzz", time.Second, true, Agreed, false},
		"the same id, registered before":       {"x", catchAll, "zzzz", time.Minute, true, Held, true},
		"the same id, the other node judges":   {"x", catchAll, "aaaa", time.Second, true, Agreed, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, Config{NodeID: "mmmm", Remote: &handlersRemote{}})
				reg := Registration{Group: "mine", ID: c.own, Namespaces: []string{"/a"}}
				if c.own == "x" {
					reg.Group = "rival"
				}
				h := attach(t, n, reg)
				time.Sleep(10 * time.Second)
				verdict, err := n.Consider(&c.theirs, c.of, c.age, c.registered)
				wantEqual(t, "verdict", []any{verdict, err != nil}, []any{c.want, c.want == Held})
				n.handlers.mu.RLock()
				stays := !h.leaving
				n.handlers.mu.RUnlock()
				wantEqual(t, "ours stays", stays, c.stays)
				if !stays && c.own == c.theirs.ID {
					wantEqual(t, "told", told(t, h), []string{"draining"})
				} else if !stays {
					_, err := h.Next(t.Context(), nil)
					wantEqual(t, "its end", errors.Is(err, &Error{Reason: "ALREADY_CLAIMED"}), true)
				}
			})
		})
	}
}

// TestNamesAreKnownEverywhere: a namespace that a handler elsewhere has registered, or once did, lets nobody in without
// one, here as there.
func TestNamesAreKnownEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{HandlerWait: time.Second})
		time.Sleep(time.Minute) // nobody is hoped for any more
		c := newConn()
		n.Connect(c.request("/chat"))
		wantEqual(t, "not known", len(c.refusals()), 1)
		n.Learn("/chat", true)
		n.Learn("/open", false)
		n.Connect(c.request("/open"))
		wantEqual(t, "open", len(c.sockets), 1)
		n.Connect(c.request("/chat"))
		wantEqual(t, "waits", [2]int{len(c.refusals()), len(c.sockets)}, [2]int{1, 1})
		pass(2 * time.Second)
		wantEqual(t, "never fails open", [2]int{len(c.refusals()), len(c.sockets)}, [2]int{2, 1})
		for i := range maxNames + 10 {
			n.Learn(fmt.Sprint("/", i), false)
		}
		wantEqual(t, "bounded", len(n.handlers.names.exact), maxNames)
	})
}

// TestOnlyNewNamesServeWaitingConnects: as other nodes tell all their names again with each epoch.
func TestOnlyNewNamesServeWaitingConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, Config{HandlerWait: time.Second})
		n.Learn("/decided", false)
		c := newConn()
		n.Connect(c.request("/chat"))
		n.handlers.mu.Lock()
		n.handlers.learnLocked("/chat", ConnectOpen) // who is served next is let in
		n.handlers.mu.Unlock()
		n.Learn("/chat", false)
		n.Learn("/decided", false)
		wantEqual(t, "nothing is new", len(c.sockets), 0)
		n.Learn("/decided", true)
		wantEqual(t, "a mode is", len(c.sockets), 1)
	})
}
