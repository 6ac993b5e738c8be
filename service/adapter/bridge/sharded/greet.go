package sharded

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// greet returns an error when the server lacks a command that this medium needs, or when this user may not use it. A
// server that cannot be reached now is no error.
func (m *Medium) greet() error {
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	m.reload(ctx)
	for _, step := range []struct {
		what string
		do   func(context.Context, *redis.Client, string) error
	}{
		{"publish", func(ctx context.Context, server *redis.Client, channel string) error {
			return server.SPublish(ctx, channel, "").Err()
		}},
		{"subscribe", func(ctx context.Context, server *redis.Client, channel string) error {
			sub := server.Subscribe(ctx)
			defer sub.Close()
			if err := sub.SSubscribe(ctx, channel); err != nil {
				return err
			}
			_, err := sub.Receive(ctx)
			return err
		}},
		{"count who subscribes", func(ctx context.Context, server *redis.Client, channel string) error {
			return server.PubSubShardNumSub(ctx, channel).Err()
		}},
	} {
		for _, channel := range []string{m.names.Node("/", m.cfg.UID), m.marker("/")} { // nobody else hears these
			server, err := m.at(ctx, channel)
			if err == nil {
				err = step.do(ctx, server, channel)
			}
			if err = m.judge(err, step.what, channel); err != nil {
				return err
			}
		}
	}
	return nil
}

// judge makes an error of what will not pass by itself.
func (m *Medium) judge(err error, what, channel string) error {
	var answer redis.Error
	switch {
	case err == nil:
		return nil
	case redis.HasErrorPrefix(err, "NOPERM"):
		return fmt.Errorf("the Redis server does not let this user %s with channel %s, and Foyer needs SSUBSCRIBE, SUNSUBSCRIBE, SPUBLISH and PUBSUB with channels that begin with %s and %s: %w",
			what, channel, strings.TrimSuffix(m.names.Main(""), "#"), m.cfg.Marker+".in.", err)
	case redis.HasErrorPrefix(err, "unknown command"), redis.HasErrorPrefix(err, "Unknown subcommand"), redis.HasErrorPrefix(err, "unknown subcommand"):
		return fmt.Errorf("the Redis server has no sharded Pub/Sub, which came with Redis 7.0: --cluster redis does without: %w", err)
	}
	if !errors.As(err, &answer) {
		m.log.Warn("Redis not reached yet", zap.Error(err))
	}
	return nil
}
