package bridge

import (
	"context"
	"strings"
	"time"

	"foyer/service/adapter/official"
)

// A peer that goes while this node waits for it does not answer any more. So peers are counted again while a call
// waits. Where answers have the UIDs of the peers that give them, the node knows which peers have answered and what
// each has left open. Where answers have no UIDs, a peer that goes is taken for one that has not answered. Then a call
// can end before the answer of a peer that lives, which it names as missing. Acknowledgements are given up when no peer
// is left.

// part is what one peer has said to a request.
type part struct {
	clients int // recipients
	acked   int // of these, that have answered
	gone    bool
}

const (
	recountEvery = time.Second // no sooner than a count is made anew
	maxParts     = 1024        // of one request
)

// saidLocked notes what a peer has said, where it is known who that is.
func (a *ask) saidLocked(m *official.Message, clients, acked int) {
	if m.UID == "" {
		return
	}
	p := a.by[m.UID]
	if p == nil {
		if len(a.by) >= maxParts {
			return
		}
		if a.by == nil {
			a.by = map[string]*part{}
		}
		p = &part{}
		a.by[m.UID] = p
	}
	p.clients += clients
	p.acked += acked
}

// silentLocked is how many of those that are expected are gone and have not answered.
func (a *ask) silentLocked() int {
	n := a.lost
	for _, p := range a.by {
		if p.gone {
			n--
		}
	}
	return max(0, n)
}

// watch counts peers again while somebody waits for them.
func (b *Bridge) watch(a *ask) {
	tick := time.NewTicker(recountEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-a.ended:
			return
		case <-b.context.Done():
			return
		}
		b.recount(a)
	}
}

// recount looks who is gone.
func (b *Bridge) recount(a *ask) {
	ctx, stop := context.WithTimeout(b.context, countWait)
	defer stop()
	var said, gone []string
	b.mu.Lock()
	for uid, p := range a.by {
		// A node of another cluster hears its answers only where it asks.
		if !p.gone && !strings.HasPrefix(uid, foyerUID) {
			said = append(said, uid)
		}
	}
	c := b.countLocked(a.namespace)
	asked := c.asked
	b.mu.Unlock()
	if asked != nil {
		select {
		case <-asked:
		case <-ctx.Done():
			return
		}
	}
	roll, known := b.medium.(Roll)
	if known && len(said) > 0 {
		gone, _ = roll.Gone(ctx, a.namespace, said) // what is not known now is, the next time
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.unknown || a.expected < 0 {
		return
	}
	if !c.failed && c.at.After(a.began) {
		a.lost = min(a.expected, max(a.lost, a.expected-c.n))
	}
	for _, uid := range gone {
		a.by[uid].gone = true
	}
	a.lost = min(a.expected, max(a.lost, a.goneLocked()))
	a.completeLocked()
	a.giveUpLocked(known)
}

// goneLocked is how many are gone that have said something.
func (a *ask) goneLocked() (n int) {
	for _, p := range a.by {
		if p.gone {
			n++
		}
	}
	return n
}

// giveUpLocked gives up the acknowledgements that peers have left open which are gone. known says whether it is known
// who those are; else they are, when all are gone.
func (a *ask) giveUpLocked(known bool) {
	if a.acks == nil || !a.named {
		return
	}
	clients, peers := 0, 0
	if !known && a.lost == a.expected {
		// The service knows how many of the recipients have answered. A peer that has never said how many it has is missing
		// already.
		clients, peers = a.clients, a.answered-a.told
	}
	for _, p := range a.by {
		if p.gone && p.clients > p.acked {
			clients += p.clients - p.acked
			peers++
			p.acked = p.clients
		}
	}
	if peers > 0 && clients > 0 {
		a.told += peers
		a.acks.Lost(clients, peers)
	}
}
