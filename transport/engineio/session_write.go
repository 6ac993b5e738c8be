package engineio

import "sync"

const (
	joinBytes      = 16 << 10 // small frames are joined up to this; larger ones are written from the shared bytes
	pieceBytes     = 16 << 10 // of a write under TLS, which may block: each is progress, and a record
	pollPieceBytes = 16 << 10 // of a poll's response: each is progress
	spareItems     = 8        // queues up to this length are kept: 128 bytes
)

var joinPool = sync.Pool{New: func() any { b := make([]byte, 0, joinBytes); return &b }}

// Flush writes all that is queued, without blocking: it hands over to a writer goroutine when the kernel will not take
// it, or to the pending GET. No-op when somebody else holds the write token, as that one looks again before giving it
// back.
func (s *Session) Flush() {
	s.mu.Lock()
	if s.token || len(s.queue) == 0 || s.state == stateClosed {
		s.mu.Unlock()
		return
	}
	s.token = true
	s.pump(false)
}

// pump is the writer. It is called with mu held and the token taken by the caller, and returns with mu released and the
// token given back or passed on. Blocking: the caller is the session's writer goroutine and may wait for the kernel.
// Anybody else writes ownRounds times at most, and leaves to such a goroutine what others have queued since.
func (s *Session) pump(blocking bool) {
	for round := 1; ; round++ {
		if !s.websocket {
			if p := s.poll; p != nil && len(s.queue) > 0 {
				s.poll = nil
				s.mu.Unlock()
				p.ready <- pollWrite // the token goes along
				return
			}
			s.returnTokenLocked()
			s.mu.Unlock()
			return
		}
		ws := s.ws
		if s.state == stateClosed || ws.closeSent {
			s.dropQueueLocked() // nothing may follow a close frame
		}
		if ws.failed || len(ws.control) == 0 && len(s.queue) == 0 {
			s.returnTokenLocked()
			s.mu.Unlock()
			return
		}
		if !blocking && round > ownRounds {
			s.mu.Unlock()
			s.handOver(ws, batch{}, nil)
			return
		}
		b := batch{control: ws.control, deflate: ws.deflate, dialect: ws.dialect}
		b.items = s.takeQueueLocked()
		ws.control = nil
		s.mu.Unlock()

		rest, err := b.tryWrite(ws)
		if err == nil && rest != nil {
			s.refused(ws, &b)
			if !blocking {
				s.handOver(ws, b, rest)
				return
			}
			err = b.write(s, ws, rest)
		}
		s.mu.Lock()
		s.written(&b, err)
	}
}

// ownRounds is how often the holder of a write token writes who is not the session's writer goroutine: for itself, and
// once for others who came meanwhile. An emitter, or one of the few workers, must not be kept by a caller that goes on
// emitting.
const ownRounds = 2

// refused notes that the kernel does not take all of a batch now.
func (s *Session) refused(ws *wsConn, b *batch) {
	unsent := ws.unsent()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked = true
	ws.unsentWas = unsent
	s.countOutLocked(b.items[b.settled:b.first])
	s.creditLocked(b.settle(b.first))
	s.tookLocked() // or not: its time runs from here
}

// handOver starts the writer goroutine, with a batch of which rest is the next chunk's remainder, or with none.
func (s *Session) handOver(ws *wsConn, b batch, rest []byte) {
	s.srv.wg.Add(1) // above zero: a session is not released while its token is out
	go func() {
		defer s.srv.wg.Done()
		if rest == nil {
			s.mu.Lock()
		} else {
			err := b.write(s, ws, rest)
			s.mu.Lock()
			s.written(&b, err)
		}
		s.pump(true)
	}()
}

// written settles the account of a batch. mu held.
func (s *Session) written(b *batch, err error) {
	if err != nil {
		s.thrownAway(b.items[b.settled:])
	} else {
		s.countOutLocked(b.items[b.settled:])
	}
	s.creditLocked(b.settle(len(b.items)))
	if cap(b.items) <= spareItems {
		s.spare = b.items[:0]
	}
	if err != nil {
		s.ws.failed = true
		s.failLocked(endLost)
	} else if s.press != nil {
		s.tookLocked()
	}
}

func (s *Session) takeQueueLocked() []item {
	items := s.queue
	s.queue, s.spare = s.spare, nil
	return items
}

func (s *Session) dropQueueLocked() {
	bytes := 0
	for _, it := range s.queue {
		bytes += it.msg.size + itemOverhead
	}
	s.thrownAway(s.queue)
	s.queue = nil
	s.creditLocked(bytes)
}

// thrownAway counts messages that their client will not get.
func (s *Session) thrownAway(items []item) {
	n := 0
	for _, it := range items {
		switch {
		case it.msg.control:
		case it.msg.parts != nil:
			n += len(it.msg.parts)
		default:
			n++
		}
	}
	if n > 0 {
		s.srv.counts[countUnsent].Add(uint64(n))
	}
}

