package classic

import (
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/official"
)

const messageOverhead = 256 // bytes that a message takes beside its own

// inbox is what waits for the bridge.
type inbox struct {
	filled chan struct{}
	most   int // bytes; what is more is dropped

	mu    sync.Mutex
	list  []came // guarded by mu
	bytes int    // guarded by mu
}

// came is a message and where.
type came struct {
	*redis.Message
	place
}

// take keeps a message for the bridge. It never waits: Redis would end a connection that is not read.
func (m *Medium) take(message *redis.Message) {
	at := message.Channel
	if message.Pattern != "" {
		at = message.Pattern
	}
	m.mu.Lock()
	p, ok := m.places[at]
	m.mu.Unlock()
	switch {
	case !ok || p.kind == marker:
		return
	case p.kind == ancient:
		m.count("old_emitter", 1)
		m.log.Warn("an emitter of another time is not heard: use a newer one, or the API", zap.String("channel", message.Channel))
		return
	case p.kind == broadcasts && m.ourBroadcast(message.Payload):
		return
	case p.kind == responses && !strings.Contains(message.Payload, m.mine): // to what another server has asked
		return
	}
	size := len(message.Payload) + messageOverhead
	if size > m.cfg.MaxBytes+messageOverhead {
		m.drop(official.TooLarge.Reason(), message.Channel, nil)
		return
	}
	m.in.mu.Lock()
	full := m.in.bytes > 0 && m.in.bytes+size > m.in.most
	if !full {
		m.in.list = append(m.in.list, came{message, p})
		m.in.bytes += size
	}
	m.in.mu.Unlock()
	if full {
		m.drop("busy", message.Channel, nil)
		return
	}
	poke(m.in.filled)
}

// ourBroadcast says whether bytes are a broadcast of a node of this cluster, without reading it whole.
func (m *Medium) ourBroadcast(text string) bool {
	const array3, shortText, text8 = 0x93, 0xa0, 0xd9
	switch {
	case len(text) < 3 || text[0] != array3:
		return false
	case text[1]&0xe0 == shortText:
		return strings.HasPrefix(text[2:], m.cfg.Ours)
	case text[1] == text8:
		return strings.HasPrefix(text[3:], m.cfg.Ours)
	}
	return false
}

// deliver gives what came to the bridge, until Close.
func (m *Medium) deliver(each func(*official.Message)) {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.in.filled:
		}
		m.in.mu.Lock()
		list := m.in.list
		m.in.list = nil
		m.in.mu.Unlock()
		for i := range list {
			if m.ctx.Err() != nil {
				return
			}
			if read := m.read(&list[i]); read != nil {
				each(read)
			}
			m.in.mu.Lock()
			m.in.bytes -= len(list[i].Payload) + messageOverhead
			m.in.mu.Unlock()
			list[i] = came{}
		}
	}
}

// read reads a message by where it came; nil: it was dropped.
func (m *Medium) read(c *came) (read *official.Message) {
	var fault official.Fault
	switch text := []byte(c.Payload); c.kind {
	case requests:
		read, fault = official.ReadClassicRequest(c.namespace, text, m.cfg.MaxBytes)
	case responses:
		read, fault = official.ReadClassicResponse(c.namespace, text, m.cfg.MaxBytes)
	default:
		read, fault = official.ReadClassicBroadcast(c.namespace, text, m.cfg.MaxBytes)
	}
	if fault != 0 {
		m.drop(fault.Reason(), c.Channel, nil)
		return nil
	}
	if c.kind == broadcasts && len(read.Rooms) > 1 {
		// Some emitters say it once for each room, on the channel of that room; here the first is enough.
		if room, ok := m.names.RoomOf(c.namespace, c.Channel); ok && room != read.Rooms[0] {
			return nil
		}
	}
	return read
}
