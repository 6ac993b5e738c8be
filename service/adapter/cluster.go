package adapter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"foyer/service"
)

// Cluster is one node among others: what it does here it does by the service.Node, and what takes the others by them.
// It answers the calls of the API as a Node does, for all nodes; it is the Remote of its Node; and it is the loop that
// gives Peers their time and their bus.
//
// Its mutex is taken with locks of the service held. So nothing under it calls the service: what is heard waits in the
// inbox of its sender, from which a goroutine takes it in its order.
type Cluster struct {
	*service.Node // set by Start, or before by the caller that has the API answer while this node is joining

	// Set before start.
	bus     Bus
	log     *zap.Logger
	began   time.Time // of all times within
	wake    chan struct{}
	ready   chan struct{} // closed when this node may serve
	refused chan struct{} // closed when another node has this one's name
	context context.Context
	stop    context.CancelFunc
	ended   sync.WaitGroup

	mu       sync.Mutex
	started  bool // frames are taken
	peers    *Peers
	calls    calls
	marks    []*marked // those that wait until the others have heard
	collect  collects
	handlers handlers
	streams  map[*service.Handler]*stream // to handlers of other nodes
	feeds    feeds
	inboxes  map[service.NodeID]*inbox
	hellos   inbox         // what is to be done without the mutex that is of no peer
	marksDue time.Duration // when the next of them has had its time
	planned  time.Duration // when the loop looks again
	holder   string        // where the node is that has this one's name
	unsent   uint64        // frames that the bus did not take
	lost     uint64        // items that an epoch ended with, or may have
	busy     uint64        // questions that were not taken up
}

