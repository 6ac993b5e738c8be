package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// attempt is a command that a server may refuse.
type attempt struct {
	what string
	do   func() error
}

// refusal is the first refusal; nil: there is none, or the server is away and does not say. The node starts without it
// then.
func refusal(attempts ...attempt) error {
	for _, try := range attempts {
		if err := try.do(); refused(err) {
			return fmt.Errorf("the server does not take %s, which --cluster redis-streams needs: %w", try.what, err)
		}
	}
	return nil
}

// check looks whether the server lets this node do what it will have to with streams.
func (m *Medium) check() error {
	ctx, stop := context.WithTimeout(m.ctx, m.cfg.callTimeout)
	defer stop()
	m.lookAgain(ctx)
	stream := m.stream("/")
	at, err := server(ctx, m.client(), stream)
	if err != nil {
		return nil // it is away
	}
	return refusal(
		attempt{fmt.Sprintf("XINFO STREAM of the key %q", stream), func() error { return at.XInfoStream(ctx, stream).Err() }},
		attempt{fmt.Sprintf("XRANGE of the key %q", stream), func() error { return at.XRangeN(ctx, stream, "+", "+", 1).Err() }},
		attempt{fmt.Sprintf("XREAD of the key %q", stream), func() error {
			return at.XRead(ctx, &redis.XReadArgs{Streams: []string{stream, "$"}, Count: 1, Block: -1}).Err()
		}},
		attempt{fmt.Sprintf("XADD to the key %q", stream), func() error { // this id is refused, after all else was looked at
			return at.XAdd(ctx, &redis.XAddArgs{Stream: stream, MaxLen: 1, Approx: true, ID: "0-0", Values: []string{"type", "0"}}).Err()
		}},
	)
}

// check looks whether the server lets this node do what it will have to with channels. Nobody but this node hears them.
func (p *plain) check() error {
	ctx, stop := context.WithTimeout(p.ctx, p.cfg.callTimeout)
	defer stop()
	p.lookAgain(ctx)
	answers, marker := p.names.Node("/", p.cfg.UID), p.marker(p.cfg.UID)
	at, err := server(ctx, p.client(), answers)
	if err != nil {
		return nil // it is away
	}
	sub := p.client().Subscribe(ctx)
	defer sub.Close()
	return refusal(
		attempt{fmt.Sprintf("PUBLISH on the channel %q", answers), func() error { return at.Publish(ctx, answers, "").Err() }},
		attempt{"PUBSUB NUMSUB", func() error { return at.PubSubNumSub(ctx, answers).Err() }},
		attempt{fmt.Sprintf("SUBSCRIBE to the channels %q and %q", answers, marker), func() error {
			if err := sub.Subscribe(ctx, answers, marker); err != nil {
				return err
			}
			_, err := sub.ReceiveTimeout(ctx, p.cfg.callTimeout)
			return err
		}},
	)
}

// refused says whether a server will not do a command, now or later.
func refused(err error) bool {
	var answer redis.Error
	if err == nil || errors.Is(err, redis.Nil) || !errors.As(err, &answer) {
		return false
	}
	for _, usual := range []string{"ERR no such key", "ERR The ID specified in XADD must be greater than 0-0"} {
		if strings.HasPrefix(err.Error(), usual) {
			return false
		}
	}
	word, _, _ := strings.Cut(err.Error(), " ")
	return !slices.Contains(passing, word)
}
