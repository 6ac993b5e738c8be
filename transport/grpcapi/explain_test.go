package grpcapi

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func TestExplain(t *testing.T) {
	n := newFakeNode()
	info := someSocket()
	departed := info
	departed.Handshake, departed.Data = nil, nil
	verdicts := func(v service.EmitVerdict, count int) (list [service.Verdicts]int) {
		list[v], list[service.VerdictNotInRooms] = count, 1
		return list
	}
	n.explanation = service.Explanation{
		Asked: []service.Explained{
			{
				Socket: info, Verdict: service.VerdictQueueFull, Rooms: []string{"a"},
				Link: &service.LinkState{Waiting: 80, Limit: 100, FullSince: someTime, Paused: true},
			},
			{
				Socket: departed, Verdict: service.VerdictDisconnected, ExceptRooms: []string{"b"},
				Gone: &service.Departure{Time: someTime, Reason: service.ReasonPingTimeout},
			},
		},
		Nodes: []service.Reach{
			{Node: "node", Matched: 2, Reached: 1, NearlyFull: 1, Verdicts: verdicts(service.VerdictReached, 1)},
			{Node: "two_", Matched: 4, Reached: 4, Verdicts: verdicts(service.VerdictReached, 4)},
		},
		Sample:   []service.Explained{{Socket: service.SocketInfo{ID: "x"}, Verdict: service.VerdictUnknown}},
		Coverage: service.Coverage{Unreachable: []string{"down"}},
	}
	_, client := start(t, Config{}, n)
	got, err := client.socket.Explain(t.Context(), &foyerv1.ExplainRequest{
		Target: &foyerv1.Target{Rooms: []string{"a"}, ExceptRooms: []string{"b"}}, Who: &foyerv1.ExplainRequest_SocketId{SocketId: "s"}, EventBytes: 7,
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls := n.noted(); len(calls) != 1 || calls[0] != "explain [a] without [b], of 7 bytes, at most 20, to s" {
		t.Errorf("got %q", calls)
	}
	counts := func(reached, missed int32) []*foyerv1.VerdictCount {
		return []*foyerv1.VerdictCount{
			{Verdict: foyerv1.Verdict_VERDICT_REACHED, Count: reached}, {Verdict: foyerv1.Verdict_VERDICT_NOT_IN_ROOMS, Count: missed},
		}
	}
	want := &foyerv1.ExplainResponse{
		Asked: []*foyerv1.Explanation{
			{
				Socket: socketOf(foyerv1.SocketView_SOCKET_VIEW_BASIC), Verdict: foyerv1.Verdict_VERDICT_QUEUE_FULL, Rooms: []string{"a"},
				Link: &foyerv1.LinkState{
					WaitingBytes: proto.Int64(80), LimitBytes: proto.Int64(100), NearlyFull: true, FullSince: timestamppb.New(someTime), Paused: true,
				},
			},
			{
				Socket: socketOf(foyerv1.SocketView_SOCKET_VIEW_BASIC), Verdict: foyerv1.Verdict_VERDICT_DISCONNECTED, ExceptRooms: []string{"b"},
				Departure: &foyerv1.Departure{
					Time: timestamppb.New(someTime), Reason: foyerv1.DisconnectReason_DISCONNECT_REASON_PING_TIMEOUT, Detail: "ping timeout",
				},
			},
		},
		Matched: proto.Int32(6), Reached: proto.Int32(5), Verdicts: counts(5, 2),
		Nodes: []*foyerv1.NodeReach{
			{NodeId: "node", Matched: proto.Int32(2), Reached: proto.Int32(1), NearlyFull: proto.Int32(1), Verdicts: counts(1, 1)},
			{NodeId: "two_", Matched: proto.Int32(4), Reached: proto.Int32(4), NearlyFull: proto.Int32(0), Verdicts: counts(4, 1)},
		},
		Sample:   []*foyerv1.Explanation{{Socket: &foyerv1.Socket{Id: "x"}, Verdict: foyerv1.Verdict_VERDICT_UNKNOWN}},
		Coverage: &foyerv1.Coverage{Unreachable: []string{"down"}},
	}
	if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	for i, e := range n.explanation.Asked {
		if size := proto.Size(got.GetAsked()[i]); size > e.Bytes() {
			t.Errorf("estimated %d bytes, has %d", e.Bytes(), size)
		}
	}
	if _, err := client.socket.Explain(t.Context(), &foyerv1.ExplainRequest{Target: &foyerv1.Target{All: true}, SampleSize: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if calls := n.noted(); len(calls) != 1 || !strings.Contains(calls[0], "at most 500") {
		t.Errorf("got %q", calls)
	}
}

// TestVerdictNumbers: the service and the API number them alike.
func TestVerdictNumbers(t *testing.T) {
	for v, word := range map[service.EmitVerdict]string{
		service.VerdictReached: "REACHED", service.VerdictNotInRooms: "NOT_IN_ROOMS", service.VerdictExcepted: "EXCEPTED",
		service.VerdictOtherNamespace: "OTHER_NAMESPACE", service.VerdictQueueFull: "QUEUE_FULL", service.VerdictDroppedVolatile: "DROPPED_VOLATILE",
		service.VerdictClosing: "CLOSING", service.VerdictNotLocal: "NOT_LOCAL", service.VerdictUnreachable: "NODE_UNREACHABLE",
		service.VerdictDisconnected: "DISCONNECTED", service.VerdictUnknown: "UNKNOWN", service.VerdictOnPeer: "ON_PEER",
	} {
		if got := foyerv1.Verdict(v).String(); got != "VERDICT_"+word {
			t.Errorf("%s is %s", word, got)
		}
	}
	if want := len(foyerv1.Verdict_name); int(service.Verdicts) != want {
		t.Errorf("%d verdicts, the API has %d", service.Verdicts, want)
	}
}

func TestListHandlers(t *testing.T) {
	n := newFakeNode()
	for range 250 {
		n.handlers = append(n.handlers, service.HandlerInfo{Node: "node", Oldest: -1})
	}
	n.handlers[0] = service.HandlerInfo{
		Node: "node", Since: someTime, Draining: true, Oldest: 1500 * time.Millisecond,
		HandlerLoad: service.HandlerLoad{Sockets: 1, Queued: 2, Bytes: 3, InFlight: 4, Connects: 5},
		Registration: service.Registration{
			Namespaces: []string{"/"}, Group: "g", ID: "h", Observer: true, Events: []string{"e"}, DecideConnects: true, ServerSideEvents: true,
			MaxInFlight: 6, Local: true, View: service.ViewFull, Address: "10.0.0.7",
		},
	}
	_, client := start(t, Config{}, n)
	var list []*foyerv1.AttachedHandler
	r := &foyerv1.ListHandlersRequest{Local: true}
	for more := true; more; more = r.GetPageToken() != "" {
		resp, err := client.handler.ListHandlers(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetCoverage().GetUncountedNodes() != 1 || len(resp.GetHandlers()) > 100 {
			t.Errorf("%d handlers, coverage %v", len(resp.GetHandlers()), resp.GetCoverage())
		}
		list = append(list, resp.GetHandlers()...)
		r.PageToken = resp.GetNextPageToken()
	}
	want := &foyerv1.AttachedHandler{
		NodeId: "node", AttachedAt: timestamppb.New(someTime), Address: "10.0.0.7", Draining: true, OldestUnanswered: durationpb.New(1500 * time.Millisecond),
		Sockets: proto.Int32(1), Queued: proto.Int32(2), QueuedBytes: proto.Int64(3), InFlight: proto.Int32(4), ConnectsWaiting: proto.Int32(5),
		Registration: &foyerv1.Register{
			Namespaces: []string{"/"}, Group: "g", HandlerId: "h", Observer: true, Events: []string{"e"}, DecideConnects: true, ServerSideEvents: true,
			MaxInFlight: 6, Local: true, SocketView: foyerv1.SocketView_SOCKET_VIEW_FULL,
		},
	}
	if diff := cmp.Diff(list[0], want, protocmp.Transform()); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	if size := proto.Size(list[0]); size > n.handlers[0].Size() {
		t.Errorf("estimated %d bytes, has %d", n.handlers[0].Size(), size)
	}
	if len(list) != 250 || list[1].OldestUnanswered != nil || list[1].Sockets == nil {
		t.Errorf("%d handlers, the second is %v", len(list), list[1])
	}
	if calls := n.noted(); len(calls) != 3 || calls[0] != "handlers, local true" {
		t.Errorf("got %q", calls)
	}
}

// TestHandlerAddress: a handler is listed with the address of its caller.
func TestHandlerAddress(t *testing.T) {
	n := newFakeNode()
	addresses := make(chan string, 1)
	n.onAttach = func(r service.Registration) (handler, error) {
		addresses <- r.Address
		return newFakeHandler(), nil
	}
	_, client := start(t, Config{}, n)
	stream, err := client.handler.Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&foyerv1.AttachRequest{Message: &foyerv1.AttachRequest_Register{Register: &foyerv1.Register{Namespaces: []string{"/"}}}}); err != nil {
		t.Fatal(err)
	}
	if got := <-addresses; got != "memory" {
		t.Errorf("got %q", got)
	}
}
