package postgres

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"foyer/service/adapter/official"
)

// hearing is a namespace that this node listens to, or is about to. Guarded by Medium.mu, but for what is set before it
// is shared.
type hearing struct {
	namespace, channel string
	hello, tail        string        // this node's own Hello, and what is behind the UID in what nodes say
	heard              chan struct{} // closed when it is listened to, or cannot be now

	on      bool      // the bridge wants it
	used    time.Time // when this node has said something there last, or asked who is there
	is      bool      // the server was told
	waiting bool      // it is among the changes
}

// wanted says whether this node is to listen.
func (h *hearing) wanted() bool { return h.on || time.Since(h.used) < keepFor }

// confirm tells those who wait for it that a namespace is heard, or cannot be now.
func (h *hearing) confirm() {
	if !isClosed(h.heard) {
		close(h.heard)
	}
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// channel is that of a namespace; "": it can have none.
func (m *Medium) channel(namespace string) string {
	channel, ok := official.PostgresChannel(m.cfg.Prefix, namespace)
	if !ok || strings.Contains(channel, "\x00") || !utf8.ValidString(channel) {
		return ""
	}
	return channel
}

// Follow implements bridge.Medium.
func (m *Medium) Follow(namespace string, on bool) <-chan struct{} {
	if m.channel(namespace) == "" {
		if on {
			m.count("channel_too_long", 1)
			m.log.Warn("namespace not shared with servers on Node: PostgreSQL takes no such name of a channel, which may have 63 bytes",
				zap.String("namespace", namespace))
		}
		return closed
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.hearings[namespace]
	if h == nil {
		if !on {
			return closed
		}
		h = m.newLocked(namespace)
	}
	h.on = on
	m.changeLocked(h)
	return h.heard
}

// usedLocked notes that this node says something in a namespace, or asks who is there, so that it listens. nil: that
// are too many.
func (m *Medium) usedLocked(namespace string) *hearing {
	h := m.hearings[namespace]
	if h == nil {
		if len(m.hearings) >= maxUsed {
			return nil
		}
		h = m.newLocked(namespace)
	}
	h.used = time.Now()
	m.changeLocked(h)
	return h
}

func (m *Medium) newLocked(namespace string) *hearing {
	h := &hearing{namespace: namespace, channel: m.channel(namespace), heard: make(chan struct{})}
	text, _, err := official.NewNotification(&official.Message{Kind: official.Hello, UID: m.cfg.UID, Namespace: namespace}, 0)
	if err == nil {
		h.hello = string(text)
		_, h.tail, _ = strings.Cut(h.hello, m.cfg.UID)
	}
	m.hearings[namespace], m.channels[h.channel] = h, h
	return h
}

// changeLocked has the server told when something is to change.
func (m *Medium) changeLocked(h *hearing) {
	switch {
	case h.wanted() == h.is || h.waiting:
	case m.life == nil: // the next life begins with all that are wanted then
		h.confirm()
	default:
		if h.waiting = true; isClosed(h.heard) && h.wanted() {
			h.heard = make(chan struct{})
		}
		m.changes = append(m.changes, h)
		if m.life.waits {
			m.life.sub.Wake()
		}
	}
}

func (m *Medium) forgetLocked(h *hearing) {
	delete(m.hearings, h.namespace)
	delete(m.channels, h.channel)
}

// pending says whether there are changes. If not, the next one wakes the connection.
func (m *Medium) pending() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.changes) > 0
}

// change tells the server to which channels this node listens from now on, and others that it is there or goes.
func (l *life) change(changes []*hearing) error {
	m := l.medium
	var begin, end []*hearing
	m.mu.Lock()
	for _, h := range changes {
		switch h.waiting = false; {
		case !h.wanted(): // the server may never have heard of it
			h.is = false
			h.confirm()
			m.forgetLocked(h)
			end = append(end, h)
		case !h.is:
			h.is = true
			begin = append(begin, h)
		}
	}
	m.mu.Unlock()
	for _, h := range end {
		m.beats.End(h.namespace)
	}
	ctx, stop := context.WithTimeout(l.ctx, m.cfg.callTimeout)
	defer stop()
	if err := l.listen(ctx, "UNLISTEN", channelsOf(end)); err != nil {
		return err
	}
	if err := l.listen(ctx, "LISTEN", channelsOf(begin)); err != nil {
		return err
	}
	m.greetIn(begin)
	return nil
}

// greetIn says Hello where this node listens from now on.
func (m *Medium) greetIn(list []*hearing) {
	for _, h := range list {
		m.beats.Begin(h.namespace)
		m.mu.Lock()
		h.confirm()
		m.mu.Unlock()
	}
}

func channelsOf(list []*hearing) []string {
	channels := make([]string, 0, len(list))
	for _, h := range list {
		channels = append(channels, h.channel)
	}
	return channels
}

// begin makes a life the one that messages go by. Its goroutines begin after that.
func (m *Medium) begin(l *life) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life = l
	for _, h := range m.hearings {
		switch {
		case h.is:
			l.begun = append(l.begun, h)
		case h.wanted(): // it came meanwhile
			m.changeLocked(h)
		default:
			m.forgetLocked(h)
			l.given = append(l.given, h.namespace)
		}
	}
}

// ends notes that a life is over: what waits is lost, and callers that wait to hear are told.
func (m *Medium) ends(l *life) {
	m.mu.Lock()
	if m.life == l {
		m.life = nil
	}
	m.changes = nil
	for _, h := range m.hearings {
		h.waiting, h.is = false, false
		h.confirm()
	}
	m.mu.Unlock()
	m.beats.Pause()
}

// tidy has namespaces given back that nobody uses any more.
func (m *Medium) tidy() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.hearings {
		if !h.wanted() {
			m.changeLocked(h)
		}
	}
}

// Peers implements bridge.Medium.
func (m *Medium) Peers(ctx context.Context, namespace string) (int, error) {
	if m.channel(namespace) == "" {
		return 0, nil // nobody can share it
	}
	m.mu.Lock()
	if m.life == nil {
		m.mu.Unlock()
		return 0, errAway
	}
	h := m.usedLocked(namespace)
	m.mu.Unlock()
	if h == nil {
		return 0, errMany
	}
	select {
	case <-h.heard:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return m.beats.Peers(ctx, namespace)
}

// Gone implements bridge.Roll.
func (m *Medium) Gone(ctx context.Context, namespace string, uids []string) ([]string, error) {
	return m.beats.Gone(ctx, namespace, uids)
}
