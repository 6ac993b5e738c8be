package service

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Node is one Foyer process: its namespaces by name, the handlers attached to it, and what they share.
type Node struct {
	// Set before start.
	cfg       Config // HoldStream is in hold
	id        NodeID
	self      Incarnation // in places and positions that are given out
	startedAt time.Time
	watches   Watches       // nil: this node is alone
	hold      atomic.Int64  // Config.HoldStream, in ns; seldom changed
	term      atomic.Uint64 // how often it was declared lost and came back: hardly ever changed
	log       *zap.Logger
	told      *zap.Logger // for what peers can cause at any rate
	handlers  *handlers
	abroad    RemoteHandlers // nil: handlers are this node's own affair
	eachOne   RemoteSockets  // nil: nobody wants to hear of each socket
	connects  connects
	flushers  *flushers
	// Of sockets that are gone; see departures.go.
	departures departures

	drops    drops
	watchers atomic.Int64
	copied   atomic.Int64 // bytes that are kept of sockets elsewhere
	draining atomic.Bool
	drainCh  chan struct{} // closed by BeginDrain

	mu         sync.RWMutex
	namespaces map[string]*Namespace // guarded by mu
	makers     map[string]int        // guarded by mu; how many namespaces of no known name each address has brought about
	logsEnd    uint64                // guarded by mu; past the last change that a freed namespace has numbered
	past       Measures              // guarded by mu; of namespaces that are gone
	retired    []*Namespace          // guarded by mu; those of them that are not in past yet
	looking    bool                  // guarded by mu; Measure looks at namespaces: what they have done stays theirs

	measuring sync.Mutex // before all other locks

	merging [32]sync.Mutex // taken by a merge into a socket's data, which of them by its id; before all other locks

	pageSockets int // most sockets in a page of a snapshot
}

// New makes a node. The caller ends it with Close.
func New(cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	n := &Node{
		cfg: cfg, id: NodeID(cfg.NodeID), self: NewIncarnation(NodeID(cfg.NodeID)), startedAt: time.Now(),
		log: cfg.Logger.Named("service"), told: cfg.Told.Named("service"),
		flushers: newFlushers(), drainCh: make(chan struct{}), namespaces: map[string]*Namespace{}, makers: map[string]int{},
		pageSockets: pageSockets,
	}
	n.hold.Store(int64(cfg.HoldStream))
	n.departures = newDepartures(&n.cfg)
	if cfg.Run != 0 {
		n.self.Run = cfg.Run
	}
	n.abroad, _ = cfg.Remote.(RemoteHandlers)
	n.eachOne, _ = cfg.Remote.(RemoteSockets)
	n.handlers = newHandlers(n)
	n.connects.node = n
	n.watches = cfg.Remote
	return n, nil
}

// BeginDrain refuses new connects and handlers, and tells attached handlers and watchers that the node goes down at
// until. It returns at once; only the first call counts.
func (n *Node) BeginDrain(until time.Time) {
	if n.draining.CompareAndSwap(false, true) {
		n.handlers.beginDrain(until)
		close(n.drainCh)
	}
}

// Idle returns when no handler has anything left to be told or to reply to, or ctx ends. For a node that drains: its
// links are closed, and handlers take note of that and finish what is in flight. Observers have observersWait for that:
// one that does not answer takes no time from the calls that are to end after this. Busy is how many have something
// left.
func (n *Node) Idle(ctx context.Context) (busy int) {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for began := time.Now(); ; {
		owners, observers := n.handlers.busy()
		busy = owners + observers
		if busy == 0 || owners == 0 && time.Since(began) >= observersWait {
			return busy
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return busy
		}
	}
}

// observersWait is how long a node that drains waits for observers alone.
const observersWait = time.Second

// Close ends what the node runs: pending connects, waiting events, handlers, watchers and the flush workers. Links are
// closed by their transports before.
func (n *Node) Close() {
	n.BeginDrain(time.Now())
	n.connects.close()
	n.handlers.close()
	n.flushers.close()
	for _, ns := range n.all() {
		ns.stopLog()
	}
}

// Config returns the node's settings with their defaults.
func (n *Node) Config() Config { return n.cfg }

// Rise says that this node was declared lost, and is back in a term: what is told of its sockets on a Feed that begins
// from now on counts for more than what was told before. Terms only grow. It takes no lock.
func (n *Node) Rise(term uint64) {
	for was := n.term.Load(); was < term && !n.term.CompareAndSwap(was, term); was = n.term.Load() {
	}
}

// Budget is what the node and its edges may keep for their peers.
func (n *Node) Budget() *Budget { return n.cfg.Budget }

