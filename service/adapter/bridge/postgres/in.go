package postgres

import (
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"foyer/service/adapter/official"
)

// came is a message that waits for the bridge, or the row of one.
type came struct {
	namespace string
	message   *official.Message // nil: it is in the row
	row       int64
	bytes     int
}

// Heads of answers, as the official servers and nodes write them; the request follows.
var answers = []string{
	`{"type":8,"data":{"requestId":"`, `{"type":10,"data":{"requestId":"`, `{"type":11,"data":{"requestId":"`, `{"type":12,"data":{"requestId":"`,
}

// notified takes one notification. It does not wait: whatever is not read here fills the server's queue, which all
// share.
func (l *life) notified(n *pgconn.Notification) {
	m := l.medium
	m.mu.Lock()
	h := m.channels[n.Channel]
	m.mu.Unlock()
	if h == nil {
		if n.Channel == m.probe {
			l.echoed.Store(time.Now().UnixNano())
		}
		return
	}
	if node, ok := m.ours(h, n.Payload); ok {
		if node == m.cfg.UID {
			l.echoed.Store(time.Now().UnixNano())
			if strings.TrimRight(n.Payload, " ") == h.hello {
				m.beats.Heard(h.namespace, m.cfg.UID, official.Hello)
			}
		}
		return
	}
	for _, head := range answers {
		if request, ok := strings.CutPrefix(n.Payload, head); ok && !strings.HasPrefix(request, m.mine) {
			return // to what another server has asked
		}
	}
	message, uid, row, fault := official.ReadNotification(h.namespace, []byte(n.Payload), m.cfg.MaxBytes)
	switch {
	case fault != 0:
		m.drop(fault.Reason(), h.namespace, nil)
		return
	case message == nil && strings.HasPrefix(uid, m.cfg.Ours):
		return
	case message == nil:
		m.beats.Heard(h.namespace, uid, official.Broadcast)
	default:
		m.beats.Heard(h.namespace, uid, message.Kind)
		switch message.Kind {
		case official.Hello, official.Heartbeat, official.Goodbye:
			return
		}
	}
	c := came{h.namespace, message, row, len(n.Payload) + overhead}
	if !m.in.Put(c, c.bytes) {
		m.drop("busy", h.namespace, nil)
	}
}

// ours says which node of this cluster has said something, without reading it whole. What stands in a row says so too
// late.
func (m *Medium) ours(h *hearing, text string) (uid string, ok bool) {
	text, ok = strings.CutSuffix(strings.TrimRight(text, " "), h.tail)
	if !ok || h.tail == "" {
		return "", false
	}
	at := len(text) - len(m.cfg.UID) // all nodes' names are as long
	const before = `"uid":"`
	if at < len(before) || !strings.HasSuffix(text[:at], before) || !strings.HasPrefix(text[at:], m.cfg.Ours) {
		return "", false
	}
	return text[at:], true
}

// deliver gives what came to the bridge, until Close.
func (m *Medium) deliver(each func(*official.Message)) {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.in.Filled():
		}
		list := m.in.Take()
		for i := range list {
			if m.ctx.Err() != nil {
				return
			}
			c := &list[i]
			if c.message == nil {
				c.message = m.attached(c)
			}
			if c.message != nil {
				each(c.message)
			}
			m.in.Done(c.bytes)
			*c = came{}
		}
	}
}

// attached reads a message that is in a row; nil: it was dropped.
func (m *Medium) attached(c *came) *official.Message {
	m.mu.Lock()
	l := m.life
	m.mu.Unlock()
	if l == nil {
		m.drop("attachment_lost", c.namespace, errAway)
		return nil
	}
	payload, tooLarge, err := l.fetch(c.row)
	switch {
	case err != nil:
		m.drop("attachment_lost", c.namespace, err)
		if state(err) == "" {
			l.end(err)
		}
		return nil
	case tooLarge:
		m.drop(official.TooLarge.Reason(), c.namespace, nil)
		return nil
	case payload == nil:
		m.drop("attachment_missing", c.namespace, nil)
		return nil
	}
	message, fault := official.ReadCluster(c.namespace, payload, m.cfg.MaxBytes)
	if fault != 0 {
		m.drop(fault.Reason(), c.namespace, nil)
		return nil
	}
	switch message.Kind {
	case official.Hello, official.Heartbeat, official.Goodbye: // nobody says that so
		return nil
	}
	return message
}
