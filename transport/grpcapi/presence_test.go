package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

// watching starts a watch that gives steps.
func watching(t testing.TB, w *fakeWatcher, r *foyerv1.WatchRequest) (*fakeNode, grpc.ServerStreamingClient[foyerv1.WatchResponse]) {
	t.Helper()
	n := newFakeNode()
	n.onWatch = func(service.Scope, string) (watcher, error) { return w, nil }
	_, client := start(t, Config{}, n)
	stream, err := client.watch.Watch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return n, stream
}

func TestWatch(t *testing.T) {
	info := someSocket()
	w := newFakeWatcher(
		service.WatchStep{Reset: service.ResetTokenExpired}, service.WatchStep{Reset: service.ResetNodeLost}, service.WatchStep{Reset: service.ResetGap},
		service.WatchStep{Snapshot: []service.SocketInfo{info}},
		service.WatchStep{Synced: true, Token: "t1", Coverage: service.Coverage{Unreachable: []string{"b"}}},
		service.WatchStep{Token: "t2", Events: []service.PresenceEvent{
			{Kind: service.PresenceConnected, Socket: &info, Rooms: []string{"a", "b"}, Time: someTime},
			{Kind: service.PresenceJoined, Socket: &info, Rooms: []string{"a"}, Time: someTime},
			{Kind: service.PresenceLeft, Socket: &info, Rooms: []string{"a"}, Time: someTime},
			{Kind: service.PresenceUpdated, Socket: &info, Time: someTime},
			{Kind: service.PresenceDisconnected, Socket: &info, Rooms: []string{"b"}, Time: someTime, Reason: service.ReasonPingTimeout},
			{Kind: service.PresenceDisconnected, Socket: &info, Time: someTime, Reason: service.ReasonTransportError, Detail: "reset\xff"},
		}},
		service.WatchStep{Bookmark: true, Token: "t3"},
	)
	w.last, w.err = service.WatchStep{Bookmark: true, Token: "t4"}, service.ErrDraining
	n, stream := watching(t, w, &foyerv1.WatchRequest{Namespace: "chat", Rooms: []string{"a", "b"}, ResumeToken: "t0", View: foyerv1.SocketView_SOCKET_VIEW_REF})

	ref, at := socketOf(foyerv1.SocketView_SOCKET_VIEW_REF), timestamppb.New(someTime)
	bookmark := func(token string) *foyerv1.WatchResponse {
		return &foyerv1.WatchResponse{Message: &foyerv1.WatchResponse_Bookmark{Bookmark: &foyerv1.Bookmark{}}, ResumeToken: token}
	}
	reset := func(r foyerv1.ResetReason) *foyerv1.WatchResponse {
		return &foyerv1.WatchResponse{Message: &foyerv1.WatchResponse_Reset_{Reset_: &foyerv1.Reset{Reason: r}}}
	}
	want := []*foyerv1.WatchResponse{
		reset(foyerv1.ResetReason_RESET_REASON_TOKEN_EXPIRED), reset(foyerv1.ResetReason_RESET_REASON_NODE_LOST), reset(foyerv1.ResetReason_RESET_REASON_GAP),
		{Message: &foyerv1.WatchResponse_Snapshot{Snapshot: &foyerv1.Snapshot{Sockets: []*foyerv1.Socket{ref}}}},
		{Message: &foyerv1.WatchResponse_Synced{Synced: &foyerv1.Synced{Coverage: partly()}}, ResumeToken: "t1"},
		{Message: &foyerv1.WatchResponse_Events{Events: &foyerv1.EventBatch{Events: []*foyerv1.PresenceEvent{
			{Type: foyerv1.PresenceEvent_TYPE_CONNECTED, Socket: ref, Rooms: []string{"a", "b"}, Time: at},
			{Type: foyerv1.PresenceEvent_TYPE_JOINED, Socket: ref, Rooms: []string{"a"}, Time: at},
			{Type: foyerv1.PresenceEvent_TYPE_LEFT, Socket: ref, Rooms: []string{"a"}, Time: at},
			{Type: foyerv1.PresenceEvent_TYPE_UPDATED, Socket: ref, Time: at},
			{Type: foyerv1.PresenceEvent_TYPE_DISCONNECTED, Socket: ref, Rooms: []string{"b"}, Time: at, Reason: foyerv1.DisconnectReason_DISCONNECT_REASON_PING_TIMEOUT, Detail: "ping timeout"},
			{Type: foyerv1.PresenceEvent_TYPE_DISCONNECTED, Socket: ref, Time: at, Reason: foyerv1.DisconnectReason_DISCONNECT_REASON_TRANSPORT_ERROR, Detail: "reset\uFFFD"},
		}}}, ResumeToken: "t2"},
		bookmark("t3"), bookmark("t4"),
	}
	for i, w := range want {
		got, err := stream.Recv()
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		if diff := cmp.Diff(got, w, protocmp.Transform()); diff != "" {
			t.Errorf("message %d (-got +want):\n%s", i, diff)
		}
	}
	_, err := stream.Recv()
	wantError(t, err, codes.Unavailable, foyerv1.ErrorReason_ERROR_REASON_DRAINING, "")
	if diff := cmp.Diff(n.noted(), []string{`watch /chat [a b] false "t0"`}); diff != "" {
		t.Error(diff)
	}
	<-w.closed
}

