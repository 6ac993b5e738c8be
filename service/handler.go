package service

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Registration says what a handler takes.
type Registration struct {
	Namespaces       []string // patterns
	Group, ID        string   // defaults: "default", random
	Observer         bool
	Events           []string // none: all that no other group names
	DecideConnects   bool
	ServerSideEvents bool
	MaxInFlight      int // default 256
	Local            bool
	View             View   // how much of sockets it is shown; default: all
	Address          string // of its caller, as others are told; "": nobody knows
}

// defaultInFlight is how many events a handler may leave without a reply when it does not say.
const defaultInFlight = 256

// handlerDrainTime is how long a handler that was replaced or drains may keep its sockets' next events waiting for its
// answers; one that was replaced ends then.
const handlerDrainTime = 30 * time.Second

// Handler is an attached backend. Its methods are safe for concurrent use, Next for one goroutine at a time.
//
// The queue out has all that the backend is to be told, in order. An event enters out when a slot is free. Until then
// it waits in the backlog of its socket, together with everything that must not overtake it.
type Handler struct {
	// Set before start.
	node      *Node
	group     *group
	reg       Registration
	at        NodeID // the node that it is attached to; "": this one
	number    uint64 // in the order in which handlers came
	claims    *claims
	claimedAt time.Time
	wake      chan struct{} // 1: out has something, or the handler has ended
	done      chan struct{} // closed when the handler was ended by the node

	// Guarded by handlers.mu.
	leaving  bool        // gets no new work
	detached bool        // not in its group any more
	deadline *time.Timer // ends the time of a handler that was replaced or drains

	connects map[uint64]*pending // that it was asked to decide; guarded by connects.mu
	sockets  atomic.Int64        // that are assigned to it
	guests   atomic.Int64        // sockets of other nodes that it has

	mu    sync.Mutex
	open  bool // takes events and new sockets; never again once it is false
	ended error
	left  *leftover // of a handler that is not open, until all its sockets are with others

	// Notices that it is told.
	out      fifo[Notice]
	avoided  bool   // its node is silent, or about to go
	shedding bool   // its node was asked to give it up
	given    int    // places at the head of out that are on their way to the node of the handler; 0 of one that is here
	gaps     int    // places in out whose notice was taken back
	lastSeq  uint64 // of out
	outBytes int    // of the events in out
	notices  account
	own      int               // notices in out that its own callers caused
	ownBytes int               // the same in bytes
	full     bool              // too much waits that is no event
	news     map[Origin]uint64 // Connected in out by socket, as long as nothing else of the socket stands in out

	// Events that wait.
	inbound  account // events in out, in backlogs and left over
	backlogs map[Origin]*backlog
	ring     fifo[*backlog] // those that a slot would serve, in turn
	waiting  int            // events in backlogs and left over
	waitSize int            // the same in bytes

	// Answers that it owes.
	inFlight     map[uint64]flight
	reply        Timing   // from when an event was given until it was answered
	withoutAck   []uint64 // call ids in flight that want no ack, ascending; some may have been replied to
	lastCall     uint64
	finishing    bool // ends with io.EOF when nothing is in flight
	openConnects int  // asked and not decided
	serverCalls  map[uint64]*serverCall
	questions    map[uint64]question // of other nodes: connects that they ask it to decide
	owing        map[Origin]int      // of a handler that leaves: events that its backend has seen and not answered

	pace pace
}

// flight is an event that a handler has not replied to.
type flight struct {
	step     *Trace
	since    time.Duration // see givenAt
	received time.Duration // the node's age when its client had sent it
	origin   Origin
	ackID    int64
	size     int32
	taken    bool   // by Next: the backend may have seen it
	visit    *Visit // that it came with, and its number there; nil: it is of this node
	there    uint64
}

// ID is its handler_id.
func (h *Handler) ID() string { return h.reg.ID }

// MaxInFlight is how many events it may leave without a reply.
func (h *Handler) MaxInFlight() int { return h.reg.MaxInFlight }

// Done is closed when the node ends the handler, whether or not Next is being called: Next then tells why.
func (h *Handler) Done() <-chan struct{} { return h.done }

