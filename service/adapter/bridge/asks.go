package bridge

import (
	"context"
	"time"

	"foyer/service"
	"foyer/service/adapter/official"
)

// ask is a request of this node that peers answer. Guarded by Bridge.mu, but for what is set before start.
type ask struct {
	id        string
	namespace string
	began     time.Time
	done      chan struct{} // closed when all have answered that can
	ended     chan struct{} // closed when nobody waits any more

	// Counts of peers that are to answer, and of those that have.
	expected int // -1: not known yet
	answered int
	lost     int              // of expected, that are gone: the most by which they were fewer
	told     int              // of lost, that acks know of
	unknown  bool             // who there is could not be found out
	over     bool             // done is closed
	unasked  bool             // the medium did not take it; set before the call goes on
	by       map[string]*part // what each has said, where answers have UIDs

	acks     *service.Acks // nil: it is no emit
	clients  int           // recipients that peers have said they have
	named    bool          // acks know how many those are
	outcomes []service.AckOutcome

	sockets []official.Socket
	replies []service.ServerSideReply
	bytes   int
}

const (
	countsWait = 2 * time.Second // for what peers have of an emit
	fetchWait  = 5 * time.Second // for their sockets, as the official servers wait
	// maxAnswerBytes is how much of what peers answer is kept for one request. What comes after that is missing.
	maxAnswerBytes = 16 << 20
	maxReplyBytes  = 3 << 20 // the same of replies to an event of a server, which go into one answer of the API
	maxAsks        = 4096
)

// begin notes a request that the peers of a namespace are about to be sent, and asks how many they are. acks, if any,
// waits for them from now on. nil: there are too many that wait.
func (b *Bridge) begin(namespace string, acks *service.Acks) *ask {
	a := &ask{
		id: b.newRequest(), namespace: namespace, began: time.Now(), done: make(chan struct{}), ended: make(chan struct{}), expected: -1, acks: acks,
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asks) >= maxAsks || b.context.Err() != nil {
		b.dropped["busy"]++
		return nil
	}
	b.asks[a.id] = a
	if acks != nil {
		b.collect[acks] = a
		acks.Asked("") // before anything can be known of peers, which may be at once
	}
	b.ended.Go(func() {
		b.expect(a)
		b.watch(a)
	})
	return a
}

// expect finds out who is to answer.
func (b *Bridge) expect(a *ask) {
	ctx, stop := context.WithTimeout(b.context, countsWait)
	defer stop()
	n, err := b.medium.Peers(ctx, a.namespace)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil { // who could answer is not known, so nobody is waited for
		n, a.unknown = a.answered, true
	}
	a.expected = n
	a.completeLocked()
}

// completeLocked looks whether all have answered.
func (a *ask) completeLocked() {
	if a.over || a.expected < 0 || a.answered < a.expected-a.silentLocked() {
		return
	}
	a.over = true
	a.nameLocked()
	close(a.done)
}

// unasked ends the wait for a request that the medium did not take: nobody answers it.
func (b *Bridge) unasked(a *ask) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.unasked = true; a.over {
		return
	}
	a.over = true
	a.nameLocked()
	close(a.done)
}

// nameLocked tells the acks of an emit how many recipients peers have, and what became of some meanwhile. The mutex is
// held, so that no outcome comes before that.
func (a *ask) nameLocked() {
	if a.acks == nil || a.named {
		return
	}
	a.named = true
	a.acks.Named("", nil, a.clients)
	if len(a.outcomes) > 0 {
		a.acks.Outcomes("", a.outcomes)
	}
	a.outcomes = nil
}

// end forgets a request.
func (b *Bridge) end(a *ask) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLocked(a)
}

func (b *Bridge) endLocked(a *ask) {
	if b.asks[a.id] == a {
		delete(b.asks, a.id)
		close(a.ended)
	}
}

// await waits until all peers have answered, and returns how many have not.
func (b *Bridge) await(ctx context.Context, a *ask, most time.Duration) (missing int) {
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-a.done:
	case <-late.C:
	case <-ctx.Done():
	case <-b.context.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.expected < 0 || a.unknown {
		return 1 // at least
	}
	return max(0, a.expected-a.answered)
}

// awaitCounts waits until peers have said how many recipients they have, and returns that and how many peers have not.
func (b *Bridge) awaitCounts(ctx context.Context, a *ask) (clients, missing int) {
	missing = b.await(ctx, a, countsWait)
	b.mu.Lock()
	defer b.mu.Unlock()
	a.nameLocked()
	return a.clients, missing
}

// forgetAcks ends a wait for acknowledgements.
func (b *Bridge) forgetAcks(acks *service.Acks) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.collect[acks]; a != nil {
		delete(b.collect, acks)
		b.endLocked(a)
	}
}

// answer takes what a peer answers.
func (b *Bridge) answer(m *official.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.asks[m.Request]
	if a == nil { // another node's, or nobody waits any more
		return
	}
	switch m.Kind {
	case official.ClientCount:
		if a.acks != nil && !a.named && m.Count >= 0 {
			a.answered++
			a.clients += m.Count
			a.saidLocked(m, m.Count, 0)
		}
	case official.Ack:
		if a.acks == nil {
			break
		}
		a.saidLocked(m, 0, 1)
		outcome := service.AckOutcome{Latency: time.Since(a.began), Payload: argumentsOf(m.Payload), Attachments: m.Attachments}
		switch {
		case a.named:
			a.acks.Outcomes("", []service.AckOutcome{outcome})
		case b.roomLocked(a, m, maxAnswerBytes):
			a.outcomes = append(a.outcomes, outcome)
		}
	case official.Sockets, official.IDs:
		if a.acks == nil && b.roomLocked(a, m, maxAnswerBytes) {
			a.answered++
			a.saidLocked(m, 0, 0)
			a.sockets = append(a.sockets, m.Sockets...)
		}
	case official.Reply:
		if a.acks == nil && b.roomLocked(a, m, maxReplyBytes) {
			a.answered++
			a.saidLocked(m, 0, 0)
			a.replies = append(a.replies, service.ServerSideReply{Payload: argumentsOf(m.Payload), Attachments: m.Attachments})
		}
	}
	a.completeLocked()
}

// roomLocked says whether an answer may be kept, where so many bytes are for all of them.
func (b *Bridge) roomLocked(a *ask, m *official.Message, most int) bool {
	bytes := len(m.Payload) + 64
	for _, part := range m.Attachments {
		bytes += len(part)
	}
	for i := range m.Sockets {
		s := &m.Sockets[i]
		bytes += len(s.ID) + len(s.Handshake) + len(s.Data) + 128
		for _, room := range s.Rooms {
			bytes += len(room) + 16
		}
	}
	if a.bytes+bytes > most {
		b.dropped["answer_too_large"]++
		return false
	}
	a.bytes += bytes
	return true
}
