package grpcapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

func TestGetRoom(t *testing.T) {
	n := newFakeNode()
	_, client := start(t, Config{}, n)
	got, err := client.room.GetRoom(t.Context(), &foyerv1.GetRoomRequest{Namespace: "chat", Room: "r"})
	if err != nil {
		t.Fatal(err)
	}
	want := &foyerv1.GetRoomResponse{Room: &foyerv1.Room{Name: "r", Size: proto.Int32(5)}, Coverage: &foyerv1.Coverage{UncountedNodes: 1}}
	if diff := cmp.Diff(got, want, protocmp.Transform()); diff != "" {
		t.Errorf("(-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(n.noted(), []string{"room /chat r"}); diff != "" {
		t.Error(diff)
	}
}

func TestListRooms(t *testing.T) {
	n := newFakeNode()
	for i := range 2500 {
		n.rooms = append(n.rooms, service.RoomInfo{Name: fmt.Sprintf("a%04d%s", i, strings.Repeat("x", 250)), Size: i + 1})
	}
	n.rooms = append(n.rooms, service.RoomInfo{Name: "b", Size: 1})
	_, client := start(t, Config{}, n)
	for _, c := range []struct {
		name     string
		prefix   string
		pageSize int32
		pages    []int
	}{
		{"default", "a00", 0, []int{100}},
		{"chosen", "a002", 4, []int{4, 4, 2}},
		{"at most a thousand", "", 100_000, []int{1000, 1000, 501}},
		{"none", "c", 0, []int{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			last, token := "", ""
			for i, want := range c.pages {
				resp, err := client.room.ListRooms(t.Context(), &foyerv1.ListRoomsRequest{Prefix: c.prefix, PageSize: c.pageSize, PageToken: token})
				if err != nil {
					t.Fatal(err)
				}
				if len(resp.GetRooms()) != want || resp.GetCoverage().GetUncountedNodes() != 1 {
					t.Fatalf("page %d: got %d rooms, want %d", i, len(resp.GetRooms()), want)
				}
				if size := proto.Size(resp); size > maxPageBytes {
					t.Errorf("page %d: %d bytes", i, size)
				}
				for _, r := range resp.GetRooms() {
					if r.GetName() <= last || !strings.HasPrefix(r.GetName(), c.prefix) || r.GetSize() == 0 {
						t.Fatalf("page %d: got %v behind %q", i, r, last)
					}
					last = r.GetName()
				}
				token = resp.GetNextPageToken()
				if (token == "") != (i == len(c.pages)-1) {
					t.Errorf("page %d: got token %q", i, token)
				}
			}
		})
	}
	_, err := client.room.ListRooms(t.Context(), &foyerv1.ListRoomsRequest{Namespace: "other", PageToken: roomsToken("a", roomsQuery("/", ""))})
	wantError(t, err, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_TOKEN, "page_token")
}

// TestRealRooms: a room is there while somebody is in it, and a token is good while rooms come and go.
func TestRealRooms(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	_, client := start(t, Config{}, serviceNode{n})
	l := join(n, "one", "/", "")
	id := string(l.socket.ID())
	size := func(room string) int32 {
		t.Helper()
		r, err := client.room.GetRoom(t.Context(), &foyerv1.GetRoomRequest{Room: room})
		if err != nil || r.GetRoom().Size == nil || r.GetRoom().GetName() != room {
			t.Fatalf("got %v, %v", r, err)
		}
		return r.GetRoom().GetSize()
	}
	if _, err := client.room.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: toRoom(id), Rooms: []string{"a", "b", "c"}}); err != nil {
		t.Fatal(err)
	}
	if a, own, none := size("a"), size(id), size("nobody"); a != 1 || own != 1 || none != 0 {
		t.Errorf("got %d, %d, %d, want 1, 1, 0", a, own, none)
	}
	first, err := client.room.ListRooms(t.Context(), &foyerv1.ListRoomsRequest{PageSize: 1})
	if err != nil || len(first.GetRooms()) != 1 || first.GetRooms()[0].GetName() != "a" {
		t.Fatalf("got %v, %v", first, err)
	}
	if _, err := client.room.LeaveRooms(t.Context(), &foyerv1.LeaveRoomsRequest{Target: toRoom(id), Rooms: []string{"a", "b"}}); err != nil {
		t.Fatal(err)
	}
	rest, err := client.room.ListRooms(t.Context(), &foyerv1.ListRoomsRequest{PageToken: first.GetNextPageToken()})
	if err != nil || len(rest.GetRooms()) != 1 || rest.GetRooms()[0].GetName() != "c" || rest.GetNextPageToken() != "" {
		t.Errorf("got %v, %v", rest, err)
	}
	none, err := client.room.ListRooms(t.Context(), &foyerv1.ListRoomsRequest{Namespace: "nowhere"})
	if err != nil || len(none.GetRooms()) != 0 {
		t.Errorf("got %v, %v", none, err)
	}
}
