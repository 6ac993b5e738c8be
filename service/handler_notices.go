package service

import (
	"cmp"
	"slices"
)

// What a handler is told beside events is bounded in bytes, by Config.MaxNoticeBytes, and no browser can end a handler
// by it. What cancels out vanishes while nobody has taken it: a socket that came and went, a question that was
// withdrawn. A handler that has too much before it is as one that is not there: it is asked nothing and gets no new
// sockets until it has taken half. What is left then is the news of the ends of the sockets that it has, cut down to
// their names. Only what its own callers cause ends it.

// Post puts something of the caller's own behind all that the handler is to be told so far. It says false when the
// handler has ended or does not read.
func (h *Handler) Post(v any) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tellLocked(&Notice{Kind: NoticePosted, Posted: v})
	return h.ended == nil
}

// tellLocked appends a notice that is no event to out.
func (h *Handler) tellLocked(n *Notice) {
	if h.ended != nil {
		return
	}
	cfg := &h.node.cfg
	if h.full && n.Kind == NoticeDisconnected {
		n.Sockets = []*SocketInfo{n.Sockets[0].name()}
	}
	weight := n.weigh()
	h.notices.add(cfg.Budget, UseNotices, weight)
	if n.own() {
		h.own++
		h.ownBytes += weight
	}
	h.pushLocked(n) // also what is too much: it goes over to another with the rest
	h.full = h.full || h.notices.held > cfg.MaxNoticeBytes || h.notices.spent && h.notices.held > 2*accountStep
	if n.own() && (h.own > cfg.MaxHandlerQueue || h.ownBytes > cfg.MaxNoticeBytes || h.notices.spent && h.ownBytes > 2*accountStep) {
		h.node.drops.add(dropHandlerTooSlow, 1)
		h.endLocked(ErrTooSlow)
	}
	h.signal()
}

// name is what must be known of a socket to tell which one it is.
func (i *SocketInfo) name() *SocketInfo {
	return &SocketInfo{ID: i.ID, Generation: i.Generation, Namespace: i.Namespace, NodeID: i.NodeID, SessionID: i.SessionID, Transport: i.Transport, ConnectedAt: i.ConnectedAt}
}

// pushLocked appends to out.
func (h *Handler) pushLocked(n *Notice) {
	h.lastSeq++
	n.seq = h.lastSeq
	h.out.push(*n)
}

// uncountLocked counts a notice off that has left out.
func (h *Handler) uncountLocked(n *Notice) {
	weight := n.weigh()
	h.notices.add(h.node.cfg.Budget, UseNotices, -weight)
	switch {
	case n.own():
		h.own--
		h.ownBytes -= weight
	case n.Kind == NoticeConnected && len(h.news) > 0:
		delete(h.news, n.From)
	}
}

// tell is tellLocked for a caller that does not hold the mutex. A handler that has ended does not hear of it.
func (h *Handler) tell(n Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tellLocked(&n)
}

// greet tells of a new socket. False: the handler takes none any more.
func (h *Handler) greet(o Origin, info *SocketInfo) bool {
	return h.arrive(&Notice{Kind: NoticeConnected, From: o, Sockets: []*SocketInfo{info}, fresh: []Origin{o}})
}

func (h *Handler) arrive(n *Notice) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open {
		return false
	}
	h.tellLocked(n)
	if h.news == nil {
		h.news = map[Origin]uint64{}
	}
	h.news[n.From] = h.lastSeq
	return true
}

// assigned tells of sockets that come over to the handler. False: it takes none any more.
func (h *Handler) assigned(sockets []adoptee, failover bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open {
		return false
	}
	n := Notice{Kind: NoticeAssigned, Failover: failover, Sockets: make([]*SocketInfo, 0, len(sockets))}
	for _, a := range sockets {
		n.Sockets = append(n.Sockets, a.info)
		if a.fresh {
			n.fresh = append(n.fresh, a.socket)
		}
	}
	h.tellLocked(&n)
	return true
}

// part tells, behind all events of a socket, that it is gone. False: the handler will not hear of it.
func (h *Handler) part(n *Notice) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq, ok := h.news[n.From]; ok { // it had not taken the news that it came: it never was there
		h.takeBackLocked(seq)
		n.leave()
		return true
	}
	if !h.open {
		return h.leaveLocked(n)
	}
	h.behindEventsLocked(n)
	return true
}

func (h *Handler) behindEventsLocked(n *Notice) {
	if b := h.backlogs[n.From]; b != nil {
		h.appendLocked(b, n)
		return
	}
	h.tellLocked(n)
}

// ask tells the handler of something that it has to answer, and returns its call id and its place in out; 0: it has
// ended, and is not told any more.
func (h *Handler) ask(n Notice) (call, seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pace.look(n.Time, h)
	n.CallID = h.nextCallLocked()
	h.openConnects++
	if h.ended != nil {
		return n.CallID, 0
	}
	h.tellLocked(&n)
	return n.CallID, h.lastSeq
}

// settle counts a question off that needs no answer any more, and takes it back when Next has not taken it.
func (h *Handler) settle(seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.openConnects--
	h.pace.answers++
	if h.at == "" {
		h.takeBackLocked(seq)
	} else {
		h.withdrawLocked(seq)
	}
	h.signal()
}

// takeBackLocked takes a notice out of out that nobody has taken. Its place goes with the others once half are gaps, so
// that what cancels out costs nothing that stays.
func (h *Handler) takeBackLocked(seq uint64) {
	list := h.out.items[h.out.head:]
	i, ok := h.placeLocked(seq)
	if !ok || list[i].Kind == noticeGone {
		return
	}
	h.uncountLocked(&list[i])
	list[i].leave()
	h.leaveGapLocked(i)
}

// placeLocked finds a notice in out by its number.
func (h *Handler) placeLocked(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(h.out.items[h.out.head:], seq, func(n Notice, seq uint64) int { return cmp.Compare(n.seq, seq) })
}

func (h *Handler) leaveGapLocked(i int) {
	list := h.out.items[h.out.head:]
	list[i] = Notice{seq: list[i].seq}
	if h.gaps++; h.gaps <= 32 || h.gaps <= len(list)/2 {
		return
	}
	given := 0
	for i := range h.given {
		if list[i].Kind != noticeGone {
			given++
		}
	}
	kept := slices.DeleteFunc(list, func(n Notice) bool { return n.Kind == noticeGone })
	h.out.items = h.out.items[:h.out.head+len(kept)]
	h.gaps, h.given = 0, given
	if cap(h.out.items) > fifoKeeps && cap(h.out.items) > 4*len(kept) {
		h.out.items, h.out.head = slices.Clone(kept), 0
	}
}
