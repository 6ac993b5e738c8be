// Package beats knows which servers are there on a medium that does not count its listeners. A server that was heard in
// a namespace within Timeout is there, so each of them says something now and then. The official PostgreSQL and MongoDB
// adapters do the same.
//
// The walk: when its medium hears a namespace, it calls Begin, which says Hello there. Each server that is there
// answers by a Heartbeat. The medium gives all that it hears to Heard, what this node itself has said too: when its own
// Hello has come back, all that others say from then on comes as well. Settle later those that answer have done so, and
// Peers knows who is there. Until then it waits, since a call must not look complete before.
//
// Goroutines: Run is called on one of the medium's, and ends with its context.
package beats

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"foyer/service/adapter/official"
)

// Times of the official adapters, and what a server that is there is given to answer a Hello.
const (
	Interval = 5 * time.Second
	Timeout  = 10 * time.Second
	Settle   = time.Second

	tick       = time.Second
	answerWait = 100 * time.Millisecond // between two answers: many may say Hello at once
	// maxPeers are kept of a namespace. UIDs are what others say they are.
	maxPeers = 512
)

// Errors of Peers, when it does not know.
var (
	ErrUnheard = errors.New("this namespace is not heard")
	ErrCrowd   = errors.New("more servers have said that they are there than can be counted")
)

// Config is what Beats is told of its medium.
type Config struct {
	Self string // UID of this node
	Ours string // what the UIDs of all nodes of the cluster begin with; these are no peers
	// Say publishes a Hello, a Heartbeat or, for the last time, a Goodbye in a namespace. It does not block and does not
	// call Beats. A medium without a kind passes it over.
	Say func(namespace string, kind official.Kind)
}

// Beats knows who is there. Safe for concurrent use.
type Beats struct {
	cfg   Config
	asked chan struct{} // has a value when a Hello of another may want its answer

	mu       sync.Mutex
	hearings map[string]*hearing // guarded by mu; by namespace
	late     time.Time           // guarded by mu; when Run looked last
}

// hearing is a namespace that this node hears.
type hearing struct {
	heard   map[string]time.Time // of each peer, when that was last
	crowded time.Time            // when there was one too many
	said    time.Time            // a Hello or a Heartbeat of this node
	wanted  bool                 // somebody else's Hello has no answer yet
	back    time.Time            // when this node's own Hello came back
	echoed  chan struct{}        // closed then
	over    chan struct{}        // closed when the namespace is heard no more
}

// New makes one that hears nothing yet.
func New(c Config) *Beats {
	return &Beats{cfg: c, asked: make(chan struct{}, 1), hearings: map[string]*hearing{}}
}

// Begin notes that this node hears a namespace from now on, or hears it again after Pause, and says Hello there.
func (b *Beats) Begin(namespace string) {
	b.mu.Lock()
	before := b.hearings[namespace]
	h := &hearing{heard: map[string]time.Time{}, said: time.Now(), echoed: make(chan struct{}), over: make(chan struct{})}
	if before != nil { // those that have not gone meanwhile are still there
		h.heard, h.crowded = before.heard, before.crowded
		before.end()
	}
	b.hearings[namespace] = h
	b.mu.Unlock()
	b.cfg.Say(namespace, official.Hello)
}

// End notes that this node is about to hear a namespace no more, and says Goodbye there.
func (b *Beats) End(namespace string) {
	b.mu.Lock()
	h := b.hearings[namespace]
	if h != nil {
		h.end()
		delete(b.hearings, namespace)
	}
	b.mu.Unlock()
	if h != nil {
		b.cfg.Say(namespace, official.Goodbye)
	}
}

// EndAll is End for each namespace.
func (b *Beats) EndAll() {
	for _, namespace := range b.namespaces() {
		b.End(namespace)
	}
}

// Pause notes that the medium is away: nobody is known to be there until Begin is called again. A server that was there
// before counts again then, unless it has been silent for too long.
func (b *Beats) Pause() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.hearings {
		h.end()
	}
}

// end has nobody wait any more.
func (h *hearing) end() {
	if !h.ended() {
		close(h.over)
	}
}

func (h *hearing) ended() bool {
	select {
	case <-h.over:
		return true
	default:
		return false
	}
}

