package grpcapi

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// The bounds of a sample of sockets.
const (
	defaultSample = 20
	maxSample     = 500
)

// Explain sends nothing, and what it counts is of the moment.
func (ss *socketService) Explain(ctx context.Context, r *foyerv1.ExplainRequest) (*foyerv1.ExplainResponse, error) {
	request, err := explainOf(r, ss.s.limits.MaxPayloadBytes)
	if err != nil {
		return nil, err
	}
	x, err := ss.s.node.Explain(ctx, request)
	if err != nil {
		return nil, err
	}
	resp := &foyerv1.ExplainResponse{
		Asked: explainedMessages(x.Asked), Nodes: make([]*foyerv1.NodeReach, len(x.Nodes)), Sample: explainedMessages(x.Sample),
		Coverage: coverageMessage(x.Coverage),
	}
	var all service.Reach
	for i := range x.Nodes {
		n := &x.Nodes[i]
		resp.Nodes[i] = &foyerv1.NodeReach{
			NodeId: string(n.Node), Matched: count(n.Matched), Reached: count(n.Reached), Verdicts: verdictCounts(n),
			NearlyFull: count(n.NearlyFull),
		}
		all.Add(n)
	}
	resp.Matched, resp.Reached, resp.Verdicts = count(all.Matched), count(all.Reached), verdictCounts(&all)
	return resp, nil
}

// explainOf checks an ExplainRequest.
func explainOf(r *foyerv1.ExplainRequest, maxBytes int) (to service.ExplainRequest, err error) {
	defer contain(&err)
	none := service.ExplainRequest{}
	t, err := target(r.GetTarget())
	if err != nil {
		return none, err
	}
	to = service.ExplainRequest{Target: t, Flags: emitFlags(r.GetOptions()), Bytes: int(r.GetEventBytes()), Most: int(r.GetSampleSize())}
	switch who := r.GetWho().(type) {
	case *foyerv1.ExplainRequest_SocketId:
		if err := checkName(fieldReason, "socket_id", who.SocketId); err != nil {
			return none, err
		}
		to.Socket = service.SocketID(who.SocketId)
	case *foyerv1.ExplainRequest_UserId:
		if who.UserId == "" || len(who.UserId) > maxUserID {
			return none, invalidField("user_id", "has %d bytes, want 1 to %d", len(who.UserId), maxUserID)
		}
		to.User = who.UserId
	}
	switch {
	case to.Bytes < 0:
		return none, invalidField("event_bytes", "must not be negative")
	case to.Bytes > maxBytes:
		return none, invalid(tooLarge, "event_bytes", "is %d, at most %d (Limits.max_payload_bytes, --max-payload of the node)", to.Bytes, maxBytes)
	case to.Most < 0:
		return none, invalidField("sample_size", "must not be negative")
	case to.Most == 0:
		to.Most = defaultSample
	}
	to.Most = min(to.Most, maxSample)
	return to, nil
}

func verdictCounts(r *service.Reach) (list []*foyerv1.VerdictCount) {
	for v, n := range r.Verdicts {
		if n > 0 {
			list = append(list, &foyerv1.VerdictCount{Verdict: foyerv1.Verdict(v), Count: int32(n)})
		}
	}
	return list
}

func explainedMessages(list []service.Explained) []*foyerv1.Explanation {
	messages := make([]*foyerv1.Explanation, len(list))
	for i := range list {
		e := &list[i]
		m := &foyerv1.Explanation{
			Socket: socketMessage(&e.Socket, foyerv1.SocketView_SOCKET_VIEW_BASIC), Verdict: foyerv1.Verdict(e.Verdict),
			Rooms: e.Rooms, ExceptRooms: e.ExceptRooms,
		}
		if l := e.Link; l != nil {
			waiting, limit := int64(l.Waiting), int64(l.Limit)
			m.Link = &foyerv1.LinkState{
				WaitingBytes: &waiting, LimitBytes: &limit, NearlyFull: l.NearlyFull(), FullSince: timestamp(l.FullSince),
				Writable: l.Writable, Paused: l.Paused,
			}
		}
		if g := e.Gone; g != nil {
			m.Departure = &foyerv1.Departure{
				Time: timestamppb.New(g.Time), Reason: disconnectReasons[g.Reason], Detail: disconnectDetail(g.Reason, g.Detail),
			}
		}
		messages[i] = m
	}
	return messages
}
