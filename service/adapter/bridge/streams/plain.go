package streams

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/bridge/queue"
	"foyer/service/adapter/official"
)

// plain is Talk by Pub/Sub without shards.
type plain struct {
	*link
	writer *writer
	in     *queue.Queue[*redis.Message]

	mu       sync.Mutex
	sub      *redis.PubSub     // the connection that listens; nil: there is none yet
	where    string            // of a Redis Cluster, the server that it listens at
	live     bool              // it does
	gaps     int               // how often it did not any more
	settling time.Time         // until then servers may not be back that were there before that
	counts   map[string]int    // of peers, by namespace, when they were counted last
	places   map[string]string // namespaces by channel
	topics   map[string]*topic // by namespace
	asked    int               // namespaces in which this node has asked, at most
	changes  []string          // namespaces whose subscriptions are to change, in order
	changed  chan struct{}     // has a value when there are some
}

// topic is what this node hears of a namespace. Guarded by plain.mu.
type topic struct {
	on    bool // it is to be followed
	asked bool // this node has asked there, and is to hear answers though it does not follow it

	is      bool                // it is followed
	answers bool                // the channel of answers is subscribed to
	pending map[string]struct{} // channels that the server has not confirmed yet
	heard   chan struct{}       // closed when what is said is heard
	told    chan struct{}       // closed when answers are heard
}

const (
	// maxAsked is in how many namespaces that a node does not follow it hears answers.
	maxAsked  = 256
	maxCounts = 1024            // namespaces of which it is known how many servers there were
	settleFor = 5 * time.Second // in which servers on Node come back when Redis does
)

func newPlain(c *Config) *plain {
	p := &plain{
		link: newLink(c, 0), in: queue.New[*redis.Message](inBytes), counts: map[string]int{}, places: map[string]string{},
		topics: map[string]*topic{}, changed: make(chan struct{}, 1),
	}
	p.writer = newWriter(p.link)
	return p
}

// Open implements Talk.
func (p *plain) Open(each func(*official.Message)) error {
	if err := p.check(); err != nil {
		return err
	}
	p.ended.Go(p.writer.run)
	p.ended.Go(p.change)
	p.ended.Go(p.listen)
	p.ended.Go(func() { p.deliver(each) })
	return nil
}

// Close implements Talk.
func (p *plain) Close() error {
	p.writer.finish()
	p.mu.Lock()
	p.cancel()
	sub := p.sub
	p.mu.Unlock()
	p.dialer.Close() // first: the library holds a lock while it waits for a server
	if sub != nil {
		_ = sub.Close() // it says that its connection is closed
	}
	err := p.disconnect()
	p.ended.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.topics {
		shut(t.heard)
	}
	return err
}

// Publish implements Talk.
func (p *plain) Publish(message *official.Message, to string) error {
	text, err := official.AppendStreams(nil, message)
	if err != nil {
		return err
	}
	// All of a namespace goes by one server, also in a Redis Cluster, which passes it on.
	c := command{key: message.Namespace, channel: p.names.Channel(message, to), text: text}
	if message.Request != "" && !message.Kind.Answer() {
		c.heard = p.ask(message.Namespace)
	}
	return p.writer.put(c)
}

func (p *plain) marker(namespace string) string { return p.cfg.Marker + ".in." + namespace }

// Peers implements Talk.
func (p *plain) Peers(ctx context.Context, namespace string) (int, error) {
	all, ours := p.names.Main(namespace), p.marker(namespace)
	counts, err := p.listeners(ctx, all, ours)
	if err != nil {
		return 0, err
	}
	return p.counted(namespace, int(max(0, counts[all]-counts[ours])))
}

// Gone implements bridge.Roll: each server listens to a channel of its own for its answers.
func (p *plain) Gone(ctx context.Context, namespace string, uids []string) (gone []string, err error) {
	channels := make([]string, len(uids))
	for i, uid := range uids {
		channels[i] = p.names.Node(namespace, uid)
	}
	counts, err := p.listeners(ctx, channels...)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.settling) {
		return nil, errSettling
	}
	for i, uid := range uids {
		if counts[channels[i]] == 0 {
			gone = append(gone, uid)
		}
	}
	return gone, nil
}

// listeners counts who listens to channels. In a Redis Cluster each server, replicas too, counts its own.
func (p *plain) listeners(ctx context.Context, channels ...string) (map[string]int64, error) {
	p.mu.Lock()
	live := p.live
	p.mu.Unlock()
	if !live { // nobody's answer would be heard
		return nil, errLost
	}
	var mu sync.Mutex
	sum := map[string]int64{}
	ask := func(ctx context.Context, c redis.Cmdable) error {
		counts, err := c.PubSubNumSub(ctx, channels...).Result()
		mu.Lock()
		defer mu.Unlock()
		for channel, n := range counts {
			sum[channel] += n
		}
		return err
	}
	client := p.client()
	if cluster, ok := client.(*redis.ClusterClient); ok {
		return sum, cluster.ForEachShard(ctx, func(ctx context.Context, c *redis.Client) error { return ask(ctx, c) })
	}
	return sum, ask(ctx, client)
}