// returnTokenLocked frees the token and tells who waits for that.
func (s *Session) returnTokenLocked() {
	if s.blocked {
		s.blocked, s.ws.unsentWas = false, 0
	}
	s.token = false
	s.armNoopLocked()
	if s.tokenFree != nil {
		close(s.tokenFree)
		s.tokenFree = nil
	}
	if s.state == stateClosing {
		s.kickLocked() // the flush may be complete; the timer, not this writer, closes
	}
}

// waitToken returns once no writer is at work. Deadlines on the connection bound it.
func (s *Session) waitToken() {
	s.mu.Lock()
	for s.token {
		if s.tokenFree == nil {
			s.tokenFree = make(chan struct{})
		}
		free := s.tokenFree
		s.mu.Unlock()
		<-free
		s.mu.Lock()
	}
	s.mu.Unlock()
}

// control queues a control frame, built by us or by gorilla, ahead of the messages and writes it if it can.
func (s *Session) control(ws *wsConn, frame []byte) {
	isClose := len(frame) > 0 && frame[0]&0xf == opClose
	s.mu.Lock()
	if ws.closeSent || ws.failed {
		s.mu.Unlock()
		return
	}
	if !isClose && len(ws.control) > maxControlBytes {
		// Pings keep coming from a peer that does not read: RFC 6455 section 5.5.3 lets pongs be left out.
		s.mu.Unlock()
		s.srv.counts.add(countPong)
		return
	}
	ws.control = append(ws.control, frame...)
	ws.closeSent = isClose
	if s.token {
		s.mu.Unlock()
		return
	}
	s.token = true
	s.pump(false)
}

// maxControlBytes bounds the pongs that wait for a busy writer.
const maxControlBytes = 1 << 10

// batch is what one taking of the queue has to write. Owned by the holder of the token.
type batch struct {
	control []byte
	items   []item
	deflate bool
	dialect dialect
	settled int     // items before this are off the account
	first   int     // of the chunk in hand
	next    int     // the chunk after it
	join    *[]byte // pooled; holds the chunk that was returned last
}

// chunk returns the next bytes for one write, nil at the end: a frame's shared bytes when it stands alone or is large,
// otherwise as many frames as fit, joined.
func (b *batch) chunk() []byte {
	if b.join != nil {
		*b.join = (*b.join)[:0]
	}
	b.first = b.next
	if len(b.control) > 0 {
		c := b.control
		b.control = nil
		return c
	}
	if b.next >= len(b.items) {
		if b.join != nil {
			joinPool.Put(b.join)
			b.join = nil
		}
		return nil
	}
	first := b.frames(b.next)
	b.next++
	if b.next == len(b.items) || len(first)+len(b.frames(b.next)) > joinBytes {
		return first
	}
	if b.join == nil {
		b.join = joinPool.Get().(*[]byte)
		*b.join = (*b.join)[:0]
	}
	buf := append(*b.join, first...)
	for b.next < len(b.items) {
		f := b.frames(b.next)
		if len(buf)+len(f) > joinBytes {
			break
		}
		buf = append(buf, f...)
		b.next++
	}
	*b.join = buf
	return buf
}

// settle lets the items before upTo go and returns what they count for.
func (b *batch) settle(upTo int) int {
	done := b.items[b.settled:upTo]
	bytes := 0
	for i := range done {
		bytes += done[i].msg.size + itemOverhead
	}
	clear(done)
	b.settled = upTo
	return bytes
}

func (b *batch) frames(i int) []byte {
	it := b.items[i]
	return it.msg.frames(b.dialect, b.deflate && it.flags&NoCompress == 0)
}

// tryWrite writes without blocking. Rest is what was refused of the last chunk, nil when all is written.
func (b *batch) tryWrite(ws *wsConn) (rest []byte, err error) {
	for c := b.chunk(); c != nil; c = b.chunk() {
		if ws.try == nil {
			return c, nil
		}
		n, err := ws.try.tryWrite(c)
		if err != nil {
			return nil, err
		}
		if n < len(c) {
			return c[n:], nil
		}
	}
	return nil, nil
}

// write writes rest and all that follows, waiting for the kernel. It has no deadline of its own: whether the peer is
// slow is the timer's to say, which closes the connection, and so does the end of a session.
func (b *batch) write(s *Session, ws *wsConn, rest []byte) error {
	c := rest
	if c == nil {
		c = b.chunk()
	}
	for ; c != nil; c = b.chunk() {
		for len(c) > 0 {
			n, err := ws.writeSome(c)
			if err != nil {
				return err
			}
			c = c[n:]
			s.pieceTaken(b, ws, len(c) == 0)
		}
	}
	return nil
}

// pieceTaken notes what a write that may block got rid of.
func (s *Session) pieceTaken(b *batch, ws *wsConn, whole bool) {
	unsent := ws.unsent()
	s.mu.Lock()
	defer s.mu.Unlock()
	ws.unsentWas = unsent
	s.tookLocked()
	if whole {
		s.countOutLocked(b.items[b.settled:b.next])
		s.creditLocked(b.settle(b.next))
	}
}
