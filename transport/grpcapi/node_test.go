package grpcapi

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// These tests run the API over the real service, with links that write down what they are sent.

type textCodec struct{}

type textFrame string

func (f textFrame) Len() int { return len(f) }

func (textCodec) Encode(p *service.Packet) (service.Frame, error) {
	return textFrame(fmt.Sprintf("%d %s %d %s", p.Kind, p.Namespace, p.AckID, p.Payload)), nil
}

// joint stands between joined frames; no packet of a test has it.
const joint = "\x1e"

func (textCodec) Join(frames []service.Frame) service.Frame {
	texts := make([]string, len(frames))
	for i, f := range frames {
		texts[i] = string(f.(textFrame))
	}
	return textFrame(strings.Join(texts, joint))
}

// link is a fake Conn.
type link struct {
	name   string
	node   *service.Node
	socket *service.Socket
	sent   chan string

	mu      sync.Mutex
	refusal *service.Refusal
	closed  string
}

func (l *link) Probe(int, service.Flags) (service.Outcome, service.LinkState) {
	return service.Queued, service.LinkState{Limit: 1000, Writable: true}
}
func (l *link) Codec() service.Codec { return textCodec{} }
func (l *link) Send(f service.Frame, _ service.Flags) service.Outcome {
	for _, one := range strings.Split(string(f.(textFrame)), joint) {
		l.sent <- one
	}
	return service.Queued
}
func (l *link) Flush()                                {}
func (l *link) Room(int) (<-chan struct{}, time.Time) { return nil, time.Time{} }
func (l *link) Pause()                                {}
func (l *link) Resume()                               {}
func (l *link) Close(r service.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = r.String()
}
func (l *link) Dismiss()                    {}
func (l *link) Forget(*service.Socket) bool { return true }
func (l *link) SessionID() string           { return "session-" + l.name }
func (l *link) Transport() string           { return "websocket" }
func (l *link) Handshake() service.Handshake {
	return handshake{address: "127.0.0.1", url: "/socket.io/", query: map[string]string{"EIO": "4"}}
}

func (l *link) refused() *service.Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusal
}

