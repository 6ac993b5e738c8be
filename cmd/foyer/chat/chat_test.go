package chat

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	foyerv1 "foyer/gen/foyer/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// When every event of a test is received.
var testTime = timestamppb.New(time.UnixMilli(1_700_000_000_000))

// Two browsers, as Foyer names them.
const (
	ann = "node0000000000000ann"
	bob = "node0000000000000bob"
)

func TestEvents(t *testing.T) {
	long := func(n int) string { return strings.Repeat("é", n) }
	tests := []struct {
		name  string
		event string
		args  string // JSON
		want  []string
	}{
		{"classic message", "chat message", `["hi"]`, []string{
			`emit to all: chat message ["hi",{"from":"node0000000000000ann","nickname":"guest-0ann","time":1700000000000}]`,
			`ack [{"ok":true}]`,
		}},
		{"message to a room", "chat message", `["hi <b>","lobby"]`, []string{
			`emit to lobby: chat message ["hi \u003cb\u003e",{"from":"node0000000000000ann","nickname":"guest-0ann","room":"lobby","time":1700000000000}]`,
			`ack [{"ok":true,"room":"lobby"}]`,
		}},
		{"message as typed", "chat message", `["  two\nlines "]`, []string{
			`emit to all: chat message ["  two\nlines ",{"from":"node0000000000000ann","nickname":"guest-0ann","time":1700000000000}]`,
			`ack [{"ok":true}]`,
		}},
		{"message to a room one is not in", "chat message", `["hi","cellar"]`, []string{refusal("you are not in this room")}},
		{"message to one socket", "chat message", `["hi","` + bob + `"]`, []string{refusal("you are not in this room")}},
		{"message to a room that is no string", "chat message", `["hi",["lobby"]]`, []string{refusal("room must be a string")}},
		{"message to null", "chat message", `["hi",null]`, []string{refusal("room is empty")}},
		{"message without text", "chat message", `[]`, []string{refusal("message must be a string")}},
		{"message of no arguments", "chat message", ``, []string{refusal("message must be a string")}},
		{"message that is an object", "chat message", `[{"text":"hi"}]`, []string{refusal("message must be a string")}},
		{"message that is an attachment", "chat message", `[{"_placeholder":true,"num":0}]`, []string{refusal("message must be a string")}},
		{"blank message", "chat message", `[" \t\n"]`, []string{refusal("message is empty")}},
		{"longest message", "chat message", `["` + long(2000) + `"]`, []string{
			`emit to all: chat message ["` + long(2000) + `",{"from":"node0000000000000ann","nickname":"guest-0ann","time":1700000000000}]`,
			`ack [{"ok":true}]`,
		}},
		{"message too long", "chat message", `["` + long(2001) + `"]`, []string{refusal("message is longer than 2000 characters")}},
		{"arguments that are no array", "chat message", `{"0":"hi"}`, []string{refusal("arguments must be an array")}},

		{"nickname", "nickname", `["  Ann "]`, []string{
			`name node0000000000000ann: Ann`,
			`ack [{"ok":true,"nickname":"Ann"}]`,
			`emit to lobby: who ["lobby",{"count":2,"people":[{"id":"node0000000000000ann","nickname":"Ann"},{"id":"node0000000000000bob","nickname":"guest-0bob"}]}]`,
			`emit to all: rooms [[{"name":"lobby","size":2}]]`,
		}},
		{"nickname too long", "nickname", `["` + long(33) + `"]`, []string{refusal("nickname is longer than 32 characters")}},
		{"nickname with a line break", "nickname", `["An\nn"]`, []string{refusal("nickname has control characters")}},
		{"nickname that is a number", "nickname", `[7]`, []string{refusal("nickname must be a string")}},

		{"join", "join", `["cellar"]`, []string{
			`join node0000000000000ann: cellar`,
			`ack [{"ok":true,"room":"cellar","count":1,"people":[{"id":"node0000000000000ann","nickname":"guest-0ann"}]}]`,
		}},
		{"join twice", "join", `["lobby"]`, []string{
			`join node0000000000000ann: lobby`,
			`ack [{"ok":true,"room":"lobby","count":2,"people":[{"id":"node0000000000000ann","nickname":"guest-0ann"},{"id":"node0000000000000bob","nickname":"guest-0bob"}]}]`,
		}},
		{"join the room of a socket", "join", `["` + bob + `"]`, []string{refusal("this room is private")}},
		{"join a room of too long a name", "join", `["` + long(65) + `"]`, []string{refusal("room is longer than 64 characters")}},
		{"join a room of too many bytes", "join", `["` + strings.Repeat("𝄞", 64) + `"]`, []string{refusal("room is longer than 255 bytes")}},
		{"join nothing", "join", `[""]`, []string{refusal("room is empty")}},

		{"leave", "leave", `["lobby"]`, []string{`leave node0000000000000ann: lobby`, `ack [{"ok":true,"room":"lobby"}]`}},
		{"leave a room one is not in", "leave", `["cellar"]`, []string{refusal("you are not in this room")}},

		{"typing", "typing", `["lobby",true]`, []string{
			`volatile emit to lobby but node0000000000000ann: typing [{"from":"node0000000000000ann","nickname":"guest-0ann","room":"lobby","typing":true}]`,
			`ack [{"ok":true,"room":"lobby"}]`,
		}},
		{"typing elsewhere", "typing", `["cellar",true]`, []string{refusal("you are not in this room")}},
		{"typing perhaps", "typing", `["lobby",null]`, []string{refusal("typing must be true or false")}},

		{"who", "who", `["lobby"]`, []string{
			`ack [{"ok":true,"room":"lobby","count":2,"people":[{"id":"node0000000000000ann","nickname":"guest-0ann"},{"id":"node0000000000000bob","nickname":"guest-0bob"}]}]`,
		}},
		{"unknown event", "drop table", `["lobby"]`, []string{refusal("there is no such event")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				foyer := run(t)
				h := foyer.attached(t)
				h.arrive(ann, bob)
				h.discard()

				h.say(event(ann, tt.event, tt.args))
				if diff := cmp.Diff(tt.want, h.heard()); diff != "" {
					t.Errorf("want -, got +:\n%s", diff)
				}
			})
		})
	}
}