// NewCluster makes a Cluster, which is its node's Config.Remote. It owns the bus from then on.
func NewCluster(cfg Config, bus Bus, log *zap.Logger) (*Cluster, error) {
	c := &Cluster{
		bus: bus, log: log.Named("cluster"), began: time.Now(), wake: make(chan struct{}, 1), ready: make(chan struct{}),
		refused: make(chan struct{}), inboxes: map[service.NodeID]*inbox{}, streams: map[*service.Handler]*stream{}, planned: never, marksDue: never,
	}
	if cfg.MaxFrame == 0 {
		cfg.MaxFrame = min(bus.MaxFrame(), frameItems+frameOverhead+itemHead)
	}
	var err error
	if c.peers, err = New(cfg, upper{c}); err != nil {
		return nil, err
	}
	c.handlers.due = never
	c.peers.tellers = []teller{c.handlers.tellRegistrations, c.handlers.tellNames}
	c.context, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// ErrNameTaken says that another live node has this one's name.
var ErrNameTaken = errors.New("another node has this name")

// Start makes this node one of the cluster and returns when it may serve: when the others that answer have told it all,
// or have had their time. An error means that it may not: ErrNameTaken, or that of ctx. The caller ends it with Close,
// in any case.
func (c *Cluster) Start(ctx context.Context, node *service.Node) error {
	if c.Node == nil {
		c.Node = node
	}
	if err := c.bus.Receive(c.receive); err != nil {
		return err
	}
	c.mu.Lock()
	c.started = true
	c.peers.Start(c.now())
	c.leave()
	c.ended.Go(c.run)
	select {
	case <-c.ready:
		c.mu.Lock()
		self, _ := c.peers.Self()
		c.mu.Unlock()
		if self.Run != node.Incarnation().Run {
			node.Renumber(self.Run)
		}
		return nil
	case <-c.refused:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.holder == "" {
			return ErrNameTaken
		}
		return fmt.Errorf("%w: its peer listener is %s", ErrNameTaken, c.holder)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Refused is closed when another node has taken this one's name, which slept too long: this one hears nobody any more.
func (c *Cluster) Refused() <-chan struct{} { return c.refused }

// Up says whether the bus is: without it, this node is alone.
func (c *Cluster) Up() bool { return c.bus.Up() }

// Members are the other nodes as this one sees them.
func (c *Cluster) Members() []Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers.Members()
}

// Member is another node as this one sees it; false: there is none of that name.
func (c *Cluster) Member(name service.NodeID) (m Member, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.peers.member(name)
	if known == nil || known.State == Gone {
		return Member{}, false
	}
	return known.Member, true
}

// Depart tells the others that this node is about to go: they give it nothing new.
func (c *Cluster) Depart() {
	c.mu.Lock()
	c.peers.Leave(c.now())
	c.leave()
}

// Close ends the node's part in the cluster. It waits until the others have heard what they were told, or ctx ends, and
// says goodbye.
func (c *Cluster) Close(ctx context.Context) error {
	for again := time.NewTicker(10 * time.Millisecond); ; {
		c.mu.Lock()
		idle := c.peers.Idle() && len(c.feeds.ready) == 0 && !c.feeds.working
		c.mu.Unlock()
		if idle || ctx.Err() != nil || !c.bus.Up() {
			again.Stop()
			break
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	c.peers.Goodbye(c.now())
	c.leave()
	c.stop()
	err := c.bus.Close()
	c.ended.Wait()
	c.closeAllFeeds()
	return err
}

func (c *Cluster) now() time.Duration { return time.Since(c.began) }

// run gives the state machines their time.
func (c *Cluster) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.context.Done():
			return
		case <-c.bus.Changed():
			c.turned()
		case <-c.wake:
		case <-timer.C:
		}
		c.mu.Lock()
		now := c.now()
		if c.peers.Due() <= now {
			c.peers.Tick(now)
		}
		c.send(now)
		c.planned = c.due()
		timer.Reset(max(0, c.planned-now))
		c.mu.Unlock()
	}
}

// turned tells that the bus has come or gone.
func (c *Cluster) turned() {
	if c.bus.Up() {
		c.log.Info("bus up")
	} else if c.context.Err() == nil {
		c.log.Warn("bus down: this node is alone until it is back")
	}
}

// receive takes a frame from the bus.
func (c *Cluster) receive(frame []byte) {
	c.mu.Lock()
	if !c.started { // the bus is not ready yet, so nobody could hear an answer
		c.mu.Unlock()
		return
	}
	c.peers.Receive(c.now(), frame)
	c.leave()
}

// leave sends what has come about, and gives the mutex back. The loop is woken when it has to look earlier than it
// means to.
func (c *Cluster) leave() {
	c.send(c.now())
	if due := c.due(); due < c.planned {
		c.planned = due
		poke(c.wake)
	}
	c.mu.Unlock()
}

// due is when time has something to do.
func (c *Cluster) due() time.Duration { return min(c.peers.Due(), c.marksDue, c.handlers.due) }

// send sends what waits, and looks who has waited for what was heard.
func (c *Cluster) send(now time.Duration) {
	c.giveReplies(now, false)
	c.peers.Flush(now)
	c.resolve(now)
	c.workFeeds()
	list := c.peers.Take()
	for _, o := range list {
		var err error
		if o.To == "" {
			err = c.bus.SendAll(o.Frame)
		} else {
			err = c.bus.Send(o.To, o.Frame)
		}
		if err != nil { // trunks send it again
			c.unsent++
		}
	}
	c.peers.Sent(list)
}

// poke leaves a value in a channel that holds one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// upper is what Peers call, with the mutex held.
type upper struct{ *Cluster }

func (u upper) Room(from Member, bytes int) bool {
	in := u.inboxes[from.Node]
	return in == nil || in.bytes+bytes <= u.peers.cfg.Window
}

func (u upper) Began(from Member) {
	u.loseMine(from)
	u.push(from, told{began: true})
}

func (u upper) Heard(from Member, it *item) {
	switch {
	case it.counts != nil:
		u.calls.hear(from.Node, it.counts.call, it.counts, nil)
	case it.answer != nil:
		u.calls.hear(from.Node, it.answer.GetCall(), nil, it.answer)
	default:
		u.push(from, told{item: it})
	}
}

func (u upper) Ended(to Member, why End, lost int) {
	u.lost += uint64(lost)
	if why == EndOver || why == EndStuck {
		u.push(to, told{over: true, stuck: why == EndStuck})
	}
	if len(u.feeds.of[to.Node]) > 0 {
		u.push(to, told{ended: true})
	}
}

func (u upper) Risen(term uint64) { u.Rise(term) }

func (u upper) Changed(m Member) {
	if !m.State.Reachable() || m.State == Silent {
		u.calls.lose(m.Node)
	}
	if !m.State.Reachable() {
		u.loseMine(m)
	}
	u.push(m, told{changed: true})
}

func (u upper) Ready() { close(u.ready) }

func (u upper) Refused(address string) {
	u.holder = address
	close(u.refused)
}
