package grpcapi

import (
	"errors"
	"io"

	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// Posts of the receiver into the handler's queue, so that each is sent in its place among what the handler is told.
type (
	postedResult struct{ message *foyerv1.AttachResponse }
	postedEnd    struct{ err error } // the stream is over once what is before it was sent
)

// send takes what the handler is to be told and sends it, until the stream is over.
func (a *attachment) send() error {
	buf := make([]service.Notice, 0, defaultInFlight)
	drained := false
	for {
		var err error
		buf, err = a.h.Next(a.ctx, buf)
		for i := range buf {
			over, sendErr := a.notice(&buf[i])
			if over || sendErr != nil {
				return sendErr
			}
		}
		clear(buf) // an idle handler keeps no packets
		switch {
		case errors.Is(err, io.EOF) && !drained:
			// The handler has given its last reply and may still wait for those of others: their results are queued when they
			// have come.
			a.asks.wait(a.ctx, a.h.Done())
			drained = true
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// notice sends one notice and says whether it was the stream's last.
func (a *attachment) notice(n *service.Notice) (over bool, err error) {
	switch n.Kind {
	case service.NoticeEvent:
		return false, a.stream.SendMsg(encodeEvent(n))
	case service.NoticeConnect:
		return false, a.connect(n)
	case service.NoticeConnected:
		return false, a.stream.Send(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Connected{
			Connected: &foyerv1.Connected{Socket: socketMessage(n.Sockets[0], a.view)},
		}})
	case service.NoticeAssigned:
		return false, a.assigned(n)
	case service.NoticeDisconnected:
		s := socketMessage(n.Sockets[0], a.view)
		s.Rooms = n.Sockets[0].Rooms // in every view: they are known to nobody else any more
		return false, a.stream.Send(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Disconnected{
			Disconnected: &foyerv1.Disconnected{
				Socket: s, Reason: disconnectReasons[n.Reason], Detail: disconnectDetail(n.Reason, n.Detail),
			},
		}})
	case service.NoticeServerSide:
		return false, a.stream.Send(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_ServerSideEvent{
			ServerSideEvent: &foyerv1.ServerSideEvent{
				CallId: n.CallID, Namespace: text(n.Namespace), Payload: payloadMessage(n.Packet), WantsReply: n.WantsReply,
				FromNodeId: string(n.FromNode), Traceparent: n.Trace.Traceparent(),
			},
		}})
	case service.NoticeDraining:
		d := &foyerv1.Draining{Reason: foyerv1.DrainReason_DRAIN_REASON_NODE_DRAIN, Until: timestamp(n.Until)}
		if n.Replaced {
			d.Reason = foyerv1.DrainReason_DRAIN_REASON_REPLACED
		}
		return false, a.stream.Send(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Draining{Draining: d}})
	case service.NoticePosted:
		switch p := n.Posted.(type) {
		case postedResult:
			err := a.stream.Send(p.message)
			<-a.results
			return false, err
		case postedEnd:
			return true, p.err
		}
	}
	return false, nil
}

// connect asks for a decision. Auth that no Struct can hold must not look like none: such a client is turned away here.
func (a *attachment) connect(n *service.Notice) error {
	info := n.Sockets[0]
	auth, err := structOf(info.Auth)
	if err != nil {
		a.s.invalidAuth.Add(1)
		a.h.Decide(n.CallID, service.Decision{Reject: &service.Refusal{Message: "invalid auth"}})
		return nil //nolint:nilerr // the client's fault, not the stream's
	}
	socket := socketMessage(info, foyerv1.SocketView_SOCKET_VIEW_FULL)
	socket.Handshake.Auth = auth
	return a.stream.Send(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Connect{Connect: &foyerv1.Connect{
		CallId: n.CallID, Socket: socket, DecideWithin: durationpb.New(a.s.limits.DecideWithin), Traceparent: n.Trace.Traceparent(),
	}}})
}

func (a *attachment) assigned(n *service.Notice) (err error) {
	cause := foyerv1.Assigned_CAUSE_ATTACHED
	if n.Failover {
		cause = foyerv1.Assigned_CAUSE_FAILOVER
	}
	chunks(n.Sockets, func(s **service.SocketInfo) int { return service.View(a.view).Bytes(*s) }, func(part []*service.SocketInfo) bool {
		m := &foyerv1.Assigned{Sockets: make([]*foyerv1.Socket, len(part)), Cause: cause}
		for i, s := range part {
			m.Sockets[i] = socketMessage(s, a.view)
		}
		err = a.stream.Send(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Assigned{Assigned: m}})
		return err == nil
	})
	return err
}
