package bench

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
)

const fakeAPI = "server:50051"

// fakeFoyer is the little of Foyer's API that a run needs, for the clients of a fake.
type fakeFoyer struct {
	foyerv1.UnimplementedEmitServiceServer
	foyerv1.UnimplementedRoomServiceServer
	foyerv1.UnimplementedHandlerServiceServer
	f *fake

	// Nil: as a good server does.
	join   func(ctx context.Context, r *foyerv1.JoinRoomsRequest) (*foyerv1.JoinRoomsResponse, error)
	result func(nth int) (*foyerv1.EmitResponse, error) // an error that is no status ends the stream
	attach func(ctx context.Context) error

	mu      sync.Mutex
	handler grpc.BidiStreamingServer[foyerv1.AttachRequest, foyerv1.AttachResponse]
	calls   uint64
	asked   map[uint64]func(args string)
}

func (a *fakeFoyer) serve(t *testing.T, scenario string) Options {
	t.Helper()
	a.f = &fake{ask: a.ask}
	a.asked = map[uint64]func(string){}
	o := a.f.serve(t, scenario)
	o.API = fakeAPI
	s := grpc.NewServer()
	foyerv1.RegisterEmitServiceServer(s, a)
	foyerv1.RegisterRoomServiceServer(s, a)
	foyerv1.RegisterHandlerServiceServer(s, a)
	l := a.f.listen(fakeAPI)
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	t.Cleanup(func() {
		s.Stop()
		serving.Wait()
	})
	return o
}

func (a *fakeFoyer) JoinRooms(ctx context.Context, r *foyerv1.JoinRoomsRequest) (*foyerv1.JoinRoomsResponse, error) {
	if a.join != nil {
		return a.join(ctx, r)
	}
	return a.joined(r), nil
}

func (a *fakeFoyer) joined(r *foyerv1.JoinRoomsRequest) *foyerv1.JoinRoomsResponse {
	for _, id := range r.GetTarget().GetRooms() {
		a.f.mu.Lock()
		s := a.f.sessions[id]
		a.f.mu.Unlock()
		a.f.join(s, r.GetRooms()[0])
	}
	return &foyerv1.JoinRoomsResponse{Matched: proto.Int32(int32(len(r.GetTarget().GetRooms())))}
}

func (a *fakeFoyer) LeaveRooms(context.Context, *foyerv1.LeaveRoomsRequest) (*foyerv1.LeaveRoomsResponse, error) {
	return &foyerv1.LeaveRoomsResponse{Matched: proto.Int32(1)}, nil
}

func (a *fakeFoyer) EmitStream(s grpc.BidiStreamingServer[foyerv1.EmitStreamRequest, foyerv1.EmitStreamResponse]) error {
	for nth := 0; ; {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		for _, item := range m.GetItems() {
			nth++
			ok, err := &foyerv1.EmitResponse{}, error(nil)
			if a.result != nil {
				ok, err = a.result(nth)
			}
			r := &foyerv1.EmitStreamResult{Id: item.GetId(), Result: &foyerv1.EmitStreamResult_Ok{Ok: ok}}
			switch refused, is := grpcstatus.FromError(err); {
			case !is:
				return grpcstatus.Error(codes.Unavailable, err.Error())
			case err != nil:
				r.Result = &foyerv1.EmitStreamResult_Error{Error: &status.Status{Code: int32(refused.Code()), Message: refused.Message()}}
			default:
				json := item.GetEmit().GetPayload().GetJson()
				a.f.emit(item.GetEmit().GetTarget().GetRooms()[0], `42["`+item.GetEmit().GetPayload().GetEvent()+`",`+strings.TrimPrefix(json, "["))
			}
			if err := s.Send(&foyerv1.EmitStreamResponse{Results: []*foyerv1.EmitStreamResult{r}}); err != nil {
				return err
			}
		}
	}
}

func (a *fakeFoyer) Attach(s grpc.BidiStreamingServer[foyerv1.AttachRequest, foyerv1.AttachResponse]) error {
	if a.attach != nil {
		return a.attach(s.Context())
	}
	if _, err := s.Recv(); err != nil {
		return err
	}
	a.mu.Lock()
	a.handler = s
	a.mu.Unlock()
	// Some news that nobody has asked for comes first.
	s.Send(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Connected{Connected: &foyerv1.Connected{}}})
	s.Send(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Registered{Registered: &foyerv1.Registered{}}})
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		r := m.GetEventReply()
		a.mu.Lock()
		answer := a.asked[r.GetCallId()]
		delete(a.asked, r.GetCallId())
		a.mu.Unlock()
		answer(r.GetArgs().GetJson())
	}
}

// ask hands a client's echo to the handler.
func (a *fakeFoyer) ask(from *session, event, id, args string) bool {
	if event != "bench:echo" {
		return true
	}
	time.Sleep(100 * time.Millisecond)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
	a.asked[a.calls] = func(args string) { from.send("43" + id + args) }
	a.handler.Send(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Event{Event: &foyerv1.Event{
		CallId: a.calls, Payload: &foyerv1.Payload{Event: event, Args: &foyerv1.Payload_Json{Json: "[" + strings.TrimPrefix(args, echoPrefix)}},
	}}})
	return false
}

