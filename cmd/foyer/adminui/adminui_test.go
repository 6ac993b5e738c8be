package adminui

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	foyerv1 "foyer/gen/foyer/v1"
)

func hashOf(t testing.TB, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// TestUsers: who may log in, by which forms of a hash, and what is said of a line that is wrong.
func TestUsers(t *testing.T) {
	hash := hashOf(t, "secret")
	var u Users
	news, err := u.Take([]byte("# operators\n\nann:" + hash + "\r\nbob:" + strings.Replace(hash, "$2a$", "$2y$", 1) + ":readonly\n"))
	if err != nil || news != "with 2 users" {
		t.Fatal(news, err)
	}
	for _, tc := range []struct {
		name, password string
		ok, readOnly   bool
	}{
		{"ann", "secret", true, false},
		{"bob", "secret", true, true},
		{"ann", "other", false, false},
		{"ann", "", false, false},
		{"eve", "nobody", false, false},
		{"", "secret", false, false},
	} {
		if is, ok := u.allows(tc.name, tc.password); ok != tc.ok || ok && is.readOnly != tc.readOnly {
			t.Errorf("%q with %q: %v, readonly %v", tc.name, tc.password, ok, is.readOnly)
		}
	}
	// To look for a name that is not there takes as long as for the costliest one that is.
	want, _ := bcrypt.Cost([]byte(hash))
	if cost, err := bcrypt.Cost(u.now.Load().nobody); cost != want || err != nil {
		t.Errorf("a name that is not there costs %d, %v; want %d", cost, err, want)
	}
	for want, text := range map[string]string{
		"there is no user":              "# nobody\n",
		"line 1 is not of the form":     "ann\n",
		"line 2 is not of the form":     "# x\nann:" + hash + ":admin\n",
		"line 1 has no hash of bcrypt":  "ann:secret\n",
		"line 1 has a hash of cost 31;": "ann:$2a$31$" + hash[7:] + "\n",
		"line 2 has a name that":        "ann:" + hash + "\nann:" + hash + "\n",
	} {
		if _, err := u.Take([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), hash) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, ok := u.allows("ann", "secret"); !ok {
		t.Error("a broken file has taken the users away")
	}
}

// TestSessionsAreBounded: their number and their life, and from where they were opened.
func TestSessionsAreBounded(t *testing.T) {
	now, home := time.Now(), origin("10.0.0.1")
	l := logins{map[string]session{}}
	first := l.open(account{name: "ann"}, home, now)
	if who, ok := l.known(first, now.Add(sessionLife)); !ok || who.name != "ann" || !l.from(home, now.Add(sessionLife)) {
		t.Error("a session is not known")
	}
	if l.from(origin("10.0.0.2"), now) || l.from(home, now.Add(sessionLife+1)) {
		t.Error("an address is known from which nobody has a session")
	}
	if _, ok := l.known(first, now.Add(sessionLife+1)); ok {
		t.Error("a session outlives its day")
	}
	first = l.open(account{}, home, now)
	for range maxSessions {
		l.open(account{}, home, now.Add(time.Second))
	}
	if _, ok := l.known(first, now); ok || len(l.sessions) != maxSessions {
		t.Errorf("%d sessions, the first of them: %v", len(l.sessions), ok)
	}
}

// TestCommands: what the page's buttons send (the reference has them), and what is malformed.
func TestCommands(t *testing.T) {
	room := func(nsp string, rooms ...string) *foyerv1.Target {
		return &foyerv1.Target{Namespace: nsp, Rooms: rooms, All: len(rooms) == 0}
	}
	for _, tc := range []struct {
		event, args string
		want        *command
	}{
		{"join", `["/","room1","id"]`, &command{what: "join", namespace: "/", room: "room1", target: room("/", "id")}},
		{"leave", `["/","room1"]`, &command{what: "leave", namespace: "/", room: "room1", target: room("/")}},
		{"leave", `["/","room1",null]`, &command{what: "leave", namespace: "/", room: "room1", target: room("/")}},
		{"_disconnect", `["/",false,"id"]`, &command{what: "_disconnect", namespace: "/", target: room("/", "id")}},
		{"_disconnect", `["/a",true,"id"]`, &command{what: "_disconnect", namespace: "/a", link: true, target: room("/a", "id")}},
		{"emit", `["/","room1","hi",1,{"a":[]}]`, &command{what: "emit", namespace: "/", event: "hi", args: []byte(`[1,{"a":[]}]`), target: room("/", "room1")}},
		{"join", `["/"]`, nil},
		{"join", `[]`, nil},
		{"join", ``, nil},
		{"join", `[{},"room1"]`, nil},
		{"join", `["",  "room1"]`, nil},
		{"_disconnect", `["/"]`, nil},
		{"_disconnect", `["/","yes","id"]`, nil},
		{"emit", `["/",null]`, nil},
		{"destroy", `["/"]`, nil},
	} {
		got, ok := readCommand(tc.event, tc.args)
		if ok != (tc.want != nil) {
			t.Errorf("%s %s: understood %v", tc.event, tc.args, ok)
			continue
		}
		if ok {
			same := cmp.Comparer(func(a, b *foyerv1.Target) bool { return proto.Equal(a, b) })
			if diff := cmp.Diff(*tc.want, got, cmp.AllowUnexported(command{}), same); diff != "" {
				t.Errorf("%s %s: %s", tc.event, tc.args, diff)
			}
		}
	}
}

// TestObjects: what the page needs of a socket is there, whatever is known of it, and its secrets are not.
func TestObjects(t *testing.T) {
	at := timestamppb.New(time.Date(2026, 11, 22, 20, 19, 32, 243e6, time.UTC))
	o := objectOf(&foyerv1.Socket{Id: "id", Namespace: "/", SessionId: "abcdefghijklmnop", Transport: "polling", ConnectedAt: at, Rooms: []string{"id", "a"}})
	if o.Data == nil || o.Handshake.Headers == nil || o.Handshake.Query == nil || o.Handshake.Issued != at.AsTime().UnixMilli() || o.ClientID != "abcdefghijkl" {
		t.Errorf("%+v", o)
	}
	if diff := cmp.Diff([]string{"id", "a"}, o.Rooms); diff != "" {
		t.Error(diff)
	}
	if got := stamp(at.AsTime()); got != "2026-11-22T20:19:32.243Z" {
		t.Error(got)
	}
	if got := reasonWords(foyerv1.DisconnectReason_DISCONNECT_REASON_TRANSPORT_CLOSE); got != "transport close" {
		t.Error(got)
	}
	if got := plain([]byte(`{"a":{"_placeholder":true,"num":0}}`)); cmp.Diff(map[string]any{"a": "(binary)"}, got) != "" {
		t.Errorf("binary: %v", got)
	}
}

// TestNobodyIsWatchedForWhoNeverCame: the watch ends with the last page that is connected, whoever was let in and has
// gone before that.
func TestNobodyIsWatchedForWhoNeverCame(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	close(done)
	ann := newOperator(account{name: "ann"}, "10.0.0.1")
	ann.end, ann.commands = func(error) {}, make(chan command)
	p := &panel{
		cfg: Config{Log: zap.NewNop()}, said: make(chan said), watch: &watch{cancel: cancel, done: done},
		ops: map[string]*operator{"ann": ann, "gone": newOperator(account{name: "bob"}, "10.0.0.2")},
	}
	p.farewell("ann")
	if p.watch != nil || ctx.Err() == nil {
		t.Error("the watch goes on with nobody there")
	}
}
