package grpcapi

import (
	"fmt"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
	"foyer/service/payload"
)

// registration checks a Register.
func registration(r *foyerv1.Register) (reg service.Registration, view foyerv1.SocketView, err error) {
	defer contain(&err)
	if view, err = viewOf("register.socket_view", r.GetSocketView()); err != nil {
		return reg, 0, err
	}
	switch n := len(r.GetNamespaces()); {
	case n == 0:
		return reg, 0, invalidField("register.namespaces", "at least one namespace is required")
	case n > maxPatterns:
		return reg, 0, invalidField("register.namespaces", "has %d namespaces, at most %d", n, maxPatterns)
	}
	patterns := make([]string, len(r.GetNamespaces()))
	for i, p := range r.GetNamespaces() {
		patterns[i] = service.Canonical(p)
		field := fmt.Sprintf("register.namespaces[%d]", i)
		if err := checkName(fieldReason, field, patterns[i]); err != nil {
			return reg, 0, err
		}
		if service.CheckPattern(patterns[i]) != nil {
			return reg, 0, invalidField(field, "%.64q is neither a name, as /chat, nor a prefix with one * behind it, as /tenant-*; "+
				"none of them has a comma", p)
		}
	}
	for _, f := range []struct{ field, name string }{
		{"register.group", r.GetGroup()}, {"register.handler_id", r.GetHandlerId()},
	} {
		if f.name == "" {
			continue // the service has a default
		}
		if err := checkName(fieldReason, f.field, f.name); err != nil {
			return reg, 0, err
		}
	}
	if n := len(r.GetEvents()); n > maxEventNames {
		return reg, 0, invalidField("register.events", "has %d names, at most %d", n, maxEventNames)
	}
	for i, e := range r.GetEvents() {
		field := fmt.Sprintf("register.events[%d]", i)
		if err := checkName(fieldReason, field, e); err != nil {
			return reg, 0, err
		}
		if payload.Reserved(e) { // no client can emit it: the handler would wait for ever
			return reg, 0, invalid(foyerv1.ErrorReason_ERROR_REASON_RESERVED_EVENT, field, "%q is reserved by Socket.IO: no client can send it", e)
		}
	}
	if r.GetObserver() && r.GetDecideConnects() {
		return reg, 0, invalidField("register.decide_connects", "an observer cannot decide")
	}
	flight := int(r.GetMaxInFlight())
	switch {
	case flight < 0 || flight > maxInFlight:
		return reg, 0, invalidField("register.max_in_flight", "must be between 0 and %d", maxInFlight)
	case flight == 0:
		flight = defaultInFlight
	}
	return service.Registration{
		Namespaces: patterns, Group: r.GetGroup(), ID: r.GetHandlerId(), Observer: r.GetObserver(), Events: r.GetEvents(),
		DecideConnects: r.GetDecideConnects(), ServerSideEvents: r.GetServerSideEvents(), MaxInFlight: flight, Local: r.GetLocal(),
		View: service.View(view),
	}, view, nil
}

// decision checks a ConnectReply.
func decision(r *foyerv1.ConnectReply, limits *service.Config) (verdict service.Decision, err error) {
	defer contain(&err)
	switch d := r.GetDecision().(type) {
	case *foyerv1.ConnectReply_Accept:
		return acceptance(d.Accept, limits)
	case *foyerv1.ConnectReply_Reject:
		return rejection(d.Reject, limits)
	}
	return service.Decision{}, invalidField("connect_reply.decision", "accept or reject is required")
}

func acceptance(a *foyerv1.Accept, limits *service.Config) (service.Decision, error) {
	var none service.Decision
	if err := checkRooms(fieldReason, "connect_reply.accept.rooms", a.GetRooms()); err != nil {
		return none, err
	}
	if n := len(a.GetRooms()); n > limits.MaxRoomsPerSocket {
		return none, invalidField("connect_reply.accept.rooms", "has %d rooms, a socket is in at most %d (Limits.max_rooms_per_socket)", n, limits.MaxRoomsPerSocket)
	}
	if len(a.GetUserId()) > maxUserID {
		return none, invalidField("connect_reply.accept.user_id", "has more than %d bytes", maxUserID)
	}
	data, err := notes("connect_reply.accept.data", a.GetData())
	if err != nil {
		return none, err
	}
	return service.Decision{Rooms: a.GetRooms(), UserID: a.GetUserId(), Data: data}, nil
}

func rejection(r *foyerv1.Reject, limits *service.Config) (service.Decision, error) {
	var none service.Decision
	if len(r.GetMessage()) > maxMessage {
		return none, invalidField("connect_reply.reject.message", "has more than %d bytes", maxMessage)
	}
	refusal := &service.Refusal{Message: r.GetMessage(), CloseLink: r.GetRetry()}
	if r.GetData() != nil {
		var err error
		if refusal.Data, err = appendValue(nil, r.GetData(), 1); err != nil {
			return none, wrongValue(fieldReason, "connect_reply.reject.data", err)
		}
		if err := checkSize(len(refusal.Data), nil, "connect_reply.reject.data", limits.MaxPayloadBytes); err != nil {
			return none, err
		}
	}
	return service.Decision{Reject: refusal}, nil
}