func realNode(t testing.TB) *service.Node {
	t.Helper()
	n, err := service.New(service.Config{NodeID: "test", Namespaces: []service.NamespaceConfig{{Pattern: "/chat"}}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// join connects a link to a namespace.
func join(n *service.Node, name, namespace, auth string) *link {
	l := &link{name: name, node: n, sent: make(chan string, 1000)}
	var object []byte
	if auth != "" {
		object = []byte(auth)
	}
	n.Connect(service.Connect{
		Conn: l, Namespace: namespace, Auth: object,
		Bind: func(s *service.Socket) bool { l.socket = s; return true },
		Refuse: func(r service.Refusal) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.refusal = &r
		},
	})
	return l
}

func (l *link) receive(event, args string, ackID int64) {
	l.node.Receive(l.socket, &service.Packet{
		Kind: service.KindEvent, Namespace: l.socket.Namespace(), AckID: ackID, Event: event,
		Payload: []byte(fmt.Sprintf(`[%q%s]`, event, args)),
	})
}

func (l *link) want(t testing.TB, want string) {
	t.Helper()
	if got := <-l.sent; got != want {
		t.Errorf("%s was sent %q, want %q", l.name, got, want)
	}
}

func TestRealNode(t *testing.T) { bubble(t, testRealNode) }

func testRealNode(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	_, client := start(t, Config{}, serviceNode{n})
	one, two := join(n, "one", "/chat", ""), join(n, "two", "/chat", "")
	for _, l := range []*link{one, two} {
		if got := <-l.sent; !strings.HasPrefix(got, "0 /chat") {
			t.Fatalf("%s was sent %q, want its CONNECT", l.name, got)
		}
	}
	id := string(one.socket.ID())

	joined, err := client.room.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: &foyerv1.Target{Namespace: "chat", Rooms: []string{id}}, Rooms: []string{"r"}})
	if err != nil || joined.GetMatched() != 1 {
		t.Fatalf("join: got %v, %v", joined, err)
	}
	emitted, err := client.emit.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Namespace: "chat", Rooms: []string{"r", id}}, Payload: hello()})
	if err != nil || emitted.GetMatched() != 1 || emitted.GetEnqueued() != 1 {
		t.Errorf("emit: got %v, %v", emitted, err)
	}
	one.want(t, `2 /chat -1 ["hello","world"]`)
	nobody, err := client.emit.Emit(t.Context(), &foyerv1.EmitRequest{Target: &foyerv1.Target{Namespace: "nowhere", All: true}, Payload: hello()})
	if err != nil || nobody.Matched == nil || nobody.GetMatched() != 0 {
		t.Errorf("emit to nobody: got %v, %v", nobody, err)
	}

	got, err := client.socket.GetSocket(t.Context(), &foyerv1.GetSocketRequest{Namespace: "chat", SocketId: id, View: foyerv1.SocketView_SOCKET_VIEW_FULL})
	if s := got.GetSocket(); err != nil || !slices.Equal(s.GetRooms(), []string{"r"}) || s.GetNodeId() != "test" || s.GetSessionId() != "session-one" || s.GetHandshake().GetQuery()["EIO"] != "4" {
		t.Errorf("get: got %v, %v", got, err)
	}

	answered := make(chan *foyerv1.EmitWithAckResponse, 1)
	go func() {
		resp, err := client.emit.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
			Target: &foyerv1.Target{Namespace: "chat", All: true}, Payload: hello(), Timeout: durationpb.New(time.Second),
		})
		if err != nil {
			t.Error(err)
		}
		answered <- resp
	}()
	one.want(t, `2 /chat 1 ["hello","world"]`)
	one.node.Receive(one.socket, &service.Packet{Kind: service.KindAck, Namespace: "/chat", AckID: 1, Payload: []byte(`["yes"]`)})
	resp := <-answered // two does not answer: after the timeout, in the bubble's time
	if s := resp.GetSummary(); s.GetMatched() != 2 || s.GetAcked() != 1 || s.GetUnattributed() != 0 || len(s.GetFailures()) != 1 ||
		s.GetFailures()[0].GetFailure() != foyerv1.AckFailure_ACK_FAILURE_TIMEOUT || resp.GetOutcomes()[0].GetArgs().GetJson() != `["yes"]` {
		t.Errorf("acks: got %v", resp)
	}

	seen, token := []string{}, ""
	for {
		page, err := client.socket.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{Namespace: "chat", All: true}, PageSize: 1, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page.GetSockets() {
			seen = append(seen, s.GetId())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.Equal(seen, []string{id, string(two.socket.ID())}) {
		t.Errorf("list: got %q", seen)
	}
	foreign := &foyerv1.ListSocketsRequest{Target: &foyerv1.Target{All: true}}
	foreign.PageToken = pageToken(somePlace, listQuery(service.Target{Namespace: "/", All: true}, foyerv1.SocketView_SOCKET_VIEW_BASIC))
	_, err = client.socket.ListSockets(t.Context(), foreign)
	wantError(t, err, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_TOKEN, "page_token")

	gone, err := client.socket.DisconnectSockets(t.Context(), &foyerv1.DisconnectSocketsRequest{Target: &foyerv1.Target{Namespace: "chat", Rooms: []string{"r"}}})
	if err != nil || gone.GetMatched() != 1 {
		t.Errorf("disconnect: got %v, %v", gone, err)
	}
	if info, err := client.node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{}); err != nil || info.GetSockets() != 1 {
		t.Errorf("info: got %v, %v", info, err)
	}
}

func TestRealHandler(t *testing.T) { bubble(t, testRealHandler) }

