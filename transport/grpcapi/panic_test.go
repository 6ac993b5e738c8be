package grpcapi

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// faulty is a request whose decoder has a fault.
type faulty struct{}

func (*faulty) read(mem.Buffer) bool { panic("a fault of the decoder") }
func (*faulty) other() proto.Message { return nil }

// TestPanicWhileDecoding: a panic before the service is called is an error of that call, in the log and counted, and
// the next call finds everything as it was.
func TestPanicWhileDecoding(t *testing.T) {
	var log bytes.Buffer
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"}), zapcore.AddSync(&log), zap.ErrorLevel))
	s, err := newServer(Config{Logger: logger}, newFakeNode())
	if err != nil {
		t.Fatal(err)
	}
	s.register(&grpc.ServiceDesc{ServiceName: "foyer.v1.Faults", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{
		{MethodName: "Decode", Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return nil, dec(&faulty{})
		}},
		{MethodName: "Check", Handler: func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
			return nil, faultyCheck()
		}},
	}}, s)
	client := serve(t, s)
	for i, method := range []string{"Decode", "Check", "Decode"} {
		err := client.conn.Invoke(t.Context(), "/foyer.v1.Faults/"+method, &foyerv1.GetInfoRequest{}, &foyerv1.GetInfoResponse{})
		wantError(t, err, codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, "")
		if _, err := client.emit.Emit(t.Context(), &foyerv1.EmitRequest{Target: toRoom("r"), Payload: hello()}); err != nil {
			t.Errorf("after a panic: %v", err)
		}
		info, err := client.node.GetInfo(t.Context(), &foyerv1.GetInfoRequest{})
		if got := info.GetDropped()["api_panic"]; err != nil || got != int64(i+1) {
			t.Errorf("counted %d, %v, want %d", got, err, i+1)
		}
	}
	for _, want := range []string{"panic: a fault of the decoder", "panic: a fault of the check", "Faults/Decode", "goroutine"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log: %s", want, log.String())
		}
	}
}

func faultyCheck() (err error) {
	defer contain(&err)
	panic("a fault of the check")
}

// faultyCodec has a fault that shows in the middle of a fan-out, where the service holds the lane and the namespace.
type faultyCodec struct{ textCodec }

func (c faultyCodec) Encode(p *service.Packet) (service.Frame, error) {
	if p.Kind == service.KindEvent {
		panic("a fault of the codec")
	}
	return c.textCodec.Encode(p)
}

type faultyLink struct{ *link }

func (faultyLink) Codec() service.Codec { return faultyCodec{} }

// panicked is how each kind of call meets a fault of the service.
var panicked = map[string]func(context.Context, *api) error{
	"unary": func(ctx context.Context, a *api) error {
		_, err := a.emit.Emit(ctx, &foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: hello()})
		return err
	},
	"acks": func(ctx context.Context, a *api) error {
		_, err := a.emit.EmitWithAck(ctx, &foyerv1.EmitWithAckRequest{Target: &foyerv1.Target{All: true}, Payload: hello()})
		return err
	},
	"stream": func(ctx context.Context, a *api) error {
		stream, err := a.emit.EmitStream(ctx)
		if err == nil {
			err = stream.Send(&foyerv1.EmitStreamRequest{Items: []*foyerv1.EmitStreamItem{
				{Emit: &foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: hello()}},
			}})
		}
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	},
	"command": func(ctx context.Context, a *api) error {
		stream, err := a.handler.Attach(ctx)
		if err == nil {
			err = stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/"}}}})
		}
		if err == nil {
			err = stream.Send(command(1, &foyerv1.Command{Command: &foyerv1.Command_Emit{
				Emit: &foyerv1.EmitRequest{Target: &foyerv1.Target{All: true}, Payload: hello()},
			}}))
		}
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	},
}

const panicKind = "FOYER_TEST_PANIC"

// TestPanicEndsTheProcess: a panic where the service holds locks is the end of the process, loudly. A node that went on
// would answer no emit of that namespace any more, let nobody in, and hang when it is told to stop.
func TestPanicEndsTheProcess(t *testing.T) {
	if kind := os.Getenv(panicKind); kind != "" {
		panicInAChild(t, kind)
		return
	}
	for kind := range panicked {
		t.Run(kind, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestPanicEndsTheProcess$") //nolint:gosec // this very program
			child.Env = append(os.Environ(), panicKind+"="+kind)
			out, err := child.CombinedOutput()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.ExitCode() != 2 { // the runtime's own
				t.Fatalf("got %v, want the end of the process: %s", err, out)
			}
			for _, want := range []string{"panic: a fault of the codec", "goroutine", "faultyCodec"} {
				if !bytes.Contains(out, []byte(want)) {
					t.Errorf("%q is not told: %s", want, out)
				}
			}
		})
	}
}

func panicInAChild(t *testing.T, kind string) {
	n := realNode(t)
	_, client := start(t, Config{}, serviceNode{n})
	l := faultyLink{&link{name: "one", sent: make(chan string, 10)}}
	n.Connect(service.Connect{
		Conn: l, Namespace: "/", Bind: func(*service.Socket) bool { return true }, Refuse: func(service.Refusal) {},
	})
	<-l.sent
	t.Fatalf("the process goes on: %v", panicked[kind](t.Context(), client))
}
