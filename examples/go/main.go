// Command go is a backend of Foyer, to copy from: who may connect, what happens to the events of browsers, and how to
// reach browsers.
//
//	foyer serve --namespaces /example --connect /example=handler &
//	go run ./examples/go
//
// FOYER_API is the address of Foyer's API, FOYER_TOKEN the bearer token, when Foyer asks for one. The browser's side is
// in ../README.md.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	foyerv1 "foyer/gen/foyer/v1"
)

const (
	namespace = "/example" // in the browser: io("/example", { auth: { token: "ann's secret" } })
	room      = "lobby"

	callTimeout = 10 * time.Second // gRPC sets no deadline by itself: a call without one can wait for ever
	grace       = 10 * time.Second // how long events in flight may take when this program is asked to end

	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// ---- Connect.

func connect() (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), // credentials/tls when Foyer has --api-cert
		// A network that dies without a word is noticed after 20 s. Foyer takes no pings that come faster than every 5 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second}),
		// The connection has pauses of its own, which grow to two minutes by default.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 2, Jitter: 0.5, MaxDelay: longestPause},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if token := os.Getenv("FOYER_TOKEN"); token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	return grpc.NewClient(cmp.Or(os.Getenv("FOYER_API"), "127.0.0.1:50051"), options...)
}

// bearer is a token that every call carries.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity would keep the token off a connection without TLS; on loopback that is fine.
func (bearer) RequireTransportSecurity() bool { return false }

// ---- Attach a handler.

// backend is one attachment.
type backend struct {
	emits   foyerv1.EmitServiceClient
	sockets foyerv1.SocketServiceClient

	mu     sync.Mutex // gRPC wants one Send at a time
	stream foyerv1.HandlerService_AttachClient

	people map[string]*person // by socket id: who is here; owned by serve
}

// person is one socket.
type person struct {
	user string
	last <-chan struct{} // closed once the last of its events so far is answered
}

// attach registers and serves until the stream ends. Without an error it has ended as it should: ctx is done and all is
// answered, or Foyer is going down.
func attach(ctx context.Context, conn *grpc.ClientConn) error {
	// The stream outlives ctx by what is in flight.
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	defer stop()

	stream, err := foyerv1.NewHandlerServiceClient(conn).Attach(streamCtx)
	if err != nil {
		return err
	}
	b := &backend{
		emits:   foyerv1.NewEmitServiceClient(conn),
		sockets: foyerv1.NewSocketServiceClient(conn),
		stream:  stream,
		people:  map[string]*person{}, // empty each time: Foyer hands over the sockets that it still has
	}
	b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{
		Namespaces:     []string{namespace},
		Group:          "example", // several processes of one group share the sockets
		DecideConnects: true,
		MaxInFlight:    64, // so many events are answered at once, and no more
	}}})
	// No new work once ctx is done; when the last event is answered, the stream ends.
	leave := context.AfterFunc(ctx, func() {
		b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Drain{Drain: &foyerv1.Drain{}}})
	})
	defer leave()
	return b.serve()
}

func (b *backend) serve() error {
	for {
		heard, err := b.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := heard.GetMessage().(type) {
		case *foyerv1.AttachResponse_Registered:
			fmt.Println("attached to node", m.Registered.GetNodeId())
		case *foyerv1.AttachResponse_Connect:
			b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_ConnectReply{ConnectReply: decide(m.Connect)}})
		case *foyerv1.AttachResponse_Connected:
			fmt.Println(m.Connected.GetSocket().GetUserId(), "connected")
			b.meet(m.Connected.GetSocket())
		case *foyerv1.AttachResponse_Assigned:
			for _, socket := range m.Assigned.GetSockets() {
				b.meet(socket)
			}
		case *foyerv1.AttachResponse_Disconnected:
			socket := m.Disconnected.GetSocket()
			fmt.Printf("%s disconnected: %s\n", socket.GetUserId(), m.Disconnected.GetDetail())
			delete(b.people, socket.GetId())
		case *foyerv1.AttachResponse_Event:
			b.answerInTurn(m.Event)
		}
	}
}

func (b *backend) meet(socket *foyerv1.Socket) {
	nothing := make(chan struct{})
	close(nothing)
	b.people[socket.GetId()] = &person{user: socket.GetUserId(), last: nothing}
}