func TestAPI(t *testing.T) {
	refused := func(nth int) (*foyerv1.EmitResponse, error) {
		if nth == 4 {
			return nil, grpcstatus.Error(codes.ResourceExhausted, "too much")
		}
		return &foyerv1.EmitResponse{}, nil
	}
	slow := func(nth int) (*foyerv1.EmitResponse, error) {
		if nth == 4 {
			return &foyerv1.EmitResponse{DroppedSlow: proto.Int32(2)}, nil
		}
		return &foyerv1.EmitResponse{}, nil
	}
	ends := func(nth int) (*foyerv1.EmitResponse, error) {
		if nth == 4 {
			return nil, context.DeadlineExceeded
		}
		return &foyerv1.EmitResponse{}, nil
	}
	nobody := func(context.Context, *foyerv1.JoinRoomsRequest) (*foyerv1.JoinRoomsResponse, error) {
		return &foyerv1.JoinRoomsResponse{}, nil
	}
	never := func(ctx context.Context, _ *foyerv1.JoinRoomsRequest) (*foyerv1.JoinRoomsResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for _, c := range []struct {
		name, scenario string
		api            *fakeFoyer
		set            func(o *Options)
		want           want
	}{
		{"a good server", "broadcast", &fakeFoyer{}, nil, want{deliveries: 30}},
		{"a good server", "echo", &fakeFoyer{}, nil, want{deliveries: 30}},
		{"a good server", "churn", &fakeFoyer{join: func(_ context.Context, _ *foyerv1.JoinRoomsRequest) (*foyerv1.JoinRoomsResponse, error) {
			time.Sleep(100 * time.Millisecond)
			return &foyerv1.JoinRoomsResponse{Matched: proto.Int32(1)}, nil
		}}, nil, want{deliveries: 30}},
		{"nobody is there", "broadcast", &fakeFoyer{}, func(o *Options) { o.API = "elsewhere:1" }, want{err: "--api: nobody listens at elsewhere:1 within 15s"}},
		{"another protocol", "broadcast", &fakeFoyer{}, func(o *Options) { o.API = fakeAddr }, want{err: "is it Foyer's API, and does it speak TLS: --api-tls?"}},
		{"another node's", "broadcast", &fakeFoyer{join: nobody}, nil, want{err: "the API at server:50051 knows 0 of 3 clients: is it that of the same node?"}},
		{"another node's", "churn", &fakeFoyer{join: nobody}, nil, want{err: "the API at server:50051 knows 0 of 1 clients: is it that of the same node?"}},
		{"no answer", "broadcast", &fakeFoyer{join: never}, nil, want{err: "the API at server:50051: no answer within 15s"}},
		{"no answer", "churn", &fakeFoyer{join: never}, nil, want{err: "the API at server:50051: no answer within 15s"}},
		{"no answer", "echo", &fakeFoyer{attach: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}}, nil, want{err: "the API at server:50051: no answer within 15s"}},
		{"no token", "echo", &fakeFoyer{attach: func(context.Context) error {
			return grpcstatus.Error(codes.Unauthenticated, "who is it")
		}}, nil, want{err: "the API at server:50051 needs a token: give --api-token-file"}},
		{"a wrong token", "echo", &fakeFoyer{attach: func(context.Context) error {
			return grpcstatus.Error(codes.Unauthenticated, "who is it")
		}}, func(o *Options) { o.Token = "x" }, want{err: "the API at server:50051 does not know the token"}},
		{"no handlers", "echo", &fakeFoyer{attach: func(context.Context) error {
			return grpcstatus.Error(codes.PermissionDenied, "not you")
		}}, nil, want{err: "the API at server:50051: not you"}},
		{"an emit is refused", "broadcast", &fakeFoyer{result: refused}, nil, want{err: "an emit is refused: too much"}},
		{"clients are too slow", "broadcast", &fakeFoyer{result: slow}, nil, want{err: "2 recipients of an emit were too slow"}},
		{"the stream ends", "broadcast", &fakeFoyer{result: ends}, nil, want{err: "the API at server:50051: context deadline exceeded"}},
	} {
		t.Run(c.name+"/"+c.scenario, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := c.api.serve(t, c.scenario)
				if c.scenario != "broadcast" {
					o.Rate = 0
				}
				if c.set != nil {
					c.set(&o)
				}
				r, err := Run(t.Context(), o)
				c.want.check(t, r, err)
			})
		})
	}
}

func TestAPIToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &fakeFoyer{}
		a.join = func(ctx context.Context, r *foyerv1.JoinRoomsRequest) (*foyerv1.JoinRoomsResponse, error) {
			if md, _ := metadata.FromIncomingContext(ctx); len(md["authorization"]) != 1 || md["authorization"][0] != "Bearer secret" {
				t.Errorf("authorization: %q", md["authorization"])
			}
			return a.joined(r), nil
		}
		o := a.serve(t, "broadcast")
		o.Token = "secret"
		r, err := Run(t.Context(), o)
		want{deliveries: 30}.check(t, r, err)
	})
}
