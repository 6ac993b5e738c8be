package grpcapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	foyerv1 "foyer/gen/foyer/v1"
	"foyer/service"
)

var someTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func someSocket() service.SocketInfo {
	return service.SocketInfo{
		ID: "node1234567890123456", Generation: 5, Namespace: "/chat", NodeID: "node", SessionID: "session", Transport: "websocket",
		ConnectedAt: someTime, Rooms: []string{"a", "b"}, UserID: "u", Data: []byte(`{"n":1}`),
		Handshake: handshake{
			address: "::1", time: someTime, url: "/socket.io/?x=\xff", query: map[string]string{"x": "\xff"}, headers: map[string]string{"host": "h"},
		},
		Auth: []byte(`{"token":"secret"}`),
	}
}

func socketOf(view foyerv1.SocketView) *foyerv1.Socket {
	s := &foyerv1.Socket{Id: "node1234567890123456", Generation: 5, Namespace: "/chat", NodeId: "node"}
	if view == foyerv1.SocketView_SOCKET_VIEW_REF {
		return s
	}
	s.SessionId, s.Transport, s.ConnectedAt, s.Rooms, s.UserId = "session", "websocket", timestamppb.New(someTime), []string{"a", "b"}, "u"
	if view == foyerv1.SocketView_SOCKET_VIEW_FULL {
		s.Data = &structpb.Struct{Fields: map[string]*structpb.Value{"n": structpb.NewNumberValue(1)}}
		s.Handshake = &foyerv1.Handshake{
			Address: "::1", Time: timestamppb.New(someTime), Url: "/socket.io/?x=\uFFFD", Query: map[string]string{"x": "\uFFFD"},
			Headers: map[string]string{"host": "h"},
		}
	}
	return s
}

func TestGetSocket(t *testing.T) {
	n := newFakeNode()
	info := someSocket()
	n.sockets = map[service.SocketID]service.SocketInfo{info.ID: info}
	_, client := start(t, Config{}, n)
	for view := range foyerv1.SocketView_name {
		v := foyerv1.SocketView(view)
		resp, err := client.socket.GetSocket(t.Context(), &foyerv1.GetSocketRequest{Namespace: "chat", SocketId: string(info.ID), View: v})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(resp.GetSocket(), socketOf(v), protocmp.Transform()); diff != "" {
			t.Errorf("%v (-got +want):\n%s", v, diff)
		}
		if size := proto.Size(resp.GetSocket()); size > service.View(v).Bytes(&info) && v != 0 {
			t.Errorf("%v: estimated %d bytes, has %d", v, service.View(v).Bytes(&info), size)
		}
	}
	_, err := client.socket.GetSocket(t.Context(), &foyerv1.GetSocketRequest{SocketId: "nobody"})
	wantError(t, err, codes.NotFound, foyerv1.ErrorReason_ERROR_REASON_SOCKET_NOT_FOUND, "socket_id")
}

// listing answers Sockets as the service does, from a list.
func listing(list []service.SocketInfo) func(service.Target, service.PageRequest) (service.Page, error) {
	return func(_ service.Target, r service.PageRequest) (service.Page, error) {
		var page service.Page
		if r.Place == (service.Place{}) {
			page.Total = len(list)
		}
		bytes := 0
		for i := int(r.Place.Seq); i < len(list); i++ {
			bytes += r.View.Bytes(&list[i])
			if bytes > r.Bytes && len(page.Sockets) > 0 || len(page.Sockets) == r.Limit {
				page.Next = service.Place{Incarnation: service.Incarnation{Node: "node", Run: 1}, Seq: uint64(i)}
				break
			}
			page.Sockets = append(page.Sockets, list[i])
		}
		return page, nil
	}
}

