package adapter

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// answerMost is how long an answer may take. The node that asked has given up long before.
const answerMost = 10 * time.Second

// take takes up a question of a member. Each is answered by a goroutine of its own, so that one which takes long is in
// nobody's way. A caller that wants an order waits for the answers.
func (c *Cluster) take(in *inbox, from Member, q *clusterv1.Question) {
	if number := q.GetFinished(); number != 0 {
		c.finished(from, number)
		return
	}
	c.mu.Lock()
	full := in.asked >= maxAsked
	if full {
		c.busy++
	} else {
		in.asked++
	}
	c.mu.Unlock()
	if full {
		return
	}
	c.ended.Go(func() {
		ctx, stop := context.WithTimeout(c.context, answerMost)
		defer stop()
		step := c.traceAnswer(q)
		a := c.answer(ctx, from, q)
		if a.GetError() != nil {
			step.Fail(a.GetError().GetReason())
		}
		step.End()
		a.Call = q.GetCall()
		c.give(from, answerItem(a))
		c.mu.Lock()
		in.asked--
		c.forgetInbox(in)
		c.mu.Unlock()
	})
}

// traceAnswer begins the step of a question that is part of a trace.
func (c *Cluster) traceAnswer(q *clusterv1.Question) *service.Trace {
	if q.GetTrace() == "" || c.Tracer() == nil {
		return nil
	}
	cause, _ := c.Tracer().Parse(q.GetTrace())
	if cause == nil {
		return nil
	}
	m := q.ProtoReflect()
	asked := "unknown"
	if f := m.WhichOneof(m.Descriptor().Oneofs().ByName("ask")); f != nil {
		asked = string(f.Name())
	}
	return c.Tracer().Begin(cause, trace.SpanKindServer, "answer", time.Now(), attribute.String("foyer.node", string(c.ID())), attribute.String("foyer.question", asked))
}

// answer does here what a member asks for.
func (c *Cluster) answer(ctx context.Context, from Member, q *clusterv1.Question) *clusterv1.Answer {
	a := &clusterv1.Answer{}
	matched := func(n int, _ service.Coverage, err error) {
		if err != nil {
			a.Error = errorMessage(err)
		}
		a.Matched = uint32(n)
	}
	switch ask := q.GetAsk().(type) {
	case *clusterv1.Question_Join:
		// The node that asks hears the news before the answer, and has foreseen it.
		n, unheard, err := c.joinHere(ctx, targetHere(ask.Join.GetTarget()), ask.Join.GetRooms(), from.Node)
		if matched(n, service.Coverage{}, err); err == nil {
			for _, n := range unheard {
				a.Unreachable = append(a.Unreachable, string(n))
			}
		}
	case *clusterv1.Question_Leave:
		matched(c.Node.Leave(ctx, targetHere(ask.Leave.GetTarget()), ask.Leave.GetRooms()))
	case *clusterv1.Question_Disconnect:
		matched(c.Node.Disconnect(ctx, targetHere(ask.Disconnect.GetTarget()), service.DisconnectMode(ask.Disconnect.GetMode())))
	case *clusterv1.Question_Count:
		matched(c.Count(targetHere(ask.Count)), service.Coverage{}, nil)
	case *clusterv1.Question_ListRooms:
		r := ask.ListRooms
		page, _ := c.Node.Rooms(ctx, service.RoomsRequest{
			Namespace: r.GetNamespace(), Prefix: r.GetPrefix(), After: r.GetAfter(), Limit: int(r.GetLimit()),
		})
		for _, room := range page.Rooms {
			a.Rooms = append(a.Rooms, &clusterv1.RoomSize{Name: text(room.Name), Size: uint32(room.Size)})
		}
	case *clusterv1.Question_GetSocket:
		info, err := c.Node.Socket(ctx, ask.GetSocket.GetNamespace(), service.SocketID(ask.GetSocket.GetId()))
		socketAnswer(a, &info, err)
	case *clusterv1.Question_UpdateSocket:
		u := ask.UpdateSocket
		info, err := c.Node.Update(ctx, u.GetNamespace(), service.SocketID(u.GetId()), service.Update{Data: u.GetData(), Merge: u.GetMerge(), UserID: u.UserId})
		socketAnswer(a, &info, err)
	case *clusterv1.Question_ListSockets:
		l := ask.ListSockets
		self := c.Incarnation()
		request := service.PageRequest{Limit: int(l.GetLimit()), Bytes: int(l.GetBytes()), View: service.View(l.GetView())}
		if l.GetSeq() != 0 {
			request.Place = service.Place{Incarnation: service.Incarnation{Node: self.Node, Run: l.GetRun()}, Seq: l.GetSeq()}
		}
		page, err := c.Node.Sockets(ctx, targetHere(l.GetTarget()), request)
		if err != nil {
			a.Error = errorMessage(err)
		}
		for i := range page.Sockets {
			a.Sockets = append(a.Sockets, socketMessage(&page.Sockets[i], request.View))
		}
		a.Next = page.Next.Seq
	case *clusterv1.Question_Explain:
		x, _ := c.Node.Explain(ctx, explainRequest(ask.Explain))
		a.Explanation = explanationMessage(ask.Explain.GetTarget().GetNamespace(), &x)
	case *clusterv1.Question_ListHandlers:
		l := ask.ListHandlers
		request := service.HandlersRequest{Limit: int(l.GetLimit()), Bytes: int(l.GetBytes())}
		if l.GetSeq() != 0 {
			request.Place = service.Place{Incarnation: service.Incarnation{Node: c.ID(), Run: l.GetRun()}, Seq: l.GetSeq()}
		}
		page, _ := c.Node.Handlers(ctx, request)
		for i := range page.Handlers {
			a.Handlers = append(a.Handlers, handlerMessage(&page.Handlers[i]))
		}
		a.Next = page.Next.Seq
	case *clusterv1.Question_Past:
		a.Presence = c.past(ask.Past)
	default:
		a.Error = &clusterv1.Error{Code: uint32(service.Unimplemented), Message: "the node does not know this question"} // no caller of the API sees it
	}
	return a
}

func socketAnswer(a *clusterv1.Answer, info *service.SocketInfo, err error) {
	if err != nil {
		a.Error = errorMessage(err)
		return
	}
	a.Sockets = []*clusterv1.Socket{socketMessage(info, service.ViewFull)}
}
