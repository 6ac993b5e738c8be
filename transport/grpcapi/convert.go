package grpcapi

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// This file turns what the service says into messages. Slices and maps of the service are shared, never changed.

func count(n int) *int32 {
	c := int32(n)
	return &c
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func coverageMessage(c service.Coverage) *foyerv1.Coverage {
	return &foyerv1.Coverage{
		Unreachable: c.Unreachable, UnreachableUnnamed: int32(c.UnreachableUnnamed), UncountedNodes: int32(c.UncountedNodes),
	}
}

// socketMessage is a socket as a view shows it. data that a Struct cannot hold is left out.
func socketMessage(in *service.SocketInfo, view foyerv1.SocketView) *foyerv1.Socket {
	s := &foyerv1.Socket{Id: string(in.ID), Generation: in.Generation, Namespace: text(in.Namespace), NodeId: string(in.NodeID)}
	if view == foyerv1.SocketView_SOCKET_VIEW_REF {
		return s
	}
	s.SessionId = text(in.SessionID)
	s.Transport = in.Transport
	s.ConnectedAt = timestamp(in.ConnectedAt)
	s.Rooms = in.Rooms
	s.UserId = text(in.UserID)
	if view == foyerv1.SocketView_SOCKET_VIEW_FULL {
		s.Data, _ = structOf(in.Data)
		if h := in.Handshake; h != nil { // else it is a copy of what another node has
			s.Handshake = &foyerv1.Handshake{
				Address: text(h.Address()), Time: timestamp(h.Time()), Url: text(h.URL()), Query: textMap(h.Query()), Headers: textMap(h.Headers()),
			}
		}
	}
	return s
}

// chunks cuts a list where one more item would make a message larger than maxPageBytes or longer than maxPageSize. A
// single item may be larger. yield says false to stop.
func chunks[T any](list []T, size func(*T) int, yield func([]T) bool) {
	start, bytes := 0, 0
	for i := range list {
		n := size(&list[i])
		if i > start && (bytes+n > maxPageBytes || i-start == maxPageSize) {
			if !yield(list[start:i]) {
				return
			}
			start, bytes = i, 0
		}
		bytes += n
	}
	if start < len(list) {
		yield(list[start:])
	}
}

func emitResponse(r *service.Receipt) *foyerv1.EmitResponse {
	return &foyerv1.EmitResponse{
		Matched: count(r.Matched), Enqueued: count(r.Enqueued), DroppedVolatile: count(r.DroppedVolatile),
		DroppedSlow: count(r.DroppedSlow), Coverage: coverageMessage(r.Coverage),
	}
}

func argsMessageOf(array []byte, attachments [][]byte) *foyerv1.Args {
	return &foyerv1.Args{Args: &foyerv1.Args_Json{Json: text(string(array))}, Attachments: attachments}
}

var ackFailures = [...]foyerv1.AckFailure{
	service.AckTimeout:         foyerv1.AckFailure_ACK_FAILURE_TIMEOUT,
	service.AckDisconnected:    foyerv1.AckFailure_ACK_FAILURE_DISCONNECTED,
	service.AckQueueFull:       foyerv1.AckFailure_ACK_FAILURE_QUEUE_FULL,
	service.AckDroppedVolatile: foyerv1.AckFailure_ACK_FAILURE_DROPPED_VOLATILE,
	service.AckNodeUnreachable: foyerv1.AckFailure_ACK_FAILURE_NODE_UNREACHABLE,
}

var disconnectReasons = [...]foyerv1.DisconnectReason{
	service.ReasonNone:             foyerv1.DisconnectReason_DISCONNECT_REASON_UNSPECIFIED,
	service.ReasonClientDisconnect: foyerv1.DisconnectReason_DISCONNECT_REASON_CLIENT_NAMESPACE_DISCONNECT,
	service.ReasonServerDisconnect: foyerv1.DisconnectReason_DISCONNECT_REASON_SERVER_NAMESPACE_DISCONNECT,
	service.ReasonTransportClose:   foyerv1.DisconnectReason_DISCONNECT_REASON_TRANSPORT_CLOSE,
	service.ReasonTransportError:   foyerv1.DisconnectReason_DISCONNECT_REASON_TRANSPORT_ERROR,
	service.ReasonPingTimeout:      foyerv1.DisconnectReason_DISCONNECT_REASON_PING_TIMEOUT,
	service.ReasonParseError:       foyerv1.DisconnectReason_DISCONNECT_REASON_PARSE_ERROR,
	service.ReasonForcedClose:      foyerv1.DisconnectReason_DISCONNECT_REASON_FORCED_CLOSE,
	service.ReasonShutdown:         foyerv1.DisconnectReason_DISCONNECT_REASON_SERVER_SHUTTING_DOWN,
	service.ReasonSlow:             foyerv1.DisconnectReason_DISCONNECT_REASON_SLOW,
	service.ReasonHandlerSlow:      foyerv1.DisconnectReason_DISCONNECT_REASON_HANDLER_SLOW,
	service.ReasonNodeLost:         foyerv1.DisconnectReason_DISCONNECT_REASON_NODE_LOST,
}

// disconnectDetail is the detail, or without one the reason in Socket.IO's own words.
func disconnectDetail(r service.Reason, detail string) string {
	if detail == "" {
		return r.String()
	}
	return text(detail)
}

var presenceTypes = [...]foyerv1.PresenceEvent_Type{
	service.PresenceConnected:    foyerv1.PresenceEvent_TYPE_CONNECTED,
	service.PresenceJoined:       foyerv1.PresenceEvent_TYPE_JOINED,
	service.PresenceLeft:         foyerv1.PresenceEvent_TYPE_LEFT,
	service.PresenceUpdated:      foyerv1.PresenceEvent_TYPE_UPDATED,
	service.PresenceDisconnected: foyerv1.PresenceEvent_TYPE_DISCONNECTED,
}

var resetReasons = [...]foyerv1.ResetReason{
	service.ResetTokenExpired: foyerv1.ResetReason_RESET_REASON_TOKEN_EXPIRED,
	service.ResetNodeLost:     foyerv1.ResetReason_RESET_REASON_NODE_LOST,
	service.ResetGap:          foyerv1.ResetReason_RESET_REASON_GAP,
}

func presenceMessage(e *service.PresenceEvent, view foyerv1.SocketView) *foyerv1.PresenceEvent {
	m := &foyerv1.PresenceEvent{
		Type: presenceTypes[e.Kind], Socket: socketMessage(e.Socket, view), Rooms: e.Rooms, Time: timestamp(e.Time),
	}
	if e.Kind == service.PresenceDisconnected {
		m.Reason, m.Detail = disconnectReasons[e.Reason], disconnectDetail(e.Reason, e.Detail)
	}
	return m
}

func presenceBytes(e *service.PresenceEvent, view service.View) int {
	n := view.Bytes(e.Socket) + len(e.Detail) + 48
	for _, r := range e.Rooms {
		n += len(r) + 3
	}
	return n
}

// payloadMessage is the Payload of an event's packet.
func payloadMessage(p *service.Packet) *foyerv1.Payload {
	args := "[" + string(argumentsOf(p))
	return &foyerv1.Payload{Event: text(p.Event), Args: &foyerv1.Payload_Json{Json: args}, Attachments: p.Attachments}
}
