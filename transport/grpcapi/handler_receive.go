package grpcapi

import (
	"context"
	"errors"
	"io"
	"sync"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// errOver ends the receiver of a stream that is over: nobody is there to be told.
var errOver = errors.New("the stream is over")

// receive takes the client's messages and applies them in their order. It has a goroutine of its own, which the Server
// waits for.
func (a *attachment) receive() {
	message, err := a.stream.Recv()
	a.first <- received{message, err}
	if err != nil {
		return
	}
	select {
	case <-a.attached:
	case <-a.ctx.Done():
		return
	}
	in := attachRequest{maxBytes: a.s.limits.MaxPayloadBytes}
	for {
		err := a.stream.RecvMsg(&in)
		if errors.Is(err, io.EOF) {
			if a.asks.any() { // their results are still to be sent, and nothing else: it can answer nothing
				a.h.Drain()
				a.asks.wait(a.ctx, nil)
			}
			a.end(nil)
			return
		}
		if err != nil {
			a.end(err)
			return
		}
		if err := a.apply(&in); err != nil {
			a.end(err)
			return
		}
	}
}

// end makes the sender end the stream with err after what is queued before it, unless the stream has ended otherwise.
func (a *attachment) end(err error) {
	if errors.Is(err, errOver) {
		return
	}
	select {
	case <-a.attached:
		a.h.Post(postedEnd{err}) // false: the handler has ended, and Next says why
	default: // the first message could not be handled: the RPC sees to it
		select {
		case a.first <- received{err: err}:
		default:
		}
	}
}

// apply lets a message take effect. An error ends the stream.
func (a *attachment) apply(r *attachRequest) error {
	a.gate.Lock()
	defer a.gate.Unlock()
	if a.over {
		return errOver
	}
	if r.message == nil {
		a.h.Reply(r.callID, r.json, r.attachments)
		r.release()
		return nil
	}
	switch m := r.message.GetMessage().(type) {
	case *foyerv1.AttachRequest_EventReply:
		a.eventReply(m.EventReply)
	case *foyerv1.AttachRequest_Handled:
		a.h.Handled(m.Handled.GetUpTo())
	case *foyerv1.AttachRequest_Command:
		return a.command(m.Command)
	case *foyerv1.AttachRequest_ConnectReply:
		a.connectReply(m.ConnectReply)
	case *foyerv1.AttachRequest_Drain:
		a.h.Drain()
	case *foyerv1.AttachRequest_Register:
		return notRegistered("must come only once")
	default:
		return emptyMessage()
	}
	return nil
}

// eventReply answers an event, of a client or of a server. A reply with invalid arguments frees the slot, but
// acknowledges nothing: one bad reply must not end the stream and with it the traffic of all other sockets.
func (a *attachment) eventReply(r *foyerv1.EventReply) {
	array, attachments, err := ackArguments(r.GetArgs(), a.s.limits.MaxPayloadBytes)
	if err != nil {
		a.s.invalidReplies.Add(1)
		a.warn("reply refused", "reply_invalid", err)
		a.h.Reply(r.GetCallId(), nil, nil)
		return
	}
	a.h.Reply(r.GetCallId(), array, attachments)
}

// connectReply decides a connect. An invalid decision turns this one client away; it never lets anybody in.
func (a *attachment) connectReply(r *foyerv1.ConnectReply) {
	d, err := decision(r, &a.s.limits)
	if err != nil {
		a.s.invalidDecisions.Add(1)
		a.warn("decision refused", "decision_invalid", err)
		d = service.Decision{Reject: &service.Refusal{Message: "internal error"}}
	}
	a.h.Decide(r.GetCallId(), d)
}

// warn tells of a mistake of the backend: the first of a stream as a warning, since the next thousand are the same one.
func (a *attachment) warn(message, reason string, err error) {
	level := zap.DebugLevel
	if !a.warned {
		a.warned, level = true, zap.WarnLevel
	}
	if ce := a.s.gate.told.Check(level, message); ce != nil {
		ce.Write(zap.String("reason", reason), zap.String("address", hostOfCall(a.ctx)), zap.String("handler", a.h.ID()),
			zap.String("detail", cut(told("reply", err))))
	}
}

// command runs a call of the API in its place on the stream. Its errors are its result; only the end of the stream is
// an error here. While maxResults wait to be sent, the stream is not read.
func (a *attachment) command(c *foyerv1.Command) error {
	if c.GetId() != 0 {
		select {
		case a.results <- struct{}{}:
		case <-a.ctx.Done():
			return errOver
		}
	}
	if r := c.GetServerSideEmit(); r.GetWantsReplies() {
		if c.GetId() != 0 {
			return a.ask(c, r)
		}
		r.WantsReplies = false // nobody would get them
	}
	result, err := a.run(c)
	if !a.result(c.GetId(), result, err) {
		return errOver
	}
	return nil
}

// result queues the result of a command; false: the handler has ended.
func (a *attachment) result(id uint64, result *foyerv1.CommandResult, err error) bool {
	if err != nil {
		st := toStatus(err)
		if st.Code() == codes.Internal {
			a.s.logInternal(attachMethod, err, nil)
		}
		result = &foyerv1.CommandResult{Result: &foyerv1.CommandResult_Error{Error: st.Proto()}}
	}
	if id == 0 {
		return true
	}
	result.Id = id
	message := &foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_CommandResult{CommandResult: result}}
	return a.h.Post(postedResult{message})
}

