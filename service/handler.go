package service

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"slices"
	"sync"
	"time"
)

// NoticeKind is what a Notice is about.
type NoticeKind uint8

// The kinds of notices.
const (
	NoticeConnect      NoticeKind = iota + 1 // CallID, Sockets[0] with Auth
	NoticeConnected                          // Sockets[0]
	NoticeAssigned                           // Sockets, Failover
	NoticeEvent                              // CallID, From, Packet, Time; wants an ack when Packet.AckID is not NoAck
	NoticeDisconnected                       // From, Sockets[0], Reason, Detail
	NoticeDraining                           // Replaced or not; Until
	NoticePosted                             // Posted
	NoticeServerSide                         // Namespace, Packet, FromNode; CallID when WantsReply
)

// Notice is what a handler is told. Shared with others: not to be changed.
type Notice struct {
	Kind       NoticeKind
	Failover   bool
	Replaced   bool
	WantsReply bool
	Reason     Reason
	CallID     uint64
	From       *Socket
	Generation uint64 // of From
	Packet     *Packet
	Time       time.Time
	Sockets    []*SocketInfo
	Detail     string
	Until      time.Time
	Posted     any
	Namespace  string
	FromNode   NodeID

	fresh []*Socket // of Sockets, those that the group is told of for the first time
}

func (n *Notice) size() int {
	if n.Packet == nil {
		return 0
	}
	return n.Packet.Size()
}

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
}

// defaultInFlight is how many events a handler may leave without a reply when it does not say.
const defaultInFlight = 256

// handlerDrainTime is how long a handler that was replaced may take for what is in flight.
const handlerDrainTime = 30 * time.Second

// Handler is an attached backend. Its methods are safe for concurrent use, Next for one goroutine at a time.
//
// What it is told stands in out, in order. Events enter out when a slot is free; the others wait in pending, and with them
// whatever must not overtake them.
type Handler struct {
	// Set before start.
	node  *Node
	group *group
	reg   Registration
	wake  chan struct{} // 1: out has something, or the handler has ended
	done  chan struct{} // closed when the handler was ended by the node

	// Guarded by handlers.mu.
	sockets  int                 // that are assigned to it
	leaving  bool                // gets no new work
	detached bool                // not in its group any more
	connects map[uint64]*pending // that it was asked to decide
	deadline *time.Timer         // ends a handler that was replaced

	mu           sync.Mutex
	open         bool // takes events
	ended        error
	out          fifo[Notice]
	pending      fifo[Notice]
	queuedBytes  int // of the events in out and pending
	inFlight     map[uint64]flight
	withoutAck   []uint64 // call ids in flight that want no ack, ascending; some may have been replied to
	lastCall     uint64
	finishing    bool // ends with io.EOF when nothing is in flight
	openConnects int  // asked and not decided
	serverCalls  map[uint64]*serverCall
}

// flight is an event that a handler has not replied to.
type flight struct {
	socket *Socket
	ackID  int64
	size   int
	taken  bool // by Next: the backend may have seen it
}

// ID is its handler_id.
func (h *Handler) ID() string { return h.reg.ID }

// MaxInFlight is how many events it may leave without a reply.
func (h *Handler) MaxInFlight() int { return h.reg.MaxInFlight }

// Done is closed when the node ends the handler, whether or not Next is being called: Next then tells why.
func (h *Handler) Done() <-chan struct{} { return h.done }

// takes says whether the handler named an event or takes all.
func (h *Handler) takes(event string) bool {
	return len(h.reg.Events) == 0 || slices.Contains(h.reg.Events, event)
}