func refusal(text string) string { return fmt.Sprintf(`ack [{"ok":false,"error":%q}]`, text) }

// A newcomer is shown to the lobby. One that has rooms, back after a loss or handed over by another backend, keeps them
// and its name.
func TestWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t).attached(t)
		h.say(connected(socket(ann)))
		h.say(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Assigned{
			Assigned: &foyerv1.Assigned{Sockets: []*foyerv1.Socket{named(socket(bob, "cellar", "lobby"), "Bob")}},
		}})
		h.say(event(bob, "leave", `["cellar"]`))
		want := []string{
			`join node0000000000000ann: lobby`,
			`emit to node0000000000000ann: welcome [{"id":"node0000000000000ann","nickname":"guest-0ann"}]`,
			`emit to node0000000000000bob: welcome [{"id":"node0000000000000bob","nickname":"Bob"}]`,
			`leave node0000000000000bob: cellar`,
			`ack [{"ok":true,"room":"cellar"}]`,
		}
		if diff := cmp.Diff(want, h.heard()); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	})
}

func TestAtMostSoManyRooms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t).attached(t)
		h.arrive(ann)
		for i := 1; i < maxRooms; i++ { // the lobby is one of them
			h.say(event(ann, "join", fmt.Sprintf(`["room %d"]`, i)))
		}
		h.discard()

		h.say(event(ann, "join", `["one more"]`))
		h.say(event(ann, "join", `["room 1"]`)) // being there already is no join
		got := h.heard()
		if want := refusal("you are in 32 rooms already: leave one first"); len(got) != 3 || got[0] != want {
			t.Errorf("got %q, want %q first", got, want)
		}
	})
}