func testRealHandler(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	_, client := start(t, Config{}, serviceNode{n})
	stream, err := client.handler.Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{TB: t, BidiStreamingClient: stream}
	b.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"chat"}, DecideConnects: true, MaxInFlight: 2}}})
	if r := b.hear().GetRegistered(); r.GetNodeId() != "test" || r.GetMaxInFlight() != 2 || r.GetHandlerId() == "" {
		t.Fatalf("got %v", r)
	}

	l := join(n, "one", "/chat", `{"token":"secret"}`)
	c := b.hear().GetConnect()
	if c.GetSocket().GetHandshake().GetAuth().GetFields()["token"].GetStringValue() != "secret" {
		t.Fatalf("got %v, want its auth", c)
	}
	b.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: &foyerv1.ConnectReply{
		CallId: c.GetCallId(), Decision: &foyerv1.ConnectReply_Accept{Accept: &foyerv1.Accept{
			Rooms: []string{"lobby"}, UserId: "ann", Data: &structpb.Struct{Fields: map[string]*structpb.Value{"n": structpb.NewNumberValue(1)}},
		}},
	}}})
	connected := b.hear().GetConnected().GetSocket()
	if connected.GetUserId() != "ann" || !slices.Equal(connected.GetRooms(), []string{"lobby"}) || connected.GetHandshake() != nil {
		t.Errorf("got %v", connected)
	}
	<-l.sent // CONNECT

	// An event with an ack: what is emitted before the reply arrives before it.
	l.receive("ask", `,{"q":1}`, 7)
	e := b.hear().GetEvent()
	if e.GetPayload().GetEvent() != "ask" || e.GetPayload().GetJson() != `[{"q":1}]` || !e.GetWantsAck() || e.GetSocket().GetId() != connected.GetId() || e.GetSocket().GetNodeId() != "test" {
		t.Errorf("got %v", e)
	}
	b.say(command(1, &foyerv1.Command{Command: &foyerv1.Command_Emit{Emit: &foyerv1.EmitRequest{
		Target: &foyerv1.Target{Namespace: "chat", Rooms: []string{"lobby"}}, Payload: hello(),
	}}}))
	b.say(reply(e.GetCallId(), `["answer"]`))
	if r := b.hear().GetCommandResult(); r.GetEmit().GetMatched() != 1 {
		t.Errorf("got %v", r)
	}
	l.want(t, `2 /chat -1 ["hello","world"]`)
	l.want(t, `3 /chat 7 ["answer"]`)

	// No more than the slots allow.
	for i := range 3 {
		l.receive("note", fmt.Sprintf(",%d", i), service.NoAck)
	}
	b.hear()
	last := b.hear().GetEvent()
	b.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Handled{Handled: &foyerv1.Handled{UpTo: last.GetCallId()}}})
	third := b.hear().GetEvent()
	if third.GetPayload().GetJson() != "[2]" || third.GetWantsAck() {
		t.Errorf("got %v", third)
	}

	// An invalid reply frees the slot and acknowledges nothing; then the handler drains and its stream ends with OK.
	b.say(reply(third.GetCallId(), `{"not":"an array"}`))
	l.node.End(l.socket, service.ReasonTransportClose, "")
	if d := b.hear().GetDisconnected(); d.GetReason() != foyerv1.DisconnectReason_DISCONNECT_REASON_TRANSPORT_CLOSE || !slices.Equal(d.GetSocket().GetRooms(), []string{"lobby"}) {
		t.Errorf("got %v", d)
	}
	b.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Drain{Drain: &foyerv1.Drain{}}})
	if _, err := b.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want %v", err, io.EOF)
	}
	synctest.Wait()
}

func TestRealHandlerRejects(t *testing.T) { bubble(t, testRealHandlerRejects) }