// Next appends to buf[:0] what the handler is to be told, in order: at least one notice, and at most cap(buf), or 256 when
// that is 0. It blocks until there is something, ctx ends, or the handler does: io.EOF after a drain, ErrReplaced,
// ErrTooSlow, ErrDraining.
func (h *Handler) Next(ctx context.Context, buf []Notice) ([]Notice, error) {
	buf = buf[:0]
	most := cap(buf)
	if most == 0 {
		most = defaultInFlight
	}
	for {
		h.mu.Lock()
		for h.out.len() > 0 && len(buf) < most {
			n := h.out.pop()
			if n.Kind == NoticeEvent {
				f, ok := h.inFlight[n.CallID]
				if !ok {
					continue // replied to by a handler that guesses call ids
				}
				f.taken = true
				h.inFlight[n.CallID] = f
				h.queuedBytes -= f.size
			}
			buf = append(buf, n)
			if n.Kind == NoticePosted {
				break // it may say that this is the end: what comes behind it stays, to go over to another
			}
		}
		err := h.ended
		if err == nil && h.finishing && h.quietLocked() {
			err = io.EOF
		}
		h.mu.Unlock()
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

// quietLocked says whether nothing is to be told or answered.
func (h *Handler) quietLocked() bool {
	return len(h.inFlight)+len(h.serverCalls)+h.openConnects+h.pending.len()+h.out.len() == 0
}

// Post puts something of the caller's own behind all that the handler is to be told so far. It says false when the handler
// has ended or does not read.
func (h *Handler) Post(v any) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tellLocked(Notice{Kind: NoticePosted, Posted: v})
	return h.ended == nil
}

// Reply frees the slot of an event and, when the client wants it, acknowledges it with a JSON array; or it is the reply to
// a server-side event. Unknown call ids are ignored and counted. payload is read before Reply returns, and not kept.
func (h *Handler) Reply(callID uint64, payload []byte, attachments [][]byte) {
	h.mu.Lock()
	f, ok := h.inFlight[callID]
	if !ok {
		call := h.serverCallLocked(callID)
		h.mu.Unlock()
		if call == nil {
			h.node.drops.add(dropReplyUnknown, 1)
			return
		}
		call.settle(&ServerSideReply{
			Node: h.node.id, Handler: h.reg.ID, Payload: bytes.Clone(payload), Attachments: attachments,
		})
		return
	}
	if f.taken {
		delete(h.inFlight, callID)
		h.refillLocked()
	}
	h.mu.Unlock()
	if !f.taken {
		h.node.drops.add(dropReplyUnknown, 1)
		return
	}
	if f.ackID != NoAck && payload != nil && !h.reg.Observer {
		f.socket.ack(&Packet{Kind: KindAck, Namespace: f.socket.ns.name, AckID: f.ackID, Payload: payload, Attachments: attachments})
	}
}

// Handled frees the slots of all events up to callID that want no ack.
func (h *Handler) Handled(upTo uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(h.withoutAck) && h.withoutAck[n] <= upTo {
		if f, ok := h.inFlight[h.withoutAck[n]]; ok {
			if !f.taken {
				break
			}
			delete(h.inFlight, h.withoutAck[n])
		}
		n++
	}
	h.withoutAck = slices.Delete(h.withoutAck, 0, n)
	h.refillLocked()
}

// ack sends an acknowledgement to the socket's client, which is owed it whatever else waits for it, if the socket is still
// there: the client may be back as another one, whose ids begin anew.
func (s *Socket) ack(p *Packet) {
	f, err := s.conn.Codec().Encode(p)
	if err != nil {
		return
	}
	out := Closed
	s.mu.Lock()
	if s.gone == nil {
		out = s.conn.Send(f, Owed)
	}
	s.mu.Unlock()
	switch out {
	case QueuedFlush:
		s.conn.Flush()
	case Closed:
		s.ns.node.drops.add(dropClosing, 1)
	}
}

// tellLocked appends a notice that is no event to out.
func (h *Handler) tellLocked(n Notice) {
	if h.ended != nil {
		return
	}
	h.out.push(n) // also what is too much: it goes over to another with the rest
	if h.out.len() > h.node.cfg.MaxHandlerQueue {
		h.node.drops.add(dropHandlerTooSlow, 1)
		h.endLocked(ErrTooSlow)
	}
	h.signal()
}

// tell is tellLocked for who does not hold the mutex. False: the handler had ended, and will not hear of it.
func (h *Handler) tell(n Notice) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended != nil {
		return false
	}
	h.tellLocked(n)
	return true
}

// ask tells the handler of something that it has to answer, and returns its call id.
func (h *Handler) ask(n Notice) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastCall++
	n.CallID = h.lastCall
	h.openConnects++
	h.tellLocked(n)
	return n.CallID
}