// Nobody is left to answer for a socket that is gone, and nothing of it stays behind.
func TestFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t).attached(t)
		h.arrive(ann)
		h.discard()
		h.say(&foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Disconnected{Disconnected: &foyerv1.Disconnected{
			Socket: socket(ann, lobby), Reason: foyerv1.DisconnectReason_DISCONNECT_REASON_TRANSPORT_CLOSE, Detail: "transport close",
		}}})
		h.say(event(ann, "chat message", `["hi"]`))
		if diff := cmp.Diff([]string{refusal("you are not connected here")}, h.heard()); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	})
}

func TestRosterIsPushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t).attached(t)
		person := func(id, name string) string { return fmt.Sprintf(`{"id":%q,"nickname":%q}`, id, name) }
		lobbyOf := func(n int, people ...string) string {
			return fmt.Sprintf(`emit to lobby: who ["lobby",{"count":%d,"people":[%s]}]`, n, strings.Join(people, ","))
		}
		a, b := person(ann, "guest-0ann"), person(bob, "guest-0bob")

		steps := []struct {
			name  string
			watch []*foyerv1.WatchResponse
			want  []string
		}{
			{
				"snapshot",
				[]*foyerv1.WatchResponse{snapshot(socket(ann, lobby)), synced()},
				[]string{lobbyOf(1, a), `emit to all: rooms [[{"name":"lobby","size":1}]]`},
			},
			{
				"connect and join at once",
				[]*foyerv1.WatchResponse{
					change(foyerv1.PresenceEvent_TYPE_CONNECTED, socket(bob)),
					change(foyerv1.PresenceEvent_TYPE_JOINED, socket(bob, lobby)),
				},
				[]string{lobbyOf(2, a, b), `emit to all: rooms [[{"name":"lobby","size":2}]]`},
			},
			{
				"another backend has named one",
				[]*foyerv1.WatchResponse{change(foyerv1.PresenceEvent_TYPE_UPDATED, named(socket(bob, lobby), "Bob"))},
				[]string{lobbyOf(2, person(bob, "Bob"), a), `emit to all: rooms [[{"name":"lobby","size":2}]]`},
			},
			{
				"leave",
				[]*foyerv1.WatchResponse{change(foyerv1.PresenceEvent_TYPE_LEFT, socket(bob))},
				[]string{lobbyOf(1, a), `emit to all: rooms [[{"name":"lobby","size":1}]]`},
			},
			{"idle", []*foyerv1.WatchResponse{{Message: &foyerv1.WatchResponse_Bookmark{Bookmark: &foyerv1.Bookmark{}}}}, nil},
			{
				"reset",
				[]*foyerv1.WatchResponse{
					{Message: &foyerv1.WatchResponse_Reset_{Reset_: &foyerv1.Reset{}}},
					snapshot(socket(ann, lobby), socket(bob, lobby)), synced(),
				},
				[]string{lobbyOf(2, a, b), `emit to all: rooms [[{"name":"lobby","size":2}]]`},
			},
			{
				"a tab is closed",
				[]*foyerv1.WatchResponse{change(foyerv1.PresenceEvent_TYPE_DISCONNECTED, socket(bob, lobby))},
				[]string{lobbyOf(1, a), `emit to all: rooms [[{"name":"lobby","size":1}]]`},
			},
			{
				"the last tab is closed",
				[]*foyerv1.WatchResponse{change(foyerv1.PresenceEvent_TYPE_DISCONNECTED, socket(ann, lobby))},
				[]string{`emit to all: rooms [[]]`},
			},
		}
		for _, step := range steps {
			for _, m := range step.watch {
				h.watch <- m
			}
			if diff := cmp.Diff(step.want, h.heard()); diff != "" {
				t.Errorf("%s: want -, got +:\n%s", step.name, diff)
			}
		}
	})
}

