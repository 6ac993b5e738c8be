package grpcapi

import (
	"context"

	foyerv1 "foyer/gen/foyer/v1"
)

type roomService struct {
	foyerv1.UnimplementedRoomServiceServer
	s *Server
}

func (r *roomService) JoinRooms(ctx context.Context, req *foyerv1.JoinRoomsRequest) (*foyerv1.JoinRoomsResponse, error) {
	return r.s.join(ctx, req)
}

func (r *roomService) LeaveRooms(ctx context.Context, req *foyerv1.LeaveRoomsRequest) (*foyerv1.LeaveRoomsResponse, error) {
	return r.s.leave(ctx, req)
}

func (s *Server) join(ctx context.Context, r *foyerv1.JoinRoomsRequest) (*foyerv1.JoinRoomsResponse, error) {
	t, err := target(r.GetTarget())
	if err != nil {
		return nil, err
	}
	if err := memberRooms(r.GetRooms()); err != nil {
		return nil, err
	}
	matched, coverage, err := s.node.Join(ctx, t, r.GetRooms())
	if err != nil {
		return nil, err
	}
	return &foyerv1.JoinRoomsResponse{Matched: count(matched), Coverage: coverageMessage(coverage)}, nil
}

func (s *Server) leave(ctx context.Context, r *foyerv1.LeaveRoomsRequest) (*foyerv1.LeaveRoomsResponse, error) {
	t, err := target(r.GetTarget())
	if err != nil {
		return nil, err
	}
	if err := memberRooms(r.GetRooms()); err != nil {
		return nil, err
	}
	matched, coverage, err := s.node.Leave(ctx, t, r.GetRooms())
	if err != nil {
		return nil, err
	}
	return &foyerv1.LeaveRoomsResponse{Matched: count(matched), Coverage: coverageMessage(coverage)}, nil
}
