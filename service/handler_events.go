package service

// backlog is what of one socket waits at one handler, in order: events, and behind them the news of its end.
type backlog struct {
	origin  Origin
	notices fifo[Notice]
	blocked bool // until the handler before has answered what it has seen: it is in no ring
}

// eventOverhead is what an event takes beside its payload: its packet, its notice and its places in queues.
const eventOverhead = 384

func (n *Notice) size() int {
	if n.Packet == nil {
		return 0
	}
	return n.Packet.Size()
}

// event queues an event. It is always taken while the handler is open, and nobody is closed for it: what is too much
// pauses the link that it came from. All that waits for a handler stays below twice its total and the one packet that
// was in hand of each link: at the total a link is paused as soon as it holds its even part of it. False: the handler
// takes none any more.
func (h *Handler) event(n *Notice) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open {
		return !h.reg.Observer && h.leaveLocked(n)
	}
	h.pace.look(n.Time, h)
	h.queueLocked(n)
	return true
}

// inherit queues an event of another handler, or one that waited. False: the handler takes nothing any more.
func (h *Handler) inherit(n *Notice) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open {
		return h.leaveLocked(n)
	}
	h.queueLocked(n)
	return true
}

func (h *Handler) queueLocked(n *Notice) {
	size := n.size()
	h.inbound.add(h.node.cfg.Budget, UseInbound, size+eventOverhead)
	if len(h.news) > 0 {
		delete(h.news, n.From)
	}
	if len(h.backlogs) == 0 || h.ring.len() == 0 && h.backlogs[n.From] == nil {
		if h.roomLocked(size) {
			n.unhold()
			h.flyLocked(n)
			return
		}
	}
	if h.reg.Observer {
		h.copyLocked(n, size)
		return
	}
	held := n.held
	n.held = true
	h.waitLocked(n, size)
	if held {
		n.From.HeldBy(h)
	} else {
		n.From.Hold(size, h, h.pressureLocked())
	}
}

// roomLocked says whether an event may enter out.
func (h *Handler) roomLocked(size int) bool {
	return len(h.inFlight) < h.reg.MaxInFlight && (h.outBytes == 0 || h.outBytes+size <= h.node.cfg.MaxHandlerQueueBytes)
}

// pressureLocked is what a socket must hold to be paused for the bounds that all sockets of the handler share.
func (h *Handler) pressureLocked() Pressure {
	cfg := &h.node.cfg
	if h.waiting < cfg.MaxHandlerQueue && h.waitSize < cfg.MaxHandlerQueueBytes && !h.inbound.spent {
		return Pressure{}
	}
	sockets := len(h.backlogs)
	if h.left != nil {
		sockets += len(h.left.notices)
	}
	return evenPart(cfg, &h.inbound, sockets)
}

// evenPart is what each of many sockets may hold of a bound that is reached: of the handler's total, or of what its
// events had of the node's budget when there was no more.
func evenPart(cfg *Config, a *account, sockets int) Pressure {
	events, bytes := cfg.MaxHandlerQueue, cfg.MaxHandlerQueueBytes
	if a.spent {
		events, bytes = min(events, a.most/eventOverhead), min(bytes, a.most)
	}
	return Pressure{Events: max(1, events/sockets), Bytes: max(1, bytes/sockets)}
}

// copyLocked keeps a copy for an observer that has no slot free, within the bounds of its own: it pauses nobody, and
// what is too much is dropped.
func (h *Handler) copyLocked(n *Notice, size int) {
	cfg := &h.node.cfg
	b := h.backlogs[n.From]
	if h.waiting >= cfg.MaxHandlerQueue || h.waitSize+size > cfg.MaxHandlerQueueBytes || h.inbound.spent ||
		b != nil && b.notices.len() >= cfg.MaxQueuedEvents {
		h.inbound.add(cfg.Budget, UseInbound, -size-eventOverhead)
		h.node.drops.add(dropObserver, 1)
		n.refuse()
		return
	}
	h.waitLocked(n, size)
}

func (h *Handler) waitLocked(n *Notice, size int) {
	h.waiting++
	h.waitSize += size
	h.appendLocked(h.backlogLocked(n.From), n)
}

