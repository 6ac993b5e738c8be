package service

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// countedOnly are the drops that turn neither a client nor a backend away, or whose line is told elsewhere.
var countedOnly = map[drop]string{
	dropVolatile:        "what the emitter asked for",
	dropSlow:            "the receipt says so; the link's end has the line",
	dropClosing:         "the link's end has the line",
	dropHandlerAbsent:   "the handler's end has the line",
	dropHandlerLost:     "the handler's end has the line",
	dropObserver:        "a copy",
	dropHandlerTooSlow:  "the end of its stream has the line (grpcapi)",
	dropReplyUnknown:    "the answer of a backend to what has ended meanwhile",
	dropDecisionUnknown: "the answer of a backend to what has ended meanwhile",
	dropAckUnknown:      "the answer of a client to what has ended meanwhile",
	dropWatcherSlow:     "the end of its stream has the line (grpcapi)",
	dropAfterEnd:        "the client could not know yet",
	dropPaused:          "the client waits; if that is for too long, its end has the line",
	dropEnd:             "the handler's end has the line",
	dropPresence:        "another node's news, of which there is newer",
}

// TestEveryRefusalSaysWhy: whatever keeps a client out of a namespace comes with a counter's name, what is wrong and
// the setting, which the transport logs with the client's address.
func TestEveryRefusalSaysWhy(t *testing.T) {
	byHandler := []NamespaceConfig{{"/", ConnectHandler}}
	cases := []struct {
		why     drop
		detail  string // a part of it
		setting string
		cfg     Config
		cause   func(t *testing.T, n *Node, c *fakeConn)
	}{
		{dropNamespace, "no handler has registered", "--namespaces", Config{}, func(_ *testing.T, n *Node, c *fakeConn) {
			pass(11 * time.Second)
			n.Connect(c.request("/nowhere"))
		}},
		{dropNamespace, "no handler has registered", "--namespaces", Config{}, func(_ *testing.T, n *Node, c *fakeConn) {
			n.Connect(c.request("/nowhere"))
			pass(11 * time.Second)
		}},
		{dropConnectWait, "no handler has come", "--handler-wait=10s", Config{Namespaces: byHandler}, func(_ *testing.T, n *Node, c *fakeConn) {
			n.Connect(c.request("/"))
			pass(11 * time.Second)
		}},
		{dropDecisionTimeout, `handler "h" of group "g" has not decided within 5s`, "", Config{}, func(t *testing.T, n *Node, c *fakeConn) {
			attach(t, n, Registration{Group: "g", ID: "h", DecideConnects: true})
			n.Connect(c.request("/"))
			pass(6 * time.Second)
		}},
		{dropRejected, `handler "h" of group "g": no`, "", Config{}, func(t *testing.T, n *Node, c *fakeConn) {
			h := attach(t, n, Registration{Group: "g", ID: "h", DecideConnects: true})
			n.Connect(c.request("/"))
			h.Decide(next(t, h)[0].CallID, Decision{Reject: &Refusal{Message: "no"}})
		}},
		{dropConnectLimit, "too many connects wait", "", Config{MaxPendingConnects: 2, Namespaces: byHandler}, func(_ *testing.T, n *Node, c *fakeConn) {
			n.Connect(newConn().request("/"))
			n.Connect(c.request("/"))
		}},
		{dropConnectLimit, "namespaces", "", Config{MaxNamespaces: 2, Namespaces: []NamespaceConfig{{"/any-*", ConnectOpen}}}, func(_ *testing.T, n *Node, c *fakeConn) {
			n.Connect(newConn().request("/any-1"))
			n.Connect(c.request("/any-2"))
		}},
	}
	seen := map[drop]bool{dropHandlerSlow: true} // TestHandlerSlowIsTold
	for _, tc := range cases {
		seen[tc.why] = true
		t.Run(dropNames[tc.why], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, c := newNode(t, tc.cfg), newConn()
				tc.cause(t, n, c)
				synctest.Wait()
				got := c.reasons()
				if len(got) != 1 || got[0].Reason != dropNames[tc.why] || !strings.Contains(got[0].Detail, tc.detail) || got[0].Setting != tc.setting {
					t.Errorf("refused %+v, want once for %s, detail with %q, setting %q", got, dropNames[tc.why], tc.detail, tc.setting)
				}
				if counted := n.Info().Dropped[dropNames[tc.why]]; counted != 1 {
					t.Errorf("%d are counted", counted)
				}
			})
		})
	}
	for d := range dropCount {
		if why, only := countedOnly[d]; seen[d] == only || only && why == "" {
			t.Errorf("%s is to say why in a test, or to have a reason why it does not", dropNames[d])
		}
	}
}