func TestListSockets(t *testing.T) {
	list := make([]service.SocketInfo, 2500)
	for i := range list {
		list[i] = service.SocketInfo{ID: service.SocketID(fmt.Sprintf("node%016d", i)), Namespace: "/", NodeID: "node"}
	}
	large := make([]service.SocketInfo, 30)
	for i := range large {
		large[i] = list[i]
		large[i].Rooms = []string{strings.Repeat("r", 100_000)}
	}
	for _, c := range []struct {
		name     string
		list     []service.SocketInfo
		pageSize int32
		pages    []int
	}{
		{"default", list[:250], 0, []int{100, 100, 50}},
		{"chosen", list[:25], 10, []int{10, 10, 5}},
		{"at most a thousand", list, 100_000, []int{1000, 1000, 500}},
		{"at most a mebibyte", large, 0, []int{10, 10, 10}},
		{"nobody", nil, 0, []int{0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newFakeNode()
			n.onSockets = listing(c.list)
			_, client := start(t, Config{}, n)
			seen, token := map[string]bool{}, ""
			for i, want := range c.pages {
				resp, err := client.socket.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{
					Target: &foyerv1.Target{All: true}, PageSize: c.pageSize, PageToken: token,
				})
				if err != nil {
					t.Fatal(err)
				}
				if len(resp.GetSockets()) != want {
					t.Fatalf("page %d: got %d sockets, want %d", i, len(resp.GetSockets()), want)
				}
				if (resp.Total != nil) != (i == 0) || i == 0 && int(resp.GetTotal()) != len(c.list) {
					t.Errorf("page %d: got total %v", i, resp.Total)
				}
				for _, s := range resp.GetSockets() {
					if seen[s.GetId()] {
						t.Errorf("%s is listed twice", s.GetId())
					}
					seen[s.GetId()] = true
				}
				token = resp.GetNextPageToken()
				if (token == "") != (i == len(c.pages)-1) {
					t.Errorf("page %d: got token %q", i, token)
				}
			}
		})
	}
}

var somePlace = service.Place{Incarnation: service.Incarnation{Node: "node", Run: 1<<63 + 7}, Seq: 42}

func TestPageToken(t *testing.T) {
	query := func(view foyerv1.SocketView, t service.Target) []byte { return listQuery(t, view) }
	base := query(foyerv1.SocketView_SOCKET_VIEW_BASIC, service.Target{Namespace: "/", Rooms: []string{"a", "b"}, ExceptRooms: []string{"c"}})
	place := somePlace
	token := pageToken(place, base)
	same := query(foyerv1.SocketView_SOCKET_VIEW_BASIC, service.Target{Namespace: "/", Rooms: []string{"b", "a", "a"}, ExceptRooms: []string{"c"}})
	if got, err := parsePageToken(token, same); got != place || err != nil {
		t.Errorf("the same query: got %v, %v, want %v", got, err, place)
	}
	if got, err := parsePageToken("", base); got != (service.Place{}) || err != nil {
		t.Errorf("no token: got %v, %v, want the beginning", got, err)
	}
	for _, c := range []struct {
		name  string
		token string
		query []byte
	}{
		{"other view", token, query(foyerv1.SocketView_SOCKET_VIEW_REF, service.Target{Namespace: "/", Rooms: []string{"a", "b"}, ExceptRooms: []string{"c"}})},
		{"other namespace", token, query(foyerv1.SocketView_SOCKET_VIEW_BASIC, service.Target{Namespace: "/x", Rooms: []string{"a", "b"}, ExceptRooms: []string{"c"}})},
		{"other rooms", token, query(foyerv1.SocketView_SOCKET_VIEW_BASIC, service.Target{Namespace: "/", Rooms: []string{"ab"}, ExceptRooms: []string{"c"}})},
		{"rooms for except", token, query(foyerv1.SocketView_SOCKET_VIEW_BASIC, service.Target{Namespace: "/", Rooms: []string{"a", "b", "c"}})},
		{"all", token, query(foyerv1.SocketView_SOCKET_VIEW_BASIC, service.Target{Namespace: "/", All: true, ExceptRooms: []string{"c"}})},
		{"local", token, query(foyerv1.SocketView_SOCKET_VIEW_BASIC, service.Target{Namespace: "/", Rooms: []string{"a", "b"}, ExceptRooms: []string{"c"}, Local: true})},
		{"damaged", "B" + token[1:], base},
		{"damaged at its end", token[:len(token)-1] + "-", base},
		{"cut off", token[:len(token)-1], base},
		{"padded", token + "=", base},
		{"beginning", pageToken(service.Place{Incarnation: place.Incarnation}, base), base},
		{"of no node", pageToken(service.Place{Seq: 42}, base), base},
		{"too short", sealToken(append([]byte{socketsTokenVersion}, "run and seq are"...), base), base},
		{"nonsense", "nonsense", base},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parsePageToken(c.token, c.query)
			wantStatus(t, toStatus(err), codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_INVALID_TOKEN, "page_token")
		})
	}
}