// Errors of Peers and Gone, when they do not know.
var (
	errLost     = errors.New("the connection that hears servers on Node is lost")
	errSettling = errors.New("servers on Node may not be back yet")
)

// counted notes how many peers there are. Where they are fewer than before Redis was lost, the others may be about to
// come back, and what is asked would look as if all had answered.
func (p *plain) counted(namespace string, n int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.counts[namespace]
	switch {
	case n < p.counts[namespace] && time.Now().Before(p.settling):
		return 0, errSettling
	case n == 0:
		delete(p.counts, namespace)
	case known || len(p.counts) < maxCounts:
		p.counts[namespace] = n
	}
	return n, nil
}

// topicLocked is what is known of a namespace. changeLocked follows.
func (p *plain) topicLocked(namespace string) *topic {
	t := p.topics[namespace]
	if t == nil {
		t = &topic{pending: map[string]struct{}{}, heard: make(chan struct{}), told: make(chan struct{})}
		p.topics[namespace] = t
	}
	return t
}

// changeLocked has the subscriptions of a namespace be made what they are to be.
func (p *plain) changeLocked(namespace string) {
	if !slices.Contains(p.changes, namespace) {
		p.changes = append(p.changes, namespace)
		poke(p.changed)
	}
}

// Follow implements Talk.
func (p *plain) Follow(namespace string, on bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.topicLocked(namespace)
	if on && !t.on && !t.is {
		t.heard = make(chan struct{})
	}
	t.on = on
	p.changeLocked(namespace)
	if p.ctx.Err() != nil {
		shut(t.heard)
	}
	return t.heard
}

// ask has this node hear answers in a namespace. The channel is closed when it does.
func (p *plain) ask(namespace string) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.topicLocked(namespace)
	if t.asked {
		return t.told
	}
	if p.asked++; p.asked > maxAsked {
		p.asked = 1
		for name, other := range p.topics {
			if other.asked {
				other.asked = false
				p.changeLocked(name)
			}
		}
	}
	t.asked = true
	p.changeLocked(namespace)
	return t.told
}

// change subscribes and unsubscribes, until Close.
func (p *plain) change() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.changed:
		}
		for p.ctx.Err() == nil {
			p.mu.Lock()
			if len(p.changes) == 0 {
				p.mu.Unlock()
				break
			}
			more, less := p.settleLocked(p.changes[0])
			p.changes = p.changes[1:]
			p.mu.Unlock()
			p.subscribe(false, less)
			p.subscribe(true, more)
		}
	}
}

// settleLocked makes a namespace what it is to be, and returns the channels to subscribe to, and no more.
func (p *plain) settleLocked(namespace string) (more, less []string) {
	all, marker, answers := p.names.Main(namespace), p.marker(namespace), p.names.Node(namespace, p.cfg.UID)
	t := p.topics[namespace]
	switch {
	case t.on && !t.is:
		more = append(more, all, marker)
	case t.is && !t.on:
		less = append(less, all, marker)
		shut(t.heard)
	}
	t.is = t.on
	switch wanted := t.is || t.asked; {
	case wanted && !t.answers:
		more = append(more, answers)
	case !wanted && t.answers:
		less = append(less, answers)
		t.told = make(chan struct{})
	}
	t.answers = t.is || t.asked
	for _, channel := range more {
		p.places[channel] = namespace
		t.pending[channel] = struct{}{}
	}
	for _, channel := range less {
		delete(p.places, channel)
		delete(t.pending, channel)
	}
	if !t.is && !t.asked {
		shut(t.heard)
		delete(p.topics, namespace)
	}
	return more, less
}

// subscribe changes subscriptions, all at once. What the server does not hear now, the library says when there is a
// connection again, and a new one begins with all of them.
func (p *plain) subscribe(on bool, channels []string) {
	p.mu.Lock()
	sub := p.sub
	p.mu.Unlock()
	if len(channels) == 0 || sub == nil {
		return
	}
	ctx, stop := context.WithTimeout(p.ctx, p.cfg.callTimeout)
	defer stop()
	change := sub.Unsubscribe
	if on {
		change = sub.Subscribe
	}
	if err := change(ctx, channels...); err != nil && p.ctx.Err() == nil {
		p.log.Warn("subscriptions not changed yet", zap.NamedError("err", err))
	}
}

// confirmed notes that the server has taken a subscription.
func (p *plain) confirmed(channel string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	namespace := p.places[channel]
	t := p.topics[namespace]
	if t == nil {
		return
	}
	delete(t.pending, channel)
	if channel == p.names.Node(namespace, p.cfg.UID) {
		shut(t.told)
	}
	if t.is && len(t.pending) == 0 {
		shut(t.heard)
	}
}
