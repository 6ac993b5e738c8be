package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// progressEvery is how often a drain tells how far it is.
const progressEvery = time.Second

// Drain lasts as long as its call: when the caller goes away, Config.Drain is told by its context. One at a time.
func (n *nodeService) Drain(r *foyerv1.DrainRequest, stream grpc.ServerStreamingServer[foyerv1.DrainResponse]) error {
	s := n.s
	if s.cfg.Drain == nil {
		return notImplemented("Drain")
	}
	window, err := drainWindow(r.GetWindow())
	if err != nil {
		return err
	}
	if !s.emptying.CompareAndSwap(false, true) {
		return fail(service.Exhausted, foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, "", "the node is being drained by another call, and one at a time can")
	}
	defer s.emptying.Store(false)
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.draining, cancel)() // Shutdown waits for this call, and closes what is left by itself

	d := &emptying{done: make(chan struct{})}
	s.streams.Go(func() {
		defer close(d.done)
		d.err = s.cfg.Drain(ctx, window, d.note)
	})
	err = s.outlet(func() error { return d.send(stream) }, d.done, service.ErrTooSlow)
	cancel()
	<-d.done
	switch {
	case err != nil && s.draining.Err() != nil:
		return service.ErrDraining
	case errors.Is(err, context.DeadlineExceeded) && stream.Context().Err() == nil: // the drain's own time is over
		return &stillOpen{d.message(false).GetSessionsLeft()}
	}
	return err
}

// stillOpen is the end of a drain that has left sessions.
type stillOpen struct{ sessions int32 }

func (e *stillOpen) Error() string {
	return fmt.Sprintf("%d sessions have not closed in time, and stay open", e.sessions)
}

// Unwrap lets it be what it is: the end of the drain's time.
func (e *stillOpen) Unwrap() error { return context.DeadlineExceeded }

// emptying is one Drain.
type emptying struct {
	done chan struct{} // closed when it has ended; then err says how
	err  error

	mu           sync.Mutex
	left, closed int // guarded by mu
}

// note takes the latest numbers; those between two messages are not told.
func (d *emptying) note(left, closed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.closed = left, closed
}

func (d *emptying) message(done bool) *foyerv1.DrainResponse {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &foyerv1.DrainResponse{SessionsLeft: count(d.left), SessionsClosed: count(d.closed), Done: done}
}

func (d *emptying) send(stream grpc.ServerStreamingServer[foyerv1.DrainResponse]) error {
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := stream.Send(d.message(false)); err != nil {
				return err
			}
		case <-d.done:
			if d.err != nil {
				return d.err
			}
			return stream.Send(d.message(true))
		}
	}
}
