package service

import (
	"context"
	"errors"
	"slices"
	"time"
)

// RemoteHandlers is a Remote that lets handlers of one node serve the sockets of others. A registration that is Local
// is told to nobody. Unless it says otherwise, a method is called with locks of this package held, as those of Remote
// are.
type RemoteHandlers interface {
	// Claim asks the other nodes whether they have anything against a handler that is about to be attached. It blocks
	// until all that can be reached have answered, which they do by Node.Consider, until it has waited for some seconds,
	// or until ctx or the handler ends. A node that has not answered is in the coverage. An error is that of a node that
	// holds what is claimed. Registered or Unclaimed follows. Called without locks, as is Unclaimed.
	Claim(ctx context.Context, h *Handler) (Coverage, error)
	Unclaimed(h *Handler)
	// Registered says that a handler of this node is there, in place of some elsewhere. Leaves says that it takes nothing
	// new any more, Gone that it answers nothing either: Leaves comes before Gone, and either may come for a handler that
	// was never registered.
	Registered(h *Handler, replaces []*Handler)
	Leaves(h *Handler)
	Gone(h *Handler)
	// Stalls says that a handler elsewhere makes no progress while others of its group do: its node is to look at it by
	// Node.Shed. Called without locks.
	Stalls(h *Handler)
	// Learned says that a namespace is known, or all that begin alike: by a registration somewhere that is not an
	// observer's, and whether that decides who connects.
	Learned(pattern string, decides bool)
}

// attachAgreed attaches a handler when no other node has anything against it.
func (hs *handlers) attachAgreed(ctx context.Context, h *Handler) (*Handler, Coverage, error) {
	if err := hs.lockUnclaimed(h); err != nil {
		return nil, Coverage{}, err
	}
	err := hs.unlikeLocked(h)
	if err == nil {
		hs.claiming[h] = h.claims
	}
	hs.mu.Unlock()
	if err != nil {
		return nil, Coverage{}, err
	}
	coverage, err := hs.node.abroad.Claim(ctx, h)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = hs.attach(h)
	}
	hs.mu.Lock()
	delete(hs.claiming, h)
	hs.mu.Unlock()
	if err != nil {
		hs.node.abroad.Unclaimed(h)
		return nil, Coverage{}, err
	}
	return h, coverage, nil
}

// unlikeLocked says in what a handler differs from others of its group, beside one that it replaces.
func (hs *handlers) unlikeLocked(h *Handler) error {
	g := hs.groups[h.reg.Group]
	if g == nil || !slices.ContainsFunc(g.members.Load().handlers, func(o *Handler) bool { return o.reg.ID != h.reg.ID }) {
		return nil
	}
	if field := h.claims.unlike(g.claims.Load()); field != "" {
		return claimed(field, unlikeText, g.name)
	}
	return nil
}

// Verdict is what a node says to a claim of another one.
type Verdict uint8

// The verdicts.
const (
	Agreed Verdict = iota // nothing here is against it
	Held                  // it is held here, and the earlier claim holds
	Open                  // it is held here as well, and the other node says who holds it
)

// own is a handler of this node and what it claims.
type own struct {
	h      *Handler
	claims *claims
}

// ownClaims are the handlers of this node that claim something, or are about to.
func (hs *handlers) ownClaims() (list []own) {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	for h := range hs.attached {
		if h.at == "" && !h.leaving {
			list = append(list, own{h, h.claims})
		}
	}
	for h, c := range hs.claiming {
		if _, in := hs.attached[h]; !in {
			list = append(list, own{h, c})
		}
	}
	return list
}

// promise is that this node lets nobody else have what a handler of another one is about to claim.
type promise struct {
	claims *claims
	of     NodeID
	over   chan struct{} // closed when the handler is there, or has come to nothing
}