// TestWatchChunks: neither a snapshot nor a batch outgrows what a client reads, and only the end of a batch has its
// token.
func TestWatchChunks(t *testing.T) {
	large := make([]service.SocketInfo, 25)
	events := make([]service.PresenceEvent, 25)
	for i := range large {
		large[i] = service.SocketInfo{ID: service.SocketID(fmt.Sprint(i)), Rooms: []string{strings.Repeat("r", 100_000)}}
		events[i] = service.PresenceEvent{Kind: service.PresenceJoined, Socket: &large[i]}
	}
	many := make([]service.SocketInfo, 2001)
	w := newFakeWatcher(
		service.WatchStep{Snapshot: large}, service.WatchStep{Snapshot: many},
		service.WatchStep{Synced: true, Token: "t1"}, service.WatchStep{Events: events, Token: "t2"},
	)
	w.err = service.ErrTooSlow
	_, stream := watching(t, w, &foyerv1.WatchRequest{All: true})
	var got []string
	for {
		r, err := stream.Recv()
		if err != nil {
			wantError(t, err, codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_TOO_SLOW, "")
			break
		}
		got = append(got, fmt.Sprintf("%d %d %s", len(r.GetSnapshot().GetSockets()), len(r.GetEvents().GetEvents()), r.GetResumeToken()))
	}
	want := []string{
		"10 0 ", "10 0 ", "5 0 ", "1000 0 ", "1000 0 ", "1 0 ", "0 0 t1", "0 10 t1", "0 10 t1", "0 5 t2",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
}

func TestWatchForeignToken(t *testing.T) {
	n := newFakeNode()
	n.onWatch = func(service.Scope, string) (watcher, error) { return nil, service.ErrToken }
	_, client := start(t, Config{}, n)
	stream, err := client.watch.Watch(t.Context(), &foyerv1.WatchRequest{All: true, ResumeToken: "x"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	wantError(t, err, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_TOKEN, "resume_token")
}

func TestWatchEndsWithItsClient(t *testing.T) {
	w := newFakeWatcher(service.WatchStep{Synced: true})
	n := newFakeNode()
	n.onWatch = func(service.Scope, string) (watcher, error) { return w, nil }
	_, client := start(t, Config{}, n)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.watch.Watch(ctx, &foyerv1.WatchRequest{All: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-w.closed
}

// TestWatchThatDoesNotRead: a client that reads nothing holds its watch no longer than linger once the node has given
// up on it, and hears of that when it does read.
func TestWatchThatDoesNotRead(t *testing.T) { bubble(t, testWatchThatDoesNotRead) }

func testWatchThatDoesNotRead(t *testing.T) {
	w := newFakeWatcher()
	info := service.SocketInfo{Rooms: []string{strings.Repeat("r", 500_000)}}
	for range 100 {
		w.steps <- service.WatchStep{Events: []service.PresenceEvent{{Kind: service.PresenceJoined, Socket: &info}}}
	}
	_, stream := watching(t, w, &foyerv1.WatchRequest{All: true})
	synctest.Wait()
	began := time.Now()
	close(w.done)
	<-w.closed
	if took := time.Since(began); took != linger {
		t.Errorf("held for %v, want %v", took, linger)
	}
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) || status.Code(err) != codes.OK {
			wantError(t, err, codes.ResourceExhausted, foyerv1.ErrorReason_ERROR_REASON_TOO_SLOW, "")
			break
		}
	}
}
