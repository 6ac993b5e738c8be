package grpcapi

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

func TestListNodes(t *testing.T) {
	s, client := start(t, Config{}, newFakeNode())
	for _, draining := range []bool{false, true} {
		got, err := client.node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		want := &foyerv1.ListNodesResponse{
			Nodes:    []*foyerv1.Node{{NodeId: "node", Version: "v0", Sockets: proto.Int32(3), Draining: draining}},
			Coverage: &foyerv1.Coverage{},
		}
		if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
			t.Errorf("(-got +want):\n%s", diff)
		}
		s.NotServing()
	}
}

// emptied starts a server with a way to empty it, and a Drain.
func emptied(ctx context.Context, t testing.TB, window *durationpb.Duration, drain func(context.Context, time.Duration, func(left, closed int)) error) (*Server, *api, grpc.ServerStreamingClient[foyerv1.DrainResponse]) {
	t.Helper()
	s, client := start(t, Config{Drain: drain}, newFakeNode())
	stream, err := client.node.Drain(ctx, &foyerv1.DrainRequest{Window: window})
	if err != nil {
		t.Fatal(err)
	}
	return s, client, stream
}

func TestDrain(t *testing.T) { bubble(t, testDrain) }

func testDrain(t *testing.T) {
	for _, c := range []struct {
		name   string
		window *durationpb.Duration
		want   time.Duration
	}{
		{"default", nil, 30 * time.Second},
		{"at once", durationpb.New(0), 0},
		{"longest", durationpb.New(time.Hour), time.Hour},
	} {
		_, _, stream := emptied(t.Context(), t, c.window, func(_ context.Context, window time.Duration, progress func(int, int)) error {
			if window != c.want {
				t.Errorf("%s: got %v, want %v", c.name, window, c.want)
			}
			for left := 25; left >= 0; left-- { // ten a second
				progress(left, 25-left)
				if left > 0 {
					time.Sleep(progressEvery / 10)
				}
			}
			return nil
		})
		var got []*foyerv1.DrainResponse
		for {
			m, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		if len(got) != 3 {
			t.Fatalf("%s: got %v, want three messages", c.name, got)
		}
		for i, m := range got {
			last := i == len(got)-1
			if m.GetSessionsLeft()+m.GetSessionsClosed() != 25 || m.GetDone() != last || (m.GetSessionsLeft() == 0) != last {
				t.Errorf("%s: message %d: got %v", c.name, i, m)
			}
		}
	}
}

func TestDrainEnds(t *testing.T) { bubble(t, testDrainEnds) }

func testDrainEnds(t *testing.T) {
	waits := func(ctx context.Context, _ time.Duration, progress func(int, int)) error {
		progress(1, 0)
		<-ctx.Done()
		return ctx.Err()
	}
	t.Log("two at once")
	s, client, one := emptied(t.Context(), t, nil, waits)
	synctest.Wait()
	two, err := client.node.Drain(t.Context(), &foyerv1.DrainRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = two.Recv()
	wantError(t, err, codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_LIMIT_REACHED, "")

	t.Log("the node goes down")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	_, err = one.Recv()
	wantError(t, err, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING, "")

	t.Log("the caller goes away")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	s, _, _ = emptied(ctx, t, nil, func(ctx context.Context, w time.Duration, progress func(int, int)) error {
		defer close(ended)
		return waits(ctx, w, progress)
	})
	synctest.Wait()
	cancel()
	<-ended
	synctest.Wait()
	if s.emptying.Load() {
		t.Error("a drain that is over keeps others out")
	}

	t.Log("faults")
	_, _, stream := emptied(t.Context(), t, nil, func(context.Context, time.Duration, func(int, int)) error { return errors.New("a fault") })
	_, err = stream.Recv()
	wantError(t, err, codes.Internal, foyerv1.ErrorReason_ERROR_REASON_INTERNAL, "")
}
