package service

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// handlers are the backends attached to a node, in their groups, and the names that they have made known. The mutex is
// taken when a handler comes or goes; what else looks at them does so by a view of its namespace (view.go) and by the
// members of a group, which are immutable.
type handlers struct {
	node       *Node
	numbers    atomic.Uint64 // that handlers were given
	version    atomic.Uint64 // changes with every handler that comes or goes; written with mu held
	closed     atomic.Bool
	startUntil time.Time // until then the handlers of a node that has just started may be on their way
	parking    parking
	between    func() // of tests: called when a chunk of work is done, without locks

	mu       sync.RWMutex
	decider  time.Time // when a handler that decides connects was last taken out of its group; zero: none has been
	leftAt   time.Time // when a handler that is no observer was last taken out of its group
	groups   map[string]*group
	byName   patterns[[]*group]        // the same by what they have registered for
	reply    Timing                    // of handlers here that are gone
	attached map[*Handler]struct{}     // also those that drain or were replaced, until they are detached
	claiming map[*Handler]*claims      // those that wait for other nodes to agree
	promised map[*Registration]promise // those of other nodes that this one has agreed to, and that are not there yet

	// Names that are known: configured, or registered at some time by more than an observer. Sticky, so that a backend's
	// restart closes nothing.
	names   patterns[ConnectMode]
	decided patterns[struct{}] // those whose connects a handler decides, or once did
}

// group is a set of handlers that share the work. It stays for a while after its last handler has left.
type group struct {
	name     string
	observer bool
	claims   atomic.Pointer[claims]  // changed with handlers.mu held, while a single handler or none is in it
	members  atomic.Pointer[members] // changed with handlers.mu held

	// Guarded by handlers.mu.
	moving int         // calls of handOver that are not done
	forget *time.Timer // while nobody is there
}

// members are the handlers of a group. Immutable.
type members struct {
	handlers []*Handler
	leaving  []*Handler // out of it: their last answers may be waited for
}

func newHandlers(n *Node) *handlers {
	hs := &handlers{
		node: n, groups: map[string]*group{}, attached: map[*Handler]struct{}{}, claiming: map[*Handler]*claims{}, promised: map[*Registration]promise{}, startUntil: n.startedAt.Add(n.cfg.HandlerWait),
	}
	hs.learnLocked("/", ConnectOpen)
	for _, c := range n.cfg.Namespaces {
		hs.learnLocked(Canonical(c.Pattern), c.Connect)
	}
	hs.parking.init(hs)
	return hs
}

// all are the handlers that are attached, here and elsewhere.
func (hs *handlers) all() []*Handler {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	return slices.Collect(maps.Keys(hs.attached))
}

// here is how many handlers are attached to this node.
func (hs *handlers) here() int {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	return hs.hereLocked()
}

func (hs *handlers) hereLocked() (n int) {
	for h := range hs.attached {
		if h.at == "" {
			n++
		}
	}
	return n
}

// busy is how many handlers have something left to be told or to answer, and how many observers.
func (hs *handlers) busy() (owners, observers int) {
	for _, h := range hs.all() {
		h.mu.Lock()
		left := h.ended == nil && !h.quietLocked()
		h.mu.Unlock()
		switch {
		case !left:
		case h.reg.Observer:
			observers++
		default:
			owners++
		}
	}
	return owners, observers
}

// register checks what a handler asks for and puts it into its group.
func (hs *handlers) register(h *Handler) (replaced *Handler, err error) {
	var after followUps
	if h.at != "" { // what it claims was agreed on
		hs.mu.Lock()
	} else if err := hs.lockUnclaimed(h); err != nil {
		return nil, err
	}
	replaced, err = hs.enterLocked(h, &after)
	hs.mu.Unlock()
	after.run()
	return replaced, err
}

// lockUnclaimed takes the lock when no other group has, or is about to have, what a handler claims. What is to be
// compared with other groups is compared without the lock, and again with those that have come meanwhile.
func (hs *handlers) lockUnclaimed(h *Handler) error {
	checked := map[*claims]bool{}
	for {
		others := map[*claims]string{}
		hs.mu.Lock()
		for _, g := range hs.groups {
			if c := g.claims.Load(); g.name != h.reg.Group && len(g.members.Load().handlers) > 0 && !checked[c] {
				others[c] = g.name
			}
		}
		for o, c := range hs.claiming {
			if o.reg.Group != h.reg.Group && !checked[c] {
				others[c] = o.reg.Group
			}
		}
		for r, p := range hs.promised {
			if r.Group != h.reg.Group && !checked[p.claims] {
				others[p.claims] = r.Group
			}
		}
		if len(others) == 0 {
			return nil
		}
		hs.mu.Unlock()
		for c, name := range others {
			if err := h.claims.conflict(c, name); err != nil {
				return err
			}
			checked[c] = true
		}
	}
}

