package client

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/alecthomas/kong"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// drainCommand empties a node.
type drainCommand struct {
	Window time.Duration `env:"-" default:"30s" placeholder:"TIME" help:"Over how long its sessions are closed: at most 1h, 0s is at once. Default ${default}."`
	format
	connection
}

// Run empties the node and shows how far it is. When ctx ends before, the rest of the sessions stays.
func (c *drainCommand) Run(ctx context.Context, k *kong.Context, sys *System) error {
	at, err := c.open(k, sys)
	if err != nil {
		return err
	}
	defer at.close()
	var left, closed atomic.Int64
	stop := sys.wait(func() string {
		done := int(closed.Load())
		return bar(done, done+int(left.Load())) + " sessions closed"
	})
	defer stop()
	stream, err := foyerv1.NewNodeServiceClient(at.conn).Drain(ctx, &foyerv1.DrainRequest{Window: durationpb.New(c.Window)})
	if err != nil {
		return at.explain(ctx, err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return failure(Failed, "the node at %s has not told the end of it", at.place.api)
		}
		if err != nil {
			if ctx.Err() != nil {
				return failure(Partial, "interrupted: %s stay open", count(int(left.Load()), "session"))
			}
			if status.Code(err) == codes.DeadlineExceeded { // the drain's: this call has none
				return failure(Partial, "the node at %s is not empty: %s", at.place.api, status.Convert(err).Message())
			}
			return at.explain(ctx, err)
		}
		left.Store(int64(m.GetSessionsLeft()))
		closed.Store(int64(m.GetSessionsClosed()))
		if c.json() {
			if err := printLines(sys, m); err != nil {
				return err
			}
		}
		if m.GetDone() {
			stop()
			if c.json() {
				return nil
			}
			return sys.print([]byte("The node is empty: " + count(int(m.GetSessionsClosed()), "session") + " closed. It takes no new ones until it is started again.\n"))
		}
	}
}