// Next appends to buf[:0] what the handler is to be told, in order: at least one notice, and at most cap(buf), or 256
// when that is 0. It blocks until there is something, ctx ends, or the handler does: io.EOF after a drain, ErrReplaced,
// ErrTooSlow, ErrDraining.
func (h *Handler) Next(ctx context.Context, buf []Notice) ([]Notice, error) {
	buf = buf[:0]
	most := cap(buf)
	if most == 0 {
		most = defaultInFlight
	}
	for {
		h.mu.Lock()
		revived := false
		if h.at == "" {
			buf = h.takeLocked(buf, most)
			revived = h.reviveLocked()
		} else {
			buf = h.giveLocked(buf, most)
		}
		err := h.ended
		if err == nil && h.finishing && h.quietLocked() {
			err = io.EOF
		}
		h.mu.Unlock()
		if revived {
			h.node.handlers.revive(h)
		}
		switch {
		case len(buf) > 0:
			return buf, nil
		case err != nil:
			return nil, err
		}
		select {
		case <-h.wake:
			// Woken by a link's reader this goroutine is the next to run, for one event. Behind those that are ready to bring
			// more it takes them all: with 100 clients in flight that saves 5 % of an echo's CPU, on one core and on two.
			runtime.Gosched()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// reviveLocked says whether a handler that had too much before it has taken so much of it that it is as others again.
func (h *Handler) reviveLocked() bool {
	if !h.full || h.notices.held > h.node.cfg.MaxNoticeBytes/2 {
		return false
	}
	h.full = false
	return true
}

// takeLocked moves notices from out to buf.
func (h *Handler) takeLocked(buf []Notice, most int) []Notice {
	for h.out.len() > 0 && len(buf) < most {
		n := h.out.pop()
		if n.Kind == noticeGone {
			h.gaps--
			continue
		}
		h.pace.takes++
		if n.Kind == NoticeEvent {
			f := h.inFlight[n.CallID] // Reply and Handled leave what was not taken
			f.taken = true
			h.inFlight[n.CallID] = f
			h.leaveOutLocked(int(f.size))
		} else {
			h.uncountLocked(&n)
		}
		n.leave()
		buf = append(buf, n)
		if n.Kind == NoticePosted {
			break // it may say that this is the end: what comes behind it stays, to go over to another
		}
	}
	if h.ring.len() > 0 {
		h.refillLocked() // what was taken may have made room in bytes
	}
	return buf
}

// quietLocked says whether nothing is to be told or answered.
func (h *Handler) quietLocked() bool {
	return len(h.inFlight)+len(h.serverCalls)+h.openConnects+len(h.backlogs)+h.out.len()-h.gaps == 0
}

// Reply frees the slot of an event and, when the client wants it, acknowledges it with a JSON array; or it is the reply
// to a server-side event. Unknown call ids are ignored and counted. payload is read before Reply returns, and not kept.
func (h *Handler) Reply(callID uint64, payload []byte, attachments [][]byte) {
	h.mu.Lock()
	f, ok := h.inFlight[callID]
	if !ok {
		call := h.serverCallLocked(callID)
		if call != nil && call.visit != nil {
			defer h.mu.Unlock() // see answeredLocked
		} else {
			h.mu.Unlock()
		}
		if call == nil {
			h.node.drops.add(dropReplyUnknown, 1)
			return
		}
		if payload == nil && h.at != "" { // it has left, or could not say it
			call.settle(nil)
			return
		}
		call.settle(&ServerSideReply{
			Node: h.At(), Handler: h.reg.ID, Payload: bytes.Clone(payload), Attachments: attachments,
		})
		return
	}
	last := false // of a socket whose next events wait elsewhere for this
	if f.taken {
		h.pace.answers++
		h.replied(&f)
		delete(h.inFlight, callID)
		f.answeredLocked(payload, attachments)
		last = h.settledLocked(f.origin)
		h.refillLocked()
	}
	h.mu.Unlock()
	if !f.taken {
		h.node.drops.add(dropReplyUnknown, 1)
		return
	}
	if f.visit == nil && f.ackID != NoAck && payload != nil && !h.reg.Observer {
		f.origin.Ack(&Packet{Kind: KindAck, Namespace: f.origin.Namespace(), AckID: f.ackID, Payload: payload, Attachments: attachments})
	}
	if last {
		f.origin.Settled(h)
	}
}

// Handled frees the slots of all events up to callID that want no ack.
func (h *Handler) Handled(upTo uint64) {
	var settled []Origin
	h.mu.Lock()
	n := 0
	for n < len(h.withoutAck) && h.withoutAck[n] <= upTo {
		if f, ok := h.inFlight[h.withoutAck[n]]; ok {
			if !f.taken {
				break
			}
			delete(h.inFlight, h.withoutAck[n])
			h.pace.answers++
			h.replied(&f)
			f.answeredLocked(nil, nil)
			if h.settledLocked(f.origin) {
				settled = append(settled, f.origin)
			}
		}
		n++
	}
	h.withoutAck = slices.Delete(h.withoutAck, 0, n)
	h.refillLocked()
	h.mu.Unlock()
	for _, o := range settled {
		o.Settled(h)
	}
}

// answeredLocked tells the owner of an event elsewhere that it is answered. The handler's lock is held, or Next could
// say meanwhile that nothing is in flight, and the owner would hear that the handler has left, and count the event as
// lost.
func (f *flight) answeredLocked(payload []byte, attachments [][]byte) {
	if f.visit != nil {
		f.visit.way.Answered(f.there, payload, attachments)
	}
}

// settledLocked says whether an answer was the last that a handler which leaves owed to a socket.
func (h *Handler) settledLocked(o Origin) bool {
	if h.owing == nil {
		return false
	}
	if h.owing[o]--; h.owing[o] > 0 {
		return false
	}
	delete(h.owing, o)
	return true
}

// owes says whether a handler that leaves has not answered all that its backend has seen of a socket.
func (h *Handler) owes(o Origin) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.owing[o] > 0
}

// Offer tells the handler of a socket elsewhere, whose origin is n.From: that it has connected, an event of it, or that
// it is gone. False: the handler takes nothing any more, or nothing from other nodes, and the code that has the socket
// finds another one.
func (h *Handler) Offer(n Notice) bool {
	if h.reg.Local && n.From.NodeID() != h.node.id {
		return false
	}
	switch n.Kind {
	case NoticeConnected:
		n.fresh = []Origin{n.From}
		return h.arrive(&n)
	case NoticeEvent:
		return h.event(&n)
	case NoticeDisconnected:
		return h.part(&n)
	}
	return false
}

// endLocked ends the handler; what stands in out may still be read by Next, but nothing is added.
func (h *Handler) endLocked(err error) {
	if h.ended != nil {
		return
	}
	h.ended = err
	h.shutLocked()
	close(h.done)
	h.signal()
}

func (h *Handler) hasEnded() bool { return h.endedWith() != nil }

func (h *Handler) endedWith() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

func (h *Handler) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.endLocked(err)
}

func (h *Handler) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}