// TestHandlerSlowIsTold: the line names the client and the handler that takes nothing from it.
func TestHandlerSlowIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		n := newNode(t, Config{Logger: zap.New(core), MaxQueuedEvents: 4})
		attach(t, n, Registration{Group: "g", ID: "h", MaxInFlight: 1})
		s, c := connect(t, n, "/")
		for range 10 {
			s.emits("e")
		}
		pass(31 * time.Second)
		if c.end() != ReasonHandlerSlow {
			t.Fatalf("closed for %v", c.end())
		}
		lines := logs.FilterMessage("session closed").All()
		if len(lines) != 1 {
			t.Fatalf("lines %v", logs.All())
		}
		fields := lines[0].ContextMap()
		for key, want := range map[string]string{
			"reason": "handler_slow", "address": "10.0.0.1", "session": "session", "socket": string(s.ID()), "namespace": "/", "group": "g",
			"handler": "h", "setting": "--handler-patience=30s",
		} {
			if fields[key] != want {
				t.Errorf("%s is %v, want %s", key, fields[key], want)
			}
		}
	})
}

// TestAbsenceOfDecidersIsTold: in which namespace nobody decides, how many wait and since when; again while they wait,
// and not at all for a handler that restarts.
func TestAbsenceOfDecidersIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.InfoLevel)
		n := newNode(t, Config{Logger: zap.New(core), Namespaces: []NamespaceConfig{{"/", ConnectHandler}}, HandlerWait: time.Minute})
		h := attach(t, n, Registration{DecideConnects: true})
		pass(time.Hour)
		h.Detach()
		n.Connect(newConn().request("/nobody-knows")) // waits, too, and has a line of its own
		n.Connect(newConn().request("/"))
		pass(900 * time.Millisecond)
		h = attach(t, n, Registration{DecideConnects: true})
		h.Decide(next(t, h)[0].CallID, Decision{})
		pass(time.Minute)
		if lines := logs.All(); len(lines) != 0 {
			t.Fatalf("a restart is told: %v", lines)
		}

		h.Detach()
		left := time.Now()
		n.Connect(newConn().request("/nobody-knows"))
		pass(1100 * time.Millisecond)
		for range 3 {
			n.Connect(newConn().request("/"))
		}
		pass(2 * time.Second)
		n.Connect(newConn().request("/"))
		pass(10 * time.Second)
		lines := logs.FilterMessage("connects wait").All()
		if len(lines) != 2 || len(lines) != logs.Len() {
			t.Fatalf("lines %v, want one after a second and one ten later", logs.All())
		}
		for i, want := range []int64{3, 4} {
			fields := lines[i].ContextMap()
			since, _ := fields["since"].(time.Time)
			if lines[i].Level != zapcore.WarnLevel || fields["reason"] != "connect_wait" || fields["namespace"] != "/" || fields["address"] != "10.0.0.1" ||
				fields["waiting"] != want || !since.Equal(left) {
				t.Errorf("line %v, want %d waiting since %v", fields, want, left)
			}
		}
		attach(t, n, Registration{DecideConnects: true})
		pass(time.Hour)
		if logs.Len() != 2 {
			t.Errorf("it goes on: %v", logs.All()[2:])
		}
	})
}
