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
type handlers struct {
	node    *Node
	version atomic.Uint64 // changes with every handler that comes or goes; written with mu held

	mu       sync.Mutex
	closed   bool
	draining bool
	until    time.Time // of the drain
	groups   map[string]*group
	attached map[*Handler]struct{} // also those that drain or were replaced, until they are detached

	// Names that are known: configured, or registered at some time. Sticky, so that a backend's restart closes nothing.
	names    map[string]ConnectMode
	prefixes map[string]ConnectMode // without their star
	deciders []string               // patterns whose connects a handler decides, or once did
	denied   map[string]time.Time   // names that were waited for in vain, and until when that is remembered

	pendings int       // connects without a decision
	unknown  int       // those of them that wait for their namespace to become known
	waiting  list.List // of *pending: those of them that wait for a handler to come

	parking parking
}

// group is a set of handlers that share the work. It stays for a while after its last handler has left.
type group struct {
	name     string
	observer bool
	handlers []*Handler
	forget   *time.Timer // while nobody is there
}

func newHandlers(n *Node) *handlers {
	hs := &handlers{
		node: n, groups: map[string]*group{}, attached: map[*Handler]struct{}{}, names: map[string]ConnectMode{"/": ConnectOpen},
		prefixes: map[string]ConnectMode{}, denied: map[string]time.Time{},
	}
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
// that names it. A live handler with the same id is replaced: it finishes what it has, and its sockets come over to the new
// one. The caller ends it with Detach.
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
	h := &Handler{
		node: n, reg: r, wake: make(chan struct{}, 1), done: make(chan struct{}), connects: map[uint64]*pending{},
	}
	after, err := n.handlers.attach(h)
	after.run()
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (hs *handlers) attach(h *Handler) (after followUps, err error) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.closed || hs.draining {
		return nil, ErrDraining
	}
	if err := hs.checkClaimsLocked(h); err != nil {
		return nil, err
	}
	g := hs.groups[h.reg.Group]
	if g != nil && g.observer != h.reg.Observer { // nobody is in it; the new one is another group of the same name
		hs.dropGroupLocked(g)
		g = nil
	}
	if g == nil {
		g = &group{name: h.reg.Group, observer: h.reg.Observer}
		hs.groups[g.name] = g
	}
	if g.forget != nil {
		g.forget.Stop()
		g.forget = nil
	}
	var replaced *Handler
	if i := slices.IndexFunc(g.handlers, func(o *Handler) bool { return o.reg.ID == h.reg.ID }); i >= 0 {
		replaced = g.handlers[i]
	}
	g.handlers = append(g.handlers, h)
	hs.attached[h] = struct{}{}
	h.group = g
	hs.version.Add(1)
	hs.learnRegistrationLocked(h, &after)

	if replaced != nil {
		hs.handOverLocked(replaced, &after)
		hs.retireLocked(replaced, Notice{Kind: NoticeDraining, Replaced: true, Until: time.Now().Add(handlerDrainTime)})
	}
	hs.adoptLocked(h)
	hs.serveParkedLocked(h, func(s *Socket) bool { return hs.handlerOfLocked(s, g) == h })
	h.mu.Lock()
	h.open = true // from here on events come by themselves, behind those that waited
	h.mu.Unlock()
	hs.serveWaitingLocked(&after)
	return after, nil
}

// checkClaimsLocked says whether a handler may have what it registers for: each event of a namespace has one owner group,
// and so have its connect decisions.
func (hs *handlers) checkClaimsLocked(h *Handler) error {
	if total := len(hs.attached); total >= hs.node.cfg.MaxHandlers {
		return &Error{Code: Exhausted, Reason: "LIMIT_REACHED", Message: fmt.Sprintf("the node has its %d handlers", total)}
	}
	if names, prefixes := hs.newNamesLocked(h); names > 0 && len(hs.names)+names > maxNames || prefixes > 0 && len(hs.prefixes)+prefixes > maxPrefixes {
		return &Error{Code: Exhausted, Reason: "LIMIT_REACHED", Message: "the node knows too many namespaces"}
	}
	if g := hs.groups[h.reg.Group]; g != nil && len(g.handlers) > 0 && g.observer != h.reg.Observer {
		return claimed("observer", "the group %q is one of observers, or is not: all its handlers must agree", g.name)
	}
	if h.reg.Observer {
		return nil
	}
	for _, g := range hs.groups {
		if g.name == h.reg.Group || g.observer {
			continue
		}
		for _, other := range g.handlers {
			if err := conflict(h, other); err != nil {
				return err
			}
		}
	}
	return nil
}