// Consider says what this node has against a registration of another one that was claimed so long ago. Of two nodes the
// one with the smaller name judges, by its own clock, so that there is one verdict: the earlier claim holds, and the
// later one ends here, with ALREADY_CLAIMED, or is Held with that error. What was Agreed is promised to the other node
// until Unpromise is called with the same r: others that ask for it here are refused. registered: the other node has
// attached it. Then it takes the place of one with the same id, unless that came later: that is Held with ErrReplaced.
func (n *Node) Consider(r *Registration, of NodeID, age time.Duration, registered bool) (Verdict, error) {
	hs := n.handlers
	c, since := makeClaims(r), time.Now().Add(-age)
	verdict := Agreed
	losers := map[*Handler]error{}
	for _, o := range hs.ownClaims() {
		mine, theirs := o.rival(r, c, registered)
		if mine == nil {
			continue
		}
		later := o.h.claimedAt.After(since)
		replaces := errors.Is(mine, ErrReplaced)
		switch {
		case n.id > of && replaces: // the other node sees to it
		case n.id > of:
			verdict = Open
		case later == replaces:
			return Held, theirs
		default:
			losers[o.h] = mine
		}
	}
	for h, err := range losers {
		n.Refuse(h, err)
	}
	if verdict == Agreed && !registered {
		hs.mu.Lock()
		hs.promised[r] = promise{c, of, make(chan struct{})}
		hs.mu.Unlock()
	}
	return verdict, nil
}

// Unpromise takes back what Consider has agreed to: the handler is there, or it has come to nothing.
func (n *Node) Unpromise(r *Registration) {
	n.handlers.mu.Lock()
	p, ok := n.handlers.promised[r]
	delete(n.handlers.promised, r)
	n.handlers.mu.Unlock()
	if ok {
		close(p.over)
		n.connects.serve() // some may have waited for it
	}
}

// rival says why a handler of this node and a registration of another one cannot both be: the error for the one here,
// and for the one there; nil: they can.
func (o *own) rival(r *Registration, c *claims, registered bool) (mine, theirs error) {
	h := o.h
	switch {
	case h.reg.Group != r.Group:
		mine, theirs = o.claims.conflict(c, r.Group), c.conflict(o.claims, h.reg.Group)
	case h.reg.ID == r.ID && registered:
		return ErrReplaced, ErrReplaced
	case h.reg.ID != r.ID:
		if field := c.unlike(o.claims); field != "" {
			err := claimed(field, unlikeText, r.Group)
			return err, err
		}
	}
	return mine, theirs
}

// Refuse ends a handler of this node, or one that is about to be, since another node has the better claim; with
// ErrReplaced it may finish what is in flight.
func (n *Node) Refuse(h *Handler, err error) {
	hs := n.handlers
	hs.mu.Lock()
	_, in := hs.attached[h]
	_, claims := hs.claiming[h]
	if claims && !in {
		h.end(err) // under the lock, so that it does not enter its group meanwhile
	}
	again := h.leaving
	hs.mu.Unlock()
	switch {
	case !in || again:
	case errors.Is(err, ErrReplaced):
		hs.handOver(h)
		hs.retire(h, Notice{Kind: NoticeDraining, Replaced: true, Until: time.Now().Add(handlerDrainTime)})
	default:
		hs.handOver(h)
		h.end(err)
		hs.letGo(h)
	}
}

// Shed gives up a handler of this node that makes no progress, at the word of another node, where others of its group
// do.
func (n *Node) Shed(h *Handler) {
	n.handlers.mu.RLock()
	gone := h.leaving || h.detached
	n.handlers.mu.RUnlock()
	if !gone && h.progress(time.Now()) >= n.cfg.HandlerPatience/2 {
		n.handlers.shed(h)
	}
}

// ClaimedFor is for how long the handler has claimed what it registers.
func (h *Handler) ClaimedFor() time.Duration { return time.Since(h.claimedAt) }

// Learn takes a namespace that another node knows by some registration, or all that begin alike, and whether a handler
// decides who connects. More than the node may know is ignored.
func (n *Node) Learn(pattern string, decides bool) {
	hs := n.handlers
	pattern = Canonical(pattern)
	h := &Handler{node: n, reg: Registration{Namespaces: []string{pattern}, DecideConnects: decides, Group: "of another node"}}
	var after followUps
	hs.mu.Lock()
	_, known := hs.names.get(pattern)
	_, decided := hs.decided.get(pattern)
	fits := hs.checkNamesLocked(h) == nil
	if fits {
		hs.learnRegistrationLocked(h, &after)
	}
	hs.mu.Unlock()
	after.run()
	if fits && (!known || decides && !decided) { // others tell all names again with each epoch
		n.connects.serve() // some may wait for the name
	}
}
