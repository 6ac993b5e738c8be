package service

import (
	"container/list"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// handlers are the backends attached to a node: who owns which events, which socket belongs to whom, and what waits while
// nobody is there. One mutex serves it all: it is taken when sockets and handlers come and go, never by an event on its way.
// Work of the size of a namespace goes in chunks, between which it is given back.
type handlers struct {
	node       *Node
	version    atomic.Uint64 // changes with every handler that comes or goes; written with mu held
	between    func()        // of tests: called when a chunk of work is done, without locks
	startUntil time.Time     // until then the handlers of a node that has just started may be on their way

	mu       sync.Mutex
	closed   bool
	draining bool
	until    time.Time   // of the drain
	absence  *time.Timer // tells that connects wait for a handler to come, while some do
	decider  time.Time   // when a handler that decides connects was last taken out of its group; zero: none has been
	leftAt   time.Time   // when a handler was last taken out of its group
	groups   map[string]*group
	byName   patterns[[]*group]    // the same by what they have registered for
	attached map[*Handler]struct{} // also those that drain or were replaced, until they are detached

	// Names that are known: configured, or registered at some time. Sticky, so that a backend's restart closes nothing.
	names   patterns[ConnectMode]
	decided patterns[struct{}] // those whose connects a handler decides, or once did

	pendings int       // connects without a decision
	unknown  int       // those of them that wait for their namespace to become known
	waiting  list.List // of *pending: those of them that wait for a handler to come
	asking   seats     // all of them by address
	guessing seats     // those that wait for their namespace to become known, by address

	parking parking
}

// group is a set of handlers that share the work. It stays for a while after its last handler has left.
type group struct {
	name     string
	observer bool
	claims   atomic.Pointer[claims] // changed with handlers.mu held, while a single handler or none is in it
	handlers []*Handler
	leaving  []*Handler           // out of it, and not detached: their last answers may be waited for
	blocked  map[*Socket]*Handler // whose next events wait for such an answer, and with whom
	forget   *time.Timer          // while nobody is there
}

func newHandlers(n *Node) *handlers {
	hs := &handlers{
		node: n, groups: map[string]*group{}, attached: map[*Handler]struct{}{}, startUntil: n.startedAt.Add(n.cfg.HandlerWait),
	}
	hs.learnLocked("/", ConnectOpen)
	for _, c := range n.cfg.Namespaces {
		hs.learnLocked(Canonical(c.Pattern), c.Connect)
	}
	hs.parking.sockets = map[*Socket]struct{}{}
	hs.parking.timer = time.AfterFunc(time.Hour, hs.expireParked)
	hs.parking.timer.Stop()
	return hs
}

func (hs *handlers) count() int {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return len(hs.attached)
}

// idle says whether no handler has anything left to be told or to answer.
func (hs *handlers) idle() bool {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	for h := range hs.attached {
		h.mu.Lock()
		busy := h.ended == nil && !h.quietLocked()
		h.mu.Unlock()
		if busy {
			return false
		}
	}
	return true
}

// Attach makes a handler of a valid registration. A claim that another group holds: an Error with reason ALREADY_CLAIMED
// that names it; so is a registration that differs from those of its own group. A live handler with the same id is replaced:
// it finishes what it has, and its sockets come over to the new one. The caller ends it with Detach.
func (n *Node) Attach(r Registration) (*Handler, error) {
	r.Namespaces = slices.Clone(r.Namespaces)
	for i, p := range r.Namespaces {
		r.Namespaces[i] = Canonical(p)
	}
	if r.Group == "" {
		r.Group = "default"
	}
	if r.ID == "" {
		r.ID = "handler-" + randomText(12)
	}
	if r.MaxInFlight <= 0 {
		r.MaxInFlight = defaultInFlight
	}
	now := time.Now()
	h := &Handler{
		node: n, reg: r, claims: makeClaims(&r), wake: make(chan struct{}, 1), done: make(chan struct{}),
		connects: map[uint64]*pending{}, pace: pace{takenAt: now, answeredAt: now}, open: true,
	}
	if err := n.handlers.attach(h); err != nil {
		return nil, err
	}
	return h, nil
}

func (hs *handlers) attach(h *Handler) error {
	replaced, err := hs.register(h)
	if err != nil {
		return err
	}
	if replaced != nil {
		hs.handOver(replaced)
		hs.retire(replaced, Notice{Kind: NoticeDraining, Replaced: true, Until: time.Now().Add(handlerDrainTime)})
	}
	hs.adopt(h)
	hs.serveWaiting()
	return nil
}

// register checks what a handler asks for and puts it into its group. What is to be compared with other groups is compared
// without the lock, and again with those that have come meanwhile.
func (hs *handlers) register(h *Handler) (replaced *Handler, err error) {
	checked := map[*claims]bool{}
	var after followUps
	for {
		others := map[*claims]string{}
		hs.mu.Lock()
		for _, g := range hs.groups {
			if c := g.claims.Load(); g.name != h.reg.Group && len(g.handlers) > 0 && !checked[c] {
				others[c] = g.name
			}
		}
		if len(others) == 0 {
			break
		}
		hs.mu.Unlock()
		for c, name := range others {
			if err := h.claims.conflict(c, name); err != nil {
				return nil, err
			}
			checked[c] = true
		}
	}
	replaced, err = hs.enterLocked(h, &after)
	hs.mu.Unlock()
	after.run()
	return replaced, err
}

func (hs *handlers) enterLocked(h *Handler, after *followUps) (replaced *Handler, err error) {
	if hs.closed || hs.draining {
		return nil, ErrDraining
	}
	if err := hs.checkLimitsLocked(h); err != nil {
		return nil, err
	}
	g := hs.groups[h.reg.Group]
	if g != nil {
		if i := slices.IndexFunc(g.handlers, func(o *Handler) bool { return o.reg.ID == h.reg.ID }); i >= 0 {
			replaced = g.handlers[i]
		}
		alone := len(g.handlers) == 0 || len(g.handlers) == 1 && replaced != nil
		if field := h.claims.unlike(g.claims.Load()); field != "" {
			switch {
			case !alone, g.observer != h.reg.Observer && replaced != nil:
				return nil, claimed(field, "the handlers of group %q have registered otherwise: all of a group must register alike", g.name)
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
	g.handlers = append(g.handlers, h)
	hs.attached[h] = struct{}{}
	hs.version.Add(1)
	hs.learnRegistrationLocked(h, after)
	return replaced, nil
}

func (hs *handlers) checkLimitsLocked(h *Handler) error {
	if total := len(hs.attached); total >= hs.node.cfg.MaxHandlers {
		return &Error{Code: Exhausted, Reason: "LIMIT_REACHED", Message: fmt.Sprintf("the node has %d handlers, and takes no more", total)}
	}
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

// coveringLocked calls do with each group that has registered for a namespace, once, until do says false.
func (hs *handlers) coveringLocked(name string, do func(*group) bool) {
	var few [8]*group
	seen := few[:0]
	hs.byName.covering(name, func(list []*group) bool {
		for _, g := range list {
			if slices.Contains(seen, g) {
				continue
			}
			seen = append(seen, g)
			if !do(g) {
				return false
			}
		}
		return true
	})
}

// assignLocked makes h the socket's handler in g; nil: nobody is.
func (s *Socket) assignLocked(g *group, h *Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.assigned, func(a assignment) bool { return a.group == g }); i >= 0 {
		s.assigned[i].handler = h
		return
	}
	s.assigned = append(s.assigned, assignment{g, h})
}

func (s *Socket) unassignLocked(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.assigned = slices.DeleteFunc(s.assigned, func(a assignment) bool { return a.group == g })
}

// connectedLocked assigns a new socket in every group and tells them. s.mu is held by the caller from before the client can
// know of it, so that no event overtakes this.
func (hs *handlers) connectedLocked(s *Socket, first *Handler) func(*SocketInfo) {
	now := time.Now()
	hs.coveringLocked(s.ns.name, func(g *group) bool {
		h := first // who let it in keeps it
		if h == nil || h.group != g || h.leaving {
			h = g.pickLocked(now)
		}
		if h != nil { // who is not there now is told by Assigned when it comes
			s.assigned = append(s.assigned, assignment{g, h})
		}
		return true
	})
	return func(info *SocketInfo) {
		kept := s.assigned[:0]
		for _, a := range s.assigned {
			for a.handler != nil && !a.handler.greet(s, info) { // it has ended just now
				a.handler = a.group.pickLocked(now)
			}
			if a.handler != nil {
				a.handler.sockets++
				kept = append(kept, a)
			}
		}
		s.assigned = kept
	}
}

// disconnectedLocked tells every group that knows a socket that it is gone. Who is not there may hear of it later.
func (hs *handlers) disconnectedLocked(s *Socket, r Reason, detail string) {
	n := Notice{Kind: NoticeDisconnected, From: s, Sockets: []*SocketInfo{s.gone}, Reason: r, Detail: detail}
	s.mu.Lock()
	defer s.mu.Unlock()
	var absent []assignment
	for _, a := range s.assigned {
		if a.handler != nil {
			a.handler.sockets--
			told := n // each one may be cut down by itself
			if a.handler.part(&told) != partLost {
				continue
			}
		}
		absent = append(absent, assignment{a.group, nil})
	}
	s.assigned = absent
	if len(s.assigned) > 0 || len(s.parked) > 0 {
		hs.parkEndLocked(&n)
	}
}

func (hs *handlers) beginDrain(until time.Time) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	hs.draining, hs.until = true, until
	for h := range hs.attached {
		h.tell(Notice{Kind: NoticeDraining, Until: until})
	}
}

// close ends every handler and drops what waits.
func (hs *handlers) close() {
	var after followUps
	hs.mu.Lock()
	hs.closed = true
	hs.parking.timer.Stop()
	for s := range hs.parking.sockets {
		for len(s.parked) > 0 {
			hs.dropParkedLocked(s)
		}
		if s.farewell != nil {
			hs.unparkEndLocked(s)
		}
	}
	for hs.waiting.Len() > 0 {
		hs.refuseLocked(hs.waiting.Front().Value.(*pending), unavailable(0), &after)
	}
	for _, g := range hs.groups {
		if g.forget != nil {
			g.forget.Stop()
		}
	}
	for h := range hs.attached {
		for _, p := range h.connects {
			hs.refuseLocked(p, unavailable(0), &after)
		}
		if h.deadline != nil {
			h.deadline.Stop()
		}
		h.end(ErrDraining)
	}
	hs.mu.Unlock()
	after.run()
}

// followUps are what is to be done once no lock is held any more.
type followUps []func()

func (f *followUps) add(do func()) { *f = append(*f, do) }

func (f followUps) run() {
	for _, do := range f {
		do()
	}
}