// ask runs a server-side emit that wants replies. It returns when the event is with everybody, so that the order of the
// stream holds; the replies are waited for by a goroutine of its own, which the Server waits for.
func (a *attachment) ask(c *foyerv1.Command, r *foyerv1.ServerSideEmitRequest) error {
	id := c.GetId()
	if !a.asks.begin() {
		if !a.result(id, nil, tooManyAsks()) {
			return errOver
		}
		return nil
	}
	ctx, step := a.begin(c)
	told := make(chan struct{})
	tell := sync.OnceFunc(func() { close(told) })
	a.s.streams.Go(func() {
		defer a.asks.end()
		defer tell()
		resp, err := a.s.serverSideEmit(ctx, r, a.h, tell)
		endStep(step, toStatus(err).Code())
		a.result(id, &foyerv1.CommandResult{Result: &foyerv1.CommandResult_ServerSideEmit{ServerSideEmit: resp}}, within("command.server_side_emit", err))
	})
	<-told
	return nil
}

// begin begins the step of a command, and returns the context of what it does.
func (a *attachment) begin(c *foyerv1.Command) (context.Context, *service.Trace) {
	if a.s.limits.Tracer == nil {
		return a.ctx, nil
	}
	step := a.s.beginCommand(c)
	if step == nil {
		return a.ctx, nil
	}
	return service.WithTrace(a.ctx, step), step
}

func (a *attachment) run(c *foyerv1.Command) (result *foyerv1.CommandResult, err error) {
	ctx, step := a.begin(c)
	if step != nil {
		defer func() { endStep(step, toStatus(err).Code()) }()
	}
	switch k := c.GetCommand().(type) {
	case *foyerv1.Command_Emit:
		if k.Emit.GetTraceparent() == "" && k.Emit != nil {
			k.Emit.Traceparent = c.GetTraceparent()
		}
		resp, err := a.s.emit(a.ctx, k.Emit, true)
		return &foyerv1.CommandResult{Result: &foyerv1.CommandResult_Emit{Emit: resp}}, within("command.emit", err)
	case *foyerv1.Command_Join:
		resp, err := a.s.join(ctx, k.Join)
		return &foyerv1.CommandResult{Result: &foyerv1.CommandResult_Join{Join: resp}}, within("command.join", err)
	case *foyerv1.Command_Leave:
		resp, err := a.s.leave(ctx, k.Leave)
		return &foyerv1.CommandResult{Result: &foyerv1.CommandResult_Leave{Leave: resp}}, within("command.leave", err)
	case *foyerv1.Command_Disconnect:
		resp, err := a.s.disconnect(ctx, k.Disconnect)
		return &foyerv1.CommandResult{Result: &foyerv1.CommandResult_Disconnect{Disconnect: resp}}, within("command.disconnect", err)
	case *foyerv1.Command_Update:
		resp, err := a.s.update(ctx, k.Update)
		return &foyerv1.CommandResult{Result: &foyerv1.CommandResult_Update{Update: resp}}, within("command.update", err)
	case *foyerv1.Command_ServerSideEmit:
		resp, err := a.s.serverSideEmit(ctx, k.ServerSideEmit, a.h, func() {})
		return &foyerv1.CommandResult{Result: &foyerv1.CommandResult_ServerSideEmit{ServerSideEmit: resp}}, within("command.server_side_emit", err)
	}
	return nil, invalidField("command", "one of emit, join, leave, disconnect, update and server_side_emit is required")
}
