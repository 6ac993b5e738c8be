package grpcapi

import (
	"context"
	"maps"
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/service/payload"
)

type nodeService struct {
	foyerv1.UnimplementedNodeServiceServer
	s *Server
}

func (n *nodeService) GetInfo(context.Context, *foyerv1.GetInfoRequest) (*foyerv1.GetInfoResponse, error) {
	s := n.s
	info := s.node.Info()
	resp := &foyerv1.GetInfoResponse{
		NodeId: string(info.NodeID), Version: info.Version, Features: s.cfg.Features, Limits: s.limitsMessage(),
		StartedAt: timestamp(info.StartedAt), Sockets: count(info.Sockets), Namespaces: count(info.Namespaces),
		Handlers: count(info.Handlers), Dropped: s.dropped(info.Dropped), Kept: info.Kept,
	}
	if s.cfg.Sessions != nil {
		resp.Sessions = count(s.cfg.Sessions())
	}
	return resp, nil
}

var stateMessages = map[service.NodeState]foyerv1.NodeState{
	service.NodeUp: foyerv1.NodeState_NODE_STATE_UP, service.NodeJoining: foyerv1.NodeState_NODE_STATE_JOINING,
	service.NodeSilent: foyerv1.NodeState_NODE_STATE_SILENT, service.NodeDraining: foyerv1.NodeState_NODE_STATE_DRAINING,
	service.NodeLost: foyerv1.NodeState_NODE_STATE_LOST, service.NodeIncompatible: foyerv1.NodeState_NODE_STATE_INCOMPATIBLE,
}

// ListNodes lists the nodes as this one sees them: nobody is asked, so nobody is missing.
func (n *nodeService) ListNodes(context.Context, *foyerv1.ListNodesRequest) (*foyerv1.ListNodesResponse, error) {
	info, now := n.s.node.Info(), time.Now()
	resp := &foyerv1.ListNodesResponse{Coverage: coverageMessage(service.Coverage{})}
	for _, node := range n.s.node.Nodes() {
		m := &foyerv1.Node{
			NodeId: string(node.Node), Version: node.Version, StartedAt: timestamp(node.Started()), State: stateMessages[node.State],
			StateAge: age(now, node.Since), PeerAddress: node.Address,
		}
		if m.Answers = node.Node == info.NodeID; m.Answers {
			m.StartedAt, m.Sockets = timestamp(info.StartedAt), count(info.Sockets)
			if n.s.notServing.Load() {
				m.State = foyerv1.NodeState_NODE_STATE_DRAINING
			}
		} else {
			m.HeardAge = age(now, node.Heard)
		}
		m.Draining = m.State == foyerv1.NodeState_NODE_STATE_DRAINING
		resp.Nodes = append(resp.Nodes, m)
	}
	return resp, nil
}

// age is how long ago a time was; nil: it never was.
func age(now, then time.Time) *durationpb.Duration {
	if then.IsZero() {
		return nil
	}
	return durationpb.New(max(0, now.Sub(then)).Round(time.Millisecond))
}

// dropped are those that occurred.
func (s *Server) dropped(counts map[string]int64) map[string]int64 {
	all := s.Dropped(counts)
	maps.DeleteFunc(all, func(_ string, v int64) bool { return v == 0 })
	return all
}

// Dropped adds what was dropped here and at the edges to what the service counts, by all reasons that there are.
func (s *Server) Dropped(counts map[string]int64) map[string]int64 {
	all := map[string]int64{}
	maps.Copy(all, counts)
	for name, c := range map[string]*atomic.Int64{
		"reply_invalid": &s.invalidReplies, "decision_invalid": &s.invalidDecisions, "auth_invalid": &s.invalidAuth,
		"api_panic": &s.panics,
	} {
		all[name] = c.Load()
	}
	for why := range s.gate.counts {
		all[refusals[why].reason] = s.gate.counts[why].Load()
	}
	if s.cfg.EdgeCounts != nil {
		maps.Copy(all, s.cfg.EdgeCounts())
	}
	return all
}

func (s *Server) limitsMessage() *foyerv1.Limits {
	c := &s.limits
	return &foyerv1.Limits{
		MaxPayloadBytes: int32(c.MaxPayloadBytes), MaxAttachments: payload.MaxAttachments, MaxJsonDepth: payload.MaxDepth,
		MaxAckRecipients: maxAckRecipients, MaxAckTimeout: durationpb.New(maxAckTimeout), MaxPageSize: maxPageSize,
		MaxRooms: maxRooms, MaxRoomsPerSocket: int32(c.MaxRoomsPerSocket), MaxNameBytes: service.MaxNameBytes,
		MaxNamespacesPerLink: int32(s.cfg.MaxNamespacesPerLink), QueueBytes: s.queueBytes.Load(),
		MaxQueuedEvents: int32(c.MaxQueuedEvents), MaxInFlight: maxInFlight,
		DecideWithin: durationpb.New(c.DecideWithin), HandlerWait: durationpb.New(c.HandlerWait),
		MaxRequestBytes: int32(min(s.maxRequest(), math.MaxInt32)),
	}
}
