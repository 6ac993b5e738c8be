package service

import (
	"maps"
	"slices"
	"time"
)

// Measures are what a node has at a moment and what it has done since it started, for a caller that looks at it from
// time to time. It is looked up when it is asked for, or counted in plain numbers where a lock is held anyway.
type Measures struct {
	Classes    [Classes]ClassMeasures
	Emits      uint64           // that were delivered here, also those of other nodes
	Deliveries uint64           // of them, to queues of links
	FanOut     [FanOuts]Timing  // how long it took to queue an emit, or several alike, by how many recipients it had here; in small namespaces of one in eight
	Acks       [AckKinds]uint64 // outcomes of recipients here that an acknowledgement was wanted of, by AckFailure
	AckLatency Timing           // of those that answered
	Handlers   HandlerMeasures
	Watchers   int
	WatcherLag int             // changes that the slowest of them has not looked at
	Held       [useCount]int64 // bytes by use
	Limits     []Limit         // the node's own
}

// Class says why a namespace may be there.
type Class uint8

// The classes of namespaces.
const (
	ClassConfigured Class = iota // its name is configured, or "/"
	ClassHandler                 // a handler has registered its name
	ClassPattern                 // a prefix covers its name
	Classes
)

var classNames = [Classes]string{"configured", "handler", "pattern"}

// String returns the class's word.
func (c Class) String() string { return classNames[c] }

// ClassMeasures are those of the namespaces of a class.
type ClassMeasures struct {
	Namespaces, Sockets, Rooms int
}

// HandlerMeasures are those of all handlers here, as Node.Handlers lists them.
type HandlerMeasures struct {
	Attached int
	HandlerLoad
	Reply Timing // of one event in eight: from when it was given until it was answered
}

// AckKinds is how many values AckFailure has.
const AckKinds = int(AckNodeUnreachable) + 1

// The classes of fan-outs, by recipients here.
const (
	fanOutFew = 10 // below: a class of its own for one
	FanOuts   = 6  // classes
)

// FanOutName is the word of a class of fan-outs.
func FanOutName(class int) string {
	return [FanOuts]string{"0-1", "2-9", "10-99", "100-999", "1000-9999", "10000-"}[class]
}

func fanOutOf(recipients int) (class int) {
	if recipients > 1 {
		class++
	}
	for n := fanOutFew; recipients >= n && class < FanOuts-1; n *= 10 {
		class++
	}
	return class
}

// work is what a lane has done. Guarded by lane.step.
type work struct {
	runs, emits, deliveries uint64
	fanOut                  [FanOuts]*Timing // nil: no run of the class was timed
}

// A clock costs as much as a tenth of an emit to one. So of what is short one in timedEvery is timed.
const (
	timedEvery = 8
	timedAll   = 100 // sockets of a namespace whose emits are all timed
	untimed    = time.Duration(-1)
)

// clock is the node's age when a run begins, or untimed. lane.step is held.
func (ns *Namespace) clock() time.Duration {
	if w := ns.lane.work; w != nil && w.runs%timedEvery != 0 && ns.size.Load() < timedAll {
		return untimed
	}
	return ns.node.age()
}

// did notes that a run was delivered which began at a time of clock. lane.step is held.
func (ns *Namespace) did(run []delivery, began time.Duration) {
	w := ns.lane.work
	if w == nil {
		w = new(work)
		ns.lane.work = w
	}
	w.runs++
	for i := range run {
		if !run[i].turn.held() && run[i].receipt.Err == nil { // one that is held comes again
			w.emits++
			w.deliveries += uint64(run[i].receipt.Enqueued)
		}
	}
	if began != untimed {
		t := &w.fanOut[fanOutOf(run[0].receipt.Matched)]
		if *t == nil {
			*t = new(Timing)
		}
		(*t).add(ns.node.age() - began)
	}
}

// answers is what became of those that an acknowledgement was wanted of. Guarded by acks.mu.
type answers struct {
	by      [AckKinds]uint64
	latency Timing
}

// answered notes what became of a recipient. acks.mu is held.
func (a *acks) answered(why AckFailure, took time.Duration) {
	if a.answers == nil {
		a.answers = new(answers)
	}
	a.answers.by[why]++
	if why == AckOK {
		a.answers.latency.add(took)
	}
}

func (m *Measures) addWork(w *work) {
	if w == nil {
		return
	}
	m.Emits += w.emits
	m.Deliveries += w.deliveries
	for i, t := range w.fanOut {
		if t != nil {
			m.FanOut[i].merge(t)
		}
	}
}

func (m *Measures) addAnswers(a *answers) {
	if a == nil {
		return
	}
	for i, n := range a.by {
		m.Acks[i] += n
	}
	m.AckLatency.merge(&a.latency)
}

// maxRetired is how many namespaces that are gone are kept for a moment, since an emit was on its way through their
// lanes, or somebody measured just then. What more of them have done is forgotten.
const maxRetired = 4096

