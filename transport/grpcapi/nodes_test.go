package grpcapi

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func TestListNodes(t *testing.T) {
	s, client := start(t, Config{}, newFakeNode())
	for _, state := range []foyerv1.NodeState{foyerv1.NodeState_NODE_STATE_UP, foyerv1.NodeState_NODE_STATE_DRAINING} {
		got, err := client.node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		want := &foyerv1.ListNodesResponse{
			Nodes: []*foyerv1.Node{{
				NodeId: "node", Version: "v0", Sockets: proto.Int32(3), State: state,
				Draining: state == foyerv1.NodeState_NODE_STATE_DRAINING, Answers: true,
			}},
			Coverage: &foyerv1.Coverage{},
		}
		if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
			t.Errorf("(-got +want):\n%s", diff)
		}
		s.NotServing()
	}
}

// TestListNodesOfCluster: each state has its own word, times are told as ages, and only the node that answers knows how
// many sockets it has.
func TestListNodesOfCluster(t *testing.T) { bubble(t, testListNodesOfCluster) }

func testListNodesOfCluster(t *testing.T) {
	now := time.Now()
	n := newFakeNode()
	for name, state := range map[service.NodeID]service.NodeState{
		"aaaa": service.NodeLost, "bbbb": service.NodeSilent, "cccc": service.NodeDraining, "dddd": service.NodeIncompatible,
		"eeee": service.NodeJoining, "ffff": service.NodeUp,
	} {
		n.nodes = append(n.nodes, service.NodeStatus{
			Incarnation: service.Incarnation{Node: name, Run: 5000 << 20}, State: state, Version: "v1", Address: "10.0.0.1:7",
			Since: now.Add(-time.Minute), Heard: now.Add(-2 * time.Second),
		})
	}
	slices.SortFunc(n.nodes, func(a, b service.NodeStatus) int { return strings.Compare(string(a.Node), string(b.Node)) })
	n.nodes[1].Heard = time.Time{}
	n.nodes = append(n.nodes, service.NodeStatus{Incarnation: service.Incarnation{Node: "node"}, Version: "v0", Since: now})
	_, client := start(t, Config{}, n)
	got, err := client.node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	other := func(name string, state foyerv1.NodeState, heard *durationpb.Duration) *foyerv1.Node {
		return &foyerv1.Node{
			NodeId: name, Version: "v1", PeerAddress: "10.0.0.1:7", State: state, StartedAt: timestamppb.New(time.Unix(5, 0)),
			StateAge: durationpb.New(time.Minute), HeardAge: heard, Draining: state == foyerv1.NodeState_NODE_STATE_DRAINING,
		}
	}
	heard := durationpb.New(2 * time.Second)
	want := []*foyerv1.Node{
		other("aaaa", foyerv1.NodeState_NODE_STATE_LOST, heard), other("bbbb", foyerv1.NodeState_NODE_STATE_SILENT, nil),
		other("cccc", foyerv1.NodeState_NODE_STATE_DRAINING, heard), other("dddd", foyerv1.NodeState_NODE_STATE_INCOMPATIBLE, heard),
		other("eeee", foyerv1.NodeState_NODE_STATE_JOINING, heard), other("ffff", foyerv1.NodeState_NODE_STATE_UP, heard),
		{NodeId: "node", Version: "v0", Sockets: proto.Int32(3), State: foyerv1.NodeState_NODE_STATE_UP, StateAge: durationpb.New(0), Answers: true},
	}
	if diff := cmp.Diff(got.GetNodes(), want, protocmp.Transform()); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

// TestJoining: a node that has not joined its cluster says so to all but those who ask how it is.
func TestJoining(t *testing.T) { bubble(t, testJoining) }

func testJoining(t *testing.T) {
	s, client := start(t, Config{Joining: true}, newFakeNode())
	served := func() healthpb.HealthCheckResponse_ServingStatus {
		t.Helper()
		r, err := healthpb.NewHealthClient(client.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetStatus()
	}
	room := func() error {
		_, err := client.room.GetRoom(t.Context(), &foyerv1.GetRoomRequest{Room: "room"})
		return err
	}
	wantError(t, room(), codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_JOINING, "")
	stream, err := client.handler.Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantError(t, err, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_JOINING, "")
	if _, err := client.node.ListNodes(t.Context(), &foyerv1.ListNodesRequest{}); err != nil {
		t.Errorf("who asks for the nodes: %v", err)
	}
	if got := served(); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health says %v", got)
	}
	s.Ready()
	if err := room(); err != nil {
		t.Errorf("when it is ready: %v", err)
	}
	if got := served(); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health says %v when it is ready", got)
	}
	s.NotServing()
	s.Ready()
	if got := served(); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health says %v when it is to go", got)
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