// A backend may put a browser into a room or take it out: the browser is told so, and the room counts as its own. What
// it did by itself is no such news, whenever presence tells of it.
func TestRoomsFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t).attached(t)
		h.arrive(ann)
		h.discard()
		joined, left := foyerv1.PresenceEvent_TYPE_JOINED, foyerv1.PresenceEvent_TYPE_LEFT
		long := strings.Repeat("n", 100) // nobody could type it in the page
		steps := []struct {
			name  string
			say   []string // event, arguments
			watch *foyerv1.WatchResponse
			want  string // of what is told to Ann alone
		}{
			{"joined", nil, change(joined, socket(ann, lobby, long)), `emit to ` + ann + `: joined ["` + long + `"]`},
			{"speaks there", []string{"chat message", `["hi","` + long + `"]`}, nil, `ack [{"ok":true,"room":"` + long + `"}]`},
			{"taken out", nil, change(left, socket(ann, lobby)), `emit to ` + ann + `: left ["` + long + `"]`},
			{"out", []string{"who", `["` + long + `"]`}, nil, refusal("room is longer than 64 characters")},
			{"joins by itself", []string{"join", `["den"]`}, change(joined, socket(ann, "den", lobby)), ""},
			{"leaves by itself", []string{"leave", `["den"]`}, nil, `ack [{"ok":true,"room":"den"}]`},
			{"older news", nil, change(joined, socket(ann, "den", lobby, "attic")), `emit to ` + ann + `: joined ["attic"]`},
			{"its own news", nil, change(left, socket(ann, lobby, "attic")), ""},
			{"joins again", []string{"join", `["den"]`}, nil, ""},
			{"news from before", nil, change(joined, socket(ann, lobby, "attic")), ""},
			{"its own news again", nil, change(joined, socket(ann, lobby, "attic", "den")), ""},
			{"out of all", nil, change(left, socket(ann)), `emit to ` + ann + `: left ["lobby"]`},
		}
		for _, step := range steps {
			if step.say != nil {
				h.say(event(ann, step.say[0], step.say[1]))
				synctest.Wait()
			}
			if step.watch != nil {
				h.watch <- step.watch
			}
			heard := h.heard()
			told := slices.DeleteFunc(slices.Clone(heard), func(s string) bool { return !strings.HasPrefix(s, "emit to "+ann) })
			switch {
			case strings.HasPrefix(step.want, "ack"):
				if !slices.Contains(heard, step.want) {
					t.Errorf("%s: got %q, want %q", step.name, heard, step.want)
				}
			case step.want == "" && len(told) > 0, step.want != "" && !slices.Contains(told, step.want):
				t.Errorf("%s: got %q, want %q", step.name, told, step.want)
			}
		}
	})
}

func TestCrowdIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := run(t).attached(t)
		crowd := make([]*foyerv1.Socket, 1000)
		for i := range crowd {
			crowd[i] = socket(fmt.Sprintf("node%016d", i), lobby)
		}
		h.watch <- snapshot(crowd...)
		got := h.heard()
		if len(got) != 2 || !strings.Contains(got[0], `"count":1000`) || strings.Count(got[0], `"id"`) != maxListed {
			t.Errorf("got %q, want a count of 1000 and %d people", got, maxListed)
		}
	})
}

// When Foyer ends either stream the backend attaches again, remembers nothing, and is told of its sockets anew.
func TestAttachesAgain(t *testing.T) {
	for _, end := range []string{"attach", "watch"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				foyer := run(t)
				h := foyer.attached(t)
				h.arrive(ann)
				h.discard()

				lost := status.Error(codes.Unavailable, "draining")
				if end == "attach" {
					h.endAttach <- lost
				} else {
					h.endWatch <- lost
				}
				began := time.Now()
				h = foyer.attached(t)
				if took := time.Since(began); took > minPause {
					t.Errorf("took %v, want at most %v", took, minPause)
				}
				h.say(event(ann, "who", `["lobby"]`))
				h.arrive(ann)
				if diff := cmp.Diff(refusal("you are not connected here"), h.heard()[0]); diff != "" {
					t.Errorf("want -, got +:\n%s", diff)
				}
			})
		})
	}
}

// Pauses grow, but not for ever.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		foyer := run(t)
		for range 20 {
			foyer.attached(t).endAttach <- status.Error(codes.Internal, "again")
		}
		began := time.Now()
		foyer.attached(t)
		if took := time.Since(began); took < maxPause/2 || took > maxPause {
			t.Errorf("took %v, want between %v and %v", took, maxPause/2, maxPause)
		}
	})
}

func TestRefusedCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		foyer := run(t)
		foyer.attached(t).endAttach <- status.Error(codes.Unauthenticated, "no such token")
		synctest.Wait()
		if err := *foyer.err.Load(); status.Code(err) != codes.Unauthenticated {
			t.Errorf("Run returned %v, want Unauthenticated", err)
		}
	})
}

// fakeFoyer is the two services that the backend uses. Each attachment is handed to the test.
type fakeFoyer struct {
	foyerv1.UnimplementedHandlerServiceServer
	foyerv1.UnimplementedPresenceServiceServer
	attachments chan *fakeHandler
	watches     chan *fakeHandler
	err         atomic.Pointer[error] // what Run returned
}

// fakeHandler is Foyer's side of one attachment.
type fakeHandler struct {
	register            *foyerv1.Register
	events              chan *foyerv1.AttachResponse
	watch               chan *foyerv1.WatchResponse
	requests            chan *foyerv1.AttachRequest
	endAttach, endWatch chan error
	calls, replies      uint64
}

// run starts a fake Foyer and a backend that attaches to it, both in the bubble of t.
func run(t *testing.T) *fakeFoyer {
	t.Helper()
	f := &fakeFoyer{attachments: make(chan *fakeHandler), watches: make(chan *fakeHandler)}
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer()
	foyerv1.RegisterHandlerServiceServer(srv, f)
	foyerv1.RegisterPresenceServiceServer(srv, f)
	go func() { _ = srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///foyer", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		err := Run(ctx, conn, zap.NewNop())
		f.err.Store(&err)
	}()
	t.Cleanup(func() {
		stop()
		synctest.Wait()
		if f.err.Load() == nil {
			t.Error("Run goes on after its context is done")
		}
		_ = conn.Close()
		srv.Stop()
	})
	return f
}

func (f *fakeFoyer) Attach(stream grpc.BidiStreamingServer[foyerv1.AttachRequest, foyerv1.AttachResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	h := &fakeHandler{
		register:  first.GetRegister(),
		events:    make(chan *foyerv1.AttachResponse),
		watch:     make(chan *foyerv1.WatchResponse),
		requests:  make(chan *foyerv1.AttachRequest, 1000),
		endAttach: make(chan error),
		endWatch:  make(chan error),
	}
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			h.requests <- m
		}
	}()
	select {
	case f.attachments <- h:
	case <-stream.Context().Done():
		return nil
	}
	return serve(stream, h.events, h.endAttach)
}

func (f *fakeFoyer) Watch(_ *foyerv1.WatchRequest, stream grpc.ServerStreamingServer[foyerv1.WatchResponse]) error {
	select {
	case h := <-f.watches:
		return serve(stream, h.watch, h.endWatch)
	case <-stream.Context().Done():
		return nil
	}
}

func serve[M any](stream grpc.ServerStreamingServer[M], out <-chan *M, end <-chan error) error {
	for {
		select {
		case m := <-out:
			if err := stream.Send(m); err != nil {
				return err
			}
		case err := <-end:
			return err
		case <-stream.Context().Done():
			return nil
		}
	}
}

// attached waits for the backend's next attachment.
func (f *fakeFoyer) attached(t *testing.T) *fakeHandler {
	t.Helper()
	h := <-f.attachments
	f.watches <- h
	if got := h.register.GetNamespaces(); len(got) != 1 || got[0] != "/" || h.register.GetGroup() != "chat" {
		t.Fatalf("registered %v, want namespace / and group chat", h.register)
	}
	return h
}

// say sends a message to the handler. Events are numbered.
func (h *fakeHandler) say(m *foyerv1.AttachResponse) {
	if e := m.GetEvent(); e != nil {
		h.calls++
		e.CallId = h.calls
	}
	h.events <- m
}

// arrive connects sockets and lets presence tell that they are in the lobby.
func (h *fakeHandler) arrive(ids ...string) {
	for _, id := range ids {
		h.say(connected(socket(id)))
		h.watch <- change(foyerv1.PresenceEvent_TYPE_JOINED, socket(id, lobby))
	}
}

