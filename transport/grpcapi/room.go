package grpcapi

import (
	"context"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
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

func (r *roomService) GetRoom(ctx context.Context, req *foyerv1.GetRoomRequest) (*foyerv1.GetRoomResponse, error) {
	namespace, err := namespaceName(fieldReason, "namespace", req.GetNamespace())
	if err != nil {
		return nil, err
	}
	if err := checkName(fieldReason, "room", req.GetRoom()); err != nil {
		return nil, err
	}
	size, coverage, err := r.s.node.Room(ctx, namespace, req.GetRoom())
	if err != nil {
		return nil, err
	}
	return &foyerv1.GetRoomResponse{
		Room: &foyerv1.Room{Name: req.GetRoom(), Size: count(size)}, Coverage: coverageMessage(coverage),
	}, nil
}

// ListRooms goes on behind the name of the last room of the page before: a room that is there throughout is listed
// once. A thousand names are a quarter of maxPageBytes at the most.
func (r *roomService) ListRooms(ctx context.Context, req *foyerv1.ListRoomsRequest) (*foyerv1.ListRoomsResponse, error) {
	namespace, err := namespaceName(fieldReason, "namespace", req.GetNamespace())
	if err != nil {
		return nil, err
	}
	if req.GetPrefix() != "" {
		if err := checkName(fieldReason, "prefix", req.GetPrefix()); err != nil {
			return nil, err
		}
	}
	limit, err := pageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	query := roomsQuery(namespace, req.GetPrefix())
	after, err := parseRoomsToken(req.GetPageToken(), query)
	if err != nil {
		return nil, err
	}
	page, err := r.s.node.Rooms(ctx, service.RoomsRequest{Namespace: namespace, Prefix: req.GetPrefix(), After: after, Limit: limit})
	if err != nil {
		return nil, err
	}
	resp := &foyerv1.ListRoomsResponse{Rooms: make([]*foyerv1.Room, len(page.Rooms)), Coverage: coverageMessage(page.Coverage)}
	for i := range page.Rooms {
		resp.Rooms[i] = &foyerv1.Room{Name: text(page.Rooms[i].Name), Size: count(page.Rooms[i].Size)}
	}
	if page.Next != "" {
		resp.NextPageToken = roomsToken(page.Next, query)
	}
	return resp, nil
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
