package service

// A handler that is attached to another node is a handler here whose stream is the way to that node. Its sockets are
// assigned to it, and wait, pause their links and move on as with any other. The code that serves the way takes what
// the handler is told by Next, and hands it on. A notice that was taken so stays in out until the other node says, by
// Taken, that the backend has got it. So when that node is lost, what it has not said to be taken goes to the next
// handler, in its order. An event that was taken counts against MaxInFlight until its answer comes, so that what waits
// at the other node is bounded by this one.

// AttachElsewhere makes a handler of a registration at another node, which all nodes have agreed to and which is valid
// and in its canonical form. The caller hands on what Next says. It calls Taken, Reply and Decide as that node answers,
// Drain when that node says that the handler leaves, and Detach when the handler or the node is gone. Handlers of this
// node are chosen before it; of those elsewhere, the one with the fewest of this node's sockets is. ALREADY_CLAIMED:
// others of its group have registered otherwise, and it may be tried again once they have left. LIMIT_REACHED: too many
// names.
func (n *Node) AttachElsewhere(r Registration, at NodeID) (*Handler, error) {
	h := n.newHandler(r)
	h.at = at
	if err := n.handlers.attach(h); err != nil {
		return nil, err
	}
	return h, nil
}

// At is the node that the handler is attached to.
func (h *Handler) At() NodeID {
	if h.at == "" {
		return h.node.id
	}
	return h.at
}

// Registration is what the handler has registered, in its canonical form. Its lists are not to be changed.
func (h *Handler) Registration() Registration { return h.reg }

// shedOnce says, once, that the handler's node is to be asked to give it up.
func (h *Handler) shedOnce() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := !h.shedding
	h.shedding = true
	return first
}

// Avoid says whether new sockets are to go to others as long as there are any: the handler's node is silent, or is
// about to go.
func (h *Handler) Avoid(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.avoided = on
}

// giveLocked appends to buf what is to go to the handler's node.
func (h *Handler) giveLocked(buf []Notice, most int) []Notice {
	list := h.out.items[h.out.head:]
	for h.given < len(list) && len(buf) < most {
		n := &list[h.given]
		h.given++
		if n.Kind == noticeGone {
			continue
		}
		if n.Kind == NoticeConnected && len(h.news) > 0 {
			delete(h.news, n.From) // it is told of the end, too
		}
		buf = append(buf, *n)
	}
	return buf
}

// Taken says that the backend of a handler elsewhere has got some of the notices that were given, by their numbers, in
// any order. Numbers that nobody waits for have no effect.
func (h *Handler) Taken(numbers ...uint64) {
	h.mu.Lock()
	for _, number := range numbers {
		if i, ok := h.placeLocked(number); ok && i < h.given {
			h.takenLocked(i)
		}
	}
	for h.out.len() > 0 && h.out.first().Kind == noticeGone {
		h.out.pop()
		h.gaps--
		h.given = max(0, h.given-1)
	}
	revived := h.reviveLocked()
	h.refillLocked()
	h.signal()
	h.mu.Unlock()
	if revived {
		h.node.handlers.revive(h)
	}
}

func (h *Handler) takenLocked(i int) {
	n := &h.out.items[h.out.head+i]
	switch n.Kind {
	case noticeGone:
		return
	case NoticeEvent:
		f := h.inFlight[n.CallID]
		f.taken = true
		h.inFlight[n.CallID] = f
		h.leaveOutLocked(int(f.size))
	default:
		h.uncountLocked(n)
	}
	h.pace.takes++
	h.leaveGapLocked(i)
}

// withdrawLocked takes a question back: silently as long as it was not given, else its node is told. 0: it was
// answered.
func (h *Handler) withdrawLocked(seq uint64) {
	i, ok := h.placeLocked(seq)
	switch {
	case seq == 0:
	case ok && i >= h.given:
		h.takeBackLocked(seq)
	default:
		h.tellLocked(&Notice{Kind: NoticeWithdrawn, CallID: seq})
	}
}