// answerInTurn answers the events of one socket one after another, in their order, and those of different sockets at
// the same time. MaxInFlight bounds how many goroutines that makes.
func (b *backend) answerInTurn(e *foyerv1.Event) {
	p := b.people[e.GetSocket().GetId()] // Foyer tells of each socket before its first event
	before, done := p.last, make(chan struct{})
	p.last = done
	go func() {
		defer close(done)
		<-before
		b.reply(e, p.user)
	}()
}

// send blocks while Foyer does not read. What went wrong with the stream, Recv tells.
func (b *backend) send(m *foyerv1.AttachRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.stream.Send(m)
}

// ---- Decide who may connect.

// Here a session would be looked up, or a JWT be checked.
var userOf = map[string]string{"ann's secret": "ann", "bob's secret": "bob"}

func decide(c *foyerv1.Connect) *foyerv1.ConnectReply {
	token, _ := c.GetSocket().GetHandshake().GetAuth().AsMap()["token"].(string)
	user, ok := userOf[token]
	if !ok {
		fmt.Println("turned a client away: no such token")
		data, _ := structpb.NewValue(map[string]any{"code": 401, "hint": "log in first"})
		return &foyerv1.ConnectReply{CallId: c.GetCallId(), Decision: &foyerv1.ConnectReply_Reject{Reject: &foyerv1.Reject{
			Message: "not authorized", // the browser has these two in its connect_error
			Data:    data,
		}}}
	}
	data, _ := structpb.NewStruct(map[string]any{"name": strings.ToUpper(user)})
	return &foyerv1.ConnectReply{CallId: c.GetCallId(), Decision: &foyerv1.ConnectReply_Accept{Accept: &foyerv1.Accept{
		Rooms:  []string{room}, // it is in there before it hears that it is connected
		UserId: user,
		Data:   data, // ours to use; the browser does not see it
	}}}
}

// ---- Answer events.

// reply answers an event. Every event gets a reply, also one that wants no acknowledgement: it makes room for the next.
func (b *backend) reply(e *foyerv1.Event, user string) {
	ctx, cancel := context.WithTimeout(b.stream.Context(), callTimeout)
	defer cancel()
	var args *foyerv1.Args
	values, err := b.answer(ctx, e, user)
	if err == nil {
		args, err = toArgs(values...)
	}
	if err != nil {
		fmt.Printf("%s: %s\n", e.GetPayload().GetEvent(), explain(err))
		text := "a fault of the backend"
		if refused, ok := status.FromError(err); ok {
			text = refused.Message()
		}
		args, _ = toArgs(map[string]any{"error": text})
	}
	b.send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_EventReply{EventReply: &foyerv1.EventReply{
		CallId: e.GetCallId(), Args: args,
	}}})
}

// answer does what an event asks for, and returns the arguments of its acknowledgement.
func (b *backend) answer(ctx context.Context, e *foyerv1.Event, user string) ([]any, error) {
	args, err := fromWire(e.GetPayload())
	if err != nil {
		return nil, err
	}
	args = append(args, nil, nil)
	text, isText := args[0].(string)
	file, isFile := args[1].([]byte)
	sender := e.GetSocket().GetId()
	// Browsers send whatever they like: what does not look as it should is an unknown event.
	switch event := e.GetPayload().GetEvent(); {
	case event == "greet":
		return []any{"hello, " + user}, nil
	case event == "say" && isText:
		return b.say(ctx, sender, user, text)
	case event == "ask" && isText:
		return b.ask(ctx, sender, text)
	case event == "photo" && isText && isFile:
		return b.photo(ctx, sender, text, file)
	case event == "who":
		return b.who(ctx)
	case event == "oops":
		return b.oops(ctx)
	}
	return []any{map[string]any{"error": "no such event"}}, nil
}

// others are the others in the room.
func others(sender string) *foyerv1.Target {
	// Each socket is also alone in a room that has its id as the name.
	return &foyerv1.Target{Namespace: namespace, Rooms: []string{room}, ExceptRooms: []string{sender}}
}

// say emits to a room.
func (b *backend) say(ctx context.Context, sender, user, text string) ([]any, error) {
	payload, err := toPayload("said", user, text)
	if err != nil {
		return nil, err
	}
	told, err := b.emits.Emit(ctx, &foyerv1.EmitRequest{Target: others(sender), Payload: payload})
	return []any{map[string]any{"told": told.GetMatched()}}, err
}

