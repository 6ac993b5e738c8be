package grpcapi

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode is a node that writes down what it is asked and answers as its fields say.
type fakeNode struct {
	config service.Config

	onEmit      func(context.Context, service.Emit) (service.Receipt, error)
	onCollect   func(service.Emit, int) (acks, int, error)
	onServers   func(context.Context, handler, service.ServerSideEmit, func()) (service.ServerSideResult, error)
	onUpdate    func(service.SocketID, service.Update) (service.SocketInfo, error)
	onSockets   func(service.Target, service.PageRequest) (service.Page, error)
	onWatch     func(service.Scope, string) (watcher, error)
	onAttach    func(service.Registration) (handler, error)
	sockets     map[service.SocketID]service.SocketInfo
	rooms       []service.RoomInfo   // by name
	nodes       []service.NodeStatus // by name; nil: it is alone
	handlers    []service.HandlerInfo
	explanation service.Explanation
	err         error // of Join, Leave, Disconnect, Room, Rooms

	mu    sync.Mutex
	calls []string
}

func newFakeNode() *fakeNode {
	return &fakeNode{config: service.Config{
		NodeID: "node", MaxPayloadBytes: 1000, MaxRoomsPerSocket: 3, DecideWithin: 5 * time.Second, HandlerWait: 10 * time.Second,
		MaxQueuedEvents: 64, MaxHandlers: 1000, MaxWatchers: 10_000, Budget: service.NewBudget(0),
	}}
}

func (n *fakeNode) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls = append(n.calls, fmt.Sprintf(format, args...))
}

func (n *fakeNode) noted() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	calls := n.calls
	n.calls = nil
	return calls
}

func (n *fakeNode) Emit(ctx context.Context, e service.Emit) (service.Receipt, error) {
	n.note("emit %s to %v", e.Packet.Payload, e.Target.Rooms)
	if n.onEmit != nil {
		return n.onEmit(ctx, e)
	}
	return service.Receipt{Matched: 2, Enqueued: 2}, nil
}

func (n *fakeNode) EmitBatch(_ context.Context, emits []service.Emit) []service.Receipt {
	n.note("batch of %d", len(emits))
	receipts := make([]service.Receipt, len(emits))
	for i, e := range emits {
		var err error
		receipts[i], err = n.Emit(context.Background(), e)
		receipts[i].Err = err
	}
	return receipts
}

func (n *fakeNode) CollectAcks(_ context.Context, e service.Emit, limit int) (acks, int, error) {
	n.note("emit %s to %v, acks of at most %d", e.Packet.Payload, e.Target.Rooms, limit)
	if n.onCollect != nil {
		return n.onCollect(e, limit)
	}
	return newFakeAcks(), 0, nil
}

func (n *fakeNode) ServerSideEmit(ctx context.Context, from handler, e service.ServerSideEmit, told func()) (service.ServerSideResult, error) {
	n.note("server-side emit %s in %s, replies %t within %v", e.Packet.Payload, e.Namespace, e.WantsReplies, e.Timeout)
	if n.onServers != nil {
		return n.onServers(ctx, from, e, told)
	}
	return service.ServerSideResult{Matched: 1}, nil
}

func (n *fakeNode) Room(_ context.Context, namespace, room string) (int, service.Coverage, error) {
	n.note("room %s %s", namespace, room)
	return 5, service.Coverage{UncountedNodes: 1}, n.err
}

func (n *fakeNode) Rooms(_ context.Context, r service.RoomsRequest) (service.RoomsPage, error) {
	n.note("rooms of %s with %q behind %q, %d", r.Namespace, r.Prefix, r.After, r.Limit)
	page := service.RoomsPage{Coverage: service.Coverage{UncountedNodes: 1}}
	for _, room := range n.rooms {
		if room.Name <= r.After || !strings.HasPrefix(room.Name, r.Prefix) {
			continue
		}
		if len(page.Rooms) == r.Limit {
			page.Next = page.Rooms[r.Limit-1].Name
			break
		}
		page.Rooms = append(page.Rooms, room)
	}
	return page, n.err
}

