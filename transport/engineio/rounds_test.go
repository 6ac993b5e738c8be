package engineio

import (
	"fmt"
	"sync"
	"testing"
)

// busyTry takes everything, and while it writes for the test's own goroutine another message is queued.
type busyTry struct {
	tryWriter
	mu     sync.Mutex
	rounds int
	more   func(round int)
}

func (b *busyTry) tryWrite(p []byte) (int, error) {
	b.mu.Lock()
	b.rounds++
	round := b.rounds
	b.mu.Unlock()
	b.more(round)
	return b.tryWriter.tryWrite(p)
}

// Who flushes writes for others once; what they go on to queue is written by a goroutine of the session's, in order.
func TestFlushWritesTwoRounds(t *testing.T) {
	h := serveTCP(t, Config{})
	p, r := h.openWebSocket()
	s := r.session
	s.waitToken()
	back, went := make(chan struct{}), make(chan struct{})
	const n = 50
	queue := func(i int) { s.Send(NewMessage([]byte(fmt.Sprint(i)), nil), 0) }
	s.mu.Lock()
	s.ws.try = &busyTry{tryWriter: s.ws.try, more: func(round int) {
		if round > ownRounds {
			<-back // whoever writes now, it is not who flushes
		}
		if round < n {
			queue(round)
		}
		if round == n {
			close(went)
		}
	}}
	s.mu.Unlock()
	queue(0)
	s.Flush() // would not return
	close(back)
	for i := range n {
		p.want(fmt.Sprint("4", i))
	}
	<-went
	s.waitToken()
	s.mu.Lock()
	if s.pending != 0 || s.blocked {
		t.Errorf("%d bytes pending, blocked %v", s.pending, s.blocked)
	}
	s.mu.Unlock()
}
