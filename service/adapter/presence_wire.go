package adapter

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
)

// maxChanges is how many changes a piece has at most.
const maxChanges = 1024

func followItem(f *clusterv1.Follow) []byte     { return messageItem(13, f) }
func presenceItem(t *clusterv1.Presence) []byte { return messageItem(14, t) }

func readFollow(b []byte) (*clusterv1.Follow, bool) {
	f := &clusterv1.Follow{}
	ok := proto.Unmarshal(b, f) == nil
	return f, ok && validNamespace(f.GetNamespace()) && f.GetNumber() != 0 && (f.GetNext() == 0 || !f.GetEnd())
}

func readPresence(b []byte) (*clusterv1.Presence, bool) {
	t := &clusterv1.Presence{}
	ok := proto.Unmarshal(b, t) == nil
	return t, ok && t.GetNumber() != 0 && validPresence(t)
}

func validPresence(t *clusterv1.Presence) bool {
	if !validNamespace(t.GetNamespace()) || len(t.GetSockets()) > maxPage || len(t.GetChanges()) > maxChanges ||
		t.GetNext() < t.GetFrom() || t.GetNext() == 0 && (len(t.GetChanges()) > 0 || t.GetWhole()) {
		return false
	}
	number := t.GetFrom()
	for _, c := range t.GetChanges() {
		if c.GetNumber() < number || c.GetNumber() >= t.GetNext() || !validChange(c) {
			return false
		}
		number = c.GetNumber() + 1
	}
	return !slices.ContainsFunc(t.GetSockets(), func(s *clusterv1.Socket) bool { return !validMember(s) })
}

func validChange(c *clusterv1.Change) bool {
	switch kind := service.PresenceKind(c.GetKind()); {
	case c.GetKind() == 0 || c.GetKind() > uint32(service.PresenceRisen), c.GetReason() > uint32(service.ReasonNodeLost):
		return false
	case kind == service.PresenceRisen:
		return c.GetSocket() != nil
	}
	return validMember(c.GetSocket()) && validRooms(c.GetRooms())
}

// validMember says whether a socket may be one that is told of.
func validMember(s *clusterv1.Socket) bool { return validSocket(s) && validRooms(s.GetRooms()) }

// validRooms is for those of one socket, of which its node may allow any number.
func validRooms(list []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return s == "" || len(s) > service.MaxNameBytes })
}

// presenceMessage is what this node tells of its sockets, without what it is told for.
func presenceMessage(t *service.Told) *clusterv1.Presence {
	m := &clusterv1.Presence{Begin: t.Begin, From: t.From, Next: t.Next, Whole: t.Whole}
	for i := range t.Sockets {
		m.Sockets = append(m.Sockets, socketMessage(&t.Sockets[i], service.ViewBasic))
	}
	for i := range t.Changes {
		e := &t.Changes[i]
		m.Changes = append(m.Changes, &clusterv1.Change{
			Kind: uint32(e.Kind), Socket: socketMessage(e.Socket, service.ViewFull), Rooms: e.Rooms, Reason: uint32(e.Reason),
			Detail: text(e.Detail), Number: e.Number, Time: e.Time.UnixNano(),
		})
	}
	return m
}

// toldOf is what a node has told of its sockets. It keeps what it is given.
func toldOf(node service.NodeID, namespace string, m *clusterv1.Presence) *service.Told {
	return &service.Told{
		Begin: m.GetBegin(), Sockets: socketsOf(node, namespace, m.GetSockets()), Changes: changesOf(node, namespace, m.GetChanges()),
		From: m.GetFrom(), Next: m.GetNext(), Whole: m.GetWhole(),
	}
}

func socketsOf(node service.NodeID, namespace string, list []*clusterv1.Socket) []service.SocketInfo {
	sockets := make([]service.SocketInfo, 0, len(list))
	for _, s := range list {
		sockets = append(sockets, socketInfo(node, namespace, s))
	}
	return sockets
}

func changesOf(node service.NodeID, namespace string, list []*clusterv1.Change) []service.PresenceEvent {
	changes := make([]service.PresenceEvent, 0, len(list))
	for _, c := range list {
		info := socketInfo(node, namespace, c.GetSocket())
		changes = append(changes, service.PresenceEvent{
			Kind: service.PresenceKind(c.GetKind()), Socket: &info, Rooms: c.GetRooms(), Reason: service.Reason(c.GetReason()),
			Detail: c.GetDetail(), Number: c.GetNumber(), Time: time.Unix(0, c.GetTime()),
		})
	}
	return changes
}
