//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	foyerv1 "foyer/gen/foyer/v1"
)

// crowd is who stands around in the test of the cheat sheet: their names say where. The sender is in room1.
type crowd map[string]*member

type member struct {
	*client
	id string
}

// TestCheatSheet goes through Socket.IO's cheat sheet row by row: what each does there, Foyer does for a backend that
// speaks gRPC. The names are the rows.
func TestCheatSheet(t *testing.T) {
	f := startFoyer(t)
	b := attach(t, f.api, &foyerv1.Register{
		Namespaces: []string{"/", "/myNamespace"}, Group: "sheet", DecideConnects: true, SocketView: foyerv1.SocketView_SOCKET_VIEW_FULL,
	}, func(b *backend) { b.decide = decideByAuth })
	p := startPuppets(t)
	who := crowd{}
	enter := func(name, namespace string, rooms ...string) {
		c := p.open(t, f.url(), namespace, quick.with(opts{"auth": map[string]any{"rooms": rooms, "user": name}}))
		who[name] = &member{c, c.connected()}
	}
	enter("sender", "/", "room1")
	enter("in1", "/", "room1")
	enter("in12", "/", "room1", "room2")
	enter("in2", "/", "room2")
	enter("in23", "/", "room2", "room3")
	enter("none", "/")
	enter("ns", "/myNamespace")
	enter("ns1", "/myNamespace", "room1")

	// reaches emits and wants exactly these to get it, once each.
	reaches := func(t *testing.T, to *foyerv1.Target, o *foyerv1.EmitOptions, want string) {
		t.Helper()
		names := strings.Fields(want)
		b.mustEmitWith(t, to, o, int32(len(names)), t.Name(), "hello", 1)
		for name, m := range who {
			m.t = t
			m.settle()
			n := 0
			for _, w := range names {
				if w == name {
					n = 1
				}
			}
			if got := m.count(t.Name()); got != n {
				t.Errorf("%s got it %d times, want %d", name, got, n)
			} else if n == 1 {
				if diff := cmp.Diff([]any{"hello", 1.0}, m.event(t.Name())); diff != "" {
					t.Errorf("%s: want -, got +:\n%s", name, diff)
				}
			}
		}
	}
	rooms := func(names ...string) *foyerv1.Target { return &foyerv1.Target{Rooms: names} }
	except := func(to *foyerv1.Target, names ...string) *foyerv1.Target {
		to.ExceptRooms = names
		return to
	}
	everyone := func() *foyerv1.Target { return &foyerv1.Target{All: true} }
	in := func(namespace string, to *foyerv1.Target) *foyerv1.Target {
		to.Namespace = namespace
		return to
	}
	sender := who["sender"]
	off := false

	for _, row := range []struct {
		name string
		to   *foyerv1.Target
		o    *foyerv1.EmitOptions
		want string
	}{
		{"socket.emit", rooms(sender.id), nil, "sender"},
		{"io.to(socketId).emit", rooms(who["none"].id), nil, "none"},
		{"socket.broadcast.emit", except(everyone(), sender.id), nil, "in1 in12 in2 in23 none"},
		{"socket.to(room1).emit", except(rooms("room1"), sender.id), nil, "in1 in12"},
		{"socket.to([room1,room2]).emit", except(rooms("room1", "room2"), sender.id), nil, "in1 in12 in2 in23"},
		{"io.in(room1).emit", rooms("room1"), nil, "sender in1 in12"},
		{"io.to([room1,room2]).except(room3).emit", except(rooms("room1", "room2"), "room3"), nil, "sender in1 in12 in2"},
		{"io.of(myNamespace).emit", in("myNamespace", everyone()), nil, "ns ns1"},
		{"io.of(myNamespace).to(room1).emit", in("myNamespace", rooms("room1")), nil, "ns1"},
		{"io.local.emit", &foyerv1.Target{All: true, Local: true}, nil, atCalls("sender in1 in12 in2 in23 none", func(name string) string { return who[name].id })},
		{"io.emit", everyone(), nil, "sender in1 in12 in2 in23 none"},
		{"socket.compress(false).emit", rooms(sender.id), &foyerv1.EmitOptions{Compress: &off}, "sender"},
		{"to an empty room", rooms("nobody is here"), nil, ""},
	} {
		t.Run(row.name, func(t *testing.T) { reaches(t, row.to, row.o, row.want) })
	}
	t.Run("socket.volatile.emit", func(t *testing.T) {
		sender.t = t
		r, err := b.emits.Emit(t.Context(), &foyerv1.EmitRequest{Target: rooms(sender.id), Payload: say("volatile"), Options: &foyerv1.EmitOptions{Volatile: true}})
		if err != nil {
			t.Fatal(err)
		}
		sender.settle()
		if got := int32(sender.count("volatile")); r.GetMatched() != 1 || got != r.GetEnqueued() || got+r.GetDroppedVolatile() != 1 {
			t.Errorf("got it %d times, and %v", got, r)
		}
	})
	t.Run("socket.emit(question, ack)", func(t *testing.T) {
		sender.t = t
		sender.answers("question", []any{"42", map[string]any{"sure": true}})
		r, err := b.emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{Target: rooms(sender.id), Payload: say("question", "?")})
		if err != nil || len(r.GetOutcomes()) != 1 || r.GetOutcomes()[0].GetArgs().GetJson() != `["42",{"sure":true}]` {
			t.Errorf("got %v, %v", r, err)
		}
	})
	t.Run("socket.timeout(5000).emit", func(t *testing.T) {
		sender.t = t
		sender.answers("my-event", nil)
		began := time.Now()
		r, err := b.emits.EmitWithAck(t.Context(), &foyerv1.EmitWithAckRequest{
			Target: rooms(sender.id), Payload: say("my-event"), Timeout: durationpb.New(400 * time.Millisecond),
		})
		if err != nil || len(r.GetOutcomes()) != 1 || r.GetOutcomes()[0].GetFailure() != foyerv1.AckFailure_ACK_FAILURE_TIMEOUT {
			t.Errorf("got %v, %v", r, err)
		}
		if took := time.Since(began); took < 400*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
	t.Run("io.timeout(1000).emit(hi, acks)", func(t *testing.T) {
		who["in2"].t = t
		who["in2"].answers("hi", nil)
		req := &foyerv1.CollectAcksRequest{Target: rooms("room1", "room2"), Payload: say("hi", 7), Timeout: durationpb.New(4 * time.Second)}
		stream, err := b.emits.CollectAcks(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		outcomes, order := map[string]*foyerv1.AckOutcome{}, ""
		var summary *foyerv1.AckSummary
		for m := first; !errors.Is(err, io.EOF); m, err = stream.Recv() {
			switch {
			case err != nil:
				t.Fatal(err)
			case m.GetStarted() != nil:
				order += "s"
				if m.GetStarted().GetMatched() != 5 {
					t.Errorf("got %v", m)
				}
			case m.GetOutcome() != nil:
				order += "o"
				outcomes[m.GetOutcome().GetSocketId()] = m.GetOutcome()
			case m.GetSummary() != nil:
				order += "."
				summary = m.GetSummary()
			}
		}
		if order != "sooooo." || summary.GetMatched() != 5 || summary.GetAcked() != 4 || len(outcomes) != 5 ||
			outcomes[who["in2"].id].GetFailure() != foyerv1.AckFailure_ACK_FAILURE_TIMEOUT || outcomes[who["in1"].id].GetArgs().GetJson() != "[7]" {
			t.Errorf("got %s, %v, %v", order, outcomes, summary)
		}
	})
	t.Run("socket.join and leave", func(t *testing.T) {
		b.join(t, "", who["none"].id, "room9")
		reaches(t, rooms("room9"), nil, "none")
		if _, err := b.rooms.LeaveRooms(t.Context(), &foyerv1.LeaveRoomsRequest{Target: rooms(who["none"].id), Rooms: []string{"room9"}}); err != nil {
			t.Fatal(err)
		}
		b.mustEmit(t, rooms("room9"), 0, "nobody")
	})
	t.Run("io.in(room1).socketsJoin(room4)", func(t *testing.T) {
		r, err := b.rooms.JoinRooms(t.Context(), &foyerv1.JoinRoomsRequest{Target: rooms("room1"), Rooms: []string{"room4", "room5"}})
		if err != nil || r.GetMatched() != 3 {
			t.Fatalf("got %v, %v", r, err)
		}
		reaches(t, except(rooms("room4"), "room2"), nil, "sender in1")
		room, err := b.rooms.GetRoom(t.Context(), &foyerv1.GetRoomRequest{Room: "room5"})
		if err != nil || room.GetRoom().GetSize() != 3 {
			t.Errorf("got %v, %v", room, err)
		}
	})
	t.Run("io.in(room4).socketsLeave(room4)", func(t *testing.T) {
		r, err := b.rooms.LeaveRooms(t.Context(), &foyerv1.LeaveRoomsRequest{Target: rooms("room4"), Rooms: []string{"room4"}})
		if err != nil || r.GetMatched() != 3 {
			t.Fatalf("got %v, %v", r, err)
		}
		reaches(t, rooms("room4"), nil, "")
	})
	t.Run("io.in(room2).fetchSockets", func(t *testing.T) {
		r, err := b.sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: rooms("room2"), View: foyerv1.SocketView_SOCKET_VIEW_FULL})
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, s := range r.GetSockets() {
			got[s.GetUserId()] = s.GetId()
		}
		want := map[string]string{"in12": who["in12"].id, "in2": who["in2"].id, "in23": who["in23"].id}
		if diff := cmp.Diff(want, got); diff != "" || r.GetTotal() != 3 {
			t.Errorf("total %d; want -, got +:\n%s", r.GetTotal(), diff)
		}
		// By pages, each is listed once.
		seen, token := 0, ""
		for {
			r, err := b.sockets.ListSockets(t.Context(), &foyerv1.ListSocketsRequest{Target: everyone(), PageSize: 4, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			seen += len(r.GetSockets())
			if token = r.GetNextPageToken(); token == "" {
				break
			}
		}
		if seen != 6 {
			t.Errorf("listed %d, want 6", seen)
		}
	})
	t.Run("socket.data", func(t *testing.T) {
		r, err := b.sockets.UpdateSocket(t.Context(), &foyerv1.UpdateSocketRequest{SocketId: sender.id, UserId: ptr("renamed")})
		if err != nil || r.GetSocket().GetUserId() != "renamed" || r.GetSocket().GetData().GetFields()["seen"] == nil {
			t.Errorf("got %v, %v", r, err)
		}
	})
	t.Run("io.serverSideEmit", func(t *testing.T) {
		attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}, Group: "sse", Observer: true, ServerSideEvents: true, HandlerId: "other"},
			func(other *backend) {
				other.onServerSide = func(e *event) { e.reply("pong") }
			})
		r, err := b.emits.ServerSideEmit(t.Context(), &foyerv1.ServerSideEmitRequest{Payload: say("ping", 1), WantsReplies: true})
		if err != nil || r.GetMatched() != 1 || len(r.GetReplies()) != 1 || r.GetReplies()[0].GetArgs().GetJson() != `["pong"]` {
			t.Errorf("got %v, %v", r, err)
		}
	})

	// ---- the client's half of the sheet

	client := func(t *testing.T) *client {
		sender.t = t
		return sender.client
	}
	t.Run("client emit", func(t *testing.T) {
		client(t).emit("basic", 1, "2", map[string]any{"3": []any{4}})
		if got := b.event(t, "basic"); got.GetPayload().GetJson() != `[1,"2",{"3":[4]}]` || got.GetWantsAck() || got.GetSocket().GetId() != sender.id {
			t.Errorf("got %v", got)
		}
	})
	t.Run("client emit with acknowledgement", func(t *testing.T) {
		if got := client(t).ask("question", "x"); len(got) != 1 || got[0] != "x" {
			t.Errorf("got %v", got)
		}
		if !b.event(t, "question").GetWantsAck() {
			t.Error("the backend was not told that an acknowledgement is wanted")
		}
	})
	t.Run("client compress(false)", func(t *testing.T) {
		client(t).emitWith(map[string]any{"compress": false}, "uncompressed", 1)
		b.event(t, "uncompressed")
	})
	t.Run("client volatile", func(t *testing.T) {
		client(t).emitWith(map[string]any{"volatile": true}, "client volatile", 1)
		b.event(t, "client volatile")
	})
	t.Run("client timeout", func(t *testing.T) {
		if got := client(t).askWith(map[string]any{"timeout": 5000}, "in time", 1); got.Err != "" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("client retries", func(t *testing.T) {
		attempts := 0
		retried := attach(t, f.api, &foyerv1.Register{Namespaces: []string{"/"}, Group: "retried", Events: []string{"retried"}}, func(b *backend) {
			b.on["retried"] = func(e *event) {
				if attempts++; attempts > 2 { // the first two stay without an answer
					e.reply("at last")
				}
			}
		})
		c, _ := p.connect(t, f.url(), "/", quick.with(opts{"retries": 100, "ackTimeout": 300}))
		got := c.ask("retried", "x")
		if diff := cmp.Diff([]any{nil, "at last"}, got); diff != "" { // err, answer: with retries the stock client has both
			t.Errorf("want -, got +:\n%s", diff)
		}
		seen := 0
		for _, m := range retried.told.all() {
			if m.GetEvent() != nil {
				seen++
			}
		}
		if seen < 3 { // more if an answer is late
			t.Errorf("the backend saw it %d times, want at least 3", seen)
		}
		c.op("disconnect")
	})

	// ---- the life of a socket

	t.Run("io.use", func(t *testing.T) {
		c := p.open(t, f.url(), "/", opts{"auth": map[string]any{"reject": "not authorized", "data": map[string]any{"content": "Please retry later"}}})
		got := c.expect("connect_error")
		raw, _ := json.Marshal(got.Data)
		if got.Message != "not authorized" || string(raw) != `{"content":"Please retry later"}` {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("connection, disconnecting, disconnect", func(t *testing.T) {
		c, id := p.connect(t, f.url(), "/", opts{"auth": map[string]any{"rooms": []string{"a"}}})
		b.await(t, "connected", func(m *foyerv1.AttachResponse) bool { return m.GetConnected().GetSocket().GetId() == id })
		b.join(t, "", id, "b")
		c.op("disconnect")
		gone := b.disconnected(t, id)
		if diff := cmp.Diff([]string{"a", "b"}, gone.GetSocket().GetRooms()); diff != "" || gone.GetDetail() != "client namespace disconnect" {
			t.Errorf("%q; rooms: want -, got +:\n%s", gone.GetDetail(), diff)
		}
	})
	t.Run("io.in(room3).disconnectSockets", func(t *testing.T) {
		r, err := b.sockets.DisconnectSockets(t.Context(), &foyerv1.DisconnectSocketsRequest{Target: rooms("room3")})
		if err != nil || r.GetMatched() != 1 {
			t.Fatalf("got %v, %v", r, err)
		}
		gone := who["in23"]
		gone.t = t
		if got := gone.expect("disconnect"); got.Reason != "io server disconnect" || got.Active {
			t.Errorf("got %+v", got)
		}
		delete(who, "in23")
		reaches(t, rooms("room2"), nil, "in12 in2")
	})
}

func ptr[T any](v T) *T { return &v }
