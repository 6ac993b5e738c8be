package engineio

import (
	"errors"
	"os"
	"sync"
	"time"
)

const (
	joinBytes  = 16 << 10 // small frames are joined up to this; larger ones are written from the shared bytes
	pieceBytes = 64 << 10 // what one write deadline covers
	spareItems = 8        // queues up to this length are kept: 128 bytes
)

var joinPool = sync.Pool{New: func() any { b := make([]byte, 0, joinBytes); return &b }}

// Flush writes all that is queued, without blocking: it hands over to a writer goroutine when the kernel will not take it,
// or to the pending GET. No-op when somebody else holds the write token, as that one looks again before giving it back.
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
func (s *Session) pump(blocking bool) {
	for {
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
		b := batch{control: ws.control, deflate: ws.deflate, dialect: ws.dialect}
		b.items, b.bytes = s.takeQueueLocked()
		ws.control = nil
		s.mu.Unlock()

		if !blocking {
			rest, err := b.tryWrite(ws)
			if err == nil && rest != nil {
				s.handOver(b, rest)
				return
			}
			s.mu.Lock()
			s.written(&b, err)
		} else {
			err := b.write(ws, nil)
			s.mu.Lock()
			s.written(&b, err)
		}
	}
}

// handOver starts the writer goroutine for a batch of which rest is the next chunk's remainder.
func (s *Session) handOver(b batch, rest []byte) {
	s.mu.Lock()
	s.blocked = true
	ws := s.ws
	s.mu.Unlock()
	s.srv.wg.Add(1) // above zero: a session is not released while its token is out
	go func() {
		defer s.srv.wg.Done()
		err := b.write(ws, rest)
		s.mu.Lock()
		s.written(&b, err)
		s.pump(true)
	}()
}

// written settles the account of a batch. mu held.
func (s *Session) written(b *batch, err error) {
	s.pending -= b.bytes
	clear(b.items) // let the messages go
	if cap(b.items) <= spareItems {
		s.spare = b.items[:0]
	}
	if err == nil {
		return
	}
	s.ws.failed = true
	if errors.Is(err, os.ErrDeadlineExceeded) && s.state == stateOpen {
		s.failLocked(ReasonSlow)
	} else {
		s.failLocked(ReasonTransportError)
	}
}

func (s *Session) takeQueueLocked() (items []item, bytes int) {
	items = s.queue
	s.queue, s.spare = s.spare, nil
	return items, s.pending // all of it is the queue's: one batch is settled before the next is taken
}

func (s *Session) dropQueueLocked() {
	for _, it := range s.queue {
		s.pending -= it.msg.size + itemOverhead
	}
	s.queue = nil
}

// returnTokenLocked frees the token and tells who waits for that.
func (s *Session) returnTokenLocked() {
	s.token, s.blocked = false, false
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

// batch is what one taking of the queue has to write. Owned by whoever holds the token.
type batch struct {
	control []byte
	items   []item
	bytes   int
	deflate bool
	dialect dialect
	next    int     // of items
	join    *[]byte // pooled; holds the chunk that was returned last
}

// chunk returns the next bytes for one write, nil at the end: a frame's shared bytes when it stands alone or is large,
// otherwise as many frames as fit, joined.
func (b *batch) chunk() []byte {
	if b.join != nil {
		*b.join = (*b.join)[:0]
	}
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

// write writes rest and all that follows, waiting for the kernel; each piece has its own deadline, so that a slow but
// reading peer is served.
func (b *batch) write(ws *wsConn, rest []byte) error {
	for c := rest; ; {
		for len(c) > 0 {
			piece := c[:min(len(c), pieceBytes)]
			if err := ws.writeDeadline(writeTimeout); err != nil {
				return err
			}
			if _, err := ws.conn.Write(piece); err != nil {
				return err
			}
			c = c[len(piece):]
		}
		if c = b.chunk(); c == nil {
			// A deadline left behind would fail the next non-blocking write.
			return ws.conn.SetWriteDeadline(time.Time{})
		}
	}
}
