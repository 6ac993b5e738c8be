package adapter

import (
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	clusterv1 "foyer/gen/foyer/cluster/v1"
	"foyer/service"
	"foyer/service/payload"
)

// The calls of one node to another, as generated code reads and writes them. What is read is checked here: nothing
// behind has to.

// The most of what a message names.
const (
	maxRooms    = 1000 // of a target, or of a change
	maxPage     = 1000 // sockets or rooms
	maxOutcomes = 1000
)

func messageItem(field int, m proto.Message) []byte {
	size := proto.Size(m)
	dst := appendHead(make([]byte, 0, size+itemHead+4), protowire.Number(field), size)
	dst, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(dst, m)
	if err != nil { // a text that is not UTF-8: names are checked where they come in
		return nil
	}
	return dst
}

func questionItem(q *clusterv1.Question) []byte { return messageItem(7, q) }
func answerItem(a *clusterv1.Answer) []byte     { return messageItem(8, a) }
func acksItem(a *clusterv1.Acks) []byte         { return messageItem(9, a) }

// leastWire is the version of the wire that a node has to speak to be asked something.
func leastWire(q *clusterv1.Question) uint64 {
	switch q.GetAsk().(type) {
	case *clusterv1.Question_Explain, *clusterv1.Question_ListHandlers:
		return 2
	}
	return 1
}

// readQuestion reads a question. One that nobody here can answer has nothing that it asks: it is answered so.
func readQuestion(b []byte) (q *clusterv1.Question, skipped Skip, ok bool) {
	q = &clusterv1.Question{}
	if proto.Unmarshal(b, q) != nil {
		return nil, 0, false
	}
	if !validQuestion(q) {
		if skipped = SkipUnreadable; q.GetAsk() == nil && len(q.ProtoReflect().GetUnknown()) > 0 {
			skipped = SkipUnknown
		}
		q = &clusterv1.Question{Call: q.GetCall()}
		return q, skipped, q.GetCall() != 0
	}
	return q, 0, true
}

func validQuestion(q *clusterv1.Question) bool {
	ok := false
	switch a := q.GetAsk().(type) {
	case *clusterv1.Question_Join:
		ok = validTarget(a.Join.GetTarget()) && validNames(a.Join.GetRooms()) && len(a.Join.GetRooms()) > 0
	case *clusterv1.Question_Leave:
		ok = validTarget(a.Leave.GetTarget()) && validNames(a.Leave.GetRooms()) && len(a.Leave.GetRooms()) > 0
	case *clusterv1.Question_Disconnect:
		ok = validTarget(a.Disconnect.GetTarget()) && a.Disconnect.GetMode() <= uint32(service.DisconnectTransport)
	case *clusterv1.Question_Count:
		ok = validTarget(a.Count)
	case *clusterv1.Question_ListRooms:
		r := a.ListRooms
		ok = validNamespace(r.GetNamespace()) && len(r.GetPrefix()) <= service.MaxNameBytes &&
			len(r.GetAfter()) <= service.MaxNameBytes && r.GetLimit() > 0 && r.GetLimit() <= maxPage+1
	case *clusterv1.Question_GetSocket:
		ok = validNamespace(a.GetSocket.GetNamespace()) && len(a.GetSocket.GetId()) == socketIDLen
	case *clusterv1.Question_UpdateSocket:
		u := a.UpdateSocket
		ok = validNamespace(u.GetNamespace()) && len(u.GetId()) == socketIDLen && validObject(u.GetData()) &&
			validObject(u.GetMerge()) && len(u.GetUserId()) <= maxUserID
	case *clusterv1.Question_ListSockets:
		l := a.ListSockets
		ok = validTarget(l.GetTarget()) && l.GetLimit() > 0 && l.GetLimit() <= maxPage && l.GetView() <= uint32(service.ViewFull)
	case *clusterv1.Question_Past:
		ok = validNamespace(a.Past.GetNamespace()) && a.Past.GetRun() != 0 && a.Past.GetFrom() != 0
	case *clusterv1.Question_Explain:
		ok = validExplain(a.Explain)
	case *clusterv1.Question_ListHandlers:
		l := a.ListHandlers
		ok = l.GetLimit() > 0 && l.GetLimit() <= maxPage
	case *clusterv1.Question_Finished:
		ok = a.Finished != 0
	}
	return ok && (q.GetCall() != 0) != (q.GetFinished() != 0)
}

func validTarget(t *clusterv1.Target) bool {
	return validNamespace(t.GetNamespace()) && validNames(t.GetRooms()) && validNames(t.GetExceptRooms()) &&
		t.GetAll() == (len(t.GetRooms()) == 0)
}

func validNamespace(name string) bool {
	return len(name) <= service.MaxNameBytes && len(name) > 0 && name[0] == '/'
}

func validNames(list []string) bool {
	return len(list) <= maxRooms && !slices.ContainsFunc(list, func(s string) bool { return s == "" || len(s) > service.MaxNameBytes })
}

// validObject says whether bytes are a JSON object, or nothing.
func validObject(b []byte) bool {
	return len(b) == 0 || payload.CheckObject(b, payload.Options{}) == nil
}

