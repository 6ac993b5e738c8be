package service

// leftover is what a handler that takes nothing any more has before it and is to go over to others: by socket, in
// order.
type leftover struct {
	notices map[Origin][]Notice // events that its backend has not seen, and news of ends
	untold  map[Origin]bool     // sockets that its backend was never told of
}

// shutLocked closes the handler for new sockets, and for events: what still comes is left over, until the sockets are
// with others.
func (h *Handler) shutLocked() {
	if h.open {
		h.open = false
		h.left = &leftover{notices: map[Origin][]Notice{}, untold: map[Origin]bool{}}
	}
}

// leaveLocked leaves a notice over for others. False: all that was left over is with them already. As at a handler that
// is open, what is too much pauses the link that it came from.
func (h *Handler) leaveLocked(n *Notice) bool {
	if h.left == nil {
		return false
	}
	delete(h.news, n.From) // it came, and something became of it: the news of its end does not cancel that any more
	held := n.held
	hold := n.Kind == NoticeEvent && !h.reg.Observer
	n.held = n.held || hold
	h.left.notices[n.From] = append(h.left.notices[n.From], *n)
	if n.Kind == NoticeEvent {
		h.inbound.add(h.node.cfg.Budget, UseInbound, n.size()+eventOverhead)
		h.waiting++
		h.waitSize += n.size()
	}
	switch {
	case held:
		n.From.HeldBy(h)
	case hold:
		n.From.Hold(n.size(), h, h.pressureLocked())
	}
	return true
}

// shut closes the handler and leaves over what Next has not taken. What its backend has seen, and not answered, is
// owed.
func (h *Handler) shut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shutLocked()
	late := h.left.notices
	h.left.notices = map[Origin][]Notice{}
	h.leaveOutOverLocked()
	for o, b := range h.backlogs {
		if b.notices.len() > 0 { // else it is one that was blocked
			h.left.notices[o] = append(h.left.notices[o], b.notices.take()...)
		}
	}
	h.backlogs, h.ring = nil, fifo[*backlog]{}
	for o, notices := range late { // of a handler that had ended
		h.left.notices[o] = append(h.left.notices[o], notices...)
	}
	h.owing = map[Origin]int{}
	for _, f := range h.inFlight {
		h.owing[f.origin]++
	}
}

// leaveOutOverLocked leaves over what stands in out and is about sockets.
func (h *Handler) leaveOutOverLocked() {
	var keep []Notice
	given := 0
	for i, n := range h.out.take() {
		switch n.Kind {
		case noticeGone:
			continue
		case NoticeEvent:
			delete(h.inFlight, n.CallID)
			h.outBytes -= n.size()
			h.waiting++
			h.waitSize += n.size()
			h.left.notices[n.From] = append(h.left.notices[n.From], n)
			continue
		case NoticeDisconnected:
			h.left.notices[n.From] = append(h.left.notices[n.From], n)
		case NoticeConnected, NoticeAssigned: // news of sockets that are not its own any more
			for _, o := range n.fresh {
				h.left.untold[o] = true
			}
		default:
			if keep = append(keep, n); i < h.given {
				given++
			}
			continue
		}
		h.uncountLocked(&n)
	}
	for i := range keep {
		h.out.push(keep[i])
	}
	h.gaps, h.given = 0, given
}

// Surrender gives out what is left over of a socket at a handler that takes nothing any more, in order and once: events
// that its backend has not seen, and the news of its end.
func (h *Handler) Surrender(o Origin) []Notice {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left == nil {
		return nil
	}
	notices := h.left.notices[o]
	delete(h.left.notices, o)
	delete(h.left.untold, o)
	for i := range notices {
		if n := &notices[i]; n.Kind == NoticeEvent {
			h.inbound.add(h.node.cfg.Budget, UseInbound, -n.size()-eventOverhead)
			h.waiting--
			h.waitSize -= n.size()
		}
	}
	return notices
}

// untold says whether the handler's backend was never told of a socket.
func (h *Handler) untold(o Origin) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left != nil && h.left.untold[o]
}

// leaves says whether something is left over of a socket.
func (h *Handler) leaves(o Origin) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left != nil && len(h.left.notices[o]) > 0
}

// leftOver are the sockets of which something is left over. When there is none, nothing can be any more.
func (h *Handler) leftOver() []Origin {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left == nil {
		return nil
	}
	if len(h.left.notices) == 0 {
		h.left = nil
		return nil
	}
	list := make([]Origin, 0, len(h.left.notices))
	for o := range h.left.notices {
		list = append(list, o)
	}
	return list
}
