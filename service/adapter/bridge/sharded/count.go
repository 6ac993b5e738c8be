package sharded

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"foyer/service/adapter/official"
)

// Who else is there, and what is done so that their answers are heard.

const (
	maxCounts = 1024 // namespaces whose number of peers is kept
	// settleFor is how long peers may take to be back where a subscription of this node was lost. They have lost theirs
	// too.
	settleFor = 10 * time.Second
)

var errSettling = errors.New("servers that were there before Redis was lost may be about to come back")

// Peers implements bridge.Medium: who hears the namespace's channel, less the nodes of this cluster, which hear the
// marker too. Both are at one server, which counts them at one moment. Of a Redis Cluster all servers are asked:
// subscriptions may be where the slot has been. It waits until this node would hear what they answer.
func (m *Medium) Peers(ctx context.Context, namespace string) (int, error) {
	if err := m.awaitAnswers(ctx, namespace); err != nil {
		return 0, err
	}
	all, ours := m.names.Main(namespace), m.marker(namespace)
	var sum atomic.Int64
	err := m.everywhere(ctx, func(ctx context.Context, server *redis.Client) error {
		counts, err := server.PubSubShardNumSub(ctx, all, ours).Result()
		sum.Add(counts[all] - counts[ours])
		return err
	})
	if err != nil {
		return 0, err
	}
	n := int(max(0, sum.Load()))
	m.mu.Lock()
	defer m.mu.Unlock()
	if n < m.counts[namespace] && time.Now().Before(m.settles) {
		return 0, errSettling
	}
	if len(m.counts) >= maxCounts {
		clear(m.counts)
	}
	m.counts[namespace] = n
	return n, nil
}

// Gone implements bridge.Roll: those to whose channel of answers nobody subscribes.
func (m *Medium) Gone(ctx context.Context, namespace string, uids []string) (gone []string, err error) {
	channels := make([]string, len(uids))
	for i, uid := range uids {
		channels[i] = m.names.Node(namespace, uid)
	}
	var mu sync.Mutex
	here := map[string]bool{}
	err = m.everywhere(ctx, func(ctx context.Context, server *redis.Client) error {
		counts, err := server.PubSubShardNumSub(ctx, channels...).Result()
		mu.Lock()
		defer mu.Unlock()
		for channel, n := range counts {
			here[channel] = here[channel] || n > 0
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	settling := time.Now().Before(m.settles)
	m.mu.Unlock()
	if settling {
		return nil, errSettling
	}
	for i, channel := range channels {
		if !here[channel] {
			gone = append(gone, uids[i])
		}
	}
	return gone, nil
}

// marker is the channel that all nodes of this cluster hear in a namespace. It has the slot of the namespace's channel,
// unless that has braces of its own.
func (m *Medium) marker(namespace string) string {
	return m.cfg.Marker + ".in.{" + m.names.Main(namespace) + "}"
}

// asking is a namespace in which this node has asked something lately, so that it hears answers there, whether it has
// sockets in it or not. Guarded by Medium.mu.
type asking struct {
	last  time.Time
	stand *wait // for the channel of answers
}

const (
	askingFor  = 10 * time.Minute // after the last request; nobody waits for answers for longer
	askingMost = 1024
	askWait    = 250 * time.Millisecond // how long a request waits until its answers would be heard
)

// listen notes that something is about to be asked, and returns what to wait for before that; nil: nothing.
func (m *Medium) listen(message *official.Message) <-chan struct{} {
	if message.Request == "" || message.Kind.Answer() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.asking[message.Namespace]
	if a == nil {
		if len(m.asking) >= askingMost {
			return nil // its answers are missing
		}
		a = &asking{stand: &wait{over: make(chan struct{})}}
		m.asking[message.Namespace] = a
		p := m.wantLocked(m.names.Node(message.Namespace, m.cfg.UID), message.Namespace, answers, true)
		if m.awaitLocked(p, a.stand); a.stand.left == 0 {
			close(a.stand.over)
		}
	}
	a.last = time.Now()
	return a.stand.over
}

// quietLocked ends what nobody has asked in for a while.
func (m *Medium) quietLocked() {
	for namespace, a := range m.asking {
		if time.Since(a.last) > askingFor {
			delete(m.asking, namespace)
			m.wantLocked(m.names.Node(namespace, m.cfg.UID), namespace, answers, false)
		}
	}
}

// awaitAnswers waits until answers to this node are heard in a namespace, if it has asked for them.
func (m *Medium) awaitAnswers(ctx context.Context, namespace string) error {
	m.mu.Lock()
	p := m.places[m.names.Node(namespace, m.cfg.UID)]
	w := &wait{over: make(chan struct{})}
	if p != nil {
		m.awaitLocked(p, w)
	}
	left := w.left
	m.mu.Unlock()
	if left == 0 {
		return nil
	}
	select {
	case <-w.over:
	case <-ctx.Done():
	case <-m.ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !p.stands && p.wanted > 0 {
		return errLost
	}
	return nil
}