// Heard notes who has said something in a namespace.
func (b *Beats) Heard(namespace, uid string, kind official.Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.hearings[namespace]
	switch {
	case h == nil || uid == "" || uid == official.Emitter:
	case uid == b.cfg.Self:
		if kind == official.Hello && h.back.IsZero() && !h.ended() {
			h.back = time.Now()
			close(h.echoed)
		}
	case strings.HasPrefix(uid, b.cfg.Ours):
	case kind == official.Goodbye:
		delete(h.heard, uid)
	default:
		if _, known := h.heard[uid]; !known && len(h.heard) >= maxPeers {
			h.crowded = time.Now()
			return
		}
		h.heard[uid] = time.Now()
		if kind == official.Hello {
			h.wanted = true
			select {
			case b.asked <- struct{}{}:
			default:
			}
		}
	}
}

// Peers says how many servers are there in a namespace that are no nodes of this cluster. It blocks until that is
// known, the namespace is heard no more, or ctx ends. Errors: ErrUnheard, ErrCrowd, that of ctx.
func (b *Beats) Peers(ctx context.Context, namespace string) (int, error) {
	b.mu.Lock()
	h := b.hearings[namespace]
	b.mu.Unlock()
	if h == nil {
		return 0, ErrUnheard
	}
	select {
	case <-h.echoed:
	case <-h.over:
		return 0, ErrUnheard
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if left := time.Until(h.back.Add(Settle)); left > 0 { // back is not written again
		wait := time.NewTimer(left)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-h.over:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case h.ended():
		return 0, ErrUnheard
	case time.Since(h.crowded) <= Timeout:
		return 0, ErrCrowd
	}
	return len(h.heard), nil
}

// Gone returns those of some servers that are not there any more. Errors: as of Peers.
func (b *Beats) Gone(ctx context.Context, namespace string, uids []string) (gone []string, err error) {
	if _, err := b.Peers(ctx, namespace); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	h := b.hearings[namespace]
	if h == nil {
		return nil, ErrUnheard
	}
	for _, uid := range uids {
		if _, there := h.heard[uid]; !there {
			gone = append(gone, uid)
		}
	}
	return gone, nil
}

// forget drops those that were silent for too long. Only look does that, since it knows whether this node has slept.
func (h *hearing) forget(now time.Time) {
	for uid, at := range h.heard {
		if now.Sub(at) > Timeout {
			delete(h.heard, uid)
		}
	}
}

// Run says what is due, until ctx ends.
func (b *Beats) Run(ctx context.Context) {
	every := time.NewTicker(tick)
	defer every.Stop()
	b.mu.Lock()
	b.late = time.Now()
	b.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			b.look()
		case <-b.asked:
			b.answer()
			pause := time.NewTimer(answerWait)
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
				return
			}
		}
	}
}

// look says what is due by the clock. When it comes late this node has slept, and what others have said meanwhile may
// not have been read yet: they are given that time.
func (b *Beats) look() {
	type saying struct {
		namespace string
		kind      official.Kind
	}
	var due []saying
	b.mu.Lock()
	now := time.Now()
	slept := now.Sub(b.late) - 2*tick
	b.late = now
	for namespace, h := range b.hearings {
		for uid, at := range h.heard {
			if slept > 0 {
				h.heard[uid] = at.Add(slept)
			}
		}
		h.forget(now)
		switch {
		case h.ended():
		case h.back.IsZero() && now.Sub(h.said) >= Settle: // it was lost
			due = append(due, saying{namespace, official.Hello})
			h.said = now
		case now.Sub(h.said) >= Interval:
			due = append(due, saying{namespace, official.Heartbeat})
			h.said = now
		}
	}
	b.mu.Unlock()
	for _, s := range due {
		b.cfg.Say(s.namespace, s.kind)
	}
}

// answer says Heartbeat wherever somebody has said Hello.
func (b *Beats) answer() {
	var due []string
	b.mu.Lock()
	for namespace, h := range b.hearings {
		if h.wanted && !h.ended() {
			due = append(due, namespace)
			h.said = time.Now()
		}
		h.wanted = false
	}
	b.mu.Unlock()
	for _, namespace := range due {
		b.cfg.Say(namespace, official.Heartbeat)
	}
}

func (b *Beats) namespaces() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]string, 0, len(b.hearings))
	for namespace := range b.hearings {
		list = append(list, namespace)
	}
	return list
}