func testRealHandlerRejects(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	_, client := start(t, Config{}, serviceNode{n})
	stream, err := client.handler.Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{TB: t, BidiStreamingClient: stream}
	b.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/chat"}, DecideConnects: true}}})
	b.hear()
	for _, c := range []struct {
		reply *foyerv1.ConnectReply
		want  service.Refusal
	}{
		{&foyerv1.ConnectReply{Decision: &foyerv1.ConnectReply_Reject{Reject: &foyerv1.Reject{Message: "no", Data: structpb.NewNumberValue(4)}}}, service.Refusal{Message: "no", Data: []byte("4")}},
		{&foyerv1.ConnectReply{Decision: &foyerv1.ConnectReply_Reject{Reject: &foyerv1.Reject{Retry: true}}}, service.Refusal{CloseLink: true}},
		{&foyerv1.ConnectReply{Decision: &foyerv1.ConnectReply_Accept{Accept: &foyerv1.Accept{Rooms: []string{""}}}}, service.Refusal{Message: "internal error"}},
	} {
		l := join(n, "one", "/chat", "")
		c.reply.CallId = b.hear().GetConnect().GetCallId()
		b.say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: c.reply}})
		synctest.Wait()
		if got := l.refused(); got == nil || got.Message != c.want.Message || string(got.Data) != string(c.want.Data) || got.CloseLink != c.want.CloseLink {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

func TestRealWatch(t *testing.T) { bubble(t, testRealWatch) }

func testRealWatch(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	_, client := start(t, Config{}, serviceNode{n})
	one := join(n, "one", "/chat", "")
	stream, err := client.watch.Watch(t.Context(), &foyerv1.WatchRequest{Namespace: "chat", All: true})
	if err != nil {
		t.Fatal(err)
	}
	next := func() *foyerv1.WatchResponse {
		t.Helper()
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if s := next().GetSnapshot().GetSockets(); len(s) != 1 || s[0].GetId() != string(one.socket.ID()) {
		t.Errorf("got %v", s)
	}
	if r := next(); r.GetSynced() == nil || r.GetResumeToken() == "" {
		t.Errorf("got %v, want synced", r)
	}
	two := join(n, "two", "/chat", "")
	e := next()
	if got := e.GetEvents().GetEvents(); len(got) != 1 || got[0].GetType() != foyerv1.PresenceEvent_TYPE_CONNECTED {
		t.Errorf("got %v", got)
	}
	two.node.End(two.socket, service.ReasonPingTimeout, "")
	e = next()
	if got := e.GetEvents().GetEvents(); len(got) != 1 || got[0].GetReason() != foyerv1.DisconnectReason_DISCONNECT_REASON_PING_TIMEOUT {
		t.Errorf("got %v", got)
	}
	began := time.Now()
	if r := next(); r.GetBookmark() == nil || time.Since(began) != 10*time.Second {
		t.Errorf("got %v after %v, want a bookmark after 10 s", r, time.Since(began))
	}

	// The token of another scope, and the end.
	other, err := client.watch.Watch(t.Context(), &foyerv1.WatchRequest{Namespace: "chat", Rooms: []string{"r"}, ResumeToken: e.GetResumeToken()})
	if err != nil {
		t.Fatal(err)
	}
	_, err = other.Recv()
	wantError(t, err, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_TOKEN, "resume_token")
	n.BeginDrain(time.Now().Add(time.Minute))
	if next().GetBookmark() == nil {
		t.Error("want a last bookmark")
	}
	_, err = stream.Recv()
	wantError(t, err, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING, "")
}

// TestRealLargeReplies: replies are read where they stand in buffers that gRPC uses again. Acks, and a reply that has
// to wait for another one, keep their bytes.
func TestRealLargeReplies(t *testing.T) { bubble(t, testRealLargeReplies) }

func testRealLargeReplies(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	_, client := start(t, Config{}, serviceNode{n})
	backends := make([]*backend, 2)
	for i := range backends {
		stream, err := client.handler.Attach(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		backends[i] = &backend{TB: t, BidiStreamingClient: stream}
		backends[i].say(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{
			Namespaces: []string{"/"}, HandlerId: fmt.Sprint(i), ServerSideEvents: true,
		}}})
		backends[i].hear()
	}
	array := func(i int) string { return `["` + strings.Repeat(string(rune('a'+i%26)), 1000+i*777%50_000) + `"]` }

	answered := make(chan *foyerv1.ServerSideEmitResponse, 1)
	go func() {
		r, err := client.emit.ServerSideEmit(t.Context(), &foyerv1.ServerSideEmitRequest{Payload: hello(), WantsReplies: true})
		if err != nil {
			t.Error(err)
		}
		answered <- r
	}()
	first, second := backends[0].hear().GetServerSideEvent(), backends[1].hear().GetServerSideEvent()
	backends[0].say(reply(first.GetCallId(), array(60)))

	one := join(n, "one", "/", "")
	owner := backends[0] // of the two, the first one has no more sockets than the other
	owner.hear()
	<-one.sent
	for i := range 200 {
		one.receive("ask", "", int64(i))
		owner.say(reply(owner.hear().GetEvent().GetCallId(), array(i)))
		if got, want := <-one.sent, fmt.Sprintf("3 / %d %s", i, array(i)); got != want {
			t.Fatalf("ack %d: got %d bytes, want %d of other content", i, len(got), len(want))
		}
	}
	backends[1].say(reply(second.GetCallId(), `[]`))
	for _, r := range (<-answered).GetReplies() {
		if want := map[string]string{"0": array(60), "1": `[]`}[r.GetHandlerId()]; r.GetArgs().GetJson() != want {
			t.Errorf("handler %s: got %d bytes, want %d", r.GetHandlerId(), len(r.GetArgs().GetJson()), len(want))
		}
	}
}