func (n *fakeNode) Explain(_ context.Context, r service.ExplainRequest) (service.Explanation, error) {
	n.note("explain %v without %v, of %d bytes, at most %d, to %s", r.Target.Rooms, r.Target.ExceptRooms, r.Bytes, r.Most, string(r.Socket)+r.User)
	return n.explanation, n.err
}

func (n *fakeNode) Handlers(_ context.Context, r service.HandlersRequest) (service.HandlersPage, error) {
	n.note("handlers, local %t", r.Local)
	page := service.HandlersPage{Coverage: service.Coverage{UncountedNodes: 1}}
	for i := int(r.Place.Seq); i < len(n.handlers); i++ {
		if len(page.Handlers) == r.Limit {
			page.Next = service.Place{Incarnation: service.Incarnation{Node: "node", Run: 1}, Seq: uint64(i)}
			break
		}
		page.Handlers = append(page.Handlers, n.handlers[i])
	}
	return page, n.err
}

func (n *fakeNode) Update(_ context.Context, namespace string, id service.SocketID, u service.Update) (service.SocketInfo, error) {
	user := "-"
	if u.UserID != nil {
		user = *u.UserID
	}
	n.note("update %s %s: %s %s %q", namespace, id, u.Data, u.Merge, user)
	if n.onUpdate != nil {
		return n.onUpdate(id, u)
	}
	return n.sockets[id], nil
}

func (n *fakeNode) Join(_ context.Context, t service.Target, rooms []string) (int, service.Coverage, error) {
	n.note("join %v: %v", t.Rooms, rooms)
	return 1, service.Coverage{}, n.err
}

func (n *fakeNode) Leave(_ context.Context, t service.Target, rooms []string) (int, service.Coverage, error) {
	n.note("leave %v: %v", t.Rooms, rooms)
	return 1, service.Coverage{Unreachable: []string{"b"}, UnreachableUnnamed: 1, UncountedNodes: 2}, n.err
}

func (n *fakeNode) Disconnect(_ context.Context, t service.Target, mode service.DisconnectMode) (int, service.Coverage, error) {
	n.note("disconnect %v: %d", t.Rooms, mode)
	return 1, service.Coverage{}, n.err
}

func (n *fakeNode) Socket(_ context.Context, namespace string, id service.SocketID) (service.SocketInfo, error) {
	n.note("socket %s %s", namespace, id)
	if info, ok := n.sockets[id]; ok {
		return info, nil
	}
	return service.SocketInfo{}, service.ErrSocketNotFound
}

func (n *fakeNode) Sockets(_ context.Context, t service.Target, r service.PageRequest) (service.Page, error) {
	n.note("sockets from %v, %d", r.Place, r.Limit)
	if n.onSockets != nil {
		return n.onSockets(t, r)
	}
	return service.Page{}, nil
}

func (n *fakeNode) Info() service.Info {
	return service.Info{NodeID: "node", Version: "v0", Sockets: 3, Namespaces: 1, Dropped: map[string]int64{"slow": 4}, Kept: map[string]int64{"rooms": 7}}
}

func (n *fakeNode) Nodes() []service.NodeStatus {
	if n.nodes != nil {
		return n.nodes
	}
	return []service.NodeStatus{{Incarnation: service.Incarnation{Node: "node"}, Version: "v0"}}
}

func (n *fakeNode) Config() service.Config { return n.config }

func (n *fakeNode) Watch(_ context.Context, s service.Scope, token string) (watcher, error) {
	n.note("watch %s %v %t %q", s.Namespace, s.Rooms, s.All, token)
	if n.onWatch != nil {
		return n.onWatch(s, token)
	}
	return nil, service.ErrDraining
}

