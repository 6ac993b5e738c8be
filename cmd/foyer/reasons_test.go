package main

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestConnectionsThatGoAreTold: each connection that is closed or refused at the edge has one line, of which the reason
// is a name of GetInfo.
func TestConnectionsThatGoAreTold(t *testing.T) {
	for name, tc := range map[string]struct {
		first, message, reason string
	}{
		"one without a request makes room": {"", "connection closed", "edge_connection_displaced"},
		"a websocket does not":             {upgrade, "connection refused", "edge_connection_refused"},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zapcore.InfoLevel)
			f := startNode(t, func(f *foyer) { f.told = zap.New(core) }, "--max-connections", "1")
			first := dialFrom(t, "127.0.0.2", f.edgeListener, tc.first)
			if tc.first != "" {
				b := make([]byte, 1)
				if _, err := first.Read(b); err != nil { // it is a websocket now
					t.Fatal(err)
				}
			}
			second := dialFrom(t, "127.0.0.3", f.edgeListener, "")
			address := "127.0.0.2"
			if tc.first == "" {
				ends(t, "the first", first)
			} else {
				address = "127.0.0.3"
				ends(t, "the second", second)
			}
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for deadline := time.Now().Add(20 * time.Second); logs.Len() == 0 && time.Now().Before(deadline); {
				<-tick.C
			}
			lines := logs.All()
			if len(lines) != 1 || lines[0].Message != tc.message {
				t.Fatalf("lines %v, want one %q", lines, tc.message)
			}
			fields := lines[0].ContextMap()
			setting, _ := fields["setting"].(string)
			if fields["reason"] != tc.reason || fields["address"] != address || !strings.Contains(setting, "--max-connections=1 ") {
				t.Errorf("fields %v, want %s of %s", fields, tc.reason, address)
			}
			counts := map[string]int64{}
			f.edgeConns.counts(counts)
			if counts[tc.reason] != 1 {
				t.Errorf("counted: %v", counts)
			}
		})
	}
}

// TestServerLog: of what net/http says only the handshakes that a client did not simply leave are told.
func TestServerLog(t *testing.T) {
	for said, want := range map[string]string{
		"http: TLS handshake error from 10.0.0.7:5000: remote error: tls: unknown certificate authority": "10.0.0.7 remote error: tls: unknown certificate authority",
		"http: TLS handshake error from [2001:db8::1]:5000: tls: no cipher suite":                        "2001:db8::1 tls: no cipher suite",
		"http: TLS handshake error from 10.0.0.7:5000: EOF":                                              "",
		"http: TLS handshake error from 10.0.0.7:5000: read tcp a->b: read: connection reset by peer":    "",
		"http: URL query contains semicolon, which is no longer a supported separator":                   "",
	} {
		core, logs := observer.New(zapcore.DebugLevel)
		f := &foyer{told: zap.New(core)}
		cs := newConns("edge", 0, 0, nil, f.told)
		f.serverLog(cs).Print(said)
		got := ""
		for _, l := range logs.All() {
			fields := l.ContextMap()
			got += fields["address"].(string) + " " + fields["detail"].(string)
			if l.Message != "TLS handshake failed" || fields["reason"] != "edge_tls_failed" || fields["setting"] != "--edge-cert" || cs.unsafe.Load() != 1 {
				t.Errorf("%s: line %v", said, l)
			}
		}
		if got != want {
			t.Errorf("%s: told %q, want %q", said, got, want)
		}
	}
}

// TestDrainIsToldInOneLine: what it did, how long it took, and what was left.
func TestDrainIsToldInOneLine(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	f := startNode(t, func(f *foyer) { f.log = zap.New(core) })
	ws := dialFrom(t, "127.0.0.2", f.edgeListener, upgrade)
	if _, err := ws.Read(make([]byte, 1)); err != nil { // it is a session now
		t.Fatal(err)
	}
	f.drain()
	lines := logs.FilterMessage("drained").All()
	if len(lines) != 1 || lines[0].Level != zapcore.InfoLevel || logs.FilterLevelExact(zapcore.WarnLevel).Len() > 0 {
		t.Fatalf("lines: %v", logs.All())
	}
	fields := lines[0].ContextMap()
	for key, want := range map[string]any{
		"by": "signal", "sessions": int64(1), "sessions_cut": int64(0), "handlers": int64(0), "handlers_cut": int64(0), "calls_cut": int64(0),
	} {
		if fields[key] != want {
			t.Errorf("%s is %v, want %v", key, fields[key], want)
		}
	}
	if s, ok := fields["seconds"].(float64); !ok || s < 0 {
		t.Errorf("it took %v seconds", fields["seconds"])
	}
}