// retireLocked keeps what a namespace has done that is about to go. Node.mu is held.
func (n *Node) retireLocked(ns *Namespace) {
	if len(n.retired) < maxRetired {
		n.retired = append(n.retired, ns)
	}
	if n.looking {
		return
	}
	n.retired = slices.DeleteFunc(n.retired, func(ns *Namespace) bool {
		if !ns.lane.step.TryLock() { // its owner may come to want Node.mu
			return false
		}
		ns.retire(&n.past)
		ns.lane.step.Unlock()
		return true
	})
}

// retire moves what a namespace has done to what is past. lane.step is held.
func (ns *Namespace) retire(past *Measures) {
	past.addWork(ns.lane.work)
	ns.lane.work = nil
	ns.acks.mu.Lock()
	defer ns.acks.mu.Unlock()
	past.addAnswers(ns.acks.answers)
	ns.acks.answers = nil
}

// Measure looks at the node. It takes each namespace's locks for a moment, one after the other. One caller waits for
// another.
func (n *Node) Measure() Measures {
	n.measuring.Lock() // what one has taken of those that are gone, another one would miss
	defer n.measuring.Unlock()
	n.mu.Lock()
	late := n.retired
	n.retired, n.looking = nil, true
	m := n.past
	all := slices.AppendSeq(make([]*Namespace, 0, len(n.namespaces)), maps.Values(n.namespaces))
	n.mu.Unlock()
	for _, ns := range late {
		var done Measures
		ns.lane.step.Lock()
		ns.retire(&done)
		ns.lane.step.Unlock()
		m.merge(&done)
		n.mu.Lock()
		n.past.merge(&done)
		n.mu.Unlock()
	}
	for _, ns := range all {
		ns.measure(&m)
	}
	n.mu.Lock()
	n.looking = false
	n.mu.Unlock()
	n.handlers.measure(&m.Handlers)
	m.Watchers = int(n.watchers.Load())
	for u := range useCount {
		m.Held[u] = n.cfg.Budget.UsedBy(u)
	}
	m.Limits = n.limits(len(all), &m)
	return m
}

// Limit is a bound and how much of it is used.
type Limit struct {
	Name string // of a closed set
	Used int64
	Most int64 // 0: any number
}

func (n *Node) limits(namespaces int, m *Measures) []Limit {
	n.connects.mu.Lock()
	connects := n.connects.pendings
	n.connects.mu.Unlock()
	c := &n.cfg
	return []Limit{
		{"memory_bytes", c.Budget.Used(), max(0, c.Budget.Limit())},
		{"namespaces", int64(namespaces), int64(c.MaxNamespaces)},
		{"connects", int64(connects), int64(c.MaxPendingConnects)},
		{"handlers", int64(m.Handlers.Attached), int64(c.MaxHandlers)},
		{"watchers", int64(m.Watchers), int64(c.MaxWatchers)},
		{"presence_bytes", n.copied.Load(), int64(c.PresenceBytes)},
	}
}

func (m *Measures) merge(other *Measures) {
	m.Emits += other.Emits
	m.Deliveries += other.Deliveries
	for i := range other.FanOut {
		m.FanOut[i].merge(&other.FanOut[i])
	}
	m.addAnswers(&answers{other.Acks, other.AckLatency})
}

func (ns *Namespace) measure(m *Measures) {
	c := &m.Classes[ns.node.classOf(ns.name)]
	c.Namespaces++
	c.Sockets += int(ns.size.Load())
	ns.mu.RLock()
	c.Rooms += len(ns.rooms)
	log := ns.log
	ns.mu.RUnlock()
	if log != nil {
		m.WatcherLag = max(m.WatcherLag, log.lag())
	}
	ns.lane.step.Lock()
	m.addWork(ns.lane.work)
	ns.lane.step.Unlock()
	ns.acks.mu.Lock()
	defer ns.acks.mu.Unlock()
	m.addAnswers(ns.acks.answers)
}

func (n *Node) classOf(name string) Class {
	if name == "/" {
		return ClassConfigured
	}
	for i := range n.cfg.Namespaces {
		if n.cfg.Namespaces[i].Pattern == name {
			return ClassConfigured
		}
	}
	n.handlers.mu.RLock()
	defer n.handlers.mu.RUnlock()
	if _, named := n.handlers.names.exact[name]; !named && n.handlers.names.hasPrefixOf(name) {
		return ClassPattern
	}
	return ClassHandler
}

// givenAt is the node's age when an event is given to a handler, or untimed.
func (h *Handler) givenAt(call uint64) time.Duration {
	if call%timedEvery != 1 {
		return untimed
	}
	return h.node.age()
}

// replied notes that an event was answered. The handler's lock is held.
func (h *Handler) replied(f *flight) {
	f.step.End()
	if f.since != untimed {
		h.reply.add(h.node.age() - f.since)
	}
}

func (hs *handlers) measure(m *HandlerMeasures) {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	m.Reply = hs.reply
	for h := range hs.attached {
		if h.at != "" {
			continue // it is another node's
		}
		m.Attached++
		h.mu.Lock()
		m.add(h.loadLocked())
		m.Reply.merge(&h.reply)
		h.mu.Unlock()
	}
}
