package grpcapi

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func (hs *handlerService) ListHandlers(ctx context.Context, r *foyerv1.ListHandlersRequest) (*foyerv1.ListHandlersResponse, error) {
	limit, err := pageSize(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	query := handlersQuery(r.GetLocal())
	place, err := parsePageToken(r.GetPageToken(), query)
	if err != nil {
		return nil, err
	}
	page, err := hs.s.node.Handlers(ctx, service.HandlersRequest{Local: r.GetLocal(), Place: place, Limit: limit, Bytes: maxPageBytes})
	if err != nil {
		return nil, withField(err, "page_token")
	}
	resp := &foyerv1.ListHandlersResponse{
		Handlers: make([]*foyerv1.AttachedHandler, len(page.Handlers)), Coverage: coverageMessage(page.Coverage),
	}
	for i := range page.Handlers {
		resp.Handlers[i] = handlerMessage(&page.Handlers[i])
	}
	if page.Next != (service.Place{}) {
		resp.NextPageToken = pageToken(page.Next, query)
	}
	return resp, nil
}

// handlersQuery is like no query of sockets, which begins with a view.
func handlersQuery(local bool) []byte { return append([]byte("handlers"), flag(local)) }

func handlerMessage(h *service.HandlerInfo) *foyerv1.AttachedHandler {
	reg, bytes := &h.Registration, int64(h.Bytes)
	m := &foyerv1.AttachedHandler{
		NodeId: string(h.Node),
		Registration: &foyerv1.Register{
			Namespaces: reg.Namespaces, Group: reg.Group, HandlerId: reg.ID, Observer: reg.Observer, Events: reg.Events,
			DecideConnects: reg.DecideConnects, ServerSideEvents: reg.ServerSideEvents, MaxInFlight: int32(reg.MaxInFlight),
			SocketView: foyerv1.SocketView(reg.View), Local: reg.Local,
		},
		AttachedAt: timestamp(h.Since), Address: text(reg.Address), Sockets: count(h.Sockets), InFlight: count(h.InFlight),
		Queued: count(h.Queued), QueuedBytes: &bytes, ConnectsWaiting: count(h.Connects), Draining: h.Draining,
	}
	if h.Oldest >= 0 {
		m.OldestUnanswered = durationpb.New(h.Oldest.Round(time.Millisecond))
	}
	return m
}
