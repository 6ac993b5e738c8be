package sharded

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/official"
)

const (
	retriesMost = 3 // of what a server has not taken since the slot is another's
	movedWait   = 50 * time.Millisecond
	lostWait    = 250 * time.Millisecond
)

// errFull is the answer while too much waits to be published.
var errFull = errors.New("too much waits to be published")

// said is a message that waits to be published.
type said struct {
	channel string
	room    string // the channel that does as well if it is at the same server; "": none
	text    []byte
	after   <-chan struct{} // it waits for this, for a moment; nil: for nothing
}

func (s *said) size() int { return len(s.channel) + len(s.room) + len(s.text) + 64 }

// Publish implements bridge.Medium.
func (m *Medium) Publish(message *official.Message, to string) error {
	text, err := m.cfg.Append(nil, message)
	if err != nil {
		return err
	}
	s := said{channel: m.names.Channel(message, to), text: text, after: m.listen(message)}
	switch main := m.names.Main(message.Namespace); {
	case message.Kind == official.Join:
		m.noteJoin(message)
	case message.Kind == official.Broadcast && s.channel != main:
		if !m.recent.has(s.channel) {
			s.room = s.channel
		}
		s.channel = main
	}
	if err := m.ctx.Err(); err != nil {
		return err
	}
	if !m.out.Put(s, s.size()) {
		return errFull
	}
	if m.away.Load() {
		return official.ErrDoubt
	}
	return nil
}

// publish publishes what waits, until Close.
func (m *Medium) publish() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.out.Filled():
		}
		for list := m.out.Take(); len(list) > 0; list = m.out.Take() {
			for len(list) > 0 {
				n := min(len(list), batchMost)
				m.publishBatch(list[:n])
				list = list[n:]
			}
		}
	}
}

func (m *Medium) publishBatch(list []said) {
	bytes, lost := 0, 0
	for i := range list {
		bytes += list[i].size()
		m.await(list[i].after)
	}
	var why error
	for try := 0; len(list) > 0 && m.ctx.Err() == nil; try++ {
		moved, n, err := m.publishOnce(list)
		if lost += n; err != nil {
			why = err
		}
		if list = moved; len(list) > 0 {
			if try == retriesMost {
				lost += len(list)
				break
			}
			m.reload(m.ctx)
			m.pause(movedWait << try)
		}
	}
	m.out.Done(bytes)
	m.away.Store(lost > 0)
	if lost > 0 && m.ctx.Err() == nil {
		m.mu.Lock()
		m.dropped["lost"] += int64(lost)
		m.mu.Unlock()
		m.log.Warn("messages not published: servers on Node do not hear them", zap.Int("messages", lost), zap.Error(why))
		m.pause(lostWait) // the server is away; what comes meanwhile waits, up to its bound
	}
}

// await waits for something, for a moment.
func (m *Medium) await(something <-chan struct{}) {
	select {
	case <-something:
		return
	default:
		if something == nil {
			return
		}
	}
	late := time.NewTimer(askWait)
	defer late.Stop()
	select {
	case <-something:
	case <-late.C:
	case <-m.ctx.Done():
	}
}

func (m *Medium) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-m.ctx.Done():
	}
}

// publishOnce publishes messages at their servers, at each in their order. It returns those that a server has not taken
// since their slot is another's by now, and how many are lost: what has no answer may have been published.
func (m *Medium) publishOnce(list []said) (moved []said, lost int, why error) {
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	parts := map[*redis.Client][]sending{}
	for _, s := range list {
		server, channel, err := m.route(ctx, &s)
		if err != nil {
			lost, why = lost+1, err
			continue
		}
		parts[server] = append(parts[server], sending{s, channel})
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for server, part := range parts {
		all.Go(func() {
			answers, err := server.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for i := range part {
					pipe.SPublish(ctx, part[i].channel, part[i].text)
				}
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			for i := range part {
				if i < len(answers) {
					err = answers[i].Err()
				}
				switch {
				case err == nil:
				case redis.HasErrorPrefix(err, "MOVED"):
					moved, why = append(moved, part[i].said), err
				default:
					lost, why = lost+1, err
				}
			}
		})
	}
	all.Wait()
	return moved, lost, why
}

// sending is a message and the channel on which it goes.
type sending struct {
	said
	channel string
}

// route finds where a message goes. All that is said in a namespace goes to one server, so that it is heard in its
// order.
func (m *Medium) route(ctx context.Context, s *said) (server *redis.Client, channel string, err error) {
	if server, err = m.at(ctx, s.channel); err != nil || s.room == "" {
		return server, s.channel, err
	}
	if other, err := m.at(ctx, s.room); err == nil && other == server {
		return server, s.room, nil
	}
	return server, s.channel, nil
}
