package sharded

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"foyer/service/adapter/freeport"
	"foyer/service/adapter/official"
	"foyer/service/adapter/redistest"
)

// TestRecent: a room is recent for 10 s at least and 20 s at most after it was joined, and every room is where too many
// were.
func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r recent
		for _, early := range []time.Duration{0, 3 * time.Second, 9 * time.Second} {
			time.Sleep(early)
			r.note("a")
			time.Sleep(recentFor - 1)
			if !r.has("a") || r.has("b") {
				t.Error("a room is forgotten before its time, or was never joined")
			}
			time.Sleep(recentFor + 1)
			if r.has("a") {
				t.Error("a room is recent for longer than it need be")
			}
		}
		for i := range recentMost + 1 {
			r.note(fmt.Sprint(i))
		}
		if len(r.now) > recentMost || !r.has("never joined") {
			t.Errorf("%d rooms are kept, and others are taken for old", len(r.now))
		}
		time.Sleep(2*recentFor + 1)
		if r.has("0") || r.has("never joined") {
			t.Error("all is recent for ever")
		}
	})
}

// TestIsOurs: what nodes of this cluster say is known by its end, and what others say is never taken for it.
func TestIsOurs(t *testing.T) {
	m := &Medium{cfg: Config{Ours: "foyer:c:"}}
	long := "foyer:" + strings.Repeat("c", 60) + ":"
	other := &Medium{cfg: Config{Ours: long}}
	of := func(uid string, change func(*official.Message)) string {
		message := official.Message{Kind: official.Broadcast, UID: uid, Namespace: "/chat", Payload: []byte(`["e",{"uid":"foyer:c:AAAA","nsp":"/chat"}]`)}
		change(&message)
		text, err := official.AppendSharded(nil, &message)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	text := func(*official.Message) {}
	packed := func(m *official.Message) {
		m.Payload, m.Attachments = []byte(`["e",{"_placeholder":true,"num":0}]`), [][]byte{[]byte("\xa3uid\xacfoyer:c:AAAA\xa3nsp\xa1/")}
	}
	join := func(m *official.Message) { m.Kind, m.Change, m.Payload = official.Join, []string{"r"}, nil }
	for _, tc := range []struct {
		name string
		text string
		m    *Medium
		want bool
	}{
		{"a node's", of("foyer:c:AAAA", text), m, true},
		{"a node's, packed", of("foyer:c:AAAA", packed), m, true},
		{"a node's of a long name, packed", of(long+"AAAA", packed), other, true},
		{"a node's join", of("foyer:c:AAAA", join), m, false},
		{"another cluster's", of("foyer:d:AAAA", text), m, false},
		{"another cluster's, packed", of("foyer:d:AAAA", packed), m, false},
		{"a server's", of("e8cda10cc767b228", text), m, false},
		{"a server's, packed", of("e8cda10cc767b228", packed), m, false},
		{"a server's with a payload at its end", `{"uid":"e8cda10cc767b228","type":3,"data":{"packet":[0,{"x":1,"uid":"foyer:c:AAAA","nsp":"/chat"}]}}`, m, false},
		{"cut", `{"type":3,"uid":"foyer:c:`, m, false},
		{"cut, packed", "\x84\xa3uid", m, false},
		{"nothing", "", m, false},
		{"garbage", "garbage", m, false},
	} {
		if got := tc.m.isOurs(tc.text); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// FuzzIsOurs: no bytes are taken for a node's that a server on Node would read as those of somebody else.
func FuzzIsOurs(f *testing.F) {
	m := &Medium{cfg: Config{Ours: "foyer:c:"}}
	f.Add(`{"type":1,"uid":"foyer:c:AAAA","nsp":"/"}`)
	f.Add(`{"type":1,"nsp":"/","x":{"uid":"foyer:c:AAAA","nsp":"/"}}`)
	f.Add("\x83\xa4type\x01\xa3uid\xacfoyer:c:AAAA\xa3nsp\xa1/")
	f.Fuzz(func(t *testing.T, text string) {
		ours := m.isOurs(text)
		read, fault := official.ReadCluster("", []byte(text), 1<<20)
		if ours && fault == 0 && strings.HasPrefix(text, "{") && !strings.HasPrefix(read.UID, m.cfg.Ours) {
			t.Errorf("%q is of %s", text, read.UID)
		}
	})
}

// TestServersThatDoNot: a server that has no sharded Pub/Sub, and one that does not let this user use it, are told of
// at the start in one line. One that is away, or comes up, is not.
func TestServersThatDoNot(t *testing.T) {
	open := func(c Config) error {
		c.UID, c.Ours, c.Marker, c.callTimeout = "foyer:c:AAAA", "foyer:c:", "c", redistest.Patience
		m := New(c)
		defer m.Close()
		return m.Open(func(*official.Message) {})
	}
	s := redistest.Start(t, freeport.New(t), "--rename-command", "SPUBLISH", "")
	err := open(Config{Addresses: []string{s.Addr}})
	if err == nil || !strings.Contains(err.Error(), "has no sharded Pub/Sub, which came with Redis 7.0: --cluster redis does without") {
		t.Errorf("a server without SPUBLISH: %v", err)
	}
	s = redistest.Start(t, freeport.New(t))
	admin := redis.NewClient(&redis.Options{Addr: s.Addr, DisableIdentity: true})
	defer admin.Close()
	for user, rights := range map[string]string{
		"quiet": "~* &* +@all -spublish", "deaf": "~* &* +@all -ssubscribe", "blind": "~* &* +@all -pubsub", "elsewhere": "~* &other* +@all",
		"good": "&socket.io#* &c.in.* +@pubsub",
	} {
		if err := admin.ACLSetUser(t.Context(), user, append([]string{"on", "nopass"}, strings.Fields(rights)...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for user, want := range map[string]string{
		"quiet": "does not let this user publish with channel socket.io#/#foyer:c:AAAA#", "deaf": "does not let this user subscribe",
		"blind": "does not let this user count who subscribes", "elsewhere": "needs SSUBSCRIBE, SUNSUBSCRIBE, SPUBLISH and PUBSUB with channels that begin with socket.io# and c.in.",
		"good": "",
	} {
		err := open(Config{Addresses: []string{s.Addr}, User: user, Password: "any"})
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("user %s: %v, want %q", user, err, want)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := open(Config{Addresses: []string{l.Addr().String()}}); err != nil {
		t.Errorf("a server that is away: %v", err)
	}
}