func (hs *handlers) enterLocked(h *Handler, after *followUps) (replaced *Handler, err error) {
	if hs.closed.Load() || hs.node.draining.Load() && h.at == "" {
		return nil, ErrDraining
	}
	if err := hs.checkLimitsLocked(h); err != nil {
		return nil, err
	}
	if err := h.endedWith(); err != nil { // another node has the better claim
		return nil, err
	}
	var elsewhere []*Handler // that it replaces
	g := hs.groups[h.reg.Group]
	if g != nil {
		m := g.members.Load()
		alone := true
		for _, o := range m.handlers {
			switch {
			case o.reg.ID != h.reg.ID:
				alone = false
			case o.at == "" && h.at == "": // its own node replaces one that is elsewhere
				replaced = o
			case h.at == "":
				elsewhere = append(elsewhere, o)
			}
		}
		if field := h.claims.unlike(g.claims.Load()); field != "" {
			switch {
			case !alone, g.observer != h.reg.Observer && (len(m.handlers) > 0 || g.moving > 0):
				return nil, claimed(field, unlikeText, g.name)
			case g.observer != h.reg.Observer: // nobody is in it; the new one is another group of the same name
				hs.dropLocked(g)
				after.add(func() { hs.sweep(g) })
				g = nil
			default:
				hs.unlistLocked(g)
				g.claims.Store(h.claims)
				hs.listLocked(g)
			}
		}
	}
	if g == nil {
		g = &group{name: h.reg.Group, observer: h.reg.Observer}
		g.members.Store(&members{})
		g.claims.Store(h.claims)
		hs.groups[g.name] = g
		hs.listLocked(g)
	}
	if g.forget != nil {
		g.forget.Stop()
		g.forget = nil
	}
	h.claims = g.claims.Load() // one for all of them
	h.group = g
	m := g.members.Load()
	g.members.Store(&members{handlers: append(slices.Clip(m.handlers), h), leaving: m.leaving})
	hs.attached[h] = struct{}{}
	hs.version.Add(1)
	if hs.node.abroad != nil && h.at == "" && !h.reg.Local {
		hs.node.abroad.Registered(h, elsewhere)
	}
	if replaced != nil { // in one step, so that each is replaced once, however many of one id come at the same time
		hs.departLocked(replaced)
	}
	hs.learnRegistrationLocked(h, after)
	return replaced, nil
}

func (hs *handlers) checkLimitsLocked(h *Handler) error {
	if total := hs.hereLocked(); h.at == "" && total >= hs.node.cfg.MaxHandlers {
		return &Error{Code: Exhausted, Reason: "LIMIT_REACHED", Message: fmt.Sprintf("the node has %d handlers, and takes no more", total)}
	}
	return hs.checkNamesLocked(h)
}

func (hs *handlers) checkNamesLocked(h *Handler) error {
	if names, prefixes := hs.newNamesLocked(h); names > 0 && len(hs.names.exact)+names > maxNames || prefixes > 0 && len(hs.names.prefixes)+prefixes > maxPrefixes {
		return &Error{
			Code: Exhausted, Reason: "LIMIT_REACHED", Field: "register.namespaces",
			Message: fmt.Sprintf("the node knows at most %d names and %d prefixes of namespaces", maxNames, maxPrefixes),
		}
	}
	return nil
}

// listLocked lets a group be found by the names that it has registered for; unlistLocked takes that back.
func (hs *handlers) listLocked(g *group) {
	g.eachPattern(func(p string) {
		list, _ := hs.byName.get(p)
		hs.byName.set(p, append(slices.Clip(list), g))
	})
}

func (hs *handlers) unlistLocked(g *group) {
	g.eachPattern(func(p string) {
		list, _ := hs.byName.get(p)
		list = slices.DeleteFunc(slices.Clone(list), func(o *group) bool { return o == g })
		if len(list) == 0 {
			hs.byName.remove(p)
		} else {
			hs.byName.set(p, list)
		}
	})
}

func (g *group) eachPattern(do func(string)) {
	c := g.claims.Load()
	for name := range c.namespaces.exact {
		do(name)
	}
	for prefix := range c.namespaces.prefixes {
		do(prefix + "*")
	}
}

// coveringLocked calls do with each group that has registered for a namespace, once, the one with the closest pattern
// first.
func (hs *handlers) coveringLocked(name string, do func(*group)) {
	seen := map[*group]struct{}{}
	hs.byName.covering(name, func(list []*group) bool {
		for _, g := range list {
			if _, again := seen[g]; !again {
				seen[g] = struct{}{}
				do(g)
			}
		}
		return true
	})
}

func (hs *handlers) beginDrain(until time.Time) {
	for _, h := range hs.all() {
		if h.at == "" {
			h.tell(Notice{Kind: NoticeDraining, Until: until})
		}
	}
}

// close ends every handler and drops what waits.
func (hs *handlers) close() {
	hs.closed.Store(true)
	hs.parking.close()
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for _, g := range hs.groups {
		if g.forget != nil {
			g.forget.Stop()
		}
	}
	for h := range hs.attached {
		if h.deadline != nil {
			h.deadline.Stop()
		}
		h.end(ErrDraining)
	}
}

// followUps are what is to be done once no lock is held any more.
type followUps []func()

func (f *followUps) add(do func()) { *f = append(*f, do) }

func (f followUps) run() {
	for _, do := range f {
		do()
	}
}
