package sharded

import "time"

// place is a channel that is wanted, or was. Guarded by Medium.mu, but for what is set before it is known.
type place struct {
	channel   string
	namespace string
	kind      kind

	wanted int  // by how many
	queued bool // it is in Medium.changes
	at     *ear // where it was asked for; nil: nowhere
	stands bool // the server has said so
	asked  time.Time
	waits  []*wait
}

type kind uint8

const (
	requests kind = iota // and broadcasts
	answers
	marker
)

// wait is for some channels to stand. Guarded by Medium.mu.
type wait struct {
	left int
	over chan struct{}
}

func (w *wait) less() {
	if w.left--; w.left == 0 {
		close(w.over)
	}
}

// release lets go all that wait for a channel: it stands, or cannot be had now.
func (p *place) release() {
	for _, w := range p.waits {
		w.less()
	}
	p.waits = nil
}

// wantLocked notes that a channel is wanted by one more, or one less.
func (m *Medium) wantLocked(channel, namespace string, kind kind, on bool) *place {
	p := m.places[channel]
	if p == nil {
		p = &place{channel: channel, namespace: namespace, kind: kind}
		m.places[channel] = p
	}
	before := p.wanted
	if on {
		p.wanted++
	} else {
		p.wanted--
	}
	if before == 0 || p.wanted == 0 {
		m.changeLocked(p)
	}
	return p
}

// changeLocked has tune look at a channel.
func (m *Medium) changeLocked(p *place) {
	if !p.queued {
		p.queued = true
		m.changes = append(m.changes, p)
	}
	poke(m.changed)
}

// downLocked notes that a channel is not heard any more. The audit has it be asked for again.
func (m *Medium) downLocked(p *place) {
	p.at, p.stands = nil, false
	m.settles = time.Now().Add(settleFor)
	m.troubleLocked()
}

// troubleLocked has the audit come before its time.
func (m *Medium) troubleLocked() {
	m.trouble = true
	poke(m.changed)
}

// Follow implements bridge.Medium. The namespace's channel is the first to be subscribed to, and the marker the last: a
// node that is counted as a server before it is known as one of this cluster makes others wait, but none believe that
// all have answered.
func (m *Medium) Follow(namespace string, on bool) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &wait{over: make(chan struct{})}
	want := func(channel string, kind kind) {
		m.awaitLocked(m.wantLocked(channel, namespace, kind, on), w)
	}
	if on {
		want(m.names.Node(namespace, m.cfg.UID), answers)
		want(m.names.Main(namespace), requests)
		want(m.marker(namespace), marker)
	} else {
		want(m.marker(namespace), marker)
		want(m.names.Main(namespace), requests)
		want(m.names.Node(namespace, m.cfg.UID), answers)
	}
	if w.left == 0 {
		close(w.over)
	}
	return w.over
}

// Room implements bridge.Rooms.
func (m *Medium) Room(namespace, room string, on bool) {
	if !m.names.OwnChannel(room) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wantLocked(m.names.Room(namespace, room), namespace, requests, on)
}

// Heard implements bridge.Rooms.
func (m *Medium) Heard(namespace, room string) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.places[m.names.Room(namespace, room)]; p != nil && m.names.OwnChannel(room) {
		w := &wait{over: make(chan struct{})}
		if m.awaitLocked(p, w); w.left > 0 {
			return w.over
		}
	}
	return closed
}

// awaitLocked has a wait be for a channel too, unless that stands or nobody wants it.
func (m *Medium) awaitLocked(p *place, w *wait) {
	if p.wanted > 0 && !p.stands && m.ctx.Err() == nil {
		p.waits = append(p.waits, w)
		w.left++
	}
}

var closed = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()
