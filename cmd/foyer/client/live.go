package client

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
)

// live are the flags of commands that go on until they are stopped.
type live struct {
	For   time.Duration `env:"-" placeholder:"TIME" help:"End after this time. Default: at Ctrl-C."`
	Retry time.Duration `env:"-" default:"1m" placeholder:"TIME" help:"How long to try again when the connection is lost. Default ${default}."`
}

const (
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

var errSilent = errors.New("the first answer has not come in time")

// stream is one opening of a live stream. It calls heard for each message that came, and returns why it has ended.
type stream func(ctx context.Context, heard func()) error

// keep opens a stream, and opens it again when it breaks after it had been heard. It ends without an error when ctx
// does, or after For. An error is one that another try does not mend, or that has lasted for Retry.
func (l *live) keep(ctx context.Context, c *caller, open stream) error {
	all := ctx
	switch {
	case l.For < 0:
		return failure(Usage, "--for: %v is below zero", l.For)
	case l.Retry < 0:
		return failure(Usage, "--retry: %v is below zero", l.Retry)
	case l.For > 0: // the node hears of no deadline, and so does not end the stream a moment before this does
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer time.AfterFunc(l.For, cancel).Stop()
	}
	pause, ever, lost := firstPause, false, time.Time{}
	for {
		err := c.once(ctx, open, func() {
			if !lost.IsZero() {
				c.sys.note("the node at " + c.place.api + " answers again")
			}
			ever, lost, pause = true, time.Time{}, firstPause
		})
		switch {
		case ctx.Err() != nil && all.Err() == nil && !ever:
			return failure(Unanswered, "the node at %s has not answered within %v (--for)", c.place.api, l.For)
		case ctx.Err() != nil:
			return nil
		case !ever || !passes(err):
			return c.explain(ctx, err)
		}
		if lost.IsZero() {
			lost = time.Now()
			c.sys.note("the connection to " + c.place.api + " is lost (" + status.Convert(err).Message() + "); trying again")
		}
		if time.Since(lost) >= l.Retry {
			return failure(Unanswered, "the connection to %s has been lost for %v (--retry)", c.place.api, l.Retry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// once opens the stream, which has the caller's patience for its first message.
func (c *caller) once(ctx context.Context, open stream, heard func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(c.patience, func() { cancel(errSilent) })
	stop := c.sys.wait(func() string { return "waiting for " + c.place.api })
	defer stop()
	first := true
	err := open(ctx, func() {
		if first {
			first = false
			late.Stop()
			stop()
			heard()
		}
	})
	late.Stop()
	if errors.Is(context.Cause(ctx), errSilent) {
		return status.Error(codes.DeadlineExceeded, errSilent.Error())
	}
	return err
}

// tellEmpty says when a namespace has no socket and no handler: a wrong name looks like a quiet one. It says nothing
// when the node does not know that of all nodes, nor of /, which is always there, nor of NAME*, whose sockets cannot be
// listed.
func (c *caller) tellEmpty(ctx context.Context, namespace string, local bool) {
	namespace = "/" + strings.TrimPrefix(namespace, "/")
	if namespace == "/" || strings.HasSuffix(namespace, "*") {
		return
	}
	target := &foyerv1.Target{Namespace: namespace, All: true, Local: local}
	sockets, err := call(ctx, c, foyerv1.NewSocketServiceClient(c.conn).ListSockets, &foyerv1.ListSocketsRequest{Target: target, PageSize: 1})
	if err != nil || len(sockets.GetSockets()) > 0 || missing(sockets.GetCoverage()) != "" || uncounted(sockets.GetCoverage()) != "" {
		return
	}
	handlers, err := call(ctx, c, foyerv1.NewHandlerServiceClient(c.conn).ListHandlers, &foyerv1.ListHandlersRequest{Local: local, PageSize: 1000})
	if err != nil || handlers.GetNextPageToken() != "" || missing(handlers.GetCoverage()) != "" {
		return
	}
	for _, h := range handlers.GetHandlers() {
		r := h.GetRegistration()
		if !r.GetObserver() && slices.ContainsFunc(r.GetNamespaces(), func(name string) bool {
			prefix, open := strings.CutSuffix(name, "*")
			return name == namespace || open && strings.HasPrefix(namespace, prefix)
		}) {
			return
		}
	}
	c.sys.note("no socket or handler of " + namespace + " is there yet")
}

// passes says whether it may help to try again.
func passes(err error) bool {
	if errors.Is(err, io.EOF) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal:
		return true
	}
	return false
}
