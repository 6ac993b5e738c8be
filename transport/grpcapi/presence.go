package grpcapi

import (
	"context"
	"errors"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

type presenceService struct {
	foyerv1.UnimplementedPresenceServiceServer
	s *Server
}

func (p *presenceService) Watch(r *foyerv1.WatchRequest, stream grpc.ServerStreamingServer[foyerv1.WatchResponse]) error {
	to, err := scope(r)
	if err != nil {
		return p.s.refuseStream(stream.Context(), "watch", err)
	}
	view, err := viewOf("view", r.GetView())
	if err != nil {
		return p.s.refuseStream(stream.Context(), "watch", err)
	}
	caller := callerOf(stream.Context())
	if !p.s.watchers.take(caller) {
		return p.s.beyondShare(stream.Context(), p.s.watchers, "watches")
	}
	defer p.s.watchers.give(caller)
	w, err := p.s.node.Watch(stream.Context(), to, r.GetResumeToken())
	if err != nil {
		return p.s.refuseStream(stream.Context(), "watch", withField(err, "resume_token"))
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel() // before Close: what outlet may have left behind must not wait on
	watch := &watch{stream: stream, view: view, token: r.GetResumeToken()}
	err = p.s.outlet(func() error { return watch.send(ctx, w) }, w.Done(), service.ErrTooSlow)
	if e, ok := errors.AsType[*service.Error](err); ok && e.Code == service.Exhausted {
		p.s.gate.refuse(refusedSlow, hostOfCall(ctx), told("watch", err), zap.String("namespace", cut(to.Namespace)))
	}
	return err
}

// withField names the field that a refused token came in.
func withField(err error, field string) error {
	if e, ok := errors.AsType[*service.Error](err); ok && e.Reason == service.ErrToken.Reason && e.Field == "" {
		return e.At(field)
	}
	return err
}

// watch is one Watch on its way out. Owned by its sender.
type watch struct {
	stream grpc.ServerStreamingServer[foyerv1.WatchResponse]
	view   foyerv1.SocketView
	token  string // the last one that was sent
}

func (w *watch) send(ctx context.Context, from watcher) error {
	for {
		step, err := from.Next(ctx)
		if sendErr := w.step(&step); sendErr != nil { // a last bookmark comes with the error that ends the watch
			return sendErr
		}
		if err != nil {
			return err
		}
	}
}

func (w *watch) step(step *service.WatchStep) (err error) {
	switch {
	case step.Reset != service.ResetNone:
		w.token = ""
		reset := &foyerv1.Reset{Reason: resetReasons[step.Reset]}
		return w.stream.Send(&foyerv1.WatchResponse{Message: &foyerv1.WatchResponse_Reset_{Reset_: reset}})
	case len(step.Snapshot) > 0:
		chunks(step.Snapshot, service.View(w.view).Bytes, func(part []service.SocketInfo) bool {
			chunk := &foyerv1.Snapshot{Sockets: make([]*foyerv1.Socket, len(part))}
			for i := range part {
				chunk.Sockets[i] = socketMessage(&part[i], w.view)
			}
			err = w.stream.Send(&foyerv1.WatchResponse{Message: &foyerv1.WatchResponse_Snapshot{Snapshot: chunk}})
			return err == nil
		})
		return err
	case step.Synced:
		w.token = step.Token
		return w.stream.Send(&foyerv1.WatchResponse{
			Message: &foyerv1.WatchResponse_Synced{Synced: &foyerv1.Synced{Coverage: coverageMessage(step.Coverage)}}, ResumeToken: step.Token,
		})
	case len(step.Events) > 0:
		return w.events(step)
	case step.Bookmark:
		w.token = step.Token
		return w.stream.Send(&foyerv1.WatchResponse{
			Message: &foyerv1.WatchResponse_Bookmark{Bookmark: &foyerv1.Bookmark{}}, ResumeToken: step.Token,
		})
	}
	return nil
}

// events sends the changes of one step. When they do not fit into one message, only the last carries their token, which
// is of the place behind all of them; the others repeat the token before. A watcher that is cut off between two of them
// resumes at the earlier token, and hears again the changes that it has. It hears them twice, which it can tell by
// their generation, rather than not at all.
func (w *watch) events(step *service.WatchStep) (err error) {
	left := len(step.Events)
	chunks(step.Events, func(e *service.PresenceEvent) int { return presenceBytes(e, service.View(w.view)) }, func(part []service.PresenceEvent) bool {
		batch := &foyerv1.EventBatch{Events: make([]*foyerv1.PresenceEvent, len(part))}
		for i := range part {
			batch.Events[i] = presenceMessage(&part[i], w.view)
		}
		if left -= len(part); left == 0 {
			w.token = step.Token
		}
		err = w.stream.Send(&foyerv1.WatchResponse{
			Message: &foyerv1.WatchResponse_Events{Events: batch}, ResumeToken: w.token,
		})
		return err == nil
	})
	return err
}
