package socketio

import (
	"time"

	"foyer/service"
)

// joining is a packet that waits for its attachments (Socket.IO protocol v5, "Binary attachments").
type joining struct {
	in      incoming
	bytes   int  // of payload and attachments so far
	taken   int  // of them, from the node's budget
	discard bool // the packet will be ignored, but its attachments have to be counted
}

// begin waits for the attachments of in.
func (l *Link) begin(in *incoming, discard bool) fault {
	j := &joining{in: *in, bytes: len(in.payload), discard: discard}
	if discard {
		j.in.payload, j.in.namespace, j.in.name = nil, nil, nil // they hold the whole message
	}
	l.waiting = j
	f := l.charge(j)
	l.awaitNext(true)
	return f
}

// attachment takes a binary message of the JSON parser, and keeps data.
func (l *Link) attachment(data []byte) fault {
	j := l.waiting
	if j == nil {
		return faultBinary
	}
	if j.bytes += len(data); j.bytes > l.server.cfg.MaxPacketBytes {
		return faultTooLarge
	}
	if !j.discard {
		if j.in.attachments == nil {
			j.in.attachments = make([][]byte, 0, j.in.await)
		}
		j.in.attachments = append(j.in.attachments, keep(data, cap(data)))
		if f := l.charge(j); f != 0 {
			return f
		}
	}
	if j.in.await--; j.in.await > 0 {
		l.awaitNext(true)
		return 0
	}
	l.dropWaiting()
	if j.discard {
		l.server.counters.add(faultForgotten)
		return 0
	}
	return l.dispatch(&j.in)
}

// charge takes what j has come to hold from the node's budget.
func (l *Link) charge(j *joining) fault {
	more := j.bytes - freeJoiningBytes - j.taken
	if j.discard || more <= 0 || l.server.cfg.Budget == nil {
		return 0
	}
	if !l.server.cfg.Budget.Take(service.UseInbound, more) {
		return faultMemory
	}
	j.taken += more
	return 0
}

// dropWaiting ends the wait for attachments, if there is one.
func (l *Link) dropWaiting() {
	j := l.waiting
	if j == nil {
		return
	}
	l.waiting = nil
	if j.taken > 0 {
		l.server.cfg.Budget.Give(service.UseInbound, j.taken)
	}
	l.awaitNext(false)
}

// awaitNext begins the time that the client has for the next attachment, or says that none is awaited. The timer is not
// stopped: it finds out when it fires, so that in a stream of binary events it is set once in its time and not for
// each.
func (l *Link) awaitNext(more bool) {
	if l.server.cfg.AttachmentTimeout < 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awaits = more
	if !more {
		return
	}
	l.progress = l.server.clock()
	l.armLocked()
}

// armLocked sets the timer for what is awaited, if it is not set. Until something is joined that of the ConnectTimeout
// is.
func (l *Link) armLocked() {
	if l.awaits && l.timer == nil && !l.ended.Load() {
		l.timer = time.AfterFunc(l.server.cfg.AttachmentTimeout/looks, l.lookAtProgress)
	}
}

// looks is how often the timer looks in the time for an attachment. A link that is paused then has all of it from there
// on, since what is awaited may lie unread.
const looks = 4

// lookAtProgress closes a link whose client has begun a packet and has not gone on with it.
func (l *Link) lookAtProgress() {
	timeout := l.server.cfg.AttachmentTimeout
	l.mu.Lock()
	if l.session.Paused() {
		l.progress = l.server.clock()
	}
	rest := timeout - time.Duration(l.server.clock()-l.progress)*time.Millisecond
	late := false
	switch {
	case l.ended.Load(), !l.awaits:
		l.timer = nil
	case rest > 0:
		l.timer.Reset(min(rest, timeout/looks))
	default:
		late = true
	}
	l.mu.Unlock()
	if late {
		detail, setting := l.wrong(faultAttachmentTimeout, 0)
		l.fail(faultAttachmentTimeout, detail, setting)
	}
}