func TestDisconnectSockets(t *testing.T) {
	n := newFakeNode()
	_, client := start(t, Config{}, n)
	for mode, want := range map[foyerv1.DisconnectMode]service.DisconnectMode{
		foyerv1.DisconnectMode_DISCONNECT_MODE_UNSPECIFIED: service.DisconnectNamespace,
		foyerv1.DisconnectMode_DISCONNECT_MODE_NAMESPACE:   service.DisconnectNamespace,
		foyerv1.DisconnectMode_DISCONNECT_MODE_CONNECTION:  service.DisconnectConnection,
		foyerv1.DisconnectMode_DISCONNECT_MODE_TRANSPORT:   service.DisconnectTransport,
	} {
		resp, err := client.socket.DisconnectSockets(t.Context(), &foyerv1.DisconnectSocketsRequest{Target: toRoom("r"), Mode: mode})
		if err != nil || resp.GetMatched() != 1 {
			t.Errorf("%v: got %v, %v", mode, resp, err)
		}
		if diff := cmp.Diff(n.noted(), []string{fmt.Sprintf("disconnect [r]: %d", want)}); diff != "" {
			t.Errorf("%v (-got +want):\n%s", mode, diff)
		}
	}
}

// TestReasonNumbers: every reason of the service has its own number in the API.
func TestReasonNumbers(t *testing.T) {
	seen := map[foyerv1.DisconnectReason]bool{}
	for r := service.ReasonNone; r <= service.ReasonNodeLost; r++ {
		got := disconnectReasons[r]
		if seen[got] {
			t.Errorf("%v stands for two reasons", got)
		}
		seen[got] = true
	}
	if len(seen) != len(foyerv1.DisconnectReason_name) {
		t.Errorf("%d of %d reasons are used", len(seen), len(foyerv1.DisconnectReason_name))
	}
}