func conflict(h, other *Handler) error {
	for _, a := range h.reg.Namespaces {
		for _, b := range other.reg.Namespaces {
			if !overlap(a, b) {
				continue
			}
			if h.reg.DecideConnects && other.reg.DecideConnects {
				return claimed("decide_connects", "group %q decides the connects of %q", other.reg.Group, b)
			}
			if len(h.reg.Events) == 0 && len(other.reg.Events) == 0 {
				return claimed("events", "group %q takes all events of %q that nobody names", other.reg.Group, b)
			}
			for _, e := range h.reg.Events {
				if slices.Contains(other.reg.Events, e) {
					return claimed("events", "group %q takes the event %q of %q", other.reg.Group, e, b)
				}
			}
		}
	}
	return nil
}

func claimed(field, format string, args ...any) error {
	return &Error{Code: Precondition, Reason: "ALREADY_CLAIMED", Field: "register." + field, Message: fmt.Sprintf(format, args...)}
}

// adoptLocked gives a handler that has just come the sockets that nobody has in its group.
func (hs *handlers) adoptLocked(h *Handler) {
	var adopted []adoptee
	for _, ns := range hs.node.all() {
		if !h.covers(ns.name) {
			continue
		}
		ns.mu.RLock()
		for _, e := range ns.order.entries {
			if e.socket == nil || hs.handlerOfLocked(e.socket, h.group) != nil {
				continue
			}
			adopted = append(adopted, adoptee{e.socket, e.socket.infoLocked(), !hs.knowsLocked(e.socket, h.group)})
			e.socket.assignLocked(h.group, h)
			h.sockets++
		}
		ns.mu.RUnlock()
	}
	h.assigned(adopted, false)
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

// assignedChunk is how many sockets one Assigned carries.
const assignedChunk = 1000

// adoptee is a socket that comes over to a handler.
type adoptee struct {
	socket *Socket
	info   *SocketInfo
	fresh  bool // its group has not been told of it before
}

func (h *Handler) assigned(sockets []adoptee, failover bool) {
	for chunk := range slices.Chunk(sockets, assignedChunk) {
		n := Notice{Kind: NoticeAssigned, Failover: failover}
		for _, a := range chunk {
			n.Sockets = append(n.Sockets, a.info)
			if a.fresh {
				n.fresh = append(n.fresh, a.socket)
			}
		}
		h.tell(n)
	}
}

// pickLocked is the handler of a group with the fewest sockets that takes new work in a namespace; nil when there is none.
func (g *group) pickLocked(namespace string, decides bool) *Handler {
	var best *Handler
	for _, h := range g.handlers {
		if !h.leaving && !h.hasEnded() && h.covers(namespace) && (h.reg.DecideConnects || !decides) && (best == nil || h.sockets < best.sockets) {
			best = h
		}
	}
	return best
}

// connectedLocked assigns a new socket in every group and tells them. s.mu is held by the caller from before the client can
// know of it, so that no event overtakes this.
func (hs *handlers) connectedLocked(s *Socket, first *Handler) func(*SocketInfo) {
	for _, g := range hs.groups {
		h := g.pickLocked(s.ns.name, false)
		if first != nil && first.group == g && !first.leaving {
			h = first // who let it in keeps it
		}
		if h != nil { // who is not there now is told by Assigned when it comes
			s.assigned = append(s.assigned, assignment{g, h})
		}
	}
	return func(info *SocketInfo) {
		s.assigned = slices.DeleteFunc(s.assigned, func(a assignment) bool {
			told := a.handler.tell(Notice{Kind: NoticeConnected, Sockets: []*SocketInfo{info}, fresh: []*Socket{s}})
			if told {
				a.handler.sockets++
			}
			return !told // ended just now; its heirs know nothing of this one
		})
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
			if a.handler.tellAfterEvents(n) {
				continue
			}
		}
		absent = append(absent, assignment{a.group, nil})
	}
	s.assigned = absent
	if len(s.assigned) > 0 || len(s.parked) > 0 {
		hs.parkEndLocked(n)
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
			hs.unparkLocked(s, 0, true)
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
