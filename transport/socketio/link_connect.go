package socketio

import (
	"fmt"

	"foyer/service"
	"foyer/service/payload"
)

// attempt is a connect that the service has not decided. The service knows it by its bind and refuse.
type attempt struct {
	link  *Link
	name  string
	bytes int  // what it holds
	again bool // the client was in the namespace, or about to be: what it sends may be meant for that time
	after bool // it was in the namespace

	// Guarded by link.mu.
	over   bool
	cancel func()          // nil until Node.Connect has returned
	held   *service.Packet // see hold.go
	socket *service.Socket // whose held is; set once held is to be delivered
}

// connect asks the service to let the link into a namespace (Socket.IO protocol v5, "Connecting to a namespace"). The
// answer is the service's, now or later.
//
// A client that asks again, because its page has set itself up twice, means its newest CONNECT: the attempt before it
// is withdrawn, and a socket that it has there has left. The reference makes two sockets of it, or closes the link with
// all its namespaces, depending on which is faster.
func (l *Link) connect(in *incoming) fault {
	name := "/"
	if in.namespace != nil {
		name = string(in.namespace)
	}
	if !connectable(name) {
		l.reject(faultNamespaceName, name, service.Refusal{
			Message: service.InvalidNamespace.Message, NoNamespace: true, Reason: faultNamespaceName.reason(), Detail: fmt.Sprintf("the name of the namespace is malformed, or longer than %d bytes", maxNamespaceBytes),
		})
		return 0
	}
	l.mu.Lock()
	if l.ended.Load() {
		l.mu.Unlock()
		return 0
	}
	p := l.placeLocked(in.namespace)
	again := p != nil
	var before places
	after := false
	if again {
		before.first = l.emptyLocked(p)
		after = before.first.socket != nil || before.first.attempt != nil && before.first.attempt.after
	}
	live := 0
	l.eachLocked(func(p *place) bool {
		if p.live() {
			live++
		}
		return true
	})
	var f fault
	switch {
	case live >= l.server.cfg.MaxNamespaces:
		f = faultTooManyNamespaces
	case !l.joined && len(in.payload) > l.server.cfg.MaxConnectPayload:
		f = faultAuthTooLarge
	default:
		if p == nil {
			p = l.addLocked(name)
		}
	}
	var a *attempt
	if f == 0 {
		a = &attempt{link: l, name: name, bytes: attemptBytes + len(name) + len(in.payload), again: again, after: after}
		p.attempt = a
		l.pendLocked(a.bytes)
	}
	l.mu.Unlock()

	if again && before.first.live() {
		l.server.counters.add(faultConnectAgain)
		l.vacate(&before, service.ReasonClientDisconnect, "")
	}
	switch f {
	case 0:
	case faultTooManyNamespaces:
		l.reject(f, name, service.Refusal{
			Message: "Too many namespaces", Reason: f.reason(), Detail: fmt.Sprintf("the client is in %d namespaces, and may not be in more", l.server.cfg.MaxNamespaces),
		})
		return 0
	default:
		return f
	}
	cancel := l.server.hall.Connect(service.Connect{Conn: l, Namespace: name, Auth: in.payload, Bind: a.bind, Refuse: a.refuse})

	l.mu.Lock()
	over := a.over
	if !over {
		a.cancel = cancel
	}
	l.mu.Unlock()
	if over {
		cancel() // the link may have ended meanwhile; if it was decided instead, this does nothing
	}
	return 0
}

// emptyLocked takes what is in a place out of it, and leaves its name.
func (l *Link) emptyLocked(p *place) place {
	out := *p
	if a := p.attempt; a != nil {
		a.over = true
		l.pendLocked(-a.bytes)
		l.settleHeldLocked(a, nil)
	}
	p.socket, p.attempt = nil, nil
	return out
}

// pendLocked counts what undecided connects hold. While that is much the link is not read: a client with many
// namespaces waits for its turn and is not refused.
func (l *Link) pendLocked(bytes int) {
	l.pending += bytes
	most := maxPendingBytes
	if !l.joined {
		most = maxPendingBytesBefore
	}
	if much := l.pending > most; much != l.held {
		l.held = much
		if much {
			l.session.Pause()
		} else {
			l.session.Resume()
		}
	}
}

// connectable says whether a namespace of this name can exist. The JSON parser lets none through that begins without a
// slash or has a comma; msgpack can carry anything.
func connectable(name string) bool {
	if len(name) > maxNamespaceBytes || name == "" || name[0] != '/' {
		return false
	}
	for i := range len(name) {
		if name[i] == ',' {
			return false
		}
	}
	return true
}

// bind is service.Connect.Bind: called with the service's locks held.
func (a *attempt) bind(s *service.Socket) bool {
	l := a.link
	l.mu.Lock()
	if a.over || l.ended.Load() {
		l.mu.Unlock()
		return false
	}
	first := !l.joined
	l.joined = true
	l.settleLocked(a, s).socket = s
	if first {
		l.stopTimerLocked()
		l.armLocked()
	}
	l.mu.Unlock()
	if first {
		l.session.Admit()
	}
	return true
}

// refuse is service.Connect.Refuse: called without locks.
func (a *attempt) refuse(r service.Refusal) {
	l := a.link
	l.mu.Lock()
	if a.over {
		l.mu.Unlock()
		return
	}
	if p := l.settleLocked(a, nil); !a.again { // what the client sent before it knew does no harm
		l.removeLocked(p)
	}
	ended := l.ended.Load()
	shared := l.eachLocked(func(p *place) bool { return p.socket == nil }) != nil
	l.mu.Unlock()
	switch {
	case ended:
	case r.CloseLink && (!r.UnlessShared || !shared):
		l.server.counters.add(faultTurnedAway)
		l.tellRefused(a.name, r)
		l.end(r.Detail)
	default:
		l.reject(faultRefused, a.name, r)
	}
}

// settleLocked ends an attempt that has been decided, with a socket or without one, and returns its place.
func (l *Link) settleLocked(a *attempt, s *service.Socket) *place {
	a.over = true
	a.cancel = nil
	l.pendLocked(-a.bytes)
	p := l.eachLocked(func(p *place) bool { return p.attempt != a })
	p.attempt = nil
	l.settleHeldLocked(a, s)
	return p
}

// reject sends a CONNECT_ERROR.
func (l *Link) reject(f fault, name string, r service.Refusal) {
	l.server.counters.add(f)
	l.tellRefused(name, r)
	text := errorObject(r)
	if l.v2 {
		text = errorV2(r)
	}
	l.sendNow(&service.Packet{Kind: service.KindConnectError, Namespace: name, AckID: service.NoAck, Payload: text})
}

func errorObject(r service.Refusal) []byte {
	text := payload.AppendQuoted([]byte(`{"message":`), r.Message)
	if len(r.Data) > 0 {
		text = append(append(text, `,"data":`...), r.Data...)
	}
	return append(text, '}')
}

// leave takes the client out of a namespace on its own wish; the link stays (Socket.IO protocol v5, "Disconnecting").
func (l *Link) leave(in *incoming) fault {
	l.mu.Lock()
	p := l.placeLocked(in.namespace)
	switch {
	case p == nil && l.ended.Load():
		l.mu.Unlock()
		return 0
	case p == nil:
		l.mu.Unlock()
		return faultNotConnected
	case !p.live(): // both sides ended it at once
		l.mu.Unlock()
		l.server.counters.add(faultForgotten)
		return 0
	}
	out := places{first: l.emptyLocked(p)}
	l.removeLocked(p)
	l.mu.Unlock()
	l.vacate(&out, service.ReasonClientDisconnect, "")
	return 0
}
