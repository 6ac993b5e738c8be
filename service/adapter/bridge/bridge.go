package bridge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"foyer/service"
	"foyer/service/adapter"
	"foyer/service/adapter/official"
)

// Bridge is one node of a cluster, whose rooms servers on Node share.
type Bridge struct {
	*adapter.Cluster

	// Set before start.
	medium  Medium
	byRoom  Rooms  // the medium; nil: by it, rooms are heard with their namespace
	cluster string // what the UIDs of all nodes of the cluster begin with
	uid     string // of this node
	log     *zap.Logger
	context context.Context
	stop    context.CancelFunc
	ended   sync.WaitGroup

	mu       sync.Mutex
	asks     map[string]*ask               // by request
	collect  map[*service.Acks]*ask        // those of asks that collect acknowledgements
	counts   map[string]*count             // by namespace
	follows  map[string]*follow            // by namespace
	handlers map[*service.Handler][]string // namespaces that are followed for each
	theirs   int                           // emits of peers whose acknowledgements are told them
	dropped  map[string]int64              // by reason
}

// UID is what a node of a cluster is called among peers. That of every node begins with the UID of none.
func UID(cluster string, node service.NodeID) string { return foyerUID + cluster + ":" + string(node) }

// foyerUID is what the UIDs of all nodes begin with, whatever their cluster.
const foyerUID = "foyer:"

// New makes the bridge of a node. name is that of the cluster, of which all nodes know each other. It owns the medium
// from then on, and the caller ends it with Close.
func New(cluster *adapter.Cluster, name string, node service.NodeID, medium Medium, log *zap.Logger) *Bridge {
	b := &Bridge{
		Cluster: cluster, medium: medium, cluster: UID(name, ""), log: log.Named("bridge"),
		asks: map[string]*ask{}, collect: map[*service.Acks]*ask{}, counts: map[string]*count{}, follows: map[string]*follow{},
		handlers: map[*service.Handler][]string{}, dropped: map[string]int64{},
	}
	b.byRoom, _ = medium.(Rooms)
	b.uid = UID(name, node)
	b.context, b.stop = context.WithCancel(context.Background())
	return b
}

// Open begins to hear peers, when the cluster has started.
func (b *Bridge) Open() error { return b.medium.Open(b.hear) }

// Shut ends what Open has begun: nothing is heard or told any more. It is called before Close, which is the cluster's.
func (b *Bridge) Shut() error {
	b.mu.Lock()
	b.stop() // code that begins something looks at it with the mutex held
	b.mu.Unlock()
	err := b.medium.Close()
	b.ended.Wait()
	return err
}

// isNode says whether a UID is that of a node of this cluster.
func (b *Bridge) isNode(uid string) bool { return strings.HasPrefix(uid, b.cluster) }

// publish hands a message to the medium. It says whether that has taken it, and whether it surely goes out; what is not
// taken is counted.
func (b *Bridge) publish(m *official.Message, to string) (taken, sure bool) {
	if m.UID == "" {
		m.UID = b.uid
	}
	err := b.medium.Publish(m, to)
	taken = err == nil || errors.Is(err, official.ErrDoubt)
	if !taken {
		reason := "unsent"
		if fault, ok := err.(official.Fault); ok { //nolint:errorlint // it is one, or it is none
			reason = unsaid + fault.Reason()
		}
		b.drop(reason, m.Kind, err)
	}
	return taken, err == nil
}

// cover adds peers to the coverage of a call. They took part and are not counted when it is sure that all went out that
// is for them; else they are not reached.
func cover(c *service.Coverage, peers int, sure bool) {
	if sure {
		c.UncountedNodes += peers
	} else {
		c.UnreachableUnnamed += peers
	}
}

// drop counts a message that was dropped, and says so.
func (b *Bridge) drop(reason string, kind official.Kind, err error) {
	b.mu.Lock()
	b.dropped[reason]++
	b.mu.Unlock()
	b.log.Warn("message dropped", zap.String("reason", reason), zap.Stringer("kind", kind), zap.Error(err))
}

// Info adds what was dropped on the way to and from peers.
func (b *Bridge) Info() service.Info {
	info := b.Cluster.Info()
	if info.Dropped = maps.Clone(info.Dropped); info.Dropped == nil {
		info.Dropped = map[string]int64{}
	}
	for reason, n := range b.medium.Dropped() {
		info.Dropped[dropPrefix+reason] += n
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for reason, n := range b.dropped {
		info.Dropped[dropPrefix+reason] += n
	}
	return info
}

// count is how many peers there were in a namespace when they were counted last.
type count struct {
	n      int
	at     time.Time     // zero: never
	tried  time.Time     // when it was asked last
	failed bool          // that brought nothing
	asked  chan struct{} // closed when the answer is there; nil: nobody asks
}

const (
	countFresh = time.Second            // how long a count holds
	countWait  = 500 * time.Millisecond // how long a call waits for one
	maxCounts  = 1024                   // namespaces whose count is kept
)

// uncounted is how many peers an answer does not speak for. Where that is not known it is 1 at least: there may be
// some.
func (b *Bridge) uncounted(ctx context.Context, namespace string) int {
	b.mu.Lock()
	c := b.countLocked(namespace)
	asked := c.asked
	if c.failed { // the medium is away: what was known last has to do
		asked = nil
	}
	b.mu.Unlock()
	if asked != nil {
		late := time.NewTimer(countWait)
		defer late.Stop()
		select {
		case <-asked:
		case <-late.C:
		case <-ctx.Done():
		case <-b.context.Done():
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return c.least()
}

// least is what is known, or suspected.
func (c *count) least() int {
	if c.at.IsZero() {
		return 1
	}
	return c.n
}

// countLocked returns what is known of a namespace, and asks anew when that is not fresh.
func (b *Bridge) countLocked(namespace string) *count {
	c := b.counts[namespace]
	if c == nil {
		if len(b.counts) >= maxCounts {
			clear(b.counts)
		}
		c = &count{}
		b.counts[namespace] = c
	}
	if c.asked != nil || time.Since(c.tried) < countFresh || b.context.Err() != nil {
		return c
	}
	c.asked, c.tried = make(chan struct{}), time.Now()
	b.ended.Go(func() {
		ctx, stop := context.WithTimeout(b.context, countWait)
		defer stop()
		n, err := b.medium.Peers(ctx, namespace)
		b.mu.Lock()
		defer b.mu.Unlock()
		if c.failed = err != nil; err == nil {
			c.n, c.at = n, time.Now()
		}
		close(c.asked)
		c.asked = nil
	})
	return c
}

// newRequest names a request. The name begins with this node's UID, so a medium can see which node an answer is for
// without reading it.
func (b *Bridge) newRequest() string {
	raw := make([]byte, 8)
	_, _ = rand.Read(raw) // never fails
	return b.uid + ":" + hex.EncodeToString(raw)
}
