package mongo

import (
	"context"
	"time"

	"foyer/service/adapter/bridge/beats"
	"foyer/service/adapter/official"
)

// hearing is a namespace in which this node is one of the servers. Guarded by Medium.mu.
type hearing struct {
	on    bool      // the bridge wants it
	used  time.Time // when this node has asked there last, or told something
	begun bool      // beats know of it
	said  time.Time // when anything of this node was inserted there last: others count it for beats.Timeout
}

const (
	keepFor     = 5 * time.Second // how long a namespace is heard that is used and not wanted
	tidyEvery   = time.Second
	maxHearings = 4096 // that are not wanted; names come from callers of the API
)

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Follow implements bridge.Medium. All namespaces are read in any case, so what is said from now on is heard.
func (m *Medium) Follow(namespace string, on bool) <-chan struct{} {
	m.mu.Lock()
	h := m.hearings[namespace]
	if h == nil && on {
		h = &hearing{}
		m.hearings[namespace] = h
	}
	if h != nil {
		h.on = on
	}
	m.mu.Unlock()
	if on {
		m.ensure(namespace)
	}
	return closed
}

// ensure has beats know of a namespace.
func (m *Medium) ensure(namespace string) {
	m.begins.Lock()
	defer m.begins.Unlock()
	m.mu.Lock()
	h := m.hearings[namespace]
	before := h == nil || h.begun
	if h != nil {
		h.begun = true
	}
	m.mu.Unlock()
	if !before {
		m.beats.Begin(namespace)
	}
}

// hearingLocked is that of a namespace, wanted or not; nil: that are too many.
func (m *Medium) hearingLocked(namespace string) *hearing {
	h := m.hearings[namespace]
	if h == nil && len(m.hearings) < maxHearings {
		h = &hearing{}
		m.hearings[namespace] = h
	}
	return h
}

// hears says whether this node is one of the servers of a namespace.
func (m *Medium) hears(namespace string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.hearings[namespace]
	return h != nil && (h.begun || h.counted())
}

// counted says whether others still count this node, and wait for its answers.
func (h *hearing) counted() bool { return time.Since(h.said) <= beats.Timeout }

// Peers implements bridge.Medium.
func (m *Medium) Peers(ctx context.Context, namespace string) (int, error) {
	m.mu.Lock()
	if m.life == nil {
		m.mu.Unlock()
		return 0, errAway
	}
	h := m.hearingLocked(namespace)
	if h == nil {
		m.mu.Unlock()
		return 0, errMany
	}
	h.used = time.Now()
	m.mu.Unlock()
	m.ensure(namespace)
	return m.beats.Peers(ctx, namespace)
}

// Gone implements bridge.Roll.
func (m *Medium) Gone(ctx context.Context, namespace string, uids []string) ([]string, error) {
	return m.beats.Gone(ctx, namespace, uids)
}

// say publishes what beats say. There is no goodbye.
func (m *Medium) say(namespace string, kind official.Kind) {
	if kind != official.Goodbye {
		_ = m.Publish(&official.Message{Kind: kind, UID: m.cfg.UID, Namespace: namespace}, "") // it is said again
	}
}

// tidy gives namespaces back, until Close.
func (m *Medium) tidy() {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
		}
		m.giveBack()
	}
}

// giveBack has beats forget namespaces that nobody uses any more.
func (m *Medium) giveBack() {
	m.begins.Lock()
	defer m.begins.Unlock()
	for _, namespace := range m.unused() {
		m.beats.End(namespace)
	}
}

// unused are the namespaces of which beats are to be told no more. begins is held.
func (m *Medium) unused() (list []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for namespace, h := range m.hearings {
		switch {
		case h.on || time.Since(h.used) < keepFor:
		case h.begun:
			h.begun = false
			list = append(list, namespace)
		case !h.counted():
			delete(m.hearings, namespace)
		}
	}
	return list
}