func readAnswer(b []byte) (*clusterv1.Answer, bool) {
	a := &clusterv1.Answer{}
	if proto.Unmarshal(b, a) != nil || a.GetCall() == 0 || a.GetMatched() > maxCount ||
		len(a.GetRooms()) > maxPage+1 || len(a.GetSockets()) > maxPage || len(a.GetUnreachable()) > maxKnown ||
		a.GetError().GetCode() > uint32(service.Internal) || a.GetError() != nil && a.GetError().GetCode() == 0 {
		return nil, false
	}
	for _, name := range a.GetUnreachable() {
		if !validName(service.NodeID(name)) {
			return nil, false
		}
	}
	for _, r := range a.GetRooms() {
		if r.GetName() == "" || len(r.GetName()) > service.MaxNameBytes || r.GetSize() > maxCount {
			return nil, false
		}
	}
	if p := a.GetPresence(); p != nil && !validPresence(p) {
		return nil, false
	}
	if x := a.GetExplanation(); x != nil && !validExplanation(x) || len(a.GetHandlers()) > maxPage ||
		slices.ContainsFunc(a.GetHandlers(), func(h *clusterv1.AttachedHandler) bool { return !validHandler(h) }) {
		return nil, false
	}
	return a, !slices.ContainsFunc(a.GetSockets(), func(s *clusterv1.Socket) bool { return !validSocket(s) })
}

func validSocket(s *clusterv1.Socket) bool {
	return len(s.GetId()) == socketIDLen && validObject(s.GetData()) && len(s.GetUserId()) <= maxUserID
}

// maxUserID is the longest name of a user that a node takes from another one. Those that the API lets in are shorter.
const maxUserID = 4096

func readAcks(b []byte) (*clusterv1.Acks, bool) {
	a := &clusterv1.Acks{}
	if proto.Unmarshal(b, a) != nil || a.GetCall() == 0 || a.GetTotal() > maxCount || len(a.GetIds()) > maxRooms || len(a.GetOutcomes()) > maxOutcomes {
		return nil, false
	}
	if a.GetRecipients() != (len(a.GetOutcomes()) == 0) {
		return nil, false
	}
	for _, id := range a.GetIds() {
		if len(id) != socketIDLen {
			return nil, false
		}
	}
	for _, o := range a.GetOutcomes() {
		answered := o.GetFailure() == uint32(service.AckOK)
		if len(o.GetId()) != socketIDLen || o.GetFailure() > uint32(service.AckNodeUnreachable) || answered != (len(o.GetPayload()) > 0) ||
			answered && payload.Check(o.GetPayload(), len(o.GetAttachments()), payload.Options{}) != nil || !answered && len(o.GetAttachments()) > 0 {
			return nil, false
		}
	}
	return a, true
}

// targetMessage is a target without what only counts here.
func targetMessage(t *service.Target) *clusterv1.Target {
	return &clusterv1.Target{Namespace: t.Namespace, Rooms: t.Rooms, ExceptRooms: t.ExceptRooms, All: t.All}
}

// targetHere is a target of sockets of this node.
func targetHere(t *clusterv1.Target) service.Target {
	return service.Target{Namespace: t.GetNamespace(), Rooms: t.GetRooms(), ExceptRooms: t.GetExceptRooms(), All: t.GetAll(), Local: true}
}

// socketMessage is as much of a socket as a view shows.
func socketMessage(s *service.SocketInfo, view service.View) *clusterv1.Socket {
	m := &clusterv1.Socket{Id: string(s.ID), Generation: s.Generation}
	if view == service.ViewRef {
		return m
	}
	m.SessionId, m.Transport, m.ConnectedAt = s.SessionID, s.Transport, s.ConnectedAt.UnixNano()
	m.Rooms, m.UserId = s.Rooms, s.UserID
	if view != service.ViewFull {
		return m
	}
	m.Data = s.Data
	if h := s.Handshake; h != nil {
		m.Handshake = &clusterv1.Handshake{
			Address: text(h.Address()), Time: h.Time().UnixNano(), Url: text(h.URL()), Query: texts(h.Query()), Headers: texts(h.Headers()),
		}
	}
	return m
}

// text is what a client sent, as the wire takes it.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func texts(m map[string]string) map[string]string {
	valid := make(map[string]string, len(m))
	for k, v := range m {
		valid[text(k)] = text(v)
	}
	return valid
}

// socketInfo is what a node says of one of its sockets. It keeps what it is given.
func socketInfo(of service.NodeID, namespace string, m *clusterv1.Socket) service.SocketInfo {
	s := service.SocketInfo{
		ID: service.SocketID(m.GetId()), Generation: m.GetGeneration(), Namespace: namespace, NodeID: of,
		SessionID: m.GetSessionId(), Transport: m.GetTransport(), Rooms: m.GetRooms(), UserID: m.GetUserId(), Data: m.GetData(),
		Handshake: handshake{m.GetHandshake()},
	}
	if at := m.GetConnectedAt(); at != 0 {
		s.ConnectedAt = time.Unix(0, at)
	}
	return s
}

// handshake is that of a socket elsewhere; without a message, nothing was told of it.
type handshake struct{ m *clusterv1.Handshake }

func (h handshake) Address() string            { return h.m.GetAddress() }
func (h handshake) URL() string                { return h.m.GetUrl() }
func (h handshake) Query() map[string]string   { return h.m.GetQuery() }
func (h handshake) Headers() map[string]string { return h.m.GetHeaders() }
func (h handshake) Bytes() int                 { return proto.Size(h.m) }
func (h handshake) Time() time.Time {
	if h.m == nil {
		return time.Time{}
	}
	return time.Unix(0, h.m.GetTime())
}

// errorMessage is why a call did nothing.
func errorMessage(err error) *clusterv1.Error {
	e, ok := errors.AsType[*service.Error](err)
	if !ok {
		e = &service.Error{Code: service.Internal, Reason: "INTERNAL", Message: "the node could not do it"}
	}
	return &clusterv1.Error{Code: uint32(e.Code), Reason: e.Reason, Message: e.Message, Field: e.Field}
}

func errorOf(m *clusterv1.Error) error {
	if m == nil {
		return nil
	}
	return &service.Error{Code: service.Code(m.GetCode()), Reason: m.GetReason(), Message: m.GetMessage(), Field: m.GetField()}
}
