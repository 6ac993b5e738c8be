package grpcapi

import (
	"context"
	"errors"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

type socketService struct {
	foyerv1.UnimplementedSocketServiceServer
	s *Server
}

func (ss *socketService) GetSocket(ctx context.Context, r *foyerv1.GetSocketRequest) (*foyerv1.GetSocketResponse, error) {
	namespace, err := namespaceName(fieldReason, "namespace", r.GetNamespace())
	if err != nil {
		return nil, err
	}
	if err := checkName(fieldReason, "socket_id", r.GetSocketId()); err != nil {
		return nil, err
	}
	view, err := viewOf("view", r.GetView())
	if err != nil {
		return nil, err
	}
	info, err := ss.s.node.Socket(ctx, namespace, service.SocketID(r.GetSocketId()))
	if err != nil {
		return nil, err
	}
	return &foyerv1.GetSocketResponse{Socket: socketMessage(&info, view)}, nil
}

func (ss *socketService) ListSockets(ctx context.Context, r *foyerv1.ListSocketsRequest) (*foyerv1.ListSocketsResponse, error) {
	t, err := target(r.GetTarget())
	if err != nil {
		return nil, err
	}
	view, err := viewOf("view", r.GetView())
	if err != nil {
		return nil, err
	}
	limit, err := pageSize(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	query := listQuery(t, view)
	place, err := parsePageToken(r.GetPageToken(), query)
	if err != nil {
		return nil, err
	}
	page, err := ss.s.node.Sockets(ctx, t, service.PageRequest{Place: place, Limit: limit, Bytes: maxPageBytes, View: service.View(view)})
	if err != nil {
		return nil, withField(err, "page_token")
	}
	resp := &foyerv1.ListSocketsResponse{
		Sockets: make([]*foyerv1.Socket, len(page.Sockets)), Coverage: coverageMessage(page.Coverage),
	}
	for i := range page.Sockets {
		resp.Sockets[i] = socketMessage(&page.Sockets[i], view)
	}
	if page.Next != (service.Place{}) {
		resp.NextPageToken = pageToken(page.Next, query)
	}
	if place == (service.Place{}) {
		resp.Total = count(page.Total)
	}
	return resp, nil
}

func (ss *socketService) UpdateSocket(ctx context.Context, r *foyerv1.UpdateSocketRequest) (*foyerv1.UpdateSocketResponse, error) {
	return ss.s.update(ctx, r)
}

func (s *Server) update(ctx context.Context, r *foyerv1.UpdateSocketRequest) (*foyerv1.UpdateSocketResponse, error) {
	namespace, id, u, err := update(r)
	if err != nil {
		return nil, err
	}
	info, err := s.node.Update(ctx, namespace, id, u)
	if err != nil {
		return nil, ofUpdate(err, r)
	}
	return &foyerv1.UpdateSocketResponse{Socket: socketMessage(&info, foyerv1.SocketView_SOCKET_VIEW_FULL)}, nil
}

// ofUpdate names the field that made the data too large: to the service it is all the socket's data.
func ofUpdate(err error, r *foyerv1.UpdateSocketRequest) error {
	if e, ok := errors.AsType[*service.Error](err); ok && e.Field == "data" && r.GetMergeData() != nil {
		return e.At("merge_data")
	}
	return err
}

func (ss *socketService) DisconnectSockets(ctx context.Context, r *foyerv1.DisconnectSocketsRequest) (*foyerv1.DisconnectSocketsResponse, error) {
	return ss.s.disconnect(ctx, r)
}

func (s *Server) disconnect(ctx context.Context, r *foyerv1.DisconnectSocketsRequest) (*foyerv1.DisconnectSocketsResponse, error) {
	t, err := target(r.GetTarget())
	if err != nil {
		return nil, err
	}
	mode, err := disconnectMode(r.GetMode())
	if err != nil {
		return nil, err
	}
	matched, coverage, err := s.node.Disconnect(ctx, t, mode)
	if err != nil {
		return nil, err
	}
	return &foyerv1.DisconnectSocketsResponse{Matched: count(matched), Coverage: coverageMessage(coverage)}, nil
}
