package engineio

import (
	"sync"
	"time"
)

const (
	departedLimit = 4096 // of a few hundred bytes each
	departedTime  = 10 * time.Second
)

// departed are the sessions whose clients have closed them while no GET was pending. The GET that such a client had
// sent before may come over another connection and be served after the close: for a while it is answered like one that
// was pending, once. Its mu is taken under that of a Session.
type departed struct {
	mu sync.Mutex
	m  map[string]*Session // by sid; guarded by mu
}

// add remembers a session, at another's cost if there are too many.
func (d *departed) add(ss *Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m == nil {
		d.m = make(map[string]*Session)
	}
	for sid := range d.m {
		if len(d.m) < departedLimit {
			break
		}
		delete(d.m, sid)
	}
	d.m[ss.sid()] = ss
}

func (d *departed) find(sid string) *Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.m[sid]
}

func (d *departed) forget(ss *Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.m, ss.sid())
}

// owesNoopLocked says whether a GET is the one that the client had sent before it closed the session. It says so once.
func (s *Session) owesNoopLocked() bool {
	if !s.owesNoop {
		return false
	}
	s.owesNoop = false
	s.srv.departed.forget(s)
	return true
}
