package classic

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"foyer/service/adapter/official"
)

// outbox is what waits to be published.
type outbox struct {
	filled chan struct{} // has a value after something was appended
	most   int           // bytes; more is refused

	mu    sync.Mutex
	list  []published // guarded by mu
	bytes int         // guarded by mu; with what is being published
}

type published struct {
	channel string
	message []byte
}

func (p *published) size() int { return len(p.channel) + len(p.message) + 64 }

// Publish implements bridge.Medium.
func (m *Medium) Publish(message *official.Message, to string) error {
	text, err := official.AppendClassic(nil, message)
	if err != nil {
		return err
	}
	p := published{m.names.Channel(message, to), text}
	m.out.mu.Lock()
	defer m.out.mu.Unlock()
	if err := m.ctx.Err(); err != nil {
		return err
	}
	if m.out.bytes > 0 && m.out.bytes+p.size() > m.out.most {
		return errFull
	}
	m.out.list = append(m.out.list, p)
	m.out.bytes += p.size()
	poke(m.out.filled)
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
		case <-m.out.filled:
		}
		for {
			m.out.mu.Lock()
			list := m.out.list
			m.out.list = nil
			m.out.mu.Unlock()
			if len(list) == 0 {
				break
			}
			for len(list) > 0 {
				n := min(len(list), batchMost)
				m.publishBatch(list[:n])
				list = list[n:]
			}
		}
	}
}

func (m *Medium) publishBatch(list []published) {
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	answers, why := m.pipeline(ctx, func(pipe redis.Pipeliner) error {
		for i := range list {
			pipe.Publish(ctx, list[i].channel, list[i].message)
		}
		return nil
	})
	lost, bytes := 0, 0
	for i := range list {
		bytes += list[i].size()
		if i >= len(answers) || answers[i].Err() != nil {
			lost++
			if i < len(answers) {
				why = answers[i].Err()
			}
		}
	}
	m.out.mu.Lock()
	m.out.bytes -= bytes
	m.out.mu.Unlock()
	m.away.Store(lost > 0)
	if lost > 0 && m.ctx.Err() == nil {
		m.count("lost", lost)
		m.log.Warn("messages not published: servers on Node do not hear them", zap.Int("messages", lost), zap.Error(why))
		select { // the server is away; what comes meanwhile waits, up to its bound
		case <-time.After(retryWait):
		case <-m.ctx.Done():
		}
	}
}

// pipeline runs commands at one server: those of a Redis Cluster pass on what is published at any of them.
func (m *Medium) pipeline(ctx context.Context, commands func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	client := m.redis()
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return client.Pipelined(ctx, commands)
	}
	server, err := cluster.MasterForKey(ctx, m.cfg.Marker)
	if err != nil {
		return nil, err
	}
	return server.Pipelined(ctx, commands)
}