// heard is all that the backend has said since, written out, after enough time for what it says later.
func (h *fakeHandler) heard() []string {
	time.Sleep(time.Second)
	synctest.Wait()
	var out []string
	for {
		select {
		case m := <-h.requests:
			out = append(out, h.describe(m))
		default:
			return out
		}
	}
}

func (h *fakeHandler) discard() { h.heard() }

func (h *fakeHandler) describe(m *foyerv1.AttachRequest) string {
	switch m := m.GetMessage().(type) {
	case *foyerv1.AttachRequest_EventReply:
		h.replies++ // every event has one, in order
		if got := m.EventReply.GetCallId(); got != h.replies {
			return fmt.Sprintf("reply to call %d, want %d", got, h.replies)
		}
		return "ack " + m.EventReply.GetArgs().GetJson()
	case *foyerv1.AttachRequest_Command:
		switch c := m.Command.GetCommand().(type) {
		case *foyerv1.Command_Emit:
			text := "emit " + describeTarget(c.Emit.GetTarget()) + ": " + c.Emit.GetPayload().GetEvent() + " " + c.Emit.GetPayload().GetJson()
			if c.Emit.GetOptions().GetVolatile() {
				text = "volatile " + text
			}
			return text
		case *foyerv1.Command_Update:
			return fmt.Sprintf("name %s: %s", c.Update.GetSocketId(), c.Update.GetUserId())
		case *foyerv1.Command_Join:
			return fmt.Sprintf("join %s: %s", strings.Join(c.Join.GetTarget().GetRooms(), " "), strings.Join(c.Join.GetRooms(), " "))
		case *foyerv1.Command_Leave:
			return fmt.Sprintf("leave %s: %s", strings.Join(c.Leave.GetTarget().GetRooms(), " "), strings.Join(c.Leave.GetRooms(), " "))
		}
	}
	return fmt.Sprintf("unexpected %v", m)
}

func describeTarget(to *foyerv1.Target) string {
	text := "to " + strings.Join(to.GetRooms(), " ")
	if to.GetAll() {
		text += "all"
	}
	if but := to.GetExceptRooms(); len(but) > 0 {
		text += " but " + strings.Join(but, " ")
	}
	return text
}

func socket(id string, rooms ...string) *foyerv1.Socket {
	return &foyerv1.Socket{Id: id, Namespace: "/", Rooms: rooms}
}

func named(s *foyerv1.Socket, name string) *foyerv1.Socket {
	s.UserId = name
	return s
}

func connected(s *foyerv1.Socket) *foyerv1.AttachResponse {
	return &foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Connected{Connected: &foyerv1.Connected{Socket: s}}}
}

func event(id, name, args string) *foyerv1.AttachResponse {
	p := &foyerv1.Payload{Event: name}
	if args != "" {
		p.Args = &foyerv1.Payload_Json{Json: args}
	}
	return &foyerv1.AttachResponse{Message: &foyerv1.AttachResponse_Event{Event: &foyerv1.Event{
		Socket: &foyerv1.Socket{Id: id, Namespace: "/"}, Payload: p, WantsAck: true, Time: testTime,
	}}}
}

func snapshot(sockets ...*foyerv1.Socket) *foyerv1.WatchResponse {
	return &foyerv1.WatchResponse{Message: &foyerv1.WatchResponse_Snapshot{Snapshot: &foyerv1.Snapshot{Sockets: sockets}}}
}

func synced() *foyerv1.WatchResponse {
	return &foyerv1.WatchResponse{Message: &foyerv1.WatchResponse_Synced{Synced: &foyerv1.Synced{}}}
}

func change(kind foyerv1.PresenceEvent_Type, s *foyerv1.Socket) *foyerv1.WatchResponse {
	return &foyerv1.WatchResponse{Message: &foyerv1.WatchResponse_Events{Events: &foyerv1.EventBatch{
		Events: []*foyerv1.PresenceEvent{{Type: kind, Socket: s}},
	}}}
}
