package grpcapi

import (
	"context"
	"maps"
	"math"
	"sync/atomic"

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
		Handlers: count(info.Handlers), Dropped: s.dropped(info.Dropped),
	}
	if s.cfg.Sessions != nil {
		resp.Sessions = count(s.cfg.Sessions())
	}
	return resp, nil
}

// ListNodes lists this node: it is the cluster.
func (n *nodeService) ListNodes(context.Context, *foyerv1.ListNodesRequest) (*foyerv1.ListNodesResponse, error) {
	info := n.s.node.Info()
	return &foyerv1.ListNodesResponse{
		Nodes: []*foyerv1.Node{{
			NodeId: string(info.NodeID), Version: info.Version, StartedAt: timestamp(info.StartedAt), Sockets: count(info.Sockets),
			Draining: n.s.notServing.Load(),
		}},
		Coverage: coverageMessage(service.Coverage{}),
	}, nil
}

// dropped adds what was dropped here to what the service counts.
func (s *Server) dropped(counts map[string]int64) map[string]int64 {
	all := maps.Clone(counts)
	if all == nil {
		all = map[string]int64{}
	}
	for name, c := range map[string]*atomic.Int64{
		"reply_invalid": &s.invalidReplies, "decision_invalid": &s.invalidDecisions, "auth_invalid": &s.invalidAuth,
		"api_panic": &s.panics,
	} {
		if v := c.Load(); v > 0 {
			all[name] = v
		}
	}
	for why := range s.gate.counts {
		if v := s.gate.counts[why].Load(); v > 0 {
			all[refusals[why].reason] = v
		}
	}
	if s.cfg.EdgeCounts != nil {
		for name, v := range s.cfg.EdgeCounts() {
			if v > 0 {
				all[name] = v
			}
		}
	}
	return all
}

func (s *Server) limitsMessage() *foyerv1.Limits {
	c := &s.limits
	return &foyerv1.Limits{
		MaxPayloadBytes: int32(c.MaxPayloadBytes), MaxAttachments: payload.MaxAttachments, MaxJsonDepth: payload.MaxDepth,
		MaxAckRecipients: maxAckRecipients, MaxAckTimeout: durationpb.New(maxAckTimeout), MaxPageSize: maxPageSize,
		MaxRooms: maxRooms, MaxRoomsPerSocket: int32(c.MaxRoomsPerSocket), MaxNameBytes: service.MaxNameBytes,
		MaxNamespacesPerLink: int32(s.cfg.MaxNamespacesPerLink), QueueBytes: s.cfg.QueueBytes,
		MaxQueuedEvents: int32(c.MaxQueuedEvents), MaxInFlight: maxInFlight,
		DecideWithin: durationpb.New(c.DecideWithin), HandlerWait: durationpb.New(c.HandlerWait),
		MaxRequestBytes: int32(min(s.maxRequest(), math.MaxInt32)),
	}
}