func (n *fakeNode) Attach(_ context.Context, r service.Registration) (handler, service.Coverage, error) {
	n.note("attach %v", r.Namespaces)
	if n.onAttach != nil {
		h, err := n.onAttach(r)
		return h, service.Coverage{}, err
	}
	return nil, service.Coverage{}, service.ErrDraining
}

// fakeAcks gives its outcomes, then err, or waits for the end of the wait.
type fakeAcks struct {
	outcomes chan []service.AckOutcome
	rest     []service.AckOutcome // what Finish returns
	coverage service.Coverage
	err      error
	finished chan struct{}
	once     sync.Once
}

// newFakeAcks has one batch of outcomes, and they are all.
func newFakeAcks(outcomes ...service.AckOutcome) *fakeAcks {
	a := &fakeAcks{
		outcomes: make(chan []service.AckOutcome, 1000), err: io.EOF, finished: make(chan struct{}),
		coverage: service.Coverage{Unreachable: []string{"b"}},
	}
	if len(outcomes) > 0 {
		a.outcomes <- outcomes
	}
	return a
}

func (a *fakeAcks) Next(ctx context.Context) ([]service.AckOutcome, error) {
	select {
	case o := <-a.outcomes:
		return o, nil
	default:
	}
	if a.err != nil {
		return nil, a.err
	}
	select {
	case o := <-a.outcomes:
		return o, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (a *fakeAcks) Coverage() service.Coverage { return a.coverage }

func (a *fakeAcks) Finish() []service.AckOutcome {
	rest := a.rest
	a.rest = nil
	a.once.Do(func() { close(a.finished) })
	return rest
}

// fakeWatcher gives its steps, then waits for done or ctx.
type fakeWatcher struct {
	steps  chan service.WatchStep
	err    error // after the last step, with last
	last   service.WatchStep
	done   chan struct{}
	closed chan struct{}
}

func newFakeWatcher(steps ...service.WatchStep) *fakeWatcher {
	w := &fakeWatcher{steps: make(chan service.WatchStep, 1000), done: make(chan struct{}), closed: make(chan struct{})}
	for _, s := range steps {
		w.steps <- s
	}
	return w
}

func (w *fakeWatcher) Next(ctx context.Context) (service.WatchStep, error) {
	select {
	case s := <-w.steps:
		return s, nil
	default:
	}
	if w.err != nil {
		return w.last, w.err
	}
	select {
	case s := <-w.steps:
		return s, nil
	case <-w.done:
		return service.WatchStep{}, service.ErrTooSlow
	case <-ctx.Done():
		return service.WatchStep{}, ctx.Err()
	}
}

func (w *fakeWatcher) Done() <-chan struct{} { return w.done }
func (w *fakeWatcher) Close()                { close(w.closed) }

// fakeHandler is a queue of notices that writes down what its backend says.
type fakeHandler struct {
	queue    chan service.Notice
	done     chan struct{}
	said     chan string
	detached chan struct{}

	drained chan struct{}
	once    sync.Once

	mu    sync.Mutex
	ended error
}

func newFakeHandler() *fakeHandler {
	return &fakeHandler{
		queue: make(chan service.Notice, 5000), done: make(chan struct{}), said: make(chan string, 5000), detached: make(chan struct{}),
		drained: make(chan struct{}),
	}
}

func (h *fakeHandler) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended == nil {
		h.ended = err
		close(h.done)
	}
}

func (h *fakeHandler) ID() string            { return "h1" }
func (h *fakeHandler) MaxInFlight() int      { return 7 }
func (h *fakeHandler) Done() <-chan struct{} { return h.done }
func (h *fakeHandler) Detach()               { close(h.detached) }
func (h *fakeHandler) Handled(upTo uint64)   { h.said <- fmt.Sprintf("handled %d", upTo) }

func (h *fakeHandler) Drain() {
	h.said <- "drain"
	h.once.Do(func() { close(h.drained) })
}

func (h *fakeHandler) Decide(callID uint64, d service.Decision) {
	if d.Reject != nil {
		h.said <- fmt.Sprintf("reject %d: %s %s %t", callID, d.Reject.Message, d.Reject.Data, d.Reject.CloseLink)
		return
	}
	h.said <- fmt.Sprintf("accept %d: %v %s %s", callID, d.Rooms, d.UserID, d.Data)
}

func (h *fakeHandler) Reply(callID uint64, payload []byte, attachments [][]byte) {
	if payload == nil {
		h.said <- fmt.Sprintf("no ack %d", callID)
		return
	}
	h.said <- fmt.Sprintf("reply %d: %s %q", callID, payload, attachments)
}

func (h *fakeHandler) Post(v any) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended != nil {
		return false
	}
	h.queue <- service.Notice{Kind: service.NoticePosted, Posted: v}
	return true
}

