package socketio

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"foyer/service"
)

// countedOnly are the faults that turn no client away, or whose line is the service's, with the reason.
var countedOnly = map[fault]string{
	faultTurnedAway:   "the line names the service's reason",
	faultRefused:      "the line names the service's reason",
	faultConnectAgain: "the newest CONNECT counts, and the client is let in",
	faultForgotten:    "the client could not know yet",
	faultNameless:     "ignored, as in the reference",
}

// TestEveryFaultHasALine: whatever closes a link, or keeps its client out of a namespace, is one line, of which the
// reason is the counter's name; backends hear the same words.
func TestEveryFaultHasALine(t *testing.T) {
	const hold0 = `["x",{"_placeholder":true,"num":0}]`
	send := func(packets ...string) func(h *fakeHall, l *Link) {
		return func(_ *fakeHall, l *Link) {
			for _, p := range packets {
				if b, binary := strings.CutPrefix(p, "b"); binary {
					l.Message([]byte(b), true)
				} else {
					l.Message([]byte(p), false)
				}
			}
		}
	}
	budget := service.NewBudget(1)
	big := strings.Repeat("x", 300)
	cases := []struct {
		f       fault
		detail  string // a part of it
		setting string
		cfg     Config
		fresh   bool // the link has joined nothing
		cause   func(h *fakeHall, l *Link)
	}{
		{faultType, "no type", "", Config{}, false, send(`7`)},
		{faultAttachments, "attachments", "", Config{}, false, send(`50-["x"]`)},
		{faultNamespace, "bytes that no name may have", "", Config{}, false, send("0/a\xff,")},
		{faultAckID, "acknowledgement id", "", Config{}, false, send(`299999999999999999999["x"]`)},
		{faultPayload, "malformed", "", Config{}, false, send(`2["a"`)},
		{faultDepth, "too deeply", "", Config{}, false, send(`2["a",` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `]`)},
		{faultPlaceholder, "refers to an attachment", "", Config{}, false, send(`51-["x",{"_placeholder":true,"num":1}]`, `b1`)},
		{faultEventName, "reserved", "", Config{}, false, send(`2["connect"]`)},
		{faultDirection, "only servers", "", Config{}, false, send(`4{"message":"x"}`)},
		{faultTextMeanwhile, "a text came", "", Config{}, false, send(`51-`+hold0, `2["y"]`)},
		{faultBinary, "no packet waits for", "", Config{}, false, send(`b1`)},
		{faultTooLarge, "payload of a packet of 309 bytes is over --max-payload (200)", "--max-payload=200", Config{MaxPayload: 200}, false, send(`2["x","` + big + `"]`)},
		{faultTooLarge, fmt.Sprintf("packet of %d bytes with its attachments is over --max-packet (500)", len(twoHoles)+600), "--max-packet=500", Config{MaxPayload: 200, MaxPacketBytes: 500}, false, send(`52-`+twoHoles, "b"+big, "b"+big)},
		{faultMemory, "memory budget", "--memory-budget", Config{Budget: budget}, false, send(`51-`+hold0, "b"+strings.Repeat("x", freeJoiningBytes))},
		{faultAttachmentTimeout, "within --attachment-timeout (30s)", "--attachment-timeout=30s", Config{}, false, func(h *fakeHall, l *Link) {
			send(`51-`+hold0)(h, l)
			time.Sleep(time.Minute)
		}},
		{faultOtherParser, "another parser", "", Config{}, true, send("b\x82\xa4type\x00\xa3nsp\xa1/", `2["x"]`)},
		{faultNotConnected, "has not joined", "", Config{}, false, send(`2/admin,["x"]`)},
		{faultAuthTooLarge, "over --max-connect-payload (100)", "--max-connect-payload=100", Config{MaxConnectPayload: 100}, true, send(`0{"a":"` + big + `"}`)},
		{faultConnectTimeout, "within --connect-timeout (45s)", "--connect-timeout=45s", Config{}, true, func(*fakeHall, *Link) { time.Sleep(time.Minute) }},
		{faultTooManyNamespaces, "in 2 namespaces", "", Config{MaxNamespaces: 2}, false, send(`0/a,`, `0/b,`)},
		{faultNamespaceName, "malformed", "", Config{}, false, send(`0/` + strings.Repeat("n", 300) + `,`)},
	}
	seen := map[fault]bool{}
	for _, tc := range cases {
		seen[tc.f] = true
		t.Run(tc.f.reason(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				core, logs := observer.New(zapcore.InfoLevel)
				tc.cfg.Logger = zap.New(core)
				var notes []string
				h, l, _ := newLink(t, tc.cfg, func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) })
				h.accept = func(string) bool { return true }
				if !tc.fresh {
					l.Message([]byte("0"), false)
				}
				tc.cause(h, l)
				synctest.Wait()
				lines := logs.All()
				refused := tc.f >= faultRefused
				want := "session closed"
				if refused {
					want = "connect refused"
				}
				if len(lines) != 1 || lines[0].Message != want {
					t.Fatalf("lines %v, want one %q", lines, want)
				}
				fields := lines[0].ContextMap()
				detail, _ := fields["detail"].(string)
				setting, _ := fields["setting"].(string)
				_, namespace := fields["namespace"]
				_, address := fields["address"]
				if fields["reason"] != tc.f.reason() || !strings.Contains(detail, tc.detail) || setting != tc.setting || fields["session"] == "" ||
					namespace != refused || !address {
					t.Errorf("fields %v, want reason %q, detail with %q, setting %q", fields, tc.f.reason(), tc.detail, tc.setting)
				}
				if !refused && !tc.fresh && notes[len(notes)-1] != "socket closed /: forced close ("+detail+")" {
					t.Errorf("the service hears %q, want the detail of the line", notes)
				}
				if n := l.server.counters[tc.f].Load(); n != 1 {
					t.Errorf("%d are counted", n)
				}
				l.Closed("transport close", "")
			})
		})
	}
	for f := fault(1); f < faults; f++ {
		if why, only := countedOnly[f]; seen[f] == only || only && why == "" {
			t.Errorf("%s is to have a line that is tested, or a reason why it has none", f)
		}
	}
}

