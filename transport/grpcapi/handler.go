package grpcapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

const (
	// registerWithin is how long a stream may be there without having registered.
	registerWithin = 10 * time.Second
	// maxResults is how many results of commands may wait to be sent before the stream is not read any further.
	maxResults = 1024
)

type handlerService struct {
	foyerv1.UnimplementedHandlerServiceServer
	s *Server
}

// Attach ends with OK when the handler has drained, or when the client has closed its side: it can answer nothing any
// more, so it gets the results of what it has sent and no further events.
func (hs *handlerService) Attach(stream grpc.BidiStreamingServer[foyerv1.AttachRequest, foyerv1.AttachResponse]) error {
	s := hs.s
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	a := &attachment{
		s: s, stream: stream, ctx: ctx, first: make(chan received, 1), attached: make(chan struct{}),
		results: make(chan struct{}, maxResults),
	}
	s.streams.Go(a.receive)

	reg, view, err := a.registration()
	if err != nil {
		return s.refuseStream(ctx, "handler", err)
	}
	caller := callerOf(ctx)
	reg.Address = hostOfCall(ctx)
	if !s.handlers.take(caller) {
		return s.beyondShare(ctx, s.handlers, "handlers")
	}
	defer s.handlers.give(caller)
	h, coverage, err := s.node.Attach(ctx, reg)
	if err != nil {
		return s.refuseStream(ctx, "handler of group "+strconv.Quote(reg.Group), err)
	}
	a.h, a.view = h, view
	who := []zap.Field{zap.String("group", cmp.Or(reg.Group, "default")), zap.String("handler", h.ID()), zap.Strings("namespaces", reg.Namespaces)}
	how := []zap.Field{zap.String("address", hostOfCall(ctx)), zap.Bool("decides_connects", reg.DecideConnects), zap.Bool("observer", reg.Observer)}
	if len(coverage.Unreachable) > 0 {
		how = append(how, zap.Strings("unreachable", coverage.Unreachable))
	}
	s.gate.told.Info("handler attached", append(how, who...)...)
	defer func() {
		cancel()
		a.finish()
		h.Detach()
		s.tellDetached(ctx, err, who...)
	}()

	// Sent before the sender begins: whatever the handler is told comes after it.
	if err = stream.Send(a.registered()); err != nil {
		return err
	}
	close(a.attached)
	err = s.outlet(a.send, h.Done(), service.ErrTooSlow)
	return err
}

// attachment is one handler stream.
type attachment struct {
	// Set before start.
	s       *Server
	stream  grpc.BidiStreamingServer[foyerv1.AttachRequest, foyerv1.AttachResponse]
	ctx     context.Context // of the stream's life
	first   chan received   // the first message, from the receiver
	results chan struct{}   // an item for each result of a command that is not sent yet

	attached chan struct{} // closed when the two below are set
	h        handler
	view     foyerv1.SocketView

	asks asks // server-side emits of this stream that wait for replies

	gate sync.Mutex // held while a message is applied
	over bool       // nothing is applied any more; guarded by gate

	warned bool // owned by the receiver
}

type received struct {
	message *foyerv1.AttachRequest
	err     error
}

// registration waits for the first message, which is to be a valid Register.
func (a *attachment) registration() (service.Registration, foyerv1.SocketView, error) {
	timer := time.NewTimer(registerWithin)
	defer timer.Stop()
	var first received
	select {
	case first = <-a.first:
	case <-timer.C:
		return service.Registration{}, 0, notRegistered(fmt.Sprintf("did not come within %v", registerWithin))
	case <-a.s.draining.Done():
		return service.Registration{}, 0, service.ErrDraining
	case <-a.ctx.Done():
		return service.Registration{}, 0, a.ctx.Err()
	}
	switch {
	case errors.Is(first.err, io.EOF):
		return service.Registration{}, 0, notRegistered("the stream ended before it came")
	case first.err != nil:
		return service.Registration{}, 0, first.err
	}
	switch m := first.message.GetMessage().(type) {
	case *foyerv1.AttachRequest_Register:
		return registration(m.Register)
	case nil:
		return service.Registration{}, 0, emptyMessage()
	}
	return service.Registration{}, 0, notRegistered("must be the first message of the stream")
}

func notRegistered(message string) error {
	return fail(service.Precondition, foyerv1.ErrorReason_ERROR_REASON_NOT_REGISTERED, "register", "%s", message)
}

func emptyMessage() error {
	return invalidField("message", "one of register, connect_reply, event_reply, handled, command and drain is required")
}

func (a *attachment) registered() *foyerv1.AttachResponse {
	info := a.s.node.Info()
	return &foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Registered{Registered: &foyerv1.Registered{
		HandlerId: a.h.ID(), NodeId: string(info.NodeID), MaxInFlight: int32(a.h.MaxInFlight()), Limits: a.s.limitsMessage(),
	}}}
}

// finish lets nothing of the stream take effect from now on. The context has ended, so what is being applied ends soon.
func (a *attachment) finish() {
	a.gate.Lock()
	defer a.gate.Unlock()
	a.over = true
}

// Names of these streams in the log.
var (
	attachMethod     = strings.TrimPrefix(foyerv1.HandlerService_Attach_FullMethodName, "/")
	emitStreamMethod = strings.TrimPrefix(foyerv1.EmitService_EmitStream_FullMethodName, "/")
)