func (h *fakeHandler) Next(ctx context.Context, buf []service.Notice) ([]service.Notice, error) {
	select {
	case n := <-h.queue:
		return append(buf[:0], n), nil
	default:
	}
	select {
	case n := <-h.queue:
		return append(buf[:0], n), nil
	case <-h.done:
		select {
		case n := <-h.queue:
			return append(buf[:0], n), nil
		default:
			return nil, h.ended
		}
	case <-h.drained:
		select {
		case n := <-h.queue:
			return append(buf[:0], n), nil
		default:
			return nil, io.EOF
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// api is a client of every service.
type api struct {
	conn    *grpc.ClientConn
	emit    foyerv1.EmitServiceClient
	room    foyerv1.RoomServiceClient
	socket  foyerv1.SocketServiceClient
	watch   foyerv1.PresenceServiceClient
	handler foyerv1.HandlerServiceClient
	node    foyerv1.NodeServiceClient
}

// start runs a Server of n in memory and ends both with the test.
func start(t testing.TB, cfg Config, n node, options ...grpc.DialOption) (*Server, *api) {
	t.Helper()
	s, err := newServer(cfg, n)
	if err != nil {
		t.Fatal(err)
	}
	return s, serve(t, s, options...)
}

// serve runs s in memory and ends it with the test.
func serve(t testing.TB, s *Server, options ...grpc.DialOption) *api {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", append(options,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: got %v, want nil", err)
		}
	})
	return apiOf(conn)
}

func apiOf(conn *grpc.ClientConn) *api {
	return &api{
		conn: conn, emit: foyerv1.NewEmitServiceClient(conn), room: foyerv1.NewRoomServiceClient(conn),
		socket: foyerv1.NewSocketServiceClient(conn), watch: foyerv1.NewPresenceServiceClient(conn),
		handler: foyerv1.NewHandlerServiceClient(conn), node: foyerv1.NewNodeServiceClient(conn),
	}
}

// wantError checks an error's code, its one ErrorInfo with a published reason, and the field of its BadRequest, which
// its text names too.
func wantError(t testing.TB, err error, code codes.Code, reason foyerv1.ErrorReason, field string) {
	t.Helper()
	wantStatus(t, status.Convert(err), code, reason, field)
}

func wantStatus(t testing.TB, st *status.Status, code codes.Code, reason foyerv1.ErrorReason, field string) {
	t.Helper()
	if st.Code() != code {
		t.Fatalf("got %v %q, want %v", st.Code(), st.Message(), code)
	}
	var infos []*errdetails.ErrorInfo
	got := ""
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			infos = append(infos, d)
		case *errdetails.BadRequest:
			got = d.GetFieldViolations()[0].GetField()
		}
	}
	if len(infos) != 1 || infos[0].GetDomain() != "foyer" || infos[0].GetReason() != word(reason) {
		t.Fatalf("got ErrorInfo %v, want one with reason %s of domain foyer", infos, word(reason))
	}
	if got != field {
		t.Errorf("got field %q, want %q (%s)", got, field, st.Message())
	}
	if text, named := strings.CutPrefix(st.Message(), field+": "); field != "" && (!named || text == "") {
		t.Errorf("got %q, want a text that begins with %q and goes on", st.Message(), field+": ")
	}
}