// tellAfterEvents appends a notice behind all events of its socket. False: the handler has ended, and will not hear of it.
func (h *Handler) tellAfterEvents(n Notice) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended != nil {
		return false
	}
	if h.pending.len() > 0 {
		h.pending.push(n)
		return true
	}
	h.tellLocked(n)
	return true
}

// verdict says what became of an event at a handler's queue.
type verdict uint8

const (
	taken  verdict = iota
	closed         // the handler does not take events any more
	full           // the socket's or the handler's queue is full
)

// event queues an event.
func (h *Handler) event(n Notice) verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open {
		return closed
	}
	return h.queueLocked(n, false)
}

// inherit queues an event of another handler, or one that waited, also while h takes none from sockets yet. A socket's
// share does not count: its events were within bounds where they came from.
func (h *Handler) inherit(n Notice) verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.queueLocked(n, true)
}

func (h *Handler) queueLocked(n Notice, inherited bool) verdict {
	cfg, size := &h.node.cfg, n.size()
	if h.queuedBytes+size > cfg.MaxHandlerQueueBytes {
		return full
	}
	if h.pending.len() == 0 && len(h.inFlight) < h.reg.MaxInFlight {
		h.queuedBytes += size
		h.flyLocked(n)
		return taken
	}
	if h.pending.len() >= cfg.MaxHandlerQueue {
		return full
	}
	switch {
	case h.reg.Observer:
	case inherited:
		n.From.queuedEvents.Add(1)
		n.From.queuedBytes.Add(int64(size))
	case !n.From.reserve(size):
		return full
	}
	h.queuedBytes += size
	h.pending.push(n)
	return taken
}

// flyLocked gives an event a slot and appends it to out.
func (h *Handler) flyLocked(n Notice) {
	h.lastCall++
	n.CallID = h.lastCall
	if h.inFlight == nil {
		h.inFlight = map[uint64]flight{}
	}
	h.inFlight[n.CallID] = flight{socket: n.From, ackID: n.Packet.AckID, size: n.size()}
	if n.Packet.AckID == NoAck {
		if len(h.withoutAck) > 2*len(h.inFlight)+64 { // most were replied to one by one
			h.withoutAck = slices.DeleteFunc(h.withoutAck, func(id uint64) bool { _, ok := h.inFlight[id]; return !ok })
		}
		h.withoutAck = append(h.withoutAck, n.CallID)
	}
	h.out.push(n)
	h.signal()
}

// refillLocked moves what waited into the slots that are free.
func (h *Handler) refillLocked() {
	for h.pending.len() > 0 {
		if h.pending.first().Kind != NoticeEvent {
			h.tellLocked(h.pending.pop())
			continue
		}
		if len(h.inFlight) >= h.reg.MaxInFlight {
			break
		}
		n := h.pending.pop()
		if !h.reg.Observer {
			n.From.unreserve(n.size())
		}
		h.flyLocked(n)
	}
	h.signalFinishedLocked()
}

// signalFinishedLocked wakes Next where it may have to say that a drain is over.
func (h *Handler) signalFinishedLocked() {
	if h.finishing {
		h.signal()
	}
}

// endLocked ends the handler; what stands in out may still be read by Next, but nothing is added.
func (h *Handler) endLocked(err error) {
	if h.ended != nil {
		return
	}
	h.ended = err
	h.open = false
	close(h.done)
	h.signal()
}

func (h *Handler) hasEnded() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended != nil
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

// reserve takes a place in the socket's own share of waiting events; false: it has used up its share.
func (s *Socket) reserve(size int) bool {
	cfg := &s.ns.node.cfg
	events, bytes := s.queuedEvents.Add(1), s.queuedBytes.Add(int64(size))
	if events > int64(cfg.MaxQueuedEvents) || bytes > int64(cfg.MaxQueuedEventBytes) {
		s.unreserve(size)
		return false
	}
	return true
}

func (s *Socket) unreserve(size int) {
	s.queuedEvents.Add(-1)
	s.queuedBytes.Add(-int64(size))
}