// TestRefusedConnectsAreTold: what the service says of a refusal is one line, whether the client gets an answer or its
// link is closed; the line is said once for both.
func TestRefusedConnectsAreTold(t *testing.T) {
	for name, r := range map[string]service.Refusal{
		"answered":      {Message: "no", Reason: "connect_rejected", Detail: "the words of a handler"},
		"link closed":   {CloseLink: true, Reason: "connect_wait", Detail: "nobody is there", Setting: "--handler-wait=10s"},
		"a node's end":  {CloseLink: true},
		"long and wild": {Message: "no", Reason: "connect_rejected", Detail: strings.Repeat("\x00\n", 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zapcore.InfoLevel)
			h, l, _ := newLink(t, Config{Logger: zap.New(core), ConnectTimeout: -1}, nil)
			l.Message([]byte("0/a,"), false)
			h.take("/a").Refuse(r)
			lines := logs.All()
			if r.Reason == "" {
				if len(lines) != 0 {
					t.Errorf("lines %v, want none", lines)
				}
				return
			}
			if len(lines) != 1 || lines[0].Message != "connect refused" {
				t.Fatalf("lines %v, want one", lines)
			}
			fields := lines[0].ContextMap()
			detail, _ := fields["detail"].(string)
			if fields["reason"] != r.Reason || fields["namespace"] != "/a" || !strings.HasPrefix(r.Detail, detail) || len(detail) > 300 ||
				r.Setting != "" && fields["setting"] != r.Setting {
				t.Errorf("fields %v", fields)
			}
			l.Closed("transport close", "")
		})
	}
}
