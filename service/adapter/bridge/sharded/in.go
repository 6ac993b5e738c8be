package sharded

import (
	"strings"

	"github.com/redis/go-redis/v9"

	"foyer/service/adapter/official"
)

const messageOverhead = 256 // bytes that a message takes beside its own

// heard is a message that waits for the bridge.
type heard struct{ channel, text string }

func (h *heard) size() int { return len(h.text) + messageOverhead }

// take keeps a message for the bridge.
func (m *Medium) take(message *redis.Message) {
	h := heard{message.Channel, message.Payload}
	switch {
	case m.isOurs(h.text):
	case len(h.text) > m.cfg.MaxBytes:
		m.drop(official.TooLarge.Reason(), h.channel, nil)
	case !m.in.Put(h, h.size()):
		m.drop("busy", h.channel, nil)
	}
}

// deliver gives what came to the bridge, until Close.
func (m *Medium) deliver(each func(*official.Message)) {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.in.Filled():
		}
		for _, h := range m.in.Take() {
			if m.ctx.Err() != nil {
				return
			}
			if read := m.read(h); read != nil {
				each(read)
			}
			m.in.Done(h.size())
		}
	}
}

// read reads a message by where it came; nil: it was dropped.
func (m *Medium) read(h heard) *official.Message {
	m.mu.Lock()
	p := m.places[h.channel]
	m.mu.Unlock()
	if p == nil || p.kind == marker {
		return nil
	}
	read, fault := official.ReadCluster(p.namespace, []byte(h.text), m.cfg.MaxBytes)
	if fault == 0 && p.kind == answers && !read.Kind.Answer() {
		fault = official.Shape
	}
	if fault != 0 {
		m.drop(fault.Reason(), h.channel, nil)
		return nil
	}
	if read.Kind == official.Join {
		m.noteJoin(read)
	}
	return read
}

// tailMost is how far from its end a message says who it is of, unless the names in it are very long.
const tailMost = 600

// isOurs says whether a message is of a node of this cluster, without reading it whole: its sender is named at its end,
// in its namespace. A message that joins rooms is of interest whichever server sends it.
func (m *Medium) isOurs(text string) bool {
	const (
		join       = `{"type":4,`
		uid, nsp   = `,"uid":"`, `","nsp":"`
		packedUID  = "\xa3uid"
		packedNsp  = "\xa3nsp"
		nameLength = 4
		text8      = 0xd9
	)
	tail := text[max(0, len(text)-tailMost):]
	if strings.HasPrefix(text, "{") {
		at := strings.LastIndex(tail, uid)
		if at < 0 || strings.HasPrefix(text, join) {
			return false
		}
		rest, ok := strings.CutPrefix(tail[at+len(uid):], m.cfg.Ours)
		if !ok || len(rest) < nameLength {
			return false
		}
		rest, ok = strings.CutPrefix(rest[nameLength:], nsp)
		return ok && strings.IndexByte(rest, '"') == len(rest)-len(`"}`) && strings.HasSuffix(rest, "}")
	}
	at := strings.LastIndex(tail, packedUID)
	if at < 0 {
		return false
	}
	rest := tail[at+len(packedUID):]
	if strings.HasPrefix(rest, string([]byte{text8})) {
		rest = rest[1:]
	}
	if rest == "" {
		return false
	}
	rest, ok := strings.CutPrefix(rest[1:], m.cfg.Ours) // behind its length
	return ok && len(rest) > nameLength && strings.HasPrefix(rest[nameLength:], packedNsp)
}