// SetHoldStream has another Config.HoldStream hold from now on. Safe for concurrent use.
func (n *Node) SetHoldStream(d time.Duration) { n.hold.Store(int64(d)) }

// HoldStream is the one that holds.
func (n *Node) HoldStream() time.Duration { return time.Duration(n.hold.Load()) }

// Renumber makes this run of the node another one, by the number that its cluster has given it. It is to be called
// before anybody uses the node.
func (n *Node) Renumber(run uint64) { n.self.Run = run }

// Incarnation is this run of the node.
func (n *Node) Incarnation() Incarnation { return n.self }

// ID is the node's name.
func (n *Node) ID() NodeID { return n.id }

// Info is what a node tells of itself.
type Info struct {
	NodeID     NodeID
	Version    string
	StartedAt  time.Time
	Sockets    int
	Namespaces int
	Handlers   int
	Watchers   int
	Dropped    map[string]int64 // by reason, those that occurred
	Budget     int64            // bytes that all queues, logs and snapshots may hold together; 0: no limit
	Held       int64            // bytes that they hold now
	Kept       map[string]int64 // by kind, how much of what comes and goes with clients, calls and nodes is there now
}

// age is for how long the node has been there.
func (n *Node) age() time.Duration { return time.Since(n.startedAt) }

// Info describes the node.
func (n *Node) Info() Info {
	i := Info{
		NodeID: n.id, Version: n.cfg.Version, StartedAt: n.startedAt, Watchers: int(n.watchers.Load()),
		Handlers: n.handlers.here(), Dropped: n.drops.snapshot(),
		Budget: n.cfg.Budget.Limit(), Held: n.cfg.Budget.Used(),
	}
	n.cfg.Budget.refusals(i.Dropped)
	n.mu.RLock()
	defer n.mu.RUnlock()
	i.Namespaces = len(n.namespaces)
	rooms, calls := 0, 0
	for _, ns := range n.namespaces {
		i.Sockets += int(ns.size.Load())
		ns.mu.RLock()
		rooms += len(ns.rooms)
		ns.mu.RUnlock()
		ns.acks.mu.Lock()
		calls += len(ns.acks.collects)
		ns.acks.mu.Unlock()
	}
	i.Kept = map[string]int64{
		"rooms": int64(rooms), "acks": int64(calls), "watchers": int64(i.Watchers), "copies_bytes": n.copied.Load(), "queued_bytes": i.Held - n.cfg.Budget.UsedBy(UseDepartures),
	}
	return i
}

// namespace finds a namespace that exists; nil if it does not.
func (n *Node) namespace(name string) *Namespace {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.namespaces[name]
}

// acquire finds or makes a namespace and counts one more user of it; nil when there are too many, unless always, or
// when an address, which is "" where nobody's counts, has brought about half of them. Every socket, pending connect and
// watcher is a user; a namespace without users is freed.
func (n *Node) acquire(name string, always bool, maker string) *Namespace {
	n.mu.Lock()
	defer n.mu.Unlock()
	ns := n.namespaces[name]
	if ns == nil {
		if !always && (len(n.namespaces) >= n.cfg.MaxNamespaces || maker != "" && n.makers[maker] >= max(1, n.cfg.MaxNamespaces/2)) {
			return nil
		}
		// The name may be a part of a larger buffer, such as the packet that it came with.
		ns = newNamespace(n, strings.Clone(name))
		n.namespaces[ns.name] = ns
		if ns.maker = maker; maker != "" {
			n.makers[maker]++
		}
	}
	ns.users++
	return ns
}

func (n *Node) release(ns *Namespace) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ns.users--; ns.users > 0 {
		return
	}
	delete(n.namespaces, ns.name)
	n.retireLocked(ns)
	if n.makers[ns.maker]--; n.makers[ns.maker] <= 0 {
		delete(n.makers, ns.maker)
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.dropLogLocked()
	n.logsEnd = max(n.logsEnd, ns.logEnd)
}

// Namespaces returns the names of the namespaces that exist here, in order, at most so many.
func (n *Node) Namespaces(most int) []string {
	n.mu.RLock()
	names := slices.Sorted(maps.Keys(n.namespaces))
	n.mu.RUnlock()
	return names[:min(most, len(names))]
}

// all returns the namespaces that exist.
func (n *Node) all() []*Namespace {
	n.mu.RLock()
	defer n.mu.RUnlock()
	list := make([]*Namespace, 0, len(n.namespaces))
	for _, ns := range n.namespaces {
		list = append(list, ns)
	}
	return list
}