// backlogLocked finds or makes the backlog of a socket.
func (h *Handler) backlogLocked(o Origin) *backlog {
	b := h.backlogs[o]
	if b == nil {
		if h.backlogs == nil {
			h.backlogs = map[Origin]*backlog{}
		}
		b = &backlog{origin: o}
		h.backlogs[o] = b
	}
	return b
}

// appendLocked adds to a backlog, which enters the ring with its first notice.
func (h *Handler) appendLocked(b *backlog, n *Notice) {
	b.notices.push(*n)
	if b.notices.len() == 1 && !b.blocked {
		h.ring.push(b)
	}
}

// flyLocked gives an event a slot and appends it to out.
func (h *Handler) flyLocked(n *Notice) {
	n.CallID = h.nextCallLocked()
	if h.inFlight == nil {
		h.inFlight = map[uint64]flight{}
	}
	size := n.size()
	n.Trace = h.traceEvent(n)
	h.inFlight[n.CallID] = flight{
		step:  n.Trace,
		since: h.givenAt(n.CallID), received: n.Time.Sub(h.node.startedAt), origin: n.From, ackID: n.Packet.AckID, size: int32(size),
		visit: n.visit, there: n.there,
	}
	if n.Packet.AckID == NoAck {
		if len(h.withoutAck) > 2*len(h.inFlight)+64 { // most were replied to one by one
			h.forgetAnsweredLocked()
		}
		h.withoutAck = append(h.withoutAck, n.CallID)
	}
	h.outBytes += size
	h.pushLocked(n)
	h.signal()
}

// nextCallLocked is the call id of what is about to be pushed. With a handler that is elsewhere it is the notice's
// number.
func (h *Handler) nextCallLocked() uint64 {
	if h.at != "" {
		return h.lastSeq + 1
	}
	h.lastCall++
	return h.lastCall
}

func (h *Handler) forgetAnsweredLocked() {
	kept := h.withoutAck[:0]
	for _, id := range h.withoutAck {
		if _, ok := h.inFlight[id]; ok {
			kept = append(kept, id)
		}
	}
	h.withoutAck = kept
}

// leaveOutLocked counts an event off that has left out.
func (h *Handler) leaveOutLocked(size int) {
	h.outBytes -= size
	h.inbound.add(h.node.cfg.Budget, UseInbound, -size-eventOverhead)
}

// refillLocked moves what waited into the slots that are free: of each socket one event, in turn, so that a flood of
// one socket delays those of others by one event a round. What waits at a handler that is not open goes over to others
// as it is.
func (h *Handler) refillLocked() {
	for h.open && h.ring.len() > 0 {
		b := *h.ring.first()
		n := b.notices.first()
		if n.Kind == NoticeEvent {
			size := n.size()
			if !h.roomLocked(size) {
				break
			}
			h.waiting--
			h.waitSize -= size
			n.unhold()
			h.flyLocked(n)
		} else {
			h.tellLocked(n)
		}
		b.notices.pop()
		h.ring.pop()
		if b.notices.len() > 0 {
			h.ring.push(b)
		} else {
			delete(h.backlogs, b.origin)
		}
	}
	if h.finishing {
		h.signal() // Next may have to say that a drain is over
	}
}

// unhold gives the place in its socket's share back that an event had while it waited.
func (n *Notice) unhold() {
	if n.held {
		n.held = false
		n.From.Release(n.size())
	}
}

// block lets all that comes of a socket wait until unblock.
func (h *Handler) block(o Origin) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open {
		h.backlogLocked(o).blocked = true
	}
}

func (h *Handler) unblock(o Origin) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.backlogs[o]
	if b == nil || !b.blocked {
		return
	}
	b.blocked = false
	if b.notices.len() == 0 {
		delete(h.backlogs, o)
	} else {
		h.ring.push(b)
	}
	h.refillLocked()
}

// patient says whether what waits of a socket has its time from elsewhere: it waits for another handler's answer, or to
// go over to another handler.
func (h *Handler) patient(o Origin) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.backlogs[o]
	return h.left != nil || b != nil && b.blocked
}
