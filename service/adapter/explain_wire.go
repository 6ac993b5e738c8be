package adapter

import (
	"slices"
	"time"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// This file has the words between nodes for two questions of operators: whom an emit would reach, and which handlers
// there are.

func explainQuestion(r *service.ExplainRequest, bytes int) *clusterv1.Question {
	return &clusterv1.Question{Ask: &clusterv1.Question_Explain{Explain: &clusterv1.Explain{
		Target: targetMessage(&r.Target), Local: r.Target.Local, SocketId: string(r.Socket), UserId: r.User, Flags: uint32(r.Flags),
		Size: uint32(r.Bytes), Most: uint32(r.Most), Bytes: uint32(bytes),
	}}}
}

// maxEventSize is the largest event that is asked about.
const maxEventSize = 1 << 30

func validExplain(x *clusterv1.Explain) bool {
	return validTarget(x.GetTarget()) && len(x.GetSocketId()) <= service.MaxNameBytes && len(x.GetUserId()) <= maxUserID &&
		x.GetFlags() <= uint32(service.Volatile|service.NoCompress) && x.GetSize() <= maxEventSize && x.GetMost() <= maxPage &&
		x.GetBytes() <= service.MaxExplainedBytes
}

func explainRequest(x *clusterv1.Explain) service.ExplainRequest {
	r := service.ExplainRequest{
		Target: targetHere(x.GetTarget()), Socket: service.SocketID(x.GetSocketId()), User: x.GetUserId(), Flags: service.Flags(x.GetFlags()),
		Bytes: int(x.GetSize()), Most: int(x.GetMost()), MaxBytes: int(x.GetBytes()), Abroad: true,
	}
	r.Target.Local = x.GetLocal()
	return r
}

// explanationMessage is what this node says of its own sockets to a node that asks about a namespace.
func explanationMessage(namespace string, x *service.Explanation) *clusterv1.Explanation {
	m := &clusterv1.Explanation{Asked: explainedMessages(namespace, x.Asked), Sample: explainedMessages(namespace, x.Sample)}
	for _, n := range x.Nodes {
		m.Reach = &clusterv1.Reach{Matched: uint32(n.Matched), Reached: uint32(n.Reached), NearlyFull: uint32(n.NearlyFull)}
		for _, count := range n.Verdicts {
			m.Reach.Verdicts = append(m.Reach.Verdicts, uint32(count))
		}
	}
	return m
}

func explainedMessages(namespace string, list []service.Explained) (messages []*clusterv1.Explained) {
	for i := range list {
		e := &list[i]
		m := &clusterv1.Explained{
			Socket: socketMessage(&e.Socket, service.ViewBasic), Verdict: uint32(e.Verdict), Rooms: e.Rooms, ExceptRooms: e.ExceptRooms,
		}
		if e.Socket.ConnectedAt.IsZero() {
			m.Socket.ConnectedAt = 0
		}
		if e.Socket.Namespace != namespace {
			m.Namespace = e.Socket.Namespace
		}
		if l := e.Link; l != nil {
			m.Link = &clusterv1.Link{Waiting: uint64(l.Waiting), Limit: uint64(l.Limit), Writable: l.Writable, Paused: l.Paused}
			if !l.FullSince.IsZero() {
				m.Link.FullSince = l.FullSince.UnixNano()
			}
		}
		if g := e.Gone; g != nil {
			m.Departure = &clusterv1.Departure{Time: g.Time.UnixNano(), Reason: uint32(g.Reason), Detail: text(g.Detail)}
		}
		messages = append(messages, m)
	}
	return messages
}

func validExplanation(x *clusterv1.Explanation) bool {
	r := x.GetReach()
	if r != nil && (len(r.GetVerdicts()) != int(service.Verdicts) || r.GetMatched() > maxCount || r.GetReached() > maxCount || r.GetNearlyFull() > maxCount) ||
		len(x.GetAsked()) > service.MaxExplained || len(x.GetSample()) > maxPage {
		return false
	}
	if slices.ContainsFunc(r.GetVerdicts(), func(n uint32) bool { return n > maxCount }) {
		return false
	}
	bad := func(e *clusterv1.Explained) bool {
		return e.GetSocket() == nil || len(e.GetSocket().GetId()) > service.MaxNameBytes || len(e.GetSocket().GetUserId()) > maxUserID ||
			e.GetNamespace() != "" && !validNamespace(e.GetNamespace()) || e.GetVerdict() == 0 || e.GetVerdict() >= uint32(service.Verdicts) ||
			len(e.GetRooms()) > maxRooms || len(e.GetExceptRooms()) > maxRooms || e.GetLink().GetWaiting() > 1<<62 || e.GetLink().GetLimit() > 1<<62 ||
			e.GetDeparture().GetReason() > uint32(service.ReasonNodeLost)
	}
	return !slices.ContainsFunc(x.GetAsked(), bad) && !slices.ContainsFunc(x.GetSample(), bad)
}

func explanationOf(from service.NodeID, namespace string, m *clusterv1.Explanation) service.Explanation {
	x := service.Explanation{Asked: explainedOf(from, namespace, m.GetAsked()), Sample: explainedOf(from, namespace, m.GetSample())}
	if r := m.GetReach(); r != nil {
		n := service.Reach{Node: from, Matched: int(r.GetMatched()), Reached: int(r.GetReached()), NearlyFull: int(r.GetNearlyFull())}
		for v, count := range r.GetVerdicts() {
			n.Verdicts[v] = int(count)
		}
		x.Nodes = []service.Reach{n}
	}
	return x
}

func explainedOf(from service.NodeID, namespace string, messages []*clusterv1.Explained) (list []service.Explained) {
	for _, m := range messages {
		of := namespace
		if m.GetNamespace() != "" {
			of = m.GetNamespace()
		}
		e := service.Explained{
			Socket: socketInfo(from, of, m.GetSocket()), Verdict: service.EmitVerdict(m.GetVerdict()), Rooms: m.GetRooms(), ExceptRooms: m.GetExceptRooms(),
		}
		if e.Verdict == service.VerdictUnknown {
			e.Socket = service.SocketInfo{ID: e.Socket.ID}
		}
		if l := m.GetLink(); l != nil {
			e.Link = &service.LinkState{Waiting: int(l.GetWaiting()), Limit: int(l.GetLimit()), Writable: l.GetWritable(), Paused: l.GetPaused()}
			if at := l.GetFullSince(); at != 0 {
				e.Link.FullSince = time.Unix(0, at)
			}
		}
		if g := m.GetDeparture(); g != nil {
			e.Gone = &service.Departure{Socket: e.Socket, Time: time.Unix(0, g.GetTime()), Reason: service.Reason(g.GetReason()), Detail: g.GetDetail()}
		}
		list = append(list, e)
	}
	return list
}

func handlerMessage(h *service.HandlerInfo) *clusterv1.AttachedHandler {
	r := &h.Registration
	return &clusterv1.AttachedHandler{
		Registration: &clusterv1.Registration{
			Number: h.Number, Age: int64(time.Since(h.Since)), Namespaces: r.Namespaces, Group: r.Group, Id: r.ID, Observer: r.Observer, Events: r.Events,
			DecideConnects: r.DecideConnects, ServerSideEvents: r.ServerSideEvents, MaxInFlight: uint32(r.MaxInFlight), View: uint32(r.View),
			Leaving: h.Draining,
		},
		Local: r.Local, Address: text(r.Address), Sockets: uint32(h.Sockets), Queued: uint32(h.Queued), QueuedBytes: uint64(h.Bytes),
		InFlight: uint32(h.InFlight), Connects: uint32(h.Connects), Oldest: int64(h.Oldest),
	}
}

func validHandler(h *clusterv1.AttachedHandler) bool {
	return h.GetRegistration() != nil && validRegistration(h.GetRegistration()) && len(h.GetAddress()) <= service.MaxNameBytes &&
		h.GetSockets() <= maxCount && h.GetQueued() <= maxCount && h.GetQueuedBytes() < 1<<62 && h.GetInFlight() <= maxCount && h.GetConnects() <= maxCount
}

func handlerInfo(of service.NodeID, m *clusterv1.AttachedHandler) service.HandlerInfo {
	h := service.HandlerInfo{
		Node: of, Number: m.GetRegistration().GetNumber(), Registration: registrationOf(m.GetRegistration()), Since: claimedAt(m.GetRegistration()),
		Draining: m.GetRegistration().GetLeaving(), Oldest: time.Duration(m.GetOldest()),
		HandlerLoad: service.HandlerLoad{
			Sockets: int(m.GetSockets()), Queued: int(m.GetQueued()), Bytes: int(m.GetQueuedBytes()), InFlight: int(m.GetInFlight()), Connects: int(m.GetConnects()),
		},
	}
	h.Registration.Local, h.Registration.Address = m.GetLocal(), m.GetAddress()
	return h
}
