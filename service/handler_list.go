package service

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// HandlerLoad is what handlers have to do.
type HandlerLoad struct {
	Sockets  int // that they have, those of other nodes with them
	Queued   int // events that wait for them, and what else they have not been told
	Bytes    int // of these events
	InFlight int // events that they have been given and not answered
	Connects int // that they have been asked and have not decided
}

func (l *HandlerLoad) add(o HandlerLoad) {
	l.Sockets += o.Sockets
	l.Queued += o.Queued
	l.Bytes += o.Bytes
	l.InFlight += o.InFlight
	l.Connects += o.Connects
}

// loadLocked is what the handler has to do, at the node that it is attached to.
func (h *Handler) loadLocked() HandlerLoad {
	return HandlerLoad{
		Sockets: int(h.sockets.Load() + h.guests.Load()), Queued: h.waiting + h.out.len() - h.gaps, Bytes: h.waitSize + h.outBytes,
		InFlight: len(h.inFlight), Connects: h.openConnects,
	}
}

// HandlerInfo is what is known of an attached handler at one moment. Its lists are not to be changed.
type HandlerInfo struct {
	Node         NodeID
	Number       uint64 // at its node, in the order in which handlers came
	Registration Registration
	Since        time.Time // when it attached
	HandlerLoad
	Draining bool          // it takes no new work
	Oldest   time.Duration // since the oldest of the events in flight was received; below zero: there is none
}

// Size estimates what it takes in an answer, in bytes, rather too much than too little.
func (i *HandlerInfo) Size() int {
	r := &i.Registration
	n := 192 + len(r.Group) + len(r.ID) + len(r.Address)
	for _, list := range [][]string{r.Namespaces, r.Events} {
		for _, name := range list {
			n += len(name) + 3
		}
	}
	return n
}

// HandlersRequest says which part of the list of handlers is asked for.
type HandlersRequest struct {
	Local bool  // those of this node only
	Place Place // Seq is the number of the next one, in the order in which they came
	Limit int   // at least one is listed
	Bytes int   // most that they take, unless a single one takes more; 0: any
}

// HandlersPage is a part of the list.
type HandlersPage struct {
	Handlers []HandlerInfo
	Next     Place // where the next page begins; zero: this was the last
	Coverage Coverage
}

// Handlers lists a part of the handlers that are attached to this node, also those that drain. A handler that is
// attached throughout is listed exactly once. A place in an earlier run of this node is the beginning of its list now.
// A place of another node: ErrToken.
func (n *Node) Handlers(_ context.Context, r HandlersRequest) (HandlersPage, error) {
	if r.Place != (Place{}) && r.Place.Node != n.id {
		return HandlersPage{}, ErrToken
	}
	cursor := uint64(0)
	if r.Place.Incarnation == n.self {
		cursor = r.Place.Seq
	}
	var page HandlersPage
	bytes := 0
	for _, h := range n.handlers.behind(cursor) {
		info := h.info()
		bytes += info.Size()
		if len(page.Handlers) > 0 && (len(page.Handlers) >= r.Limit || r.Bytes > 0 && bytes > r.Bytes) {
			page.Next = Place{n.self, h.number}
			break
		}
		page.Handlers = append(page.Handlers, info)
	}
	return page, nil
}

// behind lists the handlers of this node from a number on, in the order of their numbers.
func (hs *handlers) behind(number uint64) (list []*Handler) {
	hs.mu.RLock()
	for h := range hs.attached {
		if h.at == "" && h.number >= number {
			list = append(list, h)
		}
	}
	hs.mu.RUnlock()
	slices.SortFunc(list, func(a, b *Handler) int { return cmp.Compare(a.number, b.number) })
	return list
}

// info looks at all that is in flight, which is no more than MaxInFlight.
func (h *Handler) info() HandlerInfo {
	now := h.node.age()
	h.mu.Lock()
	defer h.mu.Unlock()
	i := HandlerInfo{
		Node: h.At(), Number: h.number, Registration: h.reg, Since: h.claimedAt, HandlerLoad: h.loadLocked(), Draining: !h.open || h.finishing || h.ended != nil,
		Oldest: -1,
	}
	for _, f := range h.inFlight {
		i.Oldest = max(i.Oldest, now-f.received, 0) // a clock elsewhere may be ahead
	}
	return i
}
