package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"foyer/service"
)

// parse reads a command line as start does, without running it.
func parse(t *testing.T, args ...string) (*settings, error) {
	t.Helper()
	_, err := shared().parser.Parse(append([]string{"serve"}, args...))
	s := shared().commands.Serve.settings
	return &s, err
}

func TestBadSettingsAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"--nope"},
		{"--edge", "nonsense"},
		{"--edge", "127.0.0.1:http-but-not-a-port"},
		{"--api", "0.0.0.0:50051"},
		{"--api", ":50051"},
		{"--connect", "maybe"},
		{"--connect", "other=open"},
		{"--namespaces", "a*b"},
		{"--max-payload", "huge"},
		{"--max-payload", "0"},
		{"--queue-bytes", "2TiB"},
		{"--ping-interval", "0s"},
		{"--ping-timeout=-1s"},
		{"--slow-after", "0s"},
		{"--drain-window=-1s"},
		{"--max-sessions", "0"},
		{"--max-sessions-per-address=-1"},
		{"--max-connections=-1"},
		{"--max-connections-per-address=-1"},
		{"--handshake-rate", "0"},
		{"--handshake-burst", "0"},
		{"--address-message-rate", "0"},
		{"--trusted-proxy", "10.0.0.0"},
		{"--path", "socket.io"},
		{"--edge-cert", "x"},
		{"--api-key", "x"},
		{"--pprof", "--admin", ""},
		{"--log-level", "loud"},
		{"--log-format", "xml"},
	} {
		if _, err := parse(t, args...); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestSettingsFromFlagsAndEnvironment(t *testing.T) {
	t.Setenv("FOYER_PING_INTERVAL", "7s")
	t.Setenv("FOYER_PING_TIMEOUT", "8s")
	t.Setenv("FOYER_NAMESPACES", "chat,tenant-*")
	s, err := parse(t, "--ping-timeout", "9s", "--max-payload", "64KiB", "--connect", "handler,chat=open", "--api-token-file", "t", "--api", ":1",
		"--trusted-proxy", "10.0.0.0/8", "--trusted-proxy", "fd00::/8")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.TrustedProxy) != 2 || s.TrustedProxy[1].String() != "fd00::/8" {
		t.Errorf("trusted proxies: %v", s.TrustedProxy)
	}
	got := []any{s.PingInterval, s.PingTimeout, int(s.MaxPayload), int(s.QueueBytes), s.UpgradeTimeout}
	if d := cmp.Diff([]any{7 * time.Second, 9 * time.Second, 64 << 10, 1 << 20, 10 * time.Second}, got); d != "" {
		t.Errorf("settings (-want +got):\n%s", d)
	}
	namespaces, err := s.namespaceConfig()
	want := []service.NamespaceConfig{
		{Pattern: "/", Connect: service.ConnectHandler},
		{Pattern: "/chat", Connect: service.ConnectOpen},
		{Pattern: "/tenant-*", Connect: service.ConnectHandler},
	}
	if d := cmp.Diff(want, namespaces); d != "" || err != nil {
		t.Errorf("namespaces: %v (-want +got):\n%s", err, d)
	}
}