func TestUpdateSocket(t *testing.T) {
	n := newFakeNode()
	info := someSocket()
	n.sockets = map[service.SocketID]service.SocketInfo{info.ID: info}
	_, client := start(t, Config{}, n)
	data, err := structpb.NewStruct(map[string]any{"b": nil, "a": []any{1}})
	if err != nil {
		t.Fatal(err)
	}
	id := string(info.ID)
	for _, c := range []struct {
		name    string
		request *foyerv1.UpdateSocketRequest
		want    string
	}{
		{"data", &foyerv1.UpdateSocketRequest{Namespace: "chat", SocketId: id, Change: &foyerv1.UpdateSocketRequest_Data{Data: data}}, `update /chat ` + id + `: {"a":[1],"b":null}  "-"`},
		{"no data", &foyerv1.UpdateSocketRequest{SocketId: id, Change: &foyerv1.UpdateSocketRequest_Data{Data: &structpb.Struct{}}}, `update / ` + id + `: {}  "-"`},
		{"merge", &foyerv1.UpdateSocketRequest{SocketId: id, Change: &foyerv1.UpdateSocketRequest_MergeData{MergeData: data}}, `update / ` + id + `:  {"a":[1],"b":null} "-"`},
		{"user", &foyerv1.UpdateSocketRequest{SocketId: id, UserId: proto.String("u")}, `update / ` + id + `:   "u"`},
		{"no user", &foyerv1.UpdateSocketRequest{SocketId: id, UserId: proto.String("")}, `update / ` + id + `:   ""`},
		{"both", &foyerv1.UpdateSocketRequest{SocketId: id, UserId: proto.String("u"), Change: &foyerv1.UpdateSocketRequest_Data{Data: data}}, `update / ` + id + `: {"a":[1],"b":null}  "u"`},
	} {
		resp, err := client.socket.UpdateSocket(t.Context(), c.request)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(resp.GetSocket(), socketOf(foyerv1.SocketView_SOCKET_VIEW_FULL), protocmp.Transform()); diff != "" {
			t.Errorf("%s (-got +want):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(n.noted(), []string{c.want}); diff != "" {
			t.Errorf("%s (-got +want):\n%s", c.name, diff)
		}
	}

	// As a command, and what the service refuses.
	b := registered(t, 0)
	b.n.onUpdate = func(service.SocketID, service.Update) (service.SocketInfo, error) { return info, nil }
	b.say(command(1, &foyerv1.Command{Command: &foyerv1.Command_Update{Update: &foyerv1.UpdateSocketRequest{SocketId: id, UserId: proto.String("u")}}}))
	if r := b.hear().GetCommandResult(); r.GetUpdate().GetSocket().GetId() != id {
		t.Errorf("got %v", r)
	}
}

// TestRealUpdate: data is replaced or merged, watchers hear of it, and its bound is told by the field that broke it.
func TestRealUpdate(t *testing.T) {
	n := realNode(t)
	defer n.Close()
	_, client := start(t, Config{}, serviceNode{n})
	l := join(n, "one", "/", "")
	id := string(l.socket.ID())
	object := func(fields map[string]any) *structpb.Struct {
		s, err := structpb.NewStruct(fields)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	merge := func(fields map[string]any) *foyerv1.UpdateSocketRequest {
		return &foyerv1.UpdateSocketRequest{SocketId: id, Change: &foyerv1.UpdateSocketRequest_MergeData{MergeData: object(fields)}}
	}
	for _, r := range []*foyerv1.UpdateSocketRequest{
		{SocketId: id, UserId: proto.String("ann"), Change: &foyerv1.UpdateSocketRequest_Data{Data: object(map[string]any{"a": 1, "b": map[string]any{"c": 1, "d": 2}})}},
		merge(map[string]any{"a": nil, "b": map[string]any{"c": "x"}, "e": true}),
	} {
		if _, err := client.socket.UpdateSocket(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := client.socket.GetSocket(t.Context(), &foyerv1.GetSocketRequest{SocketId: id, View: foyerv1.SocketView_SOCKET_VIEW_FULL})
	if err != nil {
		t.Fatal(err)
	}
	want := object(map[string]any{"b": map[string]any{"c": "x", "d": 2}, "e": true})
	if diff := cmp.Diff(resp.GetSocket().GetData(), want, protocmp.Transform()); diff != "" || resp.GetSocket().GetUserId() != "ann" {
		t.Errorf("user %q, data (-got +want):\n%s", resp.GetSocket().GetUserId(), diff)
	}
	half := strings.Repeat("x", service.MaxDataBytes*2/3)
	if _, err := client.socket.UpdateSocket(t.Context(), merge(map[string]any{"one": half})); err != nil {
		t.Fatal(err)
	}
	_, err = client.socket.UpdateSocket(t.Context(), merge(map[string]any{"two": half}))
	wantError(t, err, codes.InvalidArgument, foyerv1.ErrorReason_ERROR_REASON_PAYLOAD_TOO_LARGE, "merge_data")
	_, err = client.socket.UpdateSocket(t.Context(), &foyerv1.UpdateSocketRequest{SocketId: "nobody", UserId: proto.String("u")})
	wantError(t, err, codes.NotFound, foyerv1.ErrorReason_ERROR_REASON_SOCKET_NOT_FOUND, "socket_id")
}
