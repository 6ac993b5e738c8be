// Package chat is the backend of the demo: Socket.IO's well-known chat with nicknames, rooms, a typing notice and a
// live list of who is here.
//
// It is an ordinary client of Foyer's public gRPC API, written to be copied: dial any Foyer, call Run. It holds two
// streams. HandlerService.Attach brings what browsers do and takes what to do about it; PresenceService.Watch tells who
// is in which room. One goroutine owns all state, and the state lives as long as the two streams: when either ends,
// both go, and Run attaches anew. Nothing is lost by that, since Foyer keeps connections, rooms and names (as the
// sockets' user_id) and hands them over again. So several backends, each at a node of a cluster, say the same of who is
// here.
//
//	chat.go      the streams and what comes over them
//	events.go    the browsers' events, one function each
//	roster.go    who is here
//	commands.go  what goes back over the stream
package chat

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	lobby    = "lobby" // the room where everybody starts
	minPause = 100 * time.Millisecond
	maxPause = 5 * time.Second
)

// Run keeps the chat going until ctx is done, then returns nil. When Foyer is away it tries again, with growing pauses.
// The one error it returns is Foyer's refusal of our credentials, which no waiting mends.
func Run(ctx context.Context, conn grpc.ClientConnInterface, log *zap.Logger) error {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		began := time.Now()
		err := attach(ctx, conn, log)
		switch code := status.Code(err); {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end that was asked for
		case code == codes.Unauthenticated, code == codes.PermissionDenied:
			return fmt.Errorf("attach: %w", err)
		case time.Since(began) > maxPause: // it had worked: start over with short pauses
			pause = minPause
		}
		log.Warn("detached", zap.NamedError("err", err), zap.Duration("retry_in", pause))
		select {
		case <-time.After(pause/2 + rand.N(pause/2)): // spread, so that many backends do not return at once
		case <-ctx.Done():
			return nil
		}
	}
}

// attach registers as the handler of "/" and serves until one of the two streams ends; the error says why it did.
func attach(ctx context.Context, conn grpc.ClientConnInterface, log *zap.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends both streams

	stream, err := foyerv1.NewHandlerServiceClient(conn).Attach(ctx)
	if err != nil {
		return err
	}
	watch, err := foyerv1.NewPresenceServiceClient(conn).Watch(ctx, &foyerv1.WatchRequest{Namespace: "/", All: true})
	if err != nil {
		return err
	}
	b := &backend{stream: stream, log: log, people: map[string]*person{}, roster: newRoster()}
	b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{
		Namespaces: []string{"/"},
		Group:      "chat",
		SocketView: foyerv1.SocketView_SOCKET_VIEW_FULL, // with the handshake: where a browser comes from
	}}})

	ended := make(chan error, 2)
	messages := receive(ctx, stream.Recv, ended)
	presence := receive(ctx, watch.Recv, ended)
	for {
		select {
		case m := <-messages:
			b.take(m)
		case m := <-presence:
			b.follow(m)
		case <-b.pushDue:
			b.push()
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// receive passes on what comes over a stream; when the stream ends, ended hears why.
func receive[M any](ctx context.Context, recv func() (*M, error), ended chan<- error) <-chan *M {
	out := make(chan *M)
	go func() {
		for {
			m, err := recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case out <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// backend is one attachment: its stream and what it knows. All of it belongs to the goroutine of attach.
type backend struct {
	stream   foyerv1.HandlerService_AttachClient
	log      *zap.Logger
	commands uint64             // sent so far: the id of the last one
	people   map[string]*person // by socket id: those whose events come to us
	roster   *roster            // everybody, whoever handles them
	pushDue  <-chan time.Time   // when browsers hear of changes of the roster; nil when there are none
}

// person is one browser tab. Foyer knows the rooms too; ours are a copy to check by, without a call.
type person struct {
	id       string
	nickname string
	rooms    map[string]bool
	asked    map[string]bool // our joins (true) and leaves that presence has not told of yet
}

// take does what one message from Foyer asks for.
func (b *backend) take(m *foyerv1.AttachResponse) {
	switch m := m.GetMessage().(type) {
	case *foyerv1.AttachResponse_Registered:
		b.log.Info("attached", zap.String("node", m.Registered.GetNodeId()), zap.String("handler", m.Registered.GetHandlerId()))
	case *foyerv1.AttachResponse_Connected:
		b.welcome(m.Connected.GetSocket(), "connected")
	case *foyerv1.AttachResponse_Assigned: // they were there before us
		for _, socket := range m.Assigned.GetSockets() {
			b.welcome(socket, "assigned")
		}
	case *foyerv1.AttachResponse_Event:
		b.answer(m.Event)
	case *foyerv1.AttachResponse_Disconnected:
		b.farewell(m.Disconnected)
	case *foyerv1.AttachResponse_CommandResult:
		if err := m.CommandResult.GetError(); err != nil {
			b.log.Warn("command refused", zap.Uint64("command", m.CommandResult.GetId()), zap.String("err", err.GetMessage()))
		}
	}
}

// welcome takes note of a socket, shows a new one to the lobby, and tells the browser who it is. A browser that had
// been here answers with its nickname and rooms: that is all it takes to survive a restart of this backend.
func (b *backend) welcome(socket *foyerv1.Socket, how string) {
	p := &person{id: socket.GetId(), nickname: cmp.Or(socket.GetUserId(), guestName(socket.GetId())), rooms: map[string]bool{}, asked: map[string]bool{}}
	for _, room := range socket.GetRooms() {
		p.rooms[room] = true
	}
	b.people[p.id] = p
	b.log.Info(how, zap.String("socket", p.id), zap.String("session", socket.GetSessionId()),
		zap.String("address", socket.GetHandshake().GetAddress()), zap.String("transport", socket.GetTransport()))
	if len(p.rooms) == 0 {
		b.join(p, lobby)
	}
	b.emit(toRoom(p.id), "welcome", self{ID: p.id, Nickname: p.nickname})
	b.settle(p) // presence may have told of it first
}

// farewell forgets a socket. Foyer has taken it out of its rooms already.
func (b *backend) farewell(gone *foyerv1.Disconnected) {
	id := gone.GetSocket().GetId()
	delete(b.people, id)
	b.log.Info("disconnected", zap.String("socket", id), zap.String("session", gone.GetSocket().GetSessionId()),
		zap.String("detail", gone.GetDetail()), zap.Strings("rooms", gone.GetSocket().GetRooms()))
}