// ask emits to a room, and waits for the acknowledgement of each client.
func (b *backend) ask(ctx context.Context, sender, question string) ([]any, error) {
	payload, err := toPayload("question", question)
	if err != nil {
		return nil, err
	}
	got, err := b.emits.EmitWithAck(ctx, &foyerv1.EmitWithAckRequest{
		Target: others(sender), Payload: payload, Timeout: durationpb.New(3 * time.Second),
	})
	if err != nil {
		return nil, err
	}
	answers, silent := []any{}, 0
	for _, outcome := range got.GetOutcomes() {
		if outcome.GetArgs() == nil {
			silent++ // it took too long, or went away: GetFailure tells
			continue
		}
		values, err := fromWire(outcome.GetArgs())
		if err != nil {
			return nil, err
		}
		answers = append(answers, append(values, nil)[0])
	}
	return []any{map[string]any{"answers": answers, "silent": silent}}, nil
}

// photo takes a binary value, and passes it on.
func (b *backend) photo(ctx context.Context, sender, name string, photo []byte) ([]any, error) {
	payload, err := toPayload("photo", name, photo)
	if err != nil {
		return nil, err
	}
	_, err = b.emits.Emit(ctx, &foyerv1.EmitRequest{Target: others(sender), Payload: payload})
	return []any{map[string]any{"size": len(photo), "start": photo[:min(4, len(photo))]}}, err
}

// who lists sockets, page by page.
func (b *backend) who(ctx context.Context) ([]any, error) {
	people := []any{}
	list := &foyerv1.ListSocketsRequest{
		Target:   &foyerv1.Target{Namespace: namespace, Rooms: []string{room}},
		View:     foyerv1.SocketView_SOCKET_VIEW_FULL, // with data
		PageSize: 100,
	}
	for {
		page, err := b.sockets.ListSockets(ctx, list)
		if err != nil {
			return nil, err
		}
		for _, s := range page.GetSockets() {
			people = append(people, map[string]any{"user": s.GetUserId(), "rooms": s.GetRooms(), "name": s.GetData().AsMap()["name"]})
		}
		if list.PageToken = page.GetNextPageToken(); list.PageToken == "" {
			return []any{people}, nil
		}
	}
}

// oops makes a mistake, to see what an error tells: a room must have a name.
func (b *backend) oops(ctx context.Context) ([]any, error) {
	_, err := b.emits.Emit(ctx, &foyerv1.EmitRequest{
		Target:  &foyerv1.Target{Namespace: namespace, Rooms: []string{""}},
		Payload: &foyerv1.Payload{Event: "never"},
	})
	return nil, err
}

// explain says what an error tells: its code, the reason (a word of foyer.v1.ErrorReason, to be tested for), the
// fields, and the text.
func explain(err error) string {
	if err == nil {
		return "an end without an error"
	}
	reason, fields := "no reason", []string{}
	for _, detail := range status.Convert(err).Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
		case *errdetails.BadRequest:
			for _, violation := range d.GetFieldViolations() {
				fields = append(fields, violation.GetField())
			}
		}
	}
	return fmt.Sprintf("%v, %s, fields %q: %s", status.Code(err), reason, fields, status.Convert(err).Message())
}

// ---- Come back when the stream ends, and leave when asked to.

// run attaches again and again, with pauses that grow, until ctx is done. An error is one that no waiting mends.
func run(ctx context.Context, conn *grpc.ClientConn) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		began := time.Now()
		err := attach(ctx, conn)
		if ctx.Err() != nil {
			if status.Code(err) == codes.Unavailable { // Foyer is away, and there is nothing to finish
				return nil
			}
			return err
		}
		switch status.Code(err) {
		case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument:
			return err
		}
		if time.Since(began) > longestPause { // it had worked
			pause = firstPause
		}
		// Not all at the same moment: many backends have lost the same Foyer.
		wait := pause/2 + rand.N(pause/2)
		fmt.Printf("detached, again in %v: %s\n", wait.Round(time.Millisecond), explain(err))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	conn, err := connect()
	if err == nil {
		err = run(ctx, conn)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, explain(err))
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}
