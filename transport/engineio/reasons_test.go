package engineio

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// countedOnly are the counters of what turns no client away, with the reason why the log has no line for each.
var countedOnly = map[counter]string{
	countForbidden:    "counted with origin_refused, which has the line",
	countRefused:      "the node drains, and sums them up at the end",
	countSlowed:       "the handshake is served a moment later",
	countVolatile:     "what the emitter asked for",
	countUpgrade:      "a success",
	countProbeRefused: "the session goes on as it is",
	countProbeDropped: "the session goes on as it is; a page that is left does so",
	countPong:         "the receiver does not read, and is slow in time",
	countQueueFull:    "the sender waits, and the session is slow in time",
	countUnsent:       "its session has ended, which has the line",
}

// TestEveryReasonHasALine: whatever turns a client away is one line, of which the reason is the counter's name; it says
// who, what was wrong, and the setting where a limit of ours is the rule.
func TestEveryReasonHasALine(t *testing.T) {
	hello := strings.Repeat("x", 20<<10)
	cases := []struct {
		why     counter
		message string
		detail  string // a part of it
		setting string
		cfg     Config
		cause   func(h *harness)
	}{
		{countTransportUnknown, "handshake refused", `"carrier pigeon"`, "", Config{}, func(h *harness) {
			h.do("GET", "EIO=4&transport=carrier%20pigeon", nil)
		}},
		{countSessionUnknown, "request refused", "sticky sessions", "", Config{}, func(h *harness) {
			h.do("GET", "EIO=4&transport=polling&sid=nobody", nil)
		}},
		{countBadMethod, "handshake refused", `"PUT"`, "", Config{}, func(h *harness) { h.do("PUT", "EIO=4&transport=polling", nil) }},
		{countBadMethod, "request refused", `"PUT"`, "", Config{}, func(h *harness) {
			q, _ := h.openPolling()
			h.do("PUT", q, nil)
		}},
		{countBadRequest, "handshake refused", "without an upgrade", "", Config{}, func(h *harness) { h.do("GET", "EIO=4&transport=websocket", nil) }},
		{countBadRequest, "request refused", "does not fit", "", Config{}, func(h *harness) {
			q, _ := h.openPolling()
			h.do("GET", strings.Replace(q, "EIO=4", "EIO=3", 1), nil)
		}},
		{countBadVersion, "handshake refused", `EIO is "3"`, "--allow-eio3=false", Config{}, func(h *harness) { h.do("GET", "EIO=3&transport=polling", nil) }},
		{countOriginRefused, "handshake refused", `"https://evil.example"`, "--cors-origin=https://good.example", Config{Origins: []string{"https://good.example"}}, func(h *harness) {
			h.do("GET", "EIO=4&transport=polling", nil, "Origin", "https://evil.example")
		}},
		{countFull, "handshake refused", "all sessions are taken", "--max-sessions=1", Config{MaxSessions: 1, MaxSessionsPerAddress: -1}, func(h *harness) {
			_, r := h.openPolling()
			r.session.Admit()
			h.do("GET", "EIO=4&transport=polling", nil)
		}},
		{countShare, "handshake refused", "--trusted-proxy", "--max-sessions-per-address=1", Config{MaxSessionsPerAddress: 1}, func(h *harness) {
			_, r := h.openPolling()
			r.session.Admit()
			h.do("GET", "EIO=4&transport=polling", nil)
		}},
		{countRate, "handshake refused", "--trusted-proxy", "--handshake-rate=1 --handshake-burst=1", Config{HandshakeRate: 1, HandshakeBurst: 1}, func(h *harness) {
			done := make(chan bool)
			for range 4 { // one at once, one that waits its second, two for which that is not enough
				go func() {
					_, err := h.try("GET", "EIO=4&transport=polling", nil)
					done <- err == nil
				}()
			}
			for range 4 {
				<-done
			}
		}},
		{countDisplaced, "session closed", "makes room", "--max-sessions=1 --max-sessions-per-address=1", Config{MaxSessions: 1}, func(h *harness) {
			h.openPolling()
			h.openPolling()
		}},
		{countBadUpgrade, "handshake refused", "version", "", Config{}, func(h *harness) {
			h.do("GET", "EIO=4&transport=websocket", nil, "Connection", "Upgrade", "Upgrade", "websocket",
				"Sec-WebSocket-Version", "7", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		}},
		{countSlow, "session closed", "has taken nothing for 10s", "--slow-after=10s", Config{QueueBytes: 1000}, func(h *harness) {
			_, r := h.openPolling()
			r.session.Admit()
			for r.session.Send(NewMessage([]byte("hello"), nil), 0) != Full {
			}
			r.wantClosed(h, ReasonSlow)
		}},
		{countSlow, "session closed", "has joined no namespace", "", Config{}, func(h *harness) {
			_, r := h.openPolling()
			for r.session.Send(NewMessage([]byte("hello"), nil), 0) != Closed {
			}
			r.wantClosed(h, ReasonSlow)
		}},
		{countOversize, "session closed", "message of 20481 bytes is over --max-connect-payload (16384)", "--max-connect-payload=16384", Config{}, func(h *harness) {
			h.dialer.WriteBufferSize = 64 << 10 // one frame
			p, r := h.openWebSocket()
			p.write("4" + hello)
			r.wantClosed(h, ReasonTransportError)
		}},
		{countOversize, "message refused", "message of 20481 bytes is over --max-payload (10000)", "--max-payload=10000", Config{MaxPayload: 10_000}, func(h *harness) {
			q, r := h.openPolling()
			r.session.Admit()
			h.do("POST", q, strings.NewReader("4"+hello))
		}},
		{countParseError, "session closed", "undecodable packet", "", Config{}, func(h *harness) {
			p, r := h.openWebSocket()
			p.write("x")
			r.wantClosed(h, ReasonParseError)
		}},
		{countProtocol, "session closed", "ping or pong", "", Config{}, func(h *harness) {
			p, r := h.openWebSocket()
			p.write("2")
			r.wantClosed(h, ReasonTransportError)
		}},
		{countUTF8, "session closed", "not UTF-8", "", Config{}, func(h *harness) {
			p, r := h.openWebSocket()
			p.write("4\xff")
			r.wantClosed(h, ReasonTransportError)
		}},
		{countOverlap, "session closed", "a GET came while another one was pending", "", Config{}, func(h *harness) {
			q, r := h.openPolling()
			h.pending(q, r)
			h.do("GET", q, nil)
			r.wantClosed(h, ReasonTransportError)
		}},
		{countPingTimeout, "session closed", "answered no ping", "--ping-timeout=20s", Config{}, func(h *harness) {
			_, r := h.openPolling()
			time.Sleep(46 * time.Second)
			r.wantClosed(h, ReasonPingTimeout)
		}},
		{countProbeTimeout, "upgrade failed", "stays on polling", "--upgrade-timeout=10s", Config{}, func(h *harness) {
			q, _ := h.openPolling()
			p := h.probe(q)
			p.write("2probe")
			p.want("3probe")
			time.Sleep(11 * time.Second)
		}},
		{countLinkSlowed, "link slowed", "the client sends more", "--message-rate=10", Config{MessageRate: 10, MessageBurst: 5}, func(h *harness) {
			p, _ := h.openWebSocket()
			for range 30 {
				p.write("4x")
			}
			time.Sleep(5 * time.Second)
		}},
		{countLinkSlowed, "link slowed", "the clients of this address", "--address-message-rate=10", Config{MessageRate: 1000, AddressMessageRate: 10, AddressMessageBurst: 5}, func(h *harness) {
			h.openPolling() // an address has its bucket when a second client comes
			p, _ := h.openWebSocket()
			for range 30 {
				p.write("4x")
			}
			time.Sleep(5 * time.Second)
		}},
		{countUnkept, "session closed", "memory budget is spent", "--memory-budget", Config{Inbound: &bodyBudget{left: 1000}}, func(h *harness) {
			q, r := h.openPolling()
			r.session.Admit()
			r.session.Pause()
			h.do("POST", q, strings.NewReader("4"+hello))
			r.wantClosed(h, ReasonTransportError)
		}},
		{countUnkept, "session closed", "a large message is still arriving, and the memory budget is spent", "--memory-budget", Config{Inbound: &bodyBudget{}}, func(h *harness) {
			q, r := h.openPolling()
			r.session.Admit()
			h.do("POST", q, strings.NewReader("4"+strings.Repeat("x", 2*arrivingFree)))
			r.wantClosed(h, ReasonTransportError)
		}},
		{countBadBody, "session closed", "application/octet-stream", "", Config{}, func(h *harness) {
			q, r := h.openPolling()
			h.do("POST", q, strings.NewReader("4x"), "Content-Type", "application/octet-stream")
			r.wantClosed(h, ReasonTransportError)
		}},
	}
	seen := map[counter]bool{}
	for _, tc := range cases {
		seen[tc.why] = true
		t.Run(tc.why.reason()+", "+tc.message, func(t *testing.T) {
			core, logs := observer.New(zapcore.InfoLevel)
			tc.cfg.Logger = zap.New(core)
			run := func(h *harness) {
				tc.cause(h)
				lines := logs.All()
				if len(lines) != 1 || lines[0].Message != tc.message {
					t.Fatalf("lines %v, want one %q", lines, tc.message)
				}
				fields := lines[0].ContextMap()
				detail, _ := fields["detail"].(string)
				setting, _ := fields["setting"].(string)
				address, _ := fields["address"].(string)
				if fields["reason"] != tc.why.reason() || address == "" || !strings.Contains(detail, tc.detail) || setting != tc.setting {
					t.Errorf("fields %v, want reason %q, detail with %q, setting %q", fields, tc.why.reason(), tc.detail, tc.setting)
				}
				if _, told := fields["session"]; told != strings.HasPrefix(tc.message, "session") && !told {
					t.Errorf("fields %v do not name the session", fields)
				}
				if h.srv.counts[tc.why].Load() == 0 {
					t.Errorf("%s is not counted", tc.why.reason())
				}
			}
			inBubble(t, tc.cfg, run)
		})
	}
	for k := range countersLen {
		if why, only := countedOnly[k]; seen[k] == only || only && why == "" {
			t.Errorf("%s is to have a line that is tested, or a reason why it has none", k.reason())
		}
	}
}

// TestNormalEndsAreNotTold: a client that leaves in any of the usual ways is no news.
func TestNormalEndsAreNotTold(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	inBubble(t, Config{Logger: zap.New(core)}, func(h *harness) {
		p, r := h.openWebSocket()
		_ = p.conn.Close() // a tab that is closed
		r.wantClosed(t, ReasonTransportClose)

		q, r := h.openPolling()
		h.do(http.MethodPost, q, strings.NewReader("1"))
		r.wantClosed(t, ReasonTransportClose)

		_, r = h.openWebSocket()
		r.session.Close(ReasonForcedClose)
		r.wantClosed(t, ReasonForcedClose)

		h.openPolling()
		h.openWebSocket()
		h.srv.Close()
		h.do(http.MethodGet, "EIO=4&transport=polling", nil)
	})
	if n := logs.Len(); n != 0 {
		t.Errorf("%d lines: %v", n, logs.All())
	}
}
